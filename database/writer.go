package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mattn/go-sqlite3"
	"github.com/rs/zerolog"
	"go.mau.fi/util/dbutil"
)

const (
	// maxGroup is the most functions that share one commit.
	maxGroup = 256
	// maxHold is how long functions are added to an open transaction: it bounds what the
	// first of them waits for the others, and how long other writers to the file wait for us.
	maxHold = 25 * time.Millisecond
	// crowdedHold is that while another connection to a SQLite file waits for its turn.
	crowdedHold = 5 * time.Millisecond
	// beginPatience is how long a transaction that cannot begin is tried again while somebody
	// still waits for it.
	beginPatience = 60 * time.Second
	// postgresTxnLimit ends a transaction on a server that does not answer.
	postgresTxnLimit = 60 * time.Second
	// slowFunction is how long a function may run before it is reported.
	slowFunction = time.Second
)

// writer owns the one connection that Do's transactions run on, and the goroutine that runs them.
type writer struct {
	busy   sync.Mutex // held while a group is served, which goes on for a moment after its answers
	raw    *dbutil.Database
	log    zerolog.Logger
	fail   *failure
	health *health
	meter  Meter
	fence  atomic.Pointer[Lease] // checked before each commit while a lease is held
	epoch  atomic.Pointer[epoch] // set when the database is open
	rows   atomic.Pointer[rows]  // set with it

	txnKey any // the key under which raw looks for its transaction in a context

	jobs chan *job
	quit chan struct{}
	done chan struct{}

	// Used by the goroutine alone.
	conn dbutil.Conn
	sql  *sql.Conn
	lite *sqlite3.SQLiteConn // nil on Postgres
	// turns are the file's, nil on Postgres.
	turns *turns
	// commits are those since the log's length was looked at; behind: it could not be moved into the file.
	// pages and look are checkpointPages and checkpointLook.
	commits, pages, look int
	behind               bool
}

// job is one call of Do.
type job struct {
	ctx   context.Context
	fn    func(ctx context.Context) error
	state atomic.Int32
	err   error
	// changes are those of fn's, when it has run (see rows.go).
	changes []rowChange
	done    chan struct{}
}

const (
	jobWaiting int32 = iota
	jobStarted
	jobGivenUp
)

func (j *job) start() bool   { return j.state.CompareAndSwap(jobWaiting, jobStarted) }
func (j *job) giveUp() bool  { return j.state.CompareAndSwap(jobWaiting, jobGivenUp) }
func (j *job) waiting() bool { return j.state.Load() == jobWaiting }

func (j *job) answer(err error) {
	j.err = err
	close(j.done)
}

func newWriter(raw *dbutil.Database, log zerolog.Logger, fail *failure, health *health, meter Meter) (*writer, error) {
	w := &writer{
		raw: raw, log: log, fail: fail, health: health, meter: meter, pages: checkpointPages, look: checkpointLook,
		jobs: make(chan *job), quit: make(chan struct{}), done: make(chan struct{}),
	}
	w.txnKey = findTxnKey(raw)
	if w.txnKey == nil {
		return nil, fmt.Errorf("database: this version of dbutil does not keep its transaction in the context")
	}
	go w.run()
	return w, nil
}

