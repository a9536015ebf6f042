package issuer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	testIssuer   = "WHATSAPP"
	testAudience = "https://bridge.test:8443"
)

// goodClaims are claims that pass at a time, to vary by replacing text.
func goodClaims(now time.Time) string {
	return fmt.Sprintf(`{"iss":"%s","aud":"%s","iat":%d,"exp":%d}`, testIssuer, testAudience, now.Unix(), now.Unix()+600)
}

func goodHeader(k *key) string { return `{"alg":"RS256","typ":"JWT","kid":"` + k.ID + `"}` }

type forged struct {
	name  string
	token string
	want  error // ErrInvalid unless set
}

// forger makes tokens around one published key, one that is not published, and a time.
type forger struct {
	key, other *key
	now        time.Time
	list       []forged
}

func (f *forger) add(name, token string) { f.list = append(f.list, forged{name, token, ErrInvalid}) }

// header adds a token with another header, well signed.
func (f *forger) header(name, header string) {
	f.add(name, rawToken(f.key.private, header, goodClaims(f.now)))
}

// claims adds a token with other claims, well signed.
func (f *forger) claims(name, claims string) {
	f.add(name, rawToken(f.key.private, goodHeader(f.key), claims))
}

// swap adds a token with one piece of the good claims replaced.
func (f *forger) swap(name, old, new string) {
	claims := strings.Replace(goodClaims(f.now), old, new, 1)
	if claims == goodClaims(f.now) {
		panic("nothing replaced: " + old)
	}
	f.claims(name, claims)
}

func hostileTokens(published *key, now time.Time) []forged {
	f := &forger{key: published, other: testKeys()[1], now: now}
	f.algorithms()
	f.headers()
	f.shapes()
	f.times()
	f.parties()
	f.objects()
	return f.list
}

func (f *forger) algorithms() {
	kid := `"typ":"JWT","kid":"` + f.key.ID + `"}`
	claims := b64.EncodeToString([]byte(goodClaims(f.now)))
	for _, alg := range []string{"none", "None", "NONE", "nOnE", ""} {
		head := b64.EncodeToString([]byte(`{"alg":"` + alg + `",` + kid))
		f.add("alg "+alg+" with an empty signature", head+"."+claims+".")
		f.add("alg "+alg+" with a signature", head+"."+claims+".AAAA")
	}
	public, err := x509.MarshalPKIXPublicKey(&f.key.private.PublicKey)
	if err != nil {
		panic(err)
	}
	head := b64.EncodeToString([]byte(`{"alg":"HS256",` + kid))
	for name, secret := range map[string][]byte{
		"the public key in PEM":   pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
		"the public key in DER":   public,
		"the modulus":             f.key.private.N.Bytes(),
		"the modulus as text":     []byte(f.key.Modulus),
		"nothing":                 nil,
		"the key id, as a secret": []byte(f.key.ID),
	} {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(head + "." + claims))
		f.add("HS256 keyed with "+name, head+"."+claims+"."+b64.EncodeToString(mac.Sum(nil)))
	}
	mac := hmac.New(sha512.New, public)
	mac.Write([]byte(claims))
	f.add("HS512", b64.EncodeToString([]byte(`{"alg":"HS512",`+kid))+"."+claims+"."+b64.EncodeToString(mac.Sum(nil)))
	for _, alg := range []string{"RS384", "RS512", "PS256", "rs256", "RS256 ", "ES256", "EdDSA"} {
		f.header("alg "+alg+" over an RS256 signature", `{"alg":"`+alg+`",`+kid)
	}
	f.header("no alg", `{`+kid)
	f.header("alg as a number", `{"alg":256,`+kid)
	f.header("alg as an array", `{"alg":["RS256"],`+kid)
	f.header("alg null", `{"alg":null,`+kid)
	f.header("alg twice, the good one last", `{"alg":"none","alg":"RS256",`+kid)
	f.header("alg twice, the good one first", `{"alg":"RS256","alg":"none",`+kid)
	f.header("Alg beside alg none", `{"alg":"none","Alg":"RS256",`+kid)

	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	signed := b64.EncodeToString([]byte(`{"alg":"ES256",`+kid)) + "." + claims
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, curve, sum[:])
	if err != nil {
		panic(err)
	}
	f.add("ES256 by a key of the forger", signed+"."+b64.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)))

	signed = b64.EncodeToString([]byte(goodHeader(f.key))) + "." + claims
	sum = sha256.Sum256([]byte(signed))
	pss, err := rsa.SignPSS(rand.Reader, f.key.private, crypto.SHA256, sum[:], nil)
	if err != nil {
		panic(err)
	}
	f.add("a PSS signature under alg RS256", signed+"."+b64.EncodeToString(pss))
	bare, err := rsa.SignPKCS1v15(rand.Reader, f.key.private, 0, sum[:])
	if err != nil {
		panic(err)
	}
	f.add("a signature without the hash's name in it", signed+"."+b64.EncodeToString(bare))
	f.add("a signature of zeroes", signed+"."+b64.EncodeToString(make([]byte, 256)))
	f.add("a signature of one", signed+"."+b64.EncodeToString(append(make([]byte, 255), 1)))
}

