package convert

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"maunium.net/go/mautrix/event"
)

// seedPayloads are payloads of every kind, most of them with everything in them.
func seedPayloads() []*waE2E.Message {
	var all []*waE2E.Message
	fields := (&waE2E.Message{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if field := fields.Get(i); field.Kind() == protoreflect.MessageKind {
			msg := &waE2E.Message{}
			msg.ProtoReflect().Set(field, msg.ProtoReflect().NewField(field))
			all = append(all, msg)
		}
	}
	for number := range waE2E.ProtocolMessage_Type_name {
		all = append(all, &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
			Type: waE2E.ProtocolMessage_Type(number).Enum(), Key: aKey(true), EditedMessage: textMessage("*e*"), EphemeralExpiration: proto.Uint32(86400),
		}})
	}
	long := strings.Repeat("*word* @77777777 ", 300)
	deep := textMessage("deep")
	for range MaxWrappers + 2 {
		deep = wrap("ephemeralMessage", deep)
		all = append(all, deep)
	}
	quote := &waE2E.ContextInfo{
		StanzaID: proto.String("3EB0"), Participant: proto.String("1@lid"), QuotedMessage: &waE2E.Message{ImageMessage: &waE2E.ImageMessage{Caption: &long}},
		MentionedJID: []string{"77777777@lid"}, Expiration: proto.Uint32(1), IsForwarded: proto.Bool(true),
	}
	image := with(anImage(), func(m *waE2E.ImageMessage) { m.Caption, m.ContextInfo = &long, quote })
	gif := with(aVideo(), func(m *waE2E.VideoMessage) {
		m.GifPlayback, m.Caption, m.ContextInfo = proto.Bool(true), proto.String("c"), quote
	})
	voice := with(aSound(), func(m *waE2E.AudioMessage) { m.PTT, m.ContextInfo = proto.Bool(true), quote })
	drawn := with(aSticker(), func(m *waE2E.StickerMessage) {
		m.IsLottie, m.PngThumbnail = proto.Bool(true), []byte("\x89PNG\r\n\x1a\nx")
	})
	options := []*waE2E.PollCreationMessage_Option{{OptionName: proto.String("now")}, {}}
	poll := &waE2E.PollCreationMessage{Name: proto.String("When?"), Options: options, ContextInfo: quote}
	contact := &waE2E.ContactMessage{DisplayName: proto.String("Ben"), Vcard: proto.String(someCard), ContextInfo: quote}
	place := &waE2E.LocationMessage{
		Name: proto.String("Here"), Address: proto.String("S"), URL: proto.String("https://x.org"), Comment: proto.String("c"), ContextInfo: quote,
		DegreesLatitude: proto.Float64(52.5), DegreesLongitude: proto.Float64(-13), AccuracyInMeters: proto.Uint32(5),
	}
	for _, quoted := range []*waE2E.Message{
		textMessage("q"), {VideoMessage: gif}, {PtvMessage: aVideo()}, {AudioMessage: voice}, {DocumentMessage: aDocument()}, {StickerMessage: aSticker()},
		{LocationMessage: place}, {LiveLocationMessage: &waE2E.LiveLocationMessage{}}, {ContactMessage: contact}, {PollCreationMessageV3: poll},
		{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("> q\nr\n```c```\n" + long)}},
	} {
		all = append(all, &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("a"), ContextInfo: &waE2E.ContextInfo{QuotedMessage: quoted}}})
	}
	return append(all,
		&waE2E.Message{}, textMessage(long), textMessage(strings.Repeat("word ", 7000)),
		&waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("> q\n```c``` @77777777, @777777778"), ContextInfo: quote}},
		&waE2E.Message{ImageMessage: image}, &waE2E.Message{VideoMessage: gif}, &waE2E.Message{PtvMessage: aVideo()}, &waE2E.Message{AudioMessage: voice},
		&waE2E.Message{DocumentMessage: aDocument()}, &waE2E.Message{StickerMessage: aSticker()}, &waE2E.Message{StickerMessage: drawn},
		&waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{FileName: proto.String("a.pdf"), Caption: proto.String("c")}},
		&waE2E.Message{LocationMessage: place}, &waE2E.Message{ContactMessage: contact}, &waE2E.Message{PollCreationMessageV3: poll},
		&waE2E.Message{LiveLocationMessage: &waE2E.LiveLocationMessage{DegreesLatitude: proto.Float64(1), DegreesLongitude: proto.Float64(2)}},
		&waE2E.Message{ContactsArrayMessage: &waE2E.ContactsArrayMessage{Contacts: []*waE2E.ContactMessage{contact, {}, contact}}},
		&waE2E.Message{AlbumMessage: &waE2E.AlbumMessage{ExpectedImageCount: proto.Uint32(2), ExpectedVideoCount: proto.Uint32(1)}},
		&waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{Key: aKey(false), Text: proto.String("❤")}},
		&waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{Key: aKey(false)}}, &waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{Text: &long}},
		changes(waE2E.ProtocolMessage_REVOKE, &waE2E.ProtocolMessage{Key: aKey(false)}),
		changes(waE2E.ProtocolMessage_MESSAGE_EDIT, &waE2E.ProtocolMessage{Key: aKey(true), EditedMessage: &waE2E.Message{ImageMessage: image}}),
		changes(waE2E.ProtocolMessage_MESSAGE_EDIT, &waE2E.ProtocolMessage{EditedMessage: &waE2E.Message{ImageMessage: image}}),
		wrap("viewOnceMessageV2", &waE2E.Message{ImageMessage: image}), wrap("editedMessage", textMessage("x")),
		&waE2E.Message{DeviceSentMessage: &waE2E.DeviceSentMessage{Message: textMessage("x")}},
		&waE2E.Message{CommentMessage: &waE2E.CommentMessage{Message: textMessage("x")}},
	)
}

