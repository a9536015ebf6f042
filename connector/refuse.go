package connector

import (
	"errors"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/event"

	"postern/connector/convert"
	"postern/connector/words"
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

// unsupported says that events of a kind cannot be sent.
func unsupported(w words.Words, kind convert.Kind) string {
	return w.Text("unsupported." + string(kind))
}

// tooLargeHere says how large a file of the event's kind may be in its room; "" if the room is of no login.
func (c *Connector) tooLargeHere(evt *bridgev2.MessageStatusEventInfo) string {
	if c.bridge == nil {
		return ""
	}
	portal, err := c.bridge.GetPortalByMXID(c.ctx, evt.RoomID)
	if err != nil || portal == nil {
		return ""
	}
	login := c.bridge.GetCachedUserLoginByID(portal.Receiver)
	if login == nil {
		return ""
	}
	own, ok := login.Client.(*client)
	if !ok {
		return ""
	}
	roles := map[event.MessageType]convert.Role{event.MsgImage: convert.RoleImage, event.MsgVideo: convert.RoleVideo, event.MsgAudio: convert.RoleAudio}
	role, known := roles[evt.MessageType]
	if !known {
		role = convert.RoleDocument
	}
	if evt.EventType == event.EventSticker {
		role = convert.RoleSticker
	}
	return own.tooLargeWords(role)
}

// refuse says to a person why an event was not sent on; "" to say nothing, or what the error says itself.
func (c *Connector) refuse(evt *bridgev2.MessageStatusEventInfo, cause error) string {
	w := c.wordsFor(evt.Sender)
	var ours *explained
	switch {
	case errors.As(cause, &ours):
		return ""
	case is(cause, bridgev2.ErrEditsNotSupported), is(cause, bridgev2.ErrEditsNotSupportedInPortal):
		return unsupported(w, convert.KindEdit)
	case is(cause, bridgev2.ErrNotLoggedIn):
		return w.Text("refused.ended")
	case is(cause, bridgev2.ErrMediaTooLarge):
		return c.tooLargeHere(evt)
	case is(cause, bridgev2.ErrTargetMessageNotFound) && evt.EventType == event.EventMessage:
		return w.Text("refused.edit-unknown")
	case is(cause, bridgev2.ErrTargetMessageNotFound) && evt.EventType == event.EventReaction:
		return w.Text("refused.reaction-unknown")
	}
	switch evt.EventType {
	case event.EventMessage:
		_, err := convert.ToInterop(&event.MessageEventContent{MsgType: evt.MessageType, Body: ".", URL: "mxc://a/b", GeoURI: "geo:0,0"}, convert.Limits{})
		if kind := convert.Refused(err); kind != "" {
			return unsupported(w, kind)
		}
	case event.EventSticker, event.EventReaction, event.EventRedaction, event.EventUnstablePollResponse, event.CallInvite,
		pollResponse, pollEnd, unstableEnd:
		return unsupported(w, convert.UnsupportedEvent(evt.EventType.Type).Kind)
	}
	return ""
}
