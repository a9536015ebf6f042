package parts

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// maxAnswer bounds the answer to one call, in bytes.
const maxAnswer = 64 << 20

// call makes one request with in as its JSON, unless that is nil, and a bearer
// token, unless that is empty. A status below 300 fills out, unless that is
// nil; of any other, refused makes the error. told and answered hear what goes there and what comes back, unless they are nil.
func call(ctx context.Context, method, url, token string, in, out any, refused func(status int, body []byte) error, told, answered *Heard) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		told.hear(raw)
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return refused(resp.StatusCode, raw)
	}
	answered.hear(raw)
	if out == nil {
		return nil
	}
	return json.Unmarshal(raw, out)
}

// waitReady polls a process by HTTP until it answers 200 or has ended.
func waitReady(ctx context.Context, p *Process, name, url, log string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", name, err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w; its log is %s", name, ctx.Err(), log)
		case <-p.Done():
			return fmt.Errorf("%s ended while starting; its log is %s%s", name, log, tail(log))
		case <-tick.C:
		}
	}
}
