package convert

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"maunium.net/go/mautrix/event"
)

func aKey(fromMe bool) *waCommon.MessageKey {
	return &waCommon.MessageKey{RemoteJID: proto.String("1-2@interop"), FromMe: proto.Bool(fromMe), ID: proto.String("3EB0AA"), Participant: proto.String("1@lid")}
}

func changes(kind waE2E.ProtocolMessage_Type, p *waE2E.ProtocolMessage) *waE2E.Message {
	p.Type = kind.Enum()
	return &waE2E.Message{ProtocolMessage: p}
}

func TestReactionsAreRead(t *testing.T) {
	for name, tc := range map[string]struct {
		text *string
		want string
	}{
		"set": {proto.String("❤"), "❤\ufe0f"}, "taken back": {proto.String(""), ""}, "taken back without text": {nil, ""}, "a word": {proto.String("ok"), "ok"},
	} {
		in := Read(&waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{Key: aKey(false), Text: tc.text}}, Options{})
		if in.Reaction == nil || in.Parts != nil || in.Reaction.Emoji != tc.want || in.Reaction.Key != (Key{ID: "3EB0AA", Participant: "1@lid"}) {
			t.Errorf("%s: %+v", name, in)
		}
	}
	for name, m := range map[string]*waE2E.ReactionMessage{
		"to nothing": {Text: proto.String("👍")}, "endless": {Key: aKey(true), Text: proto.String(strings.Repeat("x", 1<<20))},
		"to an endless id": {Key: &waCommon.MessageKey{ID: proto.String(strings.Repeat("x", 1<<20))}}, "to an id with a line break": {Key: &waCommon.MessageKey{ID: proto.String("a\nb")}},
	} {
		in := Read(&waE2E.Message{ReactionMessage: m}, Options{})
		if in.Reaction != nil || len(in.Parts) != 1 || in.Parts[0].Content.MsgType != event.MsgNotice {
			t.Errorf("%s: %+v", name, in)
		}
	}
}

func TestEditsAreRead(t *testing.T) {
	text := func(fromMe bool) *waE2E.Message {
		return changes(waE2E.ProtocolMessage_MESSAGE_EDIT, &waE2E.ProtocolMessage{Key: aKey(fromMe), EditedMessage: textMessage("*new*")})
	}
	for name, msg := range map[string]*waE2E.Message{
		"bare": text(true), "in its wrapper": wrap("editedMessage", text(true)), "in two": wrap("ephemeralMessage", wrap("editedMessage", text(true))),
	} {
		in := Read(msg, Options{})
		if in.Edit == nil || in.Parts != nil || in.Edit.Key != (Key{ID: "3EB0AA", FromMe: true, Participant: "1@lid"}) || len(in.Edit.Parts) != 1 ||
			in.Edit.Parts[0].Content.FormattedBody != "<strong>new</strong>" || in.Edit.Parts[0].Content.MsgType != event.MsgText {
			t.Errorf("%s: %+v", name, in)
		}
	}
	image := with(anImage(), func(m *waE2E.ImageMessage) { m.Caption = proto.String("new") })
	in := Read(changes(waE2E.ProtocolMessage_MESSAGE_EDIT, &waE2E.ProtocolMessage{Key: aKey(true), EditedMessage: &waE2E.Message{ImageMessage: image}}), Options{})
	if in.Edit == nil || in.Media != nil || in.Edit.Media == nil || in.Edit.Media.Content.Body != "new" || len(in.Edit.Parts) != 1 || in.Edit.Parts[0].Content.Body != "new" {
		t.Errorf("a caption: %+v", in)
	}
	for name, tc := range map[string]struct {
		msg  *waE2E.Message
		want []string
	}{
		"of another's message": {text(false), []string{editedTo, "*new*"}},
		"of no message": {changes(waE2E.ProtocolMessage_MESSAGE_EDIT, &waE2E.ProtocolMessage{EditedMessage: textMessage("new")}),
			[]string{editedTo, "new"}},
		"of another's caption": {changes(waE2E.ProtocolMessage_MESSAGE_EDIT, &waE2E.ProtocolMessage{EditedMessage: &waE2E.Message{ImageMessage: image}}),
			[]string{editedTo, "new", "The message has an image."}},
		"to nothing": {changes(waE2E.ProtocolMessage_MESSAGE_EDIT, &waE2E.ProtocolMessage{Key: aKey(true)}),
			[]string{"Edited an earlier message, which this bridge cannot show."}},
		"to a reaction": {changes(waE2E.ProtocolMessage_MESSAGE_EDIT, &waE2E.ProtocolMessage{Key: aKey(true),
			EditedMessage: &waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{Key: aKey(true)}}}),
			[]string{"Edited an earlier message, which this bridge cannot show."}},
		"to a deletion": {changes(waE2E.ProtocolMessage_MESSAGE_EDIT, &waE2E.ProtocolMessage{Key: aKey(true),
			EditedMessage: changes(waE2E.ProtocolMessage_REVOKE, &waE2E.ProtocolMessage{Key: aKey(true)})}),
			[]string{"Edited an earlier message, which this bridge cannot show."}},
	} {
		in := Read(tc.msg, Options{})
		var got []string
		for _, c := range contents(in) {
			got = append(got, c.Body)
		}
		if in.Edit != nil || in.Revoke != nil || in.Media != nil || fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("%s: %q %+v", name, got, in)
		}
	}
	if in := Read(changes(waE2E.ProtocolMessage_MESSAGE_EDIT, &waE2E.ProtocolMessage{Key: aKey(true), EditedMessage: textMessage(" ")}), Options{}); in.Reason != NoText {
		t.Errorf("to spaces: %+v", in)
	}
}

