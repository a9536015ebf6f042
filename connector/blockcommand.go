package connector

import (
	"context"
	"errors"
	"strings"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/commands"
	"maunium.net/go/mautrix/format"
	"maunium.net/go/mautrix/id"

	"postern/connector/interop"
	"postern/connector/matrixdurable"
	"postern/connector/words"
	"postern/database"
)

// blockCommands block people, end that, and list who is blocked.
func blockCommands(help words.Words) []commands.CommandHandler {
	section := commands.HelpSectionChats
	return []commands.CommandHandler{
		&commands.FullHandler{
			Func: func(ce *commands.Event) { setBlocked(ce, true) }, Name: "block", RequiresLogin: true,
			Help: commands.HelpMeta{Section: section, Description: help.Text("help.block"), Args: help.Text("help.block.args")},
		},
		&commands.FullHandler{
			Func: func(ce *commands.Event) { setBlocked(ce, false) }, Name: "unblock", RequiresLogin: true,
			Help: commands.HelpMeta{Section: section, Description: help.Text("help.unblock"), Args: help.Text("help.unblock.args")},
		},
		&commands.FullHandler{
			Func: listBlocked, Name: "blocked", RequiresLogin: true,
			Help: commands.HelpMeta{Section: section, Description: help.Text("help.blocked")},
		},
	}
}

// setBlocked blocks whom a command names, or ends that.
func setBlocked(ce *commands.Event, blocked bool) {
	who, ok := meant(ce, "block.usage")
	if !ok {
		return
	}
	changed, err := who.client.setBlocked(ce, who, blocked)
	switch {
	case err != nil:
		who.client.log.Err(err).Str("chat", who.chat).Msg("Could not block somebody, or end that")
		reply(ce, "error.bridge")
	case !changed && blocked:
		reply(ce, "block.already", "name", who.name)
	case !changed:
		reply(ce, "block.not-blocked", "name", who.name)
	case who.room == ce.RoomID: // where the notice is
	case blocked:
		reply(ce, "block.done", "name", who.name, "gatekeeper", who.client.profile.DisplayName)
	default:
		reply(ce, "block.ended", "name", who.name, "gatekeeper", who.client.profile.DisplayName)
	}
}

// setBlocked stores what a command wants, together with the notice for the chat's room.
func (c *client) setBlocked(ce *commands.Event, who counterpart, blocked bool) (changed bool, err error) {
	key := "block.notice-ended"
	if blocked {
		key = "block.notice"
	}
	kind := "block " + string(c.login.ID) + " " + who.chat + " " + ce.EventID.String()
	text := c.words().Text(key, "gatekeeper", c.profile.DisplayName, "prefix", ce.Bridge.Config.CommandPrefix)
	changed, err = c.account.SetBlocked(ce.Ctx, who.chat, blocked, func(ctx context.Context) error {
		if who.room == "" {
			return nil
		}
		notice, err := matrixdurable.ReplyNotice(kind, who.room, "", c.login.UserMXID, text)
		if err != nil {
			return err
		}
		return c.connector.stack.Notices.Add(ctx, notice)
	})
	c.connector.stack.Notices.Wake()
	c.ignores.kick()
	return changed, err
}

// errBlocked: the person of the login has blocked the other side of the chat.
var errBlocked = errors.New("connector: send: the other side is blocked")

// mayWrite refuses what goes to somebody who is blocked, or has not accepted that they are written to, or is written by somebody who is suspended.
func (c *client) mayWrite(ctx context.Context, chat string) error {
	if c.connector.suspended.has(c.login.UserMXID) {
		return notAllowed(errSuspended, c.words().Text("refused.suspended", "why", c.connector.suspendedWords(c.words())))
	}
	blocked, err := c.account.Blocked(ctx, chat)
	switch {
	case err != nil:
		return c.again(err)
	case blocked:
		return notAllowed(errBlocked, c.words().Text("refused.blocked", "prefix", c.connector.bridge.Config.CommandPrefix))
	}
	return c.reach.mayWrite(ctx, chat)
}

// listBlocked answers with whom each login has blocked.
func listBlocked(ce *commands.Event) {
	w := speakTo(ce)
	var lines []string
	for _, login := range ce.User.GetUserLogins() {
		c, ok := login.Client.(*client)
		if !ok {
			continue
		}
		list, err := c.account.BlockList(ce.Ctx)
		for i := 0; err == nil && i < len(list); i++ {
			var who counterpart
			if who, err = c.personIn(ce.Ctx, list[i].Chat); err != nil || !list[i].Blocked && !list[i].Pending {
				continue
			}
			key := "blocked.one"
			switch {
			case !list[i].Blocked:
				key = "blocked.ending"
			case list[i].Pending:
				key = "blocked.untold"
			}
			lines = append(lines, "- "+w.Text(key, "name", format.EscapeMarkdown(who.name), "gatekeeper", c.profile.DisplayName))
		}
		if err != nil {
			c.log.Err(err).Msg("Could not list who is blocked")
			reply(ce, "error.bridge")
			return
		}
	}
	if len(lines) == 0 {
		reply(ce, "blocked.nobody")
		return
	}
	reply(ce, "blocked.list", "list", words.Markdown(strings.Join(lines, "\n")))
}

// counterpart is somebody whom a command is about.
type counterpart struct {
	client *client
	// chat and contact are local ids; room is "" if the chat has none.
	chat, contact, name string
	room                id.RoomID
}

