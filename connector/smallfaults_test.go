package connector

import (
	"net/http"
	"strings"
	"testing"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/words"
	"postern/database"
)

func TestWhoAgreesMayBeginWithACapitalLetter(t *testing.T) {
	for language, answers := range map[string]map[string]bool{
		"de": {"Einverstanden": true, "EINVERSTANDEN": true, "Einverstanden ohne Lesebestätigungen": false, "Agree": true},
		"en": {"Agree": true, " agree ": true},
	} {
		for answer, want := range answers {
			if receipts, err := validAnswer(words.For(language), answer); err != nil || receipts != want {
				t.Errorf("%s: %q gives %v, %v", language, answer, receipts, err)
			}
		}
	}
	for _, answer := range []string{"ja", "agreed", "I agree", "", "Zustimmen"} {
		if _, err := validAnswer(words.For("de"), answer); err == nil {
			t.Errorf("%q is taken for consent", answer)
		}
	}
}

func TestHelpNamesArgumentsInTheReadersLanguage(t *testing.T) {
	w := newWorld(t)
	for _, h := range w.connector.commands {
		line := h.line(words.For("de"))
		for _, english := range []string{"number", "login ID", "name_", "Login-ID"} {
			if strings.Contains(line, english) {
				t.Errorf("%q has %q", line, english)
			}
		}
	}
}

func TestThatAPersonJoinsTheirChatIsNoChangeThatFails(t *testing.T) {
	w := newWorld(t)
	if taken, err := w.connector.member(t.Context(), membership(fakePerson, fakePerson, fakeRoom, event.MembershipJoin, false)); err != nil || !taken {
		t.Errorf("taken %v, %v", taken, err)
	}
	if taken, err := w.connector.member(t.Context(), membership(fakePerson, fakePerson, elsewhereRoom, event.MembershipJoin, false)); err != nil || taken {
		t.Errorf("in another room: taken %v, %v", taken, err)
	}
}

func TestGhostsThatAreLeftOverSayWhyInTheLanguageOfWhoIsThereAndOneRoomHoldsUpNoOther(t *testing.T) {
	w := newWorld(t)
	const broken, former id.RoomID = "!broken:test", "!former:test"
	if err := w.connector.languages.choose(t.Context(), fakePerson, "de"); err != nil {
		t.Fatal(err)
	}
	var left []string
	w.matrix.mu.Lock()
	w.matrix.special = func(r *http.Request) any {
		switch {
		case strings.HasSuffix(r.URL.Path, "/joined_rooms"):
			return map[string]any{"joined_rooms": []id.RoomID{broken, former}}
		case strings.HasSuffix(r.URL.Path, "/joined_members"):
			return map[string]any{"joined": map[id.UserID]any{w.ghost: map[string]any{}, fakePerson: map[string]any{}, w.connector.matrix.Bot.UserID: map[string]any{}}}
		}
		return nil
	}
	w.matrix.before = func(r *http.Request) int {
		if strings.HasSuffix(r.URL.Path, "/leave") {
			if strings.Contains(r.URL.Path, broken.String()) {
				return http.StatusInternalServerError
			}
			left = append(left, r.URL.Path)
		}
		return 0
	}
	w.matrix.mu.Unlock()
	if err := w.connector.sweepStrays(t.Context()); err == nil {
		t.Error("a ghost that could not leave is not noticed")
	}
	if len(left) != 1 || !strings.Contains(left[0], former.String()) {
		t.Errorf("left %v", left)
	}
	if words := w.connector.strayWords([]id.UserID{fakePerson, w.ghost}).Text("invited.chat-gone"); words != "Diesen Chat gibt es nicht mehr" {
		t.Errorf("it says %q", words)
	}
	if got := w.connector.strayWords([]id.UserID{fakePerson, guestMXID}).Language(); got != "en" {
		t.Errorf("two people are spoken to in %q", got)
	}
}

func TestWhatLeavingSaysOfAttachmentsHasASizeOnlyIfThereAreAny(t *testing.T) {
	row := &database.Leaving{Gatekeeper: "whatsapp", Outcome: "deleted"}
	if text := leftWords(words.For("de"), row); !strings.Contains(text, "Anhänge: 0.") {
		t.Error(text)
	}
	row.Counts.Files, row.Counts.Bytes = 2, 3<<20
	if text := leftWords(words.For("de"), row); !strings.Contains(text, "Anhänge: 2 (3 MiB).") {
		t.Error(text)
	}
}

func TestTheBotSaysHelloInThePersonsLanguageAndKeepsTheirFirstRoom(t *testing.T) {
	w := newWorld(t)
	w.invitations()
	user, err := w.connector.bridge.GetUserByMXID(t.Context(), guestMXID)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.connector.languages.choose(t.Context(), guestMXID, "de"); err != nil {
		t.Fatal(err)
	}
	bot, store := w.connector.matrix.Bot.UserID, w.connector.matrix.StateStore
	for i, c := range []struct {
		room id.RoomID
		says string
	}{{"!first:test", "Neuigkeiten für dich kommen in diesen Raum"}, {"!second:test", "!postern help"}} {
		for who, m := range map[id.UserID]event.Membership{guestMXID: event.MembershipJoin, bot: event.MembershipInvite} {
			if err := store.SetMembership(t.Context(), c.room, who, m); err != nil {
				t.Fatal(err)
			}
		}
		if err := store.MarkMembersFetched(t.Context(), c.room); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time after a kill
			if taken, err := w.connector.member(t.Context(), membership(guestMXID, bot, c.room, event.MembershipInvite, true)); err != nil || !taken {
				t.Fatalf("taken %v, %v", taken, err)
			}
		}
		list := w.waitingNotices()
		if len(list) != i+1 {
			t.Fatalf("%d notices", len(list))
		}
		found := false
		for _, n := range list {
			found = found || n.Room == c.room && strings.Contains(string(n.Content), c.says)
		}
		if !found || user.ManagementRoom != "!first:test" {
			t.Errorf("%s: told %v, managed in %s", c.room, list, user.ManagementRoom)
		}
	}
}
