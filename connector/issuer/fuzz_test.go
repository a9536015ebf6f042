package issuer

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
)

// FuzzVerify looks for a panic, for a token that is accepted although its text is not one that was signed, and
// for an error of no known kind. What one call allocates is bounded by the greatest length of a token.
//
// decoder: token.go verifier.go:Verifier.Verify,Verifier.checkClaims
func FuzzVerify(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	k := testKeys()[0]
	good := rawToken(k.private, goodHeader(k), goodClaims(now))
	f.Add(good)
	for n, c := range hostileTokens(now) {
		if n%3 == 0 && len(c.token) <= MaxToken {
			f.Add(c.token)
		}
	}
	server := newKeyServer(f, k)
	v := NewVerifier(VerifierConfig{JWKSURL: server.URL, Issuer: testIssuer, Audience: testAudience, Now: func() time.Time { return now }})
	if _, err := v.Verify(f.Context(), good); err != nil {
		f.Fatal(err)
	}
	signed := good[:strings.LastIndexByte(good, '.')]
	f.Fuzz(func(t *testing.T, token string) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		claims, err := v.Verify(t.Context(), token)
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
			t.Errorf("%d bytes allocated for a token of %d", grown, len(token))
		}
		if err == nil && (claims == nil || !strings.HasPrefix(token, signed+".")) {
			t.Errorf("accepted a token that nobody signed")
		}
		if err != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrExpired) {
			t.Errorf("an error of another kind: %v", err)
		}
	})
}

// FuzzKeySet looks for a panic, a weak key that is taken, and allocation out of proportion.
//
// decoder: remotekeys.go:parseKeySet,parseKey
func FuzzKeySet(f *testing.F) {
	k := testKeys()[0]
	f.Add([]byte(`{"keys":[{"kty":"RSA","alg":"RS256","use":"sig","kid":"k","n":"` + k.Modulus + `","e":"AQAB"}]}`))
	f.Add([]byte(`{"keys":[null,7,{"kty":"oct"},{"kty":"RSA","kid":"x","n":"AA","e":"AQAB"}]}`))
	f.Add([]byte(`{"keys":{}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > maxKeySet {
			return // never read
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		known, err := parseKeySet(body)
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20+64*uint64(len(body)) {
			t.Errorf("%d bytes allocated for %d", grown, len(body))
		}
		if err != nil && known != nil {
			t.Error("keys beside an error")
		}
		for id, key := range known {
			if id == "" || key.N.BitLen() < minModulus || key.N.BitLen() > maxModulus || key.E < 65537 {
				t.Errorf("took a key of %d bits, exponent %d", key.N.BitLen(), key.E)
			}
		}
	})
}
