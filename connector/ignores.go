package connector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/bridgev2/matrix"
	"maunium.net/go/mautrix/id"

	"postern/connector/killpoint"
	"postern/connector/matrixdurable"
)

// When the bridge looks at a person's list of ignored users, which no homeserver tells it of: when a login is connected, when somebody is
// blocked or there is a new chat, when the person shows signs of life, but for that not more often than ignoreEvery, and once in ignoreIdle without
// any reason. ignoreEvery is also how long the list has to stay as the bridge has written it.
const (
	ignoreEvery    = 10 * time.Second
	ignoreIdle     = 15 * time.Minute
	ignorePatience = 30 * time.Second
	// ignoreLooks is how many people's lists are looked at at once.
	ignoreLooks = 4
)

// ignores keeps the list of ignored users of a login's person and whom they have blocked the same, where the bridge may act as the person (double
// puppeting). One goroutine works; a row for each chat says whether its other side was on the list at the last look, so that of list
// and block the one that has changed since is known.
type ignores struct {
	client *client
	every  time.Duration
	// loop looks, one look at a time.
	loop *spell
	// last is the list that was seen last, settled says that nothing was left to do then, wrote is when the bridge wrote the list last. One
	// goroutine has them.
	last    []byte
	settled bool
	wrote   time.Time
	// ours is the list as the bridge has written it last and read it back, nil for none.
	ours *ignoredList
	// kicked: something else than the list may have changed. looking: a look is under way, and signed: a sign of life came meanwhile. soonest is
	// when a sign of life is a reason to look.
	mu              sync.Mutex
	kicked, failing bool
	looking, signed bool
	soonest         time.Time
}

func newIgnores(c *client) *ignores {
	g := &ignores{client: c, every: ignoreEvery}
	g.loop = &spell{step: g.round}
	return g
}

// sign says that the person shows signs of life.
func (g *ignores) sign() {
	g.mu.Lock()
	soonest := g.soonest
	g.signed = g.looking
	looking := g.looking
	g.mu.Unlock()
	if !looking {
		g.loop.at(soonest)
	}
}

// kick says that somebody was blocked, or not any more, or that there is a new chat.
func (g *ignores) kick() {
	g.mu.Lock()
	g.kicked = true
	g.mu.Unlock()
	g.loop.now()
}

// start looks, and again and again until the loop's end.
func (g *ignores) start(ctx context.Context) {
	g.loop.begin(ctx)
	g.loop.now()
}

// round looks once, and says when to look again: not before soonest where only a sign of life is the reason for an earlier look.
func (g *ignores) round(ctx context.Context) time.Time {
	g.mu.Lock()
	g.looking, g.signed = true, false
	g.mu.Unlock()
	more, now := g.contained(ctx), time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.looking, g.soonest = false, now.Add(g.every)
	if more || g.signed {
		return g.soonest
	}
	return now.Add(ignoreIdle + rand.N(ignoreIdle/4))
}

// contained looks once; a panic costs that look only.
func (g *ignores) contained(ctx context.Context) (more bool) {
	defer func() {
		if p := recover(); p != nil {
			g.client.log.Error().Str("panic", fmt.Sprintf("%T", p)).Str("where", string(debug.Stack())).Msg("Looking at a list of ignored users panicked")
			more = false
		}
	}()
	slots := g.client.connector.ignoring.slots
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return false
	}
	limited, cancel := context.WithTimeout(ctx, ignorePatience)
	defer cancel()
	more, err := g.look(limited)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err == nil:
		g.failing = false
	case ctx.Err() == nil && !g.failing:
		g.failing = true
		g.client.log.Warn().Err(err).Msg("The list of ignored users cannot be brought in step with who is blocked; the bridge goes on trying")
	}
	return more
}

// puppet is the client that acts as the login's person, nil if there is none.
func (g *ignores) puppet(ctx context.Context) *mautrix.Client {
	intent, ok := g.client.login.User.DoublePuppet(ctx).(*matrix.ASIntent)
	if !ok || intent == nil || intent.Matrix == nil {
		return nil
	}
	return intent.Matrix.Client
}

