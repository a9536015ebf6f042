package connector

import (
	"testing"

	"postern/connector/e2ee"
	"postern/connector/e2ee/e2eetest"
	"postern/database"
	"postern/database/databasetest"
)

func TestTheDatabaseConformsAsASignalStore(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		e2eetest.Conformance(t, func() e2ee.Store {
			a := &database.Account{ID: database.NewLocalID(), Gatekeeper: "whatsapp"}
			a.Identifier = a.ID
			if err := db.Accounts().Put(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			return newSignalStore(db, a.ID)
		})
	})
}
