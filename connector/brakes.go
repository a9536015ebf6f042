package connector

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/id"

	"postern/connector/email"
	"postern/connector/interop"
	"postern/connector/killpoint"
	"postern/connector/words"
	"postern/database"
)

// The times in which things are counted, and how often what does not count any more is forgotten.
const (
	chatsWindow    = 24 * time.Hour
	lookupsWindow  = time.Hour
	messagesWindow = time.Minute
	brakesTidied   = time.Hour
)

// lettersMost is how many e-mails with codes there are: to one user, to one address, and in all.
var lettersMost = database.BrakeMost{Window: time.Hour, User: 5, Subject: 3, All: 1000}

// brakes keep users from doing too much: each of them, and all together. Chats, look-ups and letters are rows; of messages there is a row
// each anyway, and the rate is in memory: a process begins as if in the minute before it everything had been used, evenly, so a restart gives nobody a burst.
type brakes struct {
	connector *Connector

	mu    sync.Mutex
	users map[id.UserID]*rate
	all   *rate
	// anybody is the throttle of all users together.
	anybody interop.Throttle
}

func newBrakes(c *Connector) *brakes {
	b := &brakes{connector: c, users: map[id.UserID]*rate{}, all: newRate(c.Config.Brakes.Bridge.Messages, c.began)}
	b.anybody = func() time.Duration {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.all.take()
	}
	return b
}

// rate gives places in time, in order, of which never more than most are in any minute.
type rate struct {
	most   int
	places []time.Time // of the last minute and to come, in order
	began  time.Time
}

func newRate(most int, began time.Time) *rate { return &rate{most: most, began: began} }

// next is the first place that is free at or after now, which it takes.
func (r *rate) next(now time.Time) time.Time {
	at := now
	if n := len(r.places); n > 0 && r.places[n-1].After(at) {
		at = r.places[n-1]
	}
	before := r.began.Add(-messagesWindow + messagesWindow*time.Duration(len(r.places))/time.Duration(r.most)) // of the process before this one
	if len(r.places) >= r.most {
		before = r.places[len(r.places)-r.most]
	}
	if free := before.Add(messagesWindow); free.After(at) {
		at = free
	}
	r.places = append(r.places, at)
	// What is a minute old and more says nothing any more.
	if old, _ := slices.BinarySearchFunc(r.places, now.Add(-messagesWindow), time.Time.Compare); old > len(r.places)/2 {
		r.places = slices.Clone(r.places[old:])
	}
	return at
}

// full is when the next place is free, zero for now.
func (r *rate) full(now time.Time) time.Time {
	if n := len(r.places); n > 0 && r.places[n-1].After(now) {
		return r.places[n-1]
	}
	return time.Time{}
}

// of is the rate of a user; b.mu is held.
func (b *brakes) of(user id.UserID) *rate {
	r := b.users[user]
	if r == nil {
		r = newRate(b.connector.Config.Brakes.User.Messages, b.connector.began)
		b.users[user] = r
	}
	return r
}

// throttles are what a user's messages go through.
func (b *brakes) throttles(user id.UserID) []interop.Throttle {
	own := func() time.Duration {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.of(user).take()
	}
	return []interop.Throttle{own, b.anybody}
}

// take takes the next place, and says how long it is until then.
func (r *rate) take() time.Duration {
	now := time.Now()
	return r.next(now).Sub(now)
}

// slowed is until when messages of a user wait for their rate, zero if they do not.
func (b *brakes) slowed(user id.UserID) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	until := b.of(user).full(now)
	if all := b.all.full(now); all.After(until) {
		return all
	}
	return until
}

