package interop

import (
	"context"
	"errors"
	"net/http"
	"time"

	"postern/connector/gatekeeper"
	"postern/connector/profile"
)

// clockLeeway is how far the gatekeeper's clock may be from ours before a refused token is put down to that: what
// tokens are checked with, less what an answer's whole seconds and its way can make of it.
const clockLeeway = gatekeeper.ClockSkew - 5*time.Second

// The failures of a login that a wrong clock brings about: the token has expired, or is not valid yet (PROTOCOL.md 2.4, 4.4).
const (
	codeTokenExpired = 413
	codeTokenInvalid = 414
)

var errNoDate = errors.New("ask for the time: the answer has no date")

// ClockAhead returns how far the gatekeeper's clock is ahead of ours, negative if it is behind, to about a second. It is
// what the server that enlists writes above each of its answers. An error says nothing of addresses.
func ClockAhead(ctx context.Context, p *profile.Profile) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Timing.Answer)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, p.Endpoints.Enlist, nil)
	if err != nil {
		return 0, errors.New("ask for the time: the address does not parse")
	}
	res, err := enlistClient.Do(req)
	if err != nil {
		return 0, errors.New("ask for the time: no answer") // the error would name addresses
	}
	if err = res.Body.Close(); err != nil {
		return 0, errors.New("ask for the time: the answer broke off")
	}
	date, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		return 0, errNoDate
	}
	return time.Until(date), nil
}

// clockMended is for a login whose token was refused for good. If the gatekeeper's clock and ours are so far apart that none
// could be good, it says so, waits until they are not, and returns true. False: that is not why, or nobody can say.
func (l *link) clockMended(ctx context.Context, stop *gatekeeper.StopError) bool {
	ask := l.a.cfg.ClockAhead
	if ask == nil || stop.Code != codeTokenExpired && stop.Code != codeTokenInvalid {
		return false
	}
	for attempt := 1; ; attempt++ {
		ahead, err := ask(ctx)
		switch {
		case ctx.Err() != nil:
			return false
		case err == nil && ahead.Abs() <= clockLeeway:
			if attempt > 1 {
				l.a.log.Info().Msg("Clock agrees with the gatekeeper's again")
			}
			return attempt > 1
		case err != nil && attempt == 1:
			l.a.log.Warn().Err(err).Msg("Token refused, and the gatekeeper does not tell the time")
			return false
		case err == nil && attempt == 1:
			l.a.log.Error().Dur("apart", ahead.Abs().Round(time.Second)).Bool("behind", ahead > 0).
				Msg("Login refused because the clock of this machine and the gatekeeper's differ; it is tried again when they agree")
		}
		wait := backoff(attempt, l.a.limits.RetryMin, l.a.limits.RetryMax)
		l.a.conn.set(ConnState{Kind: ConnClock, Code: stop.Code, Until: time.Now().Add(wait)})
		if sleep(ctx, wait) != nil {
			return false
		}
	}
}
