package noise

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"io"
	"time"
)

// ClientConfig is what an initiator needs. Static, RootKey and Payload must be set.
type ClientConfig struct {
	// Static is our long-term key pair, the one that was enlisted (PROTOCOL.md 3.1).
	Static KeyPair
	// RootKey is the 32-byte key that the server's certificate chain ends in.
	RootKey [KeySize]byte
	// Payload is the login payload, sent encrypted once the server has proved who it
	// is. At most MaxHandshakeMessage bytes less about 100 of framing.
	Payload []byte

	// Mode is the dialect of the transcript.
	Mode Mode
	// Intro goes ahead of the first frame and is the prologue; zero means
	// DefaultIntro.
	Intro [4]byte
	// ReadLimit is the largest frame body accepted after the handshake, in bytes;
	// 0 means DefaultReadLimit.
	ReadLimit int
	// Now is the clock that certificate dates are compared with; nil means time.Now.
	Now func() time.Time
	// Rand is where the ephemeral key comes from; nil means crypto/rand.
	Rand io.Reader
}

// ServerConfig is what a responder needs. Static and Chain must be set.
type ServerConfig struct {
	// Static is the server's key pair, the one the leaf certificate names.
	Static KeyPair
	// Chain is the certificate chain as Authority.Issue makes it.
	Chain []byte

	// Mode, Intro, ReadLimit and Rand are as in ClientConfig.
	Mode      Mode
	Intro     [4]byte
	ReadLimit int
	Rand      io.Reader
}

// Peer is what a responder learns of the initiator.
type Peer struct {
	// Static is the public key that the initiator has proved to own. Whether it may
	// log in is for the caller to say.
	Static [KeySize]byte
	// Payload is the login payload.
	Payload []byte
}

// Client runs the handshake as initiator over rw, and returns the link. If ctx
// ends first, rw is interrupted, by a deadline in the past where it has deadlines,
// else by closing it where it can be closed. Errors are *HandshakeError, or
// ErrKeyPair and ErrRootKey for a configuration that cannot work. After an error
// rw is of no further use; closing it is the caller's business, always.
func Client(ctx context.Context, rw io.ReadWriter, cfg ClientConfig) (*Conn, error) {
	static, err := cfg.Static.key()
	if err != nil {
		return nil, err
	}
	if !usableKey(cfg.RootKey) {
		return nil, ErrRootKey
	}
	hs, err := newHandshake(rw, cfg.Intro, cfg.Mode, cfg.Rand)
	if err != nil {
		return nil, err
	}
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	var conn *Conn
	err = interruptible(ctx, rw, func() error {
		conn, err = hs.initiate(static, cfg, now)
		return err
	})
	if err != nil {
		return nil, hs.fail(ctx, err)
	}
	return conn, nil
}

// Server runs the handshake as responder over rw, and returns the link and the
// initiator's proven key and payload. Context and errors as with Client.
func Server(ctx context.Context, rw io.ReadWriter, cfg ServerConfig) (*Conn, *Peer, error) {
	static, err := cfg.Static.key()
	if err != nil {
		return nil, nil, err
	}
	hs, err := newHandshake(rw, cfg.Intro, cfg.Mode, cfg.Rand)
	if err != nil {
		return nil, nil, err
	}
	var conn *Conn
	var peer *Peer
	err = interruptible(ctx, rw, func() error {
		conn, peer, err = hs.respond(static, cfg)
		return err
	})
	if err != nil {
		return nil, nil, hs.fail(ctx, err)
	}
	return conn, peer, nil
}

// handshake is the state of one run. It is used once.
type handshake struct {
	rw     io.ReadWriter
	frames *frameReader
	sym    *symmetricState
	intro  [4]byte
	mode   Mode
	random io.Reader
	step   string // for HandshakeError
}

func newHandshake(rw io.ReadWriter, intro [4]byte, mode Mode, random io.Reader) (*handshake, error) {
	if intro == ([4]byte{}) {
		intro = DefaultIntro
	}
	if random == nil {
		random = rand.Reader
	}
	return &handshake{
		rw: rw, frames: newFrameReader(rw), sym: newSymmetricState(intro[:]),
		intro: intro, mode: mode, random: random, step: "set-up",
	}, nil
}

