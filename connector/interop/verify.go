package interop

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"postern/connector/e2ee"
	"postern/connector/jid"
	"postern/connector/killpoint"
)

// Verified is what the person knows of a chat's safety number (PROTOCOL.md 6.14).
type Verified struct {
	// Chat is the chat's local id.
	Chat string
	// Confirmed says that they have confirmed a number, Key of which identity key of the other side.
	Confirmed bool
	Key       [32]byte
	// Shown is the identity key whose number they have looked at last, all zero for none.
	Shown [32]byte
	// At is when any of that changed, in Unix milliseconds.
	At int64
}

// Verifications keeps them.
type Verifications interface {
	// Verified returns all, in the order of At. One that cannot be read is Confirmed, with a Key that nobody has.
	Verified(ctx context.Context) ([]Verified, error)
	// PutVerified stores one, in place of an earlier one of the chat.
	PutVerified(ctx context.Context, v Verified) error
}

// Reasons of a KindIdentityChange; none where the person had confirmed no number.
const (
	// ReasonKeyHeld: they had, and what is not encrypted yet waits until they confirm the new one.
	ReasonKeyHeld = "held"
	// ReasonKeyBack: the key is the confirmed one again, and nothing waits for that any more.
	ReasonKeyBack = "back"
)

var (
	// ErrNoKey says that no identity key of the other side is known yet.
	ErrNoKey = errors.New("safety number: no key of the other side is known")
	// ErrNotShown says that the person has not looked at the number that stands now.
	ErrNotShown = errors.New("safety number: not the one that was shown")
	// errHeld: the person has confirmed another key than the one to encrypt to.
	errHeld = errors.New("send: the key is not the confirmed one")
)

// verified knows which identity keys the person has confirmed. Nothing is encrypted to another key in the chats of those:
// that is compared inside the transaction of each encryption, so there is no other note of it that could be lost.
type verified struct {
	a *Account

	// change is held over each change, its commit included; mu over looks.
	change sync.Mutex
	mu     sync.RWMutex
	loaded bool
	byChat map[string]Verified
}

func newVerified(a *Account) *verified { return &verified{a: a} }

// load reads what is on disk, once.
func (v *verified) load(ctx context.Context) error {
	v.change.Lock()
	defer v.change.Unlock()
	return v.loadLocked(ctx)
}

func (v *verified) loadLocked(ctx context.Context) error {
	v.mu.RLock()
	loaded := v.loaded
	v.mu.RUnlock()
	if loaded {
		return nil
	}
	list, err := v.a.store.Verified(ctx)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, one := range list {
		put(&v.byChat, one.Chat, one)
	}
	v.loaded = true
	return nil
}

// of is what is known of a chat; load has succeeded.
func (v *verified) of(chat string) Verified {
	v.mu.RLock()
	defer v.mu.RUnlock()
	one := v.byChat[chat]
	one.Chat = chat
	return one
}

// put stores one, with what and writes.
func (v *verified) put(ctx context.Context, one Verified, and func(ctx context.Context) error) error {
	one.At = time.Now().UnixMilli()
	err := v.a.store.Do(ctx, func(ctx context.Context) error {
		if err := v.a.store.PutVerified(ctx, one); err != nil || and == nil {
			return err
		}
		return and(ctx)
	})
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	put(&v.byChat, one.Chat, one)
	return nil
}

// gate is errHeld if something that can be read with an identity key must not be sent in a chat.
func (v *verified) gate(chat string, identity [32]byte) error {
	if one := v.of(chat); one.Confirmed && one.Key != identity {
		return errHeld
	}
	return nil
}

// holds says whether what is sent in a chat waits, as far as is known: gate has the last word.
func (v *verified) holds(ctx context.Context, peer Peer) (bool, error) {
	one := v.of(peer.Chat)
	if !one.Confirmed {
		return false, nil
	}
	identity, known, err := v.a.signal.Identity(ctx, peer.JID)
	return known && identity != one.Key, err
}

// notice says whether the room is told of an identity key that is stored now, and the notice's reason. A first key is news
// where another one was confirmed: the person has got a new address.
func (v *verified) notice(chat string, first, changed bool, identity [32]byte) (reason string, news bool) {
	switch one := v.of(chat); {
	case one.Confirmed && one.Key == identity:
		return ReasonKeyBack, changed
	case one.Confirmed:
		return ReasonKeyHeld, changed || first
	}
	return "", changed
}

// Safety is a chat's safety number as it stands.
type Safety struct {
	// Number is what the two people compare.
	Number e2ee.SafetyNumber
	// Identity is the other side's identity key.
	Identity [32]byte
	// Confirmed says that the person has confirmed this number, Held that they have confirmed another one: what they
	// write waits.
	Confirmed, Held bool
}

// Safety is the safety number of a chat (PROTOCOL.md 6.14). Errors: ErrNoChat, ErrNoKey, or the store's.
func (a *Account) Safety(ctx context.Context, chat string) (Safety, error) {
	peer, err := a.people.in(ctx, chat)
	if err == nil {
		err = a.verified.load(ctx)
	}
	var identity [32]byte
	if err == nil {
		identity, _, err = a.signal.Identity(ctx, peer.JID)
	}
	if err != nil {
		return Safety{}, fmt.Errorf("safety number: %w", err)
	}
	if identity == ([32]byte{}) {
		return Safety{}, ErrNoKey
	}
	one := a.verified.of(chat)
	return Safety{
		Number: e2ee.NewSafetyNumber(a.prof.Safety.Version, a.prof.Safety.Iterations,
			e2ee.SafetyParty{Identifier: safetyIdentifier(a.JID()), Identity: a.cfg.Device.IdentityPublic},
			e2ee.SafetyParty{Identifier: safetyIdentifier(peer.JID), Identity: identity}),
		Identity:  identity,
		Confirmed: one.Confirmed && one.Key == identity,
		Held:      one.Confirmed && one.Key != identity,
	}, nil
}

// safetyIdentifier is what stands for a person in a safety number: their address as text (PROTOCOL.md 6.14, assumed).
func safetyIdentifier(j jid.JID) []byte { return []byte(j.Bare().String()) }

// SafetyShown notes that the person is being shown the number that belongs to an identity key: that is the one that
// ConfirmSafety is about. Errors: ErrNoChat or the store's.
func (a *Account) SafetyShown(ctx context.Context, chat string, identity [32]byte) error {
	if _, err := a.people.in(ctx, chat); err != nil {
		return fmt.Errorf("safety number: %w", err)
	}
	v := a.verified
	v.change.Lock()
	defer v.change.Unlock()
	if err := v.loadLocked(ctx); err != nil {
		return fmt.Errorf("safety number: %w", err)
	}
	one := v.of(chat)
	if one.Shown == identity {
		return nil
	}
	one.Shown = identity
	return v.put(ctx, one, nil)
}

// ConfirmSafety notes that the person has compared the number that was shown to them last, and trusts it: from now on nothing
// is encrypted to any other key in this chat, and what has waited for that goes out. and, which may be nil, runs in the same
// transaction. changed is false if that number was confirmed already; and is not called then. ErrNotShown if the number is another one
// by now, or was never shown. Other errors: those of Safety, and's.
func (a *Account) ConfirmSafety(ctx context.Context, chat string, and func(ctx context.Context) error) (changed bool, err error) {
	v := a.verified
	v.change.Lock()
	defer v.change.Unlock()
	if err = v.loadLocked(ctx); err != nil {
		return false, fmt.Errorf("confirm safety number: %w", err)
	}
	peer, err := a.people.in(ctx, chat)
	var identity [32]byte
	known := false
	if err == nil {
		identity, known, err = a.signal.Identity(ctx, peer.JID)
	}
	one := v.of(chat)
	switch {
	case err != nil:
		return false, fmt.Errorf("confirm safety number: %w", err)
	case !known:
		return false, ErrNoKey
	case one.Confirmed && one.Key == identity:
		return false, nil
	case one.Shown != identity:
		return false, ErrNotShown
	}
	// Should the key change in this moment, it is the one that was shown that is confirmed.
	one.Confirmed, one.Key = true, identity
	if err = v.put(ctx, one, and); err != nil {
		return false, fmt.Errorf("confirm safety number: %w", err)
	}
	a.goesOn(chat)
	return true, nil
}

