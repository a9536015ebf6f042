package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"postern/connector/admin"
)

const auditUsage = `postern audit - what the operator and the provisioning interface have done

  postern audit [--since TIME] [--json]

  -c, --config FILE   the bridge's configuration (config.yaml)
  --since TIME        entries since a day (2026-01-31), a moment (2026-01-31T12:00:00Z) or for a length of time (36h)
  --json              print JSON

Each line says when, who (operator: by a command over the private listener; offline: by a command while no bridge ran; admin: in Matrix;
token: with a token of "postern tokens"; shared-secret and matrix-token: without one), what, about which local id, and how it ended. Where the
outcome is "asked" it began, and how it ended is not known. Entries are never changed; network.audit says how long they are kept.

The command asks the running bridge, or opens its database if no bridge runs.

Exit status: 0 done, 1 it could not be done, 2 wrong usage, 10 configuration, 14 database.
`

// sinceWhen reads a day, a moment or a length of time before now.
func sinceWhen(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if length, err := time.ParseDuration(text); err == nil && length > 0 {
		return now.Add(-length), nil
	}
	for _, form := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(form, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("--since %q is no day such as 2026-01-31, no moment such as 2026-01-31T12:00:00Z and no length such as 36h", text)
}

// auditCommand runs the command and returns the exit status.
func auditCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var config, text string
	var asJSON, help bool
	set := verbFlags("audit", &config, &asJSON, &help)
	set.StringVar(&text, "since", "", "")
	words, err := wordsOf(set, args)
	if err == nil && len(words) > 0 && words[0] != "help" {
		err = fmt.Errorf("unknown argument %q", words[0])
	}
	since := time.Time{}
	if err == nil {
		since, err = sinceWhen(text, time.Now())
	}
	if err != nil {
		fmt.Fprintf(stderr, "postern: %v\n\n%s", err, auditUsage)
		return exitUsage
	} else if help || len(words) > 0 {
		fmt.Fprint(stdout, auditUsage)
		return 0
	}
	err = withAdmin(ctx, config, func(service admin.Service) error {
		all, err := wholeAudit(ctx, service, since)
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(stdout, map[string]any{"audit": all})
		}
		return auditTable(stdout, all)
	})
	return verbStatus(stderr, err, 0)
}

// wholeAudit reads all pages.
func wholeAudit(ctx context.Context, service admin.Service, since time.Time) ([]admin.AuditEntry, error) {
	all := []admin.AuditEntry{}
	for after := int64(0); ; {
		page, err := service.Audit(ctx, since, after, admin.MaxPage)
		if err != nil {
			return nil, err
		}
		if all = append(all, page...); len(page) < admin.MaxPage {
			return all, nil
		}
		after = page[len(page)-1].Seq
	}
}

func auditTable(to io.Writer, all []admin.AuditEntry) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(to, "There is nothing in the audit log.")
		return err
	}
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "TIME\tWHO\tWHAT\tABOUT\tOUTCOME")
	for _, e := range all {
		about := e.Subject
		if about == "" {
			about = "-"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", e.At.UTC().Format("2006-01-02 15:04:05"), e.Actor, e.Action, about, e.Outcome)
	}
	return table.Flush()
}
