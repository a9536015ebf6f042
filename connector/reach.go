package connector

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

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
	// question puts a question to the gatekeeper: interop.Account.Ping.
	question func(ctx context.Context, chat, name string) error
	// mu is held while a state is looked at and changed, and over nothing that takes long. That nobody is asked by two at once is chat.asking.
	mu sync.Mutex
	// loop asks again (reachagain.go). again is how long after a question that was not taken it is put again at first, pause how long after the
	// next one; pausing is held over that.
	loop    *spell
	again   time.Duration
	pausing sync.Mutex
	pause   time.Duration
}

func newReach(c *client) *reach {
	question := func(ctx context.Context, chat, name string) error { return c.account.Ping(ctx, chat, name) }
	r := &reach{client: c, question: question, again: askAgain}
	r.loop = &spell{step: r.round}
	return r
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
	slow  bool  // they were not, for the gatekeeper wants fewer questions
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

// put stores the state of a chat and, in the same transaction, a notice, if it is not nil; r.mu is held.
func (r *reach) put(ctx context.Context, chat string, state database.ReachState, notice *matrixdurable.Notice) error {
	err := r.client.connector.db.Do(ctx, func(ctx context.Context) error {
		if err := r.store().Put(ctx, &database.Reach{ChatID: chat, AccountID: r.account(), State: state}); err != nil || notice == nil {
			return err
		}
		return r.client.connector.stack.Notices.Add(ctx, *notice)
	})
	if err != nil {
		return err
	}
	if notice != nil { // Add has woken before the notice was there to be seen
		r.client.connector.stack.Notices.Wake()
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
	ch := c.chats.get(chat)
	ch.asking.Lock()
	defer ch.asking.Unlock()
	news, counted, err := r.toAsk(ctx, chat, name)
	if err != nil || news.state != database.ReachToAsk {
		return news, err
	}
	got := r.ask(ctx, chat, nil)
	if got.words != nil && counted != "" {
		c.connector.brakes.back(ctx, counted)
	}
	if got.state == database.ReachToAsk {
		r.later()
	}
	return startNews{state: got.state, fresh: true, slow: tooMany(got.cause)}, got.words
}

// toAsk sees to it that somebody is in the state ReachToAsk if they are to be asked; news says how it stands with them. Its errors are words for
// people.
func (r *reach) toAsk(ctx context.Context, chat, name string) (news startNews, counted string, err error) {
	c := r.client
	r.mu.Lock()
	defer r.mu.Unlock()
	row, err := r.store().Get(ctx, r.account(), chat)
	if err != nil {
		return news, "", r.wrong(chat, err)
	}
	request, err := c.requests.store().Get(ctx, r.account(), chat)
	if err != nil {
		return news, "", r.wrong(chat, err)
	}
	switch row.State {
	case database.ReachDeclined:
		return news, "", c.words().Error("lookup.declined", "name", name)
	case database.ReachAsked, database.ReachAccepted:
		return startNews{state: row.State, since: row.Since}, "", nil
	case database.ReachNone:
		if request.State != database.RequestNone {
			return news, "", nil // they have written first, or there was a chat before anybody was asked
		}
	}
	if row.State != database.ReachToAsk {
		if counted, err = r.wish(ctx, chat, row.State == database.ReachNone); err != nil {
			return news, "", err
		}
		killpoint.Hit(killpoint.ReachWished)
	}
	return startNews{state: database.ReachToAsk}, counted, nil
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
		return r.put(ctx, chat, database.ReachToAsk, nil)
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

// reachAnswer is what came of a question: the state as it is, words for the person about somebody who cannot be asked, and the cause if the gatekeeper
// has not taken the question, so that they are still to be asked.
type reachAnswer struct {
	state        database.ReachState
	words, cause error
}

// ask puts the question for a chat in the state ReachToAsk; the chat's asking is held. late, if it is not nil, makes the notice with the words
// about somebody who cannot be asked, which is stored together with the question's end.
func (r *reach) ask(ctx context.Context, chat string, late func(why error) (*matrixdurable.Notice, error)) reachAnswer {
	asking, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	err := r.question(asking, chat, r.displayname())
	var refused *interop.RequestError
	var why error
	var notice *matrixdurable.Notice
	state := database.ReachAsked
	switch {
	case err == nil:
		killpoint.Hit(killpoint.ReachTaken)
	case errors.As(err, &refused) && !refused.Transient:
		state, why, err = database.ReachNone, r.refusal(refused.Code), nil
		if late != nil {
			notice, err = late(why)
		}
	}
	if err != nil {
		r.client.log.Debug().Err(err).Str("chat", chat).Msg("Somebody could not be asked; the bridge tries again")
		return reachAnswer{state: database.ReachToAsk, cause: err}
	}
	if state, err = r.settle(ctx, chat, state, notice); err != nil {
		return reachAnswer{state: database.ReachToAsk, words: r.wrong(chat, err)}
	} else if state == database.ReachAccepted {
		why = nil
	}
	return reachAnswer{state: state, words: why}
}

// settle stores what came of a question, with a notice, unless the state is another one by now: who has declined or written before the
// question's answer was here has said more than that. It returns the state as it is.
func (r *reach) settle(ctx context.Context, chat string, state database.ReachState, notice *matrixdurable.Notice) (database.ReachState, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	row, err := r.store().Get(ctx, r.account(), chat)
	if err != nil {
		return database.ReachToAsk, err
	} else if row.State != database.ReachToAsk {
		return row.State, nil
	}
	return state, r.put(ctx, chat, state, notice)
}

// tooMany says whether the gatekeeper wants fewer questions.
func tooMany(err error) bool {
	var refused *interop.RequestError
	return errors.As(err, &refused) && refused.Code == 429
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
	}
	return w.Error("lookup.failed", "gatekeeper", name)
}

// notice says something about a chat: in its room or, if it has none, in the management room; nil if there is neither.
func (r *reach) notice(ctx context.Context, chat, identity, text string) (*matrixdurable.Notice, error) {
	c := r.client
	portal, err := c.connector.bridge.GetExistingPortalByKey(ctx, portalKey(r.account(), chat))
	if err != nil {
		return nil, fmt.Errorf("connector: say: %w", err)
	}
	room := id.RoomID("")
	if portal != nil {
		room = portal.MXID
	}
	if room == "" {
		who, err := c.personIn(ctx, chat)
		if err == nil {
			room, err = c.connector.managementRoom(ctx, c.login.UserMXID)
		}
		if err != nil {
			return nil, fmt.Errorf("connector: say: %w", err)
		} else if room == "" {
			return nil, nil
		}
		text = who.name + ": " + text
	}
	notice, err := matrixdurable.ReplyNotice(identity, room, "", c.login.UserMXID, text)
	if err != nil {
		return nil, fmt.Errorf("connector: say: %w", err)
	}
	return &notice, nil
}

// reachStates are the states by what the gatekeeper says of somebody.
var reachStates = map[string]database.ReachState{
	"accepted": database.ReachAccepted, "declined": database.ReachDeclined, "off": database.ReachOff,
}

// told takes over what the gatekeeper says of somebody. For a chat that has no room, text is said in the management room if an answer was waited
// for, for certain and once: identity names it, and it is stored together with the state.
func (r *reach) told(ctx context.Context, chat, what, identity, text string) error {
	state, known := reachStates[what]
	if !known {
		return nil
	}
	portal, err := r.client.connector.bridge.GetExistingPortalByKey(ctx, portalKey(r.account(), chat))
	if err != nil {
		return err
	}
	row, err := r.store().Get(ctx, r.account(), chat)
	if err != nil {
		return err
	}
	var notice *matrixdurable.Notice
	if waited(row) && text != "" && (portal == nil || portal.MXID == "") {
		if notice, err = r.notice(ctx, chat, identity, text); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if row, err = r.store().Get(ctx, r.account(), chat); err != nil || row.State == state {
		return err
	}
	if !waited(row) {
		notice = nil
	}
	return r.put(ctx, chat, state, notice)
}

// waited says whether an answer of somebody is waited for.
func waited(row *database.Reach) bool {
	return row.State == database.ReachToAsk || row.State == database.ReachAsked
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
		return r.put(ctx, chat, database.ReachAccepted, nil)
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
	switch row.State {
	case database.ReachDeclined:
		return notAllowed(errUnanswered, c.words().Text("refused.declined"))
	case database.ReachToAsk:
		return notAllowed(errUnanswered, c.words().Text("refused.to-ask", "gatekeeper", c.profile.DisplayName))
	}
	return notAllowed(errUnanswered, c.words().Text("refused.unanswered", "gatekeeper", c.profile.DisplayName, "since", momentWords(c.words(), row.Since)))
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
	case n.state == database.ReachToAsk && n.slow:
		return "\n\n" + w.Text("start-chat.to-ask-slow", "gatekeeper", gatekeeper)
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
