package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mau.fi/util/dbutil"
)

// UserMove moves what one instance of a bridge has of a Matrix user to another, while neither runs: both have a schema in one Postgres
// database. One transaction in the other's schema writes everything, sealed under the other's key, and says in the shared schema that the user
// belongs there; before it nothing has changed, after it nothing of the old instance's is used any more, and Forget deletes it.
type UserMove struct {
	// From and To are both opened, with their leases.
	From, To *DB
	Shared   *Shared
	// FromName and ToName are the instances' names.
	FromName, ToName string
	MXID             string
	// Contacts are the local ids of the people whom the user has chats with: the old instance's, and those that the new one has for them. Begin
	// fills it.
	Contacts map[string]string
}

// Errors of a move.
var (
	// ErrMoveTables: the tables of the two are not alike.
	ErrMoveTables = errors.New("database: move a user: the tables of the two instances differ: let both start once with the same version of the program")
	// ErrMoveHome: the user does not belong to the instance that they are to be moved from.
	ErrMoveHome = errors.New("database: move a user: they do not belong to that instance, or its schema is not in the database of the other")
)

// Copy writes what the old instance has of the user into the new one's schema, in one transaction in which more, if not nil, writes the rest. What
// is there of Signal state goes on: a session that nothing may be encrypted in stays one.
func (m *UserMove) Copy(ctx context.Context, more func(ctx context.Context) error) error {
	err := m.To.Do(ctx, func(ctx context.Context) error {
		if err := m.takeHome(ctx); err != nil {
			return err
		}
		if err := m.copyContacts(ctx); err != nil {
			return err
		}
		for i := range moveTables {
			if err := m.copyTable(ctx, &moveTables[i]); err != nil {
				return err
			}
		}
		accounts, err := m.accounts(ctx)
		if err != nil {
			return err
		}
		for _, account := range accounts {
			if err := m.copySignal(ctx, account); err != nil {
				return err
			}
			_, err := m.To.raw.Exec(ctx, m.Shared.q("INSERT INTO %s.postern_moved (account, origin, gone) VALUES ($1, $2, false) ON CONFLICT (account, origin) DO NOTHING"),
				account, m.FromName)
			if err != nil {
				return err
			}
		}
		if more == nil {
			return nil
		}
		return more(ctx)
	})
	if err != nil {
		return fmt.Errorf("database: move a user: %w", err)
	}
	return nil
}

// takeHome notes in the shared schema that the user belongs to the new instance. It is in the same database, so in the same transaction.
func (m *UserMove) takeHome(ctx context.Context) error {
	var shared sql.NullString
	err := m.To.raw.QueryRow(ctx, "SELECT to_regclass($1)", m.Shared.q("%s.postern_home")).Scan(&shared)
	if err != nil {
		return err
	} else if !shared.Valid {
		return ErrMoveHome
	}
	res, err := m.To.raw.Exec(ctx, m.Shared.q("UPDATE %s.postern_home SET instance=$3 WHERE mxid=$1 AND instance=$2 AND account"), m.MXID, m.FromName, m.ToName)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil {
		return err
	} else if n != 1 {
		return ErrMoveHome
	}
	return nil
}

// accounts are the old instance's of the user. What is read of it inside the transaction of the new one is read by connections of its own.
func (m *UserMove) accounts(ctx context.Context) ([]string, error) {
	rows, err := m.From.raw.Query(ctx, "SELECT id FROM postern_account WHERE mxid=$1 ORDER BY created_at, id", m.MXID)
	return dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[string], err).AsList()
}

// copyContacts finds, or makes, the contacts of the new instance.
func (m *UserMove) copyContacts(ctx context.Context) error {
	rows, err := m.From.raw.Query(ctx, "SELECT DISTINCT contact_id FROM postern_chat WHERE account_id IN "+exportAccounts, m.MXID)
	ids, err := dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[string], err).AsList()
	if err != nil {
		return err
	}
	slices.Sort(ids)
	m.Contacts = map[string]string{}
	for _, id := range ids {
		old, err := m.From.Contacts().Get(ctx, id)
		if err != nil {
			return err
		} else if old == nil {
			return fmt.Errorf("a contact: %w", ErrNotFound)
		}
		known, err := m.To.Contacts().ByJID(ctx, old.Gatekeeper, old.JID)
		if err != nil {
			return err
		}
		if known == nil {
			if known, err = m.To.Contacts().Ensure(ctx, old.Gatekeeper, old.JID); err != nil {
				return err
			}
			known.Phone, known.Name = old.Phone, old.Name
			if err = m.To.Contacts().Update(ctx, known); err != nil {
				return err
			}
		}
		m.Contacts[id] = known.ID
	}
	return nil
}

