package connector

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.mau.fi/util/dbutil"
	_ "go.mau.fi/util/dbutil/litestream"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/bridgeconfig"
	"maunium.net/go/mautrix/bridgev2/commands"
	frameworkdb "maunium.net/go/mautrix/bridgev2/database"
	"maunium.net/go/mautrix/bridgev2/matrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/e2ee"
	"postern/connector/interop"
	"postern/connector/noise"
	"postern/database"
)

// fakeEvent is an event in the fake homeserver's only room.
type fakeEvent struct {
	ID      id.EventID
	Type    string
	Sender  string
	Content map[string]any
	State   *string
	Redacts id.EventID
	Gone    bool // it was redacted
}

// fakeMatrix is a homeserver with one room. It remembers transaction ids until it is restarted, as Synapse does.
type fakeMatrix struct {
	mu      sync.Mutex
	events  []*fakeEvent
	txns    map[string]id.EventID
	uploads map[string][]byte
	// account is account data by path.
	account map[string][]byte
	calls   []string
	// before and after, if set, are asked for each request: a status to answer with, before or after it was done, a negative number for no
	// answer, 0 for the usual one.
	before, after func(r *http.Request) int
	// special, if set, gives the answer to a request; nil for the usual one.
	special func(r *http.Request) any
	changed chan struct{}
}

func newFakeMatrix() *fakeMatrix {
	return &fakeMatrix{txns: map[string]id.EventID{}, uploads: map[string][]byte{}, account: map[string][]byte{}, changed: make(chan struct{})}
}

// restart forgets what a homeserver forgets.
func (f *fakeMatrix) restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.txns = map[string]id.EventID{}
}

func (f *fakeMatrix) setBefore(before func(r *http.Request) int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

func (f *fakeMatrix) setAfter(after func(r *http.Request) int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after = after
}

// RoundTrip implements http.RoundTripper.
func (f *fakeMatrix) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		_ = r.Body.Close()
		r.Body = io.NopCloser(bytes.NewReader(body)) // for special
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, r.Method+" "+r.URL.Path)
	w := httptest.NewRecorder()
	status := 0
	if f.before != nil {
		status = f.before(r)
	}
	if status == 0 {
		f.serve(w, r, body)
		close(f.changed)
		f.changed = make(chan struct{})
		if f.after != nil {
			status = f.after(r)
		}
	}
	switch {
	case status < 0:
		return nil, errors.New("connection reset")
	case status > 0:
		w = httptest.NewRecorder()
		w.WriteHeader(status)
		code := map[int]string{413: "M_TOO_LARGE", 403: "M_FORBIDDEN"}[status]
		_ = json.NewEncoder(w).Encode(map[string]string{"errcode": code})
	}
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

