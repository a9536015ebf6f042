package sandbox

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"postern/connector/noise"
)

// serverKeys are the keys of the sandbox's links, the same for the life of its state.
type serverKeys struct {
	root   [32]byte
	static noise.KeyPair
	chain  []byte
}

// makeKeys makes the sandbox's keys or takes them from the state, and issues a certificate chain for this
// run (PROTOCOL.md 4.2).
func (s *Server) makeKeys(c change) error {
	m := c.meta
	if m == nil {
		m = &meta{}
		authority, err := noise.NewAuthority(rand.Reader)
		if err != nil {
			return fmt.Errorf("make certificate authority: %w", err)
		}
		static, err := noise.GenerateKeyPair(rand.Reader)
		if err != nil {
			return fmt.Errorf("make server key: %w", err)
		}
		m.RootPrivate, m.IntPrivate = authority.Root.Private[:], authority.Intermediate.Private[:]
		m.NoisePrivate = static.Private[:]
		c.state.meta = m
		c.put(m)
	}
	root, err1 := keyPair(m.RootPrivate)
	intermediate, err2 := keyPair(m.IntPrivate)
	static, err3 := keyPair(m.NoisePrivate)
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("read own keys: %w", err)
	}
	authority := &noise.Authority{Root: root, Intermediate: intermediate, Serial: 1}
	now := s.now()
	chain, err := authority.Issue(static.Public, now.Add(-24*time.Hour), now.AddDate(10, 0, 0))
	if err != nil {
		return fmt.Errorf("issue certificates: %w", err)
	}
	s.keys = serverKeys{root: root.Public, static: static, chain: chain}
	return nil
}

// signingKey is the RSA key that signs push tokens. It is made when it is first needed, because making it takes
// longer than all the rest of a start.
func (p *pusher) signingKey() (*rsa.PrivateKey, string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.key != nil {
		return p.key, p.keyID, nil
	}
	var stored []byte
	var id string
	p.s.state.view(func() { stored, id = p.s.state.meta.PushKey, p.s.state.meta.PushKeyID })
	if stored == nil {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, "", fmt.Errorf("make push key: %w", err)
		}
		stored, id = x509.MarshalPKCS1PrivateKey(key), newID("", 8)
		err = p.s.settled(p.s.state.update(func(c change) {
			c.meta.PushKey, c.meta.PushKeyID = stored, id
			c.put(c.meta)
		}))
		if err != nil {
			return nil, "", err
		}
	}
	key, err := x509.ParsePKCS1PrivateKey(stored)
	if err != nil {
		return nil, "", fmt.Errorf("read push key: %w", err)
	}
	p.key, p.keyID = key, id
	return key, id, nil
}

func keyPair(private blob) (noise.KeyPair, error) {
	if len(private) != noise.KeySize {
		return noise.KeyPair{}, errors.New("key of the wrong length")
	}
	return noise.KeyPairFromPrivate([noise.KeySize]byte(private))
}
