package parts

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Content is what a WhatsApp user says to a partner user, as
// POST /v1/users/{phone}/messages takes it. Which fields count depends on Kind,
// which is text if empty; docs/SANDBOX.md says which.
type Content struct {
	To         string   `json:"to"`
	Integrator int      `json:"integrator,omitempty"`
	Kind       string   `json:"kind,omitempty"`
	Text       string   `json:"text,omitempty"`
	ReplyTo    string   `json:"reply_to,omitempty"` // id of a message
	Target     string   `json:"target,omitempty"`   // id of a message, of reactions, edits and revocations
	Emoji      string   `json:"emoji,omitempty"`    // empty takes a reaction back
	Latitude   float64  `json:"latitude,omitempty"`
	Longitude  float64  `json:"longitude,omitempty"`
	Name       string   `json:"name,omitempty"`
	VCard      string   `json:"vcard,omitempty"`
	Question   string   `json:"question,omitempty"`
	Options    []string `json:"options,omitempty"`
	Seconds    uint32   `json:"seconds,omitempty"` // of a recording, or of a timer
	Message    []byte   `json:"message,omitempty"` // a waE2E.Message, of kind raw
	Wrap       []string `json:"wrap,omitempty"`    // fields of waE2E.Message to wrap it in, the first innermost

	Data      []byte `json:"data,omitempty"`   // the file of a kind with media
	Upload    string `json:"upload,omitempty"` // or its name, from Upload
	Mimetype  string `json:"mimetype,omitempty"`
	FileName  string `json:"file_name,omitempty"`
	Caption   string `json:"caption,omitempty"`
	Width     uint32 `json:"width,omitempty"`
	Height    uint32 `json:"height,omitempty"`
	Waveform  []int  `json:"waveform,omitempty"`  // 0 to 100
	Thumbnail []byte `json:"thumbnail,omitempty"` // a JPEG
	Animated  bool   `json:"animated,omitempty"`
	ViewOnce  bool   `json:"view_once,omitempty"`
}

// Send makes a WhatsApp user send a message of any kind, and returns its id.
func (g *Gatekeeper) Send(ctx context.Context, phone string, c Content) (string, error) {
	var out struct {
		ID string `json:"id"`
	}
	err := g.Call(ctx, http.MethodPost, userPath(phone, "messages"), c, &out)
	return out.ID, err
}

func userPath(phone, what string) string {
	return "/v1/users/" + url.PathEscape(phone) + "/" + what
}

// Upload gives the gatekeeper a file to be sent by its name, which is returned.
// It is for files too large for Content.Data.
func (g *Gatekeeper) Upload(ctx context.Context, file io.Reader) (string, error) {
	resp, err := g.stream(ctx, http.MethodPost, "/v1/uploads", file)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var out struct {
		Upload string `json:"upload"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&out); err != nil {
		return "", fmt.Errorf("uploading a file: %w", err)
	}
	return out.Upload, nil
}

// Media writes the decrypted file of a message that a WhatsApp user has received
// to dst and returns its length in bytes. It is there when the message's event is.
func (g *Gatekeeper) Media(ctx context.Context, phone, id string, dst io.Writer) (int64, error) {
	return g.download(ctx, userPath(phone, "media/"+url.PathEscape(id)), dst)
}

// Thumbnail writes the small JPEG inside a message that a WhatsApp user has
// received to dst and returns its length in bytes.
func (g *Gatekeeper) Thumbnail(ctx context.Context, phone, id string, dst io.Writer) (int64, error) {
	return g.download(ctx, userPath(phone, "media/"+url.PathEscape(id)+"?thumbnail=1"), dst)
}

func (g *Gatekeeper) download(ctx context.Context, path string, dst io.Writer) (int64, error) {
	resp, err := g.stream(ctx, http.MethodGet, path, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(dst, resp.Body)
	if err != nil {
		return n, fmt.Errorf("reading media: %w", err)
	}
	return n, nil
}

// stream makes a request whose bodies are not JSON. The caller closes the answer's.
func (g *Gatekeeper) stream(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, g.Control+path, body)
	if err != nil {
		return nil, err
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
		return nil, controlError(resp.StatusCode, raw)
	}
	return resp, nil
}

// Typing makes a WhatsApp user start or stop writing to a partner user: state is
// composing or paused; voice says that it is a recording.
func (g *Gatekeeper) Typing(ctx context.Context, phone, to, state string, voice bool) error {
	in := map[string]any{"to": to, "state": state}
	if voice {
		in["media"] = "audio"
	}
	return g.Call(ctx, http.MethodPost, userPath(phone, "typing"), in, nil)
}

// Read makes a WhatsApp user see messages of a partner user, or hear them if
// played: one receipt for all of ids.
func (g *Gatekeeper) Read(ctx context.Context, phone, to string, played bool, ids ...string) error {
	in := map[string]any{"to": to, "ids": ids, "type": "read"}
	if played {
		in["type"] = "played"
	}
	return g.Call(ctx, http.MethodPost, userPath(phone, "read"), in, nil)
}

// Block makes a WhatsApp user block a partner user, or let that one in again.
func (g *Gatekeeper) Block(ctx context.Context, phone, to string, block bool) error {
	return g.Call(ctx, http.MethodPost, userPath(phone, "block"), map[string]any{"to": to, "block": block}, nil)
}

// Rename changes the name that a WhatsApp user's messages carry.
func (g *Gatekeeper) Rename(ctx context.Context, phone, name string) error {
	return g.Call(ctx, http.MethodPost, userPath(phone, "profile"), map[string]any{"name": name}, nil)
}

// PhoneMedia is the media of a message event. Error is why the phone has no
// file, empty if it has it. In a typing event only Typing is set.
type PhoneMedia struct {
	Kind       string `json:"kind"`
	Mimetype   string `json:"mimetype"`
	Bytes      int64  `json:"bytes"`  // of the plaintext
	SHA256     string `json:"sha256"` // of the plaintext, hex
	FileName   string `json:"file_name"`
	Seconds    int    `json:"seconds"`
	Width      int    `json:"width"`
	Height     int    `json:"height"`
	Waveform   []int  `json:"waveform"`
	Thumbnail  int    `json:"thumbnail"` // bytes of the JPEG, see Gatekeeper.Thumbnail
	DirectPath string `json:"direct_path"`
	Key        string `json:"media_key"`  // hex
	EncSHA256  string `json:"enc_sha256"` // of the encrypted file, hex
	Error      string `json:"error"`

	Typing string `json:"-"` // audio
}

// UnmarshalJSON reads a description, or the word of a typing event.
func (m *PhoneMedia) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &m.Typing)
	}
	type plain PhoneMedia
	return json.Unmarshal(b, (*plain)(m))
}

// PhoneReaction is the reaction in a message event; FromMe is as the reactor wrote it.
type PhoneReaction struct {
	Target string `json:"target"`
	FromMe bool   `json:"from_me"`
	Emoji  string `json:"emoji"`
}

// Answer lets a WhatsApp user answer the question whether a partner user may write to them: accepted or declined.
func (g *Gatekeeper) Answer(ctx context.Context, phone, to, answer string) error {
	return g.Call(ctx, http.MethodPost, userPath(phone, "answer"), map[string]any{"to": to, "answer": answer}, nil)
}

// OptIn lets a WhatsApp user switch chats with this partner on or off.
func (g *Gatekeeper) OptIn(ctx context.Context, phone string, in bool) error {
	return g.Call(ctx, http.MethodPost, userPath(phone, "opt"), map[string]any{"integrator": IntegratorID, "opted_in": in}, nil)
}
