package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
	"postern/database/databasetest"
)

// The databases that everything is tried on.
const (
	sqlite   = "SQLite"
	postgres = "Postgres"
)

// rig is a world with a logged-in Matrix user, alice, that several tests use one after the other.
type rig struct {
	*parts.World
	hs         *homeserver.Server
	files      *fileHost // before the gatekeeper's media host
	wire       *wire     // before its stream
	program    string    // that the bridge is
	database   string
	uri        string               // of the Postgres database
	server     *databasetest.Server // its own, and the proxy before it; nil in most worlds
	proxy      *pgProxy
	dir        string
	alice      *parts.Person
	management string
	identifier string
	orders     string // the file with the kill point's orders
	disk       string // the file with the orders for SQLite's disk
	clock      string // the file with the orders for the clock, if the program follows them (ownClock)
	log        logScan
	allowed    string // a complaint of the gatekeeper that a test expects

	t   *testing.T // the running test
	ctx context.Context
}

var rigs = struct {
	sync.Mutex
	open map[string]*rig
}{open: map[string]*rig{}}

// each runs a test on both databases, each time with a bridge that runs and has nothing to do. They are played side by side, since
// most of a row is waiting; in the campaign one after the other, as there are figures in it.
func each(t *testing.T, play func(r *rig)) {
	var databases sync.WaitGroup
	for _, database := range []string{sqlite, postgres} {
		run := func() { t.Run(database, func(t *testing.T) { play(use(t, database)) }) }
		if all() {
			run()
		} else {
			databases.Go(run)
		}
	}
	databases.Wait()
}

// use gives a test the world on a database, made now if there is none yet.
func use(t *testing.T, database string) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	t.Cleanup(cancel)
	rigs.Lock()
	r := rigs.open[database]
	rigs.Unlock()
	if r == nil { // nobody else makes it: the tests of one database come one after the other
		r = must(newRig(ctx, t, database))(t)
		rigs.Lock()
		rigs.open[database] = r
		rigs.Unlock()
	}
	r.t, r.ctx = t, ctx
	t.Cleanup(func() {
		if r.isOpen() {
			r.leavesNoFault()
		}
		if t.Failed() {
			r.abandon()
		}
	})
	if closed(r.Bridge.Done()) {
		r.run()
		r.connected(true) // or what is typed first is refused
	}
	return r
}

// eachByItself is each with worlds in which nobody but alice is logged in: after a start of the bridge the others' streams come one after the other, and
// who counts connections would count theirs.
func eachByItself(t *testing.T, play func(r *rig)) {
	each(t, func(r *rig) {
		if len(must(r.Gatekeeper.Partners(r.ctx))(r.t)) > 1 {
			t := r.t
			r.retire()
			r = use(t, r.database)
		}
		play(r)
	})
}

// isOpen says whether the world is there for further tests.
func (r *rig) isOpen() bool {
	rigs.Lock()
	defer rigs.Unlock()
	return rigs.open[r.database] == r
}

// leavesNoFault wants the gatekeeper to have no fault that a test has ordered: it would happen to the next one.
func (r *rig) leavesNoFault() {
	ctx, cancel := context.WithTimeout(context.Background(), bound) // the test's own has ended
	defer cancel()
	if left, err := r.faultsLeft(ctx); err != nil || len(left) > 0 {
		r.t.Errorf("the test leaves faults to the next one: %v (%v)", left, err)
	}
}

// faultsLeft are the gatekeeper's faults that have not happened, or not as often as they are to.
func (r *rig) faultsLeft(ctx context.Context) ([]map[string]any, error) {
	var left struct {
		Faults []map[string]any `json:"faults"`
	}
	err := r.Gatekeeper.Call(ctx, http.MethodGet, "/v1/faults", nil, &left)
	return left.Faults, err
}

// The bounds of what may wait for Matrix in the worlds of the tests, low enough to be reached.
const (
	mayWait     = 400
	mayWaitChat = 60
)

// newRig starts a world; more settings of the bridge may be given.
func newRig(ctx context.Context, t *testing.T, database string, more ...map[string]any) (*rig, error) {
	return newRigOf(ctx, t, armed, database, more...)
}

