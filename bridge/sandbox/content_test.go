package sandbox

import (
	"bytes"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/media"
)

// hash32 is 32 bytes that are no hash of anything.
var hash32 = make([]byte, 32)

// picture is an image that is nowhere.
func picture(mimetype string) *waE2E.ImageMessage {
	return &waE2E.ImageMessage{
		Mimetype: &mimetype, Caption: proto.String("look"), FileSHA256: hash32, FileEncSHA256: hash32, MediaKey: hash32,
		FileLength: proto.Uint64(5), DirectPath: proto.String("/interop/whatsapp/download/1/x/"),
	}
}

func TestPhonesTakeWhatTheProfileAllowsAndNackTheRest(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.session(to)
	hers := l.say(ada, matilda, "hers")
	p.open(p.want("message", tagIs("message")))
	context := func() *waE2E.ContextInfo {
		return &waE2E.ContextInfo{StanzaID: &hers, Participant: proto.String(to.String()), QuotedMessage: &waE2E.Message{Conversation: proto.String("hers")}}
	}
	key := &waCommon.MessageKey{ID: &hers, FromMe: proto.Bool(false), RemoteJID: proto.String("anything")}
	voice := &waE2E.AudioMessage{Mimetype: proto.String("audio/ogg; codecs=opus"), PTT: proto.Bool(true), Seconds: proto.Uint32(3),
		FileSHA256: hash32, FileEncSHA256: hash32, MediaKey: hash32, DirectPath: proto.String("/x")}
	song := proto.Clone(voice).(*waE2E.AudioMessage)
	song.PTT, song.Mimetype = nil, proto.String("audio/mpeg")
	silent := proto.Clone(voice).(*waE2E.AudioMessage)
	silent.Mimetype = proto.String("audio/wav")
	gif := &waE2E.VideoMessage{Mimetype: proto.String("video/mp4"), GifPlayback: proto.Bool(true),
		FileSHA256: hash32, FileEncSHA256: hash32, MediaKey: hash32, DirectPath: proto.String("/x")}
	doc := &waE2E.DocumentMessage{Mimetype: proto.String("application/pdf"), FileName: proto.String("a.pdf"),
		FileSHA256: hash32, FileEncSHA256: hash32, MediaKey: hash32, DirectPath: proto.String("/x")}
	noKey, noPath := picture("image/png"), picture("image/png")
	noKey.MediaKey, noPath.DirectPath = hash32[:31], nil
	forwarded := context()
	forwarded.IsForwarded = proto.Bool(true)
	unknown := &waE2E.Message{Conversation: proto.String("x")}
	unknown.ProtoReflect().SetUnknown([]byte{0xfa, 0xff, 0x03, 0x01, 'x'})

	for _, c := range []struct {
		name, typ, media string
		msg              *waE2E.Message
		refused          string // "" is taken
	}{
		{"text", "text", "", &waE2E.Message{Conversation: proto.String("x")}, ""},
		{"an empty text", "text", "", &waE2E.Message{Conversation: proto.String("")}, ""},
		{"a reply", "text", "", &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("re"), ContextInfo: context()}}, ""},
		{"a reaction", "reaction", "", &waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{Key: key, Text: proto.String("x")}}, ""},
		{"a reaction taken back", "reaction", "", &waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{Key: key}}, ""},
		{"an image", "media", "image", &waE2E.Message{ImageMessage: picture("image/jpeg")}, ""},
		{"a voice message", "media", "ptt", &waE2E.Message{AudioMessage: voice}, ""},
		{"a song", "media", "audio", &waE2E.Message{AudioMessage: song}, ""},
		{"a gif", "media", "gif", &waE2E.Message{VideoMessage: gif}, ""},
		{"a document", "media", "document", &waE2E.Message{DocumentMessage: doc}, ""},

		{"nothing", "text", "", &waE2E.Message{}, "nothing in it"},
		{"two things", "text", "", &waE2E.Message{Conversation: proto.String("x"), ImageMessage: picture("image/png")}, "more than one"},
		{"a message secret beside text", "text", "", &waE2E.Message{Conversation: proto.String("x"), MessageContextInfo: &waE2E.MessageContextInfo{}}, "more than one"},
		{"unknown fields", "text", "", unknown, "fields nobody knows"},
		{"extended text that is no reply", "text", "", &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("x")}}, "reply"},
		{"a reply with a preview", "text", "", &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("x"), Title: proto.String("t"), ContextInfo: context()}}, "reply"},
		{"a forwarded reply", "text", "", &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("x"), ContextInfo: forwarded}}, "contextInfo"},
		{"a reply to no message", "text", "", &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("x"), ContextInfo: &waE2E.ContextInfo{}}}, "without a target"},
		{"a reaction to no message", "reaction", "", &waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{Text: proto.String("x")}}, "without a target"},
		{"an edit", "text", "", &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_MESSAGE_EDIT.Enum()}}, "protocolMessage"},
		{"a sticker", "media", "sticker", &waE2E.Message{StickerMessage: &waE2E.StickerMessage{}}, "stickerMessage"},
		{"a location", "text", "", &waE2E.Message{LocationMessage: &waE2E.LocationMessage{}}, "locationMessage"},
		{"a webp image", "media", "image", &waE2E.Message{ImageMessage: picture("image/webp")}, "mimetype"},
		{"a wav file as audio", "media", "ptt", &waE2E.Message{AudioMessage: silent}, "mimetype"},
		{"a short media key", "media", "image", &waE2E.Message{ImageMessage: noKey}, "32 bytes"},
		{"media without a path", "media", "image", &waE2E.Message{ImageMessage: noPath}, "directPath"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := p.sealMessage(to, c.msg, c.typ, c.media)
			p.send(m)
			if c.refused == "" {
				p.want("delivery", isReceipt(m.ID, ""))
				e := l.event(ada, 0, c.name, func(e eventBody) bool { return e.ID == m.ID })
				if e.Kind != "message" || e.Type != c.typ {
					t.Errorf("%+v", e)
				}
				return
			}
			p.want("ack", isAck("message", m.ID))
			if a := p.want("nack", isAck("message", m.ID)); a.Attr("error") != "491" {
				t.Errorf("%+v", a)
			}
			e := l.event(ada, 0, c.name, func(e eventBody) bool { return e.ID == m.ID })
			if e.Kind != "undecryptable" || !strings.Contains(e.Reason, c.refused) {
				t.Errorf("%+v", e)
			}
		})
	}
	l.complained("content a phone does not take")
}

