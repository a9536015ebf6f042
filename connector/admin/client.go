package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Errors of a Client.
var (
	// ErrNobody: nobody listens where the bridge should.
	ErrNobody = errors.New("admin: no bridge listens there")
	// ErrSecret: the bridge has another key. After some such requests it answers ErrTooMany for a minute.
	ErrSecret  = errors.New("admin: the bridge refuses the secret: it runs with another key file")
	ErrTooMany = errors.New("admin: the bridge refuses the secret, and has refused too many in the last minute")
	// ErrNotBridge: something else answers, or a bridge that does not know the request.
	ErrNotBridge = errors.New("admin: what answers there is not a bridge that knows this request")
	// ErrRefused: the bridge does not do it.
	ErrRefused = errors.New("admin: refused")
)

// maxAnswer is the largest answer that is read, in bytes.
const maxAnswer = 4 << 20

// Client asks a running bridge over its private listener.
type Client struct {
	secret string
	base   string
	http   *http.Client
}

var _ Service = (*Client)(nil)

// NewClient makes a Client for the bridge that listens on a host and port, or on a unix socket if the host is an absolute path. A host
// that stands for every address is asked on loopback.
func NewClient(host string, port uint16, secret string) *Client {
	c := &Client{secret: secret}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	transport := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}
	if strings.HasPrefix(host, "/") {
		c.base = "http://postern"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialContext(ctx, "unix", host) }
	} else {
		switch ip := net.ParseIP(host); {
		case host == "" || ip != nil && ip.IsUnspecified() && ip.To4() != nil:
			host = "127.0.0.1"
		case ip != nil && ip.IsUnspecified():
			host = "::1"
		}
		c.base = "http://" + net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	c.http = &http.Client{
		Transport: transport, Timeout: patience + 10*time.Second,
		// The secret goes nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// DeadLetters implements Service.
func (c *Client) DeadLetters(ctx context.Context, account string, offset, limit int) ([]DeadLetter, error) {
	query := url.Values{"offset": {strconv.Itoa(offset)}, "limit": {strconv.Itoa(limit)}}
	if account != "" {
		query.Set("account", account)
	}
	var into listed
	if err := c.do(ctx, http.MethodGet, "dead-letters?"+query.Encode(), nil, &into); err != nil {
		return nil, err
	}
	for i := range into.DeadLetters {
		if !into.DeadLetters[i].valid() {
			return nil, ErrNotBridge
		}
	}
	return into.DeadLetters, nil
}

// valid says whether a letter is one that a bridge has written: what it holds goes to a terminal.
func (l *DeadLetter) valid() bool {
	words := strings.NewReplacer("_", "", " ", "")
	return ValidID(l.ID) && ValidID(l.Account) && ValidID(l.Chat) && ValidID(words.Replace(l.Kind)) && ValidID(words.Replace(l.Reason)) &&
		(l.Direction == Incoming || l.Direction == Outgoing)
}

// RetryDeadLetters implements Service.
func (c *Client) RetryDeadLetters(ctx context.Context, ids []string) ([]Result, error) {
	return c.change(ctx, "dead-letters/retry", ids)
}

// DropDeadLetters implements Service.
func (c *Client) DropDeadLetters(ctx context.Context, ids []string) ([]Result, error) {
	return c.change(ctx, "dead-letters/drop", ids)
}

func (c *Client) change(ctx context.Context, path string, ids []string) ([]Result, error) {
	var into changed
	err := c.do(ctx, http.MethodPost, path, named{ids}, &into)
	if err != nil && len(into.Results) == 0 {
		return nil, err
	}
	if len(into.Results) != len(ids) {
		return nil, errors.Join(err, ErrNotBridge)
	}
	for i, result := range into.Results {
		if result.ID != ids[i] || !ValidID(string(result.Outcome)) {
			return nil, errors.Join(err, ErrNotBridge)
		}
	}
	return into.Results, err
}

// do asks once. into is filled where the bridge refuses with results, too. Errors: ErrNobody, ErrSecret, ErrTooMany, ErrNotBridge, ErrNotReady,
// ErrRefused, or the connection's.
func (c *Client) do(ctx context.Context, method, path string, body, into any) error {
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("admin: ask: %w", err)
		}
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+Prefix+path, content)
	if err != nil {
		return fmt.Errorf("admin: ask: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.secret)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	var connection *net.OpError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return ErrNobody // anything else, such as a socket that we may not open, does not say that
	case errors.As(err, &connection):
		return fmt.Errorf("admin: ask: %s: %w", connection.Op, connection.Err) // without the address
	case err != nil:
		return fmt.Errorf("admin: ask: %w", errors.Unwrap(err)) // as above
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("admin: read the answer: %w", err)
	}
	return read(resp.StatusCode, raw, into)
}

// read makes sense of an answer.
func read(status int, raw []byte, into any) error {
	if status == http.StatusOK {
		if json.Unmarshal(raw, into) != nil {
			return ErrNotBridge
		}
		return nil
	}
	var said halfway
	if json.Unmarshal(raw, &said) != nil || said.Error == "" {
		return ErrNotBridge
	}
	if results, ok := into.(*changed); ok {
		results.Results = said.Results
	}
	switch status {
	case http.StatusUnauthorized:
		return ErrSecret
	case http.StatusTooManyRequests:
		return ErrTooMany
	case http.StatusServiceUnavailable:
		return ErrNotReady
	case http.StatusNotFound:
		return ErrNotBridge
	}
	return fmt.Errorf("%w: %s", ErrRefused, plain(said.Error))
}

// plain makes what somebody else has written fit for a terminal.
func plain(text string) string {
	text = strings.ToValidUTF8(text[:min(len(text), 200)], "")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
}
