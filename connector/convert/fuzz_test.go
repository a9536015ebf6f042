package convert

import (
	"encoding/json"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"maunium.net/go/mautrix/event"
)

var (
	tagShape   = regexp.MustCompile(`^</?(strong|em|del|code|pre|blockquote|ul|li|ol|br)>$|^<ol start="[0-9]{1,9}">$`)
	allowedTag = map[string]bool{
		"strong": true, "em": true, "del": true, "code": true, "pre": true, "blockquote": true,
		"ul": true, "ol": true, "li": true, "br": true,
	}
)

// checkHTML is the oracle against injection: the outside parser finds only
// elements of ours, only numbers in their one attribute, and the text that was
// there before.
func checkHTML(t testing.TB, body, rendered string) {
	t.Helper()
	tokens := html.NewTokenizer(strings.NewReader(rendered))
	depth := 0
	for {
		kind := tokens.Next()
		if kind == html.ErrorToken {
			break
		}
		raw := string(tokens.Raw())
		switch kind {
		case html.TextToken:
			if strings.ContainsAny(raw, "<>") {
				t.Fatalf("text with a bare bracket: %q", raw)
			}
		case html.StartTagToken, html.EndTagToken:
			if !tagShape.MatchString(raw) {
				t.Fatalf("a tag that is not ours: %q", raw)
			}
			switch {
			case raw == "<br>":
			case kind == html.StartTagToken:
				depth++
			default:
				depth--
			}
			if depth < 0 || depth > 6 {
				t.Fatalf("depth %d in %q", depth, rendered)
			}
		default:
			t.Fatalf("%v: %q", kind, raw)
		}
	}
	if depth != 0 {
		t.Fatalf("%d elements are left open: %q", depth, rendered)
	}
	nodes, err := html.ParseFragment(strings.NewReader(rendered), &html.Node{Type: html.ElementNode, Data: "body", DataAtom: atom.Body})
	if err != nil {
		t.Fatalf("the outside parser: %v", err)
	}
	var text strings.Builder
	var walk func(n *html.Node)
	walk = func(n *html.Node) {
		switch n.Type {
		case html.TextNode:
			text.WriteString(n.Data)
		case html.ElementNode:
			if !allowedTag[n.Data] || n.Namespace != "" {
				t.Fatalf("element %q", n.Data)
			}
			for _, a := range n.Attr {
				if n.Data != "ol" || a.Key != "start" {
					t.Fatalf("attribute %q of %q", a.Key, n.Data)
				}
			}
		default:
			t.Fatalf("node of type %d", n.Type)
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c)
		}
	}
	for _, n := range nodes {
		walk(n)
	}
	if got, want := essence(text.String()), essence(body); got != want {
		t.Fatalf("the text changed\n got %q\nwant %q\nfrom %q\nto   %q", got, want, body, rendered)
	}
}

// essence is a text without what formatting may take away: marks, prefixes and
// spaces. A number that became the number of an item is a prefix.
func essence(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.IsControl(r) || unicode.IsDigit(r) || strings.ContainsRune("*_~`>-.", r) {
			return -1
		}
		return r
	}, s)
}

// checkAllocation fails if f allocates more than bound bytes. Other goroutines
// are counted too, so a figure that is too high is measured again.
func checkAllocation(t testing.TB, what string, bound int, f func()) {
	t.Helper()
	var used uint64
	for range 5 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		if used = after.TotalAlloc - before.TotalAlloc; used <= uint64(bound) {
			return
		}
	}
	t.Fatalf("%s took %d bytes, more than %d", what, used, bound)
}

// Bounds on what one conversion may allocate: so much for any input, and so
// many bytes for each byte of it.
const (
	allocBase   = 96 << 10
	allocFactor = 640
)

