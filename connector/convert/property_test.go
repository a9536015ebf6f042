package convert

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// rounds is how many random inputs a test tries: n, and many more in the full
// campaign.
func rounds(n uint64) uint64 {
	if os.Getenv("POSTERN_ALL") != "" {
		return 100 * n
	}
	return n
}

// styled is one letter with its formats, as a reader sees it.
type styled struct {
	letter rune
	format format
}

// readStyles reads HTML with an independent parser and returns its letters
// with their formats. Everything but letters is left out: marks, prefixes and
// spaces may change on the way.
func readStyles(t testing.TB, source string) []styled {
	t.Helper()
	var out []styled
	walkHTML(t, source, func(text string, path []string) {
		var f format
		for _, tag := range path {
			if g, ok := inlineFormat(tag); ok {
				f |= g
			}
			if tag == "pre" || strings.HasPrefix(tag, "h") && len(tag) == 2 {
				f |= map[bool]format{true: code, false: bold}[tag == "pre"]
			}
		}
		for _, r := range text {
			if unicode.IsLetter(r) {
				out = append(out, styled{r, f})
			}
		}
	})
	return out
}

// walkHTML calls f for each text node with the names of the elements around it.
func walkHTML(t testing.TB, source string, f func(text string, path []string)) {
	t.Helper()
	nodes, err := html.ParseFragment(strings.NewReader(source), &html.Node{Type: html.ElementNode, Data: "body", DataAtom: atom.Body})
	if err != nil {
		t.Fatalf("the outside parser refuses %.200q: %v", source, err)
	}
	var walk func(n *html.Node, path []string)
	walk = func(n *html.Node, path []string) {
		if n.Type == html.TextNode {
			f(n.Data, path)
			return
		}
		path = append(path, n.Data)
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c, path)
		}
	}
	for _, n := range nodes {
		walk(n, nil)
	}
}

// generator writes random HTML whose formats all fall on whole words, so that
// all of them can be marked.
type generator struct {
	*rand.Rand
	out  strings.Builder
	word int
}

func (g *generator) words(n int) {
	for range n {
		g.word++
		fmt.Fprintf(&g.out, "w%sx ", strings.Map(func(r rune) rune { return r - '0' + 'a' }, strconv.Itoa(g.word)))
	}
}

var (
	inlineTags = []string{"b", "i", "del", "strong", "em", "s"}
	blockTags  = []string{"p", "blockquote", "h2", "ul", "ol", "pre", "div"}
)

func (g *generator) inline(depth int, open string) {
	for range 1 + g.IntN(4) {
		tag := inlineTags[g.IntN(len(inlineTags))]
		switch k := g.IntN(6); {
		case k == 0:
			g.out.WriteString("<code>")
			g.words(1 + g.IntN(2))
			g.out.WriteString("</code> ")
		case k < 3 && depth > 0 && !strings.Contains(open, tag):
			g.out.WriteString("<" + tag + ">")
			g.inline(depth-1, open+tag)
			g.out.WriteString("</" + tag + "> ")
		case k == 3:
			g.out.WriteString("<br>")
		default:
			g.words(1 + g.IntN(3))
		}
	}
}

func (g *generator) block() {
	tag := blockTags[g.IntN(len(blockTags))]
	g.out.WriteString("<" + tag + ">")
	switch tag {
	case "ul", "ol":
		for range 1 + g.IntN(3) {
			g.out.WriteString("<li>")
			g.inline(2, "")
			g.out.WriteString("</li>")
		}
	case "pre":
		g.words(2)
		g.out.WriteString("\n")
		g.words(2)
	default:
		g.inline(3, "")
	}
	g.out.WriteString("</" + tag + ">")
}

func TestFormatsSurviveTheRoundTrip(t *testing.T) {
	letters, formatted := 0, 0
	for seed := range rounds(400) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 1))}
		for range 1 + g.IntN(5) {
			g.block()
		}
		g.words(1) // one word is there in any case
		source := g.out.String()
		want := readStyles(t, source)

		sent := send(t, htmlMessage(source))
		content := receive(t, textMessage(sent))
		rendered := content.FormattedBody
		if rendered == "" {
			rendered = htmlEscaper.Replace(content.Body)
		}
		got := readStyles(t, rendered)
		// What WhatsApp cannot show as meant goes plain, so formats may be
		// missing; letters may not, and no format may appear that was not there.
		if len(got) != len(want) {
			t.Fatalf("seed %d: %d letters became %d\n%s\n%s\n%s", seed, len(want), len(got), source, sent, rendered)
		}
		for i := range want {
			if got[i].letter != want[i].letter || got[i].format&^want[i].format != 0 {
				t.Fatalf("seed %d, letter %d: %+v became %+v\n%s\n%s\n%s", seed, i, want[i], got[i], source, sent, rendered)
			}
			if inCode := want[i].format&code != 0; want[i].format != 0 && !inCode {
				letters++
				if got[i].format == want[i].format {
					formatted++
				}
			}
		}
		// From here on nothing changes any more.
		again := send(t, htmlMessage(rendered))
		if content.FormattedBody != "" && again != sent {
			if a, b := canonical(sent), canonical(again); a != b {
				t.Fatalf("seed %d: the second trip changed the text\n%q\n%q", seed, sent, again)
			}
		}
	}
	if letters == 0 || formatted*100 < letters*97 {
		t.Errorf("only %d of %d formatted letters kept all their formats", formatted, letters)
	}
	t.Logf("%d of %d formatted letters kept all their formats", formatted, letters)
}

