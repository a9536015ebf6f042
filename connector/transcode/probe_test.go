package transcode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWhatIsReadHereIsWhatTheProberSays(t *testing.T) {
	tool := needTool(t)
	files := map[string]string{"rotated": rotated(t)}
	for _, name := range []string{
		"h264.mp4", "silent.mp4", "place.3gp", "apple.mov", "hevc.mp4", "voice.ogg", "vorbis.ogg", "sound.m4a", "sound.mp4", "sound.wav",
	} {
		files[name] = sample(t, name)
	}
	for name, path := range files {
		own, err := (*Tool)(nil).probe(background, path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		asked, err := tool.ask(background, path, probed{Info: Info{Mimetype: own.Mimetype}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := own.Duration - asked.Duration; d > 60*time.Millisecond || d < -60*time.Millisecond || asked.Duration == 0 {
			t.Errorf("%s plays %v, says the prober %v", name, own.Duration, asked.Duration)
		}
		if name == "sound.wav" {
			asked.audio = "pcm"
		}
		own.Duration, asked.Duration, asked.pixels = 0, 0, ""
		if own != asked {
			t.Errorf("%s: %+v, says the prober %+v", name, own, asked)
		}
	}
}

func TestFilesAreProbed(t *testing.T) {
	tool := needTool(t)
	film := func(mimetype string) Info {
		return Info{Mimetype: mimetype, Width: 160, Height: 120, Duration: 2 * time.Second, HasVideo: true}
	}
	sounding := film("video/webm")
	sounding.HasAudio = true
	turned := film("video/mp4")
	turned.Width, turned.Height, turned.Rotated, turned.HasAudio = 120, 160, true, true
	for path, want := range map[string]Info{
		rotated(t): turned, "pieces.mp4": film("video/mp4"), "vp8.webm": sounding, "film.ts": film("video/mp2t"),
		"sound.webm": {Mimetype: "video/webm", Duration: 2 * time.Second, HasAudio: true},
		"sound.mp3":  {Mimetype: "audio/mpeg", Duration: 2 * time.Second, HasAudio: true},
		"still.avif": {Mimetype: "image/avif", Width: 160, Height: 120}, "still.jxl": {Mimetype: "image/jxl", Width: 160, Height: 120},
		"moving.gif":  {Mimetype: "image/gif", Width: 161, Height: 121, Animated: true, Alpha: true},
		"still.gif":   {Mimetype: "image/gif", Width: 160, Height: 120, Alpha: true},
		"moving.webp": {Mimetype: "image/webp", Width: 160, Height: 120, Animated: true}, "clear.webp": {Mimetype: "image/webp", Width: 80, Height: 60, Alpha: true},
		"lossy.webp": {Mimetype: "image/webp", Width: 160, Height: 120}, "still.tiff": {Mimetype: "image/tiff", Width: 160, Height: 120},
	} {
		if !filepath.IsAbs(path) {
			path = sample(t, path)
		}
		got, err := tool.Probe(background, path)
		if d := got.Duration - want.Duration; err != nil || d > 100*time.Millisecond || d < -100*time.Millisecond {
			t.Errorf("%s: %v, %v", filepath.Base(path), err, got.Duration)
		}
		if got.Duration = want.Duration; got != want {
			t.Errorf("%s: %+v, want %+v", filepath.Base(path), got, want)
		}
	}
	if _, err := tool.Probe(background, filepath.Join(t.TempDir(), "GPSLAT")); !errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), "GPSLAT") {
		t.Errorf("a file that is not there: %v", err)
	}
	if got, err := tool.Probe(background, write(t, "text", []byte("a text"))); err != nil || got != (Info{}) {
		t.Errorf("a text: %+v, %v", got, err)
	}
}

func TestTurnedImagesHaveTheirSidesSwapped(t *testing.T) {
	for o := 1; o <= 8; o++ {
		got, err := (*Tool)(nil).Probe(background, write(t, "x", jpegOf(t, corners(40, 20), gpsExif(byte(o)))))
		want := Info{Mimetype: "image/jpeg", Width: 40, Height: 20}
		if o >= 5 {
			want = Info{Mimetype: "image/jpeg", Width: 20, Height: 40, Rotated: true}
		}
		if err != nil || got != want {
			t.Errorf("orientation %d: %+v, %v", o, got, err)
		}
	}
}

func TestWithoutTheProberWhatIsKnownComesWithTheError(t *testing.T) {
	none, err := Find(filepath.Join(t.TempDir(), "ffmpeg"))
	if none == nil || !errors.Is(err, ErrNoTool) || none.Available() {
		t.Fatalf("%v, %v", none, err)
	}
	for _, tool := range []*Tool{none, nil} {
		path := write(t, "x.webm", []byte("\x1a\x45\xdf\xa3\x93\x42\x82\x84webm"))
		if got, err := tool.Probe(background, path); !errors.Is(err, ErrNoTool) || got.Mimetype != "video/webm" {
			t.Errorf("%+v, %v", got, err)
		}
		if _, _, _, err := tool.Thumbnail(background, path, 1<<14, 100); !errors.Is(err, ErrNoTool) {
			t.Errorf("thumbnail: %v", err)
		}
		if _, err := tool.Blurhash(background, path); !errors.Is(err, ErrNoTool) {
			t.Errorf("blurhash: %v", err)
		}
		if _, err := tool.Waveform(background, path, 64); !errors.Is(err, ErrNoTool) {
			t.Errorf("waveform: %v", err)
		}
		out := filepath.Join(t.TempDir(), "out")
		if err := tool.film(path, out); !errors.Is(err, ErrNoTool) {
			t.Errorf("film: %v", err)
		}
		if err := tool.voice(path, out); !errors.Is(err, ErrNoTool) {
			t.Errorf("voice: %v", err)
		}
	}
}

func TestAProberMustStandBesideTheProgram(t *testing.T) {
	path := write(t, "ffmpeg", []byte("#!/bin/sh\n"))
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if tool, err := Find(path); !errors.Is(err, ErrNoTool) || tool.Available() {
		t.Errorf("%v", err)
	}
}

func TestHeadersThatLieOrEndAreRead(t *testing.T) {
	mvhd := func(scale, length uint32) string {
		b := make([]byte, 100)
		binary.BigEndian.PutUint32(b[12:], scale)
		binary.BigEndian.PutUint32(b[16:], length)
		return box("mvhd", string(b))
	}
	long := make([]byte, 112)
	long[0] = 1
	binary.BigEndian.PutUint32(long[20:], 1000)
	binary.BigEndian.PutUint64(long[24:], 5000)
	tkhd := make([]byte, 96)
	tkhd[0] = 1
	binary.BigEndian.PutUint32(tkhd[56:], 1<<16) // turned by a quarter
	binary.BigEndian.PutUint32(tkhd[88:], 320<<16)
	binary.BigEndian.PutUint32(tkhd[92:], 240<<16)
	handler := box("hdlr", "\x00\x00\x00\x00\x00\x00\x00\x00vide")
	entry := box("minf", box("stbl", box("stsd", "\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x10hvc1\x00\x00\x00\x00")))
	track := box("trak", box("tkhd", string(tkhd))+box("mdia", handler+entry))
	for what, c := range map[string]struct {
		moov string
		want movie
	}{
		"plain":              {mvhd(1000, 2500), movie{duration: 2500 * time.Millisecond}},
		"long numbers":       {box("mvhd", string(long)), movie{duration: 5 * time.Second}},
		"no scale":           {mvhd(0, 5), movie{}},
		"not known":          {mvhd(1000, 0xffffffff), movie{}},
		"in fragments":       {mvhd(1000, 0) + box("mvex", box("mehd", "\x00\x00\x00\x00\x00\x00\x0b\xb8")), movie{duration: 3 * time.Second}},
		"in many fragments":  {mvhd(1000, 0) + box("mvex", box("mehd", "\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0b\xb8")), movie{duration: 3 * time.Second}},
		"a track":            {track, movie{width: 240, height: 320, rotated: true, video: "hvc1", tracks: 1}},
		"a hundred tracks":   {strings.Repeat(track, 100), movie{width: 240, height: 320, rotated: true, video: "hvc1", tracks: 100}},
		"a header cut off":   {box("mvhd", "\x00\x00"), movie{}},
		"a box past its end": {"\x00\x00\x00\xfftrak", movie{}},
	} {
		content := box("free", "") + box("moov", c.moov)
		if got, ok := readMovie(strings.NewReader(content), int64(len(content))); !ok || got != c.want {
			t.Errorf("%s: %+v, want %+v", what, got, c.want)
		}
	}
	many := strings.Repeat(box("free", ""), maxBoxes) + box("moov", mvhd(1, 1))
	if _, ok := readMovie(strings.NewReader(many), int64(len(many))); ok {
		t.Error("more boxes than allowed were read")
	}
}

func TestDurationsOfSound(t *testing.T) {
	page := func(serial byte, samples uint64, packet string) string {
		b := append([]byte("OggS\x00\x00"), binary.LittleEndian.AppendUint64(nil, samples)...)
		return string(append(b, serial, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, byte(len(packet)))) + packet
	}
	opus := "OpusHead\x01\x01\x38\x01\x80\xbb\x00\x00\x00\x00\x00" // 312 samples are skipped
	vorbis := "\x01vorbis\x00\x00\x00\x00\x01\x44\xac\x00\x00"
	for what, c := range map[string]struct {
		content string
		want    time.Duration
	}{
		"Opus":                      {page(1, 0, opus) + page(1, 48312, "x"), time.Second},
		"Vorbis":                    {page(1, 0, vorbis) + page(1, 44100, "x"), time.Second},
		"another stream at the end": {page(1, 0, opus) + page(1, 48312, "x") + page(2, 9, "x"), time.Second},
		"a page without an end":     {page(1, 0, opus) + page(1, 48312, "x") + page(1, 1<<64-1, "x"), time.Second},
		"less than is skipped":      {page(1, 1, opus), 0},
		"no time at all":            {page(1, 1<<63, opus), 0},
		"Speex":                     {page(1, 5, "Speex   "), 0},
		"cut":                       {page(1, 0, opus)[:40], 0},
		"nothing":                   {"", 0},
	} {
		if got := oggDuration(strings.NewReader(c.content), int64(len(c.content))); got != c.want {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
	header := "RIFF\x00\x00\x00\x00WAVE"
	format := "fmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00" // 16,000 bytes a second
	data := string(make([]byte, 8000))
	for what, c := range map[string]struct {
		content string
		want    time.Duration
	}{
		"WAV":                 {header + "LIST\x03\x00\x00\x00abc\x00" + format + "data\x40\x1f\x00\x00" + data, 500 * time.Millisecond},
		"of no known length":  {header + format + "data\xff\xff\xff\xff" + data, 500 * time.Millisecond},
		"without a format":    {header + "data\x40\x1f\x00\x00" + data, 0},
		"with a format cut":   {header + format[:12], 0},
		"with nothing behind": {header, 0},
	} {
		if got := wavDuration(strings.NewReader(c.content), int64(len(c.content))); got != c.want {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
}

func TestTheProbersWordsAreTakenWithCare(t *testing.T) {
	for said, want := range map[string]time.Duration{"1.5": 1500 * time.Millisecond, "N/A": 0, "": 0, "-1": 0, "NaN": 0, "Inf": 0, "1e300": 0} {
		if got := seconds(said); got != want {
			t.Errorf("%q: %v", said, got)
		}
	}
	for aspect, want := range map[string]int{"": 100, "1:1": 100, "0:1": 100, "4:3": 133, "x:y": 100, "-1:1": 100, "40000:1": 100, "32000:1": 100 * 32000 % (1 << 62)} {
		if want >= 1<<20 {
			want = 100
		}
		if got := stretch(100, aspect); got != want {
			t.Errorf("%q: %d, want %d", aspect, got, want)
		}
	}
	ispe := func(w, h uint32) string {
		return box("ispe", string(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(make([]byte, 4), w), h)))
	}
	still := box("ftyp", "heic") + box("meta", "\x00\x00\x00\x00"+box("iprp", box("ipco", ispe(512, 512)+ispe(4032, 3024)+ispe(512, 512)+box("ispe", "cut"))))
	if w, h := stillSize(bytes.NewReader([]byte(still)), int64(len(still))); w != 4032 || h != 3024 {
		t.Errorf("an image of tiles is %d by %d", w, h)
	}
}
