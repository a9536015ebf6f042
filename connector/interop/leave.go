package interop

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"postern/connector/gatekeeper"
	"postern/connector/stanza"
)

const (
	leaveRetryMin = time.Second
	leaveRetryMax = 15 * time.Minute
)

// Leave deletes an account at the gatekeeper (PROTOCOL.md 8.1), on streams of its own that take no messages: what comes is neither acked
// nor looked at. It does not give up before ctx ends, whatever the gatekeeper answers, but for answers that mean that
// it does not know the account any more (8.3): then known is false. c is complete but for Handler. Errors: the context's, and
// gatekeeper.ErrConfig.
func Leave(ctx context.Context, c gatekeeper.Config) (known bool, err error) {
	for attempt := 1; ; attempt++ {
		deleted, err := leaveOnce(ctx, c)
		var stop *gatekeeper.StopError
		switch {
		case deleted:
			return true, nil
		case errors.As(err, &stop) && stop.Action == stanza.ActionReenlist:
			return false, nil
		case errors.Is(err, gatekeeper.ErrConfig):
			return false, err
		case ctx.Err() != nil:
			return false, ctx.Err()
		}
		wait := backoff(attempt, leaveRetryMin, leaveRetryMax)
		c.Log.Warn().Err(err).Dur("wait", wait).Msg("gatekeeper did not delete the account yet")
		if sleep(ctx, wait) != nil {
			return false, ctx.Err()
		}
	}
}

// leaveOnce keeps a stream until the account is deleted, or until something is said that ends the stream.
func leaveOnce(ctx context.Context, c gatekeeper.Config) (deleted bool, err error) {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	h := &leaver{up: make(chan struct{}, 1)}
	c.Handler = h
	stream := gatekeeper.New(c)
	asking := make(chan struct{})
	go func() {
		defer close(asking)
		for {
			select {
			case <-ctx.Done():
				return
			case <-h.up:
			}
			err := askToDelete(ctx, stream)
			var refused *RequestError
			switch {
			case err == nil:
				h.deleted.Store(true)
				end(nil)
				return
			case errors.As(err, &refused):
				end(err)
				return
			}
			// The stream has ended, and comes back by itself.
		}
	}()
	err = stream.Run(ctx)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	end(nil)
	<-asking
	return h.deleted.Load(), err
}

func askToDelete(ctx context.Context, stream *gatekeeper.Stream) error {
	iq, err := stanza.DeleteRequest{}.IQ()
	if err != nil {
		return err
	}
	answer, err := stream.Request(ctx, iq)
	if err == nil {
		err = stanza.ParseEmpty(answer)
	}
	return asked("delete", err)
}

// leaver takes nothing, and says when there is a stream to ask on.
type leaver struct {
	up      chan struct{}
	deleted atomic.Bool
}

// Stanza leaves everything to the gatekeeper's queue, which goes with the account.
func (*leaver) Stanza(context.Context, stanza.Stanza) {}

// State notes that a login has succeeded.
func (l *leaver) State(s gatekeeper.State) {
	if s.Phase != gatekeeper.Draining {
		return
	}
	select {
	case l.up <- struct{}{}:
	default:
	}
}
