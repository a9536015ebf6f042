package mediastoretest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// notes is a test whose errors are looked at.
type notes struct {
	testing.TB
	errors []string
}

func (n *notes) Errorf(format string, args ...any) {
	n.errors = append(n.errors, fmt.Sprintf(format, args...))
}

const someRef = "aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789-_aBcDe"

func TestAListenerThatServesWhateverIsAskedForIsFoundOut(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Etag", `"x"`)
		_, _ = w.Write(make([]byte, ObjectSize))
	}))
	server.Config.ReadTimeout = time.Second // for requests that never end
	server.Start()
	defer server.Close()
	if !GoodReference(someRef) || GoodReference(strings.Repeat("a", 43)) {
		t.Fatal("a good reference is not told from another")
	}
	n := &notes{TB: t}
	Hostile(n, server.Listener.Addr().String(), someRef)
	found := strings.Join(n.errors, "\n")
	for _, what := range []string{": 200, want 404: ", ": 200, want 416: ", ": the answer has Etag"} {
		if !strings.Contains(found, what) {
			t.Errorf("nothing like %q among %d findings", what, len(n.errors))
		}
	}
}
