package faults_test

import (
	"fmt"
	"strings"
	"testing"
)

// noted collects what a checker says.
type noted []string

func (*noted) Helper() {}
func (n *noted) Errorf(format string, args ...any) {
	*n = append(*n, fmt.Sprintf(format, args...))
}

func TestTheCheckerSeesWhatIsLostDoubledMovedAndInvented(t *testing.T) {
	for what, c := range map[string]struct{ got, want, says string }{
		"nothing is wrong": {"a b c", "a b c", ""},
		"lost":             {"a c", "a b c", "lost"},
		"doubled":          {"a b b c", "a b c", "2 times"},
		"moved":            {"a c b", "a b c", "order"},
		"invented":         {"a b c d", "a b c", "never sent"},
	} {
		var said noted
		compare(&said, "texts", strings.Fields(c.got), strings.Fields(c.want))
		if c.says == "" && len(said) > 0 || !strings.Contains(strings.Join(said, "\n"), c.says) {
			t.Errorf("%s: the checker says %q, want something with %q", what, said, c.says)
		}
	}
}

func TestTheCheckerSeesStatesThatAreNotPromise3s(t *testing.T) {
	for _, c := range []struct {
		steps []int
		good  bool
	}{
		{[]int{sent, delivered}, true}, {[]int{delivered}, true}, {[]int{pending, sent, delivered}, true},
		{[]int{sent, sent, delivered}, false}, {[]int{delivered, sent}, false}, {[]int{sent}, false}, {nil, false},
		{[]int{sent, failed}, false},
	} {
		var said noted
		checkSteps(&said, "a text", c.steps)
		if (len(said) == 0) != c.good {
			t.Errorf("%v: the checker says %q", c.steps, said)
		}
	}
}
