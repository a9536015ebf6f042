package connector

import (
	"context"
	"fmt"
	"strconv"

	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix/bridgev2/networkid"
	"maunium.net/go/mautrix/id"

	"postern/connector/killpoint"
	"postern/connector/profile"
	"postern/connector/words"
	"postern/database"
)

// emptyAccount deletes what belongs to an account and is not needed to ask the gatekeeper, the framework's part too, in one transaction. Each
// chat's room is told that nothing written there reaches anybody.
func (c *Connector) emptyAccount(ctx context.Context, row *database.Leaving) error {
	err := c.db.Do(ctx, func(ctx context.Context) error {
		if err := c.emptyRows(ctx, row); err != nil {
			return err
		}
		killpoint.Hit(killpoint.LeaveEmptying)
		return nil
	})
	if err != nil {
		return err
	}
	c.stack.Notices.Wake()
	killpoint.Hit(killpoint.LeaveEmptied)
	return nil
}

func (c *Connector) emptyRows(ctx context.Context, row *database.Leaving) error {
	rooms, err := c.roomsOf(ctx, row.AccountID)
	if err != nil {
		return err
	}
	if err := c.failUnsettled(ctx, row); err != nil {
		return err
	}
	w := c.wordsFor(id.UserID(row.MXID))
	for _, room := range rooms {
		if err := c.tellLeaving(ctx, row, room, w.Text("leaving.room", "gatekeeper", gatekeeperName(row.Gatekeeper))); err != nil {
			return err
		}
	}
	contacts, err := c.db.Leavings().Empty(ctx, row.AccountID)
	if err != nil {
		return err
	}
	return c.emptyFramework(ctx, row, rooms, contacts)
}

// endAccount deletes the rest, with the keys and the wish, and has the person told.
func (c *Connector) endAccount(ctx context.Context, row *database.Leaving, room id.RoomID) error {
	err := c.db.Do(ctx, func(ctx context.Context) error {
		now, err := c.db.Leavings().Get(ctx, row.AccountID)
		if err != nil || now == nil {
			return err // a commit that was not answered has been done
		}
		// Something that was under way when everything was deleted may have left a row since.
		if err := c.emptyRows(ctx, row); err != nil {
			return err
		}
		if now, err = c.db.Leavings().Get(ctx, row.AccountID); err != nil { // with what was counted
			return err
		}
		if room != "" {
			if err := c.tellLeaving(ctx, row, room, leftWords(c.wordsFor(id.UserID(row.MXID)), now)); err != nil {
				return err
			}
		}
		reason := row.Reason
		if reason == "" {
			reason = "logout"
		}
		if err := c.news.add(ctx, newsLeft, row.AccountID, "", reason); err != nil {
			return err
		}
		if err := c.db.Leavings().End(ctx, row); err != nil {
			return err
		}
		killpoint.Hit(killpoint.LeaveEnding)
		return nil
	})
	if err != nil {
		return err
	}
	killpoint.Hit(killpoint.LeaveEnded)
	c.unclaim(ctx, row.MXID)
	return nil
}

// tellLeaving stores a notice for a room of the person's.
func (c *Connector) tellLeaving(ctx context.Context, row *database.Leaving, room id.RoomID, text string) error {
	return notices{c.db.Notices()}.tell(ctx, "left "+row.AccountID, room, text)
}

// leftWords says what was deleted.
func leftWords(w words.Words, row *database.Leaving) string {
	gatekeeper, n := gatekeeperName(row.Gatekeeper), row.Counts
	files := strconv.Itoa(n.Files)
	if n.Files > 0 {
		files += " (" + sizeWords(n.Bytes) + ")"
	}
	by := ""
	if row.Reason == reasonOperator {
		by = w.Text("leaving.by-operator") + " "
	}
	return by + w.Text("leaving.done",
		"gatekeeper", gatekeeper,
		"told", w.Text("leaving.outcome."+row.Outcome, "gatekeeper", gatekeeper),
		"chats", n.Chats, "messages", n.Messages, "waiting", n.Waiting, "unseen", n.Unseen,
		"sessions", n.Sessions, "files", files)
}

// gatekeeperName is what people call a gatekeeper, also one that is switched off.
func gatekeeperName(name string) string {
	for _, p := range profile.All() {
		if p.Name == name {
			return p.DisplayName
		}
	}
	return name
}

// roomsOf are the rooms of an account's chats.
func (c *Connector) roomsOf(ctx context.Context, account string) ([]id.RoomID, error) {
	rows, err := c.db.Raw().Query(ctx, "SELECT mxid FROM portal WHERE bridge_id=$1 AND receiver=$2 AND mxid<>'' ORDER BY id",
		string(c.bridge.ID), account)
	rooms, err := dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[id.RoomID], err).AsList()
	if err != nil {
		return nil, fmt.Errorf("connector: list rooms: %w", err)
	}
	return rooms, nil
}

// emptyFramework deletes what the framework keeps of an account: chats with all their messages, the login itself, and the ghosts of people
// with whom nobody has a chat any more. What we have journalled of the rooms and is done with goes too.
func (c *Connector) emptyFramework(ctx context.Context, row *database.Leaving, rooms []id.RoomID, contacts []string) error {
	bridge := string(c.bridge.ID)
	exec := func(query string, args ...any) error {
		if _, err := c.db.Raw().Exec(ctx, query, args...); err != nil {
			return fmt.Errorf("connector: empty the framework's tables: %w", err)
		}
		return nil
	}
	for _, room := range rooms {
		if err := exec("DELETE FROM postern_as_event WHERE room_id=$1 AND finished_at IS NOT NULL", string(room)); err != nil {
			return err
		}
		if err := exec("DELETE FROM postern_notice WHERE room_id=$1 AND sent_at IS NOT NULL", string(room)); err != nil {
			return err
		}
	}
	if err := exec("DELETE FROM portal WHERE bridge_id=$1 AND receiver=$2", bridge, row.AccountID); err != nil {
		return err
	}
	if err := exec("DELETE FROM user_login WHERE bridge_id=$1 AND id=$2", bridge, row.AccountID); err != nil {
		return err
	}
	for _, p := range profile.All() {
		if p.Name != row.Gatekeeper {
			continue
		}
		ghosts := []networkid.UserID{selfID(p, row.AccountID)}
		for _, contact := range contacts {
			ghosts = append(ghosts, ghostID(p, contact))
		}
		for _, ghost := range ghosts {
			if err := exec("DELETE FROM ghost WHERE bridge_id=$1 AND id=$2", bridge, string(ghost)); err != nil {
				return err
			}
			// What is known of the rooms themselves stays: without it the last words in them would not be encrypted.
			mxid := c.matrix.FormatGhostMXID(ghost).String()
			if err := exec("DELETE FROM mx_user_profile WHERE user_id=$1", mxid); err != nil {
				return err
			}
			if err := exec("DELETE FROM mx_registrations WHERE user_id=$1", mxid); err != nil {
				return err
			}
		}
	}
	return nil
}
