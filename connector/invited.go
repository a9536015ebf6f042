package connector

import (
	"context"
	"errors"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/networkid"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/matrixdurable"
	"postern/connector/profile"
	"postern/connector/words"
)

// member is told of everybody who comes into a room, is asked into one, or goes. taken: the framework has nothing to do with it. An error
// has the event handled again later.
//
// Our users are in the rooms that the bridge makes for them and in no others: whoever invites a ghost elsewhere would hear what is sent to it,
// or show other people with whom somebody here has a chat. So a ghost never joins such a room, not even to say so, and leaves one that
// somebody else has put it into.
func (c *Connector) member(ctx context.Context, evt *event.Event) (taken bool, err error) {
	content, ok := evt.Content.Parsed.(*event.MemberEventContent)
	if !ok {
		return false, nil
	}
	who := id.UserID(evt.GetStateKey())
	switch content.Membership {
	case event.MembershipInvite, event.MembershipJoin:
	default:
		if !c.own(who) {
			c.departures.wentFrom(who)
		}
		return false, nil
	}
	if content.Membership == event.MembershipJoin && who == evt.Sender && !c.own(who) {
		portal, err := c.bridge.GetPortalByMXID(ctx, evt.RoomID)
		return portal != nil && err == nil, err // the framework would call it a change that failed
	}
	if who == c.matrix.Bot.UserID {
		if content.Membership == event.MembershipInvite && !c.own(evt.Sender) {
			return c.botInvited(ctx, evt)
		}
		return false, nil
	}
	if ghost, ours := c.matrix.ParseGhostMXID(who); ours {
		return c.ghostMoves(ctx, evt, ghost, content)
	}
	return false, nil
}

// ghostMoves is member for a ghost that comes into a room or is asked into one.
func (c *Connector) ghostMoves(ctx context.Context, evt *event.Event, ghost networkid.UserID, content *event.MemberEventContent) (taken bool, err error) {
	portal, err := c.bridge.GetPortalByMXID(ctx, evt.RoomID)
	if err != nil {
		return false, err
	}
	if portal != nil && inPortal(portal, ghost) {
		if content.Membership == event.MembershipInvite && !c.own(evt.Sender) {
			return true, goneIsFine(c.bridge.Matrix.GhostIntent(ghost).EnsureJoined(ctx, evt.RoomID))
		}
		return false, nil
	}
	return true, c.ghostElsewhere(ctx, evt, ghost, content)
}

// own says whether a user is the bot or a ghost.
func (c *Connector) own(who id.UserID) bool {
	return who == c.matrix.Bot.UserID || c.bridge.IsGhostMXID(who)
}

// inPortal says whether a chat's room is one of the ghost's: it is the other person's, or that of the login itself.
func inPortal(portal *bridgev2.Portal, ghost networkid.UserID) bool {
	if ghost == portal.OtherUserID {
		return true
	}
	for _, p := range profile.All() {
		if ghost == selfID(p, string(portal.Receiver)) {
			return true
		}
	}
	return false
}

// goneIsFine leaves out what the homeserver refuses for good: the invitation was taken back, or the user is not there.
func goneIsFine(err error) error {
	if matrixdurable.Permanent(err) || errors.Is(err, mautrix.MExclusive) {
		return nil
	}
	return err
}

// goAway has one of our users decline an invitation, or leave. Nobody is registered for that: whoever does not exist cannot come.
func (c *Connector) goAway(ctx context.Context, who id.UserID, room id.RoomID, reason string) error {
	_, err := c.matrix.AS.Intent(who).Client.LeaveRoom(ctx, room, &mautrix.ReqLeave{Reason: reason})
	return goneIsFine(err)
}

// ghostElsewhere has a ghost leave a room that is none of its chats. A person who may write to it is led to the chat instead.
func (c *Connector) ghostElsewhere(ctx context.Context, evt *event.Event, ghost networkid.UserID, content *event.MemberEventContent) error {
	w := c.wordsFor(evt.Sender)
	if err := c.goAway(ctx, id.UserID(evt.GetStateKey()), evt.RoomID, w.Text("invited.ghost-reason")); err != nil {
		return err
	}
	if c.own(evt.Sender) || content.Membership != event.MembershipInvite {
		return nil // nobody asked
	}
	sender, err := c.bridge.GetUserByMXID(ctx, evt.Sender)
	if err != nil {
		return err
	}
	if sender == nil || !sender.Permissions.SendEvents || len(sender.GetUserLogins()) == 0 {
		return nil // the reason says enough
	}
	return c.leadTo(ctx, w, evt, sender, ghost, content.IsDirect)
}

