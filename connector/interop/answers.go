package interop

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"postern/connector/e2ee"
	"postern/connector/jid"
	"postern/connector/killpoint"
	"postern/connector/stanza"
)

// receiptIDs is how many messages of one receipt are looked up at once.
const receiptIDs = 200

// resendPage is how many parts to be sent again are read at once for a chat.
const resendPage = 32

const (
	// answerBurst is how many retry requests of one chat are answered at once, answerEvery
	// how long each further one waits: a phone that asks without end, for one message or
	// for many, makes us encrypt no faster than that.
	answerBurst = 64
	answerEvery = 2 * time.Second
)

// freshSessionFrom is the retry count from which an answer goes out in a new session
// even if the old one looks right: it has failed more than once.
const freshSessionFrom = 3

func jids(j ...jid.JID) []jid.JID { return j }

// acked handles the ack of a message of ours, or the nack that may follow it
// (PROTOCOL.md 6.1).
func (o *outbox) acked(ctx context.Context, ack *stanza.Ack) error {
	killpoint.Hit(killpoint.OutAck)
	row, err := o.find(ctx, ack.ID, ack.From)
	if row == nil || err != nil || row.State == PartReplaced {
		return err
	}
	o.mu.Lock()
	_, answering := o.flying[ack.ID]
	o.mu.Unlock()
	o.answered(row, ack.Error)
	waiting := row.State < PartSent
	switch outcome := ack.Outcome(); {
	case outcome == stanza.OutcomeAccepted, ack.Error == stanza.NackOldCounter:
		// An old counter means that the phone has it: the same bytes came twice.
		return o.advance(ctx, []*OutRow{row}, PartSent)
	case outcome == stanza.OutcomeTransient && (waiting || answering):
		reason := ReasonServer
		if ack.Error == 429 {
			reason = ReasonRateLimited
		}
		if !waiting {
			o.askAgain(row)
		}
		o.pause(row.Chat, reason, ack.Error)
		return nil
	case outcome == stanza.OutcomeTransient && ack.Error == 429:
		return nil
	case ack.Error == stanza.NackUnreadable:
		if done, err := o.fallBack(ctx, row); done || err != nil {
			return err
		}
		return o.fail(ctx, row, ackReason(outcome), ack.Error)
	default:
		return o.fail(ctx, row, ackReason(outcome), ack.Error)
	}
}

// askAgain makes an unacked answer go out again.
func (o *outbox) askAgain(row *OutRow) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c := o.chats[row.Chat]; c != nil {
		drop(&c.asked, row.Seq)
		c.resend = true
	}
}

// ackReason is the reason that goes with a final outcome. A 5xx that comes here is
// a phone's nack of a message that was acked before.
func ackReason(outcome stanza.Outcome) Reason {
	switch outcome {
	case stanza.OutcomeBlocked:
		return ReasonBlocked
	case stanza.OutcomeGone:
		return ReasonGone
	case stanza.OutcomeNotAllowed:
		return ReasonMayNotStart
	case stanza.OutcomeChatCap:
		return ReasonChatCap
	case stanza.OutcomeUnreadable, stanza.OutcomeTransient:
		return ReasonUnreadable
	}
	return ReasonBadStanza
}

// find returns the part with a stanza id if it went to that person, without
// plaintext and stanza; else nil.
func (o *outbox) find(ctx context.Context, id string, from jid.JID) (*OutRow, error) {
	o.mu.Lock()
	row := o.flying[id]
	o.mu.Unlock()
	if row == nil {
		rows, err := o.a.store.OutboundParts(ctx, []string{id})
		if err != nil || len(rows) == 0 {
			return nil, err
		}
		row = rows[0]
	}
	return o.mine(ctx, row, from)
}

// mine returns the row if its chat is with that person, else nil.
func (o *outbox) mine(ctx context.Context, row *OutRow, from jid.JID) (*OutRow, error) {
	peer, err := o.a.people.in(ctx, row.Chat)
	if err != nil {
		return nil, err
	}
	if !from.IsZero() && from.Bare() != peer.JID {
		return nil, nil
	}
	return row, nil
}

