package interoptest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"postern/connector/e2ee"
	"postern/connector/interop"
	"postern/connector/jid"
)

// Conformance tests what open returns, a fresh and empty store of one account at a time, against the contract
// of interop.Store. What e2ee.Store promises is tested by e2eetest.
func Conformance(t *testing.T, open func(t *testing.T) interop.Store) {
	for _, c := range append([]contract{
		{"an address has one person and one chat for ever", suite.people},
		{"an inbound row comes back as it was stored", suite.inboundRoundTrip},
		{"a second row of the same item is refused and changes nothing", suite.inboundExists},
		{"a message and a notification with the same id are two items", suite.inboundClasses},
		{"pending rows come in order, page by page, for their chat alone", suite.inboundPages},
		{"a finished row loses its payload and stays for dedupe", suite.inboundFinish},
		{"finishing a row that has moved on does nothing", suite.inboundFinishStale},
		{"rows that wait for a repetition are found and can be filled", suite.inboundWaiting},
		{"due receipts come in order until they are done", suite.inboundReceipts},
		{"only old finished rows are pruned", suite.inboundPrune},
		{"an outbound row comes back as it was stored", suite.outboundRoundTrip},
		{"of an event with a taken stanza id nothing is stored", suite.outboundExists},
		{"a stanza is stored once, for a queued part", suite.outboundStanza},
		{"a part never moves back, and failed is final", suite.outboundTransitions},
		{"pending parts come in order, page by page, for their chat alone", suite.outboundPages},
		{"a retry request waits for its answer, the answer for its ack", suite.outboundRetry},
		{"a status is due until it is reported, and again after the next change", suite.outboundStatuses},
		{"plaintexts go after the window or past the count, rows after the cut", suite.outboundPrune},
		{"a failed transaction leaves nothing of both queues and the ratchet", suite.rollback},
		{"a transaction inside a transaction is taken back alone", suite.nested},
		{"the last sequence number is that of the unfinished rows", suite.lastSeq},
		{"prekeys are offered until they are marked, and ids are not used twice", suite.preKeys},
		{"signed prekeys come newest first and the newest cannot be deleted", suite.signedPreKeys},
		{"what holds for a chat replaces what held, and nothing is forgotten but what does not hold", suite.blocks},
		{"what is known of a chat's safety number replaces what was known", suite.verified},
	}, slices.Concat(conversation, letters, requests)...) {
		t.Run(c.name, func(t *testing.T) {
			s := suite{interop.Store(nil), context.Background()}
			s.Store = open(t)
			c.run(s, t)
		})
	}
}

// contract is one sentence of the contract and its test.
type contract struct {
	name string
	run  func(s suite, t *testing.T)
}

