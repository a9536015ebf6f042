package connector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/appservice"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/matrixdurable"
)

// enter brings the new instance's bot into a room, with the power that the old one's has. A room in which the old one may not do that is lost. Nothing
// in it has changed by that, and doing it again changes nothing more.
func (m *mover) enter(ctx context.Context, r *movedRoom) error {
	old, bot := m.old.NewMautrixClient(m.from.bot()), m.new.NewMautrixClient(m.to.bot())
	members, err := old.JoinedMembers(ctx, r.room)
	if err == nil {
		if _, in := members.Joined[m.to.bot()]; !in {
			if _, err = old.InviteUser(ctx, r.room, &mautrix.ReqInviteUser{UserID: m.to.bot()}); err == nil {
				_, err = bot.JoinRoomByID(ctx, r.room)
			}
		}
	}
	if err == nil {
		err = m.raise(ctx, old, r.room)
	}
	if matrixdurable.Permanent(err) {
		r.lost = true
		m.moved.Lost++
		return nil
	} else if err != nil {
		return fmt.Errorf("%w: %w", errMoveAway, err)
	}
	return nil
}

// raise gives the new bot the power of the old one.
func (m *mover) raise(ctx context.Context, old *mautrix.Client, room id.RoomID) error {
	var levels map[string]json.RawMessage
	if err := old.StateEvent(ctx, room, event.StatePowerLevels, "", &levels); err != nil {
		return err
	}
	users := map[string]int{}
	if raw := levels["users"]; raw != nil {
		if err := json.Unmarshal(raw, &users); err != nil {
			return fmt.Errorf("connector: move a user: power levels: %w", err)
		}
	}
	wanted, listed := users[m.from.bot().String()]
	if !listed {
		wanted = 100 // who has made a room of the newest kinds is not listed
	}
	if have, ok := users[m.to.bot().String()]; ok && have >= wanted {
		return nil
	}
	users[m.to.bot().String()] = wanted
	raw, err := json.Marshal(users)
	if err != nil {
		return fmt.Errorf("connector: move a user: power levels: %w", err)
	}
	levels["users"] = raw
	_, err = old.SendStateEvent(ctx, room, event.StatePowerLevels, "", levels)
	return err
}

// lookForMissed has the old instance's journal hold all that has happened in its rooms until now. What happens later the homeserver tells the new
// one, whose bot is there.
func (m *mover) lookForMissed(ctx context.Context) error {
	j := journal{store: m.from.DB.Journal(), notices: m.from.DB.Notices(), do: m.from.DB.Do}
	d := matrixdurable.NewDispatcher(matrixdurable.DispatcherConfig{Journal: j, Log: m.log})
	if err := d.Load(ctx); err != nil {
		return err
	}
	client := m.old.NewMautrixClient(m.from.bot())
	own := func(user string) bool { return speaksFor(m.from.instance(), user) || speaksFor(m.to.instance(), user) }
	look := matrixdurable.NewCatchUp(matrixdurable.CatchUpConfig{
		Journal: j, Dispatcher: d, Own: own, Log: m.log,
		Ask: func(ctx context.Context, path string, query url.Values, into any) error {
			query.Set("user_id", client.UserID.String())
			target := client.HomeserverURL.JoinPath(path)
			target.RawQuery = query.Encode()
			_, err := client.MakeFullRequest(ctx, mautrix.FullRequest{Method: http.MethodGet, URL: target.String(), ResponseJSON: into})
			return err
		},
	})
	if err := look.Look(ctx); err != nil {
		return fmt.Errorf("%w: %w", errMoveAway, err)
	}
	return d.Stop(ctx)
}

// handOver brings the contact's new ghost into a room, and has the old ghosts and the old bot leave it.
func (m *mover) handOver(ctx context.Context, r *movedRoom) error {
	old := m.old.NewMautrixClient(m.from.bot())
	members, err := old.JoinedMembers(ctx, r.room)
	if matrixdurable.Permanent(err) { // the bot is not there any more; the contact's ghost may be
		return m.leave(ctx, m.old, m.from.ghost(r.contact), r.room)
	} else if err != nil {
		return fmt.Errorf("%w: %w", errMoveAway, err)
	}
	if _, in := members.Joined[m.to.bot()]; in {
		if err := m.bringGhost(ctx, r, members.Joined); err != nil {
			return fmt.Errorf("%w: %w", errMoveAway, err)
		}
	}
	for who := range members.Joined {
		if who == m.from.bot() || !speaksFor(m.from.instance(), who.String()) {
			continue
		}
		if err := m.leave(ctx, m.old, who, r.room); err != nil {
			return err
		}
	}
	return m.leave(ctx, m.old, m.from.bot(), r.room)
}

// leave has one of the users of the two instances leave a room.
func (m *mover) leave(ctx context.Context, as *appservice.AppService, who id.UserID, room id.RoomID) error {
	_, err := as.NewMautrixClient(who).LeaveRoom(ctx, room)
	if goneIsFine(err) != nil {
		return fmt.Errorf("%w: %w", errMoveAway, err)
	}
	return nil
}

// bringGhost has the contact's ghost of the new instance join, with the name that the old one had.
func (m *mover) bringGhost(ctx context.Context, r *movedRoom, there map[id.UserID]mautrix.JoinedMember) error {
	contact, err := m.contactThere(ctx, r)
	if err != nil {
		return err
	} else if contact == "" { // the chat is there without this room, so its bot has nothing to do in it
		return m.leave(ctx, m.new, m.to.bot(), r.room)
	}
	who := m.to.ghost(contact)
	if _, in := there[who]; in {
		return nil
	}
	ghost := m.new.NewMautrixClient(who)
	localpart, _, err := who.Parse()
	if err != nil {
		return err
	}
	_, err = ghost.MakeRequest(ctx, http.MethodPost, ghost.BuildClientURL("v3", "register"), &mautrix.ReqRegister[any]{
		Username: localpart, Type: mautrix.AuthTypeAppservice, InhibitLogin: true,
	}, nil)
	if err != nil && !errors.Is(err, mautrix.MUserInUse) {
		return err
	}
	if r.ghostRow != "" {
		if err := ghost.SetDisplayName(ctx, r.ghostRow); err != nil {
			return err
		}
	}
	if _, err := m.new.NewMautrixClient(m.to.bot()).InviteUser(ctx, r.room, &mautrix.ReqInviteUser{UserID: who}); goneIsFine(err) != nil {
		return err
	}
	_, err = ghost.JoinRoomByID(ctx, r.room)
	return goneIsFine(err) // it comes with the next message then
}

// closeSpaces closes the spaces in which the old instance has gathered the user's chats. The new one makes its own.
func (m *mover) closeSpaces(ctx context.Context) error {
	rows, err := m.from.DB.Raw().Query(ctx, "SELECT space_room FROM user_login WHERE space_room IS NOT NULL AND space_room<>'' AND id IN "+movedAccounts, m.user)
	spaces, err := dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[id.RoomID], err).AsList()
	if err != nil {
		return fmt.Errorf("connector: move a user: list spaces: %w", err)
	}
	old := m.old.NewMautrixClient(m.from.bot())
	for _, space := range spaces {
		if _, err := old.KickUser(ctx, space, &mautrix.ReqKickUser{UserID: id.UserID(m.user)}); goneIsFine(err) != nil {
			return fmt.Errorf("%w: %w", errMoveAway, err)
		}
		if err := m.leave(ctx, m.old, m.from.bot(), space); err != nil {
			return err
		}
	}
	return nil
}
