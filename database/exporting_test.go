package database_test

import (
	"slices"
	"strings"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

// TestEveryColumnIsExportedOrLeftOutForAReason reads the schema: what a later version adds has to be decided upon.
func TestEveryColumnIsExportedOrLeftOutForAReason(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		query := "SELECT m.name, p.name FROM sqlite_master m, pragma_table_info(m.name) p WHERE m.type='table' AND m.name LIKE 'postern_%'"
		if !strings.HasPrefix(db.Raw().Dialect.String(), "sqlite") {
			query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema=current_schema() AND table_name LIKE 'postern_%'"
		}
		rows, err := db.Raw().Query(ctx, query)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		schema := map[string][]string{}
		for rows.Next() {
			var table, column string
			if err := rows.Scan(&table, &column); err != nil {
				t.Fatal(err)
			}
			schema[table] = append(schema[table], column)
		}
		if err := rows.Err(); err != nil || len(schema) < 20 {
			t.Fatal(len(schema), err)
		}
		decided := database.ExportDecisions()
		for table, columns := range schema {
			have, ok := decided[table]
			if !ok {
				t.Errorf("%s is neither exported nor left out", table)
				continue
			}
			if have == nil {
				continue // left out altogether
			}
			for _, column := range columns {
				if !slices.Contains(have, column) {
					t.Errorf("%s.%s is neither exported nor left out", table, column)
				}
			}
			for _, column := range have {
				if !slices.Contains(columns, column) {
					t.Errorf("%s.%s is not in the schema", table, column)
				}
			}
		}
		for table := range decided {
			if schema[table] == nil {
				t.Errorf("%s is not in the schema", table)
			}
		}
		for what, reason := range db.Exports().Omitted() {
			if reason == "" {
				t.Errorf("%s is left out without a reason", what)
			}
		}
	})
}

// TestAnExportHasWhatIsAboutOnePersonAndNobodyElse.
func TestAnExportHasWhatIsAboutOnePersonAndNobodyElse(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		ok := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range []string{"mine", "other"} {
			ok(db.Accounts().Put(ctx, &database.Account{
				ID: id, Gatekeeper: "whatsapp", MXID: "@" + id + ":example.org", Identifier: id, Login: "1-" + id, NoiseKey: []byte("secret"),
				Device: []byte("secret"), HMACKey: []byte("secret"),
			}))
			contact, err := db.Contacts().Ensure(ctx, "whatsapp", id+"@lid")
			ok(err)
			contact.Phone, contact.Name = "+49151"+id, "Ben of "+id
			ok(db.Contacts().Update(ctx, contact))
			chat, err := db.Chats().Ensure(ctx, id, contact.ID)
			ok(err)
			ok(db.Consents().Add(ctx, &database.Consent{AccountID: id, At: 5, Wording: "w", Document: []byte("agreed by " + id)}))
			ok(db.ChatRooms().Put(ctx, &database.ChatRoom{ChatID: chat.ID, RoomID: "!r", Title: "title of " + id}))
		}
		seen := map[string]map[string]any{}
		ok(db.Exports().Tables(ctx, "@mine:example.org", func(table string, row map[string]any) error {
			if seen[table] != nil {
				t.Errorf("%s has more than one row", table)
			}
			seen[table] = row
			return nil
		}))
		for table, want := range map[string]map[string]string{
			"postern_account": {"identifier": "mine"}, "postern_contact": {"phone": "+49151mine"},
			"postern_consent": {"document": "agreed by mine"}, "postern_chat_room": {"title": "title of mine"},
		} {
			for column, value := range want {
				if got, _ := seen[table][column].([]byte); string(got) != value {
					t.Errorf("%s.%s is %q, want %q", table, column, got, value)
				}
			}
		}
		if _, there := seen["postern_account"]["noise_key"]; there || len(seen) != 5 {
			t.Errorf("tables: %d", len(seen))
		}
	})
}
