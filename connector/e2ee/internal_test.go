package e2ee

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"

	"postern/connector/jid"

	"go.mau.fi/libsignal/ecc"
	"google.golang.org/protobuf/encoding/protowire"
)

// littleEndian is n as a u-coordinate on the wire.
func littleEndian(n *big.Int) [32]byte {
	var key [32]byte
	n.FillBytes(key[:])
	slices.Reverse(key[:])
	return key
}

func TestEveryPublicKeyThatForcesZeroOrHasAnotherSpellingIsRefusedAndNoOther(t *testing.T) {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// The standard library refuses a key agreement whose result is all zeros: it is the judge here.
	zero := func(key [32]byte) bool {
		public, err := ecdh.X25519().NewPublicKey(key[:])
		if err != nil {
			t.Fatal(err)
		}
		_, err = private.ECDH(public)
		return err != nil
	}
	var keys [][32]byte
	prime := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	// Around 0 and around p, everything an encoding below 2^255 can say about small numbers.
	for i := int64(-40); i < 19; i++ {
		keys = append(keys, littleEndian(new(big.Int).Add(prime, big.NewInt(i))))
	}
	for i := int64(0); i < 40; i++ {
		keys = append(keys, littleEndian(big.NewInt(i)))
	}
	keys = append(keys, lowOrder[:]...)
	for range 200 {
		var key [32]byte
		_, _ = rand.Read(key[:])
		keys = append(keys, key)
	}
	refused := 0
	for _, key := range keys {
		for _, top := range []byte{0, 0x80} {
			key[31] = key[31]&0x7f | top
			number := key
			slices.Reverse(number[:])
			above := new(big.Int).SetBytes(number[:]).Cmp(prime) >= 0
			if want := !zero(key) && !above; usable(key) != want {
				t.Errorf("%x: usable %v, agreement all zero %v, not the least spelling %v", key, usable(key), zero(key), above)
			}
			if !usable(key) {
				refused++
			}
		}
	}
	if refused < 2*2*5 {
		t.Errorf("only %d keys were refused", refused)
	}
}

