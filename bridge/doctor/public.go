package doctor

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"postern/connector/issuer"
)

// publishedSet is a JWK set, as far as it is needed here.
type publishedSet struct {
	Keys []struct {
		Type     string `json:"kty"`
		ID       string `json:"kid"`
		Modulus  string `json:"n"`
		Exponent string `json:"e"`
	} `json:"keys"`
}

const proxyRemedy = "let the reverse proxy pass everything below network.public.base on to network.public.address, with its certificate for that name"

func (e *examination) canAskPublic() string {
	if !e.runs && e.public == nil {
		if e.blocked == "" {
			return "the token keys cannot be read"
		}
		return e.blocked
	}
	return ""
}

// lookAtPublicKeys fetches the keys as the gatekeeper does, and compares them with ours.
func lookAtPublicKeys(ctx context.Context, e *examination) []Result {
	if why := e.canAskPublic(); why != "" {
		return skip(why)
	}
	base := e.Network.Public.Base
	r, err := ask(ctx, http.MethodGet, base+issuer.PathJWKS, "", nil)
	if err != nil {
		return fail("the public address "+host(base)+" cannot be reached from here: "+err.Error(),
			"see to its name in the DNS and to the reverse proxy and its certificate; where the router does not lead back inside, try the address from another network")
	}
	var theirs publishedSet
	if r.status != http.StatusOK || !r.json(&theirs) || len(theirs.Keys) == 0 {
		return fail("at "+host(base)+" there are no keys (status "+strconv.Itoa(r.status)+")", proxyRemedy)
	}
	ours, err := e.ourKeys()
	if err != nil {
		return fail("the bridge's own keys cannot be read: "+errText(err), "restore the database and the key file that belong together")
	}
	if ours == nil {
		return warn("the bridge has no token keys yet, so those at "+host(base)+" cannot be compared", "look again when it has started")
	}
	missing := 0
	for id := range ours {
		found := false
		for _, k := range theirs.Keys {
			found = found || k.ID == id
		}
		if !found {
			missing++
		}
	}
	if missing > 0 {
		return fail("the keys at "+host(base)+" are not this bridge's", "another bridge, or an old copy in a cache, answers there: "+proxyRemedy)
	}
	if strings.HasPrefix(base, "http://") && !loopback(base) {
		return warn("network.public.base is http, so anybody on the way can put other keys in place of ours", "put an HTTPS reverse proxy before it, and let the agreement name the https address")
	}
	return fine("%s serves this bridge's keys", host(base))
}

