package database

import (
	"context"
	"database/sql/driver"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/mattn/go-sqlite3"
)

// turns lets the connections of this process to one SQLite file write one after the other, in the order in which they came. SQLite by itself has
// whoever finds the file taken try again after pauses that grow, so that somebody who writes now and then waits for seconds beside somebody who
// always does. Locking stays SQLite's: a turn is given up for patience's end, and processes do not know each other's.
type turns struct {
	taken   chan struct{} // holds one element while it is somebody's turn; channels serve those who wait in order
	waiting atomic.Int32
}

// patience is how long a turn is waited for, which is as long as SQLite waits.
const patience = 5 * time.Second

// turnsOf are those of each file that was opened, by its full name.
var turnsOf = struct {
	sync.Mutex
	files map[string]*turns
}{files: map[string]*turns{}}

func turnsAt(file string) *turns {
	turnsOf.Lock()
	defer turnsOf.Unlock()
	t := turnsOf.files[file]
	if t == nil {
		t = &turns{taken: make(chan struct{}, 1)}
		turnsOf.files[file] = t
	}
	return t
}

// enter waits for a turn, and returns what ends it. Whoever has waited in vain goes on without one, and SQLite says what is the matter.
func (t *turns) enter(ctx context.Context) (leave func(), err error) {
	leave = sync.OnceFunc(func() { <-t.taken })
	select {
	case t.taken <- struct{}{}:
		return leave, nil
	default:
	}
	t.waiting.Add(1)
	defer t.waiting.Add(-1)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case t.taken <- struct{}{}:
		return leave, nil
	case <-timer.C:
		return func() {}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// crowded says whether somebody waits for a turn.
func (t *turns) crowded() bool { return t.waiting.Load() > 0 }

// turnDriver makes connections that wait for their turn before they write.
type turnDriver struct{ sqlite3.SQLiteDriver }

// Open implements driver.Driver.
func (d *turnDriver) Open(dsn string) (driver.Conn, error) {
	conn, err := d.SQLiteDriver.Open(dsn)
	if err != nil {
		return nil, err
	}
	lite, ok := conn.(*sqlite3.SQLiteConn)
	if !ok {
		return conn, nil
	}
	_, query, _ := strings.Cut(dsn, "?")
	file := lite.GetFilename("main")
	if settings, err := url.ParseQuery(query); err != nil || settings.Get("_query_only") == "true" || file == "" {
		return conn, nil // it never writes, or nobody else does
	}
	return &turnConn{SQLiteConn: lite, turns: turnsAt(file)}, nil
}

// turnConn is a connection that waits for its turn before a transaction, and before a statement of its own that writes.
type turnConn struct {
	*sqlite3.SQLiteConn
	turns *turns
	leave func() // of the transaction that is open
}

// BeginTx implements driver.ConnBeginTx.
func (c *turnConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if opts.ReadOnly {
		return c.SQLiteConn.BeginTx(ctx, opts)
	}
	leave, err := c.turns.enter(ctx)
	if err != nil {
		return nil, err
	}
	tx, err := c.SQLiteConn.BeginTx(ctx, opts)
	if err != nil {
		leave()
		return nil, err
	}
	c.leave = leave
	return &turnTx{tx, c}, nil
}

// over ends the turn of the transaction.
func (c *turnConn) over() {
	if c.leave != nil {
		c.leave()
		c.leave = nil
	}
}

// Close implements driver.Conn.
func (c *turnConn) Close() error {
	defer c.over()
	return c.SQLiteConn.Close()
}

// ExecContext implements driver.ExecerContext.
func (c *turnConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if !c.wantsTurn(query) {
		return c.SQLiteConn.ExecContext(ctx, query, args)
	}
	leave, err := c.turns.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return c.SQLiteConn.ExecContext(ctx, query, args)
}

// QueryContext implements driver.QueryerContext. A statement that writes and returns rows has its turn until they are closed.
func (c *turnConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if !c.wantsTurn(query) {
		return c.SQLiteConn.QueryContext(ctx, query, args)
	}
	leave, err := c.turns.enter(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := c.SQLiteConn.QueryContext(ctx, query, args)
	if err != nil {
		leave()
		return nil, err
	}
	return &turnRows{rows, leave}, nil
}

// wantsTurn says whether a statement is one that writes and is in no transaction.
func (c *turnConn) wantsTurn(query string) bool { return c.leave == nil && writes(query) }

// writes says whether a statement is one that writes, by its first word. To take one for a reading one costs its turn, no more.
func writes(query string) bool {
	query = strings.TrimSpace(query)
	if end := strings.IndexFunc(query, unicode.IsSpace); end >= 0 {
		query = query[:end]
	}
	switch strings.ToUpper(query) {
	case "INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "ALTER", "DROP", "VACUUM":
		return true
	}
	return false
}

// turnTx is a transaction with a turn.
type turnTx struct {
	driver.Tx
	conn *turnConn
}

// Commit implements driver.Tx.
func (t *turnTx) Commit() error {
	defer t.conn.over()
	return t.Tx.Commit()
}

// Rollback implements driver.Tx.
func (t *turnTx) Rollback() error {
	defer t.conn.over()
	return t.Tx.Rollback()
}

// turnRows are rows of a statement with a turn.
type turnRows struct {
	driver.Rows
	leave func()
}

// Close implements driver.Rows.
func (r *turnRows) Close() error {
	defer r.leave()
	return r.Rows.Close()
}
