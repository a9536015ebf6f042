//go:build linux && cgo

package disklog

import (
	"bytes"
	"slices"
	"testing"
)

func write(file, at int64, fill byte, n int) Op {
	return Op{Kind: Write, File: file, Offset: at, Data: bytes.Repeat([]byte{fill}, n)}
}

// all lists the contents that cuts leave of a file, by whether the moment is before the mark or may be after it.
func all(t *testing.T, ops []Op, name string) (contents []string, after map[string]bool) {
	t.Helper()
	mark := slices.IndexFunc(ops, func(op Op) bool { return op.Kind == Mark })
	disk := NewDisk(ops)
	after = map[string]bool{}
	for _, s := range disk.States(func(int) int { return 0 }) {
		content, ok := disk.Files(s)[name]
		text := string(content)
		if !ok {
			text = "none"
		}
		contents = append(contents, text)
		after[text] = after[text] || s.At > mark
	}
	return contents, after
}

func TestWhatWasSyncedIsInEveryLaterState(t *testing.T) {
	_, after := all(t, []Op{
		{Kind: Create, File: 1, Name: "f"}, write(1, 0, 'a', 3), {Kind: SyncEnd, File: 1, Begun: 2}, write(1, 3, 'b', 1),
		{Kind: Mark}, {Kind: SyncEnd, File: 1, Begun: 4}, write(1, 1, 'c', 1),
	}, "f")
	want := map[string]bool{"none": false, "": false, "aaa": true, "aaab": true, "acab": true}
	for text, late := range want {
		if got, ok := after[text]; !ok || got != late {
			t.Errorf("%q: found %v, after the mark %v, want %v", text, ok, got, late)
		}
	}
	if len(after) != len(want) {
		t.Errorf("the states are %v", after)
	}
}

func TestAWriteWhileASyncRunsIsNotSynced(t *testing.T) {
	_, after := all(t, []Op{
		{Kind: Create, File: 1, Name: "f"}, write(1, 0, 'a', 1), write(1, 0, 'b', 1), {Kind: SyncEnd, File: 1, Begun: 2}, {Kind: Mark},
	}, "f")
	if !after["a"] || !after["b"] || after[""] || after["none"] {
		t.Errorf("the states are %v", after)
	}
}

func TestAWriteIsTornAtTheBordersOfSectorsOnly(t *testing.T) {
	contents, _ := all(t, []Op{
		{Kind: Create, File: 1, Name: "f"}, write(1, 0, 'a', 500), {Kind: SyncEnd, File: 1, Begun: 2}, write(1, 500, 'b', 600), {Kind: Mark},
	}, "f")
	if !slices.ContainsFunc(contents, func(s string) bool { return len(s) == 512 && s[511] == 'b' }) {
		t.Error("there is no torn state")
	}
	for _, s := range contents {
		if n := len(s); n != 0 && s != "none" && n != 500 && n != 512 && n != 1100 {
			t.Errorf("a state has %d bytes", n)
		}
	}
}

func TestUnsyncedWritesOfOneFileAreMissingWhileAnothersAreThere(t *testing.T) {
	disk := NewDisk([]Op{
		{Kind: Create, File: 1, Name: "a"}, {Kind: Create, File: 2, Name: "b"}, {Kind: SyncEnd, File: 1, Begun: 2},
		write(1, 0, 'a', 1), write(2, 0, 'b', 1), {Kind: SyncEnd, File: 2, Begun: 5}, {Kind: Mark},
	})
	found := map[string]bool{}
	for _, s := range disk.States(func(int) int { return 0 }) {
		files := disk.Files(s)
		found[string(files["a"])+"|"+string(files["b"])] = true
	}
	for _, want := range []string{"|", "a|", "|b", "a|b"} {
		if !found[want] {
			t.Errorf("no state is %q: %v", want, found)
		}
	}
}

func TestAFileThatWasRemovedMayBeThereStill(t *testing.T) {
	for _, synced := range []bool{false, true} {
		_, after := all(t, []Op{
			{Kind: Create, File: 1, Name: "f"}, write(1, 0, 'a', 1), {Kind: SyncEnd, File: 1, Begun: 2},
			{Kind: Remove, File: 1, Name: "f", Synced: synced}, {Kind: Mark},
		}, "f")
		if !after["none"] || after["a"] == synced {
			t.Errorf("folder synced %v: the states are %v", synced, after)
		}
	}
}

func TestScatteredStatesHaveAnySectorsOfWhatWasNotSynced(t *testing.T) {
	ops := []Op{{Kind: Create, File: 1, Name: "f"}, {Kind: SyncEnd, File: 1, Begun: 1}}
	for i := range int64(16) {
		ops = append(ops, write(1, i*sector, 'a', sector))
	}
	disk, n, holes := NewDisk(ops), 0, 0
	for _, s := range disk.States(func(n int) int { return n / 3 }) {
		if !s.Scattered {
			continue
		}
		n++
		content := disk.Files(s)["f"]
		if i := bytes.IndexByte(content, 0); i >= 0 && bytes.IndexByte(content[i:], 'a') >= 0 {
			holes++
		}
	}
	if n == 0 || holes == 0 {
		t.Errorf("%d scattered states, %d with something later there and something earlier missing", n, holes)
	}
}
