package transcode

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// contents are files of every kind that is read here, for seeds.
func contents(f *testing.F) [][]byte {
	hdlr := box("hdlr", strings.Repeat("\x00", 8)+"mdta"+strings.Repeat("\x00", 13))
	meta := box("meta", hdlr+keysBox("com.apple.quicktime.location.ISO6709", "x")+box("ilst", item(1, "+48.8577")))
	track := box("trak", box("tkhd", strings.Repeat("\x00", 84))+box("mdia", box("mdhd", "")+box("hdlr", "\x00\x00\x00\x00\x00\x00\x00\x00vide")+
		box("minf", box("stbl", box("stsd", "\x00\x00\x00\x00\x00\x00\x00\x01"+box("avc1", strings.Repeat("\x00", 78)+box("avcC", "\x01\x64\x00")))))))
	jpeg := jpegOf(f, corners(16, 8), gpsExif(6), segment(0xe1, "http://ns.adobe.com/xap/1.0/\x00x"), segment(0xfe, "x"))
	all := [][]byte{
		nil, []byte("a text"), jpeg, append(bytes.Clone(jpeg), jpeg...), pngOf(f, corners(4, 4)), bomb(1<<20, 1<<20),
		append(pngOf(f, corners(4, 4))[:33], chunk("tEXt", "a\x00b")...),
		movieOf(box("udta", box("\xa9xyz", "+48.8577")+box("loci", "x")+box("uuid", xmpBox))), movieOf(meta), movieOf(box("udta", meta)),
		movieOf(track + box("mvex", box("mehd", "\x00\x00\x00\x00\x00\x00\x00\x01"))),
		[]byte(box("ftyp", "heic\x00\x00\x00\x00heic") + box("meta", "\x00\x00\x00\x00"+box("iprp", box("ipco", box("ispe", strings.Repeat("\x00\x00\x00\x04", 3)))))),
		[]byte("\x00\x00\x00\x00moov\x00\x00\x00\x01udta\x00\x00\x00\x00\x00\x00\x00\x20\x00\x00\x00\x00\xa9xyz+48"),
		[]byte("OggS\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x13OpusHead\x01\x01\x38\x01\x80\xbb\x00\x00\x00\x00\x00OggS\x00\x00\x40\x20\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		[]byte("OggS\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x13\x01vorbis\x00\x00\x00\x00\x01\x44\xac\x00\x00"),
		[]byte("RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data\x04\x00\x00\x00abcd"),
		[]byte("RIFF\x30\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02\x00\x00\x00\x05\x00\x00\x05\x00\x00ANMF\x20\x00\x00\x00" + string(make([]byte, 16)) + "VP8L\x05\x00\x00\x00\x2f\x05\x40\x01\x00\x00ALPH\x00\x00\x00\x00"),
		[]byte("RIFF\x30\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x12\x00\x00\x00\x05\x00\x00\x05\x00\x00ANMF\x2e\x00\x00\x00" + string(make([]byte, 16)) + "ALPH\x00\x00\x00\x00VP8 \x0a\x00\x00\x00\x00\x00\x00\x9d\x01\x2a\x06\x00\x06\x00\x00\x00\x00\x00"),
		[]byte("GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x00\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"),
		[]byte("II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00"),
		[]byte("\x1a\x45\xdf\xa3\x93\x42\x82\x84webm"), []byte("ID3\x03\x00\x00\x00\x00\x00\x02xx\xff\xfb\x90\x00"),
		[]byte("\xff\xf1\x50\x80\x01\x00\xfc\x00\xff\xf1\x50\x80\x01\x00\xfc\x00"), append([]byte("\xff\xfb\x90\x00"), make([]byte, 500)...),
		[]byte("\xff\xf3\x80\x00"), []byte("\xff\xe3\x18\x00"), bytes.Repeat(append([]byte("G"), make([]byte, 187)...), 3),
		[]byte("BM\x00\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00"), []byte("\x00\x00\x00\x08wide"), []byte(box("ftyp", "3g2a")),
		[]byte(box("ftyp", "zzzz\x00\x00\x00\x00zzzzM4A ")),
		webpOf(vp8x(0x0c), riffChunk("VP8 ", "x"), riffChunk("EXIF", "x"), riffChunk("XMP ", "x")),
	}
	for version := range 3 {
		all = append(all, heifOf("heic", version, "", heifItem{kind: "hvc1", content: []string{"x", "y"}}, heifItem{kind: "Exif", content: []string{"x", "y"}},
			heifItem{kind: "mime", content: []string{"x"}, idat: version > 0}))
	}
	return all
}

// FuzzSniff tells what any bytes are. The answer is a MIME type in plain letters or nothing, it depends on the first bytes only, and
// nothing is allocated but a few words.
//
// decoder: sniff.go
func FuzzSniff(f *testing.F) {
	for _, c := range contents(f) {
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		var got string
		checkAllocation(t, 16<<10, func() { got = Sniff(content) })
		if Sniff(content[:min(len(content), SniffBytes)]) != got || !utf8.ValidString(got) || got != "" && !strings.Contains(got, "/") {
			t.Errorf("%q", got)
		}
	})
}

