package interop

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"postern/connector/gatekeeper"
	"postern/connector/killpoint"
	"postern/connector/stanza"
)

// Block is what holds for the other side of a chat (PROTOCOL.md 6.10).
type Block struct {
	// Chat is the chat's local id.
	Chat string
	// Blocked says that the person is blocked, Pending that the gatekeeper has not been told of that, or of the
	// contrary.
	Blocked, Pending bool
	// At is when that was decided, in Unix milliseconds.
	At int64
}

// Blocks keeps whom the account has blocked.
type Blocks interface {
	// Blocks returns everything that holds, in the order of At.
	Blocks(ctx context.Context) ([]Block, error)
	// PutBlock stores what holds for a chat, in place of what held before. What is neither Blocked nor Pending is
	// forgotten.
	PutBlock(ctx context.Context, b Block) error
}

// Reasons of a KindBlock.
const (
	// ReasonIsBlocked: the gatekeeper's list has the person now.
	ReasonIsBlocked = "blocked"
	// ReasonNotBlocked: it does not have them any more.
	ReasonNotBlocked = "unblocked"
)

const (
	blockRetryMin = time.Second
	blockRetryMax = 10 * time.Minute
)

// blocks knows who is blocked, and keeps the gatekeeper's list and ours the same. What the person wishes is on disk
// before the gatekeeper is told, and stands against its list until it has been told.
type blocks struct {
	a     *Account
	lanes lanes

	// change is held over each change, its commit included; mu over looks.
	change sync.Mutex
	mu     sync.RWMutex
	loaded bool
	byChat map[string]Block
	// changes counts what was changed, so that a list which was asked for before is not taken for new.
	changes int
	// fetch says that the gatekeeper's list is to be asked for.
	fetch    bool
	attempts int
	timer    *time.Timer
}

func newBlocks(a *Account) *blocks {
	b := &blocks{a: a}
	b.lanes = lanes{a: a, kind: &blocksLanes}
	return b
}

// load reads what holds, once.
func (b *blocks) load(ctx context.Context) error {
	b.change.Lock()
	defer b.change.Unlock()
	return b.loadLocked(ctx)
}

func (b *blocks) loadLocked(ctx context.Context) error {
	b.mu.RLock()
	loaded := b.loaded
	b.mu.RUnlock()
	if loaded {
		return nil
	}
	list, err := b.a.store.Blocks(ctx)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, one := range list {
		put(&b.byChat, one.Chat, one)
	}
	b.loaded = true
	return nil
}

func (b *blocks) start(ctx context.Context) { b.lanes.start(ctx) }

func (b *blocks) stop() {
	b.mu.Lock()
	if b.timer != nil {
		b.timer.Stop()
	}
	b.mu.Unlock()
	b.lanes.stop()
}

// live asks for the list, as after each login, and tells what is still to be told.
func (b *blocks) live() {
	b.mu.Lock()
	b.fetch, b.attempts = true, 0
	b.mu.Unlock()
	b.lanes.kick("")
}

// has says whether the other side of a chat is blocked; load has succeeded.
func (b *blocks) has(chat string) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.byChat[chat].Blocked
}

// of is what holds for a chat.
func (b *blocks) of(chat string) Block {
	b.mu.RLock()
	defer b.mu.RUnlock()
	one := b.byChat[chat]
	one.Chat = chat
	return one
}

// keep takes over what is on disk now.
func (b *blocks) keep(one Block) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changes++
	if one.Blocked || one.Pending {
		put(&b.byChat, one.Chat, one)
	} else {
		drop(&b.byChat, one.Chat)
	}
}

// Blocked says whether the other side of a chat is blocked by the person of this account. Its errors are the store's.
func (a *Account) Blocked(ctx context.Context, chat string) (bool, error) {
	if err := a.blocks.load(ctx); err != nil {
		return false, err
	}
	return a.blocks.has(chat), nil
}

