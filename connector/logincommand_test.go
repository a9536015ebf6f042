package connector

import (
	"context"
	"strings"
	"testing"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/bridgeconfig"
	"maunium.net/go/mautrix/bridgev2/commands"

	"postern/database"
)

// answered has somebody type something, and holds the answers against what they have to contain.
func (w *world) answered(user *bridgev2.User, text string, wants ...string) {
	w.t.Helper()
	said := strings.Join(w.typed(user, "!elsewhere:test", text), "\n")
	for _, want := range wants {
		if !strings.Contains(said, want) {
			w.t.Errorf("%q is answered %q, without %q", text, said, want)
		}
	}
	for _, english := range []string{"Please enter", "Invalid", "cancelled", "ongoing", "Unknown command", "Failed"} {
		if w.connector.languages.of(user.MXID) == "de" && strings.Contains(said, english) {
			w.t.Errorf("%q is answered in English: %q", text, said)
		}
	}
}

func TestALoginWithMistakesAndACancelIsInThePersonsLanguage(t *testing.T) {
	w := newWorld(t)
	user := w.userAt("user", bridgeconfig.PermissionLevelUser)
	w.answered(user, "logn", "There is no such command here")
	w.answered(user, "cancel", "nothing to cancel")
	w.answered(user, "login facebook", "no such service", "whatsapp")
	w.answered(user, "login", "begin with `!postern`", "read this before you agree", "Please enter your answer")
	w.answered(user, "login", "in the middle of a login")
	w.answered(user, "yes", "That will not do", "type exactly `agree`")
	w.answered(user, "cancel", "The login is cancelled")
	w.answered(user, "yes", "no such command")
	w.answered(user, "language de", "spricht die Bridge Deutsch")
	w.answered(user, "anmelden", "Diesen Befehl gibt es hier nicht")
	w.answered(user, "cancel", "nichts abzubrechen")
	w.answered(user, "login facebook", "gibt es hier nicht", "whatsapp")
	w.answered(user, "login whatsapp", "mit `!postern` anfangen", "Bitte lies das", "Bitte gib ein: Antwort")
	w.answered(user, "login", "mitten in einer Anmeldung")
	w.answered(user, "ja", "So geht es nicht", "das ist keine Zustimmung")
	w.answered(user, "cancel", "Anmeldung ist abgebrochen")
	if rows, err := w.connector.db.Accounts().ByMXID(t.Context(), user.MXID.String()); err != nil || len(rows) > 0 {
		t.Errorf("%d accounts of a login that was cancelled: %v", len(rows), err)
	}
}

func TestNobodyAgreesToWordsThatTheyHaveNotSeen(t *testing.T) {
	w := newWorld(t)
	user := w.userAt("user", bridgeconfig.PermissionLevelUser)
	w.answered(user, "login whatsapp agree", "nothing else", "login whatsapp")
	if rows, err := w.connector.db.Accounts().ByMXID(t.Context(), user.MXID.String()); err != nil || len(rows) > 0 {
		t.Errorf("%d accounts: %v", len(rows), err)
	}
	if commands.LoadCommandState(user) != nil {
		t.Error("a login was begun")
	}
}

func TestWhoHasAsManyLoginsAsTheyMayIsToldSo(t *testing.T) {
	w := newWorld(t)
	may := bridgeconfig.PermissionLevelUser
	may.MaxLogins = 1
	w.answered(w.userAt("joined", may), "login", "as many logins as you may have (1)", "!postern logout")
}

// stepping is a login with one step after which there is another of some kind.
type stepping struct {
	next      *bridgev2.LoginStep
	cancelled bool
}

func (s *stepping) Start(context.Context) (*bridgev2.LoginStep, error) { return s.next, nil }
func (s *stepping) Cancel()                                            { s.cancelled = true }