// FuzzPayload reads any payload of WhatsApp. What comes out is one thing as Incoming promises it, or a reason; every content fits the
// budget as JSON and has words to show, HTML has only elements of ours, addresses of files stay on their host, ids and times are within
// bounds, and what is allocated is bounded by 256 KiB and 640 bytes for each byte of the payload.
//
// decoder: read.go readmedia.go readchange.go readplaces.go readcards.go readquote.go kinds.go matrix.go waveform.go:matrixWaveform,interopWaveform,resample
func FuzzPayload(f *testing.F) {
	for i, msg := range seedPayloads() {
		encoded, err := proto.Marshal(msg)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded, uint16(i%2*9000), i%3 > 0)
	}
	f.Add([]byte{0xfa, 0x3f, 1, 'x'}, uint16(0), false) // field 1023
	f.Fuzz(func(t *testing.T, encoded []byte, budget uint16, viewOnce bool) {
		msg := &waE2E.Message{}
		if proto.Unmarshal(encoded, msg) != nil {
			return
		}
		options := Options{MaxEventBytes: int(budget), ShowViewOnce: viewOnce, Name: func(string) string { return "Some *Body*" }}
		checkAllocation(t, "a payload", 256<<10+allocFactor*len(encoded), func() {
			in := Read(msg, options)
			in.ShowQuote("Anna", options)
		})
		in := Read(msg, options)
		checkIncoming(t, &in, options)
		in.ShowQuote("Anna", options)
		checkIncoming(t, &in, options)
		for _, part := range in.Parts {
			_, _ = ToInterop(part.Content, Limits{})
		}
	})
}

// checkIncoming fails if Read does not keep its promises.
func checkIncoming(t *testing.T, in *Incoming, options Options) {
	t.Helper()
	things := 0
	for _, there := range []bool{in.Media != nil, in.Reaction != nil, in.Edit != nil, in.Revoke != nil, in.Timer != nil} {
		if there {
			things++
		}
	}
	switch {
	case in.Reason != Shown && (things > 0 || in.Parts != nil):
		t.Fatalf("a reason and a thing: %+v", in)
	case in.Reason == Shown && things == 0 && len(in.Parts) == 0:
		t.Fatal("nothing, and no reason")
	case things > 1, things == 1 && in.Media == nil && in.Parts != nil:
		t.Fatalf("several things: %+v", in)
	case in.Expires < 0 || in.Expires > MaxTimer, in.Timer != nil && (in.Timer.After < 0 || in.Timer.After > MaxTimer):
		t.Fatalf("a timer out of bounds: %+v", in)
	case in.ReplyTo != nil && (len(in.ReplyTo.ID) > maxStanzaID || units(in.ReplyTo.Quote) > maxQuotedCopy+2 || in.ReplyTo.ID+in.ReplyTo.Quote == ""):
		t.Fatalf("an answer out of bounds: %+v", in.ReplyTo)
	}
	if in.Reaction != nil {
		checkKey(t, &in.Reaction.Key, false)
	}
	if in.Revoke != nil {
		checkKey(t, in.Revoke, true)
	}
	if in.Edit != nil {
		checkKey(t, &in.Edit.Key, true)
		if in.Edit.Media != nil {
			checkMedia(t, in.Edit.Media, options)
		} else if len(in.Edit.Parts) == 0 {
			t.Fatal("an edit to nothing")
		}
		checkParts(t, in.Edit.Parts, options)
	}
	if in.Media != nil {
		checkMedia(t, in.Media, options)
	}
	checkParts(t, in.Parts, options)
}

