package connector

import (
	"postern/connector/push"
)

// newPushes makes what takes the gatekeepers' pushes (PROTOCOL.md 8.2).
func (c *Connector) newPushes() (*push.Handler, error) {
	cfg := push.Config{Base: c.Config.Public.Base, Wake: c.pushed}
	for _, a := range c.Config.agreements {
		cfg.Senders = append(cfg.Senders, push.Sender{Name: a.profile.Name, Issuer: a.profile.Push.Issuer, JWKSURL: a.profile.Endpoints.JWKS})
	}
	return push.New(cfg)
}

// pushed wakes a user. It does the same for a name that nobody has, but for the last step, and remembers nothing but that the user is
// to be connected: a repeated push does no more than one.
func (c *Connector) pushed(gatekeeper, identifier string) {
	identifier, err := normalise(c.Config.IdentifierType, identifier)
	if err != nil {
		return // nobody has it
	}
	if user := c.connected.find(gatekeeper, identifier); user != nil {
		user.account.Wake()
	}
}
