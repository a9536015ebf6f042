package connector

import (
	"errors"
	"strings"

	"maunium.net/go/mautrix/bridgev2/commands"

	"postern/connector/admin"
	"postern/connector/words"
)

// adminPage is how many users one answer of the bot lists.
const adminPage = 50

// adminCommand is everything that `postern admin` does, for administrators in Matrix.
func adminCommand(help words.Words) *commands.FullHandler {
	return &commands.FullHandler{
		Func: orderedInMatrix, Name: "admin", RequiresAdmin: true,
		Help: commands.HelpMeta{Section: commands.HelpSectionAdmin, Description: help.Text("help.admin"), Args: help.Text("help.admin.args")},
	}
}

// ownCommands are the actions that have commands of their own.
var ownCommands = map[string]func(ce *commands.Event){
	"suspend": suspend, "unsuspend": unsuspend, "suspended": listSuspended, "dead-letters": deadLetters, "reports": operatorsReports,
	"move": sayHowToMove,
}

func orderedInMatrix(ce *commands.Event) {
	c, ok := ce.Bridge.Network.(*Connector)
	if !ok {
		return
	}
	if len(ce.Args) > 0 {
		if own := ownCommands[strings.ToLower(ce.Args[0])]; own != nil {
			ce.Args = ce.Args[1:]
			own(ce)
			return
		}
	}
	w := speakTo(ce)
	order, err := admin.ParseOrder(ce.Args)
	var answer *admin.Answer
	if err == nil {
		order.Limit = adminPage
		answer, err = c.admin.Do(ce.Ctx, order)
	}
	if err != nil {
		c.refuseOrder(ce, w, err)
		return
	}
	sayPlain(ce, orderText(w, &order, answer))
}

// sayHowToMove says where a user is moved to another instance: not from here, since no instance that is concerned may run.
func sayHowToMove(ce *commands.Event) { sayPlain(ce, speakTo(ce).Text("admin.move")) }

// sayPlain answers with text that is no Markdown, since names and reasons are in it.
func sayPlain(ce *commands.Event, text string) { ce.ReplyAdvanced(text, false, false) }

// refuseOrder says why an order was not carried out.
func (c *Connector) refuseOrder(ce *commands.Event, w words.Words, err error) {
	var wrong *admin.WrongOrder
	switch {
	case errors.As(err, &wrong):
		text := wrongOrderText(w, err, c.bridge.Config.CommandPrefix+" admin")
		if wrong.Kind == admin.WrongNoAction || wrong.Kind == admin.WrongAction {
			for _, a := range describeActions(w) {
				text += "\n" + strings.TrimSpace("  "+a.Name+" "+a.Args) + " – " + a.Text
			}
		}
		sayPlain(ce, text)
	case errors.Is(err, admin.ErrNotReady):
		sayPlain(ce, w.Text("admin.not-ready"))
	default:
		ce.Log.Err(err).Msg("Could not do what the operator has ordered")
		reply(ce, "error.bridge")
	}
}

// someIDs takes the verb and the ids out of a command such as "dead-letters drop abc def". ok is false if that was answered.
func someIDs(ce *commands.Event, usage string, verbs ...string) (verb string, ids []string, ok bool) {
	if len(ce.Args) == 0 {
		return "list", nil, true
	}
	verb, ids = strings.ToLower(ce.Args[0]), ce.Args[1:]
	ok = verb == "list" && len(ids) == 0
	for _, known := range verbs {
		ok = ok || verb == known && len(ids) > 0 && len(ids) <= admin.MaxIDs
	}
	for _, one := range ids {
		ok = ok && admin.ValidID(one)
	}
	if !ok {
		reply(ce, usage)
	}
	return verb, ids, ok
}

// deadLetters lists what was given up, and has it tried again or forgotten.
func deadLetters(ce *commands.Event) {
	c, _ := ce.Bridge.Network.(*Connector)
	verb, ids, ok := someIDs(ce, "admin.letters.usage", "retry", "drop")
	if !ok || c == nil {
		return
	}
	w := speakTo(ce)
	if verb != "list" {
		do := c.admin.RetryDeadLetters
		if verb == "drop" {
			do = c.admin.DropDeadLetters
		}
		results, err := do(ce.Ctx, ids)
		c.sayResults(ce, w, verb, results, err)
		return
	}
	list, err := c.admin.DeadLetters(ce.Ctx, "", 0, adminPage)
	if err != nil {
		c.refuseOrder(ce, w, err)
		return
	}
	lines := []string{}
	for _, l := range list {
		way := w.Text("admin.letters.in")
		if l.Direction == admin.Outgoing {
			way = w.Text("admin.letters.out")
		}
		lines = append(lines, w.Text("admin.letters.one", "id", l.ID, "account", l.Account, "way", way, "kind", l.Kind, "reason", l.Reason,
			"at", momentWords(w, l.At.UnixMilli())))
	}
	switch {
	case len(lines) == 0:
		lines = []string{w.Text("admin.letters.none")}
	case len(lines) == adminPage:
		lines = append(lines, w.Text("admin.letters.more", "n", adminPage))
	}
	sayPlain(ce, strings.Join(lines, "\n"))
}

// operatorsReports lists reports and closes them. What they say is not said in a room, since the homeserver would keep it.
func operatorsReports(ce *commands.Event) {
	c, _ := ce.Bridge.Network.(*Connector)
	verb, ids, ok := someIDs(ce, "admin.reports.usage", "close")
	if !ok || c == nil {
		return
	}
	w := speakTo(ce)
	if verb != "list" {
		results, err := c.admin.CloseReports(ce.Ctx, ids)
		c.sayResults(ce, w, verb, results, err)
		return
	}
	list, err := c.admin.Reports(ce.Ctx, false, 0, adminPage)
	if err != nil {
		c.refuseOrder(ce, w, err)
		return
	}
	lines := []string{}
	for _, r := range list {
		lines = append(lines, w.Text("admin.reports.one", "id", r.ID, "account", r.Account, "at", momentWords(w, r.At.UnixMilli()), "same", r.Same))
	}
	if len(lines) == 0 {
		lines = []string{w.Text("admin.reports.none")}
	}
	sayPlain(ce, strings.Join(lines, "\n"))
}

// sayResults says what became of each id.
func (c *Connector) sayResults(ce *commands.Event, w words.Words, action string, results []admin.Result, err error) {
	if err != nil && len(results) == 0 {
		c.refuseOrder(ce, w, err)
		return
	}
	lines := []string{}
	for _, r := range results {
		lines = append(lines, w.Text("admin.result", "account", r.ID, "text", outcomeText(w, action, r.Outcome)))
	}
	sayPlain(ce, strings.Join(lines, "\n"))
	if err != nil {
		c.refuseOrder(ce, w, err)
	}
}
