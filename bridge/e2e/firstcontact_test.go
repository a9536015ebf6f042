package e2e_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/bridge/parts"
)

// pings are the questions whether alice may write that a phone has shown.
func (s *scene) pings(who parts.Phone) (n int) {
	s.t.Helper()
	for _, e := range must(s.Gatekeeper.Events(s.ctx, who.Phone, 0, 0))(s.t) {
		if e.Kind == "ping" {
			n++
		}
	}
	return n
}

// answers types a command in the management room and waits for its answer.
func (s *scene) answers(text, answer string) {
	s.t.Helper()
	since := time.Now().Add(-time.Millisecond)
	s.command(text)
	must(s.BotSays(s.ctx, s.person, s.management, since, answer))(s.t)
}

// refused writes in a room and waits until the bot says that it was not sent, and why.
func (s *scene) refused(room, text, why string) {
	s.t.Helper()
	since := time.Now().Add(-time.Millisecond)
	must(s.person.SendText(s.ctx, room, text))(s.t)
	must(s.BotSays(s.ctx, s.person, room, since, why))(s.t)
}

func TestAliceAsksBeforeSheWritesAndIsToldEachAnswer(t *testing.T) {
	t.Parallel()
	s := open(t, setting{config: map[string]any{"network.gatekeepers.whatsapp.unanswered": "refuse"}})

	// Ben is asked, once, and what alice writes before he has answered is not sent.
	ben := s.phone("Ben", true)
	s.answers("start-chat "+ben.Phone, "asks them whether you may write")
	room := s.enter(ben)
	s.botSays(room, "until they accept")
	ping := s.phoneSees(ben, "alice's question", func(e *parts.PhoneEvent) bool { return e.Kind == "ping" })
	if ping.From != s.identifier || ping.DisplayName == "" {
		t.Errorf("the phone shows %+v", ping)
	}
	s.refused(room, "too early", "whether you may write")
	s.answers("start-chat "+ben.Phone, "not asked a second time")
	s.ok(s.Bridge.Stop())
	s.ok(s.Bridge.Start(s.ctx))
	s.connected()
	s.answers("start-chat "+ben.Phone, "not asked a second time")
	if n := s.pings(ben); n != 1 {
		t.Errorf("Ben was asked %d times", n)
	}

	// He accepts, and she is told.
	s.ok(s.Gatekeeper.Answer(s.ctx, ben.Phone, s.identifier, "accepted"))
	s.botSays(room, "has accepted this chat")
	s.toPhone(room, ben, "now it goes")
	if got := s.phoneTexts(ben, ""); !slices.Equal(got, []string{"now it goes"}) {
		t.Errorf("Ben's phone has %q", got)
	}

	// Carla declines. Only she can change that, and does, by writing.
	carla := s.phone("Carla", true)
	room = s.startChat(carla)
	s.phoneSees(carla, "alice's question", func(e *parts.PhoneEvent) bool { return e.Kind == "ping" })
	s.ok(s.Gatekeeper.Answer(s.ctx, carla.Phone, s.identifier, "declined"))
	s.botSays(room, "has declined this chat")
	s.refused(room, "but why?", "the other person has declined")
	s.answers("start-chat "+carla.Phone, "has declined to be written to by you")
	s.toMatrix(room, carla, "oh, it is you")
	s.botSays(room, "has accepted this chat")
	s.toPhone(room, carla, "it is")

	// Dora accepts, switches it off, and on again.
	dora := s.phone("Dora", true)
	room = s.startChat(dora)
	s.phoneSees(dora, "alice's question", func(e *parts.PhoneEvent) bool { return e.Kind == "ping" })
	s.ok(s.Gatekeeper.Answer(s.ctx, dora.Phone, s.identifier, "accepted"))
	s.botSays(room, "has accepted this chat")
	s.ok(s.Gatekeeper.OptIn(s.ctx, dora.Phone, false))
	s.botSays(room, "switched off third-party chats")
	s.ok(s.Gatekeeper.OptIn(s.ctx, dora.Phone, true))
	accepted := 0
	must(s.alice.Expect(s.ctx, "a second acceptance", func(e *parts.Event) bool {
		if e.RoomID == room && strings.Contains(e.Message().Body, "has accepted this chat") {
			accepted++
		}
		return accepted == 2
	}))(t)
	s.toPhone(room, dora, "welcome back")
}

// times is how often the bot has said something in a room.
func (s *scene) times(room, words string) int {
	return len(s.person.Seen(func(e *parts.Event) bool {
		return e.RoomID == room && e.Sender == s.Bot && strings.Contains(e.Message().Body, words)
	}))
}

// connected waits until alice's stream is up.
func (s *scene) connected() {
	s.t.Helper()
	must(s.IdentifierOf(s.ctx))(s.t)
}

