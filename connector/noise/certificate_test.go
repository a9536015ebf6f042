package noise

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"time"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/whatsmeow/proto/waCert"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

func TestCertificateDatesAreCheckedWithSkew(t *testing.T) {
	hour := time.Hour
	tests := []struct {
		name      string
		from, to  time.Time
		now       time.Duration // after testNow
		want      error
		whichWant string
	}{
		{"in the middle", testNow.Add(-hour), testNow.Add(hour), 0, nil, ""},
		{"at the first second", testNow, testNow.Add(hour), 0, nil, ""},
		{"120 s early", testNow, testNow.Add(hour), -120 * time.Second, nil, ""},
		{"121 s early", testNow, testNow.Add(hour), -121 * time.Second, ErrCertNotYetValid, "intermediate"},
		{"at the last second", testNow.Add(-hour), testNow, 0, nil, ""},
		{"120 s late", testNow.Add(-hour), testNow, 120 * time.Second, nil, ""},
		{"121 s late", testNow.Add(-hour), testNow, 121 * time.Second, ErrCertExpired, "intermediate"},
		{"no first date", time.Time{}, testNow.Add(hour), 0, ErrCertDates, "intermediate"},
		{"no last date", testNow.Add(-hour), time.Time{}, 0, ErrCertDates, "intermediate"},
		{"no dates", time.Time{}, time.Time{}, 0, ErrCertDates, "intermediate"},
		{"dates the wrong way round", testNow.Add(hour), testNow.Add(-hour), 0, ErrCertNotYetValid, "intermediate"},
	}
	p := newParty(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			chain, err := p.authority.Issue(p.server.Public, test.from, test.to)
			if err != nil {
				t.Fatal(err)
			}
			err = VerifyChain(chain, p.authority.Root.Public, p.server.Public, testNow.Add(test.now))
			checkCertError(t, err, test.want, test.whichWant)
		})
	}
}

