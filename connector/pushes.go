package connector

import (
	"context"
	"net/http"
	"net/netip"

	"maunium.net/go/mautrix/id"

	"postern/connector/push"
)

// newPushes makes what takes the gatekeepers' pushes (PROTOCOL.md 8.2).
func (c *Connector) newPushes() (*push.Handler, error) {
	cfg := push.Config{Base: c.Config.Public.Base, Wake: func(gatekeeper, identifier string, header http.Header) {
		if !c.pushed(gatekeeper, identifier) {
			c.passPush(header, identifier)
		}
	}}
	for _, a := range c.Config.agreements {
		cfg.Senders = append(cfg.Senders, push.Sender{Name: a.profile.Name, Issuer: a.profile.Push.Issuer, JWKSURL: a.profile.Endpoints.JWKS})
	}
	return push.New(cfg)
}

// pushed wakes a user. It does the same for a name that nobody has, but for the last step, and remembers nothing but that the user is
// to be connected: a repeated push does no more than one.
func (c *Connector) pushed(gatekeeper, identifier string) (here bool) {
	identifier, err := normalise(c.Config.IdentifierType, identifier)
	if err != nil {
		return false // nobody has it
	}
	if user := c.connected.find(gatekeeper, identifier); user != nil {
		user.awaited()
		user.account.Wake()
		return true
	}
	return false
}

// addressOf makes what finds the address of a user's client, nil if the gatekeeper is told none.
func (c *Connector) addressOf(user id.UserID) func(ctx context.Context) (netip.Addr, error) {
	if c.addresses == nil {
		return nil
	}
	return func(ctx context.Context) (netip.Addr, error) { return c.addresses.find(ctx, user) }
}

// pace is what holds the attempts of all accounts to connect back.
func (c *Connector) pace() func(ctx context.Context, hurry <-chan struct{}) error {
	if c.pacer == nil {
		return nil
	}
	return c.pacer.Wait
}
