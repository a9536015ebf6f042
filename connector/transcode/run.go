package transcode

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"
)

// Bounds of the programs that are started.
const (
	// stall is how long a conversion may go without getting on, and quick how long
	// everything else may take.
	stall = time.Minute
	quick = time.Minute
	// longest is how long a conversion may take, whatever it does.
	longest = time.Hour
	// maxPrinted is how much of what a program prints is read.
	maxPrinted = 8 << 20
	// maxMade is the size in bytes at which a conversion stops.
	maxMade = int64(2000 << 20)
	// maxAlloc is the largest piece of memory that a program may take at once, in
	// bytes: a picture of 100 million pixels fits.
	maxAlloc = "536870912"
)

// Tool is ffmpeg and ffprobe where they are installed, and what can be done without
// them where they are not. A nil *Tool is one without. It may be used from several
// goroutines; few programs run at the same time, the rest wait.
type Tool struct {
	ffmpeg, ffprobe string
	// Places for conversions of video, which take all they get, and for the rest,
	// which must not wait for them.
	long, short chan struct{}
}

// Find looks for ffmpeg at the given path, or on the PATH if that is empty, and for
// ffprobe in the same folder. If one is missing, the error wraps ErrNoTool, and the
// tool, which is never nil, works without both.
func Find(path string) (*Tool, error) {
	if path == "" {
		path = "ffmpeg"
	}
	found, err := exec.LookPath(path)
	if err == nil {
		found, err = filepath.Abs(found)
	}
	if err != nil {
		return &Tool{}, fmt.Errorf("find ffmpeg: %w", ErrNoTool)
	}
	prober, err := exec.LookPath(filepath.Join(filepath.Dir(found), "ffprobe"))
	if err != nil {
		return &Tool{}, fmt.Errorf("find ffprobe: %w", ErrNoTool)
	}
	return &Tool{
		ffmpeg: found, ffprobe: prober,
		long:  make(chan struct{}, max(1, runtime.NumCPU()/2)),
		short: make(chan struct{}, max(2, runtime.NumCPU())),
	}, nil
}

// Available says whether ffmpeg and ffprobe are there.
func (t *Tool) Available() bool { return t != nil && t.ffmpeg != "" }

// demuxers are ffmpeg's names for the formats that it may read. Naming the format keeps
// it from taking a file for a list of other files.
var demuxers = map[string]string{
	jpegType: "jpeg_pipe", pngType: "png_pipe", webpType: "webp_pipe", bmpType: "bmp_pipe", tiffType: "tiff_pipe",
	jxlType: "jpegxl_pipe", gifType: "gif", heicType: "mov", avifType: "mov", mp4Type: "mov", gppType: "mov",
	gpp2Type: "mov", movType: "mov", m4aType: "mov", webmType: "matroska", mkvType: "matroska", aviType: "avi",
	flvType: "flv", tsType: "mpegts", mpegType: "mpeg", wmvType: "asf", ogvType: "ogg", opusType: "ogg", vorbType: "ogg",
	oflacType: "ogg", speexType: "ogg", "application/ogg": "ogg", aacType: "aac", mp3Type: "mp3", amrType: "amr",
	amrwbType: "amr", wavType: "wav", flacType: "flac", aiffType: "aiff", cafType: "caf",
}

// input returns the arguments that name a file of the type to one of the programs.
func input(path, mimetype string) ([]string, error) {
	demuxer := demuxers[mimetype]
	if demuxer == "" {
		return nil, ErrKind
	}
	file, err := fileURL(path)
	if err != nil {
		return nil, err
	}
	return []string{
		"-max_pixels", fmt.Sprint(maxPixels), "-protocol_whitelist", "file", "-f", demuxer, "-i", file,
	}, nil
}

// fileURL names a file so that it is never taken for an option or another protocol.
func fileURL(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("name file: %w", err)
	}
	return "file:" + abs, nil
}

// job is one run of a program.
type job struct {
	program string
	args    []string
	dir     string                // where it runs: the folder of its files
	printed func(io.Reader) error // reads what the program prints; nil: nobody does
	limit   time.Duration
	alive   *atomic.Int64 // counts up while the program gets on; nil: only the limit ends it
	place   chan struct{}
	waiting func() // called now and then while it waits for its place or works; may be nil
}

