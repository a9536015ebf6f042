package metrics

import (
	"crypto/sha256"
	"crypto/subtle"
	"io"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Path is where the figures are.
const Path = "/metrics"

// scrapes is how many scrapes are answered at once.
const scrapes = 4

// Handler answers GET of Path in the text formats that Prometheus reads. With a token it answers only those who bring it
// (Authorization: Bearer …).
func (m *Metrics) Handler(token string) http.Handler {
	inner := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: log.New(io.Discard, "", 0), MaxRequestsInFlight: scrapes, Timeout: 10 * time.Second, EnableOpenMetrics: true,
	})
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		if token != "" {
			given, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			sum := sha256.Sum256([]byte(given))
			if subtle.ConstantTimeCompare(sum[:], want[:]) != 1 || !found {
				w.Header().Set("WWW-Authenticate", "Bearer")
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
		}
		inner.ServeHTTP(w, r)
	})
}
