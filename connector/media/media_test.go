package media

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
)

// plaintext returns so many bytes that are the same in each run.
func plaintext(n int) []byte {
	source := rand.NewChaCha8([32]byte{1})
	out := make([]byte, n)
	_, _ = source.Read(out)
	return out
}

// testKey is a key that is the same in each run.
func testKey() (key [KeySize]byte) {
	copy(key[:], plaintext(KeySize))
	return key
}

// encrypted returns the file and descriptor of a plaintext.
func encrypted(t testing.TB, plain []byte, kind Kind) ([]byte, Descriptor) {
	t.Helper()
	var file bytes.Buffer
	d, err := Encrypt(&file, bytes.NewReader(plain), kind, testKey())
	if err != nil {
		t.Fatal(err)
	}
	return file.Bytes(), d
}

// forge makes a file of any ciphertext whose hash and MAC are right.
func forge(t testing.TB, body []byte, d *Descriptor) []byte {
	t.Helper()
	k, err := derive(d.Key, d.Kind)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, k.mac[:])
	mac.Write(k.iv[:])
	mac.Write(body)
	file := append(bytes.Clone(body), mac.Sum(nil)[:macSize]...)
	d.EncSHA256 = sha256.Sum256(file)
	return file
}

// sealRaw encrypts blocks that have their padding already.
func sealRaw(t testing.TB, blocks []byte, d *Descriptor) []byte {
	t.Helper()
	k, err := derive(d.Key, d.Kind)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(k.cipher[:])
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, len(blocks))
	cipher.NewCBCEncrypter(block, k.iv[:]).CryptBlocks(body, blocks)
	return forge(t, body, d)
}

func TestVectorsMadeByOpensslAreReadAndWritten(t *testing.T) {
	text, err := os.ReadFile("testdata/vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]Kind{}
	for kind := Image; kind.info() != ""; kind++ {
		kinds[kind.info()] = kind
	}
	seen := map[Kind]int{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		kind := kinds[fields[0]]
		seen[kind]++
		var raw [3][]byte
		for i := range raw {
			if raw[i], err = hex.DecodeString(fields[i+1]); err != nil {
				t.Fatal(err)
			}
		}
		plain, file := raw[1], raw[2]
		var out bytes.Buffer
		d, err := Encrypt(&out, bytes.NewReader(plain), kind, [KeySize]byte(raw[0]))
		if err != nil || !bytes.Equal(out.Bytes(), file) {
			t.Errorf("%s, %d bytes: %v, or another file than openssl's", fields[0], len(plain), err)
		}
		want := Descriptor{
			Kind: kind, Key: [KeySize]byte(raw[0]), SHA256: sha256.Sum256(plain), EncSHA256: sha256.Sum256(file),
			Length: int64(len(plain)), EncLength: int64(len(file)),
		}
		if d != want {
			t.Errorf("%s, %d bytes: another descriptor", fields[0], len(plain))
		}
		out.Reset()
		if err = Decrypt(&out, bytes.NewReader(file), int64(len(file)), want); err != nil || !bytes.Equal(out.Bytes(), plain) {
			t.Errorf("%s, %d bytes: %v, or another plaintext", fields[0], len(plain), err)
		}
	}
	for _, kind := range kinds {
		if seen[kind] != 6 {
			t.Errorf("%s: %d vectors", kind, seen[kind])
		}
	}
}

func TestEveryLengthComesBack(t *testing.T) {
	lengths := []int{}
	for n := range 101 {
		lengths = append(lengths, n)
	}
	for _, edge := range []int{chunk, 2 * chunk, 3 * chunk, 8 * chunk} {
		for n := edge - 17; n <= edge+17; n++ {
			lengths = append(lengths, n)
		}
	}
	all := plaintext(8*chunk + 17)
	for _, n := range lengths {
		file, d := encrypted(t, all[:n], Video)
		if int64(len(file)) != EncryptedLength(int64(n)) || d.EncLength != int64(len(file)) || d.Length != int64(n) {
			t.Errorf("%d bytes became %d, described as %d and %d", n, len(file), d.Length, d.EncLength)
		}
		for what, told := range map[string]Descriptor{
			"all is known": d, "lengths are not known": {Kind: d.Kind, Key: d.Key, SHA256: d.SHA256, EncSHA256: d.EncSHA256, Length: -1},
		} {
			var out bytes.Buffer
			err := Decrypt(&out, bytes.NewReader(file), int64(len(file)), told)
			if err != nil || !bytes.Equal(out.Bytes(), all[:n]) {
				t.Errorf("%d bytes, %s: %v, %d bytes back", n, what, err, out.Len())
			}
		}
	}
}

func TestReadersMayGiveTheirBytesInAnyPieces(t *testing.T) {
	plain := plaintext(2*chunk + 5)
	want, d := encrypted(t, plain, Audio)
	for what, wrap := range map[string]func(io.Reader) io.Reader{
		"one byte at a time": iotest.OneByteReader, "half of what is asked": iotest.HalfReader,
		"the end with the last bytes": iotest.DataErrReader,
		"nothing now and then":        func(r io.Reader) io.Reader { return &stutter{r: r} },
	} {
		var out bytes.Buffer
		got, err := Encrypt(&out, wrap(bytes.NewReader(plain)), Audio, testKey())
		if err != nil || got != d || !bytes.Equal(out.Bytes(), want) {
			t.Errorf("%s: %v, or another file", what, err)
		}
	}
	if _, err := Encrypt(io.Discard, &stutter{r: bytes.NewReader(plain), most: 1 << 30}, Audio, testKey()); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that gives nothing for ever: %v", err)
	}
}

