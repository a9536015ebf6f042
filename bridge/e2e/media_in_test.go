package e2e_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"maunium.net/go/mautrix/event"

	"postern/bridge/parts"
)

// shown is the content of an event with an attachment.
func shown(t *testing.T, raw json.RawMessage) *event.MessageEventContent {
	t.Helper()
	var c event.MessageEventContent
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	return &c
}

// hasFile checks that the homeserver has a file for an event, byte for byte.
func (s *scene) hasFile(c *event.MessageEventContent, want []byte) {
	s.t.Helper()
	var got []byte
	if c.File != nil {
		sealed := must(s.person.Download(s.ctx, string(c.File.URL)))(s.t)
		if bytes.Equal(sealed, want) {
			s.t.Error("the homeserver has the file in the clear")
		}
		s.ok(c.File.DecryptInPlace(sealed))
		got = sealed
	} else {
		got = must(s.person.Download(s.ctx, string(c.URL)))(s.t)
	}
	if !bytes.Equal(got, want) {
		s.t.Errorf("the homeserver has another file: %d bytes, not %d", len(got), len(want))
	}
}

// samples are files of each kind.
type samples struct{ photo, voice, video []byte }

func makeSamples(t *testing.T) samples {
	t.Helper()
	return samples{
		photo: photo(t),
		voice: made(t, "voice.ogg", "-f", "lavfi", "-i", "sine=frequency=440:duration=2", "-c:a", "libopus", "-ac", "1", "-ar", "48000"),
		video: made(t, "video.mp4", "-f", "lavfi", "-i", "testsrc=duration=1:size=64x48:rate=10", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart"),
	}
}

func TestFilesOfEveryKindAreShownInTheRoom(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.toMatrix(room, ben, "hello")
	has := makeSamples(t)
	text := []byte("some words\n")
	waveform := make([]int, 64)
	for i := range waveform {
		waveform[i] = i % 101
	}
	for _, c := range []struct {
		name  string
		send  parts.Content
		file  []byte
		event string
		check func(t *testing.T, c *event.MessageEventContent)
	}{
		{"an image with a caption", parts.Content{Kind: "image", Data: has.photo, Caption: "look *here*"}, has.photo, "m.room.message", func(t *testing.T, c *event.MessageEventContent) {
			if c.MsgType != event.MsgImage || c.Body != "look *here*" || c.FileName == "" || !strings.Contains(c.FormattedBody, "<strong>here</strong>") {
				t.Errorf("%+v", c)
			}
			if c.Info.MimeType != "image/jpeg" || c.Info.Width != 24 || c.Info.Height != 16 || c.Info.AnoaBlurhash == "" {
				t.Errorf("%+v", c.Info)
			}
		}},
		{"a video", parts.Content{Kind: "video", Data: has.video, Mimetype: "video/mp4", Caption: "moving"}, has.video, "m.room.message", func(t *testing.T, c *event.MessageEventContent) {
			if c.MsgType != event.MsgVideo || c.Body != "moving" || c.Info.Width != 64 || c.Info.Height != 48 || c.Info.Duration < 900 || c.Info.Duration > 1100 ||
				c.Info.ThumbnailURL == "" || c.Info.ThumbnailInfo == nil {
				t.Errorf("%+v %+v", c, c.Info)
			}
		}},
		{"a video note", parts.Content{Kind: "video_note", Data: has.video, Mimetype: "video/mp4"}, has.video, "m.room.message", func(t *testing.T, c *event.MessageEventContent) {
			if c.MsgType != event.MsgVideo {
				t.Errorf("%+v", c)
			}
		}},
		{"a GIF", parts.Content{Kind: "gif", Data: has.video, Mimetype: "video/mp4"}, has.video, "m.room.message", func(t *testing.T, c *event.MessageEventContent) {
			if c.MsgType != event.MsgVideo || !c.Info.MauGIF {
				t.Errorf("%+v", c)
			}
		}},
		{"a voice message", parts.Content{Kind: "voice", Data: has.voice, Seconds: 2, Waveform: waveform}, has.voice, "m.room.message", func(t *testing.T, c *event.MessageEventContent) {
			if c.MsgType != event.MsgAudio || c.MSC3245Voice == nil || c.MSC1767Audio == nil || len(c.MSC1767Audio.Waveform) != 64 || c.Info.Duration < 1900 || c.Info.Duration > 2100 {
				t.Errorf("%+v %+v", c, c.Info)
			}
		}},
		{"an audio file", parts.Content{Kind: "audio", Data: has.voice, Mimetype: "audio/ogg", Seconds: 2}, has.voice, "m.room.message", func(t *testing.T, c *event.MessageEventContent) {
			if c.MsgType != event.MsgAudio || c.MSC3245Voice != nil {
				t.Errorf("%+v", c)
			}
		}},
		{"a document", parts.Content{Kind: "document", Data: text, Mimetype: "text/plain", FileName: "words.txt", Caption: "read this"}, text, "m.room.message", func(t *testing.T, c *event.MessageEventContent) {
			if c.MsgType != event.MsgFile || c.FileName != "words.txt" || c.Body != "read this" || c.Info.Size != len(text) || c.Info.MimeType != "text/plain" {
				t.Errorf("%+v %+v", c, c.Info)
			}
		}},
		{"a sticker", parts.Content{Kind: "sticker", Data: has.photo, Mimetype: "image/jpeg"}, has.photo, "m.sticker", func(t *testing.T, c *event.MessageEventContent) {
			if c.Info.Width != 24 {
				t.Errorf("%+v", c.Info)
			}
		}},
	} {
		s.part(c.name, func(s *scene) {
			before := s.lastIn(room)
			s.phoneSends(ben, c.send)
			e := s.roomShows(room, c.name, func(e *parts.Event) bool { return e.Type == c.event && !before[e.ID] && !s.bots(e) })
			content := shown(s.t, e.Content)
			s.hasFile(content, c.file)
			c.check(s.t, content)
		})
	}
}

// lastIn are the ids of all events of a room so far.
func (s *scene) lastIn(room string) map[string]bool {
	s.t.Helper()
	seen := map[string]bool{}
	for _, e := range s.person.Seen(func(e *parts.Event) bool { return e.RoomID == room }) {
		seen[e.ID] = true
	}
	return seen
}

// bots says whether an event is of alice or the bot.
func (s *scene) bots(e *parts.Event) bool {
	return e.Sender == s.person.UserID || strings.HasPrefix(e.Sender, "@posternbot")
}

func TestFilesInAnEncryptedRoomAreEncryptedForItsMembers(t *testing.T) {
	t.Parallel()
	s := open(t, setting{encrypted: true})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.toMatrix(room, ben, "hello")
	has := makeSamples(t)
	s.phoneSends(ben, parts.Content{Kind: "image", Data: has.photo, Caption: "look"})
	image := shown(t, s.roomShows(room, "the image", func(e *parts.Event) bool { return e.Message().MsgType == "m.image" }).Content)
	if image.File == nil || image.URL != "" {
		t.Fatalf("not encrypted: %+v", image)
	}
	s.hasFile(image, has.photo)
	s.phoneSends(ben, parts.Content{Kind: "voice", Data: has.voice, Seconds: 2})
	voice := shown(t, s.roomShows(room, "the voice message", func(e *parts.Event) bool { return e.Message().MsgType == "m.audio" }).Content)
	if voice.File == nil || voice.MSC3245Voice == nil {
		t.Fatalf("not encrypted, or no voice message: %+v", voice)
	}
	s.hasFile(voice, has.voice)
	s.phoneSends(ben, parts.Content{Kind: "video", Data: has.video, Mimetype: "video/mp4"})
	video := shown(t, s.roomShows(room, "the video", func(e *parts.Event) bool { return e.Message().MsgType == "m.video" }).Content)
	if video.Info.ThumbnailURL != "" || video.Info.ThumbnailFile == nil {
		t.Errorf("the video's picture is not encrypted: %+v", video.Info)
	}
	s.hasFile(video, has.video)
}

func TestAFileThatCannotBeFetchedIsNamedAndCanBeAskedForAgain(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.toMatrix(room, ben, "hello")
	fault := must(s.Gatekeeper.AddFault(s.ctx, parts.Fault{Kind: "media_404", Count: 1000}))(t)
	picture := photo(t)
	s.phoneSends(ben, parts.Content{Kind: "image", Data: picture, Caption: "look"})
	s.toMatrix(room, ben, "the text behind it")
	placeholder := s.roomShows(room, "a placeholder", func(e *parts.Event) bool {
		m := e.Message()
		return m.MsgType == "m.notice" && strings.Contains(m.Body, "an image") && strings.Contains(m.Body, "look")
	})
	s.ok(s.Gatekeeper.RemoveFault(s.ctx, fault))
	s.reply(room, placeholder.ID, "!postern retry-media")
	edit := s.roomShows(room, "the image in the placeholder's place", func(e *parts.Event) bool {
		r := e.Relation()
		return r.Type == "m.replace" && r.Event == placeholder.ID
	})
	content := shown(t, edit.Content).NewContent
	if content == nil || content.MsgType != event.MsgImage || content.Body != "look" {
		t.Fatalf("in the placeholder's place: %s", edit.Content)
	}
	s.hasFile(content, picture)
}
