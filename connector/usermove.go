package connector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/rs/zerolog"
	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix/appservice"
	"maunium.net/go/mautrix/bridgev2/bridgeconfig"
	"maunium.net/go/mautrix/bridgev2/networkid"
	"maunium.net/go/mautrix/format"
	"maunium.net/go/mautrix/id"

	"postern/connector/killpoint"
	"postern/connector/profile"
	"postern/connector/words"
	"postern/database"
)

// MoveSide is one of the two instances between which a user is moved. Neither runs: whoever moves somebody has the leases of both databases.
type MoveSide struct {
	Config  *bridgeconfig.Config
	Network *Config
	DB      *database.DB
}

func (s *MoveSide) name() string { return s.Network.Instances.Name }
func (s *MoveSide) bot() id.UserID {
	return id.NewUserID(s.Config.AppService.Bot.Username, s.Config.Homeserver.Domain)
}

// ghost is a ghost's Matrix ID, as the framework makes it.
func (s *MoveSide) ghost(ghost networkid.UserID) id.UserID {
	return id.NewUserID(s.Config.AppService.FormatUsername(id.EncodeUserLocalpart(string(ghost))), s.Config.Homeserver.Domain)
}

// instance is what it should have told the others.
func (s *MoveSide) instance() *database.Instance {
	return &database.Instance{Name: s.name(), Bot: s.bot().String(), Ghosts: ghostsOf(&s.Config.AppService, s.Config.Homeserver.Domain)}
}

// Moved is what came of a move.
type Moved struct {
	// Already: the user was there, and nothing was left to do.
	Already bool
	// Resumed: an earlier attempt had moved them, and what was left of it was done.
	Resumed bool
	// Accounts, Chats and Waiting say how much there was: Waiting are events that the old instance had not handled.
	Accounts, Chats, Waiting int
	// Lost are chats whose rooms the old instance has no power in any more: they get new rooms.
	Lost int
}

// MoveRefused says why a user is not moved. Nothing was changed but that the new instance's bot may be in rooms of theirs.
type MoveRefused struct{ Why string }

func (e *MoveRefused) Error() string { return e.Why }

func refuseMove(text string, args ...any) error { return &MoveRefused{fmt.Sprintf(text, args...)} }

// movedRoom is the room of one of the user's chats.
type movedRoom struct {
	room     id.RoomID
	account  string
	contact  networkid.UserID // the old instance's ghost
	lost     bool
	ghostRow string // the name of that ghost
}

// mover moves one user.
type mover struct {
	from, to *MoveSide
	shared   *database.Shared
	user     string
	log      zerolog.Logger

	move     *database.UserMove
	accounts []*database.Account
	rooms    []*movedRoom
	old, new *appservice.AppService
	moved    *Moved
}

// MoveUser moves a Matrix user with all that they have from one instance to another. What is cut off is done by doing it again: before the one
// commit that moves them nothing has changed, and after it only tidying is left.
func MoveUser(ctx context.Context, from, to *MoveSide, shared *database.Shared, user string, log zerolog.Logger) (*Moved, error) {
	m := &mover{
		from: from, to: to, shared: shared, user: user, log: log, moved: &Moved{}, old: from.Config.MakeAppService(), new: to.Config.MakeAppService(),
		move: &database.UserMove{From: from.DB, To: to.DB, Shared: shared, FromName: from.name(), ToName: to.name(), MXID: user},
	}
	m.old.Log, m.new.Log = log, log
	m.old.StateStore, m.new.StateStore = nil, nil // what is asked is asked of the homeserver
	var err error
	if m.accounts, err = from.DB.Accounts().ByMXID(ctx, user); err != nil {
		return nil, err
	}
	home, err := shared.Home(ctx, user)
	if err != nil {
		return nil, err
	}
	switch {
	case home.Account && home.Instance == to.name() && len(m.accounts) == 0:
		m.moved.Already = true
		return m.moved, nil
	case home.Account && home.Instance == to.name():
		m.moved.Resumed = true
	case !home.Account || len(m.accounts) == 0:
		return nil, refuseMove("%s has no account at %s: whoever has none is assigned, with postern instances assign", user, from.name())
	case home.Instance != from.name():
		return nil, refuseMove("%s has an account at %s, and not at %s", user, home.Instance, from.name())
	}
	if m.rooms, err = m.roomsOf(ctx); err != nil {
		return nil, err
	}
	m.moved.Accounts, m.moved.Chats = len(m.accounts), len(m.rooms)
	if !m.moved.Resumed {
		if err := m.carryOver(ctx); err != nil {
			return nil, err
		}
	}
	return m.moved, m.finish(ctx)
}

