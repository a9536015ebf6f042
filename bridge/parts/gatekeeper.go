package parts

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Gatekeeper is a gatekeeper that offers the sandbox's control API: the
// built-in sandbox or any other implementation. Everything goes through that
// API.
type Gatekeeper struct {
	Control string // address of the control API, no trailing slash
	Info    GatekeeperInfo
	Heard   Heard    // what the tests told it, and it them
	proc    *Process // nil if somebody else started it
	start   func(ctx context.Context) error
}

// GatekeeperInfo is the answer of GET /v1/info.
type GatekeeperInfo struct {
	Profile      string `json:"profile"`
	ChatTCP      string `json:"chat_tcp"`
	ChatWS       string `json:"chat_ws"`
	EnlistURL    string `json:"enlist_url"`
	MediaURL     string `json:"media_url"`
	JWKSURL      string `json:"jwks_url"`
	NoiseRootKey string `json:"noise_root_key"`
	JIDDialect   struct {
		Reads  string `json:"reads"`
		Writes string `json:"writes"`
	} `json:"jid_dialect"`
	Control string `json:"control"` // only in the program's first line
}

// SandboxConfig says how to run `postern sandbox`.
type SandboxConfig struct {
	Postern string // the program
	Dir     string // persistent state; also holds the log
	Args    []string
}

// StartSandbox starts `postern sandbox` with persistent state. After Kill or
// Stop, Restart starts it again at the same addresses.
func StartSandbox(ctx context.Context, cfg SandboxConfig) (*Gatekeeper, error) {
	g := &Gatekeeper{}
	// Addresses of our own choice, so that a restarted sandbox gets them again.
	var addresses []string
	for _, flag := range []string{"--control", "--chat", "--chat-ws", "--http"} {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, flag, fmt.Sprintf("127.0.0.1:%d", port))
	}
	g.start = func(ctx context.Context) error {
		p, err := Start(ProcessConfig{
			Name: "the sandbox", Path: cfg.Postern, LogPath: cfg.Dir + "/sandbox.log", FirstLine: true,
			Args: append(append([]string{"sandbox", "--state", cfg.Dir + "/state"}, addresses...), cfg.Args...),
		})
		if err != nil {
			return err
		}
		line, err := p.FirstLine(ctx)
		if err != nil {
			p.Kill()
			return err
		}
		if err := json.Unmarshal([]byte(line), &g.Info); err != nil {
			p.Kill()
			return fmt.Errorf("reading the sandbox's first line: %w", err)
		}
		g.proc, g.Control = p, g.Info.Control
		return nil
	}
	if err := makeDir(cfg.Dir); err != nil {
		return nil, err
	}
	return g, g.start(ctx)
}

// UseGatekeeper connects to a gatekeeper that is running already.
func UseGatekeeper(ctx context.Context, control string) (*Gatekeeper, error) {
	g := &Gatekeeper{Control: strings.TrimRight(control, "/")}
	if err := g.Call(ctx, http.MethodGet, "/v1/info", nil, &g.Info); err != nil {
		return nil, fmt.Errorf("asking the gatekeeper who it is: %w", err)
	}
	return g, nil
}

// Own reports whether this process started the gatekeeper.
func (g *Gatekeeper) Own() bool { return g.proc != nil }

// PID is the process id of a gatekeeper that this process started, else 0.
func (g *Gatekeeper) PID() int {
	if g.proc == nil {
		return 0
	}
	return g.proc.PID()
}

// LogPath is the log of a gatekeeper that this process started.
func (g *Gatekeeper) LogPath() string {
	if g.proc == nil {
		return ""
	}
	return g.proc.LogPath()
}

// Stop ends a gatekeeper that this process started.
func (g *Gatekeeper) Stop() error {
	if g.proc == nil {
		return nil
	}
	return g.proc.Stop()
}

// Kill ends a gatekeeper that this process started with SIGKILL.
func (g *Gatekeeper) Kill() {
	if g.proc != nil {
		g.proc.Kill()
	}
}

// Restart starts the sandbox again on its state and at its addresses.
func (g *Gatekeeper) Restart(ctx context.Context) error {
	if g.start == nil {
		return fmt.Errorf("restarting the gatekeeper: this process did not start it")
	}
	return g.start(ctx)
}

// ControlError is an error answer of the control API.
type ControlError struct {
	Status  int
	Message string
}

func (e *ControlError) Error() string {
	return fmt.Sprintf("the gatekeeper's control API answered %d: %s", e.Status, e.Message)
}

// Call makes one request to the control API; in and out may be nil.
func (g *Gatekeeper) Call(ctx context.Context, method, path string, in, out any) error {
	return call(ctx, method, g.Control+path, "", in, out, controlError, &g.Heard, &g.Heard)
}

// controlError reads an error answer.
func controlError(status int, body []byte) error {
	var e struct {
		Error string `json:"error"`
	}
	_ = json.Unmarshal(body, &e) // without a sentence the status alone has to do
	return &ControlError{Status: status, Message: e.Error}
}

// Integrator is an agreement with a partner, as POST /v1/integrators takes it.
type Integrator struct {
	ID             int    `json:"id"`
	Name           string `json:"name"`
	IdentifierType string `json:"identifier_type"`
	PublicBase     string `json:"public_base"`
	MediaBase      string `json:"media_base,omitempty"`
}

// AddIntegrator makes or replaces an agreement.
func (g *Gatekeeper) AddIntegrator(ctx context.Context, i Integrator) error {
	return g.Call(ctx, http.MethodPost, "/v1/integrators", i, nil)
}

