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

	"postern/connector"
	"postern/connector/admin"
)

const adminUsage = `postern admin - what whoever runs the bridge may order

  postern admin ACTION [--json]

%s
  -c, --config FILE   the bridge's configuration (config.yaml)
  --json              print JSON (docs/ADMIN.md has its form)
  --yes               do what cannot be undone
  --force             also where something is lost by it: see the action

<who> is a Matrix ID, such as @anna:example.org, for all logins of that user, or an account's local id, as "users" and the log have it.
Administrators of the bridge can type the same to the bot, as "admin ACTION".

The command asks the running bridge, or opens its database if no bridge runs; actions with a star need a running bridge.

Exit status: 0 all done, 1 something could not be done, 2 wrong usage, 10 configuration, 14 database.
`

// adminHelp is the usage with all actions.
func adminHelp() string {
	var out strings.Builder
	for _, a := range connector.DescribeActions() {
		star := " "
		if known := admin.ActionNamed(a.Name); known != nil && !known.Offline {
			star = "*"
		}
		fmt.Fprintf(&out, "%s %s\n        %s\n", star, strings.TrimSpace(a.Name+" "+a.Args), a.Text)
	}
	return fmt.Sprintf(adminUsage, out.String())
}

// ownVerbs are the actions that are commands of their own, which are the same with "admin" before them.
var ownVerbs = map[string]func(ctx context.Context, verb string, args []string, stdout, stderr io.Writer) int{
	"suspend": suspendCommand, "unsuspend": suspendCommand, "suspended": suspendCommand,
	"dead-letters": func(ctx context.Context, _ string, args []string, stdout, stderr io.Writer) int {
		return deadLettersCommand(ctx, args, stdout, stderr)
	},
	"move": func(ctx context.Context, verb string, args []string, stdout, stderr io.Writer) int {
		return instancesCommand(ctx, append([]string{verb}, args...), stdout, stderr)
	},
	"reports": func(ctx context.Context, _ string, args []string, stdout, stderr io.Writer) int {
		return reportsCommand(ctx, args, stdout, stderr)
	},
}

// adminFlags are what the command was given.
type adminFlags struct {
	config     string
	json, help bool
	order      admin.Order
}

func parseAdmin(args []string) (*adminFlags, error) {
	f := &adminFlags{}
	var yes, force bool
	set := verbFlags("admin", &f.config, &f.json, &f.help)
	set.BoolVar(&yes, "yes", false, "")
	set.BoolVar(&force, "force", false, "")
	words, err := wordsOf(set, args)
	if err != nil {
		return nil, err
	}
	if f.help || len(words) > 0 && words[0] == "help" {
		f.help = true
		return f, nil
	}
	for flag, set := range map[string]bool{"--yes": yes, "--force": force} {
		if set {
			words = append(words, flag)
		}
	}
	f.order, err = admin.ParseOrder(words)
	return f, err
}

// firstWord is where the action stands: behind flags, of which only that for the configuration has a value; -1 for nowhere.
func firstWord(args []string) int {
	for i := 0; i < len(args); i++ {
		name := strings.TrimLeft(args[i], "-")
		if name == args[i] {
			return i
		}
		if name == "c" || name == "config" {
			i++
		}
	}
	return -1
}

// adminCommand runs the command and returns the exit status.
func adminCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if at := firstWord(args); at >= 0 {
		if own := ownVerbs[args[at]]; own != nil {
			return own(ctx, args[at], slices.Delete(slices.Clone(args), at, at+1), stdout, stderr)
		}
	}
	f, err := parseAdmin(args)
	if err != nil {
		return wrongAdmin(stderr, err)
	} else if f.help {
		fmt.Fprint(stdout, adminHelp())
		return 0
	}
	undone := 0
	err = withAdmin(ctx, f.config, func(service admin.Service) error {
		answer, err := f.ask(ctx, service)
		if err != nil {
			return err
		}
		undone = answer.Undone()
		if f.order.Action == "user" && len(answer.Users) == 0 {
			undone = 1
		}
		return f.print(answer, undone, stdout, stderr)
	})
	if errors.Is(err, admin.ErrNeedsBridge) {
		err = fmt.Errorf("no bridge runs, and %s needs one", f.order.Action)
	} else if wrong := connector.WrongOrderText(err, "postern admin"); wrong != "" {
		return wrongAdmin(stderr, err)
	}
	return verbStatus(stderr, err, undone)
}

// wrongAdmin says what is wrong with the command.
func wrongAdmin(stderr io.Writer, err error) int {
	text := connector.WrongOrderText(err, "postern admin")
	var wrong *admin.WrongOrder
	switch {
	case text == "":
		text = err.Error() + "\n\n" + adminHelp()
	case errors.As(err, &wrong) && (wrong.Kind == admin.WrongNoAction || wrong.Kind == admin.WrongAction):
		text += "\n\n" + adminHelp()
	}
	fmt.Fprintf(stderr, "postern: %s\n", strings.TrimSuffix(text, "\n"))
	return exitUsage
}

// ask gives the order; a list that is asked for from its beginning is asked for to its end.
func (f *adminFlags) ask(ctx context.Context, service admin.Service) (*admin.Answer, error) {
	answer, err := service.Do(ctx, f.order)
	if err != nil || f.order.Action == "users" && len(f.order.Words) > 0 {
		return answer, err
	}
	for next := f.order; answer.More; {
		next.Offset = entries(answer)
		page, err := service.Do(ctx, next)
		if err != nil {
			return nil, err
		}
		if answer.More = page.More && entries(page) > 0; answer.Media != nil && page.Media != nil {
			answer.Media.Users = append(answer.Media.Users, page.Media.Users...)
		}
		answer.Users = append(answer.Users, page.Users...)
	}
	return answer, nil
}

// entries is how many entries the list of an answer has.
func entries(answer *admin.Answer) int {
	if answer.Media != nil {
		return len(answer.Media.Users)
	}
	return len(answer.Users)
}

// print says what came of it: what was not done on stderr.
func (f *adminFlags) print(answer *admin.Answer, undone int, stdout, stderr io.Writer) error {
	if f.json {
		return printJSON(stdout, answer)
	}
	if f.order.Action == "users" && len(answer.Users) > 0 {
		return usersTable(stdout, answer.Users)
	}
	to := stdout
	if undone > 0 && !slices.ContainsFunc(answer.Results, func(r admin.Result) bool { return r.Outcome.Good() }) {
		to = stderr
	}
	_, err := fmt.Fprintln(to, connector.OrderText(&f.order, answer))
	return err
}

// usersTable prints the list of users.
func usersTable(to io.Writer, users []admin.User) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "USER\tACCOUNT\tGATEKEEPER\tSTATE\tSINCE\tRECEIVED\tSENT\tTO MATRIX\tTO GATEKEEPER\tDEAD\tPREKEYS\tEXPIRES")
	now := time.Now()
	ago := func(at time.Time) string {
		if at.IsZero() {
			return "-"
		}
		return ageWords(now.Sub(at))
	}
	for i := range users {
		u := &users[i]
		keys, expires := "-", "-"
		if u.PreKeys != nil {
			keys = fmt.Sprint(*u.PreKeys)
		}
		if !u.Expires.IsZero() {
			expires = u.Expires.Format(time.DateOnly)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", u.User, u.Account, u.Gatekeeper, u.State, ago(u.Since), ago(u.Received), ago(u.Sent),
			u.ToMatrix, u.ToGatekeeper, u.Letters, keys, expires)
	}
	return table.Flush()
}
