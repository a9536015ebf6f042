package issuer

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var b64 = base64.RawURLEncoding

// testKeys are made once for all tests.
var testKeys = sync.OnceValue(func() []*key {
	list := make([]*key, 3)
	for n := range list {
		var err error
		if list[n], err = generateKey(time.Unix(1_700_000_000, 0)); err != nil {
			panic(err)
		}
	}
	return list
})

// rawToken signs exactly these bytes, as a library with checks of its own would not.
func rawToken(private *rsa.PrivateKey, header, claims string) string {
	signed := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(claims))
	return signed + "." + b64.EncodeToString(signature(private, signed))
}

func signature(private *rsa.PrivateKey, signed string) []byte {
	sum := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return sig
}

// readyStore is a store with a signing and a next key in it, for tests that need not see them made.
func readyStore() *memStore {
	signs, next := *testKeys()[0], *testKeys()[1]
	signs.SignsFrom = signs.Published
	document, err := json.Marshal(keySet{Keys: []*key{&signs, &next}})
	if err != nil {
		panic(err)
	}
	return &memStore{document: document, version: 1}
}

// memStore is a KeyStore in memory.
type memStore struct {
	mu       sync.Mutex
	document []byte
	version  int
	fail     error
}

func (s *memStore) Load(context.Context) ([]byte, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.document, s.version, s.fail
}

func (s *memStore) Save(_ context.Context, document []byte, oldVersion int) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return false, s.fail
	}
	if s.version != oldVersion {
		return false, nil
	}
	s.document, s.version = document, oldVersion+1
	return true, nil
}

// keyServer publishes a key set that tests change, and counts requests.
type keyServer struct {
	*httptest.Server
	requests atomic.Int64
	answer   atomic.Pointer[http.HandlerFunc]
}

func newKeyServer(t testing.TB, keys ...*key) *keyServer {
	s := &keyServer{}
	s.publish(keys...)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		(*s.answer.Load())(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) serve(fn http.HandlerFunc) { s.answer.Store(&fn) }

func (s *keyServer) publish(keys ...*key) {
	set := publishedKeys{Keys: []publishedKey{}}
	for _, k := range keys {
		set.Keys = append(set.Keys, publishedKey{KeyType: "RSA", Algorithm: "RS256", Use: "sig", ID: k.ID, Modulus: k.Modulus, Exponent: k.Exponent})
	}
	body, err := json.Marshal(set)
	if err != nil {
		panic(err)
	}
	s.text(string(body))
}

func (s *keyServer) text(body string) {
	s.serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })
}

// clock is a clock that tests move.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(time.Unix(1_800_000_000, 0).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }
