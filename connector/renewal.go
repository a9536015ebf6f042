package connector

import (
	"context"
	"time"

	"maunium.net/go/mautrix/bridgev2/networkid"
)

const (
	renewalPause    = 5 * time.Second
	maxRenewalPause = 5 * time.Minute
)

// lookForRenewal sees whether the user is to be told of a renewal, and has that done.
func (c *client) lookForRenewal(ctx context.Context) {
	due, err := c.connector.db.Signal(string(c.login.ID)).Renewal(ctx)
	if err == nil && due.Untold == "" {
		return
	}
	c.atHome(ctx, func() {
		if err := c.tellRenewalOnce(ctx); err != nil && ctx.Err() == nil {
			c.connector.chores.apart(func() { c.tellRenewal(ctx) })
		}
	})
}

// atHome does a chore that tells the user something in the management room: here if there is one, and where that holds up nobody else's chores
// if the homeserver has to make one first.
func (c *client) atHome(ctx context.Context, job func()) {
	if room, err := c.connector.storedManagementRoom(ctx, c.login.UserMXID); err == nil && room != "" {
		job()
		return
	}
	c.connector.visits.do(job)
}

// tellRenewal tells the user, in the management room, that the database was found to be an old copy. It goes on until the notice is on disk.
func (c *client) tellRenewal(ctx context.Context) {
	for pause := renewalPause; ; pause = min(2*pause, maxRenewalPause) {
		err := c.tellRenewalOnce(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		c.log.Warn().Err(err).Msg("Could not tell a user about new sessions yet")
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// tellOldRows tells the user of an account of which a row was found not to be of now.
func (c *Connector) tellOldRows(account string) {
	login := c.bridge.GetCachedUserLoginByID(networkid.UserLoginID(account))
	if login == nil {
		return // at the next start
	}
	cl, ok := login.Client.(*client)
	if !ok {
		return
	}
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.cancel != nil {
		cl.tellAgain()
	}
}

func (c *client) tellRenewalOnce(ctx context.Context) error {
	store := c.connector.db.Signal(string(c.login.ID))
	due, err := store.Renewal(ctx)
	if err != nil || due.Untold == "" {
		return err
	}
	room, err := c.login.User.GetManagementRoom(ctx)
	if err != nil {
		return err
	}
	// The occasion is part of the notice's identity, so it is told once however often this is cut off, and once to somebody
	// with several accounts.
	if err = c.connector.stack.Notices.Reply(ctx, "renewal "+due.Untold, room, "", c.login.UserMXID, c.words().Text("notice.renewal")); err != nil {
		return err
	}
	if err = c.connector.news.add(ctx, newsRenewed, due.Untold+" "+string(c.login.ID), string(c.login.ID), ""); err != nil {
		return err
	}
	c.connector.news.wake()
	return store.Told(ctx, due.Untold)
}
