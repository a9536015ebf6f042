package transcode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// scrubbed returns what Scrub makes of content, read in several ways.
func scrubbed(t testing.TB, mimetype string, content []byte) []byte {
	t.Helper()
	out, err := io.ReadAll(Scrub(mimetype, bytes.NewReader(content)))
	if err != nil {
		t.Fatal(err)
	}
	for what, r := range map[string]io.Reader{
		"one byte at a time":      iotest.OneByteReader(bytes.NewReader(content)),
		"the end with the last":   iotest.DataErrReader(bytes.NewReader(content)),
		"read one byte at a time": bytes.NewReader(content),
	} {
		r = Scrub(mimetype, r)
		if strings.HasPrefix(what, "read") {
			r = iotest.OneByteReader(r)
		}
		if again, err := io.ReadAll(r); err != nil || !bytes.Equal(again, out) {
			t.Errorf("%s: %v, or another file", what, err)
		}
	}
	if again, err := io.ReadAll(Scrub(mimetype, bytes.NewReader(out))); err != nil || !bytes.Equal(again, out) {
		t.Errorf("scrubbing what is scrubbed: %v, or another file", err)
	}
	return out
}

// hidden are words that the files of these tests have in their metadata.
var hidden = []string{"MAKER", "GPSLAT", "+48.8577", "location", "ns.adobe.com", "Photoshop", "secret", "loci"}

func hides(t testing.TB, what string, content []byte) {
	t.Helper()
	for _, word := range hidden {
		if bytes.Contains(content, []byte(word)) {
			t.Errorf("%s: %q is still there", what, word)
		}
	}
}

func TestAJPEGLosesEverythingButItsPictureAndOrientation(t *testing.T) {
	picture := corners(64, 48)
	icc := segment(0xe2, "ICC_PROFILE\x00\x01\x01colours")
	segments := [][]byte{
		segment(0xe0, "JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"),
		gpsExif(6), icc,
		segment(0xe1, "http://ns.adobe.com/xap/1.0/\x00GPSLAT"),
		segment(0xe1, "http://ns.adobe.com/xmp/extension/\x00secret"),
		segment(0xe2, "MPF\x00secret"), segment(0xed, "Photoshop 3.0\x00secret"), segment(0xeb, "secret"),
		segment(0xee, "Adobe\x00\x64\x00\x00\x00\x00\x01"),
	}
	content := jpegOf(t, picture, segments...)
	content = append(content, jpegOf(t, picture, gpsExif(1))...) // as cameras append a second picture
	out := scrubbed(t, jpegType, content)
	hides(t, "JPEG", out)
	if bytes.Contains(out, []byte("GPS")) || bytes.Count(out, []byte("\xff\xd8\xff")) != 1 {
		t.Error("something is still there")
	}
	for what, want := range map[string][]byte{"colours": icc, "the orientation": orientationSegment(6), "Adobe's word": segments[8], "JFIF": segments[0]} {
		if !bytes.Contains(out, want) {
			t.Errorf("%s: gone", what)
		}
	}
	before, err := jpeg.Decode(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	after, err := jpeg.Decode(bytes.NewReader(out))
	if err != nil || !samePixels(before, after) {
		t.Errorf("%v, or another picture", err)
	}
	if h := readJPEGHeader(bytes.NewReader(out)); h.orientation != 6 {
		t.Errorf("orientation %d", h.orientation)
	}
}

func samePixels(a, b image.Image) bool {
	if a.Bounds() != b.Bounds() {
		return false
	}
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			if a.At(x, y) != b.At(x, y) {
				return false
			}
		}
	}
	return true
}

