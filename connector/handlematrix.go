package connector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"maunium.net/go/mautrix/bridgev2"
	frameworkdb "maunium.net/go/mautrix/bridgev2/database"
	"maunium.net/go/mautrix/event"

	"postern/connector/convert"
	"postern/connector/interop"
	"postern/connector/matrixdurable"
	"postern/connector/profile"
)

// HandleMatrixMessage implements bridgev2.NetworkAPI. A message is taken over by one transaction that has its place in the chat's
// order and the framework's row; sending comes later and is told through Status. Handed over again, it is recognised.
func (c *client) HandleMatrixMessage(ctx context.Context, msg *bridgev2.MatrixMessage) (*bridgev2.MatrixMessageResponse, error) {
	if !carries(c.profile) {
		return nil, refusal(errNoContent, "this bridge cannot put messages into "+c.profile.DisplayName+"'s form. Nothing was sent")
	}
	// An event that comes again long after its rows have left the queue is known by the framework's row. (The framework's own
	// look-up, deduplicate_matrix_messages, reads all rows of a login each time.)
	if known, err := c.connector.bridge.DB.Message.GetPartByMXID(ctx, msg.Event.ID); err != nil {
		return nil, c.again(err)
	} else if known != nil {
		return &bridgev2.MatrixMessageResponse{DB: known, Pending: true}, nil
	}
	parts, err := c.convert(msg.Content)
	if err != nil {
		return nil, err
	}
	// The framework's row names its sender, and that row has to be there.
	self := selfID(c.profile, string(c.login.ID))
	if _, err := c.connector.bridge.GetGhostByID(ctx, self); err != nil {
		return nil, c.again(err)
	}
	ids := make([]string, len(parts))
	for i := range parts {
		ids[i] = interop.StanzaID(c.stanzaKey, msg.Event.ID.String(), i)
	}
	row := &frameworkdb.Message{
		ID: outgoingID(string(msg.Portal.ID), ids[0]), MXID: msg.Event.ID, Room: msg.Portal.PortalKey,
		SenderID: self, SenderMXID: msg.Event.Sender, Timestamp: time.UnixMilli(msg.Event.Timestamp),
		Metadata: &MessageMetadata{StanzaIDs: ids},
	}
	_, err = c.account.Send(ctx, interop.Outgoing{
		EventID: msg.Event.ID.String(), RoomID: msg.Event.RoomID.String(), Chat: string(msg.Portal.ID), Parts: parts, Type: "text",
	}, func(ctx context.Context) error { return c.connector.rows.Message.Insert(ctx, row) })
	switch {
	case err == nil:
	case errors.Is(err, interop.ErrBadOutgoing):
		return nil, refusal(err, "it is too long")
	case errors.Is(err, interop.ErrNoChat):
		return nil, refusal(err, "this chat does not exist any more")
	case errors.Is(err, interop.ErrStopped):
		return nil, refusal(err, "you are not logged in any more")
	default:
		return nil, c.again(err)
	}
	if !c.live.Load() {
		c.sayWaiting(ctx, msg)
	}
	return &bridgev2.MatrixMessageResponse{DB: row, Pending: true}, nil
}

// errNoContent: the gatekeeper's messages have a form that package convert does not write.
var errNoContent = errors.New("connector: send: not the gatekeeper's form")

// carries says whether messages of a gatekeeper can be read and written at all. Where they cannot, people are told before
// they agree, at the beginning of each chat, and for each message.
func carries(p *profile.Profile) bool { return p.Message.Payload == profile.PayloadE2E }

// cannotCarry is that warning, to be put behind a text; "" where there is nothing to warn of.
func cannotCarry(p *profile.Profile) string {
	if carries(p) {
		return ""
	}
	return fmt.Sprintf("\n\n⚠️ This bridge can find people on %s and be found by them, but it cannot read or write %s's messages: each one is refused.",
		p.DisplayName, p.DisplayName)
}

// convert makes the payloads of a message.
func (c *client) convert(content *event.MessageEventContent) ([][]byte, error) {
	messages, err := convert.ToInterop(content, convert.Limits{MaxTextUnits: c.profile.Message.MaxTextUnits})
	if err != nil {
		words := convert.Explain(err)
		if words == "" {
			words = "it could not be put into the other side's form"
		}
		return nil, refusal(err, words)
	}
	if len(messages) > interop.MaxParts {
		return nil, refusal(interop.ErrBadOutgoing, "it is too long")
	}
	parts := make([][]byte, len(messages))
	for i, m := range messages {
		if parts[i], err = proto.Marshal(m); err != nil {
			return nil, refusal(err, "it could not be put into the other side's form")
		}
	}
	return parts, nil
}

// refusal is an error that the sender reads in the room.
func refusal(err error, words string) error {
	return bridgev2.WrapErrorInStatus(err).WithStatus(event.MessageStatusFail).WithErrorReason(event.MessageStatusUnsupported).
		WithMessage(words).WithIsCertain(true).WithSendNotice(true)
}

// again makes the event be handled once more, after a while, with nobody told.
func (c *client) again(err error) error {
	c.log.Warn().Err(err).Msg("Could not take a message over, trying again")
	return fmt.Errorf("%w: %w", matrixdurable.ErrTryAgain, err)
}

// sayWaiting tells clients that look for it that a message waits for the stream.
func (c *client) sayWaiting(ctx context.Context, msg *bridgev2.MatrixMessage) {
	c.connector.bridge.Matrix.SendMessageStatus(ctx, &bridgev2.MessageStatus{Status: event.MessageStatusPending},
		bridgev2.StatusEventInfoFromEvent(msg.Event))
}
