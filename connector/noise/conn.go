package noise

import (
	"bufio"
	"io"
	"sync"
)

const (
	// readBuffer is what a link borrows while it has something to read, in bytes; what is longer is read past it.
	readBuffer = 4 << 10
	// readStep is the most that is allocated for a frame on the word of its header
	// alone; more follows as its bytes arrive.
	readStep = 32 << 10
	// keepBuffer is the largest write buffer that is kept for other frames, in bytes.
	keepBuffer = 64 << 10
)

// What is needed for the length of a frame alone belongs to no link, for most of them are idle at most times.
var (
	readBuffers  = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBuffer) }}
	writeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 1<<10); return &b }}
)

// Conn is an established link. One goroutine may read while any number write; each
// direction has its own lock, key, counter and error.
type Conn struct {
	peer [KeySize]byte
	hash [32]byte

	in struct {
		sync.Mutex
		*frameReader
		cipher *cipherState
		limit  int
		err    error
	}
	out struct {
		sync.Mutex
		w      io.Writer
		cipher *cipherState
		err    error
	}
}

func newConn(fr *frameReader, w io.Writer, in, out *cipherState, limit int) *Conn {
	c := &Conn{}
	c.in.frameReader, c.in.cipher, c.in.limit = fr, in, limit
	c.out.w, c.out.cipher = w, out
	return c
}

// PeerStatic returns the static public key that the other side has proved to own.
func (c *Conn) PeerStatic() [KeySize]byte { return c.peer }

// HandshakeHash returns the final transcript hash, equal on both sides and unique
// to this link (Noise section 11.2).
func (c *Conn) HandshakeHash() [32]byte { return c.hash }

// ReadFrame returns the plaintext of the next frame; the slice is the caller's. At
// a clean end between two frames it returns io.EOF, in the middle of one
// io.ErrUnexpectedEOF. ErrFrameTooLarge, ErrFrameTooShort, ErrDecrypt and
// ErrExhausted are the link's own; anything else comes from the stream beneath.
// Every error sticks: nothing is read after it, for after a lost or forged frame
// the counters of the two sides no longer agree.
func (c *Conn) ReadFrame() ([]byte, error) {
	c.in.Lock()
	defer c.in.Unlock()
	if c.in.err != nil {
		return nil, c.in.err
	}
	plaintext, err := c.readFrame()
	if err != nil {
		c.in.err = err
		return nil, err
	}
	return plaintext, nil
}

func (c *Conn) readFrame() ([]byte, error) {
	ciphertext, err := c.in.next(c.in.limit)
	if err != nil {
		return nil, err
	}
	if len(ciphertext) < TagSize {
		return nil, ErrFrameTooShort
	}
	plaintext, err := c.in.cipher.open(ciphertext[:0], ciphertext, nil)
	c.in.cipher.rest()
	return plaintext, err
}

// WriteFrame encrypts plaintext and writes it as one frame, with a single Write to
// the stream beneath. The plaintext may have up to MaxFrame - TagSize bytes and is
// not kept. A plaintext too large is refused without harm (ErrFrameTooLarge); any
// other error, a short write among them, sticks, because the other side would
// take what follows for the rest of the frame.
func (c *Conn) WriteFrame(plaintext []byte) error {
	if len(plaintext) > MaxFrame-TagSize {
		return ErrFrameTooLarge
	}
	c.out.Lock()
	defer c.out.Unlock()
	if c.out.err != nil {
		return c.out.err
	}
	c.out.err = c.writeFrame(plaintext)
	return c.out.err
}

func (c *Conn) writeFrame(plaintext []byte) error {
	buf := writeBuffers.Get().(*[]byte)
	defer writeBuffers.Put(buf)
	frame := appendFrameHeader((*buf)[:0], len(plaintext)+TagSize)
	frame, err := c.out.cipher.seal(frame, plaintext, nil)
	if err != nil {
		return err
	}
	c.out.cipher.rest()
	if cap(frame) <= keepBuffer {
		*buf = frame
	}
	n, err := c.out.w.Write(frame)
	if err == nil && n != len(frame) {
		return io.ErrShortWrite
	}
	return err
}

// appendFrameHeader appends the length of a frame's body, three bytes, big-endian
// (PROTOCOL.md 4.2).
func appendFrameHeader(dst []byte, n int) []byte {
	return append(dst, byte(n>>16), byte(n>>8), byte(n))
}

// frameReader cuts a byte stream into frames, however it arrives split.
type frameReader struct {
	from   io.Reader
	ahead  *bufio.Reader // borrowed while there is more of from in it, else nil
	header [frameHeaderSize]byte
}

func newFrameReader(r io.Reader) *frameReader { return &frameReader{from: r} }

// next returns the body of the next frame in memory of its own. A header that
// announces more than limit bytes is refused before anything is allocated; below
// it, memory is taken as the bytes arrive.
func (f *frameReader) next(limit int) ([]byte, error) {
	if err := f.readHeader(); err != nil {
		return nil, err
	}
	size := int(f.header[0])<<16 | int(f.header[1])<<8 | int(f.header[2])
	if size > limit {
		return nil, ErrFrameTooLarge
	}
	return f.body(size)
}

// body reads what follows a header. It is not a part of next so that what it needs of the stack is not there while the link is idle.
//
//go:noinline
func (f *frameReader) body(size int) ([]byte, error) {
	if f.ahead == nil {
		f.ahead = readBuffers.Get().(*bufio.Reader)
		f.ahead.Reset(f.from)
	}
	defer f.giveBack()
	body := make([]byte, min(size, readStep))
	for have := 0; ; {
		n, err := io.ReadFull(f.ahead, body[have:])
		if err != nil {
			return nil, midFrame(err)
		}
		have += n
		if have == size {
			return body, nil
		}
		body = append(body, make([]byte, min(size-have, have))...)
	}
}

// readHeader waits for a header, without a buffer if none of it is there yet.
func (f *frameReader) readHeader() error {
	from := f.from
	if f.ahead != nil {
		from = f.ahead
	}
	_, err := io.ReadFull(from, f.header[:])
	return err
}

// giveBack returns a buffer with nothing in it.
func (f *frameReader) giveBack() {
	if f.ahead.Buffered() > 0 {
		return
	}
	f.ahead.Reset(nil)
	readBuffers.Put(f.ahead)
	f.ahead = nil
}

// midFrame is for an end of the stream where more of a frame was due.
func midFrame(err error) error {
	if err == io.EOF { //nolint:errorlint // what wraps io.EOF is no orderly end
		return io.ErrUnexpectedEOF
	}
	return err
}
