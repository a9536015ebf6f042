package doctor

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"maunium.net/go/mautrix/bridgev2/bridgeconfig"
)

func TestABridgeThatIsNotReadySaysWhy(t *testing.T) {
	status, body := http.StatusOK, `{"ready":true,"reasons":[]}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/_matrix/mau/ready" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body)) // kept in memory
	}))
	defer server.Close()
	cfg := &bridgeconfig.Config{}
	address, ok := server.Listener.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal("no address")
	}
	cfg.AppService.Hostname, cfg.AppService.Port = "0.0.0.0", uint16(address.Port)
	e := &examination{Subject: &Subject{Config: cfg}, runs: true}
	if got := lookAtReadiness(t.Context(), e)[0]; got.State != OK {
		t.Errorf("%+v", got)
	}
	status, body = http.StatusServiceUnavailable, `{"ready":false,"reasons":["database: no room on the disk\n"]}`
	if got := lookAtReadiness(t.Context(), e)[0]; got.State != Failed || !strings.Contains(got.Finding, "no room on the disk") || strings.Contains(got.Finding, "\n") {
		t.Errorf("%+v", got)
	}
	server.Close()
	if got := lookAtReadiness(t.Context(), e)[0]; got.State != Failed || got.Remedy == "" {
		t.Errorf("%+v", got)
	}
	e.runs = false
	if got := lookAtReadiness(t.Context(), e)[0]; got.State != Skipped {
		t.Errorf("%+v", got)
	}
}

func TestThePasswordOfADatabaseIsFoundInEachForm(t *testing.T) {
	for _, uri := range []string{
		"postgres://user:secret-word@host/db?sslmode=disable", "postgres://user:secret-word@host:5432/db", "host=h user=u password=secret-word dbname=d",
		"host=h password='secret-word'", "postgres://host/db?user=u&password=secret-word&sslmode=disable",
	} {
		found := false
		for _, secret := range databaseSecrets(uri) {
			found = found || secret == "secret-word"
		}
		if !found {
			t.Errorf("not found in %s", uri)
		}
	}
}