func TestRepliesReactionsAndMediaAreShownWithWhatTheyBelongTo(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.session(to)
	hers := l.say(ada, matilda, "hers")
	p.open(p.want("message", tagIs("message")))
	mine := p.seal(to, "mine")
	p.send(mine)
	show := func(m *waE2E.Message, typ, media string) eventBody {
		s := p.sealMessage(to, m, typ, media)
		p.send(s)
		return l.event(ada, 0, "a message", func(e eventBody) bool { return e.ID == s.ID })
	}
	e := show(&waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("re"), ContextInfo: &waE2E.ContextInfo{
		StanzaID: &mine.ID, Participant: proto.String(p.jid.String()), QuotedMessage: &waE2E.Message{Conversation: proto.String("mine")},
	}}}, "text", "")
	if e.Text != "re" || e.ReplyTo != mine.ID || e.Quoted != "mine" {
		t.Errorf("%+v", e)
	}
	e = show(&waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{Key: &waCommon.MessageKey{ID: &hers, FromMe: proto.Bool(false)}, Text: proto.String("♥")}}, "reaction", "")
	if e.Reaction == nil || e.Reaction.Target != hers || e.Reaction.FromMe || e.Reaction.Emoji != "♥" {
		t.Errorf("%+v", e)
	}
	photo := l.store([]byte("photo"), media.Image).picture()
	photo.Caption, photo.ContextInfo = proto.String("look"), &waE2E.ContextInfo{
		StanzaID: &hers, Participant: proto.String(to.String()), QuotedMessage: &waE2E.Message{Conversation: proto.String("hers")},
	}
	e = show(&waE2E.Message{ImageMessage: photo}, "media", "image")
	if e.Text != "look" || e.Media.Kind != "image" || e.Media.Error != "" || e.ReplyTo != hers || e.Quoted != "hers" {
		t.Errorf("%+v", e)
	}
	l.noComplaints()
	show(&waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{Key: &waCommon.MessageKey{ID: &hers, FromMe: proto.Bool(true)}, Text: proto.String("♥")}}, "reaction", "")
	l.complained("a reaction to a message that is not there")
	show(&waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("re"), ContextInfo: &waE2E.ContextInfo{StanzaID: &hers, Participant: proto.String("x")}}}, "text", "")
	l.complained("neither of the two")
}

