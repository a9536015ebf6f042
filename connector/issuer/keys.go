package issuer

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"
)

const (
	keyBits = 2048 // PROTOCOL.md 2.1

	// publishBefore is how long a key is published before it signs, and publishAfter how long
	// after its last token has expired (PROTOCOL.md 2.3).
	publishBefore = 24 * time.Hour
	publishAfter  = 24 * time.Hour

	// saveTries bounds how often a change is made anew because someone else changed the document.
	saveTries = 5
)

// TooEarlyError is returned by Rotate while the next key has not been published for 24 hours.
type TooEarlyError struct {
	// At is when it will have been.
	At time.Time
}

func (e *TooEarlyError) Error() string {
	return "issuer: rotate: the next key has not been published for 24 hours yet"
}

// key is one RSA key. Times are Unix seconds.
type key struct {
	ID        string `json:"kid"`       // RFC 7638 thumbprint
	Modulus   string `json:"n"`         // base64url, as in the published key
	Exponent  string `json:"e"`         //
	PKCS8     []byte `json:"pkcs8"`     // private key; empty once it has stopped signing
	Published int64  `json:"published"` // since when it stands in the key set
	SignsFrom int64  `json:"signs"`     // 0: it is the next one
	Retired   int64  `json:"retired"`   // 0: it has not stopped signing

	private *rsa.PrivateKey
}

// keySet is the stored document: at most one key that signs, one next key, and retired ones.
type keySet struct {
	Keys []*key `json:"keys"`
}

// current is the key that signs, nil if there is none.
func (s keySet) current() *key {
	for _, k := range s.Keys {
		if k.SignsFrom != 0 && k.Retired == 0 {
			return k
		}
	}
	return nil
}

// next is the key that will sign after current, nil if there is none.
func (s keySet) next() *key {
	for _, k := range s.Keys {
		if k.SignsFrom == 0 && k.Retired == 0 {
			return k
		}
	}
	return nil
}

// published are the keys that belong into the key set now: the signing one, the next one, and the
// retired ones whose tokens may still be in use somewhere.
func (s keySet) published(now time.Time) []*key {
	var list []*key
	for _, k := range []*key{s.current(), s.next()} {
		if k != nil {
			list = append(list, k)
		}
	}
	for _, k := range s.Keys {
		if k.Retired != 0 && now.Before(k.gone()) {
			list = append(list, k)
		}
	}
	return list
}

// gone is when a retired key leaves the key set.
func (k *key) gone() time.Time {
	return time.Unix(k.Retired, 0).Add(MaxLifetime + publishAfter)
}

func generateKey(now time.Time) (*key, error) {
	private, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, fmt.Errorf("issuer: make key: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("issuer: make key: %w", err)
	}
	public := publicHalf(private)
	k := &key{Modulus: public[0], Exponent: public[1], PKCS8: pkcs8, Published: now.Unix(), private: private}
	k.ID = k.thumbprint()
	return k, nil
}

// publicHalf is modulus and exponent as they are published (RFC 7518, 6.3.1).
func publicHalf(private *rsa.PrivateKey) [2]string {
	encode := base64.RawURLEncoding.EncodeToString
	return [2]string{encode(private.N.Bytes()), encode(big.NewInt(int64(private.E)).Bytes())}
}

