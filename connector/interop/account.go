package interop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"postern/connector/binxml"
	"postern/connector/e2ee"
	"postern/connector/gatekeeper"
	"postern/connector/jid"
	"postern/connector/profile"
	"postern/connector/stanza"
)

// Errors of an Account that callers tell apart with errors.Is.
var (
	// ErrStopped is returned by calls on an account that was deleted.
	ErrStopped = errors.New("account: stopped")
	// ErrBusy is returned by Run if the account runs already.
	ErrBusy = errors.New("account: already running")
	// ErrBadOutgoing is returned by Send for an Outgoing that breaks its rules.
	ErrBadOutgoing = errors.New("send: not a valid event")
)

// Stream is what an Account needs of gatekeeper.Stream.
type Stream interface {
	Run(ctx context.Context) error
	Send(ctx context.Context, s stanza.Stanza) error
	SendFrame(ctx context.Context, plaintext []byte) error
	Request(ctx context.Context, iq *stanza.IQ) (*stanza.IQ, error)
}

// Config says who an account is and what it works with.
type Config struct {
	// ID is the account's opaque local id.
	ID string
	// Profile is the gatekeeper.
	Profile *profile.Profile
	// JID is the login that the gatekeeper gave.
	JID jid.JID
	// DisplayName goes with each message (PROTOCOL.md 6.1); see SetDisplayName.
	DisplayName string
	// ReadReceipts says whether the person wants read receipts, in both directions
	// (PROTOCOL.md 6.6); see SetReadReceipts.
	ReadReceipts bool
	// Device holds the long-term Signal keys that were enlisted.
	Device *e2ee.Device
	// StanzaKey makes stanza ids (StanzaID); secret, and never changed.
	StanzaKey [32]byte
	// Gatekeeper is completed by the Account (Profile, AccountID, ReadReceipts,
	// Handler, Log)
	// and handed to gatekeeper.New each time a stream is needed.
	Gatekeeper gatekeeper.Config
	// Store is this account's part of the database.
	Store Store
	// Upcalls is the layer above.
	Upcalls Upcalls
	// Reenlist enlists again with the same keys after the gatekeeper has
	// forgotten the account, and returns the login that stands from now on. Nil
	// if the person's consent does not stand.
	Reenlist func(ctx context.Context) (jid.JID, error)
	// Reenlisted is when Reenlist last succeeded, zero if never: a second time
	// within Profile.Timing.Reenlist stops the account (PROTOCOL.md 4.4, 401).
	Reenlisted time.Time
	// ClockAhead says how far the gatekeeper's clock is ahead of ours, for a login whose
	// token was refused; nil if nobody knows (the function ClockAhead asks).
	ClockAhead func(ctx context.Context) (time.Duration, error)
	// Clock, if not nil, is told the gatekeeper's time at each login, to the second.
	Clock func(at time.Time)
	// Age is the time by which what is kept grows too old; nil means time.Now. It may stay behind a
	// machine's clock that is far ahead.
	Age func() time.Time
	// Attendance says when the stream is open; the zero value says always.
	Attendance Attendance
	// Pace, if not nil, holds each attempt to connect back until it is its turn; hurry is closed
	// when somebody waits for it. Its only error is that of its context.
	Pace func(ctx context.Context, hurry <-chan struct{}) error
	// Throttles hold messages back, each for a rate that it keeps; a message goes through all of them, in
	// order, before it is encrypted. What is repeated is not counted again.
	Throttles []Throttle
	// Meter, if not nil, is told what the account does.
	Meter Meter
	// Limits are bounds; zero fields take the default.
	Limits Limits
	// Log gets what happens, without user data. It says which account its lines are of. Nil for no log.
	Log *zerolog.Logger
	// NewStream replaces gatekeeper.New, for tests.
	NewStream func(c gatekeeper.Config) Stream
}

