package e2e_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix/event"

	"postern/bridge/parts"
	"postern/connector/admin"
)

// ordered runs `postern admin` beside the bridge, or without one, and returns its exit status and what it says.
func (s *scene) ordered(args ...string) (status int, out string) {
	s.t.Helper()
	var said bytes.Buffer
	cmd := exec.CommandContext(s.ctx, postern, append([]string{"admin", "-c", s.Bridge.ConfigPath()}, args...)...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), said.String()
}

// order is ordered for what has to end with that status and say that.
func (s *scene) order(want int, says string, args ...string) {
	s.t.Helper()
	if status, out := s.ordered(args...); status != want || !strings.Contains(out, says) {
		s.t.Errorf("postern admin %v ends with %d, want %d with %q:\n%s", args, status, want, says, out)
	}
}

// answer is ordered for an answer in JSON.
func (s *scene) answer(args ...string) (a admin.Answer) {
	s.t.Helper()
	status, out := s.ordered(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &a); err != nil || status != 0 {
		s.t.Fatalf("postern admin %v ends with %d: %v\n%s", args, status, err, out)
	}
	return a
}

// office is a room of the bot's with somebody who may order.
func (s *scene) office() *talk {
	s.t.Helper()
	who := must(parts.NewPerson(s.ctx, s.Homeserver, "admin", "password-of-admin"))(s.t)
	s.t.Cleanup(who.Close)
	return s.talkOf(who)
}

// has waits until a login is in a state.
func (s *scene) has(state string) admin.User {
	s.t.Helper()
	return s.until(state, func(u admin.User) bool { return u.State == state })
}

