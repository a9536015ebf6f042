// Package provisioning stands in front of the framework's provisioning interface (/_matrix/provision/): it knows which requests there
// are, lets in who brings a token for them, and has noted down what they change. A token acts for one Matrix user and has scopes; the
// framework itself knows one secret that acts for everybody, which never leaves this process unless the operator has configured one.
//
// Layer: below connector, which gives it tokens and the framework's handler. It may import nothing of this project. It implements no section of
// docs/PROTOCOL.md; docs/PROVISIONING.md describes it.
//
// Nothing of a request is logged but the pattern of its route, ids of tokens, outcomes and counts.
package provisioning

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"
)

// Base is where the framework has its interface, Prefix begins the path of every request that there is.
const (
	Base   = "/_matrix/provision/"
	Prefix = Base + "v3/"
)

// Scopes are what a token may be used for, the least first.
const (
	ScopeStatus   = "status"   // see one's logins and how they are
	ScopeContacts = "contacts" // see contacts, and ask whether somebody can be written to
	ScopeChats    = "chats"    // begin chats
	ScopeLogin    = "login"    // log in
	ScopeLogout   = "logout"   // log out, which deletes an account
)

// Scopes are all of them.
var Scopes = []string{ScopeStatus, ScopeContacts, ScopeChats, ScopeLogin, ScopeLogout}

// Token is what is known of a token.
type Token struct {
	// ID is its public part, User the Matrix ID that it acts for.
	ID, User string
	Scopes   []string
	// Hash is the SHA-256 of its secret part.
	Hash    [sha256.Size]byte
	Expires time.Time
	Revoked bool
}

// tokenPrefix begins every token; the log leaves out what begins so.
const tokenPrefix = "pst_"

// The lengths of a token's parts, in bytes before they are written down.
const (
	idSize     = 6
	secretSize = 32
)

// ErrFormat says that something is no token.
var ErrFormat = errors.New("provisioning: that is no token")

// New makes a token: its id, the token itself, which is nowhere else, and the hash of its secret part.
func New() (id, token string, hash [sha256.Size]byte) {
	raw := make([]byte, idSize+secretSize)
	_, _ = rand.Read(raw) // it never fails
	id, secret := hex.EncodeToString(raw[:idSize]), base64.RawURLEncoding.EncodeToString(raw[idSize:])
	return id, tokenPrefix + id + "_" + secret, sha256.Sum256([]byte(secret))
}

// parse takes a token apart. Errors: ErrFormat.
func parse(token string) (id string, hash [sha256.Size]byte, err error) {
	rest, ok := strings.CutPrefix(token, tokenPrefix)
	id, secret, cut := strings.Cut(rest, "_")
	if !ok || !cut || len(id) != 2*idSize || len(secret) != base64.RawURLEncoding.EncodedLen(secretSize) {
		return "", hash, ErrFormat
	}
	if _, err := hex.DecodeString(id); err != nil || id != strings.ToLower(id) {
		return "", hash, ErrFormat
	}
	return id, sha256.Sum256([]byte(secret)), nil
}

// fits compares in constant time, also with a token that is not there.
func (t *Token) fits(hash [sha256.Size]byte) bool {
	var known Token
	if t != nil {
		known = *t
	}
	return subtle.ConstantTimeCompare(known.Hash[:], hash[:]) == 1 && t != nil
}

// may says whether the token has a scope.
func (t *Token) may(scope string) bool { return slices.Contains(t.Scopes, scope) }

// Keeper is what the gate needs of the bridge.
type Keeper interface {
	// Token finds a token by its id, nil for none.
	Token(ctx context.Context, id string) (*Token, error)
	// Ready says whether the bridge takes requests. Suspended says whether the operator has stopped a user.
	Ready() bool
	Suspended(user string) bool
	// Begin notes down that somebody is about to change something, before it is done; end notes how it ended. Where Begin fails nothing is
	// done. Refused notes down that a token was used for what it may not be used for.
	Begin(ctx context.Context, actor, action, subject string) (end func(outcome string), err error)
	Refused(ctx context.Context, actor, action string)
}
