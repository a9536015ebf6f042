package connector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.mau.fi/util/ptr"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/convert"
	"postern/connector/interop"
	"postern/connector/matrixdurable"
	"postern/database"
)

// The bounds of what is kept of people who are held back: how many messages of one of them, and of all of them together. What comes
// after that is counted and not kept.
const (
	withheldChat  = 50
	withheldLogin = 1000
)

var (
	_ bridgev2.MessageRequestAcceptingNetworkAPI = (*client)(nil)
	_ bridgev2.DeleteChatHandlingNetworkAPI      = (*client)(nil)
)

// requests knows whom the person of a login lets write to them, and decides about whoever writes for the first time.
type requests struct {
	client *client
	// mu is held while a state is looked at and changed, never while anything is sent.
	mu sync.Mutex
}

// passage is what becomes of an item for Matrix.
type passage uint8

const (
	letIn    passage = iota
	quiet            // shown, and the other side learns nothing of it
	withhold         // kept, and not shown
	drop             // neither
)

func (q *requests) store() database.RequestStore { return q.client.connector.db.Requests() }
func (q *requests) account() string              { return string(q.client.login.ID) }

// gate decides about an item. What is about a chat and not a message of it (a changed key, an answer to a ping) goes its usual way, which
// opens no room.
func (q *requests) gate(ctx context.Context, in *interop.Inbound, what *content) (passage, error) {
	ch := q.client.chats.get(in.Chat)
	if in.Kind != interop.KindMessage && in.Kind != interop.KindUndecryptable || ch.accepted.Load() {
		return letIn, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	row, err := q.store().Get(ctx, q.account(), in.Chat)
	if err != nil {
		return drop, err
	}
	nothing := in.Kind == interop.KindMessage && what.Reason != convert.Shown
	switch row.State {
	case database.RequestAccepted:
		ch.accepted.Store(true)
		return letIn, nil
	case database.RequestAsked:
		if nothing {
			return drop, nil
		}
		return quiet, nil
	case database.RequestDeclined:
		return q.drop(ctx, in.Chat, nothing)
	case database.RequestHeld:
		return q.holdBack(ctx, in.Chat, nothing)
	}
	if nothing || what.aside() { // about nothing that was ever here
		if q.policy() == requestsAccept {
			return letIn, nil
		}
		return drop, nil
	}
	return q.first(ctx, ch, row)
}

// drop counts what is not kept.
func (q *requests) drop(ctx context.Context, chat string, nothing bool) (passage, error) {
	if nothing {
		return drop, nil
	}
	return drop, q.store().Drop(ctx, chat)
}

// first decides about a first contact, or about somebody who was refused before.
func (q *requests) first(ctx context.Context, ch *chat, row *database.Request) (passage, error) {
	now := time.Now()
	switch q.policy() {
	case requestsAccept:
		row.State, row.Since = database.RequestAccepted, 0
		if err := q.store().Put(ctx, row); err != nil {
			return drop, err
		}
		ch.accepted.Store(true)
		return letIn, nil
	case requestsRefuse:
		if row.State == database.RequestRefused {
			return q.drop(ctx, row.ChatID, false)
		}
		row.State, row.Since, row.Dropped = database.RequestRefused, 0, row.Dropped+1
		return drop, q.store().Put(ctx, row)
	}
	asked, err := q.store().AskedSince(ctx, q.account(), now.Add(-time.Hour).UnixMilli())
	if err != nil {
		return drop, err
	}
	if row.Since = 0; asked < q.client.connector.Config.Requests.PerHour {
		row.State, row.Asked = database.RequestAsked, now.UnixMilli()
		return quiet, q.store().Put(ctx, row)
	}
	row.State = database.RequestHeld
	if err = q.store().Put(ctx, row); err != nil {
		return drop, err
	}
	if err = q.sayHeldBack(ctx, now); err != nil {
		return drop, err
	}
	return q.holdBack(ctx, row.ChatID, false)
}

// holdBack keeps a message of somebody who is held back, within the bounds.
func (q *requests) holdBack(ctx context.Context, chat string, nothing bool) (passage, error) {
	if nothing {
		return drop, nil
	}
	kept, err := q.client.connector.db.Queue(q.account()).CountWithheldIn(ctx)
	if err != nil {
		return drop, err
	}
	all := 0
	for _, n := range kept {
		all += n
	}
	if kept[chat] >= withheldChat || all >= withheldLogin {
		return q.drop(ctx, chat, false)
	}
	return withhold, nil
}

// sayHeldBack tells the person once in an hour that people are held back.
func (q *requests) sayHeldBack(ctx context.Context, now time.Time) error {
	c := q.client
	text := c.words().Text("request.held-back", "gatekeeper", c.profile.DisplayName, "n", c.connector.Config.Requests.PerHour,
		"command", c.connector.bridge.Config.CommandPrefix+" requests")
	return q.tell(ctx, "requests held back "+q.account()+" "+strconv.FormatInt(now.Unix()/3600, 10), text)
}

// tell says something in the management room, for certain and once. Nobody is told who has none.
func (q *requests) tell(ctx context.Context, identity, text string) error {
	c := q.client
	room, err := c.connector.managementRoom(ctx, c.login.UserMXID)
	if err != nil || room == "" {
		return err
	}
	notice, err := matrixdurable.ReplyNotice(identity, room, "", c.login.UserMXID, text)
	if err != nil {
		return err
	}
	return c.connector.stack.Notices.Add(ctx, notice)
}

// outcome turns what came of delivering into what interop is to do.
func (q *requests) outcome(ctx context.Context, in *interop.Inbound, what *content, v passage, err error) error {
	switch {
	case v == withhold:
		return interop.ErrWithheld
	case v == drop:
		return interop.ErrDropped
	case v == letIn || err != nil:
		return err
	}
	row, err := q.store().Get(ctx, q.account(), in.Chat)
	if err != nil {
		return err
	}
	// The person may have decided since the gate: this attachment was not among those that are loaded then, or this message has opened the
	// room again.
	switch {
	case row.State == database.RequestDeclined:
		if err = q.close(ctx, in.Chat); err != nil {
			return err
		}
	case row.State == database.RequestAccepted && what.Media != nil:
		if _, err = q.client.connector.db.IncomingMedia().Want(ctx, in.Chat, time.Now().UnixMilli()); err != nil {
			return err
		}
		q.client.arrivals.look()
	}
	return interop.ErrQuiet
}

// waits says whether a chat waits for the person's answer, so that nothing of what they do may be told.
func (q *requests) waits(ctx context.Context, chat string) (bool, error) {
	if q.client.chats.get(chat).accepted.Load() {
		return false, nil
	}
	row, err := q.store().Get(ctx, q.account(), chat)
	if err != nil {
		return true, err
	}
	return row.State != database.RequestAccepted && row.State != database.RequestNone, nil
}

// shown says whether a chat's room is to be a request.
func (q *requests) shown(ctx context.Context, chat string) (bool, error) {
	row, err := q.store().Get(ctx, q.account(), chat)
	return row != nil && row.State == database.RequestAsked, err
}

// accept lets somebody write: receipts that were held back go out, what was withheld is shown, attachments are loaded. before is what the
// state was. It does nothing for who is accepted already. errBlocked if the person has blocked them: what was withheld would be silenced on its
// way, and receipts would go to somebody who is to learn nothing.
func (q *requests) accept(ctx context.Context, chat string) (before *database.Request, err error) {
	c, ch := q.client, q.client.chats.get(chat)
	if ch.accepted.Load() {
		return &database.Request{ChatID: chat, AccountID: q.account(), State: database.RequestAccepted}, nil
	}
	ch.mu.Lock() // a room that is being closed is gone then, or was not begun with
	defer ch.mu.Unlock()
	if before, err = q.decideAccept(ctx, ch); err != nil {
		return nil, fmt.Errorf("connector: accept: %w", err)
	}
	c.arrivals.look()
	if before.State == database.RequestAsked || before.State == database.RequestDeclined {
		portal, err := c.connector.bridge.GetPortalByKey(ctx, portalKey(q.account(), chat))
		if err != nil {
			return nil, fmt.Errorf("connector: accept: %w", err)
		}
		c.unflag(ctx, portal)
	}
	return before, nil
}

func (q *requests) decideAccept(ctx context.Context, ch *chat) (*database.Request, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	row, err := q.store().Get(ctx, q.account(), ch.id)
	if err != nil {
		return nil, err
	}
	if row.State != database.RequestAccepted {
		if blocked, err := q.client.account.Blocked(ctx, ch.id); err != nil {
			return nil, err
		} else if blocked {
			return nil, errBlocked
		}
		accepted := &database.Request{ChatID: ch.id, AccountID: q.account(), State: database.RequestAccepted, Asked: row.Asked}
		err = q.client.account.Release(ctx, ch.id, func(ctx context.Context) error {
			if err := q.store().Put(ctx, accepted); err != nil {
				return err
			}
			_, err := q.client.connector.db.IncomingMedia().Want(ctx, ch.id, time.Now().UnixMilli())
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	ch.accepted.Store(true)
	return row, nil
}

// unflag makes a room an ordinary one for clients that show requests apart.
func (c *client) unflag(ctx context.Context, portal *bridgev2.Portal) {
	if portal.MXID != "" && portal.MessageRequest {
		portal.UpdateInfo(ctx, &bridgev2.ChatInfo{MessageRequest: ptr.Ptr(false)}, c.login, nil, time.Time{})
	}
}

// decline keeps somebody out, closes the room, and says that it is closed.
func (q *requests) decline(ctx context.Context, chat string) error {
	ch := q.client.chats.get(chat)
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return q.declineHeld(ctx, ch, true)
}

// declineHeld is decline while ch.mu is held. said: the room says that it is closed.
func (q *requests) declineHeld(ctx context.Context, ch *chat, said bool) error {
	if err := q.decideDecline(ctx, ch.id); err != nil {
		return fmt.Errorf("connector: decline: %w", err)
	}
	return q.closeHeld(ctx, ch, said) // what it is cut off in is done by sweep
}

// remove is a client's button for deleting a chat: whoever waits for an answer is declined; of others only the room goes, and a message makes a
// new one. Both are one thing for whoever accepts them, opens the room or writes meanwhile.
func (q *requests) remove(ctx context.Context, portal *bridgev2.Portal, said bool) error {
	c, ch := q.client, q.client.chats.get(string(portal.ID))
	ch.mu.Lock()
	defer ch.mu.Unlock()
	waits, err := q.waits(ctx, ch.id)
	switch {
	case err != nil:
		return err
	case waits:
		return q.declineHeld(ctx, ch, said)
	case said:
		return c.closeRoom(ctx, portal, c.words().Text("request.deleted"))
	}
	return c.endRoom(ctx, portal, c.words().Text("request.deleted"))
}

func (q *requests) decideDecline(ctx context.Context, chat string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	row, err := q.store().Get(ctx, q.account(), chat)
	if err != nil {
		return err
	}
	declined := &database.Request{
		ChatID: chat, AccountID: q.account(), State: database.RequestDeclined, Asked: row.Asked, Dropped: row.Dropped, Closing: true,
	}
	_, err = q.client.account.Discard(ctx, chat, func(ctx context.Context) error {
		if err := q.store().Put(ctx, declined); err != nil {
			return err
		}
		return q.client.connector.db.IncomingMedia().DeleteMissing(ctx, chat)
	})
	if err == nil {
		q.client.chats.get(chat).accepted.Store(false)
	}
	return err
}

// close closes the room of a declined chat: with a word, everybody leaves, and it is no chat's room any more.
func (q *requests) close(ctx context.Context, chat string) error {
	ch := q.client.chats.get(chat)
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return q.closeHeld(ctx, ch, true)
}

// closeHeld is close while ch.mu is held, with the word or without it.
func (q *requests) closeHeld(ctx context.Context, ch *chat, said bool) error {
	c := q.client
	ctx = context.WithoutCancel(ctx) // as in endRoom
	row, err := q.store().Get(ctx, q.account(), ch.id)
	if err != nil || row.State != database.RequestDeclined {
		return err // accepted after all
	}
	portal, err := c.connector.bridge.GetPortalByKey(ctx, portalKey(q.account(), ch.id))
	if err != nil {
		return fmt.Errorf("connector: close room: %w", err)
	}
	if portal.MXID != "" && said {
		err = c.closeRoom(ctx, portal, c.words().Text("request.closed"))
	} else if portal.MXID != "" {
		err = c.endRoom(ctx, portal, c.words().Text("request.deleted"))
	}
	if err != nil {
		return err
	}
	return q.store().Closed(ctx, ch.id)
}

// closeRoom ends a room, and says so in it. It may be begun anew after it was cut off.
func (c *client) closeRoom(ctx context.Context, portal *bridgev2.Portal, text string) error {
	content := &event.MessageEventContent{MsgType: event.MsgNotice, Body: text, Mentions: &event.Mentions{}}
	err := c.say(context.WithoutCancel(ctx), portal.MXID, content, matrixdurable.Identity("closed", portal.MXID.String()), true)
	if err != nil && !matrixdurable.Permanent(err) {
		return fmt.Errorf("connector: close room: %w", err)
	}
	return c.endRoom(ctx, portal, text)
}

// endRoom has everybody leave a room, which is no chat's then.
func (c *client) endRoom(ctx context.Context, portal *bridgev2.Portal, text string) error {
	ctx = context.WithoutCancel(ctx) // deleting the portal ends the context of what its handlers do
	// The framework's call leaves alone who has not joined yet.
	if err := c.emptyRoom(ctx, portal.MXID, text); err != nil {
		return err
	}
	if err := portal.Delete(ctx); err != nil {
		return fmt.Errorf("connector: close room: %w", err)
	}
	return nil
}

// emptyRoom has everybody leave a room, the bot last. It comes before the portal goes: a message that came in between would be shown in the room
// that is on its way out, which the next one of the chat takes for its own as long as the bot is there.
func (c *client) emptyRoom(ctx context.Context, room id.RoomID, text string) error {
	if err := c.kick(ctx, room, c.login.UserMXID, text); err != nil && !matrixdurable.Permanent(err) {
		return fmt.Errorf("connector: close room: %w", err)
	}
	if err := c.connector.bridge.Bot.DeleteRoom(ctx, room, false); err != nil && !matrixdurable.Permanent(err) {
		return fmt.Errorf("connector: close room: %w", err)
	}
	return nil
}

func (c *client) kick(ctx context.Context, room id.RoomID, who id.UserID, reason string) error {
	_, err := c.connector.matrix.Bot.KickUser(ctx, room, &mautrix.ReqKickUser{UserID: who, Reason: reason})
	return err
}

// sweep looks for rooms of declined chats that an earlier process has left open, and has them closed where that holds up nobody else's chores.
func (q *requests) sweep(ctx context.Context) {
	rows, err := q.store().Open(ctx, q.account())
	q.swept(ctx, err)
	rows = slices.DeleteFunc(rows, func(row *database.Request) bool { return row.State != database.RequestDeclined || !row.Closing })
	if len(rows) == 0 {
		return
	}
	q.client.connector.closings.do(func() {
		var err error
		for _, row := range rows {
			if ctx.Err() == nil {
				err = errors.Join(err, q.close(ctx, row.ChatID))
			}
		}
		q.swept(ctx, err)
	})
}

func (q *requests) swept(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		q.client.log.Err(err).Msg("Could not close the rooms of declined requests; the next start tries again")
	}
}

// HandleMatrixAcceptMessageRequest implements bridgev2.MessageRequestAcceptingNetworkAPI, for clients with a button.
func (c *client) HandleMatrixAcceptMessageRequest(ctx context.Context, msg *bridgev2.MatrixAcceptMessageRequest) error {
	_, err := c.requests.accept(ctx, string(msg.Portal.ID))
	if errors.Is(err, errBlocked) {
		return refusal(err, c.words().Text("request.blocked", "prefix", c.connector.bridge.Config.CommandPrefix))
	} else if err != nil {
		return c.again(err)
	}
	return nil
}

// HandleMatrixDeleteChat implements bridgev2.DeleteChatHandlingNetworkAPI (requests.remove). If there is an event the framework deletes the
// portal and empties the room after this, and finds both done: between the two, a new message or an answer would meet the old room.
func (c *client) HandleMatrixDeleteChat(ctx context.Context, msg *bridgev2.MatrixDeleteChat) error {
	err := c.requests.remove(ctx, msg.Portal, msg.Event == nil)
	if err != nil && msg.Event != nil {
		return c.again(err)
	}
	return err
}

// fileSize writes the size of a file for people.
func fileSize(bytes int64) string {
	switch {
	case bytes < 1<<10:
		return strconv.FormatInt(bytes, 10) + " bytes"
	case bytes < 1<<20:
		return strconv.FormatInt((bytes+1<<9)>>10, 10) + " KiB"
	}
	return sizeWords(bytes)
}