// canonical leaves out what is a matter of layout: blank lines and indents,
// which lists within lists have.
func canonical(s string) string {
	var lines []string
	for l := range strings.SplitSeq(s, "\n") {
		if l = strings.TrimSpace(l); l != "" && l != ">" {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines, "\n")
}

// markSoup is what random texts are made of; it brings marks next to
// everything that could matter.
var markSoup = []string{
	"*", "_", "~", "`", "```", " ", " ", "\n", "\n", "> ", "- ", "* ", "1. ", "2. ", "a", "b", "Z", "é", "7",
	".", ",", "(", ")", "<", ">", "&", "<b>", "😀", "\u0301", "https://x.org/_a_", "www.y.org", "\u00a0", "\t", "&lt;",
}

func soup(g *rand.Rand, n int) string {
	var b strings.Builder
	for range 1 + g.IntN(n) {
		b.WriteString(markSoup[g.IntN(len(markSoup))])
	}
	return b.String()
}

func TestNoTextIsLostInFormatting(t *testing.T) {
	formatted := 0
	for seed := range rounds(3000) {
		text := soup(rand.New(rand.NewPCG(seed, 2)), 30)
		for _, c := range contents(Read(textMessage(text), Options{})) {
			if c.FormattedBody != "" {
				formatted++
				checkHTML(t, c.Body, c.FormattedBody)
			}
		}
	}
	if formatted < 750 {
		t.Errorf("only %d texts had a format", formatted)
	}
}

func TestSpansNestAndNeverCross(t *testing.T) {
	for seed := range rounds(3000) {
		text := soup(rand.New(rand.NewPCG(seed, 3)), 40)
		checkSpans(t, text)
	}
}

func checkSpans(t testing.TB, text string) {
	t.Helper()
	d := parseDocument(text)
	for _, b := range d.blocks {
		var open []span
		pos := int(b.from)
		for _, s := range d.spans[b.spanFrom:b.spanEnd] {
			if s.open < pos || s.from <= s.open || s.to <= s.from || s.end <= s.to || s.end > int(b.to) {
				t.Fatalf("%q: span %+v in block %+v", text, s, b)
			}
			for len(open) > 0 && open[len(open)-1].end <= s.open {
				open = open[:len(open)-1]
			}
			if len(open) > 0 && (s.end > open[len(open)-1].to || s.open < open[len(open)-1].from) {
				t.Fatalf("%q: spans %+v and %+v cross", text, open[len(open)-1], s)
			}
			if text[s.open:s.from] != text[s.to:s.end] {
				t.Fatalf("%q: marks %q and %q", text, text[s.open:s.from], text[s.to:s.end])
			}
			open = append(open, s)
			pos = s.open + 1
		}
	}
}

func TestOurMarksAreReadBackAsMeant(t *testing.T) {
	// Random runs of words and punctuation with random formats: every span that
	// the reader finds either has the format it was given or was typed.
	marked := 0
	for seed := range rounds(3000) {
		g := rand.New(rand.NewPCG(seed, 4))
		l := line{}
		for range 1 + g.IntN(6) {
			text := strings.NewReplacer("\n", " ", "*", "x", "_", "x", "~", "x", "`", "x").Replace(soup(g, 5))
			l.runs = append(l.runs, run{text, format(g.IntN(16))})
		}
		l.runs = merge(l.runs)
		written := string(l.write(nil, true))
		var want []styled
		for _, r := range l.runs {
			for _, c := range r.text {
				want = append(want, styled{c, r.format})
			}
		}
		d := &document{text: written}
		d.add(block{to: int32(len(written))})
		out, _ := d.html(0, len(written))
		i := 0
		walkHTML(t, out, func(text string, path []string) {
			var f format
			for _, tag := range path {
				g, _ := inlineFormat(tag)
				f |= g
			}
			marked += len(path)
			for _, c := range text {
				if i >= len(want) || want[i].letter != c || f&^want[i].format != 0 {
					t.Fatalf("seed %d: %+v was written as %q and read as %q", seed, l.runs, written, out)
				}
				i++
			}
		})
		if i != len(want) {
			t.Fatalf("seed %d: %+v was written as %q", seed, l.runs, written)
		}
	}
	if marked < 750 {
		t.Errorf("only %d marks were written", marked)
	}
}

func TestNothingChangesItsInput(t *testing.T) {
	content := htmlMessage("<b>a</b>")
	before := *content
	send(t, content)
	if content.Body != before.Body || content.FormattedBody != before.FormattedBody {
		t.Error("ToInterop changed its input")
	}
	msg := wrap("ephemeralMessage", textMessage("*a*"))
	text := msg.String()
	receive(t, msg)
	if msg.String() != text {
		t.Error("Read changed its input")
	}
	var none *waE2E.Message
	if in := Read(none, Options{}); in.Reason != NoPayload {
		t.Error("nil is a payload")
	}
}
