package database

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"
)

// DoTogether runs the functions in one group, in order, while nobody else uses the writer, and
// returns their answers: what happens when they arrive together, made certain.
func (db *DB) DoTogether(ctx context.Context, fns ...func(ctx context.Context) error) []error {
	db.writer.idle()
	jobs := make([]*job, len(fns))
	for i, fn := range fns {
		jobs[i] = &job{ctx: ctx, fn: fn, done: make(chan struct{})}
	}
	rest := jobs
	for len(rest) > 0 { // once, unless a function ends its goroutine
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			g := &group{w: db.writer}
			defer g.ended()
			for len(rest) > 0 {
				j := rest[0]
				rest = rest[1:]
				g.run(j)
			}
			g.finish()
		}()
		<-ended
	}
	answers := make([]error, len(jobs))
	for i, j := range jobs {
		select {
		case <-j.done:
			answers[i] = j.err
		default:
			panic("a job was never answered")
		}
	}
	return answers
}

// idle waits until the writer has done with the group that was answered last.
func (w *writer) idle() {
	w.busy.Lock()
	defer w.busy.Unlock()
}

// Beat makes the lease look after its lock now.
func (l *Lease) Beat() { l.beat() }

// XAES exposes the construction under the sealed columns for its published vectors.
func XAES(key [32]byte, nonce, plaintext, aad []byte) ([]byte, error) {
	s, err := newSealerRaw(key, key)
	if err != nil {
		return nil, err
	}
	aead, err := s.aead(nonce)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nonce[12:], plaintext, aad), nil
}

// CommitOutcome exposes the classification of failed commits.
func CommitOutcome(err error) string { return commitOutcome(err).String() }

// LeaseFile is where the lock of a SQLite database lies.
func (db *DB) LeaseFile() string { return db.place.file }

// MakeVersion makes a database with the tables of an earlier version, and with what statements put into it.
func MakeVersion(ctx context.Context, cfg Config, version int, statements ...string) error {
	raw, _, err := openPool(cfg)
	if err != nil {
		return err
	}
	if err = (&DB{raw: raw}).makeVersions(ctx); err == nil {
		err = raw.Child(versionTable, upgradeTable[:version], nil).Upgrade(ctx)
	}
	for _, statement := range statements {
		if err == nil {
			_, err = raw.Exec(ctx, statement)
		}
	}
	return errors.Join(err, raw.Close())
}

// Impatient has the database try again at once while it cannot commit, and look at SQLite's log after each commit, moving it into the
// file when it has so many pages. It is called before the first Do.
func (db *DB) Impatient(pages int) {
	db.writer.idle()
	db.health.pause, db.health.last = time.Millisecond, 4*time.Millisecond
	db.writer.pages, db.writer.look = pages, 1
}

