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
)

const reportsUsage = `postern reports - what users have reported

  postern reports list [--all] [--json]
  postern reports show ID [--json]
  postern reports close ID... [--json]

  -c, --config FILE   the bridge's configuration (config.yaml)
  --all               closed ones, too
  --json              print JSON

Users report people who write to them with the bot's command "report". "list" names nobody; SAME says how many reports about
the same person there are. "show" prints who is reported, by whom, why, and the message that they have pointed at, if they
have: treat it as what it is. "close" notes that a report was seen to, and tells its reporter so, once.

A report is forgotten 30 days after it was closed, and 180 days after it was made. When its reporter leaves, an open one stays
without their name and without the message; a closed one goes with them.

The command asks the running bridge, or opens its database if no bridge runs.

Exit status: 0 all done, 1 something could not be done, 2 wrong usage, 10 configuration, 14 database.
`

// reportsFlags are what the command was given.
type reportsFlags struct {
	verb, config    string
	all, json, help bool
	ids             []string
}

func parseReports(args []string) (*reportsFlags, error) {
	f := &reportsFlags{}
	set := verbFlags("reports", &f.config, &f.json, &f.help)
	set.BoolVar(&f.all, "all", false, "")
	var err error
	if f.verb, f.ids, err = verbOf(set, args, &f.help, "list, show or close"); err != nil || f.help {
		return f, err
	}
	return f, f.check()
}

// check looks at what goes with the verb.
func (f *reportsFlags) check() error {
	switch {
	case f.verb != "list" && f.verb != "show" && f.verb != "close":
		return fmt.Errorf("there is no verb %q: it is list, show or close", f.verb)
	case f.verb == "list" && len(f.ids) > 0:
		return fmt.Errorf("unknown argument %q", f.ids[0])
	case f.verb != "list" && f.all:
		return fmt.Errorf("--all does not go with %s", f.verb)
	case f.verb == "show" && len(f.ids) != 1:
		return errors.New("reports show needs one id that list shows")
	case f.verb == "close" && len(f.ids) == 0:
		return errors.New("reports close needs the ids that list shows")
	}
	for _, id := range f.ids {
		if !admin.ValidID(id) {
			return fmt.Errorf("%q is not an id of a report", id)
		}
	}
	return nil
}

// reportsCommand runs the command and returns the exit status.
func reportsCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f, err := parseReports(args)
	if err != nil {
		fmt.Fprintf(stderr, "postern: %v\n\n%s", err, reportsUsage)
		return exitUsage
	} else if f.help {
		fmt.Fprint(stdout, reportsUsage)
		return 0
	}
	undone := 0
	err = withAdmin(ctx, f.config, func(service admin.Service) (err error) {
		switch f.verb {
		case "list":
			return f.list(ctx, service, stdout)
		case "show":
			return f.show(ctx, service, stdout)
		}
		undone, err = f.close(ctx, service, stdout, stderr)
		return err
	})
	return verbStatus(stderr, err, undone)
}

// list prints the reports, without what they say.
func (f *reportsFlags) list(ctx context.Context, service admin.Service, stdout io.Writer) error {
	all, err := allPages(func(offset int) ([]admin.Report, error) { return service.Reports(ctx, f.all, offset, admin.MaxPage) })
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(stdout, map[string]any{"reports": all})
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(stdout, "There are no reports.")
		return err
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tACCOUNT\tGATEKEEPER\tSTATE\tAGE\tREASON\tMESSAGE\tSAME")
	now := time.Now()
	for _, r := range all {
		account, state := r.Account, "open"
		if account == "" {
			account = "(left)"
		}
		if !r.Closed.IsZero() {
			state = "closed"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n",
			r.ID, account, r.Gatekeeper, state, ageWords(now.Sub(r.At)), yesNo(r.HasReason), yesNo(r.HasMessage), r.Same)
	}
	return table.Flush()
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// show prints all that one report says.
func (f *reportsFlags) show(ctx context.Context, service admin.Service, stdout io.Writer) error {
	r, err := service.Report(ctx, f.ids[0])
	if err != nil {
		return err
	} else if r == nil {
		return fmt.Errorf("there is no report %s", f.ids[0])
	}
	if f.json {
		return printJSON(stdout, map[string]any{"report": r})
	}
	_, err = io.WriteString(stdout, reportText(r))
	return err
}

// reportText writes a report for people. What strangers have written in it cannot do anything to a terminal, and cannot pass for a line of
// ours.
func reportText(r *admin.ReportDetails) string {
	var out strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&out, "%-14s%s\n", name+":", admin.Plain(value, false))
		}
	}
	block := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&out, "%s:\n    %s\n", name, strings.ReplaceAll(admin.Plain(text, true), "\n", "\n    "))
		}
	}
	line("report", r.ID)
	line("made", r.At.UTC().Format(time.DateTime)+" UTC")
	if !r.Closed.IsZero() {
		line("closed", r.Closed.UTC().Format(time.DateTime)+" UTC")
	}
	reporter := r.Reporter
	if reporter == "" {
		reporter = "(somebody who has left)"
	}
	line("by", reporter)
	line("account", r.Account)
	line("gatekeeper", r.Gatekeeper)
	line("about", r.Name)
	line("phone", r.Phone)
	line("address", r.Address)
	if r.Same > 1 {
		line("reports", fmt.Sprintf("%d about the same person", r.Same))
	}
	block("reason", r.Reason)
	if m := r.Message; m != nil {
		line("message", m.ID)
		line("event", m.Event)
		line("sent", m.Sent.UTC().Format(time.DateTime)+" UTC")
		line("kind", m.Kind)
		switch {
		case m.Missing:
			line("text", "(could not be had when it was reported)")
		case m.Cut:
			block("text, its beginning", m.Text)
		default:
			block("text", m.Text)
		}
	}
	if r.Damaged {
		out.WriteString("Some of this report cannot be read from disk: it is damaged.\n")
	}
	return out.String()
}

// close closes reports, and says of how many ids it could not.
func (f *reportsFlags) close(ctx context.Context, service admin.Service, stdout, stderr io.Writer) (undone int, err error) {
	results := []admin.Result{}
	for ids := range slices.Chunk(f.ids, admin.MaxIDs) {
		some, err := service.CloseReports(ctx, ids)
		if err != nil {
			return 0, err
		}
		results = append(results, some...)
	}
	for _, result := range results {
		to, words := stdout, "is closed"
		switch result.Outcome {
		case admin.Closed:
		case admin.Already:
			words = "was closed before"
		case admin.Unknown:
			to, words = stderr, "there is no report of this id"
			undone++
		default:
			to, words = stderr, "the bridge says: "+string(result.Outcome)
			undone++
		}
		if !f.json {
			fmt.Fprintf(to, "%s: %s\n", result.ID, words)
		}
	}
	if f.json {
		return undone, printJSON(stdout, map[string]any{"results": results})
	}
	return undone, nil
}
