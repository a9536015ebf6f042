package interoptest

import (
	"context"
	"errors"
	"testing"

	"postern/connector/interop"
)

// letters are the part of the contract that is about dead letters.
var letters = []contract{
	{"a buried row is a dead letter with its payload", suite.buried},
	{"burying a row that has moved on does nothing", suite.buriedStale},
	{"a dead letter is revived once, late, at its new place", suite.revived},
	{"a revival that is taken back leaves the letter as it was", suite.revivedRollback},
	{"a letter that dies again has the same id and counts", suite.diesAgain},
	{"a dropped letter is a row without payload", suite.dropped},
	{"a letter of the other account is nobody's business", suite.lettersOfOthers},
	{"dead letters are not pruned as rows, and what was dropped is", suite.lettersPruned},
	{"a failed event is one dead letter", suite.failedEvent},
	{"a row that is filled again is no dead letter", suite.letterFilled},
}

// bury inserts a row and makes it a dead letter, whose id it returns.
func (s suite) bury(t *testing.T, row *interop.InRow, at int64) string {
	t.Helper()
	s.insertIn(t, row)
	check(t, s.BuryInbound(s.ctx, row, "forbidden", at))
	list := s.dead(t)
	for _, l := range list {
		if l.At == at {
			return l.ID
		}
	}
	t.Fatalf("not among %+v", list)
	return ""
}

func (s suite) dead(t *testing.T) []*interop.Letter {
	t.Helper()
	list, err := s.DeadLetters(s.ctx)
	check(t, err)
	return list
}

func (s suite) deadAt(t *testing.T) (at []int64) {
	t.Helper()
	for _, l := range s.dead(t) {
		at = append(at, l.At)
	}
	return at
}

func (s suite) buried(t *testing.T) {
	chat := s.peer(t, 1).Chat
	row := inRow(chat, 3)
	id := s.bury(t, row, 50)
	held := inRow(chat, 4)
	s.insertIn(t, held)
	check(t, s.HoldInbound(s.ctx, held))
	check(t, s.BuryInbound(s.ctx, held, interop.LetterNoTarget, 40))
	list := s.dead(t)
	equal(t, "how many", len(list), 2)
	equal(t, "the second", *list[1], interop.Letter{ID: id, Chat: chat, Reason: "forbidden", At: 50, Tries: 1, Size: list[1].Size})
	equal(t, "the first's reason", list[0].Reason, interop.LetterNoTarget)
	equal(t, "pending", len(s.pendingIn(t, chat, 0, 10)), 0)
	got, err := s.LetterInbound(s.ctx, id)
	check(t, err)
	row.State = interop.InDead
	equal(t, "its row", got, row)
	got, err = s.LetterInbound(s.ctx, "nobody")
	check(t, err)
	equal(t, "an unknown one", got, nil)
	last, err := s.LastSeq(s.ctx)
	check(t, err)
	equal(t, "nothing is unfinished", last, 0)
}

func (s suite) buriedStale(t *testing.T) {
	chat := s.peer(t, 1).Chat
	row := inRow(chat, 1)
	s.insertIn(t, row)
	moved := inRow(chat, 5)
	moved.ID = row.ID
	check(t, s.UpdateInbound(s.ctx, moved))
	check(t, s.BuryInbound(s.ctx, row, "forbidden", 9))
	equal(t, "dead", len(s.dead(t)), 0)
	check(t, s.FinishInbound(s.ctx, moved, interop.InDone, interop.ReceiptDue))
	check(t, s.BuryInbound(s.ctx, moved, "forbidden", 9))
	equal(t, "dead", len(s.dead(t)), 0)
}

func (s suite) revived(t *testing.T) {
	chat := s.peer(t, 1).Chat
	s.insertIn(t, inRow(chat, 7))
	row := inRow(chat, 3)
	id := s.bury(t, row, 50)
	got, err := s.ReviveInbound(s.ctx, id, 9)
	check(t, err)
	row.Seq, row.Late, row.State = 9, true, interop.InPending
	equal(t, "revived", got, row)
	equal(t, "pending", s.pendingIn(t, chat, 0, 10), []int64{7, 9})
	equal(t, "dead", len(s.dead(t)), 0)
	got, err = s.ReviveInbound(s.ctx, id, 11)
	check(t, err)
	equal(t, "revived again", got, nil)
	got, err = s.LetterInbound(s.ctx, id)
	check(t, err)
	equal(t, "waiting", got, row)
	if ok, err := s.DropLetter(s.ctx, id); ok || err != nil {
		t.Fatalf("what is waiting was dropped: %v (%v)", ok, err)
	}
	check(t, s.FinishInbound(s.ctx, row, interop.InDone, interop.ReceiptDue))
	got, err = s.LetterInbound(s.ctx, id)
	check(t, err)
	equal(t, "delivered", got, nil)
}

func (s suite) revivedRollback(t *testing.T) {
	chat := s.peer(t, 1).Chat
	id := s.bury(t, inRow(chat, 3), 50)
	cut := errors.New("taken back")
	err := s.Do(s.ctx, func(ctx context.Context) error {
		row, err := s.ReviveInbound(ctx, id, 9)
		if row == nil || err != nil {
			t.Errorf("not revived: %v (%v)", row, err)
		}
		return cut
	})
	equal(t, "error", errors.Is(err, cut), true)
	equal(t, "dead", s.deadAt(t), []int64{50})
	equal(t, "pending", len(s.pendingIn(t, chat, 0, 10)), 0)
}

