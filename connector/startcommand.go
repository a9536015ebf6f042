package connector

import (
	"context"
	"errors"
	"strings"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/commands"
	"maunium.net/go/mautrix/bridgev2/networkid"
	"maunium.net/go/mautrix/bridgev2/provisionutil"
	"maunium.net/go/mautrix/format"
	"maunium.net/go/mautrix/id"
)

// madeKey is the context's key for a *bool that becomes true when a room is made under that context.
type madeKey struct{}

// startChatCommand is the framework's start-chat with an answer of ours. The framework asks whether the chat has a room after we have made it,
// which has to be so since the notice on encryption comes first, and would call every chat an old one.
func startChatCommand() *commands.FullHandler {
	command := *commands.CommandStartChat
	command.Func = startChat
	command.Help.Description = "Start a chat with a phone number in international form, and give it a name if you like"
	command.Help.Args = "[_login ID_] <_number_> [_name_]"
	return &command
}

func startChat(ce *commands.Event) {
	if len(ce.Args) == 0 {
		ce.Reply("Usage: `$cmdprefix %s +49… [name]`", ce.Command)
		return
	}
	logins, args := ce.User.GetUserLogins(), ce.Args
	if named := ce.Bridge.GetCachedUserLoginByID(networkid.UserLoginID(args[0])); named != nil && named.UserMXID == ce.User.MXID {
		logins, args = []*bridgev2.UserLogin{named}, args[1:]
	} else if first := ce.User.GetDefaultLogin(); first != nil {
		logins = append([]*bridgev2.UserLogin{first}, logins...)
	}
	made := false
	ctx := context.WithValue(ce.Ctx, madeKey{}, &made)
	var found *provisionutil.RespResolveIdentifier
	err := bridgev2.ErrResolveIdentifierTryNext
	for i := 0; i < len(logins) && errors.Is(err, bridgev2.ErrResolveIdentifierTryNext); i++ {
		found, err = provisionutil.ResolveIdentifier(ctx, logins[i], strings.Join(args, " "), true)
	}
	switch {
	case errors.Is(err, bridgev2.ErrResolveIdentifierTryNext):
		ce.Reply("No chat was started: you have no chat with this person yet. Use the phone number.")
	case err != nil:
		ce.Reply("No chat was started: %s.", format.EscapeMarkdown(err.Error()))
	case found == nil || found.Portal == nil:
		ce.Reply("No chat was started: nobody was found.")
	default:
		ce.Reply("%s", startedWords(made || found.JustCreated, found.Name, found.Portal.Name, found.MXID, found.Portal.MXID))
	}
}

// startedWords answers with the room, in Markdown; names come from other people and are escaped.
func startedWords(made bool, person, title string, ghost id.UserID, room id.RoomID) string {
	whom, where := format.MarkdownMentionWithName(person, ghost), format.MarkdownMentionRoomID(title, room)
	if made {
		return "Created a chat with " + whom + ": " + where
	}
	return "You already have a chat with " + whom + ": " + where
}
