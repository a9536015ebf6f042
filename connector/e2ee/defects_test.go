package e2ee_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"postern/connector/e2ee"
	"postern/connector/e2ee/e2eetest"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/libsignal/logger"
	"google.golang.org/protobuf/encoding/protowire"
)

// Each test here is named after a weakness found in the stock library (the numbers are those of the project's wire notes,
// "hazard" those of its anchors) and shows two things: the stock library, used as documented, still has it, so the
// defence is still needed; and with this package it is gone. If the first half fails after an upgrade of libsignal, the
// library has been mended: say so here, and keep the second half.

// lateMessage runs the race of two sessions: a newer session exists on both sides when a message of the older one
// arrives. It returns what reading the newer session's next message gives.
func lateMessage(t testing.TB, a, b user) error {
	t.Helper()
	acquaint(t, a, b)
	late := mustEncrypt(t, a, 2, "late")
	mustStart(t, b, 1, a.bundle(true)) // the newer session
	mustRead(t, a, 2, mustEncrypt(t, b, 1, "anew"), "anew")
	next := mustEncrypt(t, a, 2, "in the newer session")
	mustRead(t, b, 1, late, "late")
	text, err := b.decrypt(1, next)
	if err == nil && text != "in the newer session" {
		t.Fatal("read as another text")
	}
	return err
}

func TestDefect1AndHazardStateEditedBeforeMACALateMessageLeavesTheNewerSessionWhole(t *testing.T) {
	if err := lateMessage(t, newStock(t), newStock(t)); err == nil {
		t.Error("the stock library reads the newer session after a late message: it has been mended")
	}
	ours := newOurs(t)
	if err := lateMessage(t, newStock(t), ours); err != nil {
		t.Errorf("the newer session was harmed: %v", err)
	}
	if err := lateMessage(t, newOurs(t), newOurs(t)); err != nil {
		t.Errorf("the newer session was harmed: %v", err)
	}
}

func TestDefect2TheMACIsCheckedOverTheBytesAsReceived(t *testing.T) {
	unknown := protowire.AppendBytes(protowire.AppendTag(nil, 99, protowire.BytesType), []byte("from a later version"))
	cases := []struct {
		name      string
		change    func(h *handmade)
		stockFail bool
	}{
		{"as libsignal writes it", func(*handmade) {}, false},
		{"version byte 0x34", func(h *handmade) { h.version = 0x34 }, true},
		{"version byte 0x3f", func(h *handmade) { h.version = 0x3f }, true},
		{"an unknown field", func(h *handmade) { h.unknown = unknown }, true},
		{"both", func(h *handmade) { h.version, h.unknown = 0x34, unknown }, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, first := range []bool{true, false} {
				run := func(receiver user) error {
					sender := newStock(t)
					mustStart(t, sender, 2, receiver.bundle(true))
					if !first {
						mustRead(t, receiver, 1, mustEncrypt(t, sender, 2, "hello"), "hello")
						mustRead(t, sender, 2, mustEncrypt(t, receiver, 1, "hello"), "hello")
					}
					text, err := receiver.decrypt(1, sender.handmade(2, c.change))
					if err == nil && text != "by hand" {
						t.Fatal("read as another text")
					}
					return err
				}
				if err := run(newStock(t)); (err != nil) != c.stockFail {
					t.Errorf("first message %v: the stock library gives %v", first, err)
				}
				if err := run(newOurs(t)); err != nil {
					t.Errorf("first message %v: we give %v", first, err)
				}
			}
		})
	}
}

func TestDefect3AndHazardIdentitySavedBeforeAuthenticationAnIdentityIsStoredOnlyAfterTheMAC(t *testing.T) {
	run := func(receiver user) (identityStored bool) {
		sender := newStock(t)
		mustStart(t, sender, 2, receiver.bundle(true))
		broken := sender.handmade(2, func(h *handmade) { h.keys.mac = make([]byte, 32) })
		if _, err := receiver.decrypt(1, broken); err == nil {
			t.Fatal("a message with a wrong MAC was read")
		}
		return receiver.hasIdentity(1)
	}
	if !run(newStock(t)) {
		t.Error("the stock library stores no unauthenticated identity: it has been mended")
	}
	ours := newOurs(t)
	before := len(ours.mem.Snapshot())
	if run(ours) {
		t.Error("an identity was stored though the message did not verify")
	}
	if got := len(ours.mem.Snapshot()) - before; got != 2 {
		t.Errorf("the store has %d new rows, want the two prekeys of the bundle alone", got)
	}
}