func checkCertError(t *testing.T, err, want error, which string) {
	t.Helper()
	if want == nil {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	var c *CertificateError
	if !errors.As(err, &c) || c.Err != want || c.Which != which {
		t.Errorf("got %v, want %s: %v", err, which, want)
	}
}

// build makes a chain from two sets of details and the pairs that sign them.
func build(t *testing.T, root, intermediate KeyPair, top, leaf details) []byte {
	t.Helper()
	a, err := certify(root, top, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := certify(intermediate, leaf, nil)
	if err != nil {
		t.Fatal(err)
	}
	return appendBytes(appendBytes(nil, fieldChainLeaf, b), fieldChainIntermediate, a)
}

func TestChainsThatDoNotLinkUpAreRefused(t *testing.T) {
	p, other := newParty(t), newParty(t)
	root, mid := p.authority.Root, p.authority.Intermediate
	from, to := uint64(testNow.Unix()-10), uint64(testNow.Unix()+10)
	top := details{serial: 7, key: mid.Public, notBefore: from, notAfter: to}
	leaf := details{serial: 8, issuerSerial: 7, key: p.server.Public, notBefore: from, notAfter: to}
	changed := func(d details, f func(*details)) details { f(&d); return d }
	tests := []struct {
		name  string
		chain []byte
		want  error
		which string
	}{
		{"as it should be", build(t, root, mid, top, leaf), nil, ""},
		{"intermediate signed by another root", build(t, other.authority.Root, mid, top, leaf), ErrCertSignature, "intermediate"},
		{"leaf signed by another intermediate", build(t, root, other.authority.Intermediate, top, leaf), ErrCertSignature, "leaf"},
		{"leaf signed by the root", build(t, root, root, top, leaf), ErrCertSignature, "leaf"},
		{"intermediate of another issuer", build(t, root, mid, changed(top, func(d *details) { d.issuerSerial = 1 }), leaf),
			ErrCertIssuer, "intermediate"},
		{"leaf of another issuer", build(t, root, mid, top, changed(leaf, func(d *details) { d.issuerSerial = 8 })),
			ErrCertIssuer, "leaf"},
		{"leaf for another key", build(t, root, mid, top, changed(leaf, func(d *details) { d.key = other.server.Public })),
			ErrCertKey, "leaf"},
		{"leaf expired though its issuer is not", build(t, root, mid, top,
			changed(leaf, func(d *details) { d.notAfter = uint64(testNow.Unix() - 200); d.notBefore = 1 })), ErrCertExpired, "leaf"},
		{"leaf with a date beyond all", build(t, root, mid, top,
			changed(leaf, func(d *details) { d.notAfter = math.MaxUint64 })), ErrCertDates, "leaf"},
		{"empty", nil, ErrCertMalformed, "chain"},
		{"leaf alone", appendBytes(nil, fieldChainLeaf, []byte{}), ErrCertMalformed, "chain"},
		{"certificates without content", appendBytes(appendBytes(nil, fieldChainLeaf, nil), fieldChainIntermediate, nil),
			ErrCertMalformed, "intermediate"},
		{"two leaves", appendBytes(build(t, root, mid, top, leaf), fieldChainLeaf, nil), ErrCertMalformed, "chain"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			checkCertError(t, VerifyChain(test.chain, root.Public, p.server.Public, testNow), test.want, test.which)
		})
	}
}

func TestSignedRubbishIsRefused(t *testing.T) {
	p := newParty(t)
	for name, signed := range map[string][]byte{
		"no protobuf":    {0xff},
		"no key":         details{serial: 1, notBefore: 1, notAfter: 1}.marshal()[:4],
		"short key":      appendBytes(nil, fieldDetailsKey, make([]byte, 31)),
		"key as number":  protowire.AppendVarint(protowire.AppendTag(nil, fieldDetailsKey, protowire.VarintType), 1),
		"date as bytes":  appendBytes(details{}.marshal(), fieldDetailsNotAfter, []byte{1}),
		"serial too big": protowire.AppendVarint(protowire.AppendTag(details{}.marshal(), fieldDetailsSerial, protowire.VarintType), 1<<32),
	} {
		signature, err := sign(p.authority.Root.Private, signed, nil)
		if err != nil {
			t.Fatal(err)
		}
		raw := appendBytes(appendBytes(nil, fieldCertDetails, signed), fieldCertSignature, signature)
		if _, err := verifyCertificate(raw, p.authority.Root.Public, 0, testNow); err != ErrCertMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryChangedBitOfAChainIsNoticed(t *testing.T) {
	p := newParty(t)
	changed := 0
	for i := range len(p.chain) * 8 {
		chain := bytes.Clone(p.chain)
		chain[i/8] ^= 1 << (i % 8)
		if err := VerifyChain(chain, p.authority.Root.Public, p.server.Public, testNow); err == nil {
			t.Errorf("bit %d: accepted", i)
		}
		changed++
	}
	if changed < 1900 {
		t.Errorf("only %d bits tried", changed)
	}
}

// Outside oracle: the published schema and libsignal's signatures read what Issue
// writes.
func TestIssuedChainIsWhatOthersExpect(t *testing.T) {
	p := newParty(t)
	var chain waCert.CertChain
	if err := proto.Unmarshal(p.chain, &chain); err != nil {
		t.Fatal(err)
	}
	var top, leaf waCert.CertChain_NoiseCertificate_Details
	for cert, into := range map[*waCert.CertChain_NoiseCertificate]*waCert.CertChain_NoiseCertificate_Details{
		chain.GetIntermediate(): &top, chain.GetLeaf(): &leaf,
	} {
		if err := proto.Unmarshal(cert.GetDetails(), into); err != nil {
			t.Fatal(err)
		}
	}
	check := func(key [32]byte, c *waCert.CertChain_NoiseCertificate) bool {
		return ecc.VerifySignature(ecc.NewDjbECPublicKey(key), c.GetDetails(), [64]byte(c.GetSignature()))
	}
	if !check(p.authority.Root.Public, chain.GetIntermediate()) || !check([32]byte(top.GetKey()), chain.GetLeaf()) {
		t.Error("libsignal does not accept the signatures")
	}
	if top.GetIssuerSerial() != 0 || leaf.GetIssuerSerial() != top.GetSerial() || leaf.GetSerial() == top.GetSerial() {
		t.Error("serial numbers do not link up")
	}
	if !bytes.Equal(leaf.GetKey(), p.server.Public[:]) {
		t.Error("the leaf has another key")
	}
	if leaf.GetNotBefore() != uint64(testNow.Unix()-3600) || leaf.GetNotAfter() != uint64(testNow.Unix()+3600) {
		t.Error("the dates differ")
	}
}

// Outside oracle, the other way: a chain made by the schema's own code and libsignal's
// signer is accepted here.
func TestChainMadeByOthersIsAccepted(t *testing.T) {
	server, err := GenerateKeyPair(nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // the signer leaves the sign bit of its key to chance
		root, mid := ecPair(t), ecPair(t)
		top := waDetails(t, &waCert.CertChain_NoiseCertificate_Details{Serial: proto.Uint32(3), IssuerSerial: proto.Uint32(0), Key: mid.pub[:]})
		leaf := waDetails(t, &waCert.CertChain_NoiseCertificate_Details{Serial: proto.Uint32(9), IssuerSerial: proto.Uint32(3), Key: server.Public[:]})
		raw, err := proto.Marshal(&waCert.CertChain{Leaf: mid.certify(leaf), Intermediate: root.certify(top)})
		if err != nil {
			t.Fatal(err)
		}
		if err = VerifyChain(raw, root.pub, server.Public, testNow); err != nil {
			t.Fatal(err)
		}
	}
}

type ecKeys struct {
	private ecc.ECPrivateKeyable
	pub     [32]byte
}

func ecPair(t *testing.T) ecKeys {
	t.Helper()
	kp, err := ecc.GenerateKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	return ecKeys{kp.PrivateKey(), kp.PublicKey().PublicKey()}
}

func (k ecKeys) certify(raw []byte) *waCert.CertChain_NoiseCertificate {
	signature := ecc.CalculateSignature(k.private, raw)
	return &waCert.CertChain_NoiseCertificate{Details: raw, Signature: signature[:]}
}

func waDetails(t *testing.T, d *waCert.CertChain_NoiseCertificate_Details) []byte {
	t.Helper()
	d.NotBefore, d.NotAfter = proto.Uint64(uint64(testNow.Unix())), proto.Uint64(uint64(testNow.Unix()+1))
	raw, err := proto.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestSignaturesAgreeWithLibsignal(t *testing.T) {
	const rounds = 100
	for i := range rounds {
		kp, err := GenerateKeyPair(nil)
		if err != nil {
			t.Fatal(err)
		}
		message := bytes.Repeat([]byte{byte(i)}, i)
		ours, err := sign(kp.Private, message, nil)
		if err != nil {
			t.Fatal(err)
		}
		theirs := ecc.CalculateSignature(ecc.NewDjbECPrivateKey(kp.Private), message)
		if !ecc.VerifySignature(ecc.NewDjbECPublicKey(kp.Public), message, [64]byte(ours)) {
			t.Fatal("libsignal refuses our signature")
		}
		if !verify(kp.Public, message, theirs[:]) || !verify(kp.Public, message, ours) {
			t.Fatal("we refuse a good signature")
		}
		other := append(message, 1)
		if verify(kp.Public, other, ours) || verify(kp.Public, other, theirs[:]) {
			t.Fatal("we accept a signature of something else")
		}
	}
}

func TestSignaturesUnderUnusableKeysAreRefused(t *testing.T) {
	// S = 0 and R = the identity verify for any message under the identity, if nobody
	// looks at the key.
	forged := make([]byte, signatureSize)
	forged[0] = 1
	for _, point := range lowOrderPoints(t) {
		for _, sign := range []byte{0, 0x80} {
			forged[63] = sign
			for i := range 64 {
				if verify(point, []byte{byte(i)}, forged) {
					t.Errorf("forgery accepted under %x", point[:4])
				}
			}
		}
	}
	kp, err := GenerateKeyPair(nil)
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("message")
	good, err := sign(kp.Private, message, nil)
	if err != nil {
		t.Fatal(err)
	}
	alias := kp.Public
	alias[31] |= 0x80
	if verify(alias, message, good) {
		t.Error("accepted under a second spelling of the key")
	}
	if verify(kp.Public, message, good[:63]) || verify(kp.Public, message, append(good, 0)) {
		t.Error("accepted with a wrong length")
	}
}

func TestKeyPairsCompareWithTheirPrivateHalf(t *testing.T) {
	kp, err := GenerateKeyPair(&testRand{seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	again, err := KeyPairFromPrivate(kp.Private)
	if err != nil || again != kp {
		t.Errorf("%v", err)
	}
	if _, err := GenerateKeyPair(errorReader{errFull}); !errors.Is(err, errFull) {
		t.Errorf("without randomness: %v", err)
	}
	if _, err := NewAuthority(errorReader{errFull}); !errors.Is(err, errFull) {
		t.Errorf("authority without randomness: %v", err)
	}
}
