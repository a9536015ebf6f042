package connector

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"maunium.net/go/mautrix/format"

	"postern/connector/profile"
	"postern/connector/words"
	"postern/database"
)

// consentForm numbers the form in which a consent is stored: from 2 on there is a row of its own with all that was agreed to. Accounts with
// 1 have none, and their people are asked once.
const consentForm = 2

// consentDocument is what is kept, sealed, of one time that somebody agreed.
type consentDocument struct {
	// Language is that of the words, Text the words as they were shown.
	Language string `json:"language"`
	Text     string `json:"text"`
	// Gatekeeper is the profile's name, Identifier the name there, as it was shown, and Source where that comes from: the mode of the
	// configuration.
	Gatekeeper string `json:"gatekeeper"`
	Identifier string `json:"identifier"`
	Source     string `json:"source"`
	// ReadReceipts is what was chosen.
	ReadReceipts bool `json:"read_receipts"`
	// Country is what was declared, "" for nothing.
	Country string `json:"country,omitempty"`
}

// consentText is what a person reads before they agree: what is encrypted to where, what the gatekeeper learns, what does not work, and
// how to leave. It is Markdown.
func (c *Connector) consentText(w words.Words, p *profile.Profile, identifier string) string {
	gatekeeper := p.DisplayName
	return strings.Join([]string{
		w.Text("consent.text.begin"),
		w.Text("consent.text.where", "gatekeeper", gatekeeper, "operator", c.operator(w)),
		w.Text("consent.text.learns", "gatekeeper", gatekeeper, "identifier", format.EscapeMarkdown(identifier)),
		w.Text("consent.text.receipts", "gatekeeper", gatekeeper),
		w.Text("consent.text.missing"),
		w.Text("consent.text.stays"),
		w.Text("consent.text.leave", "gatekeeper", gatekeeper),
	}, "\n\n") + cannotCarry(w, p)
}

// wording is the version of the words in one language: it changes with them, and with who runs the bridge.
func (c *Connector) wording(w words.Words) string {
	sum := sha256.Sum256([]byte(w.All("consent.text.") + "\x00" + c.Config.Operator.Name + "\x00" + c.Config.Operator.Contact))
	return hex.EncodeToString(sum[:6])
}

// newConsent writes down that somebody agreed, now.
func (c *Connector) newConsent(w words.Words, account string, d consentDocument) (*database.Consent, error) {
	d.Language = w.Language()
	raw, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("connector: consent: %w", err)
	}
	return &database.Consent{AccountID: account, At: time.Now().UnixMilli(), Wording: c.wording(w), Document: raw}, nil
}

// consentOf is the consent in force of an account; nil for an account that is older than such rows.
func (c *Connector) consentOf(ctx context.Context, account string) (*database.Consent, *consentDocument, error) {
	row, err := c.db.Consents().Latest(ctx, account)
	if err != nil || row == nil {
		return nil, nil, err
	}
	d := &consentDocument{}
	if err := json.Unmarshal(row.Document, d); err != nil {
		return nil, nil, fmt.Errorf("connector: consent: %w", err)
	}
	return row, d, nil
}

// outdated says whether the words have changed since somebody agreed. They are compared in the language that was read then.
func (c *Connector) outdated(row *database.Consent, d *consentDocument) bool {
	return row == nil || row.Wording != c.wording(words.For(d.Language))
}

// askConsent asks a person whose words have changed to read them, once for each version. The stream goes on meanwhile: what they agreed to
// still holds, and nobody is cut off because a sentence is better now.
func (c *client) askConsent(ctx context.Context) {
	row, d, err := c.connector.consentOf(ctx, string(c.login.ID))
	if err == nil && c.connector.outdated(row, d) {
		c.atHome(ctx, func() {
			w := c.words()
			text := w.Text("consent.changed", "gatekeeper", c.profile.DisplayName, "prefix", c.connector.bridge.Config.CommandPrefix, "login", string(c.login.ID))
			c.askedConsent(ctx, c.connector.tellAtHome(ctx, c, "consent "+string(c.login.ID)+" "+c.connector.wording(w), text))
		})
	}
	c.askedConsent(ctx, err)
}

func (c *client) askedConsent(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		c.log.Err(err).Msg("Could not look whether the words of a consent have changed")
	}
}
