package e2e_test

import (
	"bytes"
	"crypto/rand"
	"image"
	"image/color"
	"image/jpeg"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/bridge/parts"
)

// part is one story of several that play in the same world, one after another.
func (s *scene) part(name string, play func(s *scene)) {
	s.t.Run(name, func(t *testing.T) {
		part := *s
		part.t = t
		play(&part)
	})
}

// say sends an event of a kind that SendText has no words for.
func (s *scene) say(room, kind string, content any) string {
	s.t.Helper()
	return must(s.person.Send(s.ctx, room, kind, rand.Text(), content))(s.t)
}

// reply answers an event with a text.
func (s *scene) reply(room, to, text string) string {
	s.t.Helper()
	return s.say(room, "m.room.message", map[string]any{
		"msgtype": "m.text", "body": text, "m.relates_to": map[string]any{"m.in_reply_to": map[string]any{"event_id": to}},
	})
}

// edit changes a text.
func (s *scene) edit(room, event, text string) string {
	s.t.Helper()
	return s.say(room, "m.room.message", map[string]any{
		"msgtype": "m.text", "body": "* " + text, "m.new_content": map[string]any{"msgtype": "m.text", "body": text},
		"m.relates_to": map[string]any{"rel_type": "m.replace", "event_id": event},
	})
}

// phoneSends makes the phone send something to alice and returns its id.
func (s *scene) phoneSends(p parts.Phone, c parts.Content) string {
	s.t.Helper()
	c.To = s.identifier
	return must(s.Gatekeeper.Send(s.ctx, p.Phone, c))(s.t)
}

// phoneSees waits for an event of the phone's.
func (s *scene) phoneSees(p parts.Phone, what string, match func(*parts.PhoneEvent) bool) *parts.PhoneEvent {
	s.t.Helper()
	return must(s.Gatekeeper.Expect(s.ctx, p.Phone, what, match))(s.t)
}

// roomShows waits for an event in the room.
func (s *scene) roomShows(room, what string, match func(*parts.Event) bool) *parts.Event {
	s.t.Helper()
	return must(s.alice.Expect(s.ctx, what, func(e *parts.Event) bool { return e.RoomID == room && match(e) }))(s.t)
}

// raw is a message of the phone's that the control API has no words for.
func raw(t *testing.T, m *waE2E.Message) parts.Content {
	t.Helper()
	return parts.Content{Kind: "raw", Message: must(proto.Marshal(m))(t)}
}

