package connector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"go.mau.fi/util/ptr"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/bridgev2"
	frameworkdb "maunium.net/go/mautrix/bridgev2/database"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/interop"
	"postern/connector/matrixdurable"
	"postern/connector/profile"
	"postern/connector/words"
	"postern/database"
)

// chats opens the rooms of one login's chats and remembers what is known of them.
type chats struct {
	client *client

	mu   sync.Mutex
	byID map[string]*chat
}

// chat is one conversation. Its lock is held while its room is opened, so that the notice is the first message for
// whoever comes.
type chat struct {
	id string
	// accepted: the person lets the other side write, as is on disk.
	accepted atomic.Bool
	// writable: messages may go to the other side, as is on disk. answered: it has said that they may, or was never asked and has written.
	writable, answered atomic.Bool
	// asking is held while the other side is asked whether it may be written to, which can take half a minute.
	asking sync.Mutex

	mu sync.Mutex
	// begun is the room that begins with the notice on encryption.
	begun id.RoomID
	// settled says that an item of its own (not one about another) has come to a known end in this process. Until then the next one is
	// uncertain: the process before this one may have been cut off in the middle of it, and of no later one, since a chat's items come in order.
	settled bool
	// open are the items whose last attempt in this process had no known end, waiting those that nothing was sent of.
	open, waiting map[itemKey]bool
	// told is the identity of the last status that was to be told.
	told string
	// delivered and read are the times of the newest messages that receipts were shown on.
	delivered, read time.Time
	// waited is how long was waited for attachments up to waitedAt. It is paid back by the time in which nothing is waited for.
	waited   time.Duration
	waitedAt time.Time
}

// patience is how long an attachment is waited for: longest, less what was waited for those shortly before it. So what stands behind ten slow
// ones is held up for little longer than what stands behind one.
func (ch *chat) patience(now time.Time, longest time.Duration) time.Duration {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return max(longest-ch.owed(now), min(longest, mediaGlance))
}

// hasWaited notes that an attachment was waited for, if it was for longer than what counts for nothing.
func (ch *chat) hasWaited(from, to time.Time, quick time.Duration) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if to.Sub(from) > quick {
		ch.waited, ch.waitedAt = ch.owed(from)+to.Sub(from), to
	}
}

// owed is what is left of waited; ch.mu is held.
func (ch *chat) owed(now time.Time) time.Duration {
	return max(0, ch.waited-max(0, now.Sub(ch.waitedAt)))
}

// forward says whether a receipt on a message of that time goes forward, and notes it. One that is shown again does.
func (ch *chat) forward(state interop.OutState, at time.Time) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	last := &ch.delivered
	if state == interop.OutRead {
		last = &ch.read
	}
	if at.Before(*last) {
		return false
	}
	*last = at
	return true
}

// telling says whether a status may have been sent before: this process has tried, or the state is from before it. at is when
// the state was reached.
func (ch *chat) telling(identity string, at, began time.Time) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	uncertain := ch.told == "" || ch.told == identity || at.Before(began) || at.After(time.Now())
	ch.told = identity
	return uncertain
}

// itemKey names an item of a chat.
type itemKey struct {
	kind interop.Kind
	id   string
}

// heldBefore is more than the time for which items about others are set aside (interop.Limits.Hold).
const heldBefore = 15 * time.Minute

// begin says whether an item that is handed over may be in the room already. aside: it is about another message, so it may have been set
// aside, and tried by the process before this one, which began at the given time, though others have come in between.
func (ch *chat) begin(in *interop.Inbound, aside bool, began time.Time) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	key := itemKey{in.Kind, in.MessageID}
	again := ch.open[key]
	ch.open[key] = true
	switch {
	case again:
		return true
	case aside:
		// The gatekeeper's clock may go before ours.
		return !ch.waiting[key] && in.Timestamp.Before(began.Add(5*time.Minute))
	}
	return !ch.settled
}

// end notes what has come of it.
func (ch *chat) end(in *interop.Inbound, aside bool, err error) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	key := itemKey{in.Kind, in.MessageID}
	var rejected *interop.Rejected
	delete(ch.waiting, key)
	delete(ch.open, key)
	switch {
	case err == nil || errors.Is(err, interop.ErrUnseen) || errors.As(err, &rejected):
		ch.settled = ch.settled || !aside
	case errors.Is(err, interop.ErrNoTarget):
		if !in.Final {
			ch.waiting[key] = true
		}
	default:
		ch.open[key] = true
	}
}

func newChats(c *client) *chats { return &chats{client: c, byID: map[string]*chat{}} }

