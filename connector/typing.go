package connector

import (
	"context"
	"time"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/simplevent"

	"postern/connector/interop"
)

// Typing implements interop.Upcalls: the ghost types in the chat's room, if there is one. That somebody records a voice message is shown as
// typing too, since Matrix has no other word for it.
func (c *client) Typing(_ context.Context, t interop.Typing) {
	var timeout time.Duration
	if t.Composing {
		timeout = c.profile.Timing.TypingExpire
	}
	c.login.QueueRemoteEvent(&simplevent.Typing{
		EventMeta: simplevent.EventMeta{
			Type: bridgev2.RemoteEventTyping, PortalKey: portalKey(string(c.login.ID), t.Chat), Sender: c.sender(t.Contact),
		},
		Timeout: timeout, Type: bridgev2.TypingTypeText,
	})
}
