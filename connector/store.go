package connector

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"postern/connector/killpoint"
	"postern/connector/matrixdurable"
	"postern/database"
)

// journal fits the database's journal to what the Matrix side asks for.
type journal struct {
	store   database.JournalStore
	notices database.NoticeStore
	do      func(ctx context.Context, fn func(ctx context.Context) error) error
	// foreign tells the bots and ghosts of other instances; nil for none. What they do in a room that they hand over, or have handed over, is
	// nobody's message.
	foreign func(user string) bool
}

// ofPeople leaves out what users of other instances have done.
func (j journal) ofPeople(entries []matrixdurable.Entry) []matrixdurable.Entry {
	if j.foreign == nil {
		return entries
	}
	return slices.DeleteFunc(slices.Clone(entries), func(e matrixdurable.Entry) bool {
		var head struct {
			Sender string `json:"sender"`
		}
		return e.Body != nil && json.Unmarshal(e.Body, &head) == nil && j.foreign(head.Sender)
	})
}

var _ matrixdurable.Journal = journal{}

func toRows(entries []matrixdurable.Entry) []database.JournalEvent {
	rows := make([]database.JournalEvent, len(entries))
	for i, e := range entries {
		rows[i] = database.JournalEvent{
			Seq: e.Seq, Kind: string(e.Kind), EventID: e.EventID, RoomID: e.Room, Body: e.Body, Handed: e.Handed,
		}
	}
	return rows
}

func toEntries(rows []database.JournalEvent) []matrixdurable.Entry {
	entries := make([]matrixdurable.Entry, len(rows))
	for i, r := range rows {
		entries[i] = matrixdurable.Entry{
			Seq: r.Seq, Kind: matrixdurable.Kind(r.Kind), EventID: r.EventID, Room: r.RoomID, Body: r.Body, Handed: r.Handed,
		}
	}
	return entries
}

func (j journal) Accept(ctx context.Context, txn string, entries []matrixdurable.Entry) ([]matrixdurable.Entry, bool, error) {
	entries = j.ofPeople(entries)
	if killpoint.Armed {
		return j.acceptArmed(ctx, txn, entries)
	}
	rows, known, err := j.store.Accept(ctx, txn, toRows(entries))
	return toEntries(rows), known, err
}

// acceptArmed is Accept with a point to die at between writing and committing.
func (j journal) acceptArmed(ctx context.Context, txn string, entries []matrixdurable.Entry) (stored []matrixdurable.Entry, known bool, err error) {
	err = j.do(ctx, func(ctx context.Context) error {
		rows, was, err := j.store.Accept(ctx, txn, toRows(entries))
		stored, known = toEntries(rows), was
		killpoint.Hit(killpoint.OutJournalling)
		return err
	})
	return stored, known, err
}

func (j journal) Merge(ctx context.Context, name, token string, entries []matrixdurable.Entry, waiting func(string) bool) ([]matrixdurable.Entry, error) {
	rows, err := j.store.Merge(ctx, name, token, toRows(j.ofPeople(entries)), waiting)
	return toEntries(rows), err
}

func (j journal) Hand(ctx context.Context, seq int64) error      { return j.store.Hand(ctx, seq) }
func (j journal) Finish(ctx context.Context, seqs []int64) error { return j.store.Finish(ctx, seqs) }
func (j journal) Load(ctx context.Context, seq int64) ([]byte, error) {
	return j.store.Load(ctx, seq)
}

func (j journal) Unfinished(ctx context.Context) ([]matrixdurable.Entry, error) {
	rows, err := j.store.Unfinished(ctx)
	return toEntries(rows), err
}

func (j journal) Purge(ctx context.Context, before time.Time) error {
	return errors.Join(j.store.Purge(ctx, before), j.notices.Purge(ctx, before))
}
func (j journal) Token(ctx context.Context, name string) (string, error) {
	return j.store.Token(ctx, name)
}
func (j journal) SetToken(ctx context.Context, name, token string) error {
	return j.store.SetToken(ctx, name, token)
}

// notices fits the database's notices to what the Matrix side asks for.
type notices struct{ store database.NoticeStore }

var _ matrixdurable.NoticeStore = notices{}

func (n notices) AddNotice(ctx context.Context, notice matrixdurable.Notice) error {
	return n.store.Add(ctx, &database.Notice{ID: notice.ID, RoomID: notice.Room.String(), Content: notice.Content, Status: notice.Status})
}

// tell stores a notice for a room, which is said once for each kind.
func (n notices) tell(ctx context.Context, kind string, room id.RoomID, text string) error {
	notice, err := matrixdurable.ReplyNotice(kind, room, "", "", text)
	if err != nil {
		return err
	}
	return n.AddNotice(ctx, notice)
}

func (n notices) Notices(ctx context.Context, limit int) ([]matrixdurable.Notice, error) {
	rows, err := n.store.Waiting(ctx, limit)
	list := make([]matrixdurable.Notice, len(rows))
	for i, r := range rows {
		list[i] = matrixdurable.Notice{ID: r.ID, Room: id.RoomID(r.RoomID), Content: r.Content, Status: r.Status, Tried: r.Tried}
	}
	return list, err
}

func (n notices) TriedNotice(ctx context.Context, noticeID string) error {
	return n.store.SetTried(ctx, noticeID)
}
func (n notices) SentNotice(ctx context.Context, noticeID string) error {
	return n.store.SetSent(ctx, noticeID)
}
