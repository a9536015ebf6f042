package transfer

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mau.fi/util/dbutil"

	"postern/database"
)

// readRows gives fn each row of a table, with the values as the database has them.
func readRows(ctx context.Context, from queryer, dialect dbutil.Dialect, t *Table, fn func(row []any) error) (err error) {
	parts := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		name := quote(c.Name)
		switch {
		case dialect != dbutil.Postgres:
			parts[i] = "+" + name // an expression, of which the driver does not guess what it means
		case c.kind == kindTime:
			parts[i] = "to_char(" + name + ", 'YYYY-MM-DD HH24:MI:SS.US')"
		case c.kind == kindText, c.kind == kindChar, c.kind == kindJSON:
			parts[i] = name + "::text"
		default:
			parts[i] = name
		}
	}
	found, err := from.QueryContext(ctx, "SELECT "+strings.Join(parts, ", ")+" FROM "+quote(t.Name))
	if err != nil {
		return fmt.Errorf("transfer: read %s: %w", t.Name, err)
	}
	defer func() { err = errors.Join(err, found.Close()) }()
	row, to := make([]any, len(parts)), make([]any, len(parts))
	for i := range row {
		to[i] = &row[i]
	}
	for found.Next() {
		if err := found.Scan(to...); err != nil {
			return fmt.Errorf("transfer: read %s: %w", t.Name, err)
		}
		if dialect == dbutil.Postgres {
			for i, c := range t.Columns {
				if raw, ok := row[i].([]byte); ok && c.kind != kindBytes {
					row[i] = string(raw)
				}
			}
		}
		if err := fn(row); err != nil {
			return err
		}
	}
	if err := found.Err(); err != nil {
		return fmt.Errorf("transfer: read %s: %w", t.Name, err)
	}
	return nil
}

// summer adds up the rows of a table. Columns are taken in the order of their names, since two databases may have them in another.
type summer struct {
	columns []Column
	order   []int
	sum     sum
	rows    int64
	buffer  []byte
}

func newSummer(columns []Column) *summer {
	s := &summer{columns: columns}
	for i := range columns {
		s.order = append(s.order, i)
	}
	slices.SortFunc(s.order, func(a, b int) int { return strings.Compare(columns[a].Name, columns[b].Name) })
	return s
}

func (s *summer) add(row []any) {
	s.buffer = s.buffer[:0]
	for _, i := range s.order {
		b, err := canonical(s.buffer, row[i], s.columns[i].kind)
		if err != nil { // what no program of ours writes: as it is
			text := fmt.Sprint(row[i])
			b = binary.AppendUvarint(append(s.buffer, 2), uint64(len(text)))
			b = append(b, text...)
		}
		s.buffer = b
	}
	s.sum.add(s.buffer)
	s.rows++
}

func (s *summer) count(table string) Count {
	return Count{Table: table, Rows: s.rows, Sum: s.sum.String()}
}

// target is the database that is written, in one transaction.
type target struct {
	tx      *sql.Tx
	dialect dbutil.Dialect
	from    string // what kind of database the rows are of
	tables  []Table
	report  *Report
}

