package e2e_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/bridge/parts"
)

func TestReadReceiptsGoBothWays(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	first := s.toPhone(room, ben, "mine 1")
	second := s.toPhone(room, ben, "mine 2")
	ghost := s.toMatrix(room, ben, "theirs 1").Sender

	// The other person reads: the ghost's marker moves, and never back.
	ids := []string{s.onPhone(ben, "mine 1").ID, s.onPhone(ben, "mine 2").ID}
	s.ok(s.Gatekeeper.Read(s.ctx, ben.Phone, s.identifier, false, ids[0]))
	s.roomShows(room, "the ghost to have read the first text", func(e *parts.Event) bool { return slices.Contains(e.ReadBy(first), ghost) })
	s.ok(s.Gatekeeper.Read(s.ctx, ben.Phone, s.identifier, false, ids[1]))
	s.roomShows(room, "the ghost to have read the second text", func(e *parts.Event) bool { return slices.Contains(e.ReadBy(second), ghost) })

	// Alice reads several at once: the phone is told of all of them at once.
	var theirs []string
	for _, text := range []string{"theirs 2", "theirs 3", "theirs 4"} {
		theirs = append(theirs, must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, text))(t))
		s.inRoom(room, text)
	}
	s.ok(s.person.Read(s.ctx, room, s.inRoom(room, "theirs 4").ID))
	told := s.phoneSees(ben, "a read receipt", func(e *parts.PhoneEvent) bool { return e.Kind == "receipt" && e.Type == "read" })
	for _, id := range theirs {
		if !slices.Contains(told.IDs, id) {
			t.Errorf("the first read receipt is for %v, want all of %v in it", told.IDs, theirs)
		}
	}
	s.readOnPhone(ben, theirs...)
	last := must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "theirs 5"))(t)
	s.ok(s.person.Read(s.ctx, room, s.inRoom(room, "theirs 5").ID))
	s.readOnPhone(ben, last)
	if read := s.receipts(ben, "read"); len(read) != len(theirs)+2 { // theirs 1 and 5 too
		t.Errorf("the phone was told that %v were read, want each once", read)
	}
}

// readOnPhone waits until a phone knows that all these messages were read.
func (s *scene) readOnPhone(p parts.Phone, ids ...string) {
	s.t.Helper()
	open := map[string]bool{}
	for _, id := range ids {
		open[id] = true
	}
	s.phoneSees(p, "read receipts", func(e *parts.PhoneEvent) bool {
		if e.Kind == "receipt" && e.Type == "read" {
			for _, id := range e.IDs {
				delete(open, id)
			}
		}
		return len(open) == 0
	})
}

// receipts are the ids that a phone has had receipts of a type for, in order.
func (s *scene) receipts(p parts.Phone, kind string) (ids []string) {
	s.t.Helper()
	var after int64
	for {
		events := must(s.Gatekeeper.Events(s.ctx, p.Phone, after, 0))(s.t)
		if len(events) == 0 {
			return ids
		}
		for _, e := range events {
			after = e.Seq
			if e.Kind == "receipt" && e.Type == kind {
				ids = append(ids, e.IDs...)
			}
		}
	}
}

func TestWhoSwitchesReadReceiptsOffSendsAndSeesNone(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	mine := s.toPhone(room, ben, "mine")
	since := time.Now().Add(-time.Millisecond)
	s.command("read-receipts off")
	must(s.BotSays(s.ctx, s.person, s.management, since, "receipts are off"))(t)

	theirs := s.toMatrix(room, ben, "theirs 1")
	s.ok(s.person.Read(s.ctx, room, theirs.ID))
	s.ok(s.Gatekeeper.Read(s.ctx, ben.Phone, s.identifier, false, s.onPhone(ben, "mine").ID))
	// What comes later has come, so the receipts would have.
	s.toMatrix(room, ben, "theirs 2")
	s.toPhone(room, ben, "mine 2")
	if read := s.receipts(ben, "read"); len(read) > 0 {
		t.Errorf("the phone was told that %v were read", read)
	}
	if seen := s.alice.Seen(func(e *parts.Event) bool { return slices.Contains(e.ReadBy(mine), theirs.Sender) }); len(seen) > 0 {
		t.Errorf("the room shows %s", seen[0].Content)
	}

	since = time.Now().Add(-time.Millisecond)
	s.command("read-receipts on")
	must(s.BotSays(s.ctx, s.person, s.management, since, "receipts are on"))(t)
	third := must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "theirs 3"))(t)
	s.ok(s.person.Read(s.ctx, room, s.inRoom(room, "theirs 3").ID))
	s.readOnPhone(ben, third)
}

func TestWhatMatrixHasIsDeliveredOnThePhone(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	id := must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "theirs"))(t)
	s.inRoom(room, "theirs")
	s.phoneSees(ben, "the delivery receipt", func(e *parts.PhoneEvent) bool {
		return e.Kind == "receipt" && e.Type == "delivery" && slices.Contains(e.IDs, id)
	})
}

func TestTypingIsShownBothWays(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	ghost := s.toMatrix(room, ben, "hello").Sender

	s.ok(s.person.Typing(s.ctx, room, true))
	begun := s.phoneSees(ben, "alice typing", func(e *parts.PhoneEvent) bool { return e.Kind == "typing" && e.State == "composing" })
	s.ok(s.person.Typing(s.ctx, room, false))
	s.phoneSees(ben, "alice pausing", func(e *parts.PhoneEvent) bool {
		return e.Kind == "typing" && e.State == "paused" && e.Seq > begun.Seq
	})

	types := func(what string, want bool, after int) int {
		n := 0
		s.roomShows(room, what, func(e *parts.Event) bool {
			users, ok := e.IsTyping()
			if !ok {
				return false
			}
			n++
			return n > after && slices.Contains(users, ghost) == want
		})
		return n
	}
	s.ok(s.Gatekeeper.Typing(s.ctx, ben.Phone, s.identifier, "composing", false))
	seen := types("the ghost typing", true, 0)
	s.ok(s.Gatekeeper.Typing(s.ctx, ben.Phone, s.identifier, "paused", false))
	seen = types("the ghost pausing", false, seen)
	// A voice message that is being recorded looks the same; what was written ends it.
	s.ok(s.Gatekeeper.Typing(s.ctx, ben.Phone, s.identifier, "composing", true))
	seen = types("the ghost recording", true, seen)
	s.toMatrix(room, ben, "done")
	types("the ghost done", false, seen)
}

func TestANewNameOfTheOtherPersonIsShown(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	ghost := s.toMatrix(room, ben, "I am Ben").Sender
	named := func(name string) {
		s.roomShows(room, "the ghost's name "+name, func(e *parts.Event) bool {
			var content struct {
				Name string `json:"displayname"`
			}
			return e.Type == "m.room.member" && e.StateKey != nil && *e.StateKey == ghost &&
				json.Unmarshal(e.Content, &content) == nil && strings.HasPrefix(content.Name, name)
		})
		s.roomShows(room, "the room's name "+name, func(e *parts.Event) bool {
			var content struct{ Name string }
			return e.Type == "m.room.name" && json.Unmarshal(e.Content, &content) == nil && strings.HasPrefix(content.Name, name)
		})
	}
	named("Ben")
	s.ok(s.Gatekeeper.Rename(s.ctx, ben.Phone, "Benjamin"))
	if got := s.toMatrix(room, ben, "now I am Benjamin").Sender; got != ghost {
		t.Errorf("the ghost was %s and is %s", ghost, got)
	}
	named("Benjamin")
}
