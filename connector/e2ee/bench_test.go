package e2ee_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"slices"
	"testing"
	"time"
)

// benchText is the size of an ordinary text message with its protobuf.
const benchText = 160

// benchPair are two users of ours who know each other, over stores in memory that keep rows as bytes.
func benchPair(b *testing.B) (alice, bob *ourUser, text []byte) {
	b.Helper()
	alice, bob = newOurs(b), newOurs(b)
	acquaint(b, alice, bob)
	return alice, bob, make([]byte, benchText)
}

func BenchmarkEncrypt(b *testing.B) {
	alice, _, text := benchPair(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := alice.party.Signal.Encrypt(b.Context(), peerJID(2), text, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecryptSameChain(b *testing.B) {
	alice, bob, text := benchPair(b)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		m, err := alice.party.Signal.Encrypt(b.Context(), peerJID(2), text, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err = bob.party.Signal.Decrypt(b.Context(), peerJID(1), m.Type, m.Body, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStartSession(b *testing.B) {
	alice, bob, _ := benchPair(b)
	bundle := bob.bundle(true)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := alice.party.Signal.StartSession(b.Context(), peerJID(3), bundle, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecryptStep reads messages that each begin a ratchet step, in turns with three X25519 in the same run, which
// is the least a step can cost (two agreements and one key pair). x3DH is the ratio of the two medians: wall time of a
// shared machine moves, the ratio hardly does.
func BenchmarkDecryptStep(b *testing.B) {
	alice, bob, text := benchPair(b)
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	public := private.PublicKey()
	var steps, agreements []time.Duration
	for b.Loop() {
		for _, turn := range []struct {
			from, to   *ourUser
			peer, back int
		}{{alice, bob, 2, 1}, {bob, alice, 1, 2}} {
			m, err := turn.from.party.Signal.Encrypt(b.Context(), peerJID(turn.peer), text, nil)
			if err != nil {
				b.Fatal(err)
			}
			start := time.Now()
			err = turn.to.party.Signal.Decrypt(b.Context(), peerJID(turn.back), m.Type, m.Body, nil)
			steps = append(steps, time.Since(start))
			if err != nil {
				b.Fatal(err)
			}
			start = time.Now()
			for range 3 {
				if _, err = private.ECDH(public); err != nil {
					b.Fatal(err)
				}
			}
			agreements = append(agreements, time.Since(start))
		}
	}
	slices.Sort(steps)
	slices.Sort(agreements)
	step, three := steps[len(steps)/2], agreements[len(agreements)/2]
	b.ReportMetric(float64(step)/float64(three), "x3DH")
	b.ReportMetric(float64(step.Nanoseconds()), "ns/step")
	b.ReportMetric(0, "ns/op") // an op here is two turns with everything around them
}

// BenchmarkEncryptStock is the stock library over a store that keeps rows as bytes, for comparison.
func BenchmarkEncryptStock(b *testing.B) {
	alice, bob := newStock(b), newStock(b)
	acquaint(b, alice, bob)
	text := string(make([]byte, benchText))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := alice.encrypt(2, text); err != nil {
			b.Fatal(err)
		}
	}
}
