package connector

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix/id"

	"postern/connector/words"
)

// straysEvery is how often it is looked for ghosts in rooms that are not theirs any more.
const straysEvery = 24 * time.Hour

// watchStrays has ghosts leave rooms whose chats are no more: at the start, once a day, and when an account was deleted. Rooms that the bot is
// not in are seen to when a ghost comes into them (member).
func (c *Connector) watchStrays() {
	tick := time.NewTicker(straysEvery)
	defer tick.Stop()
	for {
		if err := c.sweepStrays(c.ctx); err != nil && c.ctx.Err() == nil {
			c.log.Warn().Err(err).Msg("Could not look for ghosts in rooms that are not theirs")
		}
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
		case <-c.strays:
		}
	}
}

// wakeStrays makes the next look begin.
func (c *Connector) wakeStrays() {
	select {
	case c.strays <- struct{}{}:
	default:
	}
}

// sweepStrays goes through the bot's rooms once. Ghosts come into a chat's room only after it is known as such, so those in any other room are
// left over.
func (c *Connector) sweepStrays(ctx context.Context) error {
	joined, err := c.matrix.Bot.Client.JoinedRooms(ctx)
	if err != nil {
		return fmt.Errorf("connector: list the bot's rooms: %w", err)
	}
	rows, err := c.db.Raw().Query(ctx, `
		SELECT mxid FROM portal WHERE bridge_id=$1 AND mxid IS NOT NULL UNION SELECT space_room FROM user_login WHERE bridge_id=$1 AND space_room IS NOT NULL
		UNION SELECT management_room FROM "user" WHERE bridge_id=$1 AND management_room IS NOT NULL`, string(c.bridge.ID))
	list, err := dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[id.RoomID], err).AsList()
	if err != nil {
		return fmt.Errorf("connector: list the bridge's rooms: %w", err)
	}
	theirs := make(map[id.RoomID]bool, len(list))
	for _, room := range list {
		theirs[room] = true
	}
	for _, room := range joined.JoinedRooms {
		if theirs[room] {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err = errors.Join(err, c.sweepRoom(ctx, room)) // one that fails keeps no other from being seen to
	}
	return err
}

// sweepRoom has the ghosts leave a room that is no chat's.
func (c *Connector) sweepRoom(ctx context.Context, room id.RoomID) error {
	members, err := c.matrix.Bot.Client.JoinedMembers(ctx, room)
	if err != nil {
		return goneIsFine(err)
	}
	reason := c.strayWords(slices.Collect(maps.Keys(members.Joined))).Text("invited.chat-gone")
	for who := range members.Joined {
		if !c.bridge.IsGhostMXID(who) {
			continue
		}
		// The table is asked: the framework remembers chats whose rows are deleted.
		var made int
		err := c.db.Raw().QueryRow(ctx, "SELECT COUNT(*) FROM portal WHERE bridge_id=$1 AND mxid=$2", string(c.bridge.ID), string(room)).Scan(&made)
		if err != nil {
			return fmt.Errorf("connector: look up a room: %w", err)
		} else if made > 0 {
			return nil // since
		}
		if err := c.goAway(ctx, who, room, reason); err != nil {
			return fmt.Errorf("connector: leave a room: %w", err)
		}
	}
	return nil
}

// strayWords are the words for a room with these members: those of the one person there, or the installation's.
func (c *Connector) strayWords(members []id.UserID) words.Words {
	people := slices.DeleteFunc(members, c.own)
	if len(people) != 1 {
		return c.standardWords()
	}
	return c.wordsFor(people[0])
}
