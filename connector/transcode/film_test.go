package transcode

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
)

func TestFilmsBecomeMP4(t *testing.T) {
	tool := needTool(t)
	for name, sound := range map[string]bool{
		"apple.mov": true, "vp8.webm": true, "vp9.mkv": true, "odd.avi": false, "film.flv": false, "hevc.mp4": false, "high.mp4": false, "place.mov": false,
	} {
		out := filepath.Join(t.TempDir(), "out")
		if err := tool.film(sample(t, name), out); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		content := read(t, out)
		p, err := tool.ask(background, out, probed{Info: Info{Mimetype: Sniff(content)}})
		if err != nil || p.Mimetype != mp4Type || !p.plainH264() || p.pixels != "yuv420p" || p.HasAudio != sound || sound && p.audio != "aac" || p.Width != 160 || p.Height != 120 {
			t.Errorf("%s became %+v, %v", name, p, err)
		}
		if moov, mdat := bytes.Index(content, []byte("moov")), bytes.Index(content, []byte("mdat")); moov > mdat {
			t.Errorf("%s: its index is at the end", name)
		}
		hides(t, name, content)
	}
}

func TestAFilmThatIsTurnedStaysUpright(t *testing.T) {
	tool := needTool(t)
	path := rotated(t)
	first, w, h, err := tool.Thumbnail(background, path, 16<<10, 100)
	if err != nil || w != 75 || h != 100 {
		t.Fatalf("%d by %d, %v", w, h, err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if err = tool.film(path, out); err != nil {
		t.Fatal(err)
	}
	second, w, h, err := tool.Thumbnail(background, out, 16<<10, 100)
	if err != nil || w != 75 || h != 100 || distance(must(decoders[jpegType].decode(bytes.NewReader(first))), must(decoders[jpegType].decode(bytes.NewReader(second)))) > 3 {
		t.Errorf("%d by %d, %v, or another picture", w, h, err)
	}
}

func TestALargeFilmIsMadeSmaller(t *testing.T) {
	tool := needTool(t)
	recipe := []string{"-f", "lavfi", "-i", "color=size=2500x1001:rate=1:duration=1", "-c:v", "mjpeg"}
	samples.Lock()
	recipes["large.avi"] = recipe
	samples.Unlock()
	out := filepath.Join(t.TempDir(), "out")
	if err := tool.film(sample(t, "large.avi"), out); err != nil {
		t.Fatal(err)
	}
	if info, err := tool.Probe(background, out); err != nil || info.Width != 1920 || info.Height != 768 {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestSoundBecomesAVoiceMessageOrAAC(t *testing.T) {
	tool := needTool(t)
	for _, name := range []string{"sound.m4a", "sound.aac", "sound.mp3", "sound.wav", "sound.webm", "vorbis.ogg", "h264.mp4"} {
		out := filepath.Join(t.TempDir(), "out")
		if err := tool.voice(sample(t, name), out); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		content := read(t, out)
		info, err := tool.Probe(background, out)
		if d := info.Duration - 2*time.Second; err != nil || info.Mimetype != opusType || d < -100*time.Millisecond || d > 100*time.Millisecond {
			t.Errorf("%s became %+v, %v", name, info, err)
		}
		if head := content[bytes.Index(content, []byte("OpusHead")):]; head[9] != 1 {
			t.Errorf("%s: %d channels", name, head[9])
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := tool.aac(sample(t, "flac.oga"), out); err != nil {
		t.Fatal(err)
	}
	if info, err := tool.Probe(background, out); err != nil || info.Mimetype != m4aType || !info.HasAudio {
		t.Errorf("%+v, %v", info, err)
	}
	for what, err := range map[string]error{
		"no sound": tool.voice(sample(t, "silent.mp4"), out), "no film": tool.film(sample(t, "sound.mp3"), out),
		"no GIF": tool.gif(sample(t, "still.png"), out), "a text": tool.voice(write(t, "x", []byte("text")), out),
	} {
		if !errors.Is(err, ErrKind) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAnAnimatedGIFBecomesAFilm(t *testing.T) {
	tool := needTool(t)
	out := filepath.Join(t.TempDir(), "out")
	if err := tool.gif(sample(t, "moving.gif"), out); err != nil {
		t.Fatal(err)
	}
	p, err := tool.probe(background, out)
	if err != nil || p.Mimetype != mp4Type || p.Width != 160 || p.Height != 120 || p.HasAudio || p.video != "h264" || p.Duration != time.Second {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestNewImageFormatsBecomeJPEGOrPNG(t *testing.T) {
	tool := needTool(t)
	want := must(decoders[pngType].decode(bytes.NewReader(read(t, sample(t, "still.png")))))
	for _, name := range []string{"still.avif", "still.jxl", "still.tiff", "still.bmp", "lossy.webp", "lossless.webp", "still.gif"} {
		for mimetype, f := range map[string]func(in, out string) error{jpegType: tool.jpeg, pngType: tool.png} {
			out := filepath.Join(t.TempDir(), "out")
			if err := f(sample(t, name), out); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			content := read(t, out)
			if Sniff(content) != mimetype || distance(must(decoders[mimetype].decode(bytes.NewReader(content))), want) > 25 {
				t.Errorf("%s became %s, or another picture", name, Sniff(content))
			}
		}
	}
}

func TestAPictureOfWhichOnlyATileComesOutIsRefused(t *testing.T) {
	tool := needTool(t)
	// The size in the file's properties is made larger than the picture in it.
	content := bytes.Clone(read(t, sample(t, "still.avif")))
	at := bytes.Index(content, []byte("ispe"))
	content[at+10] = 4
	path := write(t, "x", content)
	out := filepath.Join(t.TempDir(), "out")
	if err := tool.jpeg(path, out); !errors.Is(err, ErrConvert) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Error("something was left")
	}
}

func TestAWaveformFollowsTheSound(t *testing.T) {
	tool := needTool(t)
	w, err := tool.Waveform(background, sample(t, "steps.wav"), 64)
	if err != nil || len(w) != 64 {
		t.Fatalf("%d values, %v", len(w), err)
	}
	for i, v := range w {
		low, high := [4]byte{0, 45, 0, 95}[i/16], [4]byte{2, 55, 2, 100}[i/16]
		if edge := i%16 == 0 || i%16 == 15; !edge && (v < low || v > high) {
			t.Errorf("value %d is %d, not %d to %d", i, v, low, high)
		}
	}
	if w, err = tool.Waveform(background, sample(t, "voice.ogg"), 64); err != nil || len(w) != 64 || bytes.IndexByte(w, 100) < 0 {
		t.Errorf("a voice message: %v, %v", w, err)
	}
	if _, err = tool.Waveform(background, sample(t, "silent.mp4"), 64); !errors.Is(err, ErrKind) {
		t.Errorf("a film without sound: %v", err)
	}
	for _, n := range []int{0, -1, maxBins + 1} {
		if _, err = tool.Waveform(background, sample(t, "voice.ogg"), n); !errors.Is(err, ErrKind) {
			t.Errorf("%d values: %v", n, err)
		}
	}
}

func TestLoudnessNeedsNoMoreMemoryForLongSound(t *testing.T) {
	for what, c := range map[string]struct {
		seconds int
		sound   func(i int) int16
		want    func(i int) (low, high byte)
	}{
		"silence":       {5, func(int) int16 { return 1 }, func(int) (byte, byte) { return 0, 0 }},
		"always loud":   {1000, func(i int) int16 { return int16(16000 * (i%2*2 - 1)) }, func(int) (byte, byte) { return 100, 100 }},
		"ever louder":   {200, func(i int) int16 { return int16(i / 50 * (i%2*2 - 1)) }, func(i int) (byte, byte) { return byte(i * 100 / 65), byte(min(100, (i+1)*100/62)) }},
		"a short noise": {0, func(int) int16 { return 5000 }, func(int) (byte, byte) { return 100, 100 }},
	} {
		l := loudness{each: 80}
		b := make([]byte, 0, 2*(8000*c.seconds+10))
		for i := range 8000*c.seconds + 10 {
			b = append(b, byte(c.sound(i)), byte(uint16(c.sound(i))>>8))
		}
		if err := l.read(iotest.HalfReader(bytes.NewReader(b))); err != nil {
			t.Fatal(err)
		}
		if cap(l.bins) > 2*maxBins {
			t.Errorf("%s: %d pieces", what, cap(l.bins))
		}
		for i, v := range l.values(64) {
			if low, high := c.want(i); v < low || v > high {
				t.Errorf("%s: value %d is %d, not %d to %d", what, i, v, low, high)
			}
		}
	}
	if got := (&loudness{each: 80}).values(3); !bytes.Equal(got, []byte{0, 0, 0}) {
		t.Errorf("no sound at all: %v", got)
	}
}

func TestAHostileFileNameIsNoOption(t *testing.T) {
	tool := needTool(t)
	dir := t.TempDir()
	for _, name := range []string{
		"-version", "-y", "concat:a|b", "http:x", "%03d.gif", "a\nb", "file:x", "$(id)", "pipe:1", "'\"", "\xff\xfe", "tee:x", "x,[y]",
	} {
		in, out := filepath.Join(dir, name), filepath.Join(dir, "out "+name)
		if err := os.WriteFile(in, read(t, sample(t, "moving.gif")), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Chdir(dir)
		if err := tool.gif(name, filepath.Base(out)); err != nil {
			t.Errorf("%q: %v", name, err)
		} else if Sniff(read(t, out)) != mp4Type {
			t.Errorf("%q: no film came out", name)
		}
		_ = os.Remove(out)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 13 {
		t.Errorf("%d files, %v", len(left), err)
	}
}

// TestAFileThatNamesOthersIsNotFollowed gives lists and descriptions of other files, under every type that a program
// is started for. Whatever happens, what the other file says must not come out.
func TestAFileThatNamesOthersIsNotFollowed(t *testing.T) {
	tool := needTool(t)
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret.mp4")
	if err := os.WriteFile(secret, read(t, sample(t, "h264.mp4")), 0o600); err != nil {
		t.Fatal(err)
	}
	lists := []string{
		"ffconcat version 1.0\nfile '" + secret + "'\n",
		"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://" + secret + "\n#EXT-X-ENDLIST\n",
		"<?xml version=\"1.0\"?><MPD><Period><AdaptationSet><Representation><BaseURL>" + secret + "</BaseURL></Representation></AdaptationSet></Period></MPD>",
	}
	for i, list := range lists {
		for _, head := range []string{"", "\x1a\x45\xdf\xa3\x93\x42\x82\x84webm", "RIFF\x00\x00\x00\x00AVI LIST", "FLV\x01", "\x00\x00\x01\xba"} {
			path := write(t, "x", []byte(head+list))
			out := filepath.Join(dir, "out")
			if err := tool.film(path, out); !errors.Is(err, ErrKind) && !errors.Is(err, ErrConvert) {
				t.Errorf("list %d behind %q: %v", i, head, err)
			}
			if _, _, _, err := tool.Thumbnail(background, path, 1<<14, 100); err == nil {
				t.Errorf("list %d behind %q: a thumbnail came out", i, head)
			}
			if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("list %d behind %q: something came out", i, head)
			}
		}
	}
	for mimetype := range demuxers {
		args, err := input("x", mimetype)
		if got := strings.Join(args, " "); err != nil || !strings.Contains(got, "-protocol_whitelist file -f ") || !strings.Contains(got, " -i file:/") {
			t.Errorf("%s: %v, %q", mimetype, err, got)
		}
	}
}

// program writes a shell script that stands for ffmpeg, and returns a tool with it.
func program(t *testing.T, script string) *Tool {
	t.Helper()
	path := write(t, "ffmpeg", []byte("#!/bin/sh\n"+script))
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return &Tool{ffmpeg: path, ffprobe: path, long: make(chan struct{}, 1), short: make(chan struct{}, 1)}
}

func TestAProgramThatFailsLeavesNothingAndTellsNothing(t *testing.T) {
	path := sample(t, "moving.gif")
	for what, script := range map[string]string{
		"it refuses":          "for out; do :; done; echo x > \"${out#file:}\"; echo GPSLAT >&2; exit 1\n",
		"it makes nothing":    "exit 0\n",
		"it makes less":       "for out; do :; done; : > \"${out#file:}\"\n",
		"it ends by a signal": "kill -9 $$\n",
	} {
		out := filepath.Join(t.TempDir(), "out")
		err := program(t, script).gif(path, out)
		if !errors.Is(err, ErrConvert) || strings.Contains(err.Error(), "GPSLAT") || strings.Contains(err.Error(), "/") {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something was left", what)
		}
	}
	missing := &Tool{ffmpeg: "/nowhere", ffprobe: "/nowhere", long: make(chan struct{}, 1), short: make(chan struct{}, 1)}
	if err := missing.gif(path, filepath.Join(t.TempDir(), "out")); !errors.Is(err, ErrConvert) {
		t.Errorf("a program that is gone: %v", err)
	}
}

func TestAProgramEndsWithItsCaller(t *testing.T) {
	path := sample(t, "moving.gif")
	tool := program(t, "echo frame=1; echo progress=continue; exec sleep 600\n")
	ctx, end := context.WithCancel(background)
	failed := make(chan error, 2)
	// The first gets on once, a second one waits for its place; both say so.
	for range 2 {
		said := make(chan struct{}, 1)
		go func() {
			failed <- tool.gifToMP4(ctx, path, filepath.Join(t.TempDir(), "out"), func() {
				select {
				case said <- struct{}{}:
				default:
				}
			})
		}()
		select {
		case <-said:
		case <-time.After(time.Minute):
			t.Fatal("it says nothing")
		}
	}
	end()
	for range 2 {
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
}

func TestProgressIsCountedOnlyWhenItMoves(t *testing.T) {
	report := func(frame string) string {
		return "frame=" + frame + "\nfps=1\nout_time_us=" + frame + "0\nprogress=continue\n"
	}
	for what, c := range map[string]struct {
		printed string
		want    int64
	}{
		"nothing":        {"", 0},
		"moving":         {report("1") + report("2") + report("3"), 3},
		"standing":       {report("1") + report("1") + report("1"), 1},
		"a long line":    {strings.Repeat("x", 1<<16) + "\n" + report("1"), 1},
		"no end of line": {"frame=1", 0},
	} {
		var alive atomic.Int64
		if err := countProgress(io.MultiReader(iotest.OneByteReader(strings.NewReader(c.printed))), &alive); err != nil || alive.Load() != c.want {
			t.Errorf("%s: %d, %v", what, alive.Load(), err)
		}
	}
}
