package connector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"maunium.net/go/mautrix/bridgev2/status"

	"postern/connector/admin"
	"postern/connector/interop"
	"postern/connector/words"
	"postern/database"
)

// orderMaintenance is the name under which it is on disk.
const orderMaintenance = "maintenance"

// connMaintenance is the state of accounts that have no stream because of it.
const connMaintenance interop.ConnKind = admin.StateMaintenance

const (
	// drainPatience is how long it is waited for one account to have nothing under way, before its stream is closed. What is under way then is on
	// disk, and goes on later. drainLook is how often it is looked, drainers how many are waited for at once.
	drainPatience = 5 * time.Second
	drainLook     = 50 * time.Millisecond
	drainers      = 16
)

// maintained is that the bridge is in maintenance, as it is on disk.
type maintained struct {
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
}

// maintenance is when no stream is open and none is opened: everybody's are closed in order, what others write waits at the gatekeeper, and
// what the homeserver brings is stored as ever. It is on disk, so a restart changes nothing.
type maintenance struct {
	c *Connector
	// change is held over each order.
	change sync.Mutex

	mu    sync.RWMutex
	now   *maintained   // nil for none
	ended chan struct{} // closed while there is none
}

func loadMaintenance(ctx context.Context, c *Connector) (*maintenance, error) {
	m := &maintenance{c: c, ended: make(chan struct{})}
	now, err := readMaintenance(ctx, c.db)
	if err != nil {
		return nil, err
	}
	m.now = now
	if now == nil {
		close(m.ended)
	}
	return m, nil
}

func readMaintenance(ctx context.Context, db *database.DB) (*maintained, error) {
	raw, err := db.Operator().Get(ctx, orderMaintenance)
	if raw == nil || err != nil && !errors.Is(err, database.ErrSealBroken) {
		return nil, err
	}
	now := &maintained{}
	if err == nil {
		err = json.Unmarshal(raw, now)
	}
	if err != nil { // what was said to it cannot be read; it stands all the same
		return &maintained{}, nil
	}
	return now, nil
}

