package noise

import (
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// CertificateSkew is how far the two clocks may be apart when certificate dates are
// checked (PROTOCOL.md 4.2).
const CertificateSkew = 120 * time.Second

// Reasons of a CertificateError.
var (
	// ErrCertMalformed: not the protobuf it should be, or a part is missing.
	ErrCertMalformed = errors.New("malformed")
	// ErrCertSignature: the signature does not verify under the issuer's key.
	ErrCertSignature = errors.New("bad signature")
	// ErrCertIssuer: the issuer's serial number is not that of the certificate above.
	ErrCertIssuer = errors.New("wrong issuer")
	// ErrCertKey: the leaf is for another key than the one in the handshake.
	ErrCertKey = errors.New("for another key")
	// ErrCertDates: a date is absent, zero or beyond what can be represented.
	ErrCertDates = errors.New("without usable dates")
	// ErrCertNotYetValid and ErrCertExpired: outside its dates, skew allowed for.
	ErrCertNotYetValid = errors.New("not valid yet")
	ErrCertExpired     = errors.New("expired")
)

// CertificateError says which certificate of the server was refused, and why.
type CertificateError struct {
	// Which is "chain", "intermediate" or "leaf".
	Which string
	// Err is one of the reasons above.
	Err error
}

// Error returns certificate and reason.
func (e *CertificateError) Error() string {
	return fmt.Sprintf("noise: %s certificate: %v", e.Which, e.Err)
}

// Unwrap returns the reason.
func (e *CertificateError) Unwrap() error { return e.Err }

// Field numbers of the chain, of a certificate, and of its details.
const (
	fieldChainLeaf         protowire.Number = 1
	fieldChainIntermediate protowire.Number = 2

	fieldCertDetails   protowire.Number = 1
	fieldCertSignature protowire.Number = 2

	fieldDetailsSerial       protowire.Number = 1
	fieldDetailsIssuerSerial protowire.Number = 2
	fieldDetailsKey          protowire.Number = 3
	fieldDetailsNotBefore    protowire.Number = 4
	fieldDetailsNotAfter     protowire.Number = 5
)

// rootSerial is the issuer serial an intermediate certificate has.
const rootSerial = 0

// details are the signed part of a certificate.
type details struct {
	serial, issuerSerial uint32
	key                  [KeySize]byte
	notBefore, notAfter  uint64 // Unix seconds
}

// VerifyChain checks a server's certificate chain: the intermediate is signed by
// root, the leaf by the intermediate, the serial numbers link up, the leaf is for
// the key static, and now is within the dates of both. The error is a
// *CertificateError. Source: PROTOCOL.md 4.2.
func VerifyChain(chain []byte, root, static [KeySize]byte, now time.Time) error {
	var leafRaw, intermediateRaw []byte
	err := pick(chain,
		[]protowire.Number{fieldChainLeaf, fieldChainIntermediate},
		[]*[]byte{&leafRaw, &intermediateRaw})
	if err != nil || leafRaw == nil || intermediateRaw == nil {
		return &CertificateError{"chain", ErrCertMalformed}
	}
	intermediate, err := verifyCertificate(intermediateRaw, root, rootSerial, now)
	if err != nil {
		return &CertificateError{"intermediate", err}
	}
	leaf, err := verifyCertificate(leafRaw, intermediate.key, intermediate.serial, now)
	if err != nil {
		return &CertificateError{"leaf", err}
	}
	if leaf.key != static {
		return &CertificateError{"leaf", ErrCertKey}
	}
	return nil
}

// verifyCertificate checks one certificate; nothing inside it is looked at before
// its signature has been verified.
func verifyCertificate(raw []byte, issuer [KeySize]byte, issuerSerial uint32, now time.Time) (details, error) {
	var signed, signature []byte
	err := pick(raw,
		[]protowire.Number{fieldCertDetails, fieldCertSignature},
		[]*[]byte{&signed, &signature})
	if err != nil || signed == nil || signature == nil {
		return details{}, ErrCertMalformed
	}
	if !verify(issuer, signed, signature) {
		return details{}, ErrCertSignature
	}
	d, err := parseDetails(signed)
	if err != nil {
		return details{}, err
	}
	if d.issuerSerial != issuerSerial {
		return details{}, ErrCertIssuer
	}
	return d, d.checkDates(now)
}

func (d details) checkDates(now time.Time) error {
	if d.notBefore == 0 || d.notAfter == 0 || d.notBefore > math.MaxInt64 || d.notAfter > math.MaxInt64 {
		return ErrCertDates
	}
	seconds, skew := now.Unix(), int64(CertificateSkew/time.Second)
	if seconds+skew < int64(d.notBefore) {
		return ErrCertNotYetValid
	}
	if seconds-skew > int64(d.notAfter) {
		return ErrCertExpired
	}
	return nil
}

func parseDetails(raw []byte) (details, error) {
	var d details
	hasKey := false
	err := eachField(raw, func(num protowire.Number, typ protowire.Type, value []byte, varint uint64) error {
		want := protowire.VarintType
		switch num {
		case fieldDetailsSerial:
			d.serial = uint32(varint)
		case fieldDetailsIssuerSerial:
			d.issuerSerial = uint32(varint)
		case fieldDetailsNotBefore:
			d.notBefore = varint
		case fieldDetailsNotAfter:
			d.notAfter = varint
		case fieldDetailsKey:
			want = protowire.BytesType
			if len(value) != KeySize {
				return ErrMalformed
			}
			d.key, hasKey = [KeySize]byte(value), true
		default:
			return nil
		}
		if typ != want || varint > math.MaxUint32 && (num == fieldDetailsSerial || num == fieldDetailsIssuerSerial) {
			return ErrMalformed
		}
		return nil
	})
	if err != nil || !hasKey {
		return details{}, ErrCertMalformed
	}
	return d, nil
}

func (d details) marshal() []byte {
	varint := func(dst []byte, num protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(dst, num, protowire.VarintType), v)
	}
	out := varint(nil, fieldDetailsSerial, uint64(d.serial))
	out = varint(out, fieldDetailsIssuerSerial, uint64(d.issuerSerial))
	out = appendBytes(out, fieldDetailsKey, d.key[:])
	if d.notBefore != 0 {
		out = varint(out, fieldDetailsNotBefore, d.notBefore)
	}
	if d.notAfter != 0 {
		out = varint(out, fieldDetailsNotAfter, d.notAfter)
	}
	return out
}

