package convert

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

const someFile = id.ContentURIString("mxc://x.org/abc")

// attachment reads content as JSON that is expected to have a file.
func attachment(t *testing.T, source string, sticker bool) *Attachment {
	t.Helper()
	var content event.MessageEventContent
	if err := json.Unmarshal([]byte(source), &content); err != nil {
		t.Fatal(err)
	}
	a, ok := ReadAttachment(&content, sticker)
	if !ok {
		t.Fatalf("no attachment in %s", source)
	}
	return a
}

func TestEveryKindOfFileFromMatrixIsTakenApart(t *testing.T) {
	for _, tc := range []struct {
		name, source string
		sticker      bool
		want         Attachment
	}{
		{"an image", `{"msgtype":"m.image","body":"a.png","url":"mxc://x.org/abc",
			"info":{"mimetype":"image/PNG","size":1234,"w":640,"h":480,"xyz.amorgan.blurhash":"LKO2","thumbnail_url":"mxc://x.org/t"}}`, false,
			Attachment{Role: RoleImage, Name: "a.png", Mimetype: "image/png", Size: 1234, Width: 640, Height: 480, Blurhash: "LKO2",
				ThumbnailURI: "mxc://x.org/t"}},
		{"an image with a caption", `{"msgtype":"m.image","filename":"a.png","body":"look **here**","format":"org.matrix.custom.html",
			"formatted_body":"look <b>here</b>","url":"mxc://x.org/abc"}`, false,
			Attachment{Role: RoleImage, Name: "a.png", Caption: "look *here*", Size: -1}},
		{"a caption that is the name is none", `{"msgtype":"m.image","filename":"a.png","body":"a.png","url":"mxc://x.org/abc"}`, false,
			Attachment{Role: RoleImage, Name: "a.png", Size: -1}},
		{"a caption of spaces is none", `{"msgtype":"m.image","filename":"a.png","body":"  ","url":"mxc://x.org/abc"}`, false,
			Attachment{Role: RoleImage, Name: "a.png", Size: -1}},
		{"a GIF", `{"msgtype":"m.image","body":"a.gif","url":"mxc://x.org/abc","info":{"mimetype":"image/gif"}}`, false,
			Attachment{Role: RoleGIF, Name: "a.gif", Mimetype: "image/gif", Size: -1}},
		{"a GIF that is a video", `{"msgtype":"m.video","body":"a.mp4","url":"mxc://x.org/abc","info":{"mimetype":"video/mp4","fi.mau.gif":true}}`, false,
			Attachment{Role: RoleGIF, Name: "a.mp4", Mimetype: "video/mp4", Size: -1}},
		{"a video", `{"msgtype":"m.video","body":"a.mp4","url":"mxc://x.org/abc","info":{"mimetype":"video/mp4; codecs=avc1","duration":61500}}`, false,
			Attachment{Role: RoleVideo, Name: "a.mp4", Mimetype: "video/mp4", Duration: 61500 * time.Millisecond, Size: -1}},
		{"a voice message", `{"msgtype":"m.audio","body":"Voice message","url":"mxc://x.org/abc","info":{"mimetype":"audio/ogg","duration":4000},
			"org.matrix.msc3245.voice":{},"org.matrix.msc1767.audio":{"duration":5000,"waveform":[0,512,1024]}}`, false,
			Attachment{Role: RoleVoice, Name: "Voice message", Mimetype: "audio/ogg", Duration: 5 * time.Second, Size: -1,
				Waveform: append(append(filled(22, 0), filled(21, 50)...), filled(21, 100)...)}},
		{"a voice message whose client says so", `{"msgtype":"m.audio","filename":"v.ogg","body":"Voice message","url":"mxc://x.org/abc","org.matrix.msc3245.voice":{}}`, false,
			Attachment{Role: RoleVoice, Name: "v.ogg", Size: -1}},
		{"audio", `{"msgtype":"m.audio","body":"a.mp3","url":"mxc://x.org/abc","info":{"mimetype":"audio/mpeg","duration":4000}}`, false,
			Attachment{Role: RoleAudio, Name: "a.mp3", Mimetype: "audio/mpeg", Duration: 4 * time.Second, Size: -1}},
		{"audio with a caption goes where words have a place", `{"msgtype":"m.audio","filename":"a.mp3","body":"my song","url":"mxc://x.org/abc"}`, false,
			Attachment{Role: RoleDocument, Name: "a.mp3", Caption: "my song", Size: -1}},
		{"a voice message with a caption as well", `{"msgtype":"m.audio","filename":"a.ogg","body":"hear","url":"mxc://x.org/abc",
			"org.matrix.msc3245.voice":{},"org.matrix.msc1767.audio":{"duration":1,"waveform":[1]}}`, false,
			Attachment{Role: RoleDocument, Name: "a.ogg", Caption: "hear", Duration: time.Millisecond, Size: -1}},
		{"a file", `{"msgtype":"m.file","body":"../../etc/a b.pdf","url":"mxc://x.org/abc","info":{"mimetype":"application/pdf","size":5}}`, false,
			Attachment{Role: RoleDocument, Name: "_.._etc_a b.pdf", Mimetype: "application/pdf", Size: 5}},
		{"an image that is sent as a file stays one", `{"msgtype":"m.file","body":"a.gif","url":"mxc://x.org/abc","info":{"mimetype":"image/gif"}}`, false,
			Attachment{Role: RoleDocument, Name: "a.gif", Mimetype: "image/gif", Size: -1}},
		{"a sticker", `{"body":"a cat","url":"mxc://x.org/abc","info":{"mimetype":"image/webp","w":256,"h":256}}`, true,
			Attachment{Role: RoleSticker, Mimetype: "image/webp", Width: 256, Height: 256, Size: -1}},
		{"what an answer quotes is no caption", `{"msgtype":"m.image","filename":"a.png","body":"> <@a:b> old\n\nnew","url":"mxc://x.org/abc",
			"m.relates_to":{"m.in_reply_to":{"event_id":"$a"}}}`, false,
			Attachment{Role: RoleImage, Name: "a.png", Caption: "new", Size: -1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.want.URI = someFile
			got := attachment(t, tc.source, tc.sticker)
			if !reflect.DeepEqual(*got, tc.want) {
				t.Errorf("got\n%+v\nwant\n%+v", *got, tc.want)
			}
		})
	}
}

