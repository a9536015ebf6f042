package connector

import (
	"context"
	"strings"
	"time"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/commands"
	"maunium.net/go/mautrix/format"
	"maunium.net/go/mautrix/id"

	"postern/connector/interop"
	"postern/connector/words"
	"postern/database"
)

// statusCommand tells a person how each of their logins is doing.
func statusCommand(help words.Words) *commands.FullHandler {
	return &commands.FullHandler{
		Func: sayStatus, Name: "status",
		Help: commands.HelpMeta{Section: commands.HelpSectionGeneral, Description: help.Text("help.status")},
	}
}

func sayStatus(ce *commands.Event) {
	logins := ce.User.GetUserLogins()
	if len(logins) == 0 {
		reply(ce, "error.not-logged-in")
		return
	}
	w := speakTo(ce)
	said := make([]string, len(logins))
	for i, login := range logins {
		var err error
		if said[i], err = statusOf(ce.Ctx, w, login); err != nil {
			ce.Log.Err(err).Msg("Could not sum a login up")
			reply(ce, "error.bridge")
			return
		}
	}
	if c, ok := ce.Bridge.Network.(*Connector); ok {
		brakes, err := c.brakeWords(ce.Ctx, w, ce.User.MXID)
		if err != nil {
			ce.Log.Err(err).Msg("Could not say what brakes leave")
			reply(ce, "error.bridge")
			return
		}
		said = append(said, brakes)
	}
	ce.ReplyAdvanced(strings.Join(said, "\n\n"), true, false)
}

// brakeWords says what a user may still do, and what waits for them to slow down.
func (c *Connector) brakeWords(ctx context.Context, w words.Words, user id.UserID) (string, error) {
	chats, lookups, err := c.brakes.left(ctx, user)
	if err != nil {
		return "", err
	}
	text := w.Text("status.brakes", "chats", chats, "lookups", lookups)
	if until := c.brakes.slowed(user); !until.IsZero() {
		text += " " + w.Text("status.slowed", "n", c.Config.Brakes.User.Messages)
	}
	return text, nil
}

// statusOf says how a login is doing, in Markdown.
func statusOf(ctx context.Context, w words.Words, login *bridgev2.UserLogin) (string, error) {
	var lines []string
	switch c := login.Client.(type) {
	case *client:
		if one := c.connector.suspended.of(login.UserMXID); one != nil {
			lines = append(lines, w.Text("status.login", "gatekeeper", c.profile.DisplayName, "identifier", format.EscapeMarkdown(c.current().Identifier)),
				format.EscapeMarkdown(c.connector.suspended.notice(w, one)))
			break
		}
		sum, err := c.connector.db.Accounts().Summary(ctx, string(login.ID))
		if err != nil {
			return "", err
		}
		lines = append(lines, w.Text("status.login", "gatekeeper", c.profile.DisplayName, "identifier", format.EscapeMarkdown(c.current().Identifier)))
		lines = append(lines, statusLines(w, c.profile.DisplayName, c.now(), c.account.Report(), sum, &c.connector.Config, time.Now())...)
	case *brokenClient:
		key := "state.no-account"
		switch {
		case c.leaving:
			key = "state.leaving"
		case c.off:
			key = "state.gatekeeper-off"
		}
		lines = []string{w.Text("status.login-broken", "login", format.EscapeMarkdown(string(login.ID))), w.Text(key)}
	default:
		lines = []string{w.Text("error.login-unusable")}
	}
	return strings.Join(lines, "\n* "), nil
}

// statusLines says what is known of an account.
func statusLines(
	w words.Words, gatekeeper string, state interop.ConnState, report interop.Report, sum database.Summary, cfg *Config, now time.Time,
) []string {
	lines := []string{connectionWords(w, gatekeeper, state, report)}
	if cfg.Connect == connectAttached {
		lines = append(lines, w.Text("status.attached", "gatekeeper", gatekeeper, "idle", cfg.Attached.idle))
	} else {
		lines = append(lines, w.Text("status.always"))
	}
	lines = append(lines,
		w.Text("status.last", "received", momentWords(w, sum.LastIn), "sent", momentWords(w, sum.LastOut)),
		w.Text("status.queues", "matrix", sum.WaitingIn, "gatekeeper", gatekeeper, "out", sum.WaitingOut))
	if report.PreKeys >= 0 {
		lines = append(lines, w.Text("status.prekeys", "gatekeeper", gatekeeper, "n", report.PreKeys))
	}
	last := time.UnixMilli(sum.LastConnected)
	if report.LastLive.After(last) {
		last = report.LastLive
	}
	if sum.LastConnected == 0 && report.LastLive.IsZero() {
		return lines
	}
	if now.After(last.Add(forgetsAfter)) {
		return append(lines, w.Text("status.lapsed", "gatekeeper", gatekeeper))
	}
	return append(lines, w.Text("status.expiry", "gatekeeper", gatekeeper, "day", last.Add(forgetsAfter).UTC().Format(time.DateOnly)))
}

// connectionWords says what the stream is doing.
func connectionWords(w words.Words, gatekeeper string, state interop.ConnState, report interop.Report) string {
	switch {
	case report.Live && (state.Kind == interop.ConnLive || state.Kind == interop.ConnConnecting):
		return w.Text("status.connected", "since", momentWords(w, report.Since.UnixMilli()))
	case state.Kind == interop.ConnIdle:
		return w.Text("status.resting", "gatekeeper", gatekeeper)
	}
	told, _ := bridgeState(state)
	if told.Error == "" {
		return w.Text("status.connecting")
	}
	text := w.Text("state." + strings.TrimPrefix(string(told.Error), "postern-"))
	if state.Until.IsZero() {
		return text
	}
	return text + " " + w.Text("status.next", "when", momentWords(w, state.Until.UnixMilli()))
}

// momentWords is a moment, in Unix milliseconds, as people read it.
func momentWords(w words.Words, ms int64) string {
	if ms == 0 {
		return w.Text("status.never")
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04 UTC")
}