// ForgetSafety takes back what ConfirmSafety has noted: what has waited goes out to whichever key there is. changed and and are
// as there. Errors: ErrNoChat, the store's, or and's.
func (a *Account) ForgetSafety(ctx context.Context, chat string, and func(ctx context.Context) error) (changed bool, err error) {
	if _, err = a.people.in(ctx, chat); err != nil {
		return false, fmt.Errorf("forget safety number: %w", err)
	}
	v := a.verified
	v.change.Lock()
	defer v.change.Unlock()
	if err = v.loadLocked(ctx); err != nil {
		return false, fmt.Errorf("forget safety number: %w", err)
	}
	one := v.of(chat)
	if !one.Confirmed {
		return false, nil
	}
	one.Confirmed, one.Key = false, [32]byte{}
	if err = v.put(ctx, one, and); err != nil {
		return false, fmt.Errorf("forget safety number: %w", err)
	}
	a.goesOn(chat)
	return true, nil
}

// goesOn has a chat that may have been held go on.
func (a *Account) goesOn(chat string) {
	killpoint.Hit(killpoint.SafetySettled)
	a.attend.signed(false)
	a.outbox.look(chat)
}

// Held is the identity key for whose confirmation what is sent in a chat waits, and when the person has looked at a number of this chat or
// decided about one last (Unix milliseconds); held is false if nothing waits. Errors: ErrNoChat or the store's.
func (a *Account) Held(ctx context.Context, chat string) (identity [32]byte, decided int64, held bool, err error) {
	peer, err := a.people.in(ctx, chat)
	if err == nil {
		err = a.verified.load(ctx)
	}
	if err == nil {
		held, err = a.verified.holds(ctx, peer)
	}
	if held && err == nil {
		identity, _, err = a.signal.Identity(ctx, peer.JID)
	}
	return identity, a.verified.of(chat).At, held, err
}

// hold notes that a chat waits for the person to confirm a key. They may have done so since that was found.
func (o *outbox) hold(ctx context.Context, chat string) {
	o.mu.Lock()
	c := o.chats[chat]
	if c != nil {
		c.held = true
	}
	o.mu.Unlock()
	peer, err := o.a.people.in(ctx, chat)
	held := true
	if err == nil {
		held, err = o.a.verified.holds(ctx, peer)
	}
	if err != nil { // nobody knows whether anybody will say that the chat may go on
		o.a.log.Warn().Err(err).Str("chat", chat).Msg("cannot look whether a key is confirmed, will be tried again")
		o.pause(chat, "", 0)
	}
	if err != nil || !held {
		o.look(chat)
	}
}

// look has a chat that was held try again: the key, or what is confirmed, is another one now.
func (o *outbox) look(chat string) {
	clock := o.a.link.clock()
	o.mu.Lock()
	if c := o.chats[chat]; c != nil && c.held {
		c.held, c.resend = false, true
		c.forward(clock)
	}
	o.mu.Unlock()
	o.lanes.kick(chat)
}

// heldFor is for how much longer a part may be held, 0 or less for no longer.
func (o *outbox) heldFor(row *OutRow) time.Duration {
	return time.UnixMilli(row.Created).Add(o.a.limits.Held).Sub(o.a.age())
}
