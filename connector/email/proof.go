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

// How long a code holds, how often one may be wrong, and how many letters there are in an hour: to one user, to one address, and in
// all. The last bounds memory too.
const (
	CodeDigits  = 8
	CodeLife    = 10 * time.Minute
	CodeTries   = 5
	hour        = time.Hour
	perUser     = 5
	perAddress  = 3
	lettersHour = 1000
)

// Errors of Proofs.
var (
	// ErrTooMany: that were too many letters in an hour.
	ErrTooMany = errors.New("email: too many letters")
	// ErrWrong: the code is another one. There are tries left.
	ErrWrong = errors.New("email: wrong code")
	// ErrOver: the code is too old, was wrong too often, or was used.
	ErrOver = errors.New("email: the code does not hold any more")
)

// Proofs keeps count of the letters that are sent. Codes and counts are in memory alone: a restart ends the logins that wait for one.
type Proofs struct {
	mu      sync.Mutex
	letters []letter
}

type letter struct {
	at            time.Time
	user, address string
}

// Proof is one code that was sent to one address.
type Proof struct {
	address string
	made    time.Time
	mu      sync.Mutex
	code    string // "" once it does not hold any more
	tries   int
}

// Begin makes a code for an address that a user wants to prove, or ErrTooMany. The caller sends it.
func (p *Proofs) Begin(user, address string) (*Proof, string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	kept := p.letters[:0]
	users, addresses := 0, 0
	for _, l := range p.letters {
		if now.Sub(l.at) >= hour {
			continue
		}
		kept = append(kept, l)
		if l.user == user {
			users++
		}
		if l.address == address {
			addresses++
		}
	}
	p.letters = kept
	if users >= perUser || addresses >= perAddress || len(kept) >= lettersHour {
		return nil, "", ErrTooMany
	}
	code, err := newCode()
	if err != nil {
		return nil, "", err
	}
	p.letters = append(p.letters, letter{now, user, address})
	return &Proof{address: address, made: now, code: code}, code, nil
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
