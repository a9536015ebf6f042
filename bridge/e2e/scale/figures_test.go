package scale_test

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// figures are what was read off the running bridge, in bytes and numbers.
type figures struct {
	started   int64 // resident when everybody had just connected
	resident  int64 // and at rest: after the collections that an idle process makes in ten minutes
	least     int64 // of resident, which is a mean then, in a minute at rest
	most      int64
	heap      int64 // live, after a collection
	stacks    int64
	routines  int
	files     int
	byOwner   map[string]int64 // the live heap, by whose code asked for it
	byPackage map[string]int64
	byWork    map[string]int   // goroutines, by where they began
	runtime   map[string]int64 // what Go's runtime says of its memory
}

// The owners of memory.
const (
	ours      = "ours"
	framework = "framework"
	elsewhere = "elsewhere"
)

// measure reads the figures once the bridge has come to rest; at rest means that it has been left alone for so long that it has given back
// what it does not need.
func (w *world) measure(atRest bool) *figures {
	w.t.Helper()
	w.settle()
	f := &figures{byOwner: map[string]int64{}, byPackage: map[string]int64{}, byWork: map[string]int{}}
	proc := fmt.Sprintf("/proc/%d/", w.Bridge.PID())
	f.started = w.residentNow()
	for range collections {
		_, err := w.fetch("GET", w.Bridge.Address+"/debug/pprof/heap?gc=1&debug=1", nil)
		w.ok(err)
	}
	if atRest {
		f.resident, f.least, f.most = w.residentAtRest()
	} else {
		w.until("its memory was given back", 2*time.Second, func() bool {
			last := f.resident
			f.resident = w.residentNow()
			return last > 0 && last-f.resident < last/200
		})
	}
	open, err := os.ReadDir(proc + "fd")
	w.ok(err)
	f.files = len(open)
	raw, err := w.fetch("GET", w.Bridge.Address+"/debug/pprof/goroutine?debug=1", nil)
	w.ok(err)
	w.ok(f.readRoutines(raw))
	raw, err = w.fetch("GET", w.Bridge.Address+"/debug/pprof/heap?debug=1", nil)
	w.ok(err)
	f.readRuntime(raw)
	raw, err = w.fetch("GET", w.Bridge.Address+"/debug/pprof/heap?gc=1&debug=1", nil)
	w.ok(err)
	w.ok(f.readHeap(raw))
	return f
}

// collections is how often Go collects in ten minutes when there is nothing to do: every two minutes. A stack that is too large is halved each
// time.
const collections = 5

// givenBackWithin is longer than from one look of the program to the next, whether there is memory to give back.
const givenBackWithin = 65 * time.Second

// residentAtRest is residentNow over the time from one giving back to the next, in the mean and at the least and most, of a bridge that is left alone.
func (w *world) residentAtRest() (mean, least, most int64) {
	w.t.Helper()
	const every, samples = 2500 * time.Millisecond, int64(givenBackWithin / (2500 * time.Millisecond))
	left := 2 * samples
	w.until("a minute at rest was over", every, func() bool {
		if left--; left < samples {
			now := w.residentNow()
			mean += now
			least, most = min(cmp.Or(least, now), now), max(most, now)
		}
		return left == 0
	})
	return mean / samples, least, most
}

// residentNow is how much of the process is in memory, the program's own file not counted.
func (w *world) residentNow() int64 {
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", w.Bridge.PID()))
	w.ok(err)
	return kilobytes(rollup, "Anonymous") << 10
}

// settle waits until the number of goroutines, three seconds apart, is the same but for the odd one.
func (w *world) settle() {
	w.t.Helper()
	last := math.MaxInt
	w.until("it came to rest", 3*time.Second, func() bool {
		raw, err := w.fetch("GET", w.Bridge.Address+"/debug/pprof/goroutine?debug=1", nil)
		w.ok(err)
		f := &figures{byWork: map[string]int{}}
		w.ok(f.readRoutines(raw))
		same := abs(f.routines-last) <= 2+w.users/100
		last = f.routines
		return same
	})
}

func abs(n int) int { return max(n, -n) }

