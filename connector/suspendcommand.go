package connector

import (
	"strings"

	"maunium.net/go/mautrix/bridgev2/commands"
	"maunium.net/go/mautrix/format"
	"maunium.net/go/mautrix/id"

	"postern/connector/admin"
	"postern/connector/words"
)

// suspendCommands let the admin suspend users.
func suspendCommands(help words.Words) []commands.CommandHandler {
	section := commands.HelpSectionAdmin
	return []commands.CommandHandler{
		&commands.FullHandler{
			Func: suspend, Name: "suspend", RequiresAdmin: true,
			Help: commands.HelpMeta{Section: section, Description: help.Text("help.suspend"), Args: help.Text("help.suspend.args")},
		},
		&commands.FullHandler{
			Func: unsuspend, Name: "unsuspend", RequiresAdmin: true,
			Help: commands.HelpMeta{Section: section, Description: help.Text("help.unsuspend"), Args: help.Text("help.unsuspend.args")},
		},
		&commands.FullHandler{
			Func: listSuspended, Name: "suspended", RequiresAdmin: true,
			Help: commands.HelpMeta{Section: section, Description: help.Text("help.suspended")},
		},
	}
}

// suspending takes the user out of a command of the admin's.
func suspending(ce *commands.Event, usage string) (c *Connector, user id.UserID, ok bool) {
	if c, ok = ce.Bridge.Network.(*Connector); !ok {
		return nil, "", false
	}
	if len(ce.Args) == 0 {
		reply(ce, usage)
		return nil, "", false
	}
	user = id.UserID(ce.Args[0])
	if _, named := namedInMatrix(ce.Args[0]); named != "" {
		user = named
	}
	if !admin.ValidUser(user.String()) {
		reply(ce, "assign.no-user")
		return nil, "", false
	}
	return c, user, true
}

func suspend(ce *commands.Event) {
	c, user, ok := suspending(ce, "suspend.usage")
	if !ok {
		return
	}
	reason := strings.Join(ce.Args[1:], " ")
	if !admin.ValidReason(reason) {
		reply(ce, "suspend.reason", "n", admin.MaxReason)
		return
	}
	outcome, err := c.admin.Suspend(ce.Ctx, user.String(), reason)
	switch {
	case err != nil:
		ce.Log.Err(err).Msg("Could not suspend somebody")
		reply(ce, "error.bridge")
	case outcome == admin.Done:
		reply(ce, "suspend.done", "user", user)
	case outcome == admin.NoLogin:
		reply(ce, "suspend.no-login", "user", user)
	default:
		reply(ce, "suspend.already", "user", user)
	}
}

func unsuspend(ce *commands.Event) {
	c, user, ok := suspending(ce, "unsuspend.usage")
	if !ok {
		return
	}
	outcome, err := c.admin.Unsuspend(ce.Ctx, user.String())
	switch {
	case err != nil:
		ce.Log.Err(err).Msg("Could not end a suspension")
		reply(ce, "error.bridge")
	case outcome == admin.Done:
		reply(ce, "unsuspend.done", "user", user)
	default:
		reply(ce, "unsuspend.not", "user", user)
	}
}

func listSuspended(ce *commands.Event) {
	c, ok := ce.Bridge.Network.(*Connector)
	if !ok {
		return
	}
	list, err := c.db.Suspensions().All(ce.Ctx)
	if err != nil {
		ce.Log.Err(err).Msg("Could not list who is suspended")
		reply(ce, "error.bridge")
		return
	}
	w, lines := speakTo(ce), []string{}
	for _, one := range list {
		lines = append(lines, "- "+strings.TrimSpace(w.Text("suspended.one", "user", format.EscapeMarkdown(one.MXID), "since", momentWords(w, one.At), "reason", format.EscapeMarkdown(one.Reason))))
	}
	if len(lines) == 0 {
		reply(ce, "suspended.nobody")
		return
	}
	reply(ce, "suspended.list", "list", words.Markdown(strings.Join(lines, "\n")))
}
