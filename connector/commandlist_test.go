package connector

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/bridgeconfig"
	"maunium.net/go/mautrix/bridgev2/commands"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/words"
)

// level is one of levels.
type level struct {
	name string
	may  bridgeconfig.Permissions
}

// levels are those of the framework's permissions, and a user who has joined.
var levels = []level{
	{"block", bridgeconfig.PermissionLevelBlock}, {"relay", bridgeconfig.PermissionLevelRelay}, {"commands", bridgeconfig.PermissionLevelCommands},
	{"user", bridgeconfig.PermissionLevelUser}, {"admin", bridgeconfig.PermissionLevelAdmin}, {"joined", bridgeconfig.PermissionLevelUser},
	{"lowered", bridgeconfig.PermissionLevelCommands}, // who has joined, and would not be let in any more
}

// What comes of a command. Nothing of them that may not command at all reaches a command.
const (
	runs     = "runs"
	noAdmin  = adminsOnly
	noJoin   = mayNotJoin
	noLogin  = notLoggedIn
	notHere  = inChatsOnly
	nothing  = "nothing"
	inChat   = "in a chat"
	anywhere = "anywhere"
)

// kinds are the sorts of commands: what comes of them at each level, for block, relay, commands, user, admin, joined and lowered.
var kinds = map[string][7]string{
	"everybody":   {nothing, nothing, runs, runs, runs, runs, runs},
	"may join":    {nothing, nothing, noJoin, runs, runs, runs, noJoin},
	"has joined":  {nothing, nothing, noLogin, noLogin, noLogin, runs, runs},
	"admin":       {nothing, nothing, noAdmin, noAdmin, runs, noAdmin, noAdmin},
	"chat, may":   {nothing, nothing, noJoin, notHere, notHere, notHere, noJoin},
	"chat, has":   {nothing, nothing, noLogin, noLogin, noLogin, notHere, notHere},
	"chat, admin": {nothing, nothing, noAdmin, noAdmin, notHere, noAdmin, noAdmin},
}

// commandKinds has a row for each command. One that is new needs one.
var commandKinds = map[string]string{
	"help": "everybody", "cancel": "everybody", "language": "everybody", "status": "everybody", "export": "everybody", "version": "everybody",
	"set-management-room": "everybody", "ping-matrix": "everybody",
	"login": "may join", "list-logins": "may join", "set-preferred-login": "chat, may",
	"logout": "has joined", "start-chat": "has joined", "read-receipts": "has joined", "retry-media": "chat, has", "consent": "has joined", "region": "has joined",
	"requests": "has joined", "accept": "has joined", "decline": "has joined", "block": "has joined", "unblock": "has joined", "blocked": "has joined", "report": "has joined", "verify": "has joined", "unverify": "has joined",
	"login-matrix": "has joined", "logout-matrix": "has joined",
	"admin": "admin", "assign-identifier": "admin", "suspend": "admin", "unsuspend": "admin", "suspended": "admin", "discard-megolm-session": "admin", "delete-portal": "chat, admin",
}

// processorOf is the framework's processor, within ours.
func processorOf(t *testing.T, bridge *bridgev2.Bridge) *commands.Processor {
	t.Helper()
	p, ok := reflect.ValueOf(bridge.Commands).Elem().FieldByName("Processor").Interface().(*commands.Processor)
	if !ok {
		t.Fatal("the processor is not there")
	}
	return p
}

