package connector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/matrixdurable"
)

// reasonDeparted is why an account is deleted whose Matrix user is gone (database.Leaving.Reason).
const reasonDeparted = "departed"

const (
	// departedPause is how soon it is looked again at somebody about whom there was no answer, departedPatience bounds a question and
	// departedAnswer its answer's length in bytes.
	departedPause    = 5 * time.Minute
	departedPatience = 10 * time.Second
	departedAnswer   = 1 << 20
)

// presence is what is known of a Matrix user.
type presence uint8

const (
	presenceUnknown presence = iota // nothing changes
	presenceHere
	presenceGone
)

// departures notices Matrix users who are gone, and has their accounts deleted.
//
// Nobody is gone for having left rooms, not even all of them: people tidy up. Where the homeserver answers its administrator, its word alone
// counts (`GET /_synapse/admin/v2/users/{id}`: deactivated). Elsewhere it takes all of this: they are in none of the bridge's rooms, as the
// homeserver itself says; their profile is empty, which it is after a deactivation with erasure; and both still hold after the time of grace,
// which begins with an invitation into a chat with the bot that says so. Each answer to the contrary ends that. Since when somebody is
// gone, and when they were called back, is on disk with the login. Users of other homeservers are nobody's whom its administrator answers for:
// with them it is as elsewhere.
type departures struct {
	c     *Connector
	token string
	http  *http.Client
	kick  chan struct{}

	mu   sync.Mutex
	left map[id.UserID]bool // to be looked at now

	// Of run alone: when it is looked at everybody again, and at whom before that. All times are the connector's clock's, which a machine's clock that is
	// far ahead does not drive on: what it would end here is accounts.
	full time.Time
	soon map[id.UserID]time.Time
}

// newDepartures makes them; transport is how the homeserver is reached.
func newDepartures(c *Connector, token string, transport http.RoundTripper) *departures {
	return &departures{
		c: c, token: token, kick: make(chan struct{}, 1), left: map[id.UserID]bool{}, soon: map[id.UserID]time.Time{},
		http: &http.Client{
			Timeout: departedPatience, Transport: transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token goes nowhere else
		},
	}
}

// wentFrom is told that somebody has left a room, or was removed from one.
func (d *departures) wentFrom(who id.UserID) {
	d.mu.Lock()
	d.left[who] = true
	d.mu.Unlock()
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// took returns who has left a room since it was asked last.
func (d *departures) took() map[id.UserID]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := d.left
	d.left = map[id.UserID]bool{}
	return left
}

