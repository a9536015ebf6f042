package canary_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/bridge/e2e/canary"
)

const said = "Grüße, der Kanarienvogel & 1/2 \"Zitat\""

var key = []byte{0xfa, 0x1c, 0x00, 0x9d, 0x33, 0x5e, 0x71, 0x88, 0xc4, 0xd2, 0x0f, 0x6b, 0xa0, 0x11, 0x52, 0xee, 0xbe, 0x07}

func searching() *canary.Search {
	s := &canary.Search{}
	s.Text("what was said", said)
	s.Key("the key", key)
	s.Text("a code", "73510264")
	return s
}

func TestAMarkIsFoundInEveryFormThatALineMayHave(t *testing.T) {
	s := searching()
	for form, line := range map[string]string{
		"plain": said, "in capitals": strings.ToUpper("kanarienvogel & 1/2") + strings.ToUpper(said), "quoted": strconv.Quote(said),
		"in JSON":        `{"error":"reading Grüße, der Kanarienvogel \u0026 1/2 \"Zitat\": failed"}`,
		"in a parameter": "?q=" + url.QueryEscape(said), "in a path": "/x/" + url.PathEscape(said), "in hex": hex.EncodeToString([]byte(said)),
		"in base64": base64.StdEncoding.EncodeToString([]byte(said)), "in base64 behind something": base64.StdEncoding.EncodeToString([]byte("a" + said)),
		"in base64 behind more": base64.RawURLEncoding.EncodeToString([]byte("ab" + said)), "as numbers": fmt.Sprintf("%d", []byte(said)),
		"a key in hex": hex.EncodeToString(key), "a key in capitals": strings.ToUpper(hex.EncodeToString(key)),
		"a key in base64": base64.StdEncoding.EncodeToString(key), "a key in base64 within more": base64.URLEncoding.EncodeToString(append([]byte{5}, key...)),
		"a key as numbers": fmt.Sprintf("%d", key), "a key in a trace": "main.f({0xfa, 0x1c, 0x0, 0x9d, 0x33, ...})", "a code": `"code":"73510264"`,
	} {
		log := []byte("one line\nbefore " + line + " behind\nanother line\n")
		if found := s.Known(log); len(found) == 0 {
			t.Errorf("%s: not found in %s", form, log)
		} else if strings.Contains(found[0].Line, "another line") {
			t.Errorf("%s: shown is %s", form, found[0].Line)
		}
	}
}

func TestWhatLooksLikeAPersonOrATokenIsFoundWhoeverItBelongsTo(t *testing.T) {
	for form, line := range map[string]string{
		"a token": "eyJhbGciOiJSUzI1NiJ9", "an access token": "syt_YWxpY2U_abcdef", "a Matrix ID": "@alice:example.org", "a Matrix ID in a URL": "/profile/%40alice%3Aexample.org",
		"an e-mail address": "alice@example.org", "an IPv4 address": "10.0.0.17", "an IPv6 address": "[2001:db8::17]:443", "an address on the web": "http://example",
		"the path of a file": "/v/t62.7118-24/1234", "an interop address": "7-108536@interop", "a phone number": "+4915228100001",
	} {
		found := canary.Forms([]byte("{\"message\":\"about " + line + " behind\"}\n"))
		if !strings.Contains(fmt.Sprint(found), form+" is in") {
			t.Errorf("%s: found is %v", form, found)
		}
	}
}

func TestWhatMayBeInALogIsNotFound(t *testing.T) {
	log := []byte(`{"level":"trace","account":"c2k4m6p8q0s2u4w6","event_id":"$abcDEF-123_xyz","room_id":"!aBcDeF","seq":1735102647,"time":"2026-11-22T01:02:03.735Z"}
main.f(0xc000123456, {0xfa, 0x1c})
	/mod/example.org/websocket@v1.8.14/conn.go:123 +0x1f
`)
	if found := append(searching().Known(log), canary.Forms(log)...); len(found) > 0 {
		t.Errorf("found: %v", found)
	}
}

func TestWhatTheProgramSaysOfItselfIsNobodysSecret(t *testing.T) {
	s := &canary.Search{}
	s.Text("a text", "from the phone")
	s.Text("another", "from the heart")
	found := s.Known([]byte("Took a message from the phone\nTook a message from the heart\n"))
	if len(found) != 2 {
		t.Fatalf("found: %v", found)
	}
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("…Took a message From the phone…"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is known
		left, err := canary.OwnWords(slices.Clone(found), program)
		if err != nil || len(left) != 1 || left[0].What != "another" {
			t.Errorf("left: %v, %v", left, err)
		}
	}
	s.Text("a third", "unheard of")
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	if _, err := canary.OwnWords(s.Known([]byte("unheard of")), program); err == nil {
		t.Error("a program that cannot be read has no words")
	}
}

// TestALongLogIsSearchedInAMoment: the end of each world of the end-to-end tests waits for it. The bound is far above what it takes.
func TestALongLogIsSearchedInAMoment(t *testing.T) {
	s := searching()
	for i := range 500 {
		s.Text("a text", fmt.Sprintf("kanarienvogel number %d in a long text of somebody", i))
	}
	line := `{"level":"trace","account":"c2k4m6p8q0s2u4w6","event_id":"$abcDEF-123_xyz","room_id":"!aBcDeF","seq":1735102647,"time":"2026-11-22T01:02:03.735Z","message":"Delivered a message"}` + "\n"
	log := bytes.Repeat([]byte(line), 8<<20/len(line))
	begun := time.Now()
	found := append(s.Known(log), canary.Forms(log)...)
	t.Logf("%v in %d MiB: %s", s.Kinds(), len(log)>>20, time.Since(begun))
	if len(found) > 0 {
		t.Errorf("found: %v", found)
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
}
