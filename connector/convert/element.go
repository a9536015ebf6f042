package convert

import (
	"strconv"
	"strings"
)

func (r *htmlReader) startInline(tag string, f format, hasAttr bool) {
	if tag == "code" && r.pre != nil {
		return
	}
	e := inlineElem{tag: tag, format: f}
	if tag == "a" {
		r.end("a") // links do not nest
		e.href = r.attributes(hasAttr)["href"]
		e.line = len(r.lines)
		if r.space && len(r.runs) > 0 {
			// The space belongs to what stands before the link.
			r.append(" ", r.spaceIn)
			r.space = false
		}
		e.start = len(r.runs)
	}
	r.inlines = append(r.inlines, e)
}

//nolint:gocyclo // one case for each kind of block
func (r *htmlReader) startBlock(tag string, hasAttr bool) {
	switch tag {
	case "li":
		r.closeBlocks("li", "ul", "ol")
	case "tr":
		r.closeBlocks("tr", "table")
		r.cells = 0
	case "p":
		if n := len(r.blocks); n > 0 && r.blocks[n-1].tag == "p" {
			r.closeBlocks("p", "")
		}
	}
	r.opened(edgeOf(tag))
	e := blockElem{tag: tag}
	switch tag {
	case "blockquote":
		if r.quotes++; r.quotes <= maxQuotes {
			e.indent = "> "
		}
	case "ol":
		e.counter = 1
		if n, err := strconv.ParseInt(r.attributes(hasAttr)["start"], 10, 32); err == nil && n >= 0 && n < 1e9 {
			e.counter = int(n)
		}
	case "li":
		if r.items++; r.items <= maxItems {
			e.mark = r.nextMark()
			// A long number would indent every line below it as far.
			e.indent = strings.Repeat(" ", min(len(e.mark), 3))
		}
	case "pre":
		if r.pre == nil {
			r.pre = &strings.Builder{}
		}
	case "h1", "h2", "h3", "h4", "h5", "h6":
		r.inlines = append(r.inlines, inlineElem{tag: tag, format: bold})
	}
	r.blocks = append(r.blocks, e)
}

// nextMark gives the bullet or the number of the next item.
func (r *htmlReader) nextMark() string {
	for i := len(r.blocks) - 1; i >= 0; i-- {
		switch b := &r.blocks[i]; b.tag {
		case "ul":
			return "- "
		case "ol":
			b.counter++
			return strconv.Itoa(b.counter-1) + ". "
		}
	}
	return "- "
}

func edgeOf(tag string) edge {
	switch tag {
	case "p", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6":
		return apart
	case "ul", "ol", "li", "pre", "table", "tr", "dl", "dt", "dd", "hr":
		return tight
	}
	return neutral
}

func (r *htmlReader) end(tag string) {
	if r.skip != "" {
		if tag == r.skip {
			if r.skipped--; r.skipped == 0 {
				r.skip = ""
			}
		}
		return
	}
	_, inline := inlineFormat(tag)
	switch {
	case tag == "br":
		r.breakLine()
	case !inline && !isBlock(tag):
	case r.ignored > 0:
		r.ignored--
	case inline:
		r.endInline(tag)
	default:
		r.closeBlocks(tag, "")
	}
}

// endInline ends the innermost inline element of that name; those opened
// after it stay open, as in a browser.
func (r *htmlReader) endInline(tag string) {
	for i := len(r.inlines) - 1; i > 0; i-- {
		if r.inlines[i].tag != tag {
			continue
		}
		e := r.inlines[i]
		r.inlines = append(r.inlines[:i], r.inlines[i+1:]...)
		if tag == "a" {
			r.endLink(&e)
		}
		return
	}
}

// closeBlocks ends the innermost block of that name and those within it,
// unless one named barrier lies between.
func (r *htmlReader) closeBlocks(tag string, barriers ...string) {
	for i := len(r.blocks) - 1; i >= 0; i-- {
		if r.blocks[i].tag == tag {
			for len(r.blocks) > i {
				r.closeBlock()
			}
			return
		}
		for _, b := range barriers {
			if r.blocks[i].tag == b {
				return
			}
		}
	}
}

func (r *htmlReader) closeBlock() {
	e := r.blocks[len(r.blocks)-1]
	if e.tag == "pre" {
		r.endPre()
	}
	after := edgeOf(e.tag)
	if isHeading(e.tag) {
		after = tight // what it is about follows directly
	}
	r.closed(after)
	r.blocks = r.blocks[:len(r.blocks)-1]
	switch e.tag {
	case "blockquote":
		r.quotes--
	case "li":
		r.items--
	case "h1", "h2", "h3", "h4", "h5", "h6":
		r.endInline(e.tag)
	}
}

func isHeading(tag string) bool { return len(tag) == 2 && tag[0] == 'h' && tag[1] != 'r' }

// opened is the upper edge of a block.
func (r *htmlReader) opened(e edge) {
	r.endLine()
	r.gap.opened = r.gap.opened || e == apart
	r.gap.never = r.gap.never || e == tight
}

// closed is the lower edge of a block.
func (r *htmlReader) closed(e edge) {
	r.endLine()
	r.gap.closed = r.gap.closed || e == apart
	r.gap.never = r.gap.never || e == tight
}
