package parts_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"postern/bridge/parts"
	"postern/bridge/sandbox"
)

// startGatekeeper runs a sandbox in this process.
func startGatekeeper(t *testing.T) *parts.Gatekeeper {
	t.Helper()
	s, err := sandbox.New(sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	g, err := parts.UseGatekeeper(t.Context(), s.ControlURL())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// refusedWith says whether err is the control API's, with that status and a sentence that has the words.
func refusedWith(err error, status int, words string) bool {
	var e *parts.ControlError
	return errors.As(err, &e) && e.Status == status && strings.Contains(e.Message, words)
}

func TestTheGatekeeperKnowsEveryFieldOfAMessage(t *testing.T) {
	g := startGatekeeper(t)
	var c parts.Content
	v := reflect.ValueOf(&c).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Float64:
			f.SetFloat(1)
		case reflect.Int:
			f.SetInt(1)
		case reflect.Uint32:
			f.SetUint(1)
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		default:
			t.Fatalf("a field of kind %s", f.Kind())
		}
	}
	if _, err := g.Send(t.Context(), "+4999", c); !refusedWith(err, 404, "WhatsApp user") {
		t.Errorf("a message with every field: %v", err)
	}
	for name, err := range map[string]error{
		"typing": g.Typing(t.Context(), "+4999", "x", "composing", true),
		"read":   g.Read(t.Context(), "+4999", "x", true, "a", "b"),
		"block":  g.Block(t.Context(), "+4999", "x", true),
		"rename": g.Rename(t.Context(), "+4999", "x"),
	} {
		if !refusedWith(err, 404, "WhatsApp user") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFilesAreStreamedToAndFromTheGatekeeper(t *testing.T) {
	g := startGatekeeper(t)
	if _, err := g.AddUser(t.Context(), parts.Phone{Phone: "+4915100000001", OptedIn: true}); err != nil {
		t.Fatal(err)
	}
	name, err := g.Upload(t.Context(), strings.NewReader("a file"))
	if err != nil || name == "" {
		t.Fatalf("upload %q: %v", name, err)
	}
	var out bytes.Buffer
	if _, err := g.Media(t.Context(), "+4915100000001", "odd/id?", &out); !refusedWith(err, 404, `"odd/id?"`) {
		t.Errorf("media of no message: %v", err)
	}
	if _, err := g.Thumbnail(t.Context(), "+4999", "X", &out); !refusedWith(err, 404, "WhatsApp user") {
		t.Errorf("a thumbnail of nobody's: %v", err)
	}
}

func TestMediaOfAnEventIsADescriptionOrAWord(t *testing.T) {
	var e parts.PhoneEvent
	if err := json.Unmarshal([]byte(`{"kind": "typing", "state": "composing", "media": "audio"}`), &e); err != nil || e.Media.Typing != "audio" {
		t.Errorf("%+v, %v", e.Media, err)
	}
	if err := json.Unmarshal([]byte(`{"kind": "message", "media": {"kind": "image", "bytes": 5, "error": "404"}}`), &e); err != nil || e.Media.Kind != "image" || e.Media.Bytes != 5 || e.Media.Error != "404" {
		t.Errorf("%+v, %v", e.Media, err)
	}
}
