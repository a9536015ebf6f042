package matrixdurable

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"time"

	"maunium.net/go/mautrix/id"
)

// What was missed is journalled in pieces, room by room and the oldest first, and the sync token last: neither memory nor a commit grows
// with how long the bridge was away. The rooms wait until all of their pieces are in. After a kill between two the same pieces
// come again, and what is journalled is known by its id.

const (
	// pieceEvents is how many missed events are journalled in one commit; a few that show the order may be added.
	pieceEvents = 4 * catchUpLimit
	// keptPages is how many of the pages that were read backwards are kept; the others are asked for again when their turn comes.
	keptPages = 4
	// maxOlderPages bounds how far back one room is read after a long gap: 50,000 events.
	maxOlderPages = 500
	// pagePatience bounds one request while rooms wait.
	pagePatience = time.Minute
)

// hold makes the rooms of an answer wait, unless they have waited in vain before.
func (c *CatchUp) hold(rooms map[string]syncRoom) {
	if !c.patience.IsZero() && time.Now().After(c.patience) {
		return
	}
	for room := range rooms {
		if !c.holding[room] {
			c.holding[room] = true
			c.cfg.Dispatcher.HoldRoom(room)
		}
	}
}

// release lets a room go on, all of which is in.
func (c *CatchUp) release(room string) {
	if c.holding[room] {
		delete(c.holding, room)
		c.cfg.Dispatcher.ReleaseRoom(room)
	}
}

func (c *CatchUp) letGo() {
	for room := range c.holding {
		c.release(room)
	}
}

// failed notes that a look has failed: the rooms wait for the next one, but not for ever.
func (c *CatchUp) failed() {
	if c.patience.IsZero() {
		c.patience = time.Now().Add(c.cfg.Dispatcher.cfg.CheckPatience)
	}
	if len(c.holding) > 0 && time.Now().After(c.patience) {
		c.cfg.Log.Warn().Int("count", len(c.holding)).Msg("Could not get missed events for too long, their rooms go on without")
		c.letGo()
	}
}

// journal journals what the homeserver has answered. The token is stored in the last commit.
func (c *CatchUp) journal(ctx context.Context, page *syncPage, since string, newest int64) error {
	var entries []Entry
	var rooms []string
	put := func(token string) error {
		err := c.merge(ctx, token, entries, rooms, nil, newest, map[string]Entry{})
		if err == nil {
			for _, room := range rooms {
				c.release(room)
			}
		}
		entries, rooms = nil, nil
		return err
	}
	var long []string
	for room, news := range page.Rooms.Join {
		if news.Timeline.Limited {
			long = append(long, room)
			continue
		}
		if len(entries) > 0 && len(entries)+len(news.Timeline.Events) > pieceEvents {
			if err := put(""); err != nil {
				return err
			}
		}
		entries, rooms = c.wanted(entries, news.Timeline.Events, room), append(rooms, room)
	}
	if len(long) > 0 && len(rooms) > 0 {
		if err := put(""); err != nil {
			return err
		}
	}
	for _, room := range long {
		if err := c.long(ctx, room, since, page.Rooms.Join[room], newest); err != nil {
			return err
		}
		delete(page.Rooms.Join, room)
		c.release(room)
	}
	return put(page.Next)
}

// wanted appends the entries of events that are to be handled.
func (c *CatchUp) wanted(entries []Entry, events []json.RawMessage, room string) []Entry {
	for _, raw := range events {
		if e, wanted, ok := roomEntry(raw, room, c.cfg.Own); ok && wanted {
			entries = append(entries, e)
		}
	}
	return entries
}

// long journals what was missed in a room that has more of it than one answer holds.
func (c *CatchUp) long(ctx context.Context, room, since string, news syncRoom, newest int64) error {
	pages, err := c.older(ctx, room, since, news.Timeline.Prev)
	if err != nil {
		return err
	}
	known, placed := map[string]bool{}, map[string]Entry{}
	var piece []Entry
	for i, page := range slices.Backward(pages) {
		if page.Chunk == nil {
			if page, err = c.olderPage(ctx, room, since, page.from); err != nil {
				return err
			}
		}
		pages[i].Chunk = nil
		slices.Reverse(page.Chunk)
		if len(piece) > 0 && len(piece)+len(page.Chunk) > pieceEvents {
			if err = c.merge(ctx, "", piece, nil, known, newest, placed); err != nil {
				return err
			}
			piece = nil
		}
		piece = c.wanted(piece, page.Chunk, room)
	}
	piece = c.wanted(piece, news.Timeline.Events, room)
	return c.merge(ctx, "", piece, []string{room}, known, newest, placed)
}

