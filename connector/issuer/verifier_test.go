package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func newTestVerifier(server *keyServer, clock *clock) *Verifier {
	return NewVerifier(VerifierConfig{JWKSURL: server.URL, Issuer: testIssuer, Audience: testAudience, Now: clock.now})
}

func TestGoodTokensAreAccepted(t *testing.T) {
	clock := newClock()
	k := testKeys()[0]
	v := newTestVerifier(newKeyServer(t, k), clock)
	now := clock.now().Unix()
	claims := func(aud string, iat, exp int64, more string) string {
		return fmt.Sprintf(`{"iss":"%s","aud":%s,"iat":%d,"exp":%d%s}`, testIssuer, aud, iat, exp, more)
	}
	one := `"` + testAudience + `"`
	for _, c := range []struct{ name, header, claims string }{
		{"an ordinary one", goodHeader(k), claims(one, now, now+600, "")},
		{"with the audience among others", goodHeader(k), claims(`["x",`+one+`]`, now, now+600, "")},
		{"with everything else there is", goodHeader(k), claims(one, now, now+600, `,"nbf":1,"jti":"x","sub":"+491","other":{"a":[1,{}]}`)},
		{"with spaces and a further header member", " { \"kid\" : \"" + k.ID + "\" , \"alg\":\"RS256\",\"typ\":\"JWT\",\"v\":1}\n", " " + claims(one, now, now+600, "") + "\n"},
		{"a life of 3600 s", goodHeader(k), claims(one, now, now+3600, "")},
		{"made by a clock 120 s ahead", goodHeader(k), claims(one, now+120, now+720, fmt.Sprintf(`,"nbf":%d`, now+120))},
		{"expired for 120 s", goodHeader(k), claims(one, now-720, now-120, "")},
		{"with fractions of seconds", goodHeader(k), fmt.Sprintf(`{"iss":"%s","aud":%s,"iat":%d.25,"exp":%d.75}`, testIssuer, one, now, now+600)},
		{"a sub of 100 characters", goodHeader(k), claims(one, now, now+600, `,"sub":"`+strings.Repeat("é", 100)+`"`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := v.Verify(t.Context(), rawToken(k.private, c.header, c.claims))
			if err != nil {
				t.Fatal(err)
			}
			if got.Issuer != testIssuer || got.Expires < now-120 || got.IssuedAt == 0 || len(got.Audience) == 0 {
				t.Errorf("claims %+v", got)
			}
		})
	}
	v.cfg.RequireSubject = true
	if _, err := v.Verify(t.Context(), rawToken(k.private, goodHeader(k), goodClaims(clock.now()))); !errors.Is(err, ErrInvalid) {
		t.Errorf("without the sub that is required: %v", err)
	}
}

func TestKeysAreFetchedAtMostOnceASecond(t *testing.T) {
	clock := newClock()
	keys := testKeys()
	server := newKeyServer(t, keys[0])
	v := newTestVerifier(server, clock)
	token := func(k *key) string { return rawToken(k.private, goodHeader(k), goodClaims(clock.now())) }
	verify := func(k *key, want error, fetches int64) {
		t.Helper()
		if _, err := v.Verify(t.Context(), token(k)); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		if n := server.requests.Load(); n != fetches {
			t.Errorf("%d fetches, want %d", n, fetches)
		}
	}
	verify(keys[0], nil, 1)
	verify(keys[0], nil, 1)
	verify(keys[1], ErrInvalid, 1) // within the second
	server.publish(keys[0], keys[1])
	verify(keys[1], ErrInvalid, 1)
	clock.advance(time.Second)
	verify(keys[1], nil, 2) // the sender has rotated: seen at once
	verify(keys[2], ErrInvalid, 2)
	clock.advance(time.Second)
	verify(keys[2], ErrInvalid, 3)

	// However many ask at the same time, with whatever key ids.
	clock.advance(time.Second)
	var wg sync.WaitGroup
	for n := range 64 {
		wg.Go(func() {
			bad := rawToken(keys[2].private, `{"alg":"RS256","typ":"JWT","kid":"k`+fmt.Sprint(n)+`"}`, goodClaims(clock.now()))
			if _, err := v.Verify(context.Background(), bad); !errors.Is(err, ErrInvalid) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if n := server.requests.Load(); n != 4 {
		t.Errorf("%d fetches, want 4", n)
	}
}

func TestAWithdrawnKeyStopsWorkingAndAnAbsentServerDoesNotStopOthers(t *testing.T) {
	clock := newClock()
	keys := testKeys()
	server := newKeyServer(t, keys[0], keys[1])
	v := newTestVerifier(server, clock)
	verify := func(what string, k *key, want error) {
		t.Helper()
		if _, err := v.Verify(t.Context(), rawToken(k.private, goodHeader(k), goodClaims(clock.now()))); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
	}
	verify("at first", keys[0], nil)
	server.publish(keys[1])
	clock.advance(59 * time.Minute)
	verify("within the hour", keys[0], nil)
	clock.advance(2 * time.Minute)
	verify("after the hour", keys[0], ErrInvalid)
	verify("the key that stayed", keys[1], nil)

	server.serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	clock.advance(2 * time.Hour)
	before := server.requests.Load()
	verify("with the server away", keys[1], nil)
	clock.advance(30 * time.Second)
	verify("soon after that", keys[1], nil)
	if n := server.requests.Load() - before; n != 1 {
		t.Errorf("%d fetches for a known key with the server away, want 1 in a minute", n)
	}
	verify("another key with the server away", keys[2], ErrTemporary)
	clock.advance(23 * time.Hour)
	verify("a day later", keys[1], ErrTemporary)
	server.publish(keys[1])
	clock.advance(time.Second)
	verify("with the server back", keys[1], nil)
	clock.advance(-time.Hour) // a clock that is set back
	verify("after the clock was set back", keys[1], nil)
}

func TestAKeySetThatCannotBeHadIsTemporary(t *testing.T) {
	keys := testKeys()
	elsewhere := newKeyServer(t, keys[0])
	for name, answer := range map[string]http.HandlerFunc{
		"an error":             func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"nothing there":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
		"a web page":           func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"no keys member":       func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) },
		"keys of a wrong kind": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":{}}`)) },
		"a redirect":           func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
		"far too much": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[],"x":"` + strings.Repeat("x", maxKeySet) + `"}`))
		},
		"a connection that breaks": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			clock := newClock()
			server := newKeyServer(t)
			server.serve(answer)
			v := newTestVerifier(server, clock)
			token := rawToken(keys[0].private, goodHeader(keys[0]), goodClaims(clock.now()))
			for range 2 { // fetched, and remembered within the second
				_, err := v.Verify(t.Context(), token)
				if !errors.Is(err, ErrTemporary) || errors.Is(err, ErrInvalid) {
					t.Errorf("got %v", err)
				}
				if strings.Contains(err.Error(), "127.0.0.1") {
					t.Errorf("the error names an address: %v", err)
				}
			}
			if n := server.requests.Load(); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
			server.publish(keys[0])
			clock.advance(time.Second)
			if _, err := v.Verify(t.Context(), token); err != nil {
				t.Errorf("when it is there again: %v", err)
			}
		})
	}
	if elsewhere.requests.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

func TestACallerWhoLeavesDoesNotTakeTheAnswerAlong(t *testing.T) {
	clock := newClock()
	keys := testKeys()
	server := newKeyServer(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	body := `{"keys":[{"kty":"RSA","kid":"` + keys[0].ID + `","n":"` + keys[0].Modulus + `","e":"AQAB"}]}`
	server.serve(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		_, _ = w.Write([]byte(body))
	})
	v := newTestVerifier(server, clock)
	token := rawToken(keys[0].private, goodHeader(keys[0]), goodClaims(clock.now()))
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { _, err := v.Verify(ctx, token); left <- err }()
	<-arrived
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("who left got %v", err)
	}
	stayed := make(chan error, 1)
	go func() { _, err := v.Verify(context.Background(), token); stayed <- err }()
	close(release)
	if err := <-stayed; err != nil {
		t.Errorf("who stayed got %v", err)
	}
}

func TestOnlySoundKeysAreTakenFromAKeySet(t *testing.T) {
	k := testKeys()[0]
	jwk := func(change func(m *publishedKey)) string {
		m := publishedKey{KeyType: "RSA", Algorithm: "RS256", Use: "sig", ID: "id", Modulus: k.Modulus, Exponent: k.Exponent}
		change(&m)
		return fmt.Sprintf(`{"kty":%q,"alg":%q,"use":%q,"kid":%q,"n":%q,"e":%q}`, m.KeyType, m.Algorithm, m.Use, m.ID, m.Modulus, m.Exponent)
	}
	short := b64.EncodeToString(k.private.N.Bytes()[:128])
	for _, c := range []struct {
		name, jwk string
		want      bool
	}{
		{"an ordinary one", jwk(func(*publishedKey) {}), true},
		{"without alg and use", `{"kty":"RSA","kid":"id","n":"` + k.Modulus + `","e":"AQAB"}`, true},
		{"for encryption", jwk(func(m *publishedKey) { m.Use = "enc" }), false},
		{"for another algorithm", jwk(func(m *publishedKey) { m.Algorithm = "PS256" }), false},
		{"a secret", `{"kty":"oct","kid":"id","k":"AAAA"}`, false},
		{"on a curve", `{"kty":"EC","kid":"id","crv":"P-256","x":"AAAA","y":"AAAA"}`, false},
		{"of 1024 bits", jwk(func(m *publishedKey) { m.Modulus = short }), false},
		{"of 8192 bits", jwk(func(m *publishedKey) { m.Modulus = strings.Repeat("_", 1366) }), false},
		{"with an even modulus", jwk(func(m *publishedKey) {
			n := k.private.N.Bytes()
			n[len(n)-1] &^= 1
			m.Modulus = b64.EncodeToString(n)
		}), false},
		{"with exponent 1", jwk(func(m *publishedKey) { m.Exponent = "AQ" }), false},
		{"with exponent 3", jwk(func(m *publishedKey) { m.Exponent = "Aw" }), false},
		{"with a huge exponent", jwk(func(m *publishedKey) { m.Exponent = "_____w" }), false},
		{"with no exponent", jwk(func(m *publishedKey) { m.Exponent = "" }), false},
		{"without a modulus", jwk(func(m *publishedKey) { m.Modulus = "" }), false},
		{"not base64url", jwk(func(m *publishedKey) { m.Modulus = "+/==" }), false},
		{"without an id", jwk(func(m *publishedKey) { m.ID = "" }), false},
		{"with an endless id", jwk(func(m *publishedKey) { m.ID = strings.Repeat("k", 257) }), false},
		{"not an object", `7`, false},
		{"null", `null`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			known, err := parseKeySet([]byte(`{"keys":[` + c.jwk + `]}`))
			if err != nil || (len(known) == 1) != c.want {
				t.Errorf("%d keys, %v", len(known), err)
			}
			// A key that is passed over does not spoil the others.
			known, err = parseKeySet([]byte(`{"keys":[` + c.jwk + `,` + jwk(func(m *publishedKey) { m.ID = "second" }) + `]}`))
			if err != nil || known["second"] == nil {
				t.Errorf("the one beside it is lost: %v", err)
			}
		})
	}
	other := testKeys()[1]
	known, err := parseKeySet([]byte(`{"keys":[` + jwk(func(*publishedKey) {}) + `,` + jwk(func(m *publishedKey) { m.Modulus = other.Modulus }) + `]}`))
	if err != nil || len(known) != 1 || known["id"].N.Cmp(k.private.N) != 0 {
		t.Errorf("of two keys with one id the first does not count: %v", err)
	}
	many := strings.Repeat(jwk(func(m *publishedKey) { m.KeyType = "oct" })+",", maxKeys)
	if known, err = parseKeySet([]byte(`{"keys":[` + many + jwk(func(*publishedKey) {}) + `]}`)); err != nil || len(known) != 0 {
		t.Errorf("keys past the limit are looked at: %d, %v", len(known), err)
	}
}
