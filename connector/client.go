package connector

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/networkid"
	"maunium.net/go/mautrix/bridgev2/status"

	"postern/connector/e2ee"
	"postern/connector/gatekeeper"
	"postern/connector/interop"
	"postern/connector/jid"
	"postern/connector/noise"
	"postern/connector/profile"
	"postern/database"
)

// client is one login: an enlisted account and what the framework and the core call on it.
type client struct {
	connector *Connector
	login     *bridgev2.UserLogin
	profile   *profile.Profile
	stanzaKey [32]byte
	log       *zerolog.Logger
	logged    context.Context // has log in it

	account *interop.Account
	chats   *chats
	// requests decides about first contacts.
	requests *requests
	// ignores keeps whom the person ignores and whom they have blocked the same.
	ignores *ignores
	// reach asks people whether they may be written to.
	reach *reach
	// mediaHost is where the attachments of others are, arrivals are those on their way.
	mediaHost *mediaHost
	arrivals  *arrivals

	mu     sync.Mutex
	row    *database.Account // replaced, never changed
	cancel context.CancelFunc
	done   chan struct{}
	// rest ends the loops of the connection and waits for them.
	rest func()
	// ending is closed when what is being disconnected does nothing any more, nil while nothing is.
	ending chan struct{}
	// tellAgain looks for what there is to tell about old keys (renewal.go), while cancel is not nil.
	tellAgain func()

	stopped    atomic.Bool // only a person can help
	live       atomic.Bool // the stream takes messages at once
	connection connection
	rested     atomic.Bool  // the account has no stream because it needs none
	pushedAt   atomic.Int64 // when a push came that nothing was done for yet, in Unix nanoseconds; for figures

	name atomic.Pointer[string] // what goes with messages, if more than the Matrix ID is known
}

var (
	_ bridgev2.NetworkAPI                             = (*client)(nil)
	_ bridgev2.IdentifierResolvingNetworkAPI          = (*client)(nil)
	_ bridgev2.GhostDMCreatingNetworkAPI              = (*client)(nil)
	_ bridgev2.PersonalFilteringCustomizingNetworkAPI = (*client)(nil)
	_ interop.Upcalls                                 = (*client)(nil)
)

// newClient makes the client of an account. It does no work until Connect.
func (c *Connector) newClient(login *bridgev2.UserLogin, row *database.Account, p *profile.Profile) (*client, error) {
	device, err := e2ee.UnmarshalDevice(row.Device)
	if err != nil {
		return nil, fmt.Errorf("connector: load account: %w", err)
	}
	if len(row.NoiseKey) != noise.KeySize || len(row.HMACKey) != 32 {
		return nil, errors.New("connector: load account: key of a wrong length")
	}
	static, err := noise.KeyPairFromPrivate([noise.KeySize]byte(row.NoiseKey))
	if err != nil {
		return nil, fmt.Errorf("connector: load account: %w", err)
	}
	address, err := jid.Parse(row.Login)
	if err != nil {
		return nil, fmt.Errorf("connector: load account: %w", err)
	}
	cl := &client{
		connector: c, login: login, profile: p, stanzaKey: [32]byte(row.HMACKey), row: row,
		logged: c.log.Hook(ofAccount(row.ID)).WithContext(context.Background()),
	}
	cl.log = zerolog.Ctx(cl.logged)
	cl.ignores = newIgnores(cl)
	cl.requests, cl.reach = &requests{client: cl}, newReach(cl)
	cl.chats, cl.arrivals = newChats(cl), newArrivals(cl)
	if cl.mediaHost, err = c.mediaHosts.at(p.Endpoints.Media); err != nil {
		return nil, fmt.Errorf("connector: load account: %w", err)
	}
	cl.account = interop.New(interop.Config{
		ID: row.ID, Profile: p, JID: address, DisplayName: c.displayname(login.UserMXID, ""), Device: device,
		ReadReceipts: true,
		StanzaKey:    cl.stanzaKey,
		Gatekeeper:   gatekeeper.Config{Static: static, Token: cl.token, FindAddress: c.addressOf(login.UserMXID)},
		Clock:        c.clock.said,
		Age:          c.clock.now,
		ClockAhead:   func(ctx context.Context) (time.Duration, error) { return interop.ClockAhead(ctx, p) },
		Attendance:   c.Config.attendance(),
		Pace:         c.pace(),
		Store:        NewAccountStore(c.db, row.ID, row.Gatekeeper),
		Upcalls:      cl,
		Meter:        c.meter(p.Name),
		Reenlist:     cl.reenlist,
		Reenlisted:   reenlisted(row),
		Throttles:    c.brakes.throttles(login.UserMXID),
		Limits:       c.Config.limits(),
		Log:          cl.log,
	})
	return cl, nil
}

