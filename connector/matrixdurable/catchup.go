package matrixdurable

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// catchUpToken is the name of the sync token in the journal.
const catchUpToken = "catch_up"

// Ask does a GET on the homeserver's client API as the bridge's bot and without a device: a device's sync would
// acknowledge its to-device messages. path begins with /_matrix.
type Ask func(ctx context.Context, path string, query url.Values, into any) error

// CatchUpConfig says what a CatchUp needs.
type CatchUpConfig struct {
	Journal    Journal
	Dispatcher *Dispatcher
	Ask        Ask
	// Own is as in ListenerConfig.
	Own func(user string) bool
	// Order is as in ListenerConfig.
	Order sync.Locker
	// Every is how often it looks without a reason; default 30 s. After a Check it looks again after a second, and then
	// less and less often: what the homeserver leaves behind, it leaves behind after a restart.
	Every time.Duration
	// Well, if set, is called when the homeserver has answered again after it had not.
	Well func()
	Log  zerolog.Logger
}

// CatchUp asks the homeserver what has happened in the bridge's rooms since the last time, and journals what it
// has not been told. A homeserver keeps the events of its next transaction in memory only: killed at
// the wrong moment it has noted them as delivered and forgets them. After a failure it may also
// wait minutes before it tries again.
type CatchUp struct {
	cfg  CatchUpConfig
	wake chan struct{}
	soon atomic.Bool // there was a Check since Run last waited
	away atomic.Bool // the last look failed
	mu   sync.Mutex  // one look at a time
}

// NewCatchUp makes a CatchUp.
func NewCatchUp(cfg CatchUpConfig) *CatchUp {
	if cfg.Every == 0 {
		cfg.Every = 30 * time.Second
	}
	if cfg.Order == nil {
		cfg.Order = new(sync.Mutex)
	}
	return &CatchUp{cfg: cfg, wake: make(chan struct{}, 1)}
}

// Soon makes Run look as soon as the homeserver answers again.
func (c *CatchUp) Soon() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run looks now and then until ctx ends.
func (c *CatchUp) Run(ctx context.Context) {
	wait, failed := c.cfg.Every, time.Duration(0)
	for {
		if err := c.Look(ctx); err != nil && ctx.Err() == nil {
			failed = min(max(failed*2, 250*time.Millisecond), 5*time.Second)
			c.cfg.Log.Warn().Err(err).Msg("Could not ask the homeserver for missed events")
			pause(ctx, failed, nil)
			continue
		}
		failed = 0
		wait = min(wait*2, c.cfg.Every)
		if c.soon.Swap(false) {
			wait = min(time.Second, c.cfg.Every)
		}
		if !pause(ctx, wait, c.wake) {
			return
		}
	}
}

// pause waits; false if ctx has ended.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wake:
	}
	return ctx.Err() == nil
}

// Check is Look for the dispatcher, which holds the rooms meanwhile: it does not give up before ctx
// ends, since whatever is handled before it has succeeded may be out of order. A failure is made up for by Run.
func (c *CatchUp) Check(ctx context.Context) {
	if !c.soon.Swap(true) {
		defer c.Soon() // so that Run waits less
	}
	for pause := 50 * time.Millisecond; ; pause = min(pause*2, time.Second) {
		err := c.Look(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			c.cfg.Log.Warn().Err(err).Msg("Could not ask the homeserver for missed events, going on without")
			c.Soon()
			return
		case <-time.After(pause):
		}
	}
}

// missedTypes are the events worth asking for: all that the framework handles.
var missedTypes = []string{
	"m.room.message", "m.room.encrypted", "m.sticker", "m.reaction", "m.room.redaction",
	"m.room.member", "m.room.power_levels", "m.room.encryption", "m.room.name", "m.room.avatar", "m.room.topic",
	"m.room.tombstone", "org.matrix.msc3381.poll.start", "org.matrix.msc3381.poll.response",
}

const catchUpLimit = 100

type syncRoom struct {
	Timeline struct {
		Events  []json.RawMessage `json:"events"`
		Limited bool              `json:"limited"`
		Prev    string            `json:"prev_batch"`
	} `json:"timeline"`
}

type syncPage struct {
	Next  string `json:"next_batch"`
	Rooms struct {
		Join  map[string]syncRoom `json:"join"`
		Leave map[string]syncRoom `json:"leave"`
	} `json:"rooms"`
}

// Look asks once. The very first look only notes where the homeserver stands.
func (c *CatchUp) Look(ctx context.Context) error {
	err := c.look(ctx)
	if c.away.Swap(err != nil) && err == nil && c.cfg.Well != nil {
		c.cfg.Well()
	}
	return err
}

