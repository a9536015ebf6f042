package transcode

import (
	"context"
	"fmt"
	"io"
	"math"
	"path/filepath"
)

// place returns where conversions wait for their turn.
func (t *Tool) place(long bool) chan struct{} {
	switch {
	case t == nil:
		return nil
	case long:
		return t.long
	}
	return t.short
}

// aacArguments make AAC in MP4 (audio/mp4).
var aacArguments = []string{"-ac", "2", "-c:a", "aac", "-b:a", "128k", "-movflags", "+faststart", "-f", "ipod"}

// voiceArguments make Ogg with Opus, one channel, 48 kHz, as voice messages are.
var voiceArguments = []string{
	"-ac", "1", "-ar", "48000", "-c:a", "libopus", "-b:a", "32k", "-application", "voip", "-f", "ogg",
}

// toSound writes the sound of a file to out.
func (t *Tool) toSound(ctx context.Context, in, out string, progress func(), how ...string) error {
	p, err := t.probe(ctx, in)
	if err == nil && !p.HasAudio {
		err = ErrKind
	}
	if err == nil {
		err = t.convert(ctx, in, p.Mimetype, out, t.place(false), progress, append([]string{"-map", "0:a:0", "-vn"}, how...)...)
	}
	if err != nil {
		return fmt.Errorf("convert sound: %w", err)
	}
	return nil
}

// toMP4 writes a film to out as MP4 with H.264 and, if sound is wanted, AAC, its index at
// the beginning, without metadata, at most 1920 pixels a side. Tracks that are such
// already are taken over as they are.
func (t *Tool) toMP4(ctx context.Context, in, out string, sound bool, progress func()) error {
	p, err := t.probe(ctx, in)
	if err == nil && p.HasVideo && p.video == "h264" {
		p, err = t.ask(ctx, in, p) // the form of its pixels
	}
	if err == nil && !p.HasVideo {
		err = ErrKind
	}
	if err == nil {
		err = t.convert(ctx, in, p.Mimetype, out, t.place(true), progress, filmArguments(p, sound)...)
	}
	if err != nil {
		return fmt.Errorf("convert film: %w", err)
	}
	return nil
}

// h264Arguments are how a film is encoded that every phone plays.
var h264Arguments = []string{
	"-c:v", "libx264", "-preset", "veryfast", "-crf", "24", "-pix_fmt", "yuv420p", "-profile:v", "high", "-fpsmax", "60",
	"-vf", "scale=w=min(1920\\,iw):h=min(1920\\,ih):force_original_aspect_ratio=decrease,scale=trunc(iw/2)*2:trunc(ih/2)*2,setsar=1",
}

// plainH264 says whether the picture is H.264 of a form that every phone plays, as far
// as is known.
func (p *probed) plainH264() bool {
	return p.video == "h264" && (p.pixels == "" || p.pixels == "yuv420p" || p.pixels == "yuvj420p")
}

func filmArguments(p probed, sound bool) []string {
	args := []string{"-map", "0:V:0"}
	if p.plainH264() {
		args = append(args, "-c:v", "copy")
	} else {
		args = append(args, h264Arguments...)
	}
	switch {
	case !sound || !p.HasAudio:
		args = append(args, "-an")
	case p.audio == "aac":
		args = append(args, "-map", "0:a:0", "-c:a", "copy")
	default:
		args = append(args, "-map", "0:a:0", "-c:a", "aac", "-b:a", "128k", "-ac", "2")
	}
	return append(args, "-movflags", "+faststart", "-f", "mp4")
}

// gifToMP4 writes an animated GIF to out as MP4 with H.264 and no sound.
func (t *Tool) gifToMP4(ctx context.Context, in, out string, progress func()) error {
	s, err := openStill(in) // its size is bounded then
	if err == nil {
		_ = s.file.Close()
		if s.mimetype != gifType {
			err = ErrKind
		}
	}
	if err == nil {
		how := append([]string{"-map", "0:v:0", "-an"}, h264Arguments...)
		err = t.convert(ctx, in, gifType, out, t.place(true), progress, append(how, "-movflags", "+faststart", "-f", "mp4")...)
	}
	if err != nil {
		return fmt.Errorf("convert GIF: %w", err)
	}
	return nil
}

