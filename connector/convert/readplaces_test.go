package convert

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
	"maunium.net/go/mautrix/event"
)

func TestALocationIsShownOnAMap(t *testing.T) {
	in := Read(&waE2E.Message{LocationMessage: &waE2E.LocationMessage{
		Name: proto.String("Here"), Address: proto.String("Street 1"), URL: proto.String("https://x.org/here"), Comment: proto.String("come"),
		DegreesLatitude: proto.Float64(52.5), DegreesLongitude: proto.Float64(13.25), AccuracyInMeters: proto.Uint32(7),
	}}, Options{})
	if len(in.Parts) != 2 || in.Parts[1].Content.Body != "come" {
		t.Fatalf("got %+v", in)
	}
	sameJSON(t, in.Parts[0].Content, `{"msgtype":"m.location","geo_uri":"geo:52.500000,13.250000;u=7","m.mentions":{},
		"body":"📍 Here\nStreet 1\nhttps://x.org/here\n52.500000, 13.250000\nhttps://www.openstreetmap.org/?mlat=52.500000&mlon=13.250000"}`)
	sameJSON(t, in.Parts[0].Extra, `{"org.matrix.msc3488.location":{"uri":"geo:52.500000,13.250000;u=7","description":"Here"},"org.matrix.msc3488.asset":{"type":"m.pin"}}`)
	// The same place goes back as text.
	out, err := ToInterop(in.Parts[0].Content, Limits{})
	if err != nil || !strings.Contains(out[0].GetConversation(), "52.500000, 13.250000") {
		t.Errorf("back: %v %v", out, err)
	}
}

func TestALocationWithoutAPlaceIsNamed(t *testing.T) {
	for name, m := range map[string]*waE2E.LocationMessage{
		"nothing":         {},
		"half":            {DegreesLatitude: proto.Float64(1)},
		"not a number":    {DegreesLatitude: proto.Float64(math.NaN()), DegreesLongitude: proto.Float64(1)},
		"infinite":        {DegreesLatitude: proto.Float64(1), DegreesLongitude: proto.Float64(math.Inf(-1))},
		"beyond the pole": {DegreesLatitude: proto.Float64(90.1), DegreesLongitude: proto.Float64(1)},
	} {
		m.Name, m.URL = proto.String("Here"), proto.String("javascript:alert(1)")
		in := Read(&waE2E.Message{LocationMessage: m}, Options{})
		if len(in.Parts) != 2 || in.Parts[0].Content.MsgType != event.MsgNotice || in.Parts[1].Content.Body != "Here" {
			t.Errorf("%s: %+v", name, in)
		}
	}
	null := Read(&waE2E.Message{LocationMessage: &waE2E.LocationMessage{DegreesLatitude: proto.Float64(0), DegreesLongitude: proto.Float64(0)}}, Options{})
	if null.Parts[0].Content.GeoURI != "geo:0.000000,0.000000" {
		t.Errorf("the middle of the map: %+v", null.Parts[0].Content)
	}
}

func TestAnEndlessLocationFitsIntoAnEvent(t *testing.T) {
	long := proto.String(strings.Repeat("<\x01", 100000))
	in := Read(&waE2E.Message{LocationMessage: &waE2E.LocationMessage{
		Name: long, Address: long, Comment: long, URL: long, DegreesLatitude: proto.Float64(1), DegreesLongitude: proto.Float64(2),
	}}, Options{MaxEventBytes: 1})
	for _, part := range in.Parts {
		checkSize(t, part.Content, part.Extra, MinEventBytes)
	}
}

func TestALiveLocationShowsWhereItBegan(t *testing.T) {
	in := Read(&waE2E.Message{LiveLocationMessage: &waE2E.LiveLocationMessage{
		DegreesLatitude: proto.Float64(1), DegreesLongitude: proto.Float64(2), Caption: proto.String("on my way"),
	}}, Options{})
	if len(in.Parts) != 3 || in.Parts[0].Content.MsgType != event.MsgNotice || in.Parts[1].Content.GeoURI != "geo:1.000000,2.000000" ||
		in.Parts[2].Content.Body != "on my way" {
		t.Errorf("got %+v", in)
	}
	if in := Read(&waE2E.Message{LiveLocationMessage: &waE2E.LiveLocationMessage{}}, Options{}); len(in.Parts) != 1 {
		t.Errorf("without a place: %+v", in)
	}
}

const someCard = "BEGIN:VCARD\r\nVERSION:3.0\r\nN:M;Ben;;;\r\nFN:Ben M\r\nORG:Firm;Dept\r\nitem1.TEL;waid=491511234567;type=CELL:+49 151\r\n  1234567\r\n" +
	"TEL:+49 151 1234567\r\nEMAIL:ben@x.org\r\nURL:mailto:\r\nPHOTO;ENCODING=b:AAAA\r\nEND:VCARD"

