package push

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

const body = `{"to":"` + whom + `"}`

func TestAGoodPushWakesAndIsAnsweredWithNothing(t *testing.T) {
	g := newGate(t)
	for name, c := range map[string]struct{ authorization, body, want string }{
		"as the paper has it":               {"Bearer " + g.good(), body, whom},
		"with another key of the set":       {"Bearer " + sign(keys()["two"], header("two"), claims(g.now)), body, whom},
		"with a scheme in small letters":    {"bearer " + g.good(), body, whom},
		"with members that we do not know":  {"Bearer " + g.good(), `{"from":{"to":"x"},"to":"` + whom + `","n":[1,null]}`, whom},
		"for somebody who does not exist":   {"Bearer " + g.good(), `{"to":"nobody"}`, "nobody"},
		"with white space around the body":  {"Bearer " + g.good(), " \n" + body + "\r\n", whom},
		"with a name of a hundred letters":  {"Bearer " + g.good(), `{"to":"` + strings.Repeat("ß", 100) + `"}`, strings.Repeat("ß", 100)},
		"with an escape in the name":        {"Bearer " + g.good(), `{"to":"\u0061nna"}`, "anna"},
		"within the leeway after its end":   {"Bearer " + sign(keys()["one"], header("one"), claims(g.now.Add(-3720*time.Second))), body, whom},
		"within the leeway before its time": {"Bearer " + sign(keys()["one"], header("one"), claims(g.now.Add(120*time.Second))), body, whom},
	} {
		t.Run(name, func(t *testing.T) {
			before := g.wakes()
			w := g.post(c.authorization, c.body)
			if w.Code != http.StatusOK || w.Body.Len() != 0 {
				t.Errorf("status %d with %d bytes, want 200 with none", w.Code, w.Body.Len())
			}
			if g.wakes() != before+1 || g.woken[before] != "whatsapp "+c.want {
				t.Errorf("woken: %q", g.woken[before:])
			}
		})
	}
	if n := g.fetches.Load(); n != 1 {
		t.Errorf("%d fetches of the keys, want 1", n)
	}
}

func TestSignedPushesWithABadBodyAreRefused(t *testing.T) {
	g := newGate(t)
	for name, text := range map[string]string{
		"nothing": "", "no object": `"anna"`, "an array": `["anna"]`, "null": "null", "no to": `{}`, "another case": `{"To":"anna"}`,
		"an empty name": `{"to":""}`, "no string": `{"to":7}`, "to null": `{"to":null}`, "an object": `{"to":{}}`,
		"to twice": `{"to":"anna","to":"ben"}`, "another member twice": `{"a":1,"to":"anna","a":2}`, "more behind it": body + body,
		"broken off": `{"to":"anna"`, "broken off in the name": `{"to":"an`, "a comma too many": `{"to":"anna",}`,
		"no JSON": "to=anna", "not UTF-8": "{\"to\":\"an\xffna\"}", "101 letters": `{"to":"` + strings.Repeat("a", 101) + `"}`,
		"too long": `{"pad":"` + strings.Repeat("a", MaxBody) + `","to":"anna"}`, "deep": strings.Repeat(`{"a":`, 800) + "1" + strings.Repeat("}", 800),
	} {
		t.Run(name, func(t *testing.T) {
			if w := g.post("Bearer "+g.good(), text); w.Code != http.StatusBadRequest || w.Body.Len() != 0 {
				t.Errorf("status %d with %d bytes, want 400 with none", w.Code, w.Body.Len())
			}
		})
	}
	if g.wakes() != 0 {
		t.Errorf("woken: %q", g.woken)
	}
}

func TestOtherMethodsAreNotPushes(t *testing.T) {
	g := newGate(t)
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "post"} {
		r := httptest.NewRequest(method, Path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+g.good())
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "POST" {
			t.Errorf("%s: status %d", method, w.Code)
		}
	}
	if g.wakes() != 0 {
		t.Error("something was woken")
	}
}