func (s suite) diesAgain(t *testing.T) {
	id := s.bury(t, inRow(s.peer(t, 1).Chat, 3), 50)
	row, err := s.ReviveInbound(s.ctx, id, 9)
	check(t, err)
	check(t, s.BuryInbound(s.ctx, row, "too_large", 60))
	l := s.dead(t)[0]
	equal(t, "letter", *l, interop.Letter{ID: id, Chat: row.Chat, Reason: "too_large", At: 60, Tries: 2, Size: l.Size})
}

func (s suite) dropped(t *testing.T) {
	chat := s.peer(t, 1).Chat
	row := inRow(chat, 3)
	id := s.bury(t, row, 50)
	for _, want := range []bool{true, false} {
		ok, err := s.DropLetter(s.ctx, id)
		check(t, err)
		equal(t, "dropped", ok, want)
	}
	equal(t, "dead", len(s.dead(t)), 0)
	got, err := s.Inbound(s.ctx, chat, row.Class, row.ID)
	check(t, err)
	row.Payload, row.Notify, row.State = nil, "", interop.InDead
	equal(t, "the row", got, row)
	if got, err = s.ReviveInbound(s.ctx, id, 9); got != nil || err != nil {
		t.Fatalf("revived: %+v (%v)", got, err)
	}
}

func (s suite) lettersOfOthers(t *testing.T) {
	for _, what := range []func() (bool, error){
		func() (bool, error) { return s.DropLetter(s.ctx, "nobody") },
		func() (bool, error) { row, err := s.ReviveInbound(s.ctx, "nobody", 1); return row != nil, err },
		func() (bool, error) { row, err := s.LetterInbound(s.ctx, "nobody"); return row != nil, err },
		func() (bool, error) { row, err := s.LetterInbound(s.ctx, ""); return row != nil, err },
		func() (bool, error) { return s.DropLetter(s.ctx, "") },
	} {
		s.insertIn(t, inRow(s.peer(t, 1).Chat, int64(len(s.pendingIn(t, s.peer(t, 1).Chat, 0, 100))+1)))
		if ok, err := what(); ok || err != nil {
			t.Errorf("an unknown letter: %v (%v)", ok, err)
		}
	}
}

func (s suite) lettersPruned(t *testing.T) {
	chat := s.peer(t, 1).Chat
	for seq := int64(1); seq <= 6; seq++ {
		s.bury(t, inRow(chat, seq), 10*seq)
	}
	n, err := s.PruneInbound(s.ctx, 1<<60, 100)
	check(t, err)
	equal(t, "rows pruned", n, 0)
	for i, l := range s.dead(t) {
		if l.Size == 0 {
			t.Error("a dead letter of no size")
		}
		if i < 5 {
			_, err = s.DropLetter(s.ctx, l.ID)
			check(t, err)
		}
	}
	equal(t, "left", s.deadAt(t), []int64{60})
	n, err = s.PruneInbound(s.ctx, 1<<60, 100)
	check(t, err)
	equal(t, "rows pruned", n, 5)
}

func (s suite) failedEvent(t *testing.T) {
	chat := s.peer(t, 1).Chat
	a, b, c := outRow(chat, 1), outRow(chat, 2), outRow(chat, 3)
	a.EventID, b.EventID, c.EventID = "$one", "$one", "$two"
	s.insertOut(t, a, b, c)
	for _, r := range []*interop.OutRow{a, b} {
		if ok, err := s.FailOutbound(s.ctx, r.StanzaID, interop.ReasonBlocked, 403, 70); !ok || err != nil {
			t.Fatalf("not failed: %v", err)
		}
	}
	list := s.dead(t)
	equal(t, "how many", len(list), 1)
	equal(t, "letter", *list[0], interop.Letter{ID: list[0].ID, Chat: chat, Outgoing: true, Reason: "blocked", At: 70, Tries: 1, Size: list[0].Size})
	if row, err := s.ReviveInbound(s.ctx, list[0].ID, 9); row != nil || err != nil {
		t.Fatalf("what has failed was revived: %+v (%v)", row, err)
	}
	ok, err := s.DropLetter(s.ctx, list[0].ID)
	check(t, err)
	equal(t, "dropped", ok, true)
	equal(t, "dead", len(s.dead(t)), 0)
	row, err := s.OutboundStanza(s.ctx, a.StanzaID)
	check(t, err)
	equal(t, "state", row.State, interop.PartFailed)
	equal(t, "plaintext", row.Plaintext, nil)
}

func (s suite) letterFilled(t *testing.T) {
	chat := s.peer(t, 1).Chat
	s.bury(t, inRow(chat, 3), 50)
	again := inRow(chat, 8)
	again.ID = inRow(chat, 3).ID
	check(t, s.UpdateInbound(s.ctx, again))
	equal(t, "dead", len(s.dead(t)), 0)
	equal(t, "pending", s.pendingIn(t, chat, 0, 10), []int64{8})
}