func TestAContactCardIsTextAndAFile(t *testing.T) {
	in := Read(&waE2E.Message{ContactMessage: &waE2E.ContactMessage{DisplayName: proto.String("Ben"), Vcard: proto.String(someCard)}}, Options{})
	if len(in.Parts) != 2 || in.Parts[0].Content.Body != "👤 Ben\nFirm, Dept\n+49 151 1234567\nben@x.org" {
		t.Fatalf("got %+v: %q", in, in.Parts[0].Content.Body)
	}
	sameJSON(t, in.Parts[1].Content, fmt.Sprintf(`{"msgtype":"m.file","body":"Ben.vcf","filename":"Ben.vcf","info":{"mimetype":"text/vcard","size":%d},"m.mentions":{}}`, len(someCard)+2))
	if got := in.Parts[1].Inline; got == nil || string(got.Data) != someCard+"\r\n" || got.Name != "Ben.vcf" || got.Mimetype != "text/vcard" {
		t.Errorf("file: %+v", got)
	}
	for name, m := range map[string]*waE2E.ContactMessage{
		"without a card":   {DisplayName: proto.String("Ben")},
		"with another one": {DisplayName: proto.String("Ben"), Vcard: proto.String("<html>")},
		"with an endless":  {DisplayName: proto.String("Ben"), Vcard: proto.String("BEGIN:VCARD\n" + strings.Repeat("TEL:1\n", 1<<20) + "END:VCARD")},
	} {
		in := Read(&waE2E.Message{ContactMessage: m}, Options{})
		if len(in.Parts) != 1 || in.Parts[0].Content.Body != "👤 Ben" {
			t.Errorf("%s: %+v", name, in)
		}
	}
	if in := Read(&waE2E.Message{ContactMessage: &waE2E.ContactMessage{}}, Options{}); len(in.Parts) != 1 || in.Parts[0].Content.MsgType != event.MsgNotice {
		t.Errorf("nobody: %+v", in)
	}
}

func TestTenThousandContactsAreAFew(t *testing.T) {
	var cards []*waE2E.ContactMessage
	for i := range 10000 {
		cards = append(cards, &waE2E.ContactMessage{DisplayName: proto.String(fmt.Sprint("Ben ", i)), Vcard: proto.String(strings.Replace(someCard, "AAAA", strings.Repeat("A", 8000), 1))})
	}
	in := Read(&waE2E.Message{ContactsArrayMessage: &waE2E.ContactsArrayMessage{Contacts: cards}}, Options{})
	last := in.Parts[len(in.Parts)-1]
	if len(in.Parts) > 4 || last.Inline == nil || last.Inline.Name != "contacts.vcf" || len(last.Inline.Data) > MaxInline || len(last.Inline.Data) < MaxInline/2 {
		t.Fatalf("%d parts, %+v", len(in.Parts), last.Content)
	}
	text := in.Parts[len(in.Parts)-2].Content.Body
	if !strings.HasSuffix(text, "\n\n… and 9950 more.") || !strings.Contains(text, "👤 Ben 49\n") {
		t.Errorf("text ends with %q", text[len(text)-60:])
	}
}

func TestAPollIsTextWithItsOptions(t *testing.T) {
	poll := func(name string, options int) *waE2E.PollCreationMessage {
		p := &waE2E.PollCreationMessage{Name: proto.String(name)}
		for i := range options {
			p.Options = append(p.Options, &waE2E.PollCreationMessage_Option{OptionName: proto.String(fmt.Sprint("option ", i+1))})
		}
		return p
	}
	const hint = "\n_This is a poll. You cannot vote in it from here._"
	for name, msg := range map[string]*waE2E.Message{
		"the first form": {PollCreationMessage: poll("When?", 2)}, "the second": {PollCreationMessageV2: poll("When?", 2)},
		"the third": {PollCreationMessageV3: poll("When?", 2)}, "the fourth": wrap("pollCreationMessageV4", &waE2E.Message{PollCreationMessage: poll("When?", 2)}),
		"the fifth": {PollCreationMessageV5: poll("When?", 2)}, "the sixth": {PollCreationMessageV6: poll("When?", 2)},
	} {
		c := receive(t, msg)
		if c.MsgType != event.MsgText || c.Body != "📊 *When?*\n1. option 1\n2. option 2"+hint ||
			c.FormattedBody != "📊 <strong>When?</strong><ol><li>option 1</li><li>option 2</li></ol><em>This is a poll. You cannot vote in it from here.</em>" {
			t.Errorf("%s: %q %q", name, c.Body, c.FormattedBody)
		}
	}
	if c := receive(t, &waE2E.Message{PollCreationMessageV3: &waE2E.PollCreationMessage{}}); c.MsgType != event.MsgNotice {
		t.Errorf("no question: %+v", c)
	}
	if c := receive(t, &waE2E.Message{PollCreationMessageV3: poll("Q", 5000)}); !strings.Contains(c.Body, "100. option 100\n…\n") {
		t.Errorf("many options: %d bytes", len(c.Body))
	}
}
