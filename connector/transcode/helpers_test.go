package transcode

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// needTool returns ffmpeg, or skips the test where there is none; where everything must be there, its absence is an error.
func needTool(t testing.TB) *Tool {
	t.Helper()
	tool, err := Find("")
	if errors.Is(err, ErrNoTool) {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("ffmpeg is not installed (on Debian: apt-get install ffmpeg)")
	}
	if err != nil {
		t.Fatal(err)
	}
	return tool
}

// samples are files that ffmpeg has made, each once in a run of the tests.
var samples struct {
	sync.Mutex
	dir  string
	made map[string]error
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "transcode-")
	if err != nil {
		panic(err)
	}
	samples.dir, samples.made = dir, map[string]error{}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// Sources of pictures and sound that ffmpeg makes up.
const (
	bars = "testsrc=size=160x120:rate=10:duration=2"
	tone = "sine=frequency=440:sample_rate=44100:duration=2"
)

// recipes are the arguments that make each sample.
var recipes = map[string][]string{
	"h264.mp4": {"-f", "lavfi", "-i", bars, "-f", "lavfi", "-i", tone, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac", "-shortest"},
	"place.mp4": {
		"-f", "lavfi", "-i", bars, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-metadata", "location=+48.8577+002.295/",
		"-metadata", "com.apple.quicktime.location.ISO6709=+48.8577+002.295/", "-movflags", "use_metadata_tags",
	},
	"place.mov": {"-f", "lavfi", "-i", bars, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-metadata", "location=+48.8577+002.295/"},
	"place.3gp": {
		"-f", "lavfi", "-i", "testsrc=size=176x144:rate=10:duration=2", "-c:v", "h263", "-metadata", "location=+48.8577+002.295/",
	},
	"keys.mov": {
		"-f", "lavfi", "-i", bars, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "use_metadata_tags",
		"-metadata", "com.apple.quicktime.make=Maker", "-metadata", "com.apple.quicktime.location.ISO6709=+48.8577+002.295/",
	},
	"silent.mp4": {"-f", "lavfi", "-i", bars, "-c:v", "libx264", "-pix_fmt", "yuv420p"},
	"high.mp4":   {"-f", "lavfi", "-i", bars, "-c:v", "libx264", "-pix_fmt", "yuv444p"},
	"hevc.mp4":   {"-f", "lavfi", "-i", bars, "-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p", "-tag:v", "hvc1"},
	"pieces.mp4": {
		"-f", "lavfi", "-i", bars, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "5", "-movflags", "frag_keyframe+empty_moov",
	},
	"apple.mov":  {"-f", "lavfi", "-i", bars, "-f", "lavfi", "-i", tone, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac", "-shortest"},
	"vp8.webm":   {"-f", "lavfi", "-i", bars, "-f", "lavfi", "-i", tone, "-c:v", "libvpx", "-c:a", "libopus", "-shortest"},
	"vp9.mkv":    {"-f", "lavfi", "-i", bars, "-f", "lavfi", "-i", tone, "-c:v", "libvpx-vp9", "-cpu-used", "8", "-c:a", "flac", "-shortest"},
	"odd.avi":    {"-f", "lavfi", "-i", "testsrc=size=161x121:rate=10:duration=1", "-c:v", "mjpeg"},
	"film.ts":    {"-f", "lavfi", "-i", bars, "-c:v", "mpeg2video"},
	"film.mpg":   {"-f", "lavfi", "-i", "testsrc=size=160x120:rate=25:duration=1", "-c:v", "mpeg1video"},
	"film.flv":   {"-f", "lavfi", "-i", bars, "-c:v", "flv1"},
	"film.wmv":   {"-f", "lavfi", "-i", bars, "-c:v", "wmv2"},
	"film.ogv":   {"-f", "lavfi", "-i", bars, "-c:v", "libtheora"},
	"voice.ogg":  {"-f", "lavfi", "-i", tone, "-ac", "1", "-c:a", "libopus"},
	"vorbis.ogg": {"-f", "lavfi", "-i", tone, "-c:a", "libvorbis"},
	"flac.oga":   {"-f", "lavfi", "-i", tone, "-c:a", "flac", "-f", "ogg"},
	"speex.ogg":  {"-f", "lavfi", "-i", "sine=frequency=440:sample_rate=16000:duration=2", "-c:a", "libspeex"},
	"sound.m4a":  {"-f", "lavfi", "-i", tone, "-c:a", "aac", "-f", "ipod"},
	"sound.mp4":  {"-f", "lavfi", "-i", tone, "-c:a", "aac", "-f", "mp4"},
	"sound.webm": {"-f", "lavfi", "-i", tone, "-c:a", "libopus"},
	"sound.aac":  {"-f", "lavfi", "-i", tone, "-c:a", "aac", "-f", "adts"},
	"sound.mp3":  {"-f", "lavfi", "-i", tone, "-c:a", "libmp3lame"},
	"plain.mp3":  {"-f", "lavfi", "-i", tone, "-c:a", "libmp3lame", "-id3v2_version", "0", "-write_xing", "0"},
	"sound.wav":  {"-f", "lavfi", "-i", tone},
	"sound.flac": {"-f", "lavfi", "-i", tone},
	"sound.aiff": {"-f", "lavfi", "-i", tone},
	"sound.caf":  {"-f", "lavfi", "-i", tone},
	"steps.wav": { // silence, half as loud, silence, loud: half a second each
		"-f", "lavfi", "-i", "aevalsrc='if(between(t,0.5,1),0.4,if(gte(t,1.5),0.8,0))*sin(2*PI*440*t)':s=44100:d=2",
	},
	"still.gif":           {"-f", "lavfi", "-i", bars, "-frames:v", "1"},
	"moving.gif":          {"-f", "lavfi", "-i", "testsrc=size=161x121:rate=10:duration=1"},
	"lossy.webp":          {"-f", "lavfi", "-i", bars, "-frames:v", "1", "-c:v", "libwebp"},
	"lossless.webp":       {"-f", "lavfi", "-i", bars, "-frames:v", "1", "-c:v", "libwebp", "-lossless", "1"},
	"clear.webp":          {"-f", "lavfi", "-i", "color=c=red@0.5:size=80x60,format=yuva420p", "-frames:v", "1", "-c:v", "libwebp"},
	"moving.webp":         {"-f", "lavfi", "-i", "testsrc=size=160x120:rate=5:duration=1", "-c:v", "libwebp_anim"},
	"movinglossless.webp": {"-f", "lavfi", "-i", "testsrc=size=160x120:rate=5:duration=1,format=rgba", "-c:v", "libwebp_anim", "-lossless", "1"},
	"still.avif":          {"-f", "lavfi", "-i", bars, "-frames:v", "1", "-c:v", "libaom-av1", "-cpu-used", "8", "-still-picture", "1"},
	"still.tiff":          {"-f", "lavfi", "-i", bars, "-frames:v", "1"},
	"still.bmp":           {"-f", "lavfi", "-i", bars, "-frames:v", "1"},
	"still.png":           {"-f", "lavfi", "-i", bars, "-frames:v", "1"},
	"still.jpg":           {"-f", "lavfi", "-i", bars, "-frames:v", "1"},
	"still.jxl":           {"-f", "lavfi", "-i", bars, "-frames:v", "1", "-c:v", "libjxl"},
}

// sample returns the path of one of the recipes' files. A test that changes it copies it first.
func sample(t testing.TB, name string) string {
	t.Helper()
	tool := needTool(t)
	samples.Lock()
	defer samples.Unlock()
	path := filepath.Join(samples.dir, name)
	err, done := samples.made[name]
	if !done {
		args := append([]string{"-nostdin", "-v", "error"}, recipes[name]...)
		var out []byte
		if out, err = exec.Command(tool.ffmpeg, append(args, path)...).CombinedOutput(); err != nil {
			err = errors.New(string(out))
		}
		samples.made[name] = err
	}
	if err != nil {
		t.Fatalf("making %s: %v", name, err)
	}
	return path
}

// rotated is a film that is stored turned by a quarter.
func rotated(t testing.TB) string {
	t.Helper()
	tool := needTool(t)
	path := filepath.Join(t.TempDir(), "rotated.mp4")
	out, err := exec.Command(tool.ffmpeg, "-v", "error", "-i", sample(t, "h264.mp4"), "-c", "copy", "-metadata:s:v:0", "rotate=90", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// write puts content into a file in a folder of the test's own.
func write(t testing.TB, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// corners is a picture whose four quarters have four colours: red and green above, blue and white below.
func corners(width, height int) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			c := color.RGBA{255, 0, 0, 255}
			switch {
			case x >= width/2 && y < height/2:
				c = color.RGBA{0, 255, 0, 255}
			case x < width/2 && y >= height/2:
				c = color.RGBA{0, 0, 255, 255}
			case x >= width/2:
				c = color.RGBA{255, 255, 255, 255}
			}
			m.SetRGBA(x, y, c)
		}
	}
	return m
}

// quarters says which colours a picture's quarters have, row by row, as letters: r g b w, ? for others.
func quarters(m image.Image) string {
	b := m.Bounds()
	out := ""
	for _, p := range [4][2]int{{1, 1}, {3, 1}, {1, 3}, {3, 3}} {
		r, g, bl, _ := m.At(b.Min.X+b.Dx()*p[0]/4, b.Min.Y+b.Dy()*p[1]/4).RGBA()
		letter := map[[3]bool]string{{true, false, false}: "r", {false, true, false}: "g", {false, false, true}: "b", {true, true, true}: "w"}[[3]bool{r > 0x8000, g > 0x8000, bl > 0x8000}]
		if letter == "" {
			letter = "?"
		}
		out += letter
	}
	return out
}

// jpegOf returns a picture as JPEG, with segments put in behind its first mark.
func jpegOf(t testing.TB, m image.Image, segments ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	out := append([]byte{}, b.Bytes()[:2]...)
	for _, s := range segments {
		out = append(out, s...)
	}
	return append(out, b.Bytes()[2:]...)
}

// segment is one of a JPEG.
func segment(marker byte, content string) []byte {
	n := len(content) + 2
	return append([]byte{0xff, marker, byte(n >> 8), byte(n)}, content...)
}

// gpsExif is an EXIF segment with a maker, an orientation (0 for none) and a place, as cameras write them.
func gpsExif(orientation byte) []byte {
	tiff := "II*\x00\x08\x00\x00\x00\x03\x00" +
		"\x0f\x01\x02\x00\x06\x00\x00\x00\x60\x00\x00\x00" + // maker
		"\x12\x01\x03\x00\x01\x00\x00\x00" + string([]byte{orientation}) + "\x00\x00\x00" +
		"\x25\x88\x04\x00\x01\x00\x00\x00\x32\x00\x00\x00" + // where the place is
		"\x00\x00\x00\x00" +
		"\x02\x00" + "\x01\x00\x02\x00\x02\x00\x00\x00N\x00\x00\x00" + "\x02\x00\x05\x00\x03\x00\x00\x00\x66\x00\x00\x00" + "\x00\x00\x00\x00"
	for len(tiff) < 0x60 {
		tiff += "\x00"
	}
	tiff += "MAKER\x00" + "\x30\x00\x00\x00\x01\x00\x00\x00" + "\x33\x00\x00\x00\x01\x00\x00\x00" + "\x1c\x0f\x00\x00\x64\x00\x00\x00"
	return segment(0xe1, exifMark+tiff)
}

var background = context.Background()

// allocation is what f allocates; other goroutines are counted too, so the least of a few runs is nearest.
func allocation(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// checkAllocation fails if f allocates more than bound bytes each time.
func checkAllocation(t *testing.T, bound int, f func()) {
	t.Helper()
	var used uint64
	for range 5 {
		if used = allocation(f); used <= uint64(bound) {
			return
		}
	}
	t.Errorf("%d bytes allocated, the bound is %d", used, bound)
}

// The conversions as ForPhone makes them, each alone.

func (t *Tool) film(in, out string) error { return t.toMP4(background, in, out, true, nil) }

func (t *Tool) gif(in, out string) error { return t.gifToMP4(background, in, out, nil) }

func (t *Tool) voice(in, out string) error {
	return t.toSound(background, in, out, nil, voiceArguments...)
}

func (t *Tool) aac(in, out string) error {
	return t.toSound(background, in, out, nil, aacArguments...)
}

func (t *Tool) jpeg(in, out string) error { return t.picture(in, out, jpegType) }

func (t *Tool) png(in, out string) error { return t.picture(in, out, pngType) }

func (t *Tool) picture(in, out, mimetype string) error {
	s, err := openStill(in)
	if isKind(err) {
		return t.newer(background, in, out, mimetype)
	} else if err != nil {
		return err
	}
	defer s.file.Close()
	return s.reencode(background, out, func(bool) string { return mimetype })
}
