package database

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"

	"go.mau.fi/util/dbutil"
)

// headsOld is why all accounts go on as ones of an old copy.
const headsOld = "an account's keys and sessions are of an earlier time than the rest"

// putHead stores nothing for an account that is gone.
const putHead = `INSERT INTO postern_signal_head (account_id, version, sums) SELECT id, $2, $3 FROM postern_account WHERE id=$1
	ON CONFLICT (account_id) DO UPDATE SET version=excluded.version, sums=excluded.sums`

func (r *rows) sealHead(account string, h *headChange) []byte {
	return r.seal.seal(headColumn, account, int(h.version), h.sums.bytes())
}

func (r *rows) sealTotal(counter int64, total sum) []byte {
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, total.high), total.low)
	return r.seal.seal(headsColumn, "1", int(counter), b)
}

// foundRows is what was found in the database.
type foundRows struct {
	rows *rows
	// first: there are no heads yet. old: they are not those that were there last, or there were some.
	first, old bool
	// wrong are the sums of accounts that are not those of their rows.
	wrong map[string][]int
}

// readRows reads the names and versions of all rows, and compares them with the sums; heads is the sealed sum over the heads,
// from the row with that counter.
func (db *DB) readRows(ctx context.Context, seed maphash.Seed, heads []byte, counter int64) (*foundRows, error) {
	f := &foundRows{rows: newRows(db.sealer, seed), first: heads == nil, wrong: make(map[string][]int)}
	read := make(map[string]*sums)
	for _, t := range []struct {
		kind  rowKind
		query string
	}{
		{rowSession, "SELECT account_id, address, version FROM postern_signal_session"},
		{rowIdentity, "SELECT account_id, address, version FROM postern_signal_identity"},
		{rowPreKey, "SELECT account_id, CAST(key_id AS TEXT), 1 FROM postern_signal_prekey"},
		{rowSignedPreKey, "SELECT account_id, CAST(key_id AS TEXT), 1 FROM postern_signal_signed_prekey"},
	} {
		if err := db.readKind(ctx, f.rows, read, t.kind, t.query); err != nil {
			return nil, fmt.Errorf("database: read versions: %w", err)
		}
	}
	for account, s := range read {
		f.rows.accounts[account].sums = s.kept()
	}
	if err := db.readHeads(ctx, f, read); err != nil {
		return nil, fmt.Errorf("database: read versions: %w", err)
	}
	if f.first {
		return f, nil
	}
	want, err := db.sealer.unseal(headsColumn, "1", int(counter), heads)
	if err != nil && !errors.Is(err, ErrSealBroken) {
		return nil, err
	}
	got := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, f.rows.total.high), f.rows.total.low)
	f.old = err != nil || string(want) != string(got)
	return f, nil
}

func (db *DB) readKind(ctx context.Context, r *rows, read map[string]*sums, kind rowKind, query string) error {
	list, err := db.raw.Query(ctx, query)
	if err != nil {
		return err
	}
	defer list.Close()
	for list.Next() {
		var account, name string
		var version int64
		if err = list.Scan(&account, &name, &version); err != nil {
			return err
		}
		a := r.accounts[account]
		if a == nil {
			a = &accountRows{}
			r.accounts[account], read[account] = a, &sums{}
		}
		a.set(kind, r.id(kind, name), version)
		read[account][kind.bucket(name)].add(r.of(kind, account, name, version))
	}
	return list.Err()
}

// readHeads compares what was read with the heads.
func (db *DB) readHeads(ctx context.Context, f *foundRows, read map[string]*sums) error {
	r := f.rows
	list, err := db.raw.Query(ctx, "SELECT account_id, version, sums FROM postern_signal_head")
	if err != nil {
		return err
	}
	defer list.Close()
	unseen := maps.Clone(read)
	for list.Next() {
		var account string
		var version int64
		var sealed []byte
		if err = list.Scan(&account, &version, &sealed); err != nil {
			return err
		}
		a := r.accounts[account]
		if a == nil {
			a = &accountRows{}
			r.accounts[account] = a
		}
		a.version = version
		r.total.add(r.of(rowHead, account, "", version))
		delete(unseen, account)
		plain, err := db.sealer.unseal(headColumn, account, int(version), sealed)
		if err != nil && !errors.Is(err, ErrSealBroken) {
			return err
		}
		want, ok := parseSums(plain)
		got := a.sums.all()
		for i := range want {
			if !ok || want[i] != got[i] {
				f.wrong[account] = append(f.wrong[account], i)
			}
		}
	}
	for account := range unseen {
		for i := range rowSums {
			f.wrong[account] = append(f.wrong[account], i)
		}
	}
	return list.Err()
}