// MoveRow is how the rows of a table are copied that is not of this package.
type MoveRow struct {
	Table string
	// Where selects the rows, with Args.
	Where string
	Args  []any
	// Change may change a row; what is deleted from it gets the column's default, and false leaves the row out.
	Change func(row map[string]any) bool
	// Conflict is what comes behind INSERT.
	Conflict string
}

// CopyRows copies rows of a table of the framework's, inside Copy.
func (m *UserMove) CopyRows(ctx context.Context, r *MoveRow) error {
	return m.copyRows(ctx, r.Table, r.Where, r.Args, r.Conflict, func(row map[string]any) (bool, error) {
		return r.Change == nil || r.Change(row), nil
	})
}

func (m *UserMove) copyTable(ctx context.Context, t *moveTable) error {
	return m.copyRows(ctx, t.name, t.where, []any{m.MXID}, t.conflict, func(row map[string]any) (bool, error) {
		return true, m.reseal(t, row)
	})
}

// reseal opens a row's columns and seals them under the other key.
func (m *UserMove) reseal(t *moveTable, row map[string]any) error {
	version := func(column string) int {
		if of := t.versions[column]; of != nil {
			return of(row)
		}
		if n, ok := row[t.version].(int64); ok {
			return int(n)
		}
		return 1
	}
	opened := map[string]bool{}
	for column, label := range t.sealed {
		sealed, _ := row[column].([]byte)
		if sealed == nil {
			continue
		}
		plain, err := m.From.Unseal(label, t.key(row), version(column), sealed)
		if err != nil {
			return err // nothing is moved that would be damaged at the other
		}
		row[column], opened[column] = plain, true
	}
	for column, value := range t.set {
		row[column] = value(m, row)
	}
	for column := range opened {
		plain, _ := row[column].([]byte)
		row[column] = m.To.Seal(t.sealed[column], t.key(row), version(column), plain)
	}
	return nil
}

func (m *UserMove) copyRows(ctx context.Context, table, where string, args []any, conflict string, change func(row map[string]any) (bool, error)) error {
	names, binary, err := moveColumns(ctx, m.To.raw, table)
	if err != nil {
		return err
	}
	there, _, err := moveColumns(ctx, m.From.raw, table)
	if err != nil {
		return err
	} else if len(names) == 0 || !slices.Equal(names, there) {
		return fmt.Errorf("%w (%s)", ErrMoveTables, table)
	}
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = `"` + name + `"`
	}
	rows, err := m.From.raw.Query(ctx, "SELECT "+join(quoted)+` FROM "`+table+`" WHERE `+where, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", table, err)
	}
	defer rows.Close()
	for rows.Next() {
		row, err := scanAny(rows, names)
		if err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
		wanted, err := change(row)
		if err != nil {
			return fmt.Errorf("%s: %w", table, err)
		} else if !wanted {
			continue
		}
		if err := insertRow(ctx, m.To.raw, table, conflict, names, binary, row); err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("%s: %w", table, err)
	}
	return nil
}

func join(names []string) string {
	list := ""
	for i, name := range names {
		if i > 0 {
			list += ", "
		}
		list += name
	}
	return list
}

// copySignal writes an account's sessions and keys through the stores that know their versions and sums.
func (m *UserMove) copySignal(ctx context.Context, account string) error {
	from, to := m.From.Signal(account), m.To.Signal(account)
	for _, p := range []*peerRow{sessionRow, identityRow} {
		table := map[rowKind]string{rowSession: "postern_signal_session", rowIdentity: "postern_signal_identity"}[p.kind]
		rows, err := m.From.raw.Query(ctx, "SELECT address FROM "+table+" WHERE account_id=$1 ORDER BY address", account)
		addresses, err := dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[string], err).AsList()
		if err != nil {
			return err
		}
		for _, address := range addresses {
			value, generation, err := p.load(ctx, from, address)
			if err != nil {
				return err
			} else if value == nil {
				continue
			}
			var more []any
			if p.kind == rowSession {
				now := m.To.epoch.generation
				if generation < m.From.epoch.generation {
					now = generationOld
				}
				more = append(more, now)
			}
			if err := p.put(ctx, to, address, value, more...); err != nil {
				return err
			}
		}
	}
	return m.copyKeys(ctx, account, from, to)
}

