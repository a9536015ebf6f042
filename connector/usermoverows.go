package connector

import (
	"context"
	"fmt"
	"strings"

	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix/bridgev2/networkid"

	"postern/database"
)

// movedAccounts are the ids of the user's accounts at the old instance, $1 being the user.
const movedAccounts = "(SELECT id FROM postern_account WHERE mxid=$1)"

// movedPortals are the rooms of their chats.
const movedPortals = "(SELECT mxid FROM portal WHERE mxid IS NOT NULL AND receiver IN " + movedAccounts + ")"

// copyFramework copies what the framework keeps of the user, inside the transaction that moves them. Ghosts are the new instance's; whom they
// stand for stays. Keys of encrypted rooms are each bot's own, so only that a room is encrypted is copied.
func (m *mover) copyFramework(ctx context.Context) error {
	lost := map[string]bool{}
	for _, r := range m.rooms {
		lost[r.room.String()] = r.lost
	}
	ghost := func(row map[string]any, column string) {
		if id, ok := textOf(row[column]); ok {
			row[column] = m.newGhost(id)
		}
	}
	here := []any{m.user}
	for _, rows := range []*database.MoveRow{
		{
			Table: "user", Where: "mxid=$1", Args: here,
			Change:   func(row map[string]any) bool { row["management_room"] = nil; return true },
			Conflict: ` ON CONFLICT (bridge_id, mxid) DO UPDATE SET access_token=COALESCE("user".access_token, excluded.access_token)`,
		},
		{
			Table: "ghost", Args: here, Conflict: " ON CONFLICT DO NOTHING",
			Where: `id IN (SELECT other_user_id FROM portal WHERE receiver IN ` + movedAccounts + ` UNION SELECT sender_id FROM message WHERE room_receiver IN ` +
				movedAccounts + ` UNION SELECT sender_id FROM reaction WHERE room_receiver IN ` + movedAccounts + `)`,
			Change: func(row map[string]any) bool {
				ghost(row, "id")
				row["name_set"], row["avatar_set"], row["contact_info_set"] = false, false, false
				return true
			},
		},
		{Table: "user_login", Where: "id IN " + movedAccounts, Args: here, Change: func(row map[string]any) bool { row["space_room"] = nil; return true }},
		{
			Table: "portal", Where: "receiver IN " + movedAccounts, Args: here,
			Change: func(row map[string]any) bool {
				ghost(row, "other_user_id")
				row["in_space"], row["relay_bridge_id"], row["relay_login_id"] = false, nil, nil
				if room, ok := textOf(row["mxid"]); ok && lost[room] {
					row["mxid"] = nil
				}
				return true
			},
		},
		{Table: "message", Where: "room_receiver IN " + movedAccounts + " ORDER BY rowid", Args: here, Change: func(row map[string]any) bool { ghost(row, "sender_id"); return true }},
		{Table: "reaction", Where: "room_receiver IN " + movedAccounts, Args: here, Change: func(row map[string]any) bool { ghost(row, "sender_id"); return true }},
		{Table: "user_portal", Where: "login_id IN " + movedAccounts, Args: here, Change: func(row map[string]any) bool { row["in_space"] = false; return true }},
		{
			Table: "disappearing_message", Where: "mx_room IN " + movedPortals, Args: here,
			Change: func(row map[string]any) bool { room, _ := textOf(row["mx_room"]); return !lost[room] },
		},
		{
			Table: "mx_room_state", Where: "room_id IN " + movedPortals, Args: here, Conflict: " ON CONFLICT (room_id) DO UPDATE SET encryption=excluded.encryption, create_event=excluded.create_event",
			Change: func(row map[string]any) bool {
				delete(row, "members_fetched")
				row["power_levels"] = nil // they change in these moments
				return true
			},
		},
	} {
		if err := m.move.CopyRows(ctx, rows); err != nil {
			return err
		}
	}
	return nil
}

// textOf is a value of a text column.
func textOf(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case []byte:
		return string(v), v != nil
	}
	return "", false
}

// forgetFramework deletes what the old instance's framework keeps of the user, and what is journalled of their rooms, inside the transaction that
// forgets them. Ghosts of people with whom nobody has a chat any more go too.
func (m *mover) forgetFramework(ctx context.Context) error {
	raw := m.from.DB.Raw()
	for _, statement := range []string{
		"DELETE FROM postern_as_event WHERE room_id IN " + movedPortals,
		"DELETE FROM postern_notice WHERE room_id IN " + movedPortals,
		`DELETE FROM ghost WHERE id IN (SELECT p.other_user_id FROM portal p WHERE p.receiver IN ` + movedAccounts + `)
			AND NOT EXISTS (SELECT 1 FROM portal other WHERE other.other_user_id=ghost.id AND other.receiver NOT IN ` + movedAccounts + `)`,
		"DELETE FROM portal WHERE receiver IN " + movedAccounts,
		"DELETE FROM user_login WHERE id IN " + movedAccounts,
	} {
		if _, err := raw.Exec(ctx, statement, m.user); err != nil {
			return fmt.Errorf("connector: forget a user who was moved: %w", err)
		}
	}
	for _, a := range m.accounts {
		if p := m.profileOf(a.ID); p != nil {
			if _, err := raw.Exec(ctx, "DELETE FROM ghost WHERE id=$1", string(selfID(p, a.ID))); err != nil {
				return fmt.Errorf("connector: forget a user who was moved: %w", err)
			}
		}
	}
	// The process that comes next knows no former members: they would count as being there.
	list := make([]string, len(m.rooms))
	args := make([]any, len(m.rooms))
	for i, r := range m.rooms {
		list[i], args[i] = fmt.Sprintf("$%d", i+1), r.room.String()
	}
	if len(list) > 0 {
		for _, table := range []string{"mx_user_profile", "mx_room_state"} {
			if _, err := raw.Exec(ctx, "DELETE FROM "+table+" WHERE room_id IN ("+strings.Join(list, ", ")+")", args...); err != nil {
				return fmt.Errorf("connector: forget a user who was moved: %w", err)
			}
		}
	}
	return nil
}

// contactThere is the new instance's ghost for whom a room is with, "" if the chat is not there.
func (m *mover) contactThere(ctx context.Context, r *movedRoom) (networkid.UserID, error) {
	rows, err := m.to.DB.Raw().Query(ctx, "SELECT other_user_id FROM portal WHERE mxid=$1 AND receiver=$2 AND other_user_id IS NOT NULL", string(r.room), r.account)
	list, err := dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[networkid.UserID], err).AsList()
	if err != nil {
		return "", fmt.Errorf("connector: move a user: look up a chat: %w", err)
	} else if len(list) == 0 {
		return "", nil
	}
	return list[0], nil
}
