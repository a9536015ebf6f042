package mediastore

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const contentType = "application/octet-stream"

const (
	// stall is how long one piece of an answer may take before the connection is given up.
	stall = time.Minute
	// firstPiece and lastPiece bound how much is sent under one deadline: the size doubles as long as a piece takes less
	// than quickPiece. So a reader needs 4.4 kB/s.
	firstPiece = 256 << 10
	lastPiece  = 4 << 20
	quickPiece = time.Second
)

// Handler serves what was committed, by GET and HEAD of /{reference} (PROTOCOL.md 7.2): to the gatekeeper's media proxy, or to whoever else has a
// reference; what they get is ciphertext. Ranges, conditions and answers are those of RFC 9110. Whatever is not there (unknown, expired, not a
// reference at all) gets one and the same answer after the same look into the index. The handler replaces the server's
// limit for writing by deadlines that move with what is sent; its limit for reading ends with the head of a request that has no body. A blob
// that is not what was stored any more is as one that is not there.
func (s *Store) Handler() http.Handler { return http.HandlerFunc(s.serve) }

func (s *Store) serve(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		head.Set("Allow", "GET, HEAD")
		plain(w, http.StatusMethodNotAllowed)
		return
	}
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		// A body has no meaning here, and two readings of where it ends are how requests hide in others.
		head.Set("Connection", "close")
		plain(w, http.StatusBadRequest)
		return
	}
	ref, valid := reference(r)
	row, err := s.cfg.Index.Get(r.Context(), NameOf(ref))
	if err != nil {
		s.cfg.Log.Err(err).Msg("Index of the media store cannot be read")
		plain(w, http.StatusServiceUnavailable)
		return
	}
	now := s.cfg.Age()
	if !valid || row == nil || !now.Before(row.Expires) {
		plain(w, http.StatusNotFound)
		return
	}
	if len(r.Header["Range"]) > 1 || len(r.Header["If-Range"]) > 1 {
		plain(w, http.StatusBadRequest)
		return
	}
	tag := `"` + base64.RawURLEncoding.EncodeToString(row.SHA256[:]) + `"`
	head.Set("ETag", tag)
	head.Set("Accept-Ranges", "bytes")
	head.Set("Cache-Control", "private, immutable, max-age="+strconv.FormatInt(int64(row.Expires.Sub(now)/time.Second), 10))
	switch {
	case !ifMatch(r, tag):
		plain(w, http.StatusPreconditionFailed)
		return
	case !ifNoneMatch(r, tag):
		w.WriteHeader(http.StatusNotModified)
		return
	}
	spans, ok := wanted(r, tag, row.Size)
	if !ok {
		head.Set("Content-Range", "bytes */"+strconv.FormatInt(row.Size, 10))
		plain(w, http.StatusRequestedRangeNotSatisfiable)
		return
	}
	a := &answer{store: s, w: w, r: r, row: row}
	if err := s.sound(r.Context(), row); err != nil {
		a.fail(err)
		return
	}
	a.send(spans)
}

// reference is what the request asks for. Whatever it is, it has a name to look for; valid says whether it has the form of a
// reference, written without escapes.
func reference(r *http.Request) (ref string, valid bool) {
	ref, slash := strings.CutPrefix(r.URL.Path, "/")
	valid = slash && r.URL.RawPath == "" && len(ref) == RefLength
	for _, c := range []byte(ref) {
		valid = valid && (c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_')
	}
	return ref, valid
}

// plain answers with a status and its standard words, and nothing of what was asked. No cache keeps it.
func plain(w http.ResponseWriter, status int) {
	body := http.StatusText(status) + "\n"
	head := w.Header()
	for _, name := range []string{"ETag", "Accept-Ranges"} {
		head.Del(name)
	}
	head.Set("Cache-Control", "no-store")
	head.Set("Content-Type", "text/plain; charset=utf-8")
	head.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // nobody is there to be told of a failure
}

// wanted are the spans that the request asks for; none with ok means the whole blob. Range has a meaning for GET only, and under If-Range only if
// that has our tag: a date, or a weak tag, is never equal (RFC 9110 13.1.5, 14.2).
func wanted(r *http.Request, tag string, size int64) (spans []span, ok bool) {
	header, given := r.Header["Range"]
	if !given || r.Method != http.MethodGet {
		return nil, true
	}
	if condition, given := r.Header["If-Range"]; given && condition[0] != tag {
		return nil, true
	}
	return parseRange(header[0], size)
}

// ifMatch evaluates If-Match: true if the request goes on (RFC 9110 13.1.1, strong comparison).
func ifMatch(r *http.Request, tag string) bool {
	values, given := r.Header["If-Match"]
	return !given || listed(values, tag, false)
}

// ifNoneMatch evaluates If-None-Match likewise (RFC 9110 13.1.2, weak comparison).
func ifNoneMatch(r *http.Request, tag string) bool {
	values, given := r.Header["If-None-Match"]
	return !given || !listed(values, tag, true)
}

// listed says whether tag is in a list of entity tags; the list "*" has every tag. Our tag has no comma in it, so
// a list may be cut at all of them.
func listed(values []string, tag string, weak bool) bool {
	for _, value := range values {
		if strings.TrimSpace(value) == "*" {
			return true
		}
		for element := range strings.SplitSeq(value, ",") {
			element = strings.Trim(element, " \t")
			if weak {
				element = strings.TrimPrefix(element, "W/")
			}
			if element == tag {
				return true
			}
		}
	}
	return false
}

// answer sends a blob or parts of it.
type answer struct {
	store *Store
	w     http.ResponseWriter
	r     *http.Request
	row   *Row
}

func (a *answer) send(spans []span) {
	head := a.w.Header()
	status, only := http.StatusPartialContent, span{0, a.row.Size}
	switch len(spans) {
	case 0:
		status = http.StatusOK
	case 1:
		only = spans[0]
		head.Set("Content-Range", only.contentRange(a.row.Size))
	default:
		a.sendParts(spans)
		return
	}
	head.Set("Content-Type", contentType)
	head.Set("Content-Length", strconv.FormatInt(only.length, 10))
	if a.r.Method == http.MethodHead {
		a.w.WriteHeader(status)
		return
	}
	blob := a.open(only)
	if blob == nil {
		return
	}
	defer blob.Close()
	a.w.WriteHeader(status)
	a.copy(blob, only.length)
	a.sent(only)
}

// open opens the first span, or says that it cannot be had.
func (a *answer) open(s span) io.ReadCloser {
	blob, err := a.store.cfg.Backend.Open(a.r.Context(), a.row.Name, s.start, s.length)
	if err == nil {
		return blob
	}
	a.fail(err)
	return nil
}

// fail says that the blob cannot be had, now or ever.
func (a *answer) fail(err error) {
	if !errors.Is(err, ErrDamaged) { // said when it was found
		a.complain(err)
	}
	a.w.Header().Del("Content-Range")
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDamaged) {
		plain(a.w, http.StatusNotFound)
	} else {
		plain(a.w, http.StatusServiceUnavailable)
	}
}