func TestWhoCannotBeWrittenToIsExplainedByWhatHelps(t *testing.T) {
	t.Parallel()
	s := open(t, setting{config: map[string]any{"network.brakes.user.lookups_an_hour": 8, "network.brakes.user.new_chats_a_day": 2}})
	s.answers("start-chat +4915229999999", "look at the number once more")
	s.answers("start-chat "+s.phone("Nina", false).Phone, "has not opted in")

	// With WhatsApp as it is, what alice writes goes out at once, whatever Ben answers.
	ben := s.phone("Ben", true)
	s.answers("start-chat "+ben.Phone, "goes to them at once")
	room := s.enter(ben)
	s.toPhone(room, ben, "hello Ben")
	s.ok(s.Gatekeeper.OptIn(s.ctx, ben.Phone, false))
	s.botSays(room, "switched off third-party chats")
	s.answers("start-chat "+ben.Phone, "cannot be reached on WhatsApp any more")

	eve := s.phone("Eve", true)
	eveRoom := s.startChat(eve)
	must(s.person.SendText(s.ctx, eveRoom, "!postern block"))(t)
	s.botSays(eveRoom, "You have blocked this person")
	s.answers("start-chat "+eve.Phone, "you have blocked")

	// A third new chat is too much for one day, and so is a ninth number for one hour; also after a restart.
	s.answers("status", "New chats that you may begin today: 0")
	s.answers("start-chat "+s.phone("Finn", true).Phone, "you have begun 2 new chats within 24 hours")
	s.ok(s.Bridge.Stop())
	s.ok(s.Bridge.Start(s.ctx))
	s.connected()
	s.answers("start-chat "+s.phone("Gina", true).Phone, "you have begun 2 new chats within 24 hours")
	s.answers("start-chat +4915229999998", "you have looked up 8 phone numbers within an hour")
	s.answers("status", "look up in this hour: 0")
}

func TestWhoWritesTooFastIsSlowedDownAndLosesNothing(t *testing.T) {
	t.Parallel()
	s := open(t, setting{config: map[string]any{"network.brakes.user.messages_a_minute": 20}})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	// A bridge that has just started gives no burst: one message each three seconds in its first minute.
	s.ok(s.Bridge.Stop())
	s.ok(s.Bridge.Start(s.ctx))
	s.connected()
	var want []string
	for _, text := range []string{"fast one", "fast two", "fast three", "fast four", "fast five"} {
		want = append(want, text)
		must(s.person.SendText(s.ctx, room, text))(t)
	}
	for s.times(s.management, "faster than 20 messages a minute") == 0 && len(s.phoneTexts(ben, "fast")) < len(want) {
		s.answers("status", "New chats that you may begin")
	}
	if s.times(s.management, "faster than 20 messages a minute") == 0 {
		t.Error("the status did not say that her messages wait")
	}
	s.onPhone(ben, "fast five")
	if got := s.phoneTexts(ben, "fast"); !slices.Equal(got, want) {
		t.Errorf("the phone has %q", got)
	}
	if n := s.times(room, "not sent") + s.times(room, "not delivered"); n != 0 {
		t.Errorf("%d messages were refused", n)
	}
}

// shell runs a command of the operator's beside the running bridge.
func (s *scene) shell(args ...string) string {
	s.t.Helper()
	out, err := exec.CommandContext(s.ctx, postern, append(args, "-c", s.Bridge.ConfigPath())...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("postern %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestTheOperatorSuspendsAliceAndLetsHerGoOn(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.toPhone(room, ben, "all is well")
	admin := must(parts.NewPerson(s.ctx, s.Homeserver, "admin", "password-of-admin"))(t)
	t.Cleanup(admin.Close)
	office := must(admin.CreateDM(s.ctx, s.Bot))(t)
	must(s.BotSays(s.ctx, admin, office, time.Now().Add(-time.Minute), "hello"))(t)

	// The admin suspends her, and she is told why, once.
	must(admin.SendText(s.ctx, office, "suspend "+s.person.UserID+" too many complaints"))(t)
	must(s.BotSays(s.ctx, admin, office, time.Now().Add(-time.Minute), "is suspended"))(t)
	s.botSays(s.management, "You are suspended")
	s.botSays(s.management, "too many complaints")
	s.away()
	s.refused(room, "may I?", "you are suspended")
	s.answers("start-chat "+s.phone("Carla", true).Phone, "you are suspended")
	s.answers("status", "You are suspended")
	s.answers("login whatsapp", "you are suspended")

	told := s.times(s.management, "You are suspended")

	// What Ben writes waits for her, and a restart changes nothing.
	must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "are you there?"))(t)
	s.ok(s.Bridge.Stop())
	s.ok(s.Bridge.Start(s.ctx))
	s.answers("status", "You are suspended")
	s.away()
	if n := s.times(s.management, "You are suspended"); n != told+1 {
		t.Errorf("she was told again: %d times", n-told-1)
	}
	if list := s.shell("suspended"); !strings.Contains(list, s.person.UserID) || !strings.Contains(list, "too many complaints") {
		t.Errorf("the operator sees %q", list)
	}

	// The operator lets her go on, from a shell, and nothing is lost.
	if said := s.shell("unsuspend", s.person.UserID); !strings.Contains(said, "not suspended any more") {
		t.Errorf("the operator reads %q", said)
	}
	s.botSays(s.management, "You are not suspended any more")
	s.inRoom(room, "are you there?")
	s.toPhone(room, ben, "I am back")
	if got := s.phoneTexts(ben, ""); !slices.Equal(got, []string{"all is well", "I am back"}) {
		t.Errorf("Ben's phone has %q", got)
	}
	if list := s.shell("suspended"); !strings.Contains(list, "Nobody is suspended") {
		t.Errorf("the operator sees %q", list)
	}
}

// away waits until alice has no stream.
func (s *scene) away() {
	s.t.Helper()
	for {
		list := must(s.Gatekeeper.Partners(s.ctx))(s.t)
		if !slices.ContainsFunc(list, func(p parts.Partner) bool { return p.Identifier == s.identifier && p.Connected }) {
			return
		}
		select {
		case <-s.ctx.Done():
			s.t.Fatal("alice is still connected")
		case <-time.After(50 * time.Millisecond):
		}
	}
}
