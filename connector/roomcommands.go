package connector

import (
	"maunium.net/go/mautrix/bridgev2/commands"
	"maunium.net/go/mautrix/format"

	"postern/connector/words"
)

// roomCommands take the place of the framework's set-management-room, set-preferred-login and delete-portal.
func roomCommands() []commands.CommandHandler {
	home, prefer, remove := *commands.CommandSetManagementRoom, *commands.CommandSetPreferredLogin, *commands.CommandDeletePortal
	home.Func, prefer.Func, remove.Func = makeHome, preferLogin, removeChatRoom
	return []commands.CommandHandler{&home, &prefer, &remove}
}

// versionCommand says which version of the bridge this is.
func versionCommand(version, built string) *commands.FullHandler {
	return &commands.FullHandler{
		Name: "version", Func: func(ce *commands.Event) { reply(ce, "version.is", "version", version, "built", built) },
		Help: commands.HelpMeta{Section: commands.HelpSectionGeneral},
	}
}

// makeHome makes the room the one for commands and news of whoever types it, if nobody else reads there.
func makeHome(ce *commands.Event) {
	switch {
	case ce.User.ManagementRoom == ce.RoomID:
		reply(ce, "home.already")
		return
	case ce.Portal != nil:
		reply(ce, "home.is-chat")
		return
	}
	members, err := ce.Bridge.Matrix.GetMembers(ce.Ctx, ce.RoomID)
	if err != nil {
		ce.Log.Err(err).Msg("Could not ask who is in a room")
		reply(ce, "error.bridge")
		return
	}
	bot := false
	for who, m := range members {
		switch {
		case !m.Membership.IsInviteOrJoin():
		case who == ce.Bot.GetMXID():
			bot = true
		case who != ce.User.MXID:
			reply(ce, "home.not-alone")
			return
		}
	}
	if !bot {
		reply(ce, "home.not-alone")
		return
	}
	before := ce.User.ManagementRoom
	ce.User.ManagementRoom = ce.RoomID
	if err := ce.User.Save(ce.Ctx); err != nil {
		ce.User.ManagementRoom = before
		ce.Log.Err(err).Msg("Could not store a room for commands and news")
		reply(ce, "error.bridge")
		return
	}
	reply(ce, "home.done")
}

// preferLogin has one of several logins write in the chat's room.
func preferLogin(ce *commands.Event) {
	login, rest := namedLogin(ce, ce.Args)
	if login == nil || len(rest) > 0 {
		reply(ce, "prefer.usage", "logins", loginLines(ce))
		return
	}
	if err := login.MarkAsPreferredIn(ce.Ctx, ce.Portal); err != nil {
		ce.Log.Err(err).Msg("Could not store a preferred login")
		reply(ce, "error.bridge")
		return
	}
	reply(ce, "prefer.done", "login", words.Markdown(format.EscapeMarkdown(login.RemoteName)))
}

// removeChatRoom deletes the room of a chat, for an administrator.
func removeChatRoom(ce *commands.Event) {
	room := ce.Portal.MXID
	err := ce.Portal.Delete(ce.Ctx)
	if err == nil {
		err = ce.Bot.DeleteRoom(ce.Ctx, room, false)
	}
	if err != nil {
		ce.Log.Err(err).Msg("Could not delete the room of a chat")
		reply(ce, "error.bridge")
	}
	ce.MessageStatus.DisableMSS = true
}
