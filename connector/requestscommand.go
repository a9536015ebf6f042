package connector

import (
	"context"
	"errors"
	"slices"
	"strings"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/commands"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/format"
	"maunium.net/go/mautrix/id"

	"postern/connector/jid"
	"postern/connector/matrixdurable"
	"postern/connector/words"
	"postern/database"
)

// requestsCommand lists who has written for the first time, and says or changes what becomes of them.
func requestsCommand(help words.Words) *commands.FullHandler {
	return &commands.FullHandler{
		Func: listRequests, Name: "requests", RequiresLogin: true,
		Help: commands.HelpMeta{
			Section: commands.HelpSectionGeneral, Description: help.Text("help.requests"), Args: help.Text("help.requests.args"),
		},
	}
}

// acceptCommand lets somebody write who has asked to.
func acceptCommand(help words.Words) *commands.FullHandler {
	return &commands.FullHandler{
		Func: acceptRequest, Name: "accept", RequiresLogin: true,
		Help: commands.HelpMeta{
			Section: commands.HelpSectionChats, Description: help.Text("help.accept"), Args: help.Text("help.accept.args"),
		},
	}
}

// declineCommand keeps out somebody who has asked to write.
func declineCommand(help words.Words) *commands.FullHandler {
	return &commands.FullHandler{
		Func: declineRequest, Name: "decline", RequiresLogin: true,
		Help: commands.HelpMeta{
			Section: commands.HelpSectionChats, Description: help.Text("help.decline"), Args: help.Text("help.decline.args"),
		},
	}
}

// explain says in a new room that it is a request, and what can be done.
func (q *requests) explain(ctx context.Context, portal *bridgev2.Portal, chat string) error {
	asked, err := q.shown(ctx, chat)
	if err != nil || !asked {
		return err
	}
	c, prefix := q.client, q.client.connector.bridge.Config.CommandPrefix
	content := &event.MessageEventContent{
		MsgType:  event.MsgNotice,
		Body:     c.words().Text("request.room", "gatekeeper", c.profile.DisplayName, "accept", prefix+" accept", "decline", prefix+" decline", "block", prefix+" block"),
		Mentions: &event.Mentions{UserIDs: []id.UserID{c.login.UserMXID}},
	}
	return c.say(ctx, portal.MXID, content, matrixdurable.Identity("request", portal.MXID.String()), true)
}

// handleLength is how much of a chat's id stands for a request in lists.
const handleLength = 6

func handleOf(chat string) string { return chat[:min(handleLength, len(chat))] }

// request is one of those that are listed.
type request struct {
	*database.Request
	client *client
	handle string
	name   string
	number string // digits; "" if it is not known
	// blocked: the person has blocked them, so the list of requests does not have them, and that of blocked people has.
	blocked bool
}

// requests are those of a login that are not accepted, the oldest first.
func (q *requests) list(ctx context.Context) ([]request, error) {
	c := q.client
	rows, err := q.store().Open(ctx, q.account())
	if err != nil {
		return nil, err
	}
	list := make([]request, 0, len(rows))
	for _, row := range rows {
		chat, err := c.connector.db.Chats().Get(ctx, row.ChatID)
		if err != nil {
			return nil, err
		} else if chat == nil {
			continue
		}
		contact, err := c.connector.db.Contacts().Get(ctx, chat.ContactID)
		if err != nil {
			return nil, err
		}
		r := request{Request: row, client: c, handle: handleOf(row.ChatID), name: c.contactName(contact)}
		if r.blocked, err = c.account.Blocked(ctx, row.ChatID); err != nil {
			return nil, err
		}
		if contact != nil {
			if r.number = digits(contact.Phone); r.number == "" {
				if address, err := jid.Parse(contact.JID); err == nil {
					r.number = digits(address.User)
				}
			}
		}
		list = append(list, r)
	}
	return list, nil
}

// maxListed is how many requests are listed at once.
const maxListed = 50

func listRequests(ce *commands.Event) {
	login, args := namedOrDefaultLogin(ce)
	switch {
	case login == nil:
		reply(ce, "error.not-logged-in")
	case len(args) == 0:
		sayRequests(ce)
	case len(args) == 1 && requestPolicy(args[0]):
		setRequests(ce, login, args[0])
	default:
		reply(ce, "requests.usage")
	}
}

