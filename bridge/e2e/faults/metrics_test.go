package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"gopkg.in/yaml.v3"

	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
	"postern/connector/metrics"
)

// metricsToken is what the worlds' bridges want for their figures.
const metricsToken = "token-of-the-metrics-of-the-tests"

// figures is what a scrape has brought.
type figures struct {
	raw      []byte
	families map[string]*dto.MetricFamily
}

// scrape asks the bridge for its figures.
func (r *rig) scrape() figures {
	r.t.Helper()
	req := must(http.NewRequestWithContext(r.ctx, http.MethodGet, r.Bridge.Address+metrics.Path, nil))(r.t)
	req.Header.Set("Authorization", "Bearer "+metricsToken)
	res := must(http.DefaultClient.Do(req))(r.t)
	defer res.Body.Close()
	raw := must(io.ReadAll(res.Body))(r.t)
	if res.StatusCode != http.StatusOK {
		r.t.Fatalf("a scrape is answered with %d", res.StatusCode)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return figures{raw, must(parser.TextToMetricFamilies(bytes.NewReader(raw)))(r.t)}
}

// sum adds up the series of a family that have all of these labels, written name=value. Of a histogram it is how often something was seen.
func (f figures) sum(family string, labels ...string) (sum float64) {
	for _, m := range f.families[family].GetMetric() {
		has := map[string]bool{}
		for _, l := range m.GetLabel() {
			has[l.GetName()+"="+l.GetValue()] = true
		}
		if !slices.ContainsFunc(labels, func(l string) bool { return !has[l] }) {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// figure is a sum that a test looks at.
type figure struct {
	family string
	labels []string
}

func of(family string, labels ...string) figure { return figure{family, labels} }

// grew waits until each figure has grown by what it should since before, and fails if one has grown further.
func (r *rig) grew(before figures, want map[*figure]float64) {
	r.t.Helper()
	for f, by := range want {
		var last float64
		r.soon(f.family+" "+strings.Join(f.labels, " ")+" to grow", func() bool {
			last = r.scrape().sum(f.family, f.labels...) - before.sum(f.family, f.labels...)
			return last >= by
		})
		if last != by {
			r.t.Errorf("%s %v has grown by %v, want %v", f.family, f.labels, last, by)
		}
	}
}

// TestTheFiguresAreWhatWasSent compares what both ends have sent with what the running bridge says of it.
func TestTheFiguresAreWhatWasSent(t *testing.T) {
	each(t, func(r *rig) {
		r.restartWith(r.ctx, nil) // so that all figures are this test's own
		r.connected(true)
		c := r.newChat()
		var before figures
		r.soon("the figures to be at rest", func() bool {
			before = r.scrape()
			return before.sum("postern_outgoing_total", "state=delivered") == before.sum("postern_outgoing_total", "state=accepted")
		})
		c.fromMatrix(5)
		c.fromPhone(7)
		c.settled()
		at := func(family string, labels ...string) *figure { f := of(family, labels...); return &f }
		r.grew(before, map[*figure]float64{
			at("postern_outgoing_total", "state=accepted", "content=text"):  5,
			at("postern_outgoing_total", "state=sent", "content=text"):      5,
			at("postern_outgoing_total", "state=delivered", "content=text"): 5,
			at("postern_outgoing_total", "state=read"):                      0,
			at("postern_outgoing_total", "state=failed"):                    0,
			at("postern_received_total"):                                    7,
			at("postern_incoming_total", "state=delivered", "content=text"): 7,
			at("postern_incoming_total", "state=dead_letter"):               0,
			at("postern_leg_seconds", "leg=socket_to_disk"):                 7,
			at("postern_leg_seconds", "leg=disk_to_ack"):                    7,
			at("postern_leg_seconds", "leg=disk_to_matrix"):                 7,
			at("postern_leg_seconds", "leg=homeserver_to_queue"):            5,
			at("postern_leg_seconds", "leg=queue_to_socket"):                5,
			at("postern_leg_seconds", "leg=socket_to_ack"):                  5,
			at("postern_leg_seconds", "leg=matrix_to_receipt"):              5,
			at("postern_nacks_total"):                                       0,
			at("postern_panics_total"):                                      0,
		})
		now := r.scrape()
		for f, least := range map[*figure]float64{
			at("postern_homeserver_requests_total", "kind=send", "result=ok"): 7, at("postern_homeserver_events_total"): 5,
			at("postern_database_commit_seconds"): 5, at("postern_database_query_seconds", "pool=own"): 5,
		} {
			if grown := now.sum(f.family, f.labels...) - before.sum(f.family, f.labels...); grown < least {
				t.Errorf("%s %v has grown by %v, want %v at least", f.family, f.labels, grown, least)
			}
		}
		if users := now.sum("postern_users", "state=live"); users < 1 || now.sum("postern_ready") != 1 {
			t.Errorf("%v users are live, and ready is %v", users, now.sum("postern_ready"))
		}

		// What Matrix refuses for good is counted where it ends.
		d := r.newChat()
		before = r.scrape()
		end := d.refuse()
		d.says()
		r.grew(before, map[*figure]float64{
			at("postern_incoming_total", "state=dead_letter"): 1, at("postern_dead_letters_total", "reason=forbidden"): 1, at("postern_received_total"): 1,
			at("postern_incoming_total", "state=delivered", "content=text"): 0,
			at("postern_dead_letters", "direction=in"):                      1, // counted in the background
		})
		end()
		c.check()
		for _, word := range []string{c.mark, r.alice.UserID, r.identifier, c.ben.Phone, c.ben.Name, c.room} {
			if bytes.Contains(r.scrape().raw, []byte(word)) {
				t.Errorf("the figures name somebody or something: %s", word)
			}
		}
	})
}

// TestFiguresAreForWhoBringsTheToken, and never on the public listener.
func TestFiguresAreForWhoBringsTheToken(t *testing.T) {
	t.Run(sqlite, func(t *testing.T) {
		r := use(t, sqlite)
		for address, want := range map[string]int{
			r.Bridge.Address + metrics.Path: http.StatusUnauthorized, r.Bridge.PublicBase + metrics.Path: http.StatusNotFound,
		} {
			req := must(http.NewRequestWithContext(r.ctx, http.MethodGet, address, nil))(t)
			if want == http.StatusNotFound {
				req.Header.Set("Authorization", "Bearer "+metricsToken)
			}
			res := must(http.DefaultClient.Do(req))(t)
			body := must(io.ReadAll(res.Body))(t)
			res.Body.Close()
			if res.StatusCode != want || bytes.Contains(body, []byte("postern_")) {
				t.Errorf("answered with %d, want %d", res.StatusCode, want)
			}
		}
	})
}

// TestFiguresHaveAListenerOfTheirOwn, with nothing else on it, and then they are nowhere else.
func TestFiguresHaveAListenerOfTheirOwn(t *testing.T) {
	t.Run(sqlite, func(t *testing.T) {
		r := use(t, sqlite)
		own := fmt.Sprintf("127.0.0.1:%d", must(parts.FreePort())(t))
		r.restartWith(r.ctx, map[string]any{"network.metrics.address": own, "network.metrics.token": ""})
		t.Cleanup(func() {
			if !t.Failed() { // or the world is given up
				r.ctx = context.WithoutCancel(r.ctx)
				r.restartWith(r.ctx, map[string]any{"network.metrics.address": "", "network.metrics.token": metricsToken})
				r.connected(true)
			}
		})
		for address, want := range map[string]int{
			"http://" + own + metrics.Path: http.StatusOK, "http://" + own + "/_matrix/mau/ready": http.StatusNotFound,
			"http://" + own + "/": http.StatusNotFound, r.Bridge.Address + metrics.Path: http.StatusNotFound,
			r.Bridge.PublicBase + metrics.Path: http.StatusNotFound,
		} {
			res := must(http.DefaultClient.Do(must(http.NewRequestWithContext(r.ctx, http.MethodGet, address, nil))(t)))(t)
			body := must(io.ReadAll(res.Body))(t)
			res.Body.Close()
			if res.StatusCode != want || bytes.Contains(body, []byte("postern_build_info")) != (want == http.StatusOK) {
				t.Errorf("%s answers %d, want %d", address, res.StatusCode, want)
			}
		}
	})
}

// TestAPushIsTimedUntilItsStreamIsLive: one that wakes somebody, once.
func TestAPushIsTimedUntilItsStreamIsLive(t *testing.T) {
	t.Run(sqlite, func(t *testing.T) {
		r := use(t, sqlite)
		r.attached(nil)
		c := r.newChat()
		r.connected(false)
		before := r.scrape()
		if idle := before.sum("postern_users", "state=idle"); idle < 1 {
			t.Errorf("%v users rest", idle)
		}
		c.fromPhone(1)
		c.settled()
		r.soon("the push to be timed", func() bool {
			now := r.scrape()
			return now.sum("postern_push_to_live_seconds") > before.sum("postern_push_to_live_seconds") &&
				now.sum("postern_pushes_total", "result=good") > before.sum("postern_pushes_total", "result=good")
		})
		c.check()
	})
}

// ops is the folder of what is shipped for operators.
const ops = "../../../docs/ops/"

// expressions are those of the rules and of the dashboard.
func expressions(t *testing.T) (list []string) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(must(os.ReadFile(ops+"alerts.yaml"))(t), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		for _, rule := range g.Rules {
			list = append(list, rule.Expr)
		}
	}
	if len(list) < 15 {
		t.Errorf("only %d rules were found", len(list))
	}
	var board struct {
		Panels []struct {
			Type    string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Query any }
		}
	}
	if err := json.Unmarshal(must(os.ReadFile(ops+"dashboard.json"))(t), &board); err != nil {
		t.Fatal(err)
	}
	rules := len(list)
	for _, p := range board.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Error("a panel shows nothing")
		}
		for _, target := range p.Targets {
			list = append(list, target.Expr)
		}
	}
	if len(list)-rules < 30 {
		t.Errorf("only %d expressions of the dashboard were found", len(list)-rules)
	}
	return list
}

