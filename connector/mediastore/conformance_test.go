package mediastore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"postern/bridge/parts"
	"postern/connector/mediastore"
)

// conformance is what every kind of storage has to do.
var conformance = []struct {
	name string
	run  func(t *testing.T, p place)
}{
	{"what is put comes back, whole and in spans", comesBack},
	{"a large object comes back", largeComesBack},
	{"what is not there is not found", notFound},
	{"an aborted write leaves nothing", abortLeavesNothing},
	{"a put that fails leaves nothing and the next one works", failedPutLeavesNothing},
	{"many at once do not disturb each other", manyAtOnce},
	{"a list is in order and has nothing foreign", listInOrder},
	{"deleting twice is no error", deleteTwice},
	{"temporary files are removed at the start and not while they are written", temporaryFiles},
	{"what has expired goes with its row", expiredGoes},
	{"a blob without a row goes after a day, a row without a blob at once", orphansGo},
	{"an owner's objects go, and nobody else's", ownerGoes},
	{"a store survives being opened again", opensAgain},
}

func TestFilesDoWhatAStorageHasToDo(t *testing.T) {
	for _, c := range conformance {
		t.Run(c.name, func(t *testing.T) { c.run(t, filesPlace(t)) })
	}
}

func TestAnObjectStoreDoesWhatAStorageHasToDo(t *testing.T) {
	for _, c := range conformance {
		t.Run(c.name, func(t *testing.T) { c.run(t, fakeS3Place(t)) })
	}
}

func TestARealObjectStoreDoesWhatAStorageHasToDo(t *testing.T) {
	server := startMinIO(t)
	for i, c := range conformance {
		t.Run(c.name, func(t *testing.T) { c.run(t, server.place(t, fmt.Sprintf("bucket-%d", i))) })
	}
}

func comesBack(t *testing.T, p place) {
	w := newWorld(t, p.open(t), 0)
	content := random(1, 100_003)
	o := w.put(t, "a", content)
	if len(o.Ref) != mediastore.RefLength || o.Size != int64(len(content)) {
		t.Errorf("object: %d characters, %d bytes", len(o.Ref), o.Size)
	}
	name := mediastore.NameOf(o.Ref)
	if there, err := w.backend.Exists(context.Background(), name); err != nil || !there {
		t.Errorf("exists: %v %v", there, err)
	}
	for _, span := range [][2]int64{{0, o.Size}, {0, 1}, {o.Size - 1, 1}, {4095, 8194}} {
		got := read(t, w.backend, name, span[0], span[1])
		same(t, fmt.Sprint("span ", span), got, content[span[0]:span[0]+span[1]])
	}
	if left := p.temporaries(t); len(left) != 0 {
		t.Errorf("temporary files: %v", left)
	}
}

// largeComesBack is over the sizes from which clients and servers like to work in parts.
func largeComesBack(t *testing.T, p place) {
	w := newWorld(t, p.open(t), 0)
	content := random(2, 16<<20+70_000)
	o := w.put(t, "a", content)
	name := mediastore.NameOf(o.Ref)
	same(t, "all of it", read(t, w.backend, name, 0, o.Size), content)
	same(t, "from the midst", read(t, w.backend, name, 16<<20-5, 10), content[16<<20-5:16<<20+5])
}

func notFound(t *testing.T, p place) {
	w := newWorld(t, p.open(t), 0)
	ctx := context.Background()
	unknown := mediastore.NameOf("nothing")
	if _, err := w.backend.Open(ctx, unknown, 0, 1); !errors.Is(err, mediastore.ErrNotFound) {
		t.Errorf("open: %v", err)
	}
	if there, err := w.backend.Exists(ctx, unknown); err != nil || there {
		t.Errorf("exists: %v %v", there, err)
	}
	o := w.put(t, "a", random(1, 100))
	for _, span := range [][2]int64{{0, 101}, {100, 1}, {1000, 5}, {99, 2}} {
		if r, err := w.backend.Open(ctx, mediastore.NameOf(o.Ref), span[0], span[1]); !errors.Is(err, mediastore.ErrNotFound) {
			t.Errorf("span %v over the end: %v", span, err)
			if err == nil {
				r.Close()
			}
		}
	}
}

