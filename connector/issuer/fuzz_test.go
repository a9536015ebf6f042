package issuer

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"math/big"
	mathrand "math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// FuzzVerify looks for a panic, for a token that is accepted although its text is not one that was signed, and
// for an error of no known kind. What one call allocates is bounded by the greatest length of a token.
//
// decoder: token.go verifier.go:Verifier.Verify,Verifier.checkClaims
func FuzzVerify(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	k := foreseeableKey()
	good := rawToken(k.private, goodHeader(k), goodClaims(now))
	f.Add(good)
	for n, c := range hostileTokens(k, now) {
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
	k := foreseeableKey()
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

// FuzzStoredKeys reads any document as our own stored keys. A key that may sign is an RSA key that parses and is the one
// whose public half is published under its id; the allocation is bounded by 4 MiB and 64 bytes for each byte.
//
// decoder: keys.go:decodeKeys,publicHalf,key.thumbprint
func FuzzStoredKeys(f *testing.F) {
	k := foreseeableKey()
	add := func(keys ...*key) {
		document, err := json.Marshal(keySet{Keys: keys})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(document)
	}
	change := func(edit func(*key)) *key {
		c := *k
		edit(&c)
		return &c
	}
	add()
	add(k)
	add(nil)
	add(k, change(func(c *key) { c.Retired, c.PKCS8 = 1, nil }))
	add(change(func(c *key) { c.ID = "x" }))
	add(change(func(c *key) { c.PKCS8 = c.PKCS8[:40] }))
	add(change(func(c *key) { c.Exponent = "Aw"; c.ID = c.thumbprint() }))
	add(change(func(c *key) { c.Modulus = "AQ"; c.ID = c.thumbprint() }))
	f.Add([]byte(`{"keys":7}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		set, err := decodeKeys(document)
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20+64*uint64(len(document)) {
			t.Errorf("%d bytes allocated for %d", grown, len(document))
		}
		if err != nil {
			if len(set.Keys) != 0 {
				t.Error("keys beside an error")
			}
			return
		}
		for _, k := range set.Keys {
			if k.ID != k.thumbprint() {
				t.Error("a key under the id of another")
			}
			if k.Retired != 0 {
				continue
			}
			if public := publicHalf(k.private); public[0] != k.Modulus || public[1] != k.Exponent {
				t.Error("a private key that is not the one that is published")
			}
		}
	})
}

// foreseeableKey is the same in every process: the fuzzer's seeds come from one and are tried in another.
var foreseeableKey = sync.OnceValue(func() *key {
	random := mathrand.NewChaCha8([32]byte{'i', 's', 's'})
	prime := func() *big.Int {
		b := make([]byte, keyBits/16)
		_, _ = random.Read(b) // never fails
		b[0] |= 0xc0
		b[len(b)-1] |= 1
		p, two := new(big.Int).SetBytes(b), big.NewInt(2)
		for !p.ProbablyPrime(0) || new(big.Int).Mod(p, big.NewInt(65537)).Cmp(big.NewInt(1)) == 0 {
			p.Add(p, two)
		}
		return p
	}
	p, q, one := prime(), prime(), big.NewInt(1)
	totient := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	private := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 65537},
		D:         new(big.Int).ModInverse(big.NewInt(65537), totient), Primes: []*big.Int{p, q},
	}
	private.Precompute()
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		panic(err)
	}
	k := &key{Modulus: b64.EncodeToString(private.N.Bytes()), Exponent: "AQAB", PKCS8: pkcs8, Published: 1, private: private}
	k.ID = k.thumbprint()
	return k
})
