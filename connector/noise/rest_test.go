package noise

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnIdleLinkHoldsNeitherBuffersNorCiphers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, in, _ := oneWay(t, MaxFrame)
		exchange := func(frames int) {
			t.Helper()
			for range frames {
				if err := out.WriteFrame([]byte("some text")); err != nil {
					t.Fatal(err)
				}
			}
			for range frames {
				if got, err := in.ReadFrame(); err != nil || !bytes.Equal(got, []byte("some text")) {
					t.Fatalf("%q, %v", got, err)
				}
			}
			if in.in.ahead != nil {
				t.Error("the reader keeps its buffer although there is nothing in it")
			}
		}
		rests := func(want bool, when string) {
			t.Helper()
			if got := out.out.cipher.aead == nil; got != want {
				t.Errorf("%s the writing cipher rests: %v", when, got)
			}
			if got := in.in.cipher.aead == nil; got != want {
				t.Errorf("%s the reading cipher rests: %v", when, got)
			}
		}
		time.Sleep(restAfter)
		exchange(3)
		rests(true, "after a few frames")
		exchange(restBurst)
		rests(false, "after many")
		time.Sleep(restAfter)
		exchange(1)
		rests(true, "after a pause and a frame")
	})
}
