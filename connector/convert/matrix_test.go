package convert

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"maunium.net/go/mautrix/event"
)

func textMessage(text string) *waE2E.Message {
	return &waE2E.Message{Conversation: proto.String(text)}
}

// contents gives what the parts of a payload say.
func contents(in Incoming) []*event.MessageEventContent {
	var out []*event.MessageEventContent
	for _, part := range in.Parts {
		out = append(out, part.Content)
	}
	return out
}

// receive converts a payload that is expected to become one content.
func receive(t *testing.T, msg *waE2E.Message) *event.MessageEventContent {
	t.Helper()
	in := Read(msg, Options{ShowViewOnce: true})
	if in.Reason != Shown || len(in.Parts) != 1 || in.Media != nil || in.Edit != nil {
		t.Fatalf("got %+v", in)
	}
	return in.Parts[0].Content
}

func TestWhatsAppMarksBecomeHTML(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"nothing to format", "hello <b> & \"you\"\nnext", ""},
		{"bold", "a *b c* d", "a <strong>b c</strong> d"},
		{"italic", "_a_", "<em>a</em>"},
		{"strike", "~a~", "<del>a</del>"},
		{"code", "`a *b*`", "<code>a *b*</code>"},
		{"code between threes", "x ```a `b` c``` y", "x <code>a `b` c</code> y"},
		{"nested", "*a _b ~c~ d_ e*", "<strong>a <em>b <del>c</del> d</em> e</strong>"},
		{"all on the same words", "*_~`x`~_*", "<strong><em><del><code>x</code></del></em></strong>"},
		{"escaped inside", "*<b>&* `<i>`", "<strong>&lt;b&gt;&amp;</strong> <code>&lt;i&gt;</code>"},
		{"beside punctuation", "(*a*), \"_b_\"!", "(<strong>a</strong>), \"<em>b</em>\"!"},
		{"beside emoji", "❤️*a*❤️", "❤️<strong>a</strong>❤️"},
		{"two on a line", "*a* *b*-*c*", "<strong>a</strong> <strong>b</strong>-<strong>c</strong>"},
		{"a star in the middle of a word does not end it", "*2*3*", "<strong>2*3</strong>"},

		{"not inside words", "a*b*c snake_case_name é*x*é 5*3*2", ""},
		{"not with a space inside", "x * a* *b * ~ c~ ` d`", ""},
		{"not over the end of the line", "*a\nb* `c\nd`", ""},
		{"not without a partner", "*a _b ~c `d ```e", ""},
		{"not when empty", "** __ ~~ `` `````` * *", ""},
		{"not when doubled", "**a** __init__ ~~b~~", ""},
		{"not in addresses", "https://x.org/_a_ http://x.org/*b* www.x.org/~c~ ftp://x/_d_", ""},
		{"around an address", "_https://x.org/a_b_ *www.x.org*", "<em>https://x.org/a_b</em> <strong>www.x.org</strong>"},
		{"after a word that looks like an address", "www. *a* https:// _b_", "www. <strong>a</strong> https:// <em>b</em>"},
		{"crossing marks", "*a _b* c_", "<strong>a _b</strong> c_"},
		{"crossing the other way", "_a *b_ c*", "<em>a *b</em> c*"},
		{"code before marks", "*a `b* c`", "*a <code>b* c</code>"},
		{"an unused mark inside", "*a _b*", "<strong>a _b</strong>"},

		{"a quote", "> a\n> *b*\nc", "<blockquote>a<br><strong>b</strong></blockquote>c"},
		{"not a quote", ">a\n > b\n> \n>", ""},
		{"bullets of both kinds", "- a\n* b\nc", "<ul><li>a</li><li>b</li></ul>c"},
		{"not bullets", "-a\n*b\n  - c\n- ", ""},
		{"numbers", "1. a\n2. b\n\n10. c", `<ol><li>a</li><li>b</li></ol><ol start="10"><li>c</li></ol>`},
		{"numbers in a row", "1. a\n2. b\n3. c", "<ol><li>a</li><li>b</li><li>c</li></ol>"},
		{"numbers that do not follow each other", "3. a\n5. b\n5. c", `<ol start="3"><li>a</li></ol><ol start="5"><li>b</li></ol><ol start="5"><li>c</li></ol>`},
		{"not numbers", "1.a\n01. b\n1234567890. c\n1) d\n. e", ""},
		{"zero", "0. a", `<ol start="0"><li>a</li></ol>`},
		{"lists and quotes in a row", "- a\n> b\n1. c", "<ul><li>a</li></ul><blockquote>b</blockquote><ol><li>c</li></ol>"},
		{"marks in a list", "- *a*: _b_", "<ul><li><strong>a</strong>: <em>b</em></li></ul>"},
		{"a fence", "```a\n  *b*\n```", "<pre><code>a\n  *b*</code></pre>"},
		{"a fence with its marks on lines of their own", "x\n```\na\n- b\n```\ny", "x<pre><code>a\n- b</code></pre>y"},
		{"a fence inside a line", "x *y* ```a\nb``` z _w_\nv", "x <strong>y</strong> <pre><code>a\nb</code></pre> z <em>w</em><br>v"},
		{"two fences", "```a\nb``` ```c\nd```", "<pre><code>a\nb</code></pre> <pre><code>c\nd</code></pre>"},
		{"a fence that does not end", "```a\n*b*", "```a<br><strong>b</strong>"},
		{"a fence of nothing", "```\n\n``` *a*", "```<br><br>``` <strong>a</strong>"},
		{"a fence does not begin in a quote", "> ```a\nb```\n*c*", "<blockquote>```a</blockquote>b```<br><strong>c</strong>"},
		{"line breaks beside formats", "*a*\n\nb\n", "<strong>a</strong><br><br>b"},
		{"script in every place", "> <script>\n- <script>\n```\n<script>\n``` `<script>` *<script>*",
			"<blockquote>&lt;script&gt;</blockquote><ul><li>&lt;script&gt;</li></ul><pre><code>&lt;script&gt;</code></pre> " +
				"<code>&lt;script&gt;</code> <strong>&lt;script&gt;</strong>"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			content := receive(t, textMessage(tc.text))
			if content.Body != tc.text || content.MsgType != event.MsgText {
				t.Errorf("the body is %q (%s)", content.Body, content.MsgType)
			}
			if content.FormattedBody != tc.want {
				t.Errorf("%q\n got %q\nwant %q", tc.text, content.FormattedBody, tc.want)
			}
			if (content.Format == event.FormatHTML) != (tc.want != "") {
				t.Errorf("format %q with %q", content.Format, content.FormattedBody)
			}
		})
	}
}

