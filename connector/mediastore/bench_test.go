package mediastore_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// BenchmarkServing has the cost of the standard library's handler for a plain file divided by that of ours for the same content, over
// loopback, in turns in one run: CPU time of both ends, since the machine does other things too.
func BenchmarkServing(b *testing.B) {
	for _, size := range []int{64 << 10, 1 << 20, 16 << 20, 128 << 20} {
		name := map[int]string{64 << 10: "64KiB", 1 << 20: "1MiB", 16 << 20: "16MiB", 128 << 20: "128MiB"}[size]
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, filesBackend(b, b.TempDir()), 0)
			content := random(1, size)
			o := w.put(b, "a", content)
			plain := filepath.Join(b.TempDir(), "plain")
			if err := os.WriteFile(plain, content, 0o600); err != nil {
				b.Fatal(err)
			}
			ours := httptest.NewServer(w.Handler())
			defer ours.Close()
			// What is said about the content is the same on both sides.
			headers := []string{"Content-Type", "ETag", "Cache-Control", "X-Content-Type-Options"}
			same, err := http.Head(ours.URL + "/" + o.Ref)
			if err != nil {
				b.Fatal(err)
			}
			theirs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				file, err := os.Open(plain)
				if err != nil {
					b.Error(err)
					return
				}
				defer file.Close()
				for _, name := range headers {
					w.Header().Set(name, same.Header.Get(name))
				}
				http.ServeContent(w, r, "", time.Time{}, file)
			}))
			defer theirs.Close()
			fetch := func(url string) time.Duration {
				begin := cpu(b)
				resp, err := http.Get(url)
				if err != nil {
					b.Fatal(err)
				}
				defer resp.Body.Close()
				if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(size) {
					b.Fatalf("%d bytes, %v", n, err)
				}
				return cpu(b) - begin
			}
			var mine, other []time.Duration
			turns := max(1, 256<<20/size/4)
			for b.Loop() {
				for range turns {
					mine = append(mine, fetch(ours.URL+"/"+o.Ref))
					other = append(other, fetch(theirs.URL), fetch(theirs.URL))
					mine = append(mine, fetch(ours.URL+"/"+o.Ref))
				}
			}
			b.ReportMetric(0, "ns/op")
			slices.Sort(mine)
			slices.Sort(other)
			one := mine[len(mine)/2].Seconds()
			b.ReportMetric(other[len(other)/2].Seconds()/one, "of-ServeContent")
			b.ReportMetric(float64(size)/1e6/one, "MB/cpu-s")
		})
	}
}

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