// until waits for something about alice's login.
func (s *scene) until(what string, is func(u admin.User) bool) admin.User {
	s.t.Helper()
	for {
		list := s.answer("user", s.person.UserID).Users
		if len(list) == 1 && is(list[0]) {
			return list[0]
		}
		select {
		case <-s.ctx.Done():
			s.t.Fatalf("waiting for %s: %+v", what, list)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func TestTheOperatorSeesToUsersFromAShellAndFromARoom(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.toPhone(room, ben, "all is well")
	office := s.office()

	// Both faces list her; nobody else may.
	her := s.has("live")
	if her.User != s.person.UserID || her.Gatekeeper != "whatsapp" || her.Since.IsZero() || her.Sent.IsZero() || her.Consented.IsZero() ||
		her.Enlisted.IsZero() || her.Expires.Before(time.Now().Add(29*24*time.Hour)) || her.PreKeys == nil || *her.PreKeys < 1 {
		t.Errorf("%+v", her)
	}
	s.order(0, her.Account, "users")
	office.says("admin users")
	office.hears(s.person.UserID + " (" + her.Account)
	office.says("admin user " + her.Account)
	office.hears("state: live since")
	for _, typed := range []string{"admin", "admin users", "admin disconnect " + s.person.UserID, "admin delete " + s.person.UserID + " --yes", "admin reports"} {
		s.answers(typed, "administrators")
	}
	s.order(1, "no login of that name", "user", "@nobody:else.example")
	s.order(1, "no login of that name", "disconnect", "@nobody:else.example")
	s.order(2, "is neither a Matrix ID", "disconnect", "Anna")
	s.order(2, "There is no action", "fly")
	office.says("admin fly")
	office.hears("re-enlist")

	// She is disconnected: what both sides write waits, and she sees why.
	office.says("admin disconnect " + s.person.UserID)
	office.hears("nothing is lost")
	s.away()
	s.order(0, "has no connection", "disconnect", her.Account)
	s.has("disconnected")
	s.answers("status", "has closed this connection for a while")
	must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "are you there?"))(t)
	must(s.alice.SendText(s.ctx, room, "I wait"))(t)
	s.until("her message to wait", func(u admin.User) bool { return u.ToGatekeeper > 0 })
	s.order(0, "connects anew", "reconnect", s.person.UserID)
	s.inRoom(room, "are you there?")
	s.onPhone(ben, "I wait")

	// A disconnection ends with the bridge's next start.
	s.order(0, "is disconnected", "disconnect", her.Account)
	s.away()
	s.ok(s.Bridge.Stop())
	s.order(1, "needs one", "reconnect", her.Account)
	s.order(0, "no_bridge", "users")
	s.ok(s.Bridge.Start(s.ctx))
	s.has("live")
	if got := s.phoneTexts(ben, ""); !slices.Equal(got, []string{"all is well", "I wait"}) {
		t.Errorf("Ben's phone has %q", got)
	}
}

func TestTheOperatorEnlistsSomebodyAnewAndDeletesThem(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.toPhone(room, ben, "all is well")
	her := s.has("live")

	// Enlisted anew she goes on, with her chats and sessions.
	s.order(0, "is enlisted anew", "re-enlist", her.Account)
	s.has("live")
	s.toPhone(room, ben, "still me")
	s.toMatrix(room, ben, "I see")

	// The gatekeeper refuses: she stays as she is.
	must(s.Gatekeeper.AddFault(s.ctx, parts.Fault{Kind: "enlist_fail", Reason: "unavailable", Count: 1}))(t)
	s.order(1, "was not done", "re-enlist", her.Account)
	s.has("live")
	s.toPhone(room, ben, "and still me")

	// Suspended she is neither connected nor enlisted.
	s.order(0, "is suspended", "suspend", s.person.UserID, "enough")
	s.order(1, "the user is suspended", "reconnect", her.Account)
	s.order(1, "the user is suspended", "re-enlist", her.Account)
	s.order(0, "not suspended any more", "unsuspend", s.person.UserID)
	s.has("live")

	// She is deleted once that is confirmed, and told.
	s.order(2, "cannot be undone", "delete", s.person.UserID)
	s.has("live")
	s.order(0, "is being deleted", "delete", s.person.UserID, "--yes")
	s.gone(s.identifier)
	s.botSays(s.management, "has ended your login here")
	s.botSays(s.management, "has deleted your account")
	if list := s.answer("users").Users; list == nil || len(list) != 0 {
		t.Errorf("left: %+v", list)
	}
}

func TestSomebodyIsDeletedWhileNoBridgeRuns(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	s.ok(s.Bridge.Stop())
	s.order(0, "is being deleted", "delete", s.person.UserID, "--yes")
	s.order(1, "is being deleted", "delete", s.person.UserID, "--yes")
	if list := s.answer("users").Users; len(list) != 1 || list[0].State != "leaving" {
		t.Errorf("%+v", list)
	}
	s.ok(s.Bridge.Start(s.ctx))
	s.gone(s.identifier)
	s.botSays(s.management, "has ended your login here")
}

func TestTheOperatorPurgesAttachmentsThatWereFetchedAndOthersOnlyByForce(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	file := func(size int) {
		data := make([]byte, size)
		must(rand.Read(data))(t)
		s.send(room, event.EventMessage, with(s.upload(data, "application/pdf"), map[string]any{
			"msgtype": "m.file", "body": "a file", "filename": "file.pdf", "info": map[string]any{"mimetype": "application/pdf", "size": size},
		}))
	}
	// One is fetched by the gatekeeper, in parts, and one is not.
	file(200_000)
	s.onPhoneAs(ben, "document")
	her := s.has("live")
	s.untilMedia(func(use admin.MediaUse) bool {
		return use.Fetched.Files == 1 && use.Fetched.Bytes > 200_000 && use.Waiting.Files == 0
	})
	must(s.Gatekeeper.AddFault(s.ctx, parts.Fault{Kind: "ack_error", Code: 479, Count: 1}))(t)
	file(1000)
	s.botSays(room, "was not")
	s.untilMedia(func(use admin.MediaUse) bool { return use.Fetched.Files == 1 && use.Waiting.Files == 1 })

	if list := s.answer("media", s.person.UserID).Media.Users; len(list) != 1 || list[0].Account != her.Account || list[0].User != s.person.UserID {
		t.Errorf("%+v", list)
	}
	s.order(0, "Deleted: 0", "media-purge") // it was fetched just now
	s.order(2, "media-purge", "media-purge", "-1h")
	s.order(0, "Deleted: 1", "media-purge", "0s", her.Account)
	s.order(0, "Deleted: 0", "media-purge", "0s")
	s.untilMedia(func(use admin.MediaUse) bool { return use.Fetched.Files == 0 && use.Waiting.Files == 1 })
	s.order(0, "Deleted: 1", "media-purge", "0s", "--force")
	s.untilMedia(func(use admin.MediaUse) bool { return use.Waiting.Files == 0 })
	s.answers("admin media", "administrators")
	s.ok(s.Bridge.Stop())
	s.order(1, "needs one", "media-purge")
	s.order(0, "not fetched yet 0", "media")
}

// untilMedia waits for something about the media store.
func (s *scene) untilMedia(is func(use admin.MediaUse) bool) {
	s.t.Helper()
	for {
		use := s.answer("media").Media.All
		if is(use) {
			return
		}
		select {
		case <-s.ctx.Done():
			s.t.Fatalf("the media store: %+v", use)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func TestTheOperatorSetsTheLevelOfTheLogAndAsksForAnotherKey(t *testing.T) {
	t.Parallel()
	s := open(t, setting{config: map[string]any{"logging.min_level": "error"}})
	office := s.office()
	lines := func(level string) int {
		return bytes.Count(must(os.ReadFile(s.Bridge.LogPath()))(t), []byte(`"level":"`+level+`"`))
	}
	if n := lines("debug") + lines("info"); n > 0 {
		t.Errorf("%d lines below the level", n)
	}
	if log := s.answer("log-level").Log; log.Level != "error" || log.Configured != "error" || len(log.Components) != 0 {
		t.Errorf("%+v", log)
	}
	s.order(2, "does not fit", "log-level", "loud")
	office.says("admin log-level matrix trace")
	office.hears("matrix: trace and above")
	s.order(0, "The log says debug", "log-level", "debug")
	if lines("debug") == 0 {
		s.order(0, "", "users")
	}
	if lines("debug")+lines("info") == 0 {
		t.Error("nothing more is said than before")
	}
	s.order(0, "The log says error and above", "log-level", "configured")
	before := lines("info") + lines("debug")
	s.order(0, "", "users")
	if n := lines("info") + lines("debug"); n != before {
		t.Errorf("%d lines more", n-before)
	}

	// The next key is too young to sign; what is published is told, by its public names.
	said, out := s.ordered("rotate-key", "--json")
	var answer admin.Answer
	s.ok(json.Unmarshal([]byte(out), &answer))
	if said != 1 || answer.Outcome != admin.TooEarly || time.Until(answer.NotBefore) < 23*time.Hour || len(answer.Keys) != 2 ||
		answer.Keys[0].State != admin.KeySigns || answer.Keys[1].State != admin.KeyNext {
		t.Errorf("status %d: %s", said, out)
	}
	office.says("admin rotate-key")
	office.hears("Nothing was changed")
	s.answers("admin rotate-key", "administrators")
	s.answers("admin log-level trace", "administrators")
	s.ok(s.Bridge.Stop())
	s.ok(s.Bridge.Start(s.ctx))
	if log := s.answer("log-level").Log; log.Level != "error" {
		t.Errorf("after a restart: %+v", log)
	}
}

// readiness is what the bridge says of itself.
func (s *scene) readiness() (status int, maintenance bool) {
	s.t.Helper()
	req := must(http.NewRequestWithContext(s.ctx, http.MethodGet, s.Bridge.Address+"/_matrix/mau/ready", nil))(s.t)
	resp := must(http.DefaultClient.Do(req))(s.t)
	defer resp.Body.Close()
	var body struct {
		Maintenance bool `json:"maintenance"`
	}
	s.ok(json.NewDecoder(resp.Body).Decode(&body))
	return resp.StatusCode, body.Maintenance
}

func TestMaintenanceClosesEverythingSaysWhyAndLosesNothing(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.toPhone(room, ben, "all is well")
	her := s.has("live")
	office := s.office()
	s.answers("admin maintenance on", "administrators")
	s.order(0, "There is no maintenance", "maintenance")

	// It begins: she has no stream, reads why, and nobody joins.
	office.says("admin maintenance on a new disk")
	office.hears("Maintenance since")
	s.away()
	s.has("maintenance")
	s.answers("status", "The reason: a new disk")
	if status, said := s.readiness(); status != http.StatusOK || !said {
		t.Errorf("the bridge is ready: %d, and says that there is maintenance: %v", status, said)
	}
	s.order(1, "there is maintenance", "reconnect", her.Account)
	s.order(1, "there is maintenance", "re-enlist", her.Account)
	bob := must(parts.NewPerson(s.ctx, s.Homeserver, "bob", "password-of-bob"))(t)
	t.Cleanup(bob.Close)
	k := s.talkOf(bob)
	k.says("login whatsapp")
	k.hears("Nobody can join until then")

	// What both sides write waits, also over a restart.
	must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "are you there?"))(t)
	must(s.alice.SendText(s.ctx, room, "I wait"))(t)
	s.until("her message to wait", func(u admin.User) bool { return u.ToGatekeeper > 0 })
	s.ok(s.Bridge.Stop())
	s.order(0, "a new disk", "maintenance")
	s.ok(s.Bridge.Start(s.ctx))
	s.has("maintenance")
	s.away()
	if m := s.answer("maintenance").Maintenance; !m.On || m.Reason != "a new disk" || m.Streams != 0 || m.Since.IsZero() {
		t.Errorf("after a restart: %+v", m)
	}

	// It ends, and all goes on.
	s.order(0, "There is no maintenance", "maintenance", "off")
	s.has("live")
	s.inRoom(room, "are you there?")
	s.onPhone(ben, "I wait")
	if got := s.phoneTexts(ben, ""); !slices.Equal(got, []string{"all is well", "I wait"}) {
		t.Errorf("Ben's phone has %q", got)
	}
	k.says("login whatsapp")
	k.hears("agree")

	// It can begin and end without a running bridge.
	s.ok(s.Bridge.Stop())
	s.order(0, "Maintenance since", "maintenance", "on")
	s.ok(s.Bridge.Start(s.ctx))
	s.has("maintenance")
	s.ok(s.Bridge.Stop())
	s.order(0, "There is no maintenance", "maintenance", "off")
	s.ok(s.Bridge.Start(s.ctx))
	s.has("live")
}

func TestTheOperatorHasARoomForWhatConcernsThem(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.toPhone(room, ben, "all is well")
	admin := must(parts.NewPerson(s.ctx, s.Homeserver, "admin", "password-of-admin"))(t)
	t.Cleanup(admin.Close)

	// The first news makes the room, and the administrator is asked into it.
	must(s.person.SendText(s.ctx, room, "!postern report he is rude"))(t)
	invite := must(admin.ExpectInvite(s.ctx, "the operator's room", func(i parts.Invite) bool { return i.Shows("Postern: for the operator") }))(t)
	s.ok(admin.Join(s.ctx, invite.Room))
	reads := func(text string) {
		t.Helper()
		must(admin.Expect(s.ctx, text, func(e *parts.Event) bool { return e.RoomID == invite.Room && strings.Contains(e.Message().Body, text) }))(t)
	}
	reads("Reports that users have made: 1")

	// What it says is said once, also after a kill, and in the same room.
	s.order(0, "Maintenance since", "maintenance", "on", "a new disk")
	reads("Maintenance has begun")
	s.Bridge.Kill()
	s.ok(s.Bridge.Start(s.ctx))
	s.order(0, "There is no maintenance", "maintenance", "off")
	reads("Maintenance has ended")
	s.order(0, "is being deleted", "delete", s.person.UserID, "--yes")
	reads("Accounts that were deleted: 1, the last one because of: operator")
	var said []string
	for _, e := range must(admin.Messages(s.ctx, invite.Room))(t) {
		if e.Sender == s.Bot && e.Message().Body != "" {
			said = append(said, e.Message().Body)
		}
	}
	if all := strings.Join(said, "\n"); len(said) != 4 || strings.Contains(all, "rude") || strings.Contains(all, "Ben") || strings.Contains(all, ben.Phone) {
		t.Errorf("the room reads %q", said)
	}
}
