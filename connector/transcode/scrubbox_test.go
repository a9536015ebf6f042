package transcode

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

// box is one of an MP4.
func box(kind, content string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(8+len(content)))) + kind + content
}

// movieOf is an MP4 with boxes in its moov, and a little film behind it.
func movieOf(moov string) []byte {
	return []byte(box("ftyp", "isom\x00\x00\x02\x00isommp41") + box("moov", box("mvhd", strings.Repeat("\x00", 100))+moov) + box("mdat", "picture and sound"))
}

// keysBox names metadata by number.
func keysBox(names ...string) string {
	content := "\x00\x00\x00\x00" + string(binary.BigEndian.AppendUint32(nil, uint32(len(names))))
	for _, n := range names {
		content += box("mdta", n)
	}
	return box("keys", content)
}

// item is one value of an ilst box, by the number of its key.
func item(number uint32, value string) string {
	return box(string(binary.BigEndian.AppendUint32(nil, number)), box("data", "\x00\x00\x00\x01\x00\x00\x00\x00"+value))
}

func TestPlacesInAnMP4BecomeFreeSpaceOfTheSameLength(t *testing.T) {
	const place, kept = "+48.8577+002.295/", "other words"
	hdlr := box("hdlr", strings.Repeat("\x00", 8)+"mdta"+strings.Repeat("\x00", 13))
	xmp := box("uuid", xmpBox+"GPSLAT"+place)
	keys := keysBox("com.apple.quicktime.make", "com.apple.quicktime.location.ISO6709", "com.apple.quicktime.LOCATION.name")
	values := box("ilst", item(1, kept)+item(2, place)+item(3, "secret"))
	long := "\x00\x00\x00\x01udta\x00\x00\x00\x00\x00\x00\x00" + string(rune(16+8+len(place))) + box("\xa9xyz", place)
	for what, moov := range map[string]string{
		"user data":                   box("udta", box("\xa9xyz", "\x00\x11\x15\xc7"+place)+box("\xa9too", kept)),
		"3GPP's form":                 box("udta", box("loci", "\x00\x00\x00\x00\x15\xc7secret\x00"+place)+box("titl", kept)),
		"of a track":                  box("trak", box("tkhd", kept)+box("udta", box("\xa9xyz", place)+box("loci", place))),
		"a terminator behind":         box("udta", box("\xa9xyz", place)+"\x00\x00\x00\x00") + box("trak", kept),
		"a long header":               long + box("trak", kept),
		"to the end of its box":       box("udta", box("name", kept)+"\x00\x00\x00\x00\xa9xyz"+place),
		"QuickTime's metadata":        box("meta", hdlr+keys+values),
		"ISO's metadata":              box("udta", box("meta", "\x00\x00\x00\x00"+hdlr+keys+values)),
		"of a track, metadata":        box("trak", box("meta", hdlr+keys+values)),
		"iTunes' form":                box("udta", box("meta", "\x00\x00\x00\x00"+hdlr+box("ilst", box("\xa9xyz", box("data", place))+box("\xa9nam", box("data", kept))))),
		"XMP":                         xmp + box("udta", box("titl", kept)+xmp+box("XMP_", "GPSLAT")),
		"values that come before":     box("meta", hdlr+box("ilst", item(2, place))+keysBox("x")+box("trak", kept)),
		"a name longer than any name": box("meta", hdlr+keysBox("location"+strings.Repeat("x", 300), "y")+box("ilst", item(1, place)+item(2, kept))),
	} {
		content := movieOf(moov)
		out := scrubbed(t, mp4Type, content)
		if len(out) != len(content) {
			t.Errorf("%s: %d bytes became %d", what, len(content), len(out))
			continue
		}
		hides(t, what, bytes.ReplaceAll(out, []byte("loci"), nil))
		if bytes.Contains(bytes.ToLower(out), []byte("location")) || bytes.Contains(out, []byte("loci")) || !bytes.Contains(out, []byte(kept)) {
			t.Errorf("%s: too much or too little is left: %q", what, out)
		}
		if !bytes.Equal(out[:32], content[:32]) || !bytes.HasSuffix(out, []byte("picture and sound")) {
			t.Errorf("%s: the film is changed", what)
		}
	}
}

func TestXMPBesideTheFilmAndAFilmToTheEndAreFound(t *testing.T) {
	content := string(movieOf("")) + box("uuid", xmpBox+"GPSLAT") + box("uuid", strings.Repeat("u", 16)+"kept") +
		"\x00\x00\x00\x00moov" + box("udta", box("\xa9xyz", "+48.8577"))
	out := scrubbed(t, movType, []byte(content))
	hides(t, "MP4", out)
	if len(out) != len(content) || !bytes.Contains(out, []byte("kept")) {
		t.Errorf("%q", out)
	}
}

func TestWordsOutsideMetadataStayInAnMP4(t *testing.T) {
	for what, moov := range map[string]string{
		"in the film": box("mdia", box("udta", box("\xa9xyz", "+48.8577"))), "a box of that name elsewhere": box("loci", "x"),
		"another uuid": box("uuid", strings.Repeat("u", 16)+"location"), "a short uuid": box("uuid", "location"),
	} {
		content := movieOf(moov)
		if out := scrubbed(t, mp4Type, content); !bytes.Equal(out, content) {
			t.Errorf("%s: changed", what)
		}
	}
}

// tags are all that ffprobe says about a film's metadata, and how many pictures it can decode.
func tags(t *testing.T, path string) (string, string) {
	t.Helper()
	tool := needTool(t)
	out, err := exec.Command(tool.ffprobe, "-v", "error", "-print_format", "json", "-count_frames", "-show_format", "-show_streams", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var said struct {
		Format  struct{ Tags map[string]string }
		Streams []struct {
			Tags   map[string]string
			Frames string `json:"nb_read_frames"`
		}
	}
	if err := json.Unmarshal(out, &said); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	all, err := json.Marshal(said)
	if err != nil {
		t.Fatal(err)
	}
	return string(all), said.Streams[0].Frames
}

func TestFilmsOfARealProgramLoseTheirPlaceAndStillPlay(t *testing.T) {
	for _, name := range []string{"place.mp4", "place.mov", "place.3gp", "keys.mov"} {
		path := sample(t, name)
		before, frames := tags(t, path)
		if !strings.Contains(before, "48.8577") {
			t.Errorf("%s: there is no place in it: %s", name, before)
		}
		content := read(t, path)
		out := scrubbed(t, Sniff(content), content)
		hides(t, name, out)
		after, left := tags(t, write(t, name, out))
		if strings.Contains(after, "48.8577") || left != frames || len(out) != len(content) {
			t.Errorf("%s: %s pictures, before %s; %d bytes, before %d; %s", name, left, frames, len(out), len(content), after)
		}
		if strings.Contains(before, "Maker") != strings.Contains(after, "Maker") {
			t.Errorf("%s: what is no place is gone too: %s", name, after)
		}
	}
	for _, name := range []string{"h264.mp4", "apple.mov", "pieces.mp4", "sound.m4a", "still.jpg", "still.png"} {
		content := read(t, sample(t, name))
		if out := scrubbed(t, Sniff(content), content); !bytes.Equal(out, content) {
			t.Errorf("%s has no place, and is changed", name)
		}
	}
}
