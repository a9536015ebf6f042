//go:build unix

package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/bridge/parts"
)

// What the other ends take for their part in BenchmarkWaiting.
const (
	slowHomeserver = 25 * time.Millisecond // for each request
	slowAck        = 60 * time.Millisecond // until the gatekeeper acknowledges a message
	waitingAlone   = 20                    // messages of which each waits for the one before
)

// BenchmarkWaiting is how many messages pass when the other ends are slow: a
// homeserver that takes 25 ms for a request, and a gatekeeper that takes 60 ms until it
// acknowledges. 50 chats speak at once (50chats/s), one chat has as many waiting (1chat/s),
// or each message waits until the one before has arrived (serial/s); an outgoing one has when the room shows
// it as delivered. The goal is that ratio, 50 chats beside one message at a time, is at least 10. Messages
// that are not in the order of their chat fail it.
func BenchmarkWaiting(b *testing.B) {
	for _, c := range []struct {
		name   string
		many   func(w *benchWorld, round string, chats, each int) float64
		serial func(w *benchWorld) float64
	}{
		{"in", (*benchWorld).rateIn, (*benchWorld).serialIn},
		{"out", (*benchWorld).rateOut, (*benchWorld).serialOut},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := newBenchWorld(b, nil)
			w.hs.delay.Store(int64(slowHomeserver))
			_, err := w.gatekeeper.AddFault(w.ctx, parts.Fault{Kind: "delay", Match: "ack", Count: -1, DelayMS: slowAck.Milliseconds()})
			w.ok(err)
			c.many(w, "warm", benchChats, 2)
			var many, one, serial []float64
			for i := range 3 {
				many = append(many, c.many(w, fmt.Sprint("many", i), benchChats, benchEach))
				one = append(one, c.many(w, fmt.Sprint("one", i), 1, benchEach))
				serial = append(serial, c.serial(w))
				w.settle()
			}
			for _, rates := range [][]float64{many, one, serial} {
				slices.Sort(rates)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(many[1], "50chats/s")
			b.ReportMetric(one[1], "1chat/s")
			b.ReportMetric(serial[1], "serial/s")
			b.ReportMetric(many[1]/serial[1], "ratio")
			b.ReportMetric(many[1]/one[1], "ratio-1chat")
		})
	}
}

// rateIn lets so many phones write so many messages each while the bridge's process stands still, and
// returns how many a second reach the rooms once it goes on.
func (w *benchWorld) rateIn(round string, chats, each int) float64 {
	must(0, syscall.Kill(w.bridge.PID(), syscall.SIGSTOP))
	var wg sync.WaitGroup
	for part := range slices.Chunk(w.phones[:chats], (chats+1)/2) {
		wg.Go(func() {
			for i := range each {
				for _, phone := range part {
					if _, err := w.gatekeeper.Say(w.ctx, phone, w.to, fmt.Sprint(benchText[:60], round, phone, ":", i)); err != nil {
						w.b.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	start := time.Now()
	must(0, syscall.Kill(w.bridge.PID(), syscall.SIGCONT))
	for _, phone := range w.phones[:chats] {
		w.ok(w.hs.exactly(w.ctx, fmt.Sprint(benchText[:60], round, phone, ":", each-1)))
	}
	rate := float64(chats*each) / time.Since(start).Seconds()
	for i, room := range w.rooms[:chats] {
		w.inOrder(fmt.Sprint(benchText[:60], round, w.phones[i], ":"), each, w.hs.textsOf(room))
	}
	return rate
}

// rateOut hands over so many messages to so many chats and returns how many a second are
// delivered, as the rooms show it.
func (w *benchWorld) rateOut(round string, chats, each int) float64 {
	from, want := slices.Clone(w.after), w.hs.statuses.Load()+int64(chats*each)
	prefix := benchText[:60] + round + ":"
	var events []map[string]any
	for i := range each {
		for _, room := range w.rooms[:chats] {
			events = append(events, w.hs.message(room, fmt.Sprint(prefix, i)))
		}
	}
	start := time.Now()
	for part := range slices.Chunk(events, benchBatch) {
		w.ok(w.hs.push(w.ctx, part...))
	}
	w.ok(w.hs.delivered(w.ctx, want))
	rate := float64(chats*each) / time.Since(start).Seconds()
	for i, phone := range w.phones[:chats] {
		w.ok(w.atPhone(i, phone, each))
		events, err := w.gatekeeper.Events(w.ctx, phone, from[i], time.Second)
		w.ok(err)
		var texts []string
		for _, e := range events {
			texts = append(texts, e.Text)
		}
		w.inOrder(prefix, each, texts)
	}
	return rate
}

// serialIn has the next message written when the one before is in its room.
func (w *benchWorld) serialIn() float64 {
	start := time.Now()
	for range waitingAlone {
		text := fmt.Sprint("one by one ", w.hs.ids.Add(1))
		must(w.gatekeeper.Say(w.ctx, w.phones[0], w.to, text))
		w.ok(w.hs.exactly(w.ctx, text))
	}
	return waitingAlone / time.Since(start).Seconds()
}

// serialOut hands over the next message when the room shows the one before as delivered.
func (w *benchWorld) serialOut() float64 {
	start := time.Now()
	for i := range waitingAlone {
		want := w.hs.statuses.Load() + 1
		w.ok(w.hs.push(w.ctx, w.hs.message(w.rooms[0], fmt.Sprint("one by one ", i))))
		w.ok(w.hs.delivered(w.ctx, want))
	}
	rate := waitingAlone / time.Since(start).Seconds()
	w.ok(w.atPhone(0, w.phones[0], waitingAlone))
	return rate
}

// inOrder fails the benchmark unless those of the texts that begin with prefix are numbered from 0 to
// count, each once.
func (w *benchWorld) inOrder(prefix string, count int, texts []string) {
	w.b.Helper()
	next := 0
	for _, text := range texts {
		if !strings.HasPrefix(text, prefix) {
			continue
		}
		if text != fmt.Sprint(prefix, next) {
			w.b.Fatalf("a chat has %q in place %d", strings.TrimPrefix(text, prefix), next)
		}
		next++
	}
	if next != count {
		w.b.Fatalf("a chat has %d messages, want %d", next, count)
	}
}