// thumbprint is RFC 7638's: the SHA-256 of the required members in alphabetical order.
func (k *key) thumbprint() string {
	sum := sha256.Sum256([]byte(`{"e":"` + k.Exponent + `","kty":"RSA","n":"` + k.Modulus + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func decodeKeys(document []byte) (keySet, error) {
	var set keySet
	if err := json.Unmarshal(document, &set); err != nil {
		return keySet{}, errors.New("issuer: stored keys do not parse") // the error could quote them
	}
	for _, k := range set.Keys {
		if k == nil || k.ID != k.thumbprint() {
			return keySet{}, errors.New("issuer: a stored key does not have its own id")
		}
		if k.Retired != 0 {
			continue
		}
		parsed, err := x509.ParsePKCS8PrivateKey(k.PKCS8)
		if err != nil {
			return keySet{}, errors.New("issuer: a stored private key does not parse")
		}
		var ok bool
		if k.private, ok = parsed.(*rsa.PrivateKey); !ok || publicHalf(k.private) != [2]string{k.Modulus, k.Exponent} {
			return keySet{}, errors.New("issuer: a stored private key is not the one that is published")
		}
	}
	return set, nil
}

// load reads the stored keys, makes missing ones, and saves. The caller holds mu.
func (i *Issuer) load(ctx context.Context) error {
	return i.change(ctx, func(set keySet, now time.Time) (keySet, error) {
		if set.current() == nil {
			first, err := generateKey(now)
			if err != nil {
				return set, err
			}
			first.SignsFrom = now.Unix() // nobody can have cached a key set of ours yet
			set.Keys = append(set.Keys, first)
		}
		if set.next() == nil {
			next, err := generateKey(now)
			if err != nil {
				return set, err
			}
			set.Keys = append(set.Keys, next)
		}
		return set, nil
	})
}

// change reads the document, lets fn make the new set of it, and saves that if it differs, again
// from the start if someone else has saved meanwhile. The caller holds mu.
func (i *Issuer) change(ctx context.Context, fn func(set keySet, now time.Time) (keySet, error)) error {
	for range saveTries {
		document, version, err := i.cfg.Store.Load(ctx)
		if err != nil {
			return fmt.Errorf("issuer: load keys: %w", err)
		}
		var set keySet
		if document != nil {
			if set, err = decodeKeys(document); err != nil {
				return err
			}
		}
		now := i.cfg.Now()
		if set, err = fn(set, now); err != nil {
			return err
		}
		set.dropGone(now)
		changed, err := json.Marshal(set)
		if err != nil {
			return errors.New("issuer: keys do not marshal")
		}
		if string(changed) == string(document) {
			i.set, i.version = set, version
			return nil
		}
		saved, err := i.cfg.Store.Save(ctx, changed, version)
		if err != nil {
			return fmt.Errorf("issuer: save keys: %w", err)
		}
		if saved {
			i.set, i.version = set, version+1
			return nil
		}
	}
	return errors.New("issuer: save keys: others keep changing them")
}

func (s *keySet) dropGone(now time.Time) {
	kept := s.Keys[:0:0]
	for _, k := range s.Keys {
		if k.Retired == 0 || now.Before(k.gone()) {
			kept = append(kept, k)
		}
	}
	s.Keys = kept
}

// Rotate lets the next key sign from now on, forgets the old one's private part and publishes a
// new next key, all in one durable step. *TooEarlyError if the next key has not been published for 24 hours.
func (i *Issuer) Rotate(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	err := i.change(ctx, func(set keySet, now time.Time) (keySet, error) {
		old, next := set.current(), set.next()
		if old == nil || next == nil {
			return set, errors.New("issuer: rotate: a key is missing")
		}
		if ready := time.Unix(next.Published, 0).Add(publishBefore); now.Before(ready) {
			return set, &TooEarlyError{At: ready}
		}
		fresh, err := generateKey(now)
		if err != nil {
			return set, err
		}
		old.Retired, old.PKCS8, old.private = now.Unix(), nil, nil
		next.SignsFrom = now.Unix()
		set.Keys = append(set.Keys, fresh)
		return set, nil
	})
	if err == nil {
		i.cfg.Log.Info().Str("signs", i.set.current().ID).Str("next", i.set.next().ID).Msg("Token signing key rotated")
	}
	return err
}

// Refresh takes over what another process that signs with the same keys has made of them.
func (i *Issuer) Refresh(ctx context.Context) error {
	_, version, err := i.cfg.Store.Load(ctx)
	if err != nil {
		return fmt.Errorf("issuer: load keys: %w", err)
	}
	i.mu.RLock()
	same := version == i.version
	i.mu.RUnlock()
	if same {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.load(ctx)
}

// Run rotates whenever the signing key has served its time, until ctx ends; then it returns ctx's
// error. A failure is logged and tried again a minute later.
func (i *Issuer) Run(ctx context.Context) error {
	for {
		timer := time.NewTimer(i.untilRotation())
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		if i.untilRotation() > 0 {
			continue // the timer was capped, or the clock was set
		}
		if i.Refresh(ctx) == nil && i.untilRotation() > 0 {
			continue // another process has done it
		}
		if err := i.Rotate(ctx); err != nil && ctx.Err() == nil {
			i.cfg.Log.Err(err).Msg("Token signing key was not rotated")
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Minute):
			}
		}
	}
}

// untilRotation is how long the signing key has still to serve, at most an hour at a time, so that a
// clock that is set is noticed.
func (i *Issuer) untilRotation() time.Duration {
	i.mu.RLock()
	defer i.mu.RUnlock()
	due := time.Unix(i.set.current().SignsFrom, 0).Add(i.cfg.RotateEvery)
	if ready := time.Unix(i.set.next().Published, 0).Add(publishBefore); due.Before(ready) {
		due = ready
	}
	return min(due.Sub(i.cfg.Now()), time.Hour)
}
