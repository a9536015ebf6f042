package database

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"sync/atomic"

	"go.mau.fi/util/dbutil"
)

var (
	errContextKept = errors.New("database: query with the context of a Do that is over")
	errNotYours    = errors.New("database: a function run by Do must not end the transaction")
)

// guard is the transaction as one function sees it. dbutil finds it in the function's context, so
// every query made through our Raw, or through an object built on it, goes through here:
//   - after the function has returned it refuses, so that a context that was kept cannot write
//     into somebody else's part;
//   - when SQLite has ended the transaction by itself (it does on some errors, which a function may
//     have swallowed), it refuses, as the next statement would be a commit of its own;
//   - it takes the caller's cancellation out, because interrupting one statement would end the
//     transaction for all who share it.
type guard struct {
	w    *writer
	tx   *dbutil.LoggingTxn
	over atomic.Bool
	// group is the transaction. Its counts is set by a function whose changes are to be counted, see epoch.go.
	group *group
	// changes are the function's changes of rows of Signal state, see rows.go.
	changes []rowChange

	mu   sync.Mutex
	rows []dbutil.Rows // opened by the function, closed after it
}

var _ dbutil.Transaction = (*guard)(nil)

// guardKey finds the guard of a writer in a context.
type guardKey struct{ w *writer }

// txnContext carries the caller's values, without its cancellation, and the guard.
type txnContext struct {
	context.Context
	g *guard
}

func (c *txnContext) Value(key any) any {
	if key == c.g.w.txnKey || key == (guardKey{c.g.w}) {
		return c.g
	}
	return c.Context.Value(key)
}

func (g *guard) context(ctx context.Context) context.Context {
	return &txnContext{context.WithoutCancel(ctx), g}
}

// close ends the function's access.
func (g *guard) close() {
	g.over.Store(true)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.rows {
		_ = r.Close()
	}
	g.rows = nil
}

func (g *guard) check() error {
	if g.over.Load() {
		return errContextKept
	}
	if g.w.lite != nil && g.w.lite.AutoCommit() {
		return ErrRolledBack
	}
	return nil
}

// ExecContext implements dbutil.Execable.
func (g *guard) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	return g.tx.ExecContext(context.WithoutCancel(ctx), query, args...)
}

// QueryContext implements dbutil.Execable.
func (g *guard) QueryContext(ctx context.Context, query string, args ...any) (dbutil.Rows, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	rows, err := g.tx.QueryContext(context.WithoutCancel(ctx), query, args...)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	g.rows = append(g.rows, rows)
	g.mu.Unlock()
	return rows, nil
}

// QueryRowContext implements dbutil.Execable.
func (g *guard) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	ctx = context.WithoutCancel(ctx)
	if err := g.check(); err != nil {
		// Only database/sql can make a Row; one that carries an error comes from an ended context.
		ended, cancel := context.WithCancelCause(ctx)
		cancel(err)
		return g.tx.QueryRowContext(ended, query, args...)
	}
	return g.tx.QueryRowContext(ctx, query, args...)
}

// Commit implements dbutil.Transaction by refusing.
func (g *guard) Commit() error { return errNotYours }

// Rollback implements dbutil.Transaction by refusing.
func (g *guard) Rollback() error { return errNotYours }

// nested runs a Do inside a Do, under a savepoint of its own. ctx may be any that comes from the
// outer function's.
func (g *guard) nested(ctx context.Context, fn func(ctx context.Context) error) error {
	const name = "postern_nested" // the innermost of one name is meant: nesting needs no numbers
	if _, err := g.ExecContext(ctx, "SAVEPOINT "+name); err != nil {
		return err
	}
	changes := len(g.changes)
	err := recovered(ctx, fn)
	if err != nil {
		g.changes = g.changes[:changes]
		if _, undoErr := g.ExecContext(ctx, "ROLLBACK TO SAVEPOINT "+name+"; RELEASE SAVEPOINT "+name); undoErr != nil {
			return rolledBack(errors.Join(err, undoErr))
		}
		return err
	}
	if _, err = g.ExecContext(ctx, "RELEASE SAVEPOINT "+name); err != nil {
		// On Postgres: a statement in fn failed and fn kept it to itself.
		g.changes = g.changes[:changes]
		if _, undoErr := g.ExecContext(ctx, "ROLLBACK TO SAVEPOINT "+name+"; RELEASE SAVEPOINT "+name); undoErr != nil {
			err = errors.Join(err, undoErr)
		}
		return rolledBack(err)
	}
	return nil
}

// keyRecorder notes which key it is asked for.
type keyRecorder struct {
	context.Context
	key any
}

func (r *keyRecorder) Value(key any) any {
	if r.key == nil {
		r.key = key
	}
	return nil
}

// findTxnKey learns the key under which raw looks for a transaction in a context: dbutil does not
// export it, and its own DoTxn cannot share a commit among callers who have contexts of their own.
func findTxnKey(raw *dbutil.Database) any {
	recorder := &keyRecorder{Context: context.Background()}
	raw.Execable(recorder)
	return recorder.key
}
