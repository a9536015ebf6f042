package convert

import (
	"bytes"
	"strings"

	"golang.org/x/net/html"
)

// Bounds on what nesting adds to every line, so that the output stays within
// a small multiple of the input.
const (
	maxQuotes = 3
	maxItems  = 8
)

// htmlReader turns Matrix HTML into lines. It walks the tokens with stacks of
// its own rather than building a tree: HTML's rules for repairing markup can
// grow a tree far beyond its source, and here every token costs the same.
type htmlReader struct {
	tokens *html.Tokenizer
	lines  []line

	runs    []run        // words of the line that is being read
	space   bool         // a space is due before the next word
	spaceIn format       // the formats that this space has
	gap     gap          // what is due before the next line
	blocks  []blockElem  // block elements that are open
	inlines []inlineElem // inline elements that are open
	ignored int          // elements too deep to count that are open
	skip    string       // element whose content is left out
	skipped int          // how many of those are open within each other
	quotes  int
	items   int
	cells   int // cells begun in the table row
	pre     *strings.Builder
}

// gap collects the edges of blocks since the last line. A blank line stands
// where a block that wants one ended and such a block began.
type gap struct{ closed, opened, never bool }

// edge says how a block wants to stand apart from its neighbours.
type edge uint8

const (
	neutral edge = iota // as what is in it
	tight               // directly below the other
	apart               // a blank line between, if the other agrees
)

type blockElem struct {
	tag     string
	mark    string // for li: the bullet or number, until it has been written
	indent  string // what stands before every line in it
	used    bool   // a line of it has been written
	counter int    // for ol: the next number
}

type inlineElem struct {
	tag    string
	format format
	// For links: the target and where its words begin.
	href        string
	line, start int
	text        []byte // as much of them as it takes to tell them from the target
}

// readHTML turns HTML into lines; base is a format for all of it. The result
// has no line if there is nothing to see.
func readHTML(source string, base format) []line {
	r := &htmlReader{tokens: html.NewTokenizer(strings.NewReader(source))}
	r.inlines = append(r.inlines, inlineElem{format: base})
	for {
		switch r.tokens.Next() {
		case html.ErrorToken: // the end; a string gives no other error
			r.endPre()
			r.endLine()
			return trimBlank(r.lines)
		case html.TextToken:
			if r.skip == "" {
				r.text(r.tokens.Text())
			}
		case html.StartTagToken:
			name, hasAttr := r.tokens.TagName()
			r.start(string(name), hasAttr, false)
		case html.SelfClosingTagToken:
			name, hasAttr := r.tokens.TagName()
			r.start(string(name), hasAttr, true)
		case html.EndTagToken:
			name, _ := r.tokens.TagName()
			r.end(string(name))
		}
	}
}

