package noise

import (
	"bytes"
	"context"
	"net"
	"runtime"
	"testing"
	"time"
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
	f.Add(toServer)
	f.Add(toServer[:60])
	f.Add(append(DefaultIntro[:], 0, 0, 0))
	f.Add(append(DefaultIntro[:], 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, data []byte) {
		before := allocated()
		conn, peer, err := Server(context.Background(), script{bytes.NewReader(data)}, p.fuzzServer())
		if err == nil {
			if conn == nil || peer == nil || !bytes.HasPrefix(data, toServer[:len(toServer)-3-6-TagSize]) {
				t.Error("a handshake that nobody made went through")
			} else {
				readAll(conn)
			}
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
	f.Add(toClient)
	f.Add(toClient[:100])
	f.Add([]byte{0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		before := allocated()
		conn, err := Client(context.Background(), script{bytes.NewReader(data)}, p.fuzzClient())
		if err == nil {
			if !bytes.HasPrefix(data, toClient[:len(toClient)-3-6-TagSize]) {
				t.Error("a handshake that nobody made went through")
			} else {
				readAll(conn)
			}
		}
		checkMemory(t, before, len(data))
	})
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
	f.Fuzz(func(t *testing.T, data []byte) {
		before := allocated()
		err := VerifyChain(data, p.authority.Root.Public, p.server.Public, testNow)
		if err == nil && len(data) < len(p.chain) {
			t.Error("a chain shorter than any was accepted")
		}
		checkMemory(t, before, len(data))
	})
}
