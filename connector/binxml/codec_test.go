package binxml_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"postern/connector/binxml"
	"postern/connector/jid"
)

// textMessage is a typical message of 298 bytes as a frame, the one the design's figures are for.
func textMessage() *binxml.Node {
	cipher := make([]byte, 205)
	for i := range cipher {
		cipher[i] = byte(i * 37)
	}
	return &binxml.Node{Tag: "message", Attrs: []binxml.Attr{
		binxml.J("to", jid.JID{User: "10853634039893", Integrator: 1, Server: jid.Interop}),
		binxml.J("from", jid.JID{User: "203847561029384", Server: jid.LID}),
		binxml.S("id", "3EB0A1B2C3D4E5F6A7B8C9"), binxml.S("type", "text"), binxml.S("t", "1795478400"),
		binxml.S("notify", "Ada Lovelace"), binxml.S("offline", "12"),
	}, Children: []binxml.Node{{Tag: "enc", Attrs: []binxml.Attr{binxml.S("v", "2"), binxml.S("type", "msg")},
		Data: cipher}}}
}

// show prints an element in the notation of testdata/vectors.txt.
func show(n *binxml.Node) string {
	var b strings.Builder
	b.WriteString(n.Tag)
	for _, a := range n.Attrs {
		b.WriteString(" " + a.Key + "=")
		if a.JID.IsZero() {
			b.WriteString(a.Value)
		} else {
			b.WriteString("<" + a.JID.String() + ">")
		}
	}
	if n.Data != nil {
		b.WriteString(" [" + hex.EncodeToString(n.Data) + "]")
	}
	for i := range n.Children {
		b.WriteString(" (" + show(&n.Children[i]) + ")")
	}
	return b.String()
}

type vector struct {
	name, is, err string
	dialect       binxml.Dialect
	frame         []byte
	written       bool
}

func vectors(t testing.TB) []vector {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out []vector
	for _, block := range strings.Split(string(text), "\n\n") {
		var v vector
		for _, line := range strings.Split(block, "\n") {
			word, rest, _ := strings.Cut(line, " ")
			switch word {
			case "name":
				v.name = rest
			case "dialect":
				d, ok := binxml.ParseDialect(rest)
				if !ok {
					t.Fatalf("%s: unknown dialect", v.name)
				}
				v.dialect = d
			case "hex":
				if v.frame, err = hex.DecodeString(strings.ReplaceAll(rest, " ", "")); err != nil {
					t.Fatalf("%s: %v", v.name, err)
				}
			case "is":
				v.is = rest
			case "error":
				v.err = rest
			case "once":
				v.written = rest == "written"
			}
		}
		if v.name != "" {
			out = append(out, v)
		}
	}
	if len(out) < 80 {
		t.Fatalf("only %d vectors", len(out))
	}
	return out
}

