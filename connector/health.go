package connector

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mau.fi/util/dbutil"

	"postern/database"
)

// Condition is what a check of the bridge's readiness finds.
type Condition struct {
	// OK: nothing is wrong.
	OK bool `json:"ok"`
	// Reason says in plain words what is wrong, without anything that names a person.
	Reason string `json:"reason,omitempty"`
	// Since is when it began to be as it is.
	Since time.Time `json:"since,omitzero"`
}

// readiness collects the checks that stand behind /_matrix/mau/ready.
type readiness struct {
	mu     sync.Mutex
	checks map[string]func() Condition
}

// AddReadinessCheck registers a check under a name, which answers at once and from any goroutine. The bridge is ready when all are OK.
func (c *Connector) AddReadinessCheck(name string, check func() Condition) {
	c.ready.mu.Lock()
	defer c.ready.mu.Unlock()
	if c.ready.checks == nil {
		c.ready.checks = map[string]func() Condition{}
	}
	c.ready.checks[name] = check
}

// conditions asks all checks.
func (r *readiness) conditions() (ready bool, all map[string]Condition) {
	r.mu.Lock()
	checks := make(map[string]func() Condition, len(r.checks))
	for name, check := range r.checks {
		checks[name] = check
	}
	r.mu.Unlock()
	ready, all = true, make(map[string]Condition, len(checks))
	for name, check := range checks {
		condition := check()
		all[name] = condition
		ready = ready && condition.OK
	}
	return ready, all
}

// handler serves /_matrix/mau/live, which answers while the process does, and /_matrix/mau/ready, which is 200 while the
// bridge can take what comes, and else 503 with the reasons. Neither names anybody.
func (r *readiness) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_matrix/mau/live", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"live": true})
	})
	mux.HandleFunc("GET /_matrix/mau/ready", func(w http.ResponseWriter, _ *http.Request) {
		ready, all := r.conditions()
		status := http.StatusOK
		if !ready {
			status = http.StatusServiceUnavailable
		}
		reasons := []string{}
		for name, condition := range all {
			if !condition.OK {
				reasons = append(reasons, name+": "+condition.Reason)
			}
		}
		slices.SortFunc(reasons, strings.Compare)
		body := map[string]any{"ready": ready, "reasons": reasons, "checks": all}
		if maintenance, ok := all[checkMaintenance]; ok && maintenance.Reason != "" {
			body["maintenance"] = true
		}
		answer(w, status, body)
	})
	return mux
}

func answer(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // whoever asked has gone away
}

// checkMaintenance is the name of the check that says whether there is maintenance. It is OK all the same: the bridge takes what comes.
const checkMaintenance = "maintenance"

// addOwnChecks registers what the bridge itself needs: a database that commits, and to have started.
func (c *Connector) addOwnChecks() {
	c.AddReadinessCheck("database", func() Condition {
		state := c.db.Health()
		return Condition{OK: state.Reason == "", Reason: state.Reason, Since: state.Since}
	})
	c.AddReadinessCheck("epoch file", func() Condition {
		if since := c.db.EpochTrouble(); !since.IsZero() {
			return Condition{Reason: "it cannot be written, so nothing more can be encrypted soon", Since: since}
		}
		return Condition{OK: true}
	})
	c.AddReadinessCheck(checkMaintenance, func() Condition {
		if now := c.maintenance.of(); now != nil {
			return Condition{OK: true, Reason: "maintenance: no streams are open", Since: now.Since}
		}
		return Condition{OK: true}
	})
	c.AddReadinessCheck("start", func() Condition {
		if c.taking.Load() {
			return Condition{OK: true}
		}
		return Condition{Reason: "the bridge is starting or stopping"}
	})
}

// databaseChanged tells those who wait for the database that they need not wait any longer.
func (c *Connector) databaseChanged(state database.Health) {
	c.news.database(state)
	if state.Reason == "" {
		go c.connected.storageAgain()
	}
}

// watchedLogger passes what the framework's queries come to on to our database, once that is open.
type watchedLogger struct {
	dbutil.DatabaseLogger
	c *Connector
}

// WatchedLogger is a logger for the framework's pool on the database: what fails there counts for the bridge's readiness, and a
// disk that cannot be trusted any more ends the bridge.
func (c *Connector) WatchedLogger(next dbutil.DatabaseLogger) dbutil.DatabaseLogger {
	return watchedLogger{next, c}
}

// QueryTiming implements dbutil.DatabaseLogger.
func (l watchedLogger) QueryTiming(ctx context.Context, method, query string, args []any, rows int, took time.Duration, err error) {
	if db := l.c.opened.Load(); db != nil {
		if err != nil {
			db.Note(err)
		}
		if m := l.c.metrics; m != nil { // it is there before the database
			m.Database().Query(false, took)
		}
	}
	l.DatabaseLogger.QueryTiming(ctx, method, query, args, rows, took, err)
}