// run starts a program and waits for it. Its error is the end of ctx, or ErrConvert.
func (t *Tool) run(ctx context.Context, j job) error {
	if err := j.enter(ctx); err != nil {
		return err
	}
	defer func() { <-j.place }()
	limited, cancel := context.WithTimeout(ctx, j.limit)
	defer cancel()
	cmd := exec.CommandContext(limited, j.program, j.args...)
	cmd.Env, cmd.Dir = environment(), j.dir
	cmd.WaitDelay = 10 * time.Second
	var printed io.ReadCloser
	if j.printed != nil {
		var err error
		if printed, err = cmd.StdoutPipe(); err != nil {
			return fmt.Errorf("start program: %w", err)
		}
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: it could not be started", ErrConvert)
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		j.watch(limited, cancel)
	}()
	var readErr error
	if printed != nil {
		readErr = j.printed(printed)
		_, _ = io.Copy(io.Discard, printed) // so that the program can end
	}
	err := cmd.Wait()
	late := limited.Err() != nil
	cancel()
	<-watched
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("run program: %w", context.Cause(ctx))
	case readErr != nil:
		return readErr
	case err != nil && late:
		return fmt.Errorf("%w: it took too long", ErrConvert)
	case err != nil:
		return fmt.Errorf("%w: the program refused it", ErrConvert)
	}
	return nil
}

// enter waits for a place.
func (j *job) enter(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case j.place <- struct{}{}:
			return nil
		case <-tick.C:
			if j.waiting != nil {
				j.waiting()
			}
		case <-ctx.Done():
			return fmt.Errorf("wait for a place: %w", context.Cause(ctx))
		}
	}
}

// watch ends a job that does not get on any more.
func (j *job) watch(ctx context.Context, cancel context.CancelFunc) {
	if j.alive == nil {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last, since := int64(0), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := j.alive.Load(); now != last {
			last, since = now, time.Now()
			if j.waiting != nil {
				j.waiting()
			}
		} else if time.Since(since) > stall {
			cancel()
			return
		}
	}
}

// environment is what a program learns of ours: where libraries are, and nothing that
// may be secret.
func environment() []string {
	env := []string{"LC_ALL=C", "AV_LOG_FORCE_NOCOLOR=1"}
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// convert runs ffmpeg from one file, of the type, to another, with the arguments that
// say how. What it leaves of a failed conversion is removed.
func (t *Tool) convert(ctx context.Context, in, mimetype, out string, place chan struct{}, progress func(), how ...string) error {
	if !t.Available() {
		return ErrNoTool
	}
	from, err := input(in, mimetype)
	if err != nil {
		return err
	}
	to, err := fileURL(out)
	if err != nil {
		return err
	}
	args := append([]string{
		"-nostdin", "-hide_banner", "-v", "quiet", "-max_alloc", maxAlloc, "-progress", "pipe:1", "-y",
		"-timelimit", fmt.Sprint(int(2 * longest / time.Second)), // of processor time, should we die before it
		"-threads", "2",
	}, from...)
	args = append(args, "-map_metadata", "-1", "-map_chapters", "-1", "-sn", "-dn", "-threads", "2")
	args = append(append(args, how...), "-fs", fmt.Sprint(maxMade), to)
	alive := &atomic.Int64{}
	err = t.run(ctx, job{
		program: t.ffmpeg, args: args, dir: filepath.Dir(out), limit: longest, alive: alive, place: place, waiting: progress,
		printed: func(r io.Reader) error { return countProgress(r, alive) },
	})
	if err == nil {
		err = checkMade(out)
	}
	if err != nil {
		_ = os.Remove(out)
	}
	return err
}

// checkMade refuses what is empty and what was cut at its greatest size.
func checkMade(path string) error {
	switch stat, err := os.Stat(path); {
	case err != nil, stat.Size() == 0:
		return fmt.Errorf("%w: nothing came out", ErrConvert)
	case stat.Size() >= maxMade-1<<20:
		return fmt.Errorf("%w: what came out is too large", ErrConvert)
	}
	return nil
}

// countProgress counts the reports in which the position in the output is another than
// in the one before.
func countProgress(r io.Reader, alive *atomic.Int64) error {
	var line, report, last []byte
	buffer := make([]byte, 4096)
	for {
		n, err := r.Read(buffer)
		for _, b := range buffer[:n] {
			if b != '\n' {
				if len(line) < 256 {
					line = append(line, b)
				}
				continue
			}
			switch name, _, _ := bytes.Cut(line, []byte("=")); string(name) {
			case "frame", "out_time_us", "total_size":
				if len(report) < 1024 {
					report = append(append(report, line...), '\n')
				}
			case "progress": // ends a report
				if !bytes.Equal(report, last) {
					last = append(last[:0], report...)
					alive.Add(1)
				}
				report = report[:0]
			}
			line = line[:0]
		}
		if err != nil {
			return nil //nolint:nilerr // the program's own end says how it went
		}
	}
}
