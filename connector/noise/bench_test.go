package noise

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"io"
	"syscall"
	"testing"
	"time"
)

// cpu returns the processor time used so far by this process.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ratio runs a and its bare counterpart turn and turn about and returns the quotient of
// their best processor times, which is far steadier on a shared machine than either.
func ratio(b *testing.B, rounds, n int, a, bare func(n int)) (float64, time.Duration) {
	b.Helper()
	best := [2]time.Duration{1 << 62, 1 << 62}
	for range rounds {
		for i, f := range []func(int){a, bare} {
			begun := cpu(b)
			f(n)
			best[i] = min(best[i], cpu(b)-begun)
		}
	}
	return float64(best[0]) / float64(best[1]), best[0] / time.Duration(n)
}

// BenchmarkFrameAgainstBareGCM gives the cost of a frame over that of the same
// encryption alone (goal PG-7: at most 1.10).
func BenchmarkFrameAgainstBareGCM(b *testing.B) {
	for _, size := range []int{64, 400, 4096} {
		name := map[int]string{64: "64 bytes", 400: "400 bytes", 4096: "4096 bytes"}[size]
		b.Run(name, func(b *testing.B) {
			key, plaintext := make([]byte, KeySize), make([]byte, size)
			cs, err := newCipherState(key)
			if err != nil {
				b.Fatal(err)
			}
			out := newConn(nil, io.Discard, nil, cs, 0)
			block, err := aes.NewCipher(key)
			if err != nil {
				b.Fatal(err)
			}
			aead, err := cipher.NewGCM(block)
			if err != nil {
				b.Fatal(err)
			}
			nonce, buf, counter := make([]byte, 12), make([]byte, 0, size+64), uint64(0)
			r, each := ratio(b, 9, 200_000, func(n int) {
				for range n {
					if err := out.WriteFrame(plaintext); err != nil {
						b.Fatal(err)
					}
				}
			}, func(n int) {
				for range n {
					binary.BigEndian.PutUint64(nonce[4:], counter)
					counter++
					buf = aead.Seal(buf[:0], nonce, plaintext, nil)
				}
			})
			b.ReportMetric(r, "ratio")
			b.ReportMetric(float64(each.Nanoseconds()), "cpu-ns/frame")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func BenchmarkWriteFrame(b *testing.B) {
	cs, err := newCipherState(make([]byte, KeySize))
	if err != nil {
		b.Fatal(err)
	}
	out, plaintext := newConn(nil, io.Discard, nil, cs, 0), make([]byte, 400)
	b.ReportAllocs()
	b.SetBytes(400)
	for b.Loop() {
		if err := out.WriteFrame(plaintext); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadFrame(b *testing.B) {
	out, in, w := oneWay(b, MaxFrame)
	plaintext := make([]byte, 400)
	b.ReportAllocs()
	b.SetBytes(400)
	for b.Loop() {
		w.Reset()
		if err := out.WriteFrame(plaintext); err != nil {
			b.Fatal(err)
		}
		if _, err := in.ReadFrame(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHandshakeAgainstBareKeyAgreement gives the cost of each side of a handshake
// over that of its key agreements alone (a key pair drawn, three shared secrets).
func BenchmarkHandshakeAgainstBareKeyAgreement(b *testing.B) {
	p := fuzzParty(b)
	toServer, toClient := recordHandshake(b, p)
	bare := func(n int) {
		for range n {
			key, err := ecdh.X25519().GenerateKey(rand.Reader)
			if err != nil {
				b.Fatal(err)
			}
			for range 3 {
				if _, err := key.ECDH(key.PublicKey()); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	for name, side := range map[string]func() error{
		"client": func() error {
			_, err := Client(context.Background(), script{bytes.NewReader(toClient)}, p.fuzzClient())
			return err
		},
		"server": func() error {
			_, _, err := Server(context.Background(), script{bytes.NewReader(toServer)}, p.fuzzServer())
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			r, each := ratio(b, 9, 100, func(n int) {
				for range n {
					if err := side(); err != nil {
						b.Fatal(err)
					}
				}
			}, bare)
			b.ReportMetric(r, "ratio")
			b.ReportMetric(float64(each.Microseconds()), "cpu-µs/handshake")
			b.ReportMetric(0, "ns/op")
		})
	}
}