// stutter gives nothing for a number of calls (by default one) before each byte.
type stutter struct {
	r           io.Reader
	most, calls int
}

func (s *stutter) Read(p []byte) (int, error) {
	if s.calls++; s.calls%(max(s.most, 1)+1) != 0 {
		return 0, nil
	}
	return s.r.Read(p[:min(1, len(p))])
}

func TestErrorsOfReadersAndWritersComeBack(t *testing.T) {
	broken := errors.New("broken")
	plain := plaintext(3*chunk + 5)
	file, d := encrypted(t, plain, Image)
	for at := 0; at <= len(plain); at += chunk / 2 {
		src := io.MultiReader(bytes.NewReader(plain[:at]), iotest.ErrReader(broken))
		if got, err := Encrypt(io.Discard, src, Image, testKey()); !errors.Is(err, broken) || got != (Descriptor{}) {
			t.Errorf("reader broken after %d: %v", at, err)
		}
		if err := Decrypt(io.Discard, &brokenAt{file, int64(at), broken}, int64(len(file)), d); !errors.Is(err, broken) {
			t.Errorf("spool broken at %d: %v", at, err)
		}
	}
	for left := 0; left < len(plain); left += chunk / 2 {
		for err, short := range map[error]bool{broken: false, io.ErrShortWrite: true} {
			if _, got := Encrypt(&brokenWriter{left, short, broken}, bytes.NewReader(plain), Image, testKey()); !errors.Is(got, err) {
				t.Errorf("encrypting, writer full after %d: %v", left, got)
			}
			if got := Decrypt(&brokenWriter{left, short, broken}, bytes.NewReader(file), int64(len(file)), d); !errors.Is(got, err) {
				t.Errorf("decrypting, writer full after %d: %v", left, got)
			}
		}
	}
	// The MAC is the last write.
	if _, err := Encrypt(&brokenWriter{len(file) - macSize, false, broken}, bytes.NewReader(plain), Image, testKey()); !errors.Is(err, broken) {
		t.Errorf("writer full before the MAC: %v", err)
	}
	if err := Decrypt(io.Discard, bytes.NewReader(file[:len(file)-1]), int64(len(file)), d); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a spool shorter than said: %v", err)
	}
}

type brokenAt struct {
	file []byte
	at   int64
	err  error
}

func (b *brokenAt) ReadAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) > b.at {
		return 0, b.err
	}
	return copy(p, b.file[at:]), nil
}

type brokenWriter struct {
	left  int
	short bool
	err   error
}