// counterOf reads the counter and the ratchet key of a message within a session.
func counterOf(t testing.TB, m e2ee.Sealed) (key string, counter uint64) {
	t.Helper()
	body := m.Body[1 : len(m.Body)-8]
	if m.Type == e2ee.TypePreKey {
		body = fieldOf(t, m.Body[1:], 4)
		body = body[1 : len(body)-8]
	}
	return string(fieldOf(t, body, 1)), numberOf(t, body, 2)
}

func fieldOf(t testing.TB, b []byte, want protowire.Number) []byte {
	t.Helper()
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		value := b[n:]
		if number == want {
			data, _ := protowire.ConsumeBytes(value)
			return data
		}
		b = value[protowire.ConsumeFieldValue(number, kind, value):]
	}
	t.Fatalf("no field %d", want)
	return nil
}

func numberOf(t testing.TB, b []byte, want protowire.Number) uint64 {
	t.Helper()
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		value := b[n:]
		if number == want {
			data, _ := protowire.ConsumeVarint(value)
			return data
		}
		b = value[protowire.ConsumeFieldValue(number, kind, value):]
	}
	t.Fatalf("no field %d", want)
	return 0
}

// slowStore gives way to others between a load and a commit.
type slowStore struct{ e2ee.Store }

func (s slowStore) LoadSession(ctx context.Context, addr string) ([]byte, error) {
	row, err := s.Store.LoadSession(ctx, addr)
	runtime.Gosched()
	return row, err
}

func TestDefect4CountersAreNeverUsedTwice(t *testing.T) {
	// Stock: two encrypts that both load before either stores, as any two goroutines may.
	stock, peer := newStock(t), newOurs(t)
	mustStart(t, stock, 2, peer.bundle(true))
	var both, done sync.WaitGroup
	both.Add(2)
	stock.onLoad = func() { both.Done(); both.Wait() }
	messages := make([]e2ee.Sealed, 2)
	for i := range messages {
		done.Go(func() { messages[i], _ = stock.encrypt(2, "text") })
	}
	done.Wait()
	keyA, counterA := counterOf(t, messages[0])
	keyB, counterB := counterOf(t, messages[1])
	if keyA != keyB || counterA != counterB {
		t.Error("the stock library does not use a counter twice: it has been mended")
	}

	// Ours: 4 goroutines, 200 encrypts each, while the other side's messages are read.
	ours, other := newOurs(t), newOurs(t)
	ours.party.Signal = e2ee.New(ours.party.Device, slowStore{ours.mem})
	acquaint(t, ours, other)
	const workers, each = 4, 200
	incoming := make([]e2ee.Sealed, 100)
	for i := range incoming {
		incoming[i] = mustEncrypt(t, other, 1, "meanwhile")
	}
	sent := make([][]e2ee.Sealed, workers)
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			for range each {
				m, err := ours.encrypt(2, "text")
				if err != nil {
					t.Errorf("encrypt: %v", err)
					return
				}
				sent[w] = append(sent[w], m)
			}
		})
	}
	wait.Go(func() {
		for _, m := range incoming {
			if _, err := ours.decrypt(2, m); err != nil {
				t.Errorf("decrypt: %v", err)
			}
		}
	})
	wait.Wait()
	type place struct {
		key     string
		counter uint64
	}
	used := map[place]bool{}
	for _, list := range sent {
		for _, m := range list {
			key, counter := counterOf(t, m)
			if used[place{key, counter}] {
				t.Fatalf("counter %d was used twice", counter)
			}
			used[place{key, counter}] = true
			mustRead(t, other, 1, m, "text")
		}
	}
	if len(used) != workers*each {
		t.Errorf("%d messages, want %d", len(used), workers*each)
	}
}