// initiate is the initiator's side of XX, in the order of the pattern.
func (hs *handshake) initiate(static *ecdh.PrivateKey, cfg ClientConfig, now func() time.Time) (*Conn, error) {
	// -> e
	hs.step = "client hello"
	ephemeral, err := hs.ephemeral()
	if err != nil {
		return nil, err
	}
	hs.firstMessage(ephemeral.PublicKey().Bytes())
	err = hs.send(hello{ephemeral: ephemeral.PublicKey().Bytes()}.marshal(fieldClientHello), hs.intro[:])
	if err != nil {
		return nil, err
	}

	// <- e, ee, s, es
	hs.step = "server hello"
	frame, err := hs.receive()
	if err != nil {
		return nil, err
	}
	msg, err := parseServerHello(frame)
	if err != nil {
		return nil, err
	}
	hs.sym.mixHash(msg.ephemeral)
	serverEphemeral, err := ecdh.X25519().NewPublicKey(msg.ephemeral)
	if err != nil {
		return nil, ErrMalformed
	}
	if err = hs.sym.mixDH(ephemeral, serverEphemeral); err != nil {
		return nil, err
	}
	serverStatic, err := hs.readStatic(msg.static)
	if err != nil {
		return nil, err
	}
	if err = hs.sym.mixDH(ephemeral, serverStatic); err != nil {
		return nil, err
	}
	chain, err := hs.sym.decryptAndHash(msg.payload)
	if err != nil {
		return nil, err
	}

	// The server is authenticated here, before our own key and token go out.
	hs.step = "certificate"
	peer := [KeySize]byte(serverStatic.Bytes())
	if err = VerifyChain(chain, cfg.RootKey, peer, now()); err != nil {
		return nil, err
	}

	// -> s, se
	hs.step = "client finish"
	var out finish
	if out.static, err = hs.sym.encryptAndHash(static.PublicKey().Bytes()); err != nil {
		return nil, err
	}
	if err = hs.sym.mixDH(static, serverEphemeral); err != nil {
		return nil, err
	}
	if out.payload, err = hs.sym.encryptAndHash(cfg.Payload); err != nil {
		return nil, err
	}
	if err = hs.send(out.marshal(), nil); err != nil {
		return nil, err
	}
	write, read, err := hs.sym.split()
	if err != nil {
		return nil, err
	}
	return hs.finish(read, write, peer, cfg.ReadLimit), nil
}

// respond is the responder's side of XX, in the order of the pattern.
func (hs *handshake) respond(static *ecdh.PrivateKey, cfg ServerConfig) (*Conn, *Peer, error) {
	hs.step = "intro"
	if err := hs.readIntro(); err != nil {
		return nil, nil, err
	}

	// -> e
	hs.step = "client hello"
	frame, err := hs.receive()
	if err != nil {
		return nil, nil, err
	}
	first, err := parseClientHello(frame)
	if err != nil {
		return nil, nil, err
	}
	hs.firstMessage(first.ephemeral)
	clientEphemeral, err := ecdh.X25519().NewPublicKey(first.ephemeral)
	if err != nil {
		return nil, nil, ErrMalformed
	}

	// <- e, ee, s, es
	hs.step = "server hello"
	ephemeral, err := hs.ephemeral()
	if err != nil {
		return nil, nil, err
	}
	if err = hs.answer(static, ephemeral, clientEphemeral, cfg.Chain); err != nil {
		return nil, nil, err
	}

	// -> s, se
	hs.step = "client finish"
	if frame, err = hs.receive(); err != nil {
		return nil, nil, err
	}
	last, err := parseClientFinish(frame)
	if err != nil {
		return nil, nil, err
	}
	clientStatic, err := hs.readStatic(last.static)
	if err != nil {
		return nil, nil, err
	}
	if err = hs.sym.mixDH(ephemeral, clientStatic); err != nil {
		return nil, nil, err
	}
	payload, err := hs.sym.decryptAndHash(last.payload)
	if err != nil {
		return nil, nil, err
	}
	read, write, err := hs.sym.split()
	if err != nil {
		return nil, nil, err
	}
	peer := [KeySize]byte(clientStatic.Bytes())
	return hs.finish(read, write, peer, cfg.ReadLimit), &Peer{Static: peer, Payload: payload}, nil
}

