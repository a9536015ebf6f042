package connector

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/jpeg"
	"testing"
	"time"

	"postern/connector/convert"
	"postern/connector/media"
)

// oversized is a JPEG that says it has more pixels than anybody decodes, with EXIF that has a text in it.
func oversized(t *testing.T, exif string) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := jpeg.Encode(&out, image.NewGray(image.Rect(0, 0, 400, 300)), nil); err != nil {
		t.Fatal(err)
	}
	data := out.Bytes()
	frame := bytes.Index(data, []byte{0xff, 0xc0})
	if frame < 0 {
		t.Fatal("no frame in the picture")
	}
	binary.BigEndian.PutUint16(data[frame+5:], 12_240)
	binary.BigEndian.PutUint16(data[frame+7:], 16_320)
	content := "Exif\x00\x00II*\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00" + exif
	segment := binary.BigEndian.AppendUint16([]byte{0xff, 0xe1}, uint16(len(content)+2))
	segment = append(segment, content...)
	return append(append(bytes.Clone(data[:2]), segment...), data[2:]...)
}

func TestAPictureThatHasToGoAsADocumentDoesNotSayWhereItWasTaken(t *testing.T) {
	const place = "52.5200 N 13.4050 E"
	data := oversized(t, place)
	b := newBench(t, 0, serve(data))
	done, msg, err := b.prepare(t, convert.Attachment{Role: convert.RoleImage, Size: -1, Name: "wide.jpg", URI: someURI}, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	if done.MediaType != "document" {
		t.Fatalf("it goes as %s: %v", done.MediaType, msg)
	}
	got := b.arrivedDocument(t, msg.GetDocumentMessage())
	if bytes.Contains(got, []byte(place)) {
		t.Error("the place arrives")
	}
	if tail := data[len(data)-200:]; !bytes.HasSuffix(got, tail) {
		t.Error("the picture itself does not arrive")
	}
}

func TestAFileThatIsSentAsAFileArrivesWithAllThatIsInIt(t *testing.T) {
	data := oversized(t, "52.5200 N 13.4050 E")
	b := newBench(t, 0, serve(data))
	_, msg, err := b.prepare(t, convert.Attachment{Role: convert.RoleDocument, Size: -1, Name: "wide.jpg", Mimetype: "image/jpeg", URI: someURI}, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.arrivedDocument(t, msg.GetDocumentMessage()); !bytes.Equal(got, data) {
		t.Error("other bytes arrive")
	}
}

func TestASoundThatStreamsThroughDoesNotSayWhereItWasTaken(t *testing.T) {
	const place = "+52.5200+013.4050/"
	box := func(kind, content string) string {
		return string(binary.BigEndian.AppendUint32(nil, uint32(len(content)+8))) + kind + content
	}
	data := []byte(box("ftyp", "M4A \x00\x00\x00\x00M4A mp42") + box("moov", box("udta", box("\xa9xyz", "\x00\x12\x15\xc7"+place))) +
		box("mdat", string(someBytes(t, 20_000))))
	b := newBench(t, 0, serve(data))
	done, msg, err := b.prepare(t, convert.Attachment{Role: convert.RoleAudio, Size: -1, Duration: time.Second, URI: someURI}, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	a := msg.GetAudioMessage()
	if done.MediaType != "audio" || a.GetFileLength() != uint64(len(data)) {
		t.Fatalf("%s: %v", done.MediaType, msg)
	}
	got := b.arrived(t, media.Audio, a.GetDirectPath(), a.GetMediaKey(), a.GetFileSHA256(), a.GetFileEncSHA256(), a.GetFileLength())
	if bytes.Contains(got, []byte(place)) {
		t.Error("the place arrives")
	}
	if tail := data[len(data)-20_000:]; !bytes.HasSuffix(got, tail) {
		t.Error("the sound itself does not arrive")
	}
}
