package interop_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"postern/connector/interop"
	"postern/connector/jid"
	"postern/connector/stanza"
)

// logBuffer is a log that a test reads.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// count is how many lines have a text in them.
func (l *logBuffer) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// withLog has a bench's account log into l.
func (l *logBuffer) withLog(c *interop.Config) { c.Log = new(zerolog.New(l)) }

func TestADamagedPreKeyThatWasNeverOfferedIsReplaced(t *testing.T) {
	var damaged []interop.KeyRecord
	log := &logBuffer{}
	inBubbleWith(t, func(b *bench) {
		b.edit = log.withLog
		first := must(b.store.ReservePreKeyIDs(context.Background(), 3))
		damaged = []interop.KeyRecord{{ID: first}, {ID: first + 1, Record: []byte("short")}}
		whole := must(b.device.GeneratePreKeys(first+2, 1))[0]
		if err := b.store.PutPreKeys(context.Background(), append(damaged, interop.KeyRecord{ID: whole.ID, Record: whole.Marshal()})); err != nil {
			t.Fatal(err)
		}
	}, func(t *testing.T, b *bench) {
		left, _ := b.preKeysAtGate()
		if left != 200 {
			t.Fatalf("%d prekeys at the gatekeeper, want 200", left)
		}
		b.sees(func() {
			for _, k := range b.g.preKeys {
				if k.ID == damaged[0].ID || k.ID == damaged[1].ID {
					t.Errorf("prekey %d is damaged and was offered", k.ID)
				}
			}
			if b.g.preKeys[0].ID != damaged[1].ID+1 {
				t.Error("the one that is not damaged was not offered first")
			}
		})
		if rest := must(b.store.PreKeysToUpload(context.Background(), 10)); len(rest) != 0 {
			t.Errorf("%d prekeys are left that were not offered", len(rest))
		}
		if n := log.count("damaged"); n != 1 {
			t.Errorf("%d lines about it in the log, want 1", n)
		}
	})
}

func (b *bench) putSigned(created time.Time, record []byte) uint32 {
	b.t.Helper()
	id := must(b.store.ReserveSignedPreKeyID(context.Background()))
	if err := b.store.PutSignedPreKey(context.Background(), interop.KeyRecord{ID: id, Record: record, Created: created.UnixMilli()}); err != nil {
		b.t.Fatal(err)
	}
	return id
}

func TestADamagedSignedPreKeyIsReplacedAtOnceAndTheGatekeeperHasTheNewOne(t *testing.T) {
	for name, record := range map[string][]byte{"what does not open": nil, "what is no key": []byte("short")} {
		t.Run(name, func(t *testing.T) {
			var damaged uint32
			log := &logBuffer{}
			inBubbleWith(t, func(b *bench) {
				b.edit = log.withLog
				// From a clock that was ahead: it stays the newest by its time.
				damaged = b.putSigned(time.Now().Add(time.Hour), record)
				b.g.skey.ID = damaged
			}, func(t *testing.T, b *bench) {
				pass(time.Minute)
				b.sees(func() {
					if b.g.skey.ID == damaged || b.g.rotates != 1 {
						t.Errorf("the gatekeeper has signed prekey %d after %d rotations", b.g.skey.ID, b.g.rotates)
					}
					b.g.preKeys = nil
				})
				b.g.says(b.g.phone("1"), "A", "under the new key")
				settle()
				b.wantTexts("under the new key")
				pass(3 * 24 * time.Hour)
				if n := len(must(b.store.SignedPreKeys(context.Background()))); n != 3 {
					t.Errorf("%d signed prekeys, want the first, the damaged and one more", n)
				}
				if n := log.count("damaged"); n != 1 {
					t.Errorf("%d lines about it in the log, want 1", n)
				}
				pass(5 * 24 * time.Hour)
				b.sees(func() {
					if b.g.rotates != 2 {
						t.Errorf("%d rotations after eight days, want 2", b.g.rotates)
					}
				})
			})
		})
	}
}

func TestADamagedOlderSignedPreKeyStopsNeitherRotationNorRefill(t *testing.T) {
	inBubbleWith(t, func(b *bench) { b.putSigned(time.Now().Add(-time.Hour), nil) }, func(t *testing.T, b *bench) {
		if left, _ := b.preKeysAtGate(); left != 200 {
			t.Errorf("%d prekeys at the gatekeeper, want 200", left)
		}
		pass(8 * 24 * time.Hour)
		b.sees(func() {
			if b.g.rotates != 1+1 { // once announced again after the start, since there were two
				t.Errorf("%d rotations, want the first announcement and one more", b.g.rotates)
			}
		})
		pass(60 * 24 * time.Hour)
		for _, k := range must(b.store.SignedPreKeys(context.Background())) {
			if k.Record == nil {
				t.Error("the damaged one is there for ever")
			}
		}
	})
}

