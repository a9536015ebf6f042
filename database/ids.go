package database

import (
	"crypto/rand"
	"encoding/base32"
)

var localIDAlphabet = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewLocalID mints an opaque id for an account, a contact or a chat: 16 lower-case base32
// characters from 80 random bits. It says nothing about the person and is never minted again.
func NewLocalID() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the process instead
	return localIDAlphabet.EncodeToString(b[:])
}
