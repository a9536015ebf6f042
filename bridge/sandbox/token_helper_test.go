package sandbox

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"strings"
	"testing"
)

// signRaw makes an RS256 token by hand, so that any header and any claim can be in it.
func signRaw(key *rsa.PrivateKey, head, body map[string]any) string {
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	signing := part(head) + "." + part(body)
	sum := sha256.Sum256([]byte(signing))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return signing + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// checkPushToken verifies a push's token with the key set the sandbox publishes, by hand (PROTOCOL.md 8.2).
func checkPushToken(t *testing.T, l *lab, authorization string) {
	t.Helper()
	token, ok := strings.CutPrefix(authorization, "Bearer ")
	parts := strings.Split(token, ".")
	if !ok || len(parts) != 3 {
		t.Fatal("no bearer token")
	}
	resp, err := http.Get(l.info.JWKSURL)
	must(t, err)
	defer resp.Body.Close()
	var set struct {
		Keys []struct{ Kty, Kid, Alg, Use, N, E string }
	}
	must(t, json.NewDecoder(resp.Body).Decode(&set))
	if len(set.Keys) != 1 || set.Keys[0].Kty != "RSA" || set.Keys[0].Alg != "RS256" || set.Keys[0].Use != "sig" {
		t.Fatalf("key set %+v", set)
	}
	bytes := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		must(t, err)
		return b
	}
	pub := &rsa.PublicKey{N: new(big.Int).SetBytes(bytes(set.Keys[0].N)), E: int(new(big.Int).SetBytes(bytes(set.Keys[0].E)).Int64())}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(pub, crypto.SHA256, sum[:], bytes(parts[2])); err != nil {
		t.Fatalf("signature: %v", err)
	}
	var head struct{ Alg, Kid string }
	var body struct {
		Iss, Aud string
		Iat, Exp int64
	}
	must(t, json.Unmarshal(bytes(parts[0]), &head))
	must(t, json.Unmarshal(bytes(parts[1]), &body))
	if head.Alg != "RS256" || head.Kid != set.Keys[0].Kid || body.Iss != "WHATSAPP" || body.Aud != l.public.server.URL || body.Exp <= body.Iat {
		t.Fatalf("%+v %+v", head, body)
	}
}
