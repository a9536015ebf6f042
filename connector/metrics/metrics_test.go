package metrics_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"postern/connector/metrics"
)

// scrape reads all figures as Prometheus would: the series, with their values.
func scrape(t testing.TB, m *metrics.Metrics) (series map[string]float64, families map[string]string) {
	t.Helper()
	rec := httptest.NewRecorder()
	m.Handler("").ServeHTTP(rec, httptest.NewRequest(http.MethodGet, metrics.Path, nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("a scrape is answered with %d", rec.Code)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	parsed, err := parser.TextToMetricFamilies(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	series, families = map[string]float64{}, map[string]string{}
	for name, family := range parsed {
		families[name] = strings.ToLower(family.GetType().String())
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			value := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			series[name+"{"+strings.Join(labels, ",")+"}"] = value
		}
	}
	return series, families
}

// use has so many users do everything that is counted, with words from outside wherever words are taken.
func use(m *metrics.Metrics, users int, live *metrics.Live) {
	live.Users, live.Checks = map[metrics.User]int{}, map[string]bool{"database": true}
	live.Pushes = map[string]uint64{"good": uint64(users)}
	for i := range users {
		word := fmt.Sprintf("user-%d", i)
		live.Users[metrics.User{Gatekeeper: "whatsapp", State: "live"}]++
		live.Users[metrics.User{Gatekeeper: "whatsapp", State: word}]++
		live.Pushes[word] = 1
		a := m.Account("whatsapp")
		a.Connecting()
		a.LoggedIn(time.Second)
		a.Lost(word)
		a.Received()
		a.Incoming(word, word)
		a.Outgoing(word, word)
		a.Failed(word)
		a.Buried(word)
		a.Leg(word, time.Second)
		a.Leg("socket_to_disk", time.Second)
		a.Again(word)
		a.AskedAgain(i%2 == 0)
		a.Nack(i%2 == 0, 1000+i)
		a.PreKeys(i, i, i)
		a.Panic(word)
		a.Pushed(time.Second)
		m.Database().Committed(time.Second, i, nil)
		m.Database().Committed(time.Second, i, errors.New(word))
		m.Database().Waited(time.Second)
		m.Database().Query(i%2 == 0, time.Second)
		m.Matrix().Journalled(time.Second, i, nil)
		m.Matrix().Asked(word, word, time.Second)
		m.Media().Moved(word, int64(i), nil)
		m.SetStored(metrics.Stored{Queues: map[string]metrics.Queue{word: {Items: 1}}, Accounts: map[string]int{word: 1}, At: time.Now()})
	}
}

func newMetrics(live *metrics.Live) *metrics.Metrics {
	return metrics.New(metrics.Config{
		Build: metrics.Build{Version: "v1", Commit: "abc"}, Gatekeepers: []string{"whatsapp"}, Live: func() metrics.Live { return *live },
	})
}

func TestThereAreAsManySeriesWithAHundredUsersAsWithOneAndNoneNamesAny(t *testing.T) {
	var one, hundred metrics.Live
	few, many := newMetrics(&one), newMetrics(&hundred)
	use(few, 1, &one)
	use(many, 100, &hundred)
	names := func(m *metrics.Metrics) (list []string) {
		series, _ := scrape(t, m)
		for name := range series {
			if strings.HasPrefix(name, "postern_") {
				list = append(list, name)
			}
			if strings.Contains(name, "user-") {
				t.Errorf("a series has a word from outside: %s", name)
			}
		}
		slices.Sort(list)
		return list
	}
	before, after := names(few), names(many)
	if !slices.Equal(before, after) {
		t.Errorf("one user makes %d series, a hundred make %d", len(before), len(after))
	}
	if len(before) < 300 {
		t.Errorf("only %d series were compared", len(before))
	}
}

func TestAllSeriesAreThereBeforeAnythingHasHappened(t *testing.T) {
	var fresh, used metrics.Live
	fresh.Checks = map[string]bool{"database": true}
	a, b := newMetrics(&fresh), newMetrics(&used)
	use(b, 3, &used)
	before, _ := scrape(t, a)
	after, _ := scrape(t, b)
	for name := range after {
		if _, ok := before[name]; !ok && strings.HasPrefix(name, "postern_") {
			t.Errorf("%s comes to be later, so a rate over it would miss its first step", name)
		}
	}
}

func TestWhatIsOnNoListCountsAsOther(t *testing.T) {
	var live metrics.Live
	m := newMetrics(&live)
	use(m, 4, &live)
	got, _ := scrape(t, m)
	for series, want := range map[string]float64{
		`postern_stream_failures_total{cause=other,gatekeeper=whatsapp}`:             4,
		`postern_incoming_total{content=other,gatekeeper=whatsapp,state=other}`:      4,
		`postern_nacks_total{code=other,direction=out,gatekeeper=whatsapp}`:          2,
		`postern_users{gatekeeper=whatsapp,state=other}`:                             4,
		`postern_users{gatekeeper=whatsapp,state=live}`:                              4,
		`postern_homeserver_requests_total{kind=other,result=failed}`:                4,
		`postern_leg_seconds{gatekeeper=whatsapp,leg=socket_to_disk}`:                4,
		`postern_build_info{commit=abc,goversion=` + goVersion(got) + `,version=v1}`: 1,
		`postern_database_commits_total{result=failed}`:                              4,
		`postern_prekeys_used_total{gatekeeper=whatsapp}`:                            6,
		`postern_queue_items{queue=to_matrix}`:                                       0,
		`postern_ready{}`:                                                            1,
		`postern_pushes_total{result=good}`:                                          4,
		`postern_retry_receipts_total{direction=in,gatekeeper=whatsapp}`:             2,
		`postern_outgoing_failed_total{gatekeeper=whatsapp,reason=other}`:            4,
		`postern_dead_letters_total{gatekeeper=whatsapp,reason=other}`:               4,
	} {
		if value, ok := got[series]; !ok || value != want {
			t.Errorf("%s is %v (there: %v), want %v", series, value, ok, want)
		}
	}
}

func goVersion(series map[string]float64) string {
	for name := range series {
		if _, rest, ok := strings.Cut(name, "goversion="); ok {
			version, _, _ := strings.Cut(rest, ",")
			return version
		}
	}
	return ""
}

func TestAQueueShowsTheAgeOfWhatIsOldestInIt(t *testing.T) {
	var live metrics.Live
	m := newMetrics(&live)
	now := time.Now()
	m.SetStored(metrics.Stored{At: now, PreKeys: 7, Queues: map[string]metrics.Queue{"to_matrix": {Items: 3, Oldest: now.Add(-90 * time.Second)}}})
	m.SetStored(metrics.Stored{At: now, PreKeys: -1, Queues: map[string]metrics.Queue{"to_matrix": {Items: 2, Oldest: now.Add(-60 * time.Second)}}})
	got, _ := scrape(t, m)
	for series, want := range map[string]float64{
		"postern_queue_items{queue=to_matrix}": 2, "postern_queue_oldest_seconds{queue=to_matrix}": 60,
		"postern_queue_oldest_seconds{queue=notices}": 0, "postern_prekeys{}": 7,
	} {
		if got[series] != want {
			t.Errorf("%s is %v, want %v", series, got[series], want)
		}
	}
}

func TestOnlyWhoBringsTheTokenIsAnswered(t *testing.T) {
	var live metrics.Live
	handler := newMetrics(&live).Handler("a token of many characters")
	for header, want := range map[string]int{
		"": http.StatusUnauthorized, "Bearer wrong": http.StatusUnauthorized, "a token of many characters": http.StatusUnauthorized,
		"Bearer a token of many characters": http.StatusOK,
	} {
		req, rec := httptest.NewRequest(http.MethodGet, metrics.Path, nil), httptest.NewRecorder()
		if header != "" {
			req.Header.Set("Authorization", header)
		}
		handler.ServeHTTP(rec, req)
		if rec.Code != want {
			t.Errorf("with %q: %d, want %d", header, rec.Code, want)
		}
		if body, _ := io.ReadAll(rec.Body); want != http.StatusOK && strings.Contains(string(body), "postern_") {
			t.Errorf("with %q the figures are shown", header)
		}
	}
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, metrics.Path, nil))
	if rec.Code != http.StatusMethodNotAllowed {
		t.Errorf("a POST is answered with %d", rec.Code)
	}
}

