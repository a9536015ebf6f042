package connector

import (
	"encoding/json"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// otherEvent is the msgtype under which events that are no m.room.message, and that the framework has no way for, reach
// HandleMatrixMessage. Their body is their type; their own content is behind Content.VeryRaw.
const otherEvent event.MessageType = "eu.postern.other"

// carriedEvents are those that package convert makes text of. State events are not among them: a room has those of others, too.
var carriedEvents = map[string]bool{
	"m.poll.start": true, "org.matrix.msc3381.poll.start": true, "org.matrix.msc3381.v2.poll.start": true,
	"m.beacon": true, "org.matrix.msc3672.beacon": true,
}

// carryOther makes an event of another kind one that the framework hands to HandleMatrixMessage, if anything can be made of it.
func carryOther(evt *event.Event) {
	if !carriedEvents[evt.Type.Type] {
		return
	}
	var head struct {
		RelatesTo *event.RelatesTo `json:"m.relates_to"`
	}
	if json.Unmarshal(evt.Content.VeryRaw, &head) != nil {
		head.RelatesTo = nil
	}
	evt.Content.Parsed = &event.MessageEventContent{MsgType: otherEvent, Body: evt.Type.Type, RelatesTo: head.RelatesTo}
	evt.Type = event.EventMessage
}

// sourceEvent is the event under whose id a message goes: its own, save for live locations. Of those one position is sent for each time
// that somebody begins to share, or the other side would get a message for each step of the way.
func sourceEvent(msg *bridgev2.MatrixMessage) id.EventID {
	if msg.Content.MsgType == otherEvent && (msg.Content.Body == "m.beacon" || msg.Content.Body == "org.matrix.msc3672.beacon") {
		if begun := msg.Content.RelatesTo.GetReferenceID(); begun != "" {
			return begun
		}
	}
	return msg.Event.ID
}