var (
	selectors = regexp.MustCompile(`\b((?:postern|go|process)_[a-z_]+)(?:\{([^}]*)\})?`)
	matchers  = regexp.MustCompile(`([a-z_]+)(=~|!~|!=|=)"([^"]*)"`)
)

// TestRulesAndDashboardReferOnlyToFiguresThatExist: each family, each label and each value of a label that the shipped files name is in a scrape of the
// running bridge, and each family of ours is on the dashboard.
func TestRulesAndDashboardReferOnlyToFiguresThatExist(t *testing.T) {
	t.Run(sqlite, func(t *testing.T) {
		r := use(t, sqlite)
		now := r.scrape()
		shown := map[string]bool{}
		for _, expr := range expressions(t) {
			for _, s := range selectors.FindAllStringSubmatch(expr, -1) {
				name := s[1]
				if now.families[name] == nil {
					for _, suffix := range []string{"_bucket", "_sum", "_count"} {
						if base, ok := strings.CutSuffix(name, suffix); ok && now.families[base].GetType() == dto.MetricType_HISTOGRAM {
							name = base
						}
					}
				}
				shown[name] = true
				if now.families[name] == nil {
					t.Errorf("%s does not exist, in %s", s[1], expr)
					continue
				}
				for _, m := range matchers.FindAllStringSubmatch(s[2], -1) {
					if m[1] == "instance" { // Prometheus gives it
						continue
					}
					for _, value := range strings.Split(m[3], "|") {
						if !hasLabel(now.families[name], m[1], value) {
							t.Errorf("%s has no series with %s=%q, in %s", name, m[1], value, expr)
						}
					}
				}
			}
		}
		for _, f := range metrics.Families() {
			if !shown[f.Name] {
				t.Errorf("%s is neither on the dashboard nor in a rule", f.Name)
			}
		}
	})
}

