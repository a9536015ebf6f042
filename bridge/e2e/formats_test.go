package e2e_test

import (
	"bytes"
	"encoding/binary"
	"image/jpeg"
	"slices"
	"strings"
	"testing"

	"maunium.net/go/mautrix/event"
)

// withPlace puts EXIF metadata into a JPEG: taken with the camera turned to the
// right, and a description of where.
func withPlace(photo []byte, where string) []byte {
	tiff := []byte("II*\x00\x08\x00\x00\x00\x02\x00")
	where += "\x00"
	const data = 8 + 2 + 2*12 + 4 // behind the only directory
	for _, tag := range []struct {
		id, kind uint16
		count    int
		value    uint32
	}{{0x010e, 2, len(where), data}, {0x0112, 3, 1, 6}} {
		tiff = binary.LittleEndian.AppendUint16(tiff, tag.id)
		tiff = binary.LittleEndian.AppendUint16(tiff, tag.kind)
		tiff = binary.LittleEndian.AppendUint32(tiff, uint32(tag.count))
		tiff = binary.LittleEndian.AppendUint32(tiff, tag.value)
	}
	tiff = append(append(tiff, 0, 0, 0, 0), where...)
	segment := append([]byte("\xff\xe1"), byte((len(tiff)+8)>>8), byte(len(tiff)+8))
	segment = append(append(segment, "Exif\x00\x00"...), tiff...)
	return slices.Concat(photo[:2], segment, photo[2:])
}

func TestFilesInOtherFormsAreMadeWhatPhonesShow(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	sends := func(s *scene, data []byte, msgtype, mimetype, name string) {
		s.send(room, event.EventMessage, with(s.upload(data, mimetype), map[string]any{
			"msgtype": msgtype, "body": name, "info": map[string]any{"mimetype": mimetype, "size": len(data)},
		}))
	}
	s.part("a JPEG without the place where it was taken, and upright", func(s *scene) {
		sends(s, withPlace(photo(s.t), "in the yellow house"), "m.image", "image/jpeg", "photo.jpg")
		e, got := s.onPhoneAs(ben, "image")
		if bytes.Contains(got, []byte("yellow house")) {
			s.t.Error("the phone is told where it was taken")
		}
		if _, err := jpeg.Decode(bytes.NewReader(got)); err != nil || e.Media.Width != 16 || e.Media.Height != 24 {
			s.t.Errorf("the photo is %+v (%v)", e.Media, err)
		}
	})
	s.part("a HEIC that nobody can read goes as a file", func(s *scene) {
		data := append([]byte("\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic"), strings.Repeat("no picture", 100)...)
		sends(s, data, "m.image", "image/heic", "photo.heic")
		e, got := s.onPhoneAs(ben, "document")
		s.same("the HEIC", e, got, data)
		if e.Media.FileName != "photo.heic" {
			s.t.Errorf("the file is %+v", e.Media)
		}
	})
	s.part("a WebM film becomes MP4", func(s *scene) {
		data := made(s.t, "film.webm", "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=5:duration=1", "-c:v", "libvpx", "-b:v", "50k")
		sends(s, data, "m.video", "video/webm", "film.webm")
		e, got := s.onPhoneAs(ben, "video")
		if e.Media.Mimetype != "video/mp4" || !bytes.Equal(got[4:8], []byte("ftyp")) || e.Media.Width != 64 {
			s.t.Errorf("the film is %+v", e.Media)
		}
	})
	s.part("a sound that phones take goes as it is", func(s *scene) {
		data := made(s.t, "sound.mp3", "-f", "lavfi", "-i", "sine=duration=1", "-c:a", "libmp3lame", "-b:a", "32k", "-map_metadata", "-1", "-id3v2_version", "0")
		sends(s, data, "m.audio", "audio/mpeg", "sound.mp3")
		e, got := s.onPhoneAs(ben, "audio")
		s.same("the sound", e, got, data)
		if e.Media.Mimetype != "audio/mpeg" || e.Media.Seconds != 1 {
			s.t.Errorf("the sound is %+v", e.Media)
		}
	})
	s.toPhone(room, ben, "and the chat goes on")
}

func TestAWebPImageAndAnotherSoundAreConverted(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	webp := made(t, "picture.webp", "-f", "lavfi", "-i", "testsrc2=size=120x90:rate=1:duration=1", "-frames:v", "1")
	s.send(room, event.EventMessage, with(s.upload(webp, "image/webp"), map[string]any{
		"msgtype": "m.image", "body": "a view", "filename": "picture.webp", "info": map[string]any{"mimetype": "image/webp"},
	}))
	e, got := s.onPhoneAs(ben, "image")
	if _, err := jpeg.Decode(bytes.NewReader(got)); err != nil || e.Media.Mimetype != "image/jpeg" || e.Media.Width != 120 || e.Text != "a view" {
		t.Errorf("the picture is %+v with %q (%v)", e.Media, e.Text, err)
	}
	wav := made(t, "sound.wav", "-f", "lavfi", "-i", "sine=duration=1")
	s.send(room, event.EventMessage, with(s.upload(wav, "audio/wav"), map[string]any{
		"msgtype": "m.audio", "body": "sound.wav", "info": map[string]any{"mimetype": "audio/wav"},
	}))
	if e, _ := s.onPhoneAs(ben, "audio"); e.Media.Mimetype != "audio/mp4" || e.Media.Seconds != 1 {
		t.Errorf("the sound is %+v", e.Media)
	}
}
