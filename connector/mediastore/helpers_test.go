package mediastore_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/rs/zerolog"

	"postern/connector/mediastore"
)

// memoryIndex is an Index without a disk. It counts what it is asked for.
type memoryIndex struct {
	mu      sync.Mutex
	rows    map[mediastore.Name]mediastore.Row
	lookups atomic.Int64
	failing atomic.Bool
}

func newIndex() *memoryIndex { return &memoryIndex{rows: map[mediastore.Name]mediastore.Row{}} }

var errIndex = errors.New("index is away")

func (x *memoryIndex) fail() error {
	if x.failing.Load() {
		return errIndex
	}
	return nil
}

func (x *memoryIndex) Add(_ context.Context, row mediastore.Row) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, known := x.rows[row.Name]; !known {
		x.rows[row.Name] = row
	}
	return x.fail()
}

func (x *memoryIndex) Get(_ context.Context, name mediastore.Name) (*mediastore.Row, error) {
	x.lookups.Add(1)
	x.mu.Lock()
	defer x.mu.Unlock()
	if row, ok := x.rows[name]; ok {
		return &row, x.fail()
	}
	return nil, x.fail()
}

func (x *memoryIndex) Used(_ context.Context, owner string) (sum int64, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, row := range x.rows {
		if row.Owner == owner {
			sum += row.Size
		}
	}
	return sum, x.fail()
}

func (x *memoryIndex) page(after *mediastore.Name, limit int, want func(mediastore.Row) bool) (list []mediastore.Row, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, row := range x.rows {
		if (after == nil || bytes.Compare(row.Name[:], after[:]) > 0) && want(row) {
			list = append(list, row)
		}
	}
	slices.SortFunc(list, func(a, b mediastore.Row) int { return bytes.Compare(a.Name[:], b.Name[:]) })
	return list[:min(limit, len(list))], x.fail()
}

func (x *memoryIndex) After(_ context.Context, name *mediastore.Name, limit int) ([]mediastore.Row, error) {
	return x.page(name, limit, func(mediastore.Row) bool { return true })
}

func (x *memoryIndex) Expired(_ context.Context, at time.Time, name *mediastore.Name, limit int) ([]mediastore.Row, error) {
	return x.page(name, limit, func(r mediastore.Row) bool { return !r.Expires.After(at) })
}

func (x *memoryIndex) OfOwner(_ context.Context, owner string, name *mediastore.Name, limit int) ([]mediastore.Row, error) {
	return x.page(name, limit, func(r mediastore.Row) bool { return r.Owner == owner })
}

func (x *memoryIndex) ExpireOwner(_ context.Context, owner string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for name, row := range x.rows {
		if row.Owner == owner {
			row.Expires = time.Time{}
			x.rows[name] = row
		}
	}
	return x.fail()
}

func (x *memoryIndex) Delete(_ context.Context, name mediastore.Name) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.rows, name)
	return x.fail()
}

func (x *memoryIndex) count() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.rows)
}

// watched is a Backend that counts what is opened and can be made to fail.
type watched struct {
	mediastore.Backend
	opened  atomic.Int64
	failing atomic.Pointer[error] // what Open, Delete and List return
}

func (b *watched) broken() error {
	if err := b.failing.Load(); err != nil {
		return *err
	}
	return nil
}

func (b *watched) Open(ctx context.Context, name mediastore.Name, offset, length int64) (io.ReadCloser, error) {
	b.opened.Add(1)
	if err := b.broken(); err != nil {
		return nil, err
	}
	return b.Backend.Open(ctx, name, offset, length)
}

func (b *watched) Delete(ctx context.Context, name mediastore.Name) error {
	if err := b.broken(); err != nil {
		return err
	}
	return b.Backend.Delete(ctx, name)
}

func (b *watched) List(ctx context.Context) iter.Seq2[mediastore.Stored, error] {
	if err := b.broken(); err != nil {
		return func(yield func(mediastore.Stored, error) bool) { yield(mediastore.Stored{}, err) }
	}
	return b.Backend.List(ctx)
}

// clock is a time that tests move.
type clock struct{ atomic.Pointer[time.Time] }

