package matrixdurable

import (
	"testing"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

func TestWhatIsHandledIsKnownByItsIDAndReceiptsByTheirRoom(t *testing.T) {
	f := &Framework{again: map[string]bool{}, later: map[id.EventID]bool{}}
	message := &event.Event{Type: event.EventMessage, ID: "$1", RoomID: "!a"}
	receipts := &event.Event{Type: event.EphemeralEventReceipt, RoomID: "!a"}
	typing := &event.Event{Type: event.EphemeralEventTyping, RoomID: "!a"}
	elsewhere := &event.Event{Type: event.EphemeralEventReceipt, RoomID: "!b"}
	for _, evt := range []*event.Event{message, receipts, typing, elsewhere} {
		f.again[handling(evt)] = false
	}
	if len(f.again) != 4 {
		t.Fatalf("four things being handled are known as %d", len(f.again))
	}
	f.ReceiptsAgain("!a")
	f.ReceiptsAgain("!nowhere")
	f.tryAgain("$2")
	if !f.again[handling(receipts)] || f.again[handling(message)] || f.again[handling(typing)] || f.again[handling(elsewhere)] || len(f.again) != 4 {
		t.Errorf("to be handled again: %v", f.again)
	}
}

func TestASuccessThatTheConnectorTellsIsNotToldByTheFramework(t *testing.T) {
	f := &Framework{again: map[string]bool{"$1": false}, later: map[id.EventID]bool{}}
	f.TellLater("$1")
	f.TellLater("$2") // not being handled: its success may have been told already
	if !f.toldLater("$1") || f.toldLater("$2") {
		t.Errorf("told later: %v", f.later)
	}
	c := &statusConnector{framework: f} // telling it would need the Matrix connector
	c.SendMessageStatus(t.Context(), &bridgev2.MessageStatus{Status: event.MessageStatusSuccess},
		&bridgev2.MessageStatusEventInfo{SourceEventID: "$1", EventType: event.EventReaction})
}
