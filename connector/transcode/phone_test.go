package transcode

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/connector/profile"
)

// folder puts a copy of a file, alone, into a new folder.
func folder(t *testing.T, content []byte) (dir, path string) {
	t.Helper()
	dir = t.TempDir()
	path = filepath.Join(dir, "in")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, path
}

func TestWhatAPhoneGetsOfEachFile(t *testing.T) {
	tool := needTool(t)
	const voice = "audio/ogg; codecs=opus"
	for _, c := range []struct {
		file     string
		want     Role
		role     Role
		mimetype string
		made     bool
	}{
		{"still.jpg", Image, Image, "image/jpeg", false},
		{"still.png", Image, Image, "image/png", false},
		{"still.png", Sticker, Image, "image/png", false},
		{"lossy.webp", Image, Image, "image/jpeg", true},
		{"clear.webp", Sticker, Image, "image/png", true},
		{"moving.webp", Sticker, Image, "image/jpeg", true},
		{"still.tiff", Image, Image, "image/jpeg", true},
		{"still.bmp", Image, Image, "image/jpeg", true},
		{"still.avif", Image, Image, "image/jpeg", true},
		{"still.gif", Image, Image, "image/jpeg", true},
		{"moving.gif", Image, GIF, "video/mp4", true},
		{"moving.gif", GIF, GIF, "video/mp4", true},
		{"moving.gif", Sticker, Image, "image/jpeg", true},
		{"h264.mp4", Video, Video, "video/mp4", false},
		{"silent.mp4", GIF, GIF, "video/mp4", false},
		{"place.3gp", Video, Video, "video/3gpp", false},
		{"pieces.mp4", Video, Video, "video/mp4", false},
		{"high.mp4", Video, Video, "video/mp4", true},
		{"hevc.mp4", Video, Video, "video/mp4", true},
		{"apple.mov", Video, Video, "video/mp4", true},
		{"vp8.webm", Video, Video, "video/mp4", true},
		{"vp8.webm", GIF, GIF, "video/mp4", true},
		{"vp8.webm", Image, Video, "video/mp4", true},
		{"voice.ogg", Voice, Voice, voice, false},
		{"sound.m4a", Voice, Voice, voice, true},
		{"sound.mp4", Voice, Voice, voice, true},
		{"sound.webm", Voice, Voice, voice, true},
		{"sound.aac", Voice, Voice, voice, true},
		{"sound.mp3", Voice, Voice, voice, true},
		{"sound.wav", Voice, Voice, voice, true},
		{"sound.m4a", Audio, Audio, "audio/mp4", false},
		{"sound.mp4", Audio, Audio, "audio/mp4", false},
		{"sound.mp4", Video, Audio, "audio/mp4", false},
		{"sound.mp3", Audio, Audio, "audio/mpeg", false},
		{"sound.aac", Audio, Audio, "audio/aac", false},
		{"sound.wav", Audio, Audio, "audio/mp4", true},
		{"voice.ogg", Audio, Audio, "audio/mp4", true},
		{"still.jpg", Document, Document, "image/jpeg", false},
		{"vp8.webm", Document, Document, "video/webm", false},
	} {
		content := read(t, sample(t, c.file))
		dir, in := folder(t, content)
		made, err := tool.ForPhone(background, in, c.want, profile.WhatsApp().Media, nil)
		what := c.file + " as " + string(c.want)
		if err != nil || made.Fallback != nil || made.Role != c.role || made.Mimetype != c.mimetype {
			t.Errorf("%s: %+v, %v, %v", what, made, made.Fallback, err)
			continue
		}
		if (made.Path != in) != c.made || filepath.Dir(made.Path) != dir {
			t.Errorf("%s: the file is in another place", what)
		}
		if got := read(t, in); !bytes.Equal(got, content) {
			t.Errorf("%s: the file itself was changed", what)
		}
		if c.role != Document {
			if again, err := tool.Probe(background, made.Path); err != nil || again.Width != made.Info.Width || again.Duration != made.Info.Duration || base(made.Info.Mimetype) != base(c.mimetype) {
				t.Errorf("%s: %+v, but it is %+v, %v", what, made.Info, again, err)
			}
		}
	}
}

