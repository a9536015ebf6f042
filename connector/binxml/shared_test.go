package binxml_test

import (
	"bytes"
	"reflect"
	"strings"
	"sync"
	"testing"

	"postern/connector/binxml"
)

func TestNamesAndAttributesDoNotShareTheFramesMemory(t *testing.T) {
	n := textMessage()
	n.Attrs = append(n.Attrs, binxml.S("raw key of mine", "raw value of mine"))
	frame := frameOf(t, n)
	back, err := binxml.Codec{}.Decode(frame)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, n) {
		t.Fatal("the message does not come back")
	}
	for i := range frame {
		frame[i] = 0xff
	}
	back.Children[0].Data = n.Children[0].Data
	if !reflect.DeepEqual(back, n) {
		t.Errorf("after the frame was overwritten it reads %s", show(back))
	}
}

func TestAppendingToDataDoesNotReachIntoTheFrame(t *testing.T) {
	n := &binxml.Node{Tag: "a", Children: []binxml.Node{{Tag: "b", Data: []byte("first")}, {Tag: "c", Data: []byte("second")}}}
	frame := frameOf(t, n)
	before := bytes.Clone(frame)
	back, err := binxml.Codec{}.Decode(frame)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(back.Children[0].Data, "overwritten"...)
	_ = append(back.Children, binxml.Node{Tag: "d"})
	if !bytes.Equal(frame, before) || back.Children[1].Text() != "second" {
		t.Error("appending has changed what is behind")
	}
}

func TestTextInSeveralCodingsDoesNotRunTogether(t *testing.T) {
	// Three children with text content as a token, nibbles and hex; their data are cut from one piece of memory.
	frame := []byte("\x00\xf8\x02\x19\xf8\x03\xf8\x02\x1d\x38\xf8\x02\x1d\xff\x82\x12\x3f\xf8\x02\x1d\xfb\x02\xab\xcd")
	n, err := binxml.Codec{}.Decode(frame)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(n.Children[0].Data, "overwritten"...)
	for i, want := range []string{"text", "123", "ABCD"} {
		if got := n.Children[i].Text(); got != want {
			t.Errorf("text %d is %q, want %q", i, got, want)
		}
	}
}

func TestABadCompressedFrameDoesNotSpoilTheNext(t *testing.T) {
	n := textMessage()
	good, err := binxml.Codec{}.AppendCompressed(nil, n)
	if err != nil {
		t.Fatal(err)
	}
	tooMuch := deflate(t, body(t, &binxml.Node{Tag: "enc", Data: make([]byte, 200000)}))
	for _, bad := range [][]byte{{2}, {2, 0x78}, {2, 0x78, 0x9c}, good[:len(good)/2], good[:len(good)-1], tooMuch,
		append(bytes.Clone(good), 0), append([]byte{2, 0x79}, good[2:]...)} {
		if _, err := (binxml.Codec{}).Decode(bad); err == nil {
			t.Errorf("a bad frame of %d bytes is accepted", len(bad))
		}
		if back, err := (binxml.Codec{}).Decode(good); err != nil || !reflect.DeepEqual(back, n) {
			t.Fatalf("after a bad frame of %d bytes a good one is refused: %v", len(bad), err)
		}
	}
}

func TestSeveralGoroutinesShareACodec(t *testing.T) {
	codec := binxml.Codec{Read: binxml.Dialect245Bare, Write: binxml.Dialect245Bare}
	var wait sync.WaitGroup
	for g := range 8 {
		wait.Go(func() {
			gen := newGenerator(uint64(100+g), 4)
			for range 50 {
				n := gen.node(1)
				write := codec.Append
				if gen.IntN(2) == 0 {
					write = codec.AppendCompressed
				}
				frame, err := write(nil, &n)
				if err != nil {
					t.Error(err)
					return
				}
				if back, err := codec.Decode(frame); err != nil || !reflect.DeepEqual(*back, n) {
					t.Errorf("came back wrong: %v", err)
					return
				}
			}
		})
	}
	wait.Wait()
}

func TestAppendKeepsWhatIsInTheBufferAndUsesItsRoom(t *testing.T) {
	n := textMessage()
	room := make([]byte, 3, 4096)
	copy(room, "abc")
	for _, write := range []func([]byte, *binxml.Node) ([]byte, error){binxml.Codec{}.Append, binxml.Codec{}.AppendCompressed} {
		out, err := write(room, n)
		if err != nil || !strings.HasPrefix(string(out), "abc") {
			t.Fatalf("%.3q, %v", out, err)
		}
		if back, err := (binxml.Codec{}).Decode(out[3:]); err != nil || !reflect.DeepEqual(back, n) {
			t.Errorf("behind what was there: %v", err)
		}
	}
	if out, _ := (binxml.Codec{}).Append(room, n); &out[0] != &room[0] {
		t.Error("a new buffer was made though there was room")
	}
}
