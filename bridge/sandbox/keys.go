package sandbox

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"postern/connector/noise"
)

// serverKeys are the sandbox's own keys, the same for the life of its state.
type serverKeys struct {
	root   [32]byte
	static noise.KeyPair
	chain  []byte
	push   *rsa.PrivateKey
	pushID string
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
		push, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return fmt.Errorf("make push key: %w", err)
		}
		id := make([]byte, 8)
		if _, err := rand.Read(id); err != nil {
			return fmt.Errorf("make push key: %w", err)
		}
		m.RootPrivate, m.IntPrivate = authority.Root.Private[:], authority.Intermediate.Private[:]
		m.NoisePrivate = static.Private[:]
		m.PushKey = x509.MarshalPKCS1PrivateKey(push)
		m.PushKeyID = hex.EncodeToString(id)
		c.state.meta = m
		c.put(m)
	}
	root, err1 := keyPair(m.RootPrivate)
	intermediate, err2 := keyPair(m.IntPrivate)
	static, err3 := keyPair(m.NoisePrivate)
	push, err4 := x509.ParsePKCS1PrivateKey(m.PushKey)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return fmt.Errorf("read own keys: %w", err)
	}
	authority := &noise.Authority{Root: root, Intermediate: intermediate, Serial: 1}
	now := s.now()
	chain, err := authority.Issue(static.Public, now.Add(-24*time.Hour), now.AddDate(10, 0, 0))
	if err != nil {
		return fmt.Errorf("issue certificates: %w", err)
	}
	s.keys = serverKeys{root: root.Public, static: static, chain: chain, push: push, pushID: m.PushKeyID}
	s.pusher = newPusher(s)
	return nil
}

func keyPair(private blob) (noise.KeyPair, error) {
	if len(private) != noise.KeySize {
		return noise.KeyPair{}, errors.New("key of the wrong length")
	}
	return noise.KeyPairFromPrivate([noise.KeySize]byte(private))
}