// leadTo tells somebody who has invited a ghost where their chat is. Whoever has begun a direct chat wants to write: the chat is opened.
func (c *Connector) leadTo(ctx context.Context, w words.Words, evt *event.Event, sender *bridgev2.User, ghost networkid.UserID, direct bool) error {
	text := w.Text("invited.no-chat", "prefix", c.bridge.Config.CommandPrefix)
	for _, login := range sender.GetUserLogins() {
		cl, ok := login.Client.(*client)
		if !ok || !direct {
			continue
		}
		portal, err := cl.openChatWith(ctx, ghost)
		if errors.Is(err, bridgev2.ErrResolveIdentifierTryNext) {
			continue
		} else if errors.As(err, new(*explained)) {
			text = w.Text("start-chat.failed", "why", err.Error())
			break
		} else if err != nil {
			return err
		}
		if sender.DoublePuppet(ctx) == nil {
			if err := goneIsFine(c.bridge.Bot.EnsureInvited(ctx, portal.MXID, sender.MXID)); err != nil {
				return err
			}
		}
		text = w.Text("invited.your-chat", "room", portal.MXID.URI(c.matrix.ServerName()).MatrixToURL())
		break
	}
	if !direct {
		text = w.Text("invited.not-into-groups")
	}
	room, err := c.managementRoom(ctx, sender.MXID)
	if err != nil || room == "" {
		return err
	}
	notice, err := matrixdurable.ReplyNotice("invited "+evt.ID.String(), room, "", sender.MXID, text)
	if err != nil {
		return err
	}
	return c.stack.Notices.Add(ctx, notice)
}

// botInvited has the bot decline an invitation of somebody who may not command it, and leave a room in which others would read what it
// says to one person. It says hello to the others in their language, as the framework would in its own.
func (c *Connector) botInvited(ctx context.Context, evt *event.Event) (taken bool, err error) {
	w := c.wordsFor(evt.Sender)
	sender, err := c.bridge.GetUserByMXID(ctx, evt.Sender)
	if err != nil {
		return false, err
	}
	if sender == nil || !sender.Permissions.SendEvents || !sender.Permissions.Commands {
		return true, c.goAway(ctx, c.matrix.Bot.UserID, evt.RoomID, w.Text("invited.may-not"))
	}
	portal, err := c.bridge.GetPortalByMXID(ctx, evt.RoomID)
	if err != nil || portal != nil {
		return false, err
	}
	if err := c.bridge.Bot.EnsureJoined(ctx, evt.RoomID); err != nil {
		return true, goneIsFine(err)
	}
	members, err := c.bridge.Matrix.GetMembers(ctx, evt.RoomID)
	if err != nil {
		return true, goneIsFine(err)
	}
	present := 0
	for _, m := range members {
		if m.Membership.IsInviteOrJoin() {
			present++
		}
	}
	if present <= 2 {
		return true, c.greet(ctx, w, evt, sender)
	}
	return true, c.goAway(ctx, c.matrix.Bot.UserID, evt.RoomID, w.Text("invited.bot-alone"))
}

// greet says hello in a room with one person, which becomes the one for commands and news if they have none.
func (c *Connector) greet(ctx context.Context, w words.Words, evt *event.Event, sender *bridgev2.User) error {
	if sender.ManagementRoom == "" {
		sender.ManagementRoom = evt.RoomID
		if err := sender.Save(ctx); err != nil {
			sender.ManagementRoom = ""
			return err
		}
	}
	names, _ := c.enabledNames()
	text := w.Text("greeting.home", "gatekeepers", names)
	if sender.ManagementRoom != evt.RoomID {
		text = w.Text("greeting.other", "gatekeepers", names, "prefix", c.bridge.Config.CommandPrefix)
	}
	notice, err := matrixdurable.ReplyNotice("greeting "+evt.ID.String(), evt.RoomID, "", sender.MXID, text)
	if err != nil {
		return err
	}
	return c.stack.Notices.Add(ctx, notice)
}
