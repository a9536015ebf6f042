package mediastore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

const (
	// batch is how many rows are read at once.
	batch = 256
	// grace is how long a blob may be without a row before it counts as an orphan: far longer than
	// the way from Put to Commit takes.
	grace = 24 * time.Hour
	// sweepEvery is the time between two sweeps of Run.
	sweepEvery = time.Hour
	// maxMissing bounds how many rows without a blob one sweep deals with.
	maxMissing = 10_000
	// fewMissing rows without a blob are believed. More of them, if they are most of all rows, mean
	// that the storage is not the one that the rows are about: a disk that is not mounted.
	fewMissing = 16
)

// Run sweeps now, and every hour until ctx ends. What fails is logged and tried again the next time.
func (s *Store) Run(ctx context.Context) error {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.Err(err).Msg("Media store could not be swept completely")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// Sweep removes what has expired together with its rows, blobs that have been without a row for a day, rows without a blob, and what
// interrupted writes have left. One thing that fails keeps the others from nothing; the error joins all.
func (s *Store) Sweep(ctx context.Context) error {
	now := s.cfg.Age()
	errs := []error{s.settle(ctx, now), s.cfg.Backend.Clean(ctx)}
	errs = append(errs, s.deleteRows(ctx, func(after *Name) ([]Row, error) {
		return s.cfg.Index.Expired(ctx, now, after, batch)
	}))
	errs = append(errs, s.collect(ctx, now))
	return errors.Join(errs...)
}

// settle forgets objects that have their rows now, and gives up those that got none for a day.
func (s *Store) settle(ctx context.Context, now time.Time) error {
	var list []*Object
	s.mu.Lock()
	for _, o := range s.pending {
		list = append(list, o)
	}
	s.mu.Unlock()
	for _, o := range list {
		if now.Sub(o.created) > grace {
			s.Discard(ctx, o)
			continue
		}
		s.mu.Lock()
		tried := o.tried
		s.mu.Unlock()
		if !tried {
			continue
		}
		if row, err := s.cfg.Index.Get(ctx, o.name); err != nil {
			return err
		} else if row != nil {
			s.forget(o)
		}
	}
	return nil
}

// deleteRows deletes the blobs and rows of all pages. The blob goes first: a row without one is found again.
func (s *Store) deleteRows(ctx context.Context, page func(after *Name) ([]Row, error)) error {
	var after *Name
	var failed error
	failures := 0
	for {
		rows, err := page(after)
		if err != nil {
			return errors.Join(failed, err)
		}
		for _, row := range rows {
			err := s.cfg.Backend.Delete(ctx, row.Name)
			if err == nil {
				err = s.cfg.Index.Delete(ctx, row.Name)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				failed = err // the last one speaks for all
				failures++
			}
			after = &row.Name
		}
		if len(rows) < batch {
			break
		}
	}
	if failed != nil {
		return fmt.Errorf("mediastore: %d blobs could not be deleted: %w", failures, failed)
	}
	return nil
}

// collect walks blobs and rows side by side, both in the order of their names.
func (s *Store) collect(ctx context.Context, now time.Time) error {
	nextRow, stopRows := iter.Pull2(s.rows(ctx))
	defer stopRows()
	nextBlob, stopBlobs := iter.Pull2(s.cfg.Backend.List(ctx))
	defer stopBlobs()
	var missing []Name
	total := 0
	row, err, rows := nextRow()
	blob, blobErr, blobs := nextBlob()
	for err == nil && blobErr == nil && (rows || blobs) {
		order := 0
		switch {
		case !rows:
			order = 1
		case !blobs:
			order = -1
		default:
			order = bytes.Compare(row.Name[:], blob.Name[:])
		}
		if order > 0 {
			if err = s.orphan(ctx, blob, now); err != nil {
				break
			}
		} else if order < 0 && len(missing) < maxMissing {
			missing = append(missing, row.Name)
		}
		if order <= 0 {
			total++
			row, err, rows = nextRow()
		}
		if order >= 0 {
			blob, blobErr, blobs = nextBlob()
		}
	}
	if err := errors.Join(err, blobErr); err != nil {
		return fmt.Errorf("mediastore: sweep: %w", err)
	}
	if len(missing) > fewMissing && 2*len(missing) > total {
		return fmt.Errorf("mediastore: sweep: %d of %d attachments have no file: is the storage the right one?", len(missing), total)
	}
	return s.deleteMissing(ctx, missing)
}

// rows yields the whole index.
func (s *Store) rows(ctx context.Context) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		var after *Name
		for {
			page, err := s.cfg.Index.After(ctx, after, batch)
			if err != nil {
				yield(Row{}, err)
				return
			}
			for _, row := range page {
				if !yield(row, nil) {
					return
				}
				after = &row.Name
			}
			if len(page) < batch {
				return
			}
		}
	}
}

// orphan deletes a blob that had no row when the rows were read, if it is old enough and has none now.
func (s *Store) orphan(ctx context.Context, blob Stored, now time.Time) error {
	if now.Sub(blob.Modified) <= grace {
		return nil
	}
	s.mu.Lock()
	waits := s.pending[blob.Name] != nil
	s.mu.Unlock()
	if waits {
		return nil
	}
	row, err := s.cfg.Index.Get(ctx, blob.Name)
	if row != nil || err != nil {
		return err
	}
	s.cfg.Log.Info().Msg("Removed a file of the media store that nothing refers to")
	return s.cfg.Backend.Delete(ctx, blob.Name)
}

// deleteMissing deletes rows that had no blob when the blobs were listed, if that is still so.
func (s *Store) deleteMissing(ctx context.Context, missing []Name) error {
	for _, name := range missing {
		there, err := s.cfg.Backend.Exists(ctx, name)
		if err == nil && !there {
			s.cfg.Log.Warn().Msg("An attachment's file is gone from the media store; it cannot be fetched any more")
			err = s.cfg.Index.Delete(ctx, name)
		}
		if err != nil {
			return fmt.Errorf("mediastore: sweep: %w", err)
		}
	}
	return nil
}
