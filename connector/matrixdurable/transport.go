package matrixdurable

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"postern/connector/killpoint"
)

// Transport is the http.RoundTripper of the appservice's client. It leaves all requests as they are but three kinds:
//
//   - an event sent under a Sending gets the transaction id and the marker that belong to it, and if an earlier attempt may have
//     arrived the room is searched first: the homeserver forgets transaction ids of appservices
//     at a restart and after 30 to 60 minutes;
//   - a redaction under a Sending gets a fixed transaction id;
//   - a room is created with an alias that follows from its local id, so that a repetition finds the room that
//     the first attempt has made.
type Transport struct {
	// Base does the requests; nil: http.DefaultTransport.
	Base http.RoundTripper
	// AliasPrefix begins the local part of the aliases; it has to lie in the registration's
	// namespace. "": rooms get no aliases.
	AliasPrefix string
	// ServerName is the homeserver's name.
	ServerName string
	// OnTrouble, if set, is told that the homeserver could not be reached or answered with an error of its own:
	// it may have been restarted and have lost events.
	OnTrouble func()
	// Moved says that chats may have come from another instance of the bridge, so that a former ghost may have sent what is searched for.
	Moved bool
	Log   zerolog.Logger
}

var _ http.RoundTripper = (*Transport)(nil)

// clientRooms is what the paths of interest begin with.
const clientRooms = "/_matrix/client/v3/rooms/"

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.route(req)
	if t.OnTrouble != nil && req.Context().Err() == nil && (err != nil || resp.StatusCode >= 500) {
		t.OnTrouble()
	}
	return resp, err
}

func (t *Transport) route(req *http.Request) (*http.Response, error) {
	path := req.URL.EscapedPath()
	if req.Method == http.MethodPost && strings.HasSuffix(path, "/_matrix/client/v3/createRoom") && t.AliasPrefix != "" {
		return t.createRoom(req)
	}
	s := SendingFrom(req.Context())
	if s == nil || req.Method != http.MethodPut {
		return t.base().RoundTrip(req)
	}
	prefix, rest, found := strings.Cut(path, clientRooms)
	if !found {
		return t.base().RoundTrip(req)
	}
	// {room}/send/{type}/{txn} or {room}/redact/{event}/{txn}
	steps := strings.Split(rest, "/")
	if len(steps) != 4 {
		return t.base().RoundTrip(req)
	}
	base := prefix + clientRooms
	switch steps[1] {
	case "send":
		return t.send(req, s, base, steps)
	case "redact":
		if len(s.Parts) == 0 {
			return t.base().RoundTrip(req)
		}
		return t.base().RoundTrip(withPath(req, base+strings.Join(steps[:3], "/")+"/"+Identity(s.Parts[0], "redact", steps[2])))
	}
	return t.base().RoundTrip(req)
}

func (t *Transport) base() http.RoundTripper {
	if t.Base != nil {
		return t.Base
	}
	return http.DefaultTransport
}

// send sends one event of a Sending.
func (t *Transport) send(req *http.Request, s *Sending, base string, steps []string) (*http.Response, error) {
	identity, announced, err := s.part(steps[3])
	if err != nil {
		return nil, err
	} else if !announced {
		return t.base().RoundTrip(req)
	}
	if s.uncertain() {
		if s.foundParts() == nil {
			found, err := t.search(req, s, base+steps[0], steps[2])
			if err != nil {
				s.settle(false, true)
				return nil, fmt.Errorf("matrixdurable: search room: %w", err)
			}
			s.setFound(found)
		}
		if event := s.foundParts()[identity]; event != "" {
			t.Log.Debug().Str("event_id", event.String()).Msg("Event is in the room already")
			closeBody(req)
			return answer(req, map[string]string{"event_id": event.String()})
		}
	}
	body, err := readBody(req)
	if err != nil {
		return nil, err
	}
	if body, err = withMarker(body, identity); err != nil {
		return nil, err
	}
	out := withBody(withPath(req, base+strings.Join(steps[:3], "/")+"/"+identity), body)
	if killpoint.Armed && steps[2] == "m.room.message" {
		killpoint.Hit(killpoint.InSending)
	}
	resp, err := t.base().RoundTrip(out)
	if killpoint.Armed && steps[2] == "m.room.message" {
		killpoint.Hit(killpoint.InAnswered)
	}
	switch {
	case err != nil:
		s.settle(false, false)
	case resp.StatusCode >= 500:
		s.settle(false, false)
	case resp.StatusCode >= 300:
		s.settle(false, true)
	}
	return resp, err
}

// withMarker adds the identity to an event's content.
func withMarker(content []byte, identity string) ([]byte, error) {
	content = bytes.TrimSpace(content)
	if len(content) < 2 || content[0] != '{' {
		return nil, errors.New("matrixdurable: send: content is not a JSON object")
	}
	// The framework has marshalled the object itself, so the key is not there yet.
	out := append(make([]byte, 0, len(content)+len(MarkerKey)+len(identity)+8), `{"`+MarkerKey+`":"`+identity+`"`...)
	if rest := bytes.TrimSpace(content[1:]); rest[0] != '}' {
		out = append(out, ',')
	}
	return append(out, content[1:]...), nil
}