func (m *UserMove) copyKeys(ctx context.Context, account string, from, to *SignalStore) error {
	uploaded := map[uint32]bool{}
	rows, err := m.From.raw.Query(ctx, "SELECT key_id FROM postern_signal_prekey WHERE account_id=$1 AND uploaded", account)
	ids, err := dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[int64], err).AsList()
	if err != nil {
		return err
	}
	for _, id := range ids {
		uploaded[uint32(id)] = true
	}
	keys, err := from.listKeys(ctx, oneTimeKeys, "SELECT key_id, record, 0 FROM postern_signal_prekey WHERE account_id=$1", account)
	if err != nil {
		return err
	}
	var there []uint32
	keys = slices.DeleteFunc(keys, func(k PreKey) bool { return k.Record == nil }) // damaged: nobody could use it
	for _, k := range keys {
		if uploaded[k.ID] {
			there = append(there, k.ID)
		}
	}
	if err = to.PutPreKeys(ctx, keys); err == nil {
		err = to.MarkPreKeysUploaded(ctx, there)
	}
	if err != nil {
		return err
	}
	signed, err := from.SignedPreKeys(ctx)
	if err != nil {
		return err
	}
	for _, k := range signed {
		if k.Record == nil {
			continue
		}
		if err := to.PutSignedPreKey(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// CopyJournal puts what the old instance has journalled of a room behind what the new one has: the unfinished in order, of the finished the
// ids, so that none is handled again. What it says holds also of what the new one has seen: that had no chat in the room. What skip accepts counts as finished. It is for inside Copy. count is how many are unfinished.
func (m *UserMove) CopyJournal(ctx context.Context, room string, skip func(body []byte) bool) (count int, err error) {
	rows, err := m.From.raw.Query(ctx, `SELECT seq, kind, event_id, body, handed, finished_at FROM postern_as_event
		WHERE room_id=$1 AND (finished_at IS NULL OR event_id IS NOT NULL) ORDER BY seq`, room)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	next, err := m.To.Journal().nextSeq(ctx)
	if err != nil {
		return 0, err
	}
	for rows.Next() {
		e := JournalEvent{RoomID: room}
		var eventID *string
		var finished *int64
		if err := rows.Scan(&e.Seq, &e.Kind, &eventID, &e.Body, &e.Handed, &finished); err != nil {
			return 0, err
		}
		if eventID != nil {
			e.EventID = *eventID
		}
		var body []byte
		was := e.sealedAs()
		e.Seq = next
		if finished == nil {
			plain, err := m.From.Unseal(journalBody, was, 1, e.Body)
			if err != nil {
				return 0, err
			}
			if skip(plain) && e.EventID != "" {
				now := time.Now().UnixMilli()
				finished = &now
			} else {
				body = m.To.Seal(journalBody, e.sealedAs(), 1, plain)
				count++
			}
		}
		_, err := m.To.raw.Exec(ctx, `INSERT INTO postern_as_event (seq, kind, event_id, room_id, body, handed, finished_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (event_id) DO UPDATE SET seq=excluded.seq, body=excluded.body, handed=excluded.handed, finished_at=excluded.finished_at`,
			e.Seq, e.Kind, eventID, e.RoomID, body, e.Handed, finished)
		if err != nil {
			return 0, err
		}
		next++
	}
	return count, rows.Err()
}

// Forget deletes what the old instance had of the user, but for the files that they have sent, which are served until they expire, and what they
// have reported. more deletes the rest, in the same transaction.
func (m *UserMove) Forget(ctx context.Context, more func(ctx context.Context) error) error {
	err := m.From.Do(ctx, func(ctx context.Context) error {
		accounts, err := m.From.Accounts().ByMXID(ctx, m.MXID)
		if err != nil && !errors.Is(err, ErrSealBroken) {
			return err
		}
		if more != nil {
			if err := more(ctx); err != nil {
				return err
			}
		}
		for _, account := range accounts {
			for _, statement := range append(slices.Clone(emptying), "DELETE FROM postern_account WHERE id=$1") {
				if _, err := m.From.raw.Exec(ctx, statement, account.ID); err != nil {
					return err
				}
			}
			if err := m.From.noteRow(ctx, rowChange{account: account.ID, wipe: true, gone: true}); err != nil {
				return err
			}
		}
		for _, table := range []string{"postern_region", "postern_token", "postern_assigned"} {
			if _, err := m.From.raw.Exec(ctx, "DELETE FROM "+table+" WHERE mxid=$1", m.MXID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("database: forget a user who was moved: %w", err)
	}
	return nil
}
