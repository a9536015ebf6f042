package matrixdurable

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// Notice is a message from the bridge's bot that has to reach its room.
type Notice struct {
	// ID is the notice's identity; the same one is added once.
	ID string
	// Room is where it goes.
	Room id.RoomID
	// Content is the content of an m.room.message event, JSON.
	Content []byte
	// Status says that it is that of a com.beeper.message_send_status event instead.
	Status bool
	// Tried says that it may have been sent already.
	Tried bool
}

// NoticeStore keeps notices until Matrix has them. Changes are on disk when they
// return.
type NoticeStore interface {
	// AddNotice stores a notice; a known id is left as it is.
	AddNotice(ctx context.Context, n Notice) error
	// Notices returns those not sent, oldest first, at most limit. An error that comes with some is that of
	// others, which cannot be read.
	Notices(ctx context.Context, limit int) ([]Notice, error)
	// TriedNotice notes that a notice is about to be sent.
	TriedNotice(ctx context.Context, noticeID string) error
	// SentNotice keeps the id of a notice and erases the rest.
	SentNotice(ctx context.Context, noticeID string) error
}

// Send sends a parsed content as the bridge's bot: that of a message status as it is, that of an m.room.message event encrypted if the room is.
type Send func(ctx context.Context, room id.RoomID, content *event.Content) error

// Notices sends what people have to be told, and does not stop before Matrix
// has it.
type Notices struct {
	// Elsewhere, if not nil, says where a notice goes whose room does not take it for good: another notice with an
	// identity and a room of its own, or nil for nowhere. Set it before Run. It is asked again after an error.
	Elsewhere func(ctx context.Context, n Notice) (*Notice, error)

	store NoticeStore
	send  Send
	log   zerolog.Logger
	wake  chan struct{}
}

// NewNotices makes Notices; Run sends.
func NewNotices(store NoticeStore, send Send, log zerolog.Logger) *Notices {
	return &Notices{store: store, send: send, log: log, wake: make(chan struct{}, 1)}
}

// Add stores a notice. It is on disk when Add returns.
func (n *Notices) Add(ctx context.Context, notice Notice) error {
	if err := n.store.AddNotice(ctx, notice); err != nil {
		return fmt.Errorf("matrixdurable: add notice: %w", err)
	}
	n.Wake()
	return nil
}

// Wake makes Run look for notices, for one that was stored in a transaction of somebody else's.
func (n *Notices) Wake() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Reply stores a notice that answers an event. kind and event together are its identity. mention is who shall
// notice it, "" for nobody.
func (n *Notices) Reply(ctx context.Context, kind string, room id.RoomID, to id.EventID, mention id.UserID, text string) error {
	notice, err := ReplyNotice(kind, room, to, mention, text)
	if err != nil {
		return err
	}
	return n.Add(ctx, notice)
}

// ReplyNotice makes the notice that Reply adds.
func ReplyNotice(kind string, room id.RoomID, to id.EventID, mention id.UserID, text string) (Notice, error) {
	content := &event.MessageEventContent{MsgType: event.MsgNotice, Body: text, Mentions: &event.Mentions{}}
	if to != "" {
		content.RelatesTo = (&event.RelatesTo{}).SetReplyTo(to)
	}
	if mention != "" {
		content.Mentions.UserIDs = []id.UserID{mention}
	}
	raw, err := json.Marshal(content)
	if err != nil {
		return Notice{}, fmt.Errorf("matrixdurable: make notice: %w", err)
	}
	return Notice{ID: Identity("notice", kind, room.String(), to.String()), Room: room, Content: raw}, nil
}

// StatusNotice makes a notice of how far an event has come. identity is the one under which that is told.
func StatusNotice(identity string, room id.RoomID, status *event.BeeperMessageStatusEventContent) (Notice, error) {
	raw, err := json.Marshal(status)
	if err != nil {
		return Notice{}, fmt.Errorf("matrixdurable: make notice: %w", err)
	}
	return Notice{ID: identity, Room: room, Content: raw, Status: true}, nil
}

const noticeBatch = 50

// Run sends notices until ctx ends.
func (n *Notices) Run(ctx context.Context) {
	pause := time.Duration(0)
	for {
		more, err := n.round(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			n.log.Err(err).Msg("Could not send notices")
			pause = min(max(pause*2, time.Second), maxPause)
		case more:
			pause = 0
			continue
		default:
			pause = 0
		}
		var again <-chan time.Time
		if pause > 0 {
			again = time.After(pause)
		}
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		case <-again:
		}
	}
}

// round sends what there is. A room that does not work, or a notice that cannot be read, keeps others from
// nothing: it is tried again in the next round, and the error is that of the last one that failed.
func (n *Notices) round(ctx context.Context) (more bool, err error) {
	list, err := n.store.Notices(ctx, noticeBatch)
	sent := 0
	for _, notice := range list {
		switch e := n.one(ctx, notice); {
		case e != nil:
			err = e
		default:
			sent++
		}
	}
	return sent == noticeBatch, err
}

func (n *Notices) one(ctx context.Context, notice Notice) error {
	content, kind := &event.Content{VeryRaw: notice.Content}, event.EventMessage
	if notice.Status {
		kind = event.BeeperMessageStatus
	}
	if err := json.Unmarshal(notice.Content, content); err != nil {
		return n.drop(ctx, notice, err)
	} else if err = content.ParseRaw(kind); err != nil {
		return n.drop(ctx, notice, err)
	}
	if !notice.Tried {
		if err := n.store.TriedNotice(ctx, notice.ID); err != nil {
			return err
		}
	}
	err := n.send(Marked(ctx, notice.ID, notice.Tried), notice.Room, content)
	if Permanent(err) {
		return n.divert(ctx, notice, err)
	} else if err != nil {
		return err
	}
	return n.store.SentNotice(ctx, notice.ID)
}

// divert puts a notice that its room does not take into another one.
func (n *Notices) divert(ctx context.Context, notice Notice, cause error) error {
	if n.Elsewhere == nil || notice.Status {
		return n.drop(ctx, notice, cause)
	}
	other, err := n.Elsewhere(ctx, notice)
	if err != nil {
		return err
	}
	if other != nil {
		// After a crash between the two it is added again, which changes nothing.
		if err = n.Add(ctx, *other); err != nil {
			return err
		}
	}
	return n.drop(ctx, notice, cause)
}

// drop gives up a notice that Matrix refuses for good: the room is gone, or we are out of it.
func (n *Notices) drop(ctx context.Context, notice Notice, cause error) error {
	n.log.Warn().Str("notice_id", notice.ID).Stringer("room_id", notice.Room).Int("status", statusOf(cause)).
		Msg("Notice cannot be sent to its room")
	return n.store.SentNotice(ctx, notice.ID)
}
