package e2e_test

import (
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/bridge/parts"
)

// operator runs a command of the program where the bridge is configured, as whoever runs it would, and returns what it prints.
func (s *scene) operator(args ...string) string {
	s.t.Helper()
	out, err := exec.CommandContext(s.ctx, postern, append(args, "-c", s.Bridge.ConfigPath())...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("postern %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// ignores has alice's client write her list of ignored users, with somebody on it whom the bridge has nothing to do with.
func (s *scene) ignores(users ...string) {
	s.t.Helper()
	list := map[string]any{"@spammer:elsewhere.example": map[string]any{"since": "last year"}}
	for _, user := range users {
		list[user] = map[string]any{}
	}
	s.ok(s.Homeserver.Call(s.ctx, http.MethodPut, s.ignoredPath(), s.person.Token, map[string]any{"ignored_users": list}, nil))
}

func (s *scene) ignoredPath() string {
	return "/_matrix/client/v3/user/" + url.PathEscape(s.person.UserID) + "/account_data/m.ignored_user_list"
}

// ignored are the users on alice's list, sorted.
func (s *scene) ignored() (users []string) {
	s.t.Helper()
	var list struct {
		Users map[string]map[string]any `json:"ignored_users"`
	}
	s.ok(s.Homeserver.Call(s.ctx, http.MethodGet, s.ignoredPath(), s.person.Token, nil, &list))
	for user := range list.Users {
		users = append(users, user)
	}
	if since := list.Users["@spammer:elsewhere.example"]["since"]; since != "last year" {
		s.t.Errorf("what alice's client noted of somebody else is %v now", since)
	}
	slices.Sort(users)
	return users
}

// blockedUntil asks the bot whom alice has blocked until its answer has that in it.
func (s *scene) blockedUntil(answer string) {
	s.t.Helper()
	for {
		since := time.Now().Add(-time.Millisecond)
		s.command("blocked")
		said := must(s.BotSays(s.ctx, s.person, s.management, since, "you have blocked"))(s.t)
		if strings.Contains(said.Message().Body, answer) {
			return
		}
	}
}

func TestWhomAliceIgnoresIsBlockedAndWhomSheBlocksIsIgnored(t *testing.T) {
	t.Parallel()
	s := open(t, setting{puppets: true})
	ben := s.phone("Ben", true)
	must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "hello alice"))(t)
	hello := must(s.alice.Expect(s.ctx, "Ben's text", func(e *parts.Event) bool { return e.Message().Body == "hello alice" }))(t)
	room, ghost := hello.RoomID, hello.Sender

	// Alice has enough of Ben, and ignores him in her client. She does something else, and the bridge sees it.
	s.ignores(ghost)
	s.blockedUntil("Ben (WhatsApp)")
	s.botSays(room, "You ignore this person")
	unseen := must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "hello? hello?"))(t)
	must(s.person.SendText(s.ctx, room, "let me be"))(t)
	s.botSays(room, "you have blocked this person")

	// While the bridge is away she forgives him. Once it is back they talk again.
	s.ok(s.Bridge.Stop())
	s.ignores()
	s.ok(s.Bridge.Start(s.ctx))
	s.botSays(room, "You do not ignore this person")
	s.blockedUntil("blocked nobody")
	s.toPhone(room, ben, "sorry, a bad day")
	must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "never mind"))(t)
	must(s.alice.Expect(s.ctx, "Ben's answer", func(e *parts.Event) bool { return e.RoomID == room && e.Message().Body == "never mind" }))(t)
	if mine, theirs := s.texts(room, "hello?"); len(mine)+len(theirs) > 0 {
		t.Errorf("the room shows %q", theirs)
	}
	for _, e := range s.receiptsOf(ben) {
		if slices.Contains(e.IDs, unseen) {
			t.Errorf("Ben's phone has a receipt for what nobody has seen: %+v", e)
		}
	}

	// Next time she uses the bridge's own word, and her client follows.
	must(s.person.SendText(s.ctx, room, "!postern block"))(t)
	s.botSays(room, "You have blocked this person")
	for !slices.Equal(s.ignored(), []string{ghost, "@spammer:elsewhere.example"}) {
		s.blockedUntil("Ben")
	}
	must(s.person.SendText(s.ctx, room, "!postern unblock"))(t)
	for !slices.Equal(s.ignored(), []string{"@spammer:elsewhere.example"}) {
		s.blockedUntil("blocked nobody")
	}
}

