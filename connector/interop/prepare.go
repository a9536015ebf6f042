package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"postern/connector/e2ee"
	"postern/connector/killpoint"
	"postern/connector/stanza"
)

// Preparing is an event whose message is to be made.
type Preparing struct {
	// EventID, RoomID and Chat are those of the Outgoing.
	EventID, RoomID, Chat string
	// StanzaID is the id the message will have.
	StanzaID string
	// Recipe is that of the Outgoing.
	Recipe []byte
	// Progress says that the work comes forward: the time after which the event
	// counts as stuck begins anew. It may be called from any goroutine, at any rate.
	Progress func()
}

// Prepared is the message that was made of a recipe.
type Prepared struct {
	// Plaintext is a marshalled waE2E.Message without padding, Fallback what is sent
	// in its place after a 491, nil for nothing (Outgoing.Fallbacks).
	Plaintext, Fallback []byte
	// Type and MediaType are as in Outgoing.
	Type, MediaType string
	// Also runs in the transaction that stores the message, nil for nothing. Its
	// error takes the transaction back, and counts as one of Prepare.
	Also func(ctx context.Context) error
}

// Unsendable is what Prepare returns for an event that can never be sent.
type Unsendable struct {
	// Reason is what the person is told.
	Reason Reason
	// Err is the cause, or nil.
	Err error
}

// Error says the reason.
func (u *Unsendable) Error() string { return "prepare: unsendable: " + string(u.Reason) }

// Unwrap gives the cause.
func (u *Unsendable) Unwrap() error { return u.Err }

var (
	errPreparePanic = errors.New("prepare: panic")
	errNoProgress   = errors.New("prepare: no progress")
	errBadPrepared  = errors.New("prepare: not a valid message")
)

// prepare makes the message of the head of a chat and stores it, with what comes with
// it, in one transaction. Until then the event is a recipe, and after a crash it is one
// again.
func (o *outbox) prepare(ctx context.Context, row *OutRow) error {
	p, err := o.made(ctx, row)
	if err == nil {
		err = p.check()
	}
	if err == nil {
		err = o.prepared(ctx, row, p)
	}
	var never *Unsendable
	switch {
	case err == nil:
		return nil
	case errors.As(err, &never):
		if never.Reason == "" {
			never.Reason = ReasonInternal
		}
		o.a.log.Warn().Err(never.Err).Str("chat", row.Chat).Str("reason", string(never.Reason)).Msg("event cannot be prepared")
		return o.fail(ctx, row, never.Reason, 0)
	case ctx.Err() != nil:
		return err
	}
	refused := &refusal{reason: ReasonMedia, cause: err}
	if errors.Is(err, errPreparePanic) {
		refused.reason = ReasonInternal
	}
	o.mu.Lock()
	if c := o.chats[row.Chat]; c != nil {
		c.tries++
		refused.final = c.tries >= o.a.limits.PrepareTries
	}
	o.mu.Unlock()
	o.a.log.Warn().Err(err).Str("chat", row.Chat).Bool("final", refused.final).Msg("preparing an event failed")
	return refused
}

// made calls Upcalls.Prepare, whose context ends when there is no progress.
func (o *outbox) made(ctx context.Context, row *OutRow) (p *Prepared, err error) {
	limit := o.a.limits.Waiting
	watched, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stuck := time.AfterFunc(limit, func() { cancel(errNoProgress) })
	var over atomic.Bool
	defer func() {
		over.Store(true)
		stuck.Stop()
	}()
	in := &Preparing{
		EventID: row.EventID, RoomID: row.RoomID, Chat: row.Chat, StanzaID: row.StanzaID, Recipe: bytes.Clone(row.Recipe),
		Progress: func() {
			if !over.Load() && watched.Err() == nil {
				stuck.Reset(limit)
				o.progress(row.Chat)
			}
		},
	}
	err = errPreparePanic
	o.a.guard("prepare", func() { p, err = o.a.up.Prepare(watched, in) })
	if err == nil && p == nil {
		err = errBadPrepared
	}
	if err != nil && errors.Is(context.Cause(watched), errNoProgress) {
		err = fmt.Errorf("%w: %w", errNoProgress, err)
	}
	return p, err
}

// check looks at the rules of Prepared.
func (p *Prepared) check() error {
	out := Outgoing{EventID: "-", Chat: "-", Parts: [][]byte{p.Plaintext}, Type: p.Type, MediaType: p.MediaType}
	if p.Fallback != nil {
		out.Fallbacks = [][]byte{p.Fallback}
	}
	if out.check() != nil {
		return &Unsendable{Reason: ReasonInternal, Err: errBadPrepared}
	}
	return nil
}

// prepared stores the message of a row that was a recipe.
func (o *outbox) prepared(ctx context.Context, row *OutRow, p *Prepared) error {
	a := o.a
	// The work is done: it is stored even if the account is being stopped.
	ctx = context.WithoutCancel(ctx)
	err := a.store.Do(ctx, func(ctx context.Context) error {
		ok, err := a.store.SetPrepared(ctx, row.StanzaID, p, time.Now().UnixMilli())
		if err == nil && !ok {
			err = errStale
		}
		if err == nil && p.Also != nil {
			err = p.Also(ctx)
		}
		killpoint.Hit(killpoint.OutPreparing)
		return err
	})
	if err != nil {
		// The outcome of a commit can be unknown: the disk knows.
		now, readErr := a.store.OutboundStanza(ctx, row.StanzaID)
		switch {
		case readErr != nil:
			return err
		case now == nil || now.State > PartEncrypted:
			o.finish(row.StanzaID, row.Chat, row.Seq, true)
			return nil
		case now.Recipe != nil, now.Damaged:
			row.Damaged = now.Damaged
			return err
		}
		p = &Prepared{Plaintext: now.Plaintext, Fallback: now.Fallback, Type: now.Type, MediaType: now.MediaType}
	}
	killpoint.Hit(killpoint.OutPrepared)
	row.Recipe, row.Plaintext, row.Fallback, row.Type, row.MediaType = nil, p.Plaintext, p.Fallback, p.Type, p.MediaType
	clock := a.link.clock()
	o.mu.Lock()
	defer o.mu.Unlock()
	if c := o.chats[row.Chat]; c != nil {
		c.forward(clock)
	}
	return nil
}

// progress restarts the time after which a chat counts as stuck.
func (o *outbox) progress(chat string) {
	clock := o.a.link.clock()
	o.mu.Lock()
	defer o.mu.Unlock()
	if c := o.chats[chat]; c != nil {
		c.progress = clock
	}
}

// forward notes that the chat has come forward; outbox.mu is held.
func (c *outChat) forward(clock time.Duration) {
	c.progress, c.attempts, c.notUntil, c.reason, c.code = clock, 0, time.Time{}, "", 0
}

// validType says whether a type and a mediatype go together (PROTOCOL.md 6.1).
func validType(typ, mediaType string) bool {
	switch typ {
	case stanza.TypeText, stanza.TypeReaction:
		return mediaType == ""
	case stanza.TypeMedia:
		return mediaType != ""
	}
	return false
}

// validPlaintext says whether a message is neither empty nor too long.
func validPlaintext(p []byte) bool { return len(p) > 0 && len(p)+maxPad <= e2ee.MaxPlaintextBytes }
