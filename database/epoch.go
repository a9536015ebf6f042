package database

import (
	"cmp"
	"context"
	cryptorand "crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	// epochBlock is how many commits are reserved in the file at once; the next block is asked for when half of it is used.
	epochBlock = 256
	// epochAge is how old a block that is in use may become: then the next one is begun.
	epochAge = 10 * time.Second
	// epochPatience is how long a failure to write the file stands before the next attempt.
	epochPatience = time.Second
)

// epoch tells an old copy of the database from the database. Every commit that changes Signal state counts up a
// number in the database, and a file outside of it says how far that number may have come. The number is the writer's: one
// goroutine runs all transactions, so one row for the whole bridge is waited for by nobody, and a commit that many share
// counts once.
//
// Blocks of numbers are reserved in the file, which is synced, before the first of a block is used. A process that is killed
// leaves the mark behind, the last number that was committed; only a power cut can lose that, and then the block says how
// far back the database may lie (see epoch_file.go).
type epoch struct {
	log   zerolog.Logger
	fail  *failure
	path  string // "" for no file
	step  func(string) error
	block int64

	database, branch string
	heads            bool  // there are heads, and the file says so
	restored         bool  // a backup was put into the database since the last start
	generation       int64 // of this run's sessions

	mu      sync.Mutex
	counter int64 // the last number that was used, in a commit whose outcome may not be known
	sure    int64 // the last one that is known to be in the database
	high    int64 // reserved, and on disk
	head    int   // length of the file's first line
	file    *os.File
	running chan struct{} // closed when the block that is being reserved is there, nil if none is
	timer   *time.Timer   // set while a block that is in use grows old
	err     error         // why the last block could not be reserved
	tried   time.Time
	trouble time.Time // since when it is so
	markErr bool      // it was said that the mark cannot be written
	over    bool
}