func (c *chats) get(chatID string) *chat {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := c.byID[chatID]
	if ch == nil {
		ch = &chat{id: chatID, open: map[itemKey]bool{}, waiting: map[itemKey]bool{}}
		c.byID[chatID] = ch
	}
	return ch
}

// open returns a chat's portal with its room made and begun.
func (c *chats) open(ctx context.Context, chatID, contactID string) (*bridgev2.Portal, error) {
	cl, ch := c.client, c.get(chatID)
	ch.mu.Lock() // whoever closes the room holds it too
	defer ch.mu.Unlock()
	portal, err := cl.connector.bridge.GetPortalByKey(ctx, portalKey(string(cl.login.ID), chatID))
	if err != nil {
		return nil, fmt.Errorf("connector: open room: %w", err)
	}
	if portal.MXID == "" {
		if err := c.create(ctx, portal, chatID, contactID); err != nil {
			return nil, err
		}
	}
	if portal.MessageRequest && ch.accepted.Load() {
		cl.unflag(ctx, portal) // accepting was cut off
	}
	if ch.begun == portal.MXID {
		return portal, nil
	}
	if err := c.begin(ctx, portal, chatID); err != nil {
		return nil, err
	}
	ch.begun = portal.MXID
	return portal, nil
}

// create makes the room.
func (c *chats) create(ctx context.Context, portal *bridgev2.Portal, chatID, contactID string) error {
	ghost, err := c.client.ghost(ctx, contactID)
	if err != nil {
		return fmt.Errorf("connector: open room: %w", err)
	}
	info, err := c.client.GetUserInfo(ctx, ghost)
	if err != nil {
		return fmt.Errorf("connector: open room: %w", err)
	}
	ghost.UpdateInfo(ctx, info)
	chatInfo, err := c.client.chatInfo(ctx, chatID, contactID)
	if err != nil {
		return fmt.Errorf("connector: open room: %w", err)
	}
	if err = portal.CreateMatrixRoom(ctx, c.client.login, chatInfo); err != nil {
		return fmt.Errorf("connector: open room: %w", err)
	} else if portal.MXID == "" {
		return errors.New("connector: open room: not made")
	}
	if made, asked := ctx.Value(madeKey{}).(*bool); asked {
		*made = true
	}
	return nil
}

// begin sends the notice on encryption as the first message of a room (promise 8).
func (c *chats) begin(ctx context.Context, portal *bridgev2.Portal, chatID string) error {
	rooms := c.client.connector.db.ChatRooms()
	row, err := rooms.Get(ctx, chatID)
	if err != nil {
		return fmt.Errorf("connector: begin room: %w", err)
	}
	if row.RoomID == portal.MXID.String() {
		return nil
	}
	// The framework only logs an invitation that failed, or was cut off with the process.
	if c.client.login.User.DoublePuppet(ctx) == nil {
		if err = c.client.connector.bridge.Bot.EnsureInvited(ctx, portal.MXID, c.client.login.UserMXID); err != nil {
			return fmt.Errorf("connector: begin room: %w", err)
		}
	}
	content := &event.MessageEventContent{MsgType: event.MsgNotice, Body: boundary(c.client.words(), c.client.profile), Mentions: &event.Mentions{}}
	// The room is new, so looking whether an earlier attempt has sent it costs next to nothing.
	err = c.client.say(ctx, portal.MXID, content, matrixdurable.Identity("boundary", portal.MXID.String()), true)
	if err != nil {
		return fmt.Errorf("connector: begin room: %w", err)
	}
	if err = c.client.requests.explain(ctx, portal, chatID); err != nil {
		return fmt.Errorf("connector: begin room: %w", err)
	}
	row.RoomID = portal.MXID.String()
	if err = rooms.Put(ctx, row); err != nil {
		return fmt.Errorf("connector: begin room: %w", err)
	}
	c.client.ignores.kick() // the person may be on the list already
	return nil
}

// boundary is the notice that each new chat begins with.
func boundary(w words.Words, p *profile.Profile) string {
	return w.Text("chat.boundary", "gatekeeper", p.DisplayName) + cannotCarry(w, p)
}

// say sends a message as the bridge's bot. uncertain: it may be in the room already.
func (c *client) say(ctx context.Context, room id.RoomID, content *event.MessageEventContent, identity string, uncertain bool) error {
	_, err := c.connector.bridge.Bot.SendMessage(matrixdurable.Marked(ctx, identity, uncertain), room, event.EventMessage,
		&event.Content{Parsed: content}, nil)
	return err
}