func (f *forger) headers() {
	base := `{"alg":"RS256","typ":"JWT","kid":"` + f.key.ID + `"`
	jwk := `{"kty":"RSA","n":"` + f.other.Modulus + `","e":"` + f.other.Exponent + `"}`
	own := func(name, header string) { f.add(name, rawToken(f.other.private, header, goodClaims(f.now))) }
	own("signed by an unpublished key under a published kid", base+"}")
	own("jwk of the forger in the header", base+`,"jwk":`+jwk+`}`)
	own("jwk of the forger under its own kid", `{"alg":"RS256","typ":"JWT","kid":"`+f.other.ID+`","jwk":`+jwk+`}`)
	own("jku of the forger", base+`,"jku":"http://127.0.0.1:1/jwks"}`)
	own("x5u of the forger", base+`,"x5u":"http://127.0.0.1:1/cert"}`)
	own("x5c of the forger", base+`,"x5c":["AAAA"]}`)
	own("an unknown kid", `{"alg":"RS256","typ":"JWT","kid":"`+f.other.ID+`"}`)
	for _, member := range []string{
		`"jku":"https://good.test/jwks"`, `"x5u":"https://good.test/"`, `"jwk":{}`, `"jwk":null`, `"x5t":"AAAA"`, `"x5c":[]`,
		`"crit":["exp"],"exp":1`, `"crit":[]`, `"crit":["b64"],"b64":true`, `"b64":false`, `"zip":"DEF"`, `"enc":"A256GCM"`, `"cty":"JWT"`,
	} {
		f.header("a well-signed header with "+member, base+","+member+"}")
	}
	f.header("no kid", `{"alg":"RS256","typ":"JWT"}`)
	f.header("an empty kid", `{"alg":"RS256","typ":"JWT","kid":""}`)
	f.header("kid as a number", `{"alg":"RS256","typ":"JWT","kid":1}`)
	f.header("kid as a path", `{"alg":"RS256","typ":"JWT","kid":"../../../../dev/null"}`)
	f.header("kid as SQL", `{"alg":"RS256","typ":"JWT","kid":"x' OR '1'='1"}`)
	f.header("a kid that is too long", `{"alg":"RS256","typ":"JWT","kid":"`+strings.Repeat("k", 300)+`"}`)
	f.header("kid twice", base+`,"kid":"`+f.key.ID+`"}`)
	f.header("kid in other case", `{"alg":"RS256","typ":"JWT","KID":"`+f.key.ID+`"}`)
	f.header("no typ", `{"alg":"RS256","kid":"`+f.key.ID+`"}`)
	for _, typ := range []string{"jwt", "JWE", "at+jwt", "application/JWT", "JWT ", ""} {
		f.header("typ "+typ, `{"alg":"RS256","typ":"`+typ+`","kid":"`+f.key.ID+`"}`)
	}
	f.header("typ as an object", `{"alg":"RS256","typ":{},"kid":"`+f.key.ID+`"}`)
}

