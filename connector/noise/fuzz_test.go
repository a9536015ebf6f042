package noise

import (
	"bytes"
	"context"
	"net"
	"runtime"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// allocated returns the bytes allocated so far by the whole process.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// fuzzParty is the same in every run, so that a recorded handshake can be replayed
// and mutated: all keys come from a seed.
func fuzzParty(t testing.TB) party {
	t.Helper()
	random := &testRand{seed: 42}
	p := party{now: testNow}
	var err error
	if p.authority, err = NewAuthority(random); err != nil {
		t.Fatal(err)
	}
	if p.client, err = GenerateKeyPair(random); err != nil {
		t.Fatal(err)
	}
	if p.server, err = GenerateKeyPair(random); err != nil {
		t.Fatal(err)
	}
	p.chain, err = p.authority.issue(p.server.Public, testNow.Add(-time.Hour), testNow.Add(time.Hour), random)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p party) fuzzClient() ClientConfig {
	c := p.clientConfig()
	c.Rand = &testRand{seed: 1}
	return c
}

func (p party) fuzzServer() ServerConfig {
	s := p.serverConfig()
	s.Rand = &testRand{seed: 2}
	return s
}

// recordHandshake returns the bytes of both directions, with a frame after each.
func recordHandshake(t testing.TB, p party) (toServer, toClient []byte) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	rc := &recorder{ReadWriter: a}
	m := meet(context.Background(), rc, b, p.fuzzClient(), p.fuzzServer())
	if m.clientErr != nil || m.serverErr != nil {
		t.Fatal(m.clientErr, m.serverErr)
	}
	for _, dir := range [][2]*Conn{{m.client, m.server}, {m.server, m.client}} {
		go func() { _ = dir[0].WriteFrame([]byte("\x00frame")) }()
		if _, err := dir[1].ReadFrame(); err != nil {
			t.Fatal(err)
		}
	}
	return rc.written.Bytes(), rc.read.Bytes()
}

// handshakeMemory bounds what a handshake may allocate besides a multiple of its
// input, in bytes: keys, hashes and ciphers of a whole one.
const handshakeMemory = 64 << 10

func checkMemory(t *testing.T, before uint64, input int) {
	t.Helper()
	if cost := allocated() - before; cost > uint64(handshakeMemory+8*input) {
		t.Errorf("%d bytes allocated for %d of input", cost, input)
	}
}

// FuzzServerReadsHandshake gives the responder whatever a client may send. Nothing but the one recorded handshake may go
// through, and no input may cost more than 64 KiB and 8 times its length.
//
// decoder: handshake.go:Server,newHandshake,handshake.respond,handshake.answer,handshake.firstMessage,handshake.readStatic
// decoder: handshake.go:handshake.readIntro,handshake.receive,handshake.finish,handshake.fail
// decoder: messages.go:eachField,pick,inner,parseHello,parseClientHello,parseClientFinish conn.go:newFrameReader,frameReader.next,midFrame,Conn.ReadFrame,Conn.readFrame
// decoder: symmetric.go:cipherState.next,cipherState.open,symmetricState.mixDH,symmetricState.decryptAndHash,symmetricState.split
func FuzzServerReadsHandshake(f *testing.F) {
	p := fuzzParty(f)
	toServer, _ := recordHandshake(f, p)
	genuine, _, err := Server(context.Background(), script{bytes.NewReader(toServer)}, p.fuzzServer())
	if err != nil {
		f.Fatal(err)
	}
	made := genuine.HandshakeHash()
	f.Add(toServer)
	f.Add(toServer[:60])
	f.Add([]byte("XX\x06\x03"))
	f.Add(firstFrame(DefaultIntro[:], hello{ephemeral: make([]byte, KeySize)}.marshal(fieldClientHello))) // a key of low order
	for _, message := range malformed(fieldClientHello) {
		f.Add(firstFrame(DefaultIntro[:], message))
	}
	// The first message as it was, then another second one.
	second := 4 + frameHeaderSize + int(toServer[4])<<16 + int(toServer[5])<<8 + int(toServer[6])
	for _, message := range append(malformed(fieldClientFinish), finish{make([]byte, KeySize+TagSize), make([]byte, TagSize)}.marshal()) {
		f.Add(firstFrame(bytes.Clone(toServer[:second]), message))
	}
	f.Add(append(DefaultIntro[:], 0, 0, 0))
	f.Add(append(DefaultIntro[:], 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, data []byte) {
		before := allocated()
		conn, peer, err := Server(context.Background(), script{bytes.NewReader(data)}, p.fuzzServer())
		if err == nil {
			// The frames may be put together otherwise, with unknown fields in them: what counts is
			// the transcript.
			if conn.HandshakeHash() != made || string(peer.Payload) != "login" {
				t.Error("a handshake that nobody made went through")
			}
			readAll(conn)
		}
		checkMemory(t, before, len(data))
	})
}

