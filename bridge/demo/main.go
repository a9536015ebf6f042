// Command demo shows Postern's main job on real parts: a Matrix user and a
// WhatsApp user talk, through a real homeserver, the bridge, and the sandbox
// gatekeeper (or any other that offers the same control API).
//
// Layer: a program beside bridge. It starts processes and speaks Matrix's
// client API and the gatekeeper's control API; it must not import connector,
// database or bridge/sandbox.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"postern/bridge/parts"
)

// options are the demo's flags.
type options struct {
	once       bool
	state      string
	gatekeeper string
	homeserver string
	postern    string
}

func main() {
	var o options
	flag.BoolVar(&o.once, "once", false, "exit after the transcript: 0 if every step held")
	flag.StringVar(&o.state, "state", "", "keep all data in this folder, and carry on with what it has")
	flag.StringVar(&o.gatekeeper, "gatekeeper", "", "control address of a running gatekeeper to use in place of the built-in sandbox")
	flag.StringVar(&o.homeserver, "homeserver", "synapse", "synapse or dendrite")
	flag.StringVar(&o.postern, "postern", "postern", "the postern program")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "demo: unknown argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	if o.homeserver != "synapse" && o.homeserver != "dendrite" {
		fmt.Fprintln(os.Stderr, "demo: --homeserver is synapse or dendrite")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := exitStatus(run(ctx, o), os.Stderr)
	stop()
	os.Exit(code)
}

// errInterrupted says that Ctrl-C came before the transcript was complete.
var errInterrupted = errors.New("interrupted before the transcript was complete")

// exitStatus tells of what went wrong: 1 if a step or the stopping failed, 130
// (as shells count SIGINT) if the transcript was cut off, else 0.
func exitStatus(err error, stderr io.Writer) int {
	switch err {
	case nil:
		return 0
	case errInterrupted: //nolint:errorlint // joined with another error it is a failure
		fmt.Fprintf(stderr, "\nThe demo was %v.\n", err)
		return 130
	}
	fmt.Fprintf(stderr, "\nThe demo failed: %v\n", err)
	return 1
}

// run starts the world, shows the story and, without --once, keeps everything
// up until ctx ends.
func run(ctx context.Context, o options) (err error) {
	dir, temporary, err := stateDir(o.state)
	if err != nil {
		return err
	}
	defer func() {
		if temporary && (err == nil || err == errInterrupted) { //nolint:errorlint // a failure leaves its logs
			if gone := os.RemoveAll(dir); gone != nil {
				err = errors.Join(err, gone)
			}
		}
	}()
	t := newTranscript(os.Stdout)
	world, err := parts.StartWorld(ctx, parts.WorldConfig{
		Dir: dir, Postern: o.postern, Homeserver: o.homeserver, Gatekeeper: o.gatekeeper, Progress: t.step,
		Settings: settings(),
	})
	if err != nil && ctx.Err() != nil {
		return errInterrupted
	} else if err != nil {
		return fmt.Errorf("%w (all logs are below %s)", err, dir)
	}
	defer func() {
		t.step("stopping everything")
		if stop := world.Stop(); stop != nil {
			err = errors.Join(err, stop)
		}
	}()
	if o.homeserver == "dendrite" {
		t.note("Dendrite sends no read receipts, typing or encryption keys to bridges, so this run cannot show those.")
	}
	s := &story{world: world, t: t, dir: dir, kept: loadKept(dir)}
	defer s.close()
	if err := s.tell(ctx); err != nil && ctx.Err() != nil {
		return errInterrupted
	} else if err != nil {
		return fmt.Errorf("%w\n  logs: %s", err, strings.Join(s.logs(), ", "))
	}
	if err := s.writeDemoJSON(); err != nil {
		return err
	}
	if o.once {
		return nil
	}
	s.invite(os.Stdout)
	<-ctx.Done()
	fmt.Println()
	return nil
}

// stateDir is the folder given, or a temporary one.
func stateDir(given string) (dir string, temporary bool, err error) {
	if given == "" {
		dir, err = os.MkdirTemp("", "postern-demo-")
		return dir, true, err
	}
	dir, err = filepath.Abs(given)
	return dir, false, err
}

// stepBound is generous: only a step that hangs runs into it.
const stepBound = 90 * time.Second

// settings are the bridge's own, as far as a world of parts has others for tests: people see here what the bridge does by default.
func settings() map[string]any {
	s := map[string]any{
		"logging.min_level": "info", "network.requests.policy": "ask",
		"network.operator.name": "the Postern demo", "network.operator.contact": "@admin:postern.localhost",
	}
	for _, key := range []string{"new_chats_a_day", "lookups_an_hour", "messages_a_minute"} {
		s["network.brakes.user."+key], s["network.brakes.bridge."+key] = 0, 0 // the default
	}
	return s
}
