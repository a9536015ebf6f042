package connector

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.mau.fi/util/ptr"
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/networkid"

	"postern/connector/interop"
	"postern/connector/words"
)

// askPatience bounds how long the gatekeeper is waited for when somebody asks for a number.
const askPatience = 30 * time.Second

// ResolveIdentifier implements bridgev2.IdentifierResolvingNetworkAPI: a phone number in international form, and after it, if the
// person likes, what the chat shall be called.
func (c *client) ResolveIdentifier(ctx context.Context, identifier string, createChat bool) (*bridgev2.ResolveIdentifierResponse, error) {
	answer, err := c.resolve(ctx, identifier, createChat)
	return answer, unnamed(err)
}

// resolve is ResolveIdentifier with errors that are words for the person.
func (c *client) resolve(ctx context.Context, identifier string, createChat bool) (*bridgev2.ResolveIdentifierResponse, error) {
	phone, title, err := parseStart(c.words(), identifier)
	if err != nil {
		return nil, err
	}
	found, err := c.lookup(ctx, phone)
	if err != nil {
		return nil, err
	}
	if err := c.learnPhone(ctx, found); err != nil {
		c.log.Err(err).Msg("Could not store a contact")
		return nil, c.words().Error("error.wrong")
	}
	return c.resolved(ctx, found.Peer.Chat, found.Peer.Contact, title, createChat)
}

// parseStart takes a number and a title apart.
func parseStart(w words.Words, identifier string) (phone, title string, err error) {
	identifier = strings.TrimSpace(identifier)
	end := strings.IndexFunc(identifier, func(r rune) bool { return !strings.ContainsRune(numberRunes, r) })
	number := identifier
	if end >= 0 {
		number, title = identifier[:end], cleanName(identifier[end:])
	}
	number = strings.TrimSpace(number)
	if !strings.HasPrefix(number, "+") {
		return "", "", w.Error("start-chat.no-plus")
	}
	d := digits(number)
	if len(d) < 6 || len(d) > 15 || d[0] == '0' {
		return "", "", w.Error("start-chat.not-complete")
	}
	return "+" + d, title, nil
}

// notOptedIn are the words for somebody who is there, but has not agreed to chats with this bridge.
type notOptedIn struct{ error }

func (e *notOptedIn) Unwrap() error { return e.error }

// lookupWords says to a person why there is no chat with a number.
func (c *client) lookupWords(err error, phone string) error {
	name, w := c.profile.DisplayName, c.words()
	var refused *interop.RequestError
	switch {
	case errors.As(err, &refused) && refused.Code == 404:
		return w.Error("lookup.not-there", "phone", phone, "gatekeeper", name)
	case errors.As(err, &refused) && refused.Code == 403:
		return &notOptedIn{w.Error("lookup.not-opted-in", "phone", phone, "gatekeeper", name)}
	case errors.As(err, &refused) && refused.Code == 429:
		return w.Error("lookup.too-many", "gatekeeper", name)
	case errors.Is(err, interop.ErrOffline), errors.Is(err, context.DeadlineExceeded):
		return w.Error("lookup.away", "gatekeeper", name)
	}
	c.log.Err(err).Msg("Look-up failed")
	return w.Error("lookup.failed", "gatekeeper", name)
}

// learnPhone keeps the number that a contact was found by.
func (c *client) learnPhone(ctx context.Context, found *interop.LookupResult) error {
	contact, err := c.connector.db.Contacts().Get(ctx, found.Peer.Contact)
	if err != nil || contact == nil {
		return err
	}
	phone := "+" + digits(found.Normalized)
	if found.Normalized == "" {
		phone = found.Phone
	}
	if contact.Phone == phone {
		return nil
	}
	contact.Phone = phone
	return c.connector.db.Contacts().Update(ctx, contact)
}