// look compares the list with who is blocked and does what follows. more says that it is to be looked again soon.
func (g *ignores) look(ctx context.Context) (more bool, err error) {
	puppet := g.puppet(ctx)
	if puppet == nil {
		return false, nil
	}
	g.mu.Lock()
	kicked := g.kicked
	g.kicked = false
	g.mu.Unlock()
	defer func() {
		if err != nil {
			g.settled = false
		}
	}()
	raw, err := readIgnored(ctx, puppet)
	if err != nil {
		return false, err
	}
	if g.settled && !kicked && bytes.Equal(raw, g.last) {
		return false, nil
	}
	list, err := parseIgnoredList(raw)
	if err != nil {
		return false, err
	}
	states, err := g.states(ctx, list)
	if err != nil {
		return false, err
	}
	var write []ignoreState
	write, more, err = g.agree(ctx, raw, list, states)
	if len(write) > 0 {
		err = errors.Join(err, g.write(ctx, puppet, write))
	}
	more = more || len(write) > 0
	g.last, g.settled = raw, err == nil && !more
	return more, err
}

// agree does for each state what is to be done, but for those that the list has to be written for. more: some are to be looked at again.
func (g *ignores) agree(ctx context.Context, raw []byte, list *ignoredList, states []ignoreState) (write []ignoreState, more bool, err error) {
	for _, s := range states {
		todo := s.todo()
		switch {
		case raw == nil && todo == ignoreFollow: // no client does that, and a homeserver that has lost the list must end no block
			todo = ignoreWrite
		case todo == ignoreWrite && g.wished(raw, list, states, s):
			todo = ignoreFollow
		}
		switch todo {
		case ignoreWrite:
			write = append(write, s)
		case ignoreSettle:
			if s.pending && time.Since(g.wrote) < g.every {
				more = true
				continue
			}
			err = errors.Join(err, g.settle(ctx, s))
		case ignoreFollow:
			err = errors.Join(err, g.follow(ctx, s))
		}
	}
	return write, more, err
}

// wished says whether a list that is not what the bridge has just written of somebody is what the person wants: it was written and is not any
// more, and nothing else has changed. A client that writes an old copy of its own does that to change something else, and is not listened to until what
// the bridge has written has stood for every.
func (g *ignores) wished(raw []byte, list *ignoredList, states []ignoreState, s ignoreState) bool {
	if raw == nil || g.ours == nil || !s.pending || g.ours.has(s.ghost) == s.listed {
		return false
	}
	pending := map[string]bool{}
	for _, other := range states {
		if other.pending {
			pending[other.ghost.String()] = true
		}
	}
	return list.differsIn(g.ours, pending)
}

// states are those of all chats of the login with the list and whom it has blocked.
func (g *ignores) states(ctx context.Context, list *ignoredList) ([]ignoreState, error) {
	c := g.client
	chats, err := c.connector.db.Chats().ByAccount(ctx, string(c.login.ID))
	if err != nil {
		return nil, err
	}
	known, err := c.connector.db.Ignored(string(c.login.ID)).All(ctx)
	if err != nil {
		return nil, err
	}
	states := make([]ignoreState, 0, len(chats))
	for _, chat := range chats {
		s := ignoreState{chat: chat.ID, ghost: c.connector.matrix.FormatGhostMXID(ghostID(c.profile, chat.ContactID))}
		s.listed = list.has(s.ghost)
		s.pending, s.known = known[chat.ID]
		if s.blocked, err = c.account.Blocked(ctx, chat.ID); err != nil {
			return nil, err
		}
		states = append(states, s)
	}
	return states, nil
}

// ignoreState is how it stands with the other side of a chat: listed, whether the list has them now; known, whether it had them at the last
// look; pending, whether the bridge is changing that; blocked, whether they are.
type ignoreState struct {
	chat                            string
	ghost                           id.UserID
	listed, known, pending, blocked bool
}

// What is to be done about a chat.
type ignoreTodo uint8

const (
	ignoreNothing ignoreTodo = iota
	ignoreSettle             // all agree, and the row does not say so yet
	ignoreFollow             // the person has changed the list: the block follows
	ignoreWrite              // the block has changed: the list follows
)

// todo finds out which of the two has changed since they agreed.
func (s ignoreState) todo() ignoreTodo {
	switch {
	case s.pending && s.listed == s.blocked:
		return ignoreSettle
	case s.pending: // what the list says may be from before our change of it
		return ignoreWrite
	case s.listed == s.blocked && s.known == s.listed:
		return ignoreNothing
	case s.listed == s.blocked:
		return ignoreSettle
	case s.listed != s.known:
		return ignoreFollow
	}
	return ignoreWrite
}

// note stores whether the list has the other side of a chat.
func (g *ignores) note(ctx context.Context, s ignoreState) error {
	store := g.client.connector.db.Ignored(string(g.client.login.ID))
	if s.listed {
		return store.Put(ctx, s.chat, false)
	}
	return store.Delete(ctx, s.chat)
}

func (g *ignores) settle(ctx context.Context, s ignoreState) error { return g.note(ctx, s) }

