package main

import (
	"bytes"
	"image/jpeg"
	"io"
	"strings"
	"testing"
	"time"
)

func TestTheFilesAreWhatTheyAreCalledAndEachRunHasItsOwn(t *testing.T) {
	files := func(run string) map[string]file {
		s := &story{run: run}
		list, err := s.files()
		if err != nil {
			t.Fatal(err)
		}
		named := map[string]file{}
		for _, f := range list {
			named[f.kind] = f
		}
		return named
	}
	one, two := files("abcd"), files("efgh")
	if len(one) != 4 {
		t.Fatalf("%d kinds", len(one))
	}
	if _, err := jpeg.Decode(bytes.NewReader(one["image"].data)); err != nil {
		t.Errorf("the image: %v", err)
	}
	if v := one["voice"].data; !bytes.HasPrefix(v, []byte("OggS")) || !bytes.Contains(v[:64], []byte("OpusHead")) {
		t.Error("the voice message is no Opus in Ogg")
	}
	if v := one["video"].data; !bytes.Equal(v[4:8], []byte("ftyp")) {
		t.Error("the video is no MP4")
	}
	for _, kind := range []string{"image", "document"} {
		if bytes.Equal(one[kind].data, two[kind].data) {
			t.Errorf("two runs have the same %s", kind)
		}
	}
}

func TestAFileThatDiffersIsAFailure(t *testing.T) {
	var said strings.Builder
	s := &story{t: newTranscript(&said)}
	f := &file{what: "a file", data: []byte("what was sent")}
	if err := s.compared("alice", "Ben", "a way", f, sum([]byte("what was sent")), time.Second); err != nil || !strings.Contains(said.String(), "✓") {
		t.Errorf("the same file: %v, %q", err, said.String())
	}
	s.t = newTranscript(io.Discard)
	if err := s.compared("alice", "Ben", "a way", f, sum([]byte("what arrived")), time.Second); err == nil {
		t.Error("another file was taken for the one that was sent")
	}
}