// carryOver does all up to the commit that moves the user.
func (m *mover) carryOver(ctx context.Context) error {
	if err := m.check(ctx); err != nil {
		return err
	}
	for _, room := range m.rooms {
		if err := m.enter(ctx, room); err != nil {
			return err
		}
	}
	if err := m.lookForMissed(ctx); err != nil {
		return err
	}
	if err := m.nothingEncrypted(ctx); err != nil {
		return err
	}
	killpoint.Hit(killpoint.MoveEntered)
	err := m.move.Copy(ctx, func(ctx context.Context) error {
		if err := m.copyFramework(ctx); err != nil {
			return err
		}
		if err := m.copyAliases(ctx); err != nil {
			return err
		}
		m.moved.Waiting = 0
		for _, room := range m.rooms {
			n, err := m.move.CopyJournal(ctx, room.room.String(), m.ours)
			if err != nil {
				return err
			}
			m.moved.Waiting += n
		}
		killpoint.Hit(killpoint.MoveCopying)
		return nil
	})
	if err != nil {
		return err
	}
	killpoint.Hit(killpoint.MoveCopied)
	return nil
}

// finish hands the rooms over and deletes what the old instance has. It may be done again.
func (m *mover) finish(ctx context.Context) error {
	for _, room := range m.rooms {
		if err := m.handOver(ctx, room); err != nil {
			return err
		}
	}
	if err := m.closeSpaces(ctx); err != nil {
		return err
	}
	killpoint.Hit(killpoint.MoveLeft)
	err := m.move.Forget(ctx, func(ctx context.Context) error {
		if err := m.sayWhere(ctx); err != nil {
			return err
		}
		if err := m.forgetFramework(ctx); err != nil {
			return err
		}
		killpoint.Hit(killpoint.MoveForgetting)
		return nil
	})
	if err != nil {
		return err
	}
	killpoint.Hit(killpoint.MoveForgot)
	return nil
}

// check refuses what cannot be moved, before anything is done.
func (m *mover) check(ctx context.Context) error {
	joined, err := m.shared.Instances(ctx)
	if err != nil {
		return err
	}
	for _, side := range []*MoveSide{m.from, m.to} {
		me := side.instance()
		at := slices.IndexFunc(joined, func(one database.Instance) bool { return one.Name == me.Name })
		if at < 0 || joined[at].Bot != me.Bot || joined[at].Ghosts != me.Ghosts {
			return refuseMove("the instance %s has not told the others its bot and its ghosts, as its configuration has them: start it once with this version of the program, and stop it", me.Name)
		}
	}
	for _, list := range []func(context.Context) ([]*database.Suspension, error){m.from.DB.Suspensions().All, m.from.DB.Suspensions().Ended} {
		suspended, err := list(ctx)
		if err != nil {
			return err
		} else if slices.ContainsFunc(suspended, func(one *database.Suspension) bool { return one.MXID == m.user }) {
			return refuseMove("%s is suspended, or was and is still to be told that it is over: end that first, with %s running", m.user, m.from.name())
		}
	}
	there, err := m.to.DB.Accounts().ByMXID(ctx, m.user)
	if err != nil {
		return err
	} else if len(there) > 0 {
		return refuseMove("there is an account of %s at %s already, as in an old backup that was put back: see its log", m.user, m.to.name())
	}
	for _, account := range m.accounts {
		if err := m.checkAccount(ctx, account); err != nil {
			return err
		}
	}
	return nil
}

// checkAccount is check for one account.
func (m *mover) checkAccount(ctx context.Context, account *database.Account) error {
	leaving, err := m.from.DB.Leavings().Get(ctx, account.ID)
	if err != nil {
		return err
	}
	here, there := m.from.Network.byName(account.Gatekeeper), m.to.Network.byName(account.Gatekeeper)
	switch {
	case leaving != nil:
		return refuseMove("an account of %s is being deleted", m.user)
	case there == nil:
		return refuseMove("%s has an account at %s, which the configuration of %s does not have", m.user, account.Gatekeeper, m.to.name())
	case here != nil && here.integrator != there.integrator:
		return refuseMove("the number at %s (integrator) is not the same in both configurations", account.Gatekeeper)
	}
	return nil
}

