package transcode

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/buckket/go-blurhash"
)

// shown are the quarters of corners after each orientation.
var shown = [9]string{1: "rgbw", 2: "grwb", 3: "wbgr", 4: "bwrg", 5: "rbgw", 6: "brwg", 7: "wgbr", 8: "gwrb"}

func TestThumbnailsAreTurnedAsThePictureSays(t *testing.T) {
	for o := 1; o <= 8; o++ {
		path := write(t, "x", jpegOf(t, corners(400, 200), gpsExif(byte(o))))
		b, w, h, err := (*Tool)(nil).Thumbnail(background, path, 16<<10, 100)
		if err != nil {
			t.Fatal(err)
		}
		wantW, wantH := 100, 50
		if o >= 5 {
			wantW, wantH = 50, 100
		}
		m, err := jpeg.Decode(bytes.NewReader(b))
		if err != nil || w != wantW || h != wantH || m.Bounds().Dx() != w || m.Bounds().Dy() != h || quarters(m) != shown[o] {
			t.Errorf("orientation %d: %d by %d, %s, %v; want %s", o, w, h, quarters(m), err, shown[o])
		}
		out := filepath.Join(t.TempDir(), "out")
		if err = (*Tool)(nil).png(path, out); err != nil {
			t.Fatal(err)
		}
		m, err = png.Decode(bytes.NewReader(read(t, out)))
		if err != nil || m.Bounds().Dx() != wantW*4 || quarters(m) != shown[o] {
			t.Errorf("orientation %d: %s, %v", o, quarters(m), err)
		}
	}
}

func TestAThumbnailFitsItsBytes(t *testing.T) {
	noise := image.NewRGBA(image.Rect(0, 0, 300, 200))
	state := uint32(1)
	for i := range noise.Pix {
		state = state*1664525 + 1013904223
		noise.Pix[i] = byte(state >> 24)
	}
	path := write(t, "x", pngOf(t, noise))
	for _, most := range []int{16 << 10, 4 << 10, 1500, 800} {
		b, w, h, err := (*Tool)(nil).Thumbnail(background, path, most, 100)
		if err != nil || len(b) > most || w < 1 || h < 1 || w > 100 {
			t.Errorf("%d bytes: %d by %d in %d bytes, %v", most, w, h, len(b), err)
		}
	}
	for _, room := range [][2]int{{100, 100}, {0, 100}, {16 << 10, 0}, {16 << 10, -1}} {
		if _, _, _, err := (*Tool)(nil).Thumbnail(background, path, room[0], room[1]); !errors.Is(err, ErrConvert) {
			t.Errorf("%v: %v", room, err)
		}
	}
}

func TestWhatIsTransparentIsWhiteInAThumbnailAndStaysSoInPNG(t *testing.T) {
	clear := image.NewNRGBA(image.Rect(0, 0, 40, 40))
	clear.SetNRGBA(0, 0, color.NRGBA{255, 0, 0, 255})
	path := write(t, "x", pngOf(t, clear))
	b, _, _, err := (*Tool)(nil).Thumbnail(background, path, 16<<10, 100)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := jpeg.Decode(bytes.NewReader(b)); err != nil || quarters(m) != "wwww" {
		t.Errorf("%v, %s", err, quarters(m))
	}
	out := filepath.Join(t.TempDir(), "out")
	if err = (*Tool)(nil).png(path, out); err != nil {
		t.Fatal(err)
	}
	m, err := png.Decode(bytes.NewReader(read(t, out)))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, a := m.At(20, 20).RGBA(); a != 0 {
		t.Errorf("alpha %d", a)
	}
	if err = (*Tool)(nil).jpeg(path, out); err != nil || quarters(must(jpeg.Decode(bytes.NewReader(read(t, out))))) != "wwww" {
		t.Errorf("as JPEG: %v", err)
	}
}

func must(m image.Image, err error) image.Image {
	if err != nil {
		return image.NewRGBA(image.Rect(0, 0, 4, 4))
	}
	return m
}

func TestABlurhashIsThatOfThePicture(t *testing.T) {
	for what, c := range map[string]struct {
		content []byte
		x, y    int
	}{"wide": {jpegOf(t, corners(300, 200), gpsExif(1)), 4, 3}, "high": {jpegOf(t, corners(300, 200), gpsExif(6)), 3, 4}} {
		hash, err := (*Tool)(nil).Blurhash(background, write(t, "x", c.content))
		if err != nil {
			t.Fatal(err)
		}
		x, y, err := blurhash.Components(hash)
		if err != nil || x != c.x || y != c.y {
			t.Errorf("%s: %d by %d components, %v", what, x, y, err)
		}
		m, err := blurhash.Decode(hash, 64, 64, 1)
		if err != nil {
			t.Fatal(err)
		}
		turned := turn(corners(64, 64), map[string]int{"wide": 1, "high": 6}[what])
		reference, err := blurhash.Encode(c.x, c.y, turned)
		if err != nil {
			t.Fatal(err)
		}
		if want := must(blurhash.Decode(reference, 64, 64, 1)); distance(m, want) > 8 {
			t.Errorf("%s: another picture, by %.1f", what, distance(m, want))
		}
	}
}

// bomb is a PNG that says it is so large, without the pixels.
func bomb(width, height uint32) []byte {
	header := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, width), height)
	return append([]byte("\x89PNG\r\n\x1a\n"), append(chunk("IHDR", string(header)+"\x08\x06\x00\x00\x00"), chunk("IDAT", "x")...)...)
}

func TestAPictureThatIsTooBigIsRefusedBeforeItTakesMemory(t *testing.T) {
	bmp := append([]byte("BM\x00\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00"), "\x00\x00\x01\x00\x00\x00\x01\x00\x01\x00\x18\x00"...)
	bmp = append(bmp, make([]byte, 24)...)
	webp := []byte("RIFF\x28\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00\xfe\x3f\x00\xfe\x3f\x00VP8 \x0a\x00\x00\x00\x00\x00\x00\x9d\x01\x2a\xff\x3f\xff\x3f")
	for what, content := range map[string][]byte{"PNG": bomb(1<<20, 1<<20), "more than fits": bomb(10001, 10000), "BMP": bmp, "WebP": webp} {
		path := write(t, "x", content)
		checkAllocation(t, 1<<20, func() {
			if _, _, _, err := (*Tool)(nil).Thumbnail(background, path, 1<<14, 100); !errors.Is(err, ErrTooBig) {
				t.Errorf("%s: thumbnail: %v", what, err)
			}
			if err := (*Tool)(nil).jpeg(path, path+".out"); !errors.Is(err, ErrTooBig) {
				t.Errorf("%s: %v", what, err)
			}
			if _, err := (*Tool)(nil).Probe(background, path); !errors.Is(err, ErrTooBig) {
				t.Errorf("%s: probe: %v", what, err)
			}
		})
		if _, err := os.Stat(path + ".out"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something was left", what)
		}
	}
	// One with long numbers for its pixels is too big sooner.
	deep := bomb(9000, 9000)
	deep[24] = 16
	binary.BigEndian.PutUint32(deep[29:], crc32.ChecksumIEEE(deep[12:29]))
	path := write(t, "x", deep)
	if _, _, _, err := (*Tool)(nil).Thumbnail(background, path, 1<<14, 100); !errors.Is(err, ErrTooBig) {
		t.Errorf("%v", err)
	}
}

