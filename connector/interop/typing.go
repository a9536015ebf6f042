package interop

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"postern/connector/jid"
	"postern/connector/stanza"
)

const (
	// typingIdle is how long our side counts as typing without a new call.
	typingIdle = time.Minute
	// maxTyping bounds how many people type at once, as far as is remembered.
	maxTyping = 1000
	// typingVoice is the media of a ChatState while a voice message is recorded.
	typingVoice = "audio"
)

// Typing is what the other person of a chat is doing (PROTOCOL.md 6.7).
type Typing struct {
	// Chat and Contact are opaque local ids (Peer).
	Chat, Contact string
	// Composing is true while they write or record, Voice while they record.
	Composing, Voice bool
}

// typing passes on who is typing, in both directions. Nothing of it is stored, and
// nothing of it is sent later than now (PROTOCOL.md 6.7).
type typing struct {
	a *Account
	// in is by the other person's address, out by chat.
	in, out lanes

	mu     sync.Mutex
	theirs map[string]*theirTyping
	ours   map[string]*ourTyping
}

type theirTyping struct {
	from             jid.JID
	composing, voice bool
	fresh            bool // not told yet
	told             bool // Matrix believes that they type
	timer            *time.Timer
}

type ourTyping struct {
	composing, voice bool
	fresh            bool      // not sent yet
	next             time.Time // of the repetition
	until            time.Time // of typingIdle
	timer            *time.Timer
}

func newTyping(a *Account) *typing {
	t := &typing{a: a}
	t.in = lanes{a: a, kind: &typingInLanes}
	t.out = lanes{a: a, kind: &typingOutLanes}
	return t
}

func (t *typing) start(ctx context.Context) {
	t.in.start(ctx)
	t.out.start(ctx)
}

func (t *typing) stop() {
	t.in.stop()
	t.out.stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, it := range t.theirs {
		it.timer.Stop()
	}
	for _, it := range t.ours {
		it.timer.Stop()
	}
	t.theirs, t.ours = nil, nil
}

// take is called by the reader with what the other side says of its typing.
func (t *typing) take(s *stanza.ChatState) {
	if slices.Contains(t.a.prof.UserServers, s.From.Server) {
		t.set(s.From, s.State == stanza.Composing, s.Media == typingVoice)
	}
}

// ended is called by the reader when a message of somebody comes, which ends their
// typing.
func (t *typing) ended(from jid.JID) { t.set(from, false, false) }

// set notes what somebody does. That they type is told each time, that they do not only
// once.
func (t *typing) set(from jid.JID, composing, voice bool) {
	from = from.Bare()
	key := from.String()
	t.mu.Lock()
	defer t.mu.Unlock()
	it := t.theirs[key]
	if it == nil {
		if !composing || len(t.theirs) >= maxTyping {
			return
		}
		it = &theirTyping{from: from}
		it.timer = time.AfterFunc(t.a.prof.Timing.TypingExpire, func() { t.expire(key, it) })
		put(&t.theirs, key, it)
	}
	it.composing, it.voice, it.fresh = composing, voice, true
	if composing {
		it.timer.Reset(t.a.prof.Timing.TypingExpire)
	}
	t.in.kick(key)
}

// expire ends the typing of somebody who has not said so for too long.
func (t *typing) expire(key string, it *theirTyping) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.theirs[key] == it {
		it.composing, it.voice, it.fresh = false, false, true
		t.in.kick(key)
	}
}

// tell passes on what somebody does.
func (t *typing) tell(ctx context.Context, key string) {
	for ctx.Err() == nil {
		t.mu.Lock()
		it := t.theirs[key]
		if it == nil || !it.fresh {
			t.mu.Unlock()
			return
		}
		now, told := *it, it.told
		it.fresh, it.told = false, it.composing
		if !it.composing {
			it.timer.Stop()
			drop(&t.theirs, key)
		}
		t.mu.Unlock()
		if !now.composing && !told {
			continue
		}
		peer, err := t.a.people.known(ctx, now.from)
		if err != nil {
			if !errors.Is(err, ErrNoChat) && ctx.Err() == nil {
				t.a.log.Debug().Err(err).Msg("typing not told")
			}
			continue
		}
		if t.a.blocks.has(peer.Chat) {
			continue
		}
		t.a.up.Typing(ctx, Typing{Chat: peer.Chat, Contact: peer.Contact, Composing: now.composing, Voice: now.composing && now.voice})
	}
}

// Typing says that the person of this account types in a chat, or records a voice
// message, or does neither any more. It is sent at once if the stream is live, and again
// each Timing.TypingRepeat, until composing is false, a message is sent, or a minute has
// passed without a new call. It is never queued and does not block.
func (a *Account) Typing(chat string, composing, voice bool) {
	if a.deleted.Load() || !a.prof.Features.Typing || a.blocks.has(chat) {
		return
	}
	if composing {
		a.attend.signed(false)
	}
	t := a.typing
	live := a.link.isLive()
	t.mu.Lock()
	defer t.mu.Unlock()
	it := t.ours[chat]
	if it == nil {
		if !composing || !live || len(t.ours) >= maxTyping {
			return
		}
		it = &ourTyping{}
		it.timer = time.AfterFunc(a.prof.Timing.TypingRepeat, func() { t.out.kick(chat) })
		put(&t.ours, chat, it)
	}
	it.fresh = it.fresh || it.composing != composing || it.voice != voice
	it.composing, it.voice = composing, voice
	it.until = time.Now().Add(typingIdle)
	t.out.kick(chat)
}

// wrote ends our typing in a chat because a message follows, which says it all.
func (t *typing) wrote(chat string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if it := t.ours[chat]; it != nil {
		it.timer.Stop()
		drop(&t.ours, chat)
	}
}

// send says what our side does in a chat, if it is time.
func (t *typing) send(ctx context.Context, chat string) {
	repeat := t.a.prof.Timing.TypingRepeat
	for ctx.Err() == nil {
		now := time.Now()
		t.mu.Lock()
		it := t.ours[chat]
		if it == nil {
			t.mu.Unlock()
			return
		}
		if !now.Before(it.until) {
			it.composing, it.fresh = false, true
		}
		if !it.fresh && now.Before(it.next) {
			it.timer.Reset(min(it.next.Sub(now), it.until.Sub(now)))
			t.mu.Unlock()
			return
		}
		s := &stanza.ChatState{State: stanza.Paused}
		if it.composing {
			s.State = stanza.Composing
			if it.voice {
				s.Media = typingVoice
			}
		}
		it.fresh, it.next = false, now.Add(repeat)
		if !it.composing {
			it.timer.Stop()
			drop(&t.ours, chat)
		}
		t.mu.Unlock()
		if !t.a.link.isLive() {
			continue
		}
		peer, err := t.a.people.in(ctx, chat)
		if err == nil {
			s.To = peer.JID
			err = t.a.link.send(ctx, 0, s)
		}
		if err != nil && ctx.Err() == nil {
			t.a.log.Debug().Err(err).Msg("typing not sent")
		}
	}
}
