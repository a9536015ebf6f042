package connector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/interop"
	"postern/connector/matrixdurable"
	"postern/database"
)

// Kinds of news for whoever runs the bridge.
const (
	newsReport      = "report"       // somebody has reported a person
	newsLetter      = "letter"       // a message that came in was given up
	newsReplaced    = "replaced"     // a user's account is used elsewhere
	newsNotEnlisted = "not-enlisted" // the gatekeeper does not know a user any more
	newsRefused     = "refused"      // the gatekeeper refuses a user
	newsBanned      = "banned"       // the gatekeeper has banned a user for a while
	newsLeft        = "left"         // a user's account was deleted
	newsStorage     = "storage"      // the database could not commit, and can again
	newsMedia       = "media"        // the media store does not work, or does again
	newsRenewed     = "renewed"      // a user's keys were replaced after an old copy
	newsSchema      = "schema"       // the database was upgraded
	newsMaintenance = "maintenance"  // it has begun, or ended
	newsDrained     = "drained"      // somebody takes a user's one-time prekeys and does not write
)

const (
	// newsEvery is how often there is one line of a kind, at most.
	newsEvery = time.Minute
	// newsBatch is how much news one line sums up at most, newsKept for how long told news is remembered.
	newsBatch = 1000
	newsKept  = 90 * 24 * time.Hour
	// lettersOverlap is how far back it is looked for dead letters again: one may be committed after another that is as old, or younger.
	lettersOverlap = 10 * time.Second
	// newsNamed is how many accounts a line names.
	newsNamed = 5
	// newsDrain is for how long nothing may be heard of a drain of prekeys for it to be over; an account tells of one once a day.
	newsDrain = 48 * time.Hour
)

// stateNews are the kinds that are about the state of an account: over, and news again, when it is connected.
var stateNews = map[interop.ConnKind]string{
	interop.ConnReplaced: newsReplaced, interop.ConnNotEnlisted: newsNotEnlisted, interop.ConnRefused: newsRefused, interop.ConnBanned: newsBanned,
}

// The names under which the operator's room, and what was looked at last, are on disk.
const (
	operatorRoom    = "room"
	operatorLetters = "letters"
	operatorSchema  = "schema"
)

// operatorNews tells whoever runs the bridge what concerns them, in one room: each thing once, also over restarts and kills, and many of a kind in one
// line. What is said names no contact and no message; accounts by their local ids.
type operatorNews struct {
	c    *Connector
	kick chan struct{}

	mu sync.Mutex
	// about are the accounts of which there is news on disk.
	about map[string]bool
	// last is when there was a line of a kind.
	last map[string]time.Time
	// trouble is what the database has, if it has some.
	trouble database.Health
}

// ownRoom is the operator's room as it is on disk.
type ownRoom struct {
	Room id.RoomID `json:"room"`
	// Asked are those who were asked into it.
	Asked []id.UserID `json:"asked"`
}

func loadOperatorNews(ctx context.Context, c *Connector) (*operatorNews, error) {
	n := &operatorNews{c: c, kick: make(chan struct{}, 1), about: map[string]bool{}, last: map[string]time.Time{}}
	accounts, err := c.db.Operator().NewsAccounts(ctx)
	if err != nil {
		return nil, err
	}
	for _, account := range accounts {
		n.about[account] = true
	}
	return n, n.noteSchema(ctx)
}

// noteSchema makes it news that the database was upgraded; a new one is none.
func (n *operatorNews) noteSchema(ctx context.Context) error {
	version := strconv.Itoa(database.SchemaVersion())
	return n.c.db.Do(ctx, func(ctx context.Context) error {
		before, err := n.c.db.Operator().Get(ctx, operatorSchema)
		if err != nil && !errors.Is(err, database.ErrSealBroken) || string(before) == version {
			return err
		}
		if before != nil {
			if err := n.add(ctx, newsSchema, version, "", version); err != nil {
				return err
			}
		}
		return n.c.db.Operator().Put(ctx, operatorSchema, []byte(version))
	})
}

