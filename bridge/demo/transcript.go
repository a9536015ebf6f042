package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// transcript prints what happens while it happens.
type transcript struct {
	mu    sync.Mutex
	out   io.Writer
	start time.Time
}

func newTranscript(out io.Writer) *transcript {
	return &transcript{out: out, start: time.Now()}
}

// line prints one line with the seconds since the start.
func (t *transcript) line(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, "%6.2fs  %s\n", time.Since(t.start).Seconds(), fmt.Sprintf(format, args...))
}

func (t *transcript) step(what string) { t.line("… %s", what) }
func (t *transcript) note(what string) { t.line("! %s", what) }
func (t *transcript) held(what string) { t.line("✓ %s", what) }

// said prints one message: who to whom, over which way, what, and how long the
// leg took.
func (t *transcript) said(from, to, way, text string, took time.Duration) {
	t.line("✓ %s → %s  [%s]  %q  (%d ms)", from, to, way, text, took.Milliseconds())
}