type suite struct {
	interop.Store
	ctx context.Context
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// peer makes the nth person.
func (s suite) peer(t *testing.T, n int) interop.Peer {
	t.Helper()
	p, err := s.PeerByJID(s.ctx, jid.JID{User: fmt.Sprint(1000 + n), Server: jid.LID})
	check(t, err)
	return p
}

func inRow(chat string, seq int64) *interop.InRow {
	return &interop.InRow{
		Seq: seq, Chat: chat, ID: fmt.Sprint("ID", seq), Hash: []byte{1, byte(seq)}, Kind: interop.KindMessage,
		Timestamp: 1_700_000_000, Received: 1_700_000_000_000 + seq, Payload: []byte{0, byte(seq), 255}, Notify: "Ada ☂", STS: "17",
	}
}

func (s suite) insertIn(t *testing.T, rows ...*interop.InRow) {
	t.Helper()
	for _, r := range rows {
		check(t, s.InsertInbound(s.ctx, r))
	}
}

func (s suite) pendingIn(t *testing.T, chat string, after int64, limit int) (seqs []int64) {
	t.Helper()
	rows, err := s.PendingInbound(s.ctx, chat, after, limit)
	check(t, err)
	for _, r := range rows {
		seqs = append(seqs, r.Seq)
	}
	return seqs
}

func (s suite) people(t *testing.T) {
	a, b := s.peer(t, 1), s.peer(t, 2)
	if a.Chat == b.Chat || a.Contact == b.Contact || a.Chat == "" || a.Contact == "" {
		t.Fatalf("two people share ids: %+v %+v", a, b)
	}
	equal(t, "the same address again", s.peer(t, 1), a)
	back, err := s.PeerByChat(s.ctx, b.Chat)
	check(t, err)
	equal(t, "by chat", back, b)
	if _, err = s.PeerByChat(s.ctx, "nowhere"); !errors.Is(err, interop.ErrNoChat) {
		t.Fatalf("unknown chat: %v", err)
	}
}

func (s suite) inboundRoundTrip(t *testing.T) {
	chat := s.peer(t, 1).Chat
	row := inRow(chat, 7)
	row.Retries, row.Since, row.Late, row.Nack = 3, 1_700_000_000_123, true, 491
	s.insertIn(t, row)
	rows, err := s.PendingInbound(s.ctx, chat, 0, 10)
	check(t, err)
	equal(t, "complete", rows, []*interop.InRow{row})
	got, err := s.Inbound(s.ctx, chat, interop.ClassMessage, row.ID)
	check(t, err)
	row.Payload, row.Notify = nil, ""
	equal(t, "without payload", got, row)
	got, err = s.Inbound(s.ctx, chat, interop.ClassMessage, "other")
	check(t, err)
	equal(t, "unknown", got, nil)
}

func (s suite) inboundExists(t *testing.T) {
	chat := s.peer(t, 1).Chat
	s.insertIn(t, inRow(chat, 1))
	again := inRow(chat, 2)
	again.ID = "ID1"
	if err := s.InsertInbound(s.ctx, again); !errors.Is(err, interop.ErrExists) {
		t.Fatalf("got %v", err)
	}
	equal(t, "pending", s.pendingIn(t, chat, 0, 10), []int64{1})
	other := inRow(s.peer(t, 2).Chat, 3)
	other.ID = "ID1"
	s.insertIn(t, other) // another chat's ids are its own
}

func (s suite) inboundClasses(t *testing.T) {
	chat := s.peer(t, 1).Chat
	notice := inRow(chat, 2)
	notice.Class, notice.ID, notice.Kind = interop.ClassNotice, "ID1", interop.KindIdentityChange
	s.insertIn(t, inRow(chat, 1), notice)
	equal(t, "pending", s.pendingIn(t, chat, 0, 10), []int64{1, 2})
}

func (s suite) inboundPages(t *testing.T) {
	a, b := s.peer(t, 1).Chat, s.peer(t, 2).Chat
	s.insertIn(t, inRow(a, 30), inRow(a, 10), inRow(b, 15), inRow(a, 20))
	equal(t, "first page", s.pendingIn(t, a, 0, 2), []int64{10, 20})
	equal(t, "second page", s.pendingIn(t, a, 20, 2), []int64{30})
	counts, err := s.InboundBacklog(s.ctx)
	check(t, err)
	equal(t, "backlog", counts, map[string]int{a: 3, b: 1})
}

func (s suite) inboundFinish(t *testing.T) {
	chat := s.peer(t, 1).Chat
	row := inRow(chat, 1)
	s.insertIn(t, row)
	check(t, s.FinishInbound(s.ctx, row, interop.InDone, interop.ReceiptDue))
	equal(t, "pending", len(s.pendingIn(t, chat, 0, 10)), 0)
	got, err := s.Inbound(s.ctx, chat, interop.ClassMessage, row.ID)
	check(t, err)
	if got == nil || got.State != interop.InDone || got.Receipt != interop.ReceiptDue || !slices.Equal(got.Hash, row.Hash) {
		t.Fatalf("got %+v", got)
	}
	got.State = interop.InPending // as if it were delivered again: the payload must be gone
	check(t, s.UpdateInbound(s.ctx, got))
	rows, err := s.PendingInbound(s.ctx, chat, 0, 10)
	check(t, err)
	if len(rows) != 1 || len(rows[0].Payload) != 0 || rows[0].Notify != "" {
		t.Fatalf("the payload is still there: %+v", rows)
	}
}

func (s suite) inboundFinishStale(t *testing.T) {
	chat := s.peer(t, 1).Chat
	row := inRow(chat, 1)
	s.insertIn(t, row)
	moved := inRow(chat, 5)
	moved.ID = row.ID
	check(t, s.UpdateInbound(s.ctx, moved))
	check(t, s.FinishInbound(s.ctx, row, interop.InDone, interop.ReceiptNone))
	rows, err := s.PendingInbound(s.ctx, chat, 0, 10)
	check(t, err)
	equal(t, "pending", rows, []*interop.InRow{moved})
}

func (s suite) inboundWaiting(t *testing.T) {
	chat := s.peer(t, 1).Chat
	row := inRow(chat, 1)
	row.State, row.Payload, row.Notify, row.Since, row.Retries = interop.InWaiting, nil, "", 5, 1
	s.insertIn(t, row, inRow(chat, 2))
	equal(t, "pending", s.pendingIn(t, chat, 0, 10), []int64{2})
	rows, err := s.WaitingInbound(s.ctx)
	check(t, err)
	equal(t, "waiting", rows, []*interop.InRow{row})
	filled := inRow(chat, 3)
	filled.ID, filled.Retries = row.ID, 1
	check(t, s.UpdateInbound(s.ctx, filled))
	equal(t, "pending", s.pendingIn(t, chat, 0, 10), []int64{2, 3})
	rows, err = s.WaitingInbound(s.ctx)
	check(t, err)
	equal(t, "still waiting", len(rows), 0)
	if err = s.UpdateInbound(s.ctx, inRow(chat, 9)); err == nil {
		t.Fatal("a row that is not there was updated")
	}
}

func (s suite) inboundReceipts(t *testing.T) {
	chat := s.peer(t, 1).Chat
	for seq := range int64(3) {
		row := inRow(chat, seq+1)
		s.insertIn(t, row)
		check(t, s.FinishInbound(s.ctx, row, interop.InDone, interop.ReceiptDue))
	}
	due := func(after int64, limit int) (ids []string) {
		rows, err := s.DueReceipts(s.ctx, after, limit)
		check(t, err)
		for _, r := range rows {
			ids = append(ids, r.ID)
		}
		return ids
	}
	equal(t, "due", due(0, 2), []string{"ID1", "ID2"})
	equal(t, "next page", due(2, 2), []string{"ID3"})
	check(t, s.ReceiptsDone(s.ctx, chat, []string{"ID1", "ID3", "unknown"}))
	equal(t, "left", due(0, 10), []string{"ID2"})
	got, err := s.Inbound(s.ctx, chat, interop.ClassMessage, "ID1")
	check(t, err)
	equal(t, "state", got.Receipt, interop.ReceiptDone)
}

func (s suite) inboundPrune(t *testing.T) {
	chat := s.peer(t, 1).Chat
	old := func(seq int64, state interop.InState, receipt interop.ReceiptState) {
		row := inRow(chat, seq)
		row.State, row.Receipt, row.Received = state, receipt, 100+seq
		s.insertIn(t, row)
	}
	old(1, interop.InDone, interop.ReceiptDone)
	old(2, interop.InDone, interop.ReceiptDue)
	old(3, interop.InDead, interop.ReceiptNone)
	old(4, interop.InPending, interop.ReceiptNone)
	old(5, interop.InWaiting, interop.ReceiptNone)
	old(6, interop.InDone, interop.ReceiptDone)
	n, err := s.PruneInbound(s.ctx, 106, 1)
	check(t, err)
	equal(t, "first batch", n, 1)
	n, err = s.PruneInbound(s.ctx, 106, 10)
	check(t, err)
	equal(t, "second batch", n, 1)
	for _, c := range []struct {
		id   string
		kept bool
	}{{"ID1", false}, {"ID2", true}, {"ID3", false}, {"ID4", true}, {"ID5", true}, {"ID6", true}} {
		row, err := s.Inbound(s.ctx, chat, interop.ClassMessage, c.id)
		check(t, err)
		if (row != nil) != c.kept {
			t.Errorf("%s kept: %v, want %v", c.id, row != nil, c.kept)
		}
	}
}

func (s suite) rollback(t *testing.T) {
	chat := s.peer(t, 1).Chat
	boom := errors.New("boom")
	err := s.Commit(s.ctx, &e2ee.Change{Addr: "a", Session: []byte("s"), Identity: make([]byte, 32)}, func(ctx context.Context) error {
		if err := s.InsertInbound(ctx, inRow(chat, 1)); err != nil {
			return err
		}
		if row, err := s.Inbound(ctx, chat, interop.ClassMessage, "ID1"); row == nil || err != nil {
			return fmt.Errorf("a transaction does not see what it wrote: %w", err)
		}
		if err := s.InsertOutbound(ctx, []*interop.OutRow{outRow(chat, 1)}); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	session, err := s.LoadSession(s.ctx, "a")
	check(t, err)
	in, err := s.Inbound(s.ctx, chat, interop.ClassMessage, "ID1")
	check(t, err)
	out, err := s.OutboundStanza(s.ctx, outRow(chat, 1).StanzaID)
	check(t, err)
	if session != nil || in != nil || out != nil {
		t.Fatalf("left: %v %v %v", session, in, out)
	}
}

func (s suite) nested(t *testing.T) {
	chat := s.peer(t, 1).Chat
	boom := errors.New("boom")
	check(t, s.Do(s.ctx, func(ctx context.Context) error {
		if err := s.InsertInbound(ctx, inRow(chat, 1)); err != nil {
			return err
		}
		err := s.Do(ctx, func(ctx context.Context) error {
			if err := s.InsertInbound(ctx, inRow(chat, 2)); err != nil {
				return err
			}
			return boom
		})
		if !errors.Is(err, boom) {
			return fmt.Errorf("inner: %w", err)
		}
		return nil
	}))
	equal(t, "pending", s.pendingIn(t, chat, 0, 10), []int64{1})
}

func (s suite) lastSeq(t *testing.T) {
	last := func() int64 {
		n, err := s.LastSeq(s.ctx)
		check(t, err)
		return n
	}
	equal(t, "empty", last(), 0)
	chat := s.peer(t, 1).Chat
	row := inRow(chat, 50)
	s.insertIn(t, row, inRow(chat, 40))
	equal(t, "inbound", last(), 50)
	check(t, s.InsertOutbound(s.ctx, []*interop.OutRow{outRow(chat, 60)}))
	equal(t, "outbound", last(), 60)
	_, err := s.AdvanceOutbound(s.ctx, outRow(chat, 60).StanzaID, interop.PartSent, 1)
	check(t, err)
	equal(t, "a status is due", last(), 60)
	waiting := inRow(chat, 70)
	waiting.State = interop.InWaiting
	s.insertIn(t, waiting)
	equal(t, "waiting", last(), 70)
}

func (s suite) preKeys(t *testing.T) {
	first, err := s.ReservePreKeyIDs(s.ctx, 3)
	check(t, err)
	next, err := s.ReservePreKeyIDs(s.ctx, 1)
	check(t, err)
	if first == 0 || next != first+3 {
		t.Fatalf("ids %d and %d", first, next)
	}
	keys := []interop.KeyRecord{{ID: first, Record: []byte("a")}, {ID: first + 1, Record: []byte("b")}, {ID: first + 2, Record: []byte("c")}}
	check(t, s.PutPreKeys(s.ctx, keys))
	offered := func(limit int) []interop.KeyRecord {
		list, err := s.PreKeysToUpload(s.ctx, limit)
		check(t, err)
		return list
	}
	equal(t, "offered", offered(2), keys[:2])
	check(t, s.MarkPreKeysUploaded(s.ctx, []uint32{first, first + 2, 9999}))
	equal(t, "left", offered(10), keys[1:2])
	record, err := s.LoadPreKey(s.ctx, first+2)
	check(t, err)
	equal(t, "record", string(record), "c")
	check(t, s.PutPreKeys(s.ctx, keys[2:]))
	equal(t, "taken back", offered(10), keys[1:])
	check(t, s.MarkPreKeysUploaded(s.ctx, []uint32{first + 1}))
	check(t, s.DeletePreKeys(s.ctx, []uint32{first + 1, first + 2, 9999}))
	equal(t, "deleted", len(offered(10)), 0)
	record, err = s.LoadPreKey(s.ctx, first+1)
	check(t, err)
	equal(t, "a record that may have been handed out", string(record), "b")
	occasion, err := s.Renewal(s.ctx)
	check(t, err)
	equal(t, "renewal of what is no old copy", occasion, "")
	check(t, s.Renewed(s.ctx, "another occasion"))
}

func (s suite) signedPreKeys(t *testing.T) {
	a, err := s.ReserveSignedPreKeyID(s.ctx)
	check(t, err)
	b, err := s.ReserveSignedPreKeyID(s.ctx)
	check(t, err)
	if a == 0 || a == b {
		t.Fatalf("ids %d and %d", a, b)
	}
	older, newer := interop.KeyRecord{ID: a, Record: []byte("a"), Created: 100}, interop.KeyRecord{ID: b, Record: []byte("b"), Created: 200}
	check(t, s.PutSignedPreKey(s.ctx, newer))
	check(t, s.PutSignedPreKey(s.ctx, older))
	list, err := s.SignedPreKeys(s.ctx)
	check(t, err)
	equal(t, "all", list, []interop.KeyRecord{newer, older})
	check(t, s.DeleteSignedPreKeys(s.ctx, 1000))
	list, err = s.SignedPreKeys(s.ctx)
	check(t, err)
	equal(t, "left", list, []interop.KeyRecord{newer})
}
