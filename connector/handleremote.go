package connector

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/networkid"
	"maunium.net/go/mautrix/bridgev2/simplevent"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/convert"
	"postern/connector/interop"
	"postern/connector/matrixdurable"
)

// Deliver implements interop.Upcalls.
func (c *client) Deliver(ctx context.Context, in *interop.Inbound) error {
	ch := c.chats.get(in.Chat)
	ch.mu.Lock()
	uncertain := !ch.settled
	ch.settled = false
	ch.mu.Unlock()
	err := c.deliver(ctx, in, uncertain)
	var rejected *interop.Rejected
	if err == nil || errors.As(err, &rejected) {
		ch.mu.Lock()
		ch.settled = true
		ch.mu.Unlock()
	}
	return err
}

func (c *client) deliver(ctx context.Context, in *interop.Inbound, uncertain bool) error {
	if in.Kind != interop.KindMessage {
		return c.deliverNews(ctx, in, uncertain)
	}
	if err := c.learnName(ctx, in.Contact, in.Notify); err != nil {
		return err
	}
	contents, reason := convert.ToMatrix(in.Message, convert.Options{})
	if len(contents) == 0 {
		c.log.Debug().Str("chat", in.Chat).Str("reason", fmt.Sprint(reason)).Msg("Message has nothing in it for a person")
		return nil
	}
	portal, err := c.chats.open(ctx, in.Chat, in.Contact)
	if err != nil {
		return c.refused(ctx, in, "", err)
	}
	if err = c.deliverParts(ctx, portal, in, contents, uncertain); err != nil {
		return c.refused(ctx, in, portal.MXID, err)
	}
	return nil
}

// partID is the framework's id of a message's part: the first has the empty one, as all single ones have.
func partID(i int) networkid.PartID {
	if i == 0 {
		return ""
	}
	return networkid.PartID(strconv.Itoa(i))
}

// deliverParts sends those parts of a message that Matrix does not have yet.
func (c *client) deliverParts(ctx context.Context, portal *bridgev2.Portal, in *interop.Inbound, contents []*event.MessageEventContent, uncertain bool) error {
	messageID := incomingID(in.Chat, in.MessageID)
	all := make([]networkid.PartID, len(contents))
	content := make(map[networkid.PartID]*event.MessageEventContent, len(contents))
	for i, part := range contents {
		all[i] = partID(i)
		content[all[i]] = part
	}
	missing, err := matrixdurable.Missing(ctx, c.login, portal.PortalKey, messageID, all)
	if err != nil {
		return err
	} else if len(missing) == 0 {
		return nil
	}
	sending := &matrixdurable.Sending{Uncertain: uncertain, Settled: c.known}
	converted := &bridgev2.ConvertedMessage{}
	for _, part := range missing {
		sending.Parts = append(sending.Parts, matrixdurable.Identity("message", string(c.login.ID), string(messageID), string(part)))
		converted.Parts = append(converted.Parts, &bridgev2.ConvertedMessagePart{ID: part, Type: event.EventMessage, Content: content[part]})
	}
	return matrixdurable.Deliver(ctx, c.login, &simplevent.PreConvertedMessage{
		EventMeta: simplevent.EventMeta{
			// An upsert, so that a message of which only some parts were sent is not taken for a duplicate.
			Type:      bridgev2.RemoteEventMessageUpsert,
			PortalKey: portal.PortalKey, CreatePortal: true, Timestamp: in.Timestamp,
			Sender: bridgev2.EventSender{Sender: ghostID(c.profile, in.Contact)},
			MutateContextFunc: func(ctx context.Context) context.Context {
				return matrixdurable.WithSending(ctx, sending)
			},
		},
		Data: converted, ID: messageID, HandleExistingFunc: goOn,
	}, missing)
}

// goOn lets the framework send the parts it is given although the message has others.
func goOn(context.Context, *bridgev2.Portal, bridgev2.MatrixAPI, []*frameworkMessage) (bridgev2.UpsertResult, error) {
	return bridgev2.UpsertResult{ContinueMessageHandling: true}, nil
}

// known says whether an event is one of the framework's messages. What is older than it was settled before it.
func (c *client) known(ctx context.Context, evt id.EventID) bool {
	row, err := c.connector.bridge.DB.Message.GetPartByMXID(ctx, evt)
	return err == nil && row != nil
}

// refused turns what Matrix refuses for good into a dead letter that the person is told of. All other errors go back as they are,
// and the message is handed over again.
func (c *client) refused(ctx context.Context, in *interop.Inbound, room id.RoomID, err error) error {
	if !matrixdurable.Permanent(err) {
		return err
	}
	c.log.Warn().Str("chat", in.Chat).Stringer("room_id", room).Err(err).Msg("Matrix refuses a message for good")
	if room != "" {
		identity := "dead-letter " + in.Chat + " " + string(in.Kind) + " " + in.MessageID
		notice, noticeErr := matrixdurable.ReplyNotice(identity, room, "", c.login.UserMXID,
			"⚠️ A message of the other person could not be put into this room: the homeserver refuses it.")
		if noticeErr == nil {
			noticeErr = c.connector.stack.Notices.Add(ctx, notice)
		}
		if noticeErr != nil {
			return noticeErr // not dead before the person is told
		}
	}
	return &interop.Rejected{Reason: "refused_by_matrix", Err: err}
}

// deliverNews says in the room what is not a message.
func (c *client) deliverNews(ctx context.Context, in *interop.Inbound, uncertain bool) error {
	words, opens := newsWords(in, c.profile.DisplayName)
	if words == "" {
		c.log.Debug().Str("chat", in.Chat).Str("kind", string(in.Kind)).Msg("Nothing to say of it")
		return nil
	}
	key := portalKey(string(c.login.ID), in.Chat)
	portal, err := c.connector.bridge.GetPortalByKey(ctx, key)
	if err != nil {
		return err
	}
	if portal.MXID == "" && !opens {
		return nil // a chat without a room has nobody to tell
	}
	if portal, err = c.chats.open(ctx, in.Chat, in.Contact); err != nil {
		return c.refused(ctx, in, "", err)
	}
	content := &event.MessageEventContent{
		MsgType: event.MsgNotice, Body: words, Mentions: &event.Mentions{UserIDs: []id.UserID{c.login.UserMXID}},
	}
	identity := matrixdurable.Identity("news", string(c.login.ID), in.Chat, string(in.Kind), in.MessageID)
	if err = c.say(ctx, portal.MXID, content, identity, uncertain); err != nil {
		return c.refused(ctx, in, "", err)
	}
	return nil
}

// newsWords says what has happened; "" for nothing. opens: it is worth a room of its own.
func newsWords(in *interop.Inbound, gatekeeper string) (words string, opens bool) {
	switch in.Kind {
	case interop.KindUndecryptable:
		if in.Reason == interop.ReasonNoContent {
			return "⚠️ The other person has sent something in a form that this bridge cannot read. They have been told that it was not shown.", true
		}
		return "⚠️ A message of the other person could not be decrypted, and it was not sent again in time. Please ask for it.", true
	case interop.KindIdentityChange:
		return "The other person's encryption key has changed. Most often that is a new phone or a new installation of " + gatekeeper +
			". If it matters, ask over another way whether it was them.", false
	case interop.KindReachability:
		switch in.Reason {
		case "accepted":
			return "The other person has accepted this chat.", false
		case "declined":
			return "The other person has declined this chat. Messages do not arrive until they write to you or accept.", false
		case "off":
			return "The other person has switched off third-party chats, or has blocked you. Messages do not arrive.", false
		}
	}
	return "", false
}
