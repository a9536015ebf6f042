package email

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestACodeIsGoodOnceAndForTenMinutesAndFiveTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := func(n int) (*Proof, string) {
			t.Helper()
			p, code, err := NewProof(fmt.Sprintf("a%d@example.org", n))
			if err != nil || len(code) != 8 || strings.Trim(code, "0123456789") != "" {
				t.Fatalf("%q %v", code, err)
			}
			return p, code
		}
		p, code := begin(1)
		if err := p.Check(" " + code[:4] + "-" + code[4:] + "\n"); err != nil {
			t.Errorf("the code itself: %v", err)
		}
		if err := p.Check(code); !errors.Is(err, ErrOver) {
			t.Errorf("a second time: %v", err)
		}
		p, code = begin(2)
		for i := range CodeTries {
			want := ErrWrong
			if i == CodeTries-1 {
				want = ErrOver
			}
			if err := p.Check("1234567"); !errors.Is(err, want) {
				t.Errorf("try %d: %v", i, err)
			}
		}
		if err := p.Check(code); !errors.Is(err, ErrOver) {
			t.Errorf("after all tries: %v", err)
		}
		p, code = begin(3)
		time.Sleep(CodeLife - time.Second)
		if err := p.Check(""); !errors.Is(err, ErrWrong) || p.TriesLeft() != CodeTries-1 {
			t.Errorf("nothing typed: %v, %d left", err, p.TriesLeft())
		}
		time.Sleep(time.Second)
		if err := p.Check(code); !errors.Is(err, ErrOver) {
			t.Errorf("after ten minutes: %v", err)
		}
	})
}
