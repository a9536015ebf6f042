package parts

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Event is a Matrix event as a client sees it.
type Event struct {
	ID       string          `json:"event_id"`
	RoomID   string          `json:"room_id"`
	Sender   string          `json:"sender"`
	Type     string          `json:"type"`
	StateKey *string         `json:"state_key"`
	TS       int64           `json:"origin_server_ts"` // Unix milliseconds
	Content  json.RawMessage `json:"content"`
	Redacts  string          `json:"redacts"` // of redactions in older rooms; see Removes
	Unsigned struct {
		TransactionID string `json:"transaction_id"`
	} `json:"unsigned"`
}

// Message is the content of an m.room.message event.
type Message struct {
	MsgType       string `json:"msgtype"`
	Body          string `json:"body"`
	Format        string `json:"format,omitempty"`
	FormattedBody string `json:"formatted_body,omitempty"`
}

// Message returns the event's content as a message; zero if it is none.
func (e *Event) Message() Message {
	var m Message
	if e.Type == "m.room.message" {
		_ = json.Unmarshal(e.Content, &m) // other shapes read as an empty message
	}
	return m
}

// Invite is an invitation that has not been answered yet.
type Invite struct {
	Room  string
	From  string // who invites
	Name  string // the room's name, if it was shown
	Space bool   // the room is a space
}

// Shows reports whether the invitation may be to a chat with one of these names.
// Some homeservers show no name before the room is joined; that fits any.
func (i Invite) Shows(names ...string) bool {
	return !i.Space && (i.Name == "" || slices.Contains(names, i.Name))
}

// Person is a Matrix user with a client of their own: unencrypted, and small
// enough to read. It keeps everything that /sync has shown, in order; what is
// ephemeral (typing and receipts) has neither id nor sender.
type Person struct {
	HS       *Homeserver
	UserID   string
	Password string
	Token    string
	DeviceID string

	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	events  []Event
	invites map[string]Invite // by room id
	changed chan struct{}     // closed and replaced at each change
}

// NewPerson registers a user (if need be), logs in and starts to sync until
// Close.
func NewPerson(ctx context.Context, hs *Homeserver, user, password string) (*Person, error) {
	if err := hs.Register(ctx, user, password, false); err != nil {
		return nil, err
	}
	token, device, err := hs.Login(ctx, user, password)
	if err != nil {
		return nil, err
	}
	syncCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &Person{
		HS: hs, UserID: "@" + user + ":" + hs.ServerName, Password: password, Token: token, DeviceID: device,
		cancel: cancel, done: make(chan struct{}), invites: map[string]Invite{}, changed: make(chan struct{}),
	}
	go p.syncLoop(syncCtx)
	return p, nil
}

// Close stops syncing.
func (p *Person) Close() {
	p.cancel()
	<-p.done
}

// syncAnswer is the part of a /sync answer that a Person looks at.
type syncAnswer struct {
	NextBatch string `json:"next_batch"`
	Rooms     struct {
		Join map[string]struct {
			State     struct{ Events []Event }
			Timeline  struct{ Events []Event }
			Ephemeral struct{ Events []Event }
		}
		Invite map[string]struct {
			InviteState struct{ Events []Event } `json:"invite_state"`
		}
	}
}

// syncLoop long-polls until ctx ends; an unreachable homeserver is asked again.
func (p *Person) syncLoop(ctx context.Context) {
	defer close(p.done)
	since := ""
	for ctx.Err() == nil {
		query := url.Values{"timeout": {"20000"}, "filter": {`{"room":{"timeline":{"limit":1000}}}`}}
		if since != "" {
			query.Set("since", since)
		}
		var answer syncAnswer
		if err := p.HS.Call(ctx, http.MethodGet, "/_matrix/client/v3/sync?"+query.Encode(), p.Token, nil, &answer); err != nil {
			select { // the homeserver may be restarting
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
			continue
		}
		since = answer.NextBatch
		p.take(&answer)
	}
}

// take stores one /sync answer and wakes whoever waits.
func (p *Person) take(answer *syncAnswer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for room, joined := range answer.Rooms.Join {
		delete(p.invites, room)
		for _, evt := range slices.Concat(joined.State.Events, joined.Timeline.Events, joined.Ephemeral.Events) {
			evt.RoomID = room
			p.events = append(p.events, evt)
		}
	}
	for room, invited := range answer.Rooms.Invite {
		p.invites[room] = readInvite(room, p.UserID, invited.InviteState.Events)
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// readInvite collects what an invitation shows of its room.
func readInvite(room, user string, events []Event) Invite {
	invite := Invite{Room: room}
	for _, evt := range events {
		var content struct{ Name, Type string }
		_ = json.Unmarshal(evt.Content, &content) // other shapes show nothing
		switch {
		case evt.Type == "m.room.member" && evt.StateKey != nil && *evt.StateKey == user:
			invite.From = evt.Sender
		case evt.Type == "m.room.name":
			invite.Name = content.Name
		case evt.Type == "m.room.create":
			invite.Space = content.Type == "m.space"
		}
	}
	return invite
}

// await calls look after each change until it returns true or ctx ends.
func (p *Person) await(ctx context.Context, what string, look func() bool) error {
	for {
		p.mu.Lock()
		found, changed := look(), p.changed
		p.mu.Unlock()
		if found {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-changed:
		}
	}
}

// Expect waits for the first event, of all seen so far and to come, that
// match accepts; what says in an error what was waited for.
func (p *Person) Expect(ctx context.Context, what string, match func(*Event) bool) (*Event, error) {
	var found Event
	next := 0
	err := p.await(ctx, what, func() bool {
		for ; next < len(p.events); next++ {
			if match(&p.events[next]) {
				found = p.events[next]
				return true
			}
		}
		return false
	})
	return &found, err
}

// Seen returns all events that match accepts, in the order of arrival.
func (p *Person) Seen(match func(*Event) bool) []Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Event
	for i := range p.events {
		if match(&p.events[i]) {
			out = append(out, p.events[i])
		}
	}
	return out
}

// ExpectInvite waits for an open invitation that match accepts.
func (p *Person) ExpectInvite(ctx context.Context, what string, match func(Invite) bool) (Invite, error) {
	var found Invite
	err := p.await(ctx, "an invitation to "+what, func() bool {
		for _, invite := range p.invites {
			if match(invite) {
				found = invite
				return true
			}
		}
		return false
	})
	return found, err
}

// Invites returns all open invitations.
func (p *Person) Invites() []Invite {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.invites))
}

