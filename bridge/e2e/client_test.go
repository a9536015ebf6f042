package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto/cryptohelper"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/bridge/parts"
)

// matrixUser is what a story needs of a Matrix client. There are two: one
// that cannot read encrypted rooms, and one on mautrix's own encryption.
type matrixUser interface {
	ID() string
	SendText(ctx context.Context, room, body string) (string, error)
	SendTextAs(ctx context.Context, room, txn, body string) (string, error) // under a transaction id of the caller's
	Expect(ctx context.Context, what string, match func(*parts.Event) bool) (*parts.Event, error)
	Messages(ctx context.Context, room string) ([]parts.Event, error)
	ExpectInvite(ctx context.Context, what string, match func(parts.Invite) bool) (parts.Invite, error)
	Join(ctx context.Context, room string) error
	CreateDM(ctx context.Context, with string) (string, error)
	RoomState(ctx context.Context, room, kind, key string, out any) error
	Seen(match func(*parts.Event) bool) []parts.Event
}

// plainUser is a parts.Person.
type plainUser struct{ *parts.Person }

func (u plainUser) ID() string { return u.UserID }

func (u plainUser) SendTextAs(ctx context.Context, room, txn, body string) (string, error) {
	return u.Send(ctx, room, "m.room.message", txn, parts.Message{MsgType: "m.text", Body: body})
}

// cryptUser is a Matrix user on a device of their own that encrypts and
// decrypts. What needs no encryption is left to a plain device of the same
// user.
type cryptUser struct {
	plainUser
	client *mautrix.Client
	helper *cryptohelper.CryptoHelper

	mu      sync.Mutex
	events  []parts.Event // decrypted or plain, in the order of arrival
	changed chan struct{}
}

// newCryptUser logs a registered user in on a second device and syncs it until
// the test ends.
func newCryptUser(ctx context.Context, t *testing.T, plain *parts.Person) (*cryptUser, error) {
	client, err := mautrix.NewClient(plain.HS.URL, "", "")
	if err != nil {
		return nil, err
	}
	said := &clientLog{}
	client.Log = zerolog.New(said).Level(zerolog.DebugLevel).With().Timestamp().Logger()
	t.Cleanup(func() { said.show(t) })
	db, err := dbutil.NewWithDialect("file:"+filepath.Join(t.TempDir(), "crypto.db")+"?_txlock=immediate", "sqlite3-fk-wal")
	if err != nil {
		return nil, err
	}
	db.RawDB.SetMaxOpenConns(1) // or a room key could be lost for good, because the file is locked by what the client is just sending
	helper, err := cryptohelper.NewCryptoHelper(client, []byte("pickle key of a test"), db)
	if err != nil {
		return nil, err
	}
	helper.LoginAs = &mautrix.ReqLogin{
		Type: mautrix.AuthTypePassword, Password: plain.Password,
		Identifier: mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: plain.UserID},
	}
	u := &cryptUser{plainUser: plainUser{plain}, client: client, helper: helper, changed: make(chan struct{})}
	if err := helper.Init(ctx); err != nil {
		return nil, fmt.Errorf("setting up encryption: %w", err)
	}
	client.Crypto = helper
	syncer := client.Syncer.(*mautrix.DefaultSyncer)
	syncer.OnEventType(event.EventMessage, u.take)
	syncCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for syncCtx.Err() == nil { // the homeserver may be restarting
			if err := client.SyncWithContext(syncCtx); err != nil {
				client.Log.Warn().Err(err).Msg("Syncing ended")
				select {
				case <-syncCtx.Done():
				case <-time.After(200 * time.Millisecond):
				}
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done; helper.Close() })
	return u, nil
}

// clientLog is what the encryption of a client says, for a story that fails.
type clientLog struct {
	mu  sync.Mutex
	raw []byte
}

// Write implements io.Writer. Requests that went well are left out.
func (l *clientLog) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("Request completed")) {
		return len(line), nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.raw = append(l.raw, line...)
	return len(line), nil
}

func (l *clientLog) show(t *testing.T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.Failed() {
		t.Logf("the end of the client's log:\n%s", l.raw[max(0, len(l.raw)-12000):])
	}
}

// take stores one message and wakes whoever waits.
func (u *cryptUser) take(_ context.Context, evt *event.Event) {
	content, err := json.Marshal(evt.Content.Raw)
	if err != nil {
		return // a test then waits in vain and says for what
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.events = append(u.events, parts.Event{
		ID: evt.ID.String(), RoomID: evt.RoomID.String(), Sender: evt.Sender.String(), Type: evt.Type.Type, TS: evt.Timestamp, Content: content,
	})
	close(u.changed)
	u.changed = make(chan struct{})
}

// SendText encrypts where the room is encrypted.
func (u *cryptUser) SendText(ctx context.Context, room, body string) (string, error) {
	return u.SendTextAs(ctx, room, u.client.TxnID(), body)
}

// SendTextAs is SendText under a transaction id of the caller's.
func (u *cryptUser) SendTextAs(ctx context.Context, room, txn, body string) (string, error) {
	resp, err := u.client.SendMessageEvent(ctx, id.RoomID(room), event.EventMessage,
		&event.MessageEventContent{MsgType: event.MsgText, Body: body}, mautrix.ReqSendEvent{TransactionID: txn})
	if err != nil {
		return "", err
	}
	return resp.EventID.String(), nil
}

// Expect waits for a message that match accepts, decrypted.
func (u *cryptUser) Expect(ctx context.Context, what string, match func(*parts.Event) bool) (*parts.Event, error) {
	next := 0
	for {
		u.mu.Lock()
		events, changed := u.events, u.changed
		u.mu.Unlock()
		for ; next < len(events); next++ {
			if match(&events[next]) {
				found := events[next]
				return &found, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-changed:
		}
	}
}

// Messages reads a whole room and decrypts what is encrypted. What cannot be
// decrypted stays an m.room.encrypted event.
func (u *cryptUser) Messages(ctx context.Context, room string) ([]parts.Event, error) {
	events, err := u.plainUser.Messages(ctx, room)
	if err != nil {
		return nil, err
	}
	for i := range events {
		if events[i].Type != event.EventEncrypted.Type {
			continue
		}
		if err := u.decrypt(ctx, &events[i]); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// decrypt replaces an encrypted event's type and content if the keys are there.
func (u *cryptUser) decrypt(ctx context.Context, e *parts.Event) error {
	evt := &event.Event{
		ID: id.EventID(e.ID), RoomID: id.RoomID(e.RoomID), Sender: id.UserID(e.Sender), Timestamp: e.TS, Type: event.EventEncrypted,
	}
	if err := json.Unmarshal(e.Content, &evt.Content); err != nil {
		return err
	}
	if err := evt.Content.ParseRaw(event.EventEncrypted); err != nil {
		return err
	}
	plain, err := u.helper.Decrypt(ctx, evt)
	if err != nil {
		return nil //nolint:nilerr // the checker counts what stayed encrypted as lost
	}
	e.Type = plain.Type.Type
	e.Content, err = json.Marshal(plain.Content.Raw)
	return err
}
