package connector

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/convert"
	"postern/connector/interop"
)

// Errors behind what is refused in this file.
var (
	errCannotDelete = errors.New("connector: delete: the gatekeeper has no deletions")
	errNotOurs      = errors.New("connector: change: a message of the other person")
	errRemoved      = errors.New("connector: edit: the message was redacted")
)

// HandleMatrixEdit implements bridgev2.EditHandlingNetworkAPI. Where the other side cannot change what it has (PROTOCOL.md 6.4), an edit goes
// as a new message that says so and quotes the old one.
func (c *client) HandleMatrixEdit(ctx context.Context, msg *bridgev2.MatrixEdit) error {
	if !carries(c.profile) {
		return c.noContent()
	}
	target := msg.EditTarget
	if _, own := c.stanzaOf(msg.Portal, target); !own {
		return refusal(errNotOurs, c.words().Text("refused.not-ours"))
	}
	said := c.saidBy(msg.Content)
	metadata, ok := target.Metadata.(*MessageMetadata)
	if ok && metadata.Removed {
		return refusal(errRemoved, c.words().Text("refused.removed"))
	}
	if ok && said != "" && metadata.Said == said {
		return nil // the other side has these words
	}
	c.tellLater(msg.Event.ID)
	if known, err := c.connector.bridge.DB.Message.GetPartByMXID(ctx, msg.Event.ID); err != nil {
		return c.again(err)
	} else if known != nil {
		return nil
	}
	out := interop.Outgoing{
		EventID: msg.Event.ID.String(), RoomID: msg.Event.RoomID.String(), Chat: string(msg.Portal.ID), Type: "text",
	}
	var err error
	if out.Parts, out.Fallbacks, err = c.edited(ctx, msg); err != nil {
		return err
	}
	if ok {
		metadata.Said = said
	}
	c.sayWaiting(ctx, msg.Event, out.Chat)
	return c.take(ctx, out, c.outgoingRow(msg.Portal, msg.Event, out, MessageMetadata{EditOf: target.MXID}), target)
}

// edited makes what is sent for an edit.
func (c *client) edited(ctx context.Context, msg *bridgev2.MatrixEdit) (parts, fallbacks [][]byte, err error) {
	if message, ok := c.inPlace(msg); ok {
		key, err := c.keyOf(ctx, msg.Portal, msg.EditTarget)
		if err != nil {
			return nil, nil, err
		}
		return c.payloads([]*waE2E.Message{{ProtocolMessage: &waE2E.ProtocolMessage{
			Key: key, Type: waE2E.ProtocolMessage_MESSAGE_EDIT.Enum(), EditedMessage: message, TimestampMS: proto.Int64(msg.Event.Timestamp),
		}}}, nil)
	}
	quote := c.quoteOf(ctx, msg.Portal, msg.EditTarget)
	messages, err := convert.EditText(msg.Content, c.textLimits(quote))
	if err != nil {
		return nil, nil, refusal(err, c.explain(err))
	}
	return c.payloads(messages, quote)
}

// inPlace is the new form of a text that the other side can put in place of the old one: if it can do that at all, and each form is one
// message.
func (c *client) inPlace(msg *bridgev2.MatrixEdit) (*waE2E.Message, bool) {
	metadata, ok := msg.EditTarget.Metadata.(*MessageMetadata)
	if !c.profile.Features.Edits || !ok || metadata.Role != "" || len(metadata.StanzaIDs) > 1 {
		return nil, false
	}
	content := *msg.Content
	content.RelatesTo, content.NewContent = nil, nil
	messages, err := convert.ToInterop(&content, convert.Limits{MaxTextUnits: c.profile.Message.MaxTextUnits})
	if err != nil || len(messages) != 1 {
		return nil, false
	}
	return messages[0], true
}

// keyOf names a message of the login's own to the other side.
func (c *client) keyOf(ctx context.Context, portal *bridgev2.Portal, row *frameworkMessage) (*waCommon.MessageKey, error) {
	peer, err := c.address(ctx, string(portal.ID))
	if errors.Is(err, interop.ErrNoChat) {
		return nil, refusal(err, c.words().Text("refused.no-chat"))
	} else if err != nil {
		return nil, c.again(err)
	}
	stanza, own := c.stanzaOf(portal, row)
	return &waCommon.MessageKey{RemoteJID: &peer, FromMe: &own, ID: &stanza}, nil
}

