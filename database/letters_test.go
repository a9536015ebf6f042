package database_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

// letterChat makes an account with a chat.
func letterChat(t *testing.T, db *database.DB, account string) string {
	t.Helper()
	putAccount(t, db, account)
	contact, err := db.Contacts().Ensure(t.Context(), "whatsapp", account+"@lid")
	if err != nil {
		t.Fatal(err)
	}
	chat, err := db.Chats().Ensure(t.Context(), account, contact.ID)
	if err != nil {
		t.Fatal(err)
	}
	return chat.ID
}

// buried inserts an item and makes it a dead letter.
func buried(t *testing.T, db *database.DB, account, chat, item string, at int64, size int) {
	t.Helper()
	row := &database.QueueIn{ChatID: chat, ItemID: item, Seq: at, Kind: "message", Payload: make([]byte, size)}
	if err := db.Queue(account).InsertIn(t.Context(), row); err != nil {
		t.Fatal(err)
	}
	if err := db.Queue(account).BuryIn(t.Context(), row, "forbidden", at); err != nil {
		t.Fatal(err)
	}
}

func letterTimes(t *testing.T, db *database.DB, account string) (at []int64) {
	t.Helper()
	list, err := db.Letters(t.Context(), account, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		at = append(at, l.At)
	}
	return at
}

func TestDeadLettersAreListedOverAllAccountsTheOldestFirst(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		a, b := letterChat(t, db, "a"), letterChat(t, db, "b")
		buried(t, db, "a", a, "A", 30, 100)
		buried(t, db, "b", b, "B", 10, 10)
		queue := db.Queue("a")
		for part := range 3 {
			id := fmt.Sprint("S", part)
			err := queue.InsertOut(ctx, []*database.QueueOut{{
				StanzaID: id, Seq: int64(part), ChatID: a, EventID: "$event", Type: "text", Part: part, Parts: 3, Plaintext: []byte("plain"),
			}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err = queue.FailOut(ctx, id, "blocked", 403, 20); err != nil {
				t.Fatal(err)
			}
		}
		if got := letterTimes(t, db, ""); !slices.Equal(got, []int64{10, 20, 30}) {
			t.Fatalf("times %v", got)
		}
		if got := letterTimes(t, db, "b"); !slices.Equal(got, []int64{10}) {
			t.Fatalf("times of one account %v", got)
		}
		list, err := db.Letters(ctx, "", 1, 1)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		out := *list[0]
		want := database.Letter{
			ID: out.ID, AccountID: "a", ChatID: a, Outgoing: true, Kind: "text", Reason: "blocked", Code: 403, At: 20, Tries: 1, Parts: 3,
			Size: 3 * (5 + database.SealOverhead),
		}
		if out != want || len(out.ID) != 16 {
			t.Errorf("got %+v, want %+v", out, want)
		}
		if account, outgoing, dead, err := db.LetterOwner(ctx, out.ID); account != "a" || !outgoing || !dead || err != nil {
			t.Error("owner:", account, outgoing, dead, err)
		}
		if account, _, _, err := db.LetterOwner(ctx, "nobody"); account != "" || err != nil {
			t.Error("owner of an unknown one:", account, err)
		}
		if ok, err := db.Queue("b").DropLetter(ctx, out.ID); ok || err != nil {
			t.Error("somebody else's was dropped:", ok, err)
		}
		if ok, err := queue.DropLetter(ctx, out.ID); !ok || err != nil {
			t.Error("not dropped:", ok, err)
		}
		row, err := queue.Out(ctx, "S1")
		if err != nil || row == nil || row.Plaintext != nil || row.State != 9 {
			t.Errorf("the row behind it: %+v (%v)", row, err)
		}
		if got := letterTimes(t, db, ""); !slices.Equal(got, []int64{10, 30}) {
			t.Fatalf("times %v", got)
		}
	})
}

// A process that is killed leaves the letter dead or pending, and nothing else.
func TestADeadLetterIsRevivedWholeOrNotAtAll(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		db := databasetest.Open(t, cfg)
		chat := letterChat(t, db, "a")
		buried(t, db, "a", chat, "A", 5, 10)
		list, err := db.Letters(t.Context(), "", 0, 10)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		letter := list[0].ID
		cut := errors.New("cut off")
		err = db.Do(t.Context(), func(ctx context.Context) error {
			if row, err := db.Queue("a").ReviveIn(ctx, letter, 77); row == nil || err != nil {
				t.Error("not revived:", row, err)
			}
			return cut
		})
		if !errors.Is(err, cut) {
			t.Fatal(err)
		}
		reopen := func() {
			t.Helper()
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = databasetest.Open(t, cfg)
		}
		reopen()
		if _, _, dead, err := db.LetterOwner(t.Context(), letter); !dead || err != nil {
			t.Fatal("after a revival that was cut off:", dead, err)
		}
		row, err := db.Queue("a").ReviveIn(t.Context(), letter, 77)
		if err != nil || row == nil || row.Seq != 77 || !row.Late || row.State != 0 || len(row.Payload) != 10 {
			t.Fatalf("revived: %+v (%v)", row, err)
		}
		reopen()
		if row, err = db.Queue("a").ReviveIn(t.Context(), letter, 99); row != nil || err != nil {
			t.Errorf("revived twice: %+v (%v)", row, err)
		}
		pending, err := db.Queue("a").PendingIn(t.Context(), chat, 0, 10)
		if err != nil || len(pending) != 1 || pending[0].Seq != 77 {
			t.Errorf("pending %+v (%v)", pending, err)
		}
		if ok, err := db.Queue("a").DropLetter(t.Context(), letter); ok || err != nil {
			t.Error("what is waiting again was dropped:", ok, err)
		}
	})
}

func TestAnExistingDatabaseIsNotMade(t *testing.T) {
	cfg := databasetest.SQLiteConfig(t)
	cfg.Existing, cfg.URI = true, filepath.Join(t.TempDir(), "none.db")
	if _, err := database.Open(t.Context(), cfg); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening got %v", err)
	}
	if _, err := os.Stat(cfg.URI); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file: %v", err)
	}
}

func TestADatabaseOfSomebodyElsesIsLeftAsItIs(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		driver := "sqlite3"
		if cfg.Dialect == "postgres" {
			driver = cfg.Dialect
		}
		raw, err := sql.Open(driver, cfg.URI)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		if _, err = raw.ExecContext(t.Context(), "CREATE TABLE theirs (id INTEGER)"); err != nil {
			t.Fatal(err)
		}
		cfg.Existing, cfg.Holder = true, "a command"
		if db, err := database.Open(t.Context(), cfg); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("opened: %v (%v)", db, err)
		}
		if _, err = raw.ExecContext(t.Context(), "SELECT 1 FROM postern_key_check"); err == nil {
			t.Error("tables were made")
		}
	})
}