// FuzzClientReadsHandshake gives the initiator whatever a server may send. Nothing but the one recorded handshake may go
// through, and no input may cost more than 64 KiB and 8 times its length.
//
// decoder: handshake.go:Client,newHandshake,handshake.initiate,handshake.firstMessage,handshake.readStatic
// decoder: handshake.go:handshake.receive,handshake.finish,handshake.fail
// decoder: messages.go:eachField,pick,inner,parseHello,parseServerHello conn.go:newFrameReader,frameReader.next,midFrame,Conn.ReadFrame,Conn.readFrame
// decoder: certificate.go:VerifyChain,verifyCertificate,details.checkDates,parseDetails
// decoder: symmetric.go:cipherState.next,cipherState.open,symmetricState.mixDH,symmetricState.decryptAndHash,symmetricState.split
func FuzzClientReadsHandshake(f *testing.F) {
	p := fuzzParty(f)
	_, toClient := recordHandshake(f, p)
	genuine, err := Client(context.Background(), script{bytes.NewReader(toClient)}, p.fuzzClient())
	if err != nil {
		f.Fatal(err)
	}
	made := genuine.HandshakeHash()
	f.Add(toClient)
	body := toClient[frameHeaderSize : frameHeaderSize+int(toClient[0])<<16+int(toClient[1])<<8+int(toClient[2])]
	f.Add(firstFrame(nil, append([]byte{8, 1}, body...))) // an unknown field, which changes nothing
	f.Add(toClient[:100])
	f.Add(firstFrame(nil, hello{make([]byte, KeySize), make([]byte, KeySize+TagSize), make([]byte, TagSize)}.marshal(fieldServerHello)))
	for _, message := range malformed(fieldServerHello) {
		f.Add(firstFrame(nil, message))
	}
	for _, chain := range chains(f, p) {
		if VerifyChain(chain, p.authority.Root.Public, p.server.Public, testNow) == nil {
			continue
		}
		// What a server with this chain would say: the client leaves at its certificate.
		other := p
		other.chain = chain
		a, b := net.Pipe()
		rc := &recorder{ReadWriter: a}
		go func() {
			_, _, _ = Server(context.Background(), b, other.fuzzServer())
			_ = b.Close()
		}()
		_, _ = Client(context.Background(), rc, p.fuzzClient())
		_ = a.Close()
		f.Add(rc.read.Bytes())
	}
	f.Add([]byte{0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		before := allocated()
		conn, err := Client(context.Background(), script{bytes.NewReader(data)}, p.fuzzClient())
		if err == nil {
			if conn.HandshakeHash() != made {
				t.Error("a handshake that nobody made went through")
			}
			readAll(conn)
		}
		checkMemory(t, before, len(data))
	})
}

// firstFrame appends a handshake message to what goes before it.
func firstFrame(before, message []byte) []byte {
	return append(appendFrameHeader(bytes.Clone(before), len(message)), message...)
}

// malformed is handshake messages of a kind that are not what they should be.
func malformed(kind protowire.Number) [][]byte {
	fields := func(sizes ...int) []byte {
		var sub []byte
		for i, size := range sizes {
			if size >= 0 {
				sub = appendBytes(sub, protowire.Number(i+1), make([]byte, size))
			}
		}
		return appendBytes(nil, kind, sub)
	}
	number := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1)
	fixed := protowire.AppendFixed32(protowire.AppendTag(nil, 9, protowire.Fixed32Type), 1)
	return [][]byte{
		{0xff}, {0x12}, {0x12, 5}, number, append(fixed, fields(32)...), appendBytes(nil, kind, number), append(fields(32), fields(32)...),
		fields(), fields(31), fields(32, 48), fields(32, 48, 15), fields(32, 47, 16), fields(48, 15), fields(47, 16), fields(0, 0, 0), fields(-1, 48, 16),
	}
}

