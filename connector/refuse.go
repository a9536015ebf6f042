package connector

import (
	"errors"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/event"

	"postern/connector/convert"
)

// Kinds of events that the framework has no names for.
var (
	pollResponse = event.Type{Type: "m.poll.response", Class: event.MessageEventType}
	pollEnd      = event.Type{Type: "m.poll.end", Class: event.MessageEventType}
	unstableEnd  = event.Type{Type: "org.matrix.msc3381.poll.end", Class: event.MessageEventType}
)

// is says whether an error of the framework's is that sentinel. The framework gives what is inside its sentinels as well as the
// sentinels themselves, so both ways are asked.
func is(cause, sentinel error) bool {
	return cause != nil && (errors.Is(cause, sentinel) || errors.Is(sentinel, cause))
}

// refuse says to a person why an event was not sent on; "" to say nothing, or what the error says itself.
func refuse(evt *bridgev2.MessageStatusEventInfo, cause error) string {
	var ours *explained
	switch {
	case errors.As(cause, &ours):
		return ""
	case is(cause, bridgev2.ErrEditsNotSupported), is(cause, bridgev2.ErrEditsNotSupportedInPortal):
		return (&convert.Unsupported{Kind: convert.KindEdit}).Sentence()
	case is(cause, bridgev2.ErrNotLoggedIn):
		return "This room belongs to a login that has ended or is not yours, so nothing was sent. Log in if you are not, and open a chat of your own with `start-chat`."
	case is(cause, bridgev2.ErrMediaTooLarge):
		return "" // names both sizes
	case is(cause, bridgev2.ErrTargetMessageNotFound) && evt.EventType == event.EventMessage:
		return "The edited message is not one that was sent to this chat, so the other person does not get the change. Please send it as a new message."
	case is(cause, bridgev2.ErrTargetMessageNotFound) && evt.EventType == event.EventReaction:
		return "The message that you reacted to is not one of this chat, so the other person does not get the reaction."
	}
	switch evt.EventType {
	case event.EventMessage:
		_, err := convert.ToInterop(&event.MessageEventContent{MsgType: evt.MessageType, Body: ".", URL: "mxc://a/b", GeoURI: "geo:0,0"}, convert.Limits{})
		return convert.Explain(err)
	case event.EventSticker, event.EventReaction, event.EventRedaction, event.EventUnstablePollResponse, event.CallInvite,
		pollResponse, pollEnd, unstableEnd:
		return convert.UnsupportedEvent(evt.EventType.Type).Sentence()
	}
	return ""
}