// HandleMatrixMessageRemove implements bridgev2.RedactionHandlingNetworkAPI. Where nothing can be deleted on the other side (PROTOCOL.md
// 6.4), who has deleted something must not believe that it is gone there.
func (c *client) HandleMatrixMessageRemove(ctx context.Context, msg *bridgev2.MatrixMessageRemove) error {
	if !carries(c.profile) {
		return c.noContent()
	}
	if _, own := c.stanzaOf(msg.Portal, msg.TargetMessage); !own {
		return refusal(errNotOurs, c.words().Text("refused.delete-theirs", "gatekeeper", c.profile.DisplayName))
	}
	if !c.profile.Features.Deletions {
		if err := c.markRemoved(ctx, msg.TargetMessage); err != nil {
			return err
		}
		return refusal(errCannotDelete, unsupported(c.words(), convert.KindRedaction))
	}
	key, err := c.keyOf(ctx, msg.Portal, msg.TargetMessage)
	if err != nil {
		return err
	}
	c.tellLater(msg.Event.ID)
	stanzas := []string{key.GetID()}
	if metadata, ok := msg.TargetMessage.Metadata.(*MessageMetadata); ok && len(metadata.StanzaIDs) > 0 {
		stanzas = metadata.StanzaIDs
	}
	revokes := make([]*waE2E.Message, len(stanzas))
	for i, stanza := range stanzas {
		revokes[i] = &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
			Key: &waCommon.MessageKey{RemoteJID: key.RemoteJID, FromMe: key.FromMe, ID: proto.String(stanza)}, Type: waE2E.ProtocolMessage_REVOKE.Enum(),
		}}
	}
	out := interop.Outgoing{EventID: msg.Event.ID.String(), RoomID: msg.Event.RoomID.String(), Chat: string(msg.Portal.ID), Type: "text"}
	if out.Parts, out.Fallbacks, err = c.payloads(revokes, nil); err != nil {
		return err
	}
	return c.take(ctx, out, nil)
}

// markRemoved remembers that a message is gone from its room, though not from the other side.
func (c *client) markRemoved(ctx context.Context, row *frameworkMessage) error {
	metadata, ok := row.Metadata.(*MessageMetadata)
	if !ok || metadata.Removed {
		return nil
	}
	metadata.Removed = true
	if err := c.connector.bridge.DB.Message.Update(ctx, row); err != nil {
		return c.again(err)
	}
	return nil
}

// saidBy is a keyed hash of the words of a message or an edit, by which an edit that changes none of them is known; "" if there are none.
func (c *client) saidBy(content *event.MessageEventContent) string {
	if content.MsgType == otherEvent {
		return ""
	}
	messages, err := convert.EditText(content, convert.Limits{})
	if err != nil {
		return ""
	}
	mac := hmac.New(sha256.New, c.stanzaKey[:])
	for _, m := range messages {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			return ""
		}
		mac.Write(binary.BigEndian.AppendUint64([]byte("said"), uint64(len(data))))
		mac.Write(data)
	}
	return base64.RawStdEncoding.EncodeToString(mac.Sum(nil)[:16])
}

// forgetSaid remembers that the words of an event may not have arrived, so that an edit to the same ones is sent.
func (c *client) forgetSaid(ctx context.Context, evt id.EventID) error {
	messages := c.connector.bridge.DB.Message
	for evt != "" {
		row, err := messages.GetPartByMXID(ctx, evt)
		if err != nil || row == nil {
			return err
		}
		metadata, ok := row.Metadata.(*MessageMetadata)
		if !ok {
			return nil
		}
		if metadata.Said != "" {
			metadata.Said = ""
			if err = messages.Update(ctx, row); err != nil {
				return err
			}
		}
		if metadata.EditOf == evt {
			return nil
		}
		evt = metadata.EditOf
	}
	return nil
}