// TestTheListOfFamiliesAndItsPageAreCurrent: what is registered, what Families says and docs/METRICS.md are one.
func TestTheListOfFamiliesAndItsPageAreCurrent(t *testing.T) {
	var live metrics.Live
	live.Checks = map[string]bool{"database": true}
	_, there := scrape(t, newMetrics(&live))
	var table strings.Builder
	table.WriteString("| family | type | labels | what it says |\n| --- | --- | --- | --- |\n")
	for _, f := range metrics.Families() {
		if there[f.Name] != f.Type {
			t.Errorf("%s is a %q, and the list says %q", f.Name, there[f.Name], f.Type)
		}
		delete(there, f.Name)
		labels := "-"
		if len(f.Labels) > 0 {
			labels = "`" + strings.Join(f.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", f.Name, f.Type, labels, f.Help)
	}
	for name := range there {
		if strings.HasPrefix(name, "postern_") {
			t.Errorf("%s is on no list", name)
		}
	}
	page, err := os.ReadFile("../../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), table.String()) {
		t.Errorf("the table in docs/METRICS.md should be\n%s", table.String())
	}
}

// BenchmarkOneMessage is all that is counted of a message each way. It allocates nothing.
func BenchmarkOneMessage(b *testing.B) {
	var live metrics.Live
	m := newMetrics(&live)
	a, d := m.Account("whatsapp"), m.Database()
	b.ReportAllocs()
	for b.Loop() {
		a.Received()
		a.Leg("socket_to_disk", time.Millisecond)
		a.Leg("disk_to_ack", time.Millisecond)
		a.Leg("disk_to_matrix", time.Millisecond)
		a.Incoming("text", "delivered")
		a.Outgoing("text", "accepted")
		a.Leg("homeserver_to_queue", time.Millisecond)
		a.Leg("queue_to_socket", time.Millisecond)
		a.Leg("socket_to_ack", time.Millisecond)
		a.Outgoing("text", "sent")
		a.Outgoing("text", "delivered")
		a.Outgoing("text", "read")
		for range 10 { // of database.Do
			d.Waited(time.Millisecond)
			d.Committed(time.Millisecond, 1, nil)
			d.Query(true, time.Millisecond)
		}
	}
}