// add stores news, in the transaction that ctx carries if it carries one. what is its identity within its kind.
func (n *operatorNews) add(ctx context.Context, kind, what, account, detail string) error {
	return n.c.db.Operator().AddNews(ctx, newNews(kind, what, account, detail))
}

func newNews(kind, what, account, detail string) *database.News {
	return &database.News{
		Identity: matrixdurable.Identity("operator", kind, what), Kind: kind, AccountID: account, Detail: detail, At: time.Now().UnixMilli(),
	}
}

// note stores news from where nobody can wait for it: it is tried until it is on disk, or the bridge ends.
func (n *operatorNews) note(kind, what, account, detail string) {
	if n == nil {
		return
	}
	n.has(account)
	go func() {
		err := again(n.c.ctx, func() error { return n.add(n.c.ctx, kind, what, account, detail) })
		if err == nil {
			n.wake()
		}
	}()
}

// has notes that there is something on disk about an account, "" for none.
func (n *operatorNews) has(account string) {
	if n == nil || account == "" {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.about[account] = true
}

// wake makes it be looked for news.
func (n *operatorNews) wake() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// state takes the state of an account's stream.
func (n *operatorNews) state(account string, s interop.ConnState) {
	if n == nil {
		return
	}
	if kind := stateNews[s.Kind]; kind != "" {
		n.note(kind, account, account, strconv.Itoa(s.Code))
		return
	}
	if s.Kind != interop.ConnLive {
		return
	}
	n.mu.Lock()
	about := n.about[account]
	delete(n.about, account)
	n.mu.Unlock()
	if about {
		go func() {
			kinds := []string{newsReplaced, newsNotEnlisted, newsRefused, newsBanned, newsTold}
			if err := n.c.db.Operator().ForgetNews(n.c.ctx, account, kinds...); err != nil && n.c.ctx.Err() == nil {
				n.c.log.Warn().Err(err).Str("account", account).Msg("Could not forget news of an account that is well again")
			}
		}()
	}
}

// Drained implements interop.Upcalls.
func (c *client) Drained() { c.connector.news.drained(string(c.login.ID)) }

// drained takes that somebody takes an account's one-time prekeys. As long as that goes on it is one piece of news, over restarts too.
func (n *operatorNews) drained(account string) {
	if n == nil {
		return
	}
	n.has(account)
	go func() {
		err := again(n.c.ctx, func() error {
			return n.c.db.Operator().AddSpell(n.c.ctx, newNews(newsDrained, account, account, ""), newsDrain.Milliseconds())
		})
		if err == nil {
			n.wake()
		}
	}()
}

// database takes what the database can do: trouble is news when it is over, since it cannot be stored before.
func (n *operatorNews) database(now database.Health) {
	if n == nil {
		return
	}
	n.mu.Lock()
	before := n.trouble
	n.trouble = now
	n.mu.Unlock()
	if now.Reason == "" && before.Reason != "" {
		n.note(newsStorage, before.Since.UTC().Format(time.RFC3339Nano), "", before.Since.UTC().Format("2006-01-02 15:04"))
	}
}

// operators are those who are told: every administrator who is named in the permissions.
func (c *Connector) operators() []id.UserID {
	var list []id.UserID
	for who, level := range c.bridge.Config.Permissions {
		if level != nil && level.Admin && strings.HasPrefix(who, "@") {
			list = append(list, id.UserID(who))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// run tells news until ctx ends.
func (n *operatorNews) run(ctx context.Context) {
	tick := time.NewTicker(newsEvery)
	defer tick.Stop()
	for {
		if err := n.guarded(ctx, n.c.clock.now()); err != nil && ctx.Err() == nil {
			n.c.log.Warn().Err(err).Msg("Could not tell the operator what is new; it is tried again")
		}
		select {
		case <-ctx.Done():
			return
		case <-n.kick:
		case <-tick.C:
		}
	}
}

// guarded is round, in which a panic costs no more than this round.
func (n *operatorNews) guarded(ctx context.Context, now time.Time) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("connector: operator: panic of type %T", p)
		}
	}()
	return n.round(ctx, now)
}

// round tells what is due.
func (n *operatorNews) round(ctx context.Context, now time.Time) error {
	if err := n.findLetters(ctx); err != nil {
		return err
	}
	if err := n.c.db.Operator().PruneNews(ctx, now.Add(-newsKept).UnixMilli()); err != nil {
		return err
	}
	operators := n.c.operators()
	if len(operators) == 0 {
		return nil // what there is waits for somebody
	}
	list, err := n.c.db.Operator().Untold(ctx, newsBatch)
	if err != nil || len(list) == 0 {
		return err
	}
	room, err := n.room(ctx, operators)
	if err != nil {
		return err
	}
	kinds := map[string][]database.News{}
	var order []string
	for _, one := range list {
		if kinds[one.Kind] == nil {
			order = append(order, one.Kind)
		}
		kinds[one.Kind] = append(kinds[one.Kind], one)
	}
	for _, kind := range order {
		if now.Sub(n.last[kind]) < newsEvery && !now.Before(n.last[kind]) {
			continue // with the next tick, and with what comes until then
		}
		if err := n.tell(ctx, room, kinds[kind]); err != nil {
			return err
		}
		n.last[kind] = now
	}
	return nil
}

// tell puts news of one kind into one line. The line is on disk in the same transaction that notes it as told.
func (n *operatorNews) tell(ctx context.Context, room id.RoomID, list []database.News) error {
	// The time is part of it: what is over and comes again is news again.
	notice, err := matrixdurable.ReplyNotice("operator "+list[0].Identity+" "+strconv.FormatInt(list[0].At, 10), room, "", "", n.line(list))
	if err != nil {
		return err
	}
	err = n.c.db.Do(ctx, func(ctx context.Context) error {
		if err := (notices{n.c.db.Notices()}).AddNotice(ctx, notice); err != nil {
			return err
		}
		return n.c.db.Operator().Told(ctx, list)
	})
	if err != nil {
		return fmt.Errorf("connector: operator: %w", err)
	}
	n.c.stack.Notices.Wake()
	return nil
}

// line is what is said of news of one kind.
func (n *operatorNews) line(list []database.News) string {
	w := n.c.standardWords()
	last := list[len(list)-1]
	if last.Kind == newsMaintenance || last.Kind == newsMedia {
		return w.Text("operator.news."+last.Kind+"."+last.Detail, "n", len(list))
	}
	var accounts []string
	for _, one := range list {
		if one.AccountID != "" && !slices.Contains(accounts, one.AccountID) {
			accounts = append(accounts, one.AccountID)
		}
	}
	text := w.Text("operator.news."+last.Kind, "n", len(list), "detail", last.Detail)
	if len(accounts) > newsNamed {
		text += " " + w.Text("operator.accounts-more", "list", strings.Join(accounts[:newsNamed], ", "), "n", len(accounts)-newsNamed)
	} else if len(accounts) > 0 {
		text += " " + w.Text("operator.accounts", "list", strings.Join(accounts, ", "))
	}
	return text
}

// findLetters makes news of the dead letters that have come in since it was looked last.
func (n *operatorNews) findLetters(ctx context.Context) error {
	return n.c.db.Do(ctx, func(ctx context.Context) error {
		raw, err := n.c.db.Operator().Get(ctx, operatorLetters)
		if err != nil && !errors.Is(err, database.ErrSealBroken) {
			return err
		}
		told, _ := strconv.ParseInt(string(raw), 10, 64) // nothing, at first: all there are
		since := told - lettersOverlap.Milliseconds()
		if told > time.Now().UnixMilli() {
			since = 0 // a clock was ahead: those that came since then look older
		}
		letters, err := n.c.db.LettersSince(ctx, since, newsBatch)
		if err != nil || len(letters) == 0 {
			return err
		}
		for _, l := range letters {
			if err := n.add(ctx, newsLetter, l.ID+" "+strconv.FormatInt(l.At, 10), l.AccountID, l.Reason); err != nil {
				return err
			}
		}
		last := letters[len(letters)-1].At
		if last == told {
			return nil
		}
		return n.c.db.Operator().Put(ctx, operatorLetters, []byte(strconv.FormatInt(last, 10)))
	})
}

// room is the operator's room, made when there is something to be told in it for the first time. Whoever becomes an operator is asked into it, and
// whoever is none any more is taken out of it.
func (n *operatorNews) room(ctx context.Context, operators []id.UserID) (id.RoomID, error) {
	raw, err := n.c.db.Operator().Get(ctx, operatorRoom)
	if err != nil && !errors.Is(err, database.ErrSealBroken) {
		return "", err
	}
	var own ownRoom
	if raw != nil && err == nil {
		if err := json.Unmarshal(raw, &own); err != nil {
			own = ownRoom{}
		}
	}
	if own.Room != "" {
		if err := n.c.matrix.Bot.EnsureJoined(ctx, own.Room); matrixdurable.Permanent(err) {
			own = ownRoom{} // it is gone, or the bot was put out of it
		} else if err != nil {
			return "", fmt.Errorf("connector: operator: %w", err)
		}
	}
	if own.Room == "" {
		if own.Room, err = n.makeRoom(ctx, operators); err != nil {
			return "", err
		}
		own.Asked = operators
	} else if slices.Equal(own.Asked, operators) {
		return own.Room, nil
	} else if err := n.changeMembers(ctx, &own, operators); err != nil {
		return "", err
	}
	if raw, err = json.Marshal(own); err == nil {
		err = n.c.db.Operator().Put(ctx, operatorRoom, raw)
	}
	return own.Room, err
}

// onlyTheBot is the power that nobody but the bot has.
var onlyTheBot = 100

// makeRoom makes the room. It has a local id and says what it is for, so that one that was made before a kill is found again.
func (n *operatorNews) makeRoom(ctx context.Context, operators []id.UserID) (id.RoomID, error) {
	w := n.c.standardWords()
	bot := n.c.matrix.Bot.UserID
	key := "eu.postern.operator"
	resp, err := n.c.matrix.Bot.CreateRoom(ctx, &mautrix.ReqCreateRoom{
		Visibility: "private", Preset: "private_chat", Name: w.Text("operator.room"), Topic: w.Text("operator.topic"), Invite: operators,
		BeeperLocalRoomID: id.RoomID(key),
		// Some homeservers let everybody in a private room invite others, and who is asked in by an operator would stay when they are none any more.
		PowerLevelOverride: &event.PowerLevelsEventContent{InvitePtr: &onlyTheBot},
		InitialState: []*event.Event{{
			Type: event.StateBridge, StateKey: &key, Content: event.Content{Parsed: &event.BridgeEventContent{
				BridgeBot: bot, Creator: bot, Protocol: event.BridgeInfoSection{ID: "postern", DisplayName: w.Text("operator.room")},
				Channel: event.BridgeInfoSection{ID: "operator"},
			}},
		}},
	})
	if err != nil {
		return "", fmt.Errorf("connector: operator: make a room: %w", err)
	}
	return resp.RoomID, nil
}

// changeMembers asks those who are new into the room, and takes out who is no operator any more.
func (n *operatorNews) changeMembers(ctx context.Context, own *ownRoom, operators []id.UserID) error {
	for _, who := range operators {
		if slices.Contains(own.Asked, who) {
			continue
		}
		if err := goneIsFine(n.c.matrix.Bot.EnsureInvited(ctx, own.Room, who)); err != nil {
			return fmt.Errorf("connector: operator: %w", err)
		}
	}
	for _, who := range own.Asked {
		if slices.Contains(operators, who) {
			continue
		}
		_, err := n.c.matrix.Bot.KickUser(ctx, own.Room, &mautrix.ReqKickUser{UserID: who, Reason: n.c.wordsFor(who).Text("operator.not-any-more")})
		if err := goneIsFine(err); err != nil {
			return fmt.Errorf("connector: operator: %w", err)
		}
	}
	own.Asked = operators
	return nil
}
