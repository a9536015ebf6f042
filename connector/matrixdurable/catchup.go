package matrixdurable

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"runtime/debug"
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
	// Passed, if set, is told of a room in which so much was missed that the older part is not read. since is where
	// that began; it comes again if the look has to be repeated.
	Passed func(ctx context.Context, room, since string) error
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
	soon atomic.Bool   // there was a Check since Run last waited
	away atomic.Bool   // the last look failed
	turn chan struct{} // has something in it during a look: one at a time
	late sync.WaitGroup

	// The rest belongs to whose turn it is.
	holding  map[string]bool // the rooms that wait for what they missed, also from one attempt to the next
	patience time.Time       // until when they wait if nothing succeeds; zero without a failure
	pages    int             // maxOlderPages
}

// NewCatchUp makes a CatchUp.
func NewCatchUp(cfg CatchUpConfig) *CatchUp {
	if cfg.Every == 0 {
		cfg.Every = 30 * time.Second
	}
	if cfg.Order == nil {
		cfg.Order = new(sync.Mutex)
	}
	return &CatchUp{cfg: cfg, wake: make(chan struct{}, 1), turn: make(chan struct{}, 1), holding: map[string]bool{}, pages: maxOlderPages}
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
	defer c.late.Wait()
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
// ends, since whatever is handled before it has succeeded may be out of order. A failure is made up for by Run. Where the
// homeserver has answered and there is more to read than ctx has time for, Check returns, and the rooms concerned wait on.
func (c *CatchUp) Check(ctx context.Context) {
	if !c.soon.Swap(true) {
		defer c.Soon() // so that Run waits less
	}
	for pause := 50 * time.Millisecond; ; pause = min(pause*2, time.Second) {
		err := c.lookFor(ctx)
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

// lookFor is Look that is waited for until ctx ends. It goes on after that if it knows its rooms.
func (c *CatchUp) lookFor(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	work, cancel := context.WithCancel(c.cfg.Dispatcher.ctx)
	var answered atomic.Bool
	done := make(chan error, 1)
	c.late.Go(func() {
		defer cancel()
		done <- c.lookThen(work, func() { answered.Store(true) })
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if answered.Load() {
		return nil
	}
	cancel()
	return <-done
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
func (c *CatchUp) Look(ctx context.Context) error { return c.lookThen(ctx, func() {}) }

// errPanicked is a look in which something has panicked.
var errPanicked = errors.New("matrixdurable: catch up: panic")

// lookThen is Look; answered is called when the rooms concerned are known and held. A panic is a look that failed.
func (c *CatchUp) lookThen(ctx context.Context, answered func()) (err error) {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.turn }()
	defer func() {
		if p := recover(); p != nil {
			c.cfg.Log.Error().Str("panic", fmt.Sprintf("%T", p)).Bytes(zerolog.ErrorStackFieldName, debug.Stack()).
				Msg("Panic while the homeserver was asked for missed events")
			c.cfg.Dispatcher.Doubt() // a commit may have happened
			err = errPanicked
			c.failed()
		}
	}()
	if err = c.look(ctx, answered); err != nil {
		c.failed()
	} else {
		c.letGo()
		c.patience = time.Time{}
	}
	if c.away.Swap(err != nil) && err == nil && c.cfg.Well != nil {
		c.cfg.Well()
	}
	return err
}

func (c *CatchUp) look(ctx context.Context, answered func()) error {
	newest := c.cfg.Dispatcher.Newest()
	since, err := c.cfg.Journal.Token(ctx, catchUpToken)
	if err != nil {
		return fmt.Errorf("matrixdurable: catch up: %w", err)
	}
	page, err := c.changes(ctx, since)
	if err != nil {
		return fmt.Errorf("matrixdurable: catch up: %w", err)
	}
	if since == "" {
		return c.cfg.Journal.SetToken(ctx, catchUpToken, page.Next)
	}
	c.hold(page.Rooms.Join)
	answered()
	if err = c.journal(ctx, page, since, newest); err != nil {
		return fmt.Errorf("matrixdurable: catch up: %w", err)
	}
	return nil
}

// changes asks what is new in all rooms.
func (c *CatchUp) changes(ctx context.Context, since string) (*syncPage, error) {
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
		return nil, err
	}
	query := url.Values{"timeout": {"0"}, "filter": {string(filter)}, "set_presence": {"offline"}}
	if since != "" {
		query.Set("since", since)
	}
	var page syncPage
	if err := c.cfg.Ask(ctx, "/_matrix/client/v3/sync", query, &page); err != nil {
		return nil, err
	}
	return &page, nil
}
