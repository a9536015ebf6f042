package mediastore

import (
	"context"
	"crypto/rand"
	"fmt"
)

// probeBytes is what Probe writes.
const probeBytes = 4 << 10

// Probe finds out whether the backend takes something and can be asked. What it writes is thrown away.
func (s *Store) Probe(ctx context.Context) error {
	blob, err := s.cfg.Backend.Create(ctx)
	if err != nil {
		return fmt.Errorf("mediastore: probe: create: %w", noRoom(err))
	}
	defer blob.Abort()
	if _, err = blob.Write(make([]byte, probeBytes)); err != nil {
		return fmt.Errorf("mediastore: probe: write: %w", noRoom(err))
	}
	var nobody Name
	_, _ = rand.Read(nobody[:]) // cannot fail
	if _, err = s.cfg.Backend.Exists(ctx, nobody); err != nil {
		return fmt.Errorf("mediastore: probe: look: %w", err)
	}
	return nil
}
