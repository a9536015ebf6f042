package connector

import (
	"strings"
	"time"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/commands"

	"postern/connector/words"
)

// consentCommand shows again what was agreed to, for each login, and takes the agreement to newer words.
func consentCommand(help words.Words) *commands.FullHandler {
	return &commands.FullHandler{
		Func: consent, Name: "consent",
		Help: commands.HelpMeta{
			Section: commands.HelpSectionAuth, Description: help.Text("help.consent"), Args: help.Text("help.consent.args"),
		},
		RequiresLogin: true,
	}
}

func consent(ce *commands.Event) {
	agree, args := false, ce.Args
	if len(args) > 0 && args[0] == "agree" {
		agree, args = true, args[1:]
	}
	logins := ce.User.GetUserLogins()
	if len(args) == 1 {
		named, _ := namedLogin(ce, args)
		if named == nil {
			reply(ce, "consent.no-login")
			return
		}
		logins = []*bridgev2.UserLogin{named}
	} else if len(args) > 1 {
		reply(ce, "consent.usage")
		return
	}
	for _, login := range logins {
		cl, ok := login.Client.(*client)
		switch {
		case !ok:
			reply(ce, "error.login-unusable")
		case agree:
			cl.agreeAgain(ce)
		default:
			cl.showConsent(ce)
		}
	}
}

// showConsent answers with what the person agreed to, when and in which words, and with newer words if there are any.
func (c *client) showConsent(ce *commands.Event) {
	row, d, err := c.connector.consentOf(ce.Ctx, string(c.login.ID))
	if err != nil {
		c.log.Err(err).Msg("Could not get a consent")
		reply(ce, "error.bridge")
		return
	}
	w := speakTo(ce)
	var text []string
	if row == nil {
		at := time.UnixMilli(c.current().ConsentAt).UTC().Format(time.DateTime)
		text = append(text, w.Text("consent.shown-old", "login", string(c.login.ID), "gatekeeper", c.profile.DisplayName, "at", at))
	} else {
		at := time.UnixMilli(row.At).UTC().Format(time.DateTime)
		text = append(text, w.Text("consent.shown", "login", string(c.login.ID), "gatekeeper", c.profile.DisplayName, "at", at, "version", row.Wording,
			"language", words.For(d.Language).Text("language.name"), "receipts", w.Text(switchWords(d.ReadReceipts))))
		if d.Country != "" {
			text = append(text, w.Text("consent.country", "country", d.Country))
		}
		text = append(text, "> "+strings.ReplaceAll(d.Text, "\n", "\n> "))
	}
	text = append(text, w.Text(receiptWords(wantsReceipts(c.login))))
	if c.connector.outdated(row, d) {
		now := c.connector.consentText(w, c.profile, c.current().Identifier)
		text = append(text, w.Text("consent.newer", "login", string(c.login.ID)), "> "+strings.ReplaceAll(now, "\n", "\n> "))
	}
	answer := strings.ReplaceAll(strings.Join(text, "\n\n"), "$cmdprefix", ce.Bridge.Config.CommandPrefix)
	ce.ReplyAdvanced(answer, true, false)
}

// switchWords is the key for something that is on or off.
func switchWords(on bool) string {
	if on {
		return "consent.on"
	}
	return "consent.off"
}

// agreeAgain stores the agreement to the words as they are now.
func (c *client) agreeAgain(ce *commands.Event) {
	w, account := speakTo(ce), c.current()
	region, err := c.connector.db.Regions().Get(ce.Ctx, c.login.UserMXID.String())
	if err == nil {
		row, made := c.connector.newConsent(w, account.ID, consentDocument{
			Text: c.connector.consentText(w, c.profile, account.Identifier), Gatekeeper: account.Gatekeeper, Identifier: account.Identifier,
			Source: c.connector.Config.Identifier.Mode, ReadReceipts: wantsReceipts(c.login), Country: region.Country,
		})
		if err = made; err == nil {
			err = c.connector.db.Consents().Add(ce.Ctx, row)
		}
	}
	if err != nil {
		c.log.Err(err).Msg("Could not store a consent")
		reply(ce, "error.bridge")
		return
	}
	reply(ce, "consent.stored", "login", words.Markdown(c.login.ID), "gatekeeper", c.profile.DisplayName)
}
