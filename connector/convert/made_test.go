package convert

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"postern/connector/media"
	"postern/connector/profile"
)

// allowedFields is the whole of what phones take from partners, by the numbers of the fields.
var allowedFields = map[protoreflect.Name][]protoreflect.FieldNumber{
	"imageMessage":    {2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 16, 21, 22, 23, 24, 26, 27, 28},
	"documentMessage": {2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20},
	"audioMessage":    {2, 3, 4, 5, 6, 7, 8, 9, 10, 18, 19, 20},
	"videoMessage":    {2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 16, 18, 19, 21, 22, 23},
	"reactionMessage": {1, 2, 3, 4},
}

func someMade(role Role) Made {
	m := Made{
		Role: role, DirectPath: "/interop/whatsapp/download/i/r/", Mimetype: "x/y", Name: "a/b.pdf", Caption: "*c*", Width: 640, Height: 480,
		Duration: 1600 * time.Millisecond, Waveform: bytes.Repeat([]byte{200}, 300), Thumbnail: append([]byte{0xff, 0xd8, 0xff}, make([]byte, 100)...),
		KeyTime: time.Unix(1700000000, 0), PageCount: 7,
		Media: media.Descriptor{Kind: role.MediaKind(), Key: [32]byte{1}, SHA256: [32]byte{2}, EncSHA256: [32]byte{3}, Length: 99, EncLength: 122},
	}
	return m
}

func TestMediaMessagesHaveTheFieldsThatPhonesTakeAndNoOthers(t *testing.T) {
	for role, want := range map[Role]struct {
		field     protoreflect.Name
		mediaType string
		set       []protoreflect.FieldNumber
	}{
		RoleImage:    {"imageMessage", "image", []protoreflect.FieldNumber{2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 16}},
		RoleSticker:  {"imageMessage", "image", []protoreflect.FieldNumber{2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 16}},
		RoleVideo:    {"videoMessage", "video", []protoreflect.FieldNumber{2, 3, 4, 5, 6, 7, 9, 10, 11, 13, 14, 16}},
		RoleNote:     {"videoMessage", "video", []protoreflect.FieldNumber{2, 3, 4, 5, 6, 7, 9, 10, 11, 13, 14, 16}},
		RoleGIF:      {"videoMessage", "gif", []protoreflect.FieldNumber{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 16}},
		RoleVoice:    {"audioMessage", "ptt", []protoreflect.FieldNumber{2, 3, 4, 5, 6, 7, 8, 9, 10, 19}},
		RoleAudio:    {"audioMessage", "audio", []protoreflect.FieldNumber{2, 3, 4, 5, 7, 8, 9, 10}},
		RoleDocument: {"documentMessage", "document", []protoreflect.FieldNumber{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 20}},
	} {
		msg, mediaType := MediaMessage(someMade(role))
		if mediaType != want.mediaType {
			t.Errorf("%s: mediatype %q", role, mediaType)
		}
		// What is on the wire counts.
		encoded, err := proto.Marshal(msg)
		if err != nil {
			t.Fatal(err)
		}
		read := &waE2E.Message{}
		if err := proto.Unmarshal(encoded, read); err != nil {
			t.Fatal(err)
		}
		read.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			if f.Name() != want.field {
				t.Errorf("%s: has %s", role, f.Name())
				return true
			}
			var set []protoreflect.FieldNumber
			v.Message().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
				set = append(set, f.Number())
				if !slices.Contains(allowedFields[want.field], f.Number()) {
					t.Errorf("%s: field %s is not on the list", role, f.Name())
				}
				if f.Kind() == protoreflect.StringKind && strings.Contains(v.String(), "http") {
					t.Errorf("%s: field %s has an address", role, f.Name())
				}
				return true
			})
			slices.Sort(set)
			if !slices.Equal(set, want.set) {
				t.Errorf("%s: fields %v, want %v", role, set, want.set)
			}
			return true
		})
		if got := len(read.ProtoReflect().GetUnknown()); got > 0 {
			t.Errorf("%s: %d bytes of unknown fields", role, got)
		}
	}
}