func hasLabel(family *dto.MetricFamily, name, value string) bool {
	return slices.ContainsFunc(family.GetMetric(), func(m *dto.Metric) bool {
		return slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == name && l.GetValue() == value })
	})
}

// TestPromtoolAcceptsTheFiguresAndTheRules has Prometheus's own tool judge them.
func TestPromtoolAcceptsTheFiguresAndTheRules(t *testing.T) {
	tool := promtool(t)
	t.Run(sqlite, func(t *testing.T) {
		r := use(t, sqlite)
		check := exec.CommandContext(r.ctx, tool, "check", "metrics")
		check.Stdin = bytes.NewReader(r.scrape().raw)
		if out, err := check.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
			t.Errorf("promtool does not like the figures: %v\n%s", err, out)
		}
		if out, err := exec.CommandContext(r.ctx, tool, "check", "rules", ops+"alerts.yaml").CombinedOutput(); err != nil {
			t.Errorf("promtool does not like the rules: %v\n%s", err, out)
		}
	})
}

// TestEachAlertFiresWhenItShouldAndNoneWhenAllIsWell has Prometheus's own tool play figures to the rules.
func TestEachAlertFiresWhenItShouldAndNoneWhenAllIsWell(t *testing.T) {
	rules := must(filepath.Abs(ops + "alerts.yaml"))(t)
	played := must(os.ReadFile("testdata/alerts_test.yaml"))(t)
	for _, alert := range regexp.MustCompile(`(?m)^ *- alert: (\w+)$`).FindAllSubmatch(must(os.ReadFile(rules))(t), -1) {
		if !bytes.Contains(played, []byte(`alertname="`+string(alert[1])+`"`)) {
			t.Errorf("%s is not played", alert[1])
		}
	}
	file := filepath.Join(t.TempDir(), "test.yaml")
	if err := os.WriteFile(file, bytes.Replace(played, []byte("RULES"), []byte(rules), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), promtool(t), "test", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("the rules do not fire as they should: %v\n%s", err, out)
	}
}