// roomsOf are the rooms of the user's chats at the old instance.
func (m *mover) roomsOf(ctx context.Context) ([]*movedRoom, error) {
	rows, err := m.from.DB.Raw().Query(ctx, `SELECT p.mxid, p.receiver, COALESCE(p.other_user_id, ''), COALESCE(g.name, '') FROM portal p
		LEFT JOIN ghost g ON g.bridge_id=p.bridge_id AND g.id=p.other_user_id
		WHERE p.mxid IS NOT NULL AND p.mxid<>'' AND p.receiver IN (SELECT id FROM postern_account WHERE mxid=$1) ORDER BY p.receiver, p.id`, m.user)
	list, err := dbutil.NewRowIterWithError(rows, func(row dbutil.Scannable) (*movedRoom, error) {
		r := &movedRoom{}
		return r, row.Scan(&r.room, &r.account, &r.contact, &r.ghostRow)
	}, err).AsList()
	if err != nil {
		return nil, fmt.Errorf("connector: move a user: list rooms: %w", err)
	}
	return list, nil
}

// profileOf is the profile of the account that a room belongs to.
func (m *mover) profileOf(account string) *profile.Profile {
	for _, a := range m.accounts {
		for _, p := range profile.All() {
			if a.ID == account && a.Gatekeeper == p.Name {
				return p
			}
		}
	}
	return nil
}

// newGhost is the id of the new instance's ghost for one of the old instance's; those of the login itself have the same.
func (m *mover) newGhost(ghost string) string {
	for _, p := range profile.All() {
		if contact, ok := contactOf(p, networkid.UserID(ghost)); ok {
			if other := m.move.Contacts[contact]; other != "" {
				return string(ghostID(p, other))
			}
		}
	}
	return ghost
}

// ours says whether an event was made by users of one of the two instances.
func (m *mover) ours(body []byte) bool {
	var head struct {
		Sender string `json:"sender"`
	}
	return json.Unmarshal(body, &head) == nil && (speaksFor(m.from.instance(), head.Sender) || speaksFor(m.to.instance(), head.Sender))
}

// nothingEncrypted refuses to move what the new instance could not read: the keys of the old one's device are not moved.
func (m *mover) nothingEncrypted(ctx context.Context) error {
	rooms := map[string]bool{}
	for _, r := range m.rooms {
		rooms[r.room.String()] = true
	}
	waiting, err := m.from.DB.Journal().Unfinished(ctx)
	if err != nil {
		return err
	}
	count := 0
	for _, e := range waiting {
		if !rooms[e.RoomID] || e.EventID == "" {
			continue
		}
		body, err := m.from.DB.Journal().Load(ctx, e.Seq)
		if err != nil {
			return err
		}
		var head struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(body, &head) == nil && head.Type == "m.room.encrypted" && !m.ours(body) {
			count++
		}
	}
	if count > 0 {
		return refuseMove("%d encrypted messages that %s has written wait for %s, and nobody else can read them: start it, stop it when they are sent, and do this again",
			count, m.user, m.from.name())
	}
	return nil
}

// copyAliases notes again under which names an account was asked for that the gatekeeper calls otherwise.
func (m *mover) copyAliases(ctx context.Context) error {
	for _, account := range m.accounts {
		documents, err := m.to.DB.Consents().Documents(ctx, account.ID)
		if err != nil {
			return err
		}
		for _, raw := range documents {
			var document consentDocument
			if json.Unmarshal(raw, &document) != nil || document.Identifier == "" || document.Identifier == account.Identifier {
				continue
			}
			if err := m.to.DB.Accounts().PutAlias(ctx, account, document.Identifier); err != nil {
				return err
			}
		}
	}
	return nil
}

// sayWhere has the old instance's bot tell the user, when it runs again, which bot is theirs now.
func (m *mover) sayWhere(ctx context.Context) error {
	var room id.RoomID
	rows, err := m.from.DB.Raw().Query(ctx, `SELECT management_room FROM "user" WHERE mxid=$1 AND management_room IS NOT NULL AND management_room<>''`, m.user)
	rooms, err := dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[id.RoomID], err).AsList()
	if err != nil || len(rooms) == 0 {
		return err
	}
	room = rooms[0]
	languages, err := loadLanguages(ctx, m.from.DB.People(), m.from.Network.Language)
	if err != nil {
		return err
	}
	bot := m.to.bot()
	text := words.For(languages.of(id.UserID(m.user))).Text("instance.moved", "bot", words.Markdown(format.MarkdownMentionWithName(bot.String(), bot)))
	return notices{m.from.DB.Notices()}.tell(ctx, "moved "+m.accounts[0].ID, room, text)
}

// errMoveAway is for what the homeserver does not let happen now.
var errMoveAway = errors.New("connector: move a user: the homeserver did not do what it was asked; nothing is lost, do it again")
