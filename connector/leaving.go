package connector

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/status"
	"maunium.net/go/mautrix/id"

	"postern/connector/gatekeeper"
	"postern/connector/interop"
	"postern/connector/jid"
	"postern/connector/killpoint"
	"postern/connector/noise"
	"postern/connector/profile"
	"postern/connector/words"
	"postern/database"
)

// How the gatekeeper's part of leaving ended.
const (
	outcomeDeleted = "deleted" // it has deleted the account
	outcomeUnknown = "unknown" // it did not know it any more
	outcomeUntold  = "untold"  // it could not be told; it forgets by itself (PROTOCOL.md 3.4)
)

// The pauses between the tries of a step of leaving that failed here.
const (
	leavingPause    = time.Second
	maxLeavingPause = 5 * time.Minute
)

// roomPatience bounds how long a management room is waited for, for somebody who has none when their account is gone.
const roomPatience = 30 * time.Second

// leavings sees to it that the account of whoever wants to leave is gone in the end, at the gatekeeper and here. Each step is on disk before
// the next one begins, and may be done again.
type leavings struct {
	c    *Connector
	kick chan struct{}

	mu      sync.Mutex
	working map[string]bool // by account
}

func newLeavings(c *Connector) *leavings {
	return &leavings{c: c, kick: make(chan struct{}, 1), working: map[string]bool{}}
}

// leave stores the wish to leave. Whatever happens from then on, the account is deleted.
func (c *Connector) leave(ctx context.Context, login *bridgev2.UserLogin, reason string) error {
	c.enlisting.Lock() // so that nobody enlists it at this moment
	defer c.enlisting.Unlock()
	room, err := c.storedManagementRoom(ctx, login.UserMXID)
	if err != nil {
		return err
	}
	err = c.db.Leavings().Begin(ctx, string(login.ID), room.String(), reason)
	if errors.Is(err, database.ErrNotFound) {
		return nil // there is nothing to delete
	} else if err != nil {
		return err
	}
	killpoint.Hit(killpoint.LeaveWished)
	return nil
}

// leaveFor is leave where nobody can be told that it failed: it is tried again for a while.
func (c *Connector) leaveFor(ctx context.Context, login *bridgev2.UserLogin) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), roomPatience)
	defer cancel()
	err := again(ctx, func() error { return c.leave(ctx, login, "") })
	if err != nil {
		c.log.Err(err).Str("account", string(login.ID)).Msg("Could not store that somebody leaves: their account is still there")
	}
}

