package connector

import (
	"context"
	"encoding/json"
	"errors"

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

// errNotBegun: a position is said to belong to what is no live location.
var errNotBegun = errors.New("connector: live location: the event referred to is another one")

// sourceEvent is the event under whose id a message goes: its own, save for live locations. Of those one position is sent for each time
// that somebody begins to share, or the other side would get a message for each step of the way.
func sourceEvent(msg *bridgev2.MatrixMessage) id.EventID {
	if begun := beganBy(msg); begun != "" {
		return begun
	}
	return msg.Event.ID
}

// beganBy is the event that began the sharing that a position belongs to; "" if the message is no position, or names none.
func beganBy(msg *bridgev2.MatrixMessage) id.EventID {
	if msg.Content.MsgType == otherEvent && (msg.Content.Body == "m.beacon" || msg.Content.Body == "org.matrix.msc3672.beacon") {
		return msg.Content.RelatesTo.GetReferenceID()
	}
	return ""
}

// knownAs is the framework's row of what went under an event's id, nil for none. A position that refers to something else than the
// beginning of a live location is refused: under the id of that it would count as sent.
func (c *client) knownAs(ctx context.Context, msg *bridgev2.MatrixMessage, source id.EventID) (*frameworkMessage, error) {
	known, err := c.connector.bridge.DB.Message.GetPartByMXID(ctx, source)
	if err != nil {
		return nil, c.again(err)
	} else if beganBy(msg) == "" {
		return known, nil
	}
	if known != nil {
		if metadata, ok := known.Metadata.(*MessageMetadata); !ok || !metadata.Position {
			return nil, refusal(errNotBegun, c.words().Text("refused.not-begun"))
		}
		return known, nil
	}
	if reaction, err := c.connector.bridge.DB.Reaction.GetByMXID(ctx, source); err != nil {
		return nil, c.again(err)
	} else if reaction != nil {
		return nil, refusal(errNotBegun, c.words().Text("refused.not-begun"))
	}
	return nil, nil
}