const (
	searchPage  = 100
	searchPages = 20
)

// searchResult is the part of a /messages answer that is looked at.
type searchResult struct {
	Chunk []struct {
		ID      id.EventID `json:"event_id"`
		Content struct {
			Marker string `json:"eu.postern.id"`
		} `json:"content"`
	} `json:"chunk"`
	End string `json:"end"`
}

// sayings are the types of what people say, which may have been another one of these on its way here.
var sayings = []string{"m.room.message", "m.room.encrypted", "m.sticker", "m.reaction"}

// searchFilter asks for what may be a part of that type that sender has sent, or anybody if sender is empty.
func searchFilter(sender, kind string) (string, error) {
	filter := map[string]any{"types": sayings}
	if !slices.Contains(sayings, kind) {
		filter["types"] = []string{kind}
	}
	if sender != "" {
		filter["senders"] = []string{sender}
	}
	text, err := json.Marshal(filter)
	return string(text), err
}

// filter is searchFilter for whoever may have sent it.
func (t *Transport) filter(sender, kind string) (string, error) {
	if t.Moved {
		sender = ""
	}
	return searchFilter(sender, kind)
}

// search reads the room backwards, as the sender of the request and only what that sender has sent (or with Moved anybody), until it has
// found all parts, or something that is known to be older than they are.
func (t *Transport) search(req *http.Request, s *Sending, room, kind string) (map[string]id.EventID, error) {
	found := map[string]id.EventID{}
	sender := req.URL.Query().Get("user_id")
	filter, err := t.filter(sender, kind)
	if err != nil {
		return nil, err
	}
	wanted := make(map[string]bool, len(s.Parts))
	for _, p := range s.Parts {
		wanted[p] = true
	}
	from := ""
	for range searchPages {
		query := url.Values{"dir": {"b"}, "limit": {fmt.Sprint(searchPage)}, "filter": {filter}}
		if sender != "" {
			query.Set("user_id", sender)
		}
		if from != "" {
			query.Set("from", from)
		}
		var page searchResult
		status, err := t.get(req, room+"/messages", query, &page)
		if status == http.StatusForbidden || status == http.StatusNotFound {
			return found, nil // never in the room, so nothing was sent
		} else if err != nil {
			return nil, err
		}
		for _, evt := range page.Chunk {
			if wanted[evt.Content.Marker] {
				found[evt.Content.Marker] = evt.ID
				continue
			}
			if s.Settled != nil && s.Settled(req.Context(), evt.ID) {
				return found, nil
			}
		}
		if len(found) == len(wanted) || page.End == "" || len(page.Chunk) == 0 {
			return found, nil
		}
		from = page.End
	}
	return found, nil
}

// get does a request of our own with the credentials of another one. The
// status is 0 if there was no answer.
func (t *Transport) get(as *http.Request, path string, query url.Values, into any) (int, error) {
	return t.call(as, http.MethodGet, path, query, nil, into)
}

// maxAnswer bounds the answers that Transport reads itself, in bytes.
const maxAnswer = 16 << 20

func (t *Transport) call(as *http.Request, method, path string, query url.Values, body []byte, into any) (int, error) {
	req, err := http.NewRequestWithContext(as.Context(), method, "", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.URL = cloneURL(as.URL, path)
	req.URL.RawQuery = query.Encode()
	req.Host = as.Host
	for _, h := range []string{"Authorization", "User-Agent"} {
		req.Header[h] = as.Header[h]
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := t.base().RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return resp.StatusCode, err
	} else if len(raw) > maxAnswer {
		return resp.StatusCode, errors.New("answer too large")
	}
	if resp.StatusCode >= 300 {
		return resp.StatusCode, fmt.Errorf("homeserver answered with status %d", resp.StatusCode)
	}
	if into == nil {
		return resp.StatusCode, nil
	}
	return resp.StatusCode, json.Unmarshal(raw, into)
}

// readBody takes the request's body away from it.
func readBody(req *http.Request) ([]byte, error) {
	if req.Body == nil {
		return nil, nil
	}
	defer req.Body.Close()
	return io.ReadAll(req.Body)
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// withPath returns the request with another path, which is given escaped.
func withPath(req *http.Request, path string) *http.Request {
	out := *req
	out.URL = cloneURL(req.URL, path)
	return &out
}

func cloneURL(u *url.URL, escaped string) *url.URL {
	out := *u
	out.RawPath = escaped
	out.Path = escaped
	if plain, err := url.PathUnescape(escaped); err == nil {
		out.Path = plain
	}
	return &out
}

func withBody(req *http.Request, body []byte) *http.Request {
	out := *req
	out.Body = io.NopCloser(bytes.NewReader(body))
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	out.ContentLength = int64(len(body))
	return &out
}

// answer makes the response that the homeserver gave to an earlier attempt.
func answer(req *http.Request, body any) (*http.Response, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}},
		Body:          io.NopCloser(bytes.NewReader(raw)),
		ContentLength: int64(len(raw)),
		Request:       req,
	}, nil
}

// Marked returns a context under which one event with the given identity is sent.
func Marked(ctx context.Context, identity string, uncertain bool) context.Context {
	return WithSending(ctx, &Sending{Parts: []string{identity}, Uncertain: uncertain})
}
