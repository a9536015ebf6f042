package connector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
	"maunium.net/go/mautrix/bridgev2"
	frameworkdb "maunium.net/go/mautrix/bridgev2/database"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/convert"
	"postern/connector/interop"
	"postern/connector/matrixdurable"
	"postern/connector/profile"
	"postern/connector/words"
)

var (
	_ bridgev2.EditHandlingNetworkAPI        = (*client)(nil)
	_ bridgev2.ReactionHandlingNetworkAPI    = (*client)(nil)
	_ bridgev2.RedactionHandlingNetworkAPI   = (*client)(nil)
	_ bridgev2.ReadReceiptHandlingNetworkAPI = (*client)(nil)
	_ bridgev2.TypingHandlingNetworkAPI      = (*client)(nil)
)

// HandleMatrixMessage implements bridgev2.NetworkAPI. A message is taken over by one transaction that has its place in the chat's
// order and the framework's row; sending comes later and is told through Status, and so is moving an attachment (Prepare). Handed over
// again, it is recognised.
func (c *client) HandleMatrixMessage(ctx context.Context, msg *bridgev2.MatrixMessage) (*bridgev2.MatrixMessageResponse, error) {
	if !carries(c.profile) {
		return nil, c.noContent()
	}
	// An event that comes again long after its rows have left the queue is known by the framework's row. (The framework's own
	// look-up, deduplicate_matrix_messages, reads all rows of a login each time.)
	source := sourceEvent(msg)
	if known, err := c.knownAs(ctx, msg, source); err != nil {
		return nil, err
	} else if known != nil {
		return &bridgev2.MatrixMessageResponse{DB: known, Pending: true}, nil
	}
	out, role, err := c.outgoing(ctx, msg)
	if err != nil {
		return nil, err
	}
	out.EventID = source.String()
	row := c.outgoingRow(msg.Portal, msg.Event, out, MessageMetadata{Role: role, Position: beganBy(msg) != "", Said: c.saidBy(msg.Content)})
	if msg.ReplyTo != nil {
		row.ReplyTo.MessageID, row.ReplyTo.PartID = msg.ReplyTo.ID, &msg.ReplyTo.PartID
	}
	c.sayWaiting(ctx, msg.Event, out.Chat)
	if err := c.take(ctx, out, row); err != nil {
		return nil, err
	}
	return &bridgev2.MatrixMessageResponse{DB: row, Pending: true}, nil
}

// outgoing makes what is queued of a message. role is that of its attachment, "" if it has none.
func (c *client) outgoing(ctx context.Context, msg *bridgev2.MatrixMessage) (out interop.Outgoing, role convert.Role, err error) {
	out = interop.Outgoing{RoomID: msg.Event.RoomID.String(), Chat: string(msg.Portal.ID)}
	quote := c.quoteOf(ctx, msg.Portal, msg.ReplyTo)
	if attachment, ok := convert.ReadAttachment(msg.Content, msg.Event.Type == event.EventSticker); ok {
		out.Recipe, err = c.recipe(attachment, quote)
		return out, attachment.Role, err
	}
	limits := c.textLimits(quote)
	var messages []*waE2E.Message
	if msg.Content.MsgType == otherEvent {
		messages, err = convert.EventToInterop(msg.Content.Body, msg.Event.Content.VeryRaw, limits)
	} else {
		messages, err = convert.ToInterop(msg.Content, limits)
	}
	if err != nil {
		return out, "", refusal(err, c.explain(err))
	}
	out.Type = "text"
	out.Parts, out.Fallbacks, err = c.payloads(messages, quote)
	return out, "", err
}

// textLimits are the bounds of a text, with room for a quote if there is one to be put before it.
func (c *client) textLimits(quote *convert.Quote) convert.Limits {
	limits := convert.Limits{MaxTextUnits: c.profile.Message.MaxTextUnits}
	if quote != nil {
		limits.MaxTextUnits -= convert.MaxQuoteUnits
	}
	return limits
}

// explain puts an error of package convert into words.
func (c *client) explain(err error) string {
	if kind := convert.Refused(err); kind != "" {
		return unsupported(c.words(), kind)
	}
	return c.words().Text("refused.form")
}