func TestMetadataBehindFillingAndInsideAPictureIsFound(t *testing.T) {
	whole := jpegOf(t, corners(16, 16))
	end := len(whole) - 2
	filled := append([]byte("\xff\xd8\xff\xff\xff"), gpsExif(1)...)
	filled = append(filled, whole[2:]...)
	if out := scrubbed(t, jpegType, filled); !bytes.Equal(out, whole) {
		t.Errorf("behind filling: %d bytes, want %d", len(out), len(whole))
	}
	inside := append(append(bytes.Clone(whole[:end]), gpsExif(6)...), whole[end:]...)
	out := scrubbed(t, jpegType, inside)
	hides(t, "inside a picture", out)
	if len(out) != len(inside) || !samePixels(must(jpeg.Decode(bytes.NewReader(out))), must(jpeg.Decode(bytes.NewReader(whole)))) {
		t.Errorf("inside a picture: %d bytes of %d", len(out), len(inside))
	}
}

func TestTheOrientationIsKeptInAllItsForms(t *testing.T) {
	for o := range 10 {
		out := scrubbed(t, "IMAGE/JPEG; x=y", jpegOf(t, corners(8, 8), gpsExif(byte(o))))
		hides(t, "JPEG", out)
		want := 0
		if o >= 2 && o <= 8 {
			want = o
		}
		if h := readJPEGHeader(bytes.NewReader(out)); h.orientation != want || bytes.Contains(out, []byte("Exif")) != (want != 0) {
			t.Errorf("%d became %d", o, h.orientation)
		}
	}
	// Of two, the first counts.
	out := scrubbed(t, jpegType, jpegOf(t, corners(8, 8), gpsExif(3), gpsExif(8)))
	if h := readJPEGHeader(bytes.NewReader(out)); h.orientation != 3 || bytes.Count(out, []byte("Exif")) != 1 {
		t.Errorf("of two orientations %d is left", h.orientation)
	}
}

// chunk is one of a PNG.
func chunk(kind, content string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(content)))
	b = append(append(b, kind...), content...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
}