func (b *brokenWriter) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left >= 0 {
		return len(p), nil
	}
	if b.short {
		return 0, nil
	}
	return 0, b.err
}

// writes counts what it gets.
type writes struct{ calls, bytes int }

func (w *writes) Write(p []byte) (int, error) {
	w.calls++
	w.bytes += len(p)
	return len(p), nil
}

func TestNoByteOfAFileCanBeChanged(t *testing.T) {
	file, d := encrypted(t, plaintext(40), Document)
	if len(file) != 58 {
		t.Fatalf("%d bytes", len(file))
	}
	for i := range file {
		for bit := range 8 {
			changed := bytes.Clone(file)
			changed[i] ^= 1 << bit
			var out writes
			if err := Decrypt(&out, bytes.NewReader(changed), int64(len(changed)), d); !errors.Is(err, ErrHash) || out.calls != 0 {
				t.Errorf("byte %d: %v, %d bytes written", i, err, out.bytes)
			}
			// Whoever changes the file may also know how to hash it.
			told := d
			told.EncSHA256 = sha256.Sum256(changed)
			if err := Decrypt(&out, bytes.NewReader(changed), int64(len(changed)), told); !errors.Is(err, ErrMAC) || out.calls != 0 {
				t.Errorf("byte %d, hash made new: %v, %d bytes written", i, err, out.bytes)
			}
		}
	}
}