// photo is a JPEG of a few hundred bytes.
func photo(t *testing.T) []byte {
	t.Helper()
	picture := image.NewRGBA(image.Rect(0, 0, 24, 16))
	for x := range 24 {
		for y := range 16 {
			picture.Set(x, y, color.RGBA{uint8(10 * x), uint8(15 * y), 120, 255})
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, picture, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// phonePhoto makes the phone send a photo and returns its id and its event.
func (s *scene) phonePhoto(room string, p parts.Phone, caption string) (id string, event *parts.Event) {
	s.t.Helper()
	id = s.phoneSends(p, parts.Content{Kind: "image", Data: photo(s.t), Caption: caption})
	return id, s.roomShows(room, "a photo", func(e *parts.Event) bool {
		m := e.Message()
		return m.MsgType == "m.image" && m.Body == caption
	})
}

func TestRepliesPointAtTheirMessageOnTheOtherSide(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	mine := s.toPhone(room, ben, "mine")
	mineThere := s.onPhone(ben, "mine").ID
	theirsThere := must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "theirs"))(t)
	theirs := s.inRoom(room, "theirs").ID

	onPhone := func(s *scene, text, to, quoted string) {
		got := s.onPhone(ben, text)
		if got.ReplyTo != to || got.Quoted != quoted {
			s.t.Errorf("the phone shows it as an answer to %q, which says %q", got.ReplyTo, got.Quoted)
		}
	}
	inRoom := func(s *scene, text, to string) {
		if got := s.inRoom(room, text).Relation().Reply.Event; got != to {
			s.t.Errorf("the room shows it as an answer to %q, not %q", got, to)
		}
	}
	s.part("from Matrix, to the other's text", func(s *scene) {
		s.reply(room, theirs, "I answer you")
		onPhone(s, "I answer you", theirsThere, "theirs")
	})
	s.part("from Matrix, to one's own text", func(s *scene) {
		s.reply(room, mine, "I answer myself")
		onPhone(s, "I answer myself", mineThere, "mine")
	})
	s.part("from WhatsApp, to the other's text", func(s *scene) {
		s.phoneSends(ben, parts.Content{Text: "you answer me", ReplyTo: mineThere})
		inRoom(s, "you answer me", mine)
	})
	s.part("from WhatsApp, to one's own text", func(s *scene) {
		s.phoneSends(ben, parts.Content{Text: "you answer yourself", ReplyTo: theirsThere})
		inRoom(s, "you answer yourself", theirs)
	})
	s.part("both ways, to a photo", func(s *scene) {
		id, event := s.phonePhoto(room, ben, "look")
		s.reply(room, event.ID, "I see")
		onPhone(s, "I see", id, "📷 look")
		s.phoneSends(ben, parts.Content{Text: "do you?", ReplyTo: id})
		inRoom(s, "do you?", event.ID)
	})
	s.part("from Matrix, to what is not on the phone", func(s *scene) {
		notice := s.roomShows(room, "the first notice", func(e *parts.Event) bool { return e.Message().MsgType == "m.notice" })
		s.reply(room, notice.ID, "I answer the bridge")
		onPhone(s, "I answer the bridge", "", "")
	})
	s.part("from WhatsApp, to what is not in the room", func(s *scene) {
		s.phoneSends(ben, raw(s.t, &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
			Text: proto.String("as I said"),
			ContextInfo: &waE2E.ContextInfo{
				StanzaID: proto.String("3EB0LONGAGO"), Participant: &ben.JID, QuotedMessage: &waE2E.Message{Conversation: proto.String("said long ago")},
			},
		}}))
		got := s.roomShows(room, "the answer", func(e *parts.Event) bool { return strings.Contains(e.Message().Body, "as I said") })
		if r := got.Relation().Reply.Event; r != "" || !strings.Contains(got.Message().Body, "said long ago") {
			s.t.Errorf("the room shows %q as an answer to %q", got.Message().Body, r)
		}
	})
	s.part("from Matrix, with quoted text once the phone has refused the form", func(s *scene) {
		must(s.Gatekeeper.AddFault(s.ctx, parts.Fault{Kind: "nack", Identifier: s.identifier, Match: "message", Count: 1, Code: 491}))(s.t)
		event := s.reply(room, theirs, "in another form")
		s.phoneSees(ben, "the answer with a quote", func(e *parts.PhoneEvent) bool {
			return e.Kind == "message" && e.ReplyTo == "" && strings.HasPrefix(e.Text, "> Ben: theirs\n") && strings.HasSuffix(e.Text, "in another form")
		})
		s.roomShows(room, "its delivery", func(e *parts.Event) bool { return statusOf(e, event) == "delivered" })
		// From now on it is known.
		s.reply(room, theirs, "and again")
		s.phoneSees(ben, "the second answer with a quote", func(e *parts.PhoneEvent) bool {
			return e.Kind == "message" && e.Text == "> Ben: theirs\nand again"
		})
	})
}

func TestReactionsAreAddedChangedAndRemovedBothWays(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	mine := s.toPhone(room, ben, "mine")
	mineThere := s.onPhone(ben, "mine").ID
	theirsThere := must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "theirs"))(t)
	theirs := s.inRoom(room, "theirs")

	onPhone := func(s *scene, target, emoji string, after int64) int64 {
		got := s.phoneSees(ben, "the reaction "+emoji, func(e *parts.PhoneEvent) bool {
			return e.Seq > after && e.Reaction != nil && e.Reaction.Target == target && e.Reaction.Emoji == emoji
		})
		return got.Seq
	}
	inRoom := func(s *scene, target, emoji string) *parts.Event {
		return s.roomShows(room, "the reaction "+emoji, func(e *parts.Event) bool {
			r := e.Relation()
			return e.Type == "m.reaction" && e.Sender == theirs.Sender && r.Event == target && r.Key == emoji
		})
	}
	gone := func(s *scene, reaction string) {
		s.roomShows(room, "the end of a reaction", func(e *parts.Event) bool { return e.Removes() == reaction })
	}
	s.part("from Matrix", func(s *scene) {
		first := must(s.person.React(s.ctx, room, theirs.ID, "👍"))(s.t)
		seq := onPhone(s, theirsThere, "👍", 0)
		// The phone shows one reaction of a person, so the first one goes in the room too.
		second := must(s.person.React(s.ctx, room, theirs.ID, "❤"))(s.t)
		seq = onPhone(s, theirsThere, "❤️", seq)
		gone(s, first)
		s.ok(s.person.Redact(s.ctx, room, second))
		onPhone(s, theirsThere, "", seq)
	})
	s.part("from Matrix, to one's own message", func(s *scene) {
		must(s.person.React(s.ctx, room, mine, "🎉"))(s.t)
		got := s.phoneSees(ben, "the reaction 🎉", func(e *parts.PhoneEvent) bool { return e.Reaction != nil && e.Reaction.Emoji == "🎉" })
		if got.Reaction.Target != mineThere || !got.Reaction.FromMe {
			s.t.Errorf("it is a reaction to %+v, not to %s", got.Reaction, mineThere)
		}
	})
	s.part("from WhatsApp", func(s *scene) {
		for _, target := range []struct{ there, here string }{{mineThere, mine}, {theirsThere, theirs.ID}} {
			s.phoneSends(ben, parts.Content{Kind: "reaction", Target: target.there, Emoji: "😂"})
			first := inRoom(s, target.here, "😂")
			s.phoneSends(ben, parts.Content{Kind: "reaction", Target: target.there, Emoji: "😮"})
			second := inRoom(s, target.here, "😮")
			gone(s, first.ID)
			s.phoneSends(ben, parts.Content{Kind: "reaction", Target: target.there})
			gone(s, second.ID)
		}
	})
	s.part("both ways, to a photo", func(s *scene) {
		id, event := s.phonePhoto(room, ben, "look")
		must(s.person.React(s.ctx, room, event.ID, "👀"))(s.t)
		onPhone(s, id, "👀", 0)
		s.phoneSends(ben, parts.Content{Kind: "reaction", Target: id, Emoji: "🙈"})
		inRoom(s, event.ID, "🙈")
	})
}

