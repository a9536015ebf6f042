package databasetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mau.fi/util/dbutil"
)

// column is a column of a table; kind is what the database calls its type.
type column struct{ table, name, kind string }

// columns lists all columns, tables in the order in which they were made, so that what is referred to comes first.
func columns(t testing.TB, raw *dbutil.Database) (list []column) {
	t.Helper()
	query := `SELECT m.name, p.name, lower(p.type) FROM sqlite_master m, pragma_table_info(m.name) p WHERE m.type='table' ORDER BY m.rowid, p.cid`
	if raw.Dialect == dbutil.Postgres {
		query = `SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_class c JOIN pg_attribute a ON a.attrelid=c.oid
			WHERE c.relnamespace=current_schema()::regnamespace AND c.relkind='r' AND a.attnum>0 AND NOT a.attisdropped ORDER BY c.oid, a.attnum`
	}
	rows, err := raw.Query(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var c column
		if err := rows.Scan(&c.table, &c.name, &c.kind); err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// Who is who in the rows of Fill: by the column's name, or the table's and the column's.
var fillNames = map[string]string{
	"account_id": "account", "owner": "account", "chat_id": "chat", "contact_id": "contact", "bridge_id": "", "gatekeeper": "whatsapp",
	"postern_account.id": "account", "postern_chat.id": "chat", "postern_contact.id": "contact", "database_owner.owner": "megabridge/postern",
	"user.mxid": "@user:example.org", "user_mxid": "@user:example.org", "user_login.id": "login", "login_id": "login", "user_login_id": "login",
	"portal.id": "portal", "portal_id": "portal", "receiver": "login", "portal_receiver": "login", "room_receiver": "login", "parent_receiver": "",
	"portal.mxid": "!room:example.org", "mx_room": "!room:example.org", "message.room_id": "portal", "reaction.room_id": "portal",
	"ghost.id": "ghost", "sender_id": "ghost", "message.id": "message", "message_id": "message", "part_id": "part", "message_part_id": "part",
	"membership": "join", "portal.parent_id": "NULL", "portal.relay_bridge_id": "NULL", "portal.relay_login_id": "NULL",
	"postern_account.mxid": "@user:example.org",
}

// FillBytes is in each column of bytes, and FillText in each of text that is nobody's id.
var FillBytes = []byte{0, 1, 2, 0xff, '\\', '\n'}

// FillText has what copying could spoil.
const FillText = "Zoë's \\ \"tab\there\", <1>\n€ 🐦"

// fillValue is what stands in a column.
func fillValue(c column) any {
	if name, ok := fillNames[c.table+"."+c.name]; ok {
		return name
	} else if name, ok := fillNames[c.name]; ok {
		return name
	}
	kind, _, _ := strings.Cut(c.kind, "(")
	switch kind {
	case "text", "char", "character":
		return fillText(c.kind)
	case "bigint":
		return int64(1) << 40
	case "integer", "smallint":
		if c.name == "id" || c.name == "key" {
			return int64(1)
		}
		return int64(7)
	case "boolean":
		return true
	case "bytea":
		return FillBytes
	case "jsonb":
		return `{"z": [1, 2.50, "é"], "a": {"b": null}}`
	case "timestamp", "timestamp without time zone":
		return time.Date(2026, 3, 29, 4, 5, 6, 789_012_345, time.Local)
	}
	return nil
}

// fillText is what stands in a column of text, which may be of a fixed length.
func fillText(kind string) string {
	var size int
	if _, err := fmt.Sscanf(strings.TrimPrefix(strings.TrimPrefix(kind, "character"), "char"), "(%d)", &size); err == nil {
		return strings.Repeat("c", size)
	}
	return FillText
}

// Fill puts a row into each table that is empty, save those left alone, with a value in each column. It returns the tables that it has filled.
func Fill(t testing.TB, raw *dbutil.Database, leave ...string) (filled []string) {
	t.Helper()
	byTable := map[string][]column{}
	var order []string
	for _, c := range columns(t, raw) {
		if byTable[c.table] == nil {
			order = append(order, c.table)
		}
		byTable[c.table] = append(byTable[c.table], c)
	}
	for _, table := range order {
		var rows int
		if err := raw.QueryRow(t.Context(), `SELECT COUNT(*) FROM "`+table+`"`).Scan(&rows); err != nil {
			t.Fatal(err)
		}
		if rows > 0 || slices.Contains(leave, table) {
			continue
		}
		var names, marks []string
		var values []any
		for i, c := range byTable[table] {
			value := fillValue(c)
			switch value {
			case "NULL":
				value = nil
			case nil:
				t.Fatalf("%s.%s is of the type %s, for which there is no value", c.table, c.name, c.kind)
			}
			names, marks, values = append(names, `"`+c.name+`"`), append(marks, fmt.Sprintf("$%d", i+1)), append(values, value)
		}
		_, err := raw.Exec(t.Context(), `INSERT INTO "`+table+`" (`+strings.Join(names, ", ")+") VALUES ("+strings.Join(marks, ", ")+")", values...)
		if err != nil {
			t.Fatalf("fill %s: %v", table, err)
		}
		filled = append(filled, table)
	}
	return filled
}

// Contents are the rows of all tables as texts, each with its columns by their names, in an order that depends on nothing else.
func Contents(t testing.TB, raw *dbutil.Database) map[string][]string {
	t.Helper()
	all, names := map[string][]string{}, map[string][]string{}
	for _, c := range columns(t, raw) {
		names[c.table] = append(names[c.table], c.name)
	}
	for table, list := range names {
		slices.Sort(list)
		all[table] = rowsOf(t, raw, table, list)
	}
	return all
}

func rowsOf(t testing.TB, raw *dbutil.Database, table string, names []string) (list []string) {
	t.Helper()
	rows, err := raw.Query(context.Background(), `SELECT "`+strings.Join(names, `", "`)+`" FROM "`+table+`"`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		values, to := make([]any, len(names)), make([]any, len(names))
		for i := range values {
			to[i] = &values[i]
		}
		if err := rows.Scan(to...); err != nil {
			t.Fatal(err)
		}
		var parts []string
		for i, value := range values {
			if raw, ok := value.([]byte); ok {
				value = string(raw)
			}
			parts = append(parts, fmt.Sprintf("%s=%v", names[i], value))
		}
		list = append(list, strings.Join(parts, "; "))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}
