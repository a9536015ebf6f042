package matrixdurable

import (
	"encoding/json"
	"slices"
	"testing"
)

func TestWhatATransactionShowsOfTheLifeOfUsers(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want []string
	}{
		"a message":               {`{"events":[{"event_id":"$1","room_id":"!r","type":"m.room.message","sender":"@a:x"}]}`, []string{"@a:x"}},
		"an encrypted one":        {`{"events":[{"event_id":"$1","room_id":"!r","type":"m.room.encrypted","sender":"@a:x"}]}`, []string{"@a:x"}},
		"a join":                  {`{"events":[{"event_id":"$1","room_id":"!r","type":"m.room.member","state_key":"@a:x","sender":"@a:x"}]}`, []string{"@a:x"}},
		"what we have sent":       {`{"events":[{"event_id":"$1","room_id":"!r","type":"m.room.message","sender":"@own"}]}`, nil},
		"each once":               {`{"events":[{"room_id":"!r","sender":"@a:x"},{"room_id":"!r","sender":"@b:x"},{"room_id":"!s","sender":"@a:x"}]}`, []string{"@a:x", "@b:x"}},
		"online":                  {`{"ephemeral":[{"type":"m.presence","sender":"@a:x","content":{"presence":"online"}}]}`, []string{"@a:x"}},
		"away":                    {`{"ephemeral":[{"type":"m.presence","sender":"@a:x","content":{"presence":"unavailable"}}]}`, nil},
		"offline":                 {`{"ephemeral":[{"type":"m.presence","sender":"@a:x","content":{"presence":"offline"}}]}`, nil},
		"typing":                  {`{"ephemeral":[{"type":"m.typing","room_id":"!r","content":{"user_ids":["@own","@a:x"]}}]}`, []string{"@a:x"}},
		"nobody types":            {`{"ephemeral":[{"type":"m.typing","room_id":"!r","content":{"user_ids":[]}}]}`, nil},
		"a receipt":               {`{"ephemeral":[{"type":"m.receipt","room_id":"!r","content":{"$1":{"m.read":{"@a:x":{"ts":1}}}}}]}`, []string{"@a:x"}},
		"a private receipt":       {`{"ephemeral":[{"type":"m.receipt","room_id":"!r","content":{"$1":{"m.read.private":{"@a:x":{}}}}}]}`, []string{"@a:x"}},
		"by the unstable name":    {`{"de.sorunome.msc2409.ephemeral":[{"type":"m.typing","room_id":"!r","content":{"user_ids":["@a:x"]}}]}`, []string{"@a:x"}},
		"of another kind":         {`{"ephemeral":[{"type":"m.other","sender":"@a:x","content":{"user_ids":["@a:x"]}}]}`, nil},
		"what cannot be read":     {`{"events":[7,null,{"sender":7}],"ephemeral":[7,null,{"type":"m.receipt","content":[]},{"type":"m.receipt","content":{"$1":7}}]}`, nil},
		"nothing":                 {`{}`, nil},
		"an event without a room": {`{"events":[{"sender":"@a:x"}]}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var tr transaction
			if err := json.Unmarshal([]byte(c.body), &tr); err != nil {
				t.Fatal(err)
			}
			if got := tr.alive(func(user string) bool { return user == "@own" }); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
