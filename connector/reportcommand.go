package connector

import (
	"errors"
	"strings"
	"unicode/utf8"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/commands"

	"postern/connector/words"
	"postern/database"
)

// reportCommand reports somebody to whoever runs the bridge.
func reportCommand(help words.Words) *commands.FullHandler {
	return &commands.FullHandler{
		Func: report, Name: "report", RequiresLogin: true,
		Help: commands.HelpMeta{
			Section: commands.HelpSectionChats, Description: help.Text("help.report"), Args: help.Text("help.report.args"),
		},
	}
}

func report(ce *commands.Event) {
	who, reason, ok := reported(ce)
	if !ok {
		return
	}
	c := who.client
	if utf8.RuneCountInString(reason) > maxReason {
		reply(ce, "report.too-long", "n", maxReason)
		return
	}
	var quote *reportQuote
	if ce.Portal != nil && ce.ReplyTo != "" {
		var err error
		if quote, err = c.cited(ce.Ctx, who, ce.ReplyTo); errors.Is(err, errNotTheirs) {
			reply(ce, "report.not-theirs")
			return
		} else if err != nil {
			c.log.Err(err).Msg("Could not look for what a report points at")
			reply(ce, "error.bridge")
			return
		}
	}
	stored, err := c.report(ce.Ctx, who, ce.EventID, reason, quote)
	switch {
	case errors.Is(err, database.ErrTooManyReports):
		reply(ce, "report.too-many", "n", c.connector.Config.Reports.PerDay, "contact", c.connector.contact(speakTo(ce)))
	case err != nil:
		c.log.Err(err).Msg("Could not store a report")
		reply(ce, "error.bridge")
	default:
		reply(ce, "report.done", "name", who.name, "id", words.Markdown(stored), "operator", c.connector.operator(speakTo(ce)),
			"gatekeeper", c.profile.DisplayName, "days", int(reportKept.Hours()/24), "closed", int(reportClosed.Hours()/24),
			"what", words.Markdown(whatIsStored(speakTo(ce), reason, quote)))
	}
}

// whatIsStored says what a report has beside who and when.
func whatIsStored(w words.Words, reason string, quote *reportQuote) string {
	with := []string{w.Text("report.with-nothing")}
	if reason != "" {
		with[0] = w.Text("report.with-reason")
	}
	switch {
	case quote == nil:
		with = append(with, w.Text("report.without-message"))
	case quote.Missing:
		with = append(with, w.Text("report.with-message-only"))
	default:
		with = append(with, w.Text("report.with-message"))
	}
	return strings.Join(with, " ")
}

// reported finds whom a report is about, and why: in a chat's room the other side, and all words are the reason; elsewhere the first words
// say who it is. If it is not clear that has been said, and ok is false.
func reported(ce *commands.Event) (who counterpart, reason string, ok bool) {
	if ce.Portal != nil {
		here := *ce
		here.Args = nil
		who, ok = meant(&here, "report.usage")
		return who, strings.TrimSpace(behindCommand(ce)), ok
	}
	named, args := namedLogin(ce, ce.Args)
	logins := ce.User.GetUserLogins()
	if named != nil {
		logins = []*bridgev2.UserLogin{named}
	}
	for _, split := range reportSplits(args) {
		var all []counterpart
		for _, login := range logins {
			c, usable := login.Client.(*client)
			if !usable {
				continue
			}
			some, err := c.people(ce.Ctx, split.who)
			if !found(ce, err) {
				return who, "", false
			}
			all = append(all, some...)
		}
		switch len(all) {
		case 0:
		case 1:
			return all[0], split.reason, true
		default:
			reply(ce, "block.several", "n", len(all))
			return who, "", false
		}
	}
	if len(args) == 0 {
		reply(ce, "report.usage")
	} else {
		reply(ce, "block.nobody")
	}
	return who, "", false
}

// behindCommand is what stands behind the command, as it was written. The framework leaves the command itself in it unless it was typed in
// small letters.
func behindCommand(ce *commands.Event) string {
	if words := strings.Fields(ce.RawArgs); len(words) > len(ce.Args) {
		return strings.TrimLeft(ce.RawArgs, " ")[len(words[0]):]
	}
	return ce.RawArgs
}

// reportSplit is one way to read the words of a report.
type reportSplit struct{ who, reason string }

// maxNameWords is how many words a name may have that a report begins with.
const maxNameWords = 8

// reportSplits are the ways to read the words of a report: whom it is about and then, behind it, the reason. A number ends where no number
// can go on, a name is the longest that somebody has.
func reportSplits(args []string) (splits []reportSplit) {
	all := strings.Join(args, " ")
	if strings.HasPrefix(all, "+") {
		end := strings.IndexFunc(all, func(r rune) bool { return !strings.ContainsRune(numberRunes, r) })
		if end < 0 {
			end = len(all)
		}
		return []reportSplit{{strings.TrimSpace(all[:end]), reasonWords(all[end:])}}
	}
	for n := min(len(args), maxNameWords); n > 0; n-- {
		who := strings.Join(args[:n], " ")
		if bare := strings.TrimRight(who, ":,"); bare != "" {
			who = bare
		}
		splits = append(splits, reportSplit{who, reasonWords(strings.Join(args[n:], " "))})
	}
	return splits
}

// numberRunes are what a phone number may be written with.
const numberRunes = "+0123456789 ()-./\u00a0"

// reasonWords is a reason without what parts it from a name.
func reasonWords(text string) string { return strings.TrimSpace(strings.TrimLeft(text, " :,–-")) }