// FuzzScrub takes metadata out of any bytes, as each type. Once is as good as twice, reading in small pieces as in large
// ones; a film and a WebP keep their length, an image grows by an orientation at most; and what is allocated is bounded
// by 512 KiB, of a film and of HEIF files 2 MiB, whatever the length.
//
// decoder: scrub.go scrubbox.go scrubitems.go scrubriff.go exif.go:exifOrientation,orientationSegment
func FuzzScrub(f *testing.F) {
	for i, c := range contents(f) {
		for kind := range byte(4) {
			f.Add(c, kind, byte(i))
		}
	}
	f.Fuzz(func(t *testing.T, content []byte, kind, piece byte) {
		mimetype := []string{jpegType, pngType, mp4Type, webpType}[kind%4]
		bound := 512 << 10
		if mimetype == mp4Type {
			bound = 2 << 20
		}
		all := func(content []byte, piece int) []byte {
			out := bytes.Buffer{}
			out.Grow(len(content) + 64)
			buffer := make([]byte, piece)
			checkAllocation(t, bound, func() {
				out.Reset()
				r := Scrub(mimetype, bytes.NewReader(content))
				for {
					n, err := r.Read(buffer)
					out.Write(buffer[:n])
					if err == io.EOF {
						return
					}
					if err != nil {
						t.Fatal(err)
					}
				}
			})
			return out.Bytes()
		}
		once := all(content, 4096)
		if !bytes.Equal(all(content, 1+int(piece)), once) {
			t.Error("in other pieces it is another file")
		}
		if !bytes.Equal(all(once, 4096), once) {
			t.Error("a second time changes it again")
		}
		if kind%4 >= 2 && len(once) != len(content) || len(once) > len(content)+36 {
			t.Errorf("%d bytes became %d", len(content), len(once))
		}
	})
}

// FuzzHeaders reads what any file says about itself, without a program and without decoding it. Sizes and durations are
// not negative and bounded, and what is allocated is bounded by 1 MiB and 64 bytes for each byte.
//
// decoder: boxes.go sound.go exif.go:-orientationSegment file.go:webpChunks,webpSize,firstPicture,findChunk,sniffFile image.go:openStill,still.reader,still.readConfig,still.shown,pixel,gifAnimated,colours probe.go:Tool.probe,probed.still,probed.read
func FuzzHeaders(f *testing.F) {
	for _, c := range contents(f) {
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		var p probed
		var err error
		checkAllocation(t, 1<<20+64*len(content), func() { p, err = (*Tool)(nil).probe(background, path) })
		if p.Width < 0 || p.Height < 0 || p.Duration < 0 {
			t.Errorf("%+v", p)
		}
		if err == nil && isImage(p.Mimetype) && decoders[p.Mimetype].decode != nil && (p.Width < 1 || p.Height < 1 || p.Width > maxPixels/p.Height) {
			t.Errorf("%+v", p)
		}
		if p.Mimetype != Sniff(content) {
			t.Errorf("%q", p.Mimetype)
		}
	})
}