// setRequests changes what becomes of people who write for the first time.
func setRequests(ce *commands.Event, login *bridgev2.UserLogin, policy string) {
	metadata, ok := login.Metadata.(*LoginMetadata)
	if !ok {
		reply(ce, "error.login-unusable")
		return
	}
	before := metadata.Requests
	metadata.Requests = policy
	if err := login.Save(ce.Ctx); err != nil {
		metadata.Requests = before
		ce.Log.Err(err).Msg("Could not store a choice of requests")
		reply(ce, "error.bridge")
		return
	}
	reply(ce, "requests."+policy)
}

// sayRequests lists the requests of all logins.
func sayRequests(ce *commands.Event) {
	w := speakTo(ce)
	var said []string
	for _, login := range ce.User.GetUserLogins() {
		c, ok := login.Client.(*client)
		if !ok {
			continue
		}
		list, err := c.requests.list(ce.Ctx)
		var kept map[string]int
		if err == nil {
			kept, err = c.connector.db.Queue(string(login.ID)).CountWithheldIn(ce.Ctx)
		}
		if err != nil {
			ce.Log.Err(err).Msg("Could not list requests")
			reply(ce, "error.bridge")
			return
		}
		lines := []string{w.Text("requests.login", "gatekeeper", c.profile.DisplayName, "identifier", format.EscapeMarkdown(c.current().Identifier)),
			w.Text("requests." + c.connector.policyOf(login))}
		said = append(said, strings.Join(append(lines, requestLines(w, list, kept)...), "\n* "))
	}
	if len(said) == 0 {
		reply(ce, "error.login-unusable")
		return
	}
	ce.ReplyAdvanced(strings.ReplaceAll(strings.Join(said, "\n\n"), "$cmdprefix", ce.Bridge.Config.CommandPrefix), true, false)
}

// requestLines says who has written and was not accepted; those who were refused are only counted.
func requestLines(w words.Words, list []request, kept map[string]int) (lines []string) {
	people, messages, more := 0, int64(0), 0
	for _, r := range list {
		if r.blocked {
			continue
		}
		if r.State == database.RequestRefused {
			people, messages = people+1, messages+r.Dropped
			continue
		}
		if len(lines) == maxListed {
			more++
			continue
		}
		pairs := []any{"handle", r.handle, "name", format.EscapeMarkdown(r.name), "since", momentWords(w, r.Since)}
		switch r.State {
		case database.RequestAsked:
			lines = append(lines, w.Text("requests.waits", pairs...))
		case database.RequestHeld:
			lines = append(lines, w.Text("requests.held", append(pairs, "kept", kept[r.ChatID], "dropped", r.Dropped)...))
		case database.RequestDeclined:
			lines = append(lines, w.Text("requests.declined", append(pairs, "dropped", r.Dropped)...))
		}
	}
	if len(lines) == 0 {
		lines = append(lines, w.Text("requests.none"))
	} else {
		lines = append(lines, w.Text("requests.how"))
	}
	if more > 0 {
		lines = append(lines, w.Text("requests.more", "n", more))
	}
	if people > 0 {
		lines = append(lines, w.Text("requests.refused", "people", people, "messages", messages))
	}
	return lines
}

func acceptRequest(ce *commands.Event) {
	c, chat, ok := findRequest(ce)
	if !ok {
		return
	}
	before, err := c.requests.accept(ce.Ctx, chat)
	if err == nil && before.State == database.RequestAccepted {
		reply(ce, "request.accepted-before")
		return
	}
	var portal *bridgev2.Portal
	if err == nil {
		portal, err = c.openAgain(ce.Ctx, chat)
	}
	switch {
	case errors.Is(err, errBlocked):
		reply(ce, "request.blocked", "prefix", ce.Bridge.Config.CommandPrefix)
	case err != nil:
		c.log.Err(err).Str("chat", chat).Msg("Could not accept a request")
		reply(ce, "error.bridge")
	case before.Dropped > 0:
		reply(ce, "request.accepted-dropped", "room", words.Markdown(format.MarkdownMentionRoomID(portal.Name, portal.MXID)), "n", before.Dropped)
	default:
		reply(ce, "request.accepted", "room", words.Markdown(format.MarkdownMentionRoomID(portal.Name, portal.MXID)))
	}
}

// openAgain is the room of a chat, made if there is none.
func (c *client) openAgain(ctx context.Context, chat string) (*bridgev2.Portal, error) {
	row, err := c.connector.db.Chats().Get(ctx, chat)
	if err != nil {
		return nil, err
	} else if row == nil {
		return nil, errors.New("connector: no such chat")
	}
	return c.chats.open(ctx, chat, row.ContactID)
}