// merge journals missed events in commits of bounded size, the last one with the token if there is one, and puts them into the rooms' queues.
// complete are the rooms of which all is in then: what was pushed meanwhile goes behind it. known has the ids of earlier pieces and gets these;
// placed has of each room the last one that still waits.
func (c *CatchUp) merge(ctx context.Context, token string, entries []Entry, complete []string, known map[string]bool, newest int64, placed map[string]Entry) error {
	if known == nil {
		known = map[string]bool{}
	}
	for _, e := range entries {
		known[e.EventID] = true
	}
	c.cfg.Order.Lock()
	defer c.cfg.Order.Unlock()
	c.cfg.Dispatcher.Hold()
	defer c.cfg.Dispatcher.Release()
	if err := c.cfg.Dispatcher.Resolve(ctx); err != nil {
		return err
	}
	entries = c.withLater(entries, complete, known, newest)
	for first := true; first || len(entries) > 0; first = false {
		n := min(len(entries), pieceEvents)
		piece, name := behind(placed, entries[:n]), token
		if entries = entries[n:]; len(entries) > 0 {
			name = ""
		}
		added, err := c.cfg.Journal.Merge(ctx, catchUpToken, name, piece, c.cfg.Dispatcher.Waiting)
		if err != nil {
			c.cfg.Dispatcher.Doubt()
			return err
		}
		if len(added) > 0 {
			c.cfg.Log.Debug().Int("count", len(added)).Msg("Homeserver had events that it had not pushed")
			c.cfg.Dispatcher.Merge(added)
		}
		for _, e := range piece {
			if c.cfg.Dispatcher.Waiting(e.EventID) {
				placed[e.Room] = e
			}
		}
	}
	return nil
}

// behind puts before a piece the last ones of the pieces before it, so that the journal gives it places behind them.
func behind(placed map[string]Entry, piece []Entry) []Entry {
	var before []Entry
	seen := map[string]bool{}
	for _, e := range piece {
		if last, ok := placed[e.Room]; ok && !seen[e.Room] {
			before = append(before, last)
		}
		seen[e.Room] = true
	}
	return append(before, piece...)
}

// withLater adds, room by room, what waits, is not in the answer, and was journalled since the homeserver was asked: it came after
// everything in the answer. What was there before and is not in the answer is older than it, and stays in front.
func (c *CatchUp) withLater(entries []Entry, complete []string, known map[string]bool, newest int64) []Entry {
	for _, room := range complete {
		for _, e := range c.cfg.Dispatcher.Queued(room) {
			if e.Seq > newest && !known[e.EventID] && !e.Handed {
				entries = append(entries, e)
			}
		}
	}
	return entries
}

// olderEvents is one page of what lies before a timeline, the newest first. Chunk is nil if it is not kept.
type olderEvents struct {
	from  string
	Chunk []json.RawMessage `json:"chunk"`
	End   string            `json:"end"`
}

// older finds the pages between since and the timeline of a limited sync, the newest first. The oldest of them are kept.
func (c *CatchUp) older(ctx context.Context, room, since, from string) ([]olderEvents, error) {
	var pages []olderEvents
	for {
		page, err := c.olderPage(ctx, room, since, from)
		if err != nil {
			return nil, err
		}
		if len(page.Chunk) > 0 && len(pages) == c.pages {
			c.cfg.Log.Warn().Str("room_id", room).Int("count", c.pages*catchUpLimit).Msg("More events were missed in a room than are read, passing over the older ones")
			if c.cfg.Passed != nil {
				err = c.cfg.Passed(ctx, room, since)
			}
			return pages, err
		}
		if len(page.Chunk) > 0 {
			pages = append(pages, page)
		}
		if n := len(pages) - keptPages; n > 0 {
			pages[n-1].Chunk = nil
		}
		if page.End == "" || page.End == from || len(page.Chunk) == 0 {
			return pages, nil
		}
		from = page.End
	}
}

func (c *CatchUp) olderPage(ctx context.Context, room, since, from string) (olderEvents, error) {
	page := olderEvents{from: from}
	filter, err := json.Marshal(map[string]any{"types": missedTypes})
	if err != nil {
		return page, err
	}
	ctx, cancel := context.WithTimeout(ctx, pagePatience)
	defer cancel()
	query := url.Values{"dir": {"b"}, "from": {from}, "to": {since}, "limit": {fmt.Sprint(catchUpLimit)}, "filter": {string(filter)}}
	err = c.cfg.Ask(ctx, "/_matrix/client/v3/rooms/"+url.PathEscape(room)+"/messages", query, &page)
	return page, err
}

// tellPassed tells a room that not all that was missed in it is handled.
func (f *Framework) tellPassed(ctx context.Context, room, since string) error {
	var reader id.UserID
	portal, err := f.bridge.GetPortalByMXID(ctx, id.RoomID(room))
	if err != nil {
		return err
	} else if portal != nil {
		if login := f.bridge.GetCachedUserLoginByID(portal.Receiver); login != nil {
			reader = login.UserMXID
		}
	}
	notice, err := ReplyNotice("passed over "+since, id.RoomID(room), "", reader, f.speak(reader).Text("notice.passed-over"))
	if err != nil {
		return err
	}
	return f.notices.Add(ctx, notice)
}
