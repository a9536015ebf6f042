package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"postern/bridge/parts"
)

// loginNamed is the ID of alice's login under a name, as list-logins says it.
func (k *talk) loginNamed(name string) string {
	k.s.t.Helper()
	k.says("list-logins")
	text := k.hears(strings.ToLower(name))
	for line := range strings.Lines(text) {
		if id := regexp.MustCompile(`\b[a-z0-9]{16}\b`).FindString(line); id != "" && strings.Contains(line, name) {
			return id
		}
	}
	k.s.t.Fatalf("no login %s in %s", name, text)
	return ""
}

// known are the identifiers that a gatekeeper knows.
func (s *scene) known(g *parts.Gatekeeper) (list []string) {
	s.t.Helper()
	for _, p := range must(g.Partners(s.ctx))(s.t) {
		list = append(list, p.Identifier)
	}
	return list
}

func TestTwoGatekeepersEachHaveTheirOwnConsentAndLeavingOneLeavesTheOther(t *testing.T) {
	t.Parallel()
	if os.Getenv("POSTERN_GATEKEEPER") != "" {
		t.Skip("SKIPPED: the gatekeeper that is given is the only one")
	}
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	chat := s.startChat(ben)
	s.toPhone(chat, ben, "from WhatsApp alone")

	// Another gatekeeper, which knows the bridge by another number.
	other := must(parts.StartSandbox(s.ctx, parts.SandboxConfig{Postern: postern, Dir: filepath.Join(s.Dir, "other"), Args: []string{"--profile", "messenger"}}))(t)
	defer func() { s.ok(other.Stop()) }()
	s.ok(other.AddIntegrator(s.ctx, parts.Integrator{
		ID: 8, Name: "Postern elsewhere", IdentifierType: "username", PublicBase: s.Bridge.PublicBase, MediaBase: s.Bridge.PublicBase + "/media",
	}))
	settings := other.Settings()
	settings["network.gatekeepers.messenger.integrator"] = 8
	delete(settings, "network.gatekeepers.whatsapp.enabled")
	s.ok(s.Bridge.Stop())
	s.ok(s.Bridge.Set(settings))
	s.ok(s.Bridge.Start(s.ctx))

	k := &talk{s: s, who: s.person, room: s.management}
	k.says("help")
	if text := k.hears("how to begin"); !strings.Contains(text, "WhatsApp") || !strings.Contains(text, "Messenger") {
		t.Errorf("help names not both: %s", text)
	}
	k.says("login messenger")
	if text := k.asked("read this before you agree"); !strings.Contains(text, "Messenger") || len(s.known(other)) > 0 {
		t.Errorf("before alice agrees, Messenger knows %v, and she has read %s", s.known(other), text)
	}
	k.says("agree without read receipts")
	k.hears("you are on messenger")
	if a, b := s.known(s.Gatekeeper), s.known(other); !slices.Equal(a, []string{s.identifier}) || len(b) != 1 {
		t.Fatalf("one gatekeeper knows %v, the other %v", a, b)
	}
	elsewhere := s.known(other)[0]
	k.says("consent")
	for _, each := range []string{"on whatsapp", "without read receipts"} {
		k.hears(each)
	}
	// One account number at two gatekeepers, under two integrators, is two people: sessions and chats do not meet.
	mia := must(other.AddUser(s.ctx, parts.Phone{Phone: ben.Phone, Name: "Mia", OptedIn: true}))(t)
	for _, p := range must(s.Gatekeeper.Partners(s.ctx))(t) {
		for _, q := range must(other.Partners(s.ctx))(t) {
			if p.JID == q.JID {
				t.Errorf("alice is %s at both", p.JID)
			}
		}
	}
	messenger := k.loginNamed("Messenger")
	k.says("start-chat " + messenger + " " + mia.Phone)
	k.hears("created a chat")
	s.toPhone(chat, ben, "to Ben, who has the number of Mia")
	s.toMatrix(chat, ben, "and back")

	k.says("logout")
	k.hears("your logins")
	k.says("logout " + messenger)
	k.hears("deleted")
	s.goneFrom(other, elsewhere)
	s.toPhone(chat, ben, "still here")
	s.toMatrix(chat, ben, "so am I")
	if a := s.known(s.Gatekeeper); !slices.Equal(a, []string{s.identifier}) {
		t.Errorf("WhatsApp knows %v", a)
	}
}

func TestTwoLoginsOfOneUserHaveTheirOwnConsentsChatsAndEnds(t *testing.T) {
	t.Parallel()
	s := open(t, setting{noLogin: true, config: map[string]any{"network.identifier.mode": "assigned"}})
	admin := must(parts.NewPerson(s.ctx, s.Homeserver, "admin", "password-of-admin"))(t)
	t.Cleanup(admin.Close)
	a, k := s.talkOf(admin), s.talkTo()
	for _, name := range []string{"queen", "king"} {
		a.says("assign-identifier " + s.person.UserID + " " + name)
		a.hears("is to be known as")
		k.says("login " + s.Gatekeeper.Info.Profile)
		if text := k.asked("read this before you agree"); !strings.Contains(text, name) {
			t.Errorf("the name %s is not in %s", name, text)
		}
		k.says("agree")
		k.hears("you are on")
	}
	if known := s.known(s.Gatekeeper); len(known) != 2 {
		t.Fatalf("the gatekeeper knows %v", known)
	}
	queen, king := k.loginNamed("queen"), k.loginNamed("king")
	k.says("consent")
	k.hears("queen")
	k.hears("king")

	// The same contact is two chats, in two rooms: neither says anything about the other.
	ben := s.phone("Ben", true)
	rooms, from := map[string]string{}, map[string]bool{}
	for name, id := range map[string]string{"queen": queen, "king": king} {
		k.says("start-chat " + id + " " + ben.Phone + " as " + name)
		k.hears("created a chat")
		invite := must(s.alice.ExpectInvite(s.ctx, "the chat as "+name, func(i parts.Invite) bool { return i.Name == "as "+name }))(t)
		s.ok(s.alice.Join(s.ctx, invite.Room))
		rooms[name] = invite.Room
		must(s.person.SendText(s.ctx, invite.Room, "I am the "+name))(t)
		from[s.onPhone(ben, "I am the "+name).From] = true
	}
	if len(from) != 2 {
		t.Errorf("the phone has heard from %v", from)
	}
	must(s.Gatekeeper.Say(s.ctx, ben.Phone, "king", "your majesty"))(t)
	bens := s.inRoom(rooms["king"], "your majesty").Sender

	k.says("logout " + queen)
	k.hears("deleted")
	s.gone("queen")
	s.leaves(s.person, rooms["queen"], bens)
	s.toPhone(rooms["king"], ben, "still reigning")
	if known := s.known(s.Gatekeeper); !slices.Equal(known, []string{"king"}) {
		t.Errorf("the gatekeeper knows %v", known)
	}
}
