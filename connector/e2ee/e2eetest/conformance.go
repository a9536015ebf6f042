package e2eetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"postern/connector/e2ee"
	"postern/connector/jid"
)

// Conformance checks that the stores fresh makes keep the contract of e2ee.Store. Each call of fresh gives an empty store,
// for one account; it must be an e2ee.PreKeyWriter too.
func Conformance(t *testing.T, fresh func() e2ee.Store) {
	t.Helper()
	cases := []struct {
		name string
		run  func(t *testing.T, fresh func() e2ee.Store)
	}{
		{"what is not there loads as nil without an error", absent},
		{"a commit stores session and identity and deletes the used prekey", commitAll},
		{"a commit leaves alone what it does not name", commitPart},
		{"a load is the caller's own copy", copies},
		{"a failing extra rolls everything back and its error comes out", extraFails},
		{"extra may be nil and otherwise runs once", extraRuns},
		{"a prekey already used stops the commit before anything is written", preKeyGone},
		{"of many commits with one prekey exactly one succeeds", preKeyRace},
		{"addresses are told apart byte for byte", addresses},
		{"the largest session row and empty plaintext survive", largest},
		{"a cancelled context changes nothing", cancelled},
		{"commits at different addresses do not disturb each other", parallel},
		{"two accounts talk over two stores", conversation},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, fresh) })
	}
}

func writer(t *testing.T, store e2ee.Store) e2ee.PreKeyWriter {
	t.Helper()
	w, ok := store.(e2ee.PreKeyWriter)
	if !ok {
		t.Fatalf("%T is no e2ee.PreKeyWriter", store)
	}
	return w
}

