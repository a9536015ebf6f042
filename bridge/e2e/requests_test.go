package e2e_test

import (
	"slices"
	"strings"
	"testing"

	"postern/bridge/parts"
)

// request waits for the room in which a stranger asks, and goes there.
func (s *scene) request(who parts.Phone) string {
	s.t.Helper()
	invite := must(s.alice.ExpectInvite(s.ctx, "the request of "+who.Name, func(i parts.Invite) bool { return !i.Space && i.Shows(who.Name, who.Phone) }))(s.t)
	s.ok(s.alice.Join(s.ctx, invite.Room))
	return invite.Room
}

// receiptsOf are the receipts that a phone has got.
func (s *scene) receiptsOf(who parts.Phone) (list []parts.PhoneEvent) {
	s.t.Helper()
	for _, e := range must(s.Gatekeeper.Events(s.ctx, who.Phone, 0, 0))(s.t) {
		if e.Kind == "receipt" {
			list = append(list, e)
		}
	}
	return list
}

// delivered waits until a phone knows that its message has arrived.
func (s *scene) delivered(who parts.Phone, id string) {
	s.t.Helper()
	s.phoneSees(who, "the delivery receipt", func(e *parts.PhoneEvent) bool {
		return e.Kind == "receipt" && e.Type == "delivery" && slices.Contains(e.IDs, id)
	})
}

// botSays waits for the bot's words in a room, which may stand at the beginning of a sentence.
func (s *scene) botSays(room, words string) {
	s.t.Helper()
	must(s.alice.Expect(s.ctx, words, func(e *parts.Event) bool {
		return e.RoomID == room && e.Sender == s.Bot && strings.Contains(strings.ToLower(e.Message().Body), strings.ToLower(words))
	}))(s.t)
}

func TestAStrangerAsksAndAliceDecides(t *testing.T) {
	t.Parallel()
	s := open(t, setting{config: map[string]any{"network.requests.policy": "ask"}})

	// Carla writes. Alice reads it, and Carla learns nothing of that.
	carla := s.phone("Carla", true)
	hello := must(s.Gatekeeper.Say(s.ctx, carla.Phone, s.identifier, "is this Alice?"))(t)
	room := s.request(carla)
	s.botSays(room, "for the first time")
	read := s.inRoom(room, "is this Alice?")
	s.ok(s.person.Read(s.ctx, room, read.ID))
	s.botSays(room, "until you accept")
	if got := s.receiptsOf(carla); len(got) != 0 {
		t.Errorf("Carla's phone has %v before alice has answered", got)
	}

	// She answers, and that is a yes.
	s.toPhone(room, carla, "yes, who are you?")
	s.delivered(carla, hello)

	// Dora is accepted with a word, in her room.
	dora := s.phone("Dora", true)
	id := must(s.Gatekeeper.Say(s.ctx, dora.Phone, s.identifier, "do you remember me?"))(t)
	room = s.request(dora)
	s.inRoom(room, "do you remember me?")
	must(s.person.SendText(s.ctx, room, "!postern accept"))(t)
	s.botSays(room, "Accepted")
	s.delivered(dora, id)

	// Eve is declined. The room is closed, and what she writes is not shown.
	eve := s.phone("Eve", true)
	must(s.Gatekeeper.Say(s.ctx, eve.Phone, s.identifier, "buy this"))(t)
	room = s.request(eve)
	s.inRoom(room, "buy this")
	must(s.person.SendText(s.ctx, room, "!postern decline"))(t)
	s.botSays(s.management, "Declined")
	must(s.Gatekeeper.Say(s.ctx, eve.Phone, s.identifier, "buy that"))(t)

	// She changes her mind, and what Eve writes now is shown in a new room.
	must(s.person.SendText(s.ctx, s.management, "accept Eve"))(t)
	s.botSays(s.management, "Accepted")
	again := s.request(eve)
	last := must(s.Gatekeeper.Say(s.ctx, eve.Phone, s.identifier, "sorry"))(t)
	s.inRoom(again, "sorry")
	s.delivered(eve, last)
	for _, e := range s.receiptsOf(eve) {
		if !slices.Equal(e.IDs, []string{last}) {
			t.Errorf("Eve's phone has a receipt for %v", e.IDs)
		}
	}
}
