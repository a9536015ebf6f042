package connector

import (
	"errors"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/bridgev2/commands"
	"maunium.net/go/mautrix/bridgev2/matrix"
)

// puppetCommands take the place of the framework's login-matrix, ping-matrix and logout-matrix, which let the bridge act in Matrix in a
// person's name.
func puppetCommands() []commands.CommandHandler {
	begin, ask, end := *matrix.CommandLoginMatrix, *matrix.CommandPingMatrix, *matrix.CommandLogoutMatrix
	begin.Func, ask.Func, end.Func = beginPuppet, askPuppet, endPuppet
	return []commands.CommandHandler{&begin, &ask, &end}
}

// mayPuppet says whether somebody may have the bridge act in their name, and tells them if not.
func mayPuppet(ce *commands.Event) bool {
	if !ce.User.Permissions.DoublePuppet {
		reply(ce, "puppet.may-not")
	}
	return ce.User.Permissions.DoublePuppet
}

func beginPuppet(ce *commands.Event) {
	if len(ce.Args) > 0 {
		ce.Redact() // whoever has the token is the person
	}
	if !mayPuppet(ce) {
		return
	}
	if len(ce.Args) != 1 {
		reply(ce, "puppet.usage")
		return
	}
	token := ce.Args[0]
	err := ce.User.LoginDoublePuppet(ce.Ctx, token)
	switch {
	case err == nil:
		reply(ce, "puppet.done")
	case errors.Is(err, matrix.ErrMismatchingMXID):
		reply(ce, "puppet.other-user", "user", ce.User.MXID.String())
	case errors.Is(err, mautrix.MUnknownToken):
		reply(ce, "puppet.refused")
	case ce.User.AccessToken != "" && ce.User.AccessToken != token:
		reply(ce, "puppet.by-itself")
	default:
		ce.Log.Err(err).Msg("Could not begin to act in somebody's name")
		reply(ce, "puppet.failed")
	}
}

func askPuppet(ce *commands.Event) {
	intent, ok := ce.User.DoublePuppet(ce.Ctx).(*matrix.ASIntent)
	if !ok {
		reply(ce, "puppet.none")
		return
	}
	who, err := intent.Matrix.Whoami(ce.Ctx)
	switch {
	case errors.Is(err, mautrix.MUnknownToken):
		reply(ce, "puppet.refused")
	case err != nil:
		ce.Log.Err(err).Msg("Could not ask whether the bridge acts in somebody's name")
		reply(ce, "puppet.failed")
	default:
		reply(ce, "puppet.works", "user", who.UserID.String())
	}
}

func endPuppet(ce *commands.Event) {
	switch {
	case !mayPuppet(ce):
	case ce.User.AccessToken == "":
		reply(ce, "puppet.none")
	default:
		ce.User.LogoutDoublePuppet(ce.Ctx)
		reply(ce, "puppet.ended")
	}
}
