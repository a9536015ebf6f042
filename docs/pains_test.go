package docs

import (
	"strconv"
	"strings"
	"testing"
)

// pains is how many rows PAINS.md has.
const pains = 25

// TestEveryPainIsAnsweredAndEveryTestThatItNamesExists holds PAINS.md to what it says of itself.
func TestEveryPainIsAnsweredAndEveryTestThatItNamesExists(t *testing.T) {
	all, whole := allTests(t), testsBelow(t, "../bridge")
	text := page(t, "PAINS.md")
	for _, name := range testName.FindAllStringSubmatch(text, -1) {
		if !all[name[1]] {
			t.Errorf("there is no test %s", name[1])
		}
	}
	row := 0
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if n, err := strconv.Atoi(strings.TrimSpace(cells[0])); err != nil || len(cells) < 2 {
			continue
		} else if row++; n != row {
			t.Fatalf("row %d comes where %d should", n, row)
		}
		if len(cells) != 5 {
			t.Errorf("%d: %d cells", row, len(cells))
			continue
		}
		shown, through := testName.FindAllStringSubmatch(cells[4], -1), false
		for _, name := range shown {
			through = through || whole[name[1]]
		}
		if len(strings.Fields(cells[3])) < 10 {
			t.Errorf("%d: how, or why not?", row)
		}
		switch state := strings.TrimSpace(cells[2]); state {
		case "solved":
			if !through {
				t.Errorf("%d: solved, but no test shows it with the whole program", row)
			}
		case "in parts":
			if len(shown) == 0 {
				t.Errorf("%d: in parts, but no test shows which", row)
			}
		case "not ours":
			if len(shown) > 0 {
				t.Errorf("%d: not ours, but tests show it", row)
			}
		default:
			t.Errorf("%d: no such state: %s", row, state)
		}
	}
	if row != pains {
		t.Errorf("%d rows, but there are %d pains", row, pains)
	}
}