// meant finds whom a command is about: the other side of the chat in whose room it was typed, or whom its arguments name by
// phone number, name, room or mention. If it is not clear that has been said, and ok is false.
func meant(ce *commands.Event, usage string) (who counterpart, ok bool) {
	if len(ce.Args) == 0 {
		if ce.Portal == nil {
			reply(ce, usage)
			return who, false
		}
		login, _, err := ce.Portal.FindPreferredLogin(ce.Ctx, ce.User, false)
		if err != nil || login == nil {
			reply(ce, "error.not-your-room")
			return who, false
		}
		c, usable := login.Client.(*client)
		if !usable {
			reply(ce, "error.login-unusable")
			return who, false
		}
		who, err = c.personIn(ce.Ctx, string(ce.Portal.ID))
		return who, found(ce, err)
	}
	named, args := namedLogin(ce, ce.Args)
	logins := ce.User.GetUserLogins()
	if named != nil {
		logins = []*bridgev2.UserLogin{named}
	}
	asked := strings.Join(args, " ")
	if asked == "" {
		reply(ce, usage)
		return who, false
	}
	var all []counterpart
	for _, login := range logins {
		c, usable := login.Client.(*client)
		if !usable {
			continue
		}
		some, err := c.people(ce.Ctx, asked)
		if !found(ce, err) {
			return who, false
		}
		all = append(all, some...)
	}
	switch len(all) {
	case 0:
		reply(ce, "block.nobody")
	case 1:
		return all[0], true
	default:
		reply(ce, "block.several", "n", len(all))
	}
	return who, false
}

func found(ce *commands.Event, err error) bool {
	var said *explained
	switch {
	case err == nil:
		return true
	case errors.As(err, &said):
		reply(ce, "block.not-found", "why", err.Error())
	default:
		ce.Log.Err(err).Msg("Could not find whom a command is about")
		reply(ce, "error.bridge")
	}
	return false
}

// personIn is the other side of a chat.
func (c *client) personIn(ctx context.Context, chat string) (counterpart, error) {
	row, err := c.connector.db.Chats().Get(ctx, chat)
	if err != nil {
		return counterpart{}, err
	} else if row == nil || row.AccountID != string(c.login.ID) {
		return counterpart{}, interop.ErrNoChat
	}
	contact, err := c.connector.db.Contacts().Get(ctx, row.ContactID)
	if err != nil {
		return counterpart{}, err
	}
	return c.person(ctx, row, contact)
}

func (c *client) person(ctx context.Context, row *database.Chat, contact *database.Contact) (counterpart, error) {
	who := counterpart{client: c, chat: row.ID, contact: row.ContactID, name: c.contactName(contact)}
	room, err := c.connector.db.ChatRooms().Get(ctx, row.ID)
	if err != nil {
		return who, err
	}
	if room.Title != "" {
		who.name = room.Title
	}
	portal, err := c.connector.bridge.GetExistingPortalByKey(ctx, portalKey(string(c.login.ID), row.ID))
	if err == nil && portal != nil {
		who.room = portal.MXID
	}
	return who, err
}

// people are those whom words in a command name. A phone number that no chat has is looked up at the gatekeeper.
func (c *client) people(ctx context.Context, asked string) ([]counterpart, error) {
	list, number, err := c.known(ctx, asked)
	if err != nil || number == "" || len(list) > 0 {
		return list, err
	}
	result, err := c.lookup(ctx, number)
	if errors.As(err, new(*notOptedIn)) {
		return nil, &explained{c.words().Error("block.not-opted-in", "phone", number, "gatekeeper", c.profile.DisplayName)}
	} else if err != nil {
		return nil, &explained{err}
	}
	if err = c.learnPhone(ctx, result); err != nil {
		return nil, err
	}
	who, err := c.personIn(ctx, result.Peer.Chat)
	return []counterpart{who}, err
}

// known are those of the login's chats whom words name; number is the phone number that they are, "" for none.
func (c *client) known(ctx context.Context, asked string) (list []counterpart, number string, err error) {
	room, ghost := namedInMatrix(asked)
	if strings.HasPrefix(asked, "+") {
		phone, _, err := parseStart(c.words(), asked)
		if err != nil {
			return nil, "", &explained{err}
		}
		number = phone
	}
	chats, err := c.connector.db.Chats().ByAccount(ctx, string(c.login.ID))
	if err != nil {
		return nil, "", err
	}
	for _, row := range chats {
		contact, err := c.connector.db.Contacts().Get(ctx, row.ContactID)
		if err != nil {
			return nil, "", err
		}
		if number != "" && (contact == nil || contact.Phone != number) {
			continue
		}
		who, err := c.person(ctx, row, contact)
		if err != nil {
			return nil, "", err
		}
		switch {
		case number != "",
			room != "" && who.room == room,
			ghost != "" && c.connector.matrix.FormatGhostMXID(ghostID(c.profile, row.ContactID)) == ghost,
			room == "" && ghost == "" && who.called(asked, contact):
			list = append(list, who)
		}
	}
	return list, number, nil
}

// called says whether somebody is named in that way: by what they are called in the room or call themselves, or by the chat's handle. contact
// may be nil.
func (p counterpart) called(asked string, contact *database.Contact) bool {
	return strings.EqualFold(p.name, asked) || contact != nil && strings.EqualFold(contact.Name, asked) || strings.EqualFold(handleOf(p.chat), asked)
}

// namedInMatrix takes a room or a user out of an id or a link.
func namedInMatrix(asked string) (room id.RoomID, user id.UserID) {
	switch {
	case strings.HasPrefix(asked, "!"):
		return id.RoomID(asked), ""
	case strings.HasPrefix(asked, "@"):
		return "", id.UserID(asked)
	}
	uri, err := id.ParseMatrixURIOrMatrixToURL(asked)
	if err != nil || uri == nil {
		return "", ""
	}
	return uri.RoomID(), uri.UserID()
}