func (f *forger) shapes() {
	good := rawToken(f.key.private, goodHeader(f.key), goodClaims(f.now))
	parts := strings.Split(good, ".")
	f.add("nothing", "")
	f.add("two dots", "..")
	f.add("dots alone", strings.Repeat(".", 4000))
	f.add("one part", parts[0])
	f.add("two parts", parts[0]+"."+parts[1])
	f.add("four parts", good+".AAAA")
	f.add("a dot at the end", good+".")
	f.add("five parts, as an encrypted token has", good+".AAAA.AAAA")
	f.add("no header", "."+parts[1]+"."+parts[2])
	f.add("no claims", parts[0]+".."+parts[2])
	f.add("no signature", parts[0]+"."+parts[1]+".")
	f.add("a space in front", " "+good)
	f.add("a space behind", good+" ")
	f.add("a line end behind", good+"\n")
	f.add("a line end inside", parts[0]+"."+parts[1][:8]+"\r\n"+parts[1][8:]+"."+parts[2])
	f.add("a NUL behind", good+"\x00")
	f.add("padding behind", good+"==")
	f.add("the prefix Bearer", "Bearer "+good)
	f.add("in JSON form", `{"protected":"`+parts[0]+`","payload":"`+parts[1]+`","signature":"`+parts[2]+`"}`)
	f.add("not UTF-8", good[:30]+"\xff\xfe"+good[32:])
	f.add("in the standard alphabet", parts[0]+"."+parts[1]+"."+base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, 256)))
	f.add("a space more in the claims", parts[0]+"."+b64.EncodeToString([]byte(goodClaims(f.now)+" "))+"."+parts[2])
	f.add("a changed byte in the signature", good[:len(good)-20]+"AAAA"+good[len(good)-16:])
	f.add("a shortened signature", good[:len(good)-4])
	f.add("a lengthened signature", good+"AAAA")
	f.add("another text of the same signature", good[:len(good)-1]+string(otherLast(good[len(good)-1])))
	f.add("parts of two tokens", parts[0]+"."+b64.EncodeToString([]byte(strings.Replace(goodClaims(f.now), `"iat"`, `"nbf":1,"iat"`, 1)))+"."+parts[2])
	f.swap("longer than 4096 bytes", `{"iss"`, `{"pad":"`+strings.Repeat("x", 4096)+`","iss"`)
	f.add("a megabyte", good+strings.Repeat("A", 1<<20))
}

// otherLast is a base64url character that decodes to the same bytes at the end of 256 bytes, where the
// last four bits count for nothing.
func otherLast(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)|1]
}

func (f *forger) times() {
	now := f.now.Unix()
	iat, exp := fmt.Sprintf(`"iat":%d`, now), fmt.Sprintf(`"exp":%d`, now+600)
	f.swap("no exp", ","+exp, "")
	f.swap("no iat", iat+",", "")
	f.swap("exp null", exp, `"exp":null`)
	f.swap("exp as text", exp, fmt.Sprintf(`"exp":"%d"`, now+600))
	f.swap("exp as an array", exp, fmt.Sprintf(`"exp":[%d]`, now+600))
	f.swap("exp without end", exp, `"exp":1e400`)
	f.swap("exp far away", exp, `"exp":9223372036854775807`)
	f.swap("exp past the numbers", exp, `"exp":99999999999999999999999999`)
	f.swap("exp negative", exp, `"exp":-1`)
	f.swap("exp twice", exp, exp+`,"exp":9999999999`)
	f.swap("EXP in place of exp", exp, fmt.Sprintf(`"EXP":%d`, now+600))
	f.swap("in milliseconds", exp, fmt.Sprintf(`"exp":%d000`, now+600))
	f.swap("a life of 3601 s", exp, fmt.Sprintf(`"exp":%d`, now+3601))
	f.swap("a long life that began long ago", iat, fmt.Sprintf(`"iat":%d`, now-3001))
	f.claims("exp before iat", fmt.Sprintf(`{"iss":"%s","aud":"%s","iat":%d,"exp":%d}`, testIssuer, testAudience, now+60, now+30))
	f.swap("iat 121 s ahead", iat, fmt.Sprintf(`"iat":%d`, now+121))
	f.swap("iat a day ahead", iat, fmt.Sprintf(`"iat":%d`, now+86400))
	f.swap("iat as text", iat, fmt.Sprintf(`"iat":"%d"`, now))
	f.swap("iat true", iat, `"iat":true`)
	f.swap("iat negative", iat, `"iat":-5`)
	f.swap("nbf 121 s ahead", iat, iat+fmt.Sprintf(`,"nbf":%d`, now+121))
	f.swap("nbf as text", iat, iat+`,"nbf":"soon"`)
	f.swap("nbf null", iat, iat+`,"nbf":null`)
	for name, back := range map[string]int64{"121 s ago": 121, "a day ago": 86400, "an hour and its skew ago": 3721} {
		f.list = append(f.list, forged{"expired " + name, rawToken(f.key.private, goodHeader(f.key), fmt.Sprintf(
			`{"iss":"%s","aud":"%s","iat":%d,"exp":%d}`, testIssuer, testAudience, now-back-600, now-back)), ErrExpired})
	}
	f.add("expired and not signed by a published key", rawToken(f.other.private, goodHeader(f.key), fmt.Sprintf(
		`{"iss":"%s","aud":"%s","iat":%d,"exp":%d}`, testIssuer, testAudience, now-1000, now-400)))
}