// newRigOf is newRig with another program.
func newRigOf(ctx context.Context, t *testing.T, program, database string, more ...map[string]any) (*rig, error) {
	dir, err := os.MkdirTemp(scratch, strings.ToLower(strings.ReplaceAll(database, " ", "-"))+"-")
	if err != nil {
		return nil, err
	}
	r := &rig{
		program: program, database: database, dir: dir, t: t, ctx: ctx,
		orders: filepath.Join(dir, "kill-orders"), disk: filepath.Join(dir, "disk-orders"), clock: filepath.Join(dir, "clock-orders"),
	}
	settings := map[string]any{
		"logging.min_level": "trace", "network.backlog.account": mayWait, "network.backlog.chat": mayWaitChat,
		"network.metrics.enabled": true, "network.metrics.address": "", "network.metrics.token": metricsToken,
	}
	for _, m := range more {
		maps.Copy(settings, m)
	}
	if database != sqlite {
		if database == behindProxy {
			r.uri = r.ownServer()
		} else {
			r.uri = databasetest.PostgresConfig(lasting{t}).URI
		}
		settings["database.type"], settings["database.uri"] = "postgres", r.uri
	}
	if r.hs, err = homeserver.Start("postern.localhost"); err != nil {
		return nil, err
	}
	r.files = newFileHost()
	settings["network.gatekeepers.whatsapp.media_url"] = r.files.URL
	if r.wire, err = newWire(); err != nil {
		return nil, err
	}
	settings["network.gatekeepers.whatsapp.chat"] = r.wire.address()
	r.World, err = parts.StartWorld(ctx, parts.WorldConfig{
		Dir: dir, Postern: program, Settings: settings,
		Env: []string{"POSTERN_KILL=" + r.orders, "POSTERN_DISK=" + r.disk, "POSTERN_CLOCK=" + r.clock},
		Own: func(registrations []string) (*parts.Homeserver, error) {
			return parts.UseHomeserver("scripted", r.hs.URL(), r.hs.Name()), r.hs.AddServices(registrations)
		},
	})
	if err != nil {
		r.hs.Close()
		r.files.Close()
		r.wire.close()
		return nil, err
	}
	r.files.origin = r.Gatekeeper.Info.MediaURL
	r.wire.goes(strings.TrimPrefix(r.Gatekeeper.Info.ChatTCP, "tcp://"))
	if r.alice, err = parts.NewPerson(context.WithoutCancel(ctx), r.Homeserver, "alice", "password-of-alice"); err != nil {
		return nil, errors.Join(err, r.close())
	}
	login, err := r.LogIn(ctx, r.alice)
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	r.management, r.identifier = login.Room, login.Identifier
	return r, nil
}

func (r *rig) close() error {
	if r.alice != nil {
		r.alice.Close()
	}
	err := r.Stop()
	r.hs.Close()
	r.files.Close()
	r.wire.close()
	if _, logged := r.searchLog(); logged != nil {
		leaks.Lock()
		leaks.found = append(leaks.found, fmt.Errorf("a world on %s: %w", r.database, logged))
		leaks.Unlock()
	}
	return err
}

// leaks are what was found in the logs of worlds when they ended. They fail the run, whatever test the world was of.
var leaks struct {
	sync.Mutex
	found []error
}

// abandon gives the world up after a failed test, so that the next test begins with one that works, and shows the end of the
// bridge's log.
func (r *rig) abandon() {
	r.showLog()
	rigs.Lock()
	defer rigs.Unlock()
	if rigs.open[r.database] == r {
		delete(rigs.open, r.database)
		r.Bridge.Kill() // or its stop would wait for what does not come
		if err := r.close(); err != nil {
			r.t.Logf("closing the world: %v", err)
		}
	}
}

// retire gives the world up for a new one.
func (r *rig) retire() {
	r.t.Helper()
	rigs.Lock()
	defer rigs.Unlock()
	delete(rigs.open, r.database)
	r.ok(r.close())
}

// showLog shows the end of the bridge's log, and what it said last at the levels that a person reads.
func (r *rig) showLog() {
	raw, err := os.ReadFile(r.Bridge.LogPath())
	if err != nil {
		return
	}
	r.t.Logf("the end of the bridge's log:\n%s", raw[max(0, len(raw)-6000):])
	r.t.Logf("what it said last:\n%s", strings.Join(spoken(raw, 40), "\n"))
}

