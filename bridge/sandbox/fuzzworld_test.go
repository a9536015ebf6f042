package sandbox

import (
	"bytes"
	"crypto/sha256"
	"maps"
	"testing"

	"github.com/rs/zerolog"

	"postern/connector/binxml"
	"postern/connector/e2ee"
	"postern/connector/jid"
)

// What seeds name, the same in every process: the fuzzer's workers get them from another one.
const (
	worldMessage = "AC00"                   // a message the phone has sent
	worldSeen    = "3EB0000000000000000001" // a message the phone has received
	worldBody    = "3x"                     // its ciphertext
	worldPing    = "p1"
	worldPreKey  = 7 // an id the partner has uploaded
)

// What a situation of the fuzz world has that the usual one has not; one bit each.
const (
	worldDeclined = 1 << iota // the person has declined
	worldBlocked              // the person has blocked the partner
	worldNotIn                // the person has not opted in
	worldNack
	worldAckError
	worldNoAck
	worldKeysGone
	worldUnread // read receipts are off, and nothing has passed yet
)

// worldDevice is the partner's Signal identity, the same in every process.
func worldDevice(t testing.TB) *e2ee.Device {
	t.Helper()
	device, err := e2ee.NewDevice(bytes.NewReader(bytes.Repeat([]byte{0x47}, 40)))
	if err != nil {
		t.Fatal(err)
	}
	return device
}

// fuzzWorld is a sandbox with one person and one partner that has everything: a stream, a session, a queue, keys. It is put
// back before each input, so that every input acts alone.
type fuzzWorld struct {
	s        *Server
	u        *user
	to       jid.JID
	a        *account
	st       *stream
	enlisted account // as it was after enlistment
	rows     map[string]signalRow
	sent     sentMessage
}

func newFuzzWorld(t testing.TB) *fuzzWorld {
	t.Helper()
	s, err := New(Config{Log: zerolog.Nop(), PhoneServer: jid.User}) // addresses that are the same in every process
	if err != nil {
		t.Fatal(err)
	}
	w := &fuzzWorld{s: s, rows: map[string]signalRow{}}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	device := worldDevice(t)
	signed, err := device.GenerateSignedPreKey(1)
	check(err)
	s.state.update(func(c change) {
		c.integrators[1] = &Integrator{ID: 1, IdentifierType: "email", PublicBase: "http://127.0.0.1:1"}
		w.u, err = c.newUser(s, "4915100000001", "Ada")
		check(err)
		w.u.OptIn.All = true
		w.to = w.u.jid
		w.a, err = c.newAccount(1, "m@example.org")
		check(err)
		w.a.Enlisted = true
		w.a.Identity, w.a.Registration = device.IdentityPublic[:], device.RegistrationID
		w.a.SignedID, w.a.SignedKey, w.a.SignedSig = signed.ID, signed.Public[:], signed.Signature[:]
		id, err := w.u.phone.send(c, s, w.a, draft{typ: "text", content: []byte{10, 1, 'x'}})
		check(err)
		w.sent = *w.u.phone.sent[id]
		w.sent.ID = worldMessage
		w.enlisted = *w.a
	})
	for key, row := range w.u.phone.rows {
		w.rows[key] = *row
	}
	return w
}

// reset puts everything back, in the situation that the bits say.
func (w *fuzzWorld) reset(c change, situation byte) {
	has := func(bit byte) bool { return situation&bit != 0 }
	a, u, p := w.a, w.u, w.u.phone
	clear(c.alive)
	c.state.complaints, c.state.faults = nil, nil
	*a = w.enlisted
	a.prekeys, a.fresh, a.queue = map[uint32]*accountPreKey{}, nil, nil
	a.seen, a.places, a.blocked, a.UsedJTI = map[string]*seen{}, map[string]blob{}, map[*user]bool{}, nil
	a.ReadReceipts = !has(worldUnread)
	c.identified[identity{a.Integrator, a.Identifier}] = a
	w.st = newStream(w.s, &carrier{}, nil, a)
	a.stream = w.st
	c.addPreKey(w.s, a, worldPreKey, make([]byte, 32))

	u.OptIn.All = !has(worldNotIn)
	u.NextPreKey, u.Events, u.events = 0, 0, nil
	u.contacts = map[*account]*contact{}
	clear(p.heard)
	clear(p.waiting)
	c.fetches.list = nil
	clear(p.rows)
	for key, row := range w.rows {
		p.rows[key] = &row
	}
	sent := w.sent
	p.sent = map[string]*sentMessage{worldMessage: &sent}
	if !has(worldUnread) {
		digest := sha256.Sum256([]byte(worldBody))
		a.seen[worldSeen] = &seen{Account: a.Address, ID: worldSeen, To: w.to.String(), Digest: digest[:], At: unix(w.s.now())}
		ct := c.inTouch(u, a)
		ct.SessionKnown = true
		if has(worldDeclined) {
			ct.State = reachDeclined
		}
		ct.Blocked = has(worldBlocked)
	}
	for bit, f := range map[byte]fault{
		worldNack: {Kind: "nack", Code: 491}, worldAckError: {Kind: "ack_error", Code: 500}, worldNoAck: {Kind: "no_ack"},
		worldKeysGone: {Kind: "prekeys_gone"},
	} {
		if has(bit) {
			f.Match, f.Count = "*", 1
			c.state.faults = append(c.state.faults, &f)
		}
	}
	w.wait(c)
}

// wait leaves stanzas of each kind to the partner, written and not answered, and a ping.
func (w *fuzzWorld) wait(c change) {
	server := w.s.prof.ServerJID
	for _, n := range []*binxml.Node{
		node("message", attrs{binxml.S("id", worldMessage), binxml.J("from", w.to)}),
		node("receipt", attrs{binxml.S("id", worldSeen), binxml.J("from", w.to), binxml.S("type", "retry")}),
		node("notification", attrs{binxml.S("id", "n1"), binxml.J("from", server), binxml.S("type", "encrypt")}),
		node("ack", attrs{binxml.S("id", worldSeen), binxml.J("from", w.to), binxml.S("class", "message"), binxml.I("error", 491)}),
	} {
		c.enqueue(w.s, w.a, n)
	}
	for i, q := range w.a.queue {
		if i < 2 {
			w.st.waiting[q.key()] = append(w.st.waiting[q.key()], q)
		} else {
			q.sent = true // on an earlier stream
		}
	}
	w.st.nacks = []*queued{w.a.queue[3]}
	w.st.pings = map[string]int{worldPing: 1, "p2": 1}
	w.st.out = nil
}

func TestTheFuzzWorldIsTheSameAfterEachReset(t *testing.T) {
	w := newFuzzWorld(t)
	var first map[string]bool
	for range 3 {
		w.s.state.update(func(c change) {
			w.reset(c, 0)
			keys := map[string]bool{}
			for key := range c.alive {
				keys[key[:3]] = true
			}
			if first == nil {
				first = keys
			}
			if !maps.Equal(keys, first) || len(w.a.queue) != 4 || len(w.a.fresh) != 1 || len(w.st.out) != 0 || w.u.contacts[w.a] == nil {
				t.Errorf("queue %d, fresh %v, kinds %v", len(w.a.queue), w.a.fresh, keys)
			}
			c.deleteAccount(w.s, w.a, &binxml.Node{Tag: "iq"}, func(*binxml.Node) {})
			if w.a.Enlisted || len(w.a.queue) != 0 {
				t.Error("the account is still there")
			}
		})
	}
}
