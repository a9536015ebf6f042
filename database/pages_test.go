package database_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"postern/database"
	"postern/database/databasetest"
)

// pagesFixture fills a file with messages that were acknowledged and wait for Matrix, and returns them and the file's bytes.
func pagesFixture(t *testing.T, cfg database.Config) (want []*database.QueueIn, content []byte) {
	t.Helper()
	db, err := database.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	putAccount(t, db, "a")
	contact, err := db.Contacts().Ensure(t.Context(), "whatsapp", "a@lid")
	if err != nil {
		t.Fatal(err)
	}
	chatRow, err := db.Chats().Ensure(t.Context(), "a", contact.ID)
	if err != nil {
		t.Fatal(err)
	}
	chat := chatRow.ID
	for i := range 120 {
		row := &database.QueueIn{
			ChatID: chat, ItemID: fmt.Sprintf("item %d", i), Seq: int64(i + 1), Kind: "message", Hash: make([]byte, 32),
			Timestamp: int64(i), Received: int64(i), Payload: make([]byte, 20+i*8),
		}
		if err := db.Queue("a").InsertIn(t.Context(), row); err != nil {
			t.Fatal(err)
		}
	}
	want = pendingIn(t.Context(), t, db, chat)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	content, err = os.ReadFile(cfg.URI)
	if err != nil {
		t.Fatal(err)
	}
	return want, content
}

func pendingIn(ctx context.Context, t *testing.T, db *database.DB, chat string) []*database.QueueIn {
	t.Helper()
	rows, err := db.Queue("a").PendingIn(ctx, chat, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestAFlippedBitInAPageNeverLosesAMessageUnnoticed: one bit of the stopped database's file is another. Either that is found at the start, or
// when something is read, or every message is as it was; what may be another value without anybody's notice is a time, not a message.
func TestAFlippedBitInAPageNeverLosesAMessageUnnoticed(t *testing.T) {
	cfg := databasetest.SQLiteConfig(t)
	want, content := pagesFixture(t, cfg)
	flips := 100
	if os.Getenv("POSTERN_ALL") == "1" {
		flips = 1500
	}
	seed := rand.Uint64()
	t.Logf("seed %d, %d pages", seed, len(content)/4096)
	random := rand.New(rand.NewPCG(seed, 0))
	atStart, later, unharmed, other := 0, 0, 0, 0
	for range flips {
		at, bit := random.IntN(len(content)), byte(1)<<random.IntN(8)
		broken := append([]byte(nil), content...)
		broken[at] ^= bit
		for _, suffix := range []string{"-wal", "-shm"} {
			_ = os.Remove(cfg.URI + suffix)
		}
		if err := os.WriteFile(cfg.URI, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := database.Open(t.Context(), cfg)
		if err != nil {
			atStart++
			continue
		}
		got, err := db.Queue("a").PendingIn(t.Context(), want[0].ChatID, 0, 1000)
		switch {
		case err != nil || slices.ContainsFunc(got, func(r *database.QueueIn) bool { return r.Broken }):
			later++
		case reflect.DeepEqual(got, want):
			unharmed++
		default:
			if !sameMessages(got, want) {
				t.Errorf("bit %d of byte %d (page %d): a message is lost or another, and nobody has noticed", bit, at, at/4096+1)
			}
			other++
		}
		_ = db.Close()
	}
	t.Logf("%d flips: %d found at the start, %d when read, %d harmed nothing that is read here, %d changed what is not sealed", flips, atStart, later, unharmed, other)
	if atStart == 0 || unharmed == 0 {
		t.Error("the flips are not what they should be")
	}
}

// sameMessages compares which messages there are, in which order, and what is in them.
func sameMessages(got, want []*database.QueueIn) bool {
	if len(got) != len(want) {
		return false
	}
	for i, g := range got {
		if g.ItemID != want[i].ItemID || !reflect.DeepEqual(g.Payload, want[i].Payload) || g.Notify != want[i].Notify {
			return false
		}
	}
	return true
}

// TestADamagedFileIsRefusedInWordsAndNotChanged: what is to be done is in them.
func TestADamagedFileIsRefusedInWordsAndNotChanged(t *testing.T) {
	cfg := databasetest.SQLiteConfig(t)
	_, content := pagesFixture(t, cfg)
	for name, harm := range map[string]func(b []byte){
		"a page of nothing": func(b []byte) { clear(b[len(b)/4096/2*4096:][:4096]) },
		"no database":       func(b []byte) { copy(b, "something else") },
	} {
		t.Run(name, func(t *testing.T) {
			broken := append([]byte(nil), content...)
			harm(broken)
			if err := os.WriteFile(cfg.URI, broken, 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := database.Open(t.Context(), cfg)
			if err == nil {
				_ = db.Close()
			}
			if !errors.Is(err, database.ErrDamaged) {
				t.Errorf("Open got %v", err)
			}
			if after, err := os.ReadFile(cfg.URI); err != nil || string(after) != string(broken) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

// TestAFileThatIsTooLargeToBeLookedThroughIsOpened: the look has a bound.
func TestAFileThatIsTooLargeToBeLookedThroughIsOpened(t *testing.T) {
	cfg := databasetest.SQLiteConfig(t)
	pagesFixture(t, cfg)
	db := databasetest.Open(t, cfg)
	if err := db.CheckFile(t.Context(), time.Nanosecond); err != nil {
		t.Errorf("a look that takes too long got %v", err)
	}
}
