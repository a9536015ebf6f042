package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strconv"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/e2ee"
	"postern/connector/jid"
	"postern/connector/killpoint"
	"postern/connector/profile"
	"postern/connector/stanza"
)

// Reasons of a KindUndecryptable.
const (
	// ReasonNotResent: it could not be decrypted, and was not sent again.
	ReasonNotResent = "not_resent"
	// ReasonNoContent: it was decrypted, but is no message that we can parse.
	ReasonNoContent = "no_content"
	// ReasonFault: something of ours went wrong whenever it was handled.
	ReasonFault = "fault"
	// ReasonUnstored: it was stored, and cannot be read from disk any more.
	ReasonUnstored = "damaged"
)

// nackUnknown refuses a message of a kind that nobody here can take.
const nackUnknown = 488

// message handles an incoming message up to its commit (PROTOCOL.md 6.2). code is
// the error of the ack, 0 for none. An error means that nothing was stored.
func (b *inbox) message(ctx context.Context, turn int, m *stanza.Message) (code int, err error) {
	a := b.a
	killpoint.Hit(killpoint.InRead)
	if !slices.Contains(a.prof.UserServers, m.From.Server) {
		a.log.Warn().Msg("message from an unknown kind of sender refused")
		return nackUnknown, nil
	}
	peer, err := a.people.at(ctx, m.From)
	if err != nil {
		return 0, err
	}
	hash := sha256.Sum256(m.Enc.Data)
	row, err := a.store.Inbound(ctx, peer.Chat, ClassMessage, m.ID)
	if err != nil {
		return 0, err
	}
	if row != nil && row.State != InWaiting && bytes.Equal(row.Hash, hash[:]) {
		return row.Nack, nil // seen, and on disk: the ack was lost
	}
	if row != nil && row.State == InWaiting && bytes.Equal(row.Hash, hash[:]) {
		// Seen and not readable: our retry receipt may have been lost with the ack.
		return 0, a.waits.again(ctx, turn, m, row)
	}
	in := &incoming{a: a, peer: peer, m: m, hash: hash[:], row: row}
	err = in.open(ctx)
	var why *e2ee.Error
	if err == nil || !errors.As(err, &why) {
		in.counted(err)
		return in.nack, err
	}
	if in.known() {
		return row.Nack, nil // another ciphertext of what we have
	}
	if a.blocks.has(peer.Chat) {
		return 0, nil // nobody is to see it, and nobody there that we try
	}
	killpoint.Hit(killpoint.InRefused)
	code, err = a.waits.unreadable(ctx, turn, in, why.RetryReason())
	in.counted(err)
	return code, err
}

// incoming is one message between its ciphertext and its row.
type incoming struct {
	a     *Account
	peer  Peer
	m     *stanza.Message
	hash  []byte
	row   *InRow // as found, nil if new
	nack  int
	quiet bool // it is stored for nobody to see
}

// known says that the content of this message is stored, so that another
// ciphertext of it adds nothing.
func (in *incoming) known() bool {
	return in.row != nil && in.row.State != InWaiting && in.row.Kind == KindMessage
}

// open decrypts and stores in one transaction: ratchet, identity, used prekey, and
// the row of the in-queue.
func (in *incoming) open(ctx context.Context) error {
	a, chat := in.a, in.peer.Chat
	mayChange := in.m.Enc.Type == stanza.EncPreKey
	var notice int64
	if mayChange {
		notice = a.mail.place(in.peer)
	}
	seq := a.mail.place(in.peer)
	settled := false
	defer func() {
		if settled {
			return
		}
		if mayChange { // something has panicked, before the commit or behind it
			a.mail.drop(chat, notice, true)
		}
		a.mail.drop(chat, seq, true)
	}()
	var row, change *InRow
	usedPreKey := false
	err := a.signal.Decrypt(ctx, in.m.From, in.m.Enc.Type, in.m.Enc.Data,
		func(ctx context.Context, plaintext []byte, info e2ee.Opened) error {
			killpoint.Hit(killpoint.InOpened)
			defer killpoint.Hit(killpoint.InStoring)
			row, change, usedPreKey = nil, nil, info.UsedPreKey != nil
			if reason, news := a.verified.notice(chat, info.FirstIdentity, info.IdentityChanged, info.Identity); news {
				change = identityRow(chat, notice, reason)
				if err := a.store.InsertInbound(ctx, change); err != nil {
					return err
				}
			}
			if in.known() {
				return nil
			}
			row = in.content(plaintext, seq)
			if in.row == nil {
				return a.store.InsertInbound(ctx, row)
			}
			return a.store.UpdateInbound(ctx, row)
		})
	if err != nil {
		settled = true
		var why *e2ee.Error
		unsure := !errors.As(err, &why)
		if mayChange {
			a.mail.drop(chat, notice, unsure)
		}
		a.mail.drop(chat, seq, unsure)
		return err
	}
	killpoint.Hit(killpoint.InStored)
	settled = true
	if mayChange {
		a.mail.settle(chat, notice, change)
		if change != nil {
			a.outbox.look(chat)
		}
	}
	if row != nil && row.State != InPending {
		in.quiet = true
		a.mail.settle(chat, seq, nil)
	} else {
		a.mail.settle(chat, seq, row)
	}
	a.waits.forget(chat, in.m.ID)
	if usedPreKey {
		a.meter.PreKeys(0, 1, 0)
		a.keys.used()
	}
	if row != nil {
		in.nack = row.Nack
	}
	return nil
}