func (c *CatchUp) look(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	newest := c.cfg.Dispatcher.Newest()
	since, err := c.cfg.Journal.Token(ctx, catchUpToken)
	if err != nil {
		return fmt.Errorf("matrixdurable: catch up: %w", err)
	}
	limit := catchUpLimit
	if since == "" {
		limit = 1
	}
	nothing := map[string]any{"not_types": []string{"*"}}
	filter, err := json.Marshal(map[string]any{
		"presence": nothing, "account_data": nothing,
		"room": map[string]any{
			"account_data": nothing, "ephemeral": nothing, "state": nothing, "include_leave": false,
			"timeline": map[string]any{"types": missedTypes, "limit": limit},
			// A room that nobody has, to make each question a new one: Synapse answers one that it had before from its memory, for two
			// minutes and across our restarts, and that answer is older than what it has pushed since.
			"not_rooms": []string{"!" + rand.Text() + ":postern.invalid"},
		},
	})
	if err != nil {
		return err
	}
	query := url.Values{"timeout": {"0"}, "filter": {string(filter)}, "set_presence": {"offline"}}
	if since != "" {
		query.Set("since", since)
	}
	var page syncPage
	if err := c.cfg.Ask(ctx, "/_matrix/client/v3/sync", query, &page); err != nil {
		return fmt.Errorf("matrixdurable: catch up: %w", err)
	}
	if since == "" {
		return c.cfg.Journal.SetToken(ctx, catchUpToken, page.Next)
	}
	var entries []Entry
	for room, news := range page.Rooms.Join {
		events := news.Timeline.Events
		if news.Timeline.Limited {
			if events, err = c.older(ctx, room, since, news.Timeline.Prev, events); err != nil {
				return fmt.Errorf("matrixdurable: catch up: %w", err)
			}
		}
		for _, raw := range events {
			if e, wanted, ok := roomEntry(raw, room, c.cfg.Own); ok && wanted {
				entries = append(entries, e)
			}
		}
	}
	return c.merge(ctx, page.Next, entries, newest)
}

// merge journals what was missed and puts it into the rooms' queues, before later events that still wait there.
func (c *CatchUp) merge(ctx context.Context, next string, entries []Entry, newest int64) error {
	c.cfg.Order.Lock()
	defer c.cfg.Order.Unlock()
	c.cfg.Dispatcher.Hold()
	defer c.cfg.Dispatcher.Release()
	if err := c.cfg.Dispatcher.Resolve(ctx); err != nil {
		return fmt.Errorf("matrixdurable: catch up: %w", err)
	}
	entries = c.withLater(entries, newest)
	added, err := c.cfg.Journal.Merge(ctx, catchUpToken, next, entries, c.cfg.Dispatcher.Waiting)
	if err != nil {
		c.cfg.Dispatcher.Doubt()
		return fmt.Errorf("matrixdurable: catch up: %w", err)
	}
	if len(added) > 0 {
		c.cfg.Log.Debug().Int("count", len(added)).Msg("Homeserver had events that it had not pushed")
		c.cfg.Dispatcher.Merge(added)
	}
	return nil
}

// withLater adds, room by room, what waits, is not in the answer, and was journalled since the homeserver was asked: it came after
// everything in the answer. What was there before and is not in the answer is older than it, and stays in front.
func (c *CatchUp) withLater(entries []Entry, newest int64) []Entry {
	known := make(map[string]bool, len(entries))
	rooms := map[string]bool{}
	for _, e := range entries {
		known[e.EventID] = true
		rooms[e.Room] = true
	}
	for room := range rooms {
		for _, e := range c.cfg.Dispatcher.Queued(room) {
			if e.Seq > newest && !known[e.EventID] && !e.Handed {
				entries = append(entries, e)
			}
		}
	}
	return entries
}

// maxOlderPages bounds how far back one room is read after a long gap: 50,000 events.
const maxOlderPages = 500

// older reads what lies between since and the timeline of a limited sync, and returns it with the timeline, in order.
func (c *CatchUp) older(ctx context.Context, room, since, from string, timeline []json.RawMessage) ([]json.RawMessage, error) {
	filter, err := json.Marshal(map[string]any{"types": missedTypes})
	if err != nil {
		return nil, err
	}
	var back []json.RawMessage
	for range maxOlderPages {
		query := url.Values{"dir": {"b"}, "from": {from}, "to": {since}, "limit": {fmt.Sprint(catchUpLimit)}, "filter": {string(filter)}}
		var page struct {
			Chunk []json.RawMessage `json:"chunk"`
			End   string            `json:"end"`
		}
		if err := c.cfg.Ask(ctx, "/_matrix/client/v3/rooms/"+url.PathEscape(room)+"/messages", query, &page); err != nil {
			return nil, err
		}
		back = append(back, page.Chunk...)
		if page.End == "" || page.End == from || len(page.Chunk) == 0 {
			break
		}
		from = page.End
	}
	slices.Reverse(back)
	return append(back, timeline...), nil
}
