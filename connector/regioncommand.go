package connector

import (
	"slices"
	"strings"
	"time"

	"maunium.net/go/mautrix/bridgev2/commands"

	"postern/connector/words"
)

// regionCommand shows what is kept of where a person is, and takes a new declaration.
func regionCommand(help words.Words) *commands.FullHandler {
	return &commands.FullHandler{
		Func: sayRegion, Name: "region",
		Help: commands.HelpMeta{
			Section: commands.HelpSectionAuth, Description: help.Text("help.region"), Args: help.Text("help.region.args"),
		},
		RequiresLogin: true,
	}
}

func sayRegion(ce *commands.Event) {
	c, ok := ce.Bridge.Network.(*Connector)
	if !ok {
		return
	}
	gate := c.Config.Region.Gate
	if len(ce.Args) > 0 && gate != gateDeclaration {
		reply(ce, "region.not-asked")
		return
	}
	row, err := c.db.Regions().Get(ce.Ctx, ce.User.MXID.String())
	if err == nil && len(ce.Args) > 0 {
		country := strings.ToUpper(ce.Args[0])
		if !slices.Contains(c.Config.Region.Countries, country) {
			reply(ce, "region.not-there", "countries", words.Markdown(strings.Join(c.Config.Region.Countries, ", ")))
			return
		}
		row.Country, row.Declared = country, time.Now().UnixMilli()
		if err = c.db.Regions().Put(ce.Ctx, row); err == nil {
			_, err = c.admit(ce.Ctx, ce.User.MXID)
		}
		if err == nil {
			row, err = c.db.Regions().Get(ce.Ctx, ce.User.MXID.String())
		}
	}
	switch {
	case err != nil:
		ce.Log.Err(err).Msg("Could not look up or store where somebody is")
		reply(ce, "error.bridge")
	case gate == gateNone:
		reply(ce, "region.no-gate")
	case gate == gateDeclaration && row.Country != "":
		reply(ce, "region.declared", "country", row.Country, "date", time.UnixMilli(row.Declared).UTC().Format(time.DateOnly),
			"until", time.UnixMilli(row.Until).UTC().Format(time.DateOnly))
	default:
		reply(ce, "region.checked", "date", time.UnixMilli(row.Checked).UTC().Format(time.DateTime))
	}
}