func pngOf(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAPNGLosesItsTexts(t *testing.T) {
	clean := pngOf(t, corners(20, 10))
	const header = 8 + 25
	var content []byte
	content = append(content, clean[:header]...)
	for _, c := range [][]byte{
		chunk("tEXt", "Comment\x00secret"), chunk("zTXt", "Comment\x00\x00secret"), chunk("iTXt", "XML:com.adobe.xmp\x00\x00\x00\x00\x00GPSLAT"),
		chunk("eXIf", string(gpsExif(6)[10:])), chunk("tIME", "secret!"),
	} {
		content = append(content, c...)
	}
	content = append(append(content, clean[header:]...), "secret"...)
	if out := scrubbed(t, pngType, content); !bytes.Equal(out, clean) {
		t.Errorf("%d bytes are left, %d were there without texts", len(out), len(clean))
	}
}

func TestAFileWithoutMetadataIsNotChanged(t *testing.T) {
	for mimetype, content := range map[string][]byte{
		jpegType: jpegOf(t, corners(100, 80), segment(0xfe, "a comment")), pngType: pngOf(t, corners(100, 80)),
		mp4Type:           movieOf(box("free", "location +48.8577")),
		"application/pdf": []byte("%PDF-location"), webpType: []byte("RIFF location"), "": gpsExif(6),
	} {
		if out := scrubbed(t, mimetype, content); !bytes.Equal(out, content) {
			t.Errorf("%s: changed", mimetype)
		}
	}
}

func TestWhatIsNotUnderstoodPassesUnchanged(t *testing.T) {
	whole := jpegOf(t, corners(32, 32))
	for mimetype, contents := range map[string][]string{
		jpegType: {
			"", "\xff", "no picture", "\xff\xd8", "\xff\xd8\xff", "\xff\xd8\xff\xe1", "\xff\xd8\xff\xe1\x00", "\xff\xd8\xff\xe1\x00\x01more",
			"\xff\xd8\xff\xe1\xff\xffExif\x00\x00too short", "\xff\xd8\x00\x01", "\xff\xd8\xff\x00", string(whole[:len(whole)/2]),
			"\xff\xd8\xff\xff\xff\xff", "\xff\xff\xe1\x00\x03xy", "\xff\xe1\x00\x03x", "\xff\xd8" + strings.Repeat("\xff", 100) + "\xe1\x00\x03x",
			"\xff\xd8\xff\xda\x00\x02data\xff\x00\xff\xd0data\xff",
		},
		pngType: {
			"", "\x89PN", "no picture at all", "\x89PNG\r\n\x1a\n", "\x89PNG\r\n\x1a\n\x00\x00", "\x89PNG\r\n\x1a\n\xff\xff\xff\xfftEXtmore",
			"\x89PNG\r\n\x1a\n\x00\x00\x00\x09IDATshort",
		},
		mp4Type: {
			"", "\x00", "\x00\x00\x00\x07moov", "\x00\x00\x00\x20ftypisom", "no boxes here", "\x00\x00\x00\x01mdat\x00\x00",
			"\x00\x00\x00\x01moov\x00\x00\x00\x00\x00\x00\x00\x0f", "\x00\x00\x00\x01mdat\xff\xff\xff\xff\xff\xff\xff\xffrest",
			box("moov", box("udta", "\x00\x00\x00\xffloci")), box("moov", box("udta", "\x00\x00\x00\x00")),
			box("moov", box("udta", "\x00\x00\x00\x04")), box("moov", box("meta", "")), box("moov", box("meta", "\x00\x00\x00\x00")),
			box("moov", box("meta", "\x00\x00\x00\x00"+box("keys", ""))), box("moov", "\x00\x00\x00\x01udta"),
		},
	} {
		for _, content := range contents {
			if out := scrubbed(t, mimetype, []byte(content)); string(out) != content {
				t.Errorf("%s: %q became %q", mimetype, content, out)
			}
		}
	}
}

func TestErrorsOfTheReaderComeBackAfterWhatItGave(t *testing.T) {
	broken := errors.New("broken")
	for mimetype, content := range map[string][]byte{
		jpegType: jpegOf(t, corners(64, 64)), pngType: pngOf(t, corners(64, 64)), mp4Type: movieOf(""),
		webpType: webpOf(vp8x(0), riffChunk("VP8 ", strings.Repeat("x", 200))),
		heicType: heifOf("heic", 1, "", heifItem{kind: "hvc1", content: []string{strings.Repeat("x", 200)}}),
	} {
		for n := 0; n <= len(content)-13; n += 7 {
			r := Scrub(mimetype, io.MultiReader(bytes.NewReader(content[:n]), iotest.ErrReader(broken)))
			if out, err := io.ReadAll(r); !errors.Is(err, broken) || !bytes.Equal(out, content[:n]) {
				t.Errorf("%s, broken after %d: %v, %d bytes", mimetype, n, err, len(out))
			}
		}
	}
}

func TestScrubbingTakesTheSameMemoryForAnyLength(t *testing.T) {
	head := jpegOf(t, corners(16, 16), gpsExif(3))
	head = head[:len(head)-2] // without the end of the picture
	box := movieOf("")
	for mimetype, start := range map[string][]byte{jpegType: head, mp4Type: append(box, "\x00\x00\x00\x00mdat"...),
		webpType: append(webpOf(vp8x(0x0c)), "EXIF\xfe\xff\xff\xff"...),
		heicType: append(heifOf("heic", 1, "", heifItem{kind: "Exif", content: []string{"x"}}), "\x00\x00\x00\x00mdat"...),
	} {
		allocated := func(n int64) uint64 {
			r := Scrub(mimetype, io.MultiReader(bytes.NewReader(start), io.LimitReader(letters{}, n)))
			return allocation(func() {
				if got, err := io.Copy(struct{ io.Writer }{io.Discard}, r); err != nil || got < n {
					t.Errorf("%d bytes: %v", got, err)
				}
			})
		}
		if small, large := allocated(1<<20), allocated(8<<20); large > small+16<<10 {
			t.Errorf("%s: 8 MiB take %d bytes, 1 MiB takes %d", mimetype, large, small)
		}
	}
}

// letters never ends.
type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}
