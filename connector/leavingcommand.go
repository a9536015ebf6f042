package connector

import (
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/commands"

	"postern/connector/words"
)

// logoutCommand takes the place of the framework's: what is said to be done is on disk.
func logoutCommand(help words.Words) *commands.FullHandler {
	return &commands.FullHandler{
		Func: logout, Name: "logout", RequiresLogin: true,
		Help: commands.HelpMeta{
			Section: commands.HelpSectionAuth, Description: help.Text("help.logout"), Args: help.Text("help.logout.args"),
		},
	}
}

func logout(ce *commands.Event) {
	c, ok := ce.Bridge.Network.(*Connector)
	if !ok {
		return
	}
	logins := ce.User.GetUserLogins()
	if len(logins) == 0 {
		reply(ce, "error.not-logged-in")
		return
	}
	login := theLogin(ce, logins)
	if login == nil {
		reply(ce, "leaving.which", "logins", loginLines(ce))
		return
	}
	if err := c.leave(ce.Ctx, login, ""); err != nil {
		ce.Log.Err(err).Str("account", string(login.ID)).Msg("Could not store that somebody leaves")
		reply(ce, "leaving.failed")
		return
	}
	identifier := login.RemoteName
	login.Logout(ce.Ctx)
	c.leavings.wake()
	reply(ce, "leaving.begun", "identifier", identifier)
}

// theLogin is the login that a command names, or the only one there is; nil if that is none.
func theLogin(ce *commands.Event, logins []*bridgev2.UserLogin) *bridgev2.UserLogin {
	if len(ce.Args) == 0 && len(logins) == 1 {
		return logins[0]
	}
	login, _ := namedLogin(ce, ce.Args)
	return login
}