// FuzzHTML turns any HTML into parts of WhatsApp text. Every part fits the limit and is text that may be sent, all of them
// together are not longer than 16 times the HTML, and what is allocated is bounded by 96 KiB and 640 bytes for each of it.
//
// decoder: html.go element.go link.go line.go interop.go split.go:units,runeUnits,cut,joins,isFlag,clean
func FuzzHTML(f *testing.F) {
	for _, seed := range []string{
		"<p>Hello <strong>bold</strong></p><ul><li>a<li>b</ul>", "<mx-reply>x</mx-reply>y", "<b><i>x</b>y</i>",
		`<a href="https://x.org/a">x</a> <a href="https://matrix.to/#/@a:b">A</a>`, "<pre><code>a\n```</code></pre>",
		"<blockquote><ol start=5><li><h1>t</h1></blockquote><table><tr><td>1<td>2", `<span data-mx-spoiler="x">y</span>`,
		"<plaintext>a<b>", "<textarea><b>x", "<![CDATA[x]]><!--", "a<br>b<hr>c<img alt=d><input type=checkbox checked>",
		"<pre>a\n```\nb</pre>" + strings.Repeat("<pre>word word</pre>", 40), "<b>" + strings.Repeat("word ", 120) + "<i>x</i></b> <code>a`b</code>",
		"<b>" + strings.Repeat("😀", 400) + "</b>", "<p>a</p><p></p><blockquote><p>b<br></p><ul><li><p>c</p><li></ul></blockquote><hr><details><summary>d</summary>e</details>",
		"x<b>bold</b>y <i>a<s>b</i>c</s> <code>*a*</code> <b>*</b> https://x.org/_a_", "<a href='mailto:a@b.c'>m</a><a href='//x'>p</a><a href='https://x.org/'>x.org</a><a href=x><b>q</b></a>",
		"<img src=x title=t><input type=checkbox><ol><li>a<ol start=-3><li>b</ol></ol><h3>h</h3>", "<pre>" + strings.Repeat("long line of code ", 40) + "</pre>",
		"<svg><script>x</script></svg>y", "*a <b>b</b> _c_ ~d `e", "&#0;&amp;lt;&#x110000;",
	} {
		f.Add(seed, uint16(0), false)
		f.Add(seed, uint16(300), true)
	}
	f.Fuzz(func(t *testing.T, source string, limit uint16, emote bool) {
		content := htmlMessage(source)
		content.Body = "plain *body*"
		if emote {
			content.MsgType = event.MsgEmote
		}
		checkAllocation(t, "HTML", allocBase+allocFactor*len(source), func() {
			_, _ = ToInterop(content, Limits{MaxTextUnits: int(limit)})
		})
		messages, err := ToInterop(content, Limits{MaxTextUnits: int(limit)})
		if err != nil {
			t.Fatalf("HTML with a plain body: %v", err)
		}
		most := int(limit)
		if most == 0 {
			most = DefaultMaxTextUnits
		}
		most = max(most, MinTextUnits)
		total := 0
		for _, m := range messages {
			text := m.GetConversation()
			if n := units(text); n > most {
				t.Fatalf("a part of %d units, the limit is %d", n, most)
			}
			if strings.TrimSpace(text) == "" || !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
				t.Fatalf("a part that must not be sent: %q", text)
			}
			if m.ExtendedTextMessage != nil || m.Conversation == nil {
				t.Fatal("a payload that is not plain conversation")
			}
			total += len(text)
		}
		if total > 64+16*len(source) {
			t.Fatalf("%d bytes of HTML became %d bytes of text", len(source), total)
		}
	})
}

// FuzzMarks turns any WhatsApp text into Matrix contents. Every content fits the budget as JSON, its HTML has only elements
// of ours and the same words as its body (an outside parser says so), no character is lost, and what is allocated is
// bounded by 96 KiB and 640 bytes for each byte of the text.
//
// decoder: document.go marks.go render.go matrix.go:matrixText,nextPart split.go:jsonBytes,runeJSON,cut,joins,isFlag,clean
func FuzzMarks(f *testing.F) {
	for _, seed := range []string{
		"*bold* _it_ ~s~ `c` ```f```", "> q\n- b\n1. n\n* c", "```\na\n``` b ```c", "*a _b* c_", "https://x.org/_a_ *b*",
		"<script>alert(1)</script>*x*", "*<img src=x onerror=y>*", "_&lt;_ `\"'`", "1. a\n999999999. b\n0. c", "*😀* é*e*",
		"****", "``````", "* \n*", "\x00*a*\xff", "\u2028*a*\u2029",
	} {
		f.Add(seed, uint16(0))
		f.Add(strings.Repeat(seed+" ", 60), uint16(1100))
	}
	f.Fuzz(func(t *testing.T, text string, budget uint16) {
		most := max(int(budget), 1<<10)
		checkAllocation(t, "text", allocBase+allocFactor*len(text), func() {
			_ = matrixText(clean(text), most)
		})
		all := matrixText(clean(text), most)
		var bodies strings.Builder
		for _, c := range all {
			encoded, err := json.Marshal(c)
			if err != nil || len(encoded) > most {
				t.Fatalf("%d bytes of JSON, the budget is %d (%v)", len(encoded), most, err)
			}
			if c.MsgType != event.MsgText || strings.TrimSpace(c.Body) == "" {
				t.Fatalf("a content that must not be sent: %+v", c)
			}
			if c.FormattedBody != "" {
				checkHTML(t, c.Body, c.FormattedBody)
			}
			bodies.WriteString(c.Body)
		}
		squeeze := func(s string) string {
			return strings.Map(func(r rune) rune {
				if unicode.IsSpace(r) {
					return -1
				}
				return r
			}, s)
		}
		if squeeze(bodies.String()) != squeeze(clean(text)) {
			t.Fatal("the bodies are not the text")
		}
		checkSpans(t, clean(text))
		// What has been read can be written and read again.
		if len(all) == 1 && all[0].FormattedBody != "" {
			if _, err := ToInterop(all[0], Limits{}); err != nil {
				t.Fatalf("back again: %v", err)
			}
		}
	})
}