func TestDeletionsAreReadAndNotMadeUp(t *testing.T) {
	in := Read(changes(waE2E.ProtocolMessage_REVOKE, &waE2E.ProtocolMessage{Key: aKey(true)}), Options{})
	if in.Revoke == nil || *in.Revoke != (Key{ID: "3EB0AA", FromMe: true, Participant: "1@lid"}) || in.Parts != nil {
		t.Errorf("got %+v", in)
	}
	for name, msg := range map[string]*waE2E.Message{
		"of another's message": changes(waE2E.ProtocolMessage_REVOKE, &waE2E.ProtocolMessage{Key: aKey(false)}),
		"of no message":        changes(waE2E.ProtocolMessage_REVOKE, &waE2E.ProtocolMessage{}),
		"without a type":       {ProtocolMessage: &waE2E.ProtocolMessage{Key: aKey(true)}},
		"of an unknown type":   changes(4711, &waE2E.ProtocolMessage{Key: aKey(true)}),
	} {
		in := Read(msg, Options{})
		if in.Revoke != nil || len(in.Parts) != 1 || in.Parts[0].Content.MsgType != event.MsgNotice {
			t.Errorf("%s: %+v", name, in)
		}
	}
}

func TestTimersAreReadAndBounded(t *testing.T) {
	for seconds, want := range map[uint32]time.Duration{0: 0, 86400: 24 * time.Hour, 7776000: 90 * 24 * time.Hour, math.MaxUint32: MaxTimer} {
		in := Read(changes(waE2E.ProtocolMessage_EPHEMERAL_SETTING, &waE2E.ProtocolMessage{EphemeralExpiration: proto.Uint32(seconds)}), Options{})
		if in.Timer == nil || in.Timer.After != want || in.Parts != nil {
			t.Errorf("%d: %+v", seconds, in)
		}
		text := Read(&waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
			Text: proto.String("a"), ContextInfo: &waE2E.ContextInfo{Expiration: proto.Uint32(seconds)}}}, Options{})
		if text.Expires != want || len(text.Parts) != 1 {
			t.Errorf("%d: %+v", seconds, text)
		}
	}
}

