package media

import (
	"bytes"
	"crypto/rand"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// openssl returns what `openssl speed` gives for one algorithm on pieces as long as
// ours, in bytes a second.
func openssl(b *testing.B, args ...string) float64 {
	b.Helper()
	args = append([]string{"speed", "-mr", "-seconds", "1", "-bytes", strconv.Itoa(chunk)}, args...)
	out, err := exec.Command("openssl", args...).Output()
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Split(strings.TrimSpace(line), ":"); fields[0] == "+F" {
			speed, err := strconv.ParseFloat(fields[len(fields)-1], 64)
			if err != nil {
				b.Fatal(err)
			}
			return speed
		}
	}
	b.Fatalf("openssl said %q", out)
	return 0
}

// BenchmarkMedia gives the speed of encrypting and decrypting 16 MiB over that of
// openssl's primitives one after the other on one core: AES-256-CBC, and SHA-256 three times, for the plaintext's hash,
// the file's, and the MAC. Both take turns; the best of each counts. The goal is at least 0.90.
func BenchmarkMedia(b *testing.B) {
	needOpenssl(b)
	const size, rounds = 16 << 20, 3
	plain := make([]byte, size)
	_, _ = rand.Read(plain)
	file, d := encrypted(b, plain, Video)
	for _, direction := range []struct {
		name string
		args []string
		run  func() error
	}{
		{"encrypt", []string{"-evp", "aes-256-cbc"}, func() error {
			_, err := Encrypt(io.Discard, bytes.NewReader(plain), Video, testKey())
			return err
		}},
		{"decrypt", []string{"-decrypt", "-evp", "aes-256-cbc"}, func() error {
			return Decrypt(io.Discard, bytes.NewReader(file), d.EncLength, d)
		}},
	} {
		b.Run(direction.name, func(b *testing.B) {
			var best, aes, sha, mac float64
			for b.Loop() {
				for range rounds {
					aes = max(aes, openssl(b, direction.args...))
					sha = max(sha, openssl(b, "-evp", "sha256"))
					mac = max(mac, openssl(b, "-hmac", "sha256"))
					for range 40 {
						begun := time.Now()
						if err := direction.run(); err != nil {
							b.Fatal(err)
						}
						best = max(best, size/time.Since(begun).Seconds())
					}
				}
			}
			serial := 1 / (1/aes + 2/sha + 1/mac)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(best/1e6, "MB/s")
			b.ReportMetric(serial/1e6, "openssl-MB/s")
			b.ReportMetric(best/serial, "of-openssl")
			pieces := float64(size / chunk)
			b.ReportMetric(testing.AllocsPerRun(1, func() { _ = direction.run() })/pieces, "allocs/piece")
		})
	}
}