// Join joins a room and waits until /sync shows it.
func (p *Person) Join(ctx context.Context, room string) error {
	if err := p.HS.Call(ctx, http.MethodPost, "/_matrix/client/v3/join/"+url.PathEscape(room), p.Token, map[string]any{}, nil); err != nil {
		return fmt.Errorf("joining a room: %w", err)
	}
	_, err := p.Expect(ctx, "the joined room", func(e *Event) bool { return e.RoomID == room })
	return err
}

// CreateDM makes a direct chat with another user and returns the room.
func (p *Person) CreateDM(ctx context.Context, with string) (string, error) {
	var answer struct {
		RoomID string `json:"room_id"`
	}
	err := p.HS.Call(ctx, http.MethodPost, "/_matrix/client/v3/createRoom", p.Token, map[string]any{
		"preset": "trusted_private_chat", "is_direct": true, "invite": []string{with},
	}, &answer)
	if err != nil {
		return "", fmt.Errorf("making a direct chat: %w", err)
	}
	return answer.RoomID, nil
}

// SendText sends a plain text and returns its event id.
func (p *Person) SendText(ctx context.Context, room, body string) (string, error) {
	return p.Send(ctx, room, "m.room.message", rand.Text(), Message{MsgType: "m.text", Body: body})
}

// Send sends an event under a transaction id of the caller's.
func (p *Person) Send(ctx context.Context, room, kind, txn string, content any) (string, error) {
	var answer struct {
		EventID string `json:"event_id"`
	}
	path := fmt.Sprintf("/_matrix/client/v3/rooms/%s/send/%s/%s", url.PathEscape(room), kind, url.PathEscape(txn))
	if err := p.HS.Call(ctx, http.MethodPut, path, p.Token, content, &answer); err != nil {
		return "", fmt.Errorf("sending an event: %w", err)
	}
	return answer.EventID, nil
}

// Messages reads a whole room through /messages, oldest first. It asks
// backwards, since not every homeserver starts forwards without a token.
func (p *Person) Messages(ctx context.Context, room string) ([]Event, error) {
	var all []Event
	from := ""
	for {
		query := url.Values{"dir": {"b"}, "limit": {"500"}}
		if from != "" {
			query.Set("from", from)
		}
		var page struct {
			Chunk []Event `json:"chunk"`
			End   string  `json:"end"`
		}
		path := "/_matrix/client/v3/rooms/" + url.PathEscape(room) + "/messages?" + query.Encode()
		if err := p.HS.Call(ctx, http.MethodGet, path, p.Token, nil, &page); err != nil {
			return nil, fmt.Errorf("reading a room: %w", err)
		}
		all = append(all, page.Chunk...)
		if page.End == "" || page.End == from || len(page.Chunk) == 0 {
			slices.Reverse(all)
			return all, nil
		}
		from = page.End
	}
}

// RoomState reads the content of one state event into out. A missing one is
// an *APIError with code M_NOT_FOUND.
func (p *Person) RoomState(ctx context.Context, room, kind, key string, out any) error {
	path := fmt.Sprintf("/_matrix/client/v3/rooms/%s/state/%s/%s", url.PathEscape(room), kind, url.PathEscape(key))
	return p.HS.Call(ctx, http.MethodGet, path, p.Token, nil, out)
}

// IsMatrixError reports whether err is a homeserver's answer with this code.
func IsMatrixError(err error, code string) bool {
	var e *APIError
	return errors.As(err, &e) && e.Code == code
}
