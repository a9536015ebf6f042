package transcode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"postern/connector/profile"
)

// ForPhone makes of the file something that a phone shows as wanted, by these rules:
//
//   - an image is a type that the profile takes, or becomes JPEG, or PNG if some of it
//     is transparent; an animated GIF becomes a film that loops, but as a sticker its
//     first picture; a sticker is an image; of an animated WebP the first picture goes;
//   - a film is MP4 with H.264 and AAC or 3GPP, or becomes the former;
//   - a voice message is Ogg with Opus, or becomes that;
//   - sound is a type that the profile takes, or becomes AAC in MP4;
//   - what turns out to be of another kind than was wanted goes as what it is;
//   - what cannot be shown, or not made showable, goes as a document as it is, and
//     Made.Fallback says why.
//
// Where nothing had to be made, Made.Path is in; else it is a new file in the same
// folder, for the caller to remove. Metadata stay in the former: the caller gives what it
// sends to Scrub, also what goes as a document because it cannot be shown, but not what
// was wanted as a document. progress is called now and then while a conversion gets on or
// waits for its turn, from another goroutine; it may be nil. The error is not nil only if
// ctx has ended or the file cannot be read.
func (t *Tool) ForPhone(ctx context.Context, in string, want Role, m profile.Media, progress func()) (Made, error) {
	f, err := os.Open(in)
	if err != nil {
		return Made{}, fmt.Errorf("open file: %w", withoutPath(err))
	}
	mimetype, err := sniffFile(f)
	_ = f.Close()
	if err != nil {
		return Made{}, err
	}
	document := Made{Path: in, Mimetype: mimetype, Role: Document, Info: Info{Mimetype: mimetype}}
	if want == Document {
		return document, nil
	}
	c := conversion{tool: t, ctx: ctx, in: in, mimetype: mimetype, want: want, media: m, progress: progress}
	made, err := c.make()
	switch {
	case err == nil:
		return made, nil
	case ctx.Err() != nil:
		return Made{}, fmt.Errorf("make file for phone: %w", context.Cause(ctx))
	}
	for _, reason := range []error{ErrNoTool, ErrConvert, ErrTooBig, ErrKind} {
		if errors.Is(err, reason) {
			document.Fallback = &Fallback{Reason: err}
			return document, nil
		}
	}
	return Made{}, fmt.Errorf("make file for phone: %w", err)
}

// conversion is one ForPhone.
type conversion struct {
	tool         *Tool
	ctx          context.Context //nolint:containedctx // as long as one call
	in, mimetype string
	want         Role
	media        profile.Media
	progress     func()
}

func isImage(mimetype string) bool { return strings.HasPrefix(mimetype, "image/") }

func isKind(err error) bool { return errors.Is(err, ErrKind) }

func (c *conversion) make() (Made, error) {
	switch {
	case demuxers[c.mimetype] == "":
		return Made{}, ErrKind
	case isImage(c.mimetype):
		return c.image()
	}
	p, err := c.tool.probe(c.ctx, c.in)
	if err != nil {
		return Made{}, err
	}
	switch {
	case p.HasVideo:
		return c.film(p)
	case p.HasAudio:
		return c.sound(p)
	}
	return Made{}, ErrKind
}

// out is a new file's path beside the old one.
func (c *conversion) out(ending string) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(c.in), "made-*"+ending)
	if err != nil {
		return "", fmt.Errorf("create file: %w", withoutPath(err))
	}
	if err = f.Close(); err != nil {
		return "", fmt.Errorf("create file: %w", withoutPath(err))
	}
	return f.Name(), nil
}

// into makes a file with f and says what it has become.
func (c *conversion) into(ending string, role Role, mimetype string, f func(out string) error) (Made, error) {
	out, err := c.out(ending)
	if err != nil {
		return Made{}, err
	}
	made := Made{Path: out, Mimetype: mimetype, Role: role}
	if err = f(out); err == nil {
		made.Info, err = c.tool.Probe(c.ctx, out)
	}
	if err != nil {
		_ = os.Remove(out)
		return Made{}, err
	}
	return made, nil
}

func (c *conversion) image() (Made, error) {
	s, err := openStill(c.in)
	if isKind(err) { // ffmpeg may know it
		return c.into(".jpg", Image, jpegType, func(out string) error { return c.tool.newer(c.ctx, c.in, out, jpegType) })
	}
	if err != nil {
		return Made{}, err
	}
	defer s.file.Close()
	if s.mimetype == gifType && s.animated && c.want != Sticker {
		return c.into(".mp4", GIF, mp4Type, func(out string) error { return c.tool.gifToMP4(c.ctx, c.in, out, c.progress) })
	}
	if slices.Contains(c.media.ImageTypes, c.mimetype) {
		info := probed{Info: Info{Mimetype: c.mimetype}}
		if err = info.still(c.in); err != nil {
			return Made{}, err
		}
		return Made{Path: c.in, Mimetype: c.mimetype, Role: Image, Info: info.Info}, nil
	}
	mimetype := jpegType
	made, err := c.into(".image", Image, "", func(out string) error {
		return s.reencode(c.ctx, out, func(opaque bool) string {
			if !opaque && slices.Contains(c.media.ImageTypes, pngType) {
				mimetype = pngType
			}
			return mimetype
		})
	})
	made.Mimetype = mimetype
	return made, err
}

func (c *conversion) film(p probed) (Made, error) {
	role := Video
	if c.want == GIF {
		role = GIF
	}
	mp4 := c.mimetype == mp4Type && p.plainH264() && (!p.HasAudio || p.audio == "aac")
	if (mp4 || c.mimetype == gppType) && slices.Contains(c.media.VideoTypes, c.mimetype) {
		return Made{Path: c.in, Mimetype: c.mimetype, Role: role, Info: p.Info}, nil
	}
	return c.into(".mp4", role, mp4Type, func(out string) error {
		return c.tool.toMP4(c.ctx, c.in, out, role == Video, c.progress)
	})
}

func (c *conversion) sound(p probed) (Made, error) {
	if c.want == Voice {
		if c.mimetype == opusType {
			return Made{Path: c.in, Mimetype: c.media.VoiceType, Role: Voice, Info: p.Info}, nil
		}
		return c.into(".ogg", Voice, c.media.VoiceType, func(out string) error {
			return c.tool.toSound(c.ctx, c.in, out, c.progress, voiceArguments...)
		})
	}
	mimetype := c.mimetype
	if mimetype == mp4Type && p.audio == "aac" {
		mimetype = m4aType // a container for films that has none
	}
	if slices.Contains(c.media.AudioTypes, mimetype) {
		p.Mimetype = mimetype
		return Made{Path: c.in, Mimetype: mimetype, Role: Audio, Info: p.Info}, nil
	}
	return c.into(".m4a", Audio, m4aType, func(out string) error {
		return c.tool.toSound(c.ctx, c.in, out, c.progress, aacArguments...)
	})
}