func TestDefect5MalformedMessagesAreErrorsNotPanics(t *testing.T) {
	empty := func(number protowire.Number) func(b []byte) []byte {
		return func(b []byte) []byte {
			return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), nil)
		}
	}
	cases := []struct {
		name        string
		first       bool
		damage      func(b []byte) []byte
		stockPanics bool // false: mended in v0.2.2
		want        error
	}{
		{"an empty prekey message", true, func([]byte) []byte { return nil }, false, e2ee.ErrMalformed},
		{"a prekey message without base key", true, empty(2), true, e2ee.ErrInvalidKey},
		{"a prekey message without identity key", true, empty(3), true, e2ee.ErrInvalidKey},
		{"a message without ratchet key", false, func(b []byte) []byte {
			body, mac := b[:len(b)-8:len(b)-8], b[len(b)-8:]
			return append(empty(1)(body), mac...)
		}, true, e2ee.ErrInvalidKey},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			message := func(receiver user) e2ee.Sealed {
				sender := newStock(t)
				mustStart(t, sender, 2, receiver.bundle(true))
				m := mustEncrypt(t, sender, 2, "hello")
				if !c.first {
					mustRead(t, receiver, 1, m, "hello")
					mustRead(t, sender, 2, mustEncrypt(t, receiver, 1, "hello"), "hello")
					m = mustEncrypt(t, sender, 2, "next")
				}
				m.Body = c.damage(m.Body)
				return m
			}
			stock := newStock(t)
			if _, err := stock.decrypt(1, message(stock)); errors.Is(err, errPanicked) != c.stockPanics {
				t.Errorf("the stock library gives %v", err)
			}
			ours := newOurs(t)
			m := message(ours)
			before := ours.mem.Snapshot()
			if _, err := ours.decrypt(1, m); !errors.Is(err, c.want) {
				t.Errorf("we give %v, want %v", err, c.want)
			}
			if !unchanged(ours.mem, before) {
				t.Error("the store has changed")
			}
		})
	}
	t.Run("encrypting without a session", func(t *testing.T) {
		if _, err := newOurs(t).encrypt(1, "text"); !errors.Is(err, e2ee.ErrNoSession) {
			t.Errorf("we give %v", err)
		}
	})
}

func TestDefect6AndHazardPreKeyDeletedOutsideTheSessionWriteEverythingIsOneCommit(t *testing.T) {
	disk := errors.New("disk full")
	stock, sender := newStock(t), newStock(t)
	mustStart(t, sender, 2, stock.bundle(true))
	stock.removePreKeys = func() error { return disk }
	if _, err := stock.decrypt(1, mustEncrypt(t, sender, 2, "hello")); !errors.Is(err, disk) {
		t.Fatalf("stock: %v", err)
	}
	if len(stock.sessions) == 0 || len(stock.preKeys) == 0 {
		t.Error("the stock library leaves no half-done write behind: it has been mended")
	}

	ours, sender := newOurs(t), newStock(t)
	mustStart(t, sender, 2, ours.bundle(true))
	m := mustEncrypt(t, sender, 2, "hello")
	before := ours.mem.Snapshot()
	decrypt := func(commit func(context.Context, []byte, e2ee.Opened) error) error {
		return ours.party.Signal.Decrypt(t.Context(), peerJID(1), m.Type, m.Body, commit)
	}
	if err := decrypt(func(context.Context, []byte, e2ee.Opened) error { return disk }); !errors.Is(err, disk) {
		t.Errorf("the caller's error does not come out: %v", err)
	}
	if !unchanged(ours.mem, before) {
		t.Fatal("a failed commit left something behind")
	}
	var seen e2ee.Opened
	err := decrypt(func(ctx context.Context, text []byte, info e2ee.Opened) error {
		seen = info
		if string(text) != "hello" {
			t.Error("another text")
		}
		if !unchanged(ours.mem, before) {
			t.Error("rows were written before the caller's part of the transaction")
		}
		return nil
	})
	if err != nil {
		t.Fatalf("the message is lost after a failed commit: %v", err)
	}
	if seen.UsedPreKey == nil || !seen.NewSession || !seen.FirstIdentity {
		t.Errorf("opened: %+v", seen)
	}
	after := ours.mem.Snapshot()
	if _, there := after["prekey/1"]; there || len(after) != len(before)-1+2 {
		t.Errorf("want the prekey gone and session and identity stored; %d rows before, %d after", len(before), len(after))
	}
}