func TestMediaMessagesSayWhatIsKnown(t *testing.T) {
	doc, _ := MediaMessage(someMade(RoleDocument))
	d := doc.GetDocumentMessage()
	if d.GetTitle() != "a_b.pdf" || d.GetFileName() != "a_b.pdf" || d.GetCaption() != "*c*" || d.GetPageCount() != 7 ||
		d.GetFileLength() != 99 || d.GetMediaKeyTimestamp() != 1700000000 || d.GetDirectPath() != "/interop/whatsapp/download/i/r/" ||
		d.GetMediaKey()[0] != 1 || d.GetFileSHA256()[0] != 2 || d.GetFileEncSHA256()[0] != 3 {
		t.Errorf("document: %+v", d)
	}
	voice, _ := MediaMessage(someMade(RoleVoice))
	v := voice.GetAudioMessage()
	if !v.GetPTT() || v.GetSeconds() != 2 || !bytes.Equal(v.GetWaveform(), bytes.Repeat([]byte{100}, 64)) {
		t.Errorf("voice: %+v", v)
	}
	short := someMade(RoleVideo)
	short.Duration = time.Millisecond
	video, _ := MediaMessage(short)
	if video.GetVideoMessage().GetSeconds() != 1 || video.GetVideoMessage().GetWidth() != 640 {
		t.Errorf("video: %+v", video)
	}
	bare, _ := MediaMessage(Made{Role: RoleDocument, Mimetype: "application/pdf"})
	if d := bare.GetDocumentMessage(); d.GetFileName() != "file.pdf" || d.Caption != nil || d.PageCount != nil || d.JPEGThumbnail != nil {
		t.Errorf("bare document: %+v", d)
	}
}

func TestWhatIsOutOfBoundsIsLeftOut(t *testing.T) {
	for _, role := range []Role{RoleImage, RoleVideo, RoleVoice, RoleDocument} {
		m := someMade(role)
		m.Width, m.Height, m.Duration, m.PageCount, m.Media.Length = -1, 1<<40, -time.Second, -5, -1
		m.Caption, m.Thumbnail = strings.Repeat("x ", 70000), []byte("<svg>")
		msg, _ := MediaMessage(m)
		if size := proto.Size(msg); size > 70000 {
			t.Errorf("%s: %d bytes", role, size)
		}
		if i := msg.GetImageMessage(); i != nil && (i.Width != nil || i.JPEGThumbnail != nil || units(i.GetCaption()) > DefaultMaxTextUnits || i.GetFileLength() != 0) {
			t.Errorf("image: %v %v", i.Width, i.JPEGThumbnail)
		}
		if a := msg.GetAudioMessage(); a != nil && a.Seconds != nil {
			t.Errorf("voice: %v", a.Seconds)
		}
	}
	large := someMade(RoleImage)
	large.Thumbnail = append([]byte{0xff, 0xd8, 0xff}, make([]byte, MaxThumbnail)...)
	if msg, _ := MediaMessage(large); msg.GetImageMessage().JPEGThumbnail != nil {
		t.Error("a thumbnail that is too large was sent")
	}
}

func TestTheBoundsAreThoseOfTheProfiles(t *testing.T) {
	for _, p := range profile.All() {
		if p.Media.WaveformSamples != WaveformSamples || p.Media.MaxThumbnail > MaxThumbnail || p.Message.MaxTextUnits > DefaultMaxTextUnits {
			t.Errorf("%s: %+v", p.Name, p.Media)
		}
		if p.Media.VoiceType != RoleVoice.known().mimetype {
			t.Errorf("%s: voice messages are %s", p.Name, p.Media.VoiceType)
		}
	}
}

func TestEveryRoleHasItsKindAndWords(t *testing.T) {
	for role, want := range map[Role]media.Kind{
		RoleImage: media.Image, RoleSticker: media.Image, RoleVideo: media.Video, RoleGIF: media.Video, RoleNote: media.Video,
		RoleVoice: media.Audio, RoleAudio: media.Audio, RoleDocument: media.Document, "strange": media.Document,
	} {
		if role.MediaKind() != want || role.MediaType() == "" || !strings.HasPrefix(role.Noun(), "a") {
			t.Errorf("%s: %v %q %q", role, role.MediaKind(), role.MediaType(), role.Noun())
		}
	}
}
