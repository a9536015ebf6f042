package mediastore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"postern/connector/mediastore"
)

// bucketClient is another client of a server, for what the store itself does not do.
type bucketClient struct {
	*minio.Client
	name string
}

// bucket makes a bucket.
func (m minIO) bucket(t testing.TB, name string) bucketClient {
	t.Helper()
	client, err := minio.New(m.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(m.AccessKey, m.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.MakeBucket(context.Background(), name, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	return bucketClient{client, name}
}

func (c bucketClient) put(key string, content []byte) error {
	_, err := c.PutObject(context.Background(), c.name, key, bytes.NewReader(content), int64(len(content)), minio.PutObjectOptions{})
	return err
}

func TestAnObjectStoreThatRefusesUsIsSaidAtTheStart(t *testing.T) {
	server := startMinIO(t)
	server.bucket(t, "there")
	cfg := server.config(t, "there")
	if _, err := mediastore.S3(t.Context(), cfg); err != nil {
		t.Errorf("right keys: %v", err)
	}
	wrong := cfg
	wrong.SecretKey = "wrong-secret"
	if _, err := mediastore.S3(t.Context(), wrong); err == nil || !strings.Contains(err.Error(), "keys") {
		t.Errorf("a wrong secret: %v", err)
	}
	nowhere := cfg
	nowhere.Bucket = "not-there"
	if _, err := mediastore.S3(t.Context(), nowhere); err == nil || !strings.Contains(err.Error(), "bucket") {
		t.Errorf("a bucket that is not there: %v", err)
	}
}

func TestAnObjectStoreThatCannotBeReachedDoesNotKeepTheBridgeFromStarting(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	backend, err := mediastore.S3(t.Context(), mediastore.S3Config{
		Endpoint: address, Bucket: "b-1", AccessKey: "a", SecretKey: "b", Region: "x", Insecure: true, Spool: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, backend, 0)
	if _, err := w.Put(t.Context(), "a", writes([]byte("x"))); err == nil {
		t.Error("stored in a place that is not there")
	}
	if left, err := w.Put(t.Context(), "a", func(io.Writer) error { return errIndex }); !errors.Is(err, errIndex) {
		t.Errorf("put: %v %v", left, err)
	}
}

// TestALargeUploadNeedsNoMoreMemoryThanASmallOne measures the live heap all the time while objects go to a server that is another
// process. POSTERN_ALL makes the large one 1 GiB.
func TestALargeUploadNeedsNoMoreMemoryThanASmallOne(t *testing.T) {
	server := startMinIO(t)
	w := newWorld(t, server.place(t, "memory").open(t), 0)
	large := int64(96 << 20)
	if everything() {
		large = 1 << 30
	}
	w.put(t, "a", random(1, 17<<20)) // whatever is made once is there from now on
	small := peak(func() {
		for range 64 { // so that collections fall into all that one does
			w.stream(t, 1<<20)
		}
	})
	most := peak(func() { w.stream(t, large) })
	if most-small > 256<<10 {
		t.Errorf("%d MiB needs %d bytes more than 1 MiB", large>>20, most-small)
	}
	t.Logf("%d MiB: %d bytes more than 1 MiB", large>>20, most-small)
}

// stream puts and reads back that many bytes without having them.
func (w *world) stream(t testing.TB, size int64) {
	block := random(7, 64<<10)
	o, err := w.Put(context.Background(), "a", func(to io.Writer) error {
		for n := int64(0); n < size; n += int64(len(block)) {
			if _, err := to.Write(block); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
		return
	}
	hash := sha256.New()
	r, err := w.backend.Open(context.Background(), mediastore.NameOf(o.Ref), 0, o.Size)
	if err == nil {
		_, err = io.CopyBuffer(struct{ io.Writer }{hash}, r, make([]byte, 32<<10))
		err = errors.Join(err, r.Close())
	}
	if err != nil || [32]byte(hash.Sum(nil)) != o.SHA256 {
		t.Errorf("read back: %v", err)
	}
}

// peak is the most bytes that were alive on the heap while f ran, as collections that follow each other have found.
func peak(f func()) (most int64) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			runtime.GC()
			metrics.Read(live)
			most = max(most, int64(live[0].Value.Uint64()))
			select {
			case <-done:
				return
			default:
			}
		}
	})
	f()
	close(done)
	watch.Wait()
	return most
}