// tidy forgets, while the bridge runs, what does not count any more.
func (b *brakes) tidy() {
	tick := time.NewTicker(brakesTidied)
	defer tick.Stop()
	for {
		for kind, window := range map[database.BrakeKind]time.Duration{
			database.BrakeChat: chatsWindow, database.BrakeLookup: lookupsWindow, database.BrakeLetter: lettersMost.Window,
		} {
			if err := b.connector.db.Brakes().Forget(b.connector.ctx, kind, window, b.connector.clock.now()); err != nil && b.connector.ctx.Err() == nil {
				b.connector.log.Err(err).Msg("Could not forget what brakes do not count any more")
			}
		}
		select {
		case <-b.connector.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// chat counts a chat that a user begins. The id is for back.
func (b *brakes) chat(ctx context.Context, user id.UserID, w words.Words) (id string, err error) {
	cfg := &b.connector.Config.Brakes
	id, err = b.connector.db.Brakes().Take(ctx, database.BrakeChat, user.String(), "",
		database.BrakeMost{Window: chatsWindow, User: cfg.User.NewChats, All: cfg.Bridge.NewChats}, b.connector.clock.now())
	return id, b.explain(w, err, "chats", cfg.User.NewChats)
}

// lookup counts a phone number that a user asks for.
func (b *brakes) lookup(ctx context.Context, user id.UserID, w words.Words) (id string, err error) {
	cfg := &b.connector.Config.Brakes
	id, err = b.connector.db.Brakes().Take(ctx, database.BrakeLookup, user.String(), "",
		database.BrakeMost{Window: lookupsWindow, User: cfg.User.Lookups, All: cfg.Bridge.Lookups}, b.connector.clock.now())
	return id, b.explain(w, err, "lookups", cfg.User.Lookups)
}

// letter counts an e-mail with a code.
func (b *brakes) letter(ctx context.Context, user id.UserID, address string, w words.Words) error {
	_, err := b.connector.db.Brakes().Take(ctx, database.BrakeLetter, user.String(), address, lettersMost, b.connector.clock.now())
	return b.explain(w, err, "letters", lettersMost.User)
}

// back takes back what was counted, for what did not come to be.
func (b *brakes) back(ctx context.Context, id string) {
	if err := b.connector.db.Brakes().Return(context.WithoutCancel(ctx), id); err != nil {
		b.connector.log.Err(err).Msg("Could not take back what a brake has counted")
	}
}

// explain says to a person that they have to wait, and until when.
func (b *brakes) explain(w words.Words, err error, what string, n int) error {
	var braked *database.BrakedError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &braked):
		b.connector.log.Err(err).Msg("Could not count what a brake is for")
		return w.Error("error.wrong")
	}
	when := momentWords(w, b.connector.clock.shown(braked.Until).Add(time.Minute-1).UnixMilli()) // words have minutes, and say no time that is too early
	if braked.All {
		what += "-all"
	}
	text := w.Text("brake."+what, "when", when, "n", n)
	return bridgev2.RespError(mautrix.MLimitExceeded.WithMessage("%s", text))
}

// left says how much of a user's new chats and look-ups is left.
func (b *brakes) left(ctx context.Context, user id.UserID) (chats, lookups int, err error) {
	cfg, store, now := &b.connector.Config.Brakes.User, b.connector.db.Brakes(), b.connector.clock.now()
	begun, err := store.Count(ctx, database.BrakeChat, user.String(), chatsWindow, now)
	if err != nil {
		return 0, 0, err
	}
	asked, err := store.Count(ctx, database.BrakeLookup, user.String(), lookupsWindow, now)
	return max(0, cfg.NewChats-begun), max(0, cfg.Lookups-asked), err
}

// lookup asks the gatekeeper for a phone number, for somebody who may do that only so often. All questions for numbers go through here. Its
// errors are words for people.
func (c *client) lookup(ctx context.Context, phone string) (*interop.LookupResult, error) {
	if c.connector.suspended.has(c.login.UserMXID) {
		return nil, c.connector.suspendedWords(c.words())
	}
	counted, err := c.connector.brakes.lookup(ctx, c.login.UserMXID, c.words())
	if err != nil {
		return nil, err
	}
	killpoint.Hit(killpoint.LookupCounted)
	asking, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	results, err := c.account.Lookup(asking, []string{phone})
	var refused *interop.RequestError
	switch {
	case errors.Is(err, interop.ErrOffline):
		c.connector.brakes.back(ctx, counted) // nobody was asked
		return nil, c.lookupWords(err, phone)
	case err != nil:
		return nil, c.lookupWords(err, phone)
	case len(results) != 1:
		return nil, c.words().Error("error.wrong")
	case errors.As(results[0].Err, &refused) && refused.Code == 403 && c.inTouch(ctx, phone):
		return nil, c.words().Error("lookup.off", "phone", phone, "gatekeeper", c.profile.DisplayName)
	case results[0].Err != nil:
		return nil, c.lookupWords(results[0].Err, phone)
	}
	return &results[0], nil
}

// inTouch says whether there is a chat with a number already, or somebody has been asked for one.
func (c *client) inTouch(ctx context.Context, phone string) bool {
	known, _, err := c.known(ctx, phone)
	for _, who := range known {
		request, err := c.requests.store().Get(ctx, string(c.login.ID), who.chat)
		if err == nil && request.State != database.RequestNone {
			return true
		}
		asked, err := c.reach.store().Get(ctx, string(c.login.ID), who.chat)
		if err == nil && asked.State != database.ReachNone {
			return true
		}
	}
	if err != nil {
		c.log.Err(err).Msg("Could not look whether there is a chat with somebody")
	}
	return false
}

// proof makes a code for an address, if the person may have one more.
func (c *Connector) proof(ctx context.Context, user id.UserID, address string, w words.Words) (*email.Proof, string, error) {
	if err := c.brakes.letter(ctx, user, address, w); err != nil {
		return nil, "", err
	}
	proof, code, err := email.NewProof(address)
	if err != nil {
		c.log.Err(err).Msg("Could not make a code")
		return nil, "", w.Error("error.wrong")
	}
	return proof, code, nil
}
