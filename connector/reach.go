package connector

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/interop"
	"postern/connector/killpoint"
	"postern/connector/matrixdurable"
	"postern/connector/words"
	"postern/database"
)

// reach asks people at the gatekeeper whether the person of a login may write to them (PROTOCOL.md 5.3), and knows what they said. That
// somebody is to be asked is on disk before they are; who was asked is not asked again, whatever happens, but for a process that dies between
// the question and the note that the gatekeeper has taken it.
type reach struct {
	client *client
	// mu is held while a state is looked at and changed, and over a question, so that nobody is asked by two at once.
	mu sync.Mutex
}

func (r *reach) store() database.ReachStore { return r.client.connector.db.Reaches() }
func (r *reach) account() string            { return string(r.client.login.ID) }

// newsKey is the context's key for a *startNews that a command wants to know.
type newsKey struct{}

// startNews is what became of a chat that somebody wants to begin.
type startNews struct {
	state database.ReachState
	since int64 // Unix milliseconds
	fresh bool  // they were asked now
}

// writable says whether messages may go to somebody in that state. Of somebody who cannot be reached at the moment the gatekeeper knows
// better than a row of ours, so it is asked; who has not answered is written to only where the gatekeeper passes that on.
func (r *reach) writable(state database.ReachState) bool {
	switch state {
	case database.ReachDeclined:
		return false
	case database.ReachToAsk, database.ReachAsked:
		return r.client.profile.Message.Unanswered
	}
	return true
}

// put stores the state of a chat; r.mu is held.
func (r *reach) put(ctx context.Context, chat string, state database.ReachState) error {
	row := &database.Reach{ChatID: chat, AccountID: r.account(), State: state}
	if err := r.store().Put(ctx, row); err != nil {
		return err
	}
	ch := r.client.chats.get(chat)
	ch.writable.Store(r.writable(state))
	ch.answered.Store(state == database.ReachAccepted)
	return nil
}

