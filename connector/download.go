package connector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"postern/connector/media"
)

// Errors of a download from the gatekeeper's media host. All others are worth another try.
var (
	// errMediaPath: the message names no path that a media host could have.
	errMediaPath = errors.New("connector: download: not a path of the media host")
	// errMediaGone: the media host does not have the file, or not any more.
	errMediaGone = errors.New("connector: download: the media host does not have the file")
	// errMediaElsewhere: the media host points to another host.
	errMediaElsewhere = errors.New("connector: download: redirected to another host")
	// errMediaLong: the file has more bytes than the message says or than are allowed.
	errMediaLong = errors.New("connector: download: longer than allowed")
)

// Errors of a download that may work later.
var (
	errMediaSlow = errors.New("connector: download: no byte for too long")
	errMediaAway = errors.New("connector: download: the media host cannot be reached")
)

// How a download is bounded.
const (
	// downloadStall is how long nothing may come.
	downloadStall = 30 * time.Second
	// downloadTries is how often a download is tried before a person is told.
	downloadTries = 3
	// downloadBase and downloadRate (bytes a second) give the time that a download may take in all, for hosts that send a byte now and then.
	downloadBase = 5 * time.Minute
	downloadRate = 64 << 10
	// maxMediaPath is the longest path with query that is asked for, in bytes.
	maxMediaPath = 4096
	// maxMediaHops is how many redirects within the media host are followed.
	maxMediaHops = 3
)

// mediaHost downloads attachments from one gatekeeper's media host and from nowhere else (PROTOCOL.md 7.4).
type mediaHost struct {
	base   *url.URL
	client *http.Client
	stall  time.Duration
	// pause is the wait before the second try; it grows.
	pause time.Duration
}

// mediaHosts are the media hosts of all gatekeepers, one for all who download from it: an idle user has no connections to keep.
type mediaHosts struct {
	mu     sync.Mutex
	byBase map[string]*mediaHost
}

// at is the media host at base (newMediaHost).
func (h *mediaHosts) at(base string) (*mediaHost, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if host := h.byBase[base]; host != nil {
		return host, nil
	}
	host, err := newMediaHost(base)
	if err != nil {
		return nil, err
	}
	if h.byBase == nil {
		h.byBase = make(map[string]*mediaHost)
	}
	h.byBase[base] = host
	return host, nil
}

// newMediaHost makes the client of the media host at base, a complete URL without a slash at its end.
func newMediaHost(base string) (*mediaHost, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, errors.New("connector: media endpoint is not a complete url")
	}
	h := &mediaHost{base: u, stall: downloadStall, pause: time.Second}
	h.client = &http.Client{
		CheckRedirect: h.stay,
		Transport: &http.Transport{
			Proxy:       http.ProxyFromEnvironment,
			DialContext: (&net.Dialer{Timeout: 15 * time.Second}).DialContext, TLSHandshakeTimeout: 15 * time.Second,
			ResponseHeaderTimeout: downloadStall, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 64, ForceAttemptHTTP2: true,
			// What comes is the file, byte for byte: hashes are over it.
			DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
		},
	}
	return h, nil
}

// stay lets redirects go to the media host only.
func (h *mediaHost) stay(req *http.Request, via []*http.Request) error {
	if len(via) > maxMediaHops || !h.own(req.URL) {
		return errMediaElsewhere
	}
	return nil
}

// own says whether an address is of the media host: its scheme, host and port, and nobody's name in it.
func (h *mediaHost) own(u *url.URL) bool {
	return u.Scheme == h.base.Scheme && strings.EqualFold(u.Host, h.base.Host) && u.User == nil
}

