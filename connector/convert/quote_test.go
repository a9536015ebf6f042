package convert

import (
	"encoding/json"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
	"maunium.net/go/mautrix/event"
)

var someQuote = Quote{StanzaID: "3EB0AA", Participant: "1@lid", Text: "first *bold*\n\n> older\nsecond", Author: "Anna\nB"}

func answerable(role Role) *waE2E.Message {
	msg, _ := MediaMessage(someMade(role))
	return msg
}

func TestAnAnswerInTheContextForm(t *testing.T) {
	for name, tc := range map[string]struct {
		msg     *waE2E.Message
		context func(*waE2E.Message) *waE2E.ContextInfo
	}{
		"text":     {textMessage("yes"), func(m *waE2E.Message) *waE2E.ContextInfo { return m.GetExtendedTextMessage().GetContextInfo() }},
		"image":    {answerable(RoleImage), func(m *waE2E.Message) *waE2E.ContextInfo { return m.GetImageMessage().GetContextInfo() }},
		"video":    {answerable(RoleGIF), func(m *waE2E.Message) *waE2E.ContextInfo { return m.GetVideoMessage().GetContextInfo() }},
		"voice":    {answerable(RoleVoice), func(m *waE2E.Message) *waE2E.ContextInfo { return m.GetAudioMessage().GetContextInfo() }},
		"document": {answerable(RoleDocument), func(m *waE2E.Message) *waE2E.ContextInfo { return m.GetDocumentMessage().GetContextInfo() }},
	} {
		before := tc.msg.String()
		second := textMessage("more")
		out := WithReply([]*waE2E.Message{tc.msg, second}, someQuote)
		if len(out) != 2 || out[1] != second || tc.msg.String() != before {
			t.Fatalf("%s: %v", name, out)
		}
		want := &waE2E.ContextInfo{
			StanzaID: proto.String("3EB0AA"), Participant: proto.String("1@lid"),
			QuotedMessage: textMessage("first *bold*\n\n> older\nsecond"),
		}
		if got := tc.context(out[0]); !proto.Equal(got, want) {
			t.Errorf("%s: %v", name, got)
		}
		if out[0].Conversation != nil {
			t.Errorf("%s: there is a plain text beside it", name)
		}
		if name == "text" && (out[0].GetExtendedTextMessage().GetText() != "yes" ||
			!proto.Equal(out[0].GetExtendedTextMessage(), &waE2E.ExtendedTextMessage{Text: proto.String("yes"), ContextInfo: want})) {
			t.Errorf("text: %v", out[0])
		}
	}
	reaction := Reaction("1@lid", "A", true, "👍", someMade(RoleImage).KeyTime)
	if out := WithReply([]*waE2E.Message{reaction}, someQuote); !proto.Equal(out[0], reaction) {
		t.Errorf("a reaction: %v", out[0])
	}
	if out := WithReply([]*waE2E.Message{textMessage("a")}, Quote{Text: "b"}); out[0].Conversation == nil {
		t.Error("an answer to nothing has a context")
	}
	unknown := WithReply([]*waE2E.Message{textMessage("a")}, Quote{StanzaID: "A", Participant: "1@lid"})
	if got := unknown[0].GetExtendedTextMessage().GetContextInfo().GetQuotedMessage().GetConversation(); got != "…" {
		t.Errorf("unknown words are quoted as %q", got)
	}
	long := WithReply([]*waE2E.Message{textMessage("a")}, Quote{StanzaID: "A", Text: strings.Repeat("word ", 10000)})
	if n := units(long[0].GetExtendedTextMessage().GetContextInfo().GetQuotedMessage().GetConversation()); n > maxQuotedCopy+2 || n < 500 {
		t.Errorf("a long text is quoted with %d units", n)
	}
	if WithReply(nil, someQuote) != nil {
		t.Error("nothing became an answer")
	}
}

func TestAnAnswerWithQuotedText(t *testing.T) {
	const quote = "> Anna B: first *bold*\n> second"
	for _, tc := range []struct {
		name, answer string
		q            Quote
		want         string
	}{
		{"text", "yes", someQuote, quote + "\nyes"},
		{"an answer that begins with a quote", "> mine\nyes", someQuote, quote + "\n\n> mine\nyes"},
		{"without an author", "yes", Quote{Text: "old"}, "> old\nyes"},
		{"without words", "yes", Quote{Author: "Anna"}, "> Anna: …\nyes"},
		{"of nothing", "yes", Quote{StanzaID: "A"}, "yes"},
		{"of many lines", "yes", Quote{Text: "1\n2\n3\n4\n5"}, "> 1\n> 2\n> 3 …\nyes"},
		{"of a fence", "yes", Quote{Text: "```code```"}, "> code\nyes"},
		{"of a long line", "yes", Quote{Text: strings.Repeat("word ", 100)}, "> " + strings.TrimSpace(strings.Repeat("word ", 60)) + " …\nyes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := []*waE2E.Message{textMessage(tc.answer), textMessage("more")}
			out := WithQuotedText(in, tc.q)
			if len(out) != 2 || out[0].GetConversation() != tc.want || out[1] != in[1] || in[0].GetConversation() != tc.answer {
				t.Errorf("got %q, want %q", out[0].GetConversation(), tc.want)
			}
		})
	}
}