func (f *fakeMatrix) serve(w http.ResponseWriter, r *http.Request, body []byte) {
	reply := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	var content map[string]any
	steps := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	for i, s := range steps {
		steps[i], _ = url.PathUnescape(s)
	}
	sender := r.URL.Query().Get("user_id")
	if f.special != nil {
		if answer := f.special(r); answer != nil {
			reply(200, answer)
			return
		}
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/media/v3/upload"):
		name := fmt.Sprintf("mxc://test/%d", len(f.uploads)+1)
		f.uploads[name] = body
		reply(200, map[string]string{"content_uri": name})
	case strings.HasSuffix(r.URL.Path, "/account/whoami"):
		reply(200, map[string]string{"user_id": sender})
	case strings.Contains(r.URL.Path, "/account_data/") && r.Method == http.MethodPut:
		f.account[r.URL.Path] = body
		reply(200, map[string]string{})
	case strings.Contains(r.URL.Path, "/account_data/"):
		if raw, there := f.account[r.URL.Path]; there {
			_, _ = w.Write(raw)
			return
		}
		reply(404, map[string]string{"errcode": "M_NOT_FOUND"})
	case strings.HasSuffix(r.URL.Path, "/messages"):
		var chunk []map[string]any
		for _, e := range slices.Backward(f.events) {
			if e.State == nil && (sender == "" || e.Sender == sender) {
				chunk = append(chunk, map[string]any{"event_id": e.ID, "content": e.Content, "sender": e.Sender})
			}
		}
		reply(200, map[string]any{"chunk": chunk})
	case len(steps) == 8 && (steps[5] == "send" || steps[5] == "redact"):
		if evt, known := f.txns[r.URL.Path]; known {
			reply(200, map[string]id.EventID{"event_id": evt})
			return
		}
		if json.Unmarshal(body, &content) != nil {
			reply(400, map[string]string{"errcode": "M_NOT_JSON"})
			return
		}
		e := &fakeEvent{Type: steps[6], Sender: sender, Content: content}
		if steps[5] == "redact" {
			e.Type, e.Redacts = "m.room.redaction", id.EventID(steps[6])
			for _, old := range f.events {
				if old.ID == e.Redacts {
					old.Gone = true
				}
			}
		}
		f.txns[r.URL.Path] = f.add(e)
		reply(200, map[string]id.EventID{"event_id": e.ID})
	case len(steps) >= 7 && steps[5] == "state" && r.Method == http.MethodPut:
		_ = json.Unmarshal(body, &content)
		key := ""
		reply(200, map[string]id.EventID{"event_id": f.add(&fakeEvent{Type: steps[6], Sender: sender, Content: content, State: &key})})
	case len(steps) == 7 && steps[5] == "event":
		for _, e := range f.events {
			if string(e.ID) == steps[6] {
				reply(200, map[string]any{"event_id": e.ID, "room_id": fakeRoom, "type": e.Type, "sender": e.Sender, "content": e.Content})
				return
			}
		}
		reply(404, map[string]string{"errcode": "M_NOT_FOUND"})
	default:
		reply(200, map[string]string{"room_id": string(fakeRoom)})
	}
}

func (f *fakeMatrix) add(e *fakeEvent) id.EventID {
	e.ID = id.EventID(fmt.Sprintf("$%d", len(f.events)+1))
	f.events = append(f.events, e)
	return e.ID
}

// timeline are the events that people see: neither state nor redactions, nor what was redacted.
func (f *fakeMatrix) timeline() []*fakeEvent {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []*fakeEvent
	for _, e := range f.events {
		if e.State == nil && e.Redacts == "" && !e.Gone {
			list = append(list, e)
		}
	}
	return list
}

// await waits until the timeline is as wanted.
func (f *fakeMatrix) await(t *testing.T, wanted func(events []*fakeEvent) bool) []*fakeEvent {
	t.Helper()
	limit := time.After(60 * time.Second)
	for {
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		if list := f.timeline(); wanted(list) {
			return list
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("the room did not become as wanted: %s", f.dump())
		}
	}
}

func (f *fakeMatrix) dump() string {
	text, _ := json.MarshalIndent(f.timeline(), "", " ")
	return string(text)
}

const (
	fakeRoom   id.RoomID = "!room:test"
	fakePerson id.UserID = "@person:test"
)

// world is a bridge with one login and one chat, before a fake homeserver and a fake media host.
type world struct {
	t       *testing.T
	matrix  *fakeMatrix
	host    *fakeHost
	dir     string
	key     [database.KeySize]byte
	account string
	puppets bool // the bridge may act as the person
	// patience is the next process's patience with attachments, if it is not the usual one.
	patience time.Duration
	// wall is the next process's clock, if it is not the machine's.
	wall func() time.Time
	*running
}

// running is one process of the bridge.
type running struct {
	connector *Connector
	db        *dbutil.Database
	client    *client
	peer      interop.Peer
	ghost     id.UserID
	cancel    context.CancelFunc
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, matrix: newFakeMatrix(), host: newFakeHost(t), dir: t.TempDir()}
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

// restart ends the bridge's process and begins another on the same files.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.start()
}

