package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Stored is what the database was counted to have.
type Stored struct {
	// Queues are what waits, by the names of Queues.
	Queues map[string]Queue
	// DeadIn and DeadOut are the dead letters.
	DeadIn, DeadOut int
	// PreKeys are one-time prekeys that were uploaded and not used; below zero: not counted this time.
	PreKeys int
	// Accounts are those of each gatekeeper.
	Accounts map[string]int
	// Bytes is the size of the database, MediaBytes and MediaFiles what the media store has.
	Bytes, MediaBytes, MediaFiles int64
	// At is when it was counted.
	At time.Time
}

// Queue is one queue: how much waits, and since when the oldest does, zero for none.
type Queue struct {
	Items  int
	Oldest time.Time
}

// stored are the gauges of it.
type stored struct {
	items, ages, accounts                                       map[string]prometheus.Gauge
	deadIn, deadOut, preKeys, bytes, storeBytes, storeFiles, at prometheus.Gauge
}

func newStored(f families, gatekeepers []string) stored {
	one := func(d Family) prometheus.Gauge { return f.gauge(d).WithLabelValues() }
	some := func(d Family, values []string) map[string]prometheus.Gauge {
		vec, list := f.gauge(d), map[string]prometheus.Gauge{}
		for _, v := range values {
			list[v] = vec.WithLabelValues(v)
		}
		return list
	}
	dead := some(letters, []string{in, out})
	return stored{
		items: some(queueItems, Queues), ages: some(queueAge, Queues), accounts: some(usersStored, gatekeepers),
		deadIn: dead[in], deadOut: dead[out], preKeys: one(preKeys), bytes: one(dbBytes), storeBytes: one(storeBytes), storeFiles: one(storeFiles),
		at: one(counted),
	}
}

// SetStored shows a new count until the next one.
func (m *Metrics) SetStored(s Stored) {
	g := &m.stored
	for name, gauge := range g.items {
		q := s.Queues[name]
		gauge.Set(float64(q.Items))
		age := 0.0
		if !q.Oldest.IsZero() {
			age = max(s.At.Sub(q.Oldest).Seconds(), 0)
		}
		g.ages[name].Set(age)
	}
	for name, gauge := range g.accounts {
		gauge.Set(float64(s.Accounts[name]))
	}
	g.deadIn.Set(float64(s.DeadIn))
	g.deadOut.Set(float64(s.DeadOut))
	if s.PreKeys >= 0 {
		g.preKeys.Set(float64(s.PreKeys))
	}
	g.bytes.Set(float64(s.Bytes))
	g.storeBytes.Set(float64(s.MediaBytes))
	g.storeFiles.Set(float64(s.MediaFiles))
	g.at.Set(float64(s.At.UnixMilli()) / 1000)
}

// liveCollector asks for what is in memory, at each scrape.
type liveCollector struct{ m *Metrics }

func desc(d Family) *prometheus.Desc { return prometheus.NewDesc(d.Name, d.Help, d.Labels, nil) }

var (
	usersDesc, checksDesc, readyDesc, pushesDesc = desc(users), desc(checks), desc(ready), desc(pushes)
)

// Describe implements prometheus.Collector.
func (c *liveCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{usersDesc, checksDesc, readyDesc, pushesDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *liveCollector) Collect(to chan<- prometheus.Metric) {
	var live Live
	if c.m.live != nil {
		live = c.m.live()
	}
	gauge := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	for _, gatekeeper := range c.m.names {
		for _, state := range States {
			gauge(usersDesc, prometheus.GaugeValue, float64(live.Users[User{gatekeeper, state}]), gatekeeper, state)
		}
		gauge(usersDesc, prometheus.GaugeValue, float64(others(live.Users, gatekeeper)), gatekeeper, Other)
	}
	ready := 1.0
	for name, ok := range live.Checks {
		value := 1.0
		if !ok {
			value, ready = 0, 0
		}
		gauge(checksDesc, prometheus.GaugeValue, value, name)
	}
	gauge(readyDesc, prometheus.GaugeValue, ready)
	for _, result := range PushResults {
		gauge(pushesDesc, prometheus.CounterValue, float64(live.Pushes[result]), result)
	}
}

// others are the users of a gatekeeper in states that are on no list.
func others(users map[User]int, gatekeeper string) (n int) {
	known := map[string]bool{}
	for _, s := range States {
		known[s] = true
	}
	for user, count := range users {
		if user.Gatekeeper == gatekeeper && !known[user.State] {
			n += count
		}
	}
	return n
}