// spoken is the end of a log as plain lines: what is of information or worse, all about streams, and errors of any level.
func spoken(raw []byte, last int) (lines []string) {
	for line := range bytes.Lines(raw) {
		var entry map[string]any
		if json.Unmarshal(line, &entry) != nil {
			continue
		}
		low := entry["level"] == "trace" || entry["level"] == "debug"
		if !low || entry["message"] == "stream" || entry["error"] != nil {
			text := fmt.Sprint(entry["time"], " ", entry["level"], " ", entry["message"])
			for _, key := range slices.Sorted(maps.Keys(entry)) {
				if !slices.Contains([]string{"time", "level", "message"}, key) {
					text += fmt.Sprintf(" %s=%v", key, entry[key])
				}
			}
			lines = append(lines, text)
		}
	}
	return lines[max(0, len(lines)-last):]
}

// must fails the test on an error: must(f())(t).
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (r *rig) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// run starts the bridge unless it runs.
func (r *rig) run() {
	r.t.Helper()
	select {
	case <-r.Bridge.Done():
	default:
		return
	}
	r.ok(r.Bridge.Start(r.ctx))
}

// arm makes the bridge die at the nth hit of a point from now on.
func (r *rig) arm(point string, nth int) {
	r.t.Helper()
	r.order(r.orders, fmt.Sprintf("%s %d\n", point, nth))
}

// order writes orders. They are renamed into their place, so that the bridge does not read half of them.
func (r *rig) order(file, text string) {
	r.t.Helper()
	r.ok(os.WriteFile(file+".new", []byte(text), 0o600))
	r.ok(os.Rename(file+".new", file))
}

// disarm takes the orders back, and says whether they were still there.
func (r *rig) disarm() bool { return os.Remove(r.orders) == nil }

// dead waits until the bridge has died at its point.
func (r *rig) dead(point string) {
	r.t.Helper()
	select {
	case <-r.Bridge.Done():
	case <-r.ctx.Done():
		r.t.Fatalf("the bridge never came to %s", point)
	}
	if r.disarm() {
		r.t.Fatalf("the bridge ended, and not at %s", point)
	}
}

var numbers atomic.Int64

// chat is one chat of alice's, with what was said in it.
type chat struct {
	r    *rig
	ben  parts.Phone
	room string
	mark string // in every text
	*ledger
}

// newChat opens a chat, says something each way, and waits until nothing of that is under way any more.
func (r *rig) newChat() *chat {
	r.t.Helper()
	n := numbers.Add(1)
	c := &chat{r: r, mark: fmt.Sprintf("kanarienvogel-%d-%d", time.Now().UnixNano()%1_000_000, n), ledger: &ledger{}}
	number := fmt.Sprintf("+4915229%06d", 100_000+n) // nobody else uses this gatekeeper
	c.ben = must(r.Gatekeeper.AddUser(r.ctx, parts.Phone{Phone: number, Name: "Ben " + fmt.Sprint(n), OptedIn: true}))(r.t)
	c.room = r.startChat(c.ben.Name, number)
	r.ok(r.alice.Join(r.ctx, c.room))
	c.fromMatrix(1)
	c.fromPhone(1)
	c.settled()
	return c
}

// startChat types the command until there is an invitation: it is refused while the stream is not up, as it may be right after a start.
func (r *rig) startChat(name, number string) (room string) {
	r.t.Helper()
	for {
		must(r.alice.SendText(r.ctx, r.management, "start-chat "+number))(r.t)
		ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
		invite, err := r.alice.ExpectInvite(ctx, "the chat", func(i parts.Invite) bool { return !i.Space && i.Shows(name, number) })
		cancel()
		if err == nil {
			return invite.Room
		} else if r.ctx.Err() != nil {
			r.t.Fatal(err)
		}
	}
}

// fromMatrix lets alice write n texts. Her client repeats what the homeserver did not take.
func (c *chat) fromMatrix(n int) {
	c.r.t.Helper()
	for range n {
		text := c.matrixText()
		for {
			event, err := c.r.alice.Send(c.r.ctx, c.room, "m.room.message", text, parts.Message{MsgType: "m.text", Body: text})
			if err == nil {
				c.wroteMatrix(text, event)
				break
			}
			if c.r.ctx.Err() != nil {
				c.r.t.Fatal(err)
			}
		}
	}
}

// fromPhone lets the phone write n texts.
func (c *chat) fromPhone(n int) {
	c.r.t.Helper()
	for range n {
		text := c.phoneText()
		id := must(c.r.Gatekeeper.Say(c.r.ctx, c.ben.Phone, c.r.identifier, text))(c.r.t)
		c.wrotePhone(text, id)
	}
}