// chains is certificate chains that are wrong in one way each, and some that are right.
func chains(t testing.TB, p party) (all [][]byte) {
	t.Helper()
	random := &testRand{seed: 43}
	root, mid := p.authority.Root, p.authority.Intermediate
	from, to := uint64(testNow.Unix()-10), uint64(testNow.Unix()+10)
	part := func(issuer KeyPair, d details) []byte {
		raw, err := certify(issuer, d, random)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	chain := func(leaf, top []byte) []byte {
		return appendBytes(appendBytes(nil, fieldChainLeaf, leaf), fieldChainIntermediate, top)
	}
	top := details{serial: 7, key: mid.Public, notBefore: from, notAfter: to}
	leaf := details{serial: 8, issuerSerial: 7, key: p.server.Public, notBefore: from, notAfter: to}
	goodTop := part(root, top)
	all = append(all, chain(part(mid, leaf), goodTop), chain(part(root, leaf), goodTop), chain(part(mid, leaf), part(mid, top)),
		chain(nil, nil), chain(nil, goodTop), appendBytes(nil, fieldChainLeaf, part(mid, leaf)))
	for _, edit := range []func(*details){
		func(d *details) { d.issuerSerial++ }, func(d *details) { d.key = p.client.Public }, func(d *details) { d.notBefore = 0 },
		func(d *details) { d.notBefore = to + 500 }, func(d *details) { d.notAfter = from - 500 }, func(d *details) { d.notAfter = 1 << 63 },
	} {
		d := leaf
		edit(&d)
		all = append(all, chain(part(mid, d), goodTop))
	}
	for _, signed := range [][]byte{
		{0xff}, appendBytes(nil, fieldDetailsKey, make([]byte, 31)), appendBytes(leaf.marshal(), fieldDetailsNotAfter, []byte{1}),
		appendBytes(leaf.marshal(), 9, []byte{1}), leaf.marshal()[:4],
	} {
		signature, err := sign(mid.Private, signed, random)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, chain(appendBytes(appendBytes(nil, fieldCertDetails, signed), fieldCertSignature, signature), goodTop))
	}
	all = append(all, chain(appendBytes(appendBytes(nil, fieldCertDetails, leaf.marshal()), fieldCertSignature, make([]byte, 63)), goodTop))
	return all
}

// readAll reads to the first error.
func readAll(c *Conn) {
	for {
		if _, err := c.ReadFrame(); err != nil {
			return
		}
	}
}

// FuzzReadFrame reads frames to the first error. None may be longer than the limit of the link, and what is allocated is
// bounded by 64 KiB and 8 times the input, whatever a header announces.
//
// decoder: conn.go:Conn.ReadFrame,Conn.readFrame,newFrameReader,frameReader.next,midFrame symmetric.go:cipherState.next,cipherState.open
func FuzzReadFrame(f *testing.F) {
	out, _, w := oneWay(f, MaxFrame)
	for _, size := range []int{0, 1, 40, 5000} {
		if err := out.WriteFrame(make([]byte, size)); err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.Clone(w.Bytes()), 1<<20)
	}
	f.Add([]byte{0xff, 0xff, 0xff, 1, 2, 3}, MaxFrame)
	f.Fuzz(func(t *testing.T, data []byte, limit int) {
		_, in, w := oneWay(t, limit)
		w.Write(data)
		before := allocated()
		for {
			got, err := in.ReadFrame()
			if err != nil {
				break
			}
			if len(got)+TagSize > limit {
				t.Errorf("a frame of %d bytes with a limit of %d", len(got), limit)
			}
		}
		checkMemory(t, before, len(data))
	})
}

// FuzzVerifyChain looks for a chain that is accepted although nobody issued it; none may cost more than 64 KiB and 8
// times its length.
//
// decoder: certificate.go:VerifyChain,verifyCertificate,details.checkDates,parseDetails messages.go:eachField,pick xeddsa.go:verify,edwardsKey,usableKey
func FuzzVerifyChain(f *testing.F) {
	p := fuzzParty(f)
	f.Add(p.chain)
	f.Add([]byte{})
	for _, chain := range chains(f, p) {
		f.Add(chain)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := allocated()
		err := VerifyChain(data, p.authority.Root.Public, p.server.Public, testNow)
		if err == nil && len(data) < len(p.chain) {
			t.Error("a chain shorter than any was accepted")
		}
		checkMemory(t, before, len(data))
	})
}