// run looks at everybody at the start and as often as is configured, at somebody when their time of grace ends or there was no answer about
// them, and at those who leave rooms at once.
func (d *departures) run(ctx context.Context) {
	next := d.guarded(ctx, nil)
	for {
		timer := time.NewTimer(time.Until(d.c.clock.shown(next)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
			next = d.guarded(ctx, d.due(d.c.clock.now()))
		case <-d.kick:
			timer.Stop()
			next = d.guarded(ctx, d.took())
		}
	}
}

// due are those whom it is time to look at; nil for everybody.
func (d *departures) due(now time.Time) map[id.UserID]bool {
	if !now.Before(d.full) {
		return nil
	}
	who := map[id.UserID]bool{}
	for user, at := range d.soon {
		if !now.Before(at) {
			who[user] = true
		}
	}
	return who
}

// guarded is look, in which a panic costs no more than this look.
func (d *departures) guarded(ctx context.Context, only map[id.UserID]bool) (next time.Time) {
	defer func() {
		if p := recover(); p != nil {
			d.c.log.Error().Str("panic", fmt.Sprintf("%T", p)).Msg("Panic while it was looked whether somebody is gone")
			d.full = d.c.clock.now().Add(departedPause)
			next = d.full
		}
	}()
	return d.look(ctx, d.c.clock.now(), only)
}

// look goes through those who have a login, or through some of them, and says when to look again.
func (d *departures) look(ctx context.Context, now time.Time, only map[id.UserID]bool) (next time.Time) {
	if only == nil || d.full.IsZero() {
		d.full = now.Add(d.c.Config.Departed.check)
	}
	logins := map[id.UserID][]*bridgev2.UserLogin{}
	for _, login := range d.c.bridge.GetAllCachedUserLogins() {
		if only == nil || only[login.UserMXID] {
			logins[login.UserMXID] = append(logins[login.UserMXID], login)
		}
	}
	for user := range d.soon {
		if only == nil || only[user] {
			delete(d.soon, user)
		}
	}
	for user, list := range logins {
		if ctx.Err() != nil {
			return d.full
		}
		again, err := d.check(ctx, now, user, list)
		if err != nil && ctx.Err() == nil {
			d.c.log.Warn().Err(err).Msg("Could not look whether somebody is gone")
			again = now.Add(departedPause)
		}
		if !again.IsZero() {
			d.soon[user] = again
		}
	}
	next = d.full
	for _, at := range d.soon {
		if at.Before(next) {
			next = at
		}
	}
	return next
}

// check looks at one person, and says when to look again, zero for the usual time.
func (d *departures) check(ctx context.Context, now time.Time, user id.UserID, logins []*bridgev2.UserLogin) (again time.Time, err error) {
	found, err := d.presence(ctx, user, logins)
	if err != nil || found == presenceUnknown {
		return time.Time{}, err
	}
	called := d.answersFor(user) // they are gone for certain: nobody is called back
	for _, login := range logins {
		meta, ok := login.Metadata.(*LoginMetadata)
		if !ok {
			continue
		}
		if found == presenceHere {
			if meta.GoneSince != 0 || meta.CalledBack != 0 {
				err = errors.Join(err, d.note(ctx, login, meta, 0, 0))
			}
			continue
		}
		if !d.answersFor(user) && !called && d.toCall(now, meta) {
			var failed error
			if called, failed = d.callBack(ctx, now, login); !called {
				return time.Time{}, errors.Join(err, failed) // no account goes before that
			}
		}
		due, failed := d.gone(ctx, now, login, meta)
		err = errors.Join(err, failed)
		if !due.IsZero() && (again.IsZero() || due.Before(again)) {
			again = due
		}
	}
	return again, err
}

// toCall says whether somebody who is gone has not been called back yet. Both times may lie ahead where the clock was set back.
func (d *departures) toCall(now time.Time, meta *LoginMetadata) bool {
	return meta.CalledBack == 0 || meta.CalledBack > now.UnixMilli() || meta.GoneSince == 0 || meta.GoneSince > now.UnixMilli()
}

// gone notes that the person of a login is gone and was called back, and ends it when the time for coming back is over; due is when that
// will be, zero if it is not known or has come.
func (d *departures) gone(ctx context.Context, now time.Time, login *bridgev2.UserLogin, meta *LoginMetadata) (due time.Time, err error) {
	since, called := meta.GoneSince, meta.CalledBack
	if since == 0 || since > now.UnixMilli() {
		since, called = now.UnixMilli(), 0
	}
	counts := since
	if !d.answersFor(login.UserMXID) {
		if called == 0 || called > now.UnixMilli() {
			called = now.UnixMilli()
		}
		counts = called
	}
	if since != meta.GoneSince || called != meta.CalledBack {
		if err := d.note(ctx, login, meta, since, called); err != nil {
			return time.Time{}, err
		}
	}
	if due = time.UnixMilli(counts).Add(d.c.Config.Departed.grace); now.Before(due) {
		return due, nil
	}
	return time.Time{}, d.end(ctx, login)
}

// note stores since when somebody is gone and when they were called back, 0 for not.
func (d *departures) note(ctx context.Context, login *bridgev2.UserLogin, meta *LoginMetadata, since, called int64) error {
	before, calledBefore := meta.GoneSince, meta.CalledBack
	meta.GoneSince, meta.CalledBack = since, called
	if err := login.Save(ctx); err != nil {
		meta.GoneSince, meta.CalledBack = before, calledBefore
		return fmt.Errorf("connector: note who is gone: %w", err)
	}
	return nil
}

// answersFor says whether the homeserver answers its administrator about a user.
func (d *departures) answersFor(user id.UserID) bool {
	return d.token != "" && user.Homeserver() == d.c.matrix.ServerName()
}

// callBack says, where nobody knows for certain, what is going to happen, in a chat with the bot that the person is in or invited to.
// Where the homeserver refuses that for good it is not done, and is tried again when it is looked at everybody.
func (d *departures) callBack(ctx context.Context, now time.Time, login *bridgev2.UserLogin) (done bool, err error) {
	user := login.User
	room, err := d.c.storedManagementRoom(ctx, login.UserMXID)
	if err != nil {
		return false, err
	} else if room != "" {
		membership, err := d.membership(ctx, room, login.UserMXID)
		if err != nil {
			return false, err
		} else if !membership.IsInviteOrJoin() {
			user.ManagementRoom = ""
			if err := user.Save(ctx); err != nil {
				return false, fmt.Errorf("connector: call somebody back: %w", err)
			}
		}
	}
	room, err = d.c.managementRoom(ctx, login.UserMXID)
	if err != nil {
		return false, fmt.Errorf("connector: call somebody back: %w", err)
	} else if room == "" {
		d.c.log.Warn().Str("account", string(login.ID)).Msg("Cannot invite somebody who seems to be gone; the account stays")
		return false, nil
	}
	w := d.c.wordsFor(login.UserMXID)
	until := d.c.clock.shown(now.Add(d.c.Config.Departed.grace)).UTC().Format("2006-01-02 15:04")
	notice, err := matrixdurable.ReplyNotice("departed "+string(login.ID)+until, room, "", login.UserMXID, w.Text("departed.come-back", "until", until))
	if err == nil {
		err = d.c.stack.Notices.Add(ctx, notice)
	}
	return err == nil, err
}

// end deletes the account, as its person's wish would.
func (d *departures) end(ctx context.Context, login *bridgev2.UserLogin) error {
	if err := d.c.leave(ctx, login, reasonDeparted); err != nil {
		return err
	}
	d.c.log.Info().Str("account", string(login.ID)).Msg("Login ends: its Matrix user is gone")
	login.Logout(ctx)
	d.c.leavings.wake()
	return nil
}

// presence says whether somebody is gone.
func (d *departures) presence(ctx context.Context, user id.UserID, logins []*bridgev2.UserLogin) (presence, error) {
	if d.answersFor(user) {
		return d.ask(ctx, user)
	}
	rooms, err := d.rooms(ctx, logins)
	if err != nil || len(rooms) == 0 {
		return presenceUnknown, err
	}
	for _, room := range rooms {
		if d.c.matrix.StateStore.IsInRoom(ctx, room, user) {
			return presenceHere, nil
		}
	}
	for _, room := range rooms { // what the bridge has seen may be old
		if in, err := d.isIn(ctx, room, user); err != nil {
			return presenceUnknown, err
		} else if in {
			return presenceHere, nil
		}
	}
	return d.profile(ctx, user)
}

// rooms are those that the bridge and a person were in together.
func (d *departures) rooms(ctx context.Context, logins []*bridgev2.UserLogin) ([]id.RoomID, error) {
	var rooms []id.RoomID
	for i, login := range logins {
		if i == 0 {
			room, err := d.c.storedManagementRoom(ctx, login.UserMXID)
			if err != nil {
				return nil, err
			} else if room != "" {
				rooms = append(rooms, room)
			}
		}
		if login.SpaceRoom != "" {
			rooms = append(rooms, login.SpaceRoom)
		}
		chats, err := d.c.roomsOf(ctx, string(login.ID))
		if err != nil {
			return nil, err
		}
		rooms = append(rooms, chats...)
	}
	return rooms, nil
}

// storedManagementRoom is the room that somebody's chat with the bot is known to be, "" if there is none. It reads the framework's row, since
// the framework guards the field of its cached user with a lock of its own while it makes the room.
func (c *Connector) storedManagementRoom(ctx context.Context, who id.UserID) (id.RoomID, error) {
	row, err := c.rows.User.GetByMXID(ctx, who)
	if err != nil || row == nil {
		return "", err
	}
	return row.ManagementRoom, nil
}

// isIn asks the homeserver whether somebody is in a room.
func (d *departures) isIn(ctx context.Context, room id.RoomID, user id.UserID) (bool, error) {
	membership, err := d.membership(ctx, room, user)
	return membership == event.MembershipJoin, err
}

// membership asks the homeserver for somebody's membership in a room.
func (d *departures) membership(ctx context.Context, room id.RoomID, user id.UserID) (event.Membership, error) {
	var member event.MemberEventContent
	err := d.c.matrix.Bot.Client.StateEvent(ctx, room, event.StateMember, user.String(), &member)
	if matrixdurable.Permanent(err) {
		return event.MembershipLeave, nil // nobody is, or the bridge is not
	} else if err != nil {
		return "", fmt.Errorf("connector: ask who is in a room: %w", err)
	}
	return member.Membership, nil
}

// profile asks for somebody's profile, which is empty after a deactivation with erasure.
func (d *departures) profile(ctx context.Context, user id.UserID) (presence, error) {
	profile, err := d.c.matrix.Bot.Client.GetProfile(ctx, user)
	var refusal mautrix.HTTPError
	switch {
	case errors.As(err, &refusal) && refusal.IsStatus(http.StatusNotFound): // under more than one code
		return presenceGone, nil
	case err != nil:
		return presenceUnknown, fmt.Errorf("connector: ask for a profile: %w", err)
	case profile.DisplayName == "" && profile.AvatarURL.IsEmpty():
		return presenceGone, nil
	}
	return presenceHere, nil
}

var errDeparted = errors.New("connector: ask whether somebody is gone: the homeserver does not say; is network.departed.admin_token that of an administrator?")

// ask asks the homeserver as its administrator. Its error names nobody.
func (d *departures) ask(ctx context.Context, user id.UserID) (presence, error) {
	address := strings.TrimRight(d.c.matrix.Config.Homeserver.Address, "/") + "/_synapse/admin/v2/users/" + url.PathEscape(user.String())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return presenceUnknown, errDeparted
	}
	req.Header.Set("Authorization", "Bearer "+d.token)
	res, err := d.http.Do(req)
	if err != nil {
		return presenceUnknown, errDeparted
	}
	defer res.Body.Close()
	var answer struct {
		Name        id.UserID `json:"name"`
		Deactivated *bool     `json:"deactivated"`
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, departedAnswer+1))
	if err != nil || res.StatusCode != http.StatusOK || len(body) > departedAnswer || json.Unmarshal(body, &answer) != nil ||
		answer.Name != user || answer.Deactivated == nil {
		return presenceUnknown, errDeparted
	}
	if *answer.Deactivated {
		return presenceGone, nil
	}
	return presenceHere, nil
}
