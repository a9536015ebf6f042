package connector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/convert"
	"postern/connector/killpoint"
	"postern/connector/matrixdurable"
	"postern/database"
)

const (
	// mediaPatience is how long a chat waits for attachments before it goes on without them: for one, or for several that come one after
	// another. mediaGlance is how long each of them is waited for all the same, and what came within mediaQuick counts for nothing.
	mediaPatience = time.Minute
	mediaGlance   = time.Second
	mediaQuick    = 5 * time.Second
	// mediaSlots is how many attachments of one login are fetched at a time.
	mediaSlots = 3
	// mediaFollowed is how many attachments of one login are in memory to take the places of their placeholders, mediaPage how many are read at
	// once. What is above that is on disk alone, as wanted, and is looked for again.
	mediaFollowed = 32
	mediaPage     = 32
	// showMin and showMax bound the pauses between attempts to put an attachment in the place of its placeholder.
	showMin, showMax = 2 * time.Second, 5 * time.Minute
)

// arrivals fetches the attachments of one login. Each one is fetched in a goroutine of its own; who waits for it may give up, and then it
// takes the place of its placeholder when it comes. Of those that nobody waits for any more only so many are in memory as follow has room for.
type arrivals struct {
	client *client
	slots  chan struct{} // nil before there was anything to fetch
	follow chan struct{} // see places
	loop   *spell        // looks for what is wanted; failing is its next pause after an error, 0 if there was none
	// patience, quick and pause are mediaPatience, mediaQuick and showMin, but for tests.
	patience, quick, pause time.Duration
	failing                time.Duration

	mu     sync.Mutex
	ctx    context.Context // while the login is connected
	cancel context.CancelFunc
	jobs   map[string]*arrival
	// busy are those that are to replace a placeholder, until they have; true: asked for again meanwhile.
	busy map[string]bool
	work sync.WaitGroup
}

// arrival is one attachment on its way.
type arrival struct {
	key    string
	cancel context.CancelFunc // lets it go
	// done is closed when it has come or was given up; nobody should wait after deadline.
	done     chan struct{}
	deadline time.Time

	mu      sync.Mutex
	ended   bool
	content *event.MessageEventContent
	err     error
}

func newArrivals(c *client) *arrivals {
	a := &arrivals{
		client: c, patience: mediaPatience, quick: mediaQuick, pause: showMin,
	}
	a.loop = &spell{step: a.takeUp}
	return a
}

// open lets attachments be fetched until close, which calls cancel to end ctx, and goes on with what an earlier process has left.
func (a *arrivals) open(ctx context.Context, cancel context.CancelFunc) {
	a.mu.Lock()
	a.ctx, a.cancel = ctx, cancel
	a.mu.Unlock()
	a.loop.begin(ctx)
	a.loop.now()
}

// close ends all fetching and waits for it. What was not done is done after the next start.
func (a *arrivals) close() {
	a.mu.Lock()
	ctx, cancel := a.ctx, a.cancel
	a.ctx, a.cancel = nil, nil
	a.mu.Unlock()
	if cancel != nil {
		cancel()
		a.loop.end(ctx)
	}
	a.work.Wait()
	a.mu.Lock()
	a.jobs, a.busy = nil, nil
	a.mu.Unlock()
}

// takeUp goes on with what is to be fetched according to the database, and says when to look again after an error.
func (a *arrivals) takeUp(ctx context.Context) time.Time {
	err := errMediaPanic
	a.contained(func() { err = a.sweep(ctx) })
	if err == nil || ctx.Err() != nil {
		a.failing = 0
		return time.Time{}
	}
	a.client.log.Err(err).Msg("Could not look for attachments to fetch")
	pause := max(a.failing, a.pause)
	a.failing = min(2*pause, showMax)
	return time.Now().Add(pause)
}

// contained does something in which a panic costs no more than that.
func (a *arrivals) contained(do func()) {
	defer func() {
		if p := recover(); p != nil {
			a.client.log.Error().Str("panic", fmt.Sprintf("%T", p)).Str("where", string(debug.Stack())).Msg("Panic while attachments were looked after")
		}
	}()
	do()
}

// look has what is wanted looked for.
func (a *arrivals) look() { a.loop.now() }

// sweep begins with everything that is wanted and in nobody's hands, oldest first, as there is room for it.
func (a *arrivals) sweep(ctx context.Context) error {
	var place *database.IncomingMediaPlace
	for {
		rows, next, err := a.client.connector.db.IncomingMedia().Wanted(ctx, string(a.client.login.ID), place, mediaPage)
		if errors.Is(err, database.ErrSealBroken) {
			a.client.log.Err(err).Msg("An attachment is lost, what is known of it is damaged")
		} else if err != nil {
			return err
		}
		for _, row := range rows {
			select {
			case a.places() <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			a.resumeIn(ctx, row)
		}
		if place = next; next == nil {
			return nil
		}
	}
}

// places has room for those that follow has.
func (a *arrivals) places() chan<- struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.follow == nil {
		a.follow = make(chan struct{}, mediaFollowed)
	}
	return a.follow
}