func trimBlank(lines []line) []line {
	for len(lines) > 0 && len(lines[0].runs) == 0 && lines[0].prefix == "" {
		lines = lines[1:]
	}
	for len(lines) > 0 && len(lines[len(lines)-1].runs) == 0 && lines[len(lines)-1].prefix == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

func isBlock(tag string) bool {
	switch tag {
	case "p", "div", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre",
		"table", "tr", "caption", "details", "summary", "dl", "dt", "dd", "section", "article",
		"header", "footer", "figure", "figcaption", "center", "address":
		return true
	}
	return false
}

func inlineFormat(tag string) (format, bool) {
	switch tag {
	case "b", "strong":
		return bold, true
	case "i", "em", "cite", "dfn", "var":
		return italic, true
	case "s", "del", "strike":
		return strike, true
	case "code", "tt", "kbd", "samp":
		return code, true
	case "a":
		return 0, true
	}
	return 0, false
}

//nolint:gocyclo // one case for each kind of element
func (r *htmlReader) start(tag string, hasAttr, selfClosing bool) {
	if r.skip != "" {
		if tag == r.skip {
			r.skipped++
		}
		return
	}
	switch tag {
	case "script", "style", "title", "head", "template", "mx-reply", "svg", "math", "iframe", "object":
		if !selfClosing {
			r.skip, r.skipped = tag, 1
		}
	case "br":
		r.breakLine()
	case "hr":
		r.opened(tight)
		r.word("---", 0)
		r.closed(tight)
	case "img":
		r.image(r.attributes(hasAttr))
	case "input":
		r.checkbox(r.attributes(hasAttr))
	case "td", "th":
		if r.cells++; r.cells > 1 {
			r.space = false
			r.word(" | ", 0)
		}
	case "span":
		if reason, ok := r.attributes(hasAttr)["data-mx-spoiler"]; ok {
			r.spoiler(reason)
		}
	default:
		f, inline := inlineFormat(tag)
		if !inline && !isBlock(tag) {
			return // unknown elements leave their text as it is
		}
		if len(r.blocks)+len(r.inlines) > MaxHTMLDepth {
			r.ignored++
			return
		}
		if inline {
			r.startInline(tag, f, hasAttr)
		} else {
			r.startBlock(tag, hasAttr)
		}
	}
}

// attributes reads those attributes of the present tag that mean something.
func (r *htmlReader) attributes(more bool) map[string]string {
	found := map[string]string{}
	for more {
		var key, value []byte
		key, value, more = r.tokens.TagAttr()
		switch k := string(key); k {
		case "href", "start", "alt", "title", "type", "checked", "data-mx-spoiler":
			if _, twice := found[k]; !twice {
				found[k] = string(value)
			}
		}
	}
	return found
}

func (r *htmlReader) image(attributes map[string]string) {
	words := attributes["alt"]
	if words == "" {
		words = attributes["title"]
	}
	r.words([]byte(words))
}

func (r *htmlReader) checkbox(attributes map[string]string) {
	if !strings.EqualFold(attributes["type"], "checkbox") {
		return
	}
	mark := "[ ]"
	if _, checked := attributes["checked"]; checked {
		mark = "[x]"
	}
	r.word(mark, 0)
	r.blank(0)
}

// spoiler says in words what cannot be hidden on the other side.
func (r *htmlReader) spoiler(reason string) {
	words := "[spoiler]"
	if reason = strings.Join(strings.Fields(reason), " "); reason != "" {
		words = "[spoiler: " + reason + "]"
	}
	r.word(words, 0)
	r.blank(0)
}

// text takes the content of a text token.
func (r *htmlReader) text(text []byte) {
	if r.pre != nil {
		r.pre.Write(text)
		return
	}
	r.words(text)
}

// words adds text with its white space collapsed as HTML wants it.
func (r *htmlReader) words(text []byte) {
	var formats format
	for i := range r.inlines {
		formats |= r.inlines[i].format
	}
	const white = " \t\n\r\f"
	for len(text) > 0 {
		n := bytes.IndexAny(text, white)
		if n == 0 {
			r.blank(formats)
			text = bytes.TrimLeft(text, white)
			continue
		}
		if n < 0 {
			n = len(text)
		}
		r.word(string(text[:n]), formats)
		text = text[n:]
	}
}

// blank makes a space due. It has the formats that all its parts have.
func (r *htmlReader) blank(formats format) {
	if r.space {
		formats &= r.spaceIn
	}
	r.space, r.spaceIn = true, formats
}

// word adds text as it is, after the space that is due.
func (r *htmlReader) word(text string, f format) {
	if text == "" {
		return
	}
	if r.pre != nil {
		r.pre.WriteString(text)
		return
	}
	if r.space && len(r.runs) > 0 {
		r.append(" ", r.spaceIn)
	}
	r.space = false
	r.append(text, f)
}

func (r *htmlReader) append(text string, f format) {
	text = clean(text)
	for i := range r.inlines {
		if e := &r.inlines[i]; e.tag == "a" && len(e.text) <= len(e.href) {
			e.text = append(e.text, text...)
		}
	}
	r.runs = append(r.runs, run{text, f})
}

// breakLine is a <br>.
func (r *htmlReader) breakLine() {
	if r.pre != nil {
		r.pre.WriteByte('\n')
		return
	}
	if len(r.runs) == 0 && !r.fresh() {
		r.emit(nil, false)
	}
	r.endLine()
}

// fresh says whether an item has had no line yet.
func (r *htmlReader) fresh() bool {
	n := len(r.blocks)
	return n > 0 && r.blocks[n-1].mark != ""
}

// endLine writes the line that has been read, if there is one.
func (r *htmlReader) endLine() {
	if len(r.runs) > 0 {
		r.emit(r.runs, false)
	}
	r.runs, r.space = nil, false
}

// emit writes one line with the prefix that the open blocks give it.
func (r *htmlReader) emit(runs []run, fenced bool) {
	if r.gap.opened && r.gap.closed && !r.gap.never && len(r.lines) > 0 && !r.within() {
		r.lines = append(r.lines, line{})
	}
	r.gap = gap{}
	r.lines = append(r.lines, line{prefix: r.prefix(), runs: merge(runs), fenced: fenced})
}

// within says whether the next line carries on a quote or a list, where there
// is no place for a blank line.
func (r *htmlReader) within() bool {
	for i := range r.blocks {
		if e := &r.blocks[i]; e.tag == "li" || e.tag == "blockquote" && e.used {
			return true
		}
	}
	return false
}

// prefix gives what stands before the words of the next line. A bullet is
// written once.
func (r *htmlReader) prefix() string {
	var b strings.Builder
	for i := range r.blocks {
		e := &r.blocks[i]
		e.used = true
		if e.mark != "" {
			b.WriteString(e.mark)
			e.mark = ""
		} else {
			b.WriteString(e.indent)
		}
	}
	return b.String()
}

// endPre writes the preformatted text that has been read.
func (r *htmlReader) endPre() {
	if r.pre == nil {
		return
	}
	text := clean(r.pre.String())
	r.pre = nil
	text = strings.TrimSuffix(strings.TrimPrefix(strings.ReplaceAll(text, "\r\n", "\n"), "\n"), "\n")
	if strings.TrimSpace(text) == "" {
		return
	}
	// Inside quotes and lists a fence would not survive the prefixes.
	fenced := r.quotes == 0 && r.items == 0
	first := fenced
	for words := range strings.SplitSeq(text, "\n") {
		var runs []run
		if words != "" {
			runs = []run{{words, code}}
		}
		r.emit(runs, fenced)
		r.lines[len(r.lines)-1].first, first = first, false
	}
}

// merge joins neighbouring runs of one format.
func merge(runs []run) []run {
	out := runs[:0]
	for i := 0; i < len(runs); {
		j := i + 1
		for j < len(runs) && runs[j].format == runs[i].format {
			j++
		}
		if j > i+1 {
			var b strings.Builder
			for _, r := range runs[i:j] {
				b.WriteString(r.text)
			}
			out = append(out, run{b.String(), runs[i].format})
		} else {
			out = append(out, runs[i])
		}
		i = j
	}
	return out
}
