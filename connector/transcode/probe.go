package transcode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// probed is Info and what conversions need to know besides: the codecs by ffmpeg's
// names, "" if there is no such track or nothing is known, and the form of pixels.
type probed struct {
	Info
	video, audio, pixels string
}

// Probe says what a file is. Images, MP4, QuickTime, Ogg and WAV are read here; for the rest, and for what
// these do not say of themselves, ffprobe is asked. Without it, or if it makes nothing
// of the file, the error wraps ErrNoTool or ErrConvert, and the Info has what is known.
func (t *Tool) Probe(ctx context.Context, path string) (Info, error) {
	p, err := t.probe(ctx, path)
	return p.Info, err
}

func (t *Tool) probe(ctx context.Context, path string) (p probed, err error) {
	f, err := os.Open(path)
	if err != nil {
		return p, fmt.Errorf("open file: %w", withoutPath(err))
	}
	defer f.Close()
	if p.Mimetype, err = sniffFile(f); err != nil {
		return p, err
	}
	stat, err := f.Stat()
	if err != nil {
		return p, fmt.Errorf("look at file: %w", withoutPath(err))
	}
	switch {
	case decoders[p.Mimetype].decode != nil:
		err = p.still(path)
		return p, err
	case p.Mimetype == heicType, p.Mimetype == avifType:
		if p.Width, p.Height = stillSize(f, stat.Size()); p.Width > 0 {
			return p, nil
		}
	case demuxers[p.Mimetype] == "":
		return p, nil // neither picture nor sound
	case p.read(f, stat.Size()):
		return p, nil
	}
	return t.ask(ctx, path, p)
}

// still learns about an image that is decoded here.
func (p *probed) still(path string) error {
	s, err := openStill(path)
	if err != nil {
		return err
	}
	defer s.file.Close()
	p.Width, p.Height = s.shown()
	p.Rotated, p.Animated, p.Alpha = s.orientation >= 5, s.animated, s.alpha
	return nil
}

// read learns what a file's own headers say; false if that is not all.
func (p *probed) read(f io.ReaderAt, size int64) bool {
	switch demuxers[p.Mimetype] {
	case "mov":
		m, ok := readMovie(f, size)
		if !ok {
			return false
		}
		p.Width, p.Height, p.Rotated, p.Duration = m.width, m.height, m.rotated, m.duration
		p.video, p.audio = codecs[m.video], codecs[m.audio]
		p.HasVideo, p.HasAudio = m.video != "", m.audio != ""
		known := (m.video == "" || p.video != "") && (m.audio == "" || p.audio != "")
		return known && (p.HasVideo || p.HasAudio) && p.Duration > 0 && (!p.HasVideo || p.Width > 0 && p.Height > 0)
	case "ogg":
		p.Duration = oggDuration(f, size)
		p.HasAudio, p.audio = strings.HasPrefix(p.Mimetype, "audio/"), map[string]string{opusType: "opus", vorbType: "vorbis"}[p.Mimetype]
	case "wav":
		p.Duration, p.HasAudio, p.audio = wavDuration(f, size), true, "pcm"
	}
	return p.Duration > 0
}

// codecs are ffmpeg's names for sample entries.
var codecs = map[string]string{
	"avc1": "h264", "avc3": "h264", "hvc1": "hevc", "hev1": "hevc", "mp4v": "mpeg4", "s263": "h263", "av01": "av1",
	"vp09": "vp9", "mp4a": "aac", "samr": "amr_nb", "sawb": "amr_wb", "Opus": "opus", "ac-3": "ac3",
}

// report is what ffprobe prints, as far as it is used.
type report struct {
	Streams []stream `json:"streams"`
	Format  struct {
		Duration string `json:"duration"`
	} `json:"format"`
}

