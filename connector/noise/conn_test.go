package noise

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
)

// wire is a byte stream in memory, for one side that writes and one that reads.
type wire struct{ bytes.Buffer }

// oneWay returns a writer and a reader of the same key, over a buffer.
func oneWay(t testing.TB, limit int) (*Conn, *Conn, *wire) {
	t.Helper()
	w := &wire{}
	var ciphers [2]*cipherState
	for i := range ciphers {
		var err error
		if ciphers[i], err = newCipherState(bytes.Repeat([]byte{9}, KeySize)); err != nil {
			t.Fatal(err)
		}
	}
	return newConn(nil, w, nil, ciphers[0], 0), newConn(newFrameReader(w), nil, ciphers[1], nil, limit), w
}

func TestFramesOfEverySizeArrive(t *testing.T) {
	out, in, _ := oneWay(t, MaxFrame)
	for _, size := range []int{0, 1, 15, 16, 17, 255, 256, readBuffer - 19, readBuffer, 65535, 65536,
		readStep - TagSize, readStep, readStep + 1, 3*readStep + 5, 1 << 20, MaxFrame - TagSize} {
		plaintext := make([]byte, size)
		for i := range plaintext {
			plaintext[i] = byte(rand.Uint32())
		}
		if err := out.WriteFrame(plaintext); err != nil {
			t.Fatalf("write %d: %v", size, err)
		}
		got, err := in.ReadFrame()
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("frame of %d bytes: %v", size, err)
		}
	}
}

