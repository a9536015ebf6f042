package database

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"go.mau.fi/util/dbutil"
)

// exportTable says what of one table belongs to a Matrix user, and what of that they are given. Every table and column of ours is here, which a
// test compares with the schema.
type exportTable struct {
	name string
	// where selects the rows of the Matrix user $1; "" for a table that is left out altogether, for the reason in without.
	where   string
	without string
	// columns are given as they are.
	columns []string
	// sealed are given opened: the column with the label that it is sealed under.
	sealed map[string]string
	// version is the column with the version of what is sealed, "" for version 1; key is the row as it is sealed.
	version string
	key     func(row map[string]any) string
	// left are columns that are not given, each with the reason.
	left map[string]string
}

// Reasons for leaving something out.
const (
	leftKey      = "a key: whoever has it can speak in your name"
	leftInternal = "of no meaning outside the database"
	leftSame     = "says no more than another column"
	leftOwn      = "the bridge's own, of no person"
)

const (
	exportAccounts = "(SELECT id FROM postern_account WHERE mxid=$1)"
	exportChats    = "(SELECT id FROM postern_chat WHERE account_id IN " + exportAccounts + ")"
)

func exportKey(columns ...string) func(row map[string]any) string {
	return func(row map[string]any) string {
		parts := make([]string, len(columns))
		for i, c := range columns {
			parts[i] = fmt.Sprint(row[c])
		}
		if len(parts) == 1 {
			return parts[0]
		}
		return RowKey(parts...)
	}
}

