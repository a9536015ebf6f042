package database

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// KeySize is the length of the master key in bytes.
const KeySize = 32

// sealNonceSize is the length of the random nonce of a sealed column.
const sealNonceSize = 24

// sealFormat is the first byte of a sealed column.
const sealFormat = 1

// SealOverhead is how many bytes a sealed column is longer than its plaintext.
const SealOverhead = 1 + sealNonceSize + 16

// sealer seals columns with AES-256-GCM. A 96-bit random nonce under one key is safe for
// 2^32 seals only, which a busy bridge can reach, so the nonce is 192 random bits: the first
// half derives the key of this one column value, the rest is GCM's nonce (the C2SP
// construction XAES-256-GCM, safe for 2^80).
type sealer struct {
	block cipher.Block // the master key's AES, used for deriving only
	k1    [16]byte     // CMAC subkey of the derivation
	index [32]byte     // key of BlindIndex
	rows  [32]byte     // key of what rows add to their sums, see rows.go
}

func newSealer(master [KeySize]byte) (*sealer, error) {
	// The column key and the index key are derived apart, so that no key has two uses.
	column := hmac.New(sha256.New, master[:])
	column.Write([]byte("postern database columns"))
	return newSealerRaw([KeySize]byte(column.Sum(nil)), master)
}

func newSealerRaw(column, master [KeySize]byte) (*sealer, error) {
	block, err := aes.NewCipher(column[:])
	if err != nil {
		return nil, fmt.Errorf("database: seal: %w", err)
	}
	s := &sealer{block: block}
	block.Encrypt(s.k1[:], s.k1[:])
	var carry byte
	for i := len(s.k1) - 1; i >= 0; i-- {
		next := s.k1[i] >> 7
		s.k1[i] = s.k1[i]<<1 | carry
		carry = next
	}
	s.k1[15] ^= carry * 0x87 // carry is 0 or 1: no branch on key bits
	index := hmac.New(sha256.New, master[:])
	index.Write([]byte("postern database index"))
	index.Sum(s.index[:0])
	rows := hmac.New(sha256.New, master[:])
	rows.Write([]byte("postern database rows"))
	rows.Sum(s.rows[:0])
	return s, nil
}

// aead derives the cipher for one nonce (24 bytes).
func (s *sealer) aead(nonce []byte) (cipher.AEAD, error) {
	var key [KeySize]byte
	for half := range 2 {
		in := [16]byte{0, byte(half + 1), 'X', 0}
		copy(in[4:], nonce[:12])
		for i := range in {
			in[i] ^= s.k1[i]
		}
		s.block.Encrypt(key[16*half:], in[:])
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("database: seal: %w", err)
	}
	return cipher.NewGCM(block)
}

// sealAAD names the place of a value, injectively.
func sealAAD(column, row string, version int) []byte {
	aad := make([]byte, 0, len(column)+len(row)+16)
	aad = binary.AppendUvarint(aad, uint64(len(column)))
	aad = append(aad, column...)
	aad = binary.AppendUvarint(aad, uint64(len(row)))
	aad = append(aad, row...)
	return binary.BigEndian.AppendUint64(aad, uint64(version))
}

func (s *sealer) seal(column, row string, version int, plaintext []byte) []byte {
	out := make([]byte, 1+sealNonceSize, len(plaintext)+SealOverhead)
	out[0] = sealFormat
	_, _ = rand.Read(out[1:]) // never fails: it ends the process instead
	aead, err := s.aead(out[1:])
	if err != nil {
		panic(err) //nolint:forbidigo // impossible: the key has a fixed, valid length
	}
	return aead.Seal(out, out[1+12:1+sealNonceSize], plaintext, sealAAD(column, row, version))
}

func (s *sealer) unseal(column, row string, version int, sealed []byte) ([]byte, error) {
	if len(sealed) < SealOverhead || sealed[0] != sealFormat {
		return nil, fmt.Errorf("%w: %s", ErrSealBroken, column)
	}
	nonce := sealed[1 : 1+sealNonceSize]
	aead, err := s.aead(nonce)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(make([]byte, 0, len(sealed)), nonce[12:], sealed[1+sealNonceSize:], sealAAD(column, row, version))
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrSealBroken, column)
	}
	return plaintext, nil
}

// Seal encrypts and authenticates the value of one column with the master key (AES-256-GCM, a
// random nonce in front; SealOverhead bytes longer). The result opens only under the same
// column ("table.column"), row (the row's primary key as text, parts joined injectively) and
// version (a number in the row that grows with each change of the value).
func (db *DB) Seal(column, row string, version int, plaintext []byte) []byte {
	return db.sealer.seal(column, row, version, plaintext)
}

// Unseal opens what Seal made, or returns ErrSealBroken.
func (db *DB) Unseal(column, row string, version int, sealed []byte) ([]byte, error) {
	return db.sealer.unseal(column, row, version, sealed)
}

// BlindIndex is a keyed hash (32 bytes) of a value for a column that rows are looked up by
// while the value itself is sealed. Equal values give equal hashes within one column.
func (db *DB) BlindIndex(column, value string) []byte {
	mac := hmac.New(sha256.New, db.sealer.index[:])
	mac.Write(binary.AppendUvarint(nil, uint64(len(column))))
	mac.Write([]byte(column))
	mac.Write([]byte(value))
	return mac.Sum(nil)
}

// RowKey joins the parts of a composite primary key into the row argument of Seal, injectively.
func RowKey(parts ...string) string {
	var b []byte
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	return string(b)
}
