package connector

import (
	"strings"
	"testing"

	"maunium.net/go/mautrix/bridgev2/commands"
	"maunium.net/go/mautrix/id"
)

// TestWhoseCommandPanicsIsToldSoInTheirLanguageAndNotWhatThePanicSays: the framework would tell nobody.
func TestWhoseCommandPanicsIsToldSoInTheirLanguageAndNotWhatThePanicSays(t *testing.T) {
	w := newWorld(t)
	user, home := w.client.login.User, id.RoomID("!home:test")
	if err := w.connector.languages.choose(t.Context(), user.MXID, "de"); err != nil {
		t.Fatal(err)
	}
	w.connector.addCommand(processorOf(t, w.connector.bridge), &commands.FullHandler{
		Name: "break", Func: func(*commands.Event) { panic("+4915112345678") },
	})
	w.connector.bridge.Commands.Handle(t.Context(), home, "$break", user, "break", "")
	said := w.notices()
	for _, e := range w.matrix.timeline() {
		said += "\n" + body(e)
	}
	if !strings.Contains(said, "gab es einen Fehler in der Bridge") || strings.Contains(said, "4915112345678") || strings.Contains(said, "panicked") {
		t.Errorf("the person reads %q", said)
	}
}
