package interoptest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"postern/connector/interop"
	"postern/connector/jid"
)

// conversation are the parts of the contract that serve what a chat carries beside plain messages.
var conversation = []contract{
	{"a person who is not known is found nowhere, and not made by looking", suite.findPeer},
	{"a row that is set aside keeps its payload and leaves the queue", suite.held},
	{"setting a row aside that has moved on does nothing", suite.heldStale},
	{"the last sequence number counts what is set aside and what has a read receipt due", suite.heldLastSeq},
	{"reading a message marks those of its chat that Matrix has and no others", suite.readMarks},
	{"marking is done in batches, and says how many", suite.readBatches},
	{"the message that is read counts although its row is still pending", suite.readPending},
	{"due read receipts come in order until they are done", suite.readDue},
	{"what was read without wanting receipts is never due", suite.readUnwanted},
	{"a row whose read receipt is due is not pruned", suite.readPrune},
	{"a recipe becomes a message once", suite.prepared},
	{"a part that failed has neither recipe nor fall-back", suite.recipeFailed},
	{"a replaced part is nothing but a name", suite.replaced},
	{"a queued, read or failed part is not replaced", suite.replacedRefused},
	{"a fall-back goes with its plaintext", suite.fallbackPrune},
	{"a message that could not be stored whole is a recipe still", suite.preparedRollback},
}

func (s suite) findPeer(t *testing.T) {
	p := s.peer(t, 1)
	found, err := s.FindPeer(s.ctx, p.JID)
	check(t, err)
	equal(t, "found", found, p)
	other := jid.JID{User: "4712", Server: jid.LID}
	for range 2 {
		if _, err = s.FindPeer(s.ctx, other); !errors.Is(err, interop.ErrNoChat) {
			t.Fatalf("an unknown person: %v", err)
		}
	}
}

func (s suite) heldIn(t *testing.T, chat string, after int64, limit int) (seqs []int64) {
	t.Helper()
	rows, err := s.HeldInbound(s.ctx, chat, after, limit)
	check(t, err)
	for _, r := range rows {
		seqs = append(seqs, r.Seq)
	}
	return seqs
}

func (s suite) held(t *testing.T) {
	a, b := s.peer(t, 1).Chat, s.peer(t, 2).Chat
	s.insertIn(t, inRow(a, 3), inRow(a, 1), inRow(b, 2), inRow(a, 4))
	for _, row := range []*interop.InRow{inRow(a, 3), inRow(a, 1), inRow(b, 2)} {
		check(t, s.HoldInbound(s.ctx, row))
	}
	equal(t, "pending", s.pendingIn(t, a, 0, 10), []int64{4})
	equal(t, "held", s.heldIn(t, a, 0, 1), []int64{1})
	equal(t, "next page", s.heldIn(t, a, 1, 10), []int64{3})
	counts, err := s.InboundBacklog(s.ctx)
	check(t, err)
	equal(t, "backlog", counts, map[string]int{a: 1})
	rows, err := s.HeldInbound(s.ctx, b, 0, 10)
	check(t, err)
	want := inRow(b, 2)
	want.State = interop.InHeld
	equal(t, "complete", rows, []*interop.InRow{want})
	rows, err = s.AllHeld(s.ctx)
	check(t, err)
	var seqs []int64
	for _, r := range rows {
		seqs = append(seqs, r.Seq)
		if r.Payload != nil || r.Notify != "" || r.Received != inRow(a, r.Seq).Received {
			t.Fatalf("of all that is held: %+v", r)
		}
	}
	equal(t, "all", seqs, []int64{1, 2, 3})
	check(t, s.FinishInbound(s.ctx, inRow(a, 1), interop.InDone, interop.ReceiptDue))
	equal(t, "held", s.heldIn(t, a, 0, 10), []int64{3})
}

