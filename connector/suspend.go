package connector

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/id"

	"postern/connector/matrixdurable"
	"postern/connector/words"
	"postern/database"
)

// errSuspended: the operator has suspended the person of the login.
var errSuspended = errors.New("connector: send: suspended")

// suspensions knows whom the operator has suspended. It owns what is on disk about that, but for orders that are given while no bridge runs.
//
// A suspended user has no stream: what others write waits at the gatekeeper, as long as that keeps it. What the user had written before and
// was not sent waits here, since they have been told that it waits; what they write now is refused, so that they know. Both queues are taken up
// again when the suspension ends.
type suspensions struct {
	c *Connector
	// change is held over each order, mu over looks.
	change sync.Mutex
	mu     sync.RWMutex
	users  map[id.UserID]*database.Suspension
}

func loadSuspensions(ctx context.Context, c *Connector) (*suspensions, error) {
	s := &suspensions{c: c}
	return s, s.load(ctx)
}

func (s *suspensions) load(ctx context.Context) error {
	list, err := s.c.db.Suspensions().All(ctx)
	if err != nil {
		return err
	}
	users := make(map[id.UserID]*database.Suspension, len(list))
	for _, one := range list {
		if one.Damaged {
			s.c.log.Error().Msg("What the operator said to a suspension cannot be read from disk; it stands all the same")
		}
		users[id.UserID(one.MXID)] = one
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users = users
	return nil
}

// of is what was ordered about a user, nil for nothing.
func (s *suspensions) of(user id.UserID) *database.Suspension {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.users[user]
}

func (s *suspensions) has(user id.UserID) bool { return s.of(user) != nil }

// begin suspends a user: on disk first, then their streams are closed, and they are told. fresh is false if they were already.
func (s *suspensions) begin(ctx context.Context, user id.UserID, reason string) (fresh bool, err error) {
	s.change.Lock()
	defer s.change.Unlock()
	if fresh, err = s.c.db.Suspensions().Put(ctx, user.String(), reason); err != nil {
		return false, err
	}
	if err = s.load(ctx); err != nil {
		return fresh, err
	}
	for _, login := range s.logins(ctx, user) {
		if c, ok := login.Client.(*client); ok {
			c.Disconnect()
			c.Connect(login.Log.WithContext(s.c.ctx)) // says why it does not
		}
	}
	return fresh, nil
}

// end lets a user go on. False if they were not suspended.
func (s *suspensions) end(ctx context.Context, user id.UserID) (was bool, err error) {
	s.change.Lock()
	defer s.change.Unlock()
	before := s.of(user)
	if was, err = s.c.db.Suspensions().Delete(ctx, user.String()); err != nil {
		return false, err
	}
	if err = s.load(ctx); err != nil || !was {
		return was, err
	}
	logins := s.logins(ctx, user)
	for _, login := range logins {
		if c, ok := login.Client.(*client); ok {
			c.Connect(login.Log.WithContext(s.c.ctx))
		}
	}
	if before != nil && len(logins) > 0 {
		identity := "suspension ended " + user.String() + " " + strconv.FormatInt(before.At, 10)
		return true, s.say(ctx, logins[0], identity, s.c.wordsFor(user).Text("suspended.ended"))
	}
	return true, nil
}

// logins are those of a user.
func (s *suspensions) logins(ctx context.Context, user id.UserID) []*bridgev2.UserLogin {
	known, err := s.c.bridge.GetExistingUserByMXID(ctx, user)
	if err != nil || known == nil {
		if err != nil {
			s.c.log.Err(err).Msg("Could not look up a user")
		}
		return nil
	}
	return known.GetUserLogins()
}

// tell tells a user once that they are suspended.
func (s *suspensions) tell(ctx context.Context, user id.UserID) {
	one := s.of(user)
	if one == nil {
		return
	}
	identity := "suspended " + user.String() + " " + strconv.FormatInt(one.At, 10)
	err := again(ctx, func() error {
		logins := s.logins(ctx, user)
		if len(logins) == 0 {
			return nil
		}
		return s.say(ctx, logins[0], identity, s.notice(s.c.wordsFor(user), one))
	})
	if err != nil && ctx.Err() == nil {
		s.c.log.Err(err).Msg("Could not store that somebody is suspended")
	}
}

// notice is what a suspended user reads.
func (s *suspensions) notice(w words.Words, one *database.Suspension) string {
	text := w.Text("suspended.notice", "operator", s.c.operator(w), "contact", s.c.contact(w), "prefix", s.c.bridge.Config.CommandPrefix)
	if one.Reason != "" {
		text += " " + w.Text("suspended.reason", "reason", one.Reason)
	}
	return text
}

func (s *suspensions) say(ctx context.Context, login *bridgev2.UserLogin, identity, text string) error {
	room, err := login.User.GetManagementRoom(ctx)
	if err != nil {
		return fmt.Errorf("connector: suspend: %w", err)
	}
	notice, err := matrixdurable.ReplyNotice(identity, room, "", login.UserMXID, text)
	if err != nil {
		return fmt.Errorf("connector: suspend: %w", err)
	}
	if err = s.c.stack.Notices.Add(ctx, notice); err != nil {
		return fmt.Errorf("connector: suspend: %w", err)
	}
	s.c.stack.Notices.Wake()
	return nil
}

// suspendedWords say to a suspended user why something is not done.
func (c *Connector) suspendedWords(w words.Words) error {
	return w.Error("suspended.refused", "operator", c.operator(w), "contact", c.contact(w))
}