func randomID() string {
	var b [16]byte
	_, _ = cryptorand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// startEpoch reads the database's side, compares it with the file, and reserves the first block. It comes after the lease.
func (db *DB) startEpoch(ctx context.Context, cfg *Config) error {
	e := &epoch{log: db.log, fail: db.failure, path: cfg.EpochFile, step: cfg.epochStep, block: cmp.Or(cfg.epochBlock, epochBlock)}
	var heads []byte
	var restored, moved int64
	read := func(ctx context.Context) error {
		return db.raw.QueryRow(ctx, "SELECT database_id, branch, counter, generation, heads, restored, moved FROM postern_epoch WHERE id=1").
			Scan(&e.database, &e.branch, &e.counter, &e.generation, &heads, &restored, &moved)
	}
	err := read(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		err = db.Do(ctx, func(ctx context.Context) error {
			_, err := db.raw.Exec(ctx, `INSERT INTO postern_epoch (id, database_id, branch, counter, generation)
				VALUES (1, $1, $2, 0, 0) ON CONFLICT (id) DO NOTHING`, randomID(), randomID())
			if err != nil {
				return err
			}
			return read(ctx)
		})
	}
	if err != nil {
		return fmt.Errorf("database: epoch: %w", err)
	}
	if moved != 0 {
		return ErrMoved
	}
	e.sure, e.restored = e.counter, restored != 0
	found, err := db.readRows(ctx, maphash.MakeSeed(), heads, e.counter)
	if err != nil {
		return err
	}
	if err = db.compareEpoch(ctx, e, found); err != nil {
		return err
	}
	if e.path != "" {
		db.warnAboutEpochPlace(e.path)
	}
	if e.step != nil {
		if err = e.step("heads"); err != nil {
			return err
		}
	}
	if err = db.mendRows(ctx, found, e.counter); err != nil {
		return err
	}
	if !e.heads { // they are there now
		e.heads = true
		if err = e.extend(); err != nil {
			return err
		}
	}
	db.epoch, db.rows = e, found.rows
	db.writer.epoch.Store(e)
	db.writer.rows.Store(found.rows)
	return nil
}

// compareEpoch says whether this is the database that was used last, and makes it one if not.
func (db *DB) compareEpoch(ctx context.Context, e *epoch, found *foundRows) error {
	if e.path == "" {
		e.heads = !found.first
		switch {
		case e.restored:
			return db.becomeNew(ctx, e, found, backupRestored)
		case found.old:
			return db.becomeNew(ctx, e, found, headsOld)
		}
		return nil
	}
	state, err := readEpoch(e.path)
	if err != nil && !errors.Is(err, errEpochDamaged) {
		return err
	}
	if found.first && state != nil && state.heads && state.database == e.database { // somebody has taken them away
		found.first, found.old = false, true
	}
	e.heads = !found.first
	used, usedErr := db.signalUsed(ctx, e)
	if usedErr != nil {
		return usedErr
	}
	reason := "the epoch file is damaged"
	if err == nil {
		if reason, err = e.doubt(state, found); err != nil {
			return err
		}
	}
	if reason == "" || !used {
		return e.extend()
	}
	if state != nil {
		e.counter = max(e.counter, state.high)
	}
	return db.becomeNew(ctx, e, found, reason)
}

// doubt says why this may not be the database that was used last, "" if it is; state is what the epoch file says, nil if it is gone.
func (e *epoch) doubt(state *epochState, found *foundRows) (reason string, err error) {
	switch {
	case state != nil && state.database != e.database:
		return "", ErrEpochForeign
	case e.restored:
		return backupRestored, nil
	case state == nil:
		return "the epoch file is gone", nil
	case state.branch != e.branch:
		return "the database is from before the last time that it was found to be an old copy", nil
	case e.counter < state.mark:
		return "the database is older than the epoch file", nil
	case e.counter > state.high:
		return "the epoch file is older than the database", nil
	case found.old:
		return headsOld, nil
	}
	return "", nil
}

// signalUsed says whether there is Signal state that an old copy could use again; in a backup there is.
func (db *DB) signalUsed(ctx context.Context, e *epoch) (used bool, err error) {
	err = db.raw.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM postern_signal_session) OR EXISTS (SELECT 1 FROM postern_signal_counter)").Scan(&used)
	if err != nil {
		return false, fmt.Errorf("database: epoch: %w", err)
	}
	return used || e.counter > 0 || e.restored, nil
}

// prekeyMargin is how far the ids of prekeys leap at least when the database is found to be an old copy, and how far behind those of the copy they stay:
// further than an account can have come since, which uploads some hundred at a time.
const prekeyMargin = 1 << 20

// prekeyLeap is how far they leap: by chance, since the same copy may be put back again, and would leap to the same place. Two leaps that bring a thousand
// ids each into use meet once in 7,000 times.
func prekeyLeap() int64 { return prekeyMargin + rand.Int64N(MaxKeyID-2*prekeyMargin) }

// backupRestored is why a database that a backup was put into is an old copy, whatever the epoch file says.
const backupRestored = "a backup was put into the database"

