package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"postern/connector/binxml"
	"postern/connector/jid"
	"postern/connector/profile"
)

// Main is `postern sandbox`. args are those behind the command. Its first line on stdout is JSON, /v1/info and
// control, the control API's address. It serves until ctx ends or the process is asked to stop, and returns the
// exit status: 0 after an orderly end, 1 if it could not start or its state could not be written, 2 for wrong
// arguments.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, err := parseArgs(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "postern sandbox:", err)
		return 2
	}
	cfg.Log = zerolog.New(zerolog.ConsoleWriter{Out: stderr, NoColor: true, TimeFormat: time.RFC3339}).With().Timestamp().Logger()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	s, err := New(cfg)
	if err == nil {
		err = s.Start(ctx)
	}
	if err != nil {
		fmt.Fprintln(stderr, "postern sandbox:", err)
		return 1
	}
	line, err := json.Marshal(struct {
		Info
		Control string `json:"control"`
	}{s.Info(), s.ControlURL()})
	if err == nil {
		_, err = fmt.Fprintf(stdout, "%s\n", line)
	}
	if err == nil {
		select {
		case <-ctx.Done():
		case <-s.Failed():
		}
	}
	if err := errors.Join(err, s.Close()); err != nil {
		fmt.Fprintln(stderr, "postern sandbox:", err)
		return 1
	}
	return 0
}

func parseArgs(args []string, stderr io.Writer) (Config, error) {
	var cfg Config
	var profileName, phones, reads, writes string
	fs := flag.NewFlagSet("postern sandbox", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&cfg.Control, "control", "", "`address` of the control API (default: loopback, a free port)")
	fs.StringVar(&cfg.Chat, "chat", "", "`address` of the chat listener, TCP")
	fs.StringVar(&cfg.ChatWS, "chat-ws", "", "`address` of the chat listener, websocket")
	fs.StringVar(&cfg.HTTP, "http", "", "`address` of enlistment, key set and media")
	fs.StringVar(&cfg.Dir, "state", "", "`directory` to keep the state in (default: memory only)")
	fs.StringVar(&profileName, "profile", "whatsapp", "the gatekeeper to be: `whatsapp` or messenger")
	fs.StringVar(&phones, "phone-server", "", "server part of WhatsApp users' addresses: `lid` or s.whatsapp.net")
	fs.StringVar(&reads, "jid-reads", "", "how partner addresses are read: 245-with-server, 245-bare or 244-domain-`byte`")
	fs.StringVar(&writes, "jid-writes", "", "how partner addresses are written, as for --jid-reads")
	fs.StringVar(&cfg.Record, "record", "", "`file` to add to what partners let a gatekeeper see")
	fs.BoolVar(&cfg.Strict, "noise-strict", false, "strict Noise transcript")
	if err := fs.Parse(args); err != nil {
		return cfg, err
	}
	if fs.NArg() > 0 {
		return cfg, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	var err error
	if cfg.Profile, err = profile.ByName(profileName); err != nil {
		return cfg, fmt.Errorf("there is no profile %q", profileName)
	}
	cfg.PhoneServer = jid.Server(phones)
	for _, d := range []struct {
		name string
		into **binxml.Dialect
	}{{reads, &cfg.Reads}, {writes, &cfg.Writes}} {
		if d.name == "" {
			continue
		}
		dialect, ok := binxml.ParseDialect(strings.ToLower(d.name))
		if !ok {
			return cfg, fmt.Errorf("there is no address dialect %q", d.name)
		}
		*d.into = &dialect
	}
	return cfg, nil
}