// advance moves parts forward and drops their stanzas.
func (o *outbox) advance(ctx context.Context, rows []*OutRow, state PartState) error {
	changed := make([]bool, len(rows))
	now := time.Now().UnixMilli()
	err := o.a.store.Do(ctx, func(ctx context.Context) error {
		for i, row := range rows {
			var err error
			if changed[i], err = o.a.store.AdvanceOutbound(ctx, row.StanzaID, state, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if state == PartSent {
		killpoint.Hit(killpoint.OutSent)
	}
	for i, row := range rows {
		o.finish(row.StanzaID, row.Chat, row.Seq, true)
		if changed[i] {
			o.a.news.changed(row)
		}
	}
	return nil
}

// receipt handles a receipt of the other side up to its commit (PROTOCOL.md 6.6).
func (o *outbox) receipt(ctx context.Context, r *stanza.Receipt) error {
	var state PartState
	switch r.Type {
	case stanza.ReceiptRetry:
		return o.asked(ctx, r)
	case stanza.ReceiptDelivered, receiptInactive:
		state = PartDelivered
	case stanza.ReceiptRead, stanza.ReceiptPlayed:
		state = PartRead
	default:
		return nil // acked and left alone
	}
	killpoint.Hit(killpoint.OutReceipt)
	for ids := r.IDs; len(ids) > 0; {
		n := min(len(ids), receiptIDs)
		found, err := o.a.store.OutboundParts(ctx, ids[:n])
		if err != nil {
			return err
		}
		ids = ids[n:]
		rows := found[:0]
		for _, row := range found {
			row, err := o.mine(ctx, row, r.From)
			if err != nil {
				return err
			}
			if row != nil && row.State != PartQueued {
				rows = append(rows, row)
			}
		}
		if len(rows) == 0 {
			continue
		}
		if err = o.advance(ctx, rows, state); err != nil {
			return err
		}
	}
	return nil
}

// receiptInactive is a delivery receipt of a phone that is not in use.
const receiptInactive = "inactive"

// asked stores a retry request (PROTOCOL.md 6.8). One that came before, or is one
// too many, is acked and left alone.
func (o *outbox) asked(ctx context.Context, r *stanza.Receipt) error {
	a := o.a
	rows, err := a.store.OutboundParts(ctx, []string{r.Retry.ID})
	if err != nil || len(rows) == 0 {
		return err
	}
	row, err := o.mine(ctx, rows[0], r.From)
	if err != nil || row == nil {
		return err
	}
	mark := fmt.Sprintf("%d/%d/%d", r.Retry.Count, r.T, r.Retry.T)
	if row.RetryLast == mark || row.State >= PartReplaced || row.State == PartQueued || row.Answers >= a.prof.Message.MaxResends {
		a.log.Debug().Int("answers", row.Answers).Msg("retry request left alone")
		return nil
	}
	req := &RetryRequest{Count: r.Retry.Count, Timestamp: r.Retry.T, RegistrationID: r.Retry.RegistrationID}
	if r.Retry.Keys != nil {
		req.Bundle = bundleOf(r.Retry.Keys)
	}
	advanced := false
	err = a.store.Do(ctx, func(ctx context.Context) error {
		// Who asks for it again has been given it once: the gatekeeper has it.
		var err error
		if advanced, err = a.store.AdvanceOutbound(ctx, row.StanzaID, PartSent, time.Now().UnixMilli()); err != nil {
			return err
		}
		return a.store.SetRetry(ctx, row.StanzaID, req, mark)
	})
	if err != nil {
		return err
	}
	killpoint.Hit(killpoint.OutAsked)
	a.meter.AskedAgain(false)
	if advanced {
		o.finish(row.StanzaID, row.Chat, row.Seq, true)
		a.news.changed(row)
	}
	a.log.Info().Str("chat", row.Chat).Int("reason", r.Retry.Error).Int("count", r.Retry.Count).Msg("asked to send a message again")
	clock := a.link.clock()
	o.mu.Lock()
	o.chat(row.Chat, clock).resend = true
	o.mu.Unlock()
	o.lanes.kick(row.Chat)
	return nil
}

// resends answers the retry requests of a chat and writes answers that are unacked.
func (o *outbox) resends(ctx context.Context, chat string) error {
	_, turn, ok := o.a.link.current()
	if !ok {
		return errOffline
	}
	o.mu.Lock()
	c := o.chats[chat]
	c.resend = false // what comes from here on sets it again
	// As it is before the rows are read: what is acked while they are gone through was
	// written all the same.
	written := maps.Clone(c.asked)
	o.mu.Unlock()
	held, err := o.heldBack(ctx, chat)
	var rows []*OutRow
	if err == nil {
		rows, err = o.a.store.ResendsOutbound(ctx, chat, resendPage)
	}
	round := answering{held: held}
	for _, row := range rows {
		if err != nil {
			break
		}
		if row.Retry != nil {
			err = o.again(ctx, row, &round)
		} else if row.Stanza == nil || written[row.Seq] != turn {
			err = o.rewrite(ctx, row)
		}
	}
	o.mu.Lock()
	c.pacing = round.paced
	c.resend = c.resend || err != nil
	o.mu.Unlock()
	if round.waits {
		o.hold(ctx, chat)
	}
	return err
}

// answering is a round over what the other side of a chat asks for again.
type answering struct {
	// held says that the key to answer to is not the confirmed one.
	held bool
	// waits says that a request waits for the person to confirm it, paced that one waits for its turn.
	waits, paced bool
}

// again answers one request, or leaves it on disk.
func (o *outbox) again(ctx context.Context, row *OutRow, round *answering) error {
	switch {
	case round.held && o.heldFor(row) > 0:
		round.waits = true
	case round.held:
		return o.noAnswer(ctx, row)
	case o.paced(row.Chat):
		round.paced = true
	default:
		err := o.answer(ctx, row)
		if !errors.Is(err, errHeld) {
			return err
		}
		round.held, round.waits = true, true
	}
	return nil
}

// rewrite writes the answer that is on disk once more.
func (o *outbox) rewrite(ctx context.Context, row *OutRow) error {
	if row.Stanza == nil {
		// It cannot be read; the phone may ask again.
		_, err := o.a.store.AdvanceOutbound(ctx, row.StanzaID, PartSent, time.Now().UnixMilli())
		return err
	}
	return o.write(ctx, row)
}

// heldBack says whether what a chat's other side asks for waits for the person to confirm a key.
func (o *outbox) heldBack(ctx context.Context, chat string) (bool, error) {
	peer, err := o.a.people.in(ctx, chat)
	if err != nil {
		return false, err
	}
	return o.a.verified.holds(ctx, peer)
}

// paced says that the next answer of a chat has to wait, and sees to it that it is
// given then. The requests are on disk.
func (o *outbox) paced(chat string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	wait := o.answers.take(chat, time.Now())
	if wait == 0 {
		return false
	}
	c := o.chats[chat]
	if c.paced {
		return true
	}
	c.paced = true
	if !c.pacing {
		o.a.log.Warn().Str("chat", chat).Msg("a phone asks for many messages again: the answers are spread")
	}
	time.AfterFunc(wait, func() {
		o.mu.Lock()
		c.paced, c.resend = false, true
		o.mu.Unlock()
		o.lanes.kick(chat)
	})
	return true
}

// answer encrypts a part again for a phone that could not read it, and writes it:
// the same id, a new ciphertext (PROTOCOL.md 6.8).
func (o *outbox) answer(ctx context.Context, row *OutRow) error {
	a := o.a
	peer, err := a.people.in(ctx, row.Chat)
	if err != nil {
		return err
	}
	if row.Plaintext == nil || row.Answers >= a.prof.Message.MaxResends {
		return o.noAnswer(ctx, row)
	}
	err = o.sessionFor(ctx, peer, row.Retry)
	var frame []byte
	if err == nil {
		_, err = a.signal.Encrypt(ctx, peer.JID, a.wrap(row.Plaintext), func(ctx context.Context, sealed e2ee.Sealed) error {
			err := a.verified.gate(row.Chat, sealed.Identity)
			if err != nil {
				return err
			}
			if frame, err = a.frame(peer, row, sealed, row.Retry); err != nil {
				return &refusal{reason: ReasonInternal, final: true, cause: err}
			}
			ok, err := a.store.SetAnswer(ctx, row.StanzaID, frame)
			if err == nil && !ok {
				err = errStale
			}
			killpoint.Hit(killpoint.OutResealing)
			return err
		})
	}
	var refused *refusal
	switch {
	case errors.As(err, &refused) && refused.final:
		return o.noAnswer(ctx, row)
	case errors.Is(err, errStale):
		return nil
	case err != nil:
		return err
	}
	killpoint.Hit(killpoint.OutResealed)
	row.Stanza, row.Retry, row.Answers = frame, nil, row.Answers+1
	return o.write(ctx, row)
}

// noAnswer drops a retry request that cannot be honoured.
func (o *outbox) noAnswer(ctx context.Context, row *OutRow) error {
	_, err := o.a.store.SetAnswer(ctx, row.StanzaID, nil)
	return err
}

// sessionFor makes sure that the answer to a retry request goes out in a session
// that the asker can read: the one of its keys if it sent any, else a new one if
// there is none, if the asker is another device by now, or if answers in the old
// one have failed.
func (o *outbox) sessionFor(ctx context.Context, peer Peer, req *RetryRequest) error {
	if req.Bundle != nil {
		err := o.beginWith(ctx, peer, *req.Bundle)
		var refused *refusal
		if !errors.As(err, &refused) {
			return err
		}
		// Keys that cannot be used: the gatekeeper has others.
		return o.begin(ctx, peer)
	}
	id, ok, err := o.a.signal.SessionRegistrationID(ctx, peer.JID)
	if err != nil && !needsSession(err) {
		return err
	}
	if err == nil && ok && id == req.RegistrationID && req.Count < freshSessionFrom {
		return nil
	}
	return o.begin(ctx, peer)
}
