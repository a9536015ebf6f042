package transcode

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// riffChunk is one of a WebP.
func riffChunk(kind, content string) string {
	b := binary.LittleEndian.AppendUint32([]byte(kind), uint32(len(content)))
	return string(b) + content + strings.Repeat("\x00", len(content)%2)
}

func webpOf(chunks ...string) []byte {
	content := "WEBP" + strings.Join(chunks, "")
	return []byte(string(binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(len(content)))) + content)
}

// vp8x is the header of a WebP of 160 by 120 pixels.
func vp8x(flags byte) string {
	return riffChunk("VP8X", string([]byte{flags, 0, 0, 0, 159, 0, 0, 119, 0, 0}))
}

func TestAWebPLosesEXIFAndXMPAndKeepsItsLength(t *testing.T) {
	exif, xmp := string(gpsExif(6)[10:]), "<x:xmpmeta GPSLAT +48.8577>"
	content := webpOf(vp8x(0x3c), riffChunk("ICCP", "colours"), riffChunk("VP8L", "picture"), riffChunk("EXIF", exif), riffChunk("XMP ", xmp), riffChunk("more", "x"))
	want := webpOf(vp8x(0x30), riffChunk("ICCP", "colours"), riffChunk("VP8L", "picture"),
		riffChunk("EXIF", strings.Repeat("\x00", len(exif))), riffChunk("XMP ", strings.Repeat("\x00", len(xmp))), riffChunk("more", "x"))
	if out := scrubbed(t, webpType, content); !bytes.Equal(out, want) {
		t.Errorf("became %q", out)
	}
	for what, content := range map[string][]byte{
		"nothing":             nil,
		"no WebP":             []byte("RIFF\x00\x00\x00\x00WAVEEXIF\x04\x00\x00\x00secr"),
		"a header of nothing": webpOf(riffChunk("VP8X", ""), riffChunk("VP8 ", "x")),
		"a cut header":        webpOf(vp8x(0x0c))[:20],
		"a cut chunk":         webpOf(riffChunk("VP8 ", "picture"))[:17],
		"no metadata":         webpOf(vp8x(0x12), riffChunk("ANMF", strings.Repeat("x", 16)+riffChunk("EXIF", "not one"))),
	} {
		if out := scrubbed(t, webpType, content); !bytes.Equal(out, content) {
			t.Errorf("%s: %q became %q", what, content, out)
		}
	}
}

func TestAWebPOfARealProgramIsTheSamePictureAfterwards(t *testing.T) {
	tool := needTool(t)
	for _, name := range []string{"lossy.webp", "lossless.webp"} {
		picture := string(read(t, sample(t, name))[12:])
		content := webpOf(vp8x(0x0c), picture, riffChunk("EXIF", string(gpsExif(1)[10:])), riffChunk("XMP ", "GPSLAT"))
		out := scrubbed(t, webpType, content)
		hides(t, name, out)
		if len(out) != len(content) {
			t.Errorf("%s: %d bytes became %d", name, len(content), len(out))
		}
		before, after := asPNG(t, tool, "x.webp", content), asPNG(t, tool, "x.webp", out)
		if !bytes.Equal(before, after) {
			t.Errorf("%s: another picture", name)
		}
	}
}

// asPNG converts an image.
func asPNG(t *testing.T, tool *Tool, name string, content []byte) []byte {
	t.Helper()
	path := write(t, name, content)
	if err := tool.png(path, path+".png"); err != nil {
		t.Fatal(err)
	}
	return read(t, path+".png")
}

// heifItem is one item; its bytes stand in mdat, or in idat.
type heifItem struct {
	kind    string
	content []string // its extents
	idat    bool
}

func big(n, size int) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(n))[8-size:])
}

// heifOf is a file of items, whose iloc box is of a version, with more boxes in meta.
func heifOf(major string, version int, properties string, items ...heifItem) []byte {
	number := 2
	if version == 2 {
		number = 4
	}
	infos, data, idat := big(0, 4)+big(len(items), 2), "", ""
	build := func(start int) string {
		data, idat = "", ""
		locations := big(version, 1) + big(0, 3) + "\x44\x40" + big(len(items), number)
		for i, m := range items {
			locations += big(i+1, number)
			if version > 0 {
				locations += map[bool]string{true: "\x00\x01", false: "\x00\x00"}[m.idat]
			}
			locations += big(0, 2) + big(2, 4) + big(len(m.content), 2) // a base of 2, to be added
			for _, c := range m.content {
				at := &data
				offset := start + len(data)
				if m.idat {
					at, offset = &idat, len(idat)+2
				}
				locations += big(offset-2, 4) + big(len(c), 4)
				*at += c + "between"
			}
		}
		return box("meta", big(0, 4)+box("hdlr", strings.Repeat("\x00", 8)+"pict"+strings.Repeat("\x00", 13))+
			box("pitm", big(0, 4)+big(1, 2))+box("iloc", locations)+box("iinf", infos)+properties+box("idat", "12"+idat))
	}
	for i, m := range items {
		if i%2 == 0 {
			infos += box("infe", "\x02\x00\x00\x00"+big(i+1, 2)+big(0, 2)+m.kind+"\x00")
		} else {
			infos += box("infe", "\x03\x00\x00\x00"+big(i+1, 4)+big(0, 2)+m.kind+"\x00application/rdf+xml\x00")
		}
	}
	head := box("ftyp", major+big(0, 4)+major+"mif1miaf")
	meta := build(0)
	meta = build(len(head) + len(meta) + 8)
	return []byte(head + meta + box("mdat", data))
}