func TestAStepThatCannotBeTypedEndsTheLoginInWords(t *testing.T) {
	w := newWorld(t)
	user := w.userAt("user", bridgeconfig.PermissionLevelUser)
	for _, kind := range []bridgev2.LoginStepType{
		bridgev2.LoginStepTypeCookies, bridgev2.LoginStepTypeDisplayAndWait, bridgev2.LoginStepTypeWebAuthn, bridgev2.LoginStepTypeClientHTTP, "new",
	} {
		s := &stepping{}
		before := len(w.matrix.timeline())
		ce := &commands.Event{Bot: w.connector.bridge.Bot, Bridge: w.connector.bridge, RoomID: "!elsewhere:test", OrigRoomID: "!elsewhere:test", User: user, Ctx: t.Context(), Log: &w.connector.log}
		(&talking{login: s}).goOn(ce, &bridgev2.LoginStep{Type: kind}, nil)
		said := w.matrix.timeline()[before:]
		if len(said) != 1 || !strings.Contains(body(said[0]), "cannot be typed in a chat") || !s.cancelled || commands.LoadCommandState(user) != nil {
			t.Errorf("%s: %d answers, cancelled: %v", kind, len(said), s.cancelled)
		}
	}
}

func TestWhatWasSaidOfACountryIsForgottenWhenTheLoginFails(t *testing.T) {
	w := newWorld(t)
	w.connector.Config.Region.Gate, w.connector.Config.Region.Countries, w.connector.Config.Region.DeclarationDays = gateDeclaration, []string{"DE"}, 10
	gate, err := newRegionGate(&w.connector.Config.Region, "")
	if err != nil {
		t.Fatal(err)
	}
	w.connector.region = gate
	user := w.userAt("user", bridgeconfig.PermissionLevelUser)
	other := &database.Account{ID: database.NewLocalID(), Gatekeeper: "whatsapp", MXID: "@another:test", Identifier: "person", Login: "7-2@interop", Integrator: 7}
	identifier, err := w.connector.identifierFor(t.Context(), user.MXID)
	if err != nil {
		t.Fatal(err)
	}
	other.Identifier = identifier
	if err := w.connector.db.Accounts().Put(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	w.answered(user, "login", "In which country")
	w.answered(user, "DE", "The login has failed", "has your name there already")
	if row, err := w.connector.db.Regions().Get(t.Context(), user.MXID.String()); err != nil || row.Country != "" {
		t.Errorf("%+v is kept: %v", row, err)
	}
}

func TestActingInMatrixInSomebodysNameIsAnsweredInTheirLanguage(t *testing.T) {
	w := newWorld(t)
	user := w.userAt("joined", bridgeconfig.PermissionLevelUser)
	w.answered(user, "ping-matrix", "does not act in Matrix in your name")
	w.answered(user, "logout-matrix", "does not act in Matrix in your name")
	w.answered(user, "login-matrix", "Usage")
	w.answered(user, "login-matrix of-nobody", "token is somebody else's") // the homeserver of this test says who it is by a parameter
	user.Permissions.DoublePuppet = false
	w.answered(user, "login-matrix token", "You may not")
	w.answered(user, "language de", "Deutsch")
	w.answered(user, "logout-matrix", "Du darfst")
	user.Permissions.DoublePuppet = true
	w.answered(user, "ping-matrix", "handelt nicht in Matrix")
	redacted := 0
	w.matrix.mu.Lock()
	for _, e := range w.matrix.events {
		if e.Redacts != "" {
			redacted++
		}
	}
	w.matrix.mu.Unlock()
	if redacted != 2 {
		t.Errorf("%d of 2 tokens are taken out of the room", redacted)
	}
}

func TestTheRoomForCommandsIsAnsweredForInThePersonsLanguage(t *testing.T) {
	w := newWorld(t)
	user := w.userAt("joined", bridgeconfig.PermissionLevelUser)
	said := strings.Join(w.typed(user, fakeRoom, "set-management-room"), "\n")
	if !strings.Contains(said, "chat's room") || user.ManagementRoom != "" {
		t.Errorf("in a chat: %q", said)
	}
	said = strings.Join(w.typed(user, fakeRoom, "set-preferred-login nobody"), "\n")
	if !strings.Contains(said, "Usage") || !strings.Contains(said, w.account) {
		t.Errorf("nobody's login: %q", said)
	}
	said = strings.Join(w.typed(user, fakeRoom, "prefer "+string(loginID(w.account))), "\n")
	if !strings.Contains(said, "In this chat you write as") {
		t.Errorf("one's own login: %q", said)
	}
	w.answered(user, "version", "postern", "built")
}