// payloads writes messages down, as an answer if there is a quote: in the form that the other side is known to take, or else in the
// context form with quoted text to fall back to (PROTOCOL.md 6.4).
func (c *client) payloads(messages []*waE2E.Message, quote *convert.Quote) (parts, fallbacks [][]byte, err error) {
	if len(messages) > interop.MaxParts {
		return nil, nil, refusal(interop.ErrBadOutgoing, c.words().Text("refused.too-long"))
	}
	var plain []*waE2E.Message
	if quote != nil {
		if plain = convert.WithQuotedText(messages, *quote); c.account.ReplyForm() == profile.ReplyQuote {
			messages, plain = plain, nil
		} else {
			messages = convert.WithReply(messages, *quote)
		}
	}
	for _, m := range messages {
		part, err := proto.Marshal(m)
		if err != nil {
			return nil, nil, refusal(err, c.explain(err))
		}
		parts = append(parts, part)
	}
	if plain == nil {
		return parts, nil, nil
	}
	// Only the first refers to the quoted message, so only the first can be refused for it.
	fallbacks = make([][]byte, len(parts))
	if fallbacks[0], err = proto.Marshal(plain[0]); err != nil {
		return nil, nil, refusal(err, c.explain(err))
	}
	return parts, fallbacks, nil
}

// outgoingRow is the framework's row of what is queued for an event, whose metadata gets the stanza ids.
func (c *client) outgoingRow(portal *bridgev2.Portal, evt *event.Event, out interop.Outgoing, metadata MessageMetadata) *frameworkMessage {
	ids := make([]string, max(len(out.Parts), 1))
	for i := range ids {
		ids[i] = interop.StanzaID(c.stanzaKey, out.EventID, i)
	}
	metadata.StanzaIDs = ids
	return &frameworkdb.Message{
		ID: outgoingID(string(portal.ID), ids[0]), MXID: id.EventID(out.EventID), Room: portal.PortalKey,
		SenderID: selfID(c.profile, string(c.login.ID)), SenderMXID: evt.Sender, Timestamp: time.UnixMilli(evt.Timestamp),
		Metadata: &metadata,
	}
}

// take stores what is queued, the framework's row of it, if there is one, and rows that change with it, in one transaction.
func (c *client) take(ctx context.Context, out interop.Outgoing, row *frameworkMessage, changed ...*frameworkMessage) error {
	if err := c.mayWrite(ctx, out.Chat); err != nil {
		return err
	}
	// The framework's row names its sender, and that row has to be there.
	if _, err := c.connector.bridge.GetGhostByID(ctx, selfID(c.profile, string(c.login.ID))); err != nil {
		return c.again(err)
	}
	// Answering is accepting.
	if _, err := c.requests.accept(ctx, out.Chat); err != nil && !errors.Is(err, interop.ErrNoChat) {
		return c.again(err)
	}
	held, waits, err := c.heldNotice(ctx, out)
	if err != nil && !errors.Is(err, interop.ErrNoChat) {
		return c.again(err)
	}
	_, err = c.account.Send(ctx, out, func(ctx context.Context) error {
		if waits {
			if err := c.connector.stack.Notices.Add(ctx, held); err != nil {
				return err
			}
		}
		return c.storeRows(ctx, row, changed)
	})
	if err != nil {
		return c.notTaken(err)
	}
	if waits { // Add has woken before the notice was there to be seen
		c.connector.stack.Notices.Wake()
	}
	c.queued(row)
	return nil
}

// storeRows stores the framework's rows of what is queued: a new one, if it is not nil, and changed ones.
func (c *client) storeRows(ctx context.Context, row *frameworkMessage, changed []*frameworkMessage) error {
	for _, r := range changed {
		if err := c.connector.rows.Message.Update(ctx, r); err != nil {
			return err
		}
	}
	if row == nil {
		return nil
	}
	return c.connector.rows.Message.Insert(ctx, row)
}