// Limits bound what an account holds and waits for.
type Limits struct {
	// MaxPending and MaxPendingChat are how many items may wait for Matrix, in
	// all and for one chat, before the account stops acking (10,000 and 2,000).
	MaxPending, MaxPendingChat int
	// InFlight is how many stanzas may be between socket and disk (128).
	InFlight int
	// Waiting is how long an outgoing event may wait while the stream is live
	// and its chat makes no progress (60 s, promise 3).
	Waiting time.Duration
	// Hold is how long a message may wait for the one it is about (10 min), and
	// HeldChat how many of one chat do (20): each further message of the chat costs
	// as many deliveries at most, whatever its sender has made wait.
	Hold     time.Duration
	HeldChat int
	// Held is how long a part may wait for the person to confirm a new key (7 days, as
	// long as plaintexts are kept anyway).
	Held time.Duration
	// PrepareTries is how often an event's message is tried to be made (8).
	PrepareTries int
	// Resend is how long a message that could not be read may take to come again
	// before a notice (10 min).
	Resend time.Duration
	// RetryWindow and RetryKeep are for how long and for how many parts the
	// plaintext is kept after the ack (7 days, 2,000; PROTOCOL.md 6.8).
	RetryWindow time.Duration
	RetryKeep   int
	// Memory is how long rows are kept for dedupe and receipts (45 days: the
	// gatekeeper queues for 30).
	Memory time.Duration
	// PreKeyJitter is the longest random delay before prekeys are refilled, save
	// the first time (30 s).
	PreKeyJitter time.Duration
	// ReceiptDelay is the longest random delay of receipts (2 s), so that their time says
	// nothing of ours; negative for none, and then they are not paced either.
	ReceiptDelay time.Duration
	// LetterTime is how long the payload of a dead letter is kept (30 days), LetterKeep
	// how many of each direction (500), LetterBytes how much of incoming ones (16 MiB). Where
	// that is too little, each chat has its share.
	LetterTime  time.Duration
	LetterKeep  int
	LetterBytes int
	// Receipts is how many receipts wait for the gatekeeper's ack at once (1,024); what is
	// due beyond that stays on disk.
	Receipts int
	// RetryMin and RetryMax bound the backoff of everything that is tried again
	// (1 s, 30 s).
	RetryMin, RetryMax time.Duration
}

// withDefaults fills zero fields.
func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		to  *int
		def int
	}{{&l.MaxPending, 10_000}, {&l.MaxPendingChat, 2_000}, {&l.InFlight, 128}, {&l.RetryKeep, 2_000},
		{&l.HeldChat, 20}, {&l.PrepareTries, 8}, {&l.LetterKeep, 500}, {&l.LetterBytes, 16 << 20}, {&l.Receipts, 1024}} {
		if *d.to == 0 {
			*d.to = d.def
		}
	}
	for _, d := range []struct {
		to  *time.Duration
		def time.Duration
	}{
		{&l.Waiting, time.Minute}, {&l.Held, 7 * 24 * time.Hour}, {&l.Hold, 10 * time.Minute}, {&l.Resend, 10 * time.Minute}, {&l.RetryWindow, 7 * 24 * time.Hour},
		{&l.Memory, 45 * 24 * time.Hour}, {&l.PreKeyJitter, 30 * time.Second}, {&l.ReceiptDelay, 2 * time.Second},
		{&l.LetterTime, 30 * 24 * time.Hour}, {&l.RetryMin, time.Second}, {&l.RetryMax, 30 * time.Second},
	} {
		if *d.to == 0 {
			*d.to = d.def
		}
	}
	return l
}

// shared is what the limits come to, in one place for all accounts that have the same.
func (l Limits) shared() *Limits {
	l = l.withDefaults()
	sameLimits.Lock()
	defer sameLimits.Unlock()
	if sameLimits.last == nil || *sameLimits.last != l {
		sameLimits.last = &l
	}
	return sameLimits.last
}

// sameLimits has those of the account that was made last: a process has one set of them.
var sameLimits struct {
	sync.Mutex
	last *Limits
}

