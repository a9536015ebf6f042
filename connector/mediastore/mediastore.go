// Package mediastore keeps the encrypted attachments that our users send, until the gatekeeper's media proxy has fetched
// them for its phones, and serves them to it.
//
// Layer: beneath connector, beside media; it imports killpoint of this project, and of other modules the S3 client alone. It sees
// ciphertext only and has no keys. It implements PROTOCOL.md 7.2 (what is stored and how it is served) and 7.3 (how
// long).
//
// An attachment is fetched by its reference: 256 random bits in 43 characters of base64url, made by Put. The store
// itself remembers the SHA-256 of a reference, as the key of the row in the Index and as the name of the file in
// the Backend, so that neither a copy of the database nor a list of the files is a list of what can be fetched.
//
// A file is written under a temporary name and gets its own when it is whole and on disk; its row follows, in the transaction
// of what refers to it (Commit). So there is never a row for half a file. What a crash leaves between the two has no row, cannot be
// fetched, and is collected after a day (Sweep).
package mediastore

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// RefLength is the length of a reference in characters.
const RefLength = 43

// Errors that callers tell apart with errors.Is.
var (
	// ErrQuota says that the owner's files would have become more than Config.QuotaBytes; it comes in a *QuotaError.
	ErrQuota = errors.New("mediastore: over the owner's quota")
	// ErrFull says that the disk, or the object store, has no room. The same may succeed later.
	ErrFull = errors.New("mediastore: no room")
	// ErrEmpty says that nothing was written: ciphertext is never empty.
	ErrEmpty = errors.New("mediastore: nothing to store")
	// ErrNotFound is what a Backend says of a blob that is not there, or not whole.
	ErrNotFound = errors.New("mediastore: no such blob")
	// ErrDamaged says that a blob is not what was stored.
	ErrDamaged = errors.New("mediastore: blob is damaged")
	// ErrGone says that an object has been discarded, or collected because it was not committed for a day.
	ErrGone = errors.New("mediastore: object was discarded")
)

// QuotaError is a refusal for want of quota. errors.Is finds ErrQuota in it.
type QuotaError struct {
	// Limit is the owner's quota, and Used what the owner's other files take of it, those being written
	// among them; in bytes.
	Limit, Used int64
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("%v: %d of %d bytes are taken", ErrQuota, e.Used, e.Limit)
}

// Unwrap returns ErrQuota.
func (e *QuotaError) Unwrap() error { return ErrQuota }

// Name is what the store calls an object: the SHA-256 of its reference.
type Name [sha256.Size]byte

// String is the name in 64 hexadecimal digits.
func (n Name) String() string { return hex.EncodeToString(n[:]) }

// NameOf is the name of the object with that reference. Any text has one; that of a text which is no reference belongs to nothing.
func NameOf(ref string) Name { return sha256.Sum256([]byte(ref)) }

// parseName reads what String has written, and nothing else.
func parseName(text string) (n Name, ok bool) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(n) {
		return n, false
	}
	n = Name(raw)
	return n, n.String() == text
}

// newRef makes a reference.
func newRef() string {
	var random [32]byte
	_, _ = rand.Read(random[:]) // cannot fail
	return base64.RawURLEncoding.EncodeToString(random[:])
}

// Row is what the index knows of an object.
type Row struct {
	Name  Name
	Owner string
	// Size is in bytes, SHA256 the hash of them.
	Size   int64
	SHA256 [sha256.Size]byte
	// Created and Expires have milliseconds; so has Fetched, when the blob was fetched whole for the first time, zero for never.
	Created, Expires, Fetched time.Time
}

// Index keeps the rows, durably. Its methods may be called from any goroutine.
type Index interface {
	// Add inserts a row, in the transaction that ctx carries if it carries one. A row with that name that is there already
	// is left as it is.
	Add(ctx context.Context, row Row) error
	// Get returns a row, also an expired one; nil if there is none.
	Get(ctx context.Context, name Name) (*Row, error)
	// Used is the sum of an owner's sizes.
	Used(ctx context.Context, owner string) (int64, error)
	// After returns at most limit rows with names above that one, ascending; nil begins.
	After(ctx context.Context, name *Name, limit int) ([]Row, error)
	// Expired is After for the rows that have expired at that time.
	Expired(ctx context.Context, at time.Time, name *Name, limit int) ([]Row, error)
	// OfOwner is After for the rows of one owner.
	OfOwner(ctx context.Context, owner string, name *Name, limit int) ([]Row, error)
	// ExpireOwner makes all rows of an owner expired.
	ExpireOwner(ctx context.Context, owner string) error
	// Delete removes a row if it is there.
	Delete(ctx context.Context, name Name) error
}

// Backend keeps the blobs. Files and S3 make one each.
type Backend interface {
	// Create begins a blob.
	Create(ctx context.Context) (Pending, error)
	// Open reads length bytes, at least 1, of a blob from offset on; the caller closes what it returns. ErrNotFound if there is no
	// such blob, or if it ends before that.
	Open(ctx context.Context, name Name, offset, length int64) (io.ReadCloser, error)
	// Exists says whether there is such a blob.
	Exists(ctx context.Context, name Name) (bool, error)
	// Delete removes a blob if it is there.
	Delete(ctx context.Context, name Name) error
	// List yields all blobs by name, ascending. It ends with the first error.
	List(ctx context.Context) iter.Seq2[Stored, error]
	// Clean removes what interrupted writes have left, and nothing that is being written.
	Clean(ctx context.Context) error
}

// Pending is a blob that is being written.
type Pending interface {
	// Write adds to it.
	io.Writer
	// Commit gives the blob its name. When it returns nil, the blob is on disk as a whole; otherwise it is not there at all.
	Commit(ctx context.Context, name Name) error
	// Abort throws away what was written; after Commit it does nothing.
	Abort()
}

// Stored is a blob in a list.
type Stored struct {
	Name Name
	// Modified is when it was written.
	Modified time.Time
}

// Config says what a Store works with.
type Config struct {
	Backend Backend
	Index   Index
	// Keep is how long an object can be fetched after its Commit (PROTOCOL.md 7.3).
	Keep time.Duration
	// QuotaBytes is the most that one owner's objects may have together, 0 for no limit.
	QuotaBytes int64
	// Fetched, if not nil, is told when a blob has been written to connections as a whole, at once or in parts one after another.
	Fetched func(ctx context.Context, row *Row)
	// Log receives failures of the storage; no reference, name or owner.
	Log zerolog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Age is the clock by which objects expire and orphans grow old, so that a Now that is wrong for a while deletes nothing; nil means Now.
	Age func() time.Time
}

// noRoom recognises what systems say when there is no room, so that Write and Commit of any backend fail with ErrFull.
func noRoom(err error) error {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) {
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
	}
	return err
}
