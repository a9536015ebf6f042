package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"postern/bridge/parts"
)

// exchanged is a text that both sides have, to answer and to react to.
type exchanged struct {
	text  string
	event string // in the room
	there string // on the phone
}

// exchange sends a text each way.
func (s *story) exchange(ctx context.Context) (mine, theirs exchanged, err error) {
	ben, room := phones[0], s.kept.Rooms[phones[0].Name]
	mine.text, theirs.text = "Shall we meet at eight? ("+s.run+")", "At the station? ("+s.run+")"
	if mine.event, err = s.alice.SendText(ctx, room, mine.text); err != nil {
		return mine, theirs, err
	}
	there, err := s.world.Gatekeeper.Expect(ctx, ben.Phone, "alice's text", func(e *parts.PhoneEvent) bool {
		return e.Kind == "message" && e.Text == mine.text
	})
	if err != nil {
		return mine, theirs, err
	}
	mine.there = there.ID
	if theirs.there, err = s.world.Gatekeeper.Say(ctx, ben.Phone, s.kept.Identifier, theirs.text); err != nil {
		return mine, theirs, err
	}
	here, err := s.alice.Expect(ctx, "Ben's text", func(e *parts.Event) bool { return e.RoomID == room && e.Message().Body == theirs.text })
	if err != nil {
		return mine, theirs, err
	}
	theirs.event, s.ghost = here.ID, here.Sender
	return mine, theirs, nil
}

// replies lets each side answer the other's text.
func (s *story) replies(ctx context.Context) (err error) {
	ben, room := phones[0], s.kept.Rooms[phones[0].Name]
	if s.mine, s.theirs, err = s.exchange(ctx); err != nil {
		return err
	}
	text, start := "Yes, at the station. ("+s.run+")", time.Now()
	_, err = s.alice.Send(ctx, room, "m.room.message", rand.Text(), map[string]any{
		"msgtype": "m.text", "body": text, "m.relates_to": map[string]any{"m.in_reply_to": map[string]any{"event_id": s.theirs.event}},
	})
	if err != nil {
		return err
	}
	there, err := s.world.Gatekeeper.Expect(ctx, ben.Phone, "alice's answer", func(e *parts.PhoneEvent) bool { return e.Kind == "message" && e.Text == text })
	if err != nil {
		return err
	}
	if there.ReplyTo != s.theirs.there {
		return errors.New("the phone does not show alice's text as an answer to Ben's")
	}
	s.t.said("alice", ben.Name, "an answer to "+quoted(there.Quoted), text, time.Since(start))

	text, start = "See you at eight. ("+s.run+")", time.Now()
	if _, err := s.world.Gatekeeper.Send(ctx, ben.Phone, parts.Content{To: s.kept.Identifier, Text: text, ReplyTo: s.mine.there}); err != nil {
		return err
	}
	here, err := s.alice.Expect(ctx, "Ben's answer", func(e *parts.Event) bool { return e.RoomID == room && e.Message().Body == text })
	if err != nil {
		return err
	}
	if here.Relation().Reply.Event != s.mine.event {
		return errors.New("the room does not show Ben's text as an answer to alice's")
	}
	s.t.said(ben.Name, "alice", "an answer to "+quoted(s.mine.text), text, time.Since(start))
	return nil
}

func quoted(text string) string { return fmt.Sprintf("%q", text) }

// reactions lets each side react to the other's text and take that back.
func (s *story) reactions(ctx context.Context) error {
	ben, room := phones[0], s.kept.Rooms[phones[0].Name]
	onPhone := func(emoji string, after int64) (*parts.PhoneEvent, error) {
		return s.world.Gatekeeper.Expect(ctx, ben.Phone, "a reaction on Ben's phone", func(e *parts.PhoneEvent) bool {
			return e.Seq > after && e.Reaction != nil && e.Reaction.Target == s.theirs.there && e.Reaction.Emoji == emoji
		})
	}
	start := time.Now()
	reaction, err := s.alice.React(ctx, room, s.theirs.event, "👍")
	if err != nil {
		return err
	}
	added, err := onPhone("👍", 0)
	if err != nil {
		return err
	}
	s.t.held(fmt.Sprintf("alice's 👍 is on Ben's phone (%d ms)", time.Since(start).Milliseconds()))
	start = time.Now()
	if err := s.alice.Redact(ctx, room, reaction); err != nil {
		return err
	}
	if _, err := onPhone("", added.Seq); err != nil {
		return err
	}
	s.t.held(fmt.Sprintf("and is gone again (%d ms)", time.Since(start).Milliseconds()))
	return s.phoneReacts(ctx)
}

