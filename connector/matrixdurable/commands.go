package matrixdurable

import (
	"context"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/commands"
	"maunium.net/go/mautrix/id"
)

// commandProcessor tells when a command's handler has returned. The framework starts it in a
// goroutine of its own.
type commandProcessor struct {
	*commands.Processor
	framework *Framework
}

// Handle implements bridgev2.CommandProcessor. Panics in handlers end in the inner processor.
func (c *commandProcessor) Handle(ctx context.Context, room id.RoomID, evt id.EventID, user *bridgev2.User, message string, replyTo id.EventID) {
	defer c.framework.commandDone(evt)
	c.Processor.Handle(ctx, room, evt, user, message, replyTo)
}

func (f *Framework) wrapCommands() {
	inner, ok := f.bridge.Commands.(*commands.Processor)
	if !ok {
		return // somebody else's processor: its commands are finished when a restart has cut them off
	}
	// The framework's own form of this one expects the unwrapped Matrix connector.
	inner.AddHandler(&commands.FullHandler{
		Func: func(ce *commands.Event) {
			if f.matrix.Crypto == nil {
				ce.Reply(f.speak(ce.User.MXID).Text("notice.no-encryption"))
				return
			}
			f.matrix.Crypto.ResetSession(ce.Ctx, ce.RoomID)
			ce.Reply(f.speak(ce.User.MXID).Text("notice.session-discarded"))
		},
		Name:    "discard-megolm-session",
		Aliases: []string{"discard-session"},
		Help: commands.HelpMeta{
			Section:     commands.HelpSectionAdmin,
			Description: "Discard the Megolm session in the room",
		},
		RequiresAdmin: true,
	})
	f.bridge.Commands = &commandProcessor{Processor: inner, framework: f}
}

func (f *Framework) commandDone(evt id.EventID) {
	f.mu.Lock()
	seq, known := f.commands[evt]
	delete(f.commands, evt)
	f.mu.Unlock()
	if known && f.complete != nil {
		f.complete(seq)
	}
}
