package docs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// assets are what SECURITY.md has a row of for each of the attackers A1 to A8.
var assets = []string{"words", "keys", "voice", "traces", "service", "accounts"}

func TestEveryAttackerHasAnAnswerForEveryAssetAndEveryTestItNamesExists(t *testing.T) {
	tests := allTests(t)
	seen := map[string]bool{}
	for line := range strings.Lines(page(t, "SECURITY.md")) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "| A") {
			continue
		}
		if len(cells) != 5 {
			t.Errorf("a row has %d cells: %s", len(cells), line)
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		name, answer, how := cells[0]+" "+cells[1], cells[2], cells[3]
		if seen[name] {
			t.Errorf("%s stands there twice", name)
		}
		seen[name] = true
		named := testName.FindAllStringSubmatch(cells[4], -1)
		switch answer {
		case "prevented", "detected":
			if len(named) == 0 {
				t.Errorf("%s: %s, but no test shows it", name, answer)
			}
		case "accepted":
			if len(how) < 40 {
				t.Errorf("%s: accepted, and too little is said: %s", name, how)
			}
		default:
			t.Errorf("%s: no such answer: %s", name, answer)
		}
		for _, n := range named {
			if top, _, _ := strings.Cut(n[1], "/"); !tests[top] {
				t.Errorf("%s: there is no test %s", name, top)
			}
		}
	}
	for attacker := 1; attacker <= 8; attacker++ {
		for _, asset := range assets {
			name := fmt.Sprintf("A%d %s", attacker, asset)
			if !seen[name] {
				t.Errorf("%s has no row", name)
			}
			delete(seen, name)
		}
	}
	for name := range seen {
		t.Errorf("there is a row %s", name)
	}
}

// means are what the second table of SECURITY.md has rows of.
var means = []string{"tokens", "audit log", "orders", "operator's room", "instances"}

func TestWhatTheOperatorsMeansAddIsAnsweredAndEveryTestThatIsNamedExists(t *testing.T) {
	tests, rows := allTests(t), map[string]int{}
	for line := range strings.Lines(page(t, "SECURITY.md")) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		name := strings.TrimSpace(cells[0])
		if !strings.HasPrefix(line, "| ") || !slices.Contains(means, name) {
			continue
		}
		rows[name]++
		if len(cells) != 5 {
			t.Errorf("a row has %d cells: %s", len(cells), line)
			continue
		}
		named := testName.FindAllStringSubmatch(cells[4], -1)
		switch answer := strings.TrimSpace(cells[2]); {
		case answer != "prevented" && answer != "detected" && answer != "accepted":
			t.Errorf("%s: no such answer: %s", name, answer)
		case answer != "accepted" && len(named) == 0:
			t.Errorf("%s: %s, but no test shows it: %s", name, answer, line)
		case len(strings.TrimSpace(cells[3])) < 40:
			t.Errorf("%s: how? %s", name, line)
		}
		for _, n := range named {
			if !tests[n[1]] {
				t.Errorf("%s: there is no test %s", name, n[1])
			}
		}
	}
	for _, name := range means {
		if rows[name] < 2 {
			t.Errorf("%s: %d rows", name, rows[name])
		}
	}
}