// settings is what an Account keeps of its Config besides what it has fields for.
type settings struct {
	Device    *e2ee.Device
	StanzaKey [32]byte
	// static, token and findAddress are Gatekeeper's, stream is the rest of it, nil where there is none.
	static      gatekeeper.Keys
	token       func(ctx context.Context) (string, error)
	findAddress func(ctx context.Context) (netip.Addr, error)
	stream      *gatekeeper.Config
	Reenlist    func(ctx context.Context) (jid.JID, error)
	ClockAhead  func(ctx context.Context) (time.Duration, error)
	Clock       func(at time.Time)
	Pace        func(ctx context.Context, hurry <-chan struct{}) error
	Throttles   []Throttle
	NewStream   func(c gatekeeper.Config) Stream
}

func (c *Config) settings() settings {
	g := c.Gatekeeper
	s := settings{
		Device: c.Device, StanzaKey: c.StanzaKey, static: g.Static, token: g.Token, findAddress: g.FindAddress, Reenlist: c.Reenlist,
		ClockAhead: c.ClockAhead, Clock: c.Clock, Pace: c.Pace, Throttles: c.Throttles, NewStream: c.NewStream,
	}
	g.Static, g.Token, g.FindAddress = gatekeeper.Keys{}, nil, nil
	if !reflect.ValueOf(g).IsZero() {
		s.stream = new(g)
	}
	return s
}

// gatekeeper is the configuration of a stream as far as an Account was given one.
func (s *settings) gatekeeper() (c gatekeeper.Config) {
	if s.stream != nil {
		c = *s.stream
	}
	c.Static, c.Token, c.FindAddress = s.static, s.token, s.findAddress
	return c
}

// StopError is what Run returns when the account cannot go on by itself.
type StopError struct {
	// Kind is ConnReplaced, ConnNotEnlisted, ConnRefused or ConnDeleted.
	Kind ConnKind
	// Code is the gatekeeper's, or 0.
	Code int
}

// Error names kind and code.
func (e *StopError) Error() string {
	return fmt.Sprintf("account: stopped: %s (code %d)", e.Kind, e.Code)
}

// Account is one enlisted account. Its methods may be called from any goroutine.
type Account struct {
	id     string
	prof   *profile.Profile
	cfg    settings
	limits *Limits // shared with others
	store  Store
	up     Upcalls
	log    *zerolog.Logger
	meter  Meter
	codec  binxml.Codec
	signal *e2ee.Signal
	age    func() time.Time // what Config.Age says

	display atomic.Pointer[string]
	running atomic.Bool
	deleted atomic.Bool
	reads   atomic.Bool // read receipts are wanted
	quotes  atomic.Bool // replies go as quoted text
	seq     sequence
	// letters is held while a dead letter becomes pending, and while the queues are
	// loaded; loaded says that they were, for the first time.
	letters sync.Mutex
	loaded  bool

	decisions *decisions

	people   *people
	link     *link
	attend   *attendance
	conn     *connNews
	inbox    *inbox
	waits    *waits
	mail     *mail
	receipts *receipts
	typing   *typing
	outbox   *outbox
	news     *news
	keys     *keys
	chores   *chores
	blocks   *blocks
	verified *verified
}

// New makes an account. It does nothing until Run, but takes Send.
func New(c Config) *Account {
	a := &Account{
		id: c.ID, prof: c.Profile, cfg: c.settings(), limits: c.Limits.shared(),
		store: c.Store, up: c.Upcalls, log: c.Log,
		meter:  meterOf(&c),
		codec:  binxml.Codec{Read: c.Profile.ReadDialect, Write: c.Profile.WriteDialect},
		signal: e2ee.New(c.Device, c.Store),
	}
	if a.age = c.Age; a.age == nil {
		a.age = time.Now
	}
	if a.log == nil {
		a.log = new(zerolog.Nop())
	}
	a.SetDisplayName(c.DisplayName)
	a.reads.Store(c.ReadReceipts)
	a.people = newPeople(c.Store)
	a.decisions = &decisions{a: a}
	a.link = newLink(a, &c)
	a.attend = newAttendance(a, c.Attendance)
	a.conn = newConnNews(a)
	a.inbox = newInbox(a)
	a.waits = newWaits(a)
	a.mail = newMail(a)
	a.receipts = newReceipts(a)
	a.typing = newTyping(a)
	a.outbox = newOutbox(a)
	a.news = newNews(a)
	a.keys = newKeys(a)
	a.chores = newChores(a)
	a.blocks = newBlocks(a)
	a.verified = newVerified(a)
	return a
}

