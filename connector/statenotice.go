package connector

import (
	"context"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/matrix"
	"maunium.net/go/mautrix/bridgev2/status"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/format"
	"maunium.net/go/mautrix/id"

	"postern/connector/words"
)

// stateField is where the framework's notice of a login's state carries that state.
const stateField = "fi.mau.bridge_state"

// speakingBot is the bridge's bot for the framework, which decides when the person of a login is told of its state, but says it in English:
// here it is said in the person's words, and what needs them is said once (once), also over restarts.
type speakingBot struct {
	*matrix.ASIntent
	speak func(user id.UserID) words.Words
	once  func(room id.RoomID, state status.BridgeState, content *event.Content) error
}

// SendMessage implements bridgev2.MatrixAPI.
func (b *speakingBot) SendMessage(ctx context.Context, room id.RoomID, kind event.Type, content *event.Content, extra *bridgev2.MatrixSendExtra) (*mautrix.RespSendEvent, error) {
	if state, ok := content.Raw[stateField].(status.BridgeState); ok {
		if said, ok := messageOf(content); ok {
			spoken := format.RenderMarkdown(stateWords(b.speak(state.UserID), state), true, false)
			spoken.MsgType = said.MsgType
			content.Parsed = &spoken
			if needsPerson(state) {
				return &mautrix.RespSendEvent{}, b.once(room, state, content)
			}
		}
	}
	return b.ASIntent.SendMessage(ctx, room, kind, content, extra)
}

// messageOf is the message that the framework would send, which it puts there as a value.
func messageOf(content *event.Content) (said *event.MessageEventContent, ok bool) {
	if value, is := content.Parsed.(event.MessageEventContent); is {
		return &value, true
	}
	said, ok = content.Parsed.(*event.MessageEventContent)
	return said, ok
}

// stateWords are a login's state in a sentence.
func stateWords(w words.Words, state status.BridgeState) string {
	name := state.RemoteName
	if name == "" {
		name = string(state.RemoteID)
	}
	name = format.EscapeMarkdown(name)
	switch {
	case state.Message != "":
		return w.Text("connection.why", "name", name, "why", state.Message)
	case state.StateEvent == status.StateConnected:
		return w.Text("connection.connected", "name", name)
	case state.StateEvent == status.StateConnecting:
		return w.Text("connection.connecting", "name", name)
	case state.StateEvent == status.StateLoggedOut:
		return w.Text("connection.logged-out", "name", name)
	}
	return w.Text("connection.not", "name", name)
}
