package issuer

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const testBase = "https://bridge.test:8443"

func newIssuer(t testing.TB, store KeyStore, now func() time.Time) *Issuer {
	t.Helper()
	i, err := New(context.Background(), Config{Base: testBase, Store: store, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func get(i *Issuer, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for n := 0; n+1 < len(header); n += 2 {
		r.Header.Set(header[n], header[n+1])
	}
	w := httptest.NewRecorder()
	i.Handler().ServeHTTP(w, r)
	return w
}

// publishedIDs are the key ids in the served key set, in order.
func publishedIDs(t testing.TB, i *Issuer) []string {
	t.Helper()
	var set publishedKeys
	if err := json.Unmarshal(get(i, PathJWKS).Body.Bytes(), &set); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, k := range set.Keys {
		ids = append(ids, k.ID)
	}
	return ids
}

func header(t testing.TB, token string) map[string]string {
	t.Helper()
	raw, err := b64.DecodeString(strings.Split(token, ".")[0])
	if err != nil {
		t.Fatal(err)
	}
	var h map[string]string
	if err = json.Unmarshal(raw, &h); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestATokenSaysWhatTheProfileAsksAndVerifiesAgainstThePublishedKeys(t *testing.T) {
	clock := newClock()
	i := newIssuer(t, readyStore(), clock.now)
	token, err := i.Token(t.Context(), "ünal@mail.test", "WHATSAPP")
	if err != nil {
		t.Fatal(err)
	}
	if h := header(t, token); len(h) != 3 || h["alg"] != "RS256" || h["typ"] != "JWT" || h["kid"] != publishedIDs(t, i)[0] {
		t.Errorf("header %v", h)
	}
	var claims map[string]any
	raw, err := b64.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	if err = json.Unmarshal(raw, &claims); err != nil {
		t.Fatal(err)
	}
	now := float64(clock.now().Unix())
	if len(claims) != 7 || claims["iss"] != testBase || claims["sub"] != "ünal@mail.test" || claims["aud"] != "WHATSAPP" ||
		claims["iat"] != claims["nbf"] || claims["iat"].(float64) > now || claims["exp"].(float64) < now+300 ||
		claims["exp"].(float64)-claims["iat"].(float64) > 3600 || len(claims["jti"].(string)) < 22 {
		t.Errorf("claims %v", claims)
	}
	again, err := i.Token(t.Context(), "ünal@mail.test", "WHATSAPP")
	if err != nil || again == token {
		t.Errorf("two tokens are one: %v", err)
	}
	server := httptest.NewServer(i.Handler())
	defer server.Close()
	for _, apart := range []time.Duration{-5 * time.Minute, 0, 5 * time.Minute} { // two clocks
		v := NewVerifier(VerifierConfig{
			JWKSURL: server.URL + PathJWKS, Issuer: testBase, Audience: "WHATSAPP", RequireSubject: true,
			Now: func() time.Time { return clock.now().Add(apart) },
		})
		if got, err := v.Verify(t.Context(), token); err != nil || got.Subject != "ünal@mail.test" {
			t.Errorf("by a clock that is %s off: %v, %v", apart, got, err)
		}
	}
}

func TestWhatCannotBeATokenIsNotMade(t *testing.T) {
	i := newIssuer(t, readyStore(), nil)
	for name, c := range map[string]struct {
		claim, subject, audience string
		want                     error
	}{
		"no identifier":         {"sub", "", "A", ErrSubject},
		"a long one":            {"sub", strings.Repeat("x", 101), "A", ErrSubject},
		"one with a line end":   {"sub", "a\nb", "A", ErrSubject},
		"one that is not UTF-8": {"sub", "a\xff", "A", ErrSubject},
		"no audience":           {"sub", "x", "", ErrAudience},
		"no claim":              {"", "x", "A", ErrClaim},
		"a claim that is taken": {"exp", "x", "A", ErrClaim},
	} {
		if _, err := i.TokenWithClaim(t.Context(), c.claim, c.subject, c.audience); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := i.Token(t.Context(), "x", strings.Repeat("A", 5000)); err == nil {
		t.Error("a token longer than 4096 bytes was made")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.Token(ctx, "x", "A"); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
	token, err := i.TokenWithClaim(t.Context(), "email", "x@y", "A")
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := b64.DecodeString(strings.Split(token, ".")[1])
	if text := string(raw); !strings.Contains(text, `"email":"x@y"`) || strings.Contains(text, `"sub"`) {
		t.Errorf("claims %s", text)
	}
}

func TestOnlyAPlainPublicBaseIsTaken(t *testing.T) {
	store := readyStore()
	for base, want := range map[string]bool{
		"https://a.test": true, "https://a.test:8443": true, "https://a.test/sub/path": true, "http://127.0.0.1:1": true,
		"": false, "https://a.test/": false, "https://a.test/x/": false, "a.test": false, "ftp://a.test": false, "https://": false,
		"https://u:p@a.test": false, "https://a.test?x": false, "https://a.test#x": false, "https://a test": false, "//a.test": false,
	} {
		_, err := New(t.Context(), Config{Base: base, Store: store})
		if (err == nil) != want || (err != nil && !errors.Is(err, ErrBase)) {
			t.Errorf("%q: %v", base, err)
		}
	}
	if _, err := New(t.Context(), Config{Base: testBase, Store: store, RotateEvery: time.Hour}); err == nil {
		t.Error("keys that sign for an hour were accepted")
	}
}

func TestKeysOutliveAndPrecedeTheirTokensByADay(t *testing.T) {
	clock := newClock()
	store := &memStore{}
	i := newIssuer(t, store, clock.now)
	signs := func() string {
		t.Helper()
		token, err := i.Token(t.Context(), "x", "A")
		if err != nil {
			t.Fatal(err)
		}
		return header(t, token)["kid"]
	}
	ids := publishedIDs(t, i)
	if len(ids) != 2 || signs() != ids[0] {
		t.Fatalf("at first %v are published", ids)
	}
	first, second := ids[0], ids[1]
	var early *TooEarlyError
	clock.advance(24*time.Hour - time.Second)
	if err := i.Rotate(t.Context()); !errors.As(err, &early) || !early.At.Equal(clock.now().Add(time.Second)) {
		t.Errorf("rotating too early: %v", err)
	}
	clock.advance(time.Second)
	last, err := i.Token(t.Context(), "x", "A")
	if err != nil {
		t.Fatal(err)
	}
	if err = i.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids = publishedIDs(t, i)
	if len(ids) != 3 || ids[0] != second || ids[2] != first || signs() != second {
		t.Errorf("after rotation %v are published, %s signs", ids, signs())
	}
	// The new next key is a day from signing, too.
	if err = i.Rotate(t.Context()); !errors.As(err, &early) {
		t.Errorf("rotating twice: %v", err)
	}
	raw, _ := b64.DecodeString(strings.Split(last, ".")[1])
	var claims struct{ Exp int64 }
	if err = json.Unmarshal(raw, &claims); err != nil {
		t.Fatal(err)
	}
	clock.advance(time.Unix(claims.Exp, 0).Add(24 * time.Hour).Sub(clock.now()))
	if ids = publishedIDs(t, i); len(ids) != 3 {
		t.Errorf("a day after its last token has expired, the old key is gone: %v", ids)
	}
	clock.advance(time.Hour)
	if ids = publishedIDs(t, i); len(ids) != 2 || ids[0] != second {
		t.Errorf("the old key is still there: %v", ids)
	}
	// A restart finds the same keys, and forgets the old one.
	i = newIssuer(t, store, clock.now)
	if again := publishedIDs(t, i); len(again) != 2 || again[0] != ids[0] || again[1] != ids[1] {
		t.Errorf("after a restart %v, before %v", again, ids)
	}
	if strings.Contains(string(store.document), first) {
		t.Error("the old key is still stored")
	}
}

func TestAKeyThatHasStoppedSigningHasNoPrivatePartAnyMore(t *testing.T) {
	clock := newClock()
	store := &memStore{}
	i := newIssuer(t, store, clock.now)
	clock.advance(publishBefore)
	if err := i.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var stored keySet
	if err := json.Unmarshal(store.document, &stored); err != nil {
		t.Fatal(err)
	}
	for _, k := range stored.Keys {
		if (k.Retired != 0) != (len(k.PKCS8) == 0) {
			t.Errorf("retired %d, private part of %d bytes", k.Retired, len(k.PKCS8))
		}
	}
}

func TestRunRotatesWhenTheKeyHasServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memStore{}
		i, err := New(t.Context(), Config{Base: testBase, Store: store, RotateEvery: 48 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		first := publishedIDs(t, i)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- i.Run(ctx) }()
		time.Sleep(48*time.Hour - time.Second)
		synctest.Wait()
		if now := publishedIDs(t, i); now[0] != first[0] {
			t.Errorf("rotated too early: %v", now)
		}
		store.mu.Lock()
		store.fail = errors.New("disk full")
		store.mu.Unlock()
		time.Sleep(time.Hour)
		synctest.Wait()
		if now := publishedIDs(t, i); now[0] != first[0] {
			t.Errorf("rotated without saving: %v", now)
		}
		store.mu.Lock()
		store.fail = nil
		store.mu.Unlock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if now := publishedIDs(t, i); now[0] != first[1] || len(now) != 3 {
			t.Errorf("after a failure it was not tried again: %v", now)
		}
		time.Sleep(6 * 24 * time.Hour)
		synctest.Wait()
		if now := publishedIDs(t, i); len(now) > 3 || now[0] == first[1] {
			t.Errorf("days later: %v", now)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestTwoIssuersOverOneStoreAgree(t *testing.T) {
	clock := newClock()
	store := &memStore{}
	a, b := newIssuer(t, store, clock.now), newIssuer(t, store, clock.now)
	if x, y := publishedIDs(t, a), publishedIDs(t, b); x[0] != y[0] || x[1] != y[1] {
		t.Errorf("%v and %v", x, y)
	}
	clock.advance(publishBefore)
	if err := a.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var early *TooEarlyError
	if err := b.Rotate(t.Context()); !errors.As(err, &early) {
		t.Errorf("the second rotated once more: %v", err)
	}
	clock.advance(publishBefore)
	if err := b.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedKeysAreRefusedAndNotQuoted(t *testing.T) {
	store := readyStore()
	good := string(store.document)
	var set keySet
	if err := json.Unmarshal(store.document, &set); err != nil {
		t.Fatal(err)
	}
	other := testKeys()[2]
	swapped := strings.Replace(good, jsonText(t, set.Keys[0].PKCS8), jsonText(t, other.PKCS8), 1)
	for name, document := range map[string]string{
		"not JSON": good[:len(good)/2], "another kid": strings.Replace(good, set.Keys[0].ID, other.ID, 1),
		"another modulus": strings.Replace(good, set.Keys[0].Modulus, other.Modulus, 1), "another private key": swapped,
		"no private key": strings.Replace(good, jsonText(t, set.Keys[0].PKCS8), `""`, 1), "a null": `{"keys":[null]}`,
	} {
		if document == good {
			t.Fatalf("%s: nothing changed", name)
		}
		_, err := New(t.Context(), Config{Base: testBase, Store: &memStore{document: []byte(document), version: 1}})
		if err == nil || strings.Contains(err.Error(), set.Keys[0].Modulus[:16]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(t.Context(), Config{Base: testBase, Store: &memStore{fail: errors.New("gone")}}); err == nil {
		t.Error("a store that fails was accepted")
	}
}

func jsonText(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheKeySetAndTheDiscoveryDocumentAreServedAsPublished(t *testing.T) {
	i, err := New(t.Context(), Config{Base: testBase + "/below", Store: readyStore()})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{PathJWKS, "/below" + PathJWKS} {
		w := get(i, path)
		h := w.Result().Header
		if w.Code != 200 || h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != cacheControl ||
			h.Get("X-Content-Type-Options") != "nosniff" || h.Get("ETag") == "" {
			t.Errorf("%s: %d %v", path, w.Code, h)
		}
		if again := get(i, path, "If-None-Match", h.Get("ETag")); again.Code != http.StatusNotModified || again.Body.Len() != 0 {
			t.Errorf("with its validator: %d", again.Code)
		}
	}
	body := get(i, PathJWKS).Body.String()
	var set jose.JSONWebKeySet
	if err = json.Unmarshal([]byte(body), &set); err != nil || len(set.Keys) != 2 {
		t.Fatalf("%d keys, %v", len(set.Keys), err)
	}
	for _, k := range set.Keys {
		thumbprint, err := k.Thumbprint(crypto.SHA256)
		if !k.Valid() || !k.IsPublic() || k.Algorithm != "RS256" || k.Use != "sig" || err != nil || k.KeyID != b64.EncodeToString(thumbprint) {
			t.Errorf("key %s: %v", k.KeyID, err)
		}
	}
	var members struct{ Keys []map[string]string }
	if err = json.Unmarshal([]byte(body), &members); err != nil || len(members.Keys[0]) != 6 {
		t.Errorf("a published key has the members %v, %v", members.Keys[0], err)
	}
	var doc map[string]any
	if err = json.Unmarshal(get(i, PathDiscovery).Body.Bytes(), &doc); err != nil || len(doc) != 5 ||
		doc["issuer"] != testBase+"/below" || doc["jwks_uri"] != testBase+"/below"+PathJWKS {
		t.Errorf("discovery %v, %v", doc, err)
	}
	for path, want := range map[string]int{"/": 404, PathJWKS + "/": 404, "/.well-known/": 404} {
		if w := get(i, path); w.Code != want {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	w := httptest.NewRecorder()
	i.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, PathJWKS, nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
	w = httptest.NewRecorder()
	i.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodHead, PathJWKS, nil))
	if w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("HEAD: %d, %d bytes", w.Code, w.Body.Len())
	}
}

func TestPublishedKeysAreSoundForOurOwnVerifier(t *testing.T) {
	i := newIssuer(t, &memStore{}, nil)
	known, err := parseKeySet(get(i, PathJWKS).Body.Bytes())
	if err != nil || len(known) != 2 {
		t.Fatalf("%d keys, %v", len(known), err)
	}
	for id, k := range known {
		if k.N.BitLen() != keyBits || k.E != 65537 || new(big.Int).Mod(k.N, big.NewInt(2)).Sign() == 0 {
			t.Errorf("key %s has %d bits", id, k.N.BitLen())
		}
	}
}

func BenchmarkToken(b *testing.B) {
	i := newIssuer(b, readyStore(), nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := i.Token(context.Background(), "user@mail.test", "WHATSAPP"); err != nil {
			b.Fatal(err)
		}
	}
}

// TestATokenIsMadeThoughTheClockWasSetBack: it is refused, and who is told so looks at the clocks. Without a token nobody would.
func TestATokenIsMadeThoughTheClockWasSetBack(t *testing.T) {
	clock := newClock()
	i := newIssuer(t, readyStore(), clock.now)
	clock.advance(-10 * 365 * 24 * time.Hour)
	if token, err := i.Token(t.Context(), "alice", testAudience); err != nil || token == "" {
		t.Errorf("got %d bytes (%v)", len(token), err)
	}
}
