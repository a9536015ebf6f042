package connector

import (
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/commands"
	"maunium.net/go/mautrix/bridgev2/networkid"
)

// wantsReceipts says whether the person of a login wants read receipts, in both directions.
func wantsReceipts(login *bridgev2.UserLogin) bool {
	metadata, ok := login.Metadata.(*LoginMetadata)
	return !ok || !metadata.NoReadReceipts
}

// readReceiptsCommand switches a login's read receipts.
func readReceiptsCommand() *commands.FullHandler {
	return &commands.FullHandler{
		Name: "read-receipts",
		Func: readReceipts,
		Help: commands.HelpMeta{
			Section:     commands.HelpSectionGeneral,
			Description: "Say whether you want read receipts, or switch them on or off: yours for the others and theirs for you",
			Args:        "[_login ID_] [`on`|`off`]",
		},
		RequiresLogin: true,
	}
}

func readReceipts(ce *commands.Event) {
	login, args := ce.User.GetDefaultLogin(), ce.Args
	if len(args) > 0 {
		if named := ce.Bridge.GetCachedUserLoginByID(networkid.UserLoginID(args[0])); named != nil && named.UserMXID == ce.User.MXID {
			login, args = named, args[1:]
		}
	}
	if login == nil {
		ce.Reply("You are not logged in.")
		return
	}
	metadata, ok := login.Metadata.(*LoginMetadata)
	if !ok {
		ce.Reply("This login cannot be changed.")
		return
	}
	on, change, understood := parseSwitch(args)
	switch {
	case !understood:
		ce.Reply("Usage: `$cmdprefix %s [on|off]`", ce.Command)
		return
	case !change:
		ce.Reply("%s", receiptWords(!metadata.NoReadReceipts))
		return
	}
	before := metadata.NoReadReceipts
	metadata.NoReadReceipts = !on
	if err := login.Save(ce.Ctx); err != nil {
		metadata.NoReadReceipts = before
		ce.Log.Err(err).Msg("Could not store a choice of read receipts")
		ce.Reply("Nothing was changed: something is wrong with the bridge. Please try again later.")
		return
	}
	if c, ok := login.Client.(*client); ok {
		c.account.SetReadReceipts(on)
	}
	ce.Reply("%s", receiptWords(on))
}

// parseSwitch reads the words after the command.
func parseSwitch(args []string) (on, change, understood bool) {
	switch {
	case len(args) == 0:
		return false, false, true
	case len(args) == 1 && args[0] == "on":
		return true, true, true
	case len(args) == 1 && args[0] == "off":
		return false, true, true
	}
	return false, false, false
}

func receiptWords(on bool) string {
	if on {
		return "Read receipts are on: the others see when you have read what they wrote, and you see when they have read what you wrote."
	}
	return "Read receipts are off, in both directions."
}