// content makes the row of a decrypted message. What is no message becomes a
// notice, and a nack (PROTOCOL.md 6.3).
func (in *incoming) content(plaintext []byte, seq int64) *InRow {
	m := in.m
	row := &InRow{
		Seq: seq, Chat: in.peer.Chat, Class: ClassMessage, ID: m.ID, Hash: in.hash, Kind: KindMessage,
		State: InPending, Timestamp: m.T, Received: time.Now().UnixMilli(), Notify: m.Notify, STS: m.STS,
	}
	if old := in.row; old != nil {
		row.Retries, row.Since = old.Retries, old.Since
		row.Late = old.State != InWaiting
		row.Timestamp = old.Timestamp
	}
	body, err := in.a.unwrap(m.Enc.V, plaintext)
	if err != nil {
		row.Kind, row.Payload, row.Nack = KindUndecryptable, []byte(ReasonNoContent), stanza.NackUnreadable
		return row
	}
	if in.a.blocks.has(row.Chat) {
		in.a.silence(row)
		return row
	}
	row.Payload = bytes.Clone(body)
	return row
}

// errContent says that a plaintext is no message.
var errContent = errors.New("receive: not a message")

// unwrap removes the padding and makes sure that what remains is a message. The form of PROTOCOL.md 6.12 is none that
// this package reads.
func (a *Account) unwrap(version int, plaintext []byte) ([]byte, error) {
	if version != a.prof.Message.EncVersion || a.prof.Message.Payload != profile.PayloadE2E {
		return nil, errContent
	}
	if a.prof.Message.Padded {
		var err error
		if plaintext, err = unpad(plaintext); err != nil {
			return nil, err
		}
	}
	if proto.Unmarshal(plaintext, &waE2E.Message{}) != nil {
		return nil, errContent
	}
	return plaintext, nil
}

// identityRow is the notice of a changed identity key (PROTOCOL.md 6.9, 6.14).
func identityRow(chat string, seq int64, reason string) *InRow {
	now := time.Now()
	return &InRow{
		Seq: seq, Chat: chat, Class: ClassNotice, ID: "identity/" + strconv.FormatInt(seq, 10), Kind: KindIdentityChange,
		State: InPending, Timestamp: now.Unix(), Received: now.UnixMilli(), Payload: []byte(reason),
	}
}

// notification handles a notification up to its commit. Those of unknown types are
// acked and left alone (PROTOCOL.md 4.11).
func (b *inbox) notification(ctx context.Context, n *stanza.Notification) error {
	a := b.a
	if left, ok := n.PreKeyCount(); ok {
		a.meter.PreKeys(0, 0, 1)
		a.keys.counted(left)
		return nil
	}
	if n.IdentityChanged() && slices.Contains(a.prof.UserServers, n.From.Server) {
		return b.newIdentity(ctx, n.From)
	}
	if changes := n.BlockChanges(); len(changes) > 0 {
		return a.blocks.changed(ctx, changes)
	}
	if reach, ok := n.Reachability(); ok {
		return b.reachability(ctx, n, reach)
	}
	a.log.Debug().Msg("notification of an unknown type acked")
	return nil
}

// newIdentity ends the session with someone whose keys are said to be others now,
// so that nothing more is encrypted to the old ones, and has a new one begun at
// once: with its bundle comes the new key, and the notice (PROTOCOL.md 6.9).
func (b *inbox) newIdentity(ctx context.Context, who jid.JID) error {
	a := b.a
	_, known, err := a.signal.Identity(ctx, who)
	if err != nil || !known {
		return err
	}
	peer, err := a.people.at(ctx, who)
	if err != nil {
		return err
	}
	if err = a.signal.EndSession(ctx, who, nil); err != nil {
		return err
	}
	killpoint.Hit(killpoint.KeysEnded)
	a.outbox.renew(peer.Chat)
	return nil
}

// reachability stores the outcome of a ping for Matrix (PROTOCOL.md 5.3).
func (b *inbox) reachability(ctx context.Context, n *stanza.Notification, reach stanza.Reach) error {
	a := b.a
	if !slices.Contains(a.prof.UserServers, reach.JID.Server) {
		return nil
	}
	peer, err := a.people.at(ctx, reach.JID)
	if err != nil {
		return err
	}
	row := &InRow{
		Seq: a.mail.place(peer), Chat: peer.Chat, Class: ClassNotice, ID: "notification/" + n.ID, Kind: KindReachability,
		State: InPending, Timestamp: n.T, Received: time.Now().UnixMilli(), Payload: []byte(reach.State),
	}
	err = a.store.InsertInbound(ctx, row)
	if err != nil {
		a.mail.drop(peer.Chat, row.Seq, !errors.Is(err, ErrExists))
		if errors.Is(err, ErrExists) {
			return nil // told before, the ack was lost
		}
		return err
	}
	a.mail.settle(peer.Chat, row.Seq, row)
	return nil
}
