package e2e_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/bridge/parts"
	"postern/connector/email/emailtest"
)

// talk is somebody's direct chat with the bridge's bot.
type talk struct {
	s     *scene
	who   *parts.Person
	room  string
	since time.Time
}

// talkTo opens one for alice.
func (s *scene) talkTo() *talk {
	s.t.Helper()
	return s.talkOf(s.person)
}

func (s *scene) talkOf(who *parts.Person) *talk {
	s.t.Helper()
	k := &talk{s: s, who: who, since: time.Now().Add(-time.Millisecond)}
	k.room = must(who.CreateDM(s.ctx, s.Bot))(s.t)
	k.hears("hello")
	return k
}

// says types something, and hears waits for an answer with that in it, after what was typed last.
func (k *talk) says(text string) {
	k.s.t.Helper()
	k.since = time.Now().Add(-time.Millisecond)
	must(k.who.SendText(k.s.ctx, k.room, text))(k.s.t)
}

func (k *talk) hears(text string) string {
	k.s.t.Helper()
	return must(k.s.BotSays(k.s.ctx, k.who, k.room, k.since, text))(k.s.t).Message().Body
}

// asked is hears for what ends in a question: whatever is typed before that is taken for a command.
func (k *talk) asked(text string) string {
	k.s.t.Helper()
	body := k.hears(text)
	if strings.Contains(strings.ToLower(body), "bitte") {
		k.hears("bitte gib ein")
	} else {
		k.hears("please enter your")
	}
	return body
}

// nobodyIsKnown: the gatekeeper has never heard of any user of ours.
func (s *scene) nobodyIsKnown() {
	s.t.Helper()
	if partners := must(s.Gatekeeper.Partners(s.ctx))(s.t); len(partners) > 0 {
		s.t.Fatalf("the gatekeeper knows %+v", partners)
	}
}

func TestSomebodyReadsWhatItMeansAgreesAndSeesItAgain(t *testing.T) {
	t.Parallel()
	s := open(t, setting{noLogin: true, config: map[string]any{"network.operator.name": "The Example Society", "network.operator.contact": "bridge@example.org"}})
	k := s.talkTo()
	k.says("login " + s.Gatekeeper.Info.Profile)
	text := k.asked("read this before you agree")
	for _, part := range []string{"The Example Society (bridge@example.org)", "could read", "end to end", "learn", "alice", "does not work", "logout"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in what is read before: %s", part, text)
		}
	}
	s.nobodyIsKnown()
	k.says("agree without read receipts")
	k.hears("you are on")
	s.identifier = must(s.IdentifierOf(s.ctx))(t)

	k.says("consent")
	shown := k.hears("you agreed")
	if !strings.Contains(shown, "without read receipts") || !strings.Contains(shown, "The Example Society") || strings.Contains(shown, "changed since") {
		t.Errorf("what is shown again is %s", shown)
	}
	// Somebody else runs the bridge now: the words are others, alice is asked once, and her chats go on.
	s.ok(s.Bridge.Stop())
	s.ok(s.Bridge.Set(map[string]any{"network.operator.name": "Another Society"}))
	s.ok(s.Bridge.Start(s.ctx))
	k.hears("described in new words")
	ben := s.phone("Ben", true)
	k.says("start-chat " + ben.Phone)
	s.toPhone(s.enter(ben), ben, "still here")
	k.says("consent")
	if shown = k.hears("changed since"); !strings.Contains(shown, "Another Society") || !strings.Contains(shown, "The Example Society") {
		t.Errorf("old and new words are not both shown: %s", shown)
	}
	k.says("consent agree")
	k.hears("is stored")
	k.says("consent")
	if shown = k.hears("you agreed"); strings.Contains(shown, "changed since") || !strings.Contains(shown, "Another Society") {
		t.Errorf("after the second agreement: %s", shown)
	}
}

