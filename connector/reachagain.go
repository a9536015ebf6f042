package connector

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"time"

	"postern/connector/interop"
	"postern/connector/matrixdurable"
	"postern/database"
)

// How long after a question that the gatekeeper has not taken it is put again: askAgain at first, twice as long each time, askRarely at most, and
// at once when there is a new stream.
const (
	askAgain  = time.Minute
	askRarely = time.Hour
)

// start lets those be asked who are still to be asked, also if no new stream is needed, until the loop's end.
func (r *reach) start(ctx context.Context) {
	r.pausing.Lock()
	r.pause = r.again
	r.pausing.Unlock()
	r.loop.begin(ctx)
	r.later()
}

// later says that somebody is still to be asked.
func (r *reach) later() { r.loop.at(time.Now().Add(r.patience())) }

// patience is how long to wait before those are asked again who are left; it is a little longer than r.pause, by chance.
func (r *reach) patience() time.Duration {
	r.pausing.Lock()
	defer r.pausing.Unlock()
	pause := max(r.pause, r.again)
	return pause + rand.N(max(pause/4, 1))
}

// lively says that there is a new stream.
func (r *reach) lively() {
	r.pausing.Lock()
	r.pause = r.again
	r.pausing.Unlock()
	r.loop.now()
}

// round asks once, and says when to ask again.
func (r *reach) round(ctx context.Context) time.Time {
	left, now := r.contained(ctx), time.Now()
	if left {
		next := now.Add(r.patience())
		r.pausing.Lock()
		r.pause = min(2*max(r.pause, r.again), askRarely)
		r.pausing.Unlock()
		return next
	}
	r.pausing.Lock()
	r.pause = r.again
	r.pausing.Unlock()
	return time.Time{}
}

// contained asks once; a panic costs that round only.
func (r *reach) contained(ctx context.Context) (left bool) {
	defer func() {
		if p := recover(); p != nil {
			r.client.log.Error().Str("panic", fmt.Sprintf("%T", p)).Str("where", string(debug.Stack())).Msg("Asking those who are to be asked panicked")
			left = true
		}
	}()
	left, err := r.catchUp(ctx)
	if err != nil && ctx.Err() == nil {
		r.client.log.Err(err).Msg("Could not ask everybody who is to be asked; the bridge tries again")
		left = true
	}
	return left
}

// catchUp asks those who are still to be asked. left says that some are.
func (r *reach) catchUp(ctx context.Context) (left bool, err error) {
	rows, err := r.store().ToAsk(ctx, r.account())
	if err != nil {
		return true, err
	}
	for i := range rows {
		got, err := r.askLate(ctx, rows[i].ChatID)
		if err != nil || ctx.Err() != nil {
			return true, err
		}
		left = left || got.state == database.ReachToAsk
		if tooMany(got.cause) || errors.Is(got.cause, interop.ErrOffline) {
			return true, nil // nor would it take the next one
		}
	}
	return left, nil
}

// askLate puts a question whose command has ended, if it is still to be put. What is to be said about it is a notice.
func (r *reach) askLate(ctx context.Context, chat string) (got reachAnswer, err error) {
	ch := r.client.chats.get(chat)
	ch.asking.Lock()
	defer ch.asking.Unlock()
	row, err := r.store().Get(ctx, r.account(), chat)
	if err != nil || row.State != database.ReachToAsk {
		return reachAnswer{state: database.ReachNone}, err
	}
	return r.ask(ctx, chat, func(why error) (*matrixdurable.Notice, error) {
		identity := "reach refused " + chat + " " + strconv.FormatInt(row.Since, 10)
		return r.notice(ctx, chat, identity, r.client.words().Text("ping.late", "why", why.Error()))
	}), nil
}