func TestTextArrivesFromEveryFieldThatHoldsIt(t *testing.T) {
	extended := &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("*a*"), Title: proto.String("t")}}
	if got := receive(t, extended); got.Body != "*a*" || got.FormattedBody != "<strong>a</strong>" {
		t.Errorf("extended text: %+v", got)
	}
	both := &waE2E.Message{
		Conversation:       proto.String("a"),
		MessageContextInfo: &waE2E.MessageContextInfo{}, SenderKeyDistributionMessage: &waE2E.SenderKeyDistributionMessage{},
	}
	if got := receive(t, both); got.Body != "a" {
		t.Errorf("text beside keys: %+v", got)
	}
	beside := &waE2E.Message{OrderMessage: &waE2E.OrderMessage{}, MessageContextInfo: &waE2E.MessageContextInfo{},
		SenderKeyDistributionMessage: &waE2E.SenderKeyDistributionMessage{}}
	if got := receive(t, beside); !strings.HasPrefix(got.Body, "Sent an order") {
		t.Errorf("an order beside keys: %+v", got)
	}
	broken := receive(t, textMessage("a\xff\x00*b*"))
	if broken.Body != "a\uFFFD\uFFFD*b*" {
		t.Errorf("broken text: %q", broken.Body)
	}
	if broken.Mentions == nil {
		t.Error("the content leaves it to clients to look for names")
	}
}

// wrap puts a message into the wrapper with the given field name.
func wrap(field protoreflect.Name, msg *waE2E.Message) *waE2E.Message {
	outer := &waE2E.Message{}
	fd := outer.ProtoReflect().Descriptor().Fields().ByName(field)
	wrapper := &waE2E.FutureProofMessage{Message: msg}
	outer.ProtoReflect().Set(fd, protoreflect.ValueOfMessage(wrapper.ProtoReflect()))
	return outer
}

func TestWrappersAreTakenOff(t *testing.T) {
	count := 0
	fields := (&waE2E.Message{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if field.Message() == nil || field.Message().FullName() != futureProof {
			continue
		}
		count++
		if got := receive(t, wrap(field.Name(), textMessage("inside"))); got.Body != "inside" || got.MsgType != event.MsgText {
			t.Errorf("%s: %+v", field.Name(), got)
		}
		if got := receive(t, wrap(field.Name(), nil)); got.MsgType != event.MsgNotice {
			t.Errorf("%s with nothing in it: %+v", field.Name(), got)
		}
	}
	if count < 20 {
		t.Errorf("only %d wrappers were tried", count)
	}
	device := &waE2E.Message{DeviceSentMessage: &waE2E.DeviceSentMessage{Message: textMessage("inside")}}
	if got := receive(t, device); got.Body != "inside" {
		t.Errorf("deviceSent: %+v", got)
	}
	comment := &waE2E.Message{CommentMessage: &waE2E.CommentMessage{Message: textMessage("inside")}}
	if got := receive(t, comment); got.Body != "inside" {
		t.Errorf("comment: %+v", got)
	}
}

func TestWrappersAreTakenOffToADepthOfEight(t *testing.T) {
	msg := textMessage("inside")
	for depth := 1; depth <= 12; depth++ {
		msg = wrap("ephemeralMessage", msg)
		got := receive(t, msg)
		if depth <= MaxWrappers && got.Body != "inside" {
			t.Errorf("depth %d: %q", depth, got.Body)
		}
		if depth > MaxWrappers && (got.Body != anotherKind || got.MsgType != event.MsgNotice) {
			t.Errorf("depth %d: %q", depth, got.Body)
		}
	}
}

func TestEveryFieldOfThePayloadHasAMeaning(t *testing.T) {
	fields := (&waE2E.Message{}).ProtoReflect().Descriptor().Fields()
	known := 0
	for i := range fields.Len() {
		field := fields.Get(i)
		name := field.Name()
		if _, listed := payloads[name]; listed {
			known++
			continue
		}
		if _, wrapper := inner(&waE2E.Message{}, field); wrapper || name == "conversation" || name == "extendedTextMessage" {
			continue
		}
		t.Errorf("field %d, %s, has no words", field.Number(), name)
	}
	if known != len(payloads) {
		t.Errorf("%d of %d names in the table are fields", known, len(payloads))
	}
}

func TestEveryKindIsNamedInTheRoom(t *testing.T) {
	for i := range (&waE2E.Message{}).ProtoReflect().Descriptor().Fields().Len() {
		msg := &waE2E.Message{}
		r := msg.ProtoReflect()
		field := r.Descriptor().Fields().Get(i)
		if field.Kind() != protoreflect.MessageKind {
			continue
		}
		p, listed := payloads[field.Name()]
		if !listed || field.Name() == "protocolMessage" {
			continue
		}
		r.Set(field, r.NewField(field))
		in := Read(msg, Options{})
		if p.silent != Shown {
			if in.Reason != p.silent || in.Parts != nil {
				t.Errorf("%s: got %+v", field.Name(), in)
			}
			continue
		}
		if in.Reason != Shown || len(in.Parts) == 0 {
			t.Fatalf("%s: reason %q", field.Name(), in.Reason)
		}
		c := in.Parts[0].Content
		if c.MsgType != event.MsgNotice || len(c.Body) < 10 || !strings.HasSuffix(c.Body, ".") || c.FormattedBody != "" {
			t.Errorf("%s: %+v", field.Name(), c)
		}
		if strings.Contains(c.Body, "does not know") || strings.Contains(c.Body, "Message") {
			t.Errorf("%s is not named in plain words: %q", field.Name(), c.Body)
		}
	}
}

func TestPlaceholdersSayWhatWasSent(t *testing.T) {
	for _, tc := range []struct {
		msg  *waE2E.Message
		want []string
	}{
		{&waE2E.Message{ImageMessage: &waE2E.ImageMessage{Caption: proto.String("*nice*")}},
			[]string{"Sent an image that cannot be fetched: its address or its key is missing.", "*nice*"}},
		{&waE2E.Message{AudioMessage: &waE2E.AudioMessage{PTT: proto.Bool(true)}},
			[]string{"Sent a voice message that cannot be fetched: its address or its key is missing."}},
		{&waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{FileName: proto.String("a.pdf"), Caption: proto.String("c")}},
			[]string{"Sent a file that cannot be fetched: its address or its key is missing.", "a.pdf\nc"}},
		{&waE2E.Message{AlbumMessage: &waE2E.AlbumMessage{ExpectedImageCount: proto.Uint32(3), ExpectedVideoCount: proto.Uint32(1)}},
			[]string{"Sent an album: 3 images and 1 video."}},
		{&waE2E.Message{AlbumMessage: &waE2E.AlbumMessage{}}, []string{"Sent an album."}},
		{&waE2E.Message{EventMessage: &waE2E.EventMessage{Name: proto.String("Party"), Description: proto.String("at eight")}},
			[]string{"Sent an invitation to an event, which this bridge cannot show.", "Party\nat eight"}},
		{&waE2E.Message{CallLogMesssage: &waE2E.CallLogMessage{}}, []string{"Called. Calls are not possible in this chat."}},
		{&waE2E.Message{PollUpdateMessage: &waE2E.PollUpdateMessage{}}, []string{"Voted in a poll, which this bridge cannot show."}},
		{&waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_SHARE_PHONE_NUMBER.Enum()}},
			[]string{"Shared a phone number, which this bridge cannot show."}},
	} {
		in := Read(tc.msg, Options{})
		if in.Reason != Shown || len(in.Parts) != len(tc.want) {
			t.Errorf("%v: %d parts, reason %q", tc.msg, len(in.Parts), in.Reason)
			continue
		}
		for i, c := range contents(in) {
			kind := event.MsgText
			if i == 0 {
				kind = event.MsgNotice
			}
			if c.Body != tc.want[i] || c.MsgType != kind {
				t.Errorf("%v: part %d is %s %q, want %s %q", tc.msg, i, c.MsgType, c.Body, kind, tc.want[i])
			}
		}
	}
}

func TestEveryProtocolMessageIsShownOrNamedSilent(t *testing.T) {
	for number, name := range waE2E.ProtocolMessage_Type_name {
		p := protocol(&waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_Type(number).Enum()})
		if p.silent == Shown && p.sentence == "" && p.noun == "" {
			t.Errorf("%s (%d) has no meaning", name, number)
		}
	}
	if got := receive(t, &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_Type(4711).Enum()}}); got.MsgType != event.MsgNotice {
		t.Errorf("an unknown type: %+v", got)
	}
}

func TestWhatHasNothingForAPersonGivesAReason(t *testing.T) {
	unknown := &waE2E.Message{}
	unknown.ProtoReflect().SetUnknown([]byte{0xfa, 0x3f, 1, 'x'}) // field 1023
	for _, tc := range []struct {
		name string
		msg  *waE2E.Message
		want Reason
	}{
		{"nil", nil, NoPayload},
		{"no field", &waE2E.Message{}, NoPayload},
		{"a wrapper around no field", wrap("ephemeralMessage", &waE2E.Message{}), NoPayload},
		{"empty text", textMessage(""), NoText},
		{"spaces", textMessage(" \n "), NoText},
		{"keys alone", &waE2E.Message{SenderKeyDistributionMessage: &waE2E.SenderKeyDistributionMessage{}}, KeyMaterial},
		{"context alone", &waE2E.Message{MessageContextInfo: &waE2E.MessageContextInfo{}}, Housekeeping},
		{"app state", &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_APP_STATE_SYNC_KEY_SHARE.Enum()}}, KeyMaterial},
		{"history", &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_HISTORY_SYNC_NOTIFICATION.Enum()}}, Housekeeping},
		{"an unknown field", unknown, Shown},
	} {
		in := Read(tc.msg, Options{})
		if in.Reason != tc.want || (len(in.Parts) == 0) != (in.Reason != Shown) {
			t.Errorf("%s: got %d parts, %q, want %q", tc.name, len(in.Parts), in.Reason, tc.want)
		}
	}
}

func TestLongTextFitsIntoEvents(t *testing.T) {
	line := "some *bold* words and _more_ <of> \"them\"\n"
	for _, tc := range []struct{ name, text string }{
		{"plain", strings.Repeat("word after word ", 8000)},
		{"marked", strings.Repeat(line, 3000)},
		{"one long fence", "```" + strings.Repeat("code & more\n", 8000) + "```"},
		{"one long bold line", "*" + strings.Repeat("bold ", 12000) + "x*"},
		{"no spaces", strings.Repeat("😀", 30000)},
		{"what JSON writes long", strings.Repeat("<\x01\"", 20000)},
		{"a mark at every letter", strings.Repeat("*a* ", 16000)},
		{"longer than is looked at for marks", strings.Repeat("*abc* ", MaxMarkedBytes/5)},
	} {
		for _, budget := range []int{0, 1, 4096, 60000} {
			t.Run(fmt.Sprintf("%s in %d", tc.name, budget), func(t *testing.T) {
				in := Read(textMessage(tc.text), Options{MaxEventBytes: budget})
				limit := budget
				if limit == 0 {
					limit = DefaultMaxEventBytes
				}
				limit = max(limit, MinEventBytes)
				var all strings.Builder
				for i, c := range contents(in) {
					encoded, err := json.Marshal(c)
					if err != nil {
						t.Fatal(err)
					}
					if len(encoded) > limit {
						t.Errorf("part %d has %d bytes of JSON", i, len(encoded))
					}
					all.WriteString(c.Body)
				}
				if all.String() != tc.text {
					t.Error("the parts are not the text")
				}
				if most := 2 + 6*(jsonBytes(tc.text))/(limit-contentOverhead); len(in.Parts) > most {
					t.Errorf("%d parts, more than %d", len(in.Parts), most)
				}
			})
		}
	}
}

func TestMarksThatReachOverACutStillShow(t *testing.T) {
	in := Read(textMessage("*"+strings.Repeat("bold ", 12000)+"x*"), Options{})
	if len(in.Parts) < 2 {
		t.Fatal("nothing was split")
	}
	for i, c := range contents(in) {
		if !strings.HasPrefix(c.FormattedBody, "<strong>bold") || !strings.HasSuffix(c.FormattedBody, "</strong>") {
			t.Errorf("part %d: %.30q", i, c.FormattedBody)
		}
	}
}

func TestJSONIsNeverLongerThanReckoned(t *testing.T) {
	var all strings.Builder
	for r := rune(0); r < 0x3000; r++ {
		all.WriteRune(r)
	}
	all.WriteString("\xff\xc0<>&\U0001F600\uFFFD")
	encoded, err := json.Marshal(all.String())
	if err != nil {
		t.Fatal(err)
	}
	if got := jsonBytes(all.String()); got != len(encoded)-2 {
		t.Errorf("reckoned %d bytes, the encoder wrote %d", got, len(encoded)-2)
	}
}
