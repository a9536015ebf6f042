package mediastore

import (
	"context"
	"net/http"
	"sync"
)

// maxPartly is how many blobs are followed at once that were fetched in parts.
const maxPartly = 4096

// partly knows of blobs that are being fetched in parts up to where they were fetched, without a hole. What it does not know counts as not
// fetched: it forgets at a restart, and when there is too much.
type partly struct {
	mu   sync.Mutex
	upTo map[Name]int64
}

// add notes that a span was fetched, and says whether with that the whole blob was.
func (p *partly) add(name Name, s span, size int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	upTo := p.upTo[name]
	if s.start > upTo {
		return false
	}
	if upTo = max(upTo, s.start+s.length); upTo >= size {
		delete(p.upTo, name)
		return true
	}
	if p.upTo == nil {
		p.upTo = map[Name]int64{}
	}
	for other := range p.upTo {
		if len(p.upTo) < maxPartly {
			break
		}
		delete(p.upTo, other)
	}
	p.upTo[name] = upTo
	return false
}

// sent notes that a span was written to the connection, and tells if that completes the blob.
func (a *answer) sent(s span) {
	tell := a.store.cfg.Fetched
	if tell == nil || !a.row.Fetched.IsZero() || http.NewResponseController(a.w).Flush() != nil {
		return
	}
	if a.store.partly.add(a.row.Name, s, a.row.Size) {
		tell(context.WithoutCancel(a.r.Context()), a.row)
	}
}
