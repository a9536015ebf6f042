package connector

import (
	"context"
	"errors"
	"time"

	"maunium.net/go/mautrix/bridgev2"
	frameworkdb "maunium.net/go/mautrix/bridgev2/database"

	"postern/connector/interop"
)

// HandleMatrixReadReceipt implements bridgev2.ReadReceiptHandlingNetworkAPI: everything that the other person has sent up to what was
// read is told as read. A receipt that could not be stored is handled again.
func (c *client) HandleMatrixReadReceipt(ctx context.Context, msg *bridgev2.MatrixReadReceipt) error {
	if !c.profile.Features.ReadReceipts || msg.Implicit {
		return nil
	}
	stanza, err := c.lastRead(ctx, msg)
	if err == nil && stanza != "" {
		err = c.account.MarkRead(ctx, string(msg.Portal.ID), stanza)
	}
	if err == nil || errors.Is(err, interop.ErrStopped) || errors.Is(err, interop.ErrNoChat) {
		return nil
	}
	c.connector.stack.ReceiptsAgain(msg.Portal.MXID)
	return err
}

// lastRead is the stanza id of the newest message of the other person's that a receipt covers, "" for none.
func (c *client) lastRead(ctx context.Context, msg *bridgev2.MatrixReadReceipt) (string, error) {
	if row := msg.ExactMessage; row != nil {
		if stanza, ok := incomingStanza(string(msg.Portal.ID), row.ID); ok {
			return stanza, nil
		}
	}
	// A receipt on something else (the person's own message, a notice) covers what is older than it. What was read before is not looked
	// at again; equal times are, since the other side's have whole seconds.
	first := msg.ReadUpTo.Add(-receiptReach)
	if since := msg.LastRead.Add(-time.Second); since.After(first) {
		first = since
	}
	for end, step := msg.ReadUpTo, time.Hour; end.After(first); step *= 8 {
		begin := end.Add(-step)
		if begin.Before(first) {
			begin = first
		}
		rows, err := c.connector.bridge.DB.Message.GetMessagesBetweenTimeQuery(ctx, msg.Portal.PortalKey, begin, end)
		if err != nil {
			return "", err
		}
		if stanza := newestIncoming(string(msg.Portal.ID), rows); stanza != "" {
			return stanza, nil
		}
		end = begin
	}
	return "", nil
}

// receiptReach is how far back a message is looked for that a receipt on something else covers. Rows of the in-queue, without which
// nothing can be told as read, are not kept for longer.
const receiptReach = 45 * 24 * time.Hour

// newestIncoming is the stanza id of the newest incoming message among rows, "" if there is none.
func newestIncoming(chat string, rows []*frameworkdb.Message) string {
	var newest *frameworkdb.Message
	var stanza string
	for _, row := range rows {
		id, ok := incomingStanza(chat, row.ID)
		// Of two that came in the same second the one that was stored later stands below the other.
		if ok && (newest == nil || row.Timestamp.After(newest.Timestamp) ||
			row.Timestamp.Equal(newest.Timestamp) && row.RowID > newest.RowID) {
			newest, stanza = row, id
		}
	}
	return stanza
}

// HandleMatrixTyping implements bridgev2.TypingHandlingNetworkAPI. Matrix does not say what is typed, so a voice message that is being
// recorded looks like any other.
func (c *client) HandleMatrixTyping(ctx context.Context, msg *bridgev2.MatrixTyping) error {
	if waits, err := c.requests.waits(ctx, string(msg.Portal.ID)); err != nil || waits {
		return err
	}
	if c.profile.Features.Typing && carries(c.profile) {
		c.account.Typing(string(msg.Portal.ID), msg.IsTyping, msg.Type == bridgev2.TypingTypeRecordingMedia)
	}
	return nil
}