func (w *world) stop() {
	w.t.Helper()
	if w.running == nil {
		return
	}
	w.client.arrivals.close()
	w.cancel()
	if err := errors.Join(w.connector.Shutdown(), w.running.db.Close()); err != nil {
		w.t.Error(err)
	}
	w.running = nil
}

func fakeConfig() *bridgeconfig.Config {
	cfg := &bridgeconfig.Config{}
	cfg.Homeserver.Address, cfg.Homeserver.Domain = "http://homeserver.test", "test"
	cfg.AppService.ID, cfg.AppService.Bot.Username = "postern", "posternbot"
	cfg.AppService.ASToken, cfg.AppService.HSToken, cfg.AppService.UsernameTemplate = "as", "hs", "postern_{{.}}"
	cfg.AppService.Hostname = "127.0.0.1"
	cfg.Bridge.CommandPrefix = "!postern"
	cfg.Bridge.Permissions = bridgeconfig.PermissionConfig{"*": &bridgeconfig.PermissionLevelUser}
	cfg.Matrix.DeliveryReceipts, cfg.Matrix.MessageErrorNotices = true, true
	return cfg
}

func (w *world) start() {
	t := w.t
	t.Helper()
	ctx := context.Background()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	cfg := fakeConfig()
	if w.puppets {
		cfg.DoublePuppet.Secrets = map[string]string{"test": "as_token:puppets"}
	}
	uri := "file:" + filepath.Join(w.dir, "postern.db")
	db, err := dbutil.NewFromConfig("test", dbutil.Config{PoolConfig: dbutil.PoolConfig{Type: "sqlite3-fk-wal", URI: uri, MaxOpenConns: 5, MaxIdleConns: 2}}, dbutil.NoopLogger)
	check(err)
	c := New()
	c.Config.Public.Base, c.Config.Public.Address = "https://postern.test", "127.0.0.1:0"
	c.Config.EpochFile = "epoch"
	c.Config.Gatekeepers = map[string]GatekeeperConfig{"whatsapp": {
		Enabled: true, Integrator: 7, Chat: "tcp://127.0.0.1:1", EnlistURL: "http://127.0.0.1:1/enlist", MediaURL: w.host.url, JWKSURL: "http://127.0.0.1:1/jwks",
		NoiseRootKey: strings.Repeat("11", 32),
	}}
	c.Config.Requests.Policy = requestsAccept
	check(c.Config.prepare())
	c.PrepareProvisioning(&cfg.Provisioning)
	m := matrix.NewConnector(cfg)
	bridge := bridgev2.NewBridge("", db, zerolog.Nop(), &cfg.Bridge, m, c, commands.NewProcessor)
	m.AS.HTTPClient.Transport, m.AS.DefaultHTTPRetries = w.matrix, 0
	m.SpecVersions = &mautrix.RespVersions{}
	m.AS.SpecVersions = m.SpecVersions
	if w.wall != nil {
		c.wall = w.wall
	}
	check(c.Attach(ctx, AttachConfig{Matrix: m, DatabaseDialect: "sqlite3-fk-wal", DatabaseURI: uri, Key: w.key, Dir: w.dir, EpochFile: filepath.Join(w.dir, "epoch"), Log: zerolog.Nop()}))
	check(bridge.DB.Upgrade(ctx))
	check(m.StateStore.Upgrade(ctx))
	c.uploadPause = time.Millisecond
	r := &running{connector: c, db: db}
	bridge.BackgroundCtx, r.cancel = context.WithCancel(ctx)
	w.running = r
	row := w.accountRow()
	user, err := bridge.GetUserByMXID(ctx, fakePerson)
	check(err)
	login, err := user.NewLogin(ctx, &frameworkdb.UserLogin{ID: loginID(row.ID), Metadata: &LoginMetadata{Gatekeeper: "whatsapp"}}, nil)
	check(err)
	r.client = login.Client.(*client)
	r.client.arrivals.pause, r.client.mediaHost.pause = time.Millisecond, time.Millisecond
	if w.patience > 0 {
		r.client.arrivals.patience = w.patience
	}
	r.peer, err = NewAccountStore(c.db, row.ID, "whatsapp").PeerByJID(ctx, testPeer)
	check(err)
	portal, err := bridge.GetPortalByKey(ctx, portalKey(row.ID, r.peer.Chat))
	check(err)
	portal.MXID, portal.RoomType, portal.OtherUserID = fakeRoom, frameworkdb.RoomTypeDM, ghostID(r.client.profile, r.peer.Contact)
	check(portal.Save(ctx))
	check(c.db.ChatRooms().Put(ctx, &database.ChatRoom{ChatID: r.peer.Chat, RoomID: fakeRoom.String()}))
	ghost, err := r.client.ghost(ctx, r.peer.Contact)
	check(err)
	_, err = r.connector.bridge.GetGhostByID(ctx, selfID(r.client.profile, row.ID))
	check(err)
	r.ghost = ghost.Intent.GetMXID()
	for _, who := range []id.UserID{r.ghost, m.Bot.UserID, fakePerson} {
		check(m.StateStore.MarkRegistered(ctx, who))
		check(m.StateStore.SetMembership(ctx, fakeRoom, who, event.MembershipJoin))
	}
	r.client.arrivals.open(context.WithCancel(ctx))
}

