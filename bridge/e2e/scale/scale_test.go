package scale_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestAnIdleUserCostsLittle is the small form: with few users, and bounds so wide that only a leak for each user, or another goroutine
// for each, runs into them.
func TestAnIdleUserCostsLittle(t *testing.T) {
	const users = 200
	w := newWorld(t, sqlite, 5*time.Minute)
	w.restart(unpaced)
	base := w.measure(false)
	w.grow(users)
	w.restart(unpaced)
	f := w.measure(false)
	each := f.over(base, users)
	t.Logf("for each of %d users: %.1f KiB resident (%.1f after the start), %.1f heap (%.1f ours, %.1f framework, %.1f elsewhere), %.1f stacks, %.2f goroutines, %.2f descriptors\n%s",
		users, each.resident, each.started, each.heap, each.ours, each.framework, each.elsewhere, each.stacks, each.routines, each.files, f.largest(base, users))
	w.keepProfile("small")
	for what, c := range map[string]struct{ is, most float64 }{
		"KiB resident": {each.resident, 180}, "KiB of our heap": {each.ours, 20}, "goroutines": {each.routines, 2.5}, "descriptors": {each.files, 1.5},
	} {
		if c.is > c.most || c.is <= 0 {
			t.Errorf("%.1f %s for each user, want at most %.1f", c.is, what, c.most)
		}
	}
}

// defaultPace is network.connects_per_second in the example configuration.
const defaultPace = 20

// inEarnest says whether sizes were asked for: memory is then looked at for a minute at rest, several times over.
func inEarnest() bool { return os.Getenv("POSTERN_SCALE") != "" }

// TestWhatOneInstanceCarries measures instances of the sizes in POSTERN_SCALE, on both databases, and writes a table. Of more than
// 5,000 users only the start is measured.
func TestWhatOneInstanceCarries(t *testing.T) {
	sizes := []int{20}
	if text := os.Getenv("POSTERN_SCALE"); text != "" {
		sizes = nil
		for field := range strings.FieldsSeq(text) {
			n, err := strconv.Atoi(field)
			if err != nil || n < 1 || len(sizes) > 0 && n <= sizes[len(sizes)-1] {
				t.Fatalf("POSTERN_SCALE: %q is not a list of growing numbers", text)
			}
			sizes = append(sizes, n)
		}
	}
	table := tableHead
	for _, database := range []string{sqlite, postgres} {
		t.Run(database, func(t *testing.T) {
			w := newWorld(t, database, 10*time.Hour)
			w.restart(unpaced)
			base := w.measure(inEarnest())
			t.Logf("nobody: %d KiB resident, %d KiB heap, %d goroutines, %d descriptors", base.resident>>10, base.heap>>10, base.routines, base.files)
			for _, users := range sizes {
				row := w.row(database, users, base)
				t.Log("\n" + tableHead + row)
				table += row
			}
		})
	}
	if path := os.Getenv("POSTERN_SCALE_OUT"); path != "" {
		if err := os.WriteFile(path, []byte(table), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const tableHead = `| database | users | ready, s | all connected, s | with pacing: ready, s | all connected, s | resident, KiB a user | when all had connected | heap | ours | framework's | others' | stacks | goroutines | descriptors |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
`

// onlyStarted is above how many users only the start is measured.
const onlyStarted = 5000

// row grows the instance and measures it.
func (w *world) row(database string, users int, base *figures) string {
	w.grow(users)
	ready, all := w.restart(unpaced)
	memory := strings.Repeat(" - |", 9)
	if users <= onlyStarted {
		w.keepProfile(fmt.Sprintf("%s-%d-before", database, users))
		f := w.measure(inEarnest())
		w.keepProfile(fmt.Sprintf("%s-%d", database, users))
		each := f.over(base, users)
		memory = fmt.Sprintf(" %.1f | %.1f | %.1f | %.1f | %.1f | %.1f | %.1f | %.2f | %.2f |", each.resident, each.started, each.heap,
			each.ours, each.framework, each.elsewhere, each.stacks, each.routines, each.files)
		w.t.Logf("%d users, ready after %.1f s, all connected after %.1f s:%s\nresident from %d to %d KiB in all\n%s", users, ready.Seconds(), all.Seconds(), memory, f.least>>10, f.most>>10, f.largest(base, users)+f.others(base, users))
	}
	paced := "- | -"
	if os.Getenv("POSTERN_SCALE_PACED") != "no" {
		ready, all := w.restart(defaultPace)
		paced = fmt.Sprintf("%.1f | %.1f", ready.Seconds(), all.Seconds())
	}
	return fmt.Sprintf("| %s | %d | %.1f | %.1f | %s |%s\n", database, users, ready.Seconds(), all.Seconds(), paced, memory)
}