func abortLeavesNothing(t *testing.T, p place) {
	b := p.open(t)
	pending, err := b.Create(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pending.Write(random(1, 1000)); err != nil {
		t.Fatal(err)
	}
	pending.Abort()
	pending.Abort()
	if left := p.temporaries(t); len(left) != 0 || len(names(t, b)) != 0 {
		t.Errorf("left: %v", left)
	}
}

func failedPutLeavesNothing(t *testing.T, p place) {
	w := newWorld(t, p.open(t), 0)
	ctx := context.Background()
	cause := errors.New("no more from the homeserver")
	ended, cancel := context.WithCancel(ctx)
	for name, c := range map[string]struct {
		ctx  context.Context
		fill func(io.Writer) error
		want error
	}{
		"fill fails at once":  {ctx, func(io.Writer) error { return cause }, cause},
		"fill writes nothing": {ctx, func(io.Writer) error { return nil }, mediastore.ErrEmpty},
		"fill fails after writing": {ctx, func(to io.Writer) error {
			_, err := to.Write(random(1, 300_000))
			return errors.Join(err, cause)
		}, cause},
		"the context ends": {ended, func(to io.Writer) error {
			cancel()
			_, _ = to.Write(random(1, 10)) // a fill that does not look at errors
			return nil
		}, context.Canceled},
	} {
		if o, err := w.Put(c.ctx, "a", c.fill); !errors.Is(err, c.want) || o != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	func() {
		defer func() { _ = recover() }()
		_, _ = w.Put(ctx, "a", func(io.Writer) error { panic("in fill") })
	}()
	if left, blobs := p.temporaries(t), names(t, w.backend); len(left) != 0 || len(blobs) != 0 || w.index.count() != 0 {
		t.Errorf("left: %v, %d blobs, %d rows", left, len(blobs), w.index.count())
	}
	w.put(t, "a", random(1, 10))
}

func manyAtOnce(t *testing.T, p place) {
	w := newWorld(t, p.open(t), 1<<30)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			content := random(uint64(i), 50_000+i)
			o, err := w.Put(context.Background(), fmt.Sprint("owner ", i%2), writes(content))
			if err == nil {
				err = w.Commit(context.Background(), o)
			}
			if err != nil {
				t.Error(err)
				return
			}
			same(t, "what was put", read(t, w.backend, mediastore.NameOf(o.Ref), 0, o.Size), content)
		})
	}
	group.Wait()
	if n := len(names(t, w.backend)); n != 8 || w.index.count() != 8 {
		t.Errorf("%d blobs, %d rows", n, w.index.count())
	}
}

