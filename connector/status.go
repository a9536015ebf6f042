package connector

import (
	"context"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	frameworkdb "maunium.net/go/mautrix/bridgev2/database"

	"postern/connector/interop"
	"postern/connector/matrixdurable"
)

type frameworkMessage = frameworkdb.Message

// Status implements interop.Upcalls: a step of an outgoing message goes to its room. Sent and delivered are told apart: delivered is what
// the other person's phone has said, and nothing else.
func (c *client) Status(ctx context.Context, s interop.OutStatus) error {
	room, evt := id.RoomID(s.RoomID), id.EventID(s.EventID)
	info := &bridgev2.MessageStatusEventInfo{RoomID: room, SourceEventID: evt, EventType: event.EventMessage, Sender: c.login.UserMXID}
	state := bridgev2.MessageStatus{Status: event.MessageStatusSuccess}
	if err := c.learnStanzaIDs(ctx, s); err != nil {
		return err
	}
	var arrived *frameworkMessage // what the phone has now
	switch s.State {
	case interop.OutSent:
	case interop.OutDelivered, interop.OutRead:
		ghost, err := c.chatGhost(ctx, s.Chat)
		if err != nil {
			return err
		}
		state.DeliveredTo = []id.UserID{ghost.Intent.GetMXID()}
		if arrived, err = c.connector.bridge.DB.Message.GetPartByMXID(ctx, evt); err != nil {
			return err
		}
		if err := c.showReceipt(ctx, ghost, room, arrived, s); err != nil {
			return err
		}
	case interop.OutFailed:
		if err := c.forgetSaid(ctx, evt); err != nil {
			return err
		}
		state = bridgev2.MessageStatus{
			Status: event.MessageStatusFail, ErrorReason: event.MessageStatusNetworkError,
			Message: c.failed(ctx, s), IsCertain: true,
		}
		if err := c.sayFailed(ctx, room, evt, state.Message); err != nil {
			return err
		}
	default:
		return nil
	}
	err := c.sendStatus(ctx, room, s, state.ToMSSEvent(info))
	if err == nil {
		c.receipted(arrived, s)
	}
	return err
}

// chatGhost is the ghost of a chat's other side.
func (c *client) chatGhost(ctx context.Context, chatID string) (*bridgev2.Ghost, error) {
	row, err := c.connector.db.Chats().Get(ctx, chatID)
	if err != nil {
		return nil, err
	} else if row == nil {
		return nil, interop.ErrNoChat
	}
	return c.ghost(ctx, row.ContactID)
}

// showReceipt shows delivery and reading in the way that every client knows: the bot has read what the phone has, and the ghost what the
// person has read.
//
// A receipt stands for everything before it, and some homeservers let one be put back: what is older than the last one that was shown is
// not shown, and what is no message is not either.
func (c *client) showReceipt(ctx context.Context, ghost *bridgev2.Ghost, room id.RoomID, row *frameworkMessage, s interop.OutStatus) (err error) {
	if row == nil || !c.chats.get(s.Chat).forward(s.State, row.Timestamp) {
		return nil
	}
	evt := id.EventID(s.EventID)
	switch {
	case s.State == interop.OutRead:
		err = ghost.Intent.MarkRead(ctx, room, evt, s.At)
	case c.connector.matrix.Config.Matrix.DeliveryReceipts:
		err = c.connector.matrix.Bot.SendReceipt(ctx, room, evt, event.ReceiptTypeRead, nil)
	}
	return c.bearable(err, s)
}

// sendStatus sends the event that clients with an eye for it read.
func (c *client) sendStatus(ctx context.Context, room id.RoomID, s interop.OutStatus, content *event.BeeperMessageStatusEventContent) error {
	if !c.connector.matrix.Config.Matrix.MessageStatusEvents {
		return nil
	}
	identity := matrixdurable.Identity("status", s.EventID, s.State.String())
	sending := &matrixdurable.Sending{
		Parts: []string{identity}, Uncertain: c.chats.get(s.Chat).telling(identity, s.At, c.connector.began), Settled: after(statusSearch),
	}
	_, err := c.connector.matrix.Bot.SendMessageEvent(matrixdurable.WithSending(ctx, sending), room, event.BeeperMessageStatus, content)
	return c.bearable(err, s)
}

// statusSearch is how many statuses are looked through for one that may have been sent: a chat's are told one after another, so it is
// among the newest.
const statusSearch = 100

// after says of events that they are settled, from the nth on.
func after(n int) func(context.Context, id.EventID) bool {
	return func(context.Context, id.EventID) bool {
		n--
		return n < 0
	}
}

// bearable lets go of a status that Matrix refuses for good: its room is gone, or we are.
func (c *client) bearable(err error, s interop.OutStatus) error {
	if matrixdurable.Permanent(err) {
		c.log.Warn().Str("chat", s.Chat).Str("event_id", s.EventID).Str("state", s.State.String()).Msg("Matrix refuses a message status for good")
		return nil
	}
	return err
}

// sayFailed stores the notice that something was not sent. Matrix gets it sooner or later.
func (c *client) sayFailed(ctx context.Context, room id.RoomID, evt id.EventID, why string) error {
	key := "failure.message"
	if reaction, err := c.connector.bridge.DB.Reaction.GetByMXID(ctx, evt); err != nil {
		return err
	} else if reaction != nil {
		key = "failure.reaction"
	}
	return c.connector.stack.Notices.Reply(ctx, "failed", room, evt, c.login.UserMXID, c.words().Text(key, "why", why))
}
