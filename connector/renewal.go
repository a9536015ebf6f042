package connector

import (
	"context"
	"time"
)

const (
	renewalPause    = 5 * time.Second
	maxRenewalPause = 5 * time.Minute
)

// renewalWords is what a user reads once when the database was found to be an old copy.
const renewalWords = "⚠️ The bridge's database was put back to an earlier state, or the bridge could not make sure that it was not. To be safe it has made new " +
	"encryption sessions with everybody you talk to. What was sent and received since that state is not lost on Matrix or on phones, but the bridge may not know " +
	"of it: receipts, replies, edits and reactions to messages from that time may be missing, and a message that was waiting may have to be sent again by its sender."

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
	if err = c.connector.stack.Notices.Reply(ctx, "renewal "+due.Untold, room, "", c.login.UserMXID, renewalWords); err != nil {
		return err
	}
	return store.Told(ctx, due.Untold)
}