func TestKeysAreReadStrictly(t *testing.T) {
	good := typed([32]byte{9})
	for name, b := range map[string][]byte{
		"nothing": nil, "the type alone": good[:1], "one byte short": good[:32], "one byte more": append(slices.Clone(good), 0),
		"another type": append([]byte{6}, good[1:]...), "no type": good[1:], "low order": typed([32]byte{1}),
	} {
		if _, err := parseKey(b); !errors.Is(err, ErrInvalidKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if key, err := parseKey(good); err != nil || key != ([32]byte{9}) {
		t.Errorf("a good key: %v", err)
	}
}

// wire puts a protobuf message together.
type wire []byte

func (w wire) bytes(number protowire.Number, b []byte) wire {
	return protowire.AppendBytes(protowire.AppendTag(w, number, protowire.BytesType), b)
}

func (w wire) number(number protowire.Number, n uint64) wire {
	return protowire.AppendVarint(protowire.AppendTag(w, number, protowire.VarintType), n)
}

func (w wire) mac() wire { return append(w, 1, 2, 3, 4, 5, 6, 7, 8) }

func TestMessagesAreParsedStrictlyAndForwardCompatibly(t *testing.T) {
	key := typed([32]byte{9})
	body := make([]byte, 32)
	base := func() wire { return wire{0x33}.bytes(1, key).number(2, 5).number(3, 4).bytes(4, body) }
	inner := base().mac()
	head := func() wire {
		return wire{0x33}.number(1, 7).bytes(2, key).bytes(3, key).bytes(4, inner).number(5, 1).number(6, 2)
	}
	unknown := func(w wire) wire {
		w = w.bytes(1000, []byte("x")).number(1001, 1)
		w = protowire.AppendFixed32(protowire.AppendTag(w, 1002, protowire.Fixed32Type), 1)
		return protowire.AppendFixed64(protowire.AppendTag(w, 1003, protowire.Fixed64Type), 1)
	}
	cases := []struct {
		name string
		typ  string
		b    []byte
		want error
	}{
		{"an ordinary message", TypeMessage, inner, nil},
		{"version byte 0x34", TypeMessage, append(wire{0x34}, inner[1:]...), nil},
		{"version byte 0x3f", TypeMessage, append(wire{0x3f}, inner[1:]...), nil},
		{"version byte 0x32", TypeMessage, append(wire{0x32}, inner[1:]...), ErrMalformed},
		{"version byte 0x23", TypeMessage, append(wire{0x23}, inner[1:]...), ErrMalformed},
		{"version byte 0x44", TypeMessage, append(wire{0x44}, inner[1:]...), ErrMalformed},
		{"unknown fields", TypeMessage, unknown(base()).mac(), nil},
		{"no previous counter", TypeMessage, wire{0x33}.bytes(1, key).number(2, 5).bytes(4, body).mac(), nil},
		{"a previous counter of any size", TypeMessage, wire{0x33}.bytes(1, key).number(3, math.MaxUint64).bytes(4, body).mac(), nil},
		{"no counter is counter 0", TypeMessage, wire{0x33}.bytes(1, key).bytes(4, body).mac(), nil},
		{"a counter above 32 bits", TypeMessage, wire{0x33}.bytes(1, key).number(2, 1<<32).bytes(4, body).mac(), ErrMalformed},
		{"the last counter", TypeMessage, wire{0x33}.bytes(1, key).number(2, math.MaxUint32).bytes(4, body).mac(), ErrMalformed},
		{"a counter of another kind", TypeMessage, wire{0x33}.bytes(1, key).bytes(2, []byte{1}).bytes(4, body).mac(), ErrMalformed},
		{"a key of another kind", TypeMessage, wire{0x33}.number(1, 1).bytes(4, body).mac(), ErrMalformed},
		{"no ciphertext", TypeMessage, wire{0x33}.bytes(1, key).mac(), ErrMalformed},
		{"an empty ciphertext", TypeMessage, wire{0x33}.bytes(1, key).bytes(4, nil).mac(), ErrMalformed},
		{"a ciphertext of odd length", TypeMessage, wire{0x33}.bytes(1, key).bytes(4, body[:31]).mac(), ErrMalformed},
		{"no ratchet key", TypeMessage, wire{0x33}.bytes(4, body).mac(), ErrInvalidKey},
		{"a field cut short", TypeMessage, append(base(), 0x0a, 200, 1, 2, 3, 4, 5, 6, 7, 8), ErrMalformed},
		{"a group", TypeMessage, append(base(), 0x2b, 0x2c, 1, 2, 3, 4, 5, 6, 7, 8), ErrMalformed},
		{"field number 0", TypeMessage, append(base(), 0, 1, 1, 2, 3, 4, 5, 6, 7, 8), ErrMalformed},
		{"a MAC alone", TypeMessage, wire{0x33}.mac(), ErrMalformed},
		{"shorter than a MAC", TypeMessage, wire{0x33, 1, 2, 3}, ErrMalformed},
		{"a prekey message", TypePreKey, head(), nil},
		{"with unknown fields", TypePreKey, unknown(head()), nil},
		{"of version 4", TypePreKey, append(wire{0x44}, head()[1:]...), ErrMalformed},
		{"without message", TypePreKey, wire{0x33}.bytes(2, key).bytes(3, key), ErrMalformed},
		{"without base key", TypePreKey, wire{0x33}.bytes(3, key).bytes(4, inner), ErrInvalidKey},
		{"without identity", TypePreKey, wire{0x33}.bytes(2, key).bytes(4, inner), ErrInvalidKey},
		{"with a key id above 32 bits", TypePreKey, head().number(1, 1<<32), ErrMalformed},
		{"with a prekey message inside", TypePreKey, head().bytes(4, head()), ErrMalformed},
		{"empty", TypePreKey, nil, ErrMalformed},
		{"of an unknown type", "skmsg", inner, ErrMalformed},
	}
	for _, c := range cases {
		in, err := parseIncoming(c.typ, c.b)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if err == nil && (len(in.message.mac) != macLength || len(in.message.ciphertext) != 32) {
			t.Errorf("%s: parsed wrongly", c.name)
		}
	}
	// The last of several values counts, as in protobuf.
	in, err := parseIncoming(TypePreKey, head().number(1, 8).bytes(2, typed([32]byte{10})))
	if err != nil || in.preKey.preKeyID != 8 || in.preKey.baseKey != ([32]byte{10}) || in.preKey.registrationID != 1 ||
		in.preKey.signedPreKeyID != 2 || in.message.counter != 5 {
		t.Errorf("parsed %+v, %v", in, err)
	}
}

func TestASessionRowComesBackAsItWasWritten(t *testing.T) {
	for _, row := range []*sessionRow{
		{},
		{current: []byte("now")},
		{archived: [][]byte{[]byte("old")}},
		{current: []byte("now"), archived: [][]byte{[]byte("old"), []byte("older")}},
	} {
		back, err := unmarshalRow(row.marshal())
		if err != nil || !bytes.Equal(back.current, row.current) || (back.current == nil) != (row.current == nil) ||
			!slices.EqualFunc(back.archived, row.archived, bytes.Equal) {
			t.Errorf("%v came back as %v, %v", row, back, err)
		}
	}
	many := &sessionRow{current: []byte("now")}
	for i := range MaxArchivedStates + 5 {
		many.archived = append(many.archived, fmt.Append(nil, "state ", i))
	}
	back, err := unmarshalRow(many.marshal())
	if err != nil || len(back.archived) != MaxArchivedStates || string(back.archived[0]) != "state 0" {
		t.Errorf("%d states, %v", len(back.archived), err)
	}
}

func TestRetiredStatesAreTheLastOnesAndStayThat(t *testing.T) {
	row := &sessionRow{current: []byte("a"), archived: [][]byte{[]byte("b"), []byte("c")}}
	again := func(what string, retired int) {
		t.Helper()
		back, err := unmarshalRow(row.marshal())
		if err != nil || back.retired != retired {
			t.Fatalf("%s: %+v, %v, want %d retired", what, back, err, retired)
		}
		row = back
	}
	again("none", 0)
	row.retire()
	again("all", 3)
	row.begin([]byte("n"))
	row.begin([]byte("m"))
	again("two later ones", 3)
	for i, retired := range []bool{false, true, true, true} {
		if row.isRetired(i) != retired {
			t.Errorf("state %d is retired: %v", i, !retired)
		}
	}
	known := make([]byte, 32)
	row.settle(1, []byte("A"), opened{stepped: true}, known)
	row.settle(0, []byte("N"), opened{stepped: true}, known)
	if text := string(row.current) + " | " + string(bytes.Join(row.archived, []byte(" "))); text != "N | m A b c" {
		t.Errorf("after steps in a retired state and in another one: %s", text)
	}
	again("after them", 3)
	for i := range MaxArchivedStates - 1 {
		row.begin(fmt.Append(nil, "state ", i))
	}
	again("they have been dropped", 0)
	for range 2 * MaxArchivedStates {
		row.begin([]byte("x"))
		row.retire()
	}
	again("many", MaxArchivedStates)
}

func TestArchivingAndPromotingKeepEveryOtherStateAndItsOrder(t *testing.T) {
	text := func(r *sessionRow) string {
		return string(r.current) + " | " + string(bytes.Join(r.archived, []byte(" ")))
	}
	stored := (&sessionRow{current: []byte("a"), archived: [][]byte{[]byte("b"), []byte("c"), []byte("d")}}).marshal()
	before := bytes.Clone(stored)
	load := func() *sessionRow {
		row, err := unmarshalRow(stored)
		if err != nil {
			t.Fatal(err)
		}
		return row
	}
	row := load()
	row.begin([]byte("n"))
	if text(row) != "n | a b c d" {
		t.Errorf("begin: %s", text(row))
	}
	row = load()
	row.promote(1, []byte("C"))
	if text(row) != "C | a b d" {
		t.Errorf("promote: %s", text(row))
	}
	row = load()
	row.begin(nil)
	if text(row) != " | a b c d" || row.current != nil {
		t.Errorf("end: %s", text(row))
	}
	row.begin([]byte("n"))
	if text(row) != "n | a b c d" {
		t.Errorf("begin after an end: %s", text(row))
	}
	for step, known := range map[bool]string{true: "C | a b d", false: "a | b C d"} {
		row = load()
		row.settle(1, []byte("C"), opened{stepped: step}, make([]byte, 32))
		if text(row) != known {
			t.Errorf("settle, stepped %v: %s", step, text(row))
		}
	}
	if !bytes.Equal(stored, before) {
		t.Error("the stored bytes were changed")
	}
}

// tinyStore is a Store for tests in this package, which cannot import e2eetest.
type tinyStore struct {
	sessions, identities map[string][]byte
	signed               map[uint32][]byte
}

func (s *tinyStore) LoadSession(_ context.Context, addr string) ([]byte, error) {
	return s.sessions[addr], nil
}
func (s *tinyStore) LoadIdentity(_ context.Context, addr string) ([]byte, error) {
	return s.identities[addr], nil
}
func (s *tinyStore) LoadPreKey(context.Context, uint32) ([]byte, error) { return nil, nil }
func (s *tinyStore) LoadSignedPreKey(_ context.Context, id uint32) ([]byte, error) {
	return s.signed[id], nil
}
func (s *tinyStore) Commit(ctx context.Context, c *Change, extra func(context.Context) error) error {
	if extra != nil {
		if err := extra(ctx); err != nil {
			return err
		}
	}
	if c.Session != nil {
		s.sessions[c.Addr] = c.Session
	}
	if c.Identity != nil {
		s.identities[c.Addr] = c.Identity
	}
	return nil
}

type tinyUser struct {
	*Signal
	store  *tinyStore
	device *Device
	who    jid.JID
}

func newTiny(t *testing.T, number int) *tinyUser {
	t.Helper()
	device, err := NewDevice(nil)
	if err != nil {
		t.Fatal(err)
	}
	who, err := jid.NewInterop(3, fmt.Sprint(number))
	if err != nil {
		t.Fatal(err)
	}
	store := &tinyStore{map[string][]byte{}, map[string][]byte{}, map[uint32][]byte{}}
	return &tinyUser{New(device, store), store, device, who}
}

// begin starts a session of a with b.
func begin(t *testing.T, a, b *tinyUser) {
	t.Helper()
	signed, err := b.device.GenerateSignedPreKey(4)
	if err != nil {
		t.Fatal(err)
	}
	b.store.signed[4] = signed.Marshal()
	if _, err = a.StartSession(t.Context(), b.who, b.device.Bundle(signed, nil), nil); err != nil {
		t.Fatal(err)
	}
}

// meet lets a begin a session with b and b answer.
func meet(t *testing.T, a, b *tinyUser) {
	t.Helper()
	begin(t, a, b)
	a.say(t, b)
	b.say(t, a)
}

func (u *tinyUser) say(t *testing.T, to *tinyUser) Sealed {
	t.Helper()
	m, err := u.Encrypt(t.Context(), to.who, []byte("text"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err = to.Decrypt(t.Context(), u.who, m.Type, m.Body, nil); err != nil {
		t.Fatal(err)
	}
	return m
}

// change rewrites u's current state with peer.
func (u *tinyUser) change(t *testing.T, peer *tinyUser, edit func(row *sessionRow)) {
	t.Helper()
	row, err := unmarshalRow(u.store.sessions[peer.who.SignalAddress()])
	if err != nil {
		t.Fatal(err)
	}
	edit(row)
	u.store.sessions[peer.who.SignalAddress()] = row.marshal()
}

func TestAStoredPreviousCounterThatUnderflowedGoesOutAsZeroWithARightMAC(t *testing.T) {
	a, b := newTiny(t, 1), newTiny(t, 2)
	meet(t, a, b)
	a.change(t, b, func(row *sessionRow) {
		state, err := decodeState(row.current)
		if err != nil {
			t.Fatal(err)
		}
		state.SetPreviousCounter(math.MaxUint32)
		if row.current, err = encodeState(state); err != nil {
			t.Fatal(err)
		}
	})
	m := a.say(t, b) // reading it checks the MAC
	seen := false
	err := readFields(m.Body[1:len(m.Body)-macLength], func(number protowire.Number, value field) error {
		if number == 3 {
			seen = true
			if value.number != 0 {
				t.Errorf("the previous counter goes out as %d", value.number)
			}
		}
		return nil
	})
	if err != nil || !seen {
		t.Errorf("previous counter seen: %v, %v", seen, err)
	}
}

func TestASendingChainAtItsEndIsNotWrappedAround(t *testing.T) {
	a, b := newTiny(t, 1), newTiny(t, 2)
	meet(t, a, b)
	a.change(t, b, func(row *sessionRow) {
		state, err := decodeState(row.current)
		if err != nil {
			t.Fatal(err)
		}
		key := state.SenderChainKey().Current()
		key.SetIndex(math.MaxUint32)
		state.SetSenderChainKey(key)
		if row.current, err = encodeState(state); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := a.Encrypt(t.Context(), b.who, []byte("text"), nil); !errors.Is(err, ErrExhausted) {
		t.Errorf("encrypt: %v", err)
	}
}

func TestARatchetStepWithoutHavingSentStoresNoUnderflow(t *testing.T) {
	a, b := newTiny(t, 1), newTiny(t, 2)
	begin(t, a, b)
	a.say(t, b)
	b.change(t, a, func(row *sessionRow) {
		state, err := decodeState(row.current)
		if err != nil || state.PreviousCounter() != 0 {
			t.Errorf("previous counter %d, %v", state.PreviousCounter(), err)
		}
	})
}

func TestAnOldCounterInOneStateDoesNotEndTheSearch(t *testing.T) {
	a, b := newTiny(t, 1), newTiny(t, 2)
	meet(t, a, b)
	var older []byte
	b.change(t, a, func(row *sessionRow) { older = bytes.Clone(row.current) })
	m := a.say(t, b)
	read := func() error { return b.Decrypt(t.Context(), a.who, m.Type, m.Body, nil) }
	if err := read(); !errors.Is(err, ErrDuplicate) {
		t.Fatalf("a duplicate: %v", err)
	}
	b.change(t, a, func(row *sessionRow) { row.archived = [][]byte{older} })
	if err := read(); err != nil {
		t.Errorf("a state that can read it is behind one that cannot: %v", err)
	}
	if err := read(); !errors.Is(err, ErrDuplicate) {
		t.Errorf("now a duplicate in both: %v", err)
	}
}

func TestThePreKeyHeadOfAKnownSessionMustNameItsIdentity(t *testing.T) {
	a, b := newTiny(t, 1), newTiny(t, 2)
	begin(t, a, b)
	a.say(t, b)
	m, err := a.Encrypt(t.Context(), b.who, []byte("text"), nil)
	if err != nil || m.Type != TypePreKey {
		t.Fatalf("a %s, %v", m.Type, err)
	}
	other := newTiny(t, 3).device.IdentityPublic
	// Of two identity fields the last counts.
	renamed := wire(bytes.Clone(m.Body)).bytes(3, typed(other))
	if err = b.Decrypt(t.Context(), a.who, m.Type, renamed, nil); !errors.Is(err, ErrBadMAC) {
		t.Errorf("under another name: %v", err)
	}
	if err = b.Decrypt(t.Context(), a.who, m.Type, m.Body, nil); err != nil {
		t.Errorf("as it was sent: %v", err)
	}
}

func TestADamagedStateIsAnErrorAndDoesNotHideTheOthers(t *testing.T) {
	a, b := newTiny(t, 1), newTiny(t, 2)
	meet(t, a, b)
	waiting, err := a.Encrypt(t.Context(), b.who, []byte("text"), nil)
	if err != nil {
		t.Fatal(err)
	}
	b.change(t, a, func(row *sessionRow) {
		good := row.current
		for cut := range len(good) {
			if _, err := decodeState(good[:cut]); err != nil && !errors.Is(err, ErrCorruptSession) {
				t.Fatalf("cut at %d: %v", cut, err)
			}
		}
		row.archived = [][]byte{good}
		row.current = good[:len(good)/2]
	})
	if _, err = b.Encrypt(t.Context(), a.who, []byte("text"), nil); !errors.Is(err, ErrCorruptSession) {
		t.Errorf("encrypt: %v", err)
	}
	if err = b.Decrypt(t.Context(), a.who, waiting.Type, waiting.Body, nil); err != nil {
		t.Errorf("decrypt: %v", err)
	}
}

func TestAPanicOfTheLibraryBecomesAnErrorThatNamesThePlaceAndNothingElse(t *testing.T) {
	const secret = "what the message says"
	for name, f := range map[string]func() error{
		"in the library": func() error {
			_, err := ecc.DecodePoint(nil, 0)
			return err
		},
		"with a value": func() error { panic(secret) },
	} {
		err := guard(f)
		var caught *PanicError
		if !errors.As(err, &caught) || !errors.Is(err, ErrLibrary) || RetryReason(err) != 0 {
			t.Fatalf("%s: %v", name, err)
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error repeats the panic's value", name)
		}
		if name == "in the library" && !strings.Contains(caught.Where, "libsignal/ecc.DecodePoint:") {
			t.Errorf("%s: the place is %s", name, caught.Where)
		}
	}
}

func TestErrorsOfTheLibraryLoseTheirText(t *testing.T) {
	if err := libraryError(fmt.Errorf("session for 1-5@interop: %w", errors.New("detail"))); !errors.Is(err, ErrLibrary) || strings.Contains(err.Error(), "1-5") {
		t.Errorf("%v", err)
	}
	if err := libraryError(fmt.Errorf("load: %w", ErrNoPreKey)); !errors.Is(err, ErrNoPreKey) {
		t.Errorf("an error of our own became %v", err)
	}
	if libraryError(nil) != nil {
		t.Error("no error became one")
	}
}

func TestALockIsForgottenWhenNobodyUsesIt(t *testing.T) {
	var locks addressLocks
	one, err := locks.lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	two, err := locks.lock(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = locks.lock(ended, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if len(locks.held) != 2 {
		t.Errorf("%d locks held", len(locks.held))
	}
	one()
	two()
	if len(locks.held) != 0 {
		t.Errorf("%d locks are remembered", len(locks.held))
	}
}