func checkKey(t *testing.T, key *Key, own bool) {
	t.Helper()
	if !printable(key.ID, maxStanzaID) || key.Participant != "" && !printable(key.Participant, maxAddress) || own && !key.FromMe {
		t.Fatalf("a key out of bounds: %+v", key)
	}
}

func checkMedia(t *testing.T, m *IncomingMedia, options Options) {
	t.Helper()
	switch c := m.Content; {
	case !goodPath(m.DirectPath), m.Name == "" || m.Name != fileName(m.Name), m.Media.Kind != m.Role.MediaKind():
		t.Fatalf("a file out of bounds: %+v", m)
	case m.Media.Length < -1 || m.Media.Length > maxSize, m.Duration < 0 || m.Duration > MaxDuration, len(m.Thumbnail) > MaxThumbnail:
		t.Fatalf("numbers out of bounds: %+v", m)
	case m.Width < 0 || m.Width > maxSide || m.Height < 0 || m.Height > maxSide, len(m.Waveform) > maxMatrixSamples:
		t.Fatalf("numbers out of bounds: %+v", m)
	case c.URL != "" || c.File != nil || c.Info == nil || c.Body == "" || (c.MsgType == "") != (m.Type == event.EventSticker):
		t.Fatalf("a content that is not to be completed: %+v", c)
	case m.ViewOnce && !options.ShowViewOnce:
		t.Fatal("view-once is shown")
	}
	checkSize(t, m.Content, nil, options.budget()-1<<10)
	if m.Content.FormattedBody != "" {
		checkHTML(t, m.Content.Body, m.Content.FormattedBody)
	}
}

func checkParts(t *testing.T, all []*Part, options Options) {
	t.Helper()
	for _, part := range all {
		c := part.Content
		checkSize(t, c, part.Extra, options.budget())
		if strings.TrimSpace(c.Body) == "" || !utf8.ValidString(c.Body) || c.Mentions == nil {
			t.Fatalf("a content that must not be sent: %+v", c)
		}
		if c.FormattedBody != "" {
			checkHTML(t, c.Body, c.FormattedBody)
		}
		if i := part.Inline; i != nil && (len(i.Data) == 0 || len(i.Data) > MaxInline || i.Name == "" || i.Mimetype == "") {
			t.Fatalf("a file out of bounds: %s %s %d", i.Name, i.Mimetype, len(i.Data))
		}
		switch {
		case part.Type == event.EventSticker && part.Inline != nil && c.MsgType == "":
		case part.Type != event.EventMessage || part.Inline != nil && c.MsgType != event.MsgFile:
			t.Fatalf("a part of a strange type: %+v", part)
		case c.MsgType == event.MsgLocation:
			if _, ok := parseGeo(c.GeoURI); !ok {
				t.Fatalf("a place that is none: %q", c.GeoURI)
			}
		case c.MsgType != event.MsgText && c.MsgType != event.MsgNotice && c.MsgType != event.MsgFile:
			t.Fatalf("a part of a strange kind: %+v", c)
		}
	}
}

// FuzzAttachment gives any content of a Matrix event to everything that reads one: files, places, edits, polls, summaries. A file's
// metadata and name are within bounds and can be stored and read again, every text fits the limit and may be sent, the message for a
// phone encodes, and what is allocated is bounded by 512 KiB and 4 KiB for each byte of the JSON.
//
// decoder: attachment.go filename.go waveform.go:resample made.go quote.go edit.go location.go otherevents.go reaction.go:EmojiToInterop,isEmoji
func FuzzAttachment(f *testing.F) {
	for _, seed := range []string{
		`{"msgtype":"m.image","filename":"a.png","body":"**c**","format":"org.matrix.custom.html","formatted_body":"<b>c</b>","url":"mxc://x.org/a",
			"info":{"mimetype":"image/png","size":5,"w":3,"h":4,"xyz.amorgan.blurhash":"L","thumbnail_url":"mxc://x.org/t"}}`,
		`{"msgtype":"m.audio","body":"v.ogg","url":"mxc://x.org/a","info":{"duration":1500},"org.matrix.msc3245.voice":{},"org.matrix.msc1767.audio":{"duration":1,"waveform":[1,2000,-3]}}`,
		`{"msgtype":"m.audio","filename":"v.ogg","body":"c","url":"mxc://x.org/a"}`, `{"body":"cat","url":"mxc://x.org/a"}`,
		`{"msgtype":"m.video","body":"../x.mp4","file":{"url":"mxc://x.org/a","v":"v2","key":{"k":"A"},"iv":"A","hashes":{"sha256":"A"}},"info":{"fi.mau.gif":true}}`,
		`{"msgtype":"m.file","body":"` + strings.Repeat("ä", 150) + `.pdf","url":"mxc://x.org/a","info":{"mimetype":"Application/PDF; a=b"}}`,
		`{"msgtype":"m.text","body":"* b","m.new_content":{"msgtype":"m.text","body":"> b\nc"},"m.relates_to":{"rel_type":"m.replace","event_id":"$a"}}`,
		`{"msgtype":"m.image","m.new_content":{"msgtype":"m.image","filename":"a","body":"c","url":"mxc://x.org/a"}}`, `{"msgtype":"m.emote","body":"w\n` + "```" + `x"}`,
		`{"msgtype":"m.location","body":"Home","geo_uri":"geo:1.5,-2,3;crs=wgs84;u=5"}`, `{"msgtype":"m.location","body":"at geo:1,2","geo_uri":"geo:91,2"}`,
		`{"m.poll":{"max_selections":2,"question":{"m.text":[{"body":"Q"}]},"answers":[{"m.text":[{"mimetype":"text/html","body":"x"},{"body":"a"}]},{"body":"b"}]}}`,
		`{"org.matrix.msc3381.poll.start":{"question":{"org.matrix.msc1767.text":"Q"},"answers":[{"org.matrix.msc1767.message":[{"body":"a"}]}]}}`,
		`{"m.location":{"uri":"geo:1,2","description":"d"},"live":true,"description":"d"}`, `{"live":false}`, `{"msgtype":"com.beeper.gallery"}`,
		`{"msgtype":"m.text","body":"` + strings.Repeat("many words ", 200) + `"}`, `{"msgtype":"m.text","body":"👍🏽"}`, `{"msgtype":"m.text","body":"1️⃣"}`,
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, source []byte, sticker bool) {
		var content event.MessageEventContent
		if json.Unmarshal(source, &content) != nil {
			return
		}
		checkAllocation(t, "a content", 512<<10+4<<10*len(source), func() { readAll(t, &content, source, sticker) })
	})
}