// kilobytes is a line of smaps_rollup.
func kilobytes(raw []byte, name string) int64 {
	for line := range strings.Lines(string(raw)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name+":" {
			n, _ := strconv.ParseInt(fields[1], 10, 64) // a number, or the kernel is to blame
			return n
		}
	}
	return 0
}

var (
	profileRate  = regexp.MustCompile(`@ heap/(\d+)$`)
	heapSample   = regexp.MustCompile(`^(\d+): (\d+) \[\d+: \d+\] @`)
	routineGroup = regexp.MustCompile(`^(\d+) @`)
	frameLine    = regexp.MustCompile(`^#\t0x[0-9a-f]+\t(\S+)\+0x[0-9a-f]+\t`)
	stackBytes   = regexp.MustCompile(`^# Stack = (\d+) /`)
)

// readHeap reads a heap profile in its text form. A sample stands for all allocations of its size between two samples; one belongs to the
// code of ours or of the framework that is nearest to it.
func (f *figures) readHeap(raw []byte) error {
	var count, size float64
	var frames []string
	rate := 0.0
	flush := func() {
		if count > 0 {
			bytes := int64(size / (1 - math.Exp(-size/count/rate)))
			owner, pkg := ownerOf(frames)
			f.heap += bytes
			f.byOwner[owner] += bytes
			f.byPackage[pkg] += bytes
		}
		count, frames = 0, nil
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if m := profileRate.FindStringSubmatch(line); m != nil {
			doubled, err := strconv.ParseFloat(m[1], 64)
			if err != nil {
				return err
			}
			rate = doubled / 2
		} else if m := heapSample.FindStringSubmatch(line); m != nil {
			flush()
			count, _ = strconv.ParseFloat(m[1], 64) // digits
			size, _ = strconv.ParseFloat(m[2], 64)
		} else if m := frameLine.FindStringSubmatch(line); m != nil {
			frames = append(frames, m[1])
		} else if m := stackBytes.FindStringSubmatch(line); m != nil {
			f.stacks, _ = strconv.ParseInt(m[1], 10, 64)
		}
	}
	flush()
	if rate == 0 || f.heap == 0 || f.stacks == 0 {
		return fmt.Errorf("no heap profile: %.200s", raw)
	}
	return lines.Err()
}

// runtimeLine is a line about memory in the text form of a heap profile: what is in use, or is had from the system.
var runtimeLine = regexp.MustCompile(`(?m)^# (HeapInuse|HeapIdle|HeapReleased|HeapAlloc|Stack|MSpan|BuckHashSys|GCSys|OtherSys) = (\d+)`)

func (f *figures) readRuntime(raw []byte) {
	f.runtime = map[string]int64{}
	for _, m := range runtimeLine.FindAllSubmatch(raw, -1) {
		f.runtime[string(m[1])], _ = strconv.ParseInt(string(m[2]), 10, 64) // digits
	}
}

// others says what a user adds to the runtime's memory besides live heap and stacks, in KiB.
func (f *figures) others(base *figures, users int) string {
	each := func(of func(map[string]int64) int64) float64 {
		return float64(of(f.runtime)-of(base.runtime)) / float64(users) / 1024
	}
	var out strings.Builder
	for _, c := range []struct {
		what string
		of   func(map[string]int64) int64
	}{
		{"heap in use", func(m map[string]int64) int64 { return m["HeapInuse"] }},
		{"of it objects, garbage too", func(m map[string]int64) int64 { return m["HeapAlloc"] }},
		{"free and not given back", func(m map[string]int64) int64 { return m["HeapIdle"] - m["HeapReleased"] }},
		{"stacks", func(m map[string]int64) int64 { return m["Stack"] }},
		{"spans", func(m map[string]int64) int64 { return m["MSpan"] }},
		{"profiling", func(m map[string]int64) int64 { return m["BuckHashSys"] }},
		{"collector", func(m map[string]int64) int64 { return m["GCSys"] }},
		{"other", func(m map[string]int64) int64 { return m["OtherSys"] }},
	} {
		fmt.Fprintf(&out, "%8.2f KiB  %s\n", each(c.of), c.what)
	}
	return out.String()
}

