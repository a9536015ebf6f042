package matrixdurable

import (
	"context"
	"strings"

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
	if c.unknown(user, message) {
		message = UnknownCommand
	}
	c.Processor.Handle(ctx, room, evt, user, message, replyTo)
}

// UnknownCommand is the command for what is none; the framework itself has it for an empty message.
const UnknownCommand = "unknown-command"

// unknown says whether something typed is no command and answers no question: the framework would say so in English.
func (c *commandProcessor) unknown(user *bridgev2.User, message string) bool {
	words := strings.Fields(message)
	if c.framework.known == nil || len(words) == 0 || c.framework.known(strings.ToLower(words[0])) {
		return false
	}
	state := commands.LoadCommandState(user)
	return state == nil || state.Next == nil
}

func (f *Framework) wrapCommands() {
	inner, ok := f.bridge.Commands.(*commands.Processor)
	if !ok {
		return // somebody else's processor: its commands are finished when a restart has cut them off
	}
	// The framework's own form of this one expects the unwrapped Matrix connector.
	inner.AddHandler(&commands.FullHandler{
		Func: func(ce *commands.Event) {
			if !ce.User.Permissions.Admin { // the framework's own check says so in English
				ce.Reply(f.speak(ce.User.MXID).Text("command.admins-only"))
				return
			}
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
