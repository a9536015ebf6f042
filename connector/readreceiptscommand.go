package connector

import (
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/commands"

	"postern/connector/words"
)

// wantsReceipts says whether the person of a login wants read receipts, in both directions.
func wantsReceipts(login *bridgev2.UserLogin) bool {
	metadata, ok := login.Metadata.(*LoginMetadata)
	return !ok || !metadata.NoReadReceipts
}

// readReceiptsCommand switches a login's read receipts.
func readReceiptsCommand(help words.Words) *commands.FullHandler {
	return &commands.FullHandler{
		Name: "read-receipts",
		Func: readReceipts,
		Help: commands.HelpMeta{
			Section:     commands.HelpSectionGeneral,
			Description: help.Text("help.read-receipts"),
			Args:        help.Text("help.read-receipts.args"),
		},
		RequiresLogin: true,
	}
}

func readReceipts(ce *commands.Event) {
	login, args := namedOrDefaultLogin(ce)
	if login == nil {
		reply(ce, "error.not-logged-in")
		return
	}
	metadata, ok := login.Metadata.(*LoginMetadata)
	if !ok {
		reply(ce, "read-receipts.cannot")
		return
	}
	on, change, understood := parseSwitch(args)
	switch {
	case !understood:
		reply(ce, "read-receipts.usage")
		return
	case !change:
		reply(ce, receiptWords(!metadata.NoReadReceipts))
		return
	}
	before := metadata.NoReadReceipts
	metadata.NoReadReceipts = !on
	if err := login.Save(ce.Ctx); err != nil {
		metadata.NoReadReceipts = before
		ce.Log.Err(err).Msg("Could not store a choice of read receipts")
		reply(ce, "read-receipts.failed")
		return
	}
	if c, ok := login.Client.(*client); ok {
		c.account.SetReadReceipts(on)
	}
	reply(ce, receiptWords(on))
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

// receiptWords is the key of the words that say whether read receipts are on.
func receiptWords(on bool) string {
	if on {
		return "read-receipts.on"
	}
	return "read-receipts.off"
}