var exportTables = []exportTable{
	{name: "postern_person", where: "mxid=$1", columns: []string{"mxid", "language"}},
	{
		name: "postern_region", where: "mxid=$1", columns: []string{"mxid", "declared", "checked", "until"},
		sealed: map[string]string{"country": regionCountry}, version: "version", key: exportKey("mxid"),
	},
	{
		name: "postern_assigned", where: "mxid=$1", columns: []string{"mxid", "at"},
		sealed: map[string]string{"identifier": assignedIdentifier}, version: "version", key: exportKey("mxid"),
		left: map[string]string{"identifier_index": leftSame},
	},
	{
		name: "postern_account", where: "mxid=$1",
		columns: []string{"id", "gatekeeper", "mxid", "login", "integrator", "consent_version", "consent_at", "created_at", "enlisted_at", "reenlisted_at", "last_connected"},
		sealed:  map[string]string{"identifier": accountIdentifier}, version: "version", key: exportKey("id"),
		left: map[string]string{"identifier_index": leftSame, "noise_key": leftKey, "device": leftKey, "hmac_key": leftKey},
	},
	{
		name: "postern_consent", where: "account_id IN " + exportAccounts, columns: []string{"account_id", "at", "wording"},
		sealed: map[string]string{"document": consentDocument}, key: exportKey("account_id", "wording", "at"),
	},
	{
		name: "postern_leaving", where: "account_id IN " + exportAccounts,
		columns: []string{"account_id", "room_id", "reason", "asked", "outcome", "emptied", "counts"},
	},
	{
		name: "postern_block", where: "account_id IN " + exportAccounts,
		columns: []string{"chat_id", "account_id", "blocked", "pending", "at"},
	},
	{name: "postern_reach", where: "account_id IN " + exportAccounts, columns: []string{"chat_id", "account_id", "state", "since"}},
	{
		name: "postern_brake", where: "mxid=$1", columns: []string{"kind", "mxid", "at"},
		left: map[string]string{"id": leftInternal, "subject": "a hash of the address that a code went to"},
	},
	{
		name: "postern_suspended", where: "mxid=$1", columns: []string{"mxid", "at", "ended"},
		sealed: map[string]string{"reason": suspendedReason}, version: "version", key: exportKey("mxid"),
	},
	{
		name: "postern_verified", where: "account_id IN " + exportAccounts, columns: []string{"chat_id", "account_id", "at"},
		sealed: map[string]string{"keys": verifiedKeys}, version: "version", key: exportKey("account_id", "chat_id"),
	},
	{
		name: "postern_contact", where: "id IN (SELECT contact_id FROM postern_chat WHERE account_id IN " + exportAccounts + ")",
		columns: []string{"id", "gatekeeper", "jid", "name", "created_at"},
		sealed:  map[string]string{"phone": contactPhone}, version: "version", key: exportKey("id"),
	},
	{name: "postern_chat", where: "account_id IN " + exportAccounts, columns: []string{"id", "account_id", "contact_id", "created_at"}},
	{
		name: "postern_request", where: "account_id IN " + exportAccounts,
		columns: []string{"chat_id", "account_id", "state", "since", "asked", "dropped", "closing"},
	},
	{
		name: "postern_chat_room", where: "chat_id IN " + exportChats, columns: []string{"chat_id", "room_id"},
		sealed: map[string]string{"title": chatRoomTitle}, version: "version", key: exportKey("chat_id"),
	},
	{
		name: "postern_in", where: "account_id IN " + exportAccounts,
		columns: []string{
			"chat_id", "class", "item_id", "account_id", "kind", "state", "timestamp", "received", "sts", "receipt", "nack", "retries", "since", "late",
			"read_receipt", "dead_reason", "dead_at", "deaths",
		},
		sealed: map[string]string{"payload": queueInPayload}, version: "version", key: exportKey("chat_id", "class", "item_id"),
		left: map[string]string{"seq": leftInternal, "hash": leftInternal, "letter": leftInternal},
	},
	{
		name: "postern_out", where: "account_id IN " + exportAccounts,
		columns: []string{
			"account_id", "stanza_id", "chat_id", "event_id", "room_id", "part", "parts", "type", "media_type", "state", "work", "created", "changed",
			"reason", "code", "answers",
		},
		sealed: map[string]string{"plaintext": queueOutPlaintext, "recipe": queueOutRecipe, "fallback": queueOutFallback}, key: exportKey("account_id", "stanza_id"),
		left: map[string]string{
			"seq": leftInternal, "stanza": leftSame, "due": leftInternal, "reported": leftSame, "letter": leftInternal,
			"retry": "another phone's request with its public keys", "retry_last": leftInternal,
		},
	},
	{
		name: "postern_incoming_media", where: "account_id IN " + exportAccounts,
		columns: []string{"chat_id", "message_id", "account_id", "state", "reason", "tries", "timestamp", "expires"},
		left:    map[string]string{"version": leftInternal, "payload": "the attachment's key; the message itself is in your room"},
	},
	{
		name: "postern_media", where: "owner IN " + exportAccounts, columns: []string{"owner", "size", "sha256", "created", "expires", "fetched"},
		left: map[string]string{"ref_hash": leftInternal},
	},
	{name: "postern_ignored", where: "account_id IN " + exportAccounts, columns: []string{"chat_id", "account_id", "pending"}},
	{name: "postern_operator", without: leftOwn},
	{name: "postern_operator_news", without: leftOwn},
	{
		name: "postern_report", where: "account_id IN " + exportAccounts,
		columns: []string{"id", "account_id", "chat_id", "gatekeeper", "at", "closed", "told"},
		sealed:  map[string]string{"subject": reportSubject, "reason": reportReason, "quoted": reportQuoted}, key: exportKey("id"),
		left: map[string]string{"about": leftSame},
	},
	{
		name: "postern_token", where: "mxid=$1", columns: []string{"id", "mxid", "scopes", "at", "expires", "revoked"},
		left: map[string]string{"hash": leftKey},
	},
	{
		name: "postern_audit", where: "subject IN " + exportAccounts + " OR subject IN (SELECT id FROM postern_token WHERE mxid=$1)",
		columns: []string{"at", "action", "subject", "outcome"},
		left:    map[string]string{"seq": leftInternal, "began": leftInternal, "actor": "who has ordered it"},
	},
	{name: "postern_account_alias", without: "the identifiers in it are hashes; the account has its own"},
	{name: "postern_signal_counter", without: leftInternal},
	{name: "postern_signal_head", without: leftInternal},
	{name: "postern_signal_session", without: leftKey},
	{name: "postern_signal_identity", without: leftKey},
	{name: "postern_signal_prekey", without: leftKey},
	{name: "postern_signal_signed_prekey", without: leftKey},
	{name: "postern_as_transaction", without: leftOwn},
	{name: "postern_as_event", without: "what your homeserver has handed over and is not handled yet: it is in your rooms"},
	{name: "postern_sync_token", without: leftOwn},
	{name: "postern_notice", without: "what the bridge is about to say in your rooms"},
	{name: "postern_lease", without: leftOwn},
	{name: "postern_instance", without: leftOwn},
	{name: "postern_key_check", without: leftOwn},
	{name: "postern_issuer_keys", without: leftOwn},
	{name: "postern_epoch", without: leftOwn},
	{name: "postern_version", without: leftOwn},
}