// errClosed: the login is not connected.
var errArrivalsClosed = fmt.Errorf("connector: attachment: not connected: %w", context.Canceled)

// start begins to fetch an attachment, or returns what was begun before.
func (a *arrivals) start(row *database.IncomingMedia, m *convert.IncomingMedia, room id.RoomID, ghost id.UserID) *arrival {
	deadline := time.Now().Add(a.client.chats.get(row.ChatID).patience(time.Now(), a.patience))
	a.mu.Lock()
	defer a.mu.Unlock()
	key := row.ChatID + "/" + row.MessageID
	if job := a.jobs[key]; job != nil {
		return job
	}
	job := &arrival{key: key, done: make(chan struct{}), deadline: deadline}
	if a.ctx == nil {
		job.end(nil, errArrivalsClosed)
		return job
	}
	if a.jobs == nil {
		a.jobs = make(map[string]*arrival)
	}
	a.jobs[key] = job
	ctx, cancel := context.WithCancel(a.client.log.With().Str("chat", row.ChatID).Logger().WithContext(a.ctx))
	job.cancel = cancel
	if a.slots == nil {
		a.slots = make(chan struct{}, mediaSlots)
	}
	slots := a.slots
	a.work.Go(func() {
		defer cancel()
		job.end(a.fetch(ctx, slots, m, room, ghost))
	})
	return job
}

// fetch fetches when it is its turn. A panic in it is this attachment's trouble alone.
func (a *arrivals) fetch(ctx context.Context, slots chan struct{}, m *convert.IncomingMedia, room id.RoomID, ghost id.UserID) (content *event.MessageEventContent, err error) {
	defer func() {
		if v := recover(); v != nil {
			zerolog.Ctx(ctx).Error().Str("panic", fmt.Sprintf("%T", v)).Msg("Panic while an attachment was fetched")
			content, err = nil, errMediaPanic
		}
	}()
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return nil, context.Canceled
	}
	content, err = a.client.fetchMedia(ctx, m, room, ghost)
	if err != nil && ctx.Err() != nil {
		err = context.Canceled
	}
	return content, err
}

// end notes what an attachment has come to.
func (j *arrival) end(content *event.MessageEventContent, err error) {
	j.mu.Lock()
	j.content, j.err, j.ended = content, err, true
	j.mu.Unlock()
	close(j.done)
}

// result is the content with the attachment or why there is none, if that is known yet.
func (j *arrival) result() (content *event.MessageEventContent, err error, known bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.content, j.err, j.ended
}

// forget lets the attachment be fetched anew.
func (a *arrivals) forget(job *arrival) {
	if job == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.jobs[job.key] == job {
		delete(a.jobs, job.key)
	}
}

// later puts an attachment in the place of its placeholder when it has come. If there is no room for that now it is let go, and looked for
// when there is.
func (a *arrivals) later(job *arrival, row *database.IncomingMedia) {
	select {
	case a.places() <- struct{}{}:
		a.followed(job, row)
	default:
		a.mu.Lock()
		_, busy := a.busy[job.key]
		let := !busy && a.jobs[job.key] == job
		if let {
			delete(a.jobs, job.key)
		}
		a.mu.Unlock()
		if let && job.cancel != nil {
			job.cancel()
		}
		a.look()
	}
}

// followed is later for who has a place in follow, which it gives back.
func (a *arrivals) followed(job *arrival, row *database.IncomingMedia) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, busy := a.busy[job.key]; a.ctx == nil || busy {
		<-a.follow
		return
	}
	if a.busy == nil {
		a.busy = make(map[string]bool)
	}
	a.busy[job.key] = false
	ctx, chat, message := a.ctx, row.ChatID, row.MessageID
	a.work.Go(func() {
		defer a.leave(job.key)
		select {
		case <-job.done:
		case <-ctx.Done():
			return
		}
		a.forget(job) // before a person can ask for it again
		if content, err, _ := job.result(); !errors.Is(err, context.Canceled) {
			a.contained(func() { a.replace(ctx, chat, message, content, err) })
		}
	})
}

