package connector

import (
	"context"
	"strings"
	"time"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/networkid"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/convert"
	"postern/connector/interop"
)

// incomingStanza is the stanza id in the framework's id of a chat's incoming message.
func incomingStanza(chat string, message networkid.MessageID) (string, bool) {
	stanza, found := strings.CutPrefix(string(message), string(incomingID(chat, "")))
	return stanza, found && stanza != ""
}

// stanzaOf is the id by which the other side knows a message of a chat, and whether the message is the login's own; "" for one that is
// not of this chat.
func (c *client) stanzaOf(portal *bridgev2.Portal, row *frameworkMessage) (stanza string, own bool) {
	if row == nil || row.Room != portal.PortalKey {
		return "", false
	}
	if stanza, ok := incomingStanza(string(portal.ID), row.ID); ok {
		return stanza, false
	}
	stanza, own = strings.CutPrefix(string(row.ID), string(outgoingID(string(portal.ID), "")))
	if metadata, ok := row.Metadata.(*MessageMetadata); own && ok && len(metadata.StanzaIDs) > 0 {
		stanza = metadata.StanzaIDs[0] // another one than in the row's id if the phone could not read the first form
	}
	if !own {
		return "", false
	}
	return stanza, true
}

// learnStanzaIDs keeps the ids under which the other side has an event, if they are not those it was first sent under.
func (c *client) learnStanzaIDs(ctx context.Context, s interop.OutStatus) error {
	if s.State == interop.OutFailed || len(s.StanzaIDs) == 0 || s.StanzaIDs[0] == interop.StanzaID(c.stanzaKey, s.EventID, 0) {
		return nil
	}
	messages := c.connector.bridge.DB.Message
	row, err := messages.GetPartByMXID(ctx, id.EventID(s.EventID))
	if err != nil || row == nil {
		return err
	}
	metadata, ok := row.Metadata.(*MessageMetadata)
	if !ok || len(metadata.StanzaIDs) > 0 && metadata.StanzaIDs[0] == s.StanzaIDs[0] {
		return nil
	}
	metadata.StanzaIDs = s.StanzaIDs
	return messages.Update(ctx, row)
}

// address is a chat's other side as text (PROTOCOL.md 6.4).
func (c *client) address(ctx context.Context, chatID string) (string, error) {
	row, err := c.connector.db.Chats().Get(ctx, chatID)
	if err != nil {
		return "", err
	} else if row == nil {
		return "", interop.ErrNoChat
	}
	contact, err := c.connector.db.Contacts().Get(ctx, row.ContactID)
	if err != nil {
		return "", err
	} else if contact == nil {
		return "", interop.ErrNoChat
	}
	return contact.JID, nil
}

// quotePatience bounds how long the homeserver is asked for what a quoted message says. The room waits meanwhile.
const quotePatience = 10 * time.Second

// quoteOf is the message that another one answers, nil if there is none or it is not of this chat. What cannot be found out of it is
// left out: an answer is never refused for what it answers.
func (c *client) quoteOf(ctx context.Context, portal *bridgev2.Portal, row *frameworkMessage) *convert.Quote {
	if !c.profile.Features.Replies {
		return nil
	}
	stanza, own := c.stanzaOf(portal, row)
	if stanza == "" {
		return nil
	}
	quote := &convert.Quote{StanzaID: stanza}
	if own {
		quote.Participant, quote.Author = c.current().Login, c.called()
	} else {
		address, err := c.address(ctx, string(portal.ID))
		if err != nil {
			c.log.Warn().Err(err).Msg("Could not find the author of a quoted message")
			return nil
		}
		quote.Participant, quote.Author = address, c.peerName(ctx, string(portal.ID))
	}
	quote.Text = c.said(ctx, portal.MXID, row.MXID)
	return quote
}

// called is the name that goes with the login's messages.
func (c *client) called() string {
	if name := c.name.Load(); name != nil {
		return *name
	}
	return c.connector.displayname(c.login.UserMXID, "")
}

// peerName is what a chat's other side is called, "" if that cannot be found out.
func (c *client) peerName(ctx context.Context, chatID string) string {
	row, err := c.connector.db.Chats().Get(ctx, chatID)
	if err != nil || row == nil {
		return ""
	}
	contact, err := c.connector.db.Contacts().Get(ctx, row.ContactID)
	if err != nil {
		return ""
	}
	return c.contactName(contact)
}

// said is what an event says, shortened; "" if the homeserver does not tell in time or the event cannot be read.
func (c *client) said(ctx context.Context, room id.RoomID, evt id.EventID) string {
	asking, cancel := context.WithTimeout(ctx, quotePatience)
	defer cancel()
	found, err := c.connector.bridge.Bot.GetEvent(asking, room, evt)
	if err != nil {
		c.log.Debug().Err(err).Stringer("event_id", evt).Msg("Could not read a quoted message")
		return ""
	}
	content, ok := found.Content.Parsed.(*event.MessageEventContent)
	if !ok {
		return ""
	}
	return convert.Summary(content, found.Type == event.EventSticker)
}

// tellLater leaves it to Status to tell the success of an event that is being handled.
func (c *client) tellLater(evt id.EventID) { c.connector.stack.TellLater(evt) }
