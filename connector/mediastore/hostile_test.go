package mediastore_test

import (
	"net"
	"net/http"
	"testing"

	"postern/connector/mediastore/mediastoretest"
)

func TestHostileRequestsGetNothingAndTouchNoFile(t *testing.T) {
	w := newWorld(t, filesBackend(t, t.TempDir()), 0)
	ref := ""
	for !mediastoretest.GoodReference(ref) {
		ref = w.put(t, "a", random(1, mediastoretest.ObjectSize)).Ref
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	below := http.StripPrefix("/media", w.Handler())
	server := &http.Server{MaxHeaderBytes: 32 << 10, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.URL.Path) < 7 || r.URL.Path[:7] != "/media/" {
			http.NotFound(w, r)
			return
		}
		below.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	mediastoretest.Hostile(t, listener.Addr().String(), ref)
	equal(t, "opened files: the one that is there, once to verify it", w.backend.opened.Load(), 2)
}