// Authority issues certificate chains, for a server that is to be trusted under a
// root key of its own, as the sandbox is. Its fields are all that has to be kept
// to have the same authority again.
type Authority struct {
	// Root is the pair whose public half goes into the profile of those who connect.
	Root KeyPair
	// Intermediate signs the leaves.
	Intermediate KeyPair
	// Serial is the intermediate's serial number; a leaf gets the one after it.
	Serial uint32
}

// NewAuthority draws both key pairs from random; nil means crypto/rand.
func NewAuthority(random io.Reader) (*Authority, error) {
	root, err := GenerateKeyPair(random)
	if err != nil {
		return nil, err
	}
	intermediate, err := GenerateKeyPair(random)
	if err != nil {
		return nil, err
	}
	return &Authority{Root: root, Intermediate: intermediate, Serial: 1}, nil
}

// Issue returns a chain for a server's static public key. Dates are cut to whole
// seconds; a zero time.Time leaves the date out, which VerifyChain refuses and
// tests need. Both certificates get the same dates. Signatures are randomised from
// crypto/rand.
func (a *Authority) Issue(static [KeySize]byte, notBefore, notAfter time.Time) ([]byte, error) {
	return a.issue(static, notBefore, notAfter, nil)
}

func (a *Authority) issue(static [KeySize]byte, notBefore, notAfter time.Time, random io.Reader) ([]byte, error) {
	seconds := func(t time.Time) uint64 {
		if t.IsZero() || t.Unix() < 0 {
			return 0
		}
		return uint64(t.Unix())
	}
	from, to := seconds(notBefore), seconds(notAfter)
	intermediate, err := certify(a.Root, details{
		serial: a.Serial, issuerSerial: rootSerial, key: a.Intermediate.Public, notBefore: from, notAfter: to,
	}, random)
	if err != nil {
		return nil, err
	}
	leaf, err := certify(a.Intermediate, details{
		serial: a.Serial + 1, issuerSerial: a.Serial, key: static, notBefore: from, notAfter: to,
	}, random)
	if err != nil {
		return nil, err
	}
	chain := appendBytes(nil, fieldChainLeaf, leaf)
	return appendBytes(chain, fieldChainIntermediate, intermediate), nil
}

func certify(issuer KeyPair, d details, random io.Reader) ([]byte, error) {
	signed := d.marshal()
	signature, err := sign(issuer.Private, signed, random)
	if err != nil {
		return nil, err
	}
	return appendBytes(appendBytes(nil, fieldCertDetails, signed), fieldCertSignature, signature), nil
}
