package faults_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"postern/bridge/parts"
	"postern/connector/killpoint"
)

// The row F-35 again: the store that the phone's attachments lie in is slow, full, or another server's.

// hold keeps the bridge at a point, the first time that it comes there, until release is called.
func (r *rig) hold(point string) (release func()) {
	r.t.Helper()
	held := r.orders + ".held"
	r.ok(os.WriteFile(held, nil, 0o600))
	r.order(r.orders, point+" 1 hold\n")
	return func() {
		if err := os.Remove(held); err != nil && !errors.Is(err, os.ErrNotExist) {
			r.t.Error(err)
		}
	}
}

// TestF35AStoreThatIsSlow: its disk takes its time with one file. What is behind that in its chat waits; other chats, with attachments too,
// do not notice.
func TestF35AStoreThatIsSlow(t *testing.T) {
	each(t, func(r *rig) {
		for _, point := range []string{killpoint.OutFileWritten, killpoint.OutFileNamed} {
			c, other := r.newChat(), r.newChat()
			release := r.hold(point)
			defer release()
			c.fileFromMatrix(false)
			c.fromMatrix(1)
			r.until("the bridge to come to "+point, func() bool {
				_, err := os.Stat(r.orders)
				return errors.Is(err, os.ErrNotExist)
			})
			other.fileFromMatrix(true)
			other.fromMatrix(1)
			other.fromPhone(1)
			other.check()
			c.fromPhone(1)
			for _, e := range r.phoneEvents(c.ben) {
				if e.Media != nil {
					r.t.Error("an attachment that is not stored is referred to")
				}
			}
			release()
			c.check()
		}
		r.tidy()
	})
}

// small makes a folder a file system of its own that holds so much, until the test is over.
func small(t *testing.T, dir string, size string) (unmount func()) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); errors.Is(err, os.ErrPermission) && os.Getenv("CI") != "true" {
		t.Skipf("NOT RUN: to mount a small disk takes root: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// TestF35AStoreThatIsFull: attachments wait, what is behind them too, and go out in order when there is room again. Texts of other chats go on, and
// no half of a file stays.
func TestF35AStoreThatIsFull(t *testing.T) {
	var unmount func()
	t.Cleanup(func() { // behind the bridge's end
		if unmount != nil {
			unmount()
		}
	})
	r := alone(t, sqlite, bound, nil)
	c, other := r.newChat(), r.newChat()
	r.ok(r.Bridge.Stop())
	unmount = small(t, r.storeDir(), "1m")
	r.ok(r.Bridge.Start(r.ctx))
	c.fileFromMatrix(true)
	c.settled()
	filler := filepath.Join(r.storeDir(), "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	from := r.logSize()
	c.fileFromMatrix(true)
	c.fromMatrix(1)
	c.fileFromMatrix(false)
	r.until("a second try", func() bool { return r.logged(from, "no space left on device") > 1 })
	other.fromMatrix(2)
	other.fromPhone(2)
	other.check()
	c.fromPhone(1)
	media := 0
	for _, e := range r.phoneEvents(c.ben) {
		if e.Media != nil {
			media++
		}
	}
	if media != 1 {
		t.Errorf("the phone has %d attachments while the disk is full, want the one from before", media)
	}
	r.ok(os.Remove(filler))
	c.check()
	r.tidy()
}

// objectStore is a MinIO server with a bucket and a proxy before it, which misbehaves.
type objectStore struct {
	*httptest.Server
	mu    sync.Mutex
	wrong func(w http.ResponseWriter, r *http.Request) (answered bool)
	asked int
}

const bucketOfTheTest = "attachments"

func newObjectStore(t *testing.T) (*objectStore, *parts.MinIO) {
	t.Helper()
	if _, err := parts.MinIOPath(); errors.Is(err, parts.ErrMissing) && os.Getenv("CI") != "true" {
		t.Skipf("NOT RUN against a real object store: %v", err)
	}
	server := must(parts.StartMinIO(t.Context(), t.TempDir()))(t)
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	client := must(minio.New(server.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, "")}))(t)
	if err := client.MakeBucket(t.Context(), bucketOfTheTest, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	s := &objectStore{}
	behind := &httputil.ReverseProxy{
		Director:     func(r *http.Request) { r.URL.Scheme, r.URL.Host = "http", server.Endpoint }, // the Host is signed
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		wrong := s.wrong
		s.mu.Unlock()
		if wrong == nil || !wrong(w, r) {
			behind.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s, server
}

// set makes it misbehave from now on, or no more with nil.
func (s *objectStore) set(wrong func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = 0
	if wrong == nil {
		s.wrong = nil
		return
	}
	s.wrong = func(w http.ResponseWriter, r *http.Request) bool {
		answered := wrong(w, r)
		if answered {
			s.note()
		}
		return answered
	}
}

// note counts a request to which it has misbehaved.
func (s *objectStore) note() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
}

func (s *objectStore) times() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// TestF35AnObjectStoreThatIsAwayFullOrSlow: attachments wait until it takes them, and go out in order; other chats go on meanwhile.
func TestF35AnObjectStoreThatIsAwayFullOrSlow(t *testing.T) {
	store, server := newObjectStore(t)
	r := alone(t, sqlite, 2*bound, map[string]any{
		"network.media.store": "s3", "network.media.s3.endpoint": strings.TrimPrefix(store.URL, "http://"), "network.media.s3.insecure": true,
		"network.media.s3.bucket": bucketOfTheTest, "network.media.s3.access_key": server.AccessKey, "network.media.s3.secret_key": server.SecretKey,
		"network.media.s3.region": "us-east-1",
	})
	other := r.newChat()
	said := func(status int, code string) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut && r.Method != http.MethodPost {
				return false
			}
			_, _ = io.Copy(io.Discard, r.Body) // or the connection is cut
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<Error><Code>"+code+"</Code><Message>no</Message></Error>")
			return true
		}
	}
	let := make(chan struct{})
	free := sync.OnceFunc(func() { close(let) })
	defer free()
	for _, c := range []struct {
		name  string
		wrong func(w http.ResponseWriter, r *http.Request) bool
	}{
		{"away", func(w http.ResponseWriter, _ *http.Request) bool {
			conn, _, err := w.(http.Hijacker).Hijack()
			return err == nil && conn.Close() == nil
		}},
		{"behind a proxy that does not reach it", said(http.StatusBadGateway, "BadGateway")},
		{"full", said(http.StatusInsufficientStorage, "XMinioStorageFull")},
		{"busy", said(http.StatusServiceUnavailable, "SlowDown")},
		{"slow", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut && r.Method != http.MethodPost {
				return false
			}
			store.note()
			select {
			case <-let:
			case <-r.Context().Done():
			}
			return false
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			chat := r.newChat()
			chat.fileFromMatrix(true)
			chat.settled()
			store.set(c.wrong)
			chat.fileFromMatrix(false)
			chat.fromMatrix(1)
			chat.fileFromMatrix(true)
			r.soon("a try", func() bool { return store.times() > 0 })
			other.fromMatrix(2)
			other.fromPhone(2)
			other.settled()
			media := 0
			for _, e := range r.phoneEvents(chat.ben) {
				if e.Media != nil {
					media++
				}
			}
			if media != 1 {
				t.Errorf("the phone has %d attachments meanwhile, want the one from before", media)
			}
			store.set(nil)
			if c.name == "slow" {
				free()
			}
			chat.fromPhone(1)
			chat.check()
			other.check()
		})
	}
}
