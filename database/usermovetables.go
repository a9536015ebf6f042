package database

import (
	"context"
	"fmt"
	"strings"

	"go.mau.fi/util/dbutil"
)

// moveTable says how the rows of a table that belong to a Matrix user move to another instance. Every table of ours is in moveTables or in
// moveLeft, which a test compares with the schema.
type moveTable struct {
	name string
	// where selects the rows of the Matrix user $1.
	where string
	// sealed are the columns that are sealed, with their labels; key is the row as it is sealed, version the column with the version, "" for 1.
	sealed  map[string]string
	version string
	key     func(row map[string]any) string
	// versions of single columns, where they have others.
	versions map[string]func(row map[string]any) int
	// set are the columns that get another value, after what is sealed was opened and before it is sealed again; nil leaves the column out.
	set map[string]func(m *UserMove, row map[string]any) any
	// conflict is what comes behind INSERT, for rows that may be there already.
	conflict string
}

// moveLeft are the tables of which nothing moves, with the reasons.
var moveLeft = map[string]string{
	"postern_contact":              "moved with the chats, to the contact that the other instance has for the same address",
	"postern_account_alias":        "an index under the key of the instance: made anew of what the person has agreed to",
	"postern_leaving":              "who is being deleted is not moved",
	"postern_suspended":            "who is suspended is not moved",
	"postern_report":               "for whoever runs the bridge, who reads it where it was made",
	"postern_operator":             "the instance's own",
	"postern_operator_news":        "the instance's own",
	"postern_audit":                "of what was done at the instance",
	"postern_media":                "served where the files are, until they expire",
	"postern_signal_head":          "sums over rows, made anew as these are written",
	"postern_signal_session":       "written anew, each under a version that no row here has had",
	"postern_signal_identity":      "written anew, each under a version that no row here has had",
	"postern_signal_prekey":        "written anew",
	"postern_signal_signed_prekey": "written anew",
	"postern_as_transaction":       "the homeserver's with the instance's own appservice",
	"postern_as_event":             "those of the user's rooms are put behind what the other instance has",
	"postern_sync_token":           "the instance's own",
	"postern_lease":                "the instance's own",
	"postern_instance":             "the instance's own",
	"postern_key_check":            "the instance's own",
	"postern_issuer_keys":          "all instances have the same, in the shared schema",
	"postern_epoch":                "the instance's own",
	"postern_version":              "the instance's own",
}

const thereAlready = " ON CONFLICT DO NOTHING"

