package connector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"maunium.net/go/mautrix/bridgev2"
	frameworkdb "maunium.net/go/mautrix/bridgev2/database"
	"maunium.net/go/mautrix/bridgev2/simplevent"
	"maunium.net/go/mautrix/event"

	"postern/connector/convert"
	"postern/connector/interop"
	"postern/connector/matrixdurable"
	"postern/database"
)

// change makes what the Matrix side is told of an item that changes a message.
func (c *client) change(h *handing, of string) matrixdurable.Change {
	return matrixdurable.Change{
		Portal: portalKey(string(c.login.ID), h.Chat), Sender: c.sender(h.Contact), Timestamp: h.Timestamp,
		Identity:  matrixdurable.Identity(of, string(c.login.ID), string(incomingID(h.Chat, h.MessageID))),
		Uncertain: h.uncertain, Settled: c.settledBefore(h.Timestamp.Add(-heldBefore)),
	}
}

// deliverReaction makes a reaction of the other person be what it says, one for each message.
func (c *client) deliverReaction(ctx context.Context, h *handing, r *convert.IncomingReaction) error {
	target, err := c.target(ctx, h.Chat, r.Key.ID, r.Key.FromMe)
	if err != nil {
		return err
	} else if target == nil {
		return c.pointless(h, "reaction")
	}
	change := c.change(h, "reaction")
	change.Target = target.ID
	return matrixdurable.React(ctx, c.login, change, r.Emoji)
}

// pointless is for what is about a message that Matrix does not have.
func (c *client) pointless(h *handing, what string) error {
	if h.Final {
		c.log.Debug().Str("chat", h.Chat).Str("kind", what).Msg("Dropped what is about a message that Matrix does not have")
		return interop.ErrUnseen
	}
	return matrixdurable.ErrNoTarget
}

// deliverRevoke takes a message of the other person back, and forgets before what was kept of its attachment: nobody can ask for that any
// more, also if we are killed between the two.
func (c *client) deliverRevoke(ctx context.Context, h *handing, key *convert.Key) error {
	if err := c.connector.db.IncomingMedia().Delete(ctx, h.Chat, key.ID); err != nil {
		return err
	}
	change := c.change(h, "revoke")
	change.Target = incomingID(h.Chat, key.ID)
	err := matrixdurable.Remove(ctx, c.login, change)
	if errors.Is(err, matrixdurable.ErrNoTarget) {
		return c.pointless(h, "revoke")
	}
	return err
}

// deliverEdit changes a message of the other person.
func (c *client) deliverEdit(ctx context.Context, h *handing, edit *convert.IncomingEdit) error {
	change := c.change(h, "edit")
	change.Target = incomingID(h.Chat, edit.Key.ID)
	row, err := c.connector.db.IncomingMedia().Get(ctx, h.Chat, edit.Key.ID)
	if err != nil {
		return err
	}
	switch {
	case row != nil:
		err = c.editCaption(ctx, h, change, row, edit)
	case edit.Media != nil:
		// The file's address is not known any more, and an edit has to have it.
		if err = c.hasTarget(ctx, change); err == nil {
			return c.showEdited(ctx, h, edit)
		}
	default:
		err = matrixdurable.Edit(ctx, c.login, change, editParts(edit.Parts), false)
	}
	if errors.Is(err, matrixdurable.ErrFormer) || errors.Is(err, matrixdurable.ErrNoTarget) && h.Final {
		return c.showEdited(ctx, h, edit)
	}
	return err
}

// hasTarget is ErrNoTarget if Matrix does not have what a change is about.
func (c *client) hasTarget(ctx context.Context, change matrixdurable.Change) error {
	row, err := c.connector.bridge.DB.Message.GetFirstPartByID(ctx, change.Portal.Receiver, change.Target)
	if err == nil && row == nil {
		return matrixdurable.ErrNoTarget
	}
	return err
}

// editParts are the parts of a message as an edit has them.
func editParts(parts []*convert.Part) []*bridgev2.ConvertedMessagePart {
	list := make([]*bridgev2.ConvertedMessagePart, len(parts))
	for i, part := range parts {
		list[i] = &bridgev2.ConvertedMessagePart{
			ID: partID(i), Type: event.EventMessage, Content: part.Content, Extra: part.Extra, DBMetadata: &MessageMetadata{},
		}
	}
	return list
}

