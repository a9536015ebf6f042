package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"postern/connector/admin"
	"postern/connector/provisioning"
)

const tokensUsage = `postern tokens - let a program use the provisioning interface for one user

  postern tokens add USER [--scope SCOPE,...] [--days N] [--json]
  postern tokens list [--json]
  postern tokens revoke ID... [--json]

  -c, --config FILE   the bridge's configuration (config.yaml)
  --scope SCOPE,...   what the token is good for: status (if nothing is said), contacts, chats, login, logout
  --days N            for how many days, 1 to 366 (30)
  --json              print JSON

USER is a Matrix ID, such as @anna:example.org. Whoever has the token acts for that user, and for nobody else, as far as its scopes go.
"add" prints the token once: it is not kept, only its hash. "revoke" ends it at once. What is changed with it is in "postern audit".

The command asks the running bridge, or opens its database if no bridge runs. docs/PROVISIONING.md has the requests.

Exit status: 0 all done, 1 something could not be done, 2 wrong usage, 10 configuration, 14 database.
`

// tokenDays is for how many days a token is good if nothing is said.
const tokenDays = 30

// tokensFlags are what the command was given.
type tokensFlags struct {
	verb, config, scope string
	days                int
	json, help          bool
	words, scopes       []string
}

func parseTokens(args []string) (*tokensFlags, error) {
	f := &tokensFlags{}
	set := verbFlags("tokens", &f.config, &f.json, &f.help)
	set.StringVar(&f.scope, "scope", "", "")
	set.IntVar(&f.days, "days", tokenDays, "")
	var err error
	if f.verb, f.words, err = verbOf(set, args, &f.help, "add, list or revoke"); err != nil || f.help {
		return f, err
	}
	return f, f.check()
}

// check looks at what goes with the verb.
func (f *tokensFlags) check() error {
	switch {
	case f.verb != "add" && f.verb != "list" && f.verb != "revoke":
		return fmt.Errorf("there is no verb %q: it is add, list or revoke", f.verb)
	case f.verb != "add" && (f.scope != "" || f.days != tokenDays):
		return fmt.Errorf("--scope and --days do not go with %s", f.verb)
	case f.verb == "list" && len(f.words) > 0:
		return fmt.Errorf("unknown argument %q", f.words[0])
	case f.verb == "revoke" && (len(f.words) == 0 || len(f.words) > admin.MaxIDs):
		return fmt.Errorf("tokens revoke needs ids that list shows, at most %d", admin.MaxIDs)
	}
	if f.verb == "revoke" {
		for _, id := range f.words {
			if !admin.ValidID(id) {
				return errors.New("what is to be revoked is named by an id that list shows") // it may be the token itself, so it is not repeated
			}
		}
		return nil
	}
	if f.verb == "add" {
		return f.checkAdd()
	}
	return nil
}

func (f *tokensFlags) checkAdd() error {
	if len(f.words) != 1 || !admin.ValidUser(f.words[0]) {
		return errors.New("tokens add needs one Matrix ID such as @anna:example.org")
	}
	if f.days < 1 || f.days > admin.MaxTokenDays {
		return fmt.Errorf("--days is 1 to %d", admin.MaxTokenDays)
	}
	if f.scope == "" {
		f.scope = provisioning.ScopeStatus
	}
	for scope := range strings.SplitSeq(f.scope, ",") {
		if !slices.Contains(provisioning.Scopes, scope) {
			return fmt.Errorf("there is no scope %q: it is %s", scope, strings.Join(provisioning.Scopes, ", "))
		} else if !slices.Contains(f.scopes, scope) {
			f.scopes = append(f.scopes, scope)
		}
	}
	return nil
}

// tokensCommand runs the command and returns the exit status.
func tokensCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f, err := parseTokens(args)
	if err != nil {
		fmt.Fprintf(stderr, "postern: %v\n\n%s", err, tokensUsage)
		return exitUsage
	} else if f.help {
		fmt.Fprint(stdout, tokensUsage)
		return 0
	}
	undone := 0
	err = withAdmin(ctx, f.config, func(service admin.Service) (err error) {
		switch f.verb {
		case "add":
			return f.add(ctx, service, stdout, stderr)
		case "list":
			return f.list(ctx, service, stdout)
		}
		undone, err = f.revoke(ctx, service, stdout, stderr)
		return err
	})
	if errors.Is(err, admin.ErrTokens) {
		err = errors.New("there are too many tokens: revoke some (those that are no good any more are forgotten after 30 days)")
	}
	return verbStatus(stderr, err, undone)
}

// add makes a token: the token itself goes to stdout, so that a script can take it.
func (f *tokensFlags) add(ctx context.Context, service admin.Service, stdout, stderr io.Writer) error {
	made, err := service.AddToken(ctx, f.words[0], f.scopes, f.days)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(stdout, made)
	}
	fmt.Fprintf(stderr, "Token %s for %s: %s, until %s. It is shown this once.\n", made.ID, made.User, strings.Join(made.Scopes, ", "), made.Expires.Format(time.DateOnly))
	_, err = fmt.Fprintln(stdout, made.Secret)
	return err
}

func (f *tokensFlags) list(ctx context.Context, service admin.Service, stdout io.Writer) error {
	all, err := allPages(func(offset int) ([]admin.Token, error) { return service.Tokens(ctx, offset, admin.MaxPage) })
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(stdout, map[string]any{"tokens": all})
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(stdout, "There are no tokens.")
		return err
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tUSER\tSCOPES\tSTATE\tMADE\tEXPIRES")
	for _, t := range all {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, t.User, strings.Join(t.Scopes, ","), t.State, t.At.Format(time.DateOnly), t.Expires.Format(time.DateOnly))
	}
	return table.Flush()
}

func (f *tokensFlags) revoke(ctx context.Context, service admin.Service, stdout, stderr io.Writer) (undone int, err error) {
	results, err := service.RevokeTokens(ctx, f.words)
	for _, r := range results {
		if !r.Outcome.Good() {
			undone++
		}
	}
	if f.json {
		return undone, errors.Join(printJSON(stdout, map[string]any{"results": results}), err)
	}
	for _, r := range results {
		switch r.Outcome {
		case admin.Done:
			fmt.Fprintf(stdout, "%s: is revoked\n", r.ID)
		case admin.Already:
			fmt.Fprintf(stdout, "%s: was revoked already\n", r.ID)
		case admin.Unknown:
			fmt.Fprintf(stderr, "%s: there is no such token\n", r.ID)
		default:
			fmt.Fprintf(stderr, "%s: %s\n", r.ID, r.Outcome)
		}
	}
	return undone, err
}