func TestAFileOfAnotherLengthIsRefusedUnread(t *testing.T) {
	file, d := encrypted(t, plaintext(40), Document)
	unread := &brokenAt{nil, -1, errors.New("was read")}
	unknown := d
	unknown.Length, unknown.EncLength = -1, 0
	for size := int64(-40); size < 200; size++ {
		if size == int64(len(file)) {
			continue
		}
		if err := Decrypt(io.Discard, unread, size, d); !errors.Is(err, ErrLength) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if possible := size >= 26 && (size-10)%16 == 0; !possible {
			if err := Decrypt(io.Discard, unread, size, unknown); !errors.Is(err, ErrLength) {
				t.Errorf("%d bytes, lengths not known: %v", size, err)
			}
		}
	}
	for _, size := range []int64{math.MaxInt64, math.MinInt64, math.MinInt64 + 9} {
		if err := Decrypt(io.Discard, unread, size, unknown); !errors.Is(err, ErrLength) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestADescriptorOfAnotherFileIsRefused(t *testing.T) {
	file, d := encrypted(t, plaintext(40), Document)
	for what, c := range map[string]struct {
		change func(*Descriptor)
		want   error
	}{
		"another key":                   {func(d *Descriptor) { d.Key[31] ^= 1 }, ErrMAC},
		"another kind":                  {func(d *Descriptor) { d.Kind = Image }, ErrMAC},
		"no kind":                       {func(d *Descriptor) { d.Kind = 0 }, ErrKind},
		"a kind past the last":          {func(d *Descriptor) { d.Kind = DocumentThumbnail + 1 }, ErrKind},
		"another hash of the file":      {func(d *Descriptor) { d.EncSHA256[0] ^= 1 }, ErrHash},
		"another hash of the content":   {func(d *Descriptor) { d.SHA256[0] ^= 1 }, ErrPlainHash},
		"a byte less":                   {func(d *Descriptor) { d.Length-- }, ErrLength},
		"a byte more":                   {func(d *Descriptor) { d.Length++ }, ErrLength},
		"a length that no file has":     {func(d *Descriptor) { d.Length = math.MaxInt64 }, ErrLength},
		"another length of the file":    {func(d *Descriptor) { d.EncLength -= 16 }, ErrLength},
		"a negative length of the file": {func(d *Descriptor) { d.EncLength = -1 }, ErrLength},
	} {
		told := d
		c.change(&told)
		var out writes
		if err := Decrypt(&out, bytes.NewReader(file), int64(len(file)), told); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
		if out.calls != 0 && c.want != ErrPlainHash {
			t.Errorf("%s: %d bytes written", what, out.bytes)
		}
	}
	if _, err := Encrypt(io.Discard, bytes.NewReader(nil), 0, testKey()); !errors.Is(err, ErrKind) {
		t.Errorf("encrypting as no kind: %v", err)
	}
}

func TestPaddingIsCheckedToItsLastByte(t *testing.T) {
	block := func(end ...byte) []byte { return append(make([]byte, 32-len(end)), end...) }
	for what, c := range map[string]struct {
		blocks []byte
		length int // what comes out; -1: refused
	}{
		"one byte":               {block(1), 31},
		"a whole block":          {append(make([]byte, 16), bytes.Repeat([]byte{16}, 16)...), 16},
		"none":                   {block(0), -1},
		"more than a block":      {bytes.Repeat([]byte{17}, 32), -1},
		"as much as a byte says": {bytes.Repeat([]byte{255}, 32), -1},
		"one byte wrong":         {block(3, 2, 3), -1},
		"its first byte wrong":   {block(4, 5, 5, 5, 5), -1},
		"a block, first wrong":   {append(make([]byte, 17), bytes.Repeat([]byte{16}, 15)...), -1},
	} {
		d := Descriptor{Kind: Image, Key: testKey(), Length: -1}
		file := sealRaw(t, c.blocks, &d)
		if c.length >= 0 {
			d.SHA256 = sha256.Sum256(c.blocks[:c.length])
		}
		var out bytes.Buffer
		err := Decrypt(&out, bytes.NewReader(file), int64(len(file)), d)
		switch {
		case c.length < 0 && (!errors.Is(err, ErrPadding) || out.Len() != 0):
			t.Errorf("%s: %v, %d bytes written", what, err, out.Len())
		case c.length >= 0 && (err != nil || out.Len() != c.length):
			t.Errorf("%s: %v, %d bytes", what, err, out.Len())
		}
	}
}

func TestAFileThatChangesWhileItIsReadIsRefused(t *testing.T) {
	file, d := encrypted(t, plaintext(chunk+40), Image)
	spool := &changing{file: file}
	spool.after.Store(2*int64(len(file)) - macSize)
	if err := Decrypt(io.Discard, spool, int64(len(file)), d); !errors.Is(err, ErrPlainHash) {
		t.Errorf("%v", err)
	}
}

// changing is another file once so many bytes have been read.
type changing struct {
	file  []byte
	after atomic.Int64
}

func (c *changing) ReadAt(p []byte, at int64) (int, error) {
	n := copy(p, c.file[at:])
	if c.after.Add(-int64(n)) < 0 {
		p[0] ^= 1
	}
	return n, nil
}

func TestAPanicOfTheSpoolIsAnError(t *testing.T) {
	file, d := encrypted(t, plaintext(40), Image)
	if err := Decrypt(io.Discard, panicking{}, int64(len(file)), d); !errors.Is(err, errPanic) {
		t.Errorf("%v", err)
	}
}

type panicking struct{}

func (panicking) ReadAt([]byte, int64) (int, error) { panic("no such thing") }

func TestEncryptedLengthIsThatOfTheFile(t *testing.T) {
	for plain, want := range map[int64]int64{
		0: 26, 1: 26, 15: 26, 16: 42, 31: 42, 32: 58, 1 << 31: 1<<31 + 26, -1: -1, math.MinInt64: -1, math.MaxInt64: -1,
		maxLength: maxLength - maxLength%16 + 26, maxLength + 1: -1,
	} {
		if got := EncryptedLength(plain); got != want {
			t.Errorf("%d: %d, want %d", plain, got, want)
		}
	}
}

func TestKeysAreNewAndNeverPrinted(t *testing.T) {
	a, b := NewKey(), NewKey()
	if a == b || a == [KeySize]byte{} {
		t.Error("two keys are the same")
	}
	d := Descriptor{Kind: Audio, Key: a}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if got := fmt.Sprintf(format, d); strings.Trim(got, `"`) != "attachment (audio)" {
			t.Errorf("%s: %q", format, got)
		}
	}
	if got := Kind(200).String(); got != "kind 200" {
		t.Errorf("%q", got)
	}
}
