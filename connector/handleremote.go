package connector

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/networkid"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/convert"
	"postern/connector/interop"
	"postern/connector/matrixdurable"
	"postern/connector/words"
)

// handing is one item on its way to Matrix.
type handing struct {
	*interop.Inbound
	// uncertain: an earlier attempt may have reached the room.
	uncertain bool
	// asked: the person has not accepted the chat yet.
	asked bool
}

// Deliver implements interop.Upcalls.
func (c *client) Deliver(ctx context.Context, in *interop.Inbound) error {
	if in.Kind == interop.KindBlock {
		c.ignores.kick()
	}
	what := c.read(in)
	passage, err := c.requests.gate(ctx, in, what)
	if err != nil {
		return err
	}
	if passage == withhold { // for the list of requests
		if _, err = c.noteName(ctx, in.Contact, in.Notify); err != nil {
			return err
		}
	}
	if passage == letIn || passage == quiet {
		if in.Kind == interop.KindMessage {
			if err = c.reach.wrote(ctx, in.Chat); err != nil {
				return err
			}
		}
		ch := c.chats.get(in.Chat)
		h := &handing{Inbound: in, uncertain: ch.begin(in, what.aside(), c.connector.began), asked: passage == quiet}
		err = c.deliver(ctx, h, what)
		ch.end(in, what.aside(), err)
	}
	return c.requests.outcome(ctx, in, what, passage, err)
}

// content is what an item says; empty for what is not a message.
type content struct{ convert.Incoming }

// read reads an item.
func (c *client) read(in *interop.Inbound) *content {
	if in.Kind != interop.KindMessage {
		return &content{}
	}
	return &content{convert.Read(in.Message, c.readOptions())}
}

// readOptions says how messages are read.
func (c *client) readOptions() convert.Options {
	return convert.Options{ShowViewOnce: c.connector.Config.Media.ViewOnce == viewOnceShow, Words: incomingWords(c.words())}
}

// aside says whether an item is about another one, which may not be there yet (interop.ErrNoTarget).
func (c *content) aside() bool { return c.Reaction != nil || c.Edit != nil || c.Revoke != nil }

func (c *client) deliver(ctx context.Context, h *handing, what *content) error {
	if h.Kind != interop.KindMessage {
		return c.deliverNews(ctx, h)
	}
	if err := c.learnName(ctx, h.Contact, h.Notify); err != nil {
		return err
	}
	var err error
	switch {
	case what.Reason != convert.Shown:
		c.log.Debug().Str("chat", h.Chat).Str("reason", fmt.Sprint(what.Reason)).Msg("Message has nothing in it for a person")
		return interop.ErrUnseen
	case what.Reaction != nil:
		err = c.deliverReaction(ctx, h, what.Reaction)
	case what.Edit != nil:
		err = c.deliverEdit(ctx, h, what.Edit)
	case what.Revoke != nil:
		err = c.deliverRevoke(ctx, h, what.Revoke)
	default:
		return c.deliverMessage(ctx, h, what)
	}
	if errors.Is(err, matrixdurable.ErrNoTarget) {
		return fmt.Errorf("%w: %w", interop.ErrNoTarget, err)
	} else if errors.Is(err, interop.ErrUnseen) {
		return err
	} else if err != nil {
		return c.refused(ctx, h.Inbound, "", err)
	}
	return nil
}

// deliverMessage shows what is a message of its own.
func (c *client) deliverMessage(ctx context.Context, h *handing, what *content) error {
	portal, err := c.chats.open(ctx, h.Chat, h.Contact)
	if err != nil {
		return c.refused(ctx, h.Inbound, "", err)
	}
	if h.Late {
		if err = c.sayLate(ctx, portal, h); err != nil {
			return err
		}
	}
	switch {
	case what.Timer != nil:
		err = c.deliverTimer(ctx, portal, h, what.Timer.After)
	case what.Media != nil:
		err = c.deliverMedia(ctx, portal, h, what)
	default:
		var d *delivery
		if d, err = c.newDelivery(ctx, portal, h, what); err == nil {
			err = c.send(ctx, d, what.Parts...)
		}
	}
	if err != nil {
		return c.refused(ctx, h.Inbound, portal.MXID, err)
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

// sender is the other side of a chat, for the framework.
func (c *client) sender(contact string) bridgev2.EventSender {
	return bridgev2.EventSender{Sender: ghostID(c.profile, contact)}
}

// settledBefore says of events whether they are messages that were delivered before an item of that time: the search for an
// uncertain event ends there. Messages that were shown out of order say nothing.
func (c *client) settledBefore(at time.Time) func(ctx context.Context, evt id.EventID) bool {
	return func(ctx context.Context, evt id.EventID) bool {
		row, err := c.connector.bridge.DB.Message.GetPartByMXID(ctx, evt)
		if err != nil || row == nil {
			return false
		}
		meta, ok := row.Metadata.(*MessageMetadata)
		return (!ok || !meta.OutOfOrder) && (at.IsZero() || row.Timestamp.Before(at))
	}
}

// deliverNews says in the room what is not a message.
func (c *client) deliverNews(ctx context.Context, h *handing) error {
	in := h.Inbound
	text, opens := newsWords(c.words(), in, c.profile.DisplayName, c.connector.bridge.Config.CommandPrefix)
	if in.Kind == interop.KindReachability {
		if err := c.reach.told(ctx, in.Chat, in.Reason, "reach "+in.Chat+" "+in.MessageID, text); err != nil {
			return err
		}
	}
	if text == "" {
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
		MsgType: event.MsgNotice, Body: text, Mentions: &event.Mentions{UserIDs: []id.UserID{c.login.UserMXID}},
	}
	identity := matrixdurable.Identity("news", string(c.login.ID), in.Chat, string(in.Kind), in.MessageID)
	if err = c.say(ctx, portal.MXID, content, identity, h.uncertain); err != nil {
		return c.refused(ctx, in, "", err)
	}
	return nil
}

// newsWords says what has happened; "" for nothing. opens: it is worth a room of its own.
func newsWords(w words.Words, in *interop.Inbound, gatekeeper, prefix string) (text string, opens bool) {
	switch in.Kind {
	case interop.KindUndecryptable:
		switch in.Reason {
		case interop.ReasonFault:
			return w.Text("chat.fault"), true
		case interop.ReasonUnstored:
			return w.Text("chat.unstored"), true
		case interop.ReasonNoContent:
			return w.Text("chat.no-content"), true
		}
		return w.Text("chat.undecryptable"), true
	case interop.KindIdentityChange:
		switch in.Reason {
		case interop.ReasonKeyHeld:
			return w.Text("chat.identity-held", "prefix", prefix), false
		case interop.ReasonKeyBack:
			return w.Text("chat.identity-back"), false
		}
		return w.Text("chat.identity", "gatekeeper", gatekeeper, "prefix", prefix), false
	case interop.KindReachability:
		switch in.Reason {
		case "accepted":
			return w.Text("chat.accepted"), false
		case "declined":
			return w.Text("chat.declined"), false
		case "off":
			return w.Text("chat.off"), false
		}
	case interop.KindBlock:
		switch in.Reason {
		case interop.ReasonIsBlocked:
			return w.Text("chat.blocked", "gatekeeper", gatekeeper), false
		case interop.ReasonNotBlocked:
			return w.Text("chat.unblocked", "gatekeeper", gatekeeper), false
		}
	}
	return "", false
}
