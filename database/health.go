package database

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/lib/pq"
	"github.com/mattn/go-sqlite3"
	"github.com/rs/zerolog"
	"go.mau.fi/util/dbutil"
)

// Reasons why a database cannot commit, as Health names them.
const (
	ReasonFull     = "no room on the disk"
	ReasonLocked   = "locked by another process"
	ReasonAway     = "the server does not answer"
	ReasonReadOnly = "not writable"
	ReasonDisk     = "the disk fails"
	ReasonFailed   = "failed for good"
)

const (
	// probeFirst and probeLast bound the pauses between two attempts to commit while nothing can be committed.
	probeFirst = 250 * time.Millisecond
	probeLast  = 5 * time.Second
	// relapse is how long after the end of a trouble another one counts as the same: the pauses go on growing. What one function
	// meets and the attempts do not would otherwise be found and forgotten several times a second.
	relapse = 30 * time.Second
	// probePatience is how long one attempt may take.
	probePatience = 20 * time.Second
)

// Health says whether the database commits.
type Health struct {
	// Reason is empty while it does, else one of the constants.
	Reason string
	// Since is when that began.
	Since time.Time
}

// health follows what becomes of commits. From the first one that the disk or the server refuses until one has gone through again
// it is in trouble, and tries by itself, so that nobody has to write to find out that the trouble is over.
type health struct {
	log   zerolog.Logger
	probe func(ctx context.Context) error
	fail  *failure
	pause time.Duration // the first one
	last  time.Duration // the longest one

	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	now     Health
	next    time.Duration // before the next attempt, 0 for the first pause
	closed  bool
	watcher func(Health)
}

func newHealth(log zerolog.Logger, fail *failure) *health {
	h := &health{log: log, fail: fail, pause: probeFirst, last: probeLast, now: Health{Since: time.Now()}}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// Health is the present state. A failure for good is one that stays.
func (db *DB) Health() Health { return db.health.state() }

// WatchHealth has a function called at each change from now on, after it is in effect. It must not block.
func (db *DB) WatchHealth(fn func(Health)) {
	db.health.mu.Lock()
	defer db.health.mu.Unlock()
	db.health.watcher = fn
}

// Note tells of what a query of another pool on the same database, the framework's, has come to: its failures count as ours, since
// the disk is the same one.
func (db *DB) Note(err error) { db.health.note(err) }

// watchedLogger notes what the queries of our own pools come to.
type watchedLogger struct {
	dbutil.DatabaseLogger
	health *health
	meter  Meter
}

func (l watchedLogger) QueryTiming(ctx context.Context, method, query string, args []any, rows int, took time.Duration, err error) {
	l.health.note(err)
	l.meter.Query(true, took)
	l.DatabaseLogger.QueryTiming(ctx, method, query, args, rows, took, err)
}

func (h *health) state() Health {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail.err() != nil {
		return Health{Reason: ReasonFailed, Since: h.now.Since}
	}
	return h.now
}

// note looks at an error of any query, nil included.
func (h *health) note(err error) {
	if err == nil {
		return
	}
	if untrustworthy(err) {
		h.fail.set(err)
		h.change(ReasonFailed)
		return
	}
	if reason := reasonOf(err); reason != "" {
		h.change(reason)
	}
}

// change enters trouble, or another one.
func (h *health) change(reason string) {
	h.mu.Lock()
	old := h.now
	if h.closed || old.Reason == reason || old.Reason == ReasonFailed {
		h.mu.Unlock()
		return
	}
	h.now = Health{Reason: reason, Since: time.Now()}
	if old.Reason == "" && h.now.Since.Sub(old.Since) >= relapse {
		h.next = 0
	}
	if old.Reason == "" && reason != ReasonFailed && h.probe != nil {
		h.work.Go(h.try)
	}
	now, watcher := h.now, h.watcher
	h.mu.Unlock()
	h.log.Error().Str("reason", reason).Msg("The database cannot commit: what comes is not acknowledged until it can")
	if watcher != nil {
		watcher(now)
	}
}

// try commits something until that works.
func (h *health) try() {
	for {
		select {
		case <-time.After(h.grow()):
		case <-h.ctx.Done():
			return
		case <-h.fail.ch:
			return
		}
		ctx, cancel := context.WithTimeout(h.ctx, probePatience)
		err := h.probe(ctx)
		cancel()
		if err == nil {
			break
		}
	}
	h.mu.Lock()
	old := h.now
	if h.closed || old.Reason == ReasonFailed {
		h.mu.Unlock()
		return
	}
	h.now = Health{Since: time.Now()}
	now, watcher := h.now, h.watcher
	h.mu.Unlock()
	h.log.Info().Str("reason", old.Reason).Dur("duration", now.Since.Sub(old.Since)).Msg("The database commits again")
	if watcher != nil {
		watcher(now)
	}
}

// grow is the pause before the next attempt, each twice as long as the one before it, up to the longest.
func (h *health) grow() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	pause := h.next
	if pause == 0 {
		pause = h.pause
	}
	h.next = min(2*pause, h.last)
	return pause
}

// begin says how to try; before, nothing is tried by itself.
func (h *health) begin(probe func(ctx context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probe = probe
	if h.now.Reason != "" && h.fail.err() == nil && !h.closed {
		h.work.Go(h.try)
	}
}

func (h *health) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.cancel()
	h.work.Wait()
}

// probeCommit seals a row again: it says the same in other bytes, since SQLite writes no page for a row that stays as it is.
func (db *DB) probeCommit(ctx context.Context) error {
	return db.Do(ctx, func(ctx context.Context) error {
		_, err := db.raw.Exec(ctx, "UPDATE postern_key_check SET sealed=$1 WHERE id=1",
			db.Seal(keyCheckColumn, "1", 1, []byte(keyCheckText)))
		return err
	})
}

// untrustworthy says whether an error means that this connection to the disk must not be used again. After a failed fsync the kernel may
// have dropped the pages: another fsync would report success for data that is gone. A damaged file gives answers that are not
// what was stored.
func untrustworthy(err error) bool {
	var lite sqlite3.Error
	if !errors.As(err, &lite) {
		return false
	}
	switch lite.ExtendedCode {
	case sqlite3.ErrIoErrFsync, sqlite3.ErrIoErrDirFsync:
		return true
	}
	return lite.Code == sqlite3.ErrCorrupt || lite.Code == sqlite3.ErrNotADB
}

// reasonOf names the trouble that an error shows, "" for one that is about something else.
func reasonOf(err error) string {
	var lite sqlite3.Error
	if errors.As(err, &lite) {
		switch lite.Code {
		case sqlite3.ErrFull:
			return ReasonFull
		case sqlite3.ErrBusy:
			if lite.ExtendedCode != sqlite3.ErrBusySnapshot {
				return ReasonLocked
			}
		case sqlite3.ErrIoErr, sqlite3.ErrCantOpen:
			return ReasonDisk
		case sqlite3.ErrReadonly, sqlite3.ErrPerm:
			return ReasonReadOnly
		}
		return ""
	}
	var server *pq.Error
	if errors.As(err, &server) {
		switch {
		case server.Code == "53100":
			return ReasonFull
		case server.Code == "25006":
			return ReasonReadOnly
		case server.Code.Class() == "58":
			return ReasonDisk
		case server.Code == "57014": // a query that was ended on request
			return ""
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || !temporary(err) {
		return ""
	}
	return ReasonAway
}
