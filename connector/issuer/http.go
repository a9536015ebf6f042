package issuer

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"time"
)

// Where the two documents lie under the public base (PROTOCOL.md 2.3).
const (
	PathJWKS      = "/.well-known/oauth/openid/jwks"
	PathDiscovery = "/.well-known/openid-configuration"
)

// cacheControl lets others keep the documents for an hour: a key is published a day before it is used.
const cacheControl = "public, max-age=3600"

var plainPath = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)+$`)

type publishedKey struct {
	KeyType   string `json:"kty"`
	Algorithm string `json:"alg"`
	Use       string `json:"use"`
	ID        string `json:"kid"`
	Modulus   string `json:"n"`
	Exponent  string `json:"e"`
}

type publishedKeys struct {
	Keys []publishedKey `json:"keys"`
}

type discovery struct {
	Issuer        string   `json:"issuer"`
	JWKS          string   `json:"jwks_uri"`
	Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	ResponseTypes []string `json:"response_types_supported"`
	SubjectTypes  []string `json:"subject_types_supported"`
}

// Handler serves the key set and the discovery document, at their paths and, where the public base
// has a path of its own, also below that (a proxy in front may or may not take it off). Both are public; it answers
// GET and HEAD, with a validator, and everything else with 404 or 405.
func (i *Issuer) Handler() http.Handler {
	mux := http.NewServeMux()
	prefixes := []string{""}
	// A path that is not plain (braces would be a pattern) is left to the proxy.
	if u, err := url.Parse(i.cfg.Base); err == nil && plainPath.MatchString(u.Path) && path.Clean(u.Path) == u.Path {
		prefixes = append(prefixes, u.Path)
	}
	for _, prefix := range prefixes {
		mux.HandleFunc("GET "+prefix+PathJWKS, i.serveJWKS)
		mux.HandleFunc("GET "+prefix+PathDiscovery, i.serveDiscovery)
	}
	return mux
}

func (i *Issuer) serveJWKS(w http.ResponseWriter, r *http.Request) {
	now := i.cfg.Now()
	i.mu.RLock()
	keys := i.set.published(now)
	i.mu.RUnlock()
	document := publishedKeys{Keys: make([]publishedKey, len(keys))}
	for n, k := range keys {
		document.Keys[n] = publishedKey{KeyType: "RSA", Algorithm: "RS256", Use: "sig", ID: k.ID, Modulus: k.Modulus, Exponent: k.Exponent}
	}
	serveJSON(w, r, document)
}

func (i *Issuer) serveDiscovery(w http.ResponseWriter, r *http.Request) {
	serveJSON(w, r, discovery{
		Issuer:        i.cfg.Base,
		JWKS:          i.cfg.Base + PathJWKS,
		Algorithms:    []string{"RS256"},
		ResponseTypes: []string{"id_token"},
		SubjectTypes:  []string{"public"},
	})
}

func serveJSON(w http.ResponseWriter, r *http.Request, document any) {
	body, err := json.Marshal(document)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	sum := sha256.Sum256(body)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", cacheControl)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("ETag", `"`+base64.RawURLEncoding.EncodeToString(sum[:16])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body)) // conditional requests and HEAD
}
