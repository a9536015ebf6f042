//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/bridge/parts"
)

// What one round is made of: so many chats, so many messages in each.
const (
	benchChats = 50
	benchEach  = 20
	benchAlone = 100 // messages of which each waits for the one before
	benchBatch = 50  // events in one transaction, when there are many
)

// benchText has 90 bytes.
var benchText = strings.Repeat("text of the size of most. ", 4)[:90]

// benchBound is generous: only a benchmark that hangs runs into it.
const benchBound = 5 * time.Minute

// childVariable makes the test binary be the program; its value is where a profile
// goes that SIGUSR1 begins and SIGUSR2 ends.
const childVariable = "POSTERN_BENCH_CHILD"

func TestMain(m *testing.M) {
	profile := os.Getenv(childVariable)
	if profile == "" {
		os.Exit(m.Run())
	}
	if len(os.Args) > 1 && os.Args[1] == "-c" {
		go profileOnSignal(profile)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	code := dispatch(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// profileOnSignal writes what the program does between two signals.
func profileOnSignal(path string) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	var f *os.File
	for s := range signals {
		if s == syscall.SIGUSR1 {
			f = must(os.Create(path + ".part"))
			must(0, pprof.StartCPUProfile(f))
			continue
		}
		pprof.StopCPUProfile()
		must(0, errors.Join(f.Close(), os.Rename(path+".part", path)))
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// benchWorld is the bridge as a process of its own, between a sandbox that is one
// too and a homeserver that answers at once. One person has benchChats chats.
type benchWorld struct {
	b          *testing.B
	ctx        context.Context
	hs         *quickHomeserver
	gatekeeper *parts.Gatekeeper
	bridge     *parts.Bridge
	to         string // the person's identifier
	phones     []string
	rooms      []string
	after      []int64 // what is read of each phone's events
	profile    string
}

func newBenchWorld(b *testing.B, more map[string]any) *benchWorld {
	ctx, cancel := context.WithTimeout(b.Context(), benchBound)
	b.Cleanup(cancel)
	w := &benchWorld{b: b, ctx: ctx, hs: newQuickHomeserver(b), profile: filepath.Join(b.TempDir(), "profile")}
	b.Setenv(childVariable, w.profile)
	dir, program := b.TempDir(), must(os.Executable())
	var err error
	if w.gatekeeper, err = parts.StartSandbox(ctx, parts.SandboxConfig{Postern: program, Dir: filepath.Join(dir, "sandbox")}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { w.gatekeeper.Kill() })
	settings := w.gatekeeper.Settings()
	settings["network.requests.policy"] = "accept" // the phones write first
	settings["network.receipt_delay"] = "0s"
	for key, value := range more {
		settings[key] = value
	}
	settings["homeserver.domain"], settings["homeserver.address"] = benchDomain, w.hs.server.URL
	settings["bridge.permissions"] = map[string]string{benchDomain: "user"}
	if w.bridge, err = parts.PrepareBridge(parts.BridgeConfig{Postern: program, Dir: filepath.Join(dir, "bridge"), Settings: settings}); err != nil {
		b.Fatal(err)
	}
	w.hs.knows(b, w.bridge)
	w.ok(w.gatekeeper.AddIntegrator(ctx, parts.Integrator{
		ID: parts.IntegratorID, Name: "benchmark", IdentifierType: "username", PublicBase: w.bridge.PublicBase,
	}))
	w.ok(w.bridge.Start(ctx))
	b.Cleanup(func() { _ = w.bridge.Stop() })
	w.logIn()
	w.openChats()
	return w
}

func (w *benchWorld) ok(err error) {
	w.b.Helper()
	if err != nil {
		w.b.Fatalf("%v; the bridge's log is %s", err, w.bridge.LogPath())
	}
}

// logIn takes the person through the log-in.
func (w *benchWorld) logIn() {
	const room = "!management:" + benchDomain
	w.ok(w.hs.push(w.ctx, map[string]any{
		"type": "m.room.member", "event_id": w.hs.eventID(), "room_id": room, "sender": benchUser, "state_key": benchBot,
		"origin_server_ts": time.Now().UnixMilli(), "content": map[string]any{"membership": "invite", "is_direct": true},
	}))
	for _, step := range []struct{ wait, say string }{{"Hello", "login whatsapp"}, {"Please enter", "agree"}, {"You are on", ""}} {
		_, err := w.hs.await(w.ctx, func(text string) bool { return strings.Contains(text, step.wait) })
		w.ok(err)
		if step.say != "" {
			w.ok(w.hs.push(w.ctx, w.hs.message(room, step.say)))
		}
	}
	var err error
	w.to, err = (&parts.World{Gatekeeper: w.gatekeeper}).IdentifierOf(w.ctx)
	w.ok(err)
}

// openChats makes the phones write first and the person answer, so that all
// sessions are established.
func (w *benchWorld) openChats() {
	for i := range benchChats {
		phone := must(w.gatekeeper.AddUser(w.ctx, parts.Phone{Phone: fmt.Sprintf("+4915228%06d", i), Name: fmt.Sprint("Ben ", i), OptedIn: true}))
		w.phones, w.after = append(w.phones, phone.Phone), append(w.after, 0)
		must(w.gatekeeper.Say(w.ctx, phone.Phone, w.to, fmt.Sprint("hello from ", i, ".")))
		room, err := w.hs.await(w.ctx, func(text string) bool { return text == fmt.Sprint("hello from ", i, ".") })
		w.ok(err)
		w.rooms = append(w.rooms, room)
		w.ok(w.hs.push(w.ctx, w.hs.message(room, "hello back")))
	}
	w.atPhones(1)
	w.settle()
}

// atPhones waits until every phone has so many more messages.
func (w *benchWorld) atPhones(count int) {
	var wg sync.WaitGroup
	for i, phone := range w.phones {
		wg.Go(func() {
			if err := w.atPhone(i, phone, count); err != nil {
				w.b.Error(err)
			}
		})
	}
	wg.Wait()
}

func (w *benchWorld) atPhone(i int, phone string, count int) error {
	for count > 0 {
		events, err := w.gatekeeper.Events(w.ctx, phone, w.after[i], 20*time.Second)
		if err != nil {
			return err
		}
		for _, e := range events {
			w.after[i] = e.Seq
			if e.Kind == "message" {
				count--
			}
		}
	}
	return nil
}

// settle waits until the bridge has done everything: until it takes no more
// processor time.
func (w *benchWorld) settle() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	last, quiet := w.cpu(), 0
	for quiet < 4 {
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			w.b.Fatal("the bridge does not come to rest")
		}
		now := w.cpu()
		if quiet++; now-last > 10*time.Millisecond {
			quiet = 0
		}
		last = now
	}
}

// cpu is the processor time of the bridge's process, user and system, in steps of
// a hundredth of a second.
func (w *benchWorld) cpu() time.Duration {
	pid := strconv.Itoa(w.bridge.PID())
	raw, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		w.b.Skip("SKIPPED: no /proc on this system to read the bridge's processor time from")
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	user, system := must(strconv.Atoi(fields[11])), must(strconv.Atoi(fields[12]))
	return time.Duration(user+system) * 10 * time.Millisecond
}

// crowdIn brings benchEach messages of each phone in at once, and returns the
// processor time of one.
func (w *benchWorld) crowdIn(round string) time.Duration {
	fault, err := w.gatekeeper.AddFault(w.ctx, parts.Fault{Kind: "delay", Match: "message", Count: -1, DelayMS: 3_600_000})
	w.ok(err)
	var wg sync.WaitGroup
	for _, part := range [][]string{w.phones[:benchChats/2], w.phones[benchChats/2:]} {
		wg.Go(func() {
			for i := range benchEach {
				for _, phone := range part {
					if _, err := w.gatekeeper.Say(w.ctx, phone, w.to, fmt.Sprint(benchText[:70], round, phone, i)); err != nil {
						w.b.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	w.settle()
	want, start := w.hs.fromPhones.Load()+benchChats*benchEach, w.cpu()
	w.ok(w.gatekeeper.RemoveFault(w.ctx, fault))
	for _, phone := range w.phones {
		w.ok(w.hs.exactly(w.ctx, fmt.Sprint(benchText[:70], round, phone, benchEach-1)))
	}
	w.settle()
	if got := w.hs.fromPhones.Load(); got != want {
		w.b.Fatalf("%d messages in the rooms, want %d", got, want)
	}
	return (w.cpu() - start) / (benchChats * benchEach)
}

// crowdOut sends benchEach messages to each chat in transactions as full as a busy
// homeserver's.
func (w *benchWorld) crowdOut(round string) time.Duration {
	start := w.cpu()
	var events []map[string]any
	for i := range benchEach {
		for _, room := range w.rooms {
			events = append(events, w.hs.message(room, fmt.Sprint(benchText[:70], round, room, i)))
		}
	}
	for part := range slices.Chunk(events, benchBatch) {
		w.ok(w.hs.push(w.ctx, part...))
	}
	w.atPhones(benchEach)
	w.settle()
	return (w.cpu() - start) / (benchChats * benchEach)
}

// aloneIn is the median time from telling a phone to write until the homeserver
// has the message.
func (w *benchWorld) aloneIn() time.Duration {
	return median(func(i int) {
		text := fmt.Sprint("alone in ", i)
		must(w.gatekeeper.Say(w.ctx, w.phones[i%benchChats], w.to, text))
		w.ok(w.hs.exactly(w.ctx, text))
	})
}

// aloneOut is the median time from the homeserver's transaction until the phone
// shows the message.
func (w *benchWorld) aloneOut() time.Duration {
	return median(func(i int) {
		at := i % benchChats
		w.ok(w.hs.push(w.ctx, w.hs.message(w.rooms[at], fmt.Sprint("alone out ", i))))
		w.ok(w.atPhone(at, w.phones[at], 1))
	})
}

func median(f func(i int)) time.Duration {
	var took []time.Duration
	for i := range benchAlone {
		start := time.Now()
		f(i)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// BenchmarkBridge is one text through the whole program, as a process of its own:
// 50 chats that all speak at once (cpu-ms/msg), and one message at a time (p50-ms,
// with the sandbox's part). bare-ms/msg is the same primitives in a loop, in the same
// minute; the goal is a ratio of at most 1.5. framework-% and the other shares say
// whose code the samples of a profile are in, the nearest to the sample.
// docs/BENCHMARKS.md has the goals. POSTERN_BENCH_PROFILES is a folder to keep the
// profiles in.
func BenchmarkBridge(b *testing.B) {
	quiet := map[string]any{"matrix.message_status_events": false, "matrix.delivery_receipts": false}
	for _, c := range []struct {
		name  string
		more  map[string]any
		crowd func(*benchWorld, string) time.Duration
		alone func(*benchWorld) time.Duration
		bare  func(*bare, int) (time.Duration, time.Duration)
	}{
		{"in", nil, (*benchWorld).crowdIn, (*benchWorld).aloneIn, (*bare).in},
		{"out", nil, (*benchWorld).crowdOut, (*benchWorld).aloneOut, (*bare).out},
		{"out, statuses off", quiet, (*benchWorld).crowdOut, (*benchWorld).aloneOut, (*bare).out},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := newBenchWorld(b, c.more)
			bare := newBare(b, w.gatekeeper.Info.EnlistURL)
			c.crowd(w, "warm")
			var whole, floor []time.Duration
			var single time.Duration
			requests := w.hs.all.Load()
			for i := range 3 {
				whole = append(whole, c.crowd(w, fmt.Sprint("round", i)))
				cpu, alone := c.bare(bare, benchChats*benchEach)
				floor, single = append(floor, cpu), alone
			}
			requests = w.hs.all.Load() - requests
			alone := c.alone(w)
			shares := w.shares(func() { c.crowd(w, "profiled") })
			best, least := slices.Min(whole), slices.Min(floor)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(milliseconds(best), "cpu-ms/msg")
			b.ReportMetric(milliseconds(least), "bare-ms/msg")
			b.ReportMetric(float64(best)/float64(least), "ratio")
			b.ReportMetric(milliseconds(alone), "p50-ms")
			b.ReportMetric(milliseconds(single), "bare-p50-ms")
			b.ReportMetric(float64(requests)/(3*benchChats*benchEach), "requests/msg")
			for unit, share := range shares {
				b.ReportMetric(100*share, unit)
			}
		})
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// shares runs f under the profiler and says whose code the samples are in.
func (w *benchWorld) shares(f func()) map[string]float64 {
	must(0, syscall.Kill(w.bridge.PID(), syscall.SIGUSR1))
	f()
	must(0, syscall.Kill(w.bridge.PID(), syscall.SIGUSR2))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(w.profile); err == nil {
			break
		}
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			w.b.Fatal("no profile was written")
		}
	}
	if keep := os.Getenv("POSTERN_BENCH_PROFILES"); keep != "" {
		must(0, os.WriteFile(filepath.Join(keep, strings.ReplaceAll(w.b.Name(), "/", "-")+".pprof"), must(os.ReadFile(w.profile)), 0o600))
	}
	out, err := exec.Command("go", "tool", "pprof", "-traces", must(os.Executable()), w.profile).Output()
	if err != nil {
		w.b.Logf("the profile cannot be read: %v", err)
		return nil
	}
	return sharesOf(string(out))
}

// owners are whose code a sample can be in: the one nearest to where it was taken.
var owners = []struct{ prefix, unit string }{
	{"postern/connector/matrixdurable.", "matrix-%"}, {"postern/connector/convert.", "matrix-%"}, {"postern/connector.", "matrix-%"},
	{"postern/connector/", "core-%"}, {"go.mau.fi/libsignal/", "core-%"}, {"postern/database.", "database-%"},
	{"maunium.net/go/mautrix", "framework-%"}, {"main.", "log-%"}, {"net/http.", "http-%"},
}

// sharesOf reads the output of pprof -traces.
func sharesOf(traces string) map[string]float64 {
	found, all := map[string]float64{}, 0.0
	var value float64
	open := false
	for lines := bufio.NewScanner(strings.NewReader(traces)); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "-----") {
			if open {
				found["runtime-%"] += value
			}
			open = false
			continue
		}
		fields := strings.Fields(line)
		if len(fields) > 1 {
			if d, err := time.ParseDuration(fields[0]); err == nil {
				value, open = float64(d), true
				all += value
				fields = fields[1:]
			}
		}
		if !open || len(fields) == 0 {
			continue
		}
		for _, o := range owners {
			if strings.HasPrefix(fields[0], o.prefix) {
				found[o.unit] += value
				open = false
				break
			}
		}
	}
	for unit := range found {
		found[unit] /= all
	}
	return found
}