func TestALoginWithAMistakeAndACancelIsAnsweredInOnesOwnLanguage(t *testing.T) {
	t.Parallel()
	s := open(t, setting{noLogin: true})
	k := s.talkTo()
	for _, x := range []struct{ language, set, unknown, begun, twice, mistake, cancelled, nothing, enter string }{
		{"en", "speaks english", "no such command", "read this before", "in the middle of a login", "will not do: this is not an agreement", "login is cancelled", "nothing to cancel", "please enter your answer"},
		{"de", "spricht die bridge deutsch", "diesen befehl gibt es hier nicht", "bitte lies das", "mitten in einer anmeldung", "so geht es nicht: das ist keine zustimmung", "anmeldung ist abgebrochen", "nichts abzubrechen", "bitte gib ein: antwort"},
	} {
		k.says("language " + x.language)
		k.hears(x.set)
		k.says("agree")
		k.hears(x.unknown)
		k.says("login " + s.Gatekeeper.Info.Profile)
		k.asked(x.begun)
		k.says("login")
		k.hears(x.twice)
		k.says("hm")
		k.hears(x.mistake)
		k.says("cancel")
		k.hears(x.cancelled)
		k.says("cancel")
		k.hears(x.nothing)
		k.says("login " + s.Gatekeeper.Info.Profile + " agree")
		k.hears("login " + s.Gatekeeper.Info.Profile)
		s.nobodyIsKnown()
		k.says("login")
		k.asked(x.begun)
		k.hears(x.enter)
		k.says("cancel")
		k.hears(x.cancelled)
	}
	k.says("login")
	k.asked("bitte lies das")
	k.says("einverstanden")
	k.hears("du bist bei")
	must(s.IdentifierOf(s.ctx))(t)
	k.says("login-matrix not-a-token")
	k.hears("nimmt das token nicht an")
	k.says("login-matrix " + s.person.Token)
	k.hears("handelt ab jetzt in matrix in deinem namen")
	k.says("ping-matrix")
	k.hears("in deinem namen, als")
	k.says("language en")
	k.hears("speaks english")
	k.says("logout-matrix")
	k.hears("not act in matrix in your name any more")
}

func TestSomebodyJoinsInGerman(t *testing.T) {
	t.Parallel()
	s := open(t, setting{noLogin: true})
	k := s.talkTo()
	k.says("language de")
	k.hears("spricht die bridge deutsch")
	k.says("login " + s.Gatekeeper.Info.Profile)
	if text := k.asked("bitte lies das"); !strings.Contains(text, "keine Ende-zu-Ende-Verschlüsselung") {
		t.Errorf("the German words are %s", text)
	}
	k.hears("einverstanden ohne lesebestätigungen")
	k.says("ja")
	k.hears("das ist keine zustimmung")
	s.nobodyIsKnown()
	k.says("einverstanden")
	k.hears("du bist bei")
	must(s.IdentifierOf(s.ctx))(t)
	ben := s.phone("Ben", true)
	k.says("start-chat " + ben.Phone)
	k.hears("neuer chat mit")
	s.roomShows(s.enter(ben), "the beginning of the chat in German", func(e *parts.Event) bool {
		return strings.Contains(e.Message().Body, "keine Ende-zu-Ende-Verschlüsselung")
	})
	k.says("consent")
	k.hears("in der sprache deutsch")
}

var codeInLetter = regexp.MustCompile(`\b\d{8}\b`)

func TestAnEmailAddressIsProvenWithACodeAndBelongsToOneUser(t *testing.T) {
	t.Parallel()
	mail := emailtest.Start(t, "--refuse", "nobody")
	s := open(t, setting{noLogin: true, config: map[string]any{
		"network.identifier.mode": "email", "network.identifier_type": "email", "network.identifier.smtp.address": mail.Address,
		"network.identifier.smtp.tls": "none", "network.identifier.smtp.from": "bridge@example.org",
	}})
	s.ok(s.Gatekeeper.AddIntegrator(s.ctx, parts.Integrator{
		ID: parts.IntegratorID, Name: "Postern", IdentifierType: "email", PublicBase: s.Bridge.PublicBase, MediaBase: s.Bridge.PublicBase + "/media",
	}))
	k := s.talkTo()
	k.says("login " + s.Gatekeeper.Info.Profile)
	k.asked("by your e-mail address")
	k.says("alice at example.org")
	k.hears("not an e-mail address")
	k.says("nobody@example.org")
	k.asked("does not know this address")
	k.says("Alice@Example.ORG")
	k.asked("on its way")
	letter := mail.Wait(s.ctx, t, 1)
	if !slices.Equal(letter.To, []string{"alice@example.org"}) || !strings.Contains(letter.Text, s.person.UserID) {
		t.Errorf("the letter is %+v", letter)
	}
	code := codeInLetter.FindString(letter.Text)
	k.says("00000000")
	k.asked("4 more times")
	s.nobodyIsKnown()
	k.says(code)
	if text := k.asked("read this before you agree"); !strings.Contains(text, "alice@example.org") {
		t.Errorf("the address is not in %s", text)
	}
	k.says("agree")
	k.hears("you are on")
	if got := must(s.IdentifierOf(s.ctx))(t); got != "alice@example.org" {
		t.Errorf("the gatekeeper knows alice as %s", got)
	}

	bob := must(parts.NewPerson(s.ctx, s.Homeserver, "bob", "password-of-bob"))(t)
	t.Cleanup(bob.Close)
	b := s.talkOf(bob)
	b.says("login " + s.Gatekeeper.Info.Profile)
	b.asked("by your e-mail address")
	b.says("alice@example.org")
	b.asked("on its way")
	b.says(codeInLetter.FindString(mail.Wait(s.ctx, t, 2).Text))
	b.hears("has your name there already")
}