// becomeNew makes an old copy safe to go on with. The file comes first: if this is cut off, the branches differ, and the
// next start does it again. Then one transaction: no session of the copy is sent in any more (its generation is over), no id
// of a prekey is given out again, and each account has to replace its prekeys and to tell its user.
func (db *DB) becomeNew(ctx context.Context, e *epoch, found *foundRows, reason string) error {
	e.log.Error().Str("reason", reason).
		Msg("The database may be an old copy: new sessions are begun with everybody before anything is sent, so that no key is used twice")
	e.branch, e.counter = randomID(), e.counter+1
	e.sure = e.counter
	if err := e.extend(); err != nil {
		return err
	}
	var heads []byte // where there are none yet, mendRows makes them
	if !found.first {
		heads = found.rows.sealTotal(e.counter, found.rows.total)
	}
	err := db.Do(ctx, func(ctx context.Context) error {
		if e.step != nil {
			if err := e.step("renew"); err != nil {
				return err
			}
		}
		for _, change := range []struct {
			query string
			args  []any
		}{
			{
				"UPDATE postern_epoch SET branch=$1, counter=$2, heads=$3, generation=generation+1, restored=0 WHERE id=1",
				[]any{e.branch, e.counter, heads},
			},
			{`INSERT INTO postern_signal_counter (account_id, next_prekey, next_signed_prekey)
				SELECT id, 1, 1 FROM postern_account WHERE true ON CONFLICT (account_id) DO NOTHING`, nil},
			{`UPDATE postern_signal_counter SET next_prekey=(next_prekey-1+$1) % $2 + 1, next_signed_prekey=(next_signed_prekey-1+$1) % $2 + 1,
				renewal=$3, untold=$3`, []any{prekeyLeap(), MaxKeyID, e.branch}},
			// Some of them may be at the gatekeeper by now.
			{"UPDATE postern_signal_prekey SET uploaded=true WHERE NOT uploaded", nil},
		} {
			if _, err := db.raw.Exec(ctx, change.query, change.args...); err != nil {
				return err
			}
		}
		if err := db.renewRoomKeys(ctx); err != nil {
			return err
		}
		return db.raw.QueryRow(ctx, "SELECT generation FROM postern_epoch WHERE id=1").Scan(&e.generation)
	})
	if err != nil {
		return fmt.Errorf("database: epoch: renew: %w", err)
	}
	return db.sayRenewed(ctx)
}

// extend reserves the next block from the present counter on, and returns when it is on disk. Without a file all is reserved.
func (e *epoch) extend() error {
	if e.path == "" {
		return nil
	}
	e.mu.Lock()
	s := &epochState{database: e.database, branch: e.branch, heads: e.heads, low: e.sure, high: e.counter + e.block}
	e.mu.Unlock()
	return e.put(s)
}

// put writes the file and takes it over.
func (e *epoch) put(s *epochState) error {
	var old *os.File
	err := replaceEpoch(e.path, s, func(rename func(mark int64) (*os.File, error)) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		file, err := rename(e.sure)
		if err == nil {
			old, e.file, e.head = e.file, file, len(s.head())
		}
		return err
	}, e.step)
	if old != nil {
		_ = old.Close() // nothing of it is needed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tried = time.Now()
	switch {
	case err != nil && e.err == nil:
		e.trouble = e.tried
		e.log.Error().Err(err).Msg("Epoch file cannot be written; nothing is encrypted or decrypted when what is reserved in it is used up")
	case err == nil && e.err != nil:
		e.trouble = time.Time{}
		e.log.Info().Msg("Epoch file can be written again")
	}
	if e.err = err; err == nil {
		e.high = s.high
	}
	return err
}

// more begins to reserve the next block, unless that is being done, and returns what is closed at its end. e.mu is held.
func (e *epoch) more() <-chan struct{} {
	if e.running != nil {
		return e.running
	}
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
	done := make(chan struct{})
	e.running = done
	go func() {
		defer func() {
			e.mu.Lock()
			e.running = nil
			if e.err != nil {
				e.later()
			}
			close(done)
			e.mu.Unlock()
		}()
		if e.fail.err() == nil { // or the file may be another process's by now
			_ = e.extend() // kept in e.err
		}
	}()
	return done
}

// cover makes sure that the next number is reserved. It waits only if a whole block was used up in less time than
// reserving the next one takes. The error is ErrEpochFile.
func (e *epoch) cover() error {
	if e.path == "" {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.counter >= e.high {
		if e.err != nil && e.running == nil && time.Since(e.tried) < epochPatience {
			return e.err
		}
		done := e.more()
		e.mu.Unlock()
		<-done
		e.mu.Lock()
		if e.counter >= e.high && e.err != nil {
			return e.err
		} else if err := e.fail.err(); err != nil {
			return err
		}
	}
	if e.high-e.counter <= e.block/2 && !e.over && (e.err == nil || time.Since(e.tried) >= epochPatience) {
		e.more()
	}
	return nil
}

// next is the number for a transaction that was covered.
func (e *epoch) next() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counter + 1
}