// SetBusyTimeout sets how long SQLite waits for another writer.
func (db *DB) SetBusyTimeout(t testing.TB, d time.Duration) {
	t.Helper()
	err := db.Do(context.Background(), func(ctx context.Context) error {
		_, err := db.raw.Exec(ctx, "PRAGMA busy_timeout="+strconv.FormatInt(d.Milliseconds(), 10))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Kill leaves the database as a killed process does: nothing is noted in the epoch file.
func (db *DB) Kill() {
	db.closing.Do(func() {
		db.health.close()
		db.epoch.mu.Lock()
		db.epoch.over = true
		running := db.epoch.running
		if db.epoch.timer != nil {
			db.epoch.timer.Stop()
		}
		db.epoch.mu.Unlock()
		if running != nil {
			<-running
		}
		db.writer.close()
		if db.lease != nil {
			_ = db.lease.Release()
		}
		_ = db.raw.Close()
		_ = db.epoch.file.Close()
	})
}

// WithEpochSteps is cfg with a function that is told each step of writing the epoch file, and may cut it off.
func WithEpochSteps(cfg Config, step func(string) error) Config {
	cfg.epochStep = step
	return cfg
}

// EpochCounter is the number of the last commit that was counted.
func (db *DB) EpochCounter() int64 { return db.epoch.next() - 1 }

// ParseEpoch reads an epoch file's bytes.
func ParseEpoch(raw []byte) (low, high, mark int64, closed bool, err error) {
	s, err := parseEpoch(raw)
	if err != nil {
		return 0, 0, 0, false, err
	}
	return s.low, s.high, s.mark, s.closed, nil
}

// ErrEpochDamaged is the error for a file that is not whole.
var ErrEpochDamaged = errEpochDamaged

// WithEpochBlock is cfg with that many commits reserved at once.
func WithEpochBlock(cfg Config, n int64) Config {
	cfg.epochBlock = n
	return cfg
}

// CheckFile looks through the file as Open does.
func (db *DB) CheckFile(ctx context.Context, patience time.Duration) error {
	db.checkFor = patience
	return db.checkFile(ctx)
}

// ExportDecisions are the columns of each table that exports decide upon, nil for a table that is left out.
func ExportDecisions() map[string][]string {
	decided := map[string][]string{}
	for _, t := range exportTables {
		if decided[t.name] = nil; t.where == "" {
			continue
		}
		columns := append([]string{}, t.columns...)
		for column := range t.sealed {
			columns = append(columns, column)
		}
		for column := range t.left {
			columns = append(columns, column)
		}
		if len(t.sealed) > 0 && t.version != "" {
			columns = append(columns, t.version)
		}
		decided[t.name] = columns
	}
	return decided
}

// CheckRows says whether the versions that are known, the rows and their sums are the same.
func (db *DB) CheckRows(ctx context.Context) error {
	db.writer.idle()
	var counter int64
	var heads []byte
	if err := db.raw.QueryRow(ctx, "SELECT counter, heads FROM postern_epoch").Scan(&counter, &heads); err != nil {
		return err
	}
	r := db.rows
	f, err := db.readRows(ctx, r.seed, heads, counter)
	if err != nil {
		return err
	}
	if f.first || f.old || len(f.wrong) > 0 {
		return fmt.Errorf("first: %t, old: %t, wrong: %v", f.first, f.old, f.wrong)
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	for account, found := range f.rows.accounts {
		known := cmp.Or(r.accounts[account], &accountRows{})
		if !maps.Equal(known.peers, found.peers) || !slices.Equal(known.keys[0], found.keys[0]) || !slices.Equal(known.keys[1], found.keys[1]) || known.sums.all() != found.sums.all() {
			return fmt.Errorf("of %s %+v is known, and %+v there", account, known, found)
		}
	}
	return nil
}

// ForgetHeads makes an epoch file one of a program that knew no heads.
func ForgetHeads(path string) error {
	s, err := readEpoch(path)
	if err != nil {
		return err
	}
	s.heads = false
	return os.WriteFile(path, []byte(s.head()+epochMark(s.mark)), 0o600)
}

// RowBucket is which sum of sessions and identities an address is in.
func RowBucket(address string) int { return rowSession.bucket(address) }

// DoubtRows makes the next transaction read again what rows there are.
func (db *DB) DoubtRows() {
	db.writer.idle()
	db.rows.doubtful = true
}

// MoveDecisions are the tables of which rows move with a user, and those of which none do, each with the reason.
func MoveDecisions() (moved []string, left map[string]string) {
	for _, t := range moveTables {
		moved = append(moved, t.name)
	}
	return moved, moveLeft
}

// MoveSealed are the sealed columns of tables that move, as "table.column".
func MoveSealed() []string {
	var list []string
	for _, t := range moveTables {
		for column, label := range t.sealed {
			if label != t.name+"."+column {
				panic(label)
			}
			list = append(list, label)
		}
	}
	return list
}

// MaxHold is how long functions are added to a transaction.
const MaxHold = maxHold

// WaitForCrowd returns when another connection waits for its turn at the SQLite file. It is for functions that Do runs.
func WaitForCrowd(db *DB) {
	for !db.writer.turns.crowded() {
		runtime.Gosched()
	}
}

// Writes says whether a statement waits for its turn at a SQLite file.
var Writes = writes