// Phone is a WhatsApp user, as the control API shows one.
type Phone struct {
	Phone   string `json:"phone"`
	Name    string `json:"name"`
	JID     string `json:"jid,omitempty"`
	OptedIn any    `json:"opted_in"` // true, false or a list of integrator ids
}

// AddUser makes or changes a WhatsApp user.
func (g *Gatekeeper) AddUser(ctx context.Context, p Phone) (Phone, error) {
	var out Phone
	err := g.Call(ctx, http.MethodPost, "/v1/users", p, &out)
	return out, err
}

// Say makes a WhatsApp user write text to a partner user, and returns the
// message's id.
func (g *Gatekeeper) Say(ctx context.Context, phone, to, text string) (string, error) {
	return g.Send(ctx, phone, Content{To: to, Text: text})
}

// SayAll makes a WhatsApp user write up to 1,000 texts to a partner user, one after the other, and returns the
// messages' ids.
func (g *Gatekeeper) SayAll(ctx context.Context, phone, to string, texts []string) ([]string, error) {
	var out struct {
		IDs []string `json:"ids"`
	}
	err := g.Call(ctx, http.MethodPost, userPath(phone, "messages"), map[string]any{"to": to, "texts": texts}, &out)
	return out.IDs, err
}

// PhoneEvent is one entry of GET /v1/users/{phone}/events.
type PhoneEvent struct {
	Seq         int64    `json:"seq"`
	T           int64    `json:"t"` // Unix seconds
	Kind        string   `json:"kind"`
	From        string   `json:"from"`
	Integrator  int      `json:"integrator"`
	ID          string   `json:"id"`
	IDs         []string `json:"ids"`
	Type        string   `json:"type"`
	Text        string   `json:"text"`
	DisplayName string   `json:"display_name"`
	Reason      string   `json:"reason"`
	Code        int      `json:"code"`
	Retried     bool     `json:"retried"`
	State       string   `json:"state"`    // of typing
	ReplyTo     string   `json:"reply_to"` // id of the message replied to
	Quoted      string   `json:"quoted"`   // text of the message replied to, as the reply says

	Media    *PhoneMedia    `json:"media"`
	Reaction *PhoneReaction `json:"reaction"`
}

// Events reads what a WhatsApp user has seen after sequence number after,
// waiting up to wait if there is nothing.
func (g *Gatekeeper) Events(ctx context.Context, phone string, after int64, wait time.Duration) ([]PhoneEvent, error) {
	var out struct {
		Events []PhoneEvent `json:"events"`
	}
	path := fmt.Sprintf("/v1/users/%s/events?after=%d&wait=%s", url.PathEscape(phone), after, wait)
	err := g.Call(ctx, http.MethodGet, path, nil, &out)
	return out.Events, err
}

// Expect waits for the first event of a WhatsApp user, from the beginning,
// that match accepts; what says in an error what was waited for.
func (g *Gatekeeper) Expect(ctx context.Context, phone, what string, match func(*PhoneEvent) bool) (*PhoneEvent, error) {
	var after int64
	for {
		events, err := g.Events(ctx, phone, after, 20*time.Second)
		if err != nil {
			return nil, fmt.Errorf("waiting for %s: %w", what, err)
		}
		for i := range events {
			if match(&events[i]) {
				return &events[i], nil
			}
			after = events[i].Seq
		}
	}
}

// Fault is a misbehaviour, as POST /v1/faults takes it.
type Fault struct {
	Kind       string `json:"kind"`
	Identifier string `json:"identifier,omitempty"`
	Match      string `json:"match,omitempty"`
	Count      int    `json:"count,omitempty"`
	Code       int    `json:"code,omitempty"`
	Reason     string `json:"reason,omitempty"`
	DelayMS    int64  `json:"delay_ms,omitempty"`
	Expire     int64  `json:"expire,omitempty"` // seconds
}

// AddFault makes the gatekeeper misbehave and returns the fault's id.
func (g *Gatekeeper) AddFault(ctx context.Context, f Fault) (string, error) {
	var out struct {
		ID json.RawMessage `json:"id"`
	}
	err := g.Call(ctx, http.MethodPost, "/v1/faults", f, &out)
	return strings.Trim(string(out.ID), `"`), err
}

// RemoveFault ends a misbehaviour.
func (g *Gatekeeper) RemoveFault(ctx context.Context, id string) error {
	return g.Call(ctx, http.MethodDelete, "/v1/faults/"+url.PathEscape(id), nil, nil)
}

// Complaints are what partners did that the protocol does not allow.
func (g *Gatekeeper) Complaints(ctx context.Context) ([]json.RawMessage, error) {
	var out struct {
		Complaints []json.RawMessage `json:"complaints"`
	}
	err := g.Call(ctx, http.MethodGet, "/v1/complaints", nil, &out)
	return out.Complaints, err
}

// Partner is a partner user, as the control API shows one.
type Partner struct {
	Identifier string `json:"identifier"`
	Integrator int    `json:"integrator"`
	JID        string `json:"jid"`
	Connected  bool   `json:"connected"`
	Queued     int    `json:"queued"`
	Prekeys    int    `json:"prekeys"`
	Logins     int64  `json:"logins"` // since the gatekeeper was started
}

// Partners lists the enlisted partner users.
func (g *Gatekeeper) Partners(ctx context.Context) ([]Partner, error) {
	var out struct {
		Partners []Partner `json:"partners"`
	}
	err := g.Call(ctx, http.MethodGet, "/v1/partners", nil, &out)
	return out.Partners, err
}