// showEdited shows the new form of a message that cannot be edited as a message of its own, which answers the old one if that is there.
func (c *client) showEdited(ctx context.Context, h *handing, edit *convert.IncomingEdit) error {
	if len(edit.Parts) == 0 {
		return interop.ErrUnseen // a caption was taken away
	}
	portal, err := c.chats.open(ctx, h.Chat, h.Contact)
	if err != nil {
		return err
	}
	what := &content{convert.Incoming{ReplyTo: &convert.ReplyTo{ID: edit.Key.ID, Participant: h.Sender.Bare().String()}}}
	d, err := c.newDelivery(ctx, portal, h, what)
	if err != nil {
		return err
	}
	d.outOfOrder = true
	sayEdited(edit.Parts[0].Content, c.words().Text("chat.edited")+" ")
	return c.send(ctx, d, edit.Parts...)
}

// sayEdited puts before a text that it is the new form of another one.
func sayEdited(content *event.MessageEventContent, words string) {
	content.Body = words + content.Body
	if content.FormattedBody != "" {
		content.FormattedBody = words + content.FormattedBody
	}
}

// editCaption changes what is said with a file. The file stays what it is: an event that has it, one that stands for it, or one to come.
func (c *client) editCaption(ctx context.Context, h *handing, change matrixdurable.Change, row *database.IncomingMedia, edit *convert.IncomingEdit) error {
	kept, err := readKept(row)
	if err != nil {
		return err
	}
	var content *event.MessageEventContent
	if row.State == database.IncomingMediaShown {
		content = kept.Shown
		recaption(content, edit)
	} else {
		if kept.Edit, err = json.Marshal(caption(edit)); err != nil {
			return fmt.Errorf("connector: edit: %w", err)
		}
		media, err := kept.media(c)
		if err != nil {
			return err
		}
		content = c.placeholder(media, row)
	}
	part := &convert.Part{Type: event.EventMessage, Content: clone(content)}
	if err = matrixdurable.Edit(ctx, c.login, change, editParts([]*convert.Part{part}), true); err != nil {
		return err
	}
	if row.Payload, err = json.Marshal(kept); err != nil {
		return fmt.Errorf("connector: edit: %w", err)
	}
	return c.connector.db.IncomingMedia().Put(ctx, row)
}

// deliverTimer applies a new setting for disappearing messages: first the words for it, which also say that it was done, then the setting. Both can
// be done again.
func (c *client) deliverTimer(ctx context.Context, portal *bridgev2.Portal, h *handing, after time.Duration) error {
	d, err := c.newDelivery(ctx, portal, h, &content{})
	if err != nil {
		return err
	}
	setting := frameworkdb.DisappearingSetting{Type: event.DisappearingTypeAfterSend, Timer: after}.Normalize()
	d.expires = frameworkdb.DisappearingSetting{}
	words := bridgev2.DisappearingMessageNotice(after, false)
	if err = c.send(ctx, d, &convert.Part{Type: event.EventMessage, Content: words}); err != nil {
		return err
	}
	// In the portal's own turn, since the framework reads the setting there.
	result := c.login.QueueRemoteEvent(&simplevent.ChatInfoChange{
		EventMeta: simplevent.EventMeta{
			Type: bridgev2.RemoteEventChatInfoChange, PortalKey: portal.PortalKey, Timestamp: h.Timestamp, Sender: d.sender,
		},
		ChatInfoChange: &bridgev2.ChatInfoChange{ChatInfo: &bridgev2.ChatInfo{
			Disappear: &setting, ExcludeChangesFromTimeline: true,
			// What was set in memory and could not be stored is stored now.
			ExtraUpdates: func(context.Context, *bridgev2.Portal) bool { return true },
		}},
	})
	stored, err := c.connector.bridge.DB.Portal.GetByKey(ctx, portal.PortalKey)
	switch {
	case err != nil:
		return err
	case stored == nil || stored.Disappear.Type != setting.Type || stored.Disappear.Timer != setting.Timer:
		return errors.Join(errors.New("connector: timer: not stored"), result.Error)
	}
	return nil
}
