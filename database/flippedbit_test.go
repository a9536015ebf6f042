package database_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

// sealedColumn is one column and how it is read: the row that is damaged, and others beside it.
type sealedColumn struct {
	table, column, where string
	read                 func(ctx context.Context) (any, error)
	others               func(ctx context.Context) (any, error)
}

// unsealedColumns are those of bytes that hold no secret: hashes, and what is in the clear on the wire.
var unsealedColumns = []string{
	"postern_account.identifier_index", "postern_account_alias.identifier_index", "postern_assigned.identifier_index", "postern_brake.subject", "postern_in.hash", "postern_out.retry", "postern_media.ref_hash", "postern_media.sha256",
	"postern_report.about",
}

// sealedFixture fills every sealed column of accounts "a" and "b", the second's being the others.
func sealedFixture(t *testing.T, db *database.DB) []sealedColumn {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var chats []string
	contacts := map[string]string{}
	for i, account := range []string{"a", "b"} {
		putAccount(t, db, account)
		contact, err := db.Contacts().Ensure(ctx, "whatsapp", account+"@lid")
		must(err)
		contact.Phone = "number of " + account
		must(db.Contacts().Update(ctx, contact))
		contacts[account] = contact.ID
		chat, err := db.Chats().Ensure(ctx, account, contact.ID)
		must(err)
		chats = append(chats, chat.ID)
		must(db.ChatRooms().Put(ctx, &database.ChatRoom{ChatID: chat.ID, RoomID: "!r:test", Title: "title " + account}))
		must(db.Operator().Put(ctx, "of "+account, []byte("order")))
		signal := db.Signal(account)
		must(signal.Apply(ctx, database.SignalChange{Addr: "x", Session: []byte("session"), Identity: bytes.Repeat([]byte{1}, 32)}, nil))
		must(signal.PutPreKeys(ctx, []database.PreKey{{ID: 1, Record: []byte("prekey")}}))
		must(signal.PutSignedPreKey(ctx, database.PreKey{ID: 1, Record: []byte("signed"), CreatedAt: 1}))
		must(db.Verified(account).Put(ctx, &database.Verified{ChatID: chat.ID, Confirmed: true, Key: [32]byte{1}}))
		queue := db.Queue(account)
		must(queue.InsertIn(ctx, &database.QueueIn{ChatID: chat.ID, ItemID: "I", Seq: 1, Kind: "message", Payload: []byte("payload")}))
		must(queue.InsertOut(ctx, []*database.QueueOut{{
			StanzaID: "S", Seq: 1, ChatID: chat.ID, Parts: 1, Recipe: []byte("recipe"), Plaintext: []byte("plaintext"), Fallback: []byte("fallback"),
		}}))
		_, err = queue.SetStanzaOut(ctx, "S", []byte("stanza"), 1)
		must(err)
		must(db.IncomingMedia().Put(ctx, &database.IncomingMedia{ChatID: chat.ID, MessageID: "M", AccountID: account, Payload: []byte("payload")}))
		must(db.IncomingMedia().Put(ctx, &database.IncomingMedia{ // two chats of one account, as far as lists know
			ChatID: chat.ID, MessageID: "N", AccountID: "a", Payload: []byte("payload"),
		}))
		must(db.Notices().Add(ctx, &database.Notice{ID: account, RoomID: "!r:test", Content: []byte("content " + account)}))
		_, _, err = db.Journal().Accept(ctx, account, []database.JournalEvent{{Kind: "room", EventID: "$" + account, RoomID: "!r:test", Body: []byte("body")}})
		must(err)
		must(db.Consents().Add(ctx, &database.Consent{AccountID: account, At: 1, Wording: "w", Document: []byte("document")}))
		must(db.AssignedIdentifiers().Put(ctx, &database.Assigned{MXID: "@" + account + ":test", Identifier: "name of " + account}))
		must(db.Regions().Put(ctx, &database.Region{MXID: "@" + account + ":test", Country: "DE"}))
		_, err = db.Suspensions().Put(ctx, "@"+account+":test", "reason")
		must(err)
		must(db.Reports().Add(ctx, &database.Report{
			ID: "report-" + account, AccountID: account, ChatID: chat.ID, About: account + "@lid", At: 1, Subject: []byte("subject"), Reason: []byte("reason"), Quoted: []byte("quoted"),
		}, 0, 10))
		_, err = db.IssuerKeys().Save(ctx, []byte("document"), i)
		must(err)
	}
	return sealedColumns(db, chats, contacts)
}

// intact turns rows of the in-queue that say of themselves that they are broken into the error.
func intact(rows []*database.QueueIn, err error) (any, error) {
	for _, r := range rows {
		if r.Broken && r.Payload == nil && r.Notify == "" {
			return rows, database.ErrSealBroken
		}
	}
	return rows, err
}