func filled(n int, value byte) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = value
	}
	return out
}

func TestAnEncryptedFileComesWithItsKeys(t *testing.T) {
	const keys = `"v":"v2","key":{"kty":"oct","alg":"A256CTR","k":"AAAA","ext":true,"key_ops":["encrypt"]},"iv":"AAAB","hashes":{"sha256":"AAAC"}`
	a := attachment(t, `{"msgtype":"m.image","body":"a.png","url":"mxc://x.org/plain","file":{"url":"mxc://x.org/abc",`+keys+`},
		"info":{"thumbnail_file":{"url":"mxc://x.org/t",`+keys+`}}}`, false)
	if a.URI != someFile || a.File == nil || a.File.Key.Key != "AAAA" || a.ThumbnailURI != "mxc://x.org/t" || a.ThumbnailFile == nil {
		t.Fatalf("got %+v", a)
	}
	stored, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var again Attachment
	if err := json.Unmarshal(stored, &again); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&again, a) {
		t.Errorf("stored and read again\n%+v\nwant\n%+v", again, *a)
	}
}

func TestWhatHasNoFileIsNoAttachment(t *testing.T) {
	for name, content := range map[string]*event.MessageEventContent{
		"nil":                   nil,
		"text":                  {MsgType: event.MsgText, Body: "a", URL: someFile},
		"an image without one":  {MsgType: event.MsgImage, Body: "a"},
		"an address of the web": {MsgType: event.MsgImage, URL: "https://x.org/a"},
		"half an address":       {MsgType: event.MsgImage, URL: "mxc://x.org"},
		"an endless address":    {MsgType: event.MsgImage, URL: "mxc://x.org/" + id.ContentURIString(strings.Repeat("a", maxURI))},
		"a broken encrypted one beside a plain one": {MsgType: event.MsgImage, URL: someFile, File: &event.EncryptedFileInfo{URL: "x"}},
		"an edit":   {MsgType: event.MsgImage, URL: someFile, RelatesTo: (&event.RelatesTo{}).SetReplace("$a")},
		"a gallery": {MsgType: event.MsgBeeperGallery, URL: someFile},
	} {
		if a, ok := ReadAttachment(content, false); ok || a != nil {
			t.Errorf("%s: got %+v", name, a)
		}
	}
	if _, ok := ReadAttachment(&event.MessageEventContent{Body: "cat"}, true); ok {
		t.Error("a sticker without a picture is one")
	}
}