// ghost is the ghost of a contact.
func (c *client) ghost(ctx context.Context, contactID string) (*bridgev2.Ghost, error) {
	return c.connector.bridge.GetGhostByID(ctx, ghostID(c.profile, contactID))
}

// GetUserInfo implements bridgev2.NetworkAPI: a contact's name, or the phone number before there is one.
func (c *client) GetUserInfo(ctx context.Context, ghost *bridgev2.Ghost) (*bridgev2.UserInfo, error) {
	contactID, ok := contactOf(c.profile, ghost.ID)
	if !ok {
		return nil, nil // the login's own ghost shows nothing
	}
	contact, err := c.connector.db.Contacts().Get(ctx, contactID)
	if err != nil {
		return nil, err
	}
	return &bridgev2.UserInfo{Name: ptr.Ptr(c.contactName(contact))}, nil
}

// contactName is what a contact is called.
func (c *client) contactName(contact *database.Contact) string {
	switch {
	case contact != nil && contact.Name != "":
		return contact.Name
	case contact != nil && contact.Phone != "":
		return contact.Phone
	}
	return c.profile.DisplayName + " user"
}

// GetChatInfo implements bridgev2.NetworkAPI.
func (c *client) GetChatInfo(ctx context.Context, portal *bridgev2.Portal) (*bridgev2.ChatInfo, error) {
	row, err := c.connector.db.Chats().Get(ctx, string(portal.ID))
	if err != nil {
		return nil, err
	} else if row == nil || row.AccountID != string(c.login.ID) {
		return nil, errors.New("connector: no such chat")
	}
	return c.chatInfo(ctx, row.ID, row.ContactID)
}

func (c *client) chatInfo(ctx context.Context, chatID, contactID string) (*bridgev2.ChatInfo, error) {
	row, err := c.connector.db.ChatRooms().Get(ctx, chatID)
	if err != nil {
		return nil, err
	}
	request, err := c.requests.shown(ctx, chatID)
	if err != nil {
		return nil, err
	}
	other, self := ghostID(c.profile, contactID), selfID(c.profile, string(c.login.ID))
	info := &bridgev2.ChatInfo{
		Type: ptr.Ptr(frameworkdb.RoomTypeDM), MessageRequest: &request,
		Members: &bridgev2.ChatMemberList{
			IsFull: true, TotalMemberCount: 2, OtherUserID: other,
			MemberMap: bridgev2.ChatMemberMap{
				other: {EventSender: bridgev2.EventSender{Sender: other}},
				self:  {EventSender: bridgev2.EventSender{Sender: self, SenderLogin: c.login.ID, IsFromMe: true}},
			},
		},
	}
	if row.Title != "" {
		info.Name = &row.Title
	}
	return info, nil
}

// maxName is the most characters of a name that come from the other side.
const maxName = 100

// cleanName makes a name from outside fit to show: one line of visible characters, not too many.
func cleanName(name string) string {
	name = strings.ToValidUTF8(name, "")
	name = strings.Join(strings.FieldsFunc(name, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) && r != '\u200d'
	}), " ")
	if utf8.RuneCountInString(name) > maxName {
		name = string([]rune(name)[:maxName-1]) + "…"
	}
	return name
}

// learnName takes over the name that came with a message.
func (c *client) learnName(ctx context.Context, contactID, notify string) error {
	name, err := c.noteName(ctx, contactID, notify)
	if err != nil || name == "" {
		return err
	}
	ghost, err := c.ghost(ctx, contactID)
	if err != nil {
		return err
	}
	// Renames the rooms too, where the person has not given a name.
	ghost.UpdateInfo(ctx, &bridgev2.UserInfo{Name: &name})
	return nil
}

// noteName stores the name that came with a message, and returns it if it is new.
func (c *client) noteName(ctx context.Context, contactID, notify string) (string, error) {
	name := cleanName(notify)
	if name == "" {
		return "", nil
	}
	contact, err := c.connector.db.Contacts().Get(ctx, contactID)
	if err != nil || contact == nil || contact.Name == name {
		return "", err
	}
	contact.Name = name
	return name, c.connector.db.Contacts().Update(ctx, contact)
}

// CustomizePersonalFilteringSpace implements bridgev2.PersonalFilteringCustomizingNetworkAPI.
func (c *client) CustomizePersonalFilteringSpace(req *mautrix.ReqCreateRoom) {
	req.Name = c.words().Text("space.name", "gatekeeper", c.profile.DisplayName)
	req.Topic = c.words().Text("space.topic", "gatekeeper", c.profile.DisplayName)
}