// ExportStore reads what is kept about a Matrix user.
type ExportStore struct{ db *DB }

// Exports is the reader of what is kept about Matrix users.
func (db *DB) Exports() ExportStore { return ExportStore{db} }

// ErrExport wraps what the receiver of an export has returned.
var ErrExport = errors.New("database: export: not taken")

// Tables calls row for each row about a Matrix user, table by table; opened columns are []byte, and one that does not open is nil. An error of row's ends it
// and comes back under ErrExport.
func (s ExportStore) Tables(ctx context.Context, mxid string, row func(table string, row map[string]any) error) error {
	for _, t := range exportTables {
		if t.where == "" {
			continue
		}
		if err := s.table(ctx, &t, mxid, row); err != nil {
			return err
		}
	}
	return nil
}

// Omitted are the tables and columns that Tables leaves out, with the reasons.
func (ExportStore) Omitted() map[string]string {
	omitted := map[string]string{}
	for _, t := range exportTables {
		if t.where == "" {
			omitted[t.name] = t.without
		}
		for column, reason := range t.left {
			omitted[t.name+"."+column] = reason
		}
	}
	return omitted
}

func (s ExportStore) table(ctx context.Context, t *exportTable, mxid string, row func(table string, row map[string]any) error) error {
	columns := append([]string(nil), t.columns...)
	for column := range t.sealed {
		columns = append(columns, column)
	}
	if t.version != "" {
		columns = append(columns, t.version)
	}
	list := ""
	for i, column := range columns {
		if i > 0 {
			list += ", "
		}
		list += column
	}
	rows, err := s.db.raw.Query(ctx, "SELECT "+list+" FROM "+t.name+" WHERE "+t.where, mxid)
	if err != nil {
		return fmt.Errorf("database: export: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		values, err := scanAny(rows, columns)
		if err != nil {
			return fmt.Errorf("database: export: %w", err)
		}
		s.open(t, values)
		if t.name == "postern_in" {
			splitIn(values)
		}
		if err := row(t.name, values); err != nil {
			return fmt.Errorf("%w: %w", ErrExport, err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("database: export: %w", err)
	}
	return nil
}

// splitIn takes apart what sealIn has put together.
func splitIn(row map[string]any) {
	plain, _ := row["payload"].([]byte)
	row["payload"], row["notify"] = nil, nil
	if n, size := binary.Uvarint(plain); size > 0 && n <= uint64(len(plain)-size) {
		row["notify"], row["payload"] = plain[size:size+int(n)], plain[size+int(n):]
	}
}

func scanAny(row dbutil.Scannable, columns []string) (map[string]any, error) {
	values, to := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		to[i] = &values[i]
	}
	if err := row.Scan(to...); err != nil {
		return nil, err
	}
	named := make(map[string]any, len(columns))
	for i, column := range columns {
		named[column] = values[i]
	}
	return named, nil
}

// open opens what is sealed in a row.
func (s ExportStore) open(t *exportTable, row map[string]any) {
	version := 1
	if n, ok := row[t.version].(int64); ok {
		version = int(n)
	}
	for column, label := range t.sealed {
		sealed, _ := row[column].([]byte)
		row[column] = nil
		if sealed == nil {
			continue
		}
		if plain, err := s.db.Unseal(label, t.key(row), version, sealed); err == nil {
			row[column] = plain
		}
	}
	delete(row, t.version)
}
