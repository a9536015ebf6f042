package connector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"postern/connector/e2ee"
	"postern/connector/interop"
	"postern/connector/jid"
	"postern/database"
)

// accountStore fits an account's part of the database to what package interop asks for.
type accountStore struct {
	signalStore
	db         *database.DB
	queue      database.QueueStore
	account    string
	gatekeeper string
}

var _ interop.Store = accountStore{}

// NewAccountStore is the store of one account, by its local id, at the gatekeeper of that profile name.
func NewAccountStore(db *database.DB, accountID, gatekeeper string) interop.Store {
	return accountStore{newSignalStore(db, accountID), db, db.Queue(accountID), accountID, gatekeeper}
}

// Do implements interop.Queue.
func (s accountStore) Do(ctx context.Context, fn func(ctx context.Context) error) error {
	return s.db.Do(ctx, fn)
}

// LastSeq implements interop.Queue.
func (s accountStore) LastSeq(ctx context.Context) (int64, error) { return s.queue.LastSeq(ctx) }

func toIn(r *interop.InRow) *database.QueueIn {
	return &database.QueueIn{
		ChatID: r.Chat, Class: int(r.Class), ItemID: r.ID, Seq: r.Seq, Hash: r.Hash, Kind: string(r.Kind), State: int(r.State),
		Timestamp: r.Timestamp, Received: r.Received, Since: r.Since, Payload: r.Payload, Notify: r.Notify, STS: r.STS,
		Receipt: int(r.Receipt), Read: int(r.Read), Nack: r.Nack, Retries: r.Retries, Late: r.Late,
	}
}

func fromIn(r *database.QueueIn) *interop.InRow {
	return &interop.InRow{
		Chat: r.ChatID, Class: interop.Class(r.Class), ID: r.ItemID, Seq: r.Seq, Hash: r.Hash, Kind: interop.Kind(r.Kind),
		State: interop.InState(r.State), Timestamp: r.Timestamp, Received: r.Received, Since: r.Since, Payload: r.Payload,
		Notify: r.Notify, STS: r.STS, Receipt: interop.ReceiptState(r.Receipt), Read: interop.ReceiptState(r.Read), Nack: r.Nack,
		Retries: r.Retries, Late: r.Late, Damaged: r.Broken,
	}
}

func fromIns(rows []*database.QueueIn, err error) ([]*interop.InRow, error) {
	list := make([]*interop.InRow, len(rows))
	for i, r := range rows {
		list[i] = fromIn(r)
	}
	return list, err
}

// exists turns the database's error for a taken key into interop's.
func exists(err error) error {
	if errors.Is(err, database.ErrQueueExists) {
		return fmt.Errorf("%w: %w", interop.ErrExists, err)
	}
	return err
}

// WithholdInbound implements interop.Undecided, like all methods from here to DiscardInbound.
func (s accountStore) WithholdInbound(ctx context.Context, row *interop.InRow) error {
	return s.queue.WithholdIn(ctx, toIn(row))
}

func (s accountStore) WithheldInbound(ctx context.Context, chat string, limit int) ([]*interop.InRow, error) {
	return fromIns(s.queue.WithheldIn(ctx, chat, limit))
}

func (s accountStore) ResumeInbound(ctx context.Context, row *interop.InRow, seq int64) error {
	return s.queue.ResumeIn(ctx, toIn(row), seq)
}

func (s accountStore) ReleaseReceipts(ctx context.Context, chat string) ([]*interop.InRow, error) {
	return fromIns(s.queue.ReleaseReceiptsIn(ctx, chat))
}

func (s accountStore) DiscardInbound(ctx context.Context, chat string) (int, error) {
	return s.queue.DiscardIn(ctx, chat)
}

// Inbound implements interop.InQueue, like all methods from here to PruneInbound.
func (s accountStore) Inbound(ctx context.Context, chat string, class interop.Class, id string) (*interop.InRow, error) {
	r, err := s.queue.In(ctx, chat, int(class), id)
	if r == nil || err != nil {
		return nil, err
	}
	return fromIn(r), nil
}

func (s accountStore) InsertInbound(ctx context.Context, row *interop.InRow) error {
	return exists(s.queue.InsertIn(ctx, toIn(row)))
}

