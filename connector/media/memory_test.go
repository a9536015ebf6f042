package media

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"runtime"
	"testing"
)

// zeros is a plaintext of so many bytes that is nowhere in memory.
type zeros struct{ left int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), z.left))
	clear(p[:n])
	z.left -= int64(n)
	return n, nil
}

// synthetic is an encrypted file that is nowhere in memory either: ciphertext of zeros
// but for the last block, which makes the padding right, and the MAC.
type synthetic struct {
	size int64
	end  []byte // the last block and the MAC
}

func (s *synthetic) ReadAt(p []byte, at int64) (int, error) {
	clear(p)
	if from := s.size - macSize - blockSize; at+int64(len(p)) > from {
		skip := max(at-from, 0)
		copy(p[max(from-at, 0):], s.end[skip:])
	}
	return len(p), nil
}

// newSynthetic returns a file of so many bytes of plaintext and what belongs to it.
func newSynthetic(t *testing.T, length int64) (*synthetic, Descriptor) {
	t.Helper()
	d := Descriptor{Kind: Video, Key: testKey(), Length: length, EncLength: EncryptedLength(length)}
	k, err := derive(d.Key, d.Kind)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(k.cipher[:])
	if err != nil {
		t.Fatal(err)
	}
	s := &synthetic{size: d.EncLength, end: make([]byte, blockSize)}
	pad(s.end, int(length%blockSize))
	block.Encrypt(s.end, s.end)
	// The file and its plaintext are hashed here a second time, by plain means.
	mac, whole, plain := hmac.New(sha256.New, k.mac[:]), sha256.New(), sha256.New()
	mac.Write(k.iv[:])
	cbc := cipher.NewCBCDecrypter(block, k.iv[:])
	for at, piece := int64(0), make([]byte, 1<<20); at < s.size-macSize; at += int64(len(piece)) {
		piece = piece[:min(int64(len(piece)), s.size-macSize-at)]
		_, _ = s.ReadAt(piece, at)
		mac.Write(piece)
		whole.Write(piece)
		cbc.CryptBlocks(piece, piece)
		plain.Write(piece[:min(int64(len(piece)), length-at)])
	}
	s.end = append(s.end, mac.Sum(nil)[:macSize]...)
	whole.Write(s.end[blockSize:])
	whole.Sum(d.EncSHA256[:0])
	plain.Sum(d.SHA256[:0])
	return s, d
}

// peak notes the greatest heap at any write.
type peak struct{ heap, bytes uint64 }

func (p *peak) Write(b []byte) (int, error) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	p.heap = max(p.heap, m.HeapAlloc)
	p.bytes += uint64(len(b))
	return len(b), nil
}

// peakOf returns how far the heap grows while f writes to its argument, and how much it allocates.
func peakOf(t *testing.T, f func(io.Writer) error) (grown, allocated int64) {
	t.Helper()
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var p peak
	if err := f(&p); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	return int64(p.heap) - int64(before.HeapAlloc), int64(after.TotalAlloc - before.TotalAlloc)
}

func TestMemoryDoesNotGrowWithTheAttachment(t *testing.T) {
	const small = int64(1 << 20)
	large, bound := int64(64<<20), int64(256<<10)
	if os.Getenv("POSTERN_ALL") != "" {
		large = 1 << 30
	}
	for _, direction := range []struct {
		name string
		run  func(n int64) func(io.Writer) error
	}{
		{"encrypting", func(n int64) func(io.Writer) error {
			return func(w io.Writer) error {
				_, err := Encrypt(w, &zeros{n}, Video, testKey())
				return err
			}
		}},
		{"decrypting", func(n int64) func(io.Writer) error {
			file, d := newSynthetic(t, n)
			return func(w io.Writer) error { return Decrypt(w, file, file.size, d) }
		}},
	} {
		atSmall, allocatedSmall := peakOf(t, direction.run(small))
		atLarge, allocatedLarge := peakOf(t, direction.run(large))
		t.Logf("%s: peak heap grows by %d KiB with %d MiB, by %d KiB with 1 MiB; allocated in all: %d and %d KiB",
			direction.name, atLarge>>10, large>>20, atSmall>>10, allocatedLarge>>10, allocatedSmall>>10)
		if atLarge-atSmall > bound || atLarge > bound {
			t.Errorf("%s %d MiB: the heap grows by %d bytes, with 1 MiB by %d", direction.name, large>>20, atLarge, atSmall)
		}
		// Nothing is allocated by the piece: whole calls cost the same.
		if more := allocatedLarge - allocatedSmall; more > 32<<10 {
			t.Errorf("%s %d MiB: %d bytes more are allocated than with 1 MiB", direction.name, large>>20, more)
		}
	}
}

