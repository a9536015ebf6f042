package matrixdurable

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/matrix"
	"maunium.net/go/mautrix/bridgev2/status"
	"maunium.net/go/mautrix/event"

	"postern/connector/words"
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
	told := c.told(ms, evt)
	if told.SendNotice && c.Config.Matrix.MessageErrorNotices && evt.MessageType != event.MsgNotice {
		content, err := json.Marshal(noticeOf(c.framework.speak(evt.Sender), told, evt))
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
	c.Connector.SendMessageStatus(ctx, told, evt)
}

// told is a status as people are told it: in the connector's words where it has any, and with a notice for every failure that a person
// has to see.
func (c *statusConnector) told(ms *bridgev2.MessageStatus, evt *bridgev2.MessageStatusEventInfo) *bridgev2.MessageStatus {
	told := *ms
	if ms.Status != event.MessageStatusFail && ms.Status != event.MessageStatusRetriable {
		told.SendNotice = false
		return &told
	}
	switch {
	case ms.Step == status.MsgStepCommand:
		// Its handler has panicked. The framework tells no person, and clients what the panic says.
		told.SendNotice, told.InternalError = true, errCommandFault
		told.Message, told.ErrorAsMessage = c.framework.speak(evt.Sender).Text("notice.command"), false
	case isAny(ms.InternalError, bridgev2.ErrPanicInEventHandler, bridgev2.ErrDatabaseError, bridgev2.ErrUnexpectedParsedContentType):
		told.Message, told.ErrorAsMessage = c.framework.speak(evt.Sender).Text("notice.fault"), false
	case ms.ErrorReason == event.MessageStatusUnsupported && !evt.EventType.IsState():
		// The framework keeps some of these to itself; a person has to see all of them.
		told.SendNotice = true
		c.reword(&told, evt)
	case (evt.EventType == event.EventMessage || evt.EventType == event.EventReaction) && errors.Is(ms.InternalError, bridgev2.ErrTargetMessageNotFound):
		// An edit of what was never sent or a reaction to it, which the sender sees as done.
		told.SendNotice = true
		c.reword(&told, evt)
	case errors.Is(ms.InternalError, bridgev2.ErrNotLoggedIn):
		// The framework's words name its own insides and, to a third person, whose the login is.
		c.reword(&told, evt)
	}
	return &told
}

// errCommandFault is what is left of a panic of a command's handler, which may have said anything.
var errCommandFault = errors.New("matrixdurable: a command's handler has panicked")

// isAny says whether an error is one of the framework's sentinels. The framework gives what is inside them as well as themselves.
func isAny(err error, sentinels ...error) bool {
	return err != nil && slices.ContainsFunc(sentinels, func(s error) bool { return errors.Is(err, s) || errors.Is(s, err) })
}

// reword puts the connector's words for a refusal in place of the framework's, if it has any.
func (c *statusConnector) reword(ms *bridgev2.MessageStatus, evt *bridgev2.MessageStatusEventInfo) {
	if words := c.framework.refuse(evt, ms.InternalError); words != "" {
		ms.Message, ms.ErrorAsMessage = words, false
	}
}

// noticeOf is the framework's notice of a failure in words that clients use, with a sentence as the reason.
func noticeOf(w words.Words, ms *bridgev2.MessageStatus, evt *bridgev2.MessageStatusEventInfo) *event.MessageEventContent {
	said := *ms
	if (said.ErrorAsMessage || said.Message == "") && said.InternalError != nil {
		said.Message = said.InternalError.Error()
	}
	said.Message, said.ErrorAsMessage = sentence(said.Message), false
	if said.Message == "" {
		said.Message = w.Text("notice.something")
	}
	content := said.ToNoticeEvent(evt)
	if content.Body = w.Text(noticeKey(&said, evt), "why", said.Message); said.Step == status.MsgStepCommand {
		content.Body = "⚠️ " + said.Message
	}
	return content
}

// noticeKey is the key of the words around the reason for a failure.
func noticeKey(ms *bridgev2.MessageStatus, evt *bridgev2.MessageStatusEventInfo) string {
	what := "notice.message-"
	switch evt.EventType {
	case event.EventReaction:
		what = "notice.reaction-"
	case event.EventRedaction:
		what = "notice.deletion-"
	}
	if ms.IsCertain {
		return what + "not"
	}
	return what + "unsure"
}

// sentence gives words a capital at the beginning and a full stop at the end.
func sentence(words string) string {
	words = strings.TrimSpace(words)
	first, size := utf8.DecodeRuneInString(words)
	if words == "" || first == utf8.RuneError {
		return words
	}
	words = string(unicode.ToUpper(first)) + words[size:]
	if last, _ := utf8.DecodeLastRuneInString(words); !unicode.IsPunct(last) || last == ')' {
		words += "."
	}
	return words
}