func (s accountStore) UpdateInbound(ctx context.Context, row *interop.InRow) error {
	return s.queue.UpdateIn(ctx, toIn(row))
}

func (s accountStore) FinishInbound(ctx context.Context, row *interop.InRow, state interop.InState, receipt interop.ReceiptState) error {
	return s.queue.FinishIn(ctx, toIn(row), int(state), int(receipt))
}

func (s accountStore) PendingInbound(ctx context.Context, chat string, after int64, limit int) ([]*interop.InRow, error) {
	return fromIns(s.queue.PendingIn(ctx, chat, after, limit))
}

func (s accountStore) InboundBacklog(ctx context.Context) (map[string]int, error) {
	return s.queue.CountPendingIn(ctx)
}

func (s accountStore) WaitingInbound(ctx context.Context) ([]*interop.InRow, error) {
	return fromIns(s.queue.WaitingIn(ctx))
}

func (s accountStore) DueReceipts(ctx context.Context, after int64, limit int) ([]*interop.InRow, error) {
	return fromIns(s.queue.DueReceiptsIn(ctx, after, limit))
}

func (s accountStore) ReceiptsDone(ctx context.Context, chat string, ids []string) error {
	return s.queue.ReceiptsDoneIn(ctx, chat, ids)
}

func (s accountStore) HoldInbound(ctx context.Context, row *interop.InRow) error {
	return s.queue.HoldIn(ctx, toIn(row))
}

func (s accountStore) HeldInbound(ctx context.Context, chat string, after int64, limit int) ([]*interop.InRow, error) {
	return fromIns(s.queue.HeldIn(ctx, chat, after, limit))
}

func (s accountStore) AllHeld(ctx context.Context) ([]*interop.InRow, error) {
	return fromIns(s.queue.AllHeldIn(ctx))
}

func (s accountStore) MarkReadInbound(ctx context.Context, chat, id string, state interop.ReceiptState, limit int) (int, error) {
	return s.queue.MarkReadIn(ctx, chat, id, int(state), limit)
}

func (s accountStore) DueReads(ctx context.Context, chat string, after int64, limit int) ([]*interop.InRow, error) {
	return fromIns(s.queue.DueReadsIn(ctx, chat, after, limit))
}

func (s accountStore) SetReads(ctx context.Context, chat string, ids []string, state interop.ReceiptState) error {
	return s.queue.SetReadsIn(ctx, chat, ids, int(state))
}

func (s accountStore) PruneInbound(ctx context.Context, before int64, limit int) (int, error) {
	return s.queue.PruneIn(ctx, before, limit)
}

func toOut(r *interop.OutRow) (*database.QueueOut, error) {
	out := &database.QueueOut{
		StanzaID: r.StanzaID, Seq: r.Seq, ChatID: r.Chat, EventID: r.EventID, RoomID: r.RoomID, Part: r.Part, Parts: r.Parts,
		Type: r.Type, MediaType: r.MediaType, Recipe: r.Recipe, Plaintext: r.Plaintext, Fallback: r.Fallback, Stanza: r.Stanza,
		State: int(r.State), Created: r.Created, Changed: r.Changed, Reason: string(r.Reason), Code: r.Code, Reported: int(r.Reported), RetryLast: r.RetryLast, Answers: r.Answers,
	}
	var err error
	out.Retry, err = toRetry(r.Retry)
	return out, err
}

func fromOut(r *database.QueueOut) (*interop.OutRow, error) {
	out := &interop.OutRow{
		StanzaID: r.StanzaID, Seq: r.Seq, Chat: r.ChatID, EventID: r.EventID, RoomID: r.RoomID, Part: r.Part, Parts: r.Parts,
		Type: r.Type, MediaType: r.MediaType, Recipe: r.Recipe, Plaintext: r.Plaintext, Fallback: r.Fallback, Stanza: r.Stanza,
		State:   interop.PartState(r.State),
		Created: r.Created, Changed: r.Changed, Reason: interop.Reason(r.Reason), Code: r.Code,
		Reported: interop.OutState(r.Reported), RetryLast: r.RetryLast, Answers: r.Answers,
		Damaged: damaged(r),
	}
	if r.Retry == nil {
		return out, nil
	}
	out.Retry = &interop.RetryRequest{}
	if err := json.Unmarshal(r.Retry, out.Retry); err != nil {
		return nil, errors.New("store: a retry request cannot be read")
	}
	return out, nil
}

