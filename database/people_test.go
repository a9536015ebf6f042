package database_test

import (
	"maps"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

func TestTheLanguageThatSomebodyChoseIsKept(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		people := db.People()
		for _, put := range [][2]string{{"@a:example.org", "de"}, {"@b:example.org", "en"}, {"@a:example.org", "en"}, {"@b:example.org", "de"}} {
			if err := people.PutLanguage(t.Context(), put[0], put[1]); err != nil {
				t.Fatal(err)
			}
		}
		got, err := people.Languages(t.Context())
		if err != nil || !maps.Equal(got, map[string]string{"@a:example.org": "en", "@b:example.org": "de"}) {
			t.Errorf("%v %v", got, err)
		}
	})
}