// address is where the file with that path and query is. The path is appended as it is.
func (h *mediaHost) address(directPath string) (*url.URL, error) {
	path, _, _ := strings.Cut(directPath, "?")
	if len(directPath) > maxMediaPath || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(directPath, "#\\") {
		return nil, errMediaPath
	}
	for _, r := range directPath {
		if r <= ' ' || r >= 0x7f {
			return nil, errMediaPath
		}
	}
	whole := h.base.String() + directPath
	u, err := url.Parse(whole)
	if err != nil || !h.own(u) || u.String() != whole { // asked for as it is, or not at all
		return nil, errMediaPath
	}
	for step := range strings.SplitSeq(u.Path, "/") {
		if step == "." || step == ".." {
			return nil, errMediaPath
		}
	}
	return u, nil
}

// download writes the encrypted file at directPath, which has at most limit bytes, to the file that fresh returns, and says how long it is. fresh is
// called for each try and returns an empty file.
func (h *mediaHost) download(ctx context.Context, directPath string, limit int64, fresh func() (io.Writer, error)) (int64, error) {
	u, err := h.address(directPath)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, downloadBase+time.Duration(limit/downloadRate)*time.Second, errMediaSlow)
	defer cancel()
	pause := h.pause
	for try := 1; ; try++ {
		to, err := fresh()
		if err != nil {
			return 0, err
		}
		n, err := h.once(ctx, u, limit, to)
		if err == nil || try == downloadTries || !passes(err) || ctx.Err() != nil {
			return n, err
		}
		select {
		case <-time.After(pause + rand.N(pause)):
			pause *= 4
		case <-ctx.Done():
			return 0, causeOf(ctx, err)
		}
	}
}

// passes says whether the error of a download may not be there at another try.
func passes(err error) bool {
	for _, final := range []error{
		errMediaPath, errMediaGone, errMediaElsewhere, errMediaLong, errSpool,
		media.ErrKind, media.ErrLength, media.ErrHash, media.ErrMAC, media.ErrPadding, media.ErrPlainHash,
	} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

// errSpool: the file could not be written here.
var errSpool = errors.New("connector: download: could not write to the spool folder")

// spoolError is errSpool with its cause and without the name of a file.
func spoolError(err error) error {
	var where *fs.PathError
	if errors.As(err, &where) {
		err = where.Err
	}
	return fmt.Errorf("%w: %w", errSpool, err)
}

// once is one try.
func (h *mediaHost) once(ctx context.Context, u *url.URL, limit int64, to io.Writer) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(h.stall, func() { cancel(errMediaSlow) })
	defer stalled.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return 0, errMediaPath
	}
	req.Header.Set("User-Agent", "postern")
	resp, err := h.client.Do(req)
	if err != nil {
		if errors.Is(err, errMediaElsewhere) {
			return 0, errMediaElsewhere
		}
		return 0, causeOf(ctx, errMediaAway) // the network's own words would name addresses
	}
	defer resp.Body.Close()
	if err := answered(resp.StatusCode); err != nil {
		return 0, err
	}
	if resp.ContentLength > limit {
		return 0, errMediaLong
	}
	n, err := pour(to, resp.Body, limit, func() { stalled.Reset(h.stall) })
	switch {
	case errors.Is(err, errSpool), errors.Is(err, errMediaLong):
		return n, err
	case err != nil || resp.ContentLength >= 0 && n != resp.ContentLength:
		return n, causeOf(ctx, errMediaAway)
	}
	return n, nil
}

// answered is the error that a status means.
func answered(status int) error {
	switch {
	case status == http.StatusOK:
		return nil
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		return fmt.Errorf("%w: status %d", errMediaAway, status)
	}
	return fmt.Errorf("%w: status %d", errMediaGone, status)
}

// pour copies at most limit bytes and calls progress for each piece.
func pour(to io.Writer, from io.Reader, limit int64, progress func()) (int64, error) {
	piece := make([]byte, 32<<10)
	var n int64
	for {
		got, err := from.Read(piece)
		if got > 0 {
			progress()
			if n += int64(got); n > limit {
				return n, errMediaLong
			}
			if _, err := to.Write(piece[:got]); err != nil {
				return n, spoolError(err)
			}
		}
		if err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}