// await waits until an attachment has come, was given up, or nobody should wait for it any more.
func (j *arrival) await(ctx context.Context) error {
	patience := time.NewTimer(time.Until(j.deadline))
	defer patience.Stop()
	select {
	case <-j.done:
	case <-patience.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// leave ends what followed has begun.
func (a *arrivals) leave(key string) {
	a.mu.Lock()
	again := a.busy[key]
	delete(a.busy, key)
	a.mu.Unlock()
	<-a.follow
	if again {
		a.look()
	}
}

// resume sees to it that the attachment of a row whose placeholder is in the room is fetched and takes that place.
func (a *arrivals) resume(row *database.IncomingMedia) {
	a.mu.Lock()
	ctx := a.ctx
	a.mu.Unlock()
	select {
	case a.places() <- struct{}{}:
		a.resumeIn(ctx, row)
	default:
		a.look()
	}
}

// resumeIn is resume for who has a place in follow, which is given back in the end.
func (a *arrivals) resumeIn(ctx context.Context, row *database.IncomingMedia) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := row.ChatID + "/" + row.MessageID
	_, busy := a.busy[key]
	if busy {
		a.busy[key] = true
	}
	if ctx == nil || a.ctx != ctx || busy {
		<-a.follow
		return
	}
	a.work.Go(func() {
		kept := false
		defer func() {
			if !kept {
				<-a.follow
			}
		}()
		a.contained(func() {
			job, err := a.resumed(ctx, row)
			if err != nil && ctx.Err() == nil {
				a.replace(ctx, row.ChatID, row.MessageID, nil, err)
			} else if job != nil {
				kept = true
				a.followed(job, row)
			}
		})
	})
}

// resumed begins to fetch the attachment of a row again, unless its placeholder is not in the room yet.
func (a *arrivals) resumed(ctx context.Context, row *database.IncomingMedia) (*arrival, error) {
	bridge, key := a.client.connector.bridge, portalKey(string(a.client.login.ID), row.ChatID)
	placeholder, err := bridge.DB.Message.GetFirstPartByID(ctx, key.Receiver, incomingID(row.ChatID, row.MessageID))
	if err != nil {
		return nil, err
	} else if placeholder == nil {
		return nil, nil // it is not in the room yet: the message itself comes again
	}
	portal, err := bridge.GetExistingPortalByKey(ctx, key)
	if err != nil || portal == nil || portal.MXID == "" {
		return nil, err
	}
	k, err := readKept(row)
	if err != nil {
		return nil, err
	}
	m, err := k.media(a.client)
	if err != nil {
		return nil, err
	}
	return a.start(row, m, portal.MXID, placeholder.SenderMXID), nil
}

// replace makes the placeholder of an attachment say what has become of it, and does not stop before Matrix has that.
func (a *arrivals) replace(ctx context.Context, chat, message string, content *event.MessageEventContent, cause error) {
	for pause := a.pause; ; pause = min(pause*2, showMax) {
		err := a.replaceOnce(ctx, chat, message, content, cause)
		switch {
		case err == nil:
			return
		case matrixdurable.Permanent(err):
			a.client.log.Warn().Str("chat", chat).Err(err).Msg("Matrix refuses an attachment for good")
			if err = a.client.connector.db.IncomingMedia().Delete(ctx, chat, message); err == nil {
				return
			}
		}
		if ctx.Err() != nil {
			return
		}
		a.client.log.Warn().Str("chat", chat).Err(err).Msg("Could not show an attachment yet")
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (a *arrivals) replaceOnce(ctx context.Context, chat, message string, content *event.MessageEventContent, cause error) error {
	c := a.client
	// The row as it is now: the caption may have been changed meanwhile.
	row, err := c.connector.db.IncomingMedia().Get(ctx, chat, message)
	if err != nil || row == nil || row.State != database.IncomingMediaWanted {
		return err // the message was taken back, or this was done
	}
	owner, err := c.connector.db.Chats().Get(ctx, chat)
	if err != nil || owner == nil {
		return err
	}
	k, err := readKept(row)
	if err != nil {
		return err
	}
	m, mediaErr := k.media(c)
	if cause == nil {
		cause = mediaErr
	}
	var shown *event.MessageEventContent
	if cause == nil {
		shown = clone(content)
		setCaption(shown, captionWords{m.Content.Body, m.Content.Format, m.Content.FormattedBody})
		row.State, row.Reason, row.Expires = database.IncomingMediaShown, "", time.Now().Add(keepShown).UnixMilli()
		if row.Payload, err = json.Marshal(kept{Shown: shown}); err != nil {
			return err
		}
	} else {
		c.missed(row, cause)
		if mediaErr != nil {
			return c.connector.db.IncomingMedia().Delete(ctx, chat, message) // nothing can come of it, and the placeholder says what it was
		}
		shown = c.placeholder(m, row)
	}
	change := matrixdurable.Change{
		Portal: portalKey(string(c.login.ID), chat), Sender: c.sender(owner.ContactID), Target: incomingID(chat, message),
		Timestamp: time.Now(), Uncertain: true, Settled: c.settledBefore(time.UnixMilli(row.Timestamp).Add(-heldBefore)),
		Identity: matrixdurable.Identity("media", string(c.login.ID), chat, message, fmt.Sprint(row.Tries), row.Reason),
	}
	part := &convert.Part{Type: event.EventMessage, Content: clone(shown)}
	killpoint.Hit(killpoint.InFileReplacing)
	err = matrixdurable.Edit(ctx, c.login, change, editParts([]*convert.Part{part}), true)
	if errors.Is(err, matrixdurable.ErrNoTarget) {
		return c.connector.db.IncomingMedia().Delete(ctx, chat, message) // the message was taken back
	} else if err != nil {
		return err
	}
	killpoint.Hit(killpoint.InFileReplaced)
	return c.connector.db.IncomingMedia().Put(ctx, row)
}