func (f *forger) parties() {
	iss, aud := `"iss":"`+testIssuer+`"`, `"aud":"`+testAudience+`"`
	f.swap("no iss", iss+",", "")
	for _, other := range []string{"", "whatsapp", "WHATSAPP ", "MESSENGER", "WHATSAPP\\u0000"} {
		f.swap("iss "+other, iss, `"iss":"`+other+`"`)
	}
	f.swap("iss as an array", iss, `"iss":["`+testIssuer+`"]`)
	f.swap("iss twice", iss, iss+","+iss)
	f.swap("no aud", aud+",", "")
	for _, other := range []string{
		`""`, `null`, `[]`, `{}`, `1`, `"` + testAudience + `/"`, `"https://bridge.test"`, `"HTTPS://bridge.test:8443"`, `"http://bridge.test:8443"`,
		`["https://other.test"]`, `["` + testAudience + `",1]`, `["` + testAudience + `",null]`, `[["` + testAudience + `"]]`,
		`{"0":"` + testAudience + `"}`, `"` + testAudience + ` https://other.test"`, `"https://bridge.test:8443.evil.test"`,
	} {
		f.swap("aud "+other, aud, `"aud":`+other)
	}
	f.swap("aud twice", aud, aud+","+aud)
	for name, sub := range map[string]string{
		"empty": `""`, "of 101 characters": `"` + strings.Repeat("é", 101) + `"`, "as a number": `4915112345678`, "null": `null`,
		"with a line end": `"a\nb"`, "with a NUL": `"a\u0000"`, "with half a character": `"\ud800"`,
	} {
		f.swap("sub "+name, aud, aud+`,"sub":`+sub)
	}
}

func (f *forger) objects() {
	good := goodClaims(f.now)
	for _, claims := range []string{
		"", "null", "[]", `"text"`, "1", "{", "{}", good + good, good + "x", good + " {}", good[:len(good)-1], "[" + good + "]",
		strings.Repeat(`{"a":`, 500) + "1" + strings.Repeat("}", 500), good[:len(good)-1] + `,"x":}`, good[:len(good)-1] + `,}`,
		good[:len(good)-1] + ",\"x\":\"\xff\"}", "\xef\xbb\xbf" + good, strings.ReplaceAll(good, `"`, `'`),
	} {
		f.claims("claims that read "+claims[:min(len(claims), 20)]+"…"+claims[max(0, len(claims)-12):], claims)
	}
	for _, header := range []string{"", "null", "[]", "{}", `{"alg":"RS256"`, goodHeader(f.key) + goodHeader(f.key), goodHeader(f.key) + "x"} {
		f.header("a header that reads "+header[:min(len(header), 20)]+"…"+header[max(0, len(header)-4):], header)
	}
}

func TestHostileTokensAreRefused(t *testing.T) {
	clock := newClock()
	keys := testKeys()
	server := newKeyServer(t, keys[0])
	v := NewVerifier(VerifierConfig{JWKSURL: server.URL, Issuer: testIssuer, Audience: testAudience, Now: clock.now})
	list := hostileTokens(testKeys()[0], clock.now())
	if len(list) < 100 {
		t.Errorf("only %d hostile tokens", len(list))
	}
	seen := map[string]bool{}
	for _, c := range list {
		if seen[c.name] {
			t.Errorf("two tokens are called %q", c.name)
		}
		seen[c.name] = true
		t.Run(c.name, func(t *testing.T) {
			claims, err := v.Verify(t.Context(), c.token)
			if claims != nil || !errors.Is(err, c.want) {
				t.Errorf("got %v, %v; want %v", claims, err, c.want)
			}
			for _, other := range []error{ErrInvalid, ErrExpired, ErrTemporary} {
				if other != c.want && errors.Is(err, other) {
					t.Errorf("%v is also %v", err, other)
				}
			}
			if err != nil && c.token != "" && len(c.token) > 20 && strings.Contains(err.Error(), c.token[:20]) {
				t.Errorf("the error quotes the token: %v", err)
			}
		})
	}
	t.Logf("%d hostile tokens", len(list))
	// The clock stood still: whatever they named, one fetch at first and none after.
	if n := server.requests.Load(); n != 1 {
		t.Errorf("%d fetches of the keys, want 1", n)
	}
}
