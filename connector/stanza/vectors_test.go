package stanza_test

import (
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"postern/connector/binxml"
	"postern/connector/jid"
	"postern/connector/stanza"
)

// read is the reverse of show.
func read(t testing.TB, text string) *binxml.Node {
	t.Helper()
	n, rest := readNode(t, text)
	if rest != "" {
		t.Fatalf("%q left of %q", rest, text)
	}
	return n
}

func readNode(t testing.TB, text string) (n *binxml.Node, rest string) {
	t.Helper()
	word := func() string {
		end := strings.IndexAny(text, " )")
		if end < 0 {
			end = len(text)
		}
		w := text[:end]
		text = text[end:]
		return w
	}
	n = &binxml.Node{Tag: word()}
	for strings.HasPrefix(text, " ") {
		text = text[1:]
		switch text[0] {
		case '(':
			child, after := readNode(t, text[1:])
			if !strings.HasPrefix(after, ")") {
				t.Fatalf("no bracket at the end of %q", text)
			}
			n.Children, text = append(n.Children, *child), after[1:]
		case '[':
			data, err := hex.DecodeString(strings.Trim(word(), "[]"))
			if err != nil {
				t.Fatal(err)
			}
			n.Data = data
		default:
			key, value, ok := strings.Cut(word(), "=")
			if !ok {
				t.Fatalf("attribute without a value in %s", n.Tag)
			}
			if strings.HasPrefix(value, "<") {
				j, err := jid.Parse(strings.Trim(value, "<>"))
				if err != nil {
					t.Fatal(err)
				}
				n.Attrs = append(n.Attrs, binxml.J(key, j))
			} else {
				n.Attrs = append(n.Attrs, binxml.S(key, value))
			}
		}
	}
	return n, text
}

type vector struct {
	name, from, is, acked, field string
	refused, unknown             bool
}

func vectors(t testing.TB) []vector {
	t.Helper()
	text, err := os.ReadFile("testdata/stanzas.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out []vector
	for _, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		var v vector
		for _, line := range strings.Split(block, "\n") {
			word, rest, _ := strings.Cut(line, " ")
			switch word {
			case "name":
				v.name = rest
			case "from":
				v.from = rest
			case "is":
				v.is = rest
			case "acked":
				v.acked = rest
			case "error":
				v.field, v.refused = rest, true
			case "unknown":
				v.unknown = true
			}
		}
		if v.name != "" {
			out = append(out, v)
		}
	}
	if len(out) < 60 {
		t.Fatalf("only %d vectors", len(out))
	}
	return out
}

func TestHandMadeStanzas(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.name, func(t *testing.T) {
			n := wire(t, read(t, v.from))
			if got := show(n); got != v.from {
				t.Fatalf("the test reads it as %s", got)
			}
			s, err := stanza.Parse(n)
			if v.refused {
				var e *stanza.ParseError
				if !errors.As(err, &e) || e.Field != v.field {
					t.Fatalf("Parse = %+v, %v, want the field %q", s, err, v.field)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if unknown := s.Kind() == stanza.KindUnknown; unknown != v.unknown {
				t.Fatalf("unknown: %v", unknown)
			}
			want := v.is
			if v.unknown || want == "same" {
				want = v.from
			}
			if got := show(s.Node()); got != want {
				t.Errorf("is   %s\nwant %s", got, want)
			}
			ack, ok := stanza.AckFor(s, 0)
			if ok != (v.acked != "") || ok && show(ack.Node()) != v.acked {
				t.Errorf("acknowledged %v by %+v", ok, ack)
			}
			if show(n) != v.from {
				t.Error("parsing changed the element")
			}
		})
	}
}