func TestAliceReportsAStrangerToWhoeverRunsTheBridge(t *testing.T) {
	t.Parallel()
	s := open(t, setting{config: map[string]any{
		"network.requests.policy": "ask", "network.operator.name": "The Example Society", "network.reports.per_day": 2,
	}})

	// Carla writes, and what she writes is not nice. Alice points at it.
	carla := s.phone("Carla", true)
	must(s.Gatekeeper.Say(s.ctx, carla.Phone, s.identifier, "are you at home?"))(t)
	must(s.Gatekeeper.Say(s.ctx, carla.Phone, s.identifier, "send me your money"))(t)
	room := s.request(carla)
	bad := s.inRoom(room, "send me your money")
	s.reply(room, bad.ID, "!postern report she wants my money")
	s.botSays(room, "You have reported")
	s.botSays(room, "The Example Society")

	// Whoever runs the bridge sees who and why, and what alice pointed at; nothing else of what was said.
	list := s.operator("reports", "list")
	report := strings.Fields(strings.Split(list, "\n")[1])[0]
	if strings.Contains(list, "Carla") || strings.Contains(list, "money") {
		t.Errorf("the list says too much:\n%s", list)
	}
	shown := s.operator("reports", "show", report)
	for _, part := range []string{s.person.UserID, "Carla", "she wants my money", "send me your money"} {
		if !strings.Contains(shown, part) {
			t.Errorf("%q is not in the report:\n%s", part, shown)
		}
	}
	if strings.Contains(shown, "at home") {
		t.Errorf("a message that alice did not point at is in the report:\n%s", shown)
	}

	// She follows the bot's advice. Carla hears nothing of all that.
	must(s.person.SendText(s.ctx, room, "!postern block"))(t)
	s.botSays(room, "You have blocked this person")
	must(s.Gatekeeper.Say(s.ctx, carla.Phone, s.identifier, "so?"))(t)

	// From the management room it goes with the number, and no more than so often in a day.
	since := time.Now().Add(-time.Millisecond)
	s.command("report " + carla.Phone + " again and again")
	must(s.BotSays(s.ctx, s.person, s.management, since, "you have reported"))(t)
	s.command("report Carla")
	must(s.BotSays(s.ctx, s.person, s.management, since, "takes 2 reports"))(t)
	if got := s.receiptsOf(carla); len(got) > 0 {
		t.Errorf("Carla's phone has %v", got)
	}

	// One report is seen to. Alice leaves; what is left of the other does not name her.
	s.operator("reports", "close", report)
	since = time.Now().Add(-time.Millisecond)
	s.command("logout")
	must(s.BotSays(s.ctx, s.person, s.management, since, "has deleted your account"))(t)
	s.ok(s.Bridge.Stop()) // the command does without it, too
	all := s.operator("reports", "list", "--all")
	if strings.Contains(all, report) || strings.Count(strings.TrimSpace(all), "\n") != 1 {
		t.Fatalf("after alice has left there are\n%s", all)
	}
	left := s.operator("reports", "show", strings.Fields(strings.Split(all, "\n")[1])[0])
	if strings.Contains(left, "alice") || !strings.Contains(left, "Carla") || !strings.Contains(left, "again and again") {
		t.Errorf("what is left says\n%s", left)
	}
	s.ok(s.Bridge.Start(s.ctx))
}