func (s suite) heldStale(t *testing.T) {
	chat := s.peer(t, 1).Chat
	row := inRow(chat, 1)
	s.insertIn(t, row)
	moved := inRow(chat, 5)
	moved.ID = row.ID
	check(t, s.UpdateInbound(s.ctx, moved))
	check(t, s.HoldInbound(s.ctx, row))
	equal(t, "pending", s.pendingIn(t, chat, 0, 10), []int64{5})
	check(t, s.FinishInbound(s.ctx, moved, interop.InDone, interop.ReceiptNone))
	check(t, s.HoldInbound(s.ctx, moved))
	equal(t, "held", len(s.heldIn(t, chat, 0, 10)), 0)
}

func (s suite) heldLastSeq(t *testing.T) {
	chat := s.peer(t, 1).Chat
	last := func() int64 {
		n, err := s.LastSeq(s.ctx)
		check(t, err)
		return n
	}
	s.insertIn(t, inRow(chat, 7), inRow(chat, 9))
	check(t, s.HoldInbound(s.ctx, inRow(chat, 7)))
	check(t, s.FinishInbound(s.ctx, inRow(chat, 9), interop.InDone, interop.ReceiptNone))
	equal(t, "held", last(), 7)
	s.mark(t, chat, "ID9", interop.ReceiptDue, 10)
	equal(t, "a read receipt is due", last(), 9)
}

// mark calls MarkReadInbound.
func (s suite) mark(t *testing.T, chat, id string, state interop.ReceiptState, limit int) int {
	t.Helper()
	n, err := s.MarkReadInbound(s.ctx, chat, id, state, limit)
	check(t, err)
	return n
}

// done inserts messages and finishes them.
func (s suite) done(t *testing.T, chat string, seqs ...int64) {
	t.Helper()
	for _, seq := range seqs {
		s.insertIn(t, inRow(chat, seq))
		check(t, s.FinishInbound(s.ctx, inRow(chat, seq), interop.InDone, interop.ReceiptDue))
	}
}

func (s suite) dueReads(t *testing.T, chat string, after int64, limit int) (ids []string) {
	t.Helper()
	rows, err := s.DueReads(s.ctx, chat, after, limit)
	check(t, err)
	for _, r := range rows {
		if r.Payload != nil || r.Read != interop.ReceiptDue || r.STS != "17" {
			t.Fatalf("got %+v", r)
		}
		ids = append(ids, r.ID)
	}
	return ids
}

func (s suite) readMarks(t *testing.T) {
	chat, other := s.peer(t, 1).Chat, s.peer(t, 2).Chat
	s.done(t, chat, 1, 2, 6, 7)
	s.done(t, other, 3)
	notice := inRow(chat, 4)
	notice.Class, notice.Kind = interop.ClassNotice, interop.KindReachability
	unread := inRow(chat, 5)
	unread.Kind = interop.KindUndecryptable
	dead := inRow(chat, 8)
	waiting := inRow(chat, 9)
	waiting.State = interop.InWaiting
	aside := inRow(chat, 10)
	pending := inRow(chat, 11)
	s.insertIn(t, notice, unread, dead, waiting, aside, pending)
	for _, row := range []*interop.InRow{notice, unread} {
		check(t, s.FinishInbound(s.ctx, row, interop.InDone, interop.ReceiptNone))
	}
	check(t, s.FinishInbound(s.ctx, dead, interop.InDead, interop.ReceiptNone))
	check(t, s.HoldInbound(s.ctx, aside))
	equal(t, "an unknown one", s.mark(t, chat, "unknown", interop.ReceiptDue, 10), 0)
	equal(t, "of another chat", s.mark(t, chat, "ID3", interop.ReceiptDue, 10), 0)
	equal(t, "up to the second", s.mark(t, chat, "ID2", interop.ReceiptDue, 10), 2)
	equal(t, "due", s.dueReads(t, chat, 0, 10), []string{"ID1", "ID2"})
	equal(t, "the same again", s.mark(t, chat, "ID2", interop.ReceiptDue, 10), 0)
	equal(t, "up to a notice in a message's place", s.mark(t, chat, "ID5", interop.ReceiptDue, 10), 0)
	s.done(t, chat, 20)
	equal(t, "up to the last", s.mark(t, chat, "ID20", interop.ReceiptDue, 10), 3)
	equal(t, "due", s.dueReads(t, chat, 0, 10), []string{"ID1", "ID2", "ID6", "ID7", "ID20"})
	equal(t, "of the other chat", len(s.dueReads(t, other, 0, 10)), 0)
}

