package connector

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/id"

	"postern/connector/admin"
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
	ended  map[id.UserID]*database.Suspension // whose users are to be told so
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
	over, err := s.c.db.Suspensions().Ended(ctx)
	if err != nil {
		return err
	}
	ended := make(map[id.UserID]*database.Suspension, len(over))
	for _, one := range over {
		ended[id.UserID(one.MXID)] = one
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
	s.users, s.ended = users, ended
	return nil
}

// of is what was ordered about a user, nil for nothing.
func (s *suspensions) of(user id.UserID) *database.Suspension {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.users[user]
}

func (s *suspensions) has(user id.UserID) bool { return s.of(user) != nil }

// begin suspends a user: on disk first, then their streams are closed, and they are told.
func (s *suspensions) begin(ctx context.Context, user id.UserID, reason string) (outcome admin.Outcome, err error) {
	s.change.Lock()
	defer s.change.Unlock()
	if outcome, err = putSuspension(ctx, s.c.db, user.String(), reason); err != nil {
		return "", err
	}
	if err = s.load(ctx); err != nil {
		return outcome, err
	}
	logins, err := s.logins(ctx, user)
	if err != nil {
		return outcome, err
	}
	for _, login := range logins {
		if c, ok := login.Client.(*client); ok {
			c.Disconnect()
			c.Connect(login.Log.WithContext(s.c.ctx)) // says why it does not
		}
	}
	return outcome, nil
}

// end lets a user go on, and has them told. False if they were not suspended, on disk or as far as this process knows: an order whose answer was an
// error may have been done, and is done to its end when it is given again. So whoever should be connected is connected in any case.
func (s *suspensions) end(ctx context.Context, user id.UserID) (was bool, err error) {
	s.change.Lock()
	defer s.change.Unlock()
	before := s.has(user)
	if was, err = s.c.db.Suspensions().End(ctx, user.String()); err != nil {
		return false, err
	}
	was = was || before
	if err = s.load(ctx); err != nil {
		return was, err
	}
	logins, err := s.logins(ctx, user)
	if err != nil {
		return was, err
	}
	for _, login := range logins {
		if c, ok := login.Client.(*client); ok {
			c.Connect(login.Log.WithContext(s.c.ctx)) // has them told
		}
	}
	return was, nil
}

// tellEnded tells a user once that they are not suspended any more, whichever process has ended it.
func (s *suspensions) tellEnded(ctx context.Context, user id.UserID) {
	if err := again(ctx, func() error { return s.sayEnded(ctx, user) }); err != nil && ctx.Err() == nil {
		s.c.log.Err(err).Msg("Could not store that a suspension has ended")
	}
}

// hasEnded says whether there is an end of a suspension that the user was perhaps not told of.
func (s *suspensions) hasEnded(user id.UserID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.ended[user] != nil
}

func (s *suspensions) sayEnded(ctx context.Context, user id.UserID) error {
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.RLock()
	one := s.ended[user]
	s.mu.RUnlock()
	if one == nil {
		return nil
	}
	logins, err := s.logins(ctx, user)
	if err != nil || len(logins) == 0 {
		return err
	}
	err = s.say(ctx, logins[0], "suspension ended "+ofSuspension(one), s.c.wordsFor(user).Text("suspended.ended"), func(ctx context.Context) error {
		return s.c.db.Suspensions().Forget(ctx, user.String())
	})
	if err != nil {
		return err
	}
	return s.load(ctx)
}

// logins are those of a user.
func (s *suspensions) logins(ctx context.Context, user id.UserID) ([]*bridgev2.UserLogin, error) {
	known, err := s.c.bridge.GetExistingUserByMXID(ctx, user)
	if err != nil {
		return nil, fmt.Errorf("connector: suspend: %w", err)
	} else if known == nil {
		return nil, nil
	}
	return known.GetUserLogins(), nil
}

// ofSuspension names a suspension with its reason, for the identity of what is said of it.
func ofSuspension(one *database.Suspension) string {
	return one.MXID + " " + strconv.FormatInt(one.At, 10) + " " + strconv.Itoa(one.Version)
}

// tell tells a user once that they are suspended, and once more of each other reason.
func (s *suspensions) tell(ctx context.Context, user id.UserID) {
	one := s.of(user)
	if one == nil {
		return
	}
	identity := "suspended " + ofSuspension(one)
	err := again(ctx, func() error {
		logins, err := s.logins(ctx, user)
		if err != nil || len(logins) == 0 {
			return err
		}
		return s.say(ctx, logins[0], identity, s.notice(s.c.wordsFor(user), one), nil)
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

// say stores a notice, and does what belongs to it in the same transaction, if that is not nil.
func (s *suspensions) say(ctx context.Context, login *bridgev2.UserLogin, identity, text string, with func(context.Context) error) error {
	room, err := login.User.GetManagementRoom(ctx)
	if err != nil {
		return fmt.Errorf("connector: suspend: %w", err)
	}
	notice, err := matrixdurable.ReplyNotice(identity, room, "", login.UserMXID, text)
	if err != nil {
		return fmt.Errorf("connector: suspend: %w", err)
	}
	err = s.c.db.Do(ctx, func(ctx context.Context) error {
		if err := (notices{s.c.db.Notices()}).AddNotice(ctx, notice); err != nil || with == nil {
			return err
		}
		return with(ctx)
	})
	if err != nil {
		return fmt.Errorf("connector: suspend: %w", err)
	}
	s.c.stack.Notices.Wake()
	return nil
}

// suspendedWords say to a suspended user why something is not done.
func (c *Connector) suspendedWords(w words.Words) error {
	return w.Error("suspended.refused", "operator", c.operator(w), "contact", c.contact(w))
}
