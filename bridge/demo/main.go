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
	"os"
	"os/signal"
	"path/filepath"
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
	defer stop()
	if err := run(ctx, o); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "\nThe demo failed: "+err.Error())
		os.Exit(1)
	}
}

// run starts the world, shows the story and, without --once, keeps everything
// up until ctx ends.
func run(ctx context.Context, o options) (err error) {
	dir, temporary, err := stateDir(o.state)
	if err != nil {
		return err
	}
	defer func() {
		if temporary && err == nil {
			os.RemoveAll(dir)
		}
	}()
	t := newTranscript(os.Stdout)
	world, err := parts.StartWorld(ctx, parts.WorldConfig{
		Dir: dir, Postern: o.postern, Homeserver: o.homeserver, Gatekeeper: o.gatekeeper, Progress: t.step,
		Settings: map[string]any{"logging.min_level": "info"},
	})
	if err != nil {
		return fmt.Errorf("%w (all logs are below %s)", err, dir)
	}
	defer func() {
		t.step("stopping everything")
		err = errors.Join(err, world.Stop())
	}()
	if o.homeserver == "dendrite" {
		t.note("Dendrite sends no read receipts, typing or encryption keys to bridges, so this run cannot show those.")
	}
	s := &story{world: world, t: t, dir: dir, kept: loadKept(dir)}
	defer s.close()
	if err := s.tell(ctx); err != nil {
		return fmt.Errorf("%w\n  logs: %s, %s, %s", err, world.Bridge.LogPath(), world.Homeserver.LogPath(), world.Gatekeeper.LogPath())
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
