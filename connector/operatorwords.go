package connector

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"postern/connector/admin"
	"postern/connector/words"
)

// DescribedAction is what help says of one of admin.Actions.
type DescribedAction struct{ Name, Args, Text string }

// DescribeActions lists what the operator may order, in English, for the program's own help.
func DescribeActions() []DescribedAction { return describeActions(words.For(words.Default)) }

func describeActions(w words.Words) []DescribedAction {
	list := make([]DescribedAction, len(admin.Actions))
	for i, a := range admin.Actions {
		list[i] = DescribedAction{a.Name, a.Args, w.Text("admin.help." + a.Name)}
	}
	return list
}

// OrderText says in English what has come of an order, for the program's own commands.
func OrderText(o *admin.Order, a *admin.Answer) string {
	return orderText(words.For(words.Default), o, a)
}

// WrongOrderText says in English what is wrong with an order; prefix is what stands before an action. "" for an error of another kind.
func WrongOrderText(err error, prefix string) string {
	return wrongOrderText(words.For(words.Default), err, prefix)
}

func wrongOrderText(w words.Words, err error, prefix string) string {
	var wrong *admin.WrongOrder
	if !errors.As(err, &wrong) {
		return ""
	}
	usage := prefix
	if a := admin.ActionNamed(wrong.Action); a != nil {
		usage = strings.TrimSpace(prefix + " " + a.Name + " " + a.Args)
	}
	return w.Text("admin.wrong."+wrong.Kind, "action", wrong.Action, "word", wrong.Word, "usage", usage, "n", admin.MaxReason,
		"components", strings.Join(admin.Components, ", "))
}

// orderText says what has come of an order, in plain text.
func orderText(w words.Words, o *admin.Order, a *admin.Answer) string {
	var lines []string
	switch {
	case a.Keys != nil, a.Log != nil, a.Media != nil, a.Purged != nil, a.Maintenance != nil:
		lines = bridgeText(w, a)
	case a.Users != nil && o.Action == "user":
		for i := range a.Users {
			lines = append(lines, userText(w, &a.Users[i]))
		}
		if len(lines) == 0 {
			lines = append(lines, w.Text("admin.nobody"))
		}
	case a.Users != nil:
		for i := range a.Users {
			u := &a.Users[i]
			lines = append(lines, w.Text("admin.user.short", "user", u.User, "account", u.Account, "gatekeeper", gatekeeperName(u.Gatekeeper), "state", u.State,
				"in", u.ToMatrix, "out", u.ToGatekeeper, "letters", u.Letters))
		}
		if len(lines) == 0 {
			lines = append(lines, w.Text("admin.user.none"))
		}
		if a.More {
			lines = append(lines, w.Text("admin.user.more", "after", o.Offset+len(a.Users)))
		}
	case a.Results != nil:
		for _, r := range a.Results {
			lines = append(lines, w.Text("admin.result", "account", r.ID, "text", outcomeText(w, o.Action, r.Outcome)))
		}
		if len(lines) == 0 {
			lines = append(lines, w.Text("admin.nobody"))
		}
	}
	return strings.Join(lines, "\n")
}

// outcomeText says what became of one account, in the words of the action if it has some.
func outcomeText(w words.Words, action string, outcome admin.Outcome) string {
	if key := "admin.outcome." + action + "." + string(outcome); w.Has(key) {
		return w.Text(key)
	}
	if key := "admin.outcome." + string(outcome); w.Has(key) {
		return w.Text(key)
	}
	return string(outcome)
}

