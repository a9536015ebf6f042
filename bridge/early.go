package main

import (
	"context"
	"sync/atomic"

	"github.com/rs/zerolog"
)

// earlyEnd is about a program that is told to end while it starts. What fails for that reason is no failure.
type earlyEnd struct {
	ctx      context.Context
	log      *zerolog.Logger
	starting atomic.Bool
}

// expectEnd begins the start. The framework writes "fatal" when its start does not come to an end; while that is because of ctx, such lines are
// left out, and unless says what happened.
func (p *program) expectEnd(ctx context.Context) *earlyEnd {
	e := &earlyEnd{ctx: ctx, log: p.log}
	e.starting.Store(true)
	log := p.log.Hook(zerolog.HookFunc(func(line *zerolog.Event, level zerolog.Level, _ string) {
		//nolint:forbidigo // it is only compared: nothing ends the process here
		if level == zerolog.FatalLevel && e.starting.Load() && ctx.Err() != nil {
			line.Discard()
		}
	}))
	p.log = &log
	return e
}

// unless returns the error that the start has ended with, nil if it was to end.
func (e *earlyEnd) unless(err error) error {
	if e.ctx.Err() == nil {
		return err
	}
	e.log.Info().AnErr("error", err).Msg("Stopping before the start was through")
	return nil
}

// over says that the start is through, or given up.
func (e *earlyEnd) over() { e.starting.Store(false) }