// promtool finds the tool, or skips.
func promtool(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("promtool"); err == nil {
		return path
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(home, ".cache")
	}
	found, err := filepath.Glob(filepath.Join(cache, "postern", "promtool-*", "promtool"))
	if err != nil || len(found) == 0 {
		const why = "SKIPPED: promtool is not there; ./build.sh setup takes it out of Debian's package prometheus"
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	return found[len(found)-1]
}

// TestReadinessKnowsHomeserverMediaStoreAndUsers takes each of them away in turn.
func TestReadinessKnowsHomeserverMediaStoreAndUsers(t *testing.T) {
	t.Run(sqlite, func(t *testing.T) {
		r := use(t, sqlite)
		r.restartWith(r.ctx, map[string]any{"network.health.patience": "1s"})
		r.connected(true)
		c := r.newChat()

		away := r.hs.AddFault(homeserver.Fault{Status: http.StatusBadGateway, Kind: "application/json", Body: `{}`, Users: func(id string) bool { return id != r.alice.UserID }})
		c.fromPhone(1) // so that something is asked
		r.notReady("homeserver: it answers with errors of its own")
		away()
		r.readyAgain()

		store := r.storeDir()
		r.ok(os.Rename(store, store+".away"))
		r.ok(os.WriteFile(store, nil, 0o600))
		r.notReady("media store: attachments cannot be stored")
		r.ok(os.Remove(store))
		r.ok(os.Rename(store+".away", store))
		r.readyAgain()

		back := strings.TrimPrefix(r.Gatekeeper.Info.ChatTCP, "tcp://")
		r.wire.goes("127.0.0.1:1") // nobody is there
		r.wire.hangUp()
		r.notReady("users are connected to their gatekeeper")
		if checks := r.scrape(); checks.sum("postern_check_ok", "check=users") != 0 || checks.sum("postern_ready") != 0 {
			t.Error("the figures say that the bridge is ready")
		}
		r.wire.goes(back)
		r.readyAgain()
		c.settled()
		c.check()
		r.restartWith(r.ctx, map[string]any{"network.health.patience": "5m"})
		r.connected(true)
	})
}
