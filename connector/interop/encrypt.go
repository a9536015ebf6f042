package interop

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/connector/e2ee"
	"postern/connector/gatekeeper"
	"postern/connector/killpoint"
	"postern/connector/stanza"
)

// refusal is why a part cannot be sent, now or ever.
type refusal struct {
	reason Reason
	code   int
	final  bool
	cause  error
}

func (r *refusal) Error() string {
	return fmt.Sprintf("send: refused: %s (code %d)", r.reason, r.code)
}

func (r *refusal) Unwrap() error { return r.cause }

var (
	// errOffline: there is no stream to send on.
	errOffline = errors.New("send: no stream")
	// errAttachedPanic: the layer above has made a mistake with an attachment.
	errAttachedPanic = errors.New("send: panic")
	// errStale: the row in memory is not what is on disk.
	errStale = errors.New("send: row has changed")
)

// send encrypts the head of a chat, if that was not done before, and writes it.
func (o *outbox) send(ctx context.Context, row *OutRow) error {
	if row.Stanza == nil {
		if err := o.encrypt(ctx, row); err != nil {
			return o.unsure(ctx, row, err)
		}
	}
	return o.write(ctx, row)
}

// encrypt makes the stanza of a part and stores it together with the ratchet, in one
// transaction. Nothing of it is written to the socket before that.
func (o *outbox) encrypt(ctx context.Context, row *OutRow) error {
	a := o.a
	peer, err := a.people.in(ctx, row.Chat)
	if err != nil {
		return err
	}
	if held, err := a.verified.holds(ctx, peer); err != nil {
		return err
	} else if held {
		return errHeld
	}
	if err = o.attached(ctx, row); err != nil {
		return err
	}
	var frame []byte
	for begun := false; ; begun = true {
		_, err = a.signal.Encrypt(ctx, peer.JID, a.wrap(row.Plaintext), func(ctx context.Context, sealed e2ee.Sealed) error {
			err := a.verified.gate(row.Chat, sealed.Identity)
			if err != nil {
				return err
			}
			if frame, err = a.frame(peer, row, sealed, nil); err != nil {
				return &refusal{reason: ReasonInternal, final: true, cause: err}
			}
			ok, err := a.store.SetStanza(ctx, row.StanzaID, frame, time.Now().UnixMilli())
			if err == nil && !ok {
				err = errStale
			}
			killpoint.Hit(killpoint.OutSealing)
			return err
		})
		if err == nil {
			killpoint.Hit(killpoint.OutSealed)
			row.Stanza, row.State = frame, PartEncrypted
			return nil
		}
		if begun || !needsSession(err) {
			return err
		}
		if err = o.begin(ctx, peer); err != nil {
			return err
		}
	}
}

// attached refuses a message whose attachment has been lost since it was prepared.
func (o *outbox) attached(ctx context.Context, row *OutRow) error {
	if row.Type != stanza.TypeMedia {
		return nil
	}
	err := errAttachedPanic
	o.a.guard("attached", func() { err = o.a.up.Attached(ctx, row.Plaintext) })
	var never *Unsendable
	switch {
	case err == nil, ctx.Err() != nil:
		return err
	case errors.As(err, &never):
		return &refusal{reason: never.Reason, final: true, cause: err}
	}
	return &refusal{reason: ReasonMedia, cause: err}
}

// needsSession says that a new session is the cure.
func needsSession(err error) bool {
	for _, cure := range []error{e2ee.ErrNoSession, e2ee.ErrUntrusted, e2ee.ErrExhausted, e2ee.ErrCorruptSession} {
		if errors.Is(err, cure) {
			return true
		}
	}
	return false
}

// unsure finds out what is on disk after an encryption that failed: the outcome of
// a commit can be unknown.
func (o *outbox) unsure(ctx context.Context, row *OutRow, cause error) error {
	var refused *refusal
	if errors.As(cause, &refused) || errors.Is(cause, errOffline) || errors.Is(cause, errHeld) {
		return cause
	}
	now, err := o.a.store.OutboundStanza(ctx, row.StanzaID)
	if err != nil {
		return cause
	}
	if now == nil || now.State > PartEncrypted {
		o.finish(row.StanzaID, row.Chat, row.Seq, true)
		return nil
	}
	row.Stanza, row.State, row.Damaged = now.Stanza, now.State, now.Damaged
	if row.Stanza != nil {
		return nil // it was committed after all; the next step writes it
	}
	return cause
}

// write puts a stored stanza on the wire. Its ack may come before it returns.
func (o *outbox) write(ctx context.Context, row *OutRow) error {
	stream, turn, ok := o.a.link.current()
	if !ok {
		return errOffline
	}
	o.mu.Lock()
	c := o.chats[row.Chat]
	if c == nil {
		o.mu.Unlock()
		return nil
	}
	if row.State < PartSent {
		c.turn = turn
	} else {
		put(&c.asked, row.Seq, turn)
	}
	seen := *row
	seen.Plaintext, seen.Stanza, seen.written = nil, nil, time.Now()
	put(&o.flying, row.StanzaID, &seen)
	o.mu.Unlock()
	err := stream.SendFrame(ctx, row.Stanza)
	switch {
	case err == nil:
		o.wrote(row)
		killpoint.Hit(killpoint.OutWritten)
		return nil
	case errors.Is(err, gatekeeper.ErrNotConnected), ctx.Err() != nil:
		return errOffline
	}
	return &refusal{reason: ReasonInternal, final: true, cause: err}
}