func newClock() *clock {
	c := &clock{}
	now := time.Now()
	c.Store(&now)
	return c
}

func (c *clock) now() time.Time { return *c.Load() }

func (c *clock) add(d time.Duration) {
	next := c.now().Add(d)
	c.Store(&next)
}

// world is a store with everything that tests hold on to.
type world struct {
	*mediastore.Store
	index   *memoryIndex
	backend *watched
	clock   *clock
}

func newWorld(t testing.TB, backend mediastore.Backend, quota int64) *world {
	t.Helper()
	w := &world{index: newIndex(), backend: &watched{Backend: backend}, clock: newClock()}
	var err error
	w.Store, err = mediastore.New(mediastore.Config{
		Backend: w.backend, Index: w.index, Keep: 45 * 24 * time.Hour, QuotaBytes: quota, Log: zerolog.Nop(), Now: w.clock.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func filesBackend(t testing.TB, dir string) mediastore.Backend {
	t.Helper()
	b, err := mediastore.Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// put stores and commits.
func (w *world) put(t testing.TB, owner string, content []byte) *mediastore.Object {
	t.Helper()
	o, err := w.Put(context.Background(), owner, writes(content))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	return o
}

func writes(content []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		for piece := range slices.Chunk(content, 64<<10) {
			if _, err := w.Write(piece); err != nil {
				return err
			}
		}
		return nil
	}
}

// random is content that does not repeat, always the same for a seed.
func random(seed uint64, size int) []byte {
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	b := make([]byte, size)
	_, _ = source.Read(b)
	return b
}

// names lists a backend.
func names(t testing.TB, b mediastore.Backend) (list []mediastore.Name) {
	t.Helper()
	for stored, err := range b.List(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, stored.Name)
	}
	return list
}

// read reads a span of a blob.
func read(t testing.TB, b mediastore.Backend, name mediastore.Name, offset, length int64) []byte {
	t.Helper()
	r, err := b.Open(context.Background(), name, offset, length)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	content, err := io.ReadAll(io.LimitReader(r, length))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// place is one kind of storage. open opens it, again and again on the same content; put lays something down that is not ours.
type place struct {
	open    func(t testing.TB) mediastore.Backend
	foreign func(t testing.TB, name string)
	temp    string // folder of temporary files
}

func filesPlace(t testing.TB) place {
	dir := t.TempDir()
	return place{
		open: func(t testing.TB) mediastore.Backend { return filesBackend(t, dir) },
		foreign: func(t testing.TB, name string) {
			path := filepath.Join(dir, filepath.FromSlash(name))
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
				t.Fatal(err)
			}
		},
		temp: filepath.Join(dir, "tmp"),
	}
}

const (
	fakeBucket = "attachments"
	fakePrefix = "postern"
)

func fakeS3Place(t testing.TB) place {
	memory := s3mem.New()
	if err := memory.CreateBucket(fakeBucket); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(memory, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	cfg := mediastore.S3Config{
		Endpoint: strings.TrimPrefix(server.URL, "http://"), Bucket: fakeBucket, Prefix: fakePrefix, Region: "eu-west-1",
		AccessKey: "some", SecretKey: "thing", Insecure: true, Spool: t.TempDir(), Log: zerolog.Nop(),
	}
	return place{
		open: func(t testing.TB) mediastore.Backend { return s3Backend(t, cfg) },
		foreign: func(t testing.TB, name string) {
			if _, err := memory.PutObject(fakeBucket, fakePrefix+"/"+name, nil, strings.NewReader("x"), 1, nil); err != nil {
				t.Fatal(err)
			}
		},
		temp: cfg.Spool,
	}
}

func s3Backend(t testing.TB, cfg mediastore.S3Config) mediastore.Backend {
	t.Helper()
	b, err := mediastore.S3(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// temporaries lists temporary files.
func (p place) temporaries(t testing.TB) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(p.temp)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// equal compares long contents without printing them.
func equal[T cmp.Ordered](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func same(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes that differ from the %d wanted", what, len(got), len(want))
	}
}

// everything says whether the long campaigns run.
func everything() bool { return os.Getenv("POSTERN_ALL") != "" }
