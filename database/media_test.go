package database_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

// attachment is a row whose hash begins with that byte.
func attachment(first byte, owner string, size, expires int64) *database.MediaObject {
	return &database.MediaObject{
		RefHash: [sha256.Size]byte{first, 0xff, 0, '\'', 0x80}, Owner: owner, Size: size,
		SHA256: sha256.Sum256([]byte{first}), Created: 1000 + int64(first), Expires: expires,
	}
}

func addMedia(t *testing.T, db *database.DB, rows ...*database.MediaObject) {
	t.Helper()
	for _, m := range rows {
		if err := db.Media().Add(context.Background(), m); err != nil {
			t.Fatal(err)
		}
	}
}

// firsts are the first bytes of the rows' hashes.
func firsts(t *testing.T, rows []*database.MediaObject, err error) (list []byte) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range rows {
		list = append(list, m.RefHash[0])
	}
	return list
}

func TestARowOfTheMediaStoreComesBackAsItWasAddedFirst(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, s := context.Background(), db.Media()
		row := attachment(7, "acc", 1<<40, 5000)
		addMedia(t, db, row)
		addMedia(t, db, &database.MediaObject{RefHash: row.RefHash, Owner: "other", Size: 1, Expires: 1})
		got, err := s.Get(ctx, row.RefHash)
		if err != nil || got == nil || *got != *row {
			t.Errorf("got %+v, %v", got, err)
		}
		if got, err := s.Get(ctx, [sha256.Size]byte{8}); got != nil || err != nil {
			t.Errorf("unknown: %+v, %v", got, err)
		}
		for range 2 {
			if err := s.Delete(ctx, row.RefHash); err != nil {
				t.Error(err)
			}
		}
		if got, err := s.Get(ctx, row.RefHash); got != nil || err != nil {
			t.Errorf("deleted: %+v, %v", got, err)
		}
	})
}

func TestListsOfTheMediaStoreGoOnWhereTheyEnded(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, s := context.Background(), db.Media()
		addMedia(t, db, attachment(0x90, "a", 1, 100), attachment(0x10, "a", 2, 300), attachment(0, "b", 4, 200), attachment(0x7f, "a", 8, 200))
		all := []byte{0, 0x10, 0x7f, 0x90}
		var got, after []byte
		for {
			rows, err := s.After(ctx, after, 2)
			page := firsts(t, rows, err)
			got = append(got, page...)
			if len(page) == 0 {
				break
			}
			after = rows[len(rows)-1].RefHash[:]
		}
		if !slices.Equal(got, all) {
			t.Errorf("all: %x", got)
		}
		rows, err := s.Expired(ctx, 200, nil, 10)
		if got := firsts(t, rows, err); !slices.Equal(got, []byte{0, 0x7f, 0x90}) {
			t.Errorf("expired: %x", got)
		}
		rows, err = s.Expired(ctx, 200, rows[0].RefHash[:], 1)
		if got := firsts(t, rows, err); !slices.Equal(got, []byte{0x7f}) {
			t.Errorf("expired, second page: %x", got)
		}
		rows, err = s.OfOwner(ctx, "a", nil, 2)
		if got := firsts(t, rows, err); !slices.Equal(got, []byte{0x10, 0x7f}) {
			t.Errorf("of an owner: %x", got)
		}
		rows, err = s.OfOwner(ctx, "a", rows[1].RefHash[:], 2)
		if got := firsts(t, rows, err); !slices.Equal(got, []byte{0x90}) {
			t.Errorf("of an owner, second page: %x", got)
		}
	})
}

func TestTheMediaStoreSumsEachOwnersSizes(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		addMedia(t, db, attachment(1, "a", 3<<40, 100), attachment(2, "a", 5, 300), attachment(3, "b", 7, 200))
		for owner, want := range map[string]int64{"a": 3<<40 + 5, "b": 7, "nobody": 0} {
			if got, err := db.Media().Used(context.Background(), owner); got != want || err != nil {
				t.Errorf("%s: %d, %v", owner, got, err)
			}
		}
	})
}

func TestARowOfTheMediaStoreIsPartOfTheTransactionThatAddsIt(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, s := context.Background(), db.Media()
		row, undone := attachment(1, "a", 1, 1), errors.New("undone")
		err := db.Do(ctx, func(ctx context.Context) error {
			if err := s.Add(ctx, row); err != nil {
				return err
			}
			if got, err := s.Get(ctx, row.RefHash); got == nil || err != nil {
				t.Errorf("inside: %+v, %v", got, err)
			}
			return undone
		})
		if !errors.Is(err, undone) {
			t.Fatal(err)
		}
		if got, err := s.Get(ctx, row.RefHash); got != nil || err != nil {
			t.Errorf("after it was undone: %+v, %v", got, err)
		}
	})
}

func TestADeletedAccountsAttachmentsExpireAndKeepTheirRows(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := context.Background()
		for _, id := range []string{"a", "b"} {
			if err := db.Accounts().Put(ctx, &database.Account{ID: id, Gatekeeper: "g", Identifier: id}); err != nil {
				t.Fatal(err)
			}
		}
		addMedia(t, db, attachment(1, "a", 1, 1<<50), attachment(2, "a", 1, 1<<50), attachment(3, "b", 1, 1<<50))
		if err := db.Accounts().Delete(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		rows, err := db.Media().Expired(ctx, 0, nil, 10)
		if got := firsts(t, rows, err); !slices.Equal(got, []byte{1, 2}) {
			t.Errorf("expired: %x", got)
		}
		if err := db.Accounts().Delete(ctx, "nobody"); !errors.Is(err, database.ErrNotFound) {
			t.Errorf("delete of nobody: %v", err)
		}
	})
}