func TestWhatIsAnsweredIsReadFromEveryKind(t *testing.T) {
	quoted := &waE2E.ContextInfo{
		StanzaID: proto.String("3EB0AA"), Participant: proto.String("1@lid"), QuotedMessage: textMessage("old"), IsForwarded: proto.Bool(true),
	}
	tried := 0
	fields := (&waE2E.Message{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if field.Message() == nil || payloads[field.Name()].silent != Shown || field.Name() == "protocolMessage" {
			continue
		}
		place := field.Message().Fields().ByName("contextInfo")
		if place == nil {
			continue
		}
		tried++
		msg := &waE2E.Message{}
		inner := msg.ProtoReflect().NewField(field)
		inner.Message().Set(place, protoreflect.ValueOfMessage(quoted.ProtoReflect()))
		if text := field.Message().Fields().ByName("text"); text != nil {
			inner.Message().Set(text, protoreflect.ValueOfString("new"))
		}
		msg.ProtoReflect().Set(field, inner)
		in := Read(msg, Options{})
		if in.ReplyTo == nil || *in.ReplyTo != (ReplyTo{ID: "3EB0AA", Participant: "1@lid", Quote: "old"}) || !in.Forwarded {
			t.Errorf("%s: %+v", field.Name(), in)
		}
	}
	if tried < 15 {
		t.Errorf("only %d kinds were tried", tried)
	}
	if in := Read(textMessage("a"), Options{}); in.ReplyTo != nil || in.Forwarded {
		t.Errorf("plain text: %+v", in)
	}
	hostile := &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("a"), ContextInfo: &waE2E.ContextInfo{
		StanzaID: proto.String(strings.Repeat("x", 1<<20)), Participant: proto.String("a\nb")}}}
	if in := Read(hostile, Options{}); in.ReplyTo != nil {
		t.Errorf("an endless id: %+v", in.ReplyTo)
	}
}

func TestAQuoteSaysWhatTheMessageWas(t *testing.T) {
	deep := textMessage("x")
	for range MaxWrappers + 1 {
		deep = wrap("ephemeralMessage", deep)
	}
	for _, tc := range []struct {
		msg  *waE2E.Message
		want string
	}{
		{textMessage("*old*"), "*old*"},
		{&waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("old")}}, "old"},
		{&waE2E.Message{ImageMessage: &waE2E.ImageMessage{}}, "📷 Photo"},
		{&waE2E.Message{ImageMessage: &waE2E.ImageMessage{Caption: proto.String("c")}}, "📷 c"},
		{&waE2E.Message{VideoMessage: &waE2E.VideoMessage{}}, "🎥 Video"},
		{&waE2E.Message{VideoMessage: &waE2E.VideoMessage{GifPlayback: proto.Bool(true)}}, "🎞️ GIF"},
		{&waE2E.Message{PtvMessage: &waE2E.VideoMessage{}}, "🎥 Video note"},
		{&waE2E.Message{AudioMessage: &waE2E.AudioMessage{PTT: proto.Bool(true)}}, "🎤 Voice message"},
		{&waE2E.Message{AudioMessage: &waE2E.AudioMessage{}}, "🎵 Audio"},
		{&waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{FileName: proto.String("a.pdf")}}, "📄 a.pdf"},
		{&waE2E.Message{StickerMessage: &waE2E.StickerMessage{}}, "💟 Sticker"},
		{&waE2E.Message{LocationMessage: &waE2E.LocationMessage{Name: proto.String("Here")}}, "📍 Here"},
		{&waE2E.Message{LiveLocationMessage: &waE2E.LiveLocationMessage{}}, "📍 Live location"},
		{&waE2E.Message{ContactMessage: &waE2E.ContactMessage{DisplayName: proto.String("Ben")}}, "👤 Ben"},
		{&waE2E.Message{EventMessage: &waE2E.EventMessage{Name: proto.String("Party")}}, "[invitation to an event]\nParty"},
		{&waE2E.Message{}, ""}, {deep, ""}, {nil, ""},
	} {
		if got := quoteOf(tc.msg, Options{}); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.msg, got, tc.want)
		}
	}
}