func TestWhatCannotBeShownGoesAsADocumentThatSaysWhy(t *testing.T) {
	media := profile.WhatsApp().Media
	tool, _ := Find("") // with or without
	broken := program(t, "exit 1\n")
	gif := []byte("GIF89a\x01\x00\x01\x00\x00\x00\x00" + strings.Repeat(",\x00\x00\x00\x00\x01\x00\x01\x00\x80\x00\x00\x00\xff\xff\xff\x02\x02D\x01\x00", 2) + ";")
	webm := []byte("\x1a\x45\xdf\xa3\x93\x42\x82\x84webm")
	avif := []byte(box("ftyp", "avif\x00\x00\x00\x00avif"))
	for what, c := range map[string]struct {
		tool    *Tool
		content []byte
		want    Role
		reason  error
	}{
		"no program, a GIF":          {nil, gif, Image, ErrNoTool},
		"no program, a film":         {nil, webm, Video, ErrNoTool},
		"no program, a voice":        {nil, webm, Voice, ErrNoTool},
		"no program, an image":       {nil, avif, Image, ErrNoTool},
		"a program that fails, GIF":  {broken, gif, Image, ErrConvert},
		"a program that fails, film": {broken, webm, Video, ErrConvert},
		"a damaged film":             {tool, []byte("\x00\x00\x00\x08wide\x00\x00\x00\x10moovxxxxxxxx"), Video, nil},
		"a damaged image":            {tool, []byte("\xff\xd8\xff\xe0"), Image, ErrConvert},
		"a bomb":                     {tool, bomb(1<<20, 1<<20), Image, ErrTooBig},
		"a text":                     {tool, []byte("a text"), Image, ErrKind},
		"an SVG":                     {tool, []byte("<svg/>"), Sticker, ErrKind},
		"a PDF":                      {tool, []byte("%PDF-1.7"), Video, ErrKind},
		"nothing":                    {tool, nil, Voice, ErrKind},
	} {
		dir, in := folder(t, c.content)
		made, err := c.tool.ForPhone(background, in, c.want, media, nil)
		if err != nil || made.Fallback == nil || made.Role != Document || made.Path != in || made.Mimetype != Sniff(c.content) {
			t.Errorf("%s: %+v, %v", what, made, err)
			continue
		}
		if c.reason != nil && !errors.Is(made.Fallback, c.reason) {
			t.Errorf("%s: %v", what, made.Fallback)
		}
		if text := made.Fallback.Error(); strings.Contains(text, dir) || !strings.HasPrefix(text, "goes as a document: ") {
			t.Errorf("%s: %q", what, text)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
			t.Errorf("%s: %d files are left, %v", what, len(left), err)
		}
	}
}

func TestWithoutTheProgramWhatNeedsNoneIsShown(t *testing.T) {
	for file, c := range map[string]struct {
		want, role Role
		mimetype   string
	}{
		"still.jpg": {Image, Image, "image/jpeg"}, "lossy.webp": {Sticker, Image, "image/jpeg"}, "h264.mp4": {Video, Video, "video/mp4"},
		"voice.ogg": {Voice, Voice, "audio/ogg; codecs=opus"}, "sound.m4a": {Audio, Audio, "audio/mp4"},
	} {
		_, in := folder(t, read(t, sample(t, file)))
		made, err := (*Tool)(nil).ForPhone(background, in, c.want, profile.WhatsApp().Media, nil)
		if err != nil || made.Fallback != nil || made.Role != c.role || made.Mimetype != c.mimetype {
			t.Errorf("%s: %+v, %v", file, made, err)
		}
	}
}

func TestTheProfileSaysWhichTypesGoAsTheyAre(t *testing.T) {
	media := profile.WhatsApp().Clone().Media
	media.ImageTypes = slices.DeleteFunc(media.ImageTypes, func(s string) bool { return s == pngType })
	_, in := folder(t, pngOf(t, corners(30, 20)))
	made, err := (*Tool)(nil).ForPhone(background, in, Image, media, nil)
	if err != nil || made.Mimetype != jpegType || made.Path == in || Sniff(read(t, made.Path)) != jpegType {
		t.Errorf("%+v, %v", made, err)
	}
}

func TestAFileThatCannotBeReadAndTheEndOfTheCallerAreErrors(t *testing.T) {
	media := profile.WhatsApp().Media
	path := filepath.Join(t.TempDir(), "GPSLAT")
	if _, err := (*Tool)(nil).ForPhone(background, path, Image, media, nil); !errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), "GPSLAT") {
		t.Errorf("%v", err)
	}
	ended, end := context.WithCancel(background)
	end()
	tool := program(t, "exit 0\n")
	for _, content := range [][]byte{pngOf(t, corners(9, 9)), []byte("\x1a\x45\xdf\xa3\x93\x42\x82\x84webm")} {
		dir, in := folder(t, content)
		media.ImageTypes = nil
		if made, err := tool.ForPhone(ended, in, Image, media, nil); !errors.Is(err, context.Canceled) || made != (Made{}) {
			t.Errorf("%+v, %v", made, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
			t.Errorf("%d files are left, %v", len(left), err)
		}
	}
}