func TestDefect7AndHazardUnsignedUnderflowThePreviousCounterIsClamped(t *testing.T) {
	run := func(b user) uint64 {
		a := newStock(t)
		mustStart(t, a, 2, b.bundle(true))
		mustRead(t, b, 1, mustEncrypt(t, a, 2, "hello"), "hello")
		answer := mustEncrypt(t, b, 1, "first words") // b has stepped without having sent
		mustRead(t, a, 2, answer, "first words")
		return numberOf(t, answer.Body[1:len(answer.Body)-8], 3)
	}
	if got := run(newStock(t)); got != 1<<32-1 {
		t.Errorf("the stock library writes %d: it has been mended", got)
	}
	if got := run(newOurs(t)); got != 0 {
		t.Errorf("we write %d, want 0", got)
	}
}

// recorder keeps what libsignal logs.
type recorder struct {
	mu   sync.Mutex
	text strings.Builder
}

func (r *recorder) add(_, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text.WriteString(message + "\n")
}
func (r *recorder) Debug(c, m string)   { r.add(c, m) }
func (r *recorder) Info(c, m string)    { r.add(c, m) }
func (r *recorder) Warning(c, m string) { r.add(c, m) }
func (r *recorder) Error(c, m string)   { r.add(c, m) }
func (r *recorder) Configure(string)    {}

// output runs f and returns what it wrote to standard output and error.
func output(t *testing.T, f func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = w, w
	text := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(r)
		text <- b
	}()
	f()
	os.Stdout, os.Stderr = stdout, stderr
	_ = w.Close()
	return string(<-text)
}

func TestDefect8AndHazardSecretsAtDebugLevelLibsignalLogsNothing(t *testing.T) {
	installed := logger.Logger // by this package's initialisation
	defer func() { logger.Logger = installed }()
	talk := func(b user) {
		a := newStock(t)
		acquaint(t, a, b)
		broken := mustEncrypt(t, a, 2, "broken")
		broken.Body[len(broken.Body)-1] ^= 1
		if _, err := b.decrypt(1, broken); err == nil {
			t.Error("a broken message was read")
		}
	}
	seen := &recorder{}
	logger.Logger = seen
	talk(newStock(t))
	if !strings.Contains(seen.text.String(), "cipherKey") {
		t.Error("the stock library hands no keys to its log: it has been mended")
	}
	logger.Logger = nil // the library then takes its own default
	if text := output(t, func() { talk(newStock(t)) }); text == "" {
		t.Error("the stock library's default log prints nothing: it has been mended")
	}
	logger.Logger = installed
	if text := output(t, func() { talk(newOurs(t)) }); text != "" {
		t.Errorf("%d bytes were printed", len(text))
	}
}

// lowOrderKeys are public keys with which every key agreement gives zeros.
func lowOrderKeys() [][32]byte {
	keys := [][32]byte{{}, {1}}
	last := bytes.Repeat([]byte{0xff}, 32)
	last[0], last[31] = 0xec, 0x7f
	return append(keys, [32]byte(last))
}

