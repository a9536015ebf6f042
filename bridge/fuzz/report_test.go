package main

import (
	"errors"
	"strings"
	"testing"
)

func TestARowIsReplacedByARunOfItsTargetAlone(t *testing.T) {
	here := func(name string) target { return target{folder: "p", name: name} }
	all := []target{here("FuzzRan"), here("FuzzNotNow"), here("FuzzBroken"), here("FuzzFound"), here("FuzzNew")}
	old := map[string]string{}
	for _, name := range []string{"FuzzRan", "FuzzNotNow", "FuzzBroken", "FuzzFound", "FuzzGone"} {
		old["p."+name] = "| `p." + name + "` | old |\n"
	}
	run := func(i int, edit func(*result)) result {
		r := result{target: all[i], duration: "9s", executions: 5, reached: share{ran: 9, all: 10}, seeds: share{ran: 8, all: 10}}
		edit(&r)
		return r
	}
	results := map[string]result{
		"p.FuzzRan":    run(0, func(*result) {}),
		"p.FuzzBroken": run(2, func(r *result) { r.err, r.reached = errors.New("does not build"), share{} }),
		"p.FuzzFound":  run(3, func(r *result) { r.err, r.finding, r.reached = errors.New("fails"), "file", share{} }),
		"p.FuzzNew":    run(4, func(r *result) { r.err, r.reached = errNoDecoder, share{} }),
	}
	page := render(all, results, old, 2)
	want := tableHead + "| `p.FuzzRan` | 9s | 5 | 90.0 % | 80.0 % | 0 |\n| `p.FuzzNotNow` | old |\n| `p.FuzzBroken` | old |\n" +
		"| `p.FuzzFound` | 9s | 5 | ? | ? | 1 |\n| `p.FuzzNew` | 9s | 5 | ? | ? | 0 |\n\n"
	if !strings.Contains(page, want) || !strings.Contains(page, "a machine with 2 cores") {
		t.Errorf("the page is\n%s\nwant\n%s", page, want)
	}
	if got := oldRows(page); len(got) != 5 || got["p.FuzzNotNow"] != old["p.FuzzNotNow"] {
		t.Errorf("read again: %v", got)
	}
}

func TestTextIsWrappedAtSpaces(t *testing.T) {
	if got := wrap("one two  three\nfour", 9); got != "one two\nthree\nfour" {
		t.Errorf("got %q", got)
	}
	parts := []part{{file: "a.go", function: "F"}, {file: "a.go", function: "T.G"}, {file: "b.go"}, {file: "c.go", but: []string{"H", "I"}}}
	if got := decoderText(parts); got != "`a.go` (`F`, `T.G`); `b.go`; `c.go` (without `H`, `I`)" {
		t.Errorf("got %s", got)
	}
}
