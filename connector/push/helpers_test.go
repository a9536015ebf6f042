package push

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	base   = "https://bridge.test:8443/postern"
	origin = "https://bridge.test:8443"
	whom   = "anna@example.org"
)

var b64 = base64.RawURLEncoding

// keys are made once: two that are published, one that is not.
var keys = sync.OnceValue(func() map[string]*rsa.PrivateKey {
	made := map[string]*rsa.PrivateKey{}
	for _, id := range []string{"one", "two", "unpublished"} {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		made[id] = k
	}
	return made
})

// sign makes a token by hand: no JOSE library is asked what it thinks of it.
func sign(key *rsa.PrivateKey, header, claims string) string {
	text := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(claims))
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return text + "." + b64.EncodeToString(signature)
}

func header(kid string) string { return `{"alg":"RS256","typ":"JWT","kid":"` + kid + `"}` }

func claims(now time.Time) string {
	return fmt.Sprintf(`{"iss":"WHATSAPP","aud":"%s","iat":%d,"exp":%d}`, origin, now.Unix(), now.Unix()+3600)
}

// gate is a Handler with its senders' key server, and what it was woken for.
type gate struct {
	*Handler
	now     time.Time
	fetches atomic.Int64
	slow    chan struct{} // if not nil, the key server answers when it is closed
	asked   chan struct{} // has one for each request of the key server

	mu    sync.Mutex
	woken []string
}

func newGate(t testing.TB) *gate {
	g := &gate{now: time.Unix(1_800_000_000, 0), asked: make(chan struct{}, 1000)}
	type jwk map[string]string
	var set struct {
		Keys []jwk `json:"keys"`
	}
	for _, id := range []string{"one", "two"} {
		public := keys()[id].PublicKey
		set.Keys = append(set.Keys, jwk{
			"kty": "RSA", "alg": "RS256", "use": "sig", "kid": id,
			"n": b64.EncodeToString(public.N.Bytes()), "e": b64.EncodeToString(big.NewInt(int64(public.E)).Bytes()),
		})
	}
	document, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.fetches.Add(1)
		g.asked <- struct{}{}
		if g.slow != nil {
			<-g.slow
		}
		if strings.HasPrefix(r.URL.Path, "/other") {
			_, _ = w.Write([]byte(`{"keys":[]}`))
			return
		}
		_, _ = w.Write(document)
	}))
	t.Cleanup(server.Close)
	g.Handler, err = New(Config{
		Base: base, Now: func() time.Time { return g.now },
		Senders: []Sender{{"whatsapp", "WHATSAPP", server.URL}, {"messenger", "MESSENGER", server.URL + "/other"}},
		Wake: func(sender, identifier string, _ http.Header) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.woken = append(g.woken, sender+" "+identifier)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *gate) wakes() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.woken)
}

// post sends a push with this Authorization header, none if it is empty.
func (g *gate) post(authorization, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, Path, strings.NewReader(body))
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return w
}

func (g *gate) good() string { return sign(keys()["one"], header("one"), claims(g.now)) }