func TestTheAdminAssignsTheNames(t *testing.T) {
	t.Parallel()
	s := open(t, setting{noLogin: true, config: map[string]any{"network.identifier.mode": "assigned"}})
	k := s.talkTo()
	k.says("login " + s.Gatekeeper.Info.Profile)
	k.hears("you have no name for the other side yet")
	k.says("assign-identifier " + s.person.UserID + " queen")
	k.hears("only administrators of the bridge")
	admin := must(parts.NewPerson(s.ctx, s.Homeserver, "admin", "password-of-admin"))(t)
	t.Cleanup(admin.Close)
	a := s.talkOf(admin)
	a.says("assign-identifier @bob:postern.localhost Wonder.Alice")
	a.hears("wonder.alice")
	a.says("assign-identifier " + s.person.UserID + " wonder.alice")
	a.hears("somebody else has")
	a.says("assign-identifier @bob:postern.localhost -")
	a.hears("no assigned name any more")
	a.says("assign-identifier " + s.person.UserID + " Wonder.Alice")
	a.hears("is to be known as")
	k.says("login " + s.Gatekeeper.Info.Profile)
	if text := k.asked("read this before you agree"); !strings.Contains(text, "wonder.alice") {
		t.Errorf("the name is not in %s", text)
	}
	k.says("agree")
	k.hears("you are on")
	if got := must(s.IdentifierOf(s.ctx))(t); got != "wonder.alice" {
		t.Errorf("the gatekeeper knows alice as %s", got)
	}
}

func TestWhoIsElsewhereIsRefusedWithAnExplanationAndNothingIsSent(t *testing.T) {
	t.Parallel()
	s := open(t, setting{noLogin: true, config: map[string]any{"network.region.gate": "declaration", "network.operator.contact": "bridge@example.org"}})
	k := s.talkTo()
	k.says("login " + s.Gatekeeper.Info.Profile)
	k.asked("in which country are you")
	k.says("Atlantis")
	k.hears("none of the countries")
	k.says("other")
	if text := k.hears("you cannot join"); !strings.Contains(text, "bridge@example.org") {
		t.Errorf("whom to ask is not in %s", text)
	}
	s.nobodyIsKnown()
	k.says("login " + s.Gatekeeper.Info.Profile)
	k.asked("in which country are you")
	k.says("no")
	k.asked("read this before you agree")
	k.says("agree")
	k.hears("you are on")
	must(s.IdentifierOf(s.ctx))(t)
	k.says("region")
	k.hears("you are in no")
	k.says("region br")
	k.hears("could not stay")
	k.says("region SE")
	k.hears("you are in se")
	k.says("consent")
	k.hears("you said that you are in no")
}

func TestWhoMayNotStayIsLetGoWithAnExplanation(t *testing.T) {
	t.Parallel()
	allow := atomic.Bool{}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]bool{"allow": allow.Load()})
	}))
	t.Cleanup(hook.Close)
	s := open(t, setting{noLogin: true, config: map[string]any{
		"network.region.gate": "hook", "network.region.hook.url": hook.URL, "network.region.recheck": "1s", "network.operator.contact": "bridge@example.org",
	}})
	k := s.talkTo()
	k.says("login " + s.Gatekeeper.Info.Profile)
	k.hears("you cannot join")
	allow.Store(true)
	k.says("login " + s.Gatekeeper.Info.Profile)
	k.asked("read this before you agree")
	k.says("agree")
	k.hears("you are on")
	s.identifier = must(s.IdentifierOf(s.ctx))(t)
	allow.Store(false)
	must(s.person.Expect(s.ctx, "why the login has ended", func(e *parts.Event) bool {
		body := e.Message().Body
		return e.Sender == s.Bot && strings.Contains(body, "has ended") && strings.Contains(body, "bridge@example.org")
	}))(t)
	s.gone(s.identifier)
}

// gone waits until the gatekeeper does not know a partner user any more.
func (s *scene) gone(identifier string) {
	s.t.Helper()
	s.goneFrom(s.Gatekeeper, identifier)
}

func (s *scene) goneFrom(gatekeeper *parts.Gatekeeper, identifier string) {
	s.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		partners := must(gatekeeper.Partners(s.ctx))(s.t)
		if !slices.ContainsFunc(partners, func(p parts.Partner) bool { return p.Identifier == identifier }) {
			return
		}
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			s.t.Fatalf("the gatekeeper still knows %+v", partners)
		}
	}
}