func TestEveryCommandOfTheProgramIsKnownOrRefused(t *testing.T) {
	w := newWorld(t)
	known := map[string]bool{}
	for _, h := range w.connector.commands {
		if known[h.Name] {
			t.Errorf("%s is there twice", h.Name)
		}
		known[h.Name] = true
		if commandKinds[h.Name] == "" {
			t.Errorf("%s has no row: who may use it?", h.Name)
		}
		for _, language := range words.Languages() {
			if !words.For(language).Has(helpCommands + h.Name) {
				t.Errorf("help says nothing of %s in %q", h.Name, language)
			}
		}
	}
	for name := range commandKinds {
		if !known[name] {
			t.Errorf("there is no command %s", name)
		}
	}
	handlers := reflect.ValueOf(processorOf(t, w.connector.bridge)).Elem().FieldByName("handlers")
	if handlers.Len() < 20 {
		t.Fatalf("the program has %d commands", handlers.Len())
	}
	for _, key := range handlers.MapKeys() {
		_, refused := refusedCommands[key.String()]
		if known[key.String()] == refused {
			t.Errorf("%s is neither known nor refused, or both", key.String())
		}
	}
	for name, instead := range refusedCommands {
		if instead != "" && !known[instead] {
			t.Errorf("%s is refused with %s, which is not there", name, instead)
		}
		if !handlers.MapIndex(reflect.ValueOf(name)).IsValid() {
			t.Errorf("the framework has no command %s any more", name)
		}
	}
}

// typed has somebody type a command as the homeserver brings it, and says what came of it.
func (w *world) typed(user *bridgev2.User, room id.RoomID, text string) []string {
	w.t.Helper()
	before := len(w.matrix.timeline())
	evt := &event.Event{
		Type: event.EventMessage, ID: id.EventID("$typed" + strings.ReplaceAll(text, " ", "-")), RoomID: room, Sender: user.MXID,
		Content: event.Content{Parsed: &event.MessageEventContent{MsgType: event.MsgText, Body: "!postern " + text}},
	}
	if !user.Permissions.Commands {
		if got := w.connector.bridge.QueueMatrixEvent(w.t.Context(), evt); !got.Ignored {
			w.t.Errorf("%s of somebody who may not is %+v", text, got)
		}
	} else {
		w.connector.bridge.Commands.Handle(w.t.Context(), room, evt.ID, user, text, "")
	}
	var said []string
	for _, e := range w.matrix.timeline()[before:] {
		body, _ := e.Content["body"].(string)
		said = append(said, body)
	}
	return said
}

// userAt is somebody at one of the levels.
func (w *world) userAt(level string, may bridgeconfig.Permissions) *bridgev2.User {
	w.t.Helper()
	mxid := id.UserID("@" + level + ":test")
	if level == "joined" || level == "lowered" {
		mxid = fakePerson
	}
	user, err := w.connector.bridge.GetUserByMXID(w.t.Context(), mxid)
	if err != nil {
		w.t.Fatal(err)
	}
	user.Permissions = may
	return user
}

func TestEachCommandAtEachLevelOfPermission(t *testing.T) {
	w := newWorld(t)
	english := words.For("en")
	ran := ""
	for _, h := range w.connector.commands {
		h.Func = func(*commands.Event) { ran = h.Name }
	}
	for i, level := range levels {
		user := w.userAt(level.name, level.may)
		for _, h := range w.connector.commands {
			if slices.ContainsFunc(passed, func(p *commands.FullHandler) bool { return p.Name == h.Name }) {
				said := strings.Join(w.typed(user, "!elsewhere:test", h.Name), "\n") // its handler is elsewhere
				if refused := said == english.Text(noAdmin); user.Permissions.Commands && refused == user.Permissions.Admin {
					t.Errorf("%s of %s is answered %q", h.Name, level.name, said)
				}
				continue
			}
			ran = ""
			said := strings.Join(w.typed(user, "!elsewhere:test", h.Name), "\n")
			want := kinds[commandKinds[h.Name]][i]
			switch {
			case want == runs:
				if ran != h.Name {
					t.Errorf("%s of %s did not run: %q", h.Name, level.name, said)
				}
			case ran != "":
				t.Errorf("%s of %s ran", h.Name, level.name)
			case want == nothing:
				if said != "" {
					t.Errorf("%s of %s is answered: %q", h.Name, level.name, said)
				}
			case said != english.Text(want):
				t.Errorf("%s of %s is answered %q", h.Name, level.name, said)
			}
		}
	}
	user := w.userAt("joined", bridgeconfig.PermissionLevelUser)
	for _, name := range []string{"retry-media", "set-preferred-login"} {
		if ran = ""; len(w.typed(user, fakeRoom, name)) > 0 || ran != name {
			t.Errorf("%s did not run in a chat's room", name)
		}
	}
}

