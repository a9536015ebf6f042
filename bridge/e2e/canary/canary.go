// Package canary finds, in what a program has written, what must not be in it: known secrets in each form in which a line may have
// them, and what looks like a person or a key whoever it belongs to.
//
// Layer: beneath the end-to-end tests, for tests alone. Of this project it imports bridge/parts only.
package canary

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	window = 6  // bytes by which a pattern is recognised, and the length of the shortest one
	part   = 12 // bytes of a key that are looked for: a part of it is as bad as all of it
)

// pattern is one form of one secret, in small letters.
type pattern struct {
	text []byte
	what string
	own  string // the secret itself, of texts, in small letters
}

// Search is a list of secrets to look for. The zero value knows none. It is not safe for concurrent use.
type Search struct {
	byStart map[uint64][]pattern
	filter  [1 << 10]uint64 // a bit for each hash of a beginning, so that nearly all places cost no look-up
	known   map[string]bool
	kinds   map[string]int
}

// Finding is one place at which something is that must not be there.
type Finding struct {
	What string // what was found, and in which form
	Line string // the line around it, not too much of it
	own  string
}

func (f Finding) String() string { return f.What + " is in …" + f.Line + "…" }

// Kinds says how many secrets of which kind are looked for.
func (s *Search) Kinds() map[string]int { return maps.Clone(s.kinds) }

// Text adds something that somebody says, is called, or types: as it is, quoted, in URLs, in hex and base64. Texts of fewer than 6
// bytes cannot be told from anything else and are passed over.
func (s *Search) Text(what, text string) {
	text = strings.TrimSpace(text)
	if len(text) < window || !s.isNew(what, "text", text) {
		return
	}
	own := strings.ToLower(text)
	quoted, err := json.Marshal(text)
	if err == nil {
		s.add(what, strings.Trim(string(quoted), `"`), own)
	}
	s.add(what, text, own)
	s.add(what+" as Go quotes it", strings.Trim(strconv.Quote(text), `"`), own)
	s.add(what+" in a URL's parameter", url.QueryEscape(text), own)
	s.add(what+" in a URL's path", url.PathEscape(text), own)
	raw := []byte(text)
	s.bytes(what, raw[:min(len(raw), 4*part)], own)
}

// Key adds a secret of bytes, by its beginning: in hex and base64, as lists of numbers, and as the arguments in a trace of calls.
func (s *Search) Key(what string, raw []byte) {
	if len(raw) < part || !s.isNew(what, "key", string(raw)) {
		return
	}
	s.bytes(what, raw[:part], "")
	words := make([]string, 4) // a trace shows no more of an array
	for i := range words {
		words[i] = "0x" + strconv.FormatUint(uint64(raw[i]), 16)
	}
	s.add(what+" in a trace", strings.Join(words, ", "), "")
}

// isNew remembers what was added.
func (s *Search) isNew(what, form, secret string) bool {
	if s.known == nil {
		s.known, s.kinds, s.byStart = map[string]bool{}, map[string]int{}, map[uint64][]pattern{}
	}
	if s.known[form+secret] {
		return false
	}
	s.known[form+secret] = true
	s.kinds[what]++
	return true
}

// bytes adds the forms that bytes have. Something longer in base64 may begin one or two bytes before them, which moves all letters.
func (s *Search) bytes(what string, raw []byte, own string) {
	s.add(what+" in hex", hex.EncodeToString(raw), own)
	s.add(what+" as numbers", strings.Trim(fmt.Sprintf("%d", raw), "[]"), own)
	for shift := range 3 {
		whole := raw[min(shift, len(raw)):]
		whole = whole[:len(whole)/3*3]
		s.add(what+" in base64", base64.StdEncoding.EncodeToString(whole), own)
		s.add(what+" in base64 for URLs", base64.URLEncoding.EncodeToString(whole), own)
	}
}

// add adds a form, unless it is too short to mean anything.
func (s *Search) add(what, form, own string) {
	text := bytes.ToLower([]byte(form))
	if len(text) < window {
		return
	}
	at := start(text)
	for _, p := range s.byStart[at] {
		if bytes.Equal(p.text, text) {
			return
		}
	}
	s.byStart[at] = append(s.byStart[at], pattern{text, what, own})
	s.filter[bit(at)>>6] |= 1 << (bit(at) & 63)
}

// start is the beginning of a pattern as a number.
func start(text []byte) (v uint64) {
	for _, b := range text[:window] {
		v = v<<8 | uint64(b)
	}
	return v
}

func bit(v uint64) uint64 { return v * 0x9e3779b97f4a7c15 >> 48 }

// Known looks for the secrets in text, whatever the case of their letters, and tells of each once.
func (s *Search) Known(text []byte) []Finding {
	text = bytes.ToLower(text)
	var found []Finding
	told := map[string]bool{}
	const mask = 1<<(8*window) - 1
	var v uint64
	for i, b := range text {
		v = (v<<8 | uint64(b)) & mask
		if h := bit(v); s.filter[h>>6]&(1<<(h&63)) == 0 {
			continue
		}
		for _, p := range s.byStart[v] {
			at := i + 1 - window
			if told[p.what] || !bytes.HasPrefix(text[max(at, 0):], p.text) || cutsNumber(text, at, len(p.text)) {
				continue
			}
			told[p.what] = true
			found = append(found, Finding{p.what, lineAt(text, at), p.own})
		}
	}
	return found
}

