package connector

import (
	"strings"
	"time"

	"maunium.net/go/mautrix/bridgev2/commands"
	"maunium.net/go/mautrix/id"

	"postern/connector/words"
	"postern/database"
)

// assignIdentifierCommand lets the admin give a user the identifier under which the gatekeepers' users find them.
func assignIdentifierCommand(help words.Words) *commands.FullHandler {
	return &commands.FullHandler{
		Func: assignIdentifier, Name: "assign-identifier",
		Help: commands.HelpMeta{
			Section: commands.HelpSectionAdmin, Description: help.Text("help.assign-identifier"), Args: help.Text("help.assign-identifier.args"),
		},
		RequiresAdmin: true,
	}
}

func assignIdentifier(ce *commands.Event) {
	c, ok := ce.Bridge.Network.(*Connector)
	if !ok {
		return
	}
	if len(ce.Args) < 1 || len(ce.Args) > 2 {
		reply(ce, "assign.usage")
		return
	}
	user := id.UserID(ce.Args[0])
	if _, _, err := user.Parse(); err != nil {
		reply(ce, "assign.no-user")
		return
	}
	if len(ce.Args) == 1 {
		c.sayAssigned(ce, user)
		return
	}
	if ce.Args[1] == "-" {
		if err := c.db.AssignedIdentifiers().Delete(ce.Ctx, user.String()); err != nil {
			ce.Log.Err(err).Msg("Could not take an identifier back")
			reply(ce, "error.bridge")
			return
		}
		reply(ce, "assign.deleted", "user", user.String())
		return
	}
	c.assign(ce, user, ce.Args[1])
}

func (c *Connector) sayAssigned(ce *commands.Event, user id.UserID) {
	row, err := c.db.AssignedIdentifiers().Get(ce.Ctx, user.String())
	switch {
	case err != nil:
		ce.Log.Err(err).Msg("Could not look up an identifier")
		reply(ce, "error.bridge")
	case row == nil:
		reply(ce, "assign.none", "user", user.String())
	default:
		reply(ce, "assign.is", "user", user.String(), "identifier", row.Identifier)
	}
}

// assign stores an identifier. It counts from the user's next login: what the gatekeeper knows them by does not change under them.
func (c *Connector) assign(ce *commands.Event, user id.UserID, value string) {
	identifier, err := normalise(c.Config.IdentifierType, value)
	if err != nil || !proper(c.Config.IdentifierType, identifier) {
		reply(ce, "assign.not-one", "type", c.Config.IdentifierType)
		return
	}
	for _, agreed := range c.Config.agreements {
		account, err := c.db.Accounts().ByIdentifier(ce.Ctx, agreed.profile.Name, identifier)
		if err != nil {
			ce.Log.Err(err).Msg("Could not look up an account")
			reply(ce, "error.bridge")
			return
		} else if account != nil && account.MXID != user.String() {
			reply(ce, "assign.taken", "identifier", identifier)
			return
		}
	}
	err = c.db.AssignedIdentifiers().Put(ce.Ctx, &database.Assigned{MXID: user.String(), Identifier: identifier, At: time.Now().UnixMilli()})
	switch {
	case database.IsUniqueViolation(err):
		reply(ce, "assign.taken", "identifier", identifier)
	case err != nil:
		ce.Log.Err(err).Msg("Could not store an identifier")
		reply(ce, "error.bridge")
	default:
		reply(ce, "assign.done", "user", user.String(), "identifier", identifier)
		if c.Config.Identifier.Mode != modeAssigned {
			reply(ce, "assign.unused", "mode", strings.ToLower(c.Config.Identifier.Mode))
		}
	}
}
