package parts

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
)

// Homeserver is a running homeserver of either kind.
type Homeserver struct {
	Kind       string // "synapse" or "dendrite"
	Version    string
	URL        string // client API, no trailing slash
	ServerName string
	Dir        string
	Heard      Heard // what the tests told it

	secret string // shared secret for registration
	start  func() (*Process, error)
	proc   *Process
}

// UseHomeserver is a homeserver that somebody else runs, at url without a slash at the end. Stop leaves it alone; it has no
// process, so PID, LogPath, Kill and Restart are not to be called.
func UseHomeserver(kind, url, serverName string) *Homeserver {
	return &Homeserver{Kind: kind, URL: url, ServerName: serverName}
}

// PID is the homeserver's process id.
func (h *Homeserver) PID() int { return h.proc.PID() }

// LogPath is the file that holds the homeserver's output.
func (h *Homeserver) LogPath() string { return h.proc.LogPath() }

// Stop ends the homeserver in order.
func (h *Homeserver) Stop() error {
	if h.proc == nil {
		return nil
	}
	return h.proc.Stop()
}

// Kill ends the homeserver with SIGKILL.
func (h *Homeserver) Kill() { h.proc.Kill() }

// Restart starts the homeserver again at the same address after Stop or Kill,
// and waits until it answers.
func (h *Homeserver) Restart(ctx context.Context) error {
	p, err := h.start()
	if err != nil {
		return err
	}
	h.proc = p
	return waitReady(ctx, h.proc, h.Kind, h.URL+"/_matrix/client/versions", h.LogPath())
}

// Register makes a user. An existing user is not an error: the password given
// then has to be the one it was made with.
func (h *Homeserver) Register(ctx context.Context, user, password string, admin bool) error {
	path := "/_synapse/admin/v1/register" // Dendrite offers the same call
	var nonce struct {
		Nonce string `json:"nonce"`
	}
	if err := h.Call(ctx, http.MethodGet, path, "", nil, &nonce); err != nil {
		return fmt.Errorf("registering a user: %w", err)
	}
	role := "notadmin"
	if admin {
		role = "admin"
	}
	mac := hmac.New(sha1.New, []byte(h.secret)) // the call's own definition asks for SHA-1
	fmt.Fprintf(mac, "%s\x00%s\x00%s\x00%s", nonce.Nonce, user, password, role)
	body := map[string]any{
		"nonce": nonce.Nonce, "username": user, "password": password, "admin": admin,
		"mac": hex.EncodeToString(mac.Sum(nil)),
	}
	err := h.Call(ctx, http.MethodPost, path, "", body, nil)
	var e *APIError
	if errors.As(err, &e) && e.Code == "M_USER_IN_USE" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("registering a user: %w", err)
	}
	return nil
}

const loginPath = "/_matrix/client/v3/login"

// Login returns an access token and a device id for a user.
func (h *Homeserver) Login(ctx context.Context, user, password string) (token, device string, err error) {
	var answer struct {
		AccessToken string `json:"access_token"`
		DeviceID    string `json:"device_id"`
	}
	err = h.Call(ctx, http.MethodPost, loginPath, "", map[string]any{
		"type": "m.login.password", "identifier": map[string]any{"type": "m.id.user", "user": user}, "password": password,
	}, &answer)
	if err != nil {
		return "", "", fmt.Errorf("logging in at %s: %w", h.Kind, err)
	}
	return answer.AccessToken, answer.DeviceID, nil
}

// APIError is a homeserver's error answer.
type APIError struct {
	Status  int    // HTTP status
	Code    string // such as M_FORBIDDEN
	Message string
}

func (e *APIError) Error() string {
	return fmt.Sprintf("the homeserver answered %d %s: %s", e.Status, e.Code, e.Message)
}

// Call makes one client API request; in and out are JSON and may be nil. A
// Matrix error comes back as *APIError.
func (h *Homeserver) Call(ctx context.Context, method, path, token string, in, out any) error {
	var answered *Heard
	if path == loginPath { // other answers are the bridge's words as well as people's
		answered = &h.Heard
	}
	return call(ctx, method, h.URL+path, token, in, out, apiError, &h.Heard, answered)
}

// apiError reads an error answer.
func apiError(status int, body []byte) error {
	var fields struct {
		Code    string `json:"errcode"`
		Message string `json:"error"`
	}
	_ = json.Unmarshal(body, &fields) // without them the status alone has to do
	return &APIError{Status: status, Code: fields.Code, Message: fields.Message}
}

// homeserverState is what has to survive a restart on the same folder. Dendrite
// has no use for the last two.
type homeserverState struct {
	Port         int    `json:"port"`
	Registration string `json:"registration_secret"`
	Macaroon     string `json:"macaroon_secret"`
	Form         string `json:"form_secret"`
}

// loadState reads or makes the port and the secrets of a folder. A port
// that somebody else has taken meanwhile is replaced.
func loadState(dir string) (*homeserverState, error) {
	path := filepath.Join(dir, "state.json")
	s := &homeserverState{}
	raw, err := os.ReadFile(path)
	switch {
	case err == nil:
		if err := json.Unmarshal(raw, s); err != nil {
			return nil, fmt.Errorf("reading %s: %w", path, err)
		}
	case errors.Is(err, os.ErrNotExist):
		s.Registration, s.Macaroon, s.Form = secret(), secret(), secret()
	default:
		return nil, err
	}
	if s.Port == 0 || !portIsFree(s.Port) {
		if s.Port, err = FreePort(); err != nil {
			return nil, err
		}
	}
	raw, err = json.Marshal(s)
	if err != nil {
		return nil, err
	}
	return s, os.WriteFile(path, raw, 0o600)
}