func TestFrameAboveTheLimitIsRefusedFromItsHeader(t *testing.T) {
	out, in, w := oneWay(t, 100+TagSize)
	if err := out.WriteFrame(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if _, err := in.ReadFrame(); err != nil {
		t.Fatalf("a frame at the limit: %v", err)
	}
	w.Write(appendFrameHeader(nil, 101+TagSize))
	if _, err := in.ReadFrame(); err != ErrFrameTooLarge {
		t.Fatalf("a frame above the limit: %v", err)
	}
}

func TestTooLargePlaintextIsRefusedWithoutHarm(t *testing.T) {
	out, in, _ := oneWay(t, MaxFrame)
	if err := out.WriteFrame(make([]byte, MaxFrame-TagSize+1)); err != ErrFrameTooLarge {
		t.Fatalf("write: %v", err)
	}
	if err := out.WriteFrame([]byte("next")); err != nil {
		t.Fatalf("write after a refusal: %v", err)
	}
	if got, err := in.ReadFrame(); err != nil || string(got) != "next" {
		t.Fatalf("read after a refusal: %q, %v", got, err)
	}
}

func TestFrameWithoutRoomForItsTagIsRefused(t *testing.T) {
	for size := range TagSize {
		_, in, w := oneWay(t, MaxFrame)
		w.Write(frameOf(make([]byte, size)))
		if _, err := in.ReadFrame(); err != ErrFrameTooShort {
			t.Errorf("frame of %d bytes: %v", size, err)
		}
	}
}

func TestEveryChangedBitOfAFrameIsNoticedAndTheErrorSticks(t *testing.T) {
	out, _, w := oneWay(t, MaxFrame)
	if err := out.WriteFrame([]byte("a frame that must not be changed")); err != nil {
		t.Fatal(err)
	}
	frame := bytes.Clone(w.Bytes())
	if err := out.WriteFrame([]byte("the next")); err != nil {
		t.Fatal(err)
	}
	next := bytes.Clone(w.Bytes()[len(frame):])
	for bit := range len(frame) * 8 {
		changed := bytes.Clone(frame)
		changed[bit/8] ^= 1 << (bit % 8)
		_, in, w := oneWay(t, MaxFrame)
		w.Write(changed)
		w.Write(next)
		_, err := in.ReadFrame()
		if err == nil {
			t.Errorf("bit %d: accepted", bit)
			continue
		}
		w.Write(frame)
		w.Write(next)
		for range 3 {
			if _, again := in.ReadFrame(); again != err {
				t.Errorf("bit %d: %v, then %v", bit, err, again)
			}
		}
	}
}

func TestFramesRepeatedOrOutOfOrderAreRefused(t *testing.T) {
	out, _, w := oneWay(t, MaxFrame)
	var frames [][]byte
	for range 3 {
		w.Reset()
		if err := out.WriteFrame([]byte("same")); err != nil {
			t.Fatal(err)
		}
		frames = append(frames, bytes.Clone(w.Bytes()))
	}
	for name, order := range map[string][]int{"repeated": {0, 0}, "swapped": {1, 0}, "left out": {0, 2}} {
		_, in, w := oneWay(t, MaxFrame)
		for _, i := range order {
			w.Write(frames[i])
		}
		var err error
		for range order {
			if _, e := in.ReadFrame(); e != nil {
				err = e
			}
		}
		if err != ErrDecrypt {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEndOfStreamIsCleanOnlyBetweenFrames(t *testing.T) {
	out, _, w := oneWay(t, MaxFrame)
	if err := out.WriteFrame([]byte("frame")); err != nil {
		t.Fatal(err)
	}
	frame := bytes.Clone(w.Bytes())
	for n := range len(frame) + 1 {
		_, in, w := oneWay(t, MaxFrame)
		w.Write(frame[:n])
		_, err := in.ReadFrame()
		want := io.ErrUnexpectedEOF
		switch n {
		case 0:
			want = io.EOF
		case len(frame):
			if err != nil {
				t.Fatal(err)
			}
			_, err = in.ReadFrame()
			want = io.EOF
		}
		if err != want {
			t.Errorf("after %d of %d bytes: %v, want %v", n, len(frame), err, want)
		}
	}
}

// shortWriter takes a number of bytes and then fails, or takes less than it is given
// without saying so.
type shortWriter struct {
	left   int
	silent bool
}

var errFull = errors.New("full")

func (w *shortWriter) Write(p []byte) (int, error) {
	if w.left >= len(p) {
		w.left -= len(p)
		return len(p), nil
	}
	n := w.left
	w.left = 0
	if w.silent {
		return n, nil
	}
	return n, errFull
}

func TestFailedOrShortWritePoisonsTheDirection(t *testing.T) {
	for _, test := range []struct {
		name   string
		silent bool
		want   error
	}{{"failed", false, errFull}, {"short", true, io.ErrShortWrite}} {
		c, err := newCipherState(make([]byte, KeySize))
		if err != nil {
			t.Fatal(err)
		}
		w := &shortWriter{left: 10, silent: test.silent}
		out := newConn(nil, w, nil, c, 0)
		if err := out.WriteFrame([]byte("frame")); err != test.want {
			t.Errorf("%s: %v", test.name, err)
		}
		w.left = 1000
		if err := out.WriteFrame([]byte("frame")); err != test.want {
			t.Errorf("%s, then: %v", test.name, err)
		}
		if w.left != 1000 {
			t.Errorf("%s: something was written after the failure", test.name)
		}
	}
}

func TestOneDirectionsErrorLeavesTheOtherAlone(t *testing.T) {
	m := established(t, ModeWhatsApp)
	m.client.in.err = ErrDecrypt
	if _, err := m.client.ReadFrame(); err != ErrDecrypt {
		t.Fatal(err)
	}
	go func() { _ = m.client.WriteFrame([]byte("still here")) }()
	if got, err := m.server.ReadFrame(); err != nil || string(got) != "still here" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestCounterStopsBeforeItCouldWrap(t *testing.T) {
	out, in, _ := oneWay(t, MaxFrame)
	out.out.cipher.counter = MaxFramesPerKey - 1
	in.in.cipher.counter = MaxFramesPerKey - 1
	if err := out.WriteFrame([]byte("last")); err != nil {
		t.Fatal(err)
	}
	if got, err := in.ReadFrame(); err != nil || string(got) != "last" {
		t.Fatalf("%q, %v", got, err)
	}
	for range 2 {
		if err := out.WriteFrame([]byte("one too many")); err != ErrExhausted {
			t.Fatalf("write: %v", err)
		}
	}
	out.out.cipher.counter, out.out.err = 0, nil
	if err := out.WriteFrame([]byte("one too many")); err != nil {
		t.Fatal(err)
	}
	if _, err := in.ReadFrame(); err != ErrExhausted {
		t.Fatalf("read: %v", err)
	}
	if MaxFramesPerKey >= 1<<32 {
		t.Error("the limit is beyond a 32-bit counter")
	}
}

func TestConcurrentWritersDoNotMixFrames(t *testing.T) {
	m := established(t, ModeWhatsApp)
	const writers, each = 8, 50
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for range each {
				if err := m.client.WriteFrame(bytes.Repeat([]byte{byte(w)}, 10+w)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	counts := map[byte]int{}
	for range writers * each {
		got, err := m.server.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 10+int(got[0]) || len(bytes.Trim(got, string(got[:1]))) != 0 {
			t.Fatal("a frame is mixed of two")
		}
		counts[got[0]]++
	}
	wg.Wait()
	for w, n := range counts {
		if n != each {
			t.Errorf("writer %d: %d frames", w, n)
		}
	}
}

func TestReadFrameGivesMemoryOfItsOwn(t *testing.T) {
	out, in, _ := oneWay(t, MaxFrame)
	for _, s := range []string{"first", "other"} {
		if err := out.WriteFrame([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	first, err := in.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	if _, err = in.ReadFrame(); err != nil {
		t.Fatal(err)
	}
	if string(first) != "first" {
		t.Errorf("the first frame became %q", first)
	}
}

func TestHeaderAloneTakesLittleMemory(t *testing.T) {
	// A frame of 16 MiB that is only announced must cost what has arrived of it.
	r := io.MultiReader(bytes.NewReader(appendFrameHeader(nil, MaxFrame)), bytes.NewReader(make([]byte, 1000)))
	before := allocated()
	_, err := newFrameReader(r).next(MaxFrame)
	if cost := allocated() - before; cost > 2*readStep {
		t.Errorf("%d bytes allocated", cost)
	}
	if err != io.ErrUnexpectedEOF {
		t.Error(err)
	}
}

func TestConnectionErrorsPassThrough(t *testing.T) {
	m := established(t, ModeWhatsApp)
	broken := errors.New("broken")
	m.client.in.from = errorReader{broken}
	if _, err := m.client.ReadFrame(); err != broken {
		t.Errorf("got %v", err)
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }
