package convert

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

func htmlMessage(source string) *event.MessageEventContent {
	return &event.MessageEventContent{
		MsgType: event.MsgText, Body: "the plain body", Format: event.FormatHTML, FormattedBody: source,
	}
}

// send converts content that is expected to become one message.
func send(t *testing.T, content *event.MessageEventContent) string {
	t.Helper()
	messages, err := ToInterop(content, Limits{})
	if err != nil {
		t.Fatalf("ToInterop: %v", err)
	}
	if len(messages) != 1 {
		t.Fatalf("got %d messages, want 1", len(messages))
	}
	return messages[0].GetConversation()
}

func TestHTMLBecomesWhatsAppMarks(t *testing.T) {
	for _, tc := range []struct{ name, html, want string }{
		{"bold", "a <strong>b</strong> <b>c</b> d", "a *b* *c* d"},
		{"italic", "<em>a</em> <i>b</i>", "_a_ _b_"},
		{"strike in all three spellings", "<del>a</del> <s>b</s> <strike>c</strike>", "~a~ ~b~ ~c~"},
		{"code in a line", "run <code>go test</code> now", "run `go test` now"},
		{"all at once on the same words", "<b><i><s>x</s></i></b>", "*_~x~_*"},
		{"bold and code on the same words", "<b><code>x</code></b>", "*`x`*"},
		{"nested marks", "<b>a <i>b</i> c</b>", "*a _b_ c*"},
		{"crossing elements are made to nest", "<b>a <i>b</b> c</i> d", "*a _b_* _c_ d"},
		{"spaces inside an element stay outside the marks", "a<b> b </b>c", "a *b* c"},
		{"neighbours of one format join", "<b>a</b><strong>b</strong>", "*ab*"},
		{"marks beside punctuation", "(<b>a</b>), <i>b</i>!", "(*a*), _b_!"},
		{"an end tag without a start is ignored", "a</b></p></a> b", "a b"},

		{"no marks inside a word", "un<b>believ</b>able", "unbelievable"},
		{"a mark inside a word does not take others with it", "un<b>believ</b>able <b>b</b>", "unbelievable *b*"},
		{"no marks at the end of a word", "word<b>s</b> here", "words here"},
		{"no marks between two formats in one word", "<b>a</b><i>b</i>", "ab"},
		{"no marks inside a word of another script", "Слов<b>ом</b>", "Словом"},
		{"no marks on spaces alone", "a<b> </b>b", "a b"},
		{"a mark of the same kind inside", "<b>2*3</b>", "*2*3*"},
		{"a typed mark that would pair with ours", "*a <b>b</b> c", "*a b c"},
		{"a typed mark of another kind does not matter", "_a <b>b</b> c", "_a *b* c"},
		{"a typed mark with spaces around does not matter", "2 * 3 <b>b</b>", "2 * 3 *b*"},
		{"typed marks stay as typed", "*a* _b_ ~c~ `d`", "*a* _b_ ~c~ `d`"},
		{"code with a backtick", "<code>a`b</code>", "```a`b```"},
		{"code with a backtick at its edge", "<code>`a</code>", "`a"},
		{"marks in code are left alone", "<code>*a*</code>", "`*a*`"},
		{"no marks within code", "<code>a <b>b</b> c</code>", "`a b c`"},
		{"addresses carry no marks", "<b>see https://x.org/a_b now</b>", "*see* https://x.org/a_b *now*"},
		{"an address alone carries no marks", "<i>https://x.org</i>", "https://x.org"},

		{"paragraphs", "<p>a</p><p>b</p>", "a\n\nb"},
		{"line breaks", "a<br>b<br/>c<br><br>d", "a\nb\nc\n\nd"},
		{"white space collapses", "<p>a\n  b\t\tc </p>\n<p> d</p>\n", "a b c\n\nd"},
		{"hard spaces stay", "a&nbsp;&nbsp;b", "a\u00a0\u00a0b"},
		{"marks end with the line", "<b>a<br>b</b>", "*a*\n*b*"},
		{"headings", "<h1>T</h1><p>a</p><h3>U <b>V</b></h3>b", "*T*\na\n\n*U V*\nb"},
		{"bullets", "<p>x</p><ul><li>a</li><li>b</li></ul><p>y</p>", "x\n- a\n- b\ny"},
		{"numbers", "<ol><li>a<li>b</ol>", "1. a\n2. b"},
		{"numbers from a start", `<ol start="9"><li>a</li><li>b</li></ol>`, "9. a\n10. b"},
		{"a nonsense start", `<ol start="-3"><li>a</li></ol><ol start="x"><li>b</li></ol>`, "1. a\n1. b"},
		{"lists in lists", "<ul><li>a<ol><li>b</li></ol></li><li>c</li></ul>", "- a\n  1. b\n- c"},
		{"loose lists", "<ul><li><p>a</p></li><li><p>b</p><p>c</p></li></ul>", "- a\n- b\n  c"},
		{"empty items vanish", "<ul><li></li><li>b</li></ul>", "- b"},
		{"check boxes", `<ul><li><input type="checkbox" checked> a</li><li><input type="checkbox">b</li></ul>`, "- [x] a\n- [ ] b"},
		{"marks in a list", "<ul><li><b>a</b>: b</li></ul>", "- *a*: b"},
		{"a quote", "<blockquote><p>a</p><p>b<br>c</p></blockquote><p>d</p>", "> a\n> b\n> c\n\nd"},
		{"two quotes stand apart", "<blockquote>a</blockquote><blockquote>b</blockquote>", "> a\n\n> b"},
		{"a quote in a quote", "<blockquote>a<blockquote>b</blockquote></blockquote>", "> a\n> > b"},
		{"a list in a quote", "<blockquote><ul><li>a</li></ul></blockquote>", "> - a"},
		{"preformatted text", "<pre><code class=\"language-go\">a\n\n  b\n</code></pre>c", "```a\n\n  b```\nc"},
		{"two preformatted texts", "<pre>a\nb</pre><pre>c\nd</pre>", "```a\nb```\n```c\nd```"},
		{"preformatted text on one line", "<pre>a</pre>", "```a```"},
		{"preformatted text with backticks", "<pre>a\n```\nb</pre>", "a\n```\nb"},
		{"preformatted text in a quote", "<blockquote><pre>a\nb</pre></blockquote>", "> `a`\n> `b`"},
		{"preformatted text beside a typed fence", "<p>``` open</p><pre>a</pre>", "``` open\na"},
		{"a rule", "a<hr>b", "a\n---\nb"},
		{"a table", "<table><thead><tr><th>a</th> <th>b</th></tr></thead><tr><td>1</td><td>2</td></tr></table>", "a | b\n1 | 2"},
		{"a summary with details", "<details><summary>a</summary>b</details>", "a\nb"},

		{"a link", `<a href="https://x.org/p?a=1&amp;b=2">words</a>.`, "words (https://x.org/p?a=1&b=2)."},
		{"a link around marks", `<a href="https://x.org">a <b>b</b></a>`, "a *b* (https://x.org)"},
		{"bold around a link", `<b>a <a href="https://x.org">b</a> c</b>`, "*a b* (https://x.org) *c*"},
		{"a link that shows its target", `<a href="https://x.org/">https://x.org/</a>`, "https://x.org/"},
		{"a link that shows its target in short", `see <a href="https://x.org/">x.org</a>!`, "see https://x.org/!"},
		{"a mail address", `<a href="mailto:a@x.org">a@x.org</a>`, "a@x.org"},
		{"a link in a link", `<a href="https://x.org">a<a href="https://y.org">b</a>c</a>d`, "a (https://x.org)b (https://y.org)cd"},
		{"a link without words", `<a href="https://x.org"></a>`, "https://x.org"},
		{"a link without a target", `<a>a</a> <a href="">b</a> <a href="#c">c</a>`, "a b c"},
		{"a link that runs a program", `<a href="javascript:alert(1)">a</a> <a href="data:text/html,x">b</a>`, "a b"},
		{"a link with spaces and line breaks", "<a href=\" https://x.org/a b\nc \">w</a>", "w (https://x.org/a%20bc)"},
		{"a space at the end of a link", `<a href="https://x.org">a </a>b`, "a (https://x.org) b"},
		{"a mention", `<a href="https://matrix.to/#/@u:x.org">Anna</a>: hi`, "Anna: hi"},
		{"a mention in the other form", `<a href="matrix:u/u:x.org">Anna</a>`, "Anna"},
		{"a mention without a name", `<a href="https://matrix.to/#/%40u%3Ax.org"></a>`, "@u:x.org"},
		{"a link to a room", `<a href="https://matrix.to/#/#r:x.org">room</a>`, "room (https://matrix.to/#/#r:x.org)"},

		{"an emoji as an image", `a <img data-mx-emoticon src="mxc://x/y" alt=":cat:" title="cat">`, "a :cat:"},
		{"a spoiler", `<span data-mx-spoiler="film">he dies</span>`, "[spoiler: film] he dies"},
		{"a spoiler without a reason", `a <span data-mx-spoiler>b</span>`, "a [spoiler] b"},
		{"underline and colour leave the words", `<u>a</u> <font color="#f00">b</font> <sup>c</sup>`, "a b c"},
		{"entities", "&lt;b&gt; &amp;amp; &#x1F600;", "<b> &amp; 😀"},
		{"scripts and styles are left out", "a<script>x</script><style>y</style><!-- z -->b", "ab"},
		{"the quote of a reply is left out", "<mx-reply><blockquote>old</blockquote></mx-reply>new", "new"},
		{"the quote of a reply anywhere", "a<mx-reply>x<mx-reply>y</mx-reply>z</mx-reply>b", "ab"},
		{"unknown elements leave their words", "<x-y>a</x-y><video>b</video>", "ab"},
		{"U+0000 and broken bytes", "a&#0;b\x00c\xffd", "a\uFFFDb\uFFFDc\uFFFDd"},
		{"HTML with nothing to see", "<p> </p><br><script>x</script>", "the plain body"},
		{"HTML that never ends its quote", "<mx-reply>old new", "the plain body"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := send(t, htmlMessage(tc.html)); got != tc.want {
				t.Errorf("%s\n got %q\nwant %q", tc.html, got, tc.want)
			}
		})
	}
}

func TestPlainTextIsSentAsTyped(t *testing.T) {
	for _, text := range []string{
		"hello", " spaces  stay \n\n", "*a* <b> & > q", "- a\n1. b", "> not <@a:b> a reply\n\nx", "👩‍👩‍👧 é",
	} {
		for _, kind := range []event.MessageType{event.MsgText, event.MsgNotice} {
			if got := send(t, &event.MessageEventContent{MsgType: kind, Body: text}); got != text {
				t.Errorf("%s: got %q, want %q", kind, got, text)
			}
		}
	}
	// A formatted body of another format is not HTML.
	got := send(t, &event.MessageEventContent{MsgType: event.MsgText, Body: "a", Format: "x", FormattedBody: "<b>b</b>"})
	if got != "a" {
		t.Errorf("unknown format: got %q", got)
	}
}

func TestAnEmoteIsInItalics(t *testing.T) {
	plain := &event.MessageEventContent{MsgType: event.MsgEmote, Body: "waves\nand goes"}
	if got := send(t, plain); got != "_waves_\n_and goes_" {
		t.Errorf("plain: %q", got)
	}
	marked := htmlMessage("waves <b>hard</b>")
	marked.MsgType = event.MsgEmote
	if got := send(t, marked); got != "_waves *hard*_" {
		t.Errorf("with HTML: %q", got)
	}
}

func TestTheFallbackOfAReplyIsRemoved(t *testing.T) {
	reply := (&event.RelatesTo{}).SetReplyTo("$a")
	for _, tc := range []struct{ name, body, html, want string }{
		{"from the body", "> <@a:b> old\n> more\n\nnew\n> mine", "", "new\n> mine"},
		{"of an emote", "> * <@a:b> old\n\nnew", "", "new"},
		{"in the HTML", "> <@a:b> old\n\nnew", "<mx-reply>old</mx-reply>new <b>x</b>", "new *x*"},
		{"in the HTML when only the body can be used", "> <@a:b> old\n\nnew", "<mx-reply>old</mx-reply>", "new"},
		{"is not there", "new\n> quote", "", "new\n> quote"},
		{"is all there is", "> <@a:b> old", "", "> <@a:b> old"},
		{"is somebody's own quote", "> quote\n\nnew", "", "> quote\n\nnew"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			content := &event.MessageEventContent{MsgType: event.MsgText, Body: tc.body, RelatesTo: reply}
			if tc.html != "" {
				content.Format, content.FormattedBody = event.FormatHTML, tc.html
			}
			if got := send(t, content); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if content.Body != tc.body || content.FormattedBody != tc.html {
				t.Error("the content was changed")
			}
		})
	}
	notReply := &event.MessageEventContent{MsgType: event.MsgText, Body: "> <@a:b> old\n\nnew"}
	if got := send(t, notReply); got != notReply.Body {
		t.Errorf("a text that is no reply was cut: %q", got)
	}
}

func TestWhatCannotBeSentIsRefusedInWords(t *testing.T) {
	edit := &event.MessageEventContent{MsgType: event.MsgText, Body: "* a", NewContent: &event.MessageEventContent{}}
	bareEdit := &event.MessageEventContent{MsgType: event.MsgText, Body: "* a", RelatesTo: (&event.RelatesTo{}).SetReplace("$a")}
	const uri = "mxc://a/b"
	for _, tc := range []struct {
		content *event.MessageEventContent
		want    Kind
	}{
		{&event.MessageEventContent{MsgType: event.MsgImage}, KindNoFile},
		{&event.MessageEventContent{MsgType: event.MsgFile, URL: "https://x.org"}, KindNoFile},
		{&event.MessageEventContent{MsgType: event.MsgImage, URL: uri}, KindImage},
		{&event.MessageEventContent{MsgType: event.MsgVideo, URL: uri}, KindVideo},
		{&event.MessageEventContent{MsgType: event.MsgAudio, URL: uri}, KindAudio},
		{&event.MessageEventContent{MsgType: event.MsgAudio, URL: uri, MSC3245Voice: &event.MSC3245Voice{}}, KindVoice},
		{&event.MessageEventContent{MsgType: event.MsgFile, URL: uri}, KindFile},
		{&event.MessageEventContent{MsgType: event.MsgLocation}, KindLocation},
		{&event.MessageEventContent{MsgType: event.MsgBeeperGallery}, KindGallery},
		{&event.MessageEventContent{MsgType: event.MsgVerificationRequest}, KindVerification},
		{&event.MessageEventContent{URL: uri}, KindSticker},
		{&event.MessageEventContent{MsgType: event.CapMsgSticker, URL: uri}, KindSticker},
		{&event.MessageEventContent{MsgType: "org.example.new", Body: "x"}, KindOther},
		{&event.MessageEventContent{Body: "no type"}, KindOther},
		{edit, KindEdit},
		{bareEdit, KindEdit},
	} {
		messages, err := ToInterop(tc.content, Limits{})
		var unsupported *Unsupported
		if !errors.As(err, &unsupported) || messages != nil {
			t.Fatalf("%s: got %v, %v", tc.want, messages, err)
		}
		if unsupported.Kind != tc.want {
			t.Errorf("got kind %q, want %q", unsupported.Kind, tc.want)
		}
		if kind := Refused(err); kind == "" || kind != unsupported.known() {
			t.Errorf("%s is refused as %q", tc.want, kind)
		}
		if !strings.Contains(err.Error(), string(tc.want)) {
			t.Errorf("the error does not name the kind: %v", err)
		}
	}
}

func TestOtherEventsAreRefusedInWords(t *testing.T) {
	for eventType, want := range map[string]Kind{
		"m.reaction": KindReaction, "m.room.redaction": KindRedaction, "m.sticker": KindSticker,
		"m.poll.start": KindPoll, "org.matrix.msc3381.poll.response": KindPollVote, "m.poll.end": KindPollEnd,
		"m.call.invite": KindCall, "org.example.x": KindOther, "": KindOther,
	} {
		if got := UnsupportedEvent(eventType); got.Kind != want || Refused(got) != want {
			t.Errorf("%q: got %+v, want %q", eventType, got, want)
		}
	}
	if got := (&Unsupported{Kind: "made up"}); Refused(got) != KindOther {
		t.Error("an unknown kind is not refused as another one")
	}
	if got := Refused(errors.New("x")); got != "" {
		t.Errorf("a foreign error is explained as %q", got)
	}
}

func TestEmptyTextIsAnError(t *testing.T) {
	for name, content := range map[string]*event.MessageEventContent{
		"nil":    nil,
		"empty":  {MsgType: event.MsgText},
		"spaces": {MsgType: event.MsgText, Body: " \n\t\u00a0"},
		"markup": {MsgType: event.MsgText, Format: event.FormatHTML, FormattedBody: "<p><b> </b></p>"},
		"emote":  {MsgType: event.MsgEmote, Body: "  "},
	} {
		messages, err := ToInterop(content, Limits{})
		if !errors.Is(err, ErrEmptyText) || messages != nil {
			t.Errorf("%s: got %v, %v", name, messages, err)
		}
		if Refused(err) == "" {
			t.Errorf("%s: no kind", name)
		}
	}
}

func TestLongTextIsSplitAtWords(t *testing.T) {
	text := strings.TrimSpace(strings.Repeat("word after word. ", 12000))
	messages, err := ToInterop(&event.MessageEventContent{MsgType: event.MsgText, Body: text}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if len(messages) != 4 {
		t.Errorf("%d units became %d messages", units(text), len(messages))
	}
	var all strings.Builder
	for i, m := range messages {
		part := m.GetConversation()
		if units(part) > DefaultMaxTextUnits {
			t.Errorf("part %d has %d units", i, units(part))
		}
		if i > 0 && !strings.HasPrefix(part, "word") && !strings.HasPrefix(part, "after") {
			t.Errorf("part %d begins inside a word: %q", i, part[:12])
		}
		all.WriteString(part)
	}
	if all.String() != text {
		t.Error("the parts are not the text")
	}
}

func TestSplittingSparesCharacters(t *testing.T) {
	for name, char := range map[string]string{
		"surrogate pairs": "😀", "skin tones": "👍🏽", "families": "👩‍👩‍👧‍👦", "flags": "🇩🇪", "accents": "e\u0301",
		"Hangul": "\u1112\u1161\u11ab", "line ends": "x\r\n",
	} {
		text := strings.Repeat(char, 2000)
		for limit := MinTextUnits; limit < MinTextUnits+12; limit++ {
			for i, part := range splitText(text, limit) {
				if strings.Repeat(char, len(part)/len(char)) != part || units(part) > limit {
					t.Fatalf("%s, limit %d: part %d was cut inside a character", name, limit, i)
				}
			}
		}
	}
	// One character that is longer than the limit is cut between code points.
	long := "a" + strings.Repeat("\u0301", 1000)
	for i, part := range splitText(long, MinTextUnits) {
		if !utf8.ValidString(part) || units(part) > MinTextUnits {
			t.Errorf("part %d: %d units", i, units(part))
		}
	}
}

func TestMarksSurviveSplitting(t *testing.T) {
	words := strings.Repeat("many bold words ", 60)
	for _, tc := range []struct{ name, html string }{
		{"a long bold line", "<b>" + words + "</b>"},
		{"a long quote", "<blockquote>" + words + "</blockquote>"},
		{"a long fence", "<pre>" + strings.ReplaceAll(words, "bold", "\n") + "</pre>"},
		{"a fence of one long line", "<pre>" + words + "</pre>"},
		{"formats at every word", strings.Repeat("<b>a</b> <i>b</i> ", 400)},
		{"formats at every letter", strings.Repeat("<b>.</b><i>,</i>", 400)},
		{"deep lists", strings.Repeat("<ul><li>x", 30) + words},
	} {
		t.Run(tc.name, func(t *testing.T) {
			messages, err := ToInterop(htmlMessage(tc.html), Limits{MaxTextUnits: 1})
			if err != nil {
				t.Fatal(err)
			}
			if len(messages) < 2 {
				t.Fatal("nothing was split")
			}
			for i, m := range messages {
				part := m.GetConversation()
				if n := units(part); n > MinTextUnits {
					t.Errorf("part %d has %d units", i, n)
				}
				in := Read(m, Options{})
				if strings.HasPrefix(tc.name, "a ") && in.Parts[0].Content.FormattedBody == "" {
					t.Errorf("part %d has lost its format: %q", i, part)
				}
			}
		})
	}
}

func TestHTMLBeyondTheLimitsIsStillDelivered(t *testing.T) {
	if got := send(t, htmlMessage("<b>"+strings.Repeat("x", MaxHTMLBytes))); got != "the plain body" {
		t.Errorf("too long: %.40q", got)
	}
	deep := strings.Repeat("<div><b>", 2000) + "words" + strings.Repeat("</b></div>", 2000) + " after"
	if got := send(t, htmlMessage(deep)); got != "*words*\nafter" {
		t.Errorf("too deep: %.40q", got)
	}
	nested := strings.Repeat("<blockquote>", 90) + "a" + strings.Repeat("<br>b", 3)
	if got := send(t, htmlMessage(nested)); got != "> > > a\n> > > b\n> > > b\n> > > b" {
		t.Errorf("nested quotes: %q", got)
	}
}

func TestRepliesAndMentionsDoNotHideText(t *testing.T) {
	content := &event.MessageEventContent{
		MsgType: event.MsgText, Body: "hi", RelatesTo: (&event.RelatesTo{}).SetThread("$a", "$b"),
		Mentions: &event.Mentions{UserIDs: []id.UserID{"@a:b"}},
	}
	if got := send(t, content); got != "hi" {
		t.Errorf("got %q", got)
	}
}