// certain is the number of the last commit that is known to be in the database.
func (e *epoch) certain() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sure
}

// committed notes the number of a commit; certain says that it is known to have succeeded.
func (e *epoch) committed(number int64, certain bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.counter = number; !certain {
		return
	}
	if e.sure = number; e.path == "" {
		return
	}
	if err := writeMark(e.file, e.head, number); err != nil && !e.markErr {
		e.markErr = true
		e.log.Warn().Err(err).Msg("Epoch file does not take the mark; an old copy of the last seconds may not be noticed")
	}
	if e.running == nil {
		e.later()
	}
}

// later reserves the next block when the one in use is old, or tries again what has failed. e.mu is held.
func (e *epoch) later() {
	if e.timer != nil || e.over {
		return
	}
	e.timer = time.AfterFunc(epochAge, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.timer != nil && !e.over {
			e.more()
		}
	})
}

// close notes that the database was closed in order, after the writer has ended. It is not noted if the last commit's outcome is not known,
// or the database has failed: then the next start sees the block.
func (e *epoch) close() error {
	if e == nil || e.path == "" {
		return nil
	}
	e.mu.Lock()
	e.over = true
	if e.timer != nil {
		e.timer.Stop()
	}
	running := e.running
	e.mu.Unlock()
	if running != nil {
		<-running
	}
	var err error
	if e.sure == e.counter && e.fail.err() == nil {
		err = e.put(&epochState{database: e.database, branch: e.branch, heads: e.heads, closed: true, low: e.counter, high: e.counter})
	}
	if e.file != nil {
		err = errors.Join(err, e.file.Close())
	}
	return err
}

// advance is called inside a transaction that changes Signal state: its commit counts. The error, ErrEpochFile, is for fn to return.
func (db *DB) advance(ctx context.Context) error {
	g, ok := ctx.Value(guardKey{db.writer}).(*guard)
	if !ok {
		return errors.New("database: epoch: not in a transaction")
	}
	if err := db.epoch.cover(); err != nil {
		return err
	}
	g.group.counts = true
	return nil
}

// EpochTrouble is since when the epoch file cannot be written, zero while it can.
func (db *DB) EpochTrouble() time.Time {
	db.epoch.mu.Lock()
	defer db.epoch.mu.Unlock()
	return db.epoch.trouble
}

// Renewal is what an account has to do since the database was found to be an old copy. Its texts name the occasion, "" if there is nothing
// to do.
type Renewal struct {
	// Keys: the prekeys have to be replaced.
	Keys string
	// Untold: the user has to be told.
	Untold string
}

// Renewal says what the account has to do.
func (s *SignalStore) Renewal(ctx context.Context) (r Renewal, err error) {
	err = s.db.raw.QueryRow(ctx, "SELECT renewal, untold FROM postern_signal_counter WHERE account_id=$1", s.account).Scan(&r.Keys, &r.Untold)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return r, fmt.Errorf("database: renewal: %w", err)
	}
	return r, nil
}

// Renewed notes that the prekeys were replaced on that occasion.
func (s *SignalStore) Renewed(ctx context.Context, occasion string) error {
	return s.renewalDone(ctx, "UPDATE postern_signal_counter SET renewal='' WHERE account_id=$1 AND renewal=$2", occasion)
}

// Told notes that the user was told of that occasion.
func (s *SignalStore) Told(ctx context.Context, occasion string) error {
	return s.renewalDone(ctx, "UPDATE postern_signal_counter SET untold='' WHERE account_id=$1 AND untold=$2", occasion)
}

func (s *SignalStore) renewalDone(ctx context.Context, query, occasion string) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		if _, err := s.db.raw.Exec(ctx, query, s.account, occasion); err != nil {
			return fmt.Errorf("database: renewal: %w", err)
		}
		return nil
	})
}
