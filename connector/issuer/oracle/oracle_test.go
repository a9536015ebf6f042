// Package oracle holds the jose library of npm against connector/issuer: it is the outside judge of our tokens and key
// set, and makes the tokens of others that our verifier takes. It has tests only; install.sh puts the library into the
// cache.
package oracle

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/connector/issuer"
)

const (
	install  = "connector/issuer/oracle/install.sh"
	base     = "https://bridge.test"
	audience = "WHATSAPP"
)

// missing ends a test that cannot run here: with a failure in CI, where it must be able to.
func missing(t *testing.T, what string) {
	t.Helper()
	text := what + ": NOT TESTED AGAINST AN INDEPENDENT JOSE LIBRARY; run " + install + " (it needs Node.js 20 or newer and npm)"
	if os.Getenv("CI") == "true" {
		t.Fatal(text)
	}
	t.Skip(text)
}

// library is a process that uses jose.
type library struct {
	in  io.WriteCloser
	out *bufio.Reader
}

func start(t *testing.T) *library {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		missing(t, "node is not installed")
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = filepath.Join(os.Getenv("HOME"), ".cache")
	}
	text, err := os.ReadFile("package.json")
	if err != nil {
		t.Fatal(err)
	}
	var pkg struct{ Dependencies map[string]string }
	if err = json.Unmarshal(text, &pkg); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "postern", "jose-"+pkg.Dependencies["jose"])
	if _, err = os.Stat(filepath.Join(dir, ".complete")); err != nil {
		missing(t, "jose "+pkg.Dependencies["jose"]+" is not installed")
	}
	cmd := exec.Command(node, "oracle.mjs", dir)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("jose's process: %v: %s", err, complaints.String())
		}
	})
	return &library{in, bufio.NewReaderSize(out, 1<<20)}
}

type object = map[string]any

// ask sends a command and returns the answer. refused is jose's own code if it said no.
func (l *library) ask(t *testing.T, cmd string, args object) (answer object, refused string) {
	t.Helper()
	args["cmd"] = cmd
	line, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = l.in.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
	if line, err = l.out.ReadBytes('\n'); err != nil {
		t.Fatal(err)
	}
	if err = json.Unmarshal(line, &answer); err != nil {
		t.Fatal(err)
	}
	if answer["ok"] != true {
		code, _ := answer["code"].(string)
		message, _ := answer["message"].(string)
		return nil, code + ": " + message
	}
	return answer, ""
}

func (l *library) must(t *testing.T, cmd string, args object) object {
	t.Helper()
	answer, refused := l.ask(t, cmd, args)
	if refused != "" {
		t.Fatalf("jose: %s: %s", cmd, refused)
	}
	return answer
}

// store is a KeyStore in memory.
type store struct {
	document []byte
	version  int
}

func (s *store) Load(context.Context) ([]byte, int, error) { return s.document, s.version, nil }

func (s *store) Save(_ context.Context, document []byte, old int) (bool, error) {
	if old != s.version {
		return false, nil
	}
	s.document, s.version = document, old+1
	return true, nil
}