func declineRequest(ce *commands.Event) {
	c, chat, ok := findRequest(ce)
	if !ok {
		return
	}
	waits, err := c.requests.waits(ce.Ctx, chat)
	if err == nil && !waits {
		reply(ce, "request.no-request")
		return
	}
	here := ce.Portal != nil
	ctx := context.WithoutCancel(ce.Ctx)
	if err == nil {
		err = c.requests.decline(ctx, chat)
	}
	if err == nil && here {
		// Where this was said is gone.
		err = c.requests.tell(ctx, "declined "+chat+" "+ce.EventID.String(), c.words().Text("request.declined"))
	}
	switch {
	case err != nil:
		c.log.Err(err).Str("chat", chat).Msg("Could not decline a request")
		reply(ce, "error.bridge")
	case here:
		ce.MessageStatus.DisableMSS = true
	default:
		reply(ce, "request.declined")
	}
}

// findRequest finds the chat that a command is about: that of its room, or who is named behind it. It answers if there is none.
func findRequest(ce *commands.Event) (*client, string, bool) {
	if len(ce.Args) == 0 && ce.Portal == nil {
		reply(ce, "request.usage", "command", words.Markdown(ce.Command))
		return nil, "", false
	}
	if len(ce.Args) == 0 {
		login, _, err := ce.Portal.FindPreferredLogin(ce.Ctx, ce.User, false)
		if err != nil || login == nil {
			reply(ce, "error.not-your-room")
			return nil, "", false
		}
		c, ok := login.Client.(*client)
		if !ok {
			reply(ce, "error.login-unusable")
		}
		return c, string(ce.Portal.ID), ok
	}
	found, err := namedRequests(ce, strings.Join(ce.Args, " "))
	var inWords *explained
	switch {
	case errors.As(err, &inWords):
		reply(ce, "request.not-looked-up", "why", inWords.Error())
	case err != nil:
		ce.Log.Err(err).Msg("Could not look for a request")
		reply(ce, "error.bridge")
	case len(found) == 0:
		reply(ce, "request.unknown")
	case len(found) > 1:
		reply(ce, "request.several")
	default:
		return found[0].client, found[0].ChatID, true
	}
	return nil, "", false
}

// namedRequests are the requests of a person's logins that a name, a number, a room, or what stands in the list of requests may mean.
func namedRequests(ce *commands.Event, named string) (found []request, err error) {
	named = strings.TrimSpace(named)
	number := ""
	if strings.HasPrefix(named, "+") {
		number = digits(named)
	}
	room := id.RoomID(named)
	if uri, err := id.ParseMatrixURIOrMatrixToURL(named); err == nil && uri.RoomID() != "" {
		room = uri.RoomID()
	}
	for _, login := range ce.User.GetUserLogins() {
		c, ok := login.Client.(*client)
		if !ok {
			continue
		}
		list, err := c.namedRequests(ce, named, number, room)
		if err != nil {
			return nil, err
		}
		found = append(found, list...)
	}
	return found, nil
}

// namedRequests are those of one login, by a name or handle, by the digits of a number, "" for none, or by a room.
func (c *client) namedRequests(ce *commands.Event, named, number string, room id.RoomID) (found []request, err error) {
	list, err := c.requests.list(ce.Ctx)
	if err != nil {
		return nil, err
	}
	portal, err := ce.Bridge.GetPortalByMXID(ce.Ctx, room)
	if err != nil {
		return nil, err
	}
	chatOf := map[string]bool{}
	if number != "" && !slices.ContainsFunc(list, func(r request) bool { return r.number == number }) {
		if chatOf, err = c.chatsOf(ce.Ctx, "+"+number); err != nil {
			return nil, err
		}
	}
	for _, r := range list {
		here := chatOf[r.ChatID] || portal != nil && portal.PortalKey == portalKey(string(c.login.ID), r.ChatID)
		if here || number != "" && number == r.number || strings.EqualFold(named, r.handle) || strings.EqualFold(named, r.name) {
			found = append(found, r)
		}
	}
	return found, nil
}

// chatsOf asks the gatekeeper who has a phone number: somebody who has written first is known by an address that does not say it.
func (c *client) chatsOf(ctx context.Context, phone string) (map[string]bool, error) {
	found, err := c.lookup(ctx, phone)
	if err != nil {
		return nil, &explained{err}
	}
	return map[string]bool{found.Peer.Chat: true}, nil
}
