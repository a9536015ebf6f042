package transfer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mau.fi/util/dbutil"
)

// Table is a table as it was found.
type Table struct {
	Name    string   `json:"name"`
	Columns []Column `json:"columns"`
}

// Column is a column of a table; Type is what the database calls it.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
	// Key: it is part of what names a row.
	Key  bool `json:"key,omitempty"`
	kind kind
}

// shape is what a database is made of: its tables, and the statements that make them, before and after the rows.
type shape struct {
	tables        []Table
	leftOut       []string
	setup, finish []string
}

// queryer is a connection, or a transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// readShape finds the tables of the bridge and of the framework.
func readShape(ctx context.Context, from queryer, dialect dbutil.Dialect) (*shape, error) {
	read := readFileShape
	if dialect == dbutil.Postgres {
		read = readServerShape
	}
	s, err := read(ctx, from)
	if err != nil {
		return nil, fmt.Errorf("transfer: read tables: %w", err)
	}
	for i, t := range s.tables {
		for j := range t.Columns {
			if err := t.Columns[j].understand(t.Name); err != nil {
				return nil, err
			}
		}
		s.tables[i] = t
	}
	return s, nil
}

func (c *Column) understand(table string) error {
	var ok bool
	if c.kind, ok = kindOf(c.Type); !ok {
		return fmt.Errorf("transfer: %s.%s is of the type %s, which this program does not know how to copy", table, c.Name, c.Type)
	}
	return nil
}

// list runs a query whose rows are texts.
func list(ctx context.Context, from queryer, query string, args ...any) (rows [][]string, err error) {
	found, err := from.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, found.Close()) }()
	names, err := found.Columns()
	if err != nil {
		return nil, err
	}
	for found.Next() {
		row := make([]string, len(names))
		to := make([]any, len(names))
		for i := range row {
			to[i] = &row[i]
		}
		if err := found.Scan(to...); err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, found.Err()
}

func readFileShape(ctx context.Context, from queryer) (*shape, error) {
	objects, err := list(ctx, from, "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid")
	if err != nil {
		return nil, err
	}
	s := &shape{}
	for _, o := range objects {
		what, name, table, statement := o[0], o[1], o[2], o[3]
		switch {
		case !belongs(table):
			s.leftOut = append(s.leftOut, name)
			continue
		case what == "index":
			s.finish = append(s.finish, statement)
			continue
		case what != "table":
			return nil, fmt.Errorf("there is a %s, %s, which this program does not know how to copy", what, name)
		}
		s.setup = append(s.setup, statement)
		columns, err := list(ctx, from, "SELECT name, type, pk>0 FROM pragma_table_info(?) ORDER BY cid", name)
		if err != nil {
			return nil, err
		}
		t := Table{Name: name}
		for _, c := range columns {
			t.Columns = append(t.Columns, Column{Name: c[0], Type: c[1], Key: c[2] == "1"})
		}
		s.tables = append(s.tables, t)
	}
	return s, nil
}

const (
	serverTables = `SELECT c.relname FROM pg_class c WHERE c.relnamespace=current_schema()::regnamespace AND c.relkind IN ('r', 'p') ORDER BY c.oid`
	// The type, whether it may be NULL, its default, and whether the server counts it.
	serverColumns = `SELECT a.attname, format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END,
			COALESCE(pg_get_expr(d.adbin, d.adrelid, true), ''), a.attidentity, t.typtype,
			EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid=a.attrelid AND i.indisprimary AND a.attnum=ANY(i.indkey))
		FROM pg_attribute a JOIN pg_type t ON t.oid=a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid=a.attrelid AND d.adnum=a.attnum
		WHERE a.attrelid=to_regclass($1) AND a.attnum>0 AND NOT a.attisdropped ORDER BY a.attnum`
	serverConstraints = `SELECT conname, contype, pg_get_constraintdef(oid, true) FROM pg_constraint WHERE conrelid=to_regclass($1) AND contype IN ('p', 'u', 'c', 'f')
		ORDER BY contype<>'p', conname`
	serverIndexes = `SELECT pg_get_indexdef(i.indexrelid, 0, true) FROM pg_index i WHERE i.indrelid=to_regclass($1)
		AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid=i.indexrelid AND c.contype IN ('p', 'u', 'x')) ORDER BY i.indexrelid`
	serverEnum = `SELECT quote_literal(e.enumlabel) FROM pg_enum e WHERE e.enumtypid=to_regtype($1) ORDER BY e.enumsortorder`
)

func readServerShape(ctx context.Context, from queryer) (*shape, error) {
	names, err := list(ctx, from, serverTables)
	if err != nil {
		return nil, err
	}
	s, enums := &shape{}, []string{}
	for _, row := range names {
		name := row[0]
		if !belongs(name) {
			s.leftOut = append(s.leftOut, name)
			continue
		}
		if err := s.serverTable(ctx, from, name, &enums); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, enum := range enums {
		labels, err := list(ctx, from, serverEnum, enum)
		if err != nil {
			return nil, err
		}
		var each []string
		for _, label := range labels {
			each = append(each, label[0])
		}
		s.setup = append([]string{"CREATE TYPE " + enum + " AS ENUM (" + strings.Join(each, ", ") + ")"}, s.setup...)
	}
	return s, nil
}

// serverTable writes down how a table is made.
func (s *shape) serverTable(ctx context.Context, from queryer, name string, enums *[]string) error {
	columns, err := list(ctx, from, serverColumns, quote(name))
	if err != nil {
		return err
	}
	t := Table{Name: name}
	var parts []string
	for _, c := range columns {
		part := quote(c[0]) + " " + c[1] + c[2]
		switch {
		case c[4] == "a":
			part += " GENERATED ALWAYS AS IDENTITY"
		case c[4] == "d":
			part += " GENERATED BY DEFAULT AS IDENTITY"
		case c[3] != "":
			part += " DEFAULT " + c[3]
		}
		if c[5] == "e" && !slices.Contains(*enums, c[1]) {
			*enums = append(*enums, c[1])
		}
		parts = append(parts, part)
		t.Columns = append(t.Columns, Column{Name: c[0], Type: c[1], Key: c[6] == "true"})
	}
	constraints, err := list(ctx, from, serverConstraints, quote(name))
	if err != nil {
		return err
	}
	for _, c := range constraints {
		if c[1] == "f" { // when all rows are there, since they refer to one another
			s.finish = append(s.finish, "ALTER TABLE "+quote(name)+" ADD CONSTRAINT "+quote(c[0])+" "+c[2])
			continue
		}
		parts = append(parts, "CONSTRAINT "+quote(c[0])+" "+c[2])
	}
	s.setup = append(s.setup, "CREATE TABLE "+quote(name)+" (\n\t"+strings.Join(parts, ",\n\t")+"\n)")
	indexes, err := list(ctx, from, serverIndexes, quote(name))
	if err != nil {
		return err
	}
	for i := range indexes { // before what refers to them
		s.finish = slices.Insert(s.finish, i, indexes[i][0])
	}
	s.tables = append(s.tables, t)
	return nil
}