// wake makes the work on those who leave begin.
func (l *leavings) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// run works until ctx ends, on each account by itself.
func (l *leavings) run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	for {
		var list []*database.Leaving
		err := again(ctx, func() (err error) { list, err = l.c.db.Leavings().All(ctx); return err })
		if err != nil {
			return
		}
		for _, row := range list {
			if l.take(row.AccountID) {
				work.Go(func() { l.guarded(ctx, row) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-l.kick:
		}
	}
}

// take says whether an account is not worked on yet.
func (l *leavings) take(account string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.working[account] {
		return false
	}
	l.working[account] = true
	return true
}

// guarded works on one account. A panic costs nobody else anything, and this account waits for the next start.
func (l *leavings) guarded(ctx context.Context, row *database.Leaving) {
	defer func() {
		if p := recover(); p != nil {
			l.c.log.Error().Type("panic", p).Str("account", row.AccountID).Msg("panic while an account was deleted caught")
		}
	}()
	if err := l.work(ctx, row); err != nil {
		if ctx.Err() == nil {
			l.c.log.Err(err).Str("account", row.AccountID).Msg("Could not delete an account; the next start goes on with it")
		}
		return // it stays taken
	}
	l.mu.Lock()
	delete(l.working, row.AccountID)
	l.mu.Unlock()
	l.c.log.Info().Str("account", row.AccountID).Msg("An account was deleted")
}

// work does what is left to do. What needs no gatekeeper goes first, so that an absent one keeps nothing here but the keys to ask it with.
func (l *leavings) work(ctx context.Context, row *database.Leaving) error {
	c := l.c
	c.dropLogin(ctx, row.AccountID)
	for _, step := range []func() error{
		func() error { return c.emptyAccount(ctx, row) },
		func() error { return c.media.DeleteOwner(ctx, row.AccountID) },
		func() error { return c.sayGone(ctx, row.AccountID) },
	} {
		if err := again(ctx, step); err != nil {
			return err
		}
	}
	killpoint.Hit(killpoint.LeaveFiles)
	if row.Outcome == "" {
		outcome, err := c.askToDelete(ctx, row)
		if err != nil {
			return err
		}
		killpoint.Hit(killpoint.LeaveAnswered)
		if err := again(ctx, func() error { return c.db.Leavings().SetOutcome(ctx, row.AccountID, outcome) }); err != nil {
			return err
		}
		row.Outcome = outcome
		killpoint.Hit(killpoint.LeaveNoted)
	}
	room := c.roomToTell(ctx, row)
	if err := again(ctx, func() error { return c.endAccount(ctx, row, room) }); err != nil {
		return err
	}
	c.dropLogin(ctx, row.AccountID)
	c.stack.Notices.Wake()
	c.wakeStrays()
	return nil
}

// again does something until it succeeds or ctx ends.
func again(ctx context.Context, do func() error) error {
	for pause := leavingPause; ; pause = min(2*pause, maxLeavingPause) {
		err := do()
		if err == nil {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(err, ctx.Err())
		case <-timer.C:
		}
	}
}

// dropLogin takes a login from the framework, if it has it, and waits until its client does nothing any more.
func (c *Connector) dropLogin(ctx context.Context, account string) {
	if login := c.bridge.GetCachedUserLoginByID(loginID(account)); login != nil {
		login.Delete(login.Log.WithContext(ctx), status.BridgeState{StateEvent: status.StateLoggedOut}, bridgev2.DeleteOpts{})
	}
}

// askToDelete has the gatekeeper delete an account, for as long as it does not forget it by itself.
func (c *Connector) askToDelete(ctx context.Context, row *database.Leaving) (outcome string, err error) {
	if err := c.maintenance.wait(ctx); err != nil {
		return "", err
	}
	agreed := c.Config.byName(row.Gatekeeper)
	if agreed == nil {
		return outcomeUntold, nil // its gatekeeper is switched off
	} else if c.instances.stranger(id.UserID(row.MXID)) {
		return outcomeUntold, nil // it is another instance's account that would be deleted
	}
	var account *database.Account
	err = again(ctx, func() (err error) {
		if account, err = c.db.Accounts().Get(ctx, row.AccountID); errors.Is(err, database.ErrSealBroken) {
			return nil
		}
		return err
	})
	if err != nil {
		return "", err
	} else if account == nil {
		return outcomeUntold, nil
	}
	stream, err := c.leavingStream(agreed.profile, account)
	if err != nil {
		c.log.Warn().Err(err).Str("account", row.AccountID).Msg("Gatekeeper cannot be told that an account is deleted")
		return outcomeUntold, nil
	}
	asking, cancel := context.WithDeadline(ctx, time.UnixMilli(row.Asked).Add(forgetsAfter))
	defer cancel()
	known, err := interop.Leave(asking, stream)
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		c.log.Warn().Err(err).Str("account", row.AccountID).Msg("Gatekeeper was not told that an account is deleted")
		return outcomeUntold, nil
	case !known:
		return outcomeUnknown, nil
	}
	return outcomeDeleted, nil
}

// leavingStream is what is needed to ask.
func (c *Connector) leavingStream(p *profile.Profile, account *database.Account) (gatekeeper.Config, error) {
	if len(account.NoiseKey) != noise.KeySize {
		return gatekeeper.Config{}, errors.New("connector: leave: key of a wrong length")
	}
	static, err := noise.KeyPairFromPrivate([noise.KeySize]byte(account.NoiseKey))
	if err != nil {
		return gatekeeper.Config{}, fmt.Errorf("connector: leave: %w", err)
	}
	address, err := jid.Parse(account.Login)
	if err != nil {
		return gatekeeper.Config{}, fmt.Errorf("connector: leave: %w", err) // not enlisted, as far as is known
	}
	number, _ := address.Account()
	cfg := gatekeeper.Config{
		Profile: p, Static: static, AccountID: number, FindAddress: c.addressOf(id.UserID(account.MXID)),
		Token: func(ctx context.Context) (string, error) {
			return c.issuer.TokenWithClaim(ctx, p.Token.IdentifierClaim, account.Identifier, p.Token.Audience)
		},
		Log: new(c.log.With().Str("account", account.ID).Logger()),
	}
	if pace := c.pace(); pace != nil {
		cfg.Pace = func(ctx context.Context) error { return pace(ctx, nil) }
	}
	return cfg, nil
}

// roomToTell is where the person reads that they are gone, "" if there is no such place.
func (c *Connector) roomToTell(ctx context.Context, row *database.Leaving) id.RoomID {
	if row.RoomID != "" {
		return id.RoomID(row.RoomID)
	}
	if row.Reason == reasonDeparted {
		return "" // nobody is there to be told
	}
	ctx, cancel := context.WithTimeout(ctx, roomPatience)
	defer cancel()
	room, err := c.managementRoom(ctx, id.UserID(row.MXID))
	if err != nil {
		c.log.Warn().Err(err).Str("account", row.AccountID).Msg("Nobody can be told that an account was deleted")
		return ""
	}
	return room
}

// notLeaving refuses a log-in to an account that is being deleted. row may be nil.
func (c *Connector) notLeaving(ctx context.Context, w words.Words, row *database.Account) error {
	if row == nil {
		return nil
	}
	leaving, err := c.db.Leavings().Get(ctx, row.ID)
	if err != nil {
		c.log.Err(err).Str("account", row.ID).Msg("Could not look whether an account is being deleted")
		return w.Error("error.wrong")
	} else if leaving != nil {
		return w.Error("leaving.not-yet", "gatekeeper", gatekeeperName(row.Gatekeeper))
	}
	return nil
}
