package push

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"hash"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestNobodyElsePushes sends what somebody without the gatekeeper's key can make, and what somebody with it should not have
// made. Everything is signed by hand, so that no library leaves any of it out.
func TestNobodyElsePushes(t *testing.T) {
	g := newGate(t)
	list := hostile(g)
	if len(list) < 60 {
		t.Fatalf("only %d cases", len(list))
	}
	for name, authorization := range list {
		t.Run(name, func(t *testing.T) {
			w := g.post(authorization, body)
			if w.Code != http.StatusUnauthorized || w.Body.Len() != 0 {
				t.Errorf("status %d with %d bytes, want 401 with none", w.Code, w.Body.Len())
			}
		})
	}
	if g.wakes() != 0 {
		t.Errorf("woken: %q", g.woken)
	}
	if c := g.Counts(); c.Refused != uint64(len(list)) || c.Good != 0 {
		t.Errorf("%+v, want %d refused", c, len(list))
	}
	if w := g.post("Bearer "+g.good(), body); w.Code != http.StatusOK {
		t.Errorf("a good push after them: status %d", w.Code)
	}
}

// hostile are values of Authorization by what is wrong with them.
func hostile(g *gate) map[string]string {
	list := map[string]string{}
	hostileHeaders(g, list)
	hostileClaims(g, list)
	hostileShapes(g, list)
	hostileAlgorithms(g, list)
	return list
}

func hostileHeaders(g *gate, list map[string]string) {
	one := keys()["one"]
	add := func(name, head string) { list["header: "+name] = "Bearer " + sign(one, head, claims(g.now)) }
	for _, more := range []string{
		`"jwk":{"kty":"RSA","n":"AQAB","e":"AQAB"}`, `"jku":"https://evil.test/keys"`, `"x5u":"https://evil.test/chain"`, `"x5c":["MIIB"]`,
		`"x5t":"AAAA"`, `"x5t#S256":"AAAA"`, `"crit":["exp"]`, `"crit":[]`, `"b64":false`, `"zip":"DEF"`, `"enc":"A128GCM"`, `"cty":"JWT"`,
	} {
		add("with "+more, `{"alg":"RS256","typ":"JWT","kid":"one",`+more+`}`)
	}
	add("no typ", `{"alg":"RS256","kid":"one"}`)
	add("another typ", `{"alg":"RS256","typ":"JWS","kid":"one"}`)
	add("no kid", `{"alg":"RS256","typ":"JWT"}`)
	add("empty kid", header(""))
	add("long kid", header(strings.Repeat("k", 300)))
	add("kid that is a path", header("../../etc/passwd"))
	add("kid that is a query", header("one' OR '1'='1"))
	add("kid that is an array", `{"alg":"RS256","typ":"JWT","kid":["one"]}`)
	add("kid of a key that is not published", header("unpublished"))
	add("kid of another published key", header("two"))
	add("kid in another case", header("ONE"))
	add("kid twice", `{"alg":"RS256","typ":"JWT","kid":"one","kid":"one"}`)
	add("alg twice", `{"alg":"none","alg":"RS256","typ":"JWT","kid":"one"}`)
	add("no JSON", `alg=RS256`)
	add("more behind it", header("one")+"{}")
	list["signed with a key that is not published"] = "Bearer " + sign(keys()["unpublished"], header("one"), claims(g.now))
}

func hostileClaims(g *gate, list map[string]string) {
	one, now := keys()["one"], g.now.Unix()
	add := func(name, text string) { list["claims: "+name] = "Bearer " + sign(one, header("one"), text) }
	swap := func(name, old, new string) {
		text := strings.Replace(claims(g.now), old, new, 1)
		if text == claims(g.now) {
			panic("nothing replaced: " + old)
		}
		add(name, text)
	}
	issued, expires, aud := fmt.Sprintf(`"iat":%d`, now), fmt.Sprintf(`"exp":%d`, now+3600), `"aud":"`+origin+`"`
	swap("another iss", "WHATSAPP", "WHATSAPP ")
	swap("iss in another case", "WHATSAPP", "WhatsApp")
	swap("iss of a gatekeeper whose keys these are not", "WHATSAPP", "MESSENGER")
	swap("iss is our own base", "WHATSAPP", base)
	swap("no iss", `"iss":"WHATSAPP",`, "")
	swap("iss as an array", `"WHATSAPP"`, `["WHATSAPP"]`)
	swap("aud of another bridge", "bridge.test", "other.test")
	swap("aud with another port", "8443", "443")
	swap("aud without the port", ":8443", "")
	swap("aud with another scheme", "https://", "http://")
	swap("aud with our path", origin, base)
	swap("aud that begins like ours", origin, origin+".evil.test")
	swap("aud empty", origin, "")
	swap("no aud", aud+",", "")
	swap("aud as an empty array", aud, `"aud":[]`)
	swap("aud as an array of something else", aud, `"aud":[null]`)
	swap("aud null", aud, `"aud":null`)
	swap("no iat", issued+",", "")
	swap("iat as text", issued, fmt.Sprintf(`"iat":"%d"`, now))
	swap("iat in the future", issued, fmt.Sprintf(`"iat":%d`, now+121))
	swap("iat below zero", issued, `"iat":-1`)
	swap("no exp", ","+expires, "")
	swap("exp null", expires, `"exp":null`)
	swap("exp as text", expires, fmt.Sprintf(`"exp":"%d"`, now+3600))
	swap("exp before iat", expires, fmt.Sprintf(`"exp":%d`, now-1))
	swap("a life of a second too much", expires, fmt.Sprintf(`"exp":%d`, now+3601))
	swap("a life of years", expires, `"exp":9999999999`)
	swap("exp beyond all numbers", expires, `"exp":1e400`)
	swap("exp twice", expires, expires+","+expires)
	swap("nbf in the future", expires, expires+fmt.Sprintf(`,"nbf":%d`, now+121))
	swap("nbf as text", expires, expires+`,"nbf":"1"`)
	swap("a sub that is none", expires, expires+`,"sub":""`)
	add("expired", claims(g.now.Add(-3721*time.Second)))
	add("expired years ago", claims(g.now.AddDate(-3, 0, 0)))
	add("no JSON", "iss=WHATSAPP")
	add("an array", "["+claims(g.now)+"]")
	add("empty", "")
	add("more behind it", claims(g.now)+"{}")
	add("not UTF-8", strings.Replace(claims(g.now), "WHATSAPP", "WHATS\xffPP", 1))
}

