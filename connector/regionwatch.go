package connector

import (
	"context"
	"time"

	"maunium.net/go/mautrix/id"

	"postern/connector/matrixdurable"
)

// regionTick is how often the watch looks whose time has come, regionWarning how long before the end of an admission people are told,
// and lapsePatience how long a stream is waited for on which the gatekeeper can be told that somebody has left.
const (
	regionTick    = 15 * time.Second
	regionWarning = 14 * 24 * time.Hour
	lapsePatience = time.Hour
)

// regionWatch asks the gate again about those who are in, and lets those go who may not stay. One goroutine owns it.
type regionWatch struct {
	connector *Connector
	due       map[id.UserID]time.Time // when to ask again
	lapsed    map[id.UserID]time.Time // since when they may not stay
}

// watchRegions runs until the connector ends.
func (c *Connector) watchRegions() {
	if c.region == nil {
		return
	}
	w := &regionWatch{connector: c, due: map[id.UserID]time.Time{}, lapsed: map[id.UserID]time.Time{}}
	tick := time.NewTicker(regionTick)
	defer tick.Stop()
	for {
		w.look(c.ctx, time.Now())
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look goes through everybody who has a login.
func (w *regionWatch) look(ctx context.Context, now time.Time) {
	logins := map[id.UserID][]*client{}
	for _, cl := range w.connector.connected.all() {
		logins[cl.login.UserMXID] = append(logins[cl.login.UserMXID], cl)
	}
	for user := range w.due {
		if logins[user] == nil {
			delete(w.due, user)
			delete(w.lapsed, user)
		}
	}
	for user, clients := range logins {
		if ctx.Err() != nil {
			return
		}
		if _, lapsed := w.lapsed[user]; lapsed || !now.Before(w.due[user]) {
			w.check(ctx, now, user, clients)
		}
	}
}

// check asks about one person. Who cannot be judged stays for the time of grace; who may not stay goes as soon as the gatekeeper can be
// told.
func (w *regionWatch) check(ctx context.Context, now time.Time, user id.UserID, clients []*client) {
	c, cfg := w.connector, &w.connector.Config.Region
	before, err := c.db.Regions().Get(ctx, user.String())
	if err != nil {
		c.log.Err(err).Msg("Could not look up where somebody is")
		return
	}
	v, err := c.admit(ctx, user)
	switch {
	case err != nil:
		c.log.Err(err).Msg("Could not ask the gate for regions")
		return
	case ctx.Err() != nil:
		return
	case v == regionUnknown:
		known := max(before.Checked, before.Declared)
		if known == 0 { // they joined before there was a gate: the time of grace begins now
			before.Checked = now.UnixMilli()
			if err := c.db.Regions().Put(ctx, before); err != nil {
				c.log.Err(err).Msg("Could not store where somebody is")
			}
			known = before.Checked
		}
		if now.Before(time.UnixMilli(known).Add(cfg.recheck + cfg.grace)) {
			w.due[user] = now.Add(min(cfg.recheck, time.Minute))
			return
		}
	case v == regionAdmitted:
		delete(w.lapsed, user)
		w.due[user] = now.Add(cfg.recheck)
		w.warn(ctx, now, user, clients)
		return
	}
	w.lapse(ctx, now, user, clients, v)
}

// warn tells somebody in time that their own declaration runs out.
func (w *regionWatch) warn(ctx context.Context, now time.Time, user id.UserID, clients []*client) {
	c := w.connector
	row, err := c.db.Regions().Get(ctx, user.String())
	if err != nil || row.Until == 0 {
		return // looked at again at the next check
	}
	until := time.UnixMilli(row.Until)
	if due := w.due[user]; until.Before(due) {
		w.due[user] = until
	}
	if c.Config.Region.Gate == gateDeclaration && !now.Before(until.Add(-regionWarning)) {
		text := c.wordsFor(user).Text("region.warning", "date", until.UTC().Format(time.DateOnly), "prefix", c.bridge.Config.CommandPrefix, "country", row.Country)
		if err := c.tellAtHome(ctx, clients[0], "region-warning "+until.UTC().Format(time.RFC3339), text); err != nil {
			c.log.Err(err).Msg("Could not store a warning")
		}
	}
}

// lapse lets somebody go, with an explanation that is on disk before anything is deleted.
func (w *regionWatch) lapse(ctx context.Context, now time.Time, user id.UserID, clients []*client, v verdict) {
	c := w.connector
	since, known := w.lapsed[user]
	if !known {
		since = now
		w.lapsed[user] = now
		w.due[user] = now
	}
	key := "region.lapsed"
	if v == regionUnknown {
		key = "region.lapsed-unknown"
	}
	for _, cl := range clients {
		if !cl.live.Load() && !cl.stopped.Load() && now.Sub(since) < lapsePatience {
			continue // on its way
		}
		text := c.wordsFor(user).Text(key, "gatekeeper", cl.profile.DisplayName, "contact", c.contact(c.wordsFor(user)))
		if err := c.tellAtHome(ctx, cl, "region-lapsed "+string(cl.login.ID), text); err != nil {
			c.log.Err(err).Str("account", string(cl.login.ID)).Msg("Could not store why a login ends")
			continue
		}
		c.log.Info().Str("account", string(cl.login.ID)).Msg("Login ends: its person may not stay")
		cl.login.Logout(ctx)
	}
}

// tellAtHome stores a notice for the management room of a login's person. The same identity is said once.
func (c *Connector) tellAtHome(ctx context.Context, cl *client, identity, text string) error {
	room, err := cl.login.User.GetManagementRoom(ctx)
	if err != nil {
		return err
	}
	notice, err := matrixdurable.ReplyNotice(identity, room, "", cl.login.UserMXID, text)
	if err != nil {
		return err
	}
	return c.stack.Notices.Add(ctx, notice)
}
