package connector

import (
	"context"
	"fmt"
	"time"

	"maunium.net/go/mautrix/bridgev2/commands"
	frameworkdb "maunium.net/go/mautrix/bridgev2/database"
	"maunium.net/go/mautrix/id"

	"postern/connector/killpoint"
	"postern/connector/words"
	"postern/database"
)

// retryMediaName is the command that asks for attachments again.
const retryMediaName = "retry-media"

// retryMediaCommand asks for the attachment whose placeholder the command answers, or for all that are missing in the room.
func retryMediaCommand(help words.Words) *commands.FullHandler {
	return &commands.FullHandler{
		Func: retryMedia, Name: retryMediaName,
		Help: commands.HelpMeta{
			Section:     commands.HelpSectionChats,
			Description: help.Text("help.retry-media"),
		},
		RequiresPortal: true,
		RequiresLogin:  true,
	}
}

func retryMedia(ce *commands.Event) {
	login, _, err := ce.Portal.FindPreferredLogin(ce.Ctx, ce.User, false)
	if err != nil || login == nil {
		reply(ce, "error.not-your-room")
		return
	}
	c, ok := login.Client.(*client)
	if !ok {
		reply(ce, "error.login-unusable")
		return
	}
	if waits, err := c.requests.waits(ce.Ctx, string(ce.Portal.ID)); err != nil {
		c.log.Err(err).Msg("Could not look for a request")
		reply(ce, "error.bridge")
		return
	} else if waits {
		reply(ce, "retry-media.request")
		return
	}
	n, err := c.retry(ce.Ctx, ce.Portal.Portal, ce.ReplyTo)
	switch {
	case err != nil:
		c.log.Err(err).Msg("Could not ask for attachments again")
		reply(ce, "error.bridge")
	case n == 0 && ce.ReplyTo != "":
		reply(ce, "retry-media.not-that")
	case n == 0:
		reply(ce, "retry-media.none")
	case n == 1:
		reply(ce, "retry-media.one")
	default:
		reply(ce, "retry-media.many", "n", n)
	}
}

// retry asks again for the attachment of the message behind an event, or for all that are missing in a chat, and says how many.
func (c *client) retry(ctx context.Context, portal *frameworkdb.Portal, evt id.EventID) (int, error) {
	media, now := c.connector.db.IncomingMedia(), time.Now().UnixMilli()
	if evt == "" {
		n, err := media.Want(ctx, string(portal.ID), now)
		asked()
		c.arrivals.look()
		return n, err
	}
	message, err := c.connector.bridge.DB.Message.GetPartByMXID(ctx, evt)
	if err != nil || message == nil || message.Room != portal.PortalKey {
		return 0, err
	}
	stanza, theirs := incomingStanza(string(portal.ID), message.ID)
	if !theirs {
		return 0, nil
	}
	row, err := media.Get(ctx, string(portal.ID), stanza)
	if err != nil || row == nil || row.State != database.IncomingMediaMissing || row.Expires < now {
		return 0, err
	}
	if again, err := media.WantAgain(ctx, row.ChatID, row.MessageID); err != nil || !again {
		return 0, err // or the message was taken back a moment ago
	}
	row.State = database.IncomingMediaWanted
	asked()
	c.arrivals.resume(row)
	return 1, nil
}

// asked is between storing that attachments are wanted and fetching them.
func asked() { killpoint.Hit(killpoint.InFileAsked) }

const (
	pruneEvery = time.Hour
	pruneBatch = 500
)

// pruneIncomingMedia forgets attachments that are too old, until the connector ends.
func (c *Connector) pruneIncomingMedia() {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		c.pruneOldMedia()
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// pruneOldMedia forgets those that are too old now.
func (c *Connector) pruneOldMedia() {
	for n := pruneBatch; n == pruneBatch; {
		var err error
		if n, err = c.db.IncomingMedia().Prune(c.ctx, c.clock.now().UnixMilli(), pruneBatch); err != nil && c.ctx.Err() == nil {
			c.log.Err(fmt.Errorf("connector: prune: %w", err)).Msg("Could not forget old attachments")
		}
	}
}