func must[T any](t *testing.T) func(value T, err error) T {
	t.Helper()
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// rows are the four rows a commit may touch.
type rows struct{ session, identity, preKey, signed []byte }

func read(t *testing.T, store e2ee.Store, addr string, id uint32) rows {
	t.Helper()
	ctx, load := t.Context(), must[[]byte](t)
	return rows{
		session:  load(store.LoadSession(ctx, addr)),
		identity: load(store.LoadIdentity(ctx, addr)),
		preKey:   load(store.LoadPreKey(ctx, id)),
		signed:   load(store.LoadSignedPreKey(ctx, id)),
	}
}

func (r rows) equal(o rows) bool {
	return bytes.Equal(r.session, o.session) && bytes.Equal(r.identity, o.identity) &&
		bytes.Equal(r.preKey, o.preKey) && bytes.Equal(r.signed, o.signed)
}

// seed puts a one-time and a signed prekey of the given id into store.
func seed(t *testing.T, store e2ee.Store, id uint32) (e2ee.PreKey, e2ee.SignedPreKey) {
	t.Helper()
	device := must[*e2ee.Device](t)(e2ee.NewDevice(nil))
	keys := must[[]e2ee.PreKey](t)(device.GeneratePreKeys(id, 1))
	signed := must[e2ee.SignedPreKey](t)(device.GenerateSignedPreKey(id))
	w := writer(t, store)
	if err := w.StorePreKeys(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	if err := w.StoreSignedPreKey(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	return keys[0], signed
}

func commit(t *testing.T, store e2ee.Store, c *e2ee.Change) {
	t.Helper()
	if err := store.Commit(t.Context(), c, nil); err != nil {
		t.Fatal(err)
	}
}

func key32(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func absent(t *testing.T, fresh func() e2ee.Store) {
	got := read(t, fresh(), "1-2@interop.0", 1)
	if got.session != nil || got.identity != nil || got.preKey != nil || got.signed != nil {
		t.Errorf("an empty store has rows: %v", got)
	}
}

func commitAll(t *testing.T, fresh func() e2ee.Store) {
	store, id := fresh(), uint32(7)
	oneTime, signed := seed(t, store, id)
	before := read(t, store, "a", id)
	if !bytes.Equal(before.preKey, oneTime.Marshal()) || !bytes.Equal(before.signed, signed.Marshal()) {
		t.Fatal("prekeys do not come back as they were stored")
	}
	commit(t, store, &e2ee.Change{Addr: "a", Session: []byte("state"), Identity: key32(1), UsedPreKey: &id})
	got := read(t, store, "a", id)
	if !got.equal(rows{session: []byte("state"), identity: key32(1), signed: signed.Marshal()}) || got.preKey != nil {
		t.Errorf("after the commit: %v", got)
	}
}

func commitPart(t *testing.T, fresh func() e2ee.Store) {
	store := fresh()
	seed(t, store, 3)
	commit(t, store, &e2ee.Change{Addr: "a", Session: []byte("one"), Identity: key32(1)})
	before := read(t, store, "a", 3)
	commit(t, store, &e2ee.Change{Addr: "a", Session: []byte("two")})
	want := before
	want.session = []byte("two")
	if got := read(t, store, "a", 3); !got.equal(want) {
		t.Errorf("a commit of a session alone changed more: %v", got)
	}
	commit(t, store, &e2ee.Change{Addr: "a", Identity: key32(2)})
	want.identity = key32(2)
	if got := read(t, store, "a", 3); !got.equal(want) {
		t.Errorf("a commit of an identity alone changed more: %v", got)
	}
	commit(t, store, &e2ee.Change{Addr: "a"})
	if got := read(t, store, "a", 3); !got.equal(want) {
		t.Errorf("an empty commit changed something: %v", got)
	}
}

func copies(t *testing.T, fresh func() e2ee.Store) {
	store := fresh()
	seed(t, store, 1)
	session, id := []byte("session"), key32(9)
	commit(t, store, &e2ee.Change{Addr: "a", Session: session, Identity: id})
	want := read(t, store, "a", 1)
	session[0], id[0] = 'X', 'X'
	for _, row := range [][]byte{want.session, want.identity, want.preKey, want.signed} {
		again := read(t, store, "a", 1)
		if !again.equal(want) {
			t.Fatal("the store shares memory with the change it was given")
		}
		row[0]++
		if again = read(t, store, "a", 1); again.equal(want) {
			t.Fatal("the store shares memory with what it returned")
		}
		row[0]--
	}
}

func extraFails(t *testing.T, fresh func() e2ee.Store) {
	store, id := fresh(), uint32(5)
	seed(t, store, id)
	commit(t, store, &e2ee.Change{Addr: "a", Session: []byte("one"), Identity: key32(1)})
	before, wrong := read(t, store, "a", id), errors.New("row of the caller refused")
	err := store.Commit(t.Context(), &e2ee.Change{Addr: "a", Session: []byte("two"), Identity: key32(2), UsedPreKey: &id},
		func(context.Context) error { return fmt.Errorf("insert: %w", wrong) })
	if !errors.Is(err, wrong) {
		t.Errorf("commit gave %v, want the error of extra", err)
	}
	if got := read(t, store, "a", id); !got.equal(before) {
		t.Errorf("a failed commit changed the rows: %v", got)
	}
}

func extraRuns(t *testing.T, fresh func() e2ee.Store) {
	store, runs := fresh(), 0
	err := store.Commit(t.Context(), &e2ee.Change{Addr: "a", Session: []byte("one")}, func(ctx context.Context) error {
		runs++
		if ctx == nil || ctx.Err() != nil {
			t.Error("extra got no usable context")
		}
		return nil
	})
	if err != nil || runs != 1 {
		t.Errorf("extra ran %d times, error %v", runs, err)
	}
}

func preKeyGone(t *testing.T, fresh func() e2ee.Store) {
	store, id, other := fresh(), uint32(11), uint32(12)
	seed(t, store, id)
	commit(t, store, &e2ee.Change{Addr: "a", Session: []byte("one"), UsedPreKey: &id})
	for _, gone := range []*uint32{&id, &other} {
		err := store.Commit(t.Context(), &e2ee.Change{Addr: "a", Session: []byte("two"), Identity: key32(2), UsedPreKey: gone}, nil)
		if !errors.Is(err, e2ee.ErrPreKeyGone) {
			t.Errorf("commit with a prekey that is gone: %v", err)
		}
		if got := read(t, store, "a", id); string(got.session) != "one" || got.identity != nil {
			t.Errorf("it changed the rows: %v", got)
		}
	}
}

func preKeyRace(t *testing.T, fresh func() e2ee.Store) {
	store, id := fresh(), uint32(21)
	seed(t, store, id)
	const commits = 8
	results := make([]error, commits)
	var wait sync.WaitGroup
	for i := range results {
		wait.Go(func() {
			c := &e2ee.Change{Addr: fmt.Sprint("peer", i), Session: []byte("s"), Identity: key32(byte(i)), UsedPreKey: &id}
			results[i] = store.Commit(t.Context(), c, nil)
		})
	}
	wait.Wait()
	succeeded := 0
	for i, err := range results {
		got := read(t, store, fmt.Sprint("peer", i), id)
		switch {
		case err == nil:
			succeeded++
			if got.session == nil || got.identity == nil {
				t.Errorf("commit %d succeeded and left no rows", i)
			}
		case !errors.Is(err, e2ee.ErrPreKeyGone):
			t.Errorf("commit %d: %v", i, err)
		case got.session != nil || got.identity != nil:
			t.Errorf("commit %d failed and left rows", i)
		}
	}
	if succeeded != 1 {
		t.Errorf("%d commits used the one prekey", succeeded)
	}
}

func addresses(t *testing.T, fresh func() e2ee.Store) {
	store := fresh()
	names := []string{"1-22@interop.0", "12-2@interop.0", "1-22@interop.1", "1-22@lid.0", "a@msgr.0", "A@msgr.0", "a@msgr.0 ", "%@msgr.0", "_@msgr.0"}
	for i, name := range names {
		commit(t, store, &e2ee.Change{Addr: name, Session: fmt.Append(nil, "session ", i), Identity: key32(byte(i))})
	}
	for i, name := range names {
		got := read(t, store, name, 1)
		if !got.equal(rows{session: fmt.Append(nil, "session ", i), identity: key32(byte(i))}) {
			t.Errorf("address %q has another one's rows", name)
		}
	}
}

func largest(t *testing.T, fresh func() e2ee.Store) {
	store := fresh()
	big := bytes.Repeat([]byte{0, 0xff, '\'', '\n'}, e2ee.MaxSessionBytes/4)
	commit(t, store, &e2ee.Change{Addr: "a", Session: big})
	if got := read(t, store, "a", 1); !bytes.Equal(got.session, big) {
		t.Error("the largest row does not come back")
	}
	commit(t, store, &e2ee.Change{Addr: "a", Session: []byte{1}})
	if got := read(t, store, "a", 1); !bytes.Equal(got.session, []byte{1}) {
		t.Error("a shorter row does not replace a longer one")
	}
}

func cancelled(t *testing.T, fresh func() e2ee.Store) {
	store, id := fresh(), uint32(31)
	seed(t, store, id)
	before := read(t, store, "a", id)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := store.Commit(ctx, &e2ee.Change{Addr: "a", Session: []byte("s"), UsedPreKey: &id}, nil); err == nil {
		t.Error("a commit with a cancelled context succeeded")
	}
	if got := read(t, store, "a", id); !got.equal(before) {
		t.Errorf("it changed the rows: %v", got)
	}
}

func parallel(t *testing.T, fresh func() e2ee.Store) {
	store := fresh()
	const peers, each = 8, 12
	var wait sync.WaitGroup
	for p := range peers {
		wait.Go(func() {
			addr := fmt.Sprintf("1-%d@interop.0", p+1)
			for n := range each {
				want := fmt.Append(nil, "row ", p, n)
				if err := store.Commit(t.Context(), &e2ee.Change{Addr: addr, Session: want}, nil); err != nil {
					t.Errorf("commit: %v", err)
					return
				}
				if got, err := store.LoadSession(t.Context(), addr); err != nil || !bytes.Equal(got, want) {
					t.Errorf("the row committed last is not the one loaded: %v", err)
					return
				}
			}
		})
	}
	wait.Wait()
}

// conversation has two accounts exchange messages, both ways, with and without a one-time prekey.
func conversation(t *testing.T, fresh func() e2ee.Store) {
	for _, oneTime := range []bool{true, false} {
		alice, bob := NewParty(t, fresh(), 1), NewParty(t, fresh(), 2)
		if _, err := alice.Signal.StartSession(t.Context(), bob.Address, bob.Bundle(t, oneTime), nil); err != nil {
			t.Fatal(err)
		}
		for turn := range 4 {
			alice.Exchange(t, bob, fmt.Append(nil, "from alice ", turn))
			alice.Exchange(t, bob, nil)
			bob.Exchange(t, alice, fmt.Append(nil, "from bob ", turn))
		}
	}
}

// Party is an account of a test: an identity, a store, an address.
type Party struct {
	Device  *e2ee.Device
	Store   e2ee.Store
	Signal  *e2ee.Signal
	Address jid.JID // "1-{number}@interop"
	nextID  uint32
}

// NewParty makes an account over store, which must be an e2ee.PreKeyWriter. number is 1 and up.
func NewParty(t testing.TB, store e2ee.Store, number int) *Party {
	t.Helper()
	device, err := e2ee.NewDevice(nil)
	if err != nil {
		t.Fatal(err)
	}
	address, err := jid.NewInterop(1, fmt.Sprint(number))
	if err != nil {
		t.Fatal(err)
	}
	return &Party{Device: device, Store: store, Signal: e2ee.New(device, store), Address: address, nextID: 1}
}

// Bundle makes fresh prekeys, stores them, and returns their public halves.
func (p *Party) Bundle(t testing.TB, oneTime bool) e2ee.Bundle {
	t.Helper()
	store, ok := p.Store.(e2ee.PreKeyWriter)
	if !ok {
		t.Fatalf("%T is no e2ee.PreKeyWriter", p.Store)
	}
	id := p.nextID
	p.nextID++
	signed, err := p.Device.GenerateSignedPreKey(id)
	if err != nil {
		t.Fatal(err)
	}
	if err = store.StoreSignedPreKey(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	if !oneTime {
		return p.Device.Bundle(signed, nil)
	}
	keys, err := p.Device.GeneratePreKeys(id, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err = store.StorePreKeys(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	return p.Device.Bundle(signed, &keys[0])
}

// Send encrypts text for to.
func (p *Party) Send(t testing.TB, to *Party, text []byte) e2ee.Sealed {
	t.Helper()
	sealed, err := p.Signal.Encrypt(t.Context(), to.Address, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// Receive decrypts what from sent.
func (p *Party) Receive(t testing.TB, from *Party, sealed e2ee.Sealed) ([]byte, e2ee.Opened, error) {
	t.Helper()
	var text []byte
	var info e2ee.Opened
	err := p.Signal.Decrypt(t.Context(), from.Address, sealed.Type, sealed.Body,
		func(_ context.Context, plaintext []byte, opened e2ee.Opened) error {
			text, info = plaintext, opened
			return nil
		})
	return text, info, err
}

// Exchange sends text from p to to and checks that it arrives.
func (p *Party) Exchange(t testing.TB, to *Party, text []byte) e2ee.Opened {
	t.Helper()
	got, info, err := to.Receive(t, p, p.Send(t, to, text))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, text) {
		t.Fatal("another text arrived than was sent")
	}
	return info
}
