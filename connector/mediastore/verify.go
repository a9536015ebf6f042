package mediastore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// verifyAgain is how long a blob that was read and found right is believed to be so.
	verifyAgain = time.Hour
	// maxVerified bounds how many blobs are remembered.
	maxVerified = 4096
)

// verifying is a Backend whose storage checks by itself what it reads, as object stores do.
type verifying interface{ verifies() }

// verified is the memory of blobs that were read and compared with their hashes.
type verified struct {
	mu    sync.Mutex
	known map[Name]*verdict
}

// verdict is what came of reading a blob: nil or ErrDamaged once done is closed.
type verdict struct {
	done chan struct{}
	err  error
	at   time.Time
}

// Check says whether what a reference stands for can be fetched: nil, ErrNotFound, ErrDamaged, or what index and storage
// say. The first time it reads all of the blob.
func (s *Store) Check(ctx context.Context, ref string) error {
	row, err := s.cfg.Index.Get(ctx, NameOf(ref))
	if err != nil {
		return err
	}
	if row == nil || !s.cfg.Age().Before(row.Expires) {
		return ErrNotFound
	}
	there, err := s.cfg.Backend.Exists(ctx, row.Name)
	if err != nil {
		return fmt.Errorf("mediastore: check: %w", err)
	} else if !there {
		return ErrNotFound
	}
	return s.sound(ctx, row)
}

// sound compares a blob with the hash in its row before it is shown to anybody: ErrDamaged if they differ. Who asks for one that is
// being read waits for that. A range cannot be checked by itself, so all of the blob is read, once in an hour.
func (s *Store) sound(ctx context.Context, row *Row) error {
	if _, ok := s.cfg.Backend.(verifying); ok {
		return nil
	}
	for {
		v, mine := s.verified.find(row.Name, s.cfg.Now())
		if mine {
			err := s.hash(ctx, row)
			s.verified.settle(row.Name, v, err, s.cfg.Now())
			if errors.Is(err, ErrDamaged) {
				s.cfg.Log.Error().Int64("bytes", row.Size).Msg("An attachment in the media store is damaged; it cannot be fetched any more")
			}
			return err
		}
		select {
		case <-v.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if v.err == nil || errors.Is(v.err, ErrDamaged) {
			return v.err
		}
		// Whoever read it has left, or could not. That says nothing of the blob.
	}
}

// find returns what is known of a blob. With mine the caller has to read it, and to settle the verdict.
func (m *verified) find(name Name, now time.Time) (v *verdict, mine bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v = m.known[name]; v != nil {
		select {
		case <-v.done:
			if now.Sub(v.at) < verifyAgain {
				return v, false
			}
		default:
			return v, false
		}
	}
	for old, other := range m.known { // any of them: it would be read again, no more
		if len(m.known) < maxVerified {
			break
		}
		select {
		case <-other.done:
			delete(m.known, old)
		default:
		}
	}
	if m.known == nil {
		m.known = map[Name]*verdict{}
	}
	v = &verdict{done: make(chan struct{})}
	m.known[name] = v
	return v, true
}

// settle tells everybody what a blob turned out to be; other errors than ErrDamaged are not remembered.
func (m *verified) settle(name Name, v *verdict, err error, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v.err, v.at = err, now
	if err != nil && !errors.Is(err, ErrDamaged) && m.known[name] == v {
		delete(m.known, name)
	}
	close(v.done)
}

// hash reads a blob and compares it with its row.
func (s *Store) hash(ctx context.Context, row *Row) error {
	blob, err := s.cfg.Backend.Open(ctx, row.Name, 0, row.Size)
	if err != nil {
		return err
	}
	defer blob.Close()
	buffer := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buffer)
	sum := sha256.New()
	for left := row.Size; left > 0; {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n, err := blob.Read(buffer[:min(left, int64(len(buffer)))])
		sum.Write(buffer[:n])
		if left -= int64(n); left > 0 && errors.Is(err, io.EOF) {
			return ErrNotFound // it has become shorter since it was opened
		} else if left > 0 && err != nil {
			return fmt.Errorf("mediastore: verify: %w", err)
		}
	}
	if [sha256.Size]byte(sum.Sum(nil)) != row.SHA256 {
		return ErrDamaged
	}
	return nil
}