func sealedColumns(db *database.DB, chats []string, contacts map[string]string) []sealedColumn {
	var list []sealedColumn
	add := func(table, columns, where string, read func(ctx context.Context, account string) (any, error)) {
		for column := range strings.SplitSeq(columns, ",") {
			list = append(list, sealedColumn{
				table, column, where,
				func(ctx context.Context) (any, error) { return read(ctx, "a") },
				func(ctx context.Context) (any, error) { return read(ctx, "b") },
			})
		}
	}
	chat := map[string]string{"a": chats[0], "b": chats[1]}
	add("postern_account", "identifier,noise_key,device,hmac_key", "id='a'",
		func(ctx context.Context, account string) (any, error) { return db.Accounts().Get(ctx, account) })
	add("postern_consent", "document", "account_id='a'",
		func(ctx context.Context, account string) (any, error) { return db.Consents().Latest(ctx, account) })
	add("postern_assigned", "identifier", "mxid='@a:test'",
		func(ctx context.Context, account string) (any, error) {
			return db.AssignedIdentifiers().Get(ctx, "@"+account+":test")
		})
	add("postern_suspended", "reason", "mxid='@a:test'", func(ctx context.Context, account string) (any, error) {
		list, err := db.Suspensions().All(ctx)
		for _, one := range list {
			if one.MXID == "@"+account+":test" && one.Damaged {
				return nil, database.ErrSealBroken
			} else if one.MXID == "@"+account+":test" {
				return one.Reason, err
			}
		}
		return nil, err
	})
	add("postern_region", "country", "mxid='@a:test'",
		func(ctx context.Context, account string) (any, error) {
			return db.Regions().Get(ctx, "@"+account+":test")
		})
	add("postern_operator", "value", "name='of a'",
		func(ctx context.Context, account string) (any, error) { return db.Operator().Get(ctx, "of "+account) })
	add("postern_report", "subject,reason,quoted", "id='report-a'",
		func(ctx context.Context, account string) (any, error) {
			return db.Reports().Get(ctx, "report-"+account)
		})
	add("postern_contact", "phone", "jid='a@lid'",
		func(ctx context.Context, account string) (any, error) {
			return db.Contacts().Get(ctx, contacts[account])
		})
	add("postern_chat_room", "title", "chat_id='"+chat["a"]+"'",
		func(ctx context.Context, account string) (any, error) { return db.ChatRooms().Get(ctx, chat[account]) })
	add("postern_verified", "keys", "account_id='a'",
		func(ctx context.Context, account string) (any, error) { return db.Verified(account).All(ctx) })
	add("postern_signal_session", "session", "account_id='a'",
		func(ctx context.Context, account string) (any, error) {
			session, _, err := db.Signal(account).LoadSession(ctx, "x")
			return session, err
		})
	add("postern_signal_identity", "identity", "account_id='a'",
		func(ctx context.Context, account string) (any, error) {
			return db.Signal(account).LoadIdentity(ctx, "x")
		})
	add("postern_signal_prekey", "record", "account_id='a'",
		func(ctx context.Context, account string) (any, error) { return db.Signal(account).LoadPreKey(ctx, 1) })
	add("postern_signal_signed_prekey", "record", "account_id='a'",
		func(ctx context.Context, account string) (any, error) {
			return db.Signal(account).LoadSignedPreKey(ctx, 1)
		})
	add("postern_in", "payload", "account_id='a'",
		func(ctx context.Context, account string) (any, error) {
			return intact(db.Queue(account).PendingIn(ctx, chat[account], 0, 10))
		})
	add("postern_out", "recipe,plaintext,fallback,stanza", "account_id='a'",
		func(ctx context.Context, account string) (any, error) {
			row, err := db.Queue(account).Out(ctx, "S")
			if err == nil && len(row.Broken) > 0 {
				return row, database.ErrSealBroken
			}
			return row, err
		})
	add("postern_incoming_media", "payload", "message_id='M' AND chat_id='"+chat["a"]+"'",
		func(ctx context.Context, account string) (any, error) {
			return db.IncomingMedia().Get(ctx, chat[account], "M")
		})
	add("postern_as_event", "body", "event_id='$a'",
		func(ctx context.Context, account string) (any, error) {
			return db.Journal().Load(ctx, map[string]int64{"a": 1, "b": 2}[account])
		})
	add("postern_notice", "content", "id='a'", func(ctx context.Context, account string) (any, error) {
		list, err := db.Notices().Waiting(ctx, 10)
		if account == "a" {
			return list, err
		}
		others := slices.DeleteFunc(list, func(n database.Notice) bool { return n.ID == "a" })
		return others, listed(err)
	})
	wanted := func(ctx context.Context, account string) (any, error) {
		list, _, err := db.IncomingMedia().Wanted(ctx, "a", nil, 10)
		if account == "a" {
			return list, err
		}
		others := slices.DeleteFunc(list, func(m *database.IncomingMedia) bool { return m.ChatID == chat["a"] })
		return others, listed(err)
	}
	add("postern_incoming_media", "payload", "message_id='N' AND chat_id='"+chat["a"]+"'", wanted)
	accounts := func(ctx context.Context, account string) (any, error) {
		list, err := db.Accounts().All(ctx)
		if account == "a" {
			return list, err
		}
		others := slices.DeleteFunc(list, func(a *database.Account) bool { return a.ID == "a" })
		return others, listed(err)
	}
	add("postern_account", "device", "id='a'", accounts)
	issuer := func(ctx context.Context, account string) (any, error) {
		if account == "b" {
			return nil, nil // there is one row only
		}
		document, _, err := db.IssuerKeys().Load(ctx)
		return document, err
	}
	add("postern_issuer_keys", "sealed", "id=1", issuer)
	return list
}