func hostileShapes(g *gate, list map[string]string) {
	good := g.good()
	parts := strings.Split(good, ".")
	list["no header"] = ""
	list["no token"] = "Bearer "
	list["no scheme"] = good
	list["another scheme"] = "Basic " + good
	list["another scheme that begins the same"] = "BearerX " + good
	list["a quoted token"] = `Bearer "` + good + `"`
	list["two tokens"] = "Bearer " + good + " " + good
	list["two parts"] = "Bearer " + parts[0] + "." + parts[1]
	list["four parts"] = "Bearer " + good + ".AAAA"
	list["a part that is empty"] = "Bearer " + parts[0] + ".." + parts[2]
	list["no signature"] = "Bearer " + parts[0] + "." + parts[1] + "."
	list["a signature of another token"] = "Bearer " + parts[0] + "." + parts[1] + "." +
		strings.Split(sign(keys()["one"], header("one"), claims(g.now.Add(time.Second))), ".")[2]
	list["a signature with a letter changed"] = "Bearer " + good[:len(good)-9] + other(good[len(good)-9]) + good[len(good)-8:]
	list["a signature that is too short"] = "Bearer " + good[:len(good)-8]
	list["a signature that is too long"] = "Bearer " + good + "AAAA"
	list["a signature of zeros"] = "Bearer " + parts[0] + "." + parts[1] + "." + strings.Repeat("A", 342)
	list["claims that are others' under the signature"] = "Bearer " + parts[0] + "." + b64.EncodeToString([]byte(claims(g.now.Add(time.Second)))) + "." + parts[2]
	list["padding"] = "Bearer " + good + "=="
	list["the letters of other base64"] = "Bearer " + parts[0] + "." + parts[1] + "." + strings.NewReplacer("-", "+", "_", "/").Replace(parts[2]) + "+"
	list["a line end"] = "Bearer " + parts[0] + ".\n" + parts[1] + "." + parts[2]
	list["too long"] = "Bearer " + sign(keys()["one"], header("one"), strings.Replace(claims(g.now), "{", `{"pad":"`+strings.Repeat("x", 4096)+`",`, 1))
	list["JSON form"] = `Bearer {"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`
	list["garbage"] = "Bearer " + strings.Repeat("\xff", 100)
}

// other is another letter of base64.
func other(letter byte) string {
	if letter == 'A' {
		return "B"
	}
	return "A"
}

func hostileAlgorithms(g *gate, list map[string]string) {
	one := keys()["one"]
	text := b64.EncodeToString([]byte(claims(g.now)))
	for _, alg := range []string{"none", "None", "nOnE", "NONE", ""} {
		head := b64.EncodeToString([]byte(`{"alg":"` + alg + `","typ":"JWT","kid":"one"}`))
		list["alg "+alg+", no signature"] = "Bearer " + head + "." + text + "."
		list["alg "+alg+", some signature"] = "Bearer " + head + "." + text + ".AAAA"
	}
	for _, alg := range []string{"RS384", "RS512", "PS256", "ES256", "EdDSA", "rs256", "RS256 "} {
		list["alg "+alg+" over an RS256 signature"] = "Bearer " + sign(one, `{"alg":"`+alg+`","typ":"JWT","kid":"one"}`, claims(g.now))
	}
	public, err := x509.MarshalPKIXPublicKey(&one.PublicKey)
	if err != nil {
		panic(err)
	}
	for name, secret := range map[string][]byte{
		"the public key in DER": public, "the public key in PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
		"the modulus": one.N.Bytes(), "nothing": nil, "the key id": []byte("one"),
	} {
		for alg, make := range map[string]func() hash.Hash{"HS256": sha256.New, "HS512": sha512.New} {
			signed := b64.EncodeToString([]byte(`{"alg":"`+alg+`","typ":"JWT","kid":"one"}`)) + "." + text
			mac := hmac.New(make, secret)
			mac.Write([]byte(signed))
			list[alg+" keyed with "+name] = "Bearer " + signed + "." + b64.EncodeToString(mac.Sum(nil))
		}
	}
}
