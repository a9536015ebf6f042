package database_test

import (
	"slices"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

func TestWhatIsInTheMediaStoreIsSummedByItsState(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		for _, id := range []string{"acc1", "acc2"} {
			err := db.Accounts().Put(ctx, &database.Account{ID: id, Gatekeeper: "whatsapp", MXID: "@" + id + ":test", Identifier: id, Login: id})
			if err != nil {
				t.Fatal(err)
			}
		}
		addMedia(t, db, attachment(1, "acc1", 10, 5000), attachment(2, "acc1", 20, 5000), attachment(3, "acc1", 40, 100), attachment(4, "acc2", 80, 5000), attachment(5, "gone", 160, 5000))
		for range 2 { // the first time counts
			if err := db.Media().SetFetched(ctx, attachment(2, "", 0, 0).RefHash, 777); err != nil {
				t.Fatal(err)
			}
		}
		if row, err := db.Media().Get(ctx, attachment(2, "", 0, 0).RefHash); err != nil || row.Fetched != 777 {
			t.Errorf("%+v %v", row, err)
		}
		count := func(files, bytes int64) database.MediaCount { return database.MediaCount{Files: files, Bytes: bytes} }
		all := []database.MediaUse{
			{Owner: "acc1", MXID: "@acc1:test", Waiting: count(1, 10), Fetched: count(1, 20), Expired: count(1, 40)},
			{Owner: "acc2", MXID: "@acc2:test", Waiting: count(1, 80)}, {Owner: "gone", Waiting: count(1, 160)},
		}
		for who, want := range map[string][]database.MediaUse{"": all, "acc1": all[:1], "@acc2:test": all[1:2], "gone": all[2:], "nobody": nil} {
			if got, err := db.Media().Use(ctx, who, 1000); err != nil || !slices.Equal(got, want) {
				t.Errorf("%q: %+v %v", who, got, err)
			}
		}
	})
}
