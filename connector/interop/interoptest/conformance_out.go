package interoptest

import (
	"errors"
	"fmt"
	"testing"

	"postern/connector/e2ee"
	"postern/connector/interop"
)

func outRow(chat string, seq int64) *interop.OutRow {
	return &interop.OutRow{
		Seq: seq, Chat: chat, EventID: fmt.Sprint("$event", seq), RoomID: "!room", Part: 0, Parts: 1, StanzaID: fmt.Sprint("3EB0", seq),
		Type: "media", MediaType: "image", Plaintext: []byte{0, byte(seq)}, Created: 1000 + seq, Changed: 2000 + seq,
	}
}

func (s suite) insertOut(t *testing.T, rows ...*interop.OutRow) {
	t.Helper()
	for _, r := range rows {
		check(t, s.InsertOutbound(s.ctx, []*interop.OutRow{r}))
	}
}

func (s suite) get(t *testing.T, seq int64) *interop.OutRow {
	t.Helper()
	row, err := s.OutboundStanza(s.ctx, fmt.Sprint("3EB0", seq))
	check(t, err)
	return row
}

func (s suite) outboundRoundTrip(t *testing.T) {
	chat := s.peer(t, 1).Chat
	one, two := outRow(chat, 1), outRow(chat, 2)
	one.Parts, two.Parts, two.Part, two.EventID = 2, 2, 1, one.EventID
	check(t, s.InsertOutbound(s.ctx, []*interop.OutRow{one, two}))
	equal(t, "complete", s.get(t, 2), two)
	rows, err := s.OutboundParts(s.ctx, []string{"3EB02", "unknown", "3EB01", "3EB02"})
	check(t, err)
	one.Plaintext, two.Plaintext = nil, nil
	equal(t, "parts", rows[:2], []*interop.OutRow{two, one})
	rows, err = s.OutboundParts(s.ctx, nil)
	check(t, err)
	equal(t, "none", len(rows), 0)
	if s.get(t, 9) != nil {
		t.Fatal("an unknown id has a row")
	}
}

func (s suite) outboundExists(t *testing.T) {
	chat := s.peer(t, 1).Chat
	s.insertOut(t, outRow(chat, 2))
	err := s.InsertOutbound(s.ctx, []*interop.OutRow{outRow(chat, 1), outRow(chat, 2)})
	if !errors.Is(err, interop.ErrExists) {
		t.Fatal(err)
	}
	if s.get(t, 1) != nil {
		t.Fatal("a part of a refused event is stored")
	}
}

func (s suite) outboundStanza(t *testing.T) {
	chat := s.peer(t, 1).Chat
	s.insertOut(t, outRow(chat, 1))
	set := func(stanza string) bool {
		ok, err := s.SetStanza(s.ctx, "3EB01", []byte(stanza), 77)
		check(t, err)
		return ok
	}
	if !set("first") || set("second") {
		t.Fatal("a stanza was refused, or replaced")
	}
	row := s.get(t, 1)
	if string(row.Stanza) != "first" || row.State != interop.PartEncrypted || row.Changed != 77 || row.Plaintext == nil {
		t.Fatalf("got %+v", row)
	}
}

func (s suite) outboundTransitions(t *testing.T) {
	chat := s.peer(t, 1).Chat
	type try struct {
		to   interop.PartState
		want bool
	}
	for i, tries := range [][]try{
		{{interop.PartSent, true}, {interop.PartSent, false}, {interop.PartDelivered, true}, {interop.PartSent, false},
			{interop.PartRead, true}, {interop.PartDelivered, false}, {interop.PartFailed, false}},
		{{interop.PartRead, true}, {interop.PartSent, false}},
		{{interop.PartFailed, true}, {interop.PartFailed, false}, {interop.PartSent, false}, {interop.PartRead, false}},
		{{interop.PartDelivered, true}, {interop.PartFailed, true}, {interop.PartRead, false}},
	} {
		seq := int64(i + 1)
		s.insertOut(t, outRow(chat, seq))
		id := fmt.Sprint("3EB0", seq)
		_, err := s.SetStanza(s.ctx, id, []byte("x"), 1)
		check(t, err)
		at := interop.PartEncrypted
		for _, try := range tries {
			var changed bool
			if try.to == interop.PartFailed {
				changed, err = s.FailOutbound(s.ctx, id, interop.ReasonGone, 404, 5)
			} else {
				changed, err = s.AdvanceOutbound(s.ctx, id, try.to, 5)
			}
			check(t, err)
			if changed != try.want {
				t.Fatalf("row %d from %d to %d changed: %v", i, at, try.to, changed)
			}
			if changed {
				at = try.to
			}
			row := s.get(t, seq)
			if row.State != at || row.Stanza != nil {
				t.Fatalf("row %d: %+v, want state %d and no stanza", i, row, at)
			}
			if at == interop.PartFailed && (row.Reason != interop.ReasonGone || row.Code != 404) {
				t.Fatalf("row %d failed without its reason: %+v", i, row)
			}
		}
	}
}

