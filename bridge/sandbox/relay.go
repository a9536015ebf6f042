package sandbox

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// fetchRules are how patient the media proxy and the phones are with partners.
type fetchRules struct {
	stall   time.Duration // a request without a byte for so long has failed
	backoff time.Duration // before the first new try, doubled with each
	retries int           // new tries in a row that bring nothing
	breaks  int           // new tries in all
	overall time.Duration // for a whole file, and a second for each slowest bytes of it
	slowest int64         // bytes a second
	first   int64         // bytes of the first range; a file of no more is fetched whole
	next    int64         // bytes of each further range
}

func defaultFetchRules() fetchRules {
	return fetchRules{
		stall: 30 * time.Second, backoff: time.Second, retries: 3, breaks: 50, overall: 10 * time.Minute, slowest: 64 << 10,
		first: 64 << 10, next: 16 << 20,
	}
}

// referenceSize is the length of a reference: 256 bits in base64url (PROTOCOL.md 7.2).
const referenceSize = 43

// relayPath reads the path under which phones ask for partners' media:
// /interop/{product}/download/{integrator}/{reference}/ (PROTOCOL.md 7.2).
func relayPath(product, path string) (integrator uint16, reference string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/interop/"+product+"/download/")
	if !ok {
		return 0, "", false
	}
	id, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return 0, "", false
	}
	reference, ok = strings.CutSuffix(rest, "/")
	n, err := strconv.ParseUint(id, 10, 16)
	if !ok || err != nil || n < 1 || n > 999 || id != itoa(n) || !goodReference(reference) {
		return 0, "", false
	}
	return uint16(n), reference, true
}

func goodReference(r string) bool {
	if len(r) != referenceSize {
		return false
	}
	for i := range len(r) {
		c := r[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// newMediaClient is what asks partners for media. It follows no redirect, undoes no compression, and has no
// time-out of its own: that is askPartner's.
func newMediaClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DisableCompression: true, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConnsPerHost: fetchesAtOnce, IdleConnTimeout: 30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

var errStalled = errors.New("fetch media: no byte in time")

// askPartner makes one request to a partner's media base. It ends when no byte has come for the rules' stall,
// before or within the answer. The caller closes the body.
func (s *Server) askPartner(ctx context.Context, method, url string, header http.Header) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(s.fetch.stall, func() { cancel(errStalled) })
	stop := func() { timer.Stop(); cancel(nil) }
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		stop()
		return nil, err
	}
	req.Header = header
	resp, err := s.mediaClient.Do(req)
	if err != nil {
		stop()
		return nil, err
	}
	resp.Body = &watchedBody{ReadCloser: resp.Body, progress: func() { timer.Reset(s.fetch.stall) }, stop: stop}
	return resp, nil
}

// watchedBody tells of every byte that comes.
type watchedBody struct {
	io.ReadCloser
	progress, stop func()
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.progress()
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.stop()
	return b.ReadCloser.Close()
}

// mediaBase is where an integrator's media is; empty if there is no such integrator.
func (s *Server) mediaBase(integrator uint16) (base string) {
	s.state.view(func() {
		if in := s.state.integrators[integrator]; in != nil {
			base = in.MediaBase
		}
	})
	return base
}

// passedOn are the headers the proxy passes on to the partner, and back.
var (
	passedOn   = []string{"Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"}
	passedBack = []string{"Content-Type", "Content-Encoding", "Content-Length", "Content-Range", "Accept-Ranges", "ETag", "Last-Modified", "Cache-Control"}
)

// handleRelay answers the path under which phones ask for partners' media, by asking the partner.
func (s *Server) handleRelay(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "media is fetched with GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	integrator, reference, ok := relayPath(s.prof.MediaPathProduct, r.URL.EscapedPath())
	base := ""
	if ok && r.URL.RawQuery == "" {
		base = s.mediaBase(integrator)
	}
	if base == "" {
		http.NotFound(w, r)
		return
	}
	header := http.Header{}
	for _, name := range passedOn {
		if values := r.Header.Values(name); len(values) > 0 {
			header[name] = values
		}
	}
	resp, err := s.askPartner(r.Context(), r.Method, base+"/"+reference, header)
	if err != nil {
		http.Error(w, "the partner cannot be reached", http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.StatusCode != http.StatusNotModified {
		http.Error(w, "the partner redirects", http.StatusBadGateway)
		return
	}
	for _, name := range passedBack {
		if value := resp.Header.Get(name); value != "" {
			w.Header().Set(name, value)
		}
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body) // a body that breaks off ends the connection, since its length was told
}
