package connector

import (
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/commands"
	"maunium.net/go/mautrix/bridgev2/networkid"
)

// namedLogin is the login that the first word of a command names, with the words behind it; nil, with all of them, if it names none of
// the person's own. That is the one place that keeps a command away from other people's logins.
func namedLogin(ce *commands.Event, args []string) (*bridgev2.UserLogin, []string) {
	if len(args) == 0 {
		return nil, args
	}
	login := ce.Bridge.GetCachedUserLoginByID(networkid.UserLoginID(args[0]))
	if login == nil || login.UserMXID != ce.User.MXID {
		return nil, args
	}
	return login, args[1:]
}

// namedOrDefaultLogin is the login that the first word of a command names, or the person's default one, with the other words; nil if
// they have none.
func namedOrDefaultLogin(ce *commands.Event) (*bridgev2.UserLogin, []string) {
	if login, args := namedLogin(ce, ce.Args); login != nil {
		return login, args
	}
	return ce.User.GetDefaultLogin(), ce.Args
}