// of is the maintenance that there is, nil for none.
func (m *maintenance) of() *maintained {
	if m == nil {
		return nil
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.now
}

// wait returns when there is none, or with ctx's error.
func (m *maintenance) wait(ctx context.Context) error {
	m.mu.RLock()
	ended := m.ended
	m.mu.RUnlock()
	select {
	case <-ended:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// putMaintenance begins maintenance on disk; fresh is false if there is one, of which the reason is replaced.
func putMaintenance(ctx context.Context, db *database.DB, reason string) (now *maintained, fresh bool, err error) {
	err = db.Do(ctx, func(ctx context.Context) error {
		before, err := readMaintenance(ctx, db)
		if err != nil {
			return err
		}
		now, fresh = &maintained{Reason: reason, Since: time.Now().UTC().Truncate(time.Second)}, before == nil
		if before != nil && !before.Since.IsZero() {
			now.Since = before.Since
		}
		raw, err := json.Marshal(now)
		if err != nil {
			return fmt.Errorf("connector: maintenance: %w", err)
		}
		return db.Operator().Put(ctx, orderMaintenance, raw)
	})
	return now, fresh, err
}

// begin begins it: on disk, and then all streams are closed.
func (m *maintenance) begin(ctx context.Context, reason string) (outcome admin.Outcome, err error) {
	m.change.Lock()
	defer m.change.Unlock()
	now, fresh, err := putMaintenance(ctx, m.c.db, reason)
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	if m.now == nil {
		m.ended = make(chan struct{})
	}
	m.now = now
	m.mu.Unlock()
	if fresh {
		m.c.news.note(newsMaintenance, "on "+now.Since.Format(time.RFC3339Nano), "", "on")
	}
	m.c.work.Go(m.drain)
	return changedOr(fresh), nil
}

// drain closes all streams, each when nothing is under way on it.
func (m *maintenance) drain() {
	m.c.log.Info().Msg("Maintenance has begun: all streams are closed")
	places := make(chan struct{}, drainers)
	var work sync.WaitGroup
	for _, cl := range m.c.connected.all() {
		places <- struct{}{}
		work.Go(func() {
			defer func() { <-places }()
			cl.settle(m.c.ctx)
			if m.of() != nil {
				m.close(cl)
			}
		})
	}
	work.Wait()
	m.c.log.Info().Msg("Streams are closed for maintenance")
}

// close closes a stream. Maintenance may end meanwhile, and whoever ended it has passed by this client then, so it is looked once more.
func (m *maintenance) close(cl *client) {
	cl.park(connMaintenance, stateMaintenance)
	m.afterwards(cl)
}

// afterwards connects a client that says that there is maintenance, if there is none any more.
func (m *maintenance) afterwards(cl *client) {
	if m.of() == nil && m.c.ctx.Err() == nil && cl.now().Kind == connMaintenance {
		cl.Connect(cl.login.Log.WithContext(m.c.ctx))
	}
}

// settle waits, for a while, until nothing is under way.
func (c *client) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainPatience)
	defer cancel()
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	for c.account.Busy() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// end ends it, and has everybody connected, as fast as the pacer lets them.
func (m *maintenance) end(ctx context.Context) (outcome admin.Outcome, err error) {
	m.change.Lock()
	defer m.change.Unlock()
	was, err := m.c.db.Operator().Delete(ctx, orderMaintenance)
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	was = was || m.now != nil
	if m.now != nil {
		m.now = nil
		close(m.ended)
	}
	m.mu.Unlock()
	if was {
		m.c.news.note(newsMaintenance, "off "+time.Now().UTC().Format(time.RFC3339Nano), "", "off")
	}
	m.c.work.Go(func() {
		for _, login := range m.c.bridge.GetAllCachedUserLogins() {
			if m.of() != nil || m.c.ctx.Err() != nil {
				return
			}
			if cl, ok := login.Client.(*client); ok && cl.now().Kind == connMaintenance {
				cl.Connect(login.Log.WithContext(m.c.ctx))
			}
		}
		m.c.log.Info().Msg("Maintenance has ended: everybody is connected")
	})
	return changedOr(was), nil
}

// refuse keeps a client from connecting during maintenance, and says so.
func (m *maintenance) refuse(c *client) {
	c.connection.mu.Lock()
	c.connection.state = interop.ConnState{Kind: connMaintenance}
	c.connection.mu.Unlock()
	m.c.sayState(c.login, status.BridgeState{StateEvent: status.StateTransientDisconnect, Error: stateMaintenance})
	if m.of() == nil { // it has ended in this moment, and may not have seen this client
		go m.afterwards(c)
	}
}

// maintenanceWords say to somebody that there is maintenance; "" if there is none.
func (c *Connector) maintenanceWords(w words.Words) string {
	now := c.maintenance.of()
	if now == nil {
		return ""
	}
	text := w.Text("maintenance.now")
	if now.Reason != "" {
		text += " " + w.Text("maintenance.reason", "reason", now.Reason)
	}
	return text
}

// maintain shows, begins or ends maintenance.
func (s *adminService) maintain(ctx context.Context, o *admin.Order) (*admin.Answer, error) {
	answer := &admin.Answer{}
	var err error
	on, reason, set := o.Maintenance()
	switch {
	case !set:
	case s.c != nil && on:
		answer.Outcome, err = s.c.maintenance.begin(ctx, reason)
	case s.c != nil:
		answer.Outcome, err = s.c.maintenance.end(ctx)
	case on:
		var fresh bool
		_, fresh, err = putMaintenance(ctx, s.db, reason)
		answer.Outcome = changedOr(fresh)
	default:
		var was bool
		was, err = s.db.Operator().Delete(ctx, orderMaintenance)
		answer.Outcome = changedOr(was)
	}
	if err != nil {
		return nil, err
	}
	now, err := readMaintenance(ctx, s.db)
	if err != nil {
		return nil, err
	}
	answer.Maintenance = &admin.Maintenance{On: now != nil}
	if now != nil {
		answer.Maintenance.Since, answer.Maintenance.Reason = now.Since, now.Reason
	}
	if s.c != nil {
		answer.Maintenance.Streams = len(s.c.connected.all())
	}
	if set {
		s.log.Info().Str("action", o.Action).Str("state", string(answer.Outcome)).Msg("The operator has given an order")
	}
	return answer, nil
}
