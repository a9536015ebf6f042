package main

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"postern/bridge/parts"
)

func TestDemoJSONIsReadBackAsItWasWritten(t *testing.T) {
	dir := t.TempDir()
	k := loadKept(dir)
	k.Identifier, k.Rooms["Ben"] = "alice", "!room"
	k.Users["alice"] = matrixLogin{UserID: "@alice:x", Password: "secret"}
	if err := k.save(dir); err != nil {
		t.Fatal(err)
	}
	if got := loadKept(dir); !reflect.DeepEqual(got, k) {
		t.Errorf("read %+v, wrote %+v", got, k)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("saving left %d files", len(entries))
	}
}

func TestADemoJSONThatWasCutOffIsNoHindrance(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "demo.json"), []byte(`{"identifier": "ali`), 0o600); err != nil {
		t.Fatal(err)
	}
	if k := loadKept(dir); k.Identifier != "" || k.Rooms == nil {
		t.Errorf("read %+v", k)
	}
}

func TestDeliveryIsRecognisedOnlyWithSomebodyItWasDeliveredTo(t *testing.T) {
	status := func(content string) *parts.Event {
		return &parts.Event{RoomID: "!r", Type: "com.beeper.message_send_status", Content: []byte(content)}
	}
	const about = `"m.relates_to": {"event_id": "$e"}`
	for name, c := range map[string]struct {
		event *parts.Event
		want  bool
	}{
		"delivered":         {status(`{` + about + `, "status": "SUCCESS", "delivered_to_users": ["@ben:x"]}`), true},
		"only sent":         {status(`{` + about + `, "status": "SUCCESS"}`), false},
		"failed":            {status(`{` + about + `, "status": "FAIL_PERMANENT", "delivered_to_users": ["@ben:x"]}`), false},
		"about another":     {status(`{"m.relates_to": {"event_id": "$f"}, "status": "SUCCESS", "delivered_to_users": ["@ben:x"]}`), false},
		"not JSON":          {status(`{`), false},
		"not about a state": {&parts.Event{RoomID: "!r", Type: "m.room.message", Content: []byte(`{}`)}, false},
	} {
		if got := isDelivered(c.event, "!r", "$e"); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