func (s suite) readBatches(t *testing.T) {
	chat := s.peer(t, 1).Chat
	s.done(t, chat, 1, 2, 3, 4, 5)
	equal(t, "first", s.mark(t, chat, "ID5", interop.ReceiptDue, 3), 3)
	equal(t, "second", s.mark(t, chat, "ID5", interop.ReceiptDue, 3), 2)
	equal(t, "third", s.mark(t, chat, "ID5", interop.ReceiptDue, 3), 0)
}

func (s suite) readPending(t *testing.T) {
	chat := s.peer(t, 1).Chat
	s.done(t, chat, 1)
	row, behind := inRow(chat, 3), inRow(chat, 2)
	s.insertIn(t, row, behind)
	equal(t, "marked", s.mark(t, chat, row.ID, interop.ReceiptDue, 10), 2)
	equal(t, "due before it is settled", s.dueReads(t, chat, 0, 10), []string{"ID1"})
	check(t, s.FinishInbound(s.ctx, behind, interop.InDone, interop.ReceiptDue))
	check(t, s.FinishInbound(s.ctx, row, interop.InDone, interop.ReceiptDue))
	equal(t, "due", s.dueReads(t, chat, 0, 10), []string{"ID1", "ID3"})
	dead := inRow(chat, 4)
	s.insertIn(t, dead)
	equal(t, "marked", s.mark(t, chat, dead.ID, interop.ReceiptDue, 10), 2)
	check(t, s.FinishInbound(s.ctx, dead, interop.InDead, interop.ReceiptNone))
	equal(t, "due, without the dead letter", s.dueReads(t, chat, 0, 10), []string{"ID1", "ID2", "ID3"})
}

func (s suite) readDue(t *testing.T) {
	a, b := s.peer(t, 1).Chat, s.peer(t, 2).Chat
	s.done(t, a, 1, 3, 5)
	s.done(t, b, 2, 4)
	s.mark(t, a, "ID5", interop.ReceiptDue, 10)
	s.mark(t, b, "ID4", interop.ReceiptDue, 10)
	equal(t, "of all", s.dueReads(t, "", 0, 3), []string{"ID1", "ID2", "ID3"})
	equal(t, "next page", s.dueReads(t, "", 3, 3), []string{"ID4", "ID5"})
	equal(t, "of one", s.dueReads(t, a, 1, 10), []string{"ID3", "ID5"})
	check(t, s.SetReads(s.ctx, a, []string{"ID1", "unknown", "ID5"}, interop.ReceiptDone))
	check(t, s.SetReads(s.ctx, b, []string{"ID3"}, interop.ReceiptDone)) // another chat's
	equal(t, "left", s.dueReads(t, "", 0, 10), []string{"ID2", "ID3", "ID4"})
	check(t, s.SetReads(s.ctx, a, []string{"ID5"}, interop.ReceiptUnwanted)) // not due any more
	row, err := s.Inbound(s.ctx, a, interop.ClassMessage, "ID5")
	check(t, err)
	equal(t, "state", [2]interop.ReceiptState{row.Read, row.Receipt}, [2]interop.ReceiptState{interop.ReceiptDone, interop.ReceiptDue})
}

func (s suite) readUnwanted(t *testing.T) {
	chat := s.peer(t, 1).Chat
	s.done(t, chat, 1, 2)
	equal(t, "unwanted", s.mark(t, chat, "ID1", interop.ReceiptUnwanted, 10), 1)
	equal(t, "wanted again", s.mark(t, chat, "ID2", interop.ReceiptDue, 10), 1)
	equal(t, "due", s.dueReads(t, chat, 0, 10), []string{"ID2"})
	check(t, s.SetReads(s.ctx, chat, []string{"ID1", "ID2"}, interop.ReceiptUnwanted))
	equal(t, "due", len(s.dueReads(t, chat, 0, 10)), 0)
}

