package transcode

import (
	"strings"
	"testing"
)

func TestFilesOfARealProgramAreKnownByTheirContent(t *testing.T) {
	for name, want := range map[string]string{
		"h264.mp4": "video/mp4", "place.3gp": "video/3gpp", "apple.mov": "video/quicktime", "vp8.webm": "video/webm",
		"vp9.mkv": "video/x-matroska", "odd.avi": "video/x-msvideo", "film.ts": "video/mp2t", "film.mpg": "video/mpeg",
		"film.flv": "video/x-flv", "film.wmv": "video/x-ms-asf", "film.ogv": "video/ogg", "voice.ogg": "audio/ogg; codecs=opus",
		"vorbis.ogg": "audio/ogg; codecs=vorbis", "flac.oga": "audio/ogg; codecs=flac", "speex.ogg": "audio/ogg; codecs=speex",
		"sound.m4a": "audio/mp4", "sound.aac": "audio/aac", "sound.mp3": "audio/mpeg", "plain.mp3": "audio/mpeg",
		"sound.wav": "audio/wav", "sound.flac": "audio/flac", "sound.aiff": "audio/aiff", "sound.caf": "audio/x-caf",
		"still.gif": "image/gif", "lossy.webp": "image/webp", "still.avif": "image/avif", "still.tiff": "image/tiff",
		"still.bmp": "image/bmp", "still.png": "image/png", "still.jpg": "image/jpeg", "still.jxl": "image/jxl",
	} {
		content := read(t, sample(t, name))
		if got := Sniff(content); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		if got := Sniff(content[:min(len(content), SniffBytes)]); got != want {
			t.Errorf("%s, its first bytes: %q, want %q", name, got, want)
		}
		// However little there is of it, it is never taken for another kind of file.
		for n := range min(len(content), 600) {
			if got := Sniff(content[:n]); got != "" && got != want && base(got) != "application/ogg" && !(want == "audio/aac" && got == "audio/mpeg") &&
				!strings.HasPrefix(want, "image/avif") {
				t.Errorf("%s, %d bytes: %q", name, n, got)
			}
		}
	}
}

func TestContentsAreKnownByTheirFirstBytes(t *testing.T) {
	ftyp := func(brands ...string) string {
		return box("ftyp", brands[0]+"\x00\x00\x00\x00"+strings.Join(brands[1:], ""))
	}
	adts := "\xff\xf1\x50\x80\x01\x00\xfc" + "\x00"
	mp3 := "\xff\xfb\x90\x00" + strings.Repeat("\x00", 413)
	for content, want := range map[string]string{
		"":                               "",
		"text":                           "",
		"{\"json\": true}":               "",
		"#EXTM3U\n#EXT-X-VERSION:3\n":    "",
		"ffconcat version 1.0\nfile x\n": "",
		"<svg xmlns=\"http://www.w3.org/2000/svg\"/>": "",
		"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n":         "",
		"%PDF-1.7\n":                                  "application/pdf",
		"PK\x03\x04\x14\x00":                          "application/zip",
		"#!AMR\n\x3c":                                 "audio/amr",
		"#!AMR-WB\n\x3c":                              "audio/amr-wb",
		"BM is no bitmap but a text":                  "",
		"BM\x00\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00": "image/bmp",
		ftyp("heic", "mif1", "heic"):                                         "image/heic",
		ftyp("mif1", "mif1", "heic"):                                         "image/heic",
		ftyp("mif1", "mif1", "avif"):                                         "image/avif",
		ftyp("msf1", "hevc"):                                                 "image/heic",
		ftyp("qt  ", "qt  "):                                                 "video/quicktime",
		ftyp("3gp5", "3gp5", "isom"):                                         "video/3gpp",
		ftyp("3g2a", "3g2a"):                                                 "video/3gpp2",
		ftyp("M4A ", "isom"):                                                 "audio/mp4",
		ftyp("M4V ", "isom"):                                                 "video/mp4",
		ftyp("XAVC", "XAVC", "mp42"):                                         "video/mp4",
		ftyp("what", "ever"):                                                 "video/mp4",
		"\x00\x00\x00\x08wide":                                               "video/quicktime",
		"\x00\x00\x10\x00moov":                                               "video/quicktime",
		"\xff\xd8\xff\xe0":                                                   "image/jpeg",
		"\xff\xd8":                                                           "",
		"GIF90a":                                                             "",
		"RIFF\x00\x00\x00\x00WAVEfmt":                                        "audio/wav",
		"RIFF\x00\x00\x00\x00ACON":                                           "",
		"FORM\x00\x00\x00\x00AIFC":                                           "audio/aiff",
		"OggS\x00" + strings.Repeat("\x00", 30):                              "application/ogg",
		"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska":                           "video/x-matroska",
		"\x1a\x45\xdf\xa3\x9f":                                               "",
		adts + adts:                                                          "audio/aac",
		adts + "no frame":                                                    "",
		"ID3\x04\x00\x00\x00\x00\x00\x04tags" + adts:                         "audio/aac",
		"ID3\x03\x00\x00\x00\x00\x10\x00" + "long tags":                      "audio/mpeg",
		mp3 + mp3:                          "audio/mpeg",
		mp3 + strings.Repeat("x", 10):      "",
		mp3[:100]:                          "audio/mpeg",
		"\xff\xfe\x00T\x00e\x00x\x00t":     "",
		"\xff\xff\xff\xff\xff\xff\xff\xff": "",
	} {
		if got := Sniff([]byte(content)); got != want {
			t.Errorf("%.40q: %q, want %q", content, got, want)
		}
	}
}

func TestFramesOfLayerThreeHaveTheLengthOfTheStandard(t *testing.T) {
	for header, want := range map[string]int{
		"\xff\xfb\x90\x00": 417, "\xff\xfb\x92\x00": 418, "\xff\xfb\xe4\x00": 960, // MPEG 1
		"\xff\xf3\x80\x00": 208, "\xff\xe3\x18\x00": 72, // MPEG 2 and 2.5
		"\xff\xeb\x90\x00": 0, "\xff\xfb\xf0\x00": 0, "\xff\xfb\x00\x00": 0, "\xff\xfb\x9c\x00": 0, "\xff\xfd\x90\x00": 0, "\xff\xfb\x90": 0,
	} {
		if got := mp3Frame([]byte(header)); got != want {
			t.Errorf("%x: %d bytes, want %d", header, got, want)
		}
	}
}