// follow blocks somebody whom the person has begun to ignore, or ends that, with a notice in the chat's room.
func (g *ignores) follow(ctx context.Context, s ignoreState) error {
	c := g.client
	who, err := c.personIn(ctx, s.chat)
	if err != nil {
		return err
	}
	key := "ignore.notice-ended"
	if s.listed {
		key = "ignore.notice"
	}
	text := c.words().Text(key, "gatekeeper", c.profile.DisplayName, "prefix", c.connector.bridge.Config.CommandPrefix)
	kind := "ignore " + string(c.login.ID) + " " + s.chat + " " + strconv.FormatInt(time.Now().UnixNano(), 10)
	changed, err := c.account.SetBlocked(ctx, s.chat, s.listed, func(ctx context.Context) error {
		if err := g.note(ctx, s); err != nil || who.room == "" {
			return err
		}
		notice, err := matrixdurable.ReplyNotice(kind, who.room, "", c.login.UserMXID, text)
		if err != nil {
			return err
		}
		return c.connector.stack.Notices.Add(ctx, notice)
	})
	if err == nil && !changed {
		err = g.note(ctx, s)
	}
	c.connector.stack.Notices.Wake()
	return err
}

// write makes the list say who is blocked. That it does is noted at a later look only, for a client of the person's that writes its own
// copy of the list at the same time may undo it. Matrix has no way to write only if nobody else has written: the list is read
// again just before.
func (g *ignores) write(ctx context.Context, puppet *mautrix.Client, states []ignoreState) error {
	g.ours = nil
	store := g.client.connector.db.Ignored(string(g.client.login.ID))
	err := g.client.connector.db.Do(ctx, func(ctx context.Context) error {
		for _, s := range states {
			if err := store.Put(ctx, s.chat, true); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	killpoint.Hit(killpoint.IgnoreNoted)
	defer g.client.connector.ignoring.lock(puppet.UserID)()
	raw, err := readIgnored(ctx, puppet)
	if err != nil {
		return err
	}
	list, err := parseIgnoredList(raw)
	if err != nil {
		return err
	}
	changed := false
	for _, s := range states {
		changed = list.set(s.ghost, s.blocked) || changed
	}
	if !changed {
		return nil
	}
	_, err = puppet.MakeFullRequest(ctx, mautrix.FullRequest{
		Method: http.MethodPut, URL: ignoredURL(puppet), RequestBytes: list.bytes(), SensitiveContent: true,
		Headers: http.Header{"Content-Type": {"application/json"}},
	})
	if err != nil {
		return err
	}
	killpoint.Hit(killpoint.IgnoreWritten)
	g.wrote = time.Now()
	// A homeserver of several processes may show what was there before for a moment: what differs from what was read back is somebody else's.
	if raw, err = readIgnored(ctx, puppet); err != nil {
		return err
	}
	back, err := parseIgnoredList(raw)
	if err == nil && back.differsIn(list, nil) {
		g.ours = back
	}
	return err
}

func ignoredURL(puppet *mautrix.Client) string {
	return puppet.BuildClientURL("v3", "user", puppet.UserID, "account_data", "m.ignored_user_list")
}

// readIgnored is the list as the homeserver has it, nil for none.
func readIgnored(ctx context.Context, puppet *mautrix.Client) ([]byte, error) {
	raw, err := puppet.MakeFullRequest(ctx, mautrix.FullRequest{
		Method: http.MethodGet, URL: ignoredURL(puppet), SensitiveContent: true, ResponseSizeLimit: maxIgnoredList,
	})
	if errors.Is(err, mautrix.MNotFound) {
		return nil, nil
	}
	return raw, err
}

// ignoring is what the ignores of all logins share.
type ignoring struct {
	// slots bounds how many look at once.
	slots chan struct{}

	mu sync.Mutex
	// writing are the people whose list is being written: several logins of one person share it.
	writing map[id.UserID]*writing
}

type writing struct {
	mu    sync.Mutex
	users int
}

func newIgnoring() *ignoring {
	return &ignoring{slots: make(chan struct{}, ignoreLooks), writing: map[id.UserID]*writing{}}
}

// lock keeps all others from writing a person's list until the answer is called.
func (g *ignoring) lock(user id.UserID) (unlock func()) {
	g.mu.Lock()
	w := g.writing[user]
	if w == nil {
		w = &writing{}
		g.writing[user] = w
	}
	w.users++
	g.mu.Unlock()
	w.mu.Lock()
	return func() {
		w.mu.Unlock()
		g.mu.Lock()
		defer g.mu.Unlock()
		if w.users--; w.users == 0 {
			delete(g.writing, user)
		}
	}
}
