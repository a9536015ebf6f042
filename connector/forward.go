package connector

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"postern/connector/mediastore"
	"postern/connector/push"
	"postern/database"
)

// The gatekeeper knows one address for all instances, so what it asks one of them for may be another's. What an instance does not have it asks the
// others for; who is asked by an instance asks nobody else.

const (
	// askedBy is the header with the name of the instance that asks.
	askedBy = "Postern-Instance"
	// passTime bounds one try to pass a push on, passTries how often it is tried, and passAtOnce how many are on their way.
	passTime   = 5 * time.Second
	passPause  = time.Second
	passTries  = 3
	passAtOnce = 64
	// askAtOnce is how many attachments are asked others for at the same time, and answerTime how long another may take to begin.
	askAtOnce  = 64
	answerTime = 10 * time.Second
	// pieceTime is how long one piece may take on its way to whoever fetches it.
	pieceTime = time.Minute
)

// passing passes requests on to the other instances.
type passing struct {
	client *http.Client
	pushes chan struct{}
	asks   chan struct{}
}

func newPassing() *passing {
	return &passing{
		client: &http.Client{
			Transport:     &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: answerTime, DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		pushes: make(chan struct{}, passAtOnce), asks: make(chan struct{}, askAtOnce),
	}
}

// passPush tells the other instances of a push for somebody who is not here. One that gets lost costs time, like any lost push.
func (c *Connector) passPush(header http.Header, identifier string) {
	if c.instances == nil || header.Get(askedBy) != "" {
		return
	}
	body, err := json.Marshal(map[string]string{"to": identifier})
	if err != nil {
		return // a string
	}
	for _, peer := range c.instances.peers() {
		select {
		case c.passing.pushes <- struct{}{}:
		default:
			return
		}
		c.work.Go(func() {
			defer func() { <-c.passing.pushes }()
			for try := range passTries {
				if c.passOne(peer, header.Get("Authorization"), body) || try == passTries-1 {
					return
				}
				select {
				case <-c.ctx.Done():
					return
				case <-time.After(passPause):
				}
			}
		})
	}
}

// passOne says whether the push need not be passed there again.
func (c *Connector) passOne(peer database.Instance, authorization string, body []byte) bool {
	ctx, cancel := context.WithTimeout(c.ctx, passTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, peer.Address+push.Path, bytes.NewReader(body))
	if err != nil {
		return true
	}
	req.Header.Set("Authorization", authorization)
	req.Header.Set(askedBy, c.instances.name)
	res, err := c.passing.client.Do(req)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode < http.StatusInternalServerError
}

// mediaReference is the path of an attachment, below mediaPath.
var mediaReference = regexp.MustCompile(`^/[A-Za-z0-9_-]+$`)

// anywhere serves an attachment that is here, and otherwise one that another instance has.
func (c *Connector) anywhere(here http.Handler) http.Handler {
	if c.instances == nil {
		return here
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		plain := (r.Method == http.MethodGet || r.Method == http.MethodHead) && mediaReference.MatchString(r.URL.Path) &&
			len(r.URL.Path) == 1+mediastore.RefLength && r.URL.RawPath == ""
		if !plain || r.Header.Get(askedBy) != "" {
			here.ServeHTTP(w, r)
			return
		}
		look := &lookingWriter{ResponseWriter: w, before: w.Header().Clone()}
		here.ServeHTTP(look, r)
		if !look.missing {
			return
		}
		select {
		case c.passing.asks <- struct{}{}:
			defer func() { <-c.passing.asks }()
		default:
			comeLater(w)
			return
		}
		switch err := c.fromOthers(w, r); {
		case errors.Is(err, errNowhere):
			here.ServeHTTP(w, r) // says so
		case err != nil:
			comeLater(w)
		}
	})
}

func comeLater(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "5")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusServiceUnavailable)
}

var (
	// errNowhere: all others have said that they do not have it. errAway: some could not be asked.
	errNowhere = errors.New("connector: no instance has the attachment")
	errAway    = errors.New("connector: an instance that may have the attachment does not answer")
)

// fromOthers asks the others one after the other, and passes on what the one says that has it. An error says that nothing was written.
func (c *Connector) fromOthers(w http.ResponseWriter, r *http.Request) error {
	away := error(nil)
	for _, peer := range c.instances.peers() {
		req, err := http.NewRequestWithContext(r.Context(), r.Method, peer.Address+mediaPath+(&url.URL{Path: r.URL.Path}).EscapedPath(), nil)
		if err != nil {
			return errAway
		}
		for _, name := range []string{"Range", "If-Range", "If-Match", "If-None-Match"} {
			req.Header[name] = r.Header[name]
		}
		req.Header.Set(askedBy, c.instances.name)
		res, err := c.passing.client.Do(req)
		if err != nil || res.StatusCode >= http.StatusInternalServerError {
			away = errAway
		}
		if err != nil {
			continue
		}
		if res.StatusCode == http.StatusNotFound || res.StatusCode >= http.StatusInternalServerError {
			_ = res.Body.Close()
			continue
		}
		passOn(w, res)
		return nil
	}
	if away != nil {
		return away
	}
	return errNowhere
}

// othersHave says whether another instance has an attachment; errAway if one of them could not be asked, and no other has it.
func (c *Connector) othersHave(ctx context.Context, ref string) (there bool, err error) {
	for _, peer := range c.instances.peers() {
		req, reqErr := http.NewRequestWithContext(ctx, http.MethodHead, peer.Address+mediaPath+"/"+url.PathEscape(ref), nil)
		if reqErr != nil {
			return false, errAway
		}
		req.Header.Set(askedBy, c.instances.name)
		res, reqErr := c.passing.client.Do(req)
		if reqErr != nil {
			err = errAway
			continue
		}
		_ = res.Body.Close()
		switch {
		case res.StatusCode == http.StatusOK:
			return true, nil
		case res.StatusCode >= http.StatusInternalServerError:
			err = errAway
		}
	}
	return false, err
}

// passOn writes an answer on. One that breaks off breaks off here too.
func passOn(w http.ResponseWriter, res *http.Response) {
	defer res.Body.Close()
	for name, values := range res.Header {
		switch name {
		case "Content-Type", "Content-Length", "Content-Range", "Etag", "Accept-Ranges", "Cache-Control", "X-Content-Type-Options":
			w.Header()[name] = values
		}
	}
	w.WriteHeader(res.StatusCode)
	control := http.NewResponseController(w)
	buffer := make([]byte, 64<<10)
	for {
		n, err := res.Body.Read(buffer)
		if n > 0 {
			// An error only says that this kind of connection has no deadlines; then the server's own stand.
			_ = control.SetWriteDeadline(time.Now().Add(pieceTime))
			if _, writeErr := w.Write(buffer[:n]); writeErr != nil {
				return
			}
		}
		if errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			panic(http.ErrAbortHandler) //nolint:forbidigo // how net/http is told that the connection has to break off
		}
	}
}

// lookingWriter keeps the answer back that something is not there.
type lookingWriter struct {
	http.ResponseWriter
	before  http.Header
	missing bool
}

// WriteHeader implements http.ResponseWriter.
func (w *lookingWriter) WriteHeader(status int) {
	if status != http.StatusNotFound {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.missing = true
	clear(w.Header())
	maps.Copy(w.Header(), w.before)
}

// Write implements http.ResponseWriter.
func (w *lookingWriter) Write(p []byte) (int, error) {
	if w.missing {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *lookingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