func (w *writer) do(ctx context.Context, fn func(ctx context.Context) error) error {
	if g, ok := ctx.Value(guardKey{w}).(*guard); ok {
		return g.nested(ctx, fn)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.fail.err(); err != nil {
		return err
	}
	began := time.Now()
	j := &job{ctx: ctx, fn: fn, done: make(chan struct{})}
	select {
	case w.jobs <- j:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.quit:
		return ErrClosed
	}
	select {
	case <-j.done:
		w.meter.Waited(time.Since(began))
		return j.err
	case <-ctx.Done():
		if j.giveUp() {
			return ctx.Err()
		}
		<-j.done
		return j.err
	}
}

// run is the goroutine: it takes whoever comes first, and that one's group takes the others.
func (w *writer) run() {
	defer close(w.done)
	for {
		select {
		case j := <-w.jobs:
			// A goroutine of its own for each group, so that a function that ends its
			// goroutine (runtime.Goexit) does not end this one.
			finished := make(chan struct{})
			w.busy.Lock()
			go func() {
				defer close(finished)
				(&group{w: w}).serve(j)
			}()
			<-finished
			w.busy.Unlock()
		case <-w.quit:
			w.drop()
			return
		}
	}
}

func (w *writer) close() {
	close(w.quit)
	<-w.done
}

// next takes another waiting job if there is one right now.
func (w *writer) next() *job {
	select {
	case j := <-w.jobs:
		return j
	default:
		return nil
	}
}

// begin opens a transaction on the writer's connection, making the connection anew if it was
// lost. It tries for beginPatience while wanted says that somebody is still waiting.
// The transaction's time is limited from its beginning on; end frees what watches over that.
func (w *writer) begin(wanted func() bool) (tx *dbutil.LoggingTxn, end context.CancelFunc, err error) {
	deadline := time.Now().Add(beginPatience)
	pause := 10 * time.Millisecond
	for {
		ctx, cancel := context.Background(), context.CancelFunc(func() {})
		if w.raw.Dialect == dbutil.Postgres {
			ctx, cancel = context.WithTimeout(ctx, postgresTxnLimit)
		}
		if tx, err = w.beginOnce(ctx); err == nil {
			return tx, cancel, nil
		}
		cancel()
		w.health.note(err)
		if failed := w.fail.err(); failed != nil {
			return nil, nil, failed
		}
		if !temporary(err) || !wanted() || time.Now().After(deadline) {
			return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		w.log.Debug().Err(err).Msg("Database does not begin a transaction, trying again")
		select {
		case <-w.quit:
			return nil, nil, ErrClosed
		case <-time.After(pause):
			pause = min(2*pause, time.Second)
		}
	}
}

func (w *writer) beginOnce(ctx context.Context) (*dbutil.LoggingTxn, error) {
	if w.conn == nil {
		if err := w.connect(ctx); err != nil {
			return nil, err
		}
	}
	tx, err := w.raw.BeginTx(ctx, &dbutil.TxnOptions{Conn: w.conn})
	if err != nil && !isBusy(err) {
		w.drop()
	}
	return tx, err
}

func (w *writer) connect(ctx context.Context) error {
	conn, err := w.raw.AcquireConn(ctx)
	if err != nil {
		return err
	}
	under, ok := conn.(*dbutil.LoggingExecable)
	if !ok {
		return fmt.Errorf("database: unexpected connection type %T", conn)
	}
	if w.sql, ok = under.UnderlyingExecable.(*sql.Conn); !ok {
		return fmt.Errorf("database: unexpected connection type %T", under.UnderlyingExecable)
	}
	w.conn = conn
	if err = w.prepare(ctx); err != nil {
		w.drop()
	}
	return err
}

// prepare checks that a commit on this connection will mean "on disk".
func (w *writer) prepare(ctx context.Context) error {
	if w.raw.Dialect == dbutil.SQLite {
		return w.prepareSQLite(ctx)
	}
	var level string
	if err := w.sql.QueryRowContext(ctx, "SHOW synchronous_commit").Scan(&level); err != nil {
		return err
	}
	if level == "off" {
		_, err := w.sql.ExecContext(ctx, "SET synchronous_commit = on")
		return err
	}
	return nil
}

func (w *writer) prepareSQLite(ctx context.Context) error {
	var level int
	if err := w.sql.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&level); err != nil {
		return err
	} else if level < 2 {
		return fmt.Errorf("database: SQLite did not take synchronous=FULL")
	}
	var mode string
	if err := w.sql.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	} else if mode != "wal" {
		return fmt.Errorf("database: SQLite did not take journal_mode=WAL (is the file on a network file system?)")
	}
	return w.sql.Raw(func(conn any) error {
		c, ok := conn.(*turnConn)
		if !ok {
			return fmt.Errorf("database: unexpected driver connection type %T", conn)
		}
		w.lite, w.turns = c.SQLiteConn, c.turns
		return nil
	})
}

// drop throws the connection away: what state it is in is not known, or nobody needs it.
func (w *writer) drop() {
	if w.sql != nil {
		_ = w.sql.Raw(func(any) error { return driver.ErrBadConn }) // makes the pool close it
		_ = w.sql.Close()
	}
	w.conn, w.sql, w.lite, w.turns = nil, nil, nil, nil
}

// failure is the state "failed for good" of a database.
type failure struct {
	mu    sync.Mutex
	cause error
	ch    chan struct{}
}

func (f *failure) set(cause error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cause == nil {
		f.cause = cause
		close(f.ch)
	}
}

// err is nil, or ErrFailed wrapped around the cause.
func (f *failure) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cause == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrFailed, f.cause)
}
