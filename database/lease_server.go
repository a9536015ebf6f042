package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"
)

// releasePatience is how long a release waits for the server's answer.
const releasePatience = 2 * time.Second

// serverLock is a session-level advisory lock on a Postgres connection that does nothing else. The
// server frees it when the connection ends. It needs a direct connection: a pooler that
// shares connections between transactions would share the lock, which alive notices.
type serverLock struct {
	pool *sql.DB
	conn *sql.Conn
	key  int64
}

func takeServerLock(ctx context.Context, connector *pq.Connector) (lock leaseLock, err error) {
	pool := sql.OpenDB(connector)
	pool.SetMaxOpenConns(1)
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database: lease: connect: %w", err), pool.Close())
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, conn.Close(), pool.Close())
		}
	}()
	// A host that lost power says no farewell: the server should find out within half a minute.
	_, err = conn.ExecContext(ctx, "SET tcp_keepalives_idle=10; SET tcp_keepalives_interval=5; SET tcp_keepalives_count=4")
	if err != nil {
		return nil, fmt.Errorf("database: lease: %w", err)
	}
	var schema string
	if err = conn.QueryRowContext(ctx, "SELECT COALESCE(current_schema(), '')").Scan(&schema); err != nil {
		return nil, fmt.Errorf("database: lease: %w", err)
	}
	key := serverLockKey(schema)
	var taken bool
	if err = conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", key).Scan(&taken); err != nil {
		return nil, fmt.Errorf("database: lease: %w", err)
	} else if !taken {
		return nil, errLockHeld
	}
	return &serverLock{pool, conn, key}, nil
}

func (l *serverLock) alive(ctx context.Context) error {
	var held bool
	err := l.conn.QueryRowContext(ctx, `SELECT EXISTS(SELECT 1 FROM pg_locks WHERE locktype='advisory' AND granted
		AND pid=pg_backend_pid() AND objsubid=1 AND (classid::bigint<<32)|objid::bigint=$1)`, l.key).Scan(&held)
	if err != nil {
		return err
	} else if !held {
		return errors.New("database: lease: the server does not hold our lock (is there a connection pooler in between?)")
	}
	return nil
}

func (l *serverLock) release() error {
	// Said in words it is free when this returns; otherwise it ends with the connection, also when the server is gone and cannot be told.
	ctx, cancel := context.WithTimeout(context.Background(), releasePatience)
	defer cancel()
	_, _ = l.conn.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", l.key)
	_ = l.conn.Close()
	_ = l.pool.Close()
	return nil
}