// inTransaction runs fn in one transaction, of which queries of raw's with fn's context are a part. ErrUnknown if the answer to its commit got lost.
func inTransaction(ctx context.Context, raw *dbutil.Database, fn func(ctx context.Context, tx *sql.Tx) error) error {
	err := raw.DoTxn(ctx, nil, func(ctx context.Context) error {
		tx, ok := raw.Execable(ctx).(*dbutil.LoggingTxn)
		if !ok {
			return errors.New("transfer: this version of dbutil does not keep its transaction in the context")
		}
		if raw.Dialect == dbutil.Postgres {
			if _, err := raw.Exec(ctx, "SET LOCAL synchronous_commit TO on"); err != nil {
				return fmt.Errorf("transfer: begin: %w", err)
			}
		}
		return fn(ctx, tx.UnderlyingTx)
	})
	if errors.Is(err, dbutil.ErrTxnCommit) {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return err
}

// load writes the rows of one table, reads them again, and compares.
func (t *target) load(ctx context.Context, from *Table, rows func(fn func(row []any) error) error) (count Count, err error) {
	to, places, err := t.match(from)
	if err != nil {
		return count, err
	}
	insert, err := t.inserter(ctx, to)
	if err != nil {
		return count, fmt.Errorf("transfer: write %s: %w", to.Name, err)
	}
	written := newSummer(to.Columns)
	err = rows(func(row []any) error {
		values := make([]any, len(to.Columns))
		for i, c := range to.Columns {
			if values[i], err = t.adapt(row[places[i]], to.Name, c); err != nil {
				return err
			}
		}
		written.add(values)
		if _, err := insert.ExecContext(ctx, values...); err != nil {
			return fmt.Errorf("transfer: write %s: %w", to.Name, err)
		}
		return nil
	})
	if err == nil && t.dialect == dbutil.Postgres {
		if _, err = insert.ExecContext(ctx); err != nil { // the end of the copying
			err = fmt.Errorf("transfer: write %s: %w", to.Name, err)
		}
	}
	if err = errors.Join(err, insert.Close()); err != nil {
		return count, err
	}
	read := newSummer(to.Columns)
	err = readRows(ctx, t.tx, t.dialect, to, func(row []any) error { read.add(row); return nil })
	if err != nil {
		return count, err
	}
	if read.rows != written.rows || read.sum != written.sum {
		return count, fmt.Errorf("%w: %s: %d rows were written, and %d are there", ErrUnequal, to.Name, written.rows, read.rows)
	}
	count = read.count(to.Name)
	t.report.count(count)
	return count, nil
}

// match finds the table that a table's rows go to, and where the values of its columns stand in them.
func (t *target) match(from *Table) (to *Table, places []int, err error) {
	at := slices.IndexFunc(t.tables, func(other Table) bool { return other.Name == from.Name })
	if at < 0 {
		return nil, nil, fmt.Errorf("%w: there is no table %s", ErrVersions, from.Name)
	}
	to = &t.tables[at]
	if len(to.Columns) != len(from.Columns) {
		return nil, nil, fmt.Errorf("%w: %s has %d columns, and %d in its place", ErrVersions, from.Name, len(from.Columns), len(to.Columns))
	}
	for _, c := range to.Columns {
		place := slices.IndexFunc(from.Columns, func(other Column) bool { return other.Name == c.Name })
		if place < 0 {
			return nil, nil, fmt.Errorf("%w: %s has no column %s", ErrVersions, from.Name, c.Name)
		}
		places = append(places, place)
	}
	return to, places, nil
}

// inserter writes a row with each call; PostgreSQL's wants one without values at the end.
func (t *target) inserter(ctx context.Context, to *Table) (*sql.Stmt, error) {
	var quoted, marks []string
	for _, c := range to.Columns {
		quoted, marks = append(quoted, quote(c.Name)), append(marks, "?")
	}
	place := quote(to.Name) + " (" + strings.Join(quoted, ", ") + ")"
	if t.dialect == dbutil.Postgres {
		return t.tx.PrepareContext(ctx, "COPY "+place+" FROM STDIN")
	}
	return t.tx.PrepareContext(ctx, "INSERT INTO "+place+" VALUES ("+strings.Join(marks, ", ")+")")
}

// adapt makes of a value of either database what this one takes for a column.
func (t *target) adapt(value any, table string, c Column) (any, error) {
	if t.dialect != dbutil.Postgres {
		if t.from == t.dialect.String() {
			return value, nil
		}
		adapted, ok := toFile(value, c.kind)
		if !ok {
			return nil, fmt.Errorf("transfer: %s.%s: a value that cannot be copied", table, c.Name)
		}
		return adapted, nil
	}
	if text, ok := textOf(value); ok && (c.kind == kindText || c.kind == kindChar || c.kind == kindJSON) {
		value = text // or what SQLite has as bytes in such a column would be as it is
	}
	fitting, changed := fit(value, c.kind)
	if changed && c.Key {
		return nil, fmt.Errorf("transfer: %s.%s: an id with characters that PostgreSQL does not take", table, c.Name)
	}
	adapted, ok := toServer(fitting, c.kind)
	if !ok {
		return nil, fmt.Errorf("transfer: %s.%s: a value that is none for its type", table, c.Name)
	}
	if changed {
		if t.report.Replaced == nil {
			t.report.Replaced = map[string]int{}
		}
		t.report.Replaced[table+"."+c.Name]++
	}
	return adapted, nil
}

// makeTables makes the tables of this program's versions, as many sets of them as versions has, and leaves them empty.
func (c *Config) makeTables(ctx context.Context, raw *dbutil.Database, tx *sql.Tx, versions map[string]Version) (finish []string, err error) {
	if err := database.Upgrade(ctx, raw); err != nil {
		return nil, err
	}
	for _, s := range c.Schemas {
		if _, ok := versions[s.Version]; !ok {
			continue
		}
		child := raw.Child(s.Version, s.Upgrades, nil)
		child.Owner = s.Owner
		if err := child.Upgrade(ctx); err != nil {
			return nil, fmt.Errorf("transfer: make tables of %s: %w", s.Version, err)
		}
	}
	made, err := readShape(ctx, tx, raw.Dialect)
	if err != nil {
		return nil, err
	}
	if raw.Dialect == dbutil.Postgres { // rows may come before those that they refer to
		if finish, err = dropReferences(ctx, tx, made.tables); err != nil {
			return nil, err
		}
	}
	for _, t := range made.tables {
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+quote(t.Name)); err != nil {
			return nil, fmt.Errorf("transfer: empty %s: %w", t.Name, err)
		}
	}
	return finish, nil
}

