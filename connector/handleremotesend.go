package connector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"maunium.net/go/mautrix/bridgev2"
	frameworkdb "maunium.net/go/mautrix/bridgev2/database"
	"maunium.net/go/mautrix/bridgev2/networkid"
	"maunium.net/go/mautrix/bridgev2/simplevent"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/convert"
	"postern/connector/matrixdurable"
)

// delivery is a message on its way into a room: everything about it but its parts.
type delivery struct {
	*handing
	portal  *bridgev2.Portal
	message networkid.MessageID
	sender  bridgev2.EventSender
	replyTo *networkid.MessageOptionalPartID
	// quoted: words of the message that is answered were put in front.
	quoted  bool
	expires frameworkdb.DisappearingSetting
	// outOfOrder: it is shown later than its time.
	outOfOrder bool
}

// newDelivery finds out where a message goes and what it answers. What answers a message that Matrix does not have gets the words of it
// in front.
func (c *client) newDelivery(ctx context.Context, portal *bridgev2.Portal, h *handing, what *content) (*delivery, error) {
	d := &delivery{
		handing: h, portal: portal, message: incomingID(h.Chat, h.MessageID), sender: c.sender(h.Contact), expires: portal.Disappear,
		outOfOrder: h.Late,
	}
	if what.Expires > 0 {
		d.expires = frameworkdb.DisappearingSetting{Type: event.DisappearingTypeAfterSend, Timer: what.Expires}
	}
	if what.ReplyTo == nil {
		return d, nil
	}
	target, err := c.quoted(ctx, h, what.ReplyTo)
	switch {
	case err != nil:
		return nil, err
	case target != nil:
		d.replyTo = &networkid.MessageOptionalPartID{MessageID: target.ID, PartID: &target.PartID}
	default:
		author := ""
		if what.ReplyTo.Participant == h.Sender.Bare().String() {
			contact, err := c.connector.db.Contacts().Get(ctx, h.Contact)
			if err != nil {
				return nil, err
			}
			author = c.contactName(contact)
		}
		d.quoted = what.ReplyTo.Quote != ""
		what.ShowQuote(author, c.readOptions())
	}
	return d, nil
}

// quoted is the framework's row of the message that another one answers, nil if Matrix does not have it.
func (c *client) quoted(ctx context.Context, h *handing, to *convert.ReplyTo) (*frameworkdb.Message, error) {
	if to.ID == "" {
		return nil, nil
	}
	// Ids are chosen by their senders, so whose it is goes first.
	own := to.Participant != "" && to.Participant == h.Sender.Bare().String()
	for _, theirs := range []bool{own, !own} {
		if row, err := c.target(ctx, h.Chat, to.ID, theirs); row != nil || err != nil {
			return row, err
		}
	}
	return nil, nil
}

// target is the framework's row of the first part of a message of the other side (theirs) or of the person's own, nil if there is none. For an
// edit of the person's own it is that of what was edited, since Matrix shows nothing else.
func (c *client) target(ctx context.Context, chat, stanzaID string, theirs bool) (*frameworkdb.Message, error) {
	row, err := c.targetRow(ctx, chat, stanzaID, theirs)
	if err != nil || row == nil {
		return row, err
	}
	if meta, ok := row.Metadata.(*MessageMetadata); ok && meta.EditOf != "" {
		original, err := c.connector.bridge.DB.Message.GetPartByMXID(ctx, meta.EditOf)
		if err != nil || original != nil && original.Room == row.Room {
			return original, err
		}
	}
	return row, nil
}

func (c *client) targetRow(ctx context.Context, chat, stanzaID string, theirs bool) (*frameworkdb.Message, error) {
	messages, receiver := c.connector.bridge.DB.Message, loginID(string(c.login.ID))
	message := incomingID(chat, stanzaID)
	if !theirs {
		message = outgoingID(chat, stanzaID)
	}
	row, err := messages.GetFirstPartByID(ctx, receiver, message)
	if row != nil || err != nil || theirs {
		return row, err
	}
	// A later part of a long message, or what was sent in a part's place, is known to the account alone.
	evt, found, err := c.account.EventOf(ctx, chat, stanzaID)
	if err != nil || !found {
		return nil, err
	}
	row, err = messages.GetPartByMXID(ctx, id.EventID(evt))
	if row != nil && row.Room != portalKey(string(c.login.ID), chat) {
		return nil, err
	}
	return row, err
}

