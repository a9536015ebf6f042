package matrixdurable

import (
	"context"
	"encoding/json"
	"errors"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/matrix"
	"maunium.net/go/mautrix/event"
)

// statusConnector is the framework's Matrix connector with message status that is not
// forgotten: a notice that a person has to see is a row in the database before the event counts as handled.
type statusConnector struct {
	*matrix.Connector
	framework *Framework
}

// SendMessageStatus implements bridgev2.MatrixConnector. The original starts a
// goroutine and forgets what it could not send.
func (c *statusConnector) SendMessageStatus(ctx context.Context, ms *bridgev2.MessageStatus, evt *bridgev2.MessageStatusEventInfo) {
	if evt.EventType.IsEphemeral() || evt.SourceEventID == "" {
		return
	}
	if ms.InternalError != nil && errors.Is(ms.InternalError, ErrTryAgain) {
		c.framework.tryAgain(evt.SourceEventID.String())
		return
	}
	if ms.Status == event.MessageStatusSuccess && c.framework.toldLater(evt.SourceEventID) {
		return
	}
	failed := ms.Status == event.MessageStatusFail || ms.Status == event.MessageStatusRetriable
	told := *ms
	if failed && ms.ErrorReason == event.MessageStatusUnsupported && !evt.EventType.IsState() {
		// The framework keeps some of these to itself; a person has to see all of them.
		told.SendNotice = true
		c.reword(&told, evt)
	} else if failed && evt.EventType == event.EventMessage && errors.Is(ms.InternalError, bridgev2.ErrTargetMessageNotFound) {
		// An edit of what was never sent, which the sender sees as done.
		told.SendNotice = true
		c.reword(&told, evt)
	} else if failed && errors.Is(ms.InternalError, bridgev2.ErrNotLoggedIn) {
		// The framework's words name its own insides and, to a third person, whose the login is.
		c.reword(&told, evt)
	}
	if failed && told.SendNotice && c.Config.Matrix.MessageErrorNotices && evt.MessageType != event.MsgNotice {
		content, err := json.Marshal(told.ToNoticeEvent(evt))
		if err == nil {
			err = c.framework.notices.Add(ctx, Notice{
				ID:      Identity("status", evt.SourceEventID.String()),
				Room:    evt.RoomID,
				Content: content,
			})
		}
		if err != nil {
			c.framework.log.Err(err).Stringer("event_id", evt.SourceEventID).Msg("Could not store a notice")
			c.framework.tryAgain(evt.SourceEventID.String())
			return
		}
	}
	// What machines read is sent as it was: losing it does not hide a failure.
	told.SendNotice = false
	c.Connector.SendMessageStatus(ctx, &told, evt)
}

// reword puts the connector's words for a refusal in place of the framework's, if it has any.
func (c *statusConnector) reword(ms *bridgev2.MessageStatus, evt *bridgev2.MessageStatusEventInfo) {
	if words := c.framework.refuse(evt, ms.InternalError); words != "" {
		ms.Message, ms.ErrorAsMessage = words, false
	}
}
