package database

import (
	"context"
	"database/sql"

	"go.mau.fi/util/dbutil"
)

// maxStatements is the most prepared statements that are kept on the writer's connection.
const maxStatements = 256

// statements are prepared on the writer's connection to a Postgres server, where they save a round trip
// for each query. They run inside whatever transaction the connection is in. (SQLite's driver keeps
// its own.)
type statements struct {
	conn  *sql.Conn
	known map[string]*sql.Stmt
}

// get returns the statement for a query, nil if the query should go its ordinary way: without
// arguments it takes one round trip anyhow, and may be several statements.
func (s *statements) get(ctx context.Context, query string, args []any) (*sql.Stmt, error) {
	if s == nil || len(args) == 0 {
		return nil, nil
	}
	if stmt := s.known[query]; stmt != nil {
		return stmt, nil
	}
	if len(s.known) >= maxStatements {
		return nil, nil
	}
	stmt, err := s.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	s.known[query] = stmt
	return stmt, nil
}

// forget drops a statement that failed: the server may want it prepared anew, as after a change
// of the tables.
func (s *statements) forget(query string) {
	if stmt := s.known[query]; stmt != nil {
		delete(s.known, query)
		_ = stmt.Close()
	}
}

func (s *statements) exec(ctx context.Context, tx *dbutil.LoggingTxn, query string, args []any) (sql.Result, error) {
	stmt, err := s.get(ctx, query, args)
	if err != nil {
		return nil, err
	} else if stmt == nil {
		return tx.ExecContext(ctx, query, args...)
	}
	res, err := stmt.ExecContext(ctx, args...)
	if err != nil {
		s.forget(query)
	}
	return res, err
}

func (s *statements) query(ctx context.Context, tx *dbutil.LoggingTxn, query string, args []any) (dbutil.Rows, error) {
	stmt, err := s.get(ctx, query, args)
	if err != nil {
		return nil, err
	} else if stmt == nil {
		return tx.QueryContext(ctx, query, args...)
	}
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		s.forget(query)
		return nil, err
	}
	return rows, nil
}

func (s *statements) queryRow(ctx context.Context, tx *dbutil.LoggingTxn, query string, args []any) *sql.Row {
	stmt, err := s.get(ctx, query, args)
	if err != nil || stmt == nil {
		return tx.QueryRowContext(ctx, query, args...) // and reports the same error
	}
	row := stmt.QueryRowContext(ctx, args...)
	if row.Err() != nil {
		s.forget(query)
	}
	return row
}
