package connector

import (
	"context"
	"time"

	"postern/connector/metrics"
	"postern/database"
)

const (
	// countEvery is how often the database is counted, countPatience how long that may take. A count that takes long is made less often:
	// it rests for countRest times as long as it took.
	countEvery    = 15 * time.Second
	countPatience = time.Minute
	countRest     = 20
	// preKeysEvery is how often all prekeys are counted.
	preKeysEvery = 10 * time.Minute
)

// countFigures counts what stands in the database, again and again, so that no scrape does.
func (c *Connector) countFigures() {
	f := &figureCounter{db: c.db, show: c.metrics.SetStored}
	for {
		began := time.Now()
		if err := f.count(c.ctx, began); err != nil && c.ctx.Err() == nil {
			c.log.Debug().Err(err).Msg("Could not count what is in the database")
		}
		pause := time.NewTimer(max(countEvery, countRest*time.Since(began)))
		select {
		case <-c.ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

// figureCounter remembers what the tables do not: since when an event of the homeserver waits.
type figureCounter struct {
	db   *database.DB
	show func(metrics.Stored)

	event   int64
	seen    time.Time
	preKeys time.Time
}

func (f *figureCounter) count(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, countPatience)
	defer cancel()
	got, err := f.db.Figures(ctx)
	if err != nil {
		return err
	}
	s := metrics.Stored{
		Queues: map[string]metrics.Queue{
			"to_matrix": queueOf(got.ToMatrix), "to_gatekeeper": queueOf(got.ToGatekeeper), "set_aside": queueOf(got.SetAside),
			"withheld": queueOf(got.Withheld), "resend": queueOf(got.Resend), "notices": queueOf(got.Notices),
			"incoming_media": queueOf(got.IncomingMedia), "leavings": queueOf(got.Leavings),
		},
		DeadIn: got.DeadIn, DeadOut: got.DeadOut, Accounts: got.Accounts, Bytes: got.Bytes, MediaBytes: got.MediaBytes, MediaFiles: got.MediaFiles,
		PreKeys: -1, At: now,
	}
	// The journal has no times, but its oldest event stays the same as long as it waits.
	if got.FirstEvent != f.event {
		f.event, f.seen = got.FirstEvent, now
	}
	events := metrics.Queue{Items: got.Events.Items}
	if events.Items > 0 {
		events.Oldest = f.seen
	}
	s.Queues["homeserver"] = events
	if f.preKeys.IsZero() || now.Sub(f.preKeys) >= preKeysEvery {
		f.preKeys = now
		if s.PreKeys, err = f.db.CountPreKeys(ctx); err != nil {
			return err
		}
	}
	f.show(s)
	return nil
}

func queueOf(w database.Waiting) metrics.Queue {
	q := metrics.Queue{Items: w.Items}
	if w.Items > 0 && w.Oldest > 0 {
		q.Oldest = time.UnixMilli(w.Oldest)
	}
	return q
}