// accountRow is the login's account, made at the first start.
func (w *world) accountRow() *database.Account {
	w.t.Helper()
	ctx := context.Background()
	if w.account != "" {
		row, err := w.connector.db.Accounts().Get(ctx, w.account)
		if err != nil {
			w.t.Fatal(err)
		}
		return row
	}
	device, err := e2ee.NewDevice(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	row := &database.Account{
		ID: database.NewLocalID(), Gatekeeper: "whatsapp", MXID: fakePerson.String(), Identifier: "person", Login: "7-1@interop", Integrator: 7,
		NoiseKey: bytes.Repeat([]byte{1}, noise.KeySize), Device: device.Marshal(), HMACKey: make([]byte, 32), EnlistedAt: 1,
	}
	if err = w.connector.db.Accounts().Put(ctx, row); err != nil {
		w.t.Fatal(err)
	}
	w.account = row.ID
	return row
}

// inbound is a message of the other person.
func (w *world) inbound(stanza string, msg *waE2E.Message) *interop.Inbound {
	w.t.Helper()
	raw, err := proto.Marshal(msg)
	if err != nil {
		w.t.Fatal(err)
	}
	return &interop.Inbound{
		Chat: w.peer.Chat, Contact: w.peer.Contact, Sender: testPeer, MessageID: stanza, Timestamp: time.Now(), Kind: interop.KindMessage,
		Message: msg, Raw: raw,
	}
}

// deliver hands a message over, which has to go well.
func (w *world) deliver(stanza string, msg *waE2E.Message) {
	w.t.Helper()
	if err := w.client.Deliver(w.t.Context(), w.inbound(stanza, msg)); err != nil {
		w.t.Fatalf("delivery of %s: %v", stanza, err)
	}
}

// say delivers a text.
func (w *world) say(stanza, text string) {
	w.t.Helper()
	w.deliver(stanza, &waE2E.Message{Conversation: &text})
}

// own stores a message of the person's own, as it is after it was sent.
func (w *world) own(stanza string, evt id.EventID) { w.t.Helper(); w.ownAt(stanza, evt, time.Now()) }

func (w *world) ownAt(stanza string, evt id.EventID, at time.Time) {
	w.t.Helper()
	row := &frameworkdb.Message{
		ID: outgoingID(w.peer.Chat, stanza), MXID: evt, Room: portalKey(w.account, w.peer.Chat), SenderID: selfID(w.client.profile, w.account),
		SenderMXID: fakePerson, Timestamp: at, Metadata: &MessageMetadata{StanzaIDs: []string{stanza}},
	}
	if err := w.connector.bridge.DB.Message.Insert(w.t.Context(), row); err != nil {
		w.t.Fatal(err)
	}
}
