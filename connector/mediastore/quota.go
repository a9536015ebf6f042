package mediastore

import (
	"context"
	"sync"
)

// owner counts what one owner has, for the quota: the sum of the rows, and what has none yet.
type owner struct {
	store *Store
	id    string
	users int // Puts that run; under Store.mu

	mu sync.Mutex
	// used is the sum of the rows when they were last looked at.
	used int64
	// writing is what Puts have reserved, waiting what is put but was not seen in the index at that look.
	writing, waiting int64
	objects          map[*Object]bool // those that waiting counts
}

// enter finds or makes the owner's counter for a Put that begins, and what ends its use.
func (s *Store) enter(ctx context.Context, id string) (*owner, func(), error) {
	s.mu.Lock()
	own := s.owners[id]
	if own == nil {
		own = &owner{store: s, id: id, objects: map[*Object]bool{}}
		s.owners[id] = own
	}
	own.users++
	s.mu.Unlock()
	release := func() {
		s.mu.Lock()
		own.users--
		s.mu.Unlock()
		s.tidy(own)
	}
	if s.cfg.QuotaBytes > 0 {
		own.mu.Lock()
		err := own.look(ctx)
		own.mu.Unlock()
		if err != nil {
			release()
			return nil, nil, err
		}
	}
	return own, release, nil
}

// tidy forgets a counter that counts nothing. Without a Put, nobody holds its lock for long.
func (s *Store) tidy(own *owner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if own.users > 0 || s.owners[own.id] != own {
		return
	}
	own.mu.Lock()
	defer own.mu.Unlock()
	if len(own.objects) == 0 {
		delete(s.owners, own.id)
	}
}

// look counts anew. Rows are looked for before they are summed, so that what is committed in between is counted
// twice and never not at all. o.mu is held.
func (o *owner) look(ctx context.Context) error {
	var seen []*Object
	for object := range o.objects {
		row, err := o.store.cfg.Index.Get(ctx, object.name)
		if err != nil {
			return err
		}
		if row != nil {
			seen = append(seen, object)
		}
	}
	used, err := o.store.cfg.Index.Used(ctx, o.id)
	if err != nil {
		return err
	}
	o.used = used
	for _, object := range seen {
		delete(o.objects, object)
		o.waiting -= object.Size
	}
	return nil
}

// take reserves n bytes for a Put, or returns a *QuotaError.
func (o *owner) take(ctx context.Context, n int64) error {
	limit := o.store.cfg.QuotaBytes
	o.mu.Lock()
	defer o.mu.Unlock()
	if limit > 0 && o.used+o.writing+o.waiting+n > limit {
		if err := o.look(ctx); err != nil {
			return err
		}
		if taken := o.used + o.writing + o.waiting; taken+n > limit {
			return &QuotaError{Limit: limit, Used: taken}
		}
	}
	o.writing += n
	return nil
}

// give takes a reservation back.
func (o *owner) give(n int64) {
	o.mu.Lock()
	o.writing -= n
	o.mu.Unlock()
}

// keep turns the reservation of an object's bytes into the object, which counts until its row is seen.
func (o *owner) keep(object *Object) {
	o.mu.Lock()
	o.writing -= object.Size
	o.waiting += object.Size
	o.objects[object] = true
	o.mu.Unlock()
}

// drop stops counting an object.
func (o *owner) drop(object *Object) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.objects[object] {
		delete(o.objects, object)
		o.waiting -= object.Size
	}
}
