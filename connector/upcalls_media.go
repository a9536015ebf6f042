package connector

import (
	"context"
	"errors"
	"time"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/simplevent"

	"postern/connector/interop"
)

// errNoRecipe: an event stands in the queue as a recipe, and nothing here has written one.
var errNoRecipe = errors.New("connector: prepare: a recipe that this version does not write")

// Prepare implements interop.Upcalls.
func (c *client) Prepare(context.Context, *interop.Preparing) (*interop.Prepared, error) {
	return nil, &interop.Unsendable{Reason: interop.ReasonInternal, Err: errNoRecipe}
}

// Typing implements interop.Upcalls: the ghost types in the chat's room, if there is one.
func (c *client) Typing(_ context.Context, t interop.Typing) {
	var timeout time.Duration
	if t.Composing {
		timeout = c.profile.Timing.TypingExpire
	}
	kind := bridgev2.TypingTypeText
	if t.Voice {
		kind = bridgev2.TypingTypeRecordingMedia
	}
	c.login.QueueRemoteEvent(&simplevent.Typing{
		EventMeta: simplevent.EventMeta{
			Type: bridgev2.RemoteEventTyping, PortalKey: portalKey(string(c.login.ID), t.Chat),
			Sender: bridgev2.EventSender{Sender: ghostID(c.profile, t.Contact)},
		},
		Timeout: timeout, Type: kind,
	})
}