func TestQuotedTextStandsInTheCaption(t *testing.T) {
	const quote = "> Anna B: first *bold*\n> second"
	for _, role := range []Role{RoleImage, RoleVideo, RoleDocument} {
		for caption, want := range map[string]string{"": quote, "see": quote + "\nsee"} {
			m := someMade(role)
			m.Caption = caption
			msg, _ := MediaMessage(m)
			out := WithQuotedText(WithReply([]*waE2E.Message{msg}, someQuote), someQuote)[0]
			got := out.GetImageMessage().GetCaption() + out.GetVideoMessage().GetCaption() + out.GetDocumentMessage().GetCaption()
			if got != want {
				t.Errorf("%s: %q, want %q", role, got, want)
			}
			if out.GetImageMessage().GetContextInfo() != nil || out.GetVideoMessage().GetContextInfo() != nil || out.GetDocumentMessage().GetContextInfo() != nil {
				t.Errorf("%s: the context form is still there", role)
			}
		}
	}
	voice := answerable(RoleVoice)
	if out := WithQuotedText(WithReply([]*waE2E.Message{voice}, someQuote), someQuote); !proto.Equal(out[0], voice) {
		t.Errorf("voice: %v", out[0])
	}
	text := WithQuotedText(WithReply([]*waE2E.Message{textMessage("yes")}, someQuote), someQuote)[0]
	if text.GetConversation() != quote+"\nyes" || text.ExtendedTextMessage != nil {
		t.Errorf("text in the context form: %v", text)
	}
}

func TestAQuoteFitsIntoTheRoomThatIsLeftForIt(t *testing.T) {
	hostile := Quote{Author: strings.Repeat("😀", 1000), Text: strings.Repeat(strings.Repeat("😀", 200)+"\n", 200)}
	body := strings.Repeat("word ", 30000)
	messages, err := ToInterop(&event.MessageEventContent{MsgType: event.MsgText, Body: body}, Limits{MaxTextUnits: DefaultMaxTextUnits - MaxQuoteUnits})
	if err != nil {
		t.Fatal(err)
	}
	out := WithQuotedText(messages, hostile)
	if n := units(out[0].GetConversation()); n > DefaultMaxTextUnits || !strings.HasPrefix(out[0].GetConversation(), "> 😀") {
		t.Errorf("%d units: %.40q", n, out[0].GetConversation())
	}
	full := []*waE2E.Message{textMessage(strings.Repeat("x", DefaultMaxTextUnits))}
	if out := WithQuotedText(full, hostile); units(out[0].GetConversation()) != DefaultMaxTextUnits {
		t.Error("a full text was changed")
	}
}

func TestWhatAMessageIsAboutFitsOnALine(t *testing.T) {
	for _, tc := range []struct {
		source  string
		sticker bool
		want    string
	}{
		{`{"msgtype":"m.text","body":"a","format":"org.matrix.custom.html","formatted_body":"<b>a</b>"}`, false, "*a*"},
		{`{"msgtype":"m.image","body":"a.png","url":"mxc://x.org/abc"}`, false, "📷 Photo"},
		{`{"msgtype":"m.image","filename":"a.png","body":"look","url":"mxc://x.org/abc"}`, false, "📷 look"},
		{`{"msgtype":"m.file","body":"a.pdf","url":"mxc://x.org/abc"}`, false, "📄 a.pdf"},
		{`{"msgtype":"m.audio","body":"a","url":"mxc://x.org/abc","org.matrix.msc3245.voice":{}}`, false, "🎤 Voice message"},
		{`{"body":"cat","url":"mxc://x.org/abc"}`, true, "💟 Sticker"},
		{`{"msgtype":"m.location","body":"Home","geo_uri":"geo:1,2"}`, false, "📍 Home\n1.000000, 2.000000\nhttps://www.openstreetmap.org/?mlat=1.000000&mlon=2.000000"},
		{`{"msgtype":"m.text","body":"* b","m.new_content":{"msgtype":"m.text","body":"b"}}`, false, "b"},
		{`{"msgtype":"org.example.x","body":"b"}`, false, ""},
	} {
		var content event.MessageEventContent
		if err := json.Unmarshal([]byte(tc.source), &content); err != nil {
			t.Fatal(err)
		}
		if got := Summary(&content, tc.sticker); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.source, got, tc.want)
		}
	}
	if Summary(nil, false) != "" {
		t.Error("nothing is about something")
	}
	long := Summary(&event.MessageEventContent{MsgType: event.MsgText, Body: strings.Repeat("word ", 5000)}, false)
	if units(long) > maxQuotedCopy+2 || !strings.HasSuffix(long, " …") {
		t.Errorf("%d units: %q", units(long), long[len(long)-10:])
	}
}
