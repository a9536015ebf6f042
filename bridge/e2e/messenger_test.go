package e2e_test

import (
	"os"
	"strings"
	"testing"

	"postern/bridge/parts"
)

// TestMessengerIsASecondGatekeeperOnTheSameCore goes as far as the profile, whose
// every value is assumed, can be gone with: the payload of its messages is not
// carried, and that is said wherever somebody would count on it.
func TestMessengerIsASecondGatekeeperOnTheSameCore(t *testing.T) {
	t.Parallel()
	if os.Getenv("POSTERN_GATEKEEPER") != "" {
		t.Skip("SKIPPED: the gatekeeper that is given is one for all stories, and not Messenger's")
	}
	s := open(t, setting{sandbox: []string{"--profile", "messenger"}, noLogin: true})
	if s.Gatekeeper.Info.Profile != "messenger" {
		t.Fatalf("the gatekeeper is %s", s.Gatekeeper.Info.Profile)
	}
	// The gatekeeper takes no token with another audience, and no stream of another
	// product (PROTOCOL.md 2.2 and 4.3).
	login := must(s.LogIn(s.ctx, s.person))(t)
	s.management, s.identifier = login.Room, login.Identifier
	if !strings.Contains(login.Consent, "person on Messenger") || strings.Contains(login.Consent, "WhatsApp") {
		t.Errorf("the consent does not speak of Messenger: %s", login.Consent)
	}
	if !strings.Contains(login.Consent, "cannot read or write Messenger's messages") {
		t.Errorf("the consent does not say what is missing: %s", login.Consent)
	}

	mia := s.phone("Mia", true)
	room := s.startChat(mia)
	must(s.alice.Expect(s.ctx, "the first notice", func(e *parts.Event) bool {
		return e.RoomID == room && e.Message().MsgType == "m.notice" && strings.Contains(e.Message().Body, "third-party chat with Messenger")
	}))(t)

	// What cannot be carried is refused in the room, with the reason, and never leaves.
	for _, text := range []string{"the first", "the second"} {
		event := must(s.alice.SendText(s.ctx, room, text))(t)
		must(s.alice.Expect(s.ctx, "the refusal of "+text, func(e *parts.Event) bool {
			return e.RoomID == room && e.Sender == s.Bot && e.Message().MsgType == "m.notice" && relatesTo(e, event) &&
				strings.Contains(e.Message().Body, "Messenger's form")
		}))(t)
		must(s.alice.Expect(s.ctx, "the status of "+text, func(e *parts.Event) bool {
			return strings.HasPrefix(statusOf(e, event), "fail")
		}))(t)
	}
	for _, e := range must(s.Gatekeeper.Events(s.ctx, mia.Phone, 0, 0))(t) {
		if e.Kind != "ping" { // whether she may be written to
			t.Errorf("the phone has seen %+v", e)
		}
	}
	// Who is not there is refused under Messenger's name.
	dora := s.phone("Dora", false)
	s.command("start-chat " + dora.Phone)
	must(s.person.Expect(s.ctx, "the refusal of a number", func(e *parts.Event) bool {
		return e.RoomID == s.management && e.Sender == s.Bot && strings.Contains(e.Message().Body, "is on Messenger but has not opted in")
	}))(t)
}
