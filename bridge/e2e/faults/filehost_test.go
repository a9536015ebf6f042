package faults_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"
)

// fileHost stands between the bridge and the gatekeeper's media host, and misbehaves when it is told to.
type fileHost struct {
	*httptest.Server
	mu     sync.Mutex
	origin string // where the gatekeeper's is
	fault  string
	left   int // how often it is played; below 0: until it is ended
	played int
}

func newFileHost() *fileHost {
	h := &fileHost{}
	h.Server = httptest.NewServer(http.HandlerFunc(h.serve))
	return h
}

// is makes it wrong the next count times; below 0 until it is called again.
func (h *fileHost) is(fault string, count int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault, h.left, h.played = fault, count, 0
}

// times is how often it was wrong.
func (h *fileHost) times() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.played
}

func (h *fileHost) next() (origin, fault string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.left != 0 {
		h.left--
		h.played++
		fault = h.fault
	}
	return h.origin, fault
}

func (h *fileHost) serve(w http.ResponseWriter, r *http.Request) {
	origin, fault := h.next()
	switch fault {
	case "away":
		panic(http.ErrAbortHandler) // how net/http ends a connection without a word
	case "404", "503":
		status, _ := strconv.Atoi(fault) // a number, see above
		http.Error(w, "no", status)
		return
	}
	file, err := fetchFrom(r.Context(), origin+r.RequestURI)
	if err != nil {
		http.Error(w, "the gatekeeper's media host does not have it", http.StatusNotFound)
		return
	}
	length, slow := len(file), time.Duration(0)
	switch fault {
	case "damaged":
		file[length/2] ^= 1
	case "short":
		file = file[:length/2]
		length = len(file)
	case "long":
		file = append(file, file...)
		length = len(file)
	case "cut":
		file = file[:length/2]
	case "slow":
		slow = 50 * time.Millisecond
	}
	w.Header().Set("Content-Length", strconv.Itoa(length))
	for at := 0; at < len(file); at += 16 << 10 {
		if _, err := w.Write(file[at:min(at+16<<10, len(file))]); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush() // who has gone away asks again
		if slow > 0 {
			pause(slow, r.Context().Done()) // this is the fault
		}
	}
	if fault == "cut" {
		panic(http.ErrAbortHandler) // as above
	}
}

func fetchFrom(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, net.ErrClosed
	}
	return io.ReadAll(resp.Body)
}

// missing waits until something stands in the room for the attachment with that caption, and returns its event.
func (c *chat) missing(caption string, words string) string {
	c.r.t.Helper()
	return c.expectBody(caption, func(body string) bool { return strings.Contains(body, "⚠") && strings.Contains(body, words) })
}