// readAll gives a content to everything that reads one.
func readAll(t *testing.T, content *event.MessageEventContent, source []byte, sticker bool) {
	summary := Summary(content, sticker)
	quote := Quote{StanzaID: "A", Participant: "1@lid", Text: summary, Author: content.Body}
	room := Limits{MaxTextUnits: 1000 - MaxQuoteUnits}
	messages, _ := ToInterop(content, room)
	edited, _ := EditText(content, room)
	for _, eventType := range []string{"m.poll.start", "m.beacon", "m.beacon_info"} {
		other, _ := EventToInterop(eventType, source, room)
		messages = append(messages, other...)
	}
	for _, text := range append(append(append(messages, edited...), WithReply(messages, quote)...), WithQuotedText(edited, quote)...) {
		words := text.GetConversation() + text.GetExtendedTextMessage().GetText()
		if strings.TrimSpace(words) == "" || units(words) > 1000 || !utf8.ValidString(words) || strings.ContainsRune(words, 0) {
			t.Fatalf("a text that must not be sent: %q", words)
		}
	}
	if emoji, err := EmojiToInterop(content.Body); err == nil && !SameEmoji(emoji, content.Body) {
		t.Fatalf("%+q became %+q", content.Body, emoji)
	}
	a, ok := ReadAttachment(content, sticker)
	if !ok {
		return
	}
	switch {
	case a.Name != fileName(a.Name) || len(a.Name) > maxFileName+4 || units(a.Caption) > DefaultMaxTextUnits || a.Mimetype != baseType(a.Mimetype):
		t.Fatalf("words out of bounds: %+v", a)
	case a.Size < -1 || a.Size > maxSize || a.Width < 0 || a.Width > maxSide || a.Height < 0 || a.Height > maxSide || a.Duration < 0 || a.Duration > MaxDuration:
		t.Fatalf("numbers out of bounds: %+v", a)
	case a.Waveform != nil && len(a.Waveform) != WaveformSamples, a.URI == "" || len(a.URI) > maxURI:
		t.Fatalf("a file out of bounds: %+v", a)
	}
	var again Attachment
	stored, err := json.Marshal(a)
	if err == nil {
		err = json.Unmarshal(stored, &again)
	}
	restored, secondErr := json.Marshal(&again)
	if err != nil || secondErr != nil || !bytes.Equal(stored, restored) {
		t.Fatalf("%s was stored, %s read (%v, %v)", stored, restored, err, secondErr)
	}
	made, _ := MediaMessage(Made{
		Role: a.Role, DirectPath: "/x", Mimetype: a.Mimetype, Name: a.Name, Caption: a.Caption, Width: a.Width, Height: a.Height, Duration: a.Duration,
		Waveform: a.Waveform, Thumbnail: someJPEG, KeyTime: time.Unix(1, 0),
	})
	for _, msg := range append(WithReply([]*waE2E.Message{made}, quote), WithQuotedText([]*waE2E.Message{made}, quote)...) {
		if _, err := proto.Marshal(msg); err != nil {
			t.Fatal(err)
		}
	}
}