func (s suite) pendingOut(t *testing.T, chat string, after int64, limit int) (seqs []int64) {
	t.Helper()
	rows, err := s.PendingOutbound(s.ctx, chat, after, limit)
	check(t, err)
	for _, r := range rows {
		seqs = append(seqs, r.Seq)
		if r.Plaintext == nil {
			t.Fatal("a pending part without its plaintext")
		}
	}
	return seqs
}

func (s suite) chats(t *testing.T) map[string]bool {
	t.Helper()
	list, err := s.OutboundChats(s.ctx)
	check(t, err)
	set := make(map[string]bool)
	for _, c := range list {
		if set[c] {
			t.Fatal("a chat is listed twice")
		}
		set[c] = true
	}
	return set
}

func (s suite) outboundPages(t *testing.T) {
	a, b := s.peer(t, 1).Chat, s.peer(t, 2).Chat
	s.insertOut(t, outRow(a, 30), outRow(a, 10), outRow(b, 15), outRow(a, 20))
	_, err := s.SetStanza(s.ctx, "3EB010", []byte("x"), 1)
	check(t, err)
	equal(t, "first page", s.pendingOut(t, a, 0, 2), []int64{10, 20})
	equal(t, "second page", s.pendingOut(t, a, 20, 2), []int64{30})
	equal(t, "chats", s.chats(t), map[string]bool{a: true, b: true})
	_, err = s.FailOutbound(s.ctx, "3EB015", interop.ReasonGone, 404, 1)
	check(t, err)
	equal(t, "chats", s.chats(t), map[string]bool{a: true})
}

func (s suite) resends(t *testing.T, chat string) []*interop.OutRow {
	t.Helper()
	rows, err := s.ResendsOutbound(s.ctx, chat, 10)
	check(t, err)
	return rows
}

func (s suite) outboundRetry(t *testing.T) {
	chat := s.peer(t, 1).Chat
	s.insertOut(t, outRow(chat, 1))
	advance := func(to interop.PartState) {
		_, err := s.AdvanceOutbound(s.ctx, "3EB01", to, 5)
		check(t, err)
	}
	advance(interop.PartSent)
	equal(t, "nothing to do", len(s.chats(t)), 0)
	req := &interop.RetryRequest{Count: 2, Timestamp: 9, RegistrationID: 77, Bundle: &e2ee.Bundle{RegistrationID: 77, PreKey: &e2ee.BundleKey{ID: 5}}}
	req.Bundle.Signed.Signature[63] = 9
	check(t, s.SetRetry(s.ctx, "3EB01", req, "mark"))
	equal(t, "chats", s.chats(t), map[string]bool{chat: true})
	rows := s.resends(t, chat)
	if len(rows) != 1 || rows[0].RetryLast != "mark" || rows[0].Plaintext == nil {
		t.Fatalf("got %+v", rows)
	}
	equal(t, "request", rows[0].Retry, req)
	advance(interop.PartDelivered)
	equal(t, "the request outlives a receipt", len(s.resends(t, chat)), 1)
	for _, answer := range []string{"answer", "another"} {
		ok, err := s.SetAnswer(s.ctx, "3EB01", []byte(answer))
		check(t, err)
		rows = s.resends(t, chat)
		if !ok || len(rows) != 1 || string(rows[0].Stanza) != answer || rows[0].Retry != nil {
			t.Fatalf("got %v %+v", ok, rows)
		}
		equal(t, "not among the pending", len(s.pendingOut(t, chat, 0, 10)), 0)
	}
	equal(t, "answers", rows[0].Answers, 2)
	advance(interop.PartSent) // the ack of the answer
	equal(t, "state", s.get(t, 1).State, interop.PartDelivered)
	equal(t, "acked", len(s.chats(t)), 0)
	check(t, s.SetRetry(s.ctx, "3EB01", req, "mark 2"))
	_, err := s.SetAnswer(s.ctx, "3EB01", nil)
	check(t, err)
	equal(t, "dropped", len(s.chats(t)), 0)
	_, err = s.FailOutbound(s.ctx, "3EB01", interop.ReasonUnreadable, 491, 6)
	check(t, err)
	ok, err := s.SetAnswer(s.ctx, "3EB01", []byte("late"))
	check(t, err)
	if ok || s.get(t, 1).Stanza != nil {
		t.Fatal("a failed part was answered for")
	}
}

