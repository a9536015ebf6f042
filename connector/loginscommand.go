package connector

import (
	"slices"
	"strings"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/commands"
	"maunium.net/go/mautrix/format"

	"postern/connector/words"
)

// listLoginsCommand takes the place of the framework's, which does not say at which gatekeeper a login is.
func listLoginsCommand(help words.Words) *commands.FullHandler {
	return &commands.FullHandler{
		Name: "list-logins", RequiresLoginPermission: true,
		Func: func(ce *commands.Event) {
			if len(ce.User.GetUserLogins()) == 0 {
				reply(ce, "error.not-logged-in")
				return
			}
			reply(ce, "logins.list", "logins", loginLines(ce))
		},
		Help: commands.HelpMeta{Section: commands.HelpSectionAuth, Description: help.Text("help.list-logins")},
	}
}

// loginLines are the logins of whoever typed a command, one a line, in Markdown.
func loginLines(ce *commands.Event) words.Markdown {
	w, logins := speakTo(ce), ce.User.GetUserLogins()
	slices.SortFunc(logins, func(a, b *bridgev2.UserLogin) int { return strings.Compare(string(a.ID), string(b.ID)) })
	var lines []string
	for _, login := range logins {
		gatekeeper := ""
		if meta, ok := login.Metadata.(*LoginMetadata); ok {
			gatekeeper = gatekeeperName(meta.Gatekeeper)
		}
		lines = append(lines, "* "+w.Text("logins.line", "login", string(login.ID), "identifier", format.EscapeMarkdown(login.RemoteName), "gatekeeper", gatekeeper))
	}
	return words.Markdown(strings.Join(lines, "\n"))
}
