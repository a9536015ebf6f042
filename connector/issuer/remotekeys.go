package issuer

import (
	"context"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"sync"
	"time"
)

const (
	// fetchEvery is the least time between two fetches of the keys (PROTOCOL.md 2.4).
	fetchEvery = time.Second
	// refreshAfter is when known keys are fetched again although nobody missed one: a key that the sender
	// has withdrawn must stop working. If the fetch fails, they are used up to staleAfter.
	refreshAfter = time.Hour
	staleAfter   = 24 * time.Hour
	// refreshAgain is how long after a failed fetch a known key is used without waiting for another.
	refreshAgain = time.Minute

	// maxWaiting is how many callers wait for a fetch at the same time: who can send tokens with key ids of
	// their own making shall not fill memory while the keys are slow to come.
	maxWaiting = 64

	fetchTimeout = 10 * time.Second
	maxKeySet    = 256 << 10 // bytes
	maxKeys      = 64        // in one set; more are not looked at
	minModulus   = 2048      // bits
	maxModulus   = 4096      // bits, bounds what one check costs
)

// remoteKeys is someone else's key set, fetched when it is needed.
type remoteKeys struct {
	url  string
	http *http.Client
	now  func() time.Time

	mu      sync.Mutex
	known   map[string]*rsa.PublicKey
	good    time.Time     // when known was fetched
	tried   time.Time     // when a fetch last began
	failure error         // of the last fetch
	running chan struct{} // closed when the running fetch is over, nil if none runs
	waiting int           // callers that wait for a fetch
}

func newRemoteKeys(url string, client *http.Client, now func() time.Time) *remoteKeys {
	c := http.Client{Timeout: fetchTimeout}
	if client != nil {
		c = *client
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &remoteKeys{url: url, http: &c, now: now}
}

// find returns the key with that id. If it is not known, or was fetched long ago, the set is fetched, at
// most once a second for all callers together. ErrInvalid if the set does not have it, ErrTemporary if there
// is no set to look in.
func (r *remoteKeys) find(ctx context.Context, id string) (*rsa.PublicKey, error) {
	for range 2 { // a fetch that others began may be older than the key: then one of our own
		key, fetch, own, err := r.look(id, true)
		if fetch == nil {
			return key, err
		}
		err = waitFor(ctx, fetch)
		r.mu.Lock()
		r.waiting--
		r.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if own {
			break
		}
	}
	key, _, _, err := r.look(id, false)
	return key, err
}

func waitFor(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// look returns the key, or a fetch to wait for (own: begun by this call), or an error. Who gets a fetch is counted in
// waiting. Where too many wait already, what is known has to do.
//
//nolint:gocyclo // one case for each state, whose order is what counts
func (r *remoteKeys) look(id string, mayFetch bool) (key *rsa.PublicKey, fetch <-chan struct{}, own bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	age, since := now.Sub(r.good).Abs(), now.Sub(r.tried).Abs() // a clock that was set back is no reason to stop
	usable := r.known != nil && age < staleAfter
	if usable {
		key = r.known[id]
	}
	if key != nil && (age < refreshAfter || (r.failure != nil && since < refreshAgain) || !mayFetch) {
		return key, nil, false, nil
	}
	crowded := r.waiting >= maxWaiting
	if mayFetch && r.running != nil && !crowded {
		r.waiting++
		return nil, r.running, false, nil
	}
	if mayFetch && r.running == nil && (r.tried.IsZero() || since >= fetchEvery) {
		r.waiting++
		r.tried = now
		r.running = make(chan struct{})
		go r.fetch(r.running)
		return nil, r.running, true, nil
	}
	switch {
	case key != nil:
		return key, nil, false, nil
	case mayFetch && crowded:
		return nil, nil, false, temporary(errors.New("too many wait for the keys"))
	case r.failure != nil:
		return nil, nil, false, temporary(r.failure)
	case usable:
		return nil, nil, false, reject("kid is not in the key set")
	}
	return nil, nil, false, temporary(errors.New("last fetch is too long ago"))
}

// fetch replaces the known keys. It has a time of its own, so that a caller who leaves takes
// nobody's answer along.
func (r *remoteKeys) fetch(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	known, err := r.get(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failure, r.running = err, nil
	if err == nil {
		r.known, r.good = known, r.now()
	}
	close(done)
}

func (r *remoteKeys) get(ctx context.Context) (map[string]*rsa.PublicKey, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return nil, errors.New("key set URL does not parse")
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := r.http.Do(req)
	if err != nil {
		return nil, errors.New("no answer") // the error would name addresses
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", res.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxKeySet+1))
	if err != nil {
		return nil, errors.New("answer broke off")
	} else if len(body) > maxKeySet {
		return nil, errors.New("answer is too long")
	}
	return parseKeySet(body)
}

// parseKeySet reads the RSA signing keys out of a JWK set (RFC 7517) and passes over what is of another
// kind or too weak. Of two keys with one id the first counts.
func parseKeySet(body []byte) (map[string]*rsa.PublicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil || set.Keys == nil {
		return nil, errors.New("answer is not a key set")
	}
	known := map[string]*rsa.PublicKey{}
	for n, raw := range set.Keys {
		if n == maxKeys {
			break
		}
		var k publishedKey
		if json.Unmarshal(raw, &k) != nil || k.KeyType != "RSA" || k.ID == "" || len(k.ID) > maxKeyID ||
			(k.Algorithm != "" && k.Algorithm != "RS256") || (k.Use != "" && k.Use != "sig") {
			continue
		}
		key := parseKey(k)
		if _, twice := known[k.ID]; key == nil || twice {
			continue
		}
		known[k.ID] = key
	}
	return known, nil
}

func parseKey(k publishedKey) *rsa.PublicKey {
	modulus, err := base64.RawURLEncoding.DecodeString(k.Modulus)
	if err != nil || len(modulus) > maxModulus/8+1 {
		return nil
	}
	exponent, err := base64.RawURLEncoding.DecodeString(k.Exponent)
	if err != nil || len(exponent) > 4 {
		return nil
	}
	n, e := new(big.Int).SetBytes(modulus), new(big.Int).SetBytes(exponent)
	if n.BitLen() < minModulus || n.BitLen() > maxModulus || n.Bit(0) == 0 ||
		e.BitLen() > 31 || e.Cmp(big.NewInt(65537)) < 0 || e.Bit(0) == 0 {
		return nil
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}
}
