package binxml_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	wabinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/binary/token"
	"go.mau.fi/whatsmeow/types"

	"postern/connector/binxml"
	"postern/connector/jid"
)

// generator makes random elements that both codecs can express, and counts what it made.
type generator struct {
	*rand.Rand
	maxAttrs int
	made     map[string]int
}

func newGenerator(seed uint64, maxAttrs int) *generator {
	return &generator{Rand: rand.New(rand.NewPCG(seed, 7)), maxAttrs: maxAttrs, made: map[string]int{}}
}

func (g *generator) letters(alphabet string, most int) string {
	b := make([]byte, 1+g.IntN(most))
	for i := range b {
		b[i] = alphabet[g.IntN(len(alphabet))]
	}
	return string(b)
}

func (g *generator) count(what string) { g.made[what]++ }

// text makes a string of each of the codings: single token, double token, nibbles, hex, raw of all lengths.
func (g *generator) text() string {
	switch g.IntN(9) {
	case 0, 1:
		g.count("single-byte token")
		return token.SingleByteTokens[1+g.IntN(len(token.SingleByteTokens)-1)]
	case 2:
		g.count("double-byte token")
		d := token.DoubleByteTokens[g.IntN(len(token.DoubleByteTokens))]
		return d[g.IntN(len(d))]
	case 3:
		g.count("nibbles")
		return g.letters("0123456789-.", 130)
	case 4:
		g.count("hex")
		return g.letters("0123456789ABCDEF", 130)
	case 5:
		g.count("long raw")
		return strings.Repeat("long ", 60+g.IntN(40))
	case 6:
		g.count("letters outside ASCII")
		return g.letters("abc", 5) + "äß漢😀"
	}
	g.count("short raw")
	return g.letters("abcdefghijklmnopqrstuvwxyzABCDEFG_@ 019", 60)
}

func (g *generator) digits(most int) string { return g.letters("123456789", most) }

// address makes an address of each layout.
func (g *generator) address() jid.JID {
	kind := g.IntN(8)
	g.count(fmt.Sprint("address ", kind))
	switch kind {
	case 0:
		return jid.ServerJID
	case 1:
		return jid.JID{User: g.digits(15), Server: jid.User}
	case 2:
		return jid.JID{User: g.digits(15), Server: jid.LID}
	case 3:
		return jid.JID{User: g.digits(15), Device: uint16(1 + g.IntN(255)), Server: jid.User}
	case 4:
		return jid.JID{User: g.digits(15), Device: uint16(1 + g.IntN(255)), Server: jid.LID}
	case 5:
		return jid.JID{User: g.digits(15), Device: uint16(g.IntN(65536)), Server: jid.Messenger}
	case 6:
		return jid.JID{User: g.digits(15), Device: uint16(g.IntN(256)), Server: jid.Hosted}
	}
	return jid.JID{User: g.digits(15), Integrator: uint16(1 + g.IntN(999)), Server: jid.Interop}
}

func (g *generator) node(depth int) binxml.Node {
	n := binxml.Node{Tag: g.text()}
	if n.Tag == "0" { // the oracle writes this tag as an empty list
		n.Tag = "item"
	}
	for range g.IntN(g.maxAttrs + 1) {
		key := g.text()
		switch {
		case n.Has(key):
		case g.IntN(3) == 0:
			n.Attrs = append(n.Attrs, binxml.J(key, g.address()))
		default:
			n.Attrs = append(n.Attrs, binxml.S(key, g.text()))
		}
	}
	switch g.IntN(4) {
	case 0:
		n.Data = make([]byte, []int{0, 1, 33, 255, 256, 1000}[g.IntN(6)])
		if g.IntN(30) == 0 {
			n.Data = make([]byte, 70000)
		}
		for i := range n.Data {
			n.Data[i] = byte(g.Uint32())
		}
		g.count("data")
	case 1, 2:
		for range g.IntN(4) {
			if depth < 6 {
				n.Children = append(n.Children, g.node(depth+1))
			}
		}
	}
	return n
}

func theirAddress(j jid.JID) types.JID {
	return types.JID{User: j.User, Device: j.Device, Integrator: j.Integrator, Server: string(j.Server)}
}

func theirs(n *binxml.Node) wabinary.Node {
	out := wabinary.Node{Tag: n.Tag, Attrs: wabinary.Attrs{}}
	for _, a := range n.Attrs {
		if a.JID.IsZero() {
			out.Attrs[a.Key] = a.Value
		} else {
			out.Attrs[a.Key] = theirAddress(a.JID)
		}
	}
	switch {
	case n.Data != nil:
		out.Content = n.Data
	case len(n.Children) > 0:
		children := make([]wabinary.Node, len(n.Children))
		for i := range n.Children {
			children[i] = theirs(&n.Children[i])
		}
		out.Content = children
	}
	return out
}

