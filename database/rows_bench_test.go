package database_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

// BenchmarkSession is what a message costs in Signal state: a session of 1,500 bytes read and stored again, of an account that has 2,000,
// alone and with 32 at once. cpu-µs is the processor time of the whole process.
func BenchmarkSession(b *testing.B) {
	for _, writers := range []int{1, 32} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			db := databasetest.Open(b, databasetest.SQLiteConfig(b))
			if err := db.Accounts().Put(b.Context(), &database.Account{ID: "a", Gatekeeper: "whatsapp", Identifier: "a"}); err != nil {
				b.Fatal(err)
			}
			s := db.Signal("a")
			session := make([]byte, 1500)
			address := func(i int64) string { return fmt.Sprintf("%d:1@lid", 49_000_000+i) }
			err := db.Do(b.Context(), func(ctx context.Context) error {
				for i := range int64(2000) {
					if err := s.Apply(ctx, database.SignalChange{Addr: address(i), Session: session, Identity: session[:32]}, nil); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
			var next atomic.Int64
			var wg sync.WaitGroup
			cpu := processorTime(b)
			b.ResetTimer()
			for range writers {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						addr := address(i % 2000)
						if _, _, err := s.LoadSession(b.Context(), addr); err != nil {
							b.Error(err)
						}
						if err := s.Apply(b.Context(), database.SignalChange{Addr: addr, Session: session}, nil); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric((processorTime(b)-cpu)/float64(b.N), "cpu-µs/op")
		})
	}
}

// processorTime is what the process has used, in microseconds.
func processorTime(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e3
}