// ofAccount says in each line of a log which account it is of. Logger.With would keep half a KiB for that.
type ofAccount string

// Run implements zerolog.Hook.
func (a ofAccount) Run(e *zerolog.Event, _ zerolog.Level, _ string) { e.Str("account", string(a)) }

// reenlisted is when the account was enlisted again, zero for never.
func reenlisted(row *database.Account) time.Time {
	if row.ReenlistedAt == 0 {
		return time.Time{}
	}
	return time.UnixMilli(row.ReenlistedAt)
}

// current is the account's row.
func (c *client) current() *database.Account {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.row
}

// token makes a fresh token for a log-in (PROTOCOL.md 2.4).
func (c *client) token(ctx context.Context) (string, error) {
	t := c.profile.Token
	return c.connector.issuer.TokenWithClaim(ctx, t.IdentifierClaim, c.current().Identifier, t.Audience)
}

// reenlist enlists again with the same keys, for an account that the gatekeeper has forgotten (PROTOCOL.md
// 4.4, 401). The person's consent is in the row, or there would be none.
func (c *client) reenlist(ctx context.Context) (jid.JID, error) {
	row := *c.current()
	row.ReenlistedAt = time.Now().UnixMilli()
	if err := c.connector.enlist(ctx, c.profile, &row); err != nil {
		return jid.JID{}, err
	}
	c.mu.Lock()
	renamed := c.row.Identifier != row.Identifier
	c.row = &row
	c.mu.Unlock()
	c.connector.connected.call(c, row.Gatekeeper, row.Identifier)
	if renamed {
		c.login.RemoteName = row.Identifier
		if err := c.login.Save(ctx); err != nil {
			c.log.Err(err).Msg("Could not store the new name of a login")
		}
	}
	c.connector.chores.apart(func() { c.tellReenlisted(ctx) })
	return jid.Parse(row.Login)
}

// Connect implements bridgev2.NetworkAPI.
func (c *client) Connect(context.Context) {
	c.lockEnded() // or an account would run twice, or what is begun be closed with what ends
	defer c.mu.Unlock()
	if c.cancel != nil {
		return
	}
	if c.connector.suspended.has(c.login.UserMXID) {
		c.connector.sayState(c.login, status.BridgeState{StateEvent: status.StateBadCredentials, Error: stateSuspended})
		c.connector.chores.apart(func() { c.connector.suspended.tell(c.connector.ctx, c.login.UserMXID) })
		return
	}
	if c.connector.maintenance.of() != nil {
		c.connector.maintenance.refuse(c)
		return
	}
	running, cancel := context.WithCancel(c.logged)
	c.cancel, c.done = cancel, make(chan struct{})
	c.stopped.Store(false)
	c.login.BridgeState.Send(status.BridgeState{StateEvent: status.StateConnecting})
	c.connector.connected.set(c, true)
	c.connector.connected.call(c, c.row.Gatekeeper, c.row.Identifier)
	c.arrivals.open(running, cancel)
	go c.run(running, c.done)
	c.connector.names.do(func() { c.takeName(running) })
	if c.connector.suspended.hasEnded(c.login.UserMXID) {
		c.connector.chores.apart(func() { c.connector.suspended.tellEnded(running, c.login.UserMXID) })
	}
	c.tellAgain = func() {
		c.connector.chores.do(func() { c.lookForRenewal(running) })
	}
	c.tellAgain()
	if !reenlisted(c.row).IsZero() {
		c.connector.chores.apart(func() { c.tellReenlisted(running) })
	}
	c.connector.chores.do(func() { c.askConsent(running) })
	c.connector.chores.do(func() { c.requests.sweep(running) })
	c.ignores.start(running)
	c.reach.start(running)
	c.rest = func() {
		c.ignores.loop.end(running)
		c.reach.loop.end(running)
	}
	if c.connector.maintenance.of() != nil { // it has begun in this moment, and may not have seen this client
		go c.connector.maintenance.close(c)
	}
}