func loopback(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// ourKeys are the ids that have to be published, nil if there are none yet.
func (e *examination) ourKeys() (map[string]bool, error) {
	if e.issuer == nil {
		if e.base == nil || !e.haveKey {
			return nil, nil
		}
		own, err := e.ownIssuer()
		if err != nil {
			return nil, err
		}
		e.issuer = own
	}
	recorder := &memory{header: http.Header{}}
	u, err := url.Parse(e.Network.Public.Base)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequest(http.MethodGet, u.Scheme+"://"+u.Host+issuer.PathJWKS, http.NoBody)
	if err != nil {
		return nil, err
	}
	e.issuer.Handler().ServeHTTP(recorder, request)
	var set publishedSet
	if err := json.Unmarshal(recorder.body.Bytes(), &set); err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for _, k := range set.Keys {
		ids[k.ID] = true
	}
	return ids, nil
}

// memory is a response that is kept.
type memory struct {
	header http.Header
	body   bytes.Buffer
}

func (m *memory) Header() http.Header         { return m.header }
func (m *memory) WriteHeader(int)             {}
func (m *memory) Write(p []byte) (int, error) { return m.body.Write(p) }

// mediaMethods are what the media store's handler allows, as it says.
const mediaMethods = "GET, HEAD"

// lookAtPublicPaths: whether the other two paths lead here.
func lookAtPublicPaths(ctx context.Context, e *examination) (results []Result) {
	if why := e.canAskPublic(); why != "" {
		return skip(why)
	}
	base := e.Network.Public.Base
	push, err := ask(ctx, http.MethodPost, base+"/push", "", struct{}{})
	if err != nil {
		return skip("the public address cannot be reached")
	}
	if push.status != http.StatusUnauthorized || !strings.HasPrefix(push.header.Get("WWW-Authenticate"), "Bearer") {
		results = append(results, fail("POST "+host(base)+"/push does not lead to the bridge (status "+strconv.Itoa(push.status)+"), so nobody who is not connected is woken", proxyRemedy+"; POST too")...)
	}
	// The bridge says of an attachment that it takes no POST; whoever else stands there most likely does not.
	address := base + "/media/" + strings.Repeat("A", 43)
	posted, err := ask(ctx, http.MethodPost, address, "", nil)
	if err != nil || posted.status != http.StatusMethodNotAllowed || posted.header.Get("Allow") != mediaMethods {
		got, err := ask(ctx, http.MethodGet, address, "", nil)
		if err != nil || got.status != http.StatusNotFound || got.header.Get("X-Content-Type-Options") != "nosniff" {
			results = append(results, fail(host(base)+"/media does not lead to the bridge, so nobody can load attachments", proxyRemedy)...)
		} else {
			results = append(results, warn("it does not show whether "+host(base)+"/media leads to the bridge", proxyRemedy+"; if it does, all is well")...)
		}
	}
	if results == nil {
		return fine("push and media lead to the bridge")
	}
	return results
}

// lookAtOwnToken makes a token as at a login and checks it as the gatekeeper would: from the address in it to the discovery document, the keys
// and the signature, by means of its own.
func lookAtOwnToken(ctx context.Context, e *examination) []Result {
	if why := e.canAskPublic(); why != "" {
		return skip(why)
	}
	if e.issuer == nil {
		return skip("the bridge has no token keys yet")
	}
	for _, a := range e.Network.Agreed() {
		token, err := e.issuer.TokenWithClaim(ctx, a.Profile.Token.IdentifierClaim, "postern doctor", a.Profile.Token.Audience)
		if err != nil {
			return fail("no token can be made: "+errText(err), "see whether this machine's clock is right")
		}
		if err := acceptToken(ctx, token, e.Network.Public.Base, a.Profile.Token.Audience); err != nil {
			return fail("a gatekeeper would not accept the bridge's tokens: "+err.Error(),
				"network.public.base has to be the issuer of the agreement, byte for byte, and lead to this bridge: "+proxyRemedy)
		}
	}
	return fine("a token made here is accepted by whoever fetches the keys from the public address")
}

// acceptToken is a verifier of its own (PROTOCOL.md 2.4): RS256 with the standard library alone.
func acceptToken(ctx context.Context, token, issuerName, audience string) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return errors.New("it is no token")
	}
	var head struct {
		Algorithm string `json:"alg"`
		Key       string `json:"kid"`
	}
	var claims struct {
		Issuer    string `json:"iss"`
		Audience  string `json:"aud"`
		NotBefore int64  `json:"nbf"`
		Expires   int64  `json:"exp"`
	}
	if !decodePart(parts[0], &head) || !decodePart(parts[1], &claims) || head.Algorithm != "RS256" {
		return errors.New("it is not signed with RS256")
	}
	if now := time.Now().Unix(); claims.Issuer != issuerName || claims.Audience != audience || now < claims.NotBefore || now >= claims.Expires {
		return errors.New("issuer, audience or time in it is wrong")
	}
	key, err := fetchKey(ctx, claims.Issuer, head.Key)
	if err != nil {
		return err
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return errors.New("its signature is not readable")
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature) != nil {
		return errors.New("the published key of that name is another one")
	}
	return nil
}

func decodePart(part string, into any) bool {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(raw, into) == nil
}

// fetchKey finds a key by way of the discovery document.
func fetchKey(ctx context.Context, issuerName, id string) (*rsa.PublicKey, error) {
	r, err := ask(ctx, http.MethodGet, issuerName+issuer.PathDiscovery, "", nil)
	if err != nil {
		return nil, errors.New("the public address cannot be reached: " + err.Error())
	}
	var found struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if r.status != http.StatusOK || !r.json(&found) || found.Issuer != issuerName {
		return nil, errors.New(issuer.PathDiscovery + " is not there, or names another issuer")
	}
	var set publishedSet
	if r, err = ask(ctx, http.MethodGet, found.JWKS, "", nil); err != nil || r.status != http.StatusOK || !r.json(&set) {
		return nil, errors.New("the keys that " + issuer.PathDiscovery + " points to are not there")
	}
	for _, k := range set.Keys {
		if k.ID != id {
			continue
		}
		n, err := base64.RawURLEncoding.DecodeString(k.Modulus)
		exponent, err2 := base64.RawURLEncoding.DecodeString(k.Exponent)
		if err != nil || err2 != nil || k.Type != "RSA" || len(n) < 256 || len(exponent) > 4 {
			return nil, errors.New("the published key is not readable")
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(exponent).Int64())}, nil
	}
	return nil, errors.New("the key that signs is not among those that are published")
}