func TestPaddingMustBePadding(t *testing.T) {
	for _, c := range []struct {
		in   []byte
		n    int
		good bool
	}{
		{nil, 0, false}, {[]byte{0}, 0, false}, {[]byte{1}, 1, true}, {[]byte{2}, 0, false}, {[]byte{9, 9, 2}, 2, true},
		{append(make([]byte, 20), 16), 16, true}, {append(make([]byte, 20), 17), 0, false},
	} {
		if _, n, ok := unpad(c.in); ok != c.good || n != c.n {
			t.Errorf("%v: %d %t", c.in, n, ok)
		}
	}
	seen := map[int]bool{}
	for range 2000 {
		plain, n, ok := unpad(pad([]byte("x")))
		if !ok || string(plain) != "x" {
			t.Fatal("own padding cannot be taken off")
		}
		seen[n] = true
	}
	if len(seen) != 16 {
		t.Errorf("%d lengths of padding, want 1 to 16", len(seen))
	}
	l := newLab(t)
	p, to := l.connected()
	p.session(to)
	m := p.sealBytes(to, []byte{10, 1, 'x', 0}, "text", "")
	p.send(m)
	p.want("ack", isAck("message", m.ID))
	if a := p.want("nack", isAck("message", m.ID)); a.Attr("error") != "491" {
		t.Fatalf("%+v", a)
	}
}

func TestTextBeyondTheLimitIsCutAndComplainedAbout(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.session(to)
	long := p.seal(to, strings.Repeat("😀", maxTextUnits/2))
	p.send(long)
	e := l.event(ada, 0, "text at the limit", kindIs("message"))
	if len([]rune(e.Text)) != maxTextUnits/2 {
		t.Fatalf("%d characters", len([]rune(e.Text)))
	}
	l.noComplaints()
	m := p.seal(to, strings.Repeat("x", maxTextUnits+1))
	p.send(m)
	e = l.event(ada, 0, "text over the limit", func(e eventBody) bool { return e.ID == m.ID })
	if len(e.Text) != maxTextUnits {
		t.Fatalf("%d characters", len(e.Text))
	}
	l.complained("65,536")
}

func TestAWaveformIsSixtyFourValuesUpToAHundred(t *testing.T) {
	flat := bytes.Repeat([]byte{100}, 64)
	loud := append(bytes.Clone(flat[1:]), 101)
	for _, c := range []struct {
		name string
		wave []byte
		ptt  bool
		odd  string // "" is none
	}{
		{"sixty-four", flat, true, ""}, {"none", nil, true, ""}, {"sixty-three", flat[1:], true, "64 values"}, {"one too high", loud, true, "64 values"},
		{"empty", []byte{}, true, "64 values"}, {"on a song", flat, false, "no voice message"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, quickRules(nil))
			p := l.ready()
			s := l.store([]byte("x"), media.Audio)
			g := s.picture()
			m := &waE2E.AudioMessage{
				Mimetype: proto.String("audio/ogg; codecs=opus"), PTT: &c.ptt, Waveform: c.wave, FileSHA256: g.FileSHA256, FileEncSHA256: g.FileEncSHA256,
				MediaKey: g.MediaKey, FileLength: g.FileLength, DirectPath: g.DirectPath, MediaKeyTimestamp: g.MediaKeyTimestamp,
			}
			mediaType := "ptt"
			if !c.ptt {
				m.Mimetype, mediaType = proto.String("audio/mpeg"), "audio"
			}
			sent := p.sealMessage(p.find(ada), &waE2E.Message{AudioMessage: m}, "media", mediaType)
			p.send(sent)
			if e := l.event(ada, 0, "the recording", messageIs(sent.ID)); e.Media.Error != "" {
				t.Error(e.Media.Error)
			}
			if c.odd == "" {
				l.noComplaints()
			} else {
				l.complained(c.odd)
			}
		})
	}
}
