package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
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

func TestTheExitStatusIsZeroOnlyIfEverythingHeld(t *testing.T) {
	failed := errors.New("the bridge did not end")
	for name, c := range map[string]struct {
		err  error
		want int
		says string
	}{
		"all held, and all stopped":            {nil, 0, ""},
		"a step failed":                        {failed, 1, "failed"},
		"cut off":                              {errInterrupted, 130, "interrupted"},
		"cut off, and something did not stop":  {errors.Join(errInterrupted, failed), 1, "did not end"},
		"something did not stop at the Ctrl-C": {errors.Join(nil, failed), 1, "did not end"},
	} {
		var said strings.Builder
		if got := exitStatus(c.err, &said); got != c.want || !strings.Contains(said.String(), c.says) {
			t.Errorf("%s: status %d, %q", name, got, said.String())
		}
	}
}

func TestDemoJSONHasWhatScriptsNeed(t *testing.T) {
	dir := t.TempDir()
	k := loadKept(dir)
	k.Users["alice"] = matrixLogin{UserID: "@alice:x", Password: "secret", AccessToken: "token", DeviceID: "D"}
	if err := k.save(dir); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "demo.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		"homeserver", "homeserver_kind", "server_name", "control", "bridge", "public_base", "bot", "users", "phones", "rooms",
		"identifier", "pids", "bridge_config", "bridge_database", "registration", "logs", "homeserver_folder",
	} {
		if _, ok := all[key]; !ok {
			t.Errorf("demo.json has no %s", key)
		}
	}
	alice := all["users"].(map[string]any)["alice"].(map[string]any)
	for _, key := range []string{"user_id", "password", "access_token", "device_id"} {
		if alice[key] == "" || alice[key] == nil {
			t.Errorf("demo.json has no %s of alice", key)
		}
	}
}

func TestTheDemoHasTheDefaultBrakesAndAnOperator(t *testing.T) {
	s := settings()
	for _, who := range []string{"user", "bridge"} {
		for _, what := range []string{"new_chats_a_day", "lookups_an_hour", "messages_a_minute"} {
			if n, ok := s["network.brakes."+who+"."+what]; !ok || n != 0 {
				t.Errorf("%s, %s: %v", who, what, n)
			}
		}
	}
	for _, key := range []string{"network.operator.name", "network.operator.contact"} {
		if text, _ := s[key].(string); text == "" {
			t.Errorf("%s is empty", key)
		}
	}
}
