package e2e_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// presses does what a client does whose message requests have buttons.
func (s *scene) presses(room, kind string) {
	s.t.Helper()
	must(s.person.Send(s.ctx, room, kind, kind, map[string]any{}))(s.t)
}

// emptied waits until alice and, after her, the bot are not in a room any more.
func (s *scene) emptied(room string) {
	s.t.Helper()
	token := ""
	for what, secret := range must(s.Bridge.Secrets())(s.t) {
		if strings.Contains(what, "as_token") {
			token = secret
		}
	}
	if token == "" {
		s.t.Fatal("the bridge's token is not known")
	}
	for {
		err := s.Homeserver.Call(s.ctx, http.MethodGet, "/_matrix/client/v3/rooms/"+url.PathEscape(room)+"/joined_members", token, nil, nil)
		if err != nil && strings.Contains(err.Error(), "M_FORBIDDEN") && !slices.Contains(s.joined(s.person), room) {
			return
		}
		select {
		case <-s.ctx.Done():
			s.t.Fatal("somebody is still in the room")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// TestAClientWithButtonsAcceptsOneStrangerAndDeclinesAnother: the framework's events for that say what the commands say.
func TestAClientWithButtonsAcceptsOneStrangerAndDeclinesAnother(t *testing.T) {
	t.Parallel()
	s := open(t, setting{config: map[string]any{"network.requests.policy": "ask"}})

	carla := s.phone("Carla", true)
	hello := must(s.Gatekeeper.Say(s.ctx, carla.Phone, s.identifier, "is this Alice?"))(t)
	room := s.request(carla)
	s.inRoom(room, "is this Alice?")
	if got := s.receiptsOf(carla); len(got) != 0 {
		t.Errorf("Carla's phone has %v before alice has answered", got)
	}
	s.presses(room, "com.beeper.accept_message_request")
	s.delivered(carla, hello)
	s.toPhone(room, carla, "it is")

	eve := s.phone("Eve", true)
	must(s.Gatekeeper.Say(s.ctx, eve.Phone, s.identifier, "buy this"))(t)
	room = s.request(eve)
	s.inRoom(room, "buy this")
	s.presses(room, "com.beeper.delete_chat")
	s.emptied(room)
	must(s.Gatekeeper.Say(s.ctx, eve.Phone, s.identifier, "buy that"))(t)
	s.command("accept Eve")
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
	if mine, theirs := s.texts(again, "buy"); len(mine)+len(theirs) > 0 {
		t.Errorf("the new room shows %q", theirs)
	}

	// A chat that nobody asks for is only closed: what its person writes next makes a room again.
	s.presses(again, "com.beeper.delete_chat")
	s.emptied(again)
	must(s.Gatekeeper.Say(s.ctx, eve.Phone, s.identifier, "me again"))(t)
	s.inRoom(s.request(eve), "me again")
}