// moveTables are in the order in which they are written.
var moveTables = []moveTable{
	{name: "postern_person", where: "mxid=$1", conflict: thereAlready},
	{
		name: "postern_region", where: "mxid=$1", sealed: map[string]string{"country": regionCountry}, version: "version", key: exportKey("mxid"),
		conflict: thereAlready,
	},
	{
		name: "postern_assigned", where: "mxid=$1", sealed: map[string]string{"identifier": assignedIdentifier}, version: "version", key: exportKey("mxid"),
		set: map[string]func(m *UserMove, row map[string]any) any{"identifier_index": func(m *UserMove, row map[string]any) any {
			identifier, _ := row["identifier"].([]byte)
			return m.To.BlindIndex(assignedIndex, string(identifier))
		}},
		conflict: thereAlready,
	},
	{name: "postern_brake", where: "mxid=$1", conflict: thereAlready},
	{name: "postern_token", where: "mxid=$1"},
	{
		name: "postern_account", where: "mxid=$1", version: "version", key: exportKey("id"),
		sealed: map[string]string{
			"identifier": accountIdentifier, "noise_key": accountNoiseKey, "device": accountDevice, "hmac_key": accountHMACKey,
		},
		set: map[string]func(m *UserMove, row map[string]any) any{"identifier_index": func(m *UserMove, row map[string]any) any {
			identifier, _ := row["identifier"].([]byte)
			return m.To.Accounts().identifierIndex(fmt.Sprint(row["gatekeeper"]), string(identifier))
		}},
	},
	{
		name: "postern_consent", where: "account_id IN " + exportAccounts, sealed: map[string]string{"document": consentDocument},
		key: exportKey("account_id", "wording", "at"),
	},
	{name: "postern_signal_counter", where: "account_id IN " + exportAccounts},
	{
		name: "postern_chat", where: "account_id IN " + exportAccounts,
		set: map[string]func(m *UserMove, row map[string]any) any{
			"contact_id": func(m *UserMove, row map[string]any) any { return m.Contacts[fmt.Sprint(row["contact_id"])] },
		},
	},
	{name: "postern_block", where: "account_id IN " + exportAccounts},
	{name: "postern_reach", where: "account_id IN " + exportAccounts},
	{
		name: "postern_verified", where: "account_id IN " + exportAccounts, sealed: map[string]string{"keys": verifiedKeys}, version: "version",
		key: exportKey("account_id", "chat_id"),
	},
	{name: "postern_request", where: "account_id IN " + exportAccounts},
	{
		name: "postern_chat_room", where: "chat_id IN " + exportChats, sealed: map[string]string{"title": chatRoomTitle}, version: "version",
		key: exportKey("chat_id"),
	},
	{
		name: "postern_in", where: "account_id IN " + exportAccounts, sealed: map[string]string{"payload": queueInPayload}, version: "version",
		key: exportKey("chat_id", "class", "item_id"),
	},
	{
		name: "postern_out", where: "account_id IN " + exportAccounts, key: exportKey("account_id", "stanza_id"),
		sealed: map[string]string{
			"plaintext": queueOutPlaintext, "recipe": queueOutRecipe, "fallback": queueOutFallback, "stanza": queueOutStanza,
		},
		versions: map[string]func(row map[string]any) int{"stanza": func(row map[string]any) int {
			answers, _ := row["answers"].(int64)
			return int(answers) + 1
		}},
	},
	{
		name: "postern_incoming_media", where: "account_id IN " + exportAccounts, sealed: map[string]string{"payload": incomingMediaPayload},
		version: "version", key: exportKey("chat_id", "message_id"),
	},
	{name: "postern_ignored", where: "account_id IN " + exportAccounts},
	{
		name: "postern_notice", where: "sent_at IS NULL AND room_id IN (SELECT mxid FROM portal WHERE receiver IN " + exportAccounts + ")",
		sealed: map[string]string{"content": noticeContent}, key: exportKey("id"), conflict: thereAlready,
	},
}

// MoveColumns are the columns of a table in a database, without those that it makes by itself, each with whether it holds bytes.
func moveColumns(ctx context.Context, raw *dbutil.Database, table string) (names []string, binary map[string]bool, err error) {
	rows, err := raw.Query(ctx, `SELECT column_name, data_type FROM information_schema.columns
		WHERE table_schema=current_schema() AND table_name=$1 AND is_identity='NO' ORDER BY column_name`, table)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	binary = map[string]bool{}
	for rows.Next() {
		var name, kind string
		if err := rows.Scan(&name, &kind); err != nil {
			return nil, nil, err
		}
		names, binary[name] = append(names, name), kind == "bytea"
	}
	return names, binary, rows.Err()
}

// insertRow writes a row; what is not bytes goes as text where the driver has handed it over as bytes.
func insertRow(ctx context.Context, raw *dbutil.Database, table, conflict string, names []string, binary map[string]bool, row map[string]any) error {
	var columns, places []string
	var args []any
	for _, name := range names {
		value, ok := row[name]
		if !ok {
			continue
		}
		if bytes, is := value.([]byte); is && !binary[name] {
			value = string(bytes)
		}
		args = append(args, value)
		columns, places = append(columns, `"`+name+`"`), append(places, fmt.Sprintf("$%d", len(args)))
	}
	_, err := raw.Exec(ctx, `INSERT INTO "`+table+`" (`+strings.Join(columns, ", ")+") VALUES ("+strings.Join(places, ", ")+")"+conflict, args...)
	return err
}