func TestAMessageUnderADamagedSignedPreKeyIsAskedForAndComes(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		keys := must(b.store.SignedPreKeys(context.Background()))
		if err := b.store.PutSignedPreKey(context.Background(), interop.KeyRecord{ID: keys[0].ID, Record: []byte("short"), Created: keys[0].Created}); err != nil {
			t.Fatal(err)
		}
		p := b.g.phone("1")
		b.g.says(p, "A", "hello")
		settle()
		b.wantTexts("hello")
		b.sees(func() {
			if len(p.retry) != 1 {
				t.Errorf("%d retry receipts, want 1", len(p.retry))
			}
		})
	})
}

// drain is somebody who fetches bundles and sends nothing.
func (b *bench) drain() {
	b.g.mu.Lock()
	defer b.g.mu.Unlock()
	b.g.preKeys = nil
	b.g.push(&stanza.Notification{ID: fmt.Sprint("n", time.Now().UnixNano()), From: jid.ServerJID, Type: "encrypt", Children: countChild(0)})
}

func TestPreKeysThatAreDrainedAreRefilledAtACappedRateAndTheOperatorIsTold(t *testing.T) {
	log := &logBuffer{}
	inBubbleWith(t, func(b *bench) { b.edit = log.withLog }, func(t *testing.T, b *bench) {
		const hours = 2
		start := time.Now()
		for time.Since(start) < hours*time.Hour {
			b.drain()
			pass(time.Minute)
		}
		_, uploads := b.preKeysAtGate()
		// Five in a row, then one in ten minutes.
		if most := 1 + 5 + hours*6 + 1; len(uploads) > most || len(uploads) < hours*6 {
			t.Errorf("%d uploads in %d hours of draining, want at most %d", len(uploads), hours, most)
		}
		if told, waits := log.count("without a message"), log.count("refill waits"); told != 1 || waits != 1 {
			t.Errorf("the operator is told %d times of the drain and %d times that the refill waits, want once each", told, waits)
		}
		if n := b.m.drains.Load(); n != 1 {
			t.Errorf("whoever runs the account is told %d times", n)
		}
		// Without a one-time prekey there is still the signed one.
		b.g.mu.Lock()
		b.g.preKeys = nil
		b.g.mu.Unlock()
		b.g.says(b.g.phone("1"), "A", "hello")
		settle()
		b.wantTexts("hello")
		// When the draining ends, the stock is soon whole.
		b.drain()
		pass(time.Hour)
		if left, _ := b.preKeysAtGate(); left < 100 {
			t.Errorf("%d prekeys an hour after the drain", left)
		}
	})
}

func TestPreKeysThatMessagesUseUpAreNoDrain(t *testing.T) {
	log := &logBuffer{}
	inBubbleWith(t, func(b *bench) { b.edit = log.withLog }, func(t *testing.T, b *bench) {
		for i := range 150 {
			b.g.says(b.g.phone(fmt.Sprint(i+1)), "A", "hello")
		}
		pass(time.Minute)
		b.g.breaks(fmt.Errorf("cut"))
		pass(time.Minute)
		if left, _ := b.preKeysAtGate(); left < 100 {
			t.Errorf("%d prekeys left", left)
		}
		if log.count("without a message") != 0 {
			t.Error("the operator is told of a drain that is none")
		}
	})
}

// TestASlowDrainIsNoticedOnceADay: each time that the gatekeeper is asked a few are missing.
func TestASlowDrainIsNoticedOnceADay(t *testing.T) {
	log := &logBuffer{}
	inBubbleWith(t, func(b *bench) { b.edit = log.withLog }, func(t *testing.T, b *bench) {
		for hour := range 48 {
			b.sees(func() { b.g.preKeys = b.g.preKeys[min(6, len(b.g.preKeys)):] })
			b.g.breaks(errors.New("cut")) // the next login asks
			pass(time.Hour)
			if n := log.count("without a message"); n > 2 || hour < 5 && n > 0 {
				t.Fatalf("after %d hours the operator is told %d times", hour+1, n)
			}
		}
		if n := log.count("without a message"); n != 2 {
			t.Errorf("the operator is told %d times in two days, want twice", n)
		}
	})
}
