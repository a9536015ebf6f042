package email

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"time"
)

// How long a code holds, and how often one may be wrong.
const (
	CodeDigits = 8
	CodeLife   = 10 * time.Minute
	CodeTries  = 5
)

// Errors of a Proof.
var (
	// ErrWrong: the code is another one. There are tries left.
	ErrWrong = errors.New("email: wrong code")
	// ErrOver: the code is too old, was wrong too often, or was used.
	ErrOver = errors.New("email: the code does not hold any more")
)

// Proof is one code that was sent to one address. It is in memory alone: a restart ends the logins that wait for one. How many there are the
// caller counts.
type Proof struct {
	address string
	made    time.Time
	mu      sync.Mutex
	code    string // "" once it does not hold any more
	tries   int
}

// NewProof makes a code for an address that somebody wants to prove. The caller sends it.
func NewProof(address string) (*Proof, string, error) {
	code, err := newCode()
	if err != nil {
		return nil, "", err
	}
	return &Proof{address: address, made: time.Now(), code: code}, code, nil
}

func newCode() (string, error) {
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(CodeDigits), nil)
	n, err := rand.Int(rand.Reader, limit)
	if err != nil {
		return "", fmt.Errorf("email: code: %w", err)
	}
	return fmt.Sprintf("%0*d", CodeDigits, n), nil
}

// Address is what the proof is of.
func (p *Proof) Address() string { return p.address }

// TriesLeft says how often the code may still be wrong.
func (p *Proof) TriesLeft() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return CodeTries - p.tries
}

// Check judges what somebody has typed: nil, once, for the code; ErrWrong or ErrOver for anything else. Spaces and dashes in it do not
// matter.
func (p *Proof) Check(typed string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.code == "" || time.Since(p.made) >= CodeLife {
		p.code = ""
		return ErrOver
	}
	typed = strings.NewReplacer(" ", "", "-", "").Replace(strings.TrimSpace(typed))
	if subtle.ConstantTimeCompare([]byte(typed), []byte(p.code)) == 1 {
		p.code = ""
		return nil
	}
	if p.tries++; p.tries >= CodeTries {
		p.code = ""
		return ErrOver
	}
	return ErrWrong
}