func (s *story) phoneReacts(ctx context.Context) error {
	ben, room := phones[0], s.kept.Rooms[phones[0].Name]
	react := func(emoji string) error {
		_, err := s.world.Gatekeeper.Send(ctx, ben.Phone, parts.Content{To: s.kept.Identifier, Kind: "reaction", Target: s.mine.there, Emoji: emoji})
		return err
	}
	start := time.Now()
	if err := react("🎉"); err != nil {
		return err
	}
	here, err := s.alice.Expect(ctx, "Ben's reaction", func(e *parts.Event) bool {
		r := e.Relation()
		return e.Type == "m.reaction" && e.RoomID == room && e.Sender == s.ghost && r.Event == s.mine.event && r.Key == "🎉"
	})
	if err != nil {
		return err
	}
	s.t.held(fmt.Sprintf("Ben's 🎉 is in the room (%d ms)", time.Since(start).Milliseconds()))
	start = time.Now()
	if err := react(""); err != nil {
		return err
	}
	if _, err := s.alice.Expect(ctx, "its end", func(e *parts.Event) bool { return e.Removes() == here.ID }); err != nil {
		return err
	}
	s.t.held(fmt.Sprintf("and is gone again (%d ms)", time.Since(start).Milliseconds()))
	return nil
}

// presence shows typing and read receipts. What the homeserver does not tell
// bridges is left out.
func (s *story) presence(ctx context.Context) error {
	if err := s.phoneTypesAndReads(ctx); err != nil {
		return err
	}
	if s.world.Homeserver.Kind == "dendrite" {
		s.t.note("Dendrite does not tell the bridge that alice types and reads, so that is not shown.")
		return nil
	}
	ben, room := phones[0], s.kept.Rooms[phones[0].Name]
	after, err := s.lastOnPhone(ctx, ben)
	if err != nil {
		return err
	}
	for _, typing := range []bool{true, false} {
		state, words, start := "composing", "Ben's phone shows that alice types (%d ms)", time.Now()
		if !typing {
			state, words = "paused", "and that she has stopped (%d ms)"
		}
		if err := s.alice.Typing(ctx, room, typing); err != nil {
			return err
		}
		seen, err := s.world.Gatekeeper.Expect(ctx, ben.Phone, "alice typing on Ben's phone", func(e *parts.PhoneEvent) bool {
			return e.Seq > after && e.Kind == "typing" && e.State == state
		})
		if err != nil {
			return err
		}
		after = seen.Seq
		s.t.held(fmt.Sprintf(words, time.Since(start).Milliseconds()))
	}
	start := time.Now()
	if err := s.alice.Read(ctx, room, s.theirs.event); err != nil {
		return err
	}
	_, err = s.world.Gatekeeper.Expect(ctx, ben.Phone, "alice's read receipt", func(e *parts.PhoneEvent) bool {
		return e.Kind == "receipt" && e.Type == "read" && slices.Contains(e.IDs, s.theirs.there)
	})
	if err != nil {
		return err
	}
	s.t.held(fmt.Sprintf("Ben's phone shows that alice has read %q (%d ms)", s.theirs.text, time.Since(start).Milliseconds()))
	return nil
}

func (s *story) phoneTypesAndReads(ctx context.Context) error {
	ben, room := phones[0], s.kept.Rooms[phones[0].Name]
	changes := 0 // of who types, that were looked at
	for _, typing := range []bool{true, false} {
		state, words, start := "composing", "the room shows that Ben types (%d ms)", time.Now()
		if !typing {
			state, words = "paused", "and that he has stopped (%d ms)"
		}
		if err := s.world.Gatekeeper.Typing(ctx, ben.Phone, s.kept.Identifier, state, false); err != nil {
			return err
		}
		n := 0
		_, err := s.alice.Expect(ctx, "Ben typing in the room", func(e *parts.Event) bool {
			users, ok := e.IsTyping()
			if !ok || e.RoomID != room {
				return false
			}
			n++
			return n > changes && slices.Contains(users, s.ghost) == typing
		})
		if err != nil {
			return err
		}
		changes = n
		s.t.held(fmt.Sprintf(words, time.Since(start).Milliseconds()))
	}
	start := time.Now()
	if err := s.world.Gatekeeper.Read(ctx, ben.Phone, s.kept.Identifier, false, s.mine.there); err != nil {
		return err
	}
	_, err := s.alice.Expect(ctx, "Ben's read receipt", func(e *parts.Event) bool {
		return e.RoomID == room && slices.Contains(e.ReadBy(s.mine.event), s.ghost)
	})
	if err != nil {
		return err
	}
	s.t.held(fmt.Sprintf("the room shows that Ben has read %q (%d ms)", s.mine.text, time.Since(start).Milliseconds()))
	return nil
}
