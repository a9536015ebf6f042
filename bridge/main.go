// Command postern is the bridge between Matrix and the third-party chats of
// gatekeepers, and the sandbox gatekeeper to try it with.
//
// Layer: the top. It parses flags, reads the configuration, sets up logging and
// starts things; everything that is clever lies in connector and
// bridge/sandbox.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"gopkg.in/yaml.v3"

	"postern/bridge/sandbox"
)

// Tag, Commit and BuildTime are set by build.sh.
var (
	Tag       = "unknown"
	Commit    = "unknown"
	BuildTime = "unknown"
)

const usage = `postern - a bridge between Matrix and the third-party chats of WhatsApp

  postern [run] [-c config.yaml] [--ignore-unsupported-server]
                                run the bridge
  postern -e [-c config.yaml]   write an example configuration
  postern -g [-c config.yaml] [-r registration.yaml]
                                write the registration for the homeserver
  postern container [-c config.yaml] [-r registration.yaml] [--ignore-unsupported-server]
                                what the image does: write what is missing, or run the bridge
  postern health [--ready] [-c config.yaml]
                                does the bridge run?
  postern doctor [-r registration.yaml] [--json] [-c config.yaml]
                                say what is wrong with an installation, and what to do
  postern dead-letters list [--account ID] [--json] [-c config.yaml]
  postern dead-letters retry ID... [--json] [-c config.yaml]
  postern dead-letters drop ID... [--json] [-c config.yaml]
                                see to what was given up; more with --help
  postern reports list [--all] [--json] [-c config.yaml]
  postern reports show ID [--json] [-c config.yaml]
  postern reports close ID... [--json] [-c config.yaml]
                                see to what users have reported; more with --help
  postern suspend USER [REASON...] [-c config.yaml]
  postern unsuspend USER [-c config.yaml]
  postern suspended [--json] [-c config.yaml]
                                stop a user of the bridge; more with --help
  postern admin ACTION [--json] [-c config.yaml]
                                see to users and to the bridge; --help lists the actions
  postern tokens add USER [--scope SCOPE,...] [--days N] [--json] [-c config.yaml]
  postern tokens list|revoke ID... [--json] [-c config.yaml]
                                let a program act for one user; more with --help
  postern audit [--since TIME] [--json] [-c config.yaml]
                                say what was ordered, by whom
  postern backup --out FILE [--with-media] [--with-key] [--json] [-c config.yaml]
  postern restore --from FILE [--with-key] [--check] [--json] [-c config.yaml]
                                keep a copy of everything, also while the bridge
                                runs, and put it back; more with --help
  postern move-to-postgres --to URI [--json] [-c config.yaml]
  postern move-to-postgres --undo --yes [-c config.yaml]
                                move from SQLite to PostgreSQL; more with --help
  postern instances list|where|assign|unassign [-c config.yaml]
                                which user belongs to which of several instances; more with --help
  postern sandbox [flags]       run the sandbox gatekeeper
  postern version               say which version this is
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := dispatch(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// verb is what a command of the program does; it returns the exit status.
type verb func(ctx context.Context, args []string, stdout, stderr io.Writer) int

// commandTable has the commands of the program, by the first word of the command line.
var commandTable = map[string]verb{
	"run": runCommand, "container": containerCommand, "health": healthCommand, "doctor": doctorCommand, "dead-letters": deadLettersCommand,
	"reports": reportsCommand, "admin": adminCommand, "suspend": suspends("suspend"), "unsuspend": suspends("unsuspend"),
	"suspended": suspends("suspended"), "tokens": tokensCommand, "audit": auditCommand, "backup": backupCommand, "restore": restoreCommand,
	"move-to-postgres": moveCommand, "instances": instancesCommand, "sandbox": sandbox.Main,
	"version": versionCommand, "help": helpCommand,
}

func versionCommand(_ context.Context, _ []string, stdout, _ io.Writer) int {
	fmt.Fprintf(stdout, "postern %s (commit %s, built %s)\n", Tag, Commit, BuildTime)
	return 0
}

func helpCommand(_ context.Context, _ []string, stdout, _ io.Writer) int {
	fmt.Fprint(stdout, usage)
	return 0
}

// suspends is the one of the three commands about suspending.
func suspends(command string) verb {
	return func(ctx context.Context, args []string, stdout, stderr io.Writer) int {
		return suspendCommand(ctx, command, args, stdout, stderr)
	}
}

// dispatch runs one command and returns the exit status.
func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	command := "run"
	if len(args) > 0 && len(args[0]) > 0 && args[0][0] != '-' {
		command, args = args[0], args[1:]
	}
	if run := commandTable[command]; run != nil {
		return run(ctx, args, stdout, stderr)
	}
	fmt.Fprintf(stderr, "postern: there is no command %q\n\n%s", command, usage)
	return exitUsage
}

// runFlags are the flags of run, as users of such bridges know them.
type runFlags struct {
	config, registration              string
	example, generate, version, help  bool
	ignoreUnsupportedServer, noUpdate bool
}

func parseRunFlags(args []string) (*runFlags, error) {
	set, f := flag.NewFlagSet("postern", flag.ContinueOnError), &runFlags{}
	set.SetOutput(io.Discard)
	for _, name := range []string{"c", "config"} {
		set.StringVar(&f.config, name, "config.yaml", "")
	}
	for _, name := range []string{"r", "registration"} {
		set.StringVar(&f.registration, name, "registration.yaml", "")
	}
	for to, names := range map[*bool][]string{
		&f.example: {"e", "generate-example-config"}, &f.generate: {"g", "generate-registration"}, &f.version: {"v", "version"},
		&f.help: {"h", "help"}, &f.noUpdate: {"n", "no-update"}, &f.ignoreUnsupportedServer: {"ignore-unsupported-server"},
	} {
		for _, name := range names {
			set.BoolVar(to, name, false, "")
		}
	}
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if set.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q", set.Arg(0))
	}
	return f, nil
}

// runCommand runs the bridge, or does what -e, -g and -v ask for.
func runCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f, err := parseRunFlags(args)
	if err != nil {
		fmt.Fprintf(stderr, "postern: %v\n\n%s", err, usage)
		return exitUsage
	}
	switch {
	case f.help:
		fmt.Fprint(stdout, usage)
		return 0
	case f.version:
		return versionCommand(ctx, args, stdout, stderr)
	case f.example:
		if err := writeExample(f.config, stdout); err != nil {
			return report(stderr, err, exitConfig)
		}
		return 0
	case f.generate:
		if err := generateRegistration(f.config, f.registration, &yaml.Node{}); err != nil {
			return report(stderr, err, exitRegistration)
		}
		fmt.Fprintf(stdout, "Wrote %s. Add it to the homeserver's appservices (app_service_config_files in Synapse) and restart that.\n", f.registration)
		return 0
	}
	return bridgeStatus(runBridge(ctx, f), stderr)
}

// bridgeStatus says what the bridge has ended with, and returns the exit status.
func bridgeStatus(err error, stderr io.Writer) int {
	var exit *exitError
	if errors.As(err, &exit) {
		return report(stderr, exit.err, exit.code)
	}
	return report(stderr, err, exitOther)
}

// report prints an error and returns the exit status.
func report(stderr io.Writer, err error, code int) int {
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "postern: %v\n", err)
	return code
}