// notTaken says to the sender why an event was not queued, or has it tried again.
func (c *client) notTaken(err error) error {
	switch {
	case errors.Is(err, interop.ErrBadOutgoing):
		return refusal(err, c.words().Text("refused.too-long"))
	case errors.Is(err, interop.ErrNoChat):
		return refusal(err, c.words().Text("refused.no-chat"))
	case errors.Is(err, interop.ErrStopped):
		return refusal(err, c.words().Text("refused.logged-out"))
	}
	return c.again(err)
}

// errNoContent: the gatekeeper's messages have a form that package convert does not write.
var errNoContent = errors.New("connector: send: not the gatekeeper's form")

func (c *client) noContent() error {
	return refusal(errNoContent, c.words().Text("refused.no-content", "gatekeeper", c.profile.DisplayName))
}

// carries says whether messages of a gatekeeper can be read and written at all. Where they cannot, people are told before
// they agree, at the beginning of each chat, and for each message.
func carries(p *profile.Profile) bool { return p.Message.Payload == profile.PayloadE2E }

// cannotCarry is that warning, to be put behind a text; "" where there is nothing to warn of.
func cannotCarry(w words.Words, p *profile.Profile) string {
	if carries(p) {
		return ""
	}
	return "\n\n" + w.Text("chat.cannot-carry", "gatekeeper", p.DisplayName)
}

// explained marks an error whose words for the sender are complete, so that refuse leaves them as they are.
type explained struct{ cause error }

func (e *explained) Error() string { return e.cause.Error() }
func (e *explained) Unwrap() error { return e.cause }

// refusal is an error that the sender reads in the room.
func refusal(err error, words string) error {
	return bridgev2.WrapErrorInStatus(&explained{err}).WithStatus(event.MessageStatusFail).WithErrorReason(event.MessageStatusUnsupported).
		WithMessage(words).WithIsCertain(true).WithSendNotice(true)
}

// notAllowed is the refusal of what the bridge could send, and does not.
func notAllowed(err error, words string) error {
	return bridgev2.WrapErrorInStatus(&explained{err}).WithStatus(event.MessageStatusFail).WithErrorReason(event.MessageStatusNoPermission).
		WithMessage(words).WithIsCertain(true).WithSendNotice(true)
}

// again makes the event be handled once more, after a while, with nobody told.
func (c *client) again(err error) error {
	c.log.Warn().Err(err).Msg("Could not take an event over, trying again")
	return fmt.Errorf("%w: %w", matrixdurable.ErrTryAgain, err)
}

// waitingPatience bounds how long a person's message waits for the word that it waits.
const waitingPatience = 10 * time.Second

// sayWaiting tells clients that look for it that an event waits for the stream, for a brake or for a new key to be confirmed, if it does. That comes before the event is queued, and under one id
// for ever: behind it "sent" could be on its way already, and a state is told once.
func (c *client) sayWaiting(ctx context.Context, evt *event.Event, chat string) {
	if !c.connector.matrix.Config.Matrix.MessageStatusEvents {
		return
	}
	_, _, held, err := c.account.Held(ctx, chat)
	if err != nil {
		c.log.Debug().Err(err).Msg("Could not look whether an event waits")
	}
	if c.live.Load() && c.connector.brakes.slowed(c.login.UserMXID).IsZero() && !held {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, waitingPatience)
	defer cancel()
	sending := &matrixdurable.Sending{
		Parts: []string{matrixdurable.Identity("status", evt.ID.String(), "waiting")}, Settled: after(statusSearch),
		Uncertain: time.UnixMilli(evt.Timestamp).Before(c.connector.began),
	}
	status := bridgev2.MessageStatus{Status: event.MessageStatusPending}
	if held {
		status.Message = c.words().Text("chat.held", "prefix", c.connector.bridge.Config.CommandPrefix)
	}
	content := status.ToMSSEvent(bridgev2.StatusEventInfoFromEvent(evt))
	if _, err := c.connector.matrix.Bot.SendMessageEvent(matrixdurable.WithSending(ctx, sending), evt.RoomID, event.BeeperMessageStatus, content); err != nil {
		c.log.Debug().Err(err).Msg("Could not tell that an event waits")
	}
}