// TestTheBodyOfAPushThatNobodySignedIsNotRead: a sender who cannot sign does not get us to read what it sends.
func TestTheBodyOfAPushThatNobodySignedIsNotRead(t *testing.T) {
	g := newGate(t)
	read := &watched{Reader: strings.NewReader(body)}
	r := httptest.NewRequest(http.MethodPost, Path, read)
	r.Header.Set("Authorization", "Bearer "+sign(keys()["unpublished"], header("one"), claims(g.now)))
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized || read.read {
		t.Errorf("status %d, body read: %v", w.Code, read.read)
	}
}

type watched struct {
	io.Reader
	read bool
}

func (w *watched) Read(p []byte) (int, error) {
	w.read = true
	return w.Reader.Read(p)
}

// TestKeysThatAreNotKnownAreLookedForOnceASecond: a thousand tokens with key ids of the sender's own making cost the
// gatekeeper one request, and good ones are taken meanwhile.
func TestKeysThatAreNotKnownAreLookedForOnceASecond(t *testing.T) {
	g := newGate(t)
	if w := g.post("Bearer "+g.good(), body); w.Code != http.StatusOK {
		t.Fatalf("status %d", w.Code)
	}
	var all sync.WaitGroup
	for n := range 1000 {
		bad := sign(keys()["unpublished"], header(fmt.Sprint("made-up-", n)), claims(g.now))
		all.Go(func() {
			if w := g.post("Bearer "+bad, body); w.Code != http.StatusUnauthorized && w.Code != http.StatusServiceUnavailable {
				t.Errorf("status %d", w.Code)
			}
		})
	}
	all.Wait()
	if n := g.fetches.Load(); n > 2 {
		t.Errorf("%d fetches of the keys, want 2 at most", n)
	}
	if w := g.post("Bearer "+g.good(), body); w.Code != http.StatusOK {
		t.Errorf("a good push after them: status %d", w.Code)
	}
}

// TestAGoodPushDoesNotWaitBehindForgedOnesWhileTheKeysAreSlow: the senders' key server hangs, and more forged pushes wait for it
// than may be looked at at once.
func TestAGoodPushDoesNotWaitBehindForgedOnesWhileTheKeysAreSlow(t *testing.T) {
	g := newGate(t)
	if w := g.post("Bearer "+g.good(), body); w.Code != http.StatusOK {
		t.Fatalf("status %d", w.Code)
	}
	g.now = g.now.Add(2 * time.Second) // another fetch is allowed
	g.slow = make(chan struct{})
	forged := sign(keys()["unpublished"], header("made-up"), claims(g.now))
	var all sync.WaitGroup
	for range 3 * atOnce {
		all.Go(func() { g.post("Bearer "+forged, body) })
	}
	<-g.asked
	<-g.asked // the first of them waits for the server
	for n := range 50 {
		if w := g.post("Bearer "+g.good(), body); w.Code != http.StatusOK && w.Code != http.StatusServiceUnavailable {
			t.Errorf("good push %d: status %d", n, w.Code)
		}
	}
	if g.wakes() < 2 {
		t.Error("no good push came through while forged ones waited for the keys")
	}
	close(g.slow)
	all.Wait()
	c := g.Counts()
	if total := c.Good + c.Refused + c.Unchecked; total != 1+3*atOnce+50 {
		t.Errorf("%d pushes counted: %+v", total, c)
	}
}

func TestWithoutTheSendersKeysAPushIsToComeLater(t *testing.T) {
	h, err := New(Config{Base: base, Senders: []Sender{{"whatsapp", "WHATSAPP", "http://127.0.0.1:1/keys"}}, Wake: func(string, string, http.Header) { t.Error("woken") }})
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{Handler: h, now: time.Now()}
	if w := g.post("Bearer "+g.good(), body); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("status %d", w.Code)
	}
	if h.Counts().Unchecked != 1 {
		t.Errorf("%+v", h.Counts())
	}
}

func TestABaseThatIsNoURLIsRefused(t *testing.T) {
	for _, bad := range []string{"", "bridge.test", "https://", "://"} {
		if _, err := New(Config{Base: bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
