// Package scale_test measures what one instance of the bridge carries: memory, goroutines and descriptors of users who are connected and
// idle, and how long a start takes. The program is a process of its own, as it is built for use, between the sandbox and a scripted
// homeserver; the users log in as people do, by the framework's provisioning interface.
//
// POSTERN_BINARY is the program to measure (default: built from this tree). POSTERN_SCALE has the numbers of users of
// TestWhatOneInstanceCarries, POSTERN_SCALE_OUT the file for its table; with POSTERN_SCALE_PACED=no it does not wait for a start with pacing.
package scale_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
	"postern/database/databasetest"
)

// The databases that everything is measured on.
const (
	sqlite   = "SQLite"
	postgres = "Postgres"
)

// secret is the provisioning interface's, and that of the profiles.
const secret = "only-for-measuring-0123456789"

// unpaced is the most that network.connects_per_second takes.
const unpaced = 1000

var postern string // the program

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if postern = os.Getenv("POSTERN_BINARY"); postern == "" {
		dir, err := os.MkdirTemp("", "postern-scale-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		postern = filepath.Join(dir, "postern")
		if err := parts.BuildPostern(postern); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

// world is an instance with its two ends.
type world struct {
	*parts.World
	t     *testing.T
	ctx   context.Context
	hs    *homeserver.Server
	users int // are logged in
}

func newWorld(t *testing.T, database string, patience time.Duration) *world {
	t.Helper()
	if _, err := os.Stat("/proc/self/smaps_rollup"); err != nil {
		t.Skip("SKIPPED: no /proc on this system to read a process's memory from")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx}
	settings := map[string]any{
		"provisioning.shared_secret": secret, "provisioning.debug_endpoints": true, "network.connects_per_second": unpaced,
	}
	if database == postgres {
		settings["database.type"], settings["database.uri"] = "postgres", databasetest.PostgresConfig(t).URI
	}
	var err error
	w.hs, err = homeserver.Start("postern.localhost")
	w.ok(err)
	t.Cleanup(w.hs.Close)
	w.World, err = parts.StartWorld(ctx, parts.WorldConfig{
		Dir: t.TempDir(), Postern: postern, Settings: settings,
		// A sample of the heap every 16 KiB, not every 512, or a few hundred users could not be told from chance.
		Env: []string{"GODEBUG=memprofilerate=16384"},
		Own: func(registrations []string) (*parts.Homeserver, error) {
			return parts.UseHomeserver("scripted", w.hs.URL(), w.hs.Name()), w.hs.AddServices(registrations)
		},
	})
	w.ok(err)
	t.Cleanup(func() {
		if err := w.Stop(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// call makes a JSON request.
func (w *world) call(method, address string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	raw, err := w.fetch(method, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, out)
}

func (w *world) fetch(method, address string, body io.Reader) ([]byte, error) {
	req, err := http.NewRequestWithContext(w.ctx, method, address, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s answers %s: %s", method, req.URL.Path, resp.Status, raw)
	}
	return raw, err
}

// grow logs users in until there are so many.
func (w *world) grow(users int) {
	w.t.Helper()
	numbers, failed := make(chan int), make(chan error, users)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for i := range numbers {
				if err := w.logIn(fmt.Sprintf("user%05d", i)); err != nil {
					failed <- err
				}
			}
		})
	}
	for i := w.users; i < users; i++ {
		numbers <- i
	}
	close(numbers)
	workers.Wait()
	select {
	case err := <-failed:
		w.t.Fatalf("a login: %v", err)
	default:
	}
	w.users = users
	w.connected()
}

func (w *world) logIn(name string) error {
	var registered struct{}
	err := w.call(http.MethodPost, w.hs.URL()+"/_synapse/admin/v1/register", map[string]string{"username": name, "password": name}, &registered)
	if err != nil {
		return err
	}
	var step struct {
		Login string `json:"login_id"`
		Step  string `json:"step_id"`
		Type  string `json:"type"`
	}
	base, as := w.Bridge.Address+"/_matrix/provision/v3/login/", "?user_id=@"+name+":"+w.hs.Name()
	if err := w.call(http.MethodPost, base+"start/whatsapp"+as, struct{}{}, &step); err != nil {
		return err
	}
	agree := map[string]string{"answer": "agree"}
	if err := w.call(http.MethodPost, base+strings.Join([]string{"step", step.Login, step.Step, step.Type}, "/")+as, agree, &step); err != nil {
		return err
	}
	if step.Type != "complete" {
		return fmt.Errorf("the login of %s ends with the step %s", name, step.Step)
	}
	return nil
}

// until waits for something that comes about by itself.
func (w *world) until(what string, every time.Duration, is func() bool) {
	w.t.Helper()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-w.Bridge.Done():
			w.t.Fatalf("the bridge ended before %s", what)
		case <-w.ctx.Done():
			w.t.Fatalf("waited too long for %s", what)
		}
	}
}

// connected waits until the gatekeeper has everybody's stream and prekeys.
func (w *world) connected() {
	w.t.Helper()
	w.until("everybody was connected", 250*time.Millisecond, func() bool {
		list, err := w.Gatekeeper.Partners(w.ctx)
		w.ok(err)
		count := 0
		for _, p := range list {
			if p.Connected && p.Prekeys > 0 {
				count++
			}
		}
		return count == w.users
	})
}

// restart starts the bridge anew, and returns how long it took until it was ready and until everybody was connected.
func (w *world) restart(perSecond int) (ready, connected time.Duration) {
	w.t.Helper()
	w.ok(w.Bridge.Stop())
	w.ok(w.Bridge.Set(map[string]any{"network.connects_per_second": perSecond}))
	w.until0(func() bool {
		list, err := w.Gatekeeper.Partners(w.ctx)
		w.ok(err)
		for _, p := range list {
			if p.Connected {
				return false
			}
		}
		return true
	})
	began := time.Now()
	w.ok(w.Bridge.Start(w.ctx))
	ready = time.Since(began)
	w.connected()
	return ready, time.Since(began)
}

// until0 is until while no bridge runs.
func (w *world) until0(is func() bool) {
	w.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			w.t.Fatal("the gatekeeper does not notice that the bridge is away")
		}
	}
}