// BlockList is all that holds, in the order in which it was decided. Its errors are the store's.
func (a *Account) BlockList(ctx context.Context) ([]Block, error) {
	if err := a.blocks.load(ctx); err != nil {
		return nil, err
	}
	a.blocks.mu.RLock()
	defer a.blocks.mu.RUnlock()
	return slices.SortedFunc(maps.Values(a.blocks.byChat), func(x, y Block) int {
		if x.At != y.At {
			return int(min(max(x.At-y.At, -1), 1))
		}
		if x.Chat < y.Chat {
			return -1
		}
		return 1
	}), nil
}

// SetBlocked blocks the other side of a chat, or ends that (PROTOCOL.md 6.10). When it returns nil that is on disk, holds
// from then on, and the gatekeeper is told until it has answered, also after a restart. changed is false if it held already;
// then and, if it is not nil, is not called: it runs in the same transaction. Errors: ErrNoChat, ErrStopped, the
// store's, and's, or the context's.
func (a *Account) SetBlocked(ctx context.Context, chat string, blocked bool, and func(ctx context.Context) error) (changed bool, err error) {
	if a.deleted.Load() {
		return false, ErrStopped
	}
	if _, err = a.people.in(ctx, chat); err != nil {
		return false, fmt.Errorf("block: %w", err)
	}
	b := a.blocks
	b.change.Lock()
	defer b.change.Unlock()
	if err = b.loadLocked(ctx); err != nil {
		return false, fmt.Errorf("block: %w", err)
	}
	if b.of(chat).Blocked == blocked {
		return false, nil
	}
	wish := Block{Chat: chat, Blocked: blocked, Pending: true, At: time.Now().UnixMilli()}
	err = a.store.Do(ctx, func(ctx context.Context) error {
		if err := a.store.PutBlock(ctx, wish); err != nil || and == nil {
			return err
		}
		return and(ctx)
	})
	if err != nil {
		return false, fmt.Errorf("block: %w", err)
	}
	b.keep(wish)
	killpoint.Hit(killpoint.BlockWished)
	a.attend.signed(false)
	b.lanes.kick("")
	return true, nil
}

// silence makes the row of a message one that is not shown, whose sender is told nothing, and that is known when it comes
// again.
func (a *Account) silence(row *InRow) {
	row.State, row.Payload, row.Notify = InDone, nil, ""
	row.Receipt, row.Read = ReceiptNone, ReceiptUnwanted
}

// said takes over what the gatekeeper says of one person, with a notice for the room. What the person of this account
// has wished and the gatekeeper has not been told of yet stands against it.
func (b *blocks) said(ctx context.Context, peer Peer, blocked bool) error {
	a := b.a
	b.change.Lock()
	defer b.change.Unlock()
	if old := b.of(peer.Chat); old.Pending || old.Blocked == blocked {
		return nil
	}
	reason := ReasonNotBlocked
	if blocked {
		reason = ReasonIsBlocked
	}
	now := time.Now()
	one := Block{Chat: peer.Chat, Blocked: blocked, At: now.UnixMilli()}
	seq := a.mail.place(peer)
	row := &InRow{
		Seq: seq, Chat: peer.Chat, Class: ClassNotice, ID: "block/" + strconv.FormatInt(seq, 10), Kind: KindBlock,
		State: InPending, Timestamp: now.Unix(), Received: now.UnixMilli(), Payload: []byte(reason),
	}
	err := a.store.Do(ctx, func(ctx context.Context) error {
		if err := a.store.PutBlock(ctx, one); err != nil {
			return err
		}
		return a.store.InsertInbound(ctx, row)
	})
	if err != nil {
		a.mail.drop(peer.Chat, seq, true)
		return err
	}
	b.keep(one)
	a.mail.settle(peer.Chat, seq, row)
	return nil
}