// mendRows makes heads where there are none yet, and goes on with what is there where they do not fit their rows: of such a row nobody
// knows of when it is. Nothing is encrypted in a session of a sum that is wrong any more, prekeys of one are replaced, and
// the person is told, as with an old copy of the whole database. Nobody else uses the database yet.
func (db *DB) mendRows(ctx context.Context, f *foundRows, counter int64) error {
	r := f.rows
	if !f.first && len(f.wrong) == 0 && !f.old {
		return nil
	}
	accounts := slices.Sorted(maps.Keys(f.wrong))
	heads := make(map[string]*headChange)
	for _, account := range accounts {
		a := r.accounts[account]
		heads[account] = &headChange{version: a.version + 1, sums: a.sums.all()}
	}
	total := r.totalWith(heads)
	err := db.Do(ctx, func(ctx context.Context) error {
		for _, account := range accounts {
			h := heads[account]
			if _, err := db.raw.Exec(ctx, putHead, account, h.version, r.sealHead(account, h)); err != nil {
				return err
			}
			if f.first {
				continue
			}
			if err := db.distrust(ctx, account, f.wrong[account]); err != nil {
				return err
			}
		}
		_, err := db.raw.Exec(ctx, "UPDATE postern_epoch SET heads=$1 WHERE id=1", r.sealTotal(counter, total))
		return err
	})
	if err != nil {
		return fmt.Errorf("database: mend versions: %w", err)
	}
	r.committed(nil, heads, total)
	if !f.first {
		for _, account := range accounts {
			db.log.Error().Str("account", account).Int("count", len(f.wrong[account])).
				Msg("Keys or sessions of an account are of an earlier time: new sessions are begun with those whom it may concern")
		}
	}
	return nil
}

// distrust makes sure that no key of the rows of these sums is used twice.
func (db *DB) distrust(ctx context.Context, account string, wrong []int) error {
	rows, err := db.raw.Query(ctx, "SELECT address FROM postern_signal_session WHERE account_id=$1", account)
	addresses, err := dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[string], err).AsList()
	if err != nil {
		return err
	}
	for _, address := range addresses {
		if !slices.Contains(wrong, rowSession.bucket(address)) {
			continue
		}
		_, err = db.raw.Exec(ctx, "UPDATE postern_signal_session SET generation=$3 WHERE account_id=$1 AND address=$2", account, address, generationOld)
		if err != nil {
			return err
		}
	}
	keys := slices.Contains(wrong, sumPreKeys) || slices.Contains(wrong, sumSigned)
	return db.tellOfOld(ctx, account, keys)
}

// generationOld is that of a session that is earlier than all.
const generationOld = -1

// tellOfOld notes, inside Do, that the person is to be told as of an old copy, and if keys that the prekeys have to be replaced.
func (db *DB) tellOfOld(ctx context.Context, account string, keys bool) error {
	occasion := randomID()
	_, err := db.raw.Exec(ctx, `INSERT INTO postern_signal_counter (account_id, next_prekey, next_signed_prekey, untold)
		VALUES ($1, 1, 1, $2) ON CONFLICT (account_id) DO UPDATE SET untold=excluded.untold`, account, occasion)
	if err == nil && keys {
		_, err = db.raw.Exec(ctx, "UPDATE postern_signal_counter SET renewal=$2 WHERE account_id=$1", account, occasion)
	}
	return err
}

// doubt notes that a commit's outcome is not known.
func (r *rows) doubt(heads map[string]*headChange) { r.doubtful = r.doubtful || len(heads) > 0 }

// errWentBack: a commit that was reported as done is not in the database any more, as when a server has failed over to a copy that lags behind.
var errWentBack = errors.New("database: it is of an earlier time than this process")

// wentBack ends the use of a database that is of an earlier time and fits together all the same. Without an epoch file the next start
// would find nothing wrong, so what makes it an old copy is committed first; if that fails, the next transaction comes here again.
func (w *writer) wentBack(tx *dbutil.LoggingTxn, cause error) error {
	_, err := tx.ExecContext(context.Background(), "UPDATE postern_epoch SET heads=$1 WHERE id=1", []byte(headsSpoilt))
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		return rolledBack(err)
	}
	w.fail.set(cause)
	return w.fail.err()
}

// headsSpoilt stands in place of the sum over all heads, and opens as none.
const headsSpoilt = "spoilt"

// errRowsChanged: rows were changed by somebody else in the moment in which a commit's outcome was not known.
var errRowsChanged = errors.New("database: keys or sessions were changed by somebody else")

// reread takes over what is in the database, in a transaction that has just begun. The row of the epoch is locked first: a commit that
// goes on on the server is waited for.
func (w *writer) reread(tx *dbutil.LoggingTxn, r *rows) error {
	ctx := context.WithValue(context.Background(), w.txnKey, dbutil.Transaction(tx))
	query := "SELECT counter, heads FROM postern_epoch WHERE id=1"
	if w.raw.Dialect == dbutil.Postgres {
		query += " FOR UPDATE"
	}
	var counter int64
	var heads []byte
	if err := w.raw.QueryRow(ctx, query).Scan(&counter, &heads); err != nil {
		return err
	}
	found, err := (&DB{raw: w.raw, sealer: r.seal, log: w.log}).readRows(ctx, r.seed, heads, counter)
	if err != nil {
		return err
	}
	switch {
	case counter < w.epoch.Load().certain():
		return w.wentBack(tx, errWentBack)
	case found.first: // or the next start would take it for a database from before there were heads
		return w.wentBack(tx, errRowsChanged)
	case found.old || len(found.wrong) > 0:
		w.fail.set(errRowsChanged) // the next start mends it
		return w.fail.err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.accounts, r.total, r.doubtful = found.rows.accounts, found.rows.total, false
	return nil
}
