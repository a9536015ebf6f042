package connector

import (
	"context"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/id"

	"postern/connector/email"
	"postern/connector/words"
)

// errNotAssigned: the admin has given this user no identifier.
var errNotAssigned = errors.New("connector: identifier: none is assigned")

// identifierFor is the identifier of a Matrix user that the bridge knows without asking them, normalised.
func (c *Connector) identifierFor(ctx context.Context, mxid id.UserID) (string, error) {
	if c.Config.Identifier.Mode == modeAssigned {
		row, err := c.db.AssignedIdentifiers().Get(ctx, mxid.String())
		if err != nil {
			return "", err
		} else if row == nil {
			return "", errNotAssigned
		}
		return row.Identifier, nil
	}
	data, err := person(mxid)
	if err != nil {
		return "", err
	}
	text, err := render(c.Config.identifier, data)
	if err != nil {
		return "", fmt.Errorf("connector: identifier: %w", err)
	}
	return normalise(c.Config.IdentifierType, text)
}

// proper says whether text can be an identifier of that type that an admin gives.
func proper(kind, text string) bool {
	switch kind {
	case identifierEmail:
		_, ok := email.Address(text)
		return ok
	case identifierPhone:
		return len(text) >= 6 && len(text) <= 15 && text[0] != '0'
	}
	for _, r := range text {
		if !unicode.IsPrint(r) || r == ' ' {
			return false
		}
	}
	return true
}

// usable says whether what the gatekeeper answers with can take the place of an identifier (PROTOCOL.md 1.5, 3.2).
func usable(identifier string) bool {
	n := utf8.RuneCountInString(identifier)
	if n < 1 || n > maxIdentifier || !utf8.ValidString(identifier) {
		return false
	}
	for _, r := range identifier {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}

// chooseIdentifier finds out under which name the person will be known; a step if they have to be asked.
func (l *loginProcess) chooseIdentifier(ctx context.Context) (*bridgev2.LoginStep, error) {
	if l.connector.Config.Identifier.Mode == modeEmail {
		return l.askAddress(l.words.Text("email.ask", "gatekeeper", l.agreed.profile.DisplayName)), nil
	}
	identifier, err := l.connector.identifierFor(ctx, l.user.MXID)
	switch {
	case errors.Is(err, errNotAssigned):
		return nil, l.words.Error("login.not-assigned", "contact", l.connector.contact(l.words))
	case err != nil:
		l.connector.log.Warn().Err(err).Msg("No identifier can be made of a Matrix ID")
		return nil, l.words.Error("login.no-identifier", "contact", l.connector.contact(l.words))
	}
	l.identifier = identifier
	return nil, nil
}

// askAddress asks for an e-mail address.
func (l *loginProcess) askAddress(instructions string) *bridgev2.LoginStep {
	l.answer = l.takeAddress
	return inputStep("address", instructions, bridgev2.LoginInputDataField{
		Type: bridgev2.LoginInputFieldTypeEmail, Name: l.words.Text("email.field"), Validate: func(text string) (string, error) {
			address, ok := email.Address(text)
			if !ok {
				return "", l.words.Error("email.not-one")
			}
			return address, nil
		},
	})
}

// takeAddress sends a code to the address that the person has named.
func (l *loginProcess) takeAddress(ctx context.Context, text string) (*bridgev2.LoginStep, error) {
	address, ok := email.Address(text)
	if !ok {
		return nil, l.words.Error("email.not-one")
	}
	c := l.connector
	proof, code, err := c.proof(ctx, l.user.MXID, address, l.words)
	if err != nil {
		return nil, err
	}
	err = c.mail.Send(ctx, address, l.words.Text("email.subject"), l.words.Text("email.letter",
		"code", code, "user", l.user.MXID, "gatekeeper", l.agreed.profile.DisplayName, "operator", c.operator(l.words)))
	switch {
	case errors.Is(err, email.ErrRefused):
		return l.askAddress(l.words.Text("email.refused")), nil
	case err != nil:
		c.log.Err(err).Msg("Could not send a code by e-mail")
		return nil, l.words.Error("email.away", "contact", c.contact(l.words))
	}
	l.proof = proof
	return l.askCode(l.words.Text("email.sent")), nil
}

func (l *loginProcess) askCode(instructions string) *bridgev2.LoginStep {
	l.answer = l.takeCode
	return inputStep("code", instructions, bridgev2.LoginInputDataField{
		Type: bridgev2.LoginInputFieldType2FACode, Name: l.words.Text("email.code"), Validate: func(text string) (string, error) { return text, nil },
	})
}

// takeCode takes the proven address for the identifier.
func (l *loginProcess) takeCode(ctx context.Context, code string) (*bridgev2.LoginStep, error) {
	switch err := l.proof.Check(code); {
	case errors.Is(err, email.ErrWrong):
		return l.askCode(l.words.Text("email.wrong", "n", l.proof.TriesLeft())), nil
	case err != nil:
		return nil, l.words.Error("email.over")
	}
	identifier, err := normalise(identifierEmail, l.proof.Address())
	if err != nil {
		return nil, l.words.Error("email.not-one")
	}
	l.identifier, l.proven = identifier, true
	return l.next(ctx)
}

// operator says who runs the bridge, and contact how they are reached, in the language of the words.
func (c *Connector) operator(w words.Words) string {
	o := c.Config.Operator
	switch {
	case o.Name != "" && o.Contact != "":
		return w.Text("operator.name-contact", "name", o.Name, "contact", o.Contact)
	case o.Name != "" || o.Contact != "":
		return o.Name + o.Contact
	}
	return w.Text("operator.unnamed")
}

func (c *Connector) contact(w words.Words) string {
	switch o := c.Config.Operator; {
	case o.Contact != "":
		return o.Contact
	case o.Name != "":
		return o.Name
	}
	return w.Text("operator.no-contact")
}
