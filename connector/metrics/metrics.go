package metrics

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Build says which program this is.
type Build struct{ Version, Commit string }

// Config says what Metrics begin with.
type Config struct {
	Build Build
	// Gatekeepers are the names that the label gatekeeper has.
	Gatekeepers []string
	// Live, if not nil, is asked at each scrape for what is in memory only. It must answer at once.
	Live func() Live
}

// Live is the present state of what is in memory.
type Live struct {
	// Users are the logins that are in use, by gatekeeper and state of their stream.
	Users map[User]int
	// Pushes are those since the start, by what became of them.
	Pushes map[string]uint64
	// Checks are those of the readiness endpoint, by name: true for OK.
	Checks map[string]bool
}

// User is what a login is counted under: its gatekeeper's name, and one of States.
type User struct{ Gatekeeper, State string }

// Metrics are all figures of one bridge. Its methods may be called from any goroutine.
type Metrics struct {
	registry *prometheus.Registry
	live     func() Live

	accounts map[string]*Account
	database *Database
	matrix   *Matrix
	media    *Media
	stored   stored
	names    []string // of the gatekeepers
}

// New makes the families. All series that there can be exist from the beginning.
func New(cfg Config) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(), live: cfg.Live, accounts: make(map[string]*Account, len(cfg.Gatekeepers)), names: cfg.Gatekeepers,
	}
	f := newFamilies(m.registry)
	for _, name := range cfg.Gatekeepers {
		m.accounts[name] = newAccount(f, name)
	}
	m.database, m.matrix, m.media = newDatabase(f), newMatrix(f), newMedia(f)
	m.stored = newStored(f, cfg.Gatekeepers)
	f.gauge(buildInfo).WithLabelValues(cfg.Build.Version, cfg.Build.Commit, runtime.Version()).Set(1)
	m.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &liveCollector{m: m},
	)
	return m
}

// Account is where the accounts at one gatekeeper of Config.Gatekeepers are counted.
func (m *Metrics) Account(gatekeeper string) *Account { return m.accounts[gatekeeper] }

// Database is where commits and queries are counted.
func (m *Metrics) Database() *Database { return m.database }

// Matrix is where what passes between homeserver and bridge is counted.
func (m *Metrics) Matrix() *Matrix { return m.matrix }

// Media is where attachments are counted.
func (m *Metrics) Media() *Media { return m.media }

// families makes what is registered, each family once.
type families struct {
	registry *prometheus.Registry
	made     map[string]prometheus.Collector
}

func newFamilies(registry *prometheus.Registry) families {
	return families{registry, map[string]prometheus.Collector{}}
}

// family returns the family of that name, made now if it is not there yet.
func family[V prometheus.Collector](f families, d Family, make func() V) V {
	if v, ok := f.made[d.Name].(V); ok {
		return v
	}
	v := make()
	f.registry.MustRegister(v)
	f.made[d.Name] = v
	return v
}

func (f families) counter(d Family) *prometheus.CounterVec {
	return family(f, d, func() *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: d.Name, Help: d.Help}, d.Labels)
	})
}

func (f families) gauge(d Family) *prometheus.GaugeVec {
	return family(f, d, func() *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: d.Name, Help: d.Help}, d.Labels)
	})
}

func (f families) histogram(d Family, buckets []float64) *prometheus.HistogramVec {
	return family(f, d, func() *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: d.Name, Help: d.Help, Buckets: buckets}, d.Labels)
	})
}

// counters are the counters of one label's values, made before they are needed.
type counters struct {
	by    map[string]prometheus.Counter
	other prometheus.Counter
}

// of makes a counter for each value, and one for all else.
func of(values []string, make func(value string) prometheus.Counter) counters {
	c := counters{by: map[string]prometheus.Counter{}, other: make(Other)}
	for _, v := range values {
		c.by[v] = make(v)
	}
	return c
}

func (c counters) add(value string, n int) {
	counter, ok := c.by[value]
	if !ok {
		counter = c.other
	}
	counter.Add(float64(max(n, 0)))
}

// timers are the same for histograms.
type timers map[string]prometheus.Observer

func (t timers) took(value string, d time.Duration) {
	if o := t[value]; o != nil {
		o.Observe(max(d, 0).Seconds())
	}
}
