package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"postern/connector/admin"
)

const deadLettersUsage = `postern dead-letters - what was given up

  postern dead-letters list [--account ID] [--json]
  postern dead-letters retry ID... [--json]
  postern dead-letters drop ID... [--json]

  -c, --config FILE   the bridge's configuration (config.yaml)
  --account ID        only those of one account, as its log lines name it
  --json              print JSON

A dead letter that came in is a message which the homeserver refuses for good, or which cannot be read from disk. It is kept
for 30 days, at most 500 of an account. "retry" has it put into its room again, behind what came since and marked as late;
"drop" erases it. One that went out is a message of your user's that failed: they were told why in the room and decide
themselves, so it can be dropped from the list and not retried.

The command asks the running bridge, or opens its database if no bridge runs; then a retried message is shown when one does.

Exit status: 0 all done, 1 something could not be done, 2 wrong usage, 10 configuration, 14 database.
`

// deadLettersFlags are what the command was given.
type deadLettersFlags struct {
	verb, config, account string
	json, help            bool
	ids                   []string
}

func parseDeadLetters(args []string) (*deadLettersFlags, error) {
	f := &deadLettersFlags{}
	set := verbFlags("dead-letters", &f.config, &f.json, &f.help)
	set.StringVar(&f.account, "account", "", "")
	var err error
	if f.verb, f.ids, err = verbOf(set, args, &f.help, "list, retry or drop"); err != nil || f.help {
		return f, err
	}
	return f, f.check()
}

// check looks at what goes with the verb.
func (f *deadLettersFlags) check() error {
	switch f.verb {
	case "list":
		if len(f.ids) > 0 {
			return fmt.Errorf("unknown argument %q", f.ids[0])
		}
		return nil
	case "retry", "drop":
	default:
		return fmt.Errorf("there is no verb %q: it is list, retry or drop", f.verb)
	}
	if len(f.ids) == 0 {
		return fmt.Errorf("dead-letters %s needs the ids that list shows", f.verb)
	} else if f.account != "" {
		return fmt.Errorf("--account does not go with %s", f.verb)
	}
	for _, id := range f.ids {
		if !admin.ValidID(id) {
			return fmt.Errorf("%q is not an id of a dead letter", id)
		}
	}
	return nil
}

// deadLettersCommand runs the command and returns the exit status.
func deadLettersCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f, err := parseDeadLetters(args)
	if err != nil {
		fmt.Fprintf(stderr, "postern: %v\n\n%s", err, deadLettersUsage)
		return exitUsage
	} else if f.help {
		fmt.Fprint(stdout, deadLettersUsage)
		return 0
	}
	undone := 0
	err = withAdmin(ctx, f.config, func(service admin.Service) error {
		if f.verb == "list" {
			return f.list(ctx, service, stdout)
		}
		var err error
		undone, err = f.change(ctx, service, stdout, stderr)
		return err
	})
	return verbStatus(stderr, err, undone)
}

// list prints the dead letters.
func (f *deadLettersFlags) list(ctx context.Context, service admin.Service, stdout io.Writer) error {
	all, err := allPages(func(offset int) ([]admin.DeadLetter, error) {
		return service.DeadLetters(ctx, f.account, offset, admin.MaxPage)
	})
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(stdout, map[string]any{"dead_letters": all})
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(stdout, "There are no dead letters.")
		return err
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tACCOUNT\tCHAT\tWAY\tKIND\tREASON\tTRIES\tAGE\tSIZE\tRETRY")
	now := time.Now()
	for _, l := range all {
		reason, retry := l.Reason, "yes"
		if l.Code != 0 {
			reason += " (" + strconv.Itoa(l.Code) + ")"
		}
		if !l.Retryable {
			retry = "no"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%d B\t%s\n",
			l.ID, l.Account, l.Chat, l.Direction, l.Kind, reason, l.Tries, ageWords(now.Sub(l.At)), l.Bytes, retry)
	}
	return table.Flush()
}

// ageWords writes an age for people.
func ageWords(age time.Duration) string {
	switch {
	case age < time.Minute:
		return strconv.Itoa(max(0, int(age.Seconds()))) + "s"
	case age < time.Hour:
		return strconv.Itoa(int(age.Minutes())) + "m"
	case age < 48*time.Hour:
		return strconv.Itoa(int(age.Hours())) + "h"
	}
	return strconv.Itoa(int(age.Hours())/24) + "d"
}

// change retries or drops, and says of how many ids it could not.
func (f *deadLettersFlags) change(ctx context.Context, service admin.Service, stdout, stderr io.Writer) (undone int, err error) {
	do := service.RetryDeadLetters
	if f.verb == "drop" {
		do = service.DropDeadLetters
	}
	results := []admin.Result{}
	for ids := range slices.Chunk(f.ids, admin.MaxIDs) {
		var some []admin.Result
		if some, err = do(ctx, ids); err != nil && len(results)+len(some) == 0 {
			return 0, err
		}
		if results = append(results, some...); err != nil {
			for _, id := range f.ids[len(results):] {
				results = append(results, admin.Result{ID: id, Outcome: admin.Untried})
			}
			if errors.Is(err, admin.ErrNobody) { // to ask the database instead would begin again
				err = errors.New("the bridge has stopped meanwhile: give the command again for what was not tried")
			}
			break
		}
	}
	for _, result := range results {
		words, good := outcomeWords(f.verb, result.Outcome)
		to := stdout
		if !good {
			undone++
			to = stderr
		}
		if !f.json {
			fmt.Fprintf(to, "%s: %s\n", result.ID, words)
		}
	}
	if f.json {
		return undone, errors.Join(err, printJSON(stdout, map[string]any{"results": results}))
	}
	return undone, err
}

// outcomeWords says what became of an id, and whether that is what was asked for.
func outcomeWords(verb string, outcome admin.Outcome) (words string, good bool) {
	switch outcome {
	case admin.Retried:
		return "is put into its room again, marked as late", true
	case admin.Waiting:
		if verb == "drop" {
			return "is not dropped: it is waiting to be put into its room again", false
		}
		return "is waiting to be put into its room already", true
	case admin.Dropped:
		return "is dropped", true
	case admin.Final:
		return "is not retried: it is a message of your user's that failed. They were told, and can send it again themselves", false
	case admin.Damaged:
		return "is not retried: it cannot be read from disk", false
	case admin.Unknown:
		return "there is no dead letter of this id", false
	case admin.Failed:
		return "failed, and may have been done all the same: see the list", false
	case admin.Untried:
		return "was not tried, since something failed before", false
	}
	return "the bridge says: " + string(outcome), false
}

func printJSON(to io.Writer, value any) error {
	encoder := json.NewEncoder(to)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