func (s suite) readPrune(t *testing.T) {
	chat := s.peer(t, 1).Chat
	s.done(t, chat, 1, 2)
	check(t, s.ReceiptsDone(s.ctx, chat, []string{"ID1", "ID2"}))
	s.mark(t, chat, "ID1", interop.ReceiptDue, 10)
	s.insertIn(t, inRow(chat, 3))
	check(t, s.HoldInbound(s.ctx, inRow(chat, 3)))
	n, err := s.PruneInbound(s.ctx, 1<<60, 10)
	check(t, err)
	equal(t, "pruned", n, 1)
	equal(t, "due", s.dueReads(t, chat, 0, 10), []string{"ID1"})
	equal(t, "held", s.heldIn(t, chat, 0, 10), []int64{3})
	check(t, s.SetReads(s.ctx, chat, []string{"ID1"}, interop.ReceiptDone))
	n, err = s.PruneInbound(s.ctx, 1<<60, 10)
	check(t, err)
	equal(t, "pruned", n, 1)
}

// recipeRow is a part that is to be made.
func recipeRow(chat string, seq int64) *interop.OutRow {
	row := outRow(chat, seq)
	row.Recipe, row.Plaintext, row.Type, row.MediaType = []byte(fmt.Sprint("recipe ", seq)), nil, "", ""
	return row
}

func (s suite) prepare(t *testing.T, id string) bool {
	t.Helper()
	p := &interop.Prepared{Plaintext: []byte("made"), Fallback: []byte("instead"), Type: "media", MediaType: "ptt"}
	ok, err := s.SetPrepared(s.ctx, id, p, 99)
	check(t, err)
	return ok
}

func (s suite) prepared(t *testing.T) {
	chat := s.peer(t, 1).Chat
	row := recipeRow(chat, 1)
	s.insertOut(t, row, outRow(chat, 2))
	rows, err := s.PendingOutbound(s.ctx, chat, 0, 10)
	check(t, err)
	equal(t, "pending", rows[0], row)
	rows, err = s.OutboundParts(s.ctx, []string{"3EB01"})
	check(t, err)
	if rows[0].Recipe != nil || rows[0].Plaintext != nil {
		t.Fatalf("of a part without its content: %+v", rows[0])
	}
	if !s.prepare(t, "3EB01") || s.prepare(t, "3EB01") || s.prepare(t, "3EB02") || s.prepare(t, "unknown") {
		t.Fatal("a recipe is not made once, or what is none is made")
	}
	row.Recipe, row.Plaintext, row.Fallback, row.Type, row.MediaType, row.Changed = nil, []byte("made"), []byte("instead"), "media", "ptt", 99
	equal(t, "made", s.get(t, 1), row)
	equal(t, "no news", len(s.due(t, 0, 10)), 0)
	ok, err := s.SetStanza(s.ctx, "3EB01", []byte("x"), 1)
	check(t, err)
	equal(t, "encrypted", ok, true)
	plain := recipeRow(chat, 3)
	s.insertOut(t, plain)
	ok, err = s.SetPrepared(s.ctx, "3EB03", &interop.Prepared{Plaintext: []byte("made"), Type: "text"}, 99)
	check(t, err)
	if got := s.get(t, 3); !ok || got.Fallback != nil || got.Type != "text" || got.MediaType != "" {
		t.Fatalf("made without a fall-back: %+v", got)
	}
}

func (s suite) recipeFailed(t *testing.T) {
	chat := s.peer(t, 1).Chat
	row := outRow(chat, 2)
	row.Fallback = []byte("instead")
	s.insertOut(t, recipeRow(chat, 1), row)
	equal(t, "complete", s.get(t, 2), row)
	for seq := range int64(2) {
		_, err := s.FailOutbound(s.ctx, fmt.Sprint("3EB0", seq+1), interop.ReasonTooLarge, 0, 5)
		check(t, err)
		if got := s.get(t, seq+1); got.Recipe != nil || got.Fallback != nil || got.Reason != interop.ReasonTooLarge {
			t.Fatalf("got %+v", got)
		}
	}
	if s.prepare(t, "3EB01") {
		t.Fatal("a failed part was made")
	}
}