// complain logs what went wrong on our side.
func (a *answer) complain(err error) {
	if a.r.Context().Err() == nil && !errors.Is(err, context.Canceled) {
		a.store.cfg.Log.Err(err).Msg("An attachment in the media store cannot be read")
	}
}

// sendParts sends several spans in one body (RFC 9110 14.6).
func (a *answer) sendParts(spans []span) {
	var random [16]byte
	_, _ = rand.Read(random[:]) // cannot fail
	boundary := hex.EncodeToString(random[:])
	heads := make([]string, len(spans))
	end := "\r\n--" + boundary + "--\r\n"
	length := int64(len(end))
	for i, s := range spans {
		heads[i] = fmt.Sprintf("\r\n--%s\r\nContent-Type: %s\r\nContent-Range: %s\r\n\r\n", boundary, contentType, s.contentRange(a.row.Size))
		length += int64(len(heads[i])) + s.length
	}
	blob := a.open(spans[0])
	if blob == nil {
		return
	}
	head := a.w.Header()
	head.Set("Content-Type", "multipart/byteranges; boundary="+boundary)
	head.Set("Content-Length", strconv.FormatInt(length, 10))
	a.w.WriteHeader(http.StatusPartialContent)
	for i, s := range spans {
		if i > 0 {
			var err error
			if blob, err = a.store.cfg.Backend.Open(a.r.Context(), a.row.Name, s.start, s.length); err != nil {
				a.complain(err)
				cut()
			}
		}
		a.part(heads[i], blob, s.length)
	}
	if _, err := io.WriteString(a.w, end); err != nil {
		cut()
	}
}

// part sends one span with its head.
func (a *answer) part(head string, blob io.ReadCloser, length int64) {
	defer blob.Close()
	if _, err := io.WriteString(a.w, head); err != nil {
		cut()
	}
	a.copy(blob, length)
}

// cut ends the answer before its end, so that the other side does not take it for whole: the server closes the
// connection, or resets the stream, and logs nothing. There is no other way to tell it so.
func cut() { panic(http.ErrAbortHandler) } //nolint:forbidigo // caught by the server, see http.ErrAbortHandler

// buffers are for connections on which the system cannot send a file by itself.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// copy sends exactly length bytes, each piece under a deadline of its own. Files reach the connection as files, below a plain limit, so
// that the system copies them.
func (a *answer) copy(blob io.Reader, length int64) {
	control := http.NewResponseController(a.w)
	buffer := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buffer)
	piece := int64(firstPiece)
	for length > 0 {
		begin := time.Now()
		_ = control.SetWriteDeadline(begin.Add(stall)) // a writer without deadlines has none to be moved
		n, err := io.CopyBuffer(a.w, io.LimitReader(blob, min(piece, length)), buffer[:])
		length -= n
		if err != nil || n == 0 {
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			a.cutShort(err)
		}
		if piece = firstPiece; time.Since(begin) < quickPiece {
			piece = min(2*n, lastPiece)
		}
	}
}

// cutShort ends an answer whose blob or connection has failed.
func (a *answer) cutShort(err error) {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		a.complain(err)
	}
	cut()
}
