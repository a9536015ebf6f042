package faults_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// killLine is one line of the campaign's log: a kill, or the end of a round that was checked and found right. A round without an end
// was cut off, or has failed, and counts for nothing.
type killLine struct {
	T        int64  `json:"t"` // Unix milliseconds
	Database string `json:"database"`
	Round    int    `json:"round"`
	Seed     uint64 `json:"seed"`
	Kind     string `json:"kind,omitempty"`  // of the round: withFiles, or nothing
	Kill     string `json:"kill,omitempty"`  // "point", "time" or "start"
	Where    string `json:"where,omitempty"` // the point
	Nth      int    `json:"nth,omitempty"`   // its hit
	AtMS     int64  `json:"at_ms,omitempty"` // of kill "time" and "start": after how long
	Also     string `json:"also,omitempty"`  // what else went wrong meanwhile

	End        bool `json:"end,omitempty"`
	Kills      int  `json:"kills,omitempty"` // of the round
	FromMatrix int  `json:"from_matrix,omitempty"`
	FromPhone  int  `json:"from_phone,omitempty"`
}

// readKillLog reads a campaign's log; no file is an empty log. A last line that is torn is left out.
func readKillLog(path string) ([]killLine, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	var text io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if text, err = gzip.NewReader(f); err != nil {
			return nil, err
		}
	}
	var lines []killLine
	var broken error
	for scan := bufio.NewScanner(text); scan.Scan(); {
		if broken != nil {
			return nil, broken
		}
		var l killLine
		if err := json.Unmarshal(scan.Bytes(), &l); err != nil {
			broken = fmt.Errorf("reading the log of kills: line %d: %w", len(lines)+1, err)
			continue
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// tally is what a log adds up to.
type tally struct {
	kills                 map[string]int // by database and what was hit
	rounds                map[string]int // by database
	fromMatrix, fromPhone map[string]int
	total, cut            int // kills of rounds with and without an end
	withFiles             int // rounds with attachments
	seeds                 map[uint64]bool
}

// recount adds a log up, and fails where a round's end says something else than its lines.
func recount(lines []killLine) (*tally, error) {
	t := &tally{
		kills: map[string]int{}, rounds: map[string]int{}, fromMatrix: map[string]int{}, fromPhone: map[string]int{}, seeds: map[uint64]bool{},
	}
	open := map[string][]killLine{}
	for i, l := range lines {
		key := fmt.Sprintf("%s/%d/%d", l.Database, l.Round, l.Seed)
		if !l.End {
			open[key] = append(open[key], l)
			continue
		}
		kills := open[key]
		delete(open, key)
		if len(kills) != l.Kills {
			return nil, fmt.Errorf("line %d: round %s says %d kills, the log has %d", i+1, key, l.Kills, len(kills))
		}
		for _, k := range kills {
			what := k.Kill
			if k.Where != "" {
				what = k.Where
			}
			t.kills[l.Database+" "+what]++
		}
		t.total += len(kills)
		t.rounds[l.Database]++
		t.fromMatrix[l.Database] += l.FromMatrix
		t.fromPhone[l.Database] += l.FromPhone
		t.seeds[l.Seed] = true
		if l.Kind == withFiles {
			t.withFiles++
		}
	}
	for _, kills := range open {
		t.cut += len(kills)
	}
	return t, nil
}

func (t *tally) messages() int {
	n := 0
	for _, by := range []map[string]int{t.fromMatrix, t.fromPhone} {
		for _, m := range by {
			n += m
		}
	}
	return n
}

// String is the tally as a table.
func (t *tally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d kills in %d checked rounds, %d of them with attachments, %d messages; %d more kills in rounds that were cut off and do not count\n",
		t.total, len(t.seeds), t.withFiles, t.messages(), t.cut)
	for _, database := range slices.Sorted(maps.Keys(t.rounds)) {
		fmt.Fprintf(&b, "%-10s %4d rounds, %6d messages from Matrix, %6d from phones\n", database, t.rounds[database],
			t.fromMatrix[database], t.fromPhone[database])
	}
	for _, what := range slices.Sorted(maps.Keys(t.kills)) {
		fmt.Fprintf(&b, "  %-28s %5d\n", what, t.kills[what])
	}
	fmt.Fprintf(&b, "seeds: %s\n", spans(slices.Sorted(maps.Keys(t.seeds))))
	return b.String()
}

// spans writes sorted numbers as first-last, where they follow one another.
func spans(numbers []uint64) string {
	var out []string
	for len(numbers) > 0 {
		n := 1
		for n < len(numbers) && numbers[n] == numbers[n-1]+1 {
			n++
		}
		if n == 1 {
			out = append(out, fmt.Sprint(numbers[0]))
		} else {
			out = append(out, fmt.Sprintf("%d-%d", numbers[0], numbers[n-1]))
		}
		numbers = numbers[n:]
	}
	return strings.Join(out, ", ")
}

// TestTheLogOfKillsAddsUp recounts the log that POSTERN_FAULTS_LOG names, or an example without it.
func TestTheLogOfKillsAddsUp(t *testing.T) {
	if path := os.Getenv("POSTERN_FAULTS_LOG"); path != "" {
		sum := must(recount(must(readKillLog(path))(t)))(t)
		t.Logf("\n%s", sum)
		return
	}
	lines := []killLine{
		{Database: sqlite, Round: 1, Seed: 7, Kill: "point", Where: "I3.stored", Nth: 1},
		{Database: sqlite, Round: 1, Seed: 7, Kill: "time", AtMS: 12},
		{Database: sqlite, Round: 1, Seed: 7, End: true, Kills: 2, FromMatrix: 10, FromPhone: 20},
		{Database: postgres, Round: 2, Seed: 8, Kill: "time", AtMS: 1}, // cut off
	}
	sum := must(recount(lines))(t)
	if sum.total != 2 || sum.cut != 1 || sum.messages() != 30 || sum.kills[sqlite+" I3.stored"] != 1 || len(sum.seeds) != 1 {
		t.Errorf("the sum is\n%s", sum)
	}
	if _, err := recount(lines[1:]); err == nil {
		t.Error("a log with a kill missing adds up")
	}
}

// TestTheKeptLogOfTheCampaignSaysWhatTheDocumentSays recounts the log of the campaign that docs/RELIABILITY.md reports.
func TestTheKeptLogOfTheCampaignSaysWhatTheDocumentSays(t *testing.T) {
	sum := must(recount(must(readKillLog("testdata/kills.jsonl.gz"))(t)))(t)
	if sum.total < 1_000 || sum.messages() < 100_000 || sum.cut != 0 {
		t.Errorf("%d kills, %d messages, %d kills in rounds without an end", sum.total, sum.messages(), sum.cut)
	}
	for _, database := range []string{sqlite, postgres} {
		for _, by := range []map[string]int{sum.fromMatrix, sum.fromPhone} {
			if by[database]*5 < sum.messages() {
				t.Errorf("%d of %d messages are on %s in one direction, want a fifth at least", by[database], sum.messages(), database)
			}
		}
	}
	page := string(must(os.ReadFile("../../../docs/RELIABILITY.md"))(t))
	for _, said := range []string{
		thousands(sum.total) + " kills", thousands(sum.messages()) + " messages", fmt.Sprintf("%d rounds", len(sum.seeds)),
		spans(slices.Sorted(maps.Keys(sum.seeds))),
	} {
		if !strings.Contains(page, said) {
			t.Errorf("docs/RELIABILITY.md does not say %q", said)
		}
	}
}

// thousands writes a number with commas.
func thousands(n int) string {
	if n < 1_000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1_000), n%1_000)
}