func TestHandMadeFrames(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.name, func(t *testing.T) {
			codec := binxml.Codec{Read: v.dialect, Write: v.dialect}
			n, err := codec.Decode(v.frame)
			if v.err != "" {
				if err == nil {
					t.Fatalf("accepted as %s", show(n))
				}
				if !strings.Contains(err.Error(), v.err) {
					t.Fatalf("error %q, want one with %q", err, v.err)
				}
				if n != nil {
					t.Error("an element came with the error")
				}
				if !errors.Is(err, binxml.ErrSyntax) && !errors.Is(err, binxml.ErrLimit) {
					t.Errorf("error %T wraps neither ErrSyntax nor ErrLimit", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := show(n); got != v.is {
				t.Errorf("is %s, want %s", got, v.is)
			}
			again, err := codec.Append([]byte("before"), n)
			if err != nil {
				t.Fatalf("Append: %v", err)
			}
			if v.written && string(again) != "before"+string(v.frame) {
				t.Errorf("written as %x, want %x", again[6:], v.frame)
			}
			if back, err := codec.Decode(again[6:]); err != nil || show(back) != v.is {
				t.Errorf("what is written reads as %v, %v", back, err)
			}
		})
	}
}

func TestGeneratedElementsComeBackInEveryDialect(t *testing.T) {
	for _, d := range []binxml.Dialect{binxml.Dialect245WithServer, binxml.Dialect245Bare, binxml.Dialect244DomainByte} {
		g, codec := newGenerator(uint64(10+d), 8), binxml.Codec{Read: d, Write: d}
		for i := range generated / 6 {
			n := g.node(1)
			if i%5 == 0 {
				n.Attrs = append(n.Attrs, binxml.S("empty attribute", ""))
			}
			write := codec.Append
			if i%7 == 0 {
				write = codec.AppendCompressed
			}
			frame, err := write(nil, &n)
			if err != nil {
				t.Fatalf("%v: %v", d, err)
			}
			back, err := codec.Decode(frame)
			if err != nil {
				t.Fatalf("%v: %v", d, err)
			}
			if !reflect.DeepEqual(*back, n) {
				t.Fatalf("%v: %s came back as %s", d, show(&n), show(back))
			}
			again, err := codec.Append(nil, back)
			if first, _ := codec.Append(nil, &n); err != nil || !bytes.Equal(again, first) {
				t.Fatalf("%v: not written the same twice: %v", d, err)
			}
		}
	}
}

func TestATruncatedFrameIsRefusedAtEveryByte(t *testing.T) {
	frames := [][]byte{frameOf(t, textMessage())}
	for _, v := range vectors(t) {
		if v.err == "" && v.dialect == 0 && v.frame[0]&2 == 0 {
			frames = append(frames, v.frame)
		}
	}
	for _, frame := range frames {
		for i := range frame {
			if n, err := (binxml.Codec{}).Decode(frame[:i:i]); err == nil {
				t.Errorf("%x cut to %d bytes reads as %s", frame, i, show(n))
			}
		}
	}
	compressed, err := binxml.Codec{}.AppendCompressed(nil, textMessage())
	if err != nil {
		t.Fatal(err)
	}
	for i := range compressed {
		if _, err := (binxml.Codec{}).Decode(compressed[:i:i]); err == nil {
			t.Errorf("compressed frame cut to %d bytes is accepted", i)
		}
	}
}

// Every byte of a message and of every hand-made frame becomes every other: nothing panics, and what is still accepted
// is an element that can be written and comes back.
func TestATamperedFrameNeverPanicsAndIsOneElementOrAnError(t *testing.T) {
	frames := [][]byte{frameOf(t, textMessage())}
	for _, v := range vectors(t) {
		frames = append(frames, v.frame)
	}
	accepted, refused := 0, 0
	for _, frame := range frames {
		for i := range frame {
			step := 1
			if len(frame) > 100 && i > 100 && i < 290 {
				step = 64 // inside the ciphertext
			}
			if raceEnabled {
				step *= 16
			}
			for delta := 1; delta < 256; delta += step {
				tampered := bytes.Clone(frame)
				tampered[i] += byte(delta)
				for _, d := range []binxml.Dialect{0, 1, 2} {
					if checkOne(t, binxml.Codec{Read: d, Write: d}, tampered) {
						accepted++
					} else {
						refused++
					}
				}
			}
		}
	}
	if accepted == 0 || refused == 0 {
		t.Errorf("%d accepted, %d refused", accepted, refused)
	}
}

func checkOne(t *testing.T, codec binxml.Codec, frame []byte) bool {
	t.Helper()
	n, err := codec.Decode(frame)
	if err != nil {
		if n != nil || !errors.Is(err, binxml.ErrSyntax) && !errors.Is(err, binxml.ErrLimit) {
			t.Errorf("%x: %v, %v", frame, n, err)
		}
		return false
	}
	again, err := codec.Append(nil, n)
	if err != nil {
		t.Errorf("%x cannot be written again: %v", frame, err)
		return true
	}
	back, err := codec.Decode(again)
	if err != nil || show(back) != show(n) {
		t.Errorf("%x does not come back: %v", frame, err)
	}
	return true
}

func frameOf(t testing.TB, n *binxml.Node) []byte {
	t.Helper()
	frame, err := binxml.Codec{}.Append(nil, n)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func TestNodesThatAreNoElementsAreNotWritten(t *testing.T) {
	good := binxml.Node{Tag: "a"}
	for name, n := range map[string]*binxml.Node{
		"nothing":                     nil,
		"no name":                     {},
		"children and data":           {Tag: "a", Children: []binxml.Node{good}, Data: []byte{}},
		"attribute without a name":    {Tag: "a", Attrs: []binxml.Attr{binxml.S("", "x")}},
		"attribute twice":             {Tag: "a", Attrs: []binxml.Attr{binxml.S("x", "1"), binxml.S("x", "2")}},
		"text and address":            {Tag: "a", Attrs: []binxml.Attr{{Key: "x", Value: "1", JID: jid.ServerJID}}},
		"invalid address":             {Tag: "a", Attrs: []binxml.Attr{binxml.J("x", jid.JID{User: "a", Server: jid.LID})}},
		"partner without integrator":  {Tag: "a", Attrs: []binxml.Attr{binxml.J("x", jid.JID{User: "1", Server: jid.Interop})}},
		"something wrong in the tree": {Tag: "a", Children: []binxml.Node{good, {Tag: "b", Children: []binxml.Node{{}}}}},
	} {
		dst := []byte("before")
		for _, write := range []func([]byte, *binxml.Node) ([]byte, error){binxml.Codec{}.Append, binxml.Codec{}.AppendCompressed} {
			got, err := write(dst, n)
			if !errors.Is(err, binxml.ErrNode) {
				t.Errorf("%s: %v", name, err)
			}
			if string(got) != "before" {
				t.Errorf("%s: the buffer came back as %q", name, got)
			}
		}
	}
	group := binxml.Node{Tag: "a", Attrs: []binxml.Attr{binxml.J("x", jid.JID{User: "1", Integrator: 1, Server: jid.InteropGroup})}}
	if _, err := (binxml.Codec{Write: binxml.Dialect245Bare}).Append(nil, &group); !errors.Is(err, binxml.ErrNode) {
		t.Errorf("a group in the bare dialect: %v", err)
	}
}

func TestReadersOfANode(t *testing.T) {
	partner := jid.JID{User: "105", Integrator: 12, Server: jid.Interop}
	n := &binxml.Node{Tag: "x", Attrs: []binxml.Attr{binxml.S("text", "word"), binxml.S("empty", ""), binxml.J("jid", partner),
		binxml.S("textjid", "12-105@interop"), binxml.I("seven", 7), binxml.I("less", int64(-7)), binxml.S("plus", "+7"),
		binxml.I("great", uint64(18446744073709551615)), binxml.S("float", "7.0"), binxml.S("under", "1_000")},
		Children: []binxml.Node{{Tag: "a", Data: []byte("first")}, {Tag: "b"}, {Tag: "a", Data: []byte("second")}}}
	if n.Attr("text") != "word" || n.Attr("absent") != "" || n.Attr("jid") != "12-105@interop" || n.Attr("great") != "18446744073709551615" {
		t.Error("Attr is wrong")
	}
	if !n.Has("empty") || n.Has("absent") {
		t.Error("Has is wrong")
	}
	for _, key := range []string{"jid", "textjid"} {
		if j, err := n.AttrJID(key); err != nil || j != partner {
			t.Errorf("AttrJID(%s) = %v, %v", key, j, err)
		}
	}
	for key, want := range map[string]int{"seven": 7, "less": -7} {
		if i, err := n.AttrInt(key); err != nil || i != want {
			t.Errorf("AttrInt(%s) = %d, %v", key, i, err)
		}
	}
	for _, key := range []string{"text", "empty", "absent", "jid", "plus", "great", "float", "under"} {
		i, err := n.AttrInt(key)
		var e *binxml.AttrError
		if !errors.As(err, &e) || !errors.Is(err, binxml.ErrAttr) || e.Key != key || e.Absent != (key == "absent") || i != 0 {
			t.Errorf("AttrInt(%s) = %d, %v", key, i, err)
		}
	}
	if u, err := n.AttrUint64("great"); err != nil || u != 1<<64-1 {
		t.Errorf("AttrUint64 = %d, %v", u, err)
	}
	for _, key := range []string{"text", "empty", "absent", "jid", "plus", "less"} {
		if _, err := n.AttrUint64(key); !errors.Is(err, binxml.ErrAttr) {
			t.Errorf("AttrUint64(%s): %v", key, err)
		}
	}
	for _, key := range []string{"text", "empty", "absent"} {
		if _, err := n.AttrJID(key); !errors.Is(err, binxml.ErrAttr) {
			t.Errorf("AttrJID(%s): %v", key, err)
		}
	}
	if got := n.Child("a").Text(); got != "first" || n.Child("c") != nil || n.Child("a") != &n.Children[0] {
		t.Errorf("Child(a) has %q", got)
	}
	if all := n.ChildrenNamed("a"); len(all) != 2 || all[1].Text() != "second" {
		t.Errorf("ChildrenNamed = %v", all)
	}
	var none *binxml.Node
	if none.Attr("a") != "" || none.Has("a") || none.Child("a") != nil || none.ChildrenNamed("a") != nil || none.Text() != "" {
		t.Error("a nil node has something")
	}
}

func TestDialectNamesComeBack(t *testing.T) {
	for _, d := range []binxml.Dialect{0, 1, 2} {
		if back, ok := binxml.ParseDialect(d.String()); !ok || back != d {
			t.Errorf("%d is %q, which is %d, %v", d, d, back, ok)
		}
	}
	if _, ok := binxml.ParseDialect("245"); ok {
		t.Error("an unknown dialect is known")
	}
}

func TestErrorsDoNotTellContent(t *testing.T) {
	secret := "4915112345678"
	frame := frameOf(t, &binxml.Node{Tag: "message", Attrs: []binxml.Attr{binxml.S("id", secret), binxml.S("body", "secret"+secret)}})
	for i := range frame {
		_, err := binxml.Codec{}.Decode(frame[:i])
		if err == nil || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "secret") {
			t.Errorf("cut to %s bytes: %v", strconv.Itoa(i), err)
		}
	}
}
