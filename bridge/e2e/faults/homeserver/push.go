package homeserver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// pusher hands events to one appservice: a transaction at a time, repeated as it is until it is taken.
type pusher struct {
	s       *Server
	a       *service
	client  *http.Client
	ended   chan struct{}
	events  []*Event          // not yet in a transaction; s.mu
	passing []json.RawMessage // ephemeral ones; s.mu
	busy    bool              // a transaction is on its way; s.mu
	number  int               // of the last transaction
}

// The pauses between the attempts of a transaction. Synapse begins with two seconds and ends with 512; a test has less time.
const (
	firstPause = 25 * time.Millisecond
	lastPause  = 400 * time.Millisecond
	// maxEvents is how many events of a kind a transaction has at most.
	maxEvents = 100
)

func newPusher(s *Server, a *service) *pusher {
	return &pusher{s: s, a: a, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: time.Minute}, ended: make(chan struct{})}
}

// run pushes until ctx ends.
func (p *pusher) run(ctx context.Context) {
	defer close(p.ended)
	defer p.client.CloseIdleConnections()
	for ctx.Err() == nil {
		body, ok := p.next(ctx)
		if !ok {
			return
		}
		p.number++
		for pause := firstPause; !p.put(ctx, body); pause = min(2*pause, lastPause) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
		}
	}
}

// next waits for something to push and makes the body of its transaction.
func (p *pusher) next(ctx context.Context) ([]byte, bool) {
	for {
		p.s.mu.Lock()
		p.busy = false
		if p.s.pushing && len(p.events)+len(p.passing) > 0 {
			p.busy = true
			n, m := min(len(p.events), maxEvents), min(len(p.passing), maxEvents)
			body := marshal(map[string]any{"events": nonNil(p.events[:n]), "ephemeral": nonNil(p.passing[:m])})
			p.events, p.passing = p.events[n:], p.passing[m:]
			p.s.mu.Unlock()
			return body, true
		}
		changed := p.s.changed
		close(p.s.idle)
		p.s.idle = make(chan struct{})
		p.s.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, false
		case <-changed:
		}
	}
}

// nonNil is a list that is written as [] and never as null.
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// put makes one attempt; true if the transaction was taken.
func (p *pusher) put(ctx context.Context, body []byte) bool {
	p.s.mu.Lock()
	up := p.s.pushing
	p.s.mu.Unlock()
	if !up {
		return false
	}
	status, err := p.call(ctx, http.MethodPut, fmt.Sprintf("/_matrix/app/v1/transactions/%d", p.number), body)
	return err == nil && status == http.StatusOK
}

// call makes a request to the appservice.
func (p *pusher) call(ctx context.Context, method, path string, body []byte) (int, error) {
	req, err := http.NewRequestWithContext(ctx, method, p.a.URL+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+p.a.HSToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// LosePushes forgets what waits to be pushed, as a homeserver does that is killed after it has noted events as handed over:
// the events stay in their rooms, and nobody is told of them. It returns how many there were.
func (s *Server) LosePushes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, a := range s.services {
		n += len(a.push.events)
		a.push.events = nil
	}
	return n
}

// HoldPushes keeps transactions back until the function is called.
func (s *Server) HoldPushes() (release func()) {
	s.mu.Lock()
	s.pushing = false
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pushing = true
		s.wake()
	}
}

// Pushed waits until every appservice has taken everything there is for it.
func (s *Server) Pushed(ctx context.Context) error {
	for {
		s.mu.Lock()
		waiting := false
		for _, a := range s.services {
			waiting = waiting || a.push.busy || len(a.push.events)+len(a.push.passing) > 0
		}
		idle := s.idle
		s.mu.Unlock()
		if !waiting {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the transactions to be taken: %w", ctx.Err())
		case <-idle:
		}
	}
}

// ping asks an appservice whether it is there, which is how one asks for itself.
func (s *Server) ping(w http.ResponseWriter, r *http.Request) {
	who, fail := s.authorise(r)
	if fail != nil {
		fail.write(w)
		return
	}
	if who.service == nil || who.service.ID != r.PathValue("service") {
		(&failure{403, "M_FORBIDDEN", "not your appservice"}).write(w)
		return
	}
	var in struct {
		TransactionID string `json:"transaction_id"`
	}
	if fail := read(r, &in); fail != nil {
		fail.write(w)
		return
	}
	begin := time.Now()
	status, err := who.service.push.call(r.Context(), http.MethodPost, "/_matrix/app/v1/ping", marshal(in))
	switch {
	case err != nil:
		(&failure{502, "M_CONNECTION_FAILED", "no connection"}).write(w)
	case status != http.StatusOK:
		(&failure{502, "M_BAD_STATUS", "not well"}).write(w)
	default:
		reply(w, map[string]any{"duration_ms": time.Since(begin).Milliseconds()})
	}
}

// Transaction hands an appservice a transaction of the test's own, next to those of the server, and returns the status of
// its answer.
func (s *Server) Transaction(ctx context.Context, id string, body []byte) (int, error) {
	s.mu.Lock()
	a := s.services[0]
	s.mu.Unlock()
	return a.push.call(ctx, http.MethodPut, "/_matrix/app/v1/transactions/"+url.PathEscape(id), body)
}
