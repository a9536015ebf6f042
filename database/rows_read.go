package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// load returns the value of a row, nil if there is none. A row of an earlier time is mended first: see mend.
func (p *peerRow) load(ctx context.Context, s *SignalStore, addr string) (value []byte, generation int64, err error) {
	value, generation, now, err := p.read(ctx, s, addr)
	if now || (err != nil && !errors.Is(err, ErrSealBroken)) {
		return value, generation, err
	}
	// Or a commit is under way: the writer, which this waits for, knows.
	mended := false
	doErr := s.db.Do(ctx, func(ctx context.Context) error {
		if value, generation, now, err = p.read(ctx, s, addr); now || errors.Is(err, ErrSealBroken) {
			return nil // damaged, for the caller to say
		} else if err != nil {
			return err
		}
		mended = true
		value, generation, err = p.mend(ctx, s, addr, value)
		return err
	})
	if doErr != nil {
		return nil, 0, doErr
	}
	if mended {
		s.toldOfOld()
	}
	return value, generation, err
}

// read reads a row; now says that it has the version that it must have.
func (p *peerRow) read(ctx context.Context, s *SignalStore, addr string) (value []byte, generation int64, now bool, err error) {
	expected := s.expected(ctx, p.kind, addr)
	var version int64
	var sealed []byte
	err = s.db.raw.QueryRow(ctx, p.get, s.account, addr).Scan(&version, &generation, &sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, 0, expected == 0, nil
	} else if err != nil {
		return nil, 0, false, fmt.Errorf("database: load %s: %w", p.column, err)
	}
	value, err = s.db.Unseal(p.column, RowKey(s.account, addr), int(version), sealed)
	if len(value) == 0 {
		value = nil
	}
	return value, generation, version == expected, err
}

// mend goes on, inside Do, with a row that is not of now: of an earlier time, or gone. What it holds gets a new version; if it is a
// session nothing is encrypted in it any more. The person is told as of an old copy of the whole database.
func (p *peerRow) mend(ctx context.Context, s *SignalStore, addr string, value []byte) ([]byte, int64, error) {
	var more []any
	if p.kind == rowSession {
		more = append(more, int64(generationOld))
	}
	if err := p.put(ctx, s, addr, value, more...); err != nil {
		return nil, 0, err
	}
	return value, generationOld, s.wrongRow(ctx, p.kind)
}

// wrongRow tells of a row that is not of now.
func (s *SignalStore) wrongRow(ctx context.Context, kind rowKind) error {
	s.db.log.Error().Str("account", s.account).Stringer("kind", kind).
		Msg("A row of an account's keys or sessions is of an earlier time, or gone: it is not trusted any more")
	return s.db.tellOfOld(ctx, s.account, false)
}

// toldOfOld says outside the database that there is something to tell.
func (s *SignalStore) toldOfOld() {
	if fn := s.db.oldRows.Load(); fn != nil {
		(*fn)(s.account)
	}
}

// mendKey looks, in the writer, at a prekey's row that does not fit, and takes out one that was put back.
func (s *SignalStore) mendKey(ctx context.Context, kind rowKind, table string, id uint32) error {
	mended := false
	err := s.db.Do(ctx, func(ctx context.Context) error {
		var there bool
		where := " FROM " + table + " WHERE account_id=$1 AND key_id=$2"
		if err := s.db.raw.QueryRow(ctx, "SELECT EXISTS (SELECT 1"+where+")", s.account, int64(id)).Scan(&there); err != nil {
			return fmt.Errorf("database: mend prekeys: %w", err)
		}
		if there == (s.expected(ctx, kind, keyName(id)) > 0) {
			return nil
		}
		if there {
			if _, err := s.db.raw.Exec(ctx, "DELETE"+where, s.account, int64(id)); err != nil {
				return fmt.Errorf("database: mend prekeys: %w", err)
			}
		}
		if err := s.note(ctx, kind, keyName(id), 0); err != nil {
			return err
		}
		mended = true
		return s.wrongRow(ctx, kind)
	})
	if err == nil && mended {
		s.toldOfOld()
	}
	return err
}
