package transcode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/buckket/go-blurhash"
)

// Thumbnail returns a JPEG of at most maxBytes bytes and at most maxSide pixels a side that
// shows an image, turned as it should be and on white where it is transparent, or a
// film soon after its beginning; and its size in pixels. Video and the newest image formats need ffmpeg (ErrNoTool).
// Other errors: ErrKind for what has no picture, ErrTooBig, ErrConvert.
func (t *Tool) Thumbnail(ctx context.Context, path string, maxBytes, maxSide int) (thumbnail []byte, width, height int, err error) {
	if maxSide < 1 {
		return nil, 0, 0, fmt.Errorf("make thumbnail: no room: %w", ErrConvert)
	}
	small, err := t.small(ctx, path, maxSide)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("make thumbnail: %w", err)
	}
	for {
		for _, quality := range []int{85, 70, 55, 40, 25} {
			if thumbnail, err = encodeJPEG(small, quality); err != nil {
				return nil, 0, 0, fmt.Errorf("make thumbnail: %w", err)
			}
			if len(thumbnail) <= maxBytes {
				return thumbnail, small.Bounds().Dx(), small.Bounds().Dy(), nil
			}
		}
		longer := max(small.Bounds().Dx(), small.Bounds().Dy())
		if longer < 8 {
			return nil, 0, 0, fmt.Errorf("make thumbnail: no room: %w", ErrConvert)
		}
		small = scale(small, 1, longer*3/4, false)
	}
}

// Blurhash returns the few letters that stand for a picture while it is not there yet:
// 4 by 3 components, or 3 by 4 for one that is higher than wide. Errors are those of
// Thumbnail.
func (t *Tool) Blurhash(ctx context.Context, path string) (string, error) {
	small, err := t.small(ctx, path, 64)
	if err != nil {
		return "", fmt.Errorf("make blurhash: %w", err)
	}
	x, y := 4, 3
	if small.Bounds().Dy() > small.Bounds().Dx() {
		x, y = 3, 4
	}
	hash, err := blurhash.Encode(x, y, small)
	if err != nil {
		return "", fmt.Errorf("make blurhash: %w", err)
	}
	return hash, nil
}

// small returns the picture of a file, turned as it should be, that fits a square with
// this side.
func (t *Tool) small(ctx context.Context, path string, side int) (image.Image, error) {
	s, err := openStill(path)
	switch {
	case err == nil:
		defer s.file.Close()
		picture, release, err := s.decode(ctx)
		if errors.Is(err, ErrTooBig) && t.Available() { // for the memory here, but not in a program of its own
			if picture, err = t.frame(ctx, path, probed{Info: Info{Mimetype: s.mimetype}}, side); err == nil {
				return scale(picture, s.orientation, side, false), nil
			}
		}
		if err != nil {
			return nil, err
		}
		defer release()
		return scale(picture, s.orientation, side, false), nil
	case !isKind(err):
		return nil, err
	}
	p, err := t.probe(ctx, path)
	if err != nil {
		return nil, err
	}
	if p.Width == 0 {
		return nil, ErrKind
	}
	return t.frame(ctx, path, p, side)
}

// frame has ffmpeg take one picture out of a film, or decode an image.
func (t *Tool) frame(ctx context.Context, path string, p probed, side int) (image.Image, error) {
	if !t.Available() {
		return nil, ErrNoTool
	}
	from, err := input(path, p.Mimetype)
	if err != nil {
		return nil, err
	}
	args := []string{"-nostdin", "-hide_banner", "-v", "quiet", "-max_alloc", maxAlloc, "-threads", "1"}
	if p.HasVideo { // the very first picture is often black
		args = append(args, "-ss", fmt.Sprintf("%.3f", min(p.Duration/4, time.Second).Seconds()))
	} else if decoders[p.Mimetype].decode != nil {
		args = append(args, "-noautorotate") // the caller turns it
	}
	side = min(side, 2048)
	args = append(append(args, from...), "-map", "0:V:0", "-an", "-sn", "-dn", "-map_metadata", "-1", "-frames:v", "1",
		"-vf", fmt.Sprintf("scale=w=min(%d\\,iw):h=min(%d\\,ih):force_original_aspect_ratio=decrease,setsar=1", side, side),
		"-threads", "1", "-c:v", "png", "-f", "image2pipe", "pipe:1")
	var printed bytes.Buffer
	err = t.run(ctx, job{program: t.ffmpeg, args: args, dir: filepath.Dir(path), limit: quick, place: t.short, printed: func(r io.Reader) error {
		_, _ = printed.ReadFrom(io.LimitReader(r, 4*2048*2048))
		return nil
	}})
	if err != nil {
		return nil, err
	}
	d := decoders[pngType]
	config, err := guardConfig(d, bytes.NewReader(printed.Bytes()))
	if err != nil {
		return nil, err
	}
	if config.Width > side || config.Height > side {
		return nil, fmt.Errorf("%w: what came out is too large", ErrConvert)
	}
	picture, err := guardDecode(d, &contextReader{ctx, &printed})
	if err != nil {
		return nil, err
	}
	return scale(picture, 1, side, false), nil
}

// reencode writes the picture to out as the type that choose says of a picture that is
// opaque, or not: turned as it should be, a JPEG on white where it is transparent, and
// without any metadata.
func (s *still) reencode(ctx context.Context, out string, choose func(opaque bool) string) error {
	picture, release, err := s.decode(ctx)
	if err != nil {
		return err
	}
	defer release()
	o, known := picture.(interface{ Opaque() bool })
	opaque := known && o.Opaque()
	mimetype := choose(opaque)
	if s.orientation > 1 || !opaque && mimetype == jpegType {
		picture = scale(picture, s.orientation, max(s.width, s.height), mimetype == pngType)
	}
	return writeImage(picture, out, mimetype)
}

// writeImage writes a picture to a file.
func writeImage(picture image.Image, out, mimetype string) error {
	f, err := os.Create(out)
	if err != nil {
		return fmt.Errorf("create file: %w", withoutPath(err))
	}
	if err = encode(f, picture, mimetype); err == nil {
		err = f.Close()
	} else {
		_ = f.Close()
	}
	if err != nil {
		_ = os.Remove(out)
		return fmt.Errorf("write image: %w", withoutPath(err))
	}
	return nil
}

// newer has ffmpeg convert an image of a format that is not read here.
func (t *Tool) newer(ctx context.Context, in, out, mimetype string) error {
	p, err := t.probe(ctx, in)
	if err != nil {
		return err
	}
	if demuxers[p.Mimetype] == "" || !isImage(p.Mimetype) {
		return ErrKind
	}
	if int64(p.Width) > maxPixels/int64(max(1, p.Height)) {
		return ErrTooBig
	}
	codec := []string{"-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p"}
	if mimetype == pngType {
		codec = []string{"-c:v", "png"}
	}
	how := append([]string{"-map", "0:v:0", "-frames:v", "1"}, codec...)
	if err = t.convert(ctx, in, p.Mimetype, out, t.place(false), nil, append(how, "-f", "image2pipe")...); err != nil {
		return err
	}
	// Some versions take a picture that is made of tiles for its first tile.
	made, err := openStill(out)
	if err == nil {
		defer made.file.Close()
		if same := made.width == p.Width && made.height == p.Height; same || made.width == p.Height && made.height == p.Width {
			return nil
		}
		err = fmt.Errorf("%w: only a part came out", ErrConvert)
	}
	_ = os.Remove(out)
	return err
}