// resolved answers with a contact, and with the chat's room if it is wanted.
func (c *client) resolved(ctx context.Context, chatID, contactID, title string, createChat bool) (*bridgev2.ResolveIdentifierResponse, error) {
	ghost, err := c.ghost(ctx, contactID)
	if err != nil {
		c.log.Err(err).Msg("Could not get a ghost")
		return nil, c.words().Error("error.wrong")
	}
	info, err := c.GetUserInfo(ctx, ghost)
	if err != nil {
		c.log.Err(err).Msg("Could not get a contact")
		return nil, c.words().Error("error.wrong")
	}
	answer := &bridgev2.ResolveIdentifierResponse{Ghost: ghost, UserID: ghost.ID, UserInfo: info}
	if !createChat {
		return answer, nil
	}
	portal, err := c.start(ctx, chatID, contactID, title)
	if err != nil {
		return nil, err
	}
	answer.Chat = &bridgev2.CreateChatResponse{PortalKey: portal.PortalKey, Portal: portal}
	return answer, nil
}

// start begins a chat: the other side is asked if need be, and there is a room. Its errors are words for people.
func (c *client) start(ctx context.Context, chatID, contactID, title string) (*bridgev2.Portal, error) {
	who, err := c.personIn(ctx, chatID)
	if err != nil {
		c.log.Err(err).Msg("Could not get a contact")
		return nil, c.words().Error("error.wrong")
	}
	news, err := c.reach.begin(ctx, chatID, who.name)
	if err != nil {
		return nil, err
	}
	if wanted, ok := ctx.Value(newsKey{}).(*startNews); ok {
		*wanted = news
	}
	if title != "" {
		if err := c.setTitle(ctx, chatID, title); err != nil {
			c.log.Err(err).Msg("Could not store a chat's name")
			return nil, c.words().Error("error.wrong")
		}
	}
	if _, err := c.requests.accept(ctx, chatID); err != nil {
		c.log.Err(err).Str("chat", chatID).Msg("Could not accept a chat")
		return nil, c.words().Error("error.wrong")
	}
	portal, err := c.chats.open(ctx, chatID, contactID)
	if err != nil {
		c.log.Err(err).Str("chat", chatID).Msg("Could not open a room")
		return nil, c.words().Error("start-chat.no-room")
	}
	if title != "" && portal.Name != title {
		chatInfo := &bridgev2.ChatInfo{Name: ptr.Ptr(title)}
		portal.UpdateInfo(ctx, chatInfo, c.login, nil, time.Time{})
	}
	if err = c.reach.explain(ctx, portal, chatID, news); err != nil {
		c.log.Err(err).Str("chat", chatID).Msg("Could not say that somebody has to answer first") // it is said again for each message
	}
	return portal, nil
}

func (c *client) setTitle(ctx context.Context, chatID, title string) error {
	rooms := c.connector.db.ChatRooms()
	row, err := rooms.Get(ctx, chatID)
	if err != nil || row.Title == title {
		return err
	}
	row.Title = title
	return rooms.Put(ctx, row)
}

// CreateChatWithGhost implements bridgev2.GhostDMCreatingNetworkAPI: a person has invited a ghost. Only contacts whom this login already
// has a chat with can be written to; a ghost's id tells nobody else's number.
func (c *client) CreateChatWithGhost(ctx context.Context, ghost *bridgev2.Ghost) (*bridgev2.CreateChatResponse, error) {
	portal, err := c.openChatWith(ctx, ghost.ID)
	switch {
	case errors.Is(err, bridgev2.ErrResolveIdentifierTryNext):
		return nil, err
	case errors.As(err, new(*explained)):
		return nil, unnamed(err)
	case err != nil:
		c.log.Err(err).Msg("Could not open a chat")
		return nil, unnamed(c.words().Error("start-chat.no-room"))
	}
	return &bridgev2.CreateChatResponse{PortalKey: portal.PortalKey, Portal: portal}, nil
}

// openChatWith opens the chat that this login has with a ghost's person; bridgev2.ErrResolveIdentifierTryNext if there is none, *explained with
// words for the person if they may not begin it.
func (c *client) openChatWith(ctx context.Context, ghost networkid.UserID) (*bridgev2.Portal, error) {
	contactID, ok := contactOf(c.profile, ghost)
	if !ok {
		return nil, bridgev2.ErrResolveIdentifierTryNext
	}
	row, err := c.connector.db.Chats().ByContact(ctx, string(c.login.ID), contactID)
	if err != nil {
		return nil, err
	} else if row == nil {
		return nil, bridgev2.ErrResolveIdentifierTryNext
	}
	portal, err := c.start(ctx, row.ID, contactID, "")
	if err != nil {
		return nil, &explained{err}
	}
	return portal, nil
}