func TestDamagedPicturesAreErrors(t *testing.T) {
	for what, content := range map[string][]byte{
		"cut": jpegOf(t, corners(64, 64))[:300], "no pixels": bomb(0, 5), "no data": bomb(5, 5), "header only": []byte("\xff\xd8\xff"),
		"GIF": []byte("GIF89a\x05\x00\x05\x00\x00\x00\x00;"), "TIFF": []byte("II*\x00\x08\x00\x00\x00\xff\xff"),
		"a picture larger than its file says": []byte("RIFF\x28\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00\x0f\x00\x00\x0f\x00\x00VP8 \x0a\x00\x00\x00\x00\x00\x00\x9d\x01\x2a\xff\x3f\xff\x3f"),
		"animation without a picture":         []byte("RIFF\x30\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02\x00\x00\x00\x05\x00\x00\x05\x00\x00ANMF\x18\x00\x00\x00" + string(make([]byte, 24))),
	} {
		path := write(t, "x", content)
		if _, _, _, err := (*Tool)(nil).Thumbnail(background, path, 1<<14, 100); !errors.Is(err, ErrConvert) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, _, _, err := (*Tool)(nil).Thumbnail(background, write(t, "x", []byte("a text")), 1<<14, 100); !errors.Is(err, ErrKind) {
		t.Errorf("a text: %v", err)
	}
	ended, end := context.WithCancel(background)
	end()
	if _, _, _, err := (*Tool)(nil).Thumbnail(ended, write(t, "x", jpegOf(t, corners(64, 64))), 1<<14, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

func TestAPanicOfADecoderIsAnError(t *testing.T) {
	bad := decoder{
		config: nil, decode: nil, // calling them panics
	}
	if _, err := guardConfig(bad, bytes.NewReader(nil)); !errors.Is(err, ErrConvert) {
		t.Errorf("%v", err)
	}
	if _, err := guardDecode(bad, &contextReader{background, bytes.NewReader(nil)}); !errors.Is(err, ErrConvert) {
		t.Errorf("%v", err)
	}
}

func TestAnAnimatedGIFIsToldFromAStillOne(t *testing.T) {
	for pictures := 1; pictures <= 3; pictures++ {
		g := gif.GIF{}
		for range pictures {
			g.Image = append(g.Image, image.NewPaletted(image.Rect(0, 0, 20, 20), color.Palette{color.Black, color.White}))
			g.Delay = append(g.Delay, 10)
		}
		var b bytes.Buffer
		if err := gif.EncodeAll(&b, &g); err != nil {
			t.Fatal(err)
		}
		for n := range b.Len() {
			if gifAnimated(bytes.NewReader(b.Bytes()[:n])) && pictures == 1 {
				t.Errorf("one picture cut after %d moves", n)
			}
		}
		if got := gifAnimated(&b); got != (pictures > 1) {
			t.Errorf("%d pictures: %v", pictures, got)
		}
	}
}

func TestTheFirstPictureOfAnAnimatedWebPIsFound(t *testing.T) {
	for _, name := range []string{"moving.webp", "movinglossless.webp"} {
		b, w, h, err := (*Tool)(nil).Thumbnail(background, sample(t, name), 16<<10, 1000)
		if err != nil || w != 160 || h != 120 {
			t.Fatalf("%s: %d by %d, %v", name, w, h, err)
		}
		want, err := png.Decode(bytes.NewReader(read(t, sample(t, "still.png"))))
		if err != nil {
			t.Fatal(err)
		}
		got, err := jpeg.Decode(bytes.NewReader(b))
		if err != nil || distance(got, want) > 20 {
			t.Errorf("%s: %v, or another picture", name, err)
		}
	}
}

// distance is how far two pictures are apart, a pixel's colour on the average, of 255.
func distance(a, b image.Image) float64 {
	sum, n := 0.0, 0
	for y := range min(a.Bounds().Dy(), b.Bounds().Dy()) {
		for x := range min(a.Bounds().Dx(), b.Bounds().Dx()) {
			r1, g1, b1, _ := a.At(x, y).RGBA()
			r2, g2, b2, _ := b.At(x, y).RGBA()
			for _, d := range []int{int(r1) - int(r2), int(g1) - int(g2), int(b1) - int(b2)} {
				sum += float64(max(d, -d)) / 257
				n++
			}
		}
	}
	return sum / float64(max(n, 1))
}

func TestASmallFilmHasNoLargerThumbnail(t *testing.T) {
	tool := needTool(t)
	b, w, h, err := tool.Thumbnail(background, sample(t, "silent.mp4"), 64<<10, 800)
	if err != nil || w != 160 || h != 120 {
		t.Errorf("%d by %d in %d bytes, %v", w, h, len(b), err)
	}
}