// same compares an element of ours with one of theirs, whatever the order of attributes.
func same(n *binxml.Node, w *wabinary.Node) error {
	if n.Tag != w.Tag || len(n.Attrs) != len(w.Attrs) {
		return fmt.Errorf("%q with %d attributes is %q with %d", n.Tag, len(n.Attrs), w.Tag, len(w.Attrs))
	}
	for _, a := range n.Attrs {
		var want any = a.Value
		if !a.JID.IsZero() {
			want = theirAddress(a.JID)
		}
		if !reflect.DeepEqual(w.Attrs[a.Key], want) {
			return fmt.Errorf("%q: attribute %q is %#v and %#v", n.Tag, a.Key, want, w.Attrs[a.Key])
		}
	}
	switch content := w.Content.(type) {
	case nil:
		if n.Data != nil || n.Children != nil {
			return fmt.Errorf("%q: content only here", n.Tag)
		}
	case []byte:
		if n.Data == nil || !bytes.Equal(n.Data, content) {
			return fmt.Errorf("%q: other data", n.Tag)
		}
	case string:
		if n.Text() != content {
			return fmt.Errorf("%q: other text", n.Tag)
		}
	case []wabinary.Node:
		if len(content) != len(n.Children) {
			return fmt.Errorf("%q: %d and %d children", n.Tag, len(n.Children), len(content))
		}
		for i := range content {
			if err := same(&n.Children[i], &content[i]); err != nil {
				return fmt.Errorf("%q: %w", n.Tag, err)
			}
		}
	default:
		return fmt.Errorf("%q: content of type %T", n.Tag, w.Content)
	}
	return nil
}

// generated is how many elements each comparison makes.
var generated = map[bool]int{false: 4000, true: 600}[raceEnabled]

func checkVariety(t *testing.T, g *generator, compared int) {
	t.Helper()
	if compared < generated {
		t.Errorf("only %d elements compared, want %d", compared, generated)
	}
	for _, what := range []string{"single-byte token", "double-byte token", "nibbles", "hex", "long raw", "short raw",
		"letters outside ASCII", "data", "address 0", "address 1", "address 2", "address 3", "address 4", "address 5",
		"address 6", "address 7"} {
		if g.made[what] < generated/20 {
			t.Errorf("%s: only %d were made", what, g.made[what])
		}
	}
}

func TestWhatsmeowReadsWhatWeWrite(t *testing.T) {
	g, compared := newGenerator(1, 8), 0
	for range generated {
		n := g.node(1)
		frame, err := binxml.Codec{}.Append(nil, &n)
		if err != nil {
			t.Fatalf("Append: %v", err)
		}
		if compared%10 == 0 {
			if frame, err = (binxml.Codec{}).AppendCompressed(nil, &n); err != nil {
				t.Fatalf("AppendCompressed: %v", err)
			}
		}
		body, err := wabinary.Unpack(frame)
		if err != nil {
			t.Fatalf("their Unpack: %v", err)
		}
		w, err := wabinary.Unmarshal(body)
		if err != nil {
			t.Fatalf("their Unmarshal: %v", err)
		}
		if err = same(&n, w); err != nil {
			t.Fatal(err)
		}
		compared++
	}
	checkVariety(t, g, compared)
}

func TestWeReadWhatWhatsmeowWrites(t *testing.T) {
	g, compared := newGenerator(2, 8), 0
	for i := range generated {
		made := g.node(1)
		w := theirs(&made)
		if data, ok := w.Content.([]byte); ok && i%2 == 0 && len(data) == 0 {
			w.Content = g.text() // text content in its other codings
			made.Data = []byte(w.Content.(string))
		}
		frame, err := wabinary.Marshal(w)
		if err != nil {
			t.Fatalf("their Marshal: %v", err)
		}
		n, err := binxml.Codec{}.Decode(frame)
		if err != nil {
			t.Fatalf("Decode: %v", err)
		}
		if err = same(n, &w); err != nil {
			t.Fatal(err)
		}
		compared++
	}
	checkVariety(t, g, compared)
}

func TestElementsOfOneAttributeAreWrittenAsWhatsmeowWritesThem(t *testing.T) {
	g, compared := newGenerator(3, 1), 0
	for range generated {
		n := g.node(1)
		ours, err := binxml.Codec{}.Append(nil, &n)
		if err != nil {
			t.Fatalf("Append: %v", err)
		}
		other, err := wabinary.Marshal(theirs(&n))
		if err != nil {
			t.Fatalf("their Marshal: %v", err)
		}
		if !bytes.Equal(ours, other) {
			t.Fatalf("%d and %d bytes differ for a tree under %q", len(ours), len(other), n.Tag)
		}
		compared++
	}
	checkVariety(t, g, compared)
}

func TestEveryTokenIsWrittenAndReadAsWhatsmeowDoes(t *testing.T) {
	compared := 0
	check := func(text string) {
		if text == "" || text == "0" {
			return
		}
		n := binxml.Node{Tag: text}
		frame, err := binxml.Codec{}.Append(nil, &n)
		if err != nil {
			t.Fatalf("Append: %v", err)
		}
		other, err := wabinary.Marshal(wabinary.Node{Tag: text})
		if err != nil {
			t.Fatalf("their Marshal: %v", err)
		}
		if !bytes.Equal(frame, other) {
			t.Errorf("%q is written as %x, theirs as %x", text, frame, other)
		}
		back, err := binxml.Codec{}.Decode(frame)
		if err != nil || back.Tag != text {
			t.Errorf("%q comes back as %v, %v", text, back, err)
		}
		compared++
	}
	for _, text := range token.SingleByteTokens {
		check(text)
	}
	for _, dictionary := range token.DoubleByteTokens {
		for _, text := range dictionary {
			check(text)
		}
	}
	if compared < 1200 {
		t.Errorf("only %d tokens compared", compared)
	}
}