// begin sees to it that the other side of a chat has been asked before it is written to. Its errors are words for people.
func (r *reach) begin(ctx context.Context, chat, name string) (news startNews, err error) {
	c := r.client
	if c.connector.suspended.has(c.login.UserMXID) {
		return news, c.connector.suspendedWords(c.words())
	}
	if blocked, err := c.account.Blocked(ctx, chat); err != nil {
		return news, r.wrong(chat, err)
	} else if blocked {
		return news, c.words().Error("lookup.blocked", "name", name, "command", c.connector.bridge.Config.CommandPrefix+" unblock")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	row, err := r.store().Get(ctx, r.account(), chat)
	if err != nil {
		return news, r.wrong(chat, err)
	}
	request, err := c.requests.store().Get(ctx, r.account(), chat)
	if err != nil {
		return news, r.wrong(chat, err)
	}
	counted := ""
	switch row.State {
	case database.ReachDeclined:
		return news, c.words().Error("lookup.declined", "name", name)
	case database.ReachAsked, database.ReachAccepted:
		return startNews{row.State, row.Since, false}, nil
	case database.ReachNone:
		if request.State != database.RequestNone {
			return news, nil // they have written first, or there was a chat before anybody was asked
		}
	}
	if row.State != database.ReachToAsk {
		if counted, err = r.wish(ctx, chat, row.State == database.ReachNone); err != nil {
			return news, err
		}
		killpoint.Hit(killpoint.ReachWished)
	}
	state, err := r.ask(ctx, chat)
	if err != nil && counted != "" {
		c.connector.brakes.back(ctx, counted)
	}
	return startNews{state: state, fresh: true}, err
}

// wish stores that somebody is to be asked; if it is the first time, the brake counts that in the same transaction. counted is for taking that
// back. Its errors are words for people; r.mu is held.
func (r *reach) wish(ctx context.Context, chat string, first bool) (counted string, err error) {
	c := r.client
	var braked error
	err = c.connector.db.Do(ctx, func(ctx context.Context) error {
		if counted, braked = "", nil; first {
			if counted, braked = c.connector.brakes.chat(ctx, c.login.UserMXID, c.words()); braked != nil {
				return nil
			}
		}
		return r.put(ctx, chat, database.ReachToAsk)
	})
	switch {
	case err != nil:
		c.chats.get(chat).writable.Store(false) // looked at again
		return "", r.wrong(chat, err)
	case braked != nil:
		return "", braked
	}
	return counted, nil
}

func (r *reach) wrong(chat string, err error) error {
	r.client.log.Err(err).Str("chat", chat).Msg("Could not look whether somebody may be written to")
	return r.client.words().Error("error.wrong")
}

// ask puts the question for a chat in the state ReachToAsk; r.mu is held. Whom the gatekeeper could not be asked for stays in that state. Its
// errors are words for people, about somebody who cannot be asked: then there is nothing more to ask.
func (r *reach) ask(ctx context.Context, chat string) (database.ReachState, error) {
	c := r.client
	asking, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	err := c.account.Ping(asking, chat, r.displayname())
	var refused *interop.RequestError
	switch {
	case err == nil:
		killpoint.Hit(killpoint.ReachTaken)
		if err = r.put(ctx, chat, database.ReachAsked); err != nil {
			return database.ReachToAsk, r.wrong(chat, err)
		}
		return database.ReachAsked, nil
	case errors.As(err, &refused) && !refused.Transient:
		if err = r.put(ctx, chat, database.ReachNone); err != nil {
			return database.ReachToAsk, r.wrong(chat, err)
		}
		return database.ReachNone, r.refusal(refused.Code)
	}
	c.log.Debug().Err(err).Str("chat", chat).Msg("Somebody could not be asked; the next connection tries again")
	return database.ReachToAsk, nil
}

// displayname is what the other side reads with the question: never nothing.
func (r *reach) displayname() string {
	if name := r.client.name.Load(); name != nil && *name != "" {
		return *name
	}
	if name := r.client.connector.displayname(r.client.login.UserMXID, ""); name != "" {
		return name
	}
	return r.client.current().Identifier
}

// refusal says why somebody cannot be asked. Who was just found by their number and is not reachable has switched this off, or has blocked us;
// the gatekeeper does not say which.
func (r *reach) refusal(code int) error {
	w, name := r.client.words(), r.client.profile.DisplayName
	switch code {
	case 403:
		return w.Error("ping.off", "gatekeeper", name)
	case 404:
		return w.Error("ping.gone", "gatekeeper", name)
	case 429:
		return w.Error("lookup.too-many", "gatekeeper", name)
	}
	return w.Error("lookup.failed", "gatekeeper", name)
}

// catchUp asks those who are still to be asked, after a stream has become live.
func (r *reach) catchUp(ctx context.Context) {
	rows, err := r.store().ToAsk(ctx, r.account())
	for i := 0; err == nil && i < len(rows) && ctx.Err() == nil; i++ {
		err = r.askLate(ctx, rows[i].ChatID)
	}
	if err != nil && ctx.Err() == nil {
		r.client.log.Err(err).Msg("Could not ask everybody who is to be asked; the next connection tries again")
	}
}

// askLate puts a question whose command has ended; what is to be said about it is a notice.
func (r *reach) askLate(ctx context.Context, chat string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	row, err := r.store().Get(ctx, r.account(), chat)
	if err != nil || row.State != database.ReachToAsk {
		return err
	}
	if state, err := r.ask(ctx, chat); err != nil && state == database.ReachNone {
		return r.say(ctx, chat, "reach refused "+chat+" "+strconv.FormatInt(row.Since, 10), r.client.words().Text("ping.late", "why", err.Error()))
	}
	return nil
}

// say tells the person something about a chat for certain and once: in its room or, if it has none, in the management room.
func (r *reach) say(ctx context.Context, chat, identity, text string) error {
	c := r.client
	portal, err := c.connector.bridge.GetExistingPortalByKey(ctx, portalKey(r.account(), chat))
	if err != nil {
		return fmt.Errorf("connector: say: %w", err)
	}
	room := id.RoomID("")
	if portal != nil {
		room = portal.MXID
	}
	if room == "" {
		who, err := c.personIn(ctx, chat)
		if err != nil {
			return fmt.Errorf("connector: say: %w", err)
		}
		return c.requests.tell(ctx, identity, who.name+": "+text)
	}
	notice, err := matrixdurable.ReplyNotice(identity, room, "", c.login.UserMXID, text)
	if err != nil {
		return fmt.Errorf("connector: say: %w", err)
	}
	if err = c.connector.stack.Notices.Add(ctx, notice); err != nil {
		return fmt.Errorf("connector: say: %w", err)
	}
	c.connector.stack.Notices.Wake()
	return nil
}

// told takes over what the gatekeeper says of somebody. asked says that an answer was waited for.
func (r *reach) told(ctx context.Context, chat, what string) (asked bool, err error) {
	state, known := map[string]database.ReachState{
		"accepted": database.ReachAccepted, "declined": database.ReachDeclined, "off": database.ReachOff,
	}[what]
	if !known {
		return false, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	row, err := r.store().Get(ctx, r.account(), chat)
	if err != nil {
		return false, err
	}
	if row.State != state {
		err = r.put(ctx, chat, state)
	}
	return row.State == database.ReachToAsk || row.State == database.ReachAsked, err
}

// wrote notes that somebody has written, which counts as accepting.
func (r *reach) wrote(ctx context.Context, chat string) error {
	if r.client.chats.get(chat).answered.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	row, err := r.store().Get(ctx, r.account(), chat)
	if err != nil {
		return err
	}
	if row.State != database.ReachNone && row.State != database.ReachAccepted {
		return r.put(ctx, chat, database.ReachAccepted)
	}
	r.client.chats.get(chat).answered.Store(true)
	return nil
}

// mayWrite refuses what is not to be sent to somebody, in words.
func (r *reach) mayWrite(ctx context.Context, chat string) error {
	c := r.client
	ch := c.chats.get(chat)
	if ch.writable.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	row, err := r.store().Get(ctx, r.account(), chat)
	if err != nil {
		return c.again(err)
	}
	if r.writable(row.State) {
		ch.writable.Store(true)
		return nil
	}
	if row.State == database.ReachDeclined {
		return refusal(errUnanswered, c.words().Text("refused.declined"))
	}
	return refusal(errUnanswered, c.words().Text("refused.unanswered", "gatekeeper", c.profile.DisplayName, "since", momentWords(c.words(), row.Since)))
}

// errUnanswered: the other side has not accepted that they are written to.
var errUnanswered = errors.New("connector: send: the other side has not accepted")

// explain says in the room of somebody who has to answer first that messages wait for that.
func (r *reach) explain(ctx context.Context, portal *bridgev2.Portal, chat string, news startNews) error {
	if r.writable(news.state) {
		return nil
	}
	content := &event.MessageEventContent{
		MsgType: event.MsgNotice, Body: r.client.words().Text("start-chat.room", "gatekeeper", r.client.profile.DisplayName), Mentions: &event.Mentions{},
	}
	return r.client.say(ctx, portal.MXID, content, matrixdurable.Identity("unanswered", chat), true)
}

// newsWords says, behind a command's answer, how it stands with the other side.
func (n *startNews) words(w words.Words, c *client) string {
	gatekeeper := c.profile.DisplayName
	switch {
	case n.state == database.ReachToAsk:
		return "\n\n" + w.Text("start-chat.to-ask", "gatekeeper", gatekeeper)
	case n.state != database.ReachAsked:
		return ""
	case n.fresh && c.profile.Message.Unanswered:
		return "\n\n" + w.Text("start-chat.asked", "gatekeeper", gatekeeper)
	case n.fresh:
		return "\n\n" + w.Text("start-chat.asked-first", "gatekeeper", gatekeeper)
	case c.profile.Message.Unanswered:
		return "\n\n" + w.Text("start-chat.waits", "since", momentWords(w, n.since))
	}
	return "\n\n" + w.Text("start-chat.waits-first", "since", momentWords(w, n.since))
}