func TestDefect9KeysThatForceAnAllZeroSecretAreRefused(t *testing.T) {
	for _, weak := range lowOrderKeys() {
		bundle := func(u *stockUser) e2ee.Bundle {
			b := u.bundle(true)
			b.Signed.Key = weak
			b.Signed.Signature = ecc.CalculateSignature(u.own.PrivateKey(), append([]byte{5}, weak[:]...))
			return b
		}
		if err := newStock(t).start(2, bundle(newStock(t))); err != nil {
			t.Errorf("the stock library gives %v: it has been mended", err)
		}
		ours := newOurs(t)
		before := ours.mem.Snapshot()
		if err := ours.start(2, bundle(newStock(t))); !errors.Is(err, e2ee.ErrInvalidKey) {
			t.Errorf("signed prekey: we give %v", err)
		}
		b := newStock(t).bundle(true)
		b.PreKey.Key = weak
		if err := ours.start(2, b); !errors.Is(err, e2ee.ErrInvalidKey) {
			t.Errorf("one-time prekey: we give %v", err)
		}
		b = newStock(t).bundle(true)
		b.Identity = weak
		if err := ours.start(2, b); !errors.Is(err, e2ee.ErrInvalidKey) {
			t.Errorf("identity: we give %v", err)
		}
		if !unchanged(ours.mem, before) {
			t.Error("the store has changed")
		}
		weakMessage := func(receiver user) error {
			sender := newStock(t)
			mustStart(t, sender, 2, receiver.bundle(true))
			_, err := receiver.decrypt(1, sender.handmade(2, func(h *handmade) { h.ratchetKey = append([]byte{5}, weak[:]...) }))
			return err
		}
		if err := weakMessage(newOurs(t)); !errors.Is(err, e2ee.ErrInvalidKey) {
			t.Errorf("ratchet key of a message: we give %v", err)
		}
	}
}

func TestHazardMaliciousContactCrashACiphertextOfAnyLengthIsSafe(t *testing.T) {
	for _, length := range []int{17, 31, 33, 1001} {
		for _, first := range []bool{true, false} {
			run := func(receiver user, watch func()) error {
				sender := newStock(t)
				mustStart(t, sender, 2, receiver.bundle(true))
				if !first {
					mustRead(t, receiver, 1, mustEncrypt(t, sender, 2, "hello"), "hello")
					mustRead(t, sender, 2, mustEncrypt(t, receiver, 1, "hello"), "hello")
				}
				watch()
				_, err := receiver.decrypt(1, sender.handmade(2, func(h *handmade) { h.ciphertext = make([]byte, length) }))
				return err
			}
			if err := run(newStock(t), func() {}); !errors.Is(err, errPanicked) {
				t.Errorf("length %d: the stock library gives %v: it has been mended", length, err)
			}
			ours := newOurs(t)
			var before map[string][]byte
			if err := run(ours, func() { before = ours.mem.Snapshot() }); !errors.Is(err, e2ee.ErrMalformed) {
				t.Errorf("length %d: we give %v", length, err)
			}
			if !unchanged(ours.mem, before) {
				t.Errorf("length %d: the store has changed", length)
			}
		}
	}
}

func TestHazardPaddingCheckOnlyAnUpperBoundPaddingIsStrict(t *testing.T) {
	block := func(text string, tail ...byte) []byte {
		b := append([]byte(text), bytes.Repeat([]byte{'.'}, 32-len(text)-len(tail))...)
		return append(b, tail...)
	}
	cases := []struct {
		name       string
		plaintext  []byte
		stockReads bool
	}{
		{"the last byte is 0", block("text", 0), true},
		{"the last byte is above the block size", block("text", 17), true},
		{"more than a block of it", bytes.Repeat([]byte{17}, 32), true},
		{"the last byte is the whole length", block("text", 32), true},
		{"the last byte is above the length", block("text", 33), false},
		{"the bytes before differ", block("text", 3, 2, 3), true},
		{"the first of them differs", block("text", 1, 4, 4, 4), true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			run := func(receiver user) (e2ee.Sealed, error) {
				sender := newStock(t)
				mustStart(t, sender, 2, receiver.bundle(true))
				m := sender.handmade(2, func(h *handmade) { h.ciphertext = h.blocks(t, c.plaintext) })
				_, err := receiver.decrypt(1, m)
				return m, err
			}
			if _, err := run(newStock(t)); (err == nil) != c.stockReads {
				t.Errorf("the stock library gives %v", err)
			}
			ours := newOurs(t)
			if _, err := run(ours); !errors.Is(err, e2ee.ErrMalformed) {
				t.Errorf("we give %v", err)
			}
			if ours.hasIdentity(1) {
				t.Error("an identity was stored")
			}
		})
	}
}

// The store wrapper of the concurrency test must be a Store.
var _ e2ee.Store = slowStore{e2eetest.NewMemStore()}
