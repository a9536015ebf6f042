package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"go.mau.fi/util/dbutil"
)

// nextVersion reads the version that query selects and returns the next one; 1 if there is
// no row. Inside Do nobody else can change it in between.
func nextVersion(ctx context.Context, raw *dbutil.Database, query string, args ...any) (int, error) {
	var version int
	err := raw.QueryRow(ctx, query, args...).Scan(&version)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, err
	}
	return version + 1, nil
}

// execOne runs a change that must hit exactly one row; ErrNotFound if it hits none.
func execOne(ctx context.Context, raw *dbutil.Database, what, query string, args ...any) error {
	res, err := raw.Exec(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("database: %s: %w", what, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return fmt.Errorf("database: %s: %w", what, err)
	} else if n != 1 {
		return fmt.Errorf("database: %s: %w", what, ErrNotFound)
	}
	return nil
}

// storableText leaves out of a text from outside what Postgres refuses in one, so that a hostile name
// cannot make a row fail for ever.
func storableText(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, ""), "\x00", "")
}

// unbroken reads all rows but those with a column that does not open: these keep no others back. The error
// tells of them (ErrSealBroken, once each) and comes with the list; any other comes alone.
func unbroken[T any](rows dbutil.Rows, err error, scan func(row dbutil.Scannable) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []T
	var broken []error
	for rows.Next() {
		value, err := scan(rows)
		if errors.Is(err, ErrSealBroken) {
			broken = append(broken, err)
			continue
		} else if err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	if err = rows.Err(); err != nil {
		return nil, err
	}
	return list, errors.Join(broken...)
}