// userText says all that is known of a login.
func userText(w words.Words, u *admin.User) string {
	never := w.Text("status.never")
	when := func(t time.Time) string {
		if t.IsZero() {
			return never
		}
		return t.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	state := u.State
	switch {
	case !u.Since.IsZero():
		state = w.Text("admin.user.since", "state", u.State, "since", when(u.Since))
	case !u.Until.IsZero():
		state = w.Text("admin.user.until", "state", u.State, "until", when(u.Until))
	}
	lines := []string{
		w.Text("admin.user.head", "user", u.User, "account", u.Account, "gatekeeper", gatekeeperName(u.Gatekeeper)),
		w.Text("admin.user.state", "state", state, "connected", when(u.Connected), "expires", when(u.Expires)),
		w.Text("admin.user.messages", "received", when(u.Received), "sent", when(u.Sent)),
		w.Text("admin.user.queues", "in", u.ToMatrix, "out", u.ToGatekeeper, "withheld", u.Withheld, "letters", u.Letters),
		w.Text("admin.user.account", "consented", when(u.Consented), "enlisted", when(u.Enlisted), "again", when(u.Reenlisted)),
		w.Text("admin.user.media", "size", sizeWords(u.MediaBytes)),
	}
	if u.PreKeys != nil {
		lines = append(lines, w.Text("admin.user.prekeys", "n", *u.PreKeys))
	}
	return strings.Join(lines, "\n  ")
}

// bridgeText says what has come of an order about the bridge as a whole.
func bridgeText(w words.Words, a *admin.Answer) (lines []string) {
	when := func(t time.Time) string { return momentWords(w, t.UnixMilli()) }
	switch {
	case a.Keys != nil:
		lines = append(lines, w.Text("admin.key.done"))
		if a.Outcome == admin.TooEarly {
			lines[0] = w.Text("admin.key.too-early", "at", when(a.NotBefore))
		}
		for _, k := range a.Keys {
			if k.State == admin.KeyRetired {
				lines = append(lines, w.Text("admin.key.retired", "id", k.ID, "state", k.State, "until", when(k.Until)))
				continue
			}
			lines = append(lines, w.Text("admin.key.one", "id", k.ID, "state", k.State, "published", when(k.Published)))
		}
	case a.Log != nil:
		lines = append(lines, w.Text("admin.log.now", "level", a.Log.Level, "configured", a.Log.Configured))
		for _, component := range slices.Sorted(maps.Keys(a.Log.Components)) {
			lines = append(lines, w.Text("admin.log.component", "component", component, "level", a.Log.Components[component]))
		}
		lines = append(lines, w.Text("admin.log.components", "list", strings.Join(admin.Components, ", ")))
	case a.Media != nil:
		use := &a.Media.All
		lines = append(lines, w.Text("admin.media.all", "waiting", countText(w, use.Waiting), "fetched", countText(w, use.Fetched), "expired", countText(w, use.Expired)))
		for i := range a.Media.Users {
			u := &a.Media.Users[i]
			name := u.User
			if name == "" {
				name = w.Text("admin.media.gone")
			}
			lines = append(lines, w.Text("admin.media.one", "account", u.Account, "user", name, "waiting", countText(w, u.Use.Waiting),
				"fetched", countText(w, u.Use.Fetched), "expired", countText(w, u.Use.Expired)))
		}
		if a.More {
			lines = append(lines, w.Text("admin.media.more", "n", len(a.Media.Users)))
		}
	case a.Maintenance != nil:
		m := a.Maintenance
		if !m.On {
			return append(lines, w.Text("admin.maintenance.off", "n", m.Streams))
		}
		lines = append(lines, w.Text("admin.maintenance.on", "since", when(m.Since), "n", m.Streams))
		if m.Reason != "" {
			lines = append(lines, w.Text("maintenance.reason", "reason", m.Reason))
		}
	case a.Outcome == admin.Failed:
		lines = append(lines, w.Text("admin.media.halfway", "count", countText(w, *a.Purged)))
	default:
		lines = append(lines, w.Text("admin.media.purged", "count", countText(w, *a.Purged)))
	}
	return lines
}

func countText(w words.Words, c admin.MediaCount) string {
	return w.Text("admin.media.count", "n", c.Files, "size", sizeWords(c.Bytes))
}