// send puts a message's parts into its room: those that Matrix does not have yet.
func (c *client) send(ctx context.Context, d *delivery, parts ...*convert.Part) error {
	if len(parts) == 0 {
		return nil
	}
	all := make([]networkid.PartID, len(parts))
	byID := make(map[networkid.PartID]*convert.Part, len(parts))
	for i, part := range parts {
		all[i] = partID(i)
		byID[all[i]] = part
	}
	missing, err := matrixdurable.Missing(ctx, c.login, d.portal.PortalKey, d.message, all)
	if err != nil {
		return err
	} else if len(missing) == 0 {
		return c.keepShort(ctx, d)
	}
	sending := &matrixdurable.Sending{Uncertain: d.uncertain, Settled: c.settledBefore(d.settledBefore())}
	converted := &bridgev2.ConvertedMessage{ReplyTo: d.replyTo, Disappear: d.expires}
	for _, partID := range missing {
		part := byID[partID]
		if err := c.attach(ctx, d, part); err != nil {
			return err
		}
		sending.Parts = append(sending.Parts, matrixdurable.Identity("message", string(c.login.ID), string(d.message), string(partID)))
		converted.Parts = append(converted.Parts, &bridgev2.ConvertedMessagePart{
			ID: partID, Type: part.Type, Content: part.Content, Extra: part.Extra, DBMetadata: &MessageMetadata{OutOfOrder: d.outOfOrder},
		})
	}
	return matrixdurable.Deliver(ctx, c.login, &simplevent.PreConvertedMessage{
		EventMeta: simplevent.EventMeta{
			// An upsert, so that a message of which only some parts were sent is not taken for a duplicate.
			Type:      bridgev2.RemoteEventMessageUpsert,
			PortalKey: d.portal.PortalKey, CreatePortal: true, Timestamp: d.Timestamp, Sender: d.sender,
			MutateContextFunc: func(ctx context.Context) context.Context {
				return matrixdurable.WithSending(ctx, sending)
			},
		},
		Data: converted, ID: d.message, HandleExistingFunc: goOn,
	}, missing)
}

// settledBefore bounds the search for an event of this delivery that may be in the room. The usual message may have nothing but messages before
// it that came before it; what was set aside may have any number after it, so only those that are a good deal older count.
func (d *delivery) settledBefore() time.Time {
	if d.outOfOrder {
		return d.Timestamp.Add(-heldBefore)
	}
	return time.Time{}
}

// attach uploads the small file that came inside a part.
func (c *client) attach(ctx context.Context, d *delivery, part *convert.Part) error {
	if part.Inline == nil || part.Content.URL != "" || part.Content.File != nil {
		return nil
	}
	uploaded, err := c.connector.uploadBytes(ctx, d.portal.MXID, d.ghost(c), part.Inline.Data, part.Inline.Mimetype, part.Inline.Name, false)
	switch {
	case err == nil:
		part.Content.URL, part.Content.File = uploaded.URL, uploaded.File
		return nil
	case matrixdurable.Permanent(err), errors.Is(err, matrixdurable.ErrTooLargeForMatrix):
		// The words around it are worth more than no message at all.
		c.log.Warn().Str("chat", d.Chat).Err(err).Msg("The homeserver refuses a small file")
		part.Type, part.Extra = event.EventMessage, nil
		part.Content = &event.MessageEventContent{MsgType: event.MsgNotice, Body: c.words().Text("attachment.not-taken")}
		return nil
	}
	return fmt.Errorf("connector: attach: %w", err)
}

// ghost is the Matrix user that a delivery comes from.
func (d *delivery) ghost(c *client) id.UserID {
	return c.connector.matrix.FormatGhostMXID(d.sender.Sender)
}

// goOn lets the framework send the parts it is given although the message has others.
func goOn(context.Context, *bridgev2.Portal, bridgev2.MatrixAPI, []*frameworkMessage) (bridgev2.UpsertResult, error) {
	return bridgev2.UpsertResult{ContinueMessageHandling: true}, nil
}

// keepShort sees to it that a message that was in Matrix already disappears in time: the framework notes that after its row, and a crash may
// have come between the two.
func (c *client) keepShort(ctx context.Context, d *delivery) error {
	if d.expires.Type == event.DisappearingTypeNone || d.expires.Timer <= 0 || !d.uncertain {
		return nil
	}
	rows, err := c.connector.bridge.DB.Message.GetAllPartsByID(ctx, d.portal.Receiver, d.message)
	if err != nil {
		return err
	}
	for _, row := range rows {
		c.connector.bridge.DisappearLoop.Add(ctx, &frameworkdb.DisappearingMessage{
			RoomID: d.portal.MXID, EventID: row.MXID, Timestamp: row.Timestamp, DisappearingSetting: d.expires.StartingAt(row.Timestamp),
		})
	}
	return nil
}