func TestAnAttachmentMayBeLongerThan32BitsCount(t *testing.T) {
	length := int64(1<<22 + 5)
	if os.Getenv("POSTERN_ALL") != "" {
		length = 1<<31 + 5
	}
	d, err := Encrypt(io.Discard, &zeros{length}, Document, testKey())
	if err != nil || d.Length != length || d.EncLength != EncryptedLength(length) {
		t.Errorf("encrypting: %v, %d bytes", err, d.Length)
	}
	file, d := newSynthetic(t, length)
	var out counter
	if err = Decrypt(&out, file, file.size, d); err != nil || int64(out) != length {
		t.Errorf("decrypting: %v, %d bytes", err, out)
	}
	file.end[0] ^= 1
	if err = Decrypt(&out, file, file.size, d); !errors.Is(err, ErrHash) || int64(out) != length {
		t.Errorf("changed near its end: %v, %d bytes", err, out)
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// checkAllocation fails if f allocates more than bound bytes. Other goroutines are counted too, so a figure that is
// too high is measured again.
func checkAllocation(t *testing.T, bound int, f func()) {
	t.Helper()
	var used uint64
	for range 5 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		if used = after.TotalAlloc - before.TotalAlloc; used <= uint64(bound) {
			return
		}
	}
	t.Errorf("%d bytes allocated, the bound is %d", used, bound)
}

// FuzzDecrypt gives any file to Decrypt, with hash and MAC as they are or made right, and any lengths. What is refused
// before its MAC verified writes nothing, what is accepted becomes the same file again, and what is allocated is bounded
// by 96 KiB.
//
// decoder: decrypt.go
func FuzzDecrypt(f *testing.F) {
	for _, n := range []int{0, 1, 16, 100} {
		file, d := encrypted(f, plaintext(n), Image)
		f.Add(file, d.SHA256[:], byte(Image), d.Length, byte(0))
		f.Add(file, d.SHA256[:], byte(Video), int64(-1), byte(1))
		f.Add(file, d.SHA256[:], byte(Image), int64(-1), byte(1))
		f.Add(file, []byte{}, byte(Image), d.Length, byte(3))
		f.Add(file[:len(file)-macSize], []byte{}, byte(Audio), int64(-1), byte(2))
	}
	f.Add([]byte{}, []byte{}, byte(0), int64(0), byte(0))
	f.Add([]byte("short"), []byte{}, byte(9), int64(-5), byte(2))
	f.Fuzz(func(t *testing.T, file, sum []byte, kind byte, length int64, mode byte) {
		d := Descriptor{Kind: Kind(kind), Key: testKey(), Length: length}
		copy(d.SHA256[:], sum)
		switch whole := d.Kind.info() != ""; {
		case mode&1 != 0:
			d.EncSHA256 = sha256.Sum256(file)
		case mode&2 != 0 && whole:
			file = forge(t, file, &d)
		}
		var out bytes.Buffer
		out.Grow(len(file))
		var err error
		checkAllocation(t, 96<<10, func() {
			out.Reset()
			err = Decrypt(&out, bytes.NewReader(file), int64(len(file)), d)
		})
		if err != nil {
			late := errors.Is(err, ErrPlainHash) || len(file) > chunk
			if !late && out.Len() != 0 {
				t.Errorf("%v, and %d bytes written", err, out.Len())
			}
			return
		}
		var again bytes.Buffer
		got, err := Encrypt(&again, &out, d.Kind, d.Key)
		if err != nil || got.SHA256 != d.SHA256 || !bytes.Equal(again.Bytes(), file) {
			t.Errorf("%v, or another file", err)
		}
	})
}