// answer sends the responder's message.
func (hs *handshake) answer(static, ephemeral *ecdh.PrivateKey, client *ecdh.PublicKey, chain []byte) error {
	out := hello{ephemeral: ephemeral.PublicKey().Bytes()}
	hs.sym.mixHash(out.ephemeral)
	err := hs.sym.mixDH(ephemeral, client)
	if err != nil {
		return err
	}
	if out.static, err = hs.sym.encryptAndHash(static.PublicKey().Bytes()); err != nil {
		return err
	}
	if err = hs.sym.mixDH(static, client); err != nil {
		return err
	}
	if out.payload, err = hs.sym.encryptAndHash(chain); err != nil {
		return err
	}
	return hs.send(out.marshal(fieldServerHello), nil)
}

// firstMessage puts the first message into the transcript: the ephemeral key, and
// in strict mode the empty payload after it.
func (hs *handshake) firstMessage(ephemeral []byte) {
	hs.sym.mixHash(ephemeral)
	if hs.mode == ModeStrict {
		hs.sym.mixHash(nil)
	}
}

func (hs *handshake) ephemeral() (*ecdh.PrivateKey, error) {
	var private [KeySize]byte
	if _, err := io.ReadFull(hs.random, private[:]); err != nil {
		return nil, err
	}
	return ecdh.X25519().NewPrivateKey(private[:])
}

// readStatic opens the other side's static key.
func (hs *handshake) readStatic(ciphertext []byte) (*ecdh.PublicKey, error) {
	plaintext, err := hs.sym.decryptAndHash(ciphertext)
	if err != nil {
		return nil, err
	}
	key, err := ecdh.X25519().NewPublicKey(plaintext)
	if err != nil {
		return nil, ErrMalformed
	}
	return key, nil
}

func (hs *handshake) readIntro() error {
	var got [4]byte
	if _, err := io.ReadFull(hs.frames.from, got[:]); err != nil {
		return err
	}
	if got != hs.intro {
		return ErrIntro
	}
	return nil
}

// send writes a handshake message as one frame, in one Write with what goes ahead
// of it.
func (hs *handshake) send(message, ahead []byte) error {
	if len(message) > MaxHandshakeMessage {
		return ErrFrameTooLarge
	}
	frame := make([]byte, 0, len(ahead)+frameHeaderSize+len(message))
	frame = append(frame, ahead...)
	frame = appendFrameHeader(frame, len(message))
	frame = append(frame, message...)
	n, err := hs.rw.Write(frame)
	if err == nil && n != len(frame) {
		err = io.ErrShortWrite
	}
	return err
}

// receive reads a handshake message. An end of the stream is always unexpected
// here.
func (hs *handshake) receive() ([]byte, error) {
	frame, err := hs.frames.next(MaxHandshakeMessage)
	return frame, midFrame(err)
}

func (hs *handshake) finish(read, write *cipherState, peer [KeySize]byte, limit int) *Conn {
	if limit <= 0 || limit > MaxFrame {
		limit = DefaultReadLimit
	}
	c := newConn(hs.frames, hs.rw, read, write, limit)
	c.peer, c.hash = peer, hs.sym.hash
	return c
}

// fail dresses an error. If the context ended, that is the cause, whatever the
// interrupted stream said.
func (hs *handshake) fail(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return &HandshakeError{Step: hs.step, Err: err}
}

// interruptible runs f, and makes it return when ctx ends.
func interruptible(ctx context.Context, rw io.ReadWriter, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	deadliner, hasDeadline := rw.(interface{ SetDeadline(time.Time) error })
	closer, hasClose := rw.(io.Closer)
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		// A stream that refuses the deadline is closed; if it can be neither, f ends
		// when the other side does, as documented.
		if hasDeadline && deadliner.SetDeadline(time.Unix(1, 0)) == nil {
			return
		}
		if hasClose {
			_ = closer.Close()
		}
	})
	err := f()
	if !stop() {
		<-interrupted
		return context.Cause(ctx)
	}
	return err
}