func TestMetadataItemsOfAHEIFFileBecomeZeros(t *testing.T) {
	zeros := func(s string) string { return strings.Repeat("\x00", len(s)) }
	const place, xmp, picture = "Exif MAKER +48.8577", "ns.adobe.com GPSLAT", "the picture"
	for version := range 3 {
		for what, inside := range map[string]bool{"in mdat": false, "in idat": true} {
			if version == 0 && inside {
				continue // could not say so
			}
			build := func(place, xmp string) []byte {
				return heifOf("heic", version, box("iprp", "x"), heifItem{kind: "hvc1", content: []string{picture, picture}},
					heifItem{kind: "Exif", content: []string{place[:7], place[7:]}}, heifItem{kind: "mime", content: []string{xmp}, idat: inside},
					heifItem{kind: "hvc1", content: []string{picture}, idat: inside})
			}
			content := build(place, xmp)
			for _, mimetype := range []string{heicType, avifType, "image/heif", mp4Type} {
				if out := scrubbed(t, mimetype, content); !bytes.Equal(out, build(zeros(place), zeros(xmp))) {
					t.Errorf("version %d, %s, %s: became %q", version, what, mimetype, out)
				}
			}
		}
	}
}

func TestAHEIFFileThatIsNotWhatItSaysPasses(t *testing.T) {
	whole := string(heifOf("heic", 1, "", heifItem{kind: "Exif", content: []string{"secret"}}, heifItem{kind: "hvc1", content: []string{"picture"}}))
	changed := func(from, to string) string {
		if strings.Count(whole, from) != 1 {
			t.Fatalf("%q is there %d times", from, strings.Count(whole, from))
		}
		return strings.Replace(whole, from, to, 1)
	}
	metaAt := strings.Index(whole, "meta") - 4
	length := int(binary.BigEndian.Uint32([]byte(whole[metaAt:])))
	for what, content := range map[string]string{
		"items of an unknown version": changed("iloc\x01", "iloc\x03"),
		"odd sizes of fields":         changed("\x44\x40", "\x34\x40"),
		"infe of an old version":      changed("infe\x02", "infe\x01"),
		"no metadata":                 changed("Exif", "hvc1"),
		"a cut description":           whole[:metaAt+length/2],
		"too long a description": whole[:metaAt] + big(length+maxItems, 4) + whole[metaAt+4:metaAt+length] + box("free", strings.Repeat("x", maxItems-8)) +
			whole[metaAt+length:],
		"nothing but a header": box("meta", ""),
	} {
		if out := scrubbed(t, heicType, []byte(content)); string(out) != content {
			t.Errorf("%s: changed", what)
		}
	}
	// What points at a picture, at other boxes or at everything is no metadata.
	exif := strings.Index(whole, "iloc") + 4 + 4 + 2 + 2
	extent := exif + 2 + 2 + 2 + 4 + 2
	for what, at := range map[string]string{
		"at a picture":             big(strings.Index(whole, "picture")-4, 4) + big(3, 4),
		"at the head of the file":  big(0, 4) + big(metaAt, 4),
		"at the description":       big(metaAt, 4) + big(30, 4),
		"at all that comes":        big(metaAt, 4) + big(0, 4),
		"behind the file's end":    big(1<<30, 4) + big(1<<30, 4),
		"at the header of the box": big(strings.Index(whole, "mdat")-6, 4) + big(4, 4),
	} {
		content := whole[:extent] + at + whole[extent+8:]
		if out := scrubbed(t, heicType, []byte(content)); string(out) != content {
			t.Errorf("%s: changed", what)
		}
	}
}

func TestManyPartsOfAnItemAreBounded(t *testing.T) {
	// Parts that take no bytes: 65535 of each of many items.
	locations := "\x01\x00\x00\x00\x00\x00" + big(0xffff, 2) + strings.Repeat("\x00\x01\x00\x00\x00\x00\xff\xff", 100_000)
	meta := []byte(box("meta", big(0, 4)+box("iinf", big(0, 4)+big(1, 2)+box("infe", "\x02\x00\x00\x00\x00\x01\x00\x00Exif"))+box("iloc", locations)))
	m := items{boxReader: boxReader{file: bytes.NewReader(meta)}, told: map[uint64]bool{1: true}}
	m.iloc = extent{int64(len(meta) - len(locations)), int64(len(meta))}
	if m.locate(); m.extents != maxExtents+1 {
		t.Errorf("%d parts were looked at", m.extents)
	}
	if held := itemExtents(meta, 12, 0); len(held) != 0 {
		t.Errorf("%d parts", len(held))
	}
}

func TestAnAVIFOfARealProgramIsTheSamePictureAfterwards(t *testing.T) {
	tool := needTool(t)
	made := read(t, sample(t, "still.avif"))
	part := func(kind string) string {
		at := bytes.Index(made, []byte(kind)) - 4
		return string(made[at : at+int(binary.BigEndian.Uint32(made[at:]))])
	}
	content := heifOf("avif", 0, part("iprp"), heifItem{kind: "av01", content: []string{part("mdat")[8:]}},
		heifItem{kind: "Exif", content: []string{"\x00\x00\x00\x00" + string(gpsExif(1)[10:])}}, heifItem{kind: "mime", content: []string{"<x:xmpmeta GPSLAT>"}})
	out := scrubbed(t, Sniff(content), content)
	hides(t, "AVIF", out)
	if len(out) != len(content) || bytes.Equal(out, content) {
		t.Errorf("%d bytes became %d, or nothing is changed", len(content), len(out))
	}
	if !bytes.Equal(asPNG(t, tool, "x.avif", content), asPNG(t, tool, "x.avif", out)) {
		t.Error("another picture")
	}
	if out = scrubbed(t, avifType, made); !bytes.Equal(out, made) {
		t.Error("one without metadata is changed")
	}
}