func listInOrder(t *testing.T, p place) {
	w := newWorld(t, p.open(t), 0)
	before := time.Now().Add(-time.Minute)
	var want []mediastore.Name
	for i := range 12 {
		want = append(want, mediastore.NameOf(w.put(t, "a", random(uint64(i), 10)).Ref))
	}
	slices.SortFunc(want, func(a, b mediastore.Name) int { return bytes.Compare(a[:], b[:]) })
	other := mediastore.NameOf("other").String()
	for _, name := range []string{"readme.txt", "ab/cd/short", "ff/ff/" + other, other[:63], other + "0"} {
		p.foreign(t, name)
	}
	var got []mediastore.Name
	for stored, err := range w.backend.List(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		if stored.Modified.Before(before) || stored.Modified.After(time.Now().Add(time.Minute)) {
			t.Errorf("modified at %v", stored.Modified)
		}
		got = append(got, stored.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed %d names, want %d in order", len(got), len(want))
	}
	for range w.backend.List(context.Background()) {
		break // nobody has to read it to its end
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	complete := true
	for _, err := range w.backend.List(ended) {
		complete = complete && err == nil
	}
	if complete {
		t.Error("a list whose context had ended looks complete")
	}
}

func deleteTwice(t *testing.T, p place) {
	w := newWorld(t, p.open(t), 0)
	name := mediastore.NameOf(w.put(t, "a", random(1, 10)).Ref)
	for range 2 {
		if err := w.backend.Delete(context.Background(), name); err != nil {
			t.Error(err)
		}
	}
	if there, err := w.backend.Exists(context.Background(), name); there || err != nil {
		t.Errorf("exists: %v %v", there, err)
	}
}

func temporaryFiles(t *testing.T, p place) {
	b := p.open(t)
	pending, err := b.Create(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	content := random(1, 1000)
	if _, err := pending.Write(content); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(p.temp, "mine.txt")
	if err := os.WriteFile(mine, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Clean(context.Background()); err != nil {
		t.Fatal(err)
	}
	if left := p.temporaries(t); len(left) != 2 {
		t.Errorf("after cleaning while one is written: %v", left)
	}
	name := mediastore.NameOf("some")
	if err := pending.Commit(context.Background(), name); err != nil {
		t.Fatal(err)
	}
	same(t, "the one that was written", read(t, b, name, 0, 1000), content)
	if _, err := b.Create(context.Background()); err != nil { // a process that ends here
		t.Fatal(err)
	}
	p.open(t)
	if left := p.temporaries(t); !slices.Equal(left, []string{"mine.txt"}) {
		t.Errorf("after a start: %v", left)
	}
}

func expiredGoes(t *testing.T, p place) {
	w := newWorld(t, p.open(t), 0)
	ctx := context.Background()
	old := w.put(t, "a", random(1, 10))
	w.clock.add(44 * 24 * time.Hour)
	young := w.put(t, "a", random(2, 10))
	w.clock.add(24 * time.Hour)
	if err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if got := names(t, w.backend); !slices.Equal(got, []mediastore.Name{mediastore.NameOf(young.Ref)}) || w.index.count() != 1 {
		t.Errorf("%d blobs, %d rows", len(got), w.index.count())
	}
	if row, err := w.index.Get(ctx, mediastore.NameOf(old.Ref)); row != nil || err != nil {
		t.Errorf("row of what has expired: %v %v", row, err)
	}
}

func orphansGo(t *testing.T, p place) {
	w := newWorld(t, p.open(t), 0)
	ctx := context.Background()
	kept := w.put(t, "a", random(1, 10))
	lost := w.put(t, "a", random(2, 10))
	if err := w.backend.Delete(ctx, mediastore.NameOf(lost.Ref)); err != nil {
		t.Fatal(err)
	}
	orphan := mediastore.NameOf("of an earlier process")
	pending, err := w.backend.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pending.Write(random(3, 10)); err != nil {
		t.Fatal(err)
	}
	if err := pending.Commit(ctx, orphan); err != nil {
		t.Fatal(err)
	}
	w.clock.add(23 * time.Hour)
	if err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if row, err := w.index.Get(ctx, mediastore.NameOf(lost.Ref)); row != nil || err != nil {
		t.Errorf("row without a blob: %v %v", row, err)
	}
	if got := names(t, w.backend); len(got) != 2 {
		t.Errorf("after 23 hours: %d blobs", len(got))
	}
	w.clock.add(2 * time.Hour)
	if err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if got := names(t, w.backend); !slices.Equal(got, []mediastore.Name{mediastore.NameOf(kept.Ref)}) {
		t.Errorf("after 25 hours: %d blobs", len(got))
	}
}

func ownerGoes(t *testing.T, p place) {
	w := newWorld(t, p.open(t), 0)
	ctx := context.Background()
	for i := range 3 {
		w.put(t, "a", random(uint64(i), 10))
	}
	if _, err := w.Put(ctx, "a", writes(random(9, 10))); err != nil { // never committed
		t.Fatal(err)
	}
	stays := w.put(t, "b", random(5, 10))
	if err := w.DeleteOwner(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if got := names(t, w.backend); !slices.Equal(got, []mediastore.Name{mediastore.NameOf(stays.Ref)}) || w.index.count() != 1 {
		t.Errorf("%d blobs, %d rows", len(got), w.index.count())
	}
}

func opensAgain(t *testing.T, p place) {
	w := newWorld(t, p.open(t), 0)
	content := random(1, 1000)
	o := w.put(t, "a", content)
	again := p.open(t)
	same(t, "after opening again", read(t, again, mediastore.NameOf(o.Ref), 0, o.Size), content)
}

// minIO is a real server for one test.
type minIO struct{ *parts.MinIO }

func startMinIO(t testing.TB) minIO {
	t.Helper()
	if _, err := parts.MinIOPath(); errors.Is(err, parts.ErrMissing) && os.Getenv("CI") != "true" {
		t.Skipf("NOT RUN against a real object store: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := parts.StartMinIO(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return minIO{server}
}

// place is a fresh bucket.
func (m minIO) place(t testing.TB, bucket string) place {
	t.Helper()
	client := m.bucket(t, bucket)
	cfg := m.config(t, bucket)
	return place{
		open: func(t testing.TB) mediastore.Backend { return s3Backend(t, cfg) },
		foreign: func(t testing.TB, name string) {
			if err := client.put(fakePrefix+"/"+name, []byte("x")); err != nil {
				t.Fatal(err)
			}
		},
		temp: cfg.Spool,
	}
}

func (m minIO) config(t testing.TB, bucket string) mediastore.S3Config {
	return mediastore.S3Config{
		Endpoint: m.Endpoint, Bucket: bucket, Prefix: fakePrefix, AccessKey: m.AccessKey, SecretKey: m.SecretKey,
		Insecure: true, Spool: t.TempDir(), Log: zerolog.Nop(),
	}
}