func TestAQuoteOfAnUnknownMessageIsShown(t *testing.T) {
	quoting := func(m *waE2E.Message) *waE2E.Message {
		c := &waE2E.ContextInfo{StanzaID: proto.String("A"), QuotedMessage: textMessage("old <b>\n> older\nmore")}
		switch {
		case m.ExtendedTextMessage != nil:
			m.ExtendedTextMessage.ContextInfo = c
		case m.ImageMessage != nil:
			m.ImageMessage.ContextInfo = c
		case m.AudioMessage != nil:
			m.AudioMessage.ContextInfo = c
		case m.LocationMessage != nil:
			m.LocationMessage.ContextInfo = c
		}
		return m
	}
	const body, rendered = "> Anna: old <b>\n> more", "<blockquote>Anna: old &lt;b&gt;<br>more</blockquote>"
	check := func(name string, c *event.MessageEventContent, wantBody, wantHTML string) {
		t.Helper()
		if c.Body != wantBody || c.FormattedBody != wantHTML || c.Format != event.FormatHTML {
			t.Errorf("%s: %q %q", name, c.Body, c.FormattedBody)
		}
	}
	read := func(m *waE2E.Message) Incoming {
		in := Read(quoting(m), Options{})
		in.ShowQuote("Anna", Options{})
		return in
	}
	text := read(&waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("a & b\nc")}})
	check("text", text.Parts[0].Content, body+"\n\na & b\nc", rendered+"a &amp; b<br>c")
	marked := read(&waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("*a*")}})
	check("marked text", marked.Parts[0].Content, body+"\n\n*a*", rendered+"<strong>a</strong>")
	image := read(&waE2E.Message{ImageMessage: anImage()})
	check("an image", image.Media.Content, body, rendered)
	captioned := read(&waE2E.Message{ImageMessage: with(anImage(), func(m *waE2E.ImageMessage) { m.Caption = proto.String("c") })})
	check("a caption", captioned.Media.Content, body+"\n\nc", rendered+"c")
	for name, m := range map[string]*waE2E.Message{
		"audio":    {AudioMessage: aSound()},
		"a place":  {LocationMessage: &waE2E.LocationMessage{DegreesLatitude: proto.Float64(1), DegreesLongitude: proto.Float64(2)}},
		"too long": {ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String(strings.Repeat("word ", 6000))}},
	} {
		in := read(m)
		check(name, in.Parts[0].Content, body, rendered)
		for _, part := range in.Parts {
			checkSize(t, part.Content, part.Extra, DefaultMaxEventBytes)
		}
	}
	plain := Read(textMessage("a"), Options{})
	plain.ShowQuote("Anna", Options{})
	if len(plain.Parts) != 1 || plain.Parts[0].Content.Body != "a" {
		t.Errorf("an answer to nothing: %+v", plain)
	}
}

func TestMentionsAreNames(t *testing.T) {
	names := map[string]string{"491511234567@s.whatsapp.net": "Anna\nB", "77777777@lid": "Ben"}
	read := func(text string, mentioned ...string) string {
		in := Read(&waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
			Text: &text, ContextInfo: &waE2E.ContextInfo{MentionedJID: mentioned}}}, Options{Name: func(a string) string { return names[a] }})
		return in.Parts[0].Content.Body
	}
	const anna, ben = "491511234567@s.whatsapp.net", "77777777@lid"
	for _, tc := range []struct{ text, want string }{
		{"hi @491511234567!", "hi @Anna B!"}, {"@77777777 and @491511234567", "@Ben and @Anna B"}, {"@777777778 @77777777a @77777777", "@777777778 @77777777a @Ben"},
		{"nobody", "nobody"}, {"@5555555", "@5555555"},
	} {
		if got := read(tc.text, anna, ben, "5555555@lid", "1@lid", "\n@lid"); got != tc.want {
			t.Errorf("%q: %q, want %q", tc.text, got, tc.want)
		}
	}
	if got := read("@77777777"); got != "@77777777" {
		t.Errorf("not mentioned: %q", got)
	}
	flood := read(strings.Repeat("@77777777 ", 5000), ben)
	if n := strings.Count(flood, "@Ben"); n > maxReplacements {
		t.Errorf("%d names", n)
	}
	image := Read(&waE2E.Message{ImageMessage: with(anImage(), func(m *waE2E.ImageMessage) {
		m.Caption, m.ContextInfo = proto.String("@77777777"), &waE2E.ContextInfo{MentionedJID: []string{ben}}
	})}, Options{Name: func(a string) string { return names[a] }})
	if image.Media.Content.Body != "@Ben" {
		t.Errorf("a caption: %q", image.Media.Content.Body)
	}
}
