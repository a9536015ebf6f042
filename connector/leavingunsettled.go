package connector

import (
	"context"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/interop"
	"postern/connector/matrixdurable"
	"postern/database"
)

// failUnsettled stores for each event of an account that is not settled yet how it ends, as Status would tell it: nobody will send it any more.
// It belongs to the transaction that deletes the rows.
func (c *Connector) failUnsettled(ctx context.Context, row *database.Leaving) error {
	list, err := c.db.Leavings().Unsettled(ctx, row.AccountID)
	if err != nil {
		return err
	}
	for _, one := range list {
		if err := c.failLeft(ctx, row, one); err != nil {
			return err
		}
	}
	return nil
}

func (c *Connector) failLeft(ctx context.Context, row *database.Leaving, one database.Unsettled) error {
	room, evt, person := id.RoomID(one.RoomID), id.EventID(one.EventID), id.UserID(row.MXID)
	reason := interop.Reason(one.Reason)
	if reason == "" {
		reason = interop.ReasonAccount
	}
	w, key := c.wordsFor(person), "failure.message"
	why := failureWords(w, reason, gatekeeperName(row.Gatekeeper))
	if reaction, err := c.rows.Reaction.GetByMXID(ctx, evt); err != nil {
		return err
	} else if reaction != nil {
		key = "failure.reaction"
	}
	notice, err := matrixdurable.ReplyNotice("failed", room, evt, person, w.Text(key, "why", why))
	if err != nil {
		return err
	}
	store := notices{c.db.Notices()}
	if err := store.AddNotice(ctx, notice); err != nil || !c.matrix.Config.Matrix.MessageStatusEvents {
		return err
	}
	status := bridgev2.MessageStatus{Status: event.MessageStatusFail, ErrorReason: event.MessageStatusNetworkError, Message: why, IsCertain: true}
	content := status.ToMSSEvent(&bridgev2.MessageStatusEventInfo{RoomID: room, SourceEventID: evt, EventType: event.EventMessage, Sender: person})
	notice, err = matrixdurable.StatusNotice(matrixdurable.Identity("status", one.EventID, interop.OutFailed.String()), room, content)
	if err != nil {
		return err
	}
	return store.AddNotice(ctx, notice)
}