// listed takes the error out that a list has for the rows that it leaves out.
func listed(err error) error {
	if errors.Is(err, database.ErrSealBroken) {
		return nil
	}
	return err
}

// byteColumns lists the columns of bytes of all our tables.
func byteColumns(t *testing.T, db *database.DB) (columns []string) {
	t.Helper()
	rows, err := db.Raw().Query(t.Context(), `SELECT m.name || '.' || c.name FROM sqlite_master m, pragma_table_info(m.name) c
		WHERE m.type='table' AND m.name LIKE 'postern_%' AND LOWER(c.type)='bytea' ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var column string
		if err = rows.Scan(&column); err != nil {
			t.Fatal(err)
		}
		columns = append(columns, column)
	}
	if err = rows.Err(); err != nil {
		t.Fatal(err)
	}
	return columns
}

func TestEveryColumnOfBytesIsSealedOrKnownNotToBe(t *testing.T) {
	db := databasetest.Open(t, databasetest.SQLiteConfig(t))
	known := append(slices.Clone(unsealedColumns), "postern_key_check.sealed", "postern_signal_head.sums", "postern_epoch.heads") // which have tests of their own
	for _, c := range sealedFixture(t, db) {
		known = append(known, c.table+"."+c.column)
	}
	slices.Sort(known)
	known = slices.Compact(known) // some are read in two ways
	if found := byteColumns(t, db); !slices.Equal(found, known) {
		t.Errorf("the tables have %v, the tests know %v", found, known)
	}
}

// F-44.
func TestAFlippedBitInASealedColumnIsNoticedAndHarmsNoOtherRow(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		for _, c := range sealedFixture(t, db) {
			t.Run(c.table+"."+c.column, func(t *testing.T) { flipBits(t, db, c) })
		}
	})
}

func flipBits(t *testing.T, db *database.DB, c sealedColumn) {
	ctx := t.Context()
	good, err := c.read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	others, err := c.others(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var value []byte
	if err = db.Raw().QueryRow(ctx, "SELECT "+c.column+" FROM "+c.table+" WHERE "+c.where).Scan(&value); err != nil {
		t.Fatal(err)
	}
	set := func(value []byte) {
		t.Helper()
		if _, err := db.Raw().Exec(ctx, "UPDATE "+c.table+" SET "+c.column+"=$1 WHERE "+c.where, value); err != nil {
			t.Fatal(err)
		}
	}
	// The format, the nonce, the text, the tag, and anywhere.
	for _, at := range []int{0, 1, 24, 25, len(value) - 17, len(value) - 1, rand.IntN(len(value))} {
		bit := rand.IntN(8)
		bad := bytes.Clone(value)
		bad[at] ^= 1 << bit
		set(bad)
		what := fmt.Sprintf("bit %d of byte %d of %d", bit, at, len(value))
		if got, err := c.read(ctx); !errors.Is(err, database.ErrSealBroken) {
			t.Errorf("%s: %v (%v)", what, got, err)
		}
		if got, err := c.others(ctx); err != nil || !reflect.DeepEqual(got, others) {
			t.Errorf("%s: others are %v (%v), want %v", what, got, err, others)
		}
	}
	set(value)
	if got, err := c.read(ctx); err != nil || !reflect.DeepEqual(got, good) {
		t.Errorf("mended: %v (%v), want %v", got, err, good)
	}
}

func TestAFlippedBitInTheKeyCheckIsNoticedAtTheStart(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		db := databasetest.Open(t, cfg)
		var value []byte
		if err := db.Raw().QueryRow(t.Context(), "SELECT sealed FROM postern_key_check").Scan(&value); err != nil {
			t.Fatal(err)
		}
		value[rand.IntN(len(value))] ^= 1 << rand.IntN(8)
		if _, err := db.Raw().Exec(t.Context(), "UPDATE postern_key_check SET sealed=$1", value); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := database.Open(t.Context(), cfg); !errors.Is(err, database.ErrWrongKey) {
			t.Errorf("opening got %v", err)
		}
	})
}
