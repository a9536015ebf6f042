package matrixdurable

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/status"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/words"
)

func TestEveryFailureThatAPersonHasToSeeHasANotice(t *testing.T) {
	speak := func(id.UserID) words.Words { return words.For("en") }
	panicked := bridgev2.MessageStatus{Step: status.MsgStepCommand, Status: event.MessageStatusFail, InternalError: errors.New("secret"), ErrorAsMessage: true, IsCertain: true}
	command, fault := speak("").Text("notice.command"), speak("").Text("notice.fault")
	broke := bridgev2.WrapErrorInStatus(bridgev2.ErrPanicInEventHandler)
	inside := bridgev2.WrapErrorInStatus(fmt.Errorf("%w: of ours", bridgev2.ErrDatabaseError))
	c := &statusConnector{framework: &Framework{speak: speak, refuse: func(*bridgev2.MessageStatusEventInfo, error) string { return "ours" }}}
	missing := fmt.Errorf("x %w", bridgev2.ErrTargetMessageNotFound)
	for name, x := range map[string]struct {
		kind   event.Type
		status bridgev2.MessageStatus
		notice bool
		words  string
	}{
		"an edit of what is not there":       {event.EventMessage, bridgev2.MessageStatus{Status: event.MessageStatusFail, InternalError: missing}, true, "ours"},
		"a reaction to what is not there":    {event.EventReaction, bridgev2.MessageStatus{Status: event.MessageStatusFail, InternalError: missing}, true, "ours"},
		"a redaction of what is not there":   {event.EventRedaction, bridgev2.MessageStatus{Status: event.MessageStatusFail, InternalError: missing}, false, ""},
		"what is not supported":              {event.EventSticker, bridgev2.MessageStatus{Status: event.MessageStatusFail, ErrorReason: event.MessageStatusUnsupported}, true, "ours"},
		"state that is not supported":        {event.StateTopic, bridgev2.MessageStatus{Status: event.MessageStatusFail, ErrorReason: event.MessageStatusUnsupported}, false, ""},
		"a login that has ended":             {event.EventMessage, bridgev2.MessageStatus{Status: event.MessageStatusFail, InternalError: bridgev2.ErrNotLoggedIn, SendNotice: true}, true, "ours"},
		"another failure, as it asks":        {event.EventMessage, bridgev2.MessageStatus{Status: event.MessageStatusRetriable, SendNotice: true, Message: "theirs"}, true, "theirs"},
		"a command that has panicked":        {event.EventMessage, panicked, true, command},
		"an event that has panicked":         {event.EventMessage, broke, true, fault},
		"a database that has failed":         {event.EventReaction, inside, true, fault},
		"a success that asks for one anyway": {event.EventMessage, bridgev2.MessageStatus{Status: event.MessageStatusSuccess, SendNotice: true}, false, ""},
	} {
		got := c.told(&x.status, &bridgev2.MessageStatusEventInfo{EventType: x.kind})
		if got.SendNotice != x.notice || got.Message != x.words || x.words != "" && got.ErrorAsMessage || strings.Contains(fmt.Sprint(got.InternalError), "secret") {
			t.Errorf("%s: notice %v, %q", name, got.SendNotice, got.Message)
		}
	}
}

func TestANoticeOfAFailureIsASentence(t *testing.T) {
	for name, x := range map[string]struct {
		kind   event.Type
		status bridgev2.MessageStatus
		want   string
	}{
		"words without a capital": {event.EventMessage, bridgev2.MessageStatus{Message: "it is too long"}, "⚠️ Your message was not bridged: It is too long."},
		"a sentence":              {event.EventMessage, bridgev2.MessageStatus{Message: "Calls are not possible."}, "⚠️ Your message was not bridged: Calls are not possible."},
		"an error":                {event.EventReaction, bridgev2.MessageStatus{InternalError: errors.New("öh (1)"), ErrorAsMessage: true}, "⚠️ Your reaction was not bridged: Öh (1)."},
		"a deletion":              {event.EventRedaction, bridgev2.MessageStatus{Message: "no redaction here"}, "⚠️ Your deletion was not bridged: No redaction here."},
		"a command":               {event.EventMessage, bridgev2.MessageStatus{Step: status.MsgStepCommand, Message: "It went wrong."}, "⚠️ It went wrong."},
		"no words at all":         {event.EventMessage, bridgev2.MessageStatus{}, "⚠️ Your message was not bridged: Something went wrong."},
	} {
		x.status.IsCertain = true
		if got := noticeOf(words.For("en"), &x.status, &bridgev2.MessageStatusEventInfo{EventType: x.kind}).Body; got != x.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