func (s suite) due(t *testing.T, after int64, limit int) (seqs []int64) {
	t.Helper()
	rows, err := s.DueStatuses(s.ctx, after, limit)
	check(t, err)
	for _, r := range rows {
		seqs = append(seqs, r.Seq)
	}
	return seqs
}

func (s suite) outboundStatuses(t *testing.T) {
	chat := s.peer(t, 1).Chat
	s.insertOut(t, outRow(chat, 3), outRow(chat, 1), outRow(chat, 2))
	equal(t, "queued", len(s.due(t, 0, 10)), 0)
	for _, id := range []string{"3EB01", "3EB02", "3EB03"} {
		_, err := s.AdvanceOutbound(s.ctx, id, interop.PartSent, 5)
		check(t, err)
	}
	equal(t, "due", s.due(t, 0, 2), []int64{1, 2})
	equal(t, "next page", s.due(t, 2, 2), []int64{3})
	rows, err := s.OutboundParts(s.ctx, []string{"3EB01", "3EB02"})
	check(t, err)
	_, err = s.AdvanceOutbound(s.ctx, "3EB02", interop.PartDelivered, 6) // between reading and reporting
	check(t, err)
	check(t, s.SetReported(s.ctx, rows, interop.OutSent))
	equal(t, "still due", s.due(t, 0, 10), []int64{2, 3})
	equal(t, "reported", s.get(t, 2).Reported, interop.OutSent)
	_, err = s.FailOutbound(s.ctx, "3EB01", interop.ReasonUnreadable, 491, 6)
	check(t, err)
	equal(t, "due again", s.due(t, 0, 10), []int64{1, 2, 3})
}

func (s suite) outboundPrune(t *testing.T) {
	chat := s.peer(t, 1).Chat
	for seq := range int64(6) {
		row := outRow(chat, seq+1)
		row.Created = 100 + seq + 1
		s.insertOut(t, row)
		if seq+1 == 2 {
			continue // stays queued
		}
		id := row.StanzaID
		_, err := s.AdvanceOutbound(s.ctx, id, interop.PartSent, 5)
		check(t, err)
		if seq+1 != 3 { // 3 stays unreported
			rows, err := s.OutboundParts(s.ctx, []string{id})
			check(t, err)
			check(t, s.SetReported(s.ctx, rows, interop.OutSent))
		}
	}
	kept := func() (rows, texts []int64) {
		for seq := range int64(6) {
			if row := s.get(t, seq+1); row != nil {
				rows = append(rows, seq+1)
				if row.Plaintext != nil {
					texts = append(texts, seq+1)
				}
			}
		}
		return rows, texts
	}
	n, err := s.PruneOutbound(s.ctx, 104, 100, 0, 10)
	check(t, err)
	rows, texts := kept()
	equal(t, "count", n, 2)
	equal(t, "rows", rows, []int64{1, 2, 3, 4, 5, 6})
	equal(t, "texts in the window", texts, []int64{2, 4, 5, 6})
	_, err = s.PruneOutbound(s.ctx, 0, 2, 0, 10)
	check(t, err)
	_, texts = kept()
	equal(t, "the newest two, and what is queued", texts, []int64{2, 5, 6})
	_, err = s.PruneOutbound(s.ctx, 0, 100, 105, 1)
	check(t, err)
	_, err = s.PruneOutbound(s.ctx, 0, 100, 105, 10)
	check(t, err)
	rows, _ = kept()
	equal(t, "rows after the cut, queued or unreported", rows, []int64{2, 3, 5, 6})
}