func TestJoseTakesOurTokensAgainstOurKeySetThroughRotation(t *testing.T) {
	jose := start(t)
	var offset atomic.Int64
	now := func() time.Time { return time.Unix(1_800_000_000+offset.Load(), 0) }
	ours, err := issuer.New(t.Context(), issuer.Config{Base: base, Store: &store{}, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(ours.Handler())
	defer server.Close()
	verify := func(token string) (object, string) {
		return jose.ask(t, "verify", object{
			"token": token, "jwks": server.URL + issuer.PathJWKS, "issuer": base, "audience": audience, "now": now().Unix(),
		})
	}
	var last string
	for round := range 3 {
		if last != "" { // made just before the rotation
			if _, refused := verify(last); refused != "" {
				t.Errorf("round %d: the token from before the rotation: %s", round, refused)
			}
		}
		for _, subject := range []string{"user@mail.test", "4915112345678", "ünal.ß", strings.Repeat("é", 100)} {
			token, err := ours.Token(t.Context(), subject, audience)
			if err != nil {
				t.Fatal(err)
			}
			answer, refused := verify(token)
			if refused != "" {
				t.Fatalf("round %d: %s", round, refused)
			}
			if payload := answer["payload"].(object); payload["sub"] != subject || payload["iss"] != base {
				t.Errorf("jose reads %v", payload)
			}
			// It does check: a changed token is refused.
			if _, refused = verify(token[:len(token)-8] + "AAAAAAAA"); !strings.HasPrefix(refused, "ERR_JWS_SIGNATURE") {
				t.Errorf("a changed signature: %q", refused)
			}
		}
		offset.Add(25 * 3600)
		if last, err = ours.Token(t.Context(), "x", audience); err != nil {
			t.Fatal(err)
		}
		if err = ours.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	thumbprints(t, jose, server.URL)
}

// thumbprints checks that jose computes our key ids from our keys.
func thumbprints(t *testing.T, jose *library, url string) {
	t.Helper()
	res, err := http.Get(url + issuer.PathJWKS)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var set struct{ Keys []object }
	if err = json.NewDecoder(res.Body).Decode(&set); err != nil || len(set.Keys) < 2 {
		t.Fatalf("%d keys, %v", len(set.Keys), err)
	}
	for _, key := range set.Keys {
		if got := jose.must(t, "thumbprint", object{"jwk": key})["thumbprint"]; got != key["kid"] {
			t.Errorf("key id %v, jose says %v", key["kid"], got)
		}
	}
}

func TestOurVerifierTakesWhatJoseSignsAndRefusesTheRest(t *testing.T) {
	jose := start(t)
	var keys []any
	for kid, alg := range map[string]string{"rsa": "RS256", "pss": "PS256", "curve": "ES256"} {
		keys = append(keys, jose.must(t, "generate", object{"alg": alg, "kid": kid})["jwk"])
	}
	jose.must(t, "generate", object{"alg": "RS256", "kid": "unpublished"})
	body, err := json.Marshal(object{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
	defer server.Close()
	const us = "https://bridge.test:8443"
	now := time.Now().Unix()
	v := issuer.NewVerifier(issuer.VerifierConfig{JWKSURL: server.URL, Issuer: "WHATSAPP", Audience: us})

	claims := func(change object) object {
		c := object{"iss": "WHATSAPP", "aud": us, "iat": now, "exp": now + 300}
		for name, value := range change {
			if c[name] = value; value == nil {
				delete(c, name)
			}
		}
		return c
	}
	header := func(alg, kid string) object { return object{"alg": alg, "typ": "JWT", "kid": kid} }
	const secret = "a shared secret of thirty-two bytes and more"
	for _, c := range []struct {
		name string
		cmd  string
		args object
		want error
	}{
		{"a good token", "sign", object{"kid": "rsa", "header": header("RS256", "rsa"), "claims": claims(nil)}, nil},
		{"with more claims", "sign", object{"kid": "rsa", "header": header("RS256", "rsa"), "claims": claims(object{"nbf": now, "jti": "x", "sub": "y"})}, nil},
		{"with several audiences", "sign", object{"kid": "rsa", "header": header("RS256", "rsa"), "claims": claims(object{"aud": []string{"z", us}})}, nil},
		{"expired", "sign", object{"kid": "rsa", "header": header("RS256", "rsa"), "claims": claims(object{"iat": now - 900, "exp": now - 300})}, issuer.ErrExpired},
		{"for someone else", "sign", object{"kid": "rsa", "header": header("RS256", "rsa"), "claims": claims(object{"aud": "https://other.test"})}, issuer.ErrInvalid},
		{"by someone else", "sign", object{"kid": "rsa", "header": header("RS256", "rsa"), "claims": claims(object{"iss": "MESSENGER"})}, issuer.ErrInvalid},
		{"that lives too long", "sign", object{"kid": "rsa", "header": header("RS256", "rsa"), "claims": claims(object{"exp": now + 7200})}, issuer.ErrInvalid},
		{"without exp", "sign", object{"kid": "rsa", "header": header("RS256", "rsa"), "claims": claims(object{"exp": nil})}, issuer.ErrInvalid},
		{"without typ", "sign", object{"kid": "rsa", "header": object{"alg": "RS256", "kid": "rsa"}, "claims": claims(nil)}, issuer.ErrInvalid},
		{"without kid", "sign", object{"kid": "rsa", "header": object{"alg": "RS256", "typ": "JWT"}, "claims": claims(nil)}, issuer.ErrInvalid},
		{"by an unpublished key", "sign", object{"kid": "unpublished", "header": header("RS256", "rsa"), "claims": claims(nil)}, issuer.ErrInvalid},
		{"by a published key of another kind, PSS", "sign", object{"kid": "pss", "header": header("PS256", "pss"), "claims": claims(nil)}, issuer.ErrInvalid},
		{"by a published key on a curve", "sign", object{"kid": "curve", "header": header("ES256", "curve"), "claims": claims(nil)}, issuer.ErrInvalid},
		{"with a shared secret", "sign", object{"secret": secret, "header": header("HS256", "rsa"), "claims": claims(nil)}, issuer.ErrInvalid},
		{"without a signature", "unsecured", object{"claims": claims(nil)}, issuer.ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			token := jose.must(t, c.cmd, c.args)["token"].(string)
			if _, err := v.Verify(t.Context(), token); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}
