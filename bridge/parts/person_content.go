package parts

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Upload gives the homeserver a file and returns its mxc:// address.
func (p *Person) Upload(ctx context.Context, data []byte, mimetype, name string) (string, error) {
	query := url.Values{"filename": {name}}
	resp, err := p.media(ctx, http.MethodPost, "/_matrix/media/v3/upload?"+query.Encode(), mimetype, bytes.NewReader(data))
	if err != nil {
		return "", fmt.Errorf("uploading a file: %w", err)
	}
	defer resp.Body.Close()
	var answer struct {
		URI string `json:"content_uri"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&answer); err != nil {
		return "", fmt.Errorf("uploading a file: %w", err)
	}
	return answer.URI, nil
}

// Download reads the file at an mxc:// address.
func (p *Person) Download(ctx context.Context, uri string) ([]byte, error) {
	path, ok := strings.CutPrefix(uri, "mxc://")
	if !ok {
		return nil, fmt.Errorf("downloading a file: %q is no mxc address", uri)
	}
	resp, err := p.media(ctx, http.MethodGet, "/_matrix/client/v1/media/download/"+path, "", nil)
	if err != nil {
		return nil, fmt.Errorf("downloading a file: %w", err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("downloading a file: %w", err)
	}
	return data, nil
}

// media makes one request whose bodies are not JSON. The caller closes the answer's.
func (p *Person) media(ctx context.Context, method, path, mimetype string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, p.HS.URL+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+p.Token)
	if mimetype != "" {
		req.Header.Set("Content-Type", mimetype)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return nil, err
		}
		return nil, apiError(resp.StatusCode, raw)
	}
	return resp, nil
}

// React sends a reaction to an event and returns the reaction's event id.
func (p *Person) React(ctx context.Context, room, event, emoji string) (string, error) {
	return p.Send(ctx, room, "m.reaction", rand.Text(), map[string]any{
		"m.relates_to": map[string]any{"rel_type": "m.annotation", "event_id": event, "key": emoji},
	})
}

// Redact takes an event of one's own back.
func (p *Person) Redact(ctx context.Context, room, event string) error {
	path := fmt.Sprintf("/_matrix/client/v3/rooms/%s/redact/%s/%s", url.PathEscape(room), url.PathEscape(event), rand.Text())
	if err := p.HS.Call(ctx, http.MethodPut, path, p.Token, map[string]any{}, nil); err != nil {
		return fmt.Errorf("redacting an event: %w", err)
	}
	return nil
}

// Typing shows, for at most half a minute, or no longer that this person writes.
func (p *Person) Typing(ctx context.Context, room string, typing bool) error {
	path := fmt.Sprintf("/_matrix/client/v3/rooms/%s/typing/%s", url.PathEscape(room), url.PathEscape(p.UserID))
	if err := p.HS.Call(ctx, http.MethodPut, path, p.Token, map[string]any{"typing": typing, "timeout": 30_000}, nil); err != nil {
		return fmt.Errorf("typing: %w", err)
	}
	return nil
}

// Read tells that everything up to an event was read.
func (p *Person) Read(ctx context.Context, room, event string) error {
	path := fmt.Sprintf("/_matrix/client/v3/rooms/%s/receipt/m.read/%s", url.PathEscape(room), url.PathEscape(event))
	if err := p.HS.Call(ctx, http.MethodPost, path, p.Token, map[string]any{}, nil); err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	return nil
}

// IsTyping returns who writes in a room, if e tells of that.
func (e *Event) IsTyping() (users []string, ok bool) {
	var content struct {
		Users []string `json:"user_ids"`
	}
	if e.Type != "m.typing" || json.Unmarshal(e.Content, &content) != nil {
		return nil, false
	}
	return content.Users, true
}

// ReadBy returns who has read which event last, if e tells of that.
func (e *Event) ReadBy(event string) (users []string) {
	var content map[string]map[string]map[string]any // by event, kind and user
	if e.Type != "m.receipt" || json.Unmarshal(e.Content, &content) != nil {
		return nil
	}
	for user := range content[event]["m.read"] {
		users = append(users, user)
	}
	slices.Sort(users)
	return users
}

// Removes returns the id of the event that a redaction takes back, else nothing.
func (e *Event) Removes() string {
	var content struct {
		Redacts string `json:"redacts"`
	}
	if e.Type != "m.room.redaction" || json.Unmarshal(e.Content, &content) != nil {
		return ""
	}
	if content.Redacts != "" {
		return content.Redacts
	}
	return e.Redacts
}

// Relation is what an event says of another one.
type Relation struct {
	Type  string `json:"rel_type"` // m.annotation, m.replace
	Event string `json:"event_id"` // the other event, unless this one is a reply to it
	Key   string `json:"key"`      // of a reaction
	Reply struct {
		Event string `json:"event_id"`
	} `json:"m.in_reply_to"`
}

// Relation returns an event's relation, empty if it has none.
func (e *Event) Relation() Relation {
	var content struct {
		Relation Relation `json:"m.relates_to"`
	}
	_ = json.Unmarshal(e.Content, &content) // other shapes have none
	return content.Relation
}