func TestHostileMetadataIsNotBelieved(t *testing.T) {
	a := attachment(t, `{"msgtype":"m.video","body":"a","url":"mxc://x.org/abc","info":{"mimetype":"`+strings.Repeat("x", 200)+`/y",
		"size":1e300,"w":4294967296,"h":-5,"duration":1e18,"blurhash":"`+strings.Repeat("x", 200)+`","thumbnail_url":"file:///etc/passwd"}}`, false)
	if want := (Attachment{Role: RoleVideo, Name: "a", Size: -1, URI: someFile}); !reflect.DeepEqual(*a, want) {
		t.Errorf("got %+v", a)
	}
	long := attachment(t, `{"msgtype":"m.audio","body":"a","url":"mxc://x.org/abc","org.matrix.msc3245.voice":{},
		"org.matrix.msc1767.audio":{"duration":-1,"waveform":[`+strings.Repeat("99999999,-5,", 5000)+`0]}}`, false)
	if len(long.Waveform) != WaveformSamples || long.Waveform[3] != 100 || long.Duration != 0 {
		t.Errorf("got %+v", long)
	}
}

func TestACaptionIsNeverTooLong(t *testing.T) {
	content := &event.MessageEventContent{
		MsgType: event.MsgImage, URL: someFile, FileName: "a", Body: strings.Repeat("word ", 20000),
		Format: event.FormatHTML, FormattedBody: strings.Repeat("<b>a</b> <i>b</i> ", 3000),
	}
	if a, _ := ReadAttachment(content, false); a.Caption == "" || units(a.Caption) > DefaultMaxTextUnits {
		t.Errorf("%d units", units(a.Caption))
	}
	// Marks can make words longer than the limit; then they go without.
	content.Body = "plain"
	content.FormattedBody = strings.Repeat(`<ol start="999999998"><li>`, 8) + strings.Repeat("<br>x", 12000)
	if a, _ := ReadAttachment(content, false); a.Caption != "plain" {
		t.Errorf("%d units: %.40q", units(a.Caption), a.Caption)
	}
	content.Format, content.Body = "", strings.Repeat("word ", 20000)
	if a, _ := ReadAttachment(content, false); a.Caption == "" || units(a.Caption) > DefaultMaxTextUnits {
		t.Errorf("%d units", units(a.Caption))
	}
}

func TestFileNamesAreFitToStoreAndShow(t *testing.T) {
	for in, want := range map[string]string{
		"a.pdf": "a.pdf", `C:\x\a.pdf`: "C__x_a.pdf", "/etc/passwd": "_etc_passwd", ".bashrc": "bashrc", "a/": "a_",
		"..": "", "../..": "", "...": "", " . ": "", "/": "", "\n": "", "": "",
		"../../etc/pass\nwd\u202egpj.exe": "_.._etc_pass_wd_gpj.exe",
		"a\x00\n\tb.txt":                  "a___b.txt", "a\u202egpj.exe": "a_gpj.exe", "a\u2028b\u00a0c": "a b c", "a\ufeffb": "ab", "a.b. . ": "a.b",
		`a<b>:"c"|?*`: "a_b___c____", "👩\u200d🚀.png": "👩\u200d🚀.png", "\xff.x": "\uFFFD.x",
		strings.Repeat("ä", 300) + ".tar.gz":                strings.Repeat("ä", 126) + ".gz",
		strings.Repeat("ä", 126) + ".gz":                    strings.Repeat("ä", 126) + ".gz",
		strings.Repeat("a", 300):                            strings.Repeat("a", 255),
		"a." + strings.Repeat("b", 300):                     "a." + strings.Repeat("b", 253),
		strings.Repeat("a", 300) + "." + "jpegjpegjpegjpeg": strings.Repeat("a", 255),
	} {
		got := fileName(in)
		if got != want {
			t.Errorf("%.40q: got %q, want %q", in, got, want)
		}
		if again := fileName(got); again != got {
			t.Errorf("%.40q: a second time it is %q", in, again)
		}
		if !utf8.ValidString(got) || len(got) > 255 {
			t.Errorf("%.40q: %d bytes, or no text", in, len(got))
		}
	}
}

func TestANameOfDotsAloneBecomesOneThatIsMadeUp(t *testing.T) {
	for name, want := range map[string]string{"..": "file", "../..": "file", "a/b": "a_b"} {
		if got := (&Made{Name: name}).document().GetFileName(); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestNamesThatAreMadeUpFitTheType(t *testing.T) {
	for _, tc := range []struct {
		role           Role
		mimetype, want string
	}{
		{RoleImage, "image/png", "image.png"}, {RoleVoice, "audio/ogg; codecs=opus", "voice-message.ogg"}, {RoleVideo, "x/y", "video.mp4"},
		{RoleDocument, "application/pdf", "file.pdf"}, {RoleDocument, "", "file"}, {RoleSticker, "image/webp", "sticker.webp"}, {"strange", "", "file"},
	} {
		if got := madeUpName(tc.role, tc.mimetype); got != tc.want {
			t.Errorf("%s %s: %q, want %q", tc.role, tc.mimetype, got, tc.want)
		}
	}
}