// toRetry encodes a retry request; there is no secret in one.
func toRetry(r *interop.RetryRequest) ([]byte, error) {
	if r == nil {
		return nil, nil
	}
	return json.Marshal(r)
}

func fromOuts(rows []*database.QueueOut, err error) ([]*interop.OutRow, error) {
	if err != nil {
		return nil, err
	}
	list := make([]*interop.OutRow, len(rows))
	for i, r := range rows {
		if list[i], err = fromOut(r); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// InsertOutbound implements interop.OutQueue, like all methods from here to PruneOutbound.
func (s accountStore) InsertOutbound(ctx context.Context, rows []*interop.OutRow) error {
	list := make([]*database.QueueOut, len(rows))
	for i, r := range rows {
		var err error
		if list[i], err = toOut(r); err != nil {
			return err
		}
	}
	return exists(s.queue.InsertOut(ctx, list))
}

func (s accountStore) OutboundParts(ctx context.Context, stanzaIDs []string) ([]*interop.OutRow, error) {
	return fromOuts(s.queue.OutParts(ctx, stanzaIDs))
}

func (s accountStore) OutboundStanza(ctx context.Context, stanzaID string) (*interop.OutRow, error) {
	r, err := s.queue.Out(ctx, stanzaID)
	if r == nil || err != nil {
		return nil, err
	}
	return fromOut(r)
}

func (s accountStore) SetPrepared(ctx context.Context, stanzaID string, p *interop.Prepared, now int64) (bool, error) {
	return s.queue.SetPreparedOut(ctx, &database.QueueOut{
		StanzaID: stanzaID, Plaintext: p.Plaintext, Fallback: p.Fallback, Type: p.Type, MediaType: p.MediaType,
	}, now)
}

func (s accountStore) ReplaceOutbound(ctx context.Context, stanzaID string, now int64) (bool, error) {
	return s.queue.ReplaceOut(ctx, stanzaID, now)
}

func (s accountStore) AnyReplaced(ctx context.Context) (bool, error) {
	return s.queue.AnyReplacedOut(ctx)
}

func (s accountStore) SetStanza(ctx context.Context, stanzaID string, stanza []byte, now int64) (bool, error) {
	return s.queue.SetStanzaOut(ctx, stanzaID, stanza, now)
}

func (s accountStore) AdvanceOutbound(ctx context.Context, stanzaID string, state interop.PartState, now int64) (bool, error) {
	return s.queue.AdvanceOut(ctx, stanzaID, int(state), now)
}

func (s accountStore) FailOutbound(ctx context.Context, stanzaID string, reason interop.Reason, code int, now int64) (bool, error) {
	return s.queue.FailOut(ctx, stanzaID, string(reason), code, now)
}

func (s accountStore) SetRetry(ctx context.Context, stanzaID string, req *interop.RetryRequest, fingerprint string) error {
	retry, err := toRetry(req)
	if err != nil {
		return err
	}
	return s.queue.SetRetryOut(ctx, stanzaID, retry, fingerprint)
}

func (s accountStore) SetAnswer(ctx context.Context, stanzaID string, stanza []byte) (bool, error) {
	return s.queue.SetAnswerOut(ctx, stanzaID, stanza)
}

func (s accountStore) PendingOutbound(ctx context.Context, chat string, after int64, limit int) ([]*interop.OutRow, error) {
	return fromOuts(s.queue.PendingOut(ctx, chat, after, limit))
}

func (s accountStore) ResendsOutbound(ctx context.Context, chat string, limit int) ([]*interop.OutRow, error) {
	return fromOuts(s.queue.ResendsOut(ctx, chat, limit))
}

func (s accountStore) OutboundChats(ctx context.Context) ([]string, error) {
	return s.queue.ChatsOut(ctx)
}

func (s accountStore) DueStatuses(ctx context.Context, after int64, limit int) ([]*interop.OutRow, error) {
	return fromOuts(s.queue.DueOut(ctx, after, limit))
}

func (s accountStore) SetReported(ctx context.Context, parts []*interop.OutRow, state interop.OutState) error {
	list := make([]*database.QueueOut, len(parts))
	for i, r := range parts {
		list[i] = &database.QueueOut{StanzaID: r.StanzaID, State: int(r.State)}
	}
	return s.queue.SetReportedOut(ctx, list, int(state))
}

func (s accountStore) PruneOutbound(ctx context.Context, window int64, keep int, cut int64, limit int) (int, error) {
	return s.queue.PruneOut(ctx, window, keep, cut, limit)
}

// PeerByJID implements interop.Directory.
func (s accountStore) PeerByJID(ctx context.Context, j jid.JID) (interop.Peer, error) {
	contact, err := s.db.Contacts().Ensure(ctx, s.gatekeeper, j.String())
	if err != nil {
		return interop.Peer{}, err
	}
	chat, err := s.db.Chats().Ensure(ctx, s.account, contact.ID)
	if err != nil {
		return interop.Peer{}, err
	}
	return interop.Peer{Chat: chat.ID, Contact: contact.ID, JID: j}, nil
}

// FindPeer implements interop.Directory.
func (s accountStore) FindPeer(ctx context.Context, j jid.JID) (interop.Peer, error) {
	contact, err := s.db.Contacts().ByJID(ctx, s.gatekeeper, j.String())
	if err != nil {
		return interop.Peer{}, err
	} else if contact == nil {
		return interop.Peer{}, interop.ErrNoChat
	}
	chat, err := s.db.Chats().ByContact(ctx, s.account, contact.ID)
	if err != nil {
		return interop.Peer{}, err
	} else if chat == nil {
		return interop.Peer{}, interop.ErrNoChat
	}
	return interop.Peer{Chat: chat.ID, Contact: contact.ID, JID: j}, nil
}

// PeerByChat implements interop.Directory.
func (s accountStore) PeerByChat(ctx context.Context, id string) (interop.Peer, error) {
	chat, err := s.db.Chats().Get(ctx, id)
	if err != nil {
		return interop.Peer{}, err
	} else if chat == nil || chat.AccountID != s.account {
		return interop.Peer{}, interop.ErrNoChat
	}
	contact, err := s.db.Contacts().Get(ctx, chat.ContactID)
	if err != nil {
		return interop.Peer{}, err
	} else if contact == nil {
		return interop.Peer{}, interop.ErrNoChat
	}
	j, err := jid.Parse(contact.JID)
	if err != nil {
		return interop.Peer{}, fmt.Errorf("store: address of a contact: %w", err)
	}
	return interop.Peer{Chat: chat.ID, Contact: contact.ID, JID: j}, nil
}

func toKeys(records []interop.KeyRecord) []database.PreKey {
	list := make([]database.PreKey, len(records))
	for i, r := range records {
		list[i] = database.PreKey{ID: r.ID, Record: r.Record, CreatedAt: r.Created}
	}
	return list
}

func fromKeys(rows []database.PreKey, err error) ([]interop.KeyRecord, error) {
	list := make([]interop.KeyRecord, len(rows))
	for i, r := range rows {
		list[i] = interop.KeyRecord{ID: r.ID, Record: r.Record, Created: r.CreatedAt}
	}
	return list, err
}

// PutPreKeys implements interop.PreKeys; those of its methods that are not here are the database's own.
func (s accountStore) PutPreKeys(ctx context.Context, keys []interop.KeyRecord) error {
	return s.SignalStore.PutPreKeys(ctx, toKeys(keys))
}

// PreKeysToUpload implements interop.PreKeys.
func (s accountStore) PreKeysToUpload(ctx context.Context, limit int) ([]interop.KeyRecord, error) {
	return fromKeys(s.SignalStore.PreKeysToUpload(ctx, limit))
}

// PutSignedPreKey implements interop.PreKeys.
func (s accountStore) PutSignedPreKey(ctx context.Context, key interop.KeyRecord) error {
	return s.SignalStore.PutSignedPreKey(ctx, toKeys([]interop.KeyRecord{key})[0])
}

// SignedPreKeys implements interop.PreKeys.
func (s accountStore) SignedPreKeys(ctx context.Context) ([]interop.KeyRecord, error) {
	return fromKeys(s.SignalStore.SignedPreKeys(ctx))
}

// Renewal implements interop.PreKeys.
func (s accountStore) Renewal(ctx context.Context) (string, error) {
	r, err := s.SignalStore.Renewal(ctx)
	return r.Keys, err
}

var _ e2ee.PreKeyWriter = accountStore{}
