package database_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/database"
	"postern/database/databasetest"
)

// rawSync measures the disk itself: 4 KiB appended and fdatasync, again and again for at least d, in the
// folder of the database. The figure is per second.
func rawSync(b *testing.B, dir string, d time.Duration) float64 {
	b.Helper()
	file, err := os.Create(filepath.Join(dir, "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	block := make([]byte, 4096)
	n := 0
	start := time.Now()
	for time.Since(start) < d {
		if _, err := file.Write(block); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(file.Fd())); err != nil {
			b.Fatal(err)
		}
		n++
	}
	return float64(n) / time.Since(start).Seconds()
}

// benchDo lets so many goroutines call Do, each time with one inserted row of a message's size, and
// prints commits a second as a multiple of raw fdatasync calls a second, measured before and after in the same run.
func benchDo(b *testing.B, cfg database.Config, dir string, goroutines int) {
	db := databasetest.Open(b, cfg)
	if _, err := db.Raw().Exec(b.Context(), "CREATE TABLE message (id BIGINT PRIMARY KEY, body bytea NOT NULL)"); err != nil {
		b.Fatal(err)
	}
	body := make([]byte, 300)
	before := rawSync(b, dir, 300*time.Millisecond)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range goroutines {
		wg.Go(func() {
			for {
				id := next.Add(1)
				if id > int64(b.N) {
					return
				}
				err := db.Do(context.Background(), func(ctx context.Context) error {
					_, err := db.Raw().Exec(ctx, "INSERT INTO message (id, body) VALUES ($1, $2)", id, body)
					return err
				})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	rate := float64(b.N) / b.Elapsed().Seconds()
	after := rawSync(b, dir, 300*time.Millisecond)
	raw := (before + after) / 2
	b.ReportMetric(rate, "durable/s")
	b.ReportMetric(raw, "fdatasync/s")
	b.ReportMetric(rate/raw, "x-raw")
}

func BenchmarkDo(b *testing.B) {
	for _, c := range []struct {
		name       string
		goroutines int
	}{{"1", 1}, {"8", 8}, {"64", 64}} {
		b.Run("SQLite/goroutines="+c.name, func(b *testing.B) {
			cfg := databasetest.SQLiteConfig(b)
			benchDo(b, cfg, filepath.Dir(cfg.URI), c.goroutines)
		})
		b.Run("Postgres/goroutines="+c.name, func(b *testing.B) {
			benchDo(b, databasetest.PostgresConfig(b), b.TempDir(), c.goroutines)
		})
	}
}

func BenchmarkSeal(b *testing.B) {
	db := databasetest.Open(b, databasetest.SQLiteConfig(b))
	plaintext := make([]byte, 300)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := db.Unseal("t.c", "row", 1, db.Seal("t.c", "row", 1, plaintext)); err != nil {
			b.Fatal(err)
		}
	}
}