// takeName learns what the person is called on Matrix, for the name that goes with messages.
func (c *client) takeName(ctx context.Context) {
	known, err := c.connector.matrix.Bot.GetProfile(ctx, c.login.UserMXID)
	if err != nil {
		c.log.Debug().Err(err).Msg("Could not ask for a person's name")
		return
	}
	if name := cleanName(known.DisplayName); name != "" {
		name = c.connector.displayname(c.login.UserMXID, name)
		c.name.Store(&name)
		c.account.SetDisplayName(name)
	}
}

// run keeps the account going until it is told to stop, or until only a person can help.
func (c *client) run(ctx context.Context, done chan struct{}) {
	defer close(done)
	err := c.account.Run(ctx)
	c.live.Store(false)
	var stop *interop.StopError
	switch {
	case ctx.Err() != nil:
	case errors.As(err, &stop):
		c.stopped.Store(true)
		c.Connection(ctx, interop.ConnState{Kind: stop.Kind, Code: stop.Code})
	case err != nil:
		c.log.Err(err).Msg("Account does not run")
		c.stopped.Store(true)
		c.Connection(ctx, interop.ConnState{Kind: interop.ConnFault})
	}
}

// Disconnect implements bridgev2.NetworkAPI.
func (c *client) Disconnect() { c.disconnect() }

// disconnect ends all that the client does, and says whether it did anything. It returns when that is over, also if somebody else has begun it.
func (c *client) disconnect() (was bool) {
	c.lockEnded()
	cancel, done, rest := c.cancel, c.done, c.rest
	if cancel == nil {
		c.mu.Unlock()
		return false
	}
	ending := make(chan struct{})
	c.cancel, c.ending = nil, ending
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ending = nil
		close(ending)
	}()
	c.connector.connected.set(c, false)
	cancel()
	<-done
	rest()
	c.arrivals.close()
	return true
}

// lockEnded locks c.mu while nothing is being disconnected.
func (c *client) lockEnded() {
	c.mu.Lock()
	for c.ending != nil {
		ending := c.ending
		c.mu.Unlock()
		<-ending
		c.mu.Lock()
	}
}

// IsLoggedIn implements bridgev2.NetworkAPI. An account without a stream is still logged in: what is sent to
// it waits.
func (c *client) IsLoggedIn() bool { return !c.stopped.Load() }

// LogoutRemote implements bridgev2.NetworkAPI: the account is deleted, at the gatekeeper and here, whatever happens (leavings).
func (c *client) LogoutRemote(ctx context.Context) {
	c.connector.leaveFor(ctx, c.login)
	c.Disconnect()
	c.connector.leavings.wake()
}

// IsThisUser implements bridgev2.NetworkAPI.
func (c *client) IsThisUser(_ context.Context, id networkid.UserID) bool {
	return id == selfID(c.profile, string(c.login.ID))
}

// brokenClient stands for a login that cannot be used, and says so.
type brokenClient struct {
	bridgev2.NetworkAPI
	connector *Connector
	login     *bridgev2.UserLogin
	off       bool // its gatekeeper is switched off
	leaving   bool // it is being deleted
	elsewhere bool // its user belongs to another instance
}

func (b *brokenClient) Connect(context.Context) {
	state := status.BridgeState{StateEvent: status.StateBadCredentials, Error: stateNoAccount, UserAction: status.UserActionRelogin}
	switch {
	case b.leaving:
		state = status.BridgeState{StateEvent: status.StateLoggedOut, Error: stateLeaving}
	case b.elsewhere:
		state = status.BridgeState{StateEvent: status.StateUnknownError, Error: stateElsewhere}
	case b.off:
		state = status.BridgeState{StateEvent: status.StateUnknownError, Error: stateSwitchedOff}
	}
	b.connector.sayState(b.login, state)
}

// LogoutRemote implements bridgev2.NetworkAPI: what there is of the account is deleted.
func (b *brokenClient) LogoutRemote(ctx context.Context) {
	b.connector.leaveFor(ctx, b.login)
	b.connector.leavings.wake()
}
func (b *brokenClient) Disconnect()                                       {}
func (b *brokenClient) IsLoggedIn() bool                                  { return false }
func (b *brokenClient) IsThisUser(context.Context, networkid.UserID) bool { return false }
func (b *brokenClient) GetChatInfo(context.Context, *bridgev2.Portal) (*bridgev2.ChatInfo, error) {
	return nil, bridgev2.ErrNotLoggedIn
}
func (b *brokenClient) GetUserInfo(context.Context, *bridgev2.Ghost) (*bridgev2.UserInfo, error) {
	return nil, bridgev2.ErrNotLoggedIn
}
