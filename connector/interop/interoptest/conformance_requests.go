package interoptest

import (
	"testing"

	"postern/connector/interop"
)

// requests are the parts of the contract about chats that the person has not accepted.
var requests = []contract{
	{"what is withheld leaves the queue, keeps its payload, and comes back in a new place", suite.withheld},
	{"receipts that are held back are due when they are released, read receipts with them", suite.heldReceipts},
	{"what is discarded has no payload and no receipt any more", suite.discarded},
}

func (s suite) withheld(t *testing.T) {
	a, b := s.peer(t, 1).Chat, s.peer(t, 2).Chat
	s.insertIn(t, inRow(a, 1), inRow(a, 2), inRow(b, 3), inRow(a, 4))
	stale := inRow(a, 4)
	stale.Seq = 9
	for _, row := range []*interop.InRow{inRow(a, 2), inRow(a, 1), inRow(b, 3), stale} {
		check(t, s.WithholdInbound(s.ctx, row))
	}
	equal(t, "pending", s.pendingIn(t, a, 0, 10), []int64{4})
	last, err := s.LastSeq(s.ctx)
	check(t, err)
	equal(t, "last", last, 4)
	rows, err := s.WithheldInbound(s.ctx, a, 10)
	check(t, err)
	want := []*interop.InRow{inRow(a, 1), inRow(a, 2)}
	for _, r := range want {
		r.State = interop.InWithheld
	}
	equal(t, "withheld", rows, want)
	check(t, s.ResumeInbound(s.ctx, inRow(a, 1), 11))
	check(t, s.ResumeInbound(s.ctx, inRow(a, 2), 12))
	check(t, s.ResumeInbound(s.ctx, inRow(a, 4), 13))
	equal(t, "pending again", s.pendingIn(t, a, 0, 10), []int64{4, 11, 12})
	rows, err = s.WithheldInbound(s.ctx, b, 10)
	check(t, err)
	equal(t, "of the other chat", len(rows), 1)
}

func (s suite) heldReceipts(t *testing.T) {
	chat := s.peer(t, 1).Chat
	s.insertIn(t, inRow(chat, 1), inRow(chat, 2))
	for _, seq := range []int64{1, 2} {
		check(t, s.FinishInbound(s.ctx, inRow(chat, seq), interop.InDone, interop.ReceiptHeld))
	}
	s.mark(t, chat, "ID2", interop.ReceiptDue, 10)
	due, err := s.DueReceipts(s.ctx, 0, 10)
	check(t, err)
	equal(t, "due", len(due), 0)
	equal(t, "reads", len(s.dueReads(t, chat, 0, 10)), 0)
	rows, err := s.ReleaseReceipts(s.ctx, chat)
	check(t, err)
	due, err = s.DueReceipts(s.ctx, 0, 10)
	check(t, err)
	equal(t, "released", rows, due)
	equal(t, "how many", len(due), 2)
	equal(t, "reads released", s.dueReads(t, chat, 0, 10), []string{"ID1", "ID2"})
	rows, err = s.ReleaseReceipts(s.ctx, chat)
	check(t, err)
	equal(t, "again", len(rows), 0)
}

func (s suite) discarded(t *testing.T) {
	chat := s.peer(t, 1).Chat
	s.insertIn(t, inRow(chat, 1), inRow(chat, 2), inRow(chat, 3))
	check(t, s.WithholdInbound(s.ctx, inRow(chat, 1)))
	check(t, s.FinishInbound(s.ctx, inRow(chat, 2), interop.InDone, interop.ReceiptHeld))
	s.mark(t, chat, "ID2", interop.ReceiptDue, 10)
	n, err := s.DiscardInbound(s.ctx, chat)
	check(t, err)
	equal(t, "discarded", n, 1)
	for _, seq := range []int64{1, 2} {
		row, err := s.Inbound(s.ctx, chat, interop.ClassMessage, inRow(chat, seq).ID)
		check(t, err)
		if row == nil || row.State != interop.InDone || row.Receipt != interop.ReceiptNone || row.Read != interop.ReceiptUnwanted {
			t.Fatalf("discarded: %+v", row)
		}
	}
	rows, err := s.WithheldInbound(s.ctx, chat, 10)
	check(t, err)
	equal(t, "withheld", len(rows), 0)
	equal(t, "pending", s.pendingIn(t, chat, 0, 10), []int64{3})
}
