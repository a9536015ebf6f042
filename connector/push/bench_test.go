package push

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// BenchmarkPushes is what one push costs, by what it is.
func BenchmarkPushes(b *testing.B) {
	g := newGate(b)
	for name, authorization := range map[string]string{
		"good": "Bearer " + g.good(), "forged": "Bearer " + sign(keys()["unpublished"], header("one"), claims(g.now)),
		"unknown key": "Bearer " + sign(keys()["unpublished"], header("made-up"), claims(g.now)), "garbage": "Bearer x.y.z",
	} {
		b.Run(name, func(b *testing.B) {
			g.post(authorization, body) // the first may fetch the keys
			b.ReportAllocs()
			for b.Loop() {
				g.post(authorization, body)
			}
		})
	}
}

// BenchmarkOthersDuringAFlood says how much later an answer to somebody else comes while 1,000 forged and repeated pushes a
// second come in, measured side by side: rounds with the flood take turns with rounds without.
func BenchmarkOthersDuringAFlood(b *testing.B) {
	g := newGate(b)
	mux := http.NewServeMux()
	mux.Handle(Path, g)
	mux.HandleFunc("/other", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(socket) }()
	defer server.Close()
	at := "http://" + socket.Addr().String()
	tokens := []string{g.good(), sign(keys()["unpublished"], header("one"), claims(g.now)), sign(keys()["unpublished"], header("x"), claims(g.now)), "x.y.z"}
	ask := func() time.Duration {
		begun := time.Now()
		res, err := http.Get(at + "/other")
		if err != nil {
			b.Fatal(err)
		}
		res.Body.Close()
		return time.Since(begun)
	}
	var quiet, flooded []time.Duration
	sent := 0
	for b.Loop() {
		for begun := time.Now(); time.Since(begun) < time.Second/2; time.Sleep(5 * time.Millisecond) {
			quiet = append(quiet, ask())
		}
		var all sync.WaitGroup
		stop := make(chan struct{})
		for n := range 4 {
			all.Go(func() {
				tick := time.NewTicker(4 * time.Millisecond) // 250 a second
				defer tick.Stop()
				for {
					select {
					case <-stop:
						return
					case <-tick.C:
					}
					req, _ := http.NewRequest(http.MethodPost, at+Path, strings.NewReader(body))
					req.Header.Set("Authorization", "Bearer "+tokens[n])
					if res, err := http.DefaultClient.Do(req); err == nil {
						res.Body.Close()
					}
				}
			})
		}
		before := g.Counts()
		for begun := time.Now(); time.Since(begun) < time.Second/2; time.Sleep(5 * time.Millisecond) {
			flooded = append(flooded, ask())
		}
		close(stop)
		all.Wait()
		after := g.Counts()
		sent += int(after.Good + after.Refused + after.Unchecked - before.Good - before.Refused - before.Unchecked)
	}
	slices.Sort(quiet)
	slices.Sort(flooded)
	b.ReportMetric(float64(flooded[len(flooded)/2])/float64(quiet[len(quiet)/2]), "median-ratio")
	b.ReportMetric(float64(sent)/(float64(b.N)/2), "pushes/s")
}
