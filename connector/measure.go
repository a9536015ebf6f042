package connector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"postern/connector/interop"
	"postern/connector/matrixdurable"
	"postern/connector/metrics"
	"postern/database"
)

// openMetrics makes the figures, if the configuration wants them. Without them nothing is measured.
func (c *Connector) openMetrics(cfg AttachConfig) error {
	m := &c.Config.Metrics
	if !m.Enabled {
		return nil
	}
	if m.TokenFile != "" {
		var err error
		if m.Token, err = secretFile("network.metrics.token_file", cfg.Dir, m.TokenFile); err != nil {
			return err
		}
		if len(m.Token) < minMetricsToken {
			return fmt.Errorf("network.metrics.token_file: the token needs at least %d characters", minMetricsToken)
		}
	}
	var names []string
	for _, a := range c.Config.agreements {
		names = append(names, a.profile.Name)
	}
	c.metrics = metrics.New(metrics.Config{
		Build: metrics.Build{Version: cfg.Version, Commit: cfg.Commit}, Gatekeepers: names, Live: c.liveFigures,
	})
	if m.Address == "" {
		cfg.Matrix.AS.Router.Handle(metrics.Path, c.metrics.Handler(m.Token))
	}
	return nil
}

// serveMetrics opens the listener for figures, if they have one of their own.
func (c *Connector) serveMetrics(failed func(error)) error {
	if c.metrics == nil || c.Config.Metrics.Address == "" {
		return nil
	}
	socket, err := net.Listen("tcp", c.Config.Metrics.Address)
	if err != nil {
		return fmt.Errorf("connector: network.metrics.address: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle(metrics.Path, c.metrics.Handler(c.Config.Metrics.Token))
	c.figures = &http.Server{
		Handler: mux, ErrorLog: silentLog, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
	}
	c.work.Go(func() {
		if err := c.figures.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
			failed(fmt.Errorf("connector: listener of the metrics: %w", err))
		}
	})
	return nil
}

// liveFigures is what is in memory.
func (c *Connector) liveFigures() metrics.Live {
	live := metrics.Live{Users: map[metrics.User]int{}, Checks: map[string]bool{}}
	for _, cl := range c.connected.all() {
		state := string(cl.now().Kind)
		if state == "" {
			state = "new"
		}
		live.Users[metrics.User{Gatekeeper: cl.profile.Name, State: state}]++
	}
	if c.pushes != nil {
		n := c.pushes.Counts()
		live.Pushes = map[string]uint64{"good": n.Good, "refused": n.Refused, "malformed": n.Malformed, "unchecked": n.Unchecked}
	}
	_, all := c.ready.conditions()
	for name, condition := range all {
		live.Checks[name] = condition.OK
	}
	return live
}

// meter is where an account at a gatekeeper is counted, nil for nowhere.
func (c *Connector) meter(gatekeeper string) interop.Meter {
	if c.metrics == nil {
		return nil
	}
	return c.metrics.Account(gatekeeper)
}

func (c *Connector) databaseMeter() database.Meter {
	if c.metrics == nil {
		return nil
	}
	return c.metrics.Database()
}

// measuredJournal times what the homeserver waits for.
type measuredJournal struct {
	matrixdurable.Journal
	to *metrics.Matrix
}

// Accept implements matrixdurable.Journal.
func (j measuredJournal) Accept(ctx context.Context, txn string, entries []matrixdurable.Entry) ([]matrixdurable.Entry, bool, error) {
	began := time.Now()
	stored, known, err := j.Journal.Accept(ctx, txn, entries)
	j.to.Journalled(time.Since(began), len(stored), err)
	return stored, known, err
}

func (c *Connector) journal() matrixdurable.Journal {
	var j matrixdurable.Journal = journal{c.db.Journal(), c.db.Notices(), c.db.Do, c.instances.foreignUsers()}
	if c.metrics != nil {
		j = measuredJournal{j, c.metrics.Matrix()}
	}
	return j
}

// queued times an event from the homeserver to the out-queue.
func (c *client) queued(row *frameworkMessage) {
	if m := c.connector.metrics; m != nil && row != nil {
		m.Account(c.profile.Name).Leg("homeserver_to_queue", time.Since(row.Timestamp))
	}
}

// receipted times a message from the homeserver to its phone's first receipt, whichever that is. What is no message (a reaction, say) has
// no row and is not timed.
func (c *client) receipted(row *frameworkMessage, s interop.OutStatus) {
	if m := c.connector.metrics; m != nil && row != nil && s.Told < interop.OutDelivered {
		m.Account(c.profile.Name).Leg("matrix_to_receipt", s.At.Sub(row.Timestamp))
	}
}

// awaited notes that a push has come for a user without a stream; arrived, that the stream is live.
func (c *client) awaited() {
	if c.connector.metrics != nil && c.now().Kind != interop.ConnLive {
		c.pushedAt.CompareAndSwap(0, time.Now().UnixNano())
	}
}

func (c *client) arrived() {
	if at := c.pushedAt.Swap(0); at != 0 {
		c.connector.metrics.Account(c.profile.Name).Pushed(time.Since(time.Unix(0, at)))
	}
}

// moved counts an attachment: one of metrics.Operations.
func (c *Connector) moved(operation string, bytes int64, err error) {
	if c.metrics != nil {
		c.metrics.Media().Moved(operation, bytes, err)
	}
}

// countServed counts what the gatekeeper fetches.
func (c *Connector) countServed(next http.Handler) http.Handler {
	if c.metrics == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		counting := &countingWriter{ResponseWriter: w}
		defer func() {
			switch {
			case counting.status < http.StatusBadRequest && counting.bytes > 0 && r.Method == http.MethodGet:
				c.moved("served", counting.bytes, nil)
			case counting.status >= http.StatusInternalServerError:
				c.moved("served", 0, errNotServed)
			}
		}()
		next.ServeHTTP(counting, r)
	})
}

var errNotServed = errors.New("connector: attachment not served")

// countingWriter counts what goes through it, and lets the server have what it is good at.
type countingWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// Unwrap is for http.ResponseController.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *countingWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// ReadFrom implements io.ReaderFrom.
func (w *countingWriter) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(w.ResponseWriter, r)
	w.bytes += n
	return n, err
}