func TestAReactionThatIsFasterThanItsMessageWaitsForItOverARestart(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.toMatrix(room, ben, "before")
	// The message gets lost on the way and comes again after the next login.
	must(s.Gatekeeper.AddFault(s.ctx, parts.Fault{Kind: "drop", Identifier: s.identifier, Match: "message", Count: 1}))(t)
	late := must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "late"))(t)
	s.phoneSends(ben, parts.Content{Kind: "reaction", Target: late, Emoji: "👏"})
	s.toMatrix(room, ben, "what comes behind the reaction")
	isReaction := func(e *parts.Event) bool { return e.RoomID == room && e.Type == "m.reaction" }
	if seen := s.alice.Seen(isReaction); len(seen) > 0 {
		t.Fatalf("a reaction to nothing: %s", seen[0].Content)
	}
	s.Bridge.Kill()
	s.ok(s.Bridge.Start(s.ctx))
	target := s.inRoom(room, "late")
	got := must(s.alice.Expect(s.ctx, "the reaction", isReaction))(t).Relation()
	if got.Event != target.ID || got.Key != "👏" {
		t.Errorf("the reaction is %+v", got)
	}
}

func TestEditsAndDeletions(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.part("an edit from WhatsApp changes the message", func(s *scene) {
		id := must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "helo"))(s.t)
		old := s.inRoom(room, "helo")
		s.phoneSends(ben, parts.Content{Kind: "edit", Target: id, Text: "hello"})
		got := s.roomShows(room, "the edit", func(e *parts.Event) bool {
			r := e.Relation()
			return e.Sender == old.Sender && r.Type == "m.replace" && r.Event == old.ID
		})
		if !strings.Contains(string(got.Content), `"hello"`) {
			s.t.Errorf("the new text is %s", got.Content)
		}
	})
	s.part("a deletion from WhatsApp removes the message", func(s *scene) {
		id := must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "said too much"))(s.t)
		old := s.inRoom(room, "said too much")
		s.phoneSends(ben, parts.Content{Kind: "revoke", Target: id})
		s.roomShows(room, "the deletion", func(e *parts.Event) bool { return e.Removes() == old.ID })
	})
	s.part("an edit from Matrix goes as a new message that says so", func(s *scene) {
		old := s.toPhone(room, ben, "helo from Matrix")
		there := s.onPhone(ben, "helo from Matrix").ID
		event := s.edit(room, old, "hello from Matrix")
		got := s.phoneSees(ben, "the edit", func(e *parts.PhoneEvent) bool {
			return e.Kind == "message" && strings.Contains(e.Text, "Edited: hello from Matrix")
		})
		if got.ReplyTo != there || got.Quoted != "helo from Matrix" {
			s.t.Errorf("it quotes %q, which says %q", got.ReplyTo, got.Quoted)
		}
		s.roomShows(room, "the edit's delivery", func(e *parts.Event) bool { return statusOf(e, event) == "delivered" })
	})
	s.part("a deletion from Matrix is told to be none there", func(s *scene) {
		event := s.toPhone(room, ben, "cannot be taken back")
		s.ok(s.person.Redact(s.ctx, room, event))
		s.roomShows(room, "a notice", func(e *parts.Event) bool {
			m := e.Message()
			return e.Sender == s.Bot && m.MsgType == "m.notice" && strings.Contains(strings.ToLower(m.Body), "delet")
		})
		s.toPhone(room, ben, "and the chat goes on")
	})
}
