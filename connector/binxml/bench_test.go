package binxml_test

import (
	"syscall"
	"testing"

	wabinary "go.mau.fi/whatsmeow/binary"

	"postern/connector/binxml"
	"postern/connector/jid"
)

func receipt() *binxml.Node {
	return &binxml.Node{Tag: "receipt", Attrs: []binxml.Attr{
		binxml.J("to", jid.JID{User: "203847561029384", Server: jid.LID}),
		binxml.S("id", "3EB0A1B2C3D4E5F6A7B8C9"), binxml.S("type", "read"), binxml.S("t", "1795478400")}}
}

// pair is one piece of work done by both codecs.
type pair struct {
	name         string
	ours, theirs func()
}

func pairs(t testing.TB) []pair {
	var out []pair
	for name, n := range map[string]*binxml.Node{"message": textMessage(), "receipt": receipt()} {
		frame, w := frameOf(t, n), theirs(n)
		if name == "message" && len(frame) != 298 {
			t.Fatalf("the message has %d bytes", len(frame))
		}
		body, buffer := frame[1:], make([]byte, 0, 512)
		out = append(out,
			pair{"decode " + name,
				func() { _, _ = binxml.Codec{}.Decode(frame) },
				func() { _, _ = wabinary.Unmarshal(body) }},
			pair{"encode " + name,
				func() { _, _ = binxml.Codec{}.Append(nil, n) },
				func() { _, _ = wabinary.Marshal(w) }},
			pair{"encode into a buffer " + name,
				func() { buffer, _ = binxml.Codec{}.Append(buffer[:0], n) },
				func() { _, _ = wabinary.Marshal(w) }})
	}
	return out
}

// BenchmarkAgainstWhatsmeow does the same work with both codecs in turns and reports ours and theirs in nanoseconds
// of CPU time, their ratio from the fastest turn of each, and the allocations of both.
func BenchmarkAgainstWhatsmeow(b *testing.B) {
	for _, p := range pairs(b) {
		b.Run(p.name, func(b *testing.B) {
			ours, theirs := fastest(b, p, b.N)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(ours, "ours-ns")
			b.ReportMetric(theirs, "theirs-ns")
			b.ReportMetric(ours/theirs, "ratio")
			b.ReportMetric(testing.AllocsPerRun(100, p.ours), "ours-allocs")
			b.ReportMetric(testing.AllocsPerRun(100, p.theirs), "theirs-allocs")
		})
	}
}

// fastest runs both in sixteen turns and returns the fastest turn of each in nanoseconds of CPU time, collector
// included, for one piece of work.
func fastest(t testing.TB, p pair, times int) (ours, theirs float64) {
	times = max(times/16, 1)
	turn := func(f func()) float64 {
		start := cpuTime(t)
		for range times {
			f()
		}
		return float64(cpuTime(t)-start) / float64(times)
	}
	ours, theirs = turn(p.ours), turn(p.theirs)
	for range 15 {
		ours, theirs = min(ours, turn(p.ours)), min(theirs, turn(p.theirs))
	}
	return ours, theirs
}

// cpuTime is what the process has used of the processors, in nanoseconds.
func cpuTime(t testing.TB) int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func TestAllocationsStayWithinTheGoal(t *testing.T) {
	n := textMessage()
	frame := frameOf(t, n)
	if got := testing.AllocsPerRun(200, func() { _, _ = binxml.Codec{}.Decode(frame) }); got > 8 {
		t.Errorf("decoding a message takes %v allocations", got)
	}
	if got := testing.AllocsPerRun(200, func() { _, _ = binxml.Codec{}.Append(nil, n) }); got > 2 {
		t.Errorf("encoding a message takes %v allocations", got)
	}
	buffer := make([]byte, 0, 1024)
	if got := testing.AllocsPerRun(200, func() { buffer, _ = binxml.Codec{}.Append(buffer[:0], n) }); got > 0 && !raceEnabled {
		t.Errorf("encoding a message into a buffer takes %v allocations", got)
	}
}
