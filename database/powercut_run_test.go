//go:build linux && cgo

package database_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.mau.fi/util/dbutil"
	_ "go.mau.fi/util/dbutil/litestream" // the framework's driver
	bridgedb "maunium.net/go/mautrix/bridgev2/database"
	"maunium.net/go/mautrix/bridgev2/networkid"
	"maunium.net/go/mautrix/id"

	"postern/database"
	"postern/database/databasetest"
	"postern/database/databasetest/disklog"
)

const (
	powerAccount = "account"
	powerChats   = 8
)

// What a transaction of the run does; each leaves a trace that nothing later takes away.
const (
	powerArrived   = iota // ours: a session moves on and an item comes into the in-queue
	powerFramework        // the framework's: a row for the message
	powerFinished         // ours: the item is done
)

// powerStep is one transaction, at its place in the order of commits.
type powerStep struct {
	kind int
	item string
	chat int
}

// powerRun is a run of messages that is recorded.
type powerRun struct {
	t      *testing.T
	cfg    database.Config
	weak   string // another value of synchronous for our writer
	rec    *disklog.Recording
	ours   *database.DB
	theirs *bridgedb.Database
	pool   *sql.DB
	chats  []*database.Chat

	mu    sync.Mutex
	steps []powerStep
}

// step takes the next place in the order of commits. The caller is in a transaction that has the file's
// write lock, so nobody can commit in between.
func (r *powerRun) step(kind, chat int, item string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = append(r.steps, powerStep{kind, item, chat})
	return len(r.steps) - 1
}

// recordRun passes messages through both pools, with a restart in the middle.
func recordRun(t *testing.T, messages int, weak string) *powerRun {
	t.Helper()
	cfg := databasetest.SQLiteConfig(t)
	rec, err := disklog.Record(filepath.Dir(cfg.URI))
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	cfg.URI += "?vfs=" + disklog.VFS
	cfg.Holder = "power cut"
	r := &powerRun{t: t, cfg: cfg, weak: weak, rec: rec}
	r.open()
	r.prepare()
	r.pass(0, messages/2)
	r.close()
	r.open()
	r.pass(messages/2, messages)
	r.close()
	return r
}

// open opens the file as the bridge does: the framework's pool as example-config.yaml has it, and ours.
func (r *powerRun) open() {
	r.t.Helper()
	path, _, _ := cutURI(r.cfg.URI)
	var err error
	if r.pool, err = sql.Open(database.FrameworkPool("sqlite3-fk-wal", "file:"+path+"?_txlock=immediate&vfs="+disklog.VFS)); err != nil {
		r.t.Fatal(err)
	}
	r.pool.SetMaxOpenConns(5)
	r.pool.SetMaxIdleConns(2)
	raw, err := dbutil.NewWithDB(r.pool, database.SQLiteDriver)
	if err != nil {
		r.t.Fatal(err)
	}
	var level int
	if err = r.pool.QueryRow("PRAGMA synchronous").Scan(&level); err != nil || level != 1 {
		r.t.Fatalf("the framework's pool has synchronous=%d (%v), want NORMAL", level, err)
	}
	r.theirs = bridgedb.New("postern", bridgedb.MetaTypes{}, raw)
	if r.ours, err = database.Open(r.t.Context(), r.cfg); err != nil {
		r.t.Fatal(err)
	}
	if err = r.theirs.Upgrade(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	if r.weak != "" {
		if err = r.ours.Weaken(r.t.Context(), r.weak); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *powerRun) close() {
	r.t.Helper()
	if err := errors.Join(r.ours.Close(), r.pool.Close()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *powerRun) prepare() {
	r.t.Helper()
	ctx := r.t.Context()
	putAccount(r.t, r.ours, powerAccount)
	err := errors.Join(
		r.theirs.Ghost.Insert(ctx, &bridgedb.Ghost{BridgeID: "postern", ID: "ghost"}),
		r.theirs.User.Insert(ctx, &bridgedb.User{BridgeID: "postern", MXID: "@user:test"}),
		r.theirs.UserLogin.Insert(ctx, &bridgedb.UserLogin{BridgeID: "postern", UserMXID: "@user:test", ID: "login"}),
	)
	if err != nil {
		r.t.Fatal(err)
	}
	for n := range powerChats {
		contact, err := r.ours.Contacts().Ensure(ctx, "whatsapp", powerAddress(n))
		if err != nil {
			r.t.Fatal(err)
		}
		chat, err := r.ours.Chats().Ensure(ctx, powerAccount, contact.ID)
		if err != nil {
			r.t.Fatal(err)
		}
		r.chats = append(r.chats, chat)
		err = r.theirs.Portal.Insert(ctx, &bridgedb.Portal{BridgeID: "postern", PortalKey: powerPortal(n), MXID: id.RoomID(fmt.Sprintf("!%d:test", n))})
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

func powerAddress(chat int) string { return fmt.Sprintf("%d@lid", chat) }

func powerPortal(chat int) networkid.PortalKey {
	return networkid.PortalKey{ID: networkid.PortalID(strconv.Itoa(chat)), Receiver: "login"}
}

// pass lets the messages through, those of a chat one after another and the chats at once, so that commits
// are shared and both pools write in turn.
func (r *powerRun) pass(from, to int) {
	r.t.Helper()
	var wg sync.WaitGroup
	for chat := range powerChats {
		wg.Go(func() {
			for n := from; n < to; n++ {
				if n%powerChats != chat {
					continue
				}
				if err := r.message(r.t.Context(), chat, n); err != nil {
					r.t.Errorf("message %d: %v", n, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if r.t.Failed() {
		r.t.FailNow()
	}
}

// message is what one message makes both sides write. Each commit is marked as reported once it has returned.
func (r *powerRun) message(ctx context.Context, chat, n int) error {
	item := fmt.Sprintf("M%d", n)
	row := &database.QueueIn{
		ChatID: r.chats[chat].ID, ItemID: item, Kind: "message", Timestamp: int64(n), Received: int64(n),
		Payload: []byte("body " + item),
	}
	var place int
	err := r.ours.Do(ctx, func(ctx context.Context) error {
		place = r.step(powerArrived, chat, item)
		row.Seq = int64(place)
		change := database.SignalChange{Addr: powerAddress(chat), Session: []byte(strconv.Itoa(place))}
		return r.ours.Signal(powerAccount).Apply(ctx, change, func(ctx context.Context) error {
			return r.ours.Queue(powerAccount).InsertIn(ctx, row)
		})
	})
	if err != nil {
		return err
	}
	r.rec.Mark(place)
	err = r.theirs.DoTxn(ctx, nil, func(ctx context.Context) error {
		place = r.step(powerFramework, chat, item)
		return r.theirs.Message.Insert(ctx, &bridgedb.Message{
			BridgeID: "postern", ID: networkid.MessageID(item), MXID: id.EventID("$" + item), Room: powerPortal(chat),
			SenderID: "ghost", SenderMXID: "@user:test", Timestamp: time.Unix(int64(n), 0),
		})
	})
	if err != nil {
		return err
	}
	r.rec.Mark(place)
	err = r.ours.Do(ctx, func(ctx context.Context) error {
		place = r.step(powerFinished, chat, item)
		return r.ours.Queue(powerAccount).FinishIn(ctx, row, 1, 1)
	})
	if err != nil {
		return err
	}
	r.rec.Mark(place)
	return nil
}