// cutsNumber says whether what is at a place is digits in the middle of a longer number, which is another number.
func cutsNumber(text []byte, at, length int) bool {
	for _, b := range text[at : at+length] {
		if b < '0' || b > '9' {
			return false
		}
	}
	digit := func(i int) bool { return i >= 0 && i < len(text) && text[i] >= '0' && text[i] <= '9' }
	return digit(at-1) || digit(at+length)
}

// OwnWords takes out of findings what a program says of itself: texts that are in the program's file too. Somebody who writes "from the
// phone" has not been found where the program says so. The file is read for texts that it was not yet asked for alone.
func OwnWords(findings []Finding, program string) ([]Finding, error) {
	asked.Lock()
	defer asked.Unlock()
	if asked.words == nil {
		asked.words = map[[2]string]bool{}
	}
	var file []byte
	for _, f := range findings {
		question := [2]string{program, f.own}
		if _, known := asked.words[question]; known || f.own == "" {
			continue
		}
		if file == nil {
			raw, err := os.ReadFile(program)
			if err != nil {
				return nil, fmt.Errorf("reading a program: %w", err)
			}
			file = bytes.ToLower(raw)
		}
		asked.words[question] = bytes.Contains(file, []byte(f.own))
	}
	return slices.DeleteFunc(findings, func(f Finding) bool { return asked.words[[2]string{program, f.own}] }), nil
}

// asked are the answers for all searches of this process: whether a program has a text.
var asked struct {
	sync.Mutex
	words map[[2]string]bool
}

// form is what must not be in a log whoever it belongs to. A line without any of the needles is not looked at, and neither is one with
// fewer than dots dots.
type form struct {
	what    string
	needles []string
	dots    int
	shape   *regexp.Regexp
}

var forms = []form{
	{"a token", []string{"eyJ"}, 0, regexp.MustCompile(`eyJ[A-Za-z0-9_-]{4,}`)},
	{"an access token", []string{"syt_", "mct_", "as_", "hs_"}, 0, regexp.MustCompile(`\b(?:syt|mct|as|hs)_[A-Za-z0-9]{6,}`)},
	{"a Matrix ID", []string{"@"}, 0, regexp.MustCompile(`@[^\s:/"'\\]+:[a-z0-9.-]+`)},
	{"a Matrix ID in a URL", []string{"%40"}, 0, regexp.MustCompile(`%40[^\s/"']+%3[aA]`)},
	{"an e-mail address", []string{"@"}, 1, regexp.MustCompile(`[A-Za-z0-9._+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[a-z]{2,}\b`)},
	{"an IPv4 address", []string{"."}, 3, regexp.MustCompile(`\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b`)},
	{"an IPv6 address", []string{"["}, 0, regexp.MustCompile(`\[[0-9a-f]*:[0-9a-f:]+\]`)},
	{"an address on the web", []string{"://"}, 0, regexp.MustCompile(`(?i)\b(?:https?|wss?|tcp|postgres|postgresql)://`)},
	{"the path of a file", []string{"/download/", "/v/"}, 0, regexp.MustCompile(`/(?:interop/[a-z]+/download|v)/[^\s"]+`)},
	{"an interop address", []string{"@"}, 0, regexp.MustCompile(`[0-9-]+@(?:interop|lid|s\.whatsapp\.net)`)},
	{"a phone number", []string{"+"}, 0, regexp.MustCompile(`\+\d{7,}`)},
}

// canBeIn says whether it is worth looking at a line.
func (f *form) canBeIn(line []byte) bool {
	if f.dots > 0 && bytes.Count(line, []byte(".")) < f.dots {
		return false
	}
	for _, needle := range f.needles {
		if bytes.Contains(line, []byte(needle)) {
			return true
		}
	}
	return false
}

// Forms looks for what has the form of a person, an address or a token, and tells of each form once.
func Forms(text []byte) []Finding {
	var found []Finding
	told := map[string]bool{}
	for line := range bytes.Lines(text) {
		for _, f := range forms {
			if told[f.what] || !f.canBeIn(line) {
				continue
			}
			if at := f.shape.FindIndex(line); at != nil {
				told[f.what] = true
				found = append(found, Finding{What: f.what, Line: lineAt(line, at[0])})
			}
		}
	}
	return found
}

// lineAt is the line around a place, not too much of it.
func lineAt(text []byte, at int) string {
	begin := bytes.LastIndexByte(text[:at], '\n') + 1
	end := len(text)
	if n := bytes.IndexByte(text[at:], '\n'); n >= 0 {
		end = at + n
	}
	return string(text[max(begin, at-300):min(end, at+300)])
}
