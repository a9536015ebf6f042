package connector

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"postern/connector/issuer"
	"postern/connector/mediastore"
	"postern/connector/mediastore/mediastoretest"
	"postern/database"
	"postern/database/databasetest"
)

// countedOpens is a Backend that counts what is opened.
type countedOpens struct {
	mediastore.Backend
	opened atomic.Int64
}

func (b *countedOpens) Open(ctx context.Context, name mediastore.Name, offset, length int64) (io.ReadCloser, error) {
	b.opened.Add(1)
	return b.Backend.Open(ctx, name, offset, length)
}

// mediaStore is a store of files over the real index.
func mediaStore(t testing.TB, db *database.DB, dir string, quota int64, now func() time.Time) (*mediastore.Store, *countedOpens) {
	t.Helper()
	plain, err := mediastore.Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := &countedOpens{Backend: plain}
	store, err := mediastore.New(mediastore.Config{
		Backend: files, Index: mediaIndex{db.Media()}, Keep: 45 * 24 * time.Hour, QuotaBytes: quota, Log: zerolog.Nop(), Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return store, files
}

// fetch asks a handler for a reference and returns status and body.
func fetch(h http.Handler, ref string) (int, []byte) {
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, httptest.NewRequest("GET", "/"+ref, nil))
	return answer.Code, answer.Body.Bytes()
}

func storeText(text string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

func TestTheMediaStoreWorksOverTheDatabase(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx, now := t.Context(), time.Now()
		store, files := mediaStore(t, db, t.TempDir(), 100, func() time.Time { return now })
		put := func(owner, text string) *mediastore.Object {
			t.Helper()
			o, err := store.Put(ctx, owner, storeText(text))
			if err != nil {
				t.Fatal(err)
			}
			return o
		}
		check := func(o *mediastore.Object, status int) {
			t.Helper()
			if got, _ := fetch(store.Handler(), o.Ref); got != status {
				t.Errorf("%d, want %d", got, status)
			}
		}
		// In a transaction that fails, and in one that does not.
		o, undone := put("a", strings.Repeat("x", 60)), errors.New("undone")
		check(o, 404)
		for _, want := range []error{undone, nil} {
			err := db.Do(ctx, func(ctx context.Context) error { return errors.Join(store.Commit(ctx, o), want) })
			if !errors.Is(err, want) {
				t.Fatal(err)
			}
			check(o, map[bool]int{true: 404, false: 200}[want != nil])
		}
		if _, err := store.Put(ctx, "a", storeText(strings.Repeat("x", 41))); !errors.Is(err, mediastore.ErrQuota) {
			t.Errorf("over the quota: %v", err)
		}
		other := put("b", "other")
		if err := store.Commit(ctx, other); err != nil {
			t.Fatal(err)
		}
		if err := store.DeleteOwner(ctx, "b"); err != nil {
			t.Fatal(err)
		}
		check(other, 404)
		check(o, 200)
		if err := store.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		now = now.Add(45*24*time.Hour + time.Second)
		check(o, 404)
		if err := store.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		for range files.List(ctx) {
			t.Error("a file is left")
		}
		if rows, err := db.Media().After(ctx, nil, 10); err != nil || len(rows) != 0 {
			t.Errorf("%d rows left, %v", len(rows), err)
		}
	})
}

// crashDir, when set, makes this process the child of the test below: it stores until it is killed.
const crashDir = "POSTERN_TEST_CRASH"

// TestAProcessThatIsKilledLeavesAWholeStore kills a child in the middle of storing, several times on one store, and looks after each death:
// every row has all of its file, and what has no row goes.
func TestAProcessThatIsKilledLeavesAWholeStore(t *testing.T) {
	if dir := os.Getenv(crashDir); dir != "" {
		storeUntilKilled(t, dir)
		return
	}
	dir := t.TempDir()
	total := 0
	for round := range 4 {
		child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		child.Env = append(os.Environ(), crashDir+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		// Each line says that one more is committed. After some, in the midst of others:
		var refs []string
		for line := (lineReader{out}); len(refs) < 10+7*round; {
			ref, err := line.next()
			if err != nil {
				_ = child.Process.Kill()
				t.Fatalf("after %d: %v", len(refs), err)
			}
			if len(ref) == mediastore.RefLength {
				refs = append(refs, ref)
			}
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // it was killed
		total += checkCrashed(t, dir, refs)
	}
	t.Logf("%d files without a row were left and collected", total)
}

// lineReader reads lines a byte at a time, so that nothing is taken that belongs to a later one.
type lineReader struct{ io.Reader }

func (r lineReader) next() (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(r.Reader, b); err != nil || b[0] == '\n' {
			return string(line), err
		}
		line = append(line, b[0])
	}
}

func crashConfig(dir string) database.Config {
	return database.Config{Dialect: "sqlite3-fk-wal", URI: filepath.Join(dir, "postern.db"), Log: zerolog.Nop()}
}

func storeUntilKilled(t *testing.T, dir string) {
	db := databasetest.Open(t, crashConfig(dir))
	store, _ := mediaStore(t, db, filepath.Join(dir, "media"), 0, nil)
	for range 4 {
		go func() {
			block := make([]byte, 64<<10)
			for n := 1; ; n = n%7 + 1 {
				o, err := store.Put(context.Background(), "a", func(w io.Writer) error {
					for range n {
						_, _ = rand.Read(block[:1])
						if _, err := w.Write(block); err != nil {
							return err
						}
					}
					return nil
				})
				if err == nil {
					err = store.Commit(context.Background(), o)
				}
				if err != nil {
					fmt.Println("failed:", err)
					os.Exit(1)
				}
				fmt.Println(o.Ref)
			}
		}()
	}
	select {}
}

// checkCrashed looks at what a killed child has left, and returns how many files had no row.
func checkCrashed(t *testing.T, dir string, refs []string) (orphans int) {
	t.Helper()
	ctx := t.Context()
	db := databasetest.Open(t, crashConfig(dir))
	later := time.Now()
	store, files := mediaStore(t, db, filepath.Join(dir, "media"), 0, func() time.Time { return later })
	if left, err := os.ReadDir(filepath.Join(dir, "media", "tmp")); err != nil || len(left) != 0 {
		t.Errorf("temporary files after the start: %d, %v", len(left), err)
	}
	for _, ref := range refs {
		if status, _ := fetch(store.Handler(), ref); status != 200 {
			t.Errorf("what was committed is answered with %d", status)
		}
	}
	rows, err := db.Media().After(ctx, nil, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		blob, err := files.Open(ctx, row.RefHash, 0, row.Size)
		if err != nil {
			t.Errorf("a row without all of its file: %v", err)
			continue
		}
		hash := sha256.New()
		n, err := io.Copy(hash, blob)
		if err = errors.Join(err, blob.Close()); err != nil || n != row.Size || !bytes.Equal(hash.Sum(nil), row.SHA256[:]) {
			t.Errorf("a row whose file is another: %d of %d bytes, %v", n, row.Size, err)
		}
	}
	count := func() (n int) {
		for _, err := range files.List(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	orphans = count() - len(rows)
	if err := store.Sweep(ctx); err != nil || count() != len(rows)+orphans {
		t.Errorf("a sweep at once took files: %v", err)
	}
	later = later.Add(25 * time.Hour)
	if err := store.Sweep(ctx); err != nil || count() != len(rows) {
		t.Errorf("a day later %d files and %d rows, %v", count(), len(rows), err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	return orphans
}

// publicConnector is a Connector that has no more than the public listener needs.
func publicConnector(t *testing.T, base string) (*Connector, *countedOpens) {
	t.Helper()
	db := databasetest.Open(t, databasetest.SQLiteConfig(t))
	c := New()
	c.Config.Public.Base = base
	var err error
	if c.issuer, err = issuer.New(t.Context(), issuer.Config{Base: base, Store: db.IssuerKeys()}); err != nil {
		t.Fatal(err)
	}
	var files *countedOpens
	c.media, files = mediaStore(t, db, t.TempDir(), 0, nil)
	if c.pushes, err = c.newPushes(); err != nil {
		t.Fatal(err)
	}
	return c, files
}

// listen runs the public listener's server on a port of its own.
func listen(t *testing.T, server *http.Server) (address string) {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(socket) }()
	t.Cleanup(func() { server.Close() })
	return socket.Addr().String()
}

func TestThePublicListenerWithstandsHostileRequestsAndTouchesNoFile(t *testing.T) {
	c, files := publicConnector(t, "https://b.example")
	ref := ""
	for !mediastoretest.GoodReference(ref) {
		o, err := c.media.Put(t.Context(), "a", storeText(strings.Repeat("x", mediastoretest.ObjectSize)))
		if err == nil {
			err = c.media.Commit(t.Context(), o)
		}
		if err != nil {
			t.Fatal(err)
		}
		ref = o.Ref
	}
	mediastoretest.Hostile(t, listen(t, c.publicServer()), ref)
	if n := files.opened.Load(); n != 2 { // the one that is there, once to verify it
		t.Errorf("%d files were opened", n)
	}
}

func TestThePublicListenerHasKeysAndAttachmentsAndNothingElse(t *testing.T) {
	for _, base := range []string{"https://b.example", "https://b.example/third/party"} {
		c, _ := publicConnector(t, base)
		o, err := c.media.Put(t.Context(), "a", storeText("ciphertext"))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.media.Commit(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		parsed, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		for _, prefix := range []string{"", parsed.Path} { // the proxy may take the path away
			for path, want := range map[string]int{
				"/media/" + o.Ref: 200, issuer.PathJWKS: 200, issuer.PathDiscovery: 200, "/push": 405,
				"/push/": 404, "//push": 404, "/push/../push": 404, "/media/push": 404, "/": 404, "": 404, "/media": 404, "/media/": 404, "//media/" + o.Ref: 404, "/x/../media/" + o.Ref: 404, "/media/" + o.Ref + "/": 404,
				"/media/../media/" + o.Ref: 404, "/" + o.Ref: 404, "/media" + issuer.PathJWKS: 404, "/." + issuer.PathJWKS: 404, "/_matrix/client/versions": 404,
			} {
				if prefix+path == "" {
					continue
				}
				if status, body := fetch(c.publicHandler(), strings.TrimPrefix(prefix+path, "/")); status != want || (path == "/media/"+o.Ref && string(body) != "ciphertext") {
					t.Errorf("%s with %q before it: %d, want %d", strings.ReplaceAll(path, o.Ref, "REF"), prefix, status, want)
				}
			}
		}
	}
}

func TestThePublicListenerLetsADownloadTakeAsLongAsItMoves(t *testing.T) {
	c, _ := publicConnector(t, "https://b.example")
	server := c.publicServer()
	server.WriteTimeout = time.Millisecond // as if each download were a long one
	address := listen(t, server)
	o, err := c.media.Put(t.Context(), "a", storeText(strings.Repeat("x", 40<<20)))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.media.Commit(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + address + "/media/" + o.Ref)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != 40<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
}
