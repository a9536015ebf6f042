package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"postern/bridge/parts"
)

// The names in the benchmark's world.
const (
	benchDomain = "postern.localhost"
	benchUser   = "@alice:" + benchDomain
	benchBot    = "@posternbot:" + benchDomain
)

// quickHomeserver answers the bridge at once and keeps nothing but what the
// benchmark waits for. Its cost is not the bridge's, since it is another process.
type quickHomeserver struct {
	server *httptest.Server
	bridge string // the bridge's address for transactions
	token  string // the homeserver's, for transactions

	ids, txns                 atomic.Int64
	fromPhones, statuses, all atomic.Int64 // messages of ghosts, statuses "delivered", requests

	delay atomic.Int64 // nanoseconds that each request takes

	mu      sync.Mutex
	texts   map[string]string   // room of each text
	order   map[string][]string // the texts of each room, in order
	changed chan struct{}
}

func newQuickHomeserver(b *testing.B) *quickHomeserver {
	h := &quickHomeserver{texts: map[string]string{}, order: map[string][]string{}, changed: make(chan struct{})}
	h.server = httptest.NewServer(http.HandlerFunc(h.serve))
	b.Cleanup(h.server.Close)
	return h
}

// knows takes the addresses and the token from the bridge's files.
func (h *quickHomeserver) knows(b *testing.B, bridge *parts.Bridge) {
	raw, err := os.ReadFile(bridge.RegistrationPath())
	var registration struct {
		Token string `yaml:"hs_token"`
	}
	if err == nil {
		err = yaml.Unmarshal(raw, &registration)
	}
	if err != nil {
		b.Fatal(err)
	}
	h.bridge, h.token = bridge.Address, registration.Token
}

// serve answers one request of the bridge.
func (h *quickHomeserver) serve(w http.ResponseWriter, r *http.Request) {
	h.all.Add(1)
	body, _ := io.ReadAll(r.Body) // what is missing of it is missed by whoever waits for it
	if delay := h.delay.Load(); delay > 0 {
		select {
		case <-time.After(time.Duration(delay)):
		case <-r.Context().Done():
		}
	}
	path := strings.TrimPrefix(r.URL.Path, "/_matrix/client/v3")
	steps := strings.Split(strings.Trim(path, "/"), "/")
	answer, status := h.answer(r, path, steps, body)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

func (h *quickHomeserver) answer(r *http.Request, path string, steps []string, body []byte) (any, int) {
	type object = map[string]any
	missing := object{"errcode": "M_NOT_FOUND", "error": "not found"}
	switch {
	case path == "/_matrix/client/versions":
		return object{"versions": []string{"v1.5", "v1.6", "v1.11"}}, 200
	case path == "/account/whoami":
		user := r.URL.Query().Get("user_id")
		if user == "" {
			user = benchBot
		}
		return object{"user_id": user}, 200
	case path == "/createRoom":
		return object{"room_id": fmt.Sprintf("!room%d:%s", h.ids.Add(1), benchDomain)}, 200
	case path == "/sync":
		return object{"next_batch": "s1"}, 200
	case steps[0] == "directory" && r.Method == http.MethodGet:
		return missing, 404
	case steps[0] == "profile" && r.Method == http.MethodGet:
		return object{"displayname": "Alice"}, 200
	case steps[0] == "join":
		return object{"room_id": steps[1]}, 200
	case steps[0] == "rooms" && len(steps) > 2:
		switch {
		case steps[2] == "join":
			return object{"room_id": steps[1]}, 200
		case steps[2] == "joined_members":
			return object{"joined": object{benchUser: object{}, benchBot: object{}}}, 200
		case steps[2] == "members":
			return object{"chunk": []object{
				{"type": "m.room.member", "state_key": benchUser, "sender": benchUser, "content": object{"membership": "join"}},
				{"type": "m.room.member", "state_key": benchBot, "sender": benchBot, "content": object{"membership": "join"}},
			}}, 200
		case steps[2] == "messages":
			return object{"chunk": []object{}, "start": "t"}, 200
		case steps[2] == "state" && r.Method == http.MethodGet:
			return missing, 404
		case steps[2] == "send" && len(steps) > 3:
			h.took(r.URL.Query().Get("user_id"), steps[1], steps[3], body)
		}
		return object{"event_id": h.eventID()}, 200
	}
	return object{"duration_ms": 1}, 200
}

func (h *quickHomeserver) eventID() string { return fmt.Sprintf("$%043d", h.ids.Add(1)) }

// took counts an event that the bridge sends.
func (h *quickHomeserver) took(sender, room, kind string, body []byte) {
	var content struct {
		Body        string   `json:"body"`
		DeliveredTo []string `json:"delivered_to_users"`
	}
	if json.Unmarshal(body, &content) != nil {
		return
	}
	switch {
	case kind == "com.beeper.message_send_status" && len(content.DeliveredTo) > 0:
		h.mu.Lock()
		defer h.mu.Unlock()
		h.statuses.Add(1)
		h.change()
		return
	case kind != "m.room.message":
		return
	case sender != benchBot && sender != "":
		h.fromPhones.Add(1)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.texts[content.Body] = room
	h.order[room] = append(h.order[room], content.Body)
	h.change()
}

// change wakes up whoever waits. The caller holds the lock.
func (h *quickHomeserver) change() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// delivered waits until so many statuses say that a message was delivered.
func (h *quickHomeserver) delivered(ctx context.Context, count int64) error {
	for {
		h.mu.Lock()
		enough, changed := h.statuses.Load() >= count, h.changed
		h.mu.Unlock()
		if enough {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// await waits for a text of which match is true and returns its room.
func (h *quickHomeserver) await(ctx context.Context, match func(text string) bool) (string, error) {
	for {
		h.mu.Lock()
		changed := h.changed
		for text, room := range h.texts {
			if match(text) {
				h.mu.Unlock()
				return room, nil
			}
		}
		h.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// exactly waits for one text; it looks nowhere else.
func (h *quickHomeserver) exactly(ctx context.Context, text string) error {
	for {
		h.mu.Lock()
		_, found := h.texts[text]
		changed := h.changed
		h.mu.Unlock()
		if found {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// textsOf returns the texts of a room, in order.
func (h *quickHomeserver) textsOf(room string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.order[room])
}

// message is an event of alice.
func (h *quickHomeserver) message(room, text string) map[string]any {
	return map[string]any{
		"type": "m.room.message", "event_id": h.eventID(), "room_id": room, "sender": benchUser,
		"origin_server_ts": time.Now().UnixMilli(), "content": map[string]any{"msgtype": "m.text", "body": text},
	}
}

// push gives the bridge a transaction.
func (h *quickHomeserver) push(ctx context.Context, events ...map[string]any) error {
	raw, err := json.Marshal(map[string]any{"events": events})
	if err != nil {
		return err
	}
	address := fmt.Sprintf("%s/_matrix/app/v1/transactions/%d", h.bridge, h.txns.Add(1))
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, address, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+h.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err = io.Copy(io.Discard, resp.Body); err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New("the bridge answers a transaction with " + resp.Status)
	}
	return err
}