func TestCommandsThatDoNothingHereAreRefusedInWords(t *testing.T) {
	w := newWorld(t)
	user := w.userAt("admin", bridgeconfig.PermissionLevelAdmin)
	for name, instead := range refusedCommands {
		said := strings.Join(w.typed(user, "!elsewhere:test", name+" @person:test logout"), "\n")
		if !strings.Contains(said, "There is no such command here") || !strings.Contains(said, "!postern help") || !strings.Contains(said, instead) {
			t.Errorf("%s is answered %q", name, said)
		}
	}
	if said := w.typed(user, "!elsewhere:test", "doas @person:test logout"); len(said) != 1 || !strings.Contains(said[0], "no such command") {
		t.Errorf("an alias is answered %q", said)
	}
	if err := w.connector.languages.choose(t.Context(), user.MXID, "de"); err != nil {
		t.Fatal(err)
	}
	if said := w.typed(user, "!elsewhere:test", "set-relay"); len(said) != 1 || !strings.Contains(said[0], "Diesen Befehl gibt es hier nicht") {
		t.Errorf("in German: %q", said)
	}
}

func TestHelpNamesToEverybodyWhatTheyMayDoAndNothingElse(t *testing.T) {
	w := newWorld(t)
	for i, level := range levels[2:] {
		text := strings.Join(w.typed(w.userAt(level.name, level.may), "!elsewhere:test", "help"), "\n")
		for _, h := range w.connector.commands {
			outcome := kinds[commandKinds[h.Name]][i+2]
			may := outcome == runs || outcome == notHere || outcome == noLogin && level.may.Login
			if has := strings.Contains(text, "* "+h.Name+" ") || strings.Contains(text, "* **"+h.Name+"**") || strings.Contains(text, "● "+h.Name+" "); has != may {
				t.Errorf("help for %s has %s: %v\n%s", level.name, h.Name, has, text)
			}
		}
		if strings.Contains(text, "{") || strings.Contains(text, "$cmdprefix") || strings.Contains(text, "help.") {
			t.Errorf("something is not filled in:\n%s", text)
		}
	}
}

func TestANewcomerFindsFromHelpAloneHowToJoinRefuseBlockAndLeave(t *testing.T) {
	w := newWorld(t)
	text := strings.Join(w.typed(w.userAt("user", bridgeconfig.PermissionLevelUser), "!elsewhere:test", "help"), "\n")
	for _, want := range []string{
		"WhatsApp", "login whatsapp", "before you agree", "has to begin with", "!postern", "Joining, and leaving", "Who may write to you",
		"decline", "block", "logout", "Leave", "request",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	joining, people := strings.Index(text, "Joining, and leaving"), strings.Index(text, "Who may write to you")
	if joining < 0 || people < joining || strings.Contains(text, "For administrators") {
		t.Errorf("the order is wrong:\n%s", text)
	}
	said := strings.Join(w.typed(w.userAt("user", bridgeconfig.PermissionLevelUser), "!elsewhere:test", "help block"), "\n")
	if !strings.Contains(said, "nothing of theirs reaches you") || strings.Contains(said, "decline") {
		t.Errorf("help on one command says %q", said)
	}
	for _, hidden := range []string{"help assign-identifier", "help sudo", "help nonsense"} {
		if said = strings.Join(w.typed(w.userAt("user", bridgeconfig.PermissionLevelUser), "!elsewhere:test", hidden), "\n"); !strings.Contains(said, "There is no such command") {
			t.Errorf("%s says %q", hidden, said)
		}
	}
}