type stream struct {
	Type        string `json:"codec_type"`
	Codec       string `json:"codec_name"`
	Pixels      string `json:"pix_fmt"`
	Width       int    `json:"width"`
	Height      int    `json:"height"`
	Aspect      string `json:"sample_aspect_ratio"`
	Duration    string `json:"duration"`
	Disposition struct {
		AttachedPicture int `json:"attached_pic"`
	} `json:"disposition"`
	Tags struct {
		Rotate string `json:"rotate"`
	} `json:"tags"`
	SideData []struct {
		Rotation float64 `json:"rotation"`
	} `json:"side_data_list"`
}

// shown returns the size of the picture as it is shown, and whether it is turned by a
// quarter for that.
func (s *stream) shown() (width, height int, rotated bool) {
	turn := 0.0
	if v, err := strconv.ParseFloat(s.Tags.Rotate, 64); err == nil {
		turn = v
	}
	for _, d := range s.SideData {
		if d.Rotation != 0 {
			turn = d.Rotation
		}
	}
	width, height = stretch(s.Width, s.Aspect), s.Height
	if math.Mod(turn, 180) == 0 || math.Mod(turn, 90) != 0 {
		return width, height, false
	}
	return height, width, true
}

// ask runs ffprobe. What it does not say stays as it was.
func (t *Tool) ask(ctx context.Context, path string, p probed) (probed, error) {
	if !t.Available() {
		return p, ErrNoTool
	}
	from, err := input(path, p.Mimetype)
	if err != nil {
		return p, err
	}
	var r report
	args := append([]string{"-hide_banner", "-v", "quiet", "-print_format", "json", "-show_streams", "-show_format"}, from...)
	err = t.run(ctx, job{program: t.ffprobe, args: args, dir: filepath.Dir(path), limit: quick, place: t.short, printed: func(out io.Reader) error {
		if json.NewDecoder(io.LimitReader(out, maxPrinted)).Decode(&r) != nil {
			return fmt.Errorf("%w: the prober made nothing of it", ErrConvert)
		}
		return nil
	}})
	if err != nil {
		return p, err
	}
	p.take(&r)
	if !p.HasVideo && !p.HasAudio && p.Width == 0 {
		return p, fmt.Errorf("%w: it has neither picture nor sound", ErrConvert)
	}
	if p.Width > 0 && int64(p.Width) > maxPixels/int64(max(1, p.Height)) {
		return p, ErrTooBig
	}
	return p, nil
}

// take fills in what a report says.
func (p *probed) take(r *report) {
	length := seconds(r.Format.Duration)
	p.HasVideo, p.HasAudio, p.video, p.audio = false, false, "", ""
	for i := range r.Streams {
		s := &r.Streams[i]
		switch {
		case s.Type == "audio" && !p.HasAudio:
			p.HasAudio, p.audio = true, s.Codec
		case s.Type == "video" && !p.HasVideo && s.Disposition.AttachedPicture == 0 && s.Width > 0 && s.Height > 0:
			p.HasVideo, p.video, p.pixels = true, s.Codec, s.Pixels
			p.Width, p.Height, p.Rotated = s.shown()
		default:
			continue
		}
		if length == 0 {
			length = seconds(s.Duration)
		}
	}
	if length > 0 {
		p.Duration = length
	}
	if strings.HasPrefix(p.Mimetype, "image/") {
		p.HasVideo, p.Duration = false, 0 // an image is no film
	}
}

// seconds reads a duration as ffprobe prints it, 0 if it is none.
func seconds(s string) time.Duration {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v > 0 && v < 1<<31) {
		return 0
	}
	return time.Duration(v * float64(time.Second))
}

// stretch widens a picture whose pixels are not square.
func stretch(width int, aspect string) int {
	over, under, _ := strings.Cut(aspect, ":")
	a, errA := strconv.Atoi(over)
	b, errB := strconv.Atoi(under)
	if errors.Join(errA, errB) != nil || a < 1 || b < 1 || a > 1<<15 || b > 1<<15 {
		return width
	}
	if w := (int64(width)*int64(a) + int64(b)/2) / int64(b); w > 0 && w < 1<<20 {
		return int(w)
	}
	return width
}