// wrap pads a message for encryption.
func (a *Account) wrap(message []byte) []byte {
	if a.prof.Message.Padded {
		return pad(message)
	}
	return message
}

// frame makes the finished bytes of a message (PROTOCOL.md 6.1), or of the answer
// to a retry request (6.8).
func (a *Account) frame(peer Peer, row *OutRow, sealed e2ee.Sealed, retry *RetryRequest) ([]byte, error) {
	m := &stanza.Message{
		ID: row.StanzaID, To: peer.JID, Type: row.Type, DisplayName: *a.display.Load(),
		Enc: stanza.Enc{V: a.prof.Message.EncVersion, Type: sealed.Type, MediaType: row.MediaType, Data: sealed.Body},
	}
	if retry != nil {
		m.T, m.DeviceFanout, m.Enc.Count = retry.Timestamp, "false", retry.Count
	}
	return a.codec.Append(nil, m.Node())
}

// renewed begins the new session that was asked for without a part to send. Who
// cannot be asked for keys any more is left alone until there is one.
func (o *outbox) renewed(ctx context.Context, chat string) error {
	peer, err := o.a.people.in(ctx, chat)
	if err == nil {
		err = o.begin(ctx, peer)
	}
	var refused *refusal
	if errors.As(err, &refused) && refused.final {
		err = nil
	}
	if err == nil {
		o.mu.Lock()
		if c := o.chats[chat]; c != nil {
			c.renew = false
		}
		o.mu.Unlock()
	}
	return err
}

// begin fetches someone's bundle and begins a session with it (PROTOCOL.md 5.1).
func (o *outbox) begin(ctx context.Context, peer Peer) error {
	bundle, err := o.fetch(ctx, peer)
	if err != nil {
		return err
	}
	return o.beginWith(ctx, peer, *bundle)
}

// beginWith begins a session; a changed identity key becomes a notice in the same
// transaction (PROTOCOL.md 6.9).
func (o *outbox) beginWith(ctx context.Context, peer Peer, bundle e2ee.Bundle) error {
	a := o.a
	seq := a.mail.place(peer)
	var change *InRow
	_, err := a.signal.StartSession(ctx, peer.JID, bundle, func(ctx context.Context, started e2ee.Started) error {
		change = nil
		reason, news := a.verified.notice(peer.Chat, started.FirstIdentity, started.IdentityChanged, started.Identity)
		if !news {
			return nil
		}
		change = identityRow(peer.Chat, seq, reason)
		return a.store.InsertInbound(ctx, change)
	})
	var bad *e2ee.Error
	if err == nil {
		killpoint.Hit(killpoint.KeysBegun)
		a.mail.settle(peer.Chat, seq, change)
		if change != nil {
			o.look(peer.Chat)
		}
		return nil
	}
	a.mail.drop(peer.Chat, seq, !errors.As(err, &bad))
	if bad != nil {
		return &refusal{reason: ReasonNoKeys, final: true, cause: err}
	}
	return err
}

// fetch asks the gatekeeper for someone's bundle.
func (o *outbox) fetch(ctx context.Context, peer Peer) (*e2ee.Bundle, error) {
	answer, err := o.a.link.request(ctx, &stanza.KeyRequest{Users: jids(peer.JID)})
	var results []stanza.KeyResult
	if err == nil {
		results, err = stanza.ParseKeys(answer)
	}
	if err != nil {
		return nil, keyRefusal(err)
	}
	for _, r := range results {
		if r.JID.Bare() != peer.JID {
			continue
		}
		if r.Err != nil {
			return nil, keyRefusal(r.Err)
		}
		if r.Bundle != nil {
			return bundleOf(r.Bundle), nil
		}
	}
	return nil, &refusal{reason: ReasonNoKeys, final: true}
}

// keyRefusal says what an error of a key request means for a message.
func keyRefusal(err error) error {
	var iq *stanza.IQError
	switch {
	case errors.Is(err, gatekeeper.ErrNotConnected), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return errOffline
	case !errors.As(err, &iq):
		return &refusal{reason: ReasonNoKeys, final: true, cause: err}
	case iq.Code == 429:
		return &refusal{reason: ReasonRateLimited, code: iq.Code, cause: err}
	case iq.Transient():
		return &refusal{reason: ReasonServer, code: iq.Code, cause: err}
	case iq.Code == 403:
		return &refusal{reason: ReasonBlocked, code: iq.Code, final: true, cause: err}
	case iq.Code == 404:
		return &refusal{reason: ReasonGone, code: iq.Code, final: true, cause: err}
	}
	return &refusal{reason: ReasonNoKeys, code: iq.Code, final: true, cause: err}
}

// bundleOf turns what came over the wire into what a session is begun with.
func bundleOf(b *stanza.Bundle) *e2ee.Bundle {
	out := &e2ee.Bundle{
		RegistrationID: b.RegistrationID, Identity: b.Identity,
		Signed: e2ee.BundleSignedKey{ID: b.Signed.ID, Key: b.Signed.Key, Signature: b.Signed.Signature},
	}
	if b.PreKey != nil {
		out.PreKey = &e2ee.BundleKey{ID: b.PreKey.ID, Key: b.PreKey.Key}
	}
	return out
}