// readRoutines reads a profile of goroutines in its text form.
func (f *figures) readRoutines(raw []byte) error {
	count := 0
	var frames []string
	flush := func() {
		if count > 0 {
			f.routines += count
			f.byWork[workOf(frames)] += count
		}
		count, frames = 0, nil
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if m := routineGroup.FindStringSubmatch(lines.Text()); m != nil {
			flush()
			count, _ = strconv.Atoi(m[1]) // digits
		} else if m := frameLine.FindStringSubmatch(lines.Text()); m != nil {
			frames = append(frames, m[1])
		}
	}
	flush()
	if f.routines == 0 {
		return fmt.Errorf("no profile of goroutines: %.200s", raw)
	}
	return lines.Err()
}

// packageOf is the import path in a function's name.
func packageOf(function string) string {
	slash := strings.LastIndexByte(function, '/') + 1
	if dot := strings.IndexByte(function[slash:], '.'); dot >= 0 {
		return function[:slash+dot]
	}
	return function
}

// ownerOf says whose a stack is, the nearest frame first.
func ownerOf(frames []string) (owner, pkg string) {
	for _, frame := range frames {
		switch pkg := packageOf(frame); {
		case pkg == "main":
			return ours, "postern/bridge"
		case strings.HasPrefix(pkg, "postern/"):
			return ours, pkg
		case strings.HasPrefix(pkg, "maunium.net/go/mautrix"):
			return framework, pkg
		}
	}
	if len(frames) == 0 {
		return elsewhere, "runtime"
	}
	return elsewhere, packageOf(frames[len(frames)-1])
}

// workOf is the function that a goroutine began with, not counting what only starts others.
func workOf(frames []string) string {
	for _, frame := range slices.Backward(frames) {
		if !strings.HasPrefix(frame, "sync.") && !strings.HasPrefix(frame, "runtime.") {
			return frame
		}
	}
	return "runtime"
}

// perUser is what a user adds.
type perUser struct {
	started, resident, heap, stacks, ours, framework, elsewhere float64 // KiB
	routines, files                                             float64
}

func (f *figures) over(base *figures, users int) perUser {
	each := func(now, before int64) float64 { return float64(now-before) / float64(users) / 1024 }
	return perUser{
		started: each(f.started, base.started), resident: each(f.resident, base.resident), heap: each(f.heap, base.heap),
		stacks: each(f.stacks, base.stacks), ours: each(f.byOwner[ours], base.byOwner[ours]),
		framework: each(f.byOwner[framework], base.byOwner[framework]), elsewhere: each(f.byOwner[elsewhere], base.byOwner[elsewhere]),
		routines: float64(f.routines-base.routines) / float64(users), files: float64(f.files-base.files) / float64(users),
	}
}

// largest lists what the packages and goroutines of a user come to, from the largest down.
func (f *figures) largest(base *figures, users int) string {
	var out strings.Builder
	order := func(by map[string]float64) []string {
		return slices.SortedFunc(maps.Keys(by), func(a, b string) int { return int(math.Copysign(1, by[b]-by[a])) })
	}
	kib := map[string]float64{}
	for pkg, n := range f.byPackage {
		kib[pkg] = float64(n-base.byPackage[pkg]) / float64(users) / 1024
	}
	for _, pkg := range order(kib) {
		if kib[pkg] >= 0.05 {
			fmt.Fprintf(&out, "%8.2f KiB  %s\n", kib[pkg], pkg)
		}
	}
	work := map[string]float64{}
	for name, n := range f.byWork {
		work[name] = float64(n-base.byWork[name]) / float64(users)
	}
	for _, name := range order(work) {
		if work[name] >= 0.05 {
			fmt.Fprintf(&out, "%8.2f goroutines  %s\n", work[name], name)
		}
	}
	return out.String()
}

// keepProfile leaves the heap profile behind for `go tool pprof`, where a folder is named for it.
func (w *world) keepProfile(name string) {
	dir := os.Getenv("POSTERN_SCALE_PROFILES")
	if dir == "" {
		return
	}
	raw, err := w.fetch("GET", w.Bridge.Address+"/debug/pprof/heap?gc=1", nil)
	w.ok(err)
	w.ok(os.WriteFile(filepath.Join(dir, name+".heap"), raw, 0o600))
}