// dropReferences drops what makes a table's rows refer to others, and returns the statements that put it back.
func dropReferences(ctx context.Context, tx *sql.Tx, tables []Table) (back []string, err error) {
	for _, t := range tables {
		found, err := list(ctx, tx, "SELECT conname, pg_get_constraintdef(oid, true) FROM pg_constraint WHERE conrelid=to_regclass($1) AND contype='f'", quote(t.Name))
		if err != nil {
			return nil, fmt.Errorf("transfer: references of %s: %w", t.Name, err)
		}
		for _, c := range found {
			alter := "ALTER TABLE " + quote(t.Name)
			if _, err := tx.ExecContext(ctx, alter+" DROP CONSTRAINT "+quote(c[0])); err != nil {
				return nil, fmt.Errorf("transfer: references of %s: %w", t.Name, err)
			}
			back = append(back, alter+" ADD CONSTRAINT "+quote(c[0])+" "+c[1])
		}
	}
	return back, nil
}

// run runs statements that make or finish tables.
func run(ctx context.Context, tx *sql.Tx, statements []string) error {
	for _, statement := range statements {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			first, _, _ := strings.Cut(statement, "(")
			return fmt.Errorf("transfer: %s: %w", strings.TrimSpace(first), err)
		}
	}
	return nil
}

// settle lets the server count on from the highest number of each column that it counts, and has SQLite look whether all that is referred to is there.
func (t *target) settle(ctx context.Context) error {
	if t.dialect != dbutil.Postgres {
		broken, err := list(ctx, t.tx, "SELECT DISTINCT \"table\" FROM pragma_foreign_key_check")
		if err == nil && len(broken) > 0 {
			err = fmt.Errorf("%w: rows of %s refer to what is not there", ErrUnequal, broken[0][0])
		}
		return err
	}
	for _, table := range t.tables {
		counted, err := list(ctx, t.tx, `SELECT a.attname, pg_get_serial_sequence($1, a.attname) FROM pg_attribute a
			WHERE a.attrelid=to_regclass($1) AND a.attidentity IN ('a', 'd')`, quote(table.Name))
		for _, c := range counted {
			if err == nil {
				_, err = t.tx.ExecContext(ctx, "SELECT setval($1::regclass, MAX("+quote(c[0])+")) FROM "+quote(table.Name)+" HAVING MAX("+quote(c[0])+") IS NOT NULL", c[1])
			}
		}
		if err != nil {
			return fmt.Errorf("transfer: number %s: %w", table.Name, err)
		}
	}
	return nil
}

// empty fails with ErrNotEmpty if there is a table of a bridge's.
func empty(ctx context.Context, tx queryer, dialect dbutil.Dialect) error {
	there, err := readShape(ctx, tx, dialect)
	if err != nil {
		return err
	}
	if len(there.tables) > 0 {
		return fmt.Errorf("%w: it has a table %s", ErrNotEmpty, there.tables[0].Name)
	}
	return nil
}
