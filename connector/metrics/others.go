package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Database counts commits and queries; a nil one counts nothing.
type Database struct {
	good, bad                 prometheus.Counter
	commitTimes, waits, group prometheus.Observer
	queries                   timers
}

func newDatabase(f families) *Database {
	result, pools := f.counter(commits), f.histogram(queries, commitBuckets)
	return &Database{
		good: result.WithLabelValues("ok"), bad: result.WithLabelValues("failed"),
		commitTimes: f.histogram(commitTimes, commitBuckets).WithLabelValues(), waits: f.histogram(waits, commitBuckets).WithLabelValues(),
		group:   f.histogram(groups, groupBuckets).WithLabelValues(),
		queries: timers{"framework": pools.WithLabelValues("framework"), "own": pools.WithLabelValues("own")},
	}
}

// Committed tells of a commit that took that time, for so many pieces of work.
func (d *Database) Committed(took time.Duration, jobs int, err error) {
	if d == nil {
		return
	}
	if err != nil {
		d.bad.Inc()
		return
	}
	d.good.Inc()
	d.commitTimes.Observe(took.Seconds())
	d.group.Observe(float64(jobs))
}

// Waited tells how long a piece of work took, from its asking to its answer.
func (d *Database) Waited(took time.Duration) {
	if d != nil {
		d.waits.Observe(took.Seconds())
	}
}

// Query tells of a query: of the framework's pool, or of our own.
func (d *Database) Query(own bool, took time.Duration) {
	switch {
	case d == nil:
	case own:
		d.queries.took("own", took)
	default:
		d.queries.took("framework", took)
	}
}

// Matrix counts what passes between homeserver and bridge; a nil one counts nothing.
type Matrix struct {
	events, failed prometheus.Counter
	journal        prometheus.Observer
	requests       map[string]counters
	times          timers
}

func newMatrix(f families) *Matrix {
	m := &Matrix{
		events: f.counter(transactions).WithLabelValues(), failed: f.counter(journalFailed).WithLabelValues(),
		journal: f.histogram(journalled, commitBuckets).WithLabelValues(), requests: map[string]counters{}, times: timers{},
	}
	results, answers := f.counter(requests), f.histogram(requestTimes, legBuckets)
	for _, kind := range Requests {
		m.requests[kind] = counters{by: map[string]prometheus.Counter{}, other: results.WithLabelValues(kind, "failed")}
		for _, result := range Results {
			m.requests[kind].by[result] = results.WithLabelValues(kind, result)
		}
		m.times[kind] = answers.WithLabelValues(kind)
	}
	return m
}

// Journalled tells of a transaction of the homeserver with so many new events.
func (m *Matrix) Journalled(took time.Duration, events int, err error) {
	switch {
	case m == nil:
	case err != nil:
		m.failed.Inc()
	default:
		m.events.Add(float64(events))
		m.journal.Observe(took.Seconds())
	}
}

// Asked tells of a request to the homeserver: one of Requests, one of Results.
func (m *Matrix) Asked(kind, result string, took time.Duration) {
	if m == nil {
		return
	}
	if _, ok := m.requests[kind]; !ok {
		kind = Other
	}
	m.requests[kind].add(result, 1)
	m.times.took(kind, took)
}

// Media counts attachments; a nil one counts nothing.
type Media struct{ bytes, files, failures counters }

func newMedia(f families) *Media {
	make := func(d Family) counters {
		vec := f.counter(d)
		c := counters{by: map[string]prometheus.Counter{}}
		for _, operation := range Operations {
			c.by[operation] = vec.WithLabelValues(operation)
		}
		c.other = c.by[Operations[0]] // there is nothing else: the callers are four
		return c
	}
	return &Media{bytes: make(mediaBytes), files: make(mediaFiles), failures: make(mediaFailures)}
}

// Moved tells of one of Operations, of so many bytes.
func (m *Media) Moved(operation string, bytes int64, err error) {
	switch {
	case m == nil:
	case err != nil:
		m.failures.add(operation, 1)
	default:
		m.bytes.add(operation, int(bytes))
		m.files.add(operation, 1)
	}
}