// changed takes over what a notification says.
func (b *blocks) changed(ctx context.Context, changes []stanza.BlockChange) error {
	for _, c := range changes {
		if !slices.Contains(b.a.prof.UserServers, c.JID.Server) {
			continue
		}
		peer, err := b.a.people.at(ctx, c.JID)
		if err == nil {
			err = b.said(ctx, peer, c.Block)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// work tells the gatekeeper what it is to be told, and then asks for its list.
func (b *blocks) work(ctx context.Context, _ string) {
	if !b.a.link.isLive() {
		return
	}
	err := b.tell(ctx)
	b.mu.RLock()
	fetch := b.fetch
	b.mu.RUnlock()
	if err == nil && fetch {
		err = b.take(ctx)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil || ctx.Err() != nil || errors.Is(err, gatekeeper.ErrNotConnected) {
		b.attempts = 0
		return
	}
	var iq *stanza.IQError
	if errors.As(err, &iq) && !iq.Transient() {
		b.a.log.Warn().Int("code", iq.Code).Msg("the gatekeeper refuses a question about the block list; it is asked again at the next login")
		return
	}
	b.a.log.Warn().Err(err).Msg("the block list could not be brought in step, trying again")
	b.attempts++
	if b.timer != nil {
		b.timer.Stop()
	}
	b.timer = time.AfterFunc(backoff(b.attempts, blockRetryMin, blockRetryMax), func() {
		b.a.attend.signed(false)
		b.lanes.kick("")
	})
}

// tell tells the gatekeeper what the person has wished. What it refuses for good holds up nothing else, and is told
// again after the next login.
func (b *blocks) tell(ctx context.Context) error {
	list, err := b.a.BlockList(ctx)
	if err != nil {
		return err
	}
	var refused error
	for _, wish := range list {
		if !wish.Pending {
			continue
		}
		peer, err := b.a.people.in(ctx, wish.Chat)
		if err != nil {
			return err
		}
		answer, err := b.a.link.request(ctx, stanza.BlockRequest{BlockChange: stanza.BlockChange{JID: peer.JID, Block: wish.Blocked}})
		if err == nil {
			_, err = stanza.ParseBlocklist(answer)
		}
		var iq *stanza.IQError
		if errors.As(err, &iq) && !iq.Transient() {
			refused = err
			continue
		} else if err != nil {
			return err
		}
		killpoint.Hit(killpoint.BlockTold)
		if err = b.done(ctx, wish); err != nil {
			return err
		}
	}
	return refused
}

// done notes that the gatekeeper was told of a wish, unless there is a newer one.
func (b *blocks) done(ctx context.Context, wish Block) error {
	b.change.Lock()
	defer b.change.Unlock()
	if b.of(wish.Chat) != wish {
		b.lanes.kick("")
		return nil
	}
	wish.Pending = false
	if err := b.a.store.PutBlock(ctx, wish); err != nil {
		return err
	}
	b.keep(wish)
	return nil
}

// take asks for the gatekeeper's list and takes it over. A list that something has changed beside is asked for again.
func (b *blocks) take(ctx context.Context) error {
	b.mu.RLock()
	before := b.changes
	b.mu.RUnlock()
	answer, err := b.a.link.request(ctx, stanza.BlocklistRequest{})
	if err != nil {
		return err
	}
	listed, err := stanza.ParseBlocklist(answer)
	if err != nil {
		return err
	}
	b.mu.RLock()
	stale := b.changes != before
	b.mu.RUnlock()
	if stale {
		b.lanes.kick("")
		return nil
	}
	there := make(map[string]bool, len(listed))
	for _, j := range listed {
		if !slices.Contains(b.a.prof.UserServers, j.Server) {
			continue
		}
		peer, err := b.a.people.at(ctx, j)
		if err != nil {
			return err
		}
		there[peer.Chat] = true
		if err = b.said(ctx, peer, true); err != nil {
			return err
		}
	}
	list, err := b.a.BlockList(ctx)
	if err != nil {
		return err
	}
	for _, one := range list {
		if there[one.Chat] {
			continue
		}
		peer, err := b.a.people.in(ctx, one.Chat)
		if err == nil {
			err = b.said(ctx, peer, false)
		}
		if err != nil {
			return err
		}
	}
	b.mu.Lock()
	b.fetch = false
	b.mu.Unlock()
	return nil
}
