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
		var proofs Proofs
		begin := func(n int) (*Proof, string) {
			t.Helper()
			p, code, err := proofs.Begin(fmt.Sprint("user", n), fmt.Sprintf("a%d@example.org", n))
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

func TestLettersAreFewForEachUserEachAddressAndInAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var proofs Proofs
		count := func(user, address func(i int) string) (n int) {
			t.Helper()
			for ; n <= lettersHour; n++ {
				if _, _, err := proofs.Begin(user(n), address(n)); errors.Is(err, ErrTooMany) {
					return n
				} else if err != nil {
					t.Fatal(err)
				}
			}
			return n
		}
		one := func(s string) func(int) string { return func(int) string { return s } }
		many := func(s string) func(int) string { return func(i int) string { return fmt.Sprint(s, i) } }
		if n := count(one("u"), many("a")); n != perUser {
			t.Errorf("a user gets %d", n)
		}
		if n := count(many("v"), one("b")); n != perAddress {
			t.Errorf("an address gets %d", n)
		}
		if n := count(many("w"), many("c")); n != lettersHour-perUser-perAddress {
			t.Errorf("%d in all", n)
		}
		time.Sleep(hour)
		if n := count(one("u"), many("a")); n != perUser {
			t.Errorf("an hour later a user gets %d", n)
		}
		if len(proofs.letters) != perUser {
			t.Errorf("%d are remembered", len(proofs.letters))
		}
	})
}