// Waveform returns so many values from 0 to 100, how loud the sound of a file is over
// time; the loudest is 100, silence is 0. It needs ffmpeg (ErrNoTool). ErrKind: there is no sound in it.
func (t *Tool) Waveform(ctx context.Context, path string, samples int) ([]byte, error) {
	w, err := t.waveform(ctx, path, samples)
	if err != nil {
		return nil, fmt.Errorf("make waveform: %w", err)
	}
	return w, nil
}

func (t *Tool) waveform(ctx context.Context, path string, samples int) ([]byte, error) {
	if samples < 1 || samples > maxBins {
		return nil, ErrKind
	}
	if !t.Available() {
		return nil, ErrNoTool
	}
	p, err := t.probe(ctx, path)
	if err != nil {
		return nil, err
	}
	if !p.HasAudio {
		return nil, ErrKind
	}
	from, err := input(path, p.Mimetype)
	if err != nil {
		return nil, err
	}
	args := append([]string{"-nostdin", "-hide_banner", "-v", "quiet", "-max_alloc", maxAlloc, "-threads", "1"}, from...)
	args = append(args, "-map", "0:a:0", "-vn", "-sn", "-dn", "-ac", "1", "-ar", "8000", "-c:a", "pcm_s16le", "-f", "s16le", "pipe:1")
	l := loudness{each: 80}
	err = t.run(ctx, job{program: t.ffmpeg, args: args, dir: filepath.Dir(path), limit: 5 * quick, place: t.short, printed: l.read})
	if err != nil {
		return nil, err
	}
	return l.values(samples), nil
}

// maxBins is how many pieces of sound are remembered.
const maxBins = 4096

// loudness sums up the energy of sound piece by piece. When there are too many pieces,
// every two become one, so its size does not grow with the sound.
type loudness struct {
	bins  []float64 // energy of the pieces that are full
	each  int       // samples in a piece
	sum   float64
	count int
}

// read takes 16-bit samples, little endian, to the end.
func (l *loudness) read(r io.Reader) error {
	buffer := make([]byte, 16<<10)
	for {
		n, err := io.ReadFull(r, buffer)
		for i := 0; i+1 < n; i += 2 {
			l.add(float64(int16(uint16(buffer[i])|uint16(buffer[i+1])<<8)) / 32768) //nolint:gosec // the bits of a signed sample
		}
		if err != nil {
			return nil //nolint:nilerr // the program's own end says how it went
		}
	}
}

func (l *loudness) add(sample float64) {
	l.sum += sample * sample
	if l.count++; l.count < l.each {
		return
	}
	l.bins = append(l.bins, l.sum)
	l.sum, l.count = 0, 0
	if len(l.bins) < maxBins {
		return
	}
	for i := range maxBins / 2 {
		l.bins[i] = l.bins[2*i] + l.bins[2*i+1]
	}
	l.bins, l.each = l.bins[:maxBins/2], 2*l.each
}

// values returns so many values, each over an equal share of the pieces.
func (l *loudness) values(n int) []byte {
	bins := l.bins
	if len(bins) == 0 {
		bins = []float64{l.sum}
	}
	level, loudest := make([]float64, n), 0.0
	for i := range level {
		from := i * len(bins) / n
		to := max(from+1, (i+1)*len(bins)/n)
		for _, b := range bins[from:to] {
			level[i] += b / float64(to-from)
		}
		level[i] = math.Sqrt(level[i] / float64(l.each))
		loudest = max(loudest, level[i])
	}
	out := make([]byte, n)
	if loudest < 1.0/4096 {
		return out // silence
	}
	for i := range out {
		out[i] = byte(math.Round(100 * level[i] / loudest))
	}
	return out
}
