package database_test

import (
	"bytes"
	"errors"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

// TestASealedValueOpensInNoOtherRowAndInNoOtherColumn puts into each sealed column what other rows have in it, and what another
// column has.
func TestASealedValueOpensInNoOtherRowAndInNoOtherColumn(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		columns := sealedFixture(t, db)
		for i, c := range columns {
			t.Run(c.table+"."+c.column, func(t *testing.T) {
				other := columns[(i+1)%len(columns)]
				if other.table == c.table && other.column == c.column {
					other = columns[(i+2)%len(columns)]
				}
				moved := moveRow(t, db, c, c.table, c.column, "NOT ("+c.where+")")
				if moved += moveRow(t, db, c, other.table, other.column, other.where); moved == 0 {
					t.Error("nothing was moved")
				}
			})
		}
	})
}

// moveRow copies a value, looks what is read then, and mends it. It returns how many were copied.
func moveRow(t *testing.T, db *database.DB, c sealedColumn, table, from, where string) int {
	t.Helper()
	ctx := t.Context()
	get := func(what, table, where string) (values [][]byte) {
		t.Helper()
		rows, err := db.Raw().Query(ctx, "SELECT "+what+" FROM "+table+" WHERE "+where)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var value []byte
			if err = rows.Scan(&value); err != nil {
				t.Fatal(err)
			}
			values = append(values, value)
		}
		if err = rows.Err(); err != nil {
			t.Fatal(err)
		}
		return values
	}
	set := func(value []byte) {
		t.Helper()
		if _, err := db.Raw().Exec(ctx, "UPDATE "+c.table+" SET "+c.column+"=$1 WHERE "+c.where, value); err != nil {
			t.Fatal(err)
		}
	}
	was := get(c.column, c.table, c.where)
	n := 0
	for _, value := range get(from, table, where) {
		if len(value) == 0 || bytes.Equal(value, was[0]) {
			continue
		}
		n++
		set(value)
		if got, err := c.read(ctx); !errors.Is(err, database.ErrSealBroken) {
			t.Errorf("with the value of %s.%s where %s: %v (%v)", table, from, where, got, err)
		}
	}
	set(was[0])
	if _, err := c.read(ctx); err != nil {
		t.Errorf("mended: %v", err)
	}
	return n
}
