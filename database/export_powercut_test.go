package database

import (
	"context"
	"errors"
)

// Weaken gives the writer's connection another value of synchronous than FULL. Nobody else may use Do meanwhile, and
// Do must have been used.
func (db *DB) Weaken(ctx context.Context, synchronous string) error {
	if db.writer.sql == nil {
		return errors.New("database: the writer has no connection yet")
	}
	_, err := db.writer.sql.ExecContext(ctx, "PRAGMA synchronous="+synchronous)
	return err
}
