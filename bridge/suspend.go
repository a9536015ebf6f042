package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"postern/connector/admin"
)

const suspendUsage = `postern suspend - stop a user of the bridge

  postern suspend USER [REASON...]
  postern unsuspend USER
  postern suspended [--json]

  -c, --config FILE   the bridge's configuration (config.yaml)
  --json              print JSON

USER is a Matrix ID, such as @anna:example.org. The user's streams are closed: nothing more is sent for them, and what others
write to them waits at the gatekeeper, for up to 30 days. They are told, with the reason, and cannot log in anew; they can still
log out. "unsuspend" takes up again what was waiting. "suspended" lists who is suspended.

The command asks the running bridge, or opens its database if no bridge runs; then it holds when one does.

Exit status: 0 done, 1 it could not be done, 2 wrong usage, 10 configuration, 14 database.
`

// suspendFlags are what one of the commands was given.
type suspendFlags struct {
	verb, config, user, reason string
	json, help                 bool
}

func parseSuspend(verb string, args []string) (*suspendFlags, error) {
	f := &suspendFlags{verb: verb}
	set := verbFlags(verb, &f.config, &f.json, &f.help)
	said, err := wordsOf(set, args)
	if err != nil {
		return nil, err
	}
	switch {
	case f.help:
		return f, nil
	case verb == "suspended" && len(said) > 0:
		return nil, fmt.Errorf("unknown argument %q", said[0])
	case verb == "suspended":
		return f, nil
	case f.json:
		return nil, fmt.Errorf("--json does not go with %s", verb)
	case len(said) == 0:
		return nil, fmt.Errorf("%s needs a Matrix ID", verb)
	case verb == "unsuspend" && len(said) > 1:
		return nil, fmt.Errorf("unknown argument %q", said[1])
	case !admin.ValidUser(said[0]):
		return nil, fmt.Errorf("%q is not a Matrix ID such as @anna:example.org", said[0])
	}
	f.user, f.reason = said[0], strings.Join(said[1:], " ")
	if !admin.ValidReason(f.reason) {
		return nil, fmt.Errorf("a reason is one line of at most %d characters", admin.MaxReason)
	}
	return f, nil
}

// suspendCommand runs one of the commands and returns the exit status.
func suspendCommand(ctx context.Context, verb string, args []string, stdout, stderr io.Writer) int {
	f, err := parseSuspend(verb, args)
	if err != nil {
		fmt.Fprintf(stderr, "postern: %v\n\n%s", err, suspendUsage)
		return exitUsage
	} else if f.help {
		fmt.Fprint(stdout, suspendUsage)
		return 0
	}
	err = withAdmin(ctx, f.config, func(service admin.Service) error { return f.do(ctx, service, stdout) })
	return verbStatus(stderr, err, 0)
}

func (f *suspendFlags) do(ctx context.Context, service admin.Service, stdout io.Writer) error {
	said := map[admin.Outcome]string{admin.Done: "is suspended", admin.Already: "was suspended already; the reason is replaced",
		admin.NoLogin: "is suspended, but has no login here, so nobody is told; it counts when they come, if the name is right"}
	var outcome admin.Outcome
	var err error
	switch f.verb {
	case "suspended":
		return f.list(ctx, service, stdout)
	case "suspend":
		outcome, err = service.Suspend(ctx, f.user, f.reason)
	default:
		said = map[admin.Outcome]string{admin.Done: "is not suspended any more", admin.Already: "was not suspended"}
		outcome, err = service.Unsuspend(ctx, f.user)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s %s.\n", f.user, said[outcome])
	return err
}

func (f *suspendFlags) list(ctx context.Context, service admin.Service, stdout io.Writer) error {
	all, err := allPages(func(offset int) ([]admin.Suspension, error) { return service.Suspended(ctx, offset, admin.MaxPage) })
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(stdout, map[string]any{"suspended": all})
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(stdout, "Nobody is suspended.")
		return err
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "USER\tSINCE\tREASON")
	for _, one := range all {
		fmt.Fprintf(table, "%s\t%s\t%s\n", one.User, one.At.UTC().Format(time.RFC3339), one.Reason)
	}
	return table.Flush()
}
