package connector

import (
	"context"
	"errors"
	"strings"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/commands"
	"maunium.net/go/mautrix/bridgev2/provisionutil"
	"maunium.net/go/mautrix/format"
	"maunium.net/go/mautrix/id"

	"postern/connector/words"
)

// madeKey is the context's key for a *bool that becomes true when a room is made under that context.
type madeKey struct{}

// startChatCommand is the framework's start-chat with an answer of ours. The framework asks whether the chat has a room after we have made it,
// which has to be so since the notice on encryption comes first, and would call every chat an old one.
func startChatCommand(help words.Words) *commands.FullHandler {
	command := *commands.CommandStartChat
	command.Func = startChat
	command.Help.Description = help.Text("help.start-chat")
	command.Help.Args = help.Text("help.start-chat.args")
	return &command
}

func startChat(ce *commands.Event) {
	if len(ce.Args) == 0 {
		reply(ce, "start-chat.usage")
		return
	}
	named, args := namedLogin(ce, ce.Args)
	logins := ce.User.GetUserLogins()
	if named != nil {
		logins = []*bridgev2.UserLogin{named}
	} else if first := ce.User.GetDefaultLogin(); first != nil {
		logins = append([]*bridgev2.UserLogin{first}, logins...)
	}
	made, news := false, startNews{}
	ctx := context.WithValue(context.WithValue(ce.Ctx, madeKey{}, &made), newsKey{}, &news)
	ctx = zerolog.Ctx(ctx).Hook(toldOnly{}).WithContext(ctx)
	var found *provisionutil.RespResolveIdentifier
	err := bridgev2.ErrResolveIdentifierTryNext
	for i := 0; i < len(logins) && errors.Is(err, bridgev2.ErrResolveIdentifierTryNext); i++ {
		found, err = provisionutil.ResolveIdentifier(ctx, logins[i], strings.Join(args, " "), true)
	}
	switch {
	case errors.Is(err, bridgev2.ErrResolveIdentifierTryNext):
		reply(ce, "start-chat.nobody-yet")
	case err != nil:
		reply(ce, "start-chat.failed", "why", toldWords(err))
	case found == nil || found.Portal == nil:
		reply(ce, "start-chat.not-found")
	default:
		person, room := startedLinks(found.Name, found.Portal.Name, found.MXID, found.Portal.MXID)
		reached := words.Markdown("")
		if by := ce.Bridge.GetCachedUserLoginByID(found.Portal.Receiver); by != nil {
			if c, ok := by.Client.(*client); ok {
				reached = words.Markdown(news.words(speakTo(ce), c))
			}
		}
		if made || found.JustCreated {
			reply(ce, "start-chat.new", "person", person, "room", room, "reached", reached)
		} else {
			reply(ce, "start-chat.old", "person", person, "room", room, "reached", reached)
		}
	}
}

// startedLinks are links to the other person and to the room; names come from other people and are escaped.
func startedLinks(person, title string, ghost id.UserID, room id.RoomID) (whom, where words.Markdown) {
	return words.Markdown(format.MarkdownMentionWithName(person, ghost)), words.Markdown(format.MarkdownMentionRoomID(title, room))
}