func (s suite) replace(t *testing.T, id string) bool {
	t.Helper()
	ok, err := s.ReplaceOutbound(s.ctx, id, 88)
	check(t, err)
	return ok
}

func (s suite) anyReplaced(t *testing.T) bool {
	t.Helper()
	replaced, err := s.AnyReplaced(s.ctx)
	check(t, err)
	return replaced
}

func (s suite) replaced(t *testing.T) {
	chat := s.peer(t, 1).Chat
	row := outRow(chat, 1)
	row.Fallback = []byte("instead")
	s.insertOut(t, row)
	_, err := s.SetStanza(s.ctx, "3EB01", []byte("x"), 1)
	check(t, err)
	equal(t, "before", s.anyReplaced(t), false)
	if !s.replace(t, "3EB01") || s.replace(t, "3EB01") {
		t.Fatal("not replaced once")
	}
	equal(t, "after", s.anyReplaced(t), true)
	row.State, row.Changed, row.Plaintext, row.Fallback = interop.PartReplaced, 88, nil, nil
	equal(t, "row", s.get(t, 1), row)
	equal(t, "nothing to do", len(s.chats(t)), 0)
	for _, to := range []interop.PartState{interop.PartSent, interop.PartRead} {
		changed, err := s.AdvanceOutbound(s.ctx, "3EB01", to, 5)
		check(t, err)
		equal(t, "advanced", changed, false)
	}
	changed, err := s.FailOutbound(s.ctx, "3EB01", interop.ReasonGone, 404, 5)
	check(t, err)
	equal(t, "failed", changed, false)
	check(t, s.SetRetry(s.ctx, "3EB01", &interop.RetryRequest{Count: 1}, "mark"))
	changed, err = s.SetAnswer(s.ctx, "3EB01", []byte("again"))
	check(t, err)
	equal(t, "answered", changed, false)
	equal(t, "row", s.get(t, 1), row)
	equal(t, "nothing to do", len(s.chats(t)), 0)
}

func (s suite) replacedRefused(t *testing.T) {
	chat := s.peer(t, 1).Chat
	s.insertOut(t, outRow(chat, 1), outRow(chat, 2), outRow(chat, 3), outRow(chat, 4))
	_, err := s.AdvanceOutbound(s.ctx, "3EB02", interop.PartRead, 5)
	check(t, err)
	_, err = s.FailOutbound(s.ctx, "3EB03", interop.ReasonGone, 404, 5)
	check(t, err)
	_, err = s.AdvanceOutbound(s.ctx, "3EB04", interop.PartDelivered, 5)
	check(t, err)
	for seq, want := range map[int64]bool{1: false, 2: false, 3: false, 4: true} {
		if got := s.replace(t, fmt.Sprint("3EB0", seq)); got != want {
			t.Errorf("part %d replaced: %v", seq, got)
		}
	}
}

func (s suite) fallbackPrune(t *testing.T) {
	chat := s.peer(t, 1).Chat
	row := outRow(chat, 1)
	row.Fallback = []byte("instead")
	s.insertOut(t, row)
	_, err := s.AdvanceOutbound(s.ctx, "3EB01", interop.PartSent, 5)
	check(t, err)
	if s.get(t, 1).Fallback == nil {
		t.Fatal("a fall-back went with the ack")
	}
	_, err = s.PruneOutbound(s.ctx, 1<<60, 100, 0, 10)
	check(t, err)
	if got := s.get(t, 1); got.Plaintext != nil || got.Fallback != nil {
		t.Fatalf("got %+v", got)
	}
}

func (s suite) preparedRollback(t *testing.T) {
	chat := s.peer(t, 1).Chat
	row := recipeRow(chat, 1)
	s.insertOut(t, row)
	boom := errors.New("boom")
	err := s.Do(s.ctx, func(ctx context.Context) error {
		ok, err := s.SetPrepared(ctx, "3EB01", &interop.Prepared{Plaintext: []byte("made"), Type: "text"}, 9)
		if err != nil || !ok {
			return fmt.Errorf("not made: %w", err)
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	equal(t, "row", s.get(t, 1), row)
}
