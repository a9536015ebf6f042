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

// run asks those who are still to be asked until ctx ends.
func (r *reach) run(ctx context.Context) {
	r.running.Lock()
	defer r.running.Unlock()
	wake(r.left) // what is left of earlier, also if no new stream is needed
	var again <-chan time.Time
	for pause := r.again; ; {
		select {
		case <-ctx.Done():
			return
		case <-r.left:
			if again == nil {
				again = time.After(pause + rand.N(pause/4))
			}
			continue
		case <-r.lives:
			pause = r.again
		case <-again:
			pause = min(2*pause, askRarely)
		}
		again = nil
		if r.contained(ctx) {
			wake(r.left)
		} else {
			pause = r.again
		}
	}
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