// SetDisplayName changes the name that goes with messages from now on.
func (a *Account) SetDisplayName(name string) { a.display.Store(&name) }

// Run connects the account and keeps it connected until ctx ends, when it returns
// nil, or until only a person can help, when it returns a *StopError. Queues of
// earlier runs are taken up where they were. It may be called again afterwards.
func (a *Account) Run(ctx context.Context) error {
	if !a.running.CompareAndSwap(false, true) {
		return ErrBusy
	}
	defer a.running.Store(false)
	if a.deleted.Load() {
		return ErrStopped
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parts := []interface {
		start(ctx context.Context)
		stop()
	}{a.conn, a.news, a.mail, a.receipts, a.typing, a.outbox, a.waits, a.keys, a.blocks, a.inbox, a.chores}
	if err := a.load(ctx); err != nil {
		return nil // ctx ended
	}
	for _, p := range parts {
		p.start(ctx)
	}
	err := a.link.run(ctx)
	cancel()
	for i := len(parts) - 1; i >= 0; i-- {
		parts[i].stop()
	}
	return err
}

// load reads what earlier runs have left, until it works or ctx ends.
func (a *Account) load(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		err := a.loadOnce(ctx)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		a.log.Error().Err(err).Msg("reading the queues failed")
		a.guard(inConnection, func() { a.up.Connection(ctx, ConnState{Kind: ConnStorage}) })
		if sleep(ctx, backoff(attempt, a.limits.RetryMin, a.limits.RetryMax)) != nil {
			return ctx.Err()
		}
	}
}

func (a *Account) loadOnce(ctx context.Context) error {
	a.letters.Lock()
	defer a.letters.Unlock()
	if err := a.seq.load(ctx, a.store); err != nil {
		return err
	}
	for _, load := range []func(context.Context) error{a.blocks.load, a.verified.load, a.mail.load, a.waits.load, a.outbox.load, a.loadReplyForm} {
		if err := load(ctx); err != nil {
			return err
		}
	}
	a.loaded = true
	return nil
}

// guard runs fn and catches a panic in it: the account is marked and goes on
// (promise 4). It says whether fn panicked. Neither the panic's value nor
// arguments on the stack are logged, as they may be anything.
func (a *Account) guard(what string, fn func()) (panicked bool) {
	defer func() {
		if p := recover(); p != nil {
			panicked = true
			a.meter.Panic(what)
			a.log.Error().Type("panic", p).Str("in", what).Str("where", where()).Msg("panic of an account caught")
			if what != inConnection { // or a panic there would call itself for ever
				a.conn.set(ConnState{Kind: ConnFault})
			}
		}
	}()
	fn()
	return false
}

// inConnection is guard's what for Upcalls.Connection.
const inConnection = "connection"

// where lists the functions and lines on the stack of a panic.
func where() string {
	var pcs [24]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(4, pcs[:])])
	var b strings.Builder
	for {
		f, more := frames.Next()
		fmt.Fprintf(&b, "%s:%d ", f.Function[strings.LastIndexByte(f.Function, '/')+1:], f.Line)
		if !more {
			return b.String()
		}
	}
}

// sleep waits, and returns the context's error if that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// sequence gives out the numbers that order rows within a chat. They grow with the
// clock and never fall behind the rows that a former run has left unfinished, so
// nothing is kept on disk for them.
type sequence struct {
	mu   sync.Mutex
	last int64
	ok   bool
}

// load makes the numbers begin above those of unfinished rows.
func (s *sequence) load(ctx context.Context, store Store) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ok {
		return nil
	}
	last, err := store.LastSeq(ctx)
	if err != nil {
		return err
	}
	s.last, s.ok = max(s.last, last), true
	return nil
}

// next gives out n consecutive numbers and returns the first; load must have
// succeeded before.
func (s *sequence) next(n int) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := max(s.last+1, time.Now().UnixMicro())
	s.last = first + int64(n) - 1
	return first
}
