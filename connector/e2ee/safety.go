package e2ee

import (
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

const (
	// safetyChunk is how many bytes of a fingerprint make five digits, safetyGroups how many such groups it has.
	safetyChunk, safetyGroups = 5, 6
	// SafetyDigits is the length of a safety number.
	SafetyDigits = 2 * 5 * safetyGroups
	// scanBytes is how much of a fingerprint is scanned.
	scanBytes = 32
	// MaxScanned bounds what Compare takes, in bytes; ours is 74 long.
	MaxScanned = 1024
)

var (
	// ErrNotScanned says that what is to be compared was not scanned from a safety number.
	ErrNotScanned = errors.New("safety number: not one that was scanned")
	// ErrScannedVersion says that it was, in another version than ours.
	ErrScannedVersion = errors.New("safety number: of another version")
)

// SafetyParty is one side of a safety number.
type SafetyParty struct {
	// Identifier is what never changes about this person, the same bytes on both sides.
	Identifier []byte
	// Identity is the identity key, without the type byte.
	Identity [32]byte
}

// SafetyNumber is what two people compare to know that nobody sits between them: a fingerprint of each identity key
// (PROTOCOL.md 6.14). Both sides see the same digits.
type SafetyNumber struct {
	version     uint32
	ours, their [sha512.Size]byte
}

// NewSafetyNumber makes the number of two parties, with so many iterations of the hash (at least 1). version is that of what
// is scanned.
func NewSafetyNumber(version uint32, iterations int, us, them SafetyParty) SafetyNumber {
	return SafetyNumber{version: version, ours: us.fingerprint(iterations), their: them.fingerprint(iterations)}
}

// fingerprint hashes version 0, key and identifier, and then the key again and again.
func (p SafetyParty) fingerprint(iterations int) [sha512.Size]byte {
	key := typed(p.Identity)
	first := append([]byte{0, 0}, key...)
	sum := sha512.Sum512(append(append(first, p.Identifier...), key...))
	buffer := make([]byte, 0, len(sum)+len(key))
	for range iterations - 1 {
		sum = sha512.Sum512(append(append(buffer, sum[:]...), key...))
	}
	return sum
}

// Digits are the SafetyDigits digits that people compare.
func (n SafetyNumber) Digits() string {
	ours, their := safetyDigits(n.ours), safetyDigits(n.their)
	if their < ours {
		ours, their = their, ours
	}
	return ours + their
}

func safetyDigits(fingerprint [sha512.Size]byte) string {
	digits := ""
	for i := range safetyGroups {
		var number uint64
		for _, b := range fingerprint[i*safetyChunk : (i+1)*safetyChunk] {
			number = number<<8 | uint64(b)
		}
		digits += fmt.Sprintf("%05d", number%100_000)
	}
	return digits
}

// The fields of what is scanned, a protobuf.
const (
	fieldVersion, fieldOurs, fieldTheirs = 1, 2, 3 // of the whole
	fieldContent                         = 1       // of one fingerprint
)

// Scannable is what a QR code of the number carries, for the other side to scan.
func (n SafetyNumber) Scannable() []byte {
	out := protowire.AppendTag(nil, fieldVersion, protowire.VarintType)
	out = protowire.AppendVarint(out, uint64(n.version))
	for i, fingerprint := range [][]byte{n.ours[:scanBytes], n.their[:scanBytes]} {
		one := protowire.AppendTag(nil, fieldContent, protowire.BytesType)
		one = protowire.AppendBytes(one, fingerprint)
		out = protowire.AppendTag(out, protowire.Number(fieldOurs+i), protowire.BytesType)
		out = protowire.AppendBytes(out, one)
	}
	return out
}

// Compare says whether what was scanned on the other side's phone is this number. Errors: ErrNotScanned, ErrScannedVersion.
func (n SafetyNumber) Compare(scanned []byte) (equal bool, err error) {
	if len(scanned) > MaxScanned {
		return false, ErrNotScanned
	}
	version, there, here, err := parseScanned(scanned)
	if err != nil {
		return false, err
	}
	if version != uint64(n.version) {
		return false, ErrScannedVersion
	}
	same := subtle.ConstantTimeCompare(there, n.their[:scanBytes]) & subtle.ConstantTimeCompare(here, n.ours[:scanBytes])
	return same == 1, nil
}

// parseScanned reads the fields of what was scanned; there is the fingerprint of whoever showed it. Fields that are not
// known are passed over, and of one that comes twice the last counts.
func parseScanned(scanned []byte) (version uint64, there, here []byte, err error) {
	known := false
	err = eachField(scanned, func(field protowire.Number, number uint64, content []byte) error {
		switch {
		case field == fieldVersion && content == nil:
			version, known = number, true
		case field == fieldOurs && content != nil:
			there, err = parseFingerprint(content)
		case field == fieldTheirs && content != nil:
			here, err = parseFingerprint(content)
		}
		return err
	})
	if err == nil && (!known || there == nil || here == nil) {
		err = ErrNotScanned
	}
	return version, there, here, err
}

func parseFingerprint(raw []byte) (content []byte, err error) {
	err = eachField(raw, func(field protowire.Number, _ uint64, bytes []byte) error {
		if field == fieldContent && bytes != nil {
			content = bytes
		}
		return nil
	})
	if len(content) != scanBytes {
		return nil, ErrNotScanned
	}
	return content, err
}

// eachField calls one for each field: with its bytes if it has any, else with its number.
func eachField(raw []byte, one func(field protowire.Number, number uint64, content []byte) error) error {
	for len(raw) > 0 {
		field, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return ErrNotScanned
		}
		raw = raw[n:]
		var number uint64
		var content []byte
		switch kind {
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(raw)
		case protowire.BytesType:
			if content, n = protowire.ConsumeBytes(raw); content == nil {
				content = []byte{}
			}
		default:
			n = protowire.ConsumeFieldValue(field, kind, raw)
		}
		if n < 0 {
			return ErrNotScanned
		}
		raw = raw[n:]
		if kind != protowire.VarintType && kind != protowire.BytesType {
			continue
		}
		if err := one(field, number, content); err != nil {
			return err
		}
	}
	return nil
}
