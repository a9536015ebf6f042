package sandbox

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// slowPiece is how many bytes leave between two pauses of media_slow.
const slowPiece = 64 << 10

// hosting is what the media host does with one request.
type hosting struct {
	file                        *mediaFile
	refused, away, cut, corrupt bool
	slow                        time.Duration
}

// handleMedia serves what phones have sent, encrypted, under the directPath of the message and with its query
// (PROTOCOL.md 7.4).
func (s *Server) handleMedia(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "media is fetched with GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	var h hosting
	n := s.state.update(func(c change) { h = c.host(s, r.URL, r.RequestURI) })
	if s.settled(n) != nil {
		http.Error(w, "the state could not be written", http.StatusInternalServerError)
		return
	}
	switch {
	case h.refused:
		http.Error(w, "wrong token", http.StatusForbidden)
		return
	case h.file == nil || h.away:
		http.NotFound(w, r)
		return
	}
	f, err := s.depot.open(h.file.Name)
	if err != nil {
		http.NotFound(w, r) // dropped a moment ago
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+h.file.Name+`"`)
	w.Header().Set("Cache-Control", "private, immutable")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	out := &faultyBody{ResponseWriter: w, r: r, s: s, slow: h.slow, left: -1, corrupt: h.corrupt}
	if h.cut {
		out.left = max(1, h.file.Size/2)
	}
	if out.pause() {
		http.ServeContent(out, r, "", time.Time{}, f)
	}
}

// host decides what a request for media gets. A path without the token it was given out with is refused; one
// with more in its query than that is served and complained about.
func (c change) host(s *Server, u *url.URL, uri string) (h hosting) {
	f := c.hosted[u.EscapedPath()]
	if f == nil {
		return h
	}
	a, err := c.accountByText("media", f.Account)
	if err != nil {
		return h
	}
	given, err := url.Parse(f.Path)
	if err != nil || given.Query().Get("oh") != u.Query().Get("oh") {
		c.complain(s, a, "7.4", "media asked for without the query of its directPath")
		return hosting{refused: true}
	}
	if uri != f.Path {
		c.complain(s, a, "7.4", "media asked for with another query than its directPath has")
	}
	take := func(kind string) *fault { return c.takeFault(kind, a.Integrator, a.Identifier, "") }
	h.file = f
	if h.away = take("media_404") != nil; h.away {
		return h
	}
	if ft := take("media_slow"); ft != nil {
		h.slow = time.Duration(ft.DelayMS) * time.Millisecond
	}
	h.cut, h.corrupt = take("media_cut") != nil, take("media_corrupt") != nil
	return h
}

var errBodyCut = errors.New("serve media: cut off by a fault")

// faultyBody is an answer that faults act on.
type faultyBody struct {
	http.ResponseWriter
	r       *http.Request
	s       *Server
	slow    time.Duration
	since   int64 // bytes since the last pause
	left    int64 // bytes until the end of a body that is cut off; -1: never
	corrupt bool
}

// pause waits as media_slow says; false if the asker has gone.
func (b *faultyBody) pause() bool {
	if b.slow == 0 {
		return true
	}
	if b.since > 0 {
		_ = http.NewResponseController(b.ResponseWriter).Flush() // what was written leaves before the pause
	}
	t := time.NewTimer(b.slow)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-b.r.Context().Done():
	case <-b.s.ctx.Done():
	}
	return false
}

// Write passes p on in pieces, as the faults say.
func (b *faultyBody) Write(p []byte) (int, error) {
	if b.corrupt && len(p) > 0 {
		b.corrupt = false
		p = append([]byte{p[0] ^ 1}, p[1:]...)
	}
	written := 0
	for written < len(p) {
		piece := p[written:]
		if b.slow > 0 {
			if b.since >= slowPiece {
				if !b.pause() {
					return written, errBodyCut
				}
				b.since = 0
			}
			piece = piece[:min(int64(len(piece)), slowPiece-b.since)]
		}
		if b.left >= 0 {
			piece = piece[:min(int64(len(piece)), b.left)]
		}
		if len(piece) == 0 {
			return written, errBodyCut
		}
		n, err := b.ResponseWriter.Write(piece)
		written += n
		b.since += int64(n)
		if b.left >= 0 {
			b.left -= int64(n)
		}
		if err != nil {
			return written, fmt.Errorf("serve media: %w", err)
		}
	}
	return written, nil
}
