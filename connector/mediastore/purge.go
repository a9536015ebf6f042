package mediastore

import (
	"context"
	"fmt"
)

// Purge deletes what nobody needs any more, before it expires: of one owner or, for "", of all. It returns how much it has deleted, also beside
// an error.
func (s *Store) Purge(ctx context.Context, owner string, unwanted func(Row) bool) (files int, bytes int64, err error) {
	var after *Name
	for {
		var page []Row
		if owner == "" {
			page, err = s.cfg.Index.After(ctx, after, batch)
		} else {
			page, err = s.cfg.Index.OfOwner(ctx, owner, after, batch)
		}
		if err != nil {
			return files, bytes, fmt.Errorf("mediastore: purge: %w", err)
		}
		for _, row := range page {
			after = &row.Name
			if !unwanted(row) {
				continue
			}
			// The blob goes first: a row without one is found again.
			if err = s.cfg.Backend.Delete(ctx, row.Name); err == nil {
				err = s.cfg.Index.Delete(ctx, row.Name)
			}
			if err != nil {
				return files, bytes, fmt.Errorf("mediastore: purge: %w", err)
			}
			files, bytes = files+1, bytes+row.Size
		}
		if len(page) < batch {
			return files, bytes, nil
		}
	}
}
