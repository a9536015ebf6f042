package stanza_test

import (
	"math/rand/v2"
	"reflect"
	"strconv"
	"testing"

	"postern/connector/binxml"
	"postern/connector/jid"
	"postern/connector/stanza"
)

// maker makes random valid stanzas of every type.
type maker struct{ *rand.Rand }

func (m maker) pick(from ...string) string { return from[m.IntN(len(from))] }

func (m maker) id() string {
	return m.pick("3EB0", "A", "wamid.", "7400") + strconv.FormatUint(m.Uint64(), 16)
}

func (m maker) name() string {
	return m.pick("", "Ada", "Grace Hopper", "漢字 😀", "s.whatsapp.net", "12", "text")
}

func (m maker) time() int64 { return m.Int64N(1 << 33) }

func (m maker) offline() *int {
	if m.IntN(2) == 0 {
		return nil
	}
	n := m.IntN(1000)
	return &n
}

func (m maker) address() jid.JID {
	digits := strconv.FormatUint(1+m.Uint64N(1e15-1), 10)
	switch m.IntN(3) {
	case 0:
		return jid.JID{User: digits, Server: jid.LID}
	case 1:
		return jid.JID{User: digits, Server: jid.User}
	}
	return jid.JID{User: digits, Integrator: uint16(1 + m.IntN(999)), Server: jid.Interop}
}

// parties is from and to, one of them or both.
func (m maker) parties() (from, to jid.JID) {
	switch m.IntN(3) {
	case 0:
		return m.address(), jid.JID{}
	case 1:
		return jid.JID{}, m.address()
	}
	return m.address(), m.address()
}

func (m maker) data(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(m.Uint32())
	}
	return b
}

func (m maker) key() (k [32]byte) { copy(k[:], m.data(32)); return k }

func (m maker) keyID() uint32 { return m.Uint32N(stanza.MaxKeyID + 1) }

func (m maker) bundle() *stanza.Bundle {
	b := &stanza.Bundle{RegistrationID: m.Uint32(), Type: stanza.KeyType, Identity: m.key(),
		Signed: stanza.SignedPreKey{ID: m.keyID(), Key: m.key()}}
	copy(b.Signed.Signature[:], m.data(64))
	if m.IntN(2) == 0 {
		b.PreKey = &stanza.PreKey{ID: m.keyID(), Key: m.key()}
	}
	return b
}

func (m maker) message() *stanza.Message {
	s := &stanza.Message{ID: m.id(), Type: m.pick("text", "media", "reaction", "poll"), DisplayName: m.name(), Notify: m.name(),
		STS: m.pick("", "1795478400123456"), T: m.time(), Offline: m.offline(), Edit: m.pick("", "1", "7"),
		DeviceFanout: m.pick("", "false"), Enc: stanza.Enc{V: 2 + m.IntN(2), Type: m.pick("msg", "pkmsg"),
			MediaType: m.pick("", "image", "ptt", "gif", "document"), Count: m.IntN(6), Data: m.data(1 + m.IntN(300)),
			DecryptFail: m.pick("", "hide")}}
	s.From, s.To = m.parties()
	return s
}

func (m maker) receipt() *stanza.Receipt {
	s := &stanza.Receipt{ID: m.id(), Type: m.pick("", "read", "played", "retry", "inactive"), T: m.time(),
		STS: m.pick("", "1795478400123456"), Offline: m.offline()}
	s.From, s.To = m.parties()
	s.IDs = []string{s.ID}
	if s.Type == stanza.ReceiptRetry {
		s.Retry = &stanza.Retry{Count: 1 + m.IntN(5), ID: s.ID, T: m.time(), Version: 1, Error: m.IntN(14), RegistrationID: m.Uint32()}
		if m.IntN(2) == 0 {
			s.Retry.Keys = m.bundle()
			s.Retry.Keys.RegistrationID = s.Retry.RegistrationID
		}
		return s
	}
	for range m.IntN(5) {
		s.IDs = append(s.IDs, m.id())
	}
	return s
}

func (m maker) stanza() stanza.Stanza {
	switch m.IntN(10) {
	case 0, 1:
		return m.message()
	case 2, 3:
		return m.receipt()
	case 4:
		s := &stanza.Ack{Class: m.pick("message", "receipt", "notification"), ID: m.id(), Type: m.pick("", "read", "encrypt"),
			T: m.time(), Error: []int{0, 403, 463, 491, 503}[m.IntN(5)]}
		s.From, s.To = m.parties()
		return s
	case 5:
		s := &stanza.IQ{Type: m.pick("get", "set", "result"), ID: m.id(), XMLNS: m.pick("", "encrypt", "w:p"),
			Children: []binxml.Node{{Tag: m.pick("count", "ping", "unheard of"), Data: m.data(m.IntN(9))}}}
		s.From, s.To = m.parties()
		return s
	case 6:
		s := []*stanza.Notification{stanza.NewPreKeyCount(m.IntN(200)), stanza.NewIdentityChange(m.address()),
			stanza.NewReachability(stanza.Reach{JID: m.address(), State: m.pick("accepted", "declined", "off")}),
			stanza.NewBlockChanges(stanza.BlockChange{JID: m.address(), Block: m.IntN(2) == 0})}[m.IntN(4)]
		s.ID, s.T, s.Offline, s.To = m.id(), m.time(), m.offline(), m.address()
		return s
	case 7:
		s := &stanza.ChatState{State: m.pick("composing", "paused"), Media: m.pick("", "audio")}
		s.From, s.To = m.parties()
		return s
	case 8:
		s := &stanza.IB{Offline: m.offline()}
		if m.IntN(2) == 0 {
			s.Preview = &stanza.OfflinePreview{Count: m.IntN(9), Message: m.IntN(9), Receipt: m.IntN(9), Notification: m.IntN(9)}
		}
		return s
	}
	return []stanza.Stanza{&stanza.Success{T: m.time(), LID: m.address()},
		&stanza.Failure{Reason: 400 + m.IntN(150), Message: m.name(), Expire: m.time()},
		&stanza.StreamError{Code: m.IntN(600), Conflict: m.pick("", "replaced", "device_removed")}}[m.IntN(3)]
}

func TestGeneratedStanzasComeBackAsTheyWere(t *testing.T) {
	m, kinds := maker{rand.New(rand.NewPCG(1, 2))}, map[stanza.Kind]int{}
	for range 5000 {
		s := m.stanza()
		built := s.Node()
		back, err := stanza.Parse(wire(t, built))
		if err != nil {
			t.Fatalf("%s: %v", show(built), err)
		}
		if !reflect.DeepEqual(back, s) {
			t.Fatalf("%s came back as %s", show(built), show(back.Node()))
		}
		if again := show(s.Node()); again != show(built) {
			t.Fatalf("%s is built as %s the second time", show(built), again)
		}
		kinds[s.Kind()]++
	}
	for k := stanza.KindMessage; k <= stanza.KindStreamError; k++ {
		if kinds[k] < 100 {
			t.Errorf("only %d of kind %v", kinds[k], k)
		}
	}
}

func TestGeneratedBundlesComeBackAsTheyWere(t *testing.T) {
	m := maker{rand.New(rand.NewPCG(3, 4))}
	for range 100 {
		results := make([]stanza.KeyResult, 1+m.IntN(5))
		for i := range results {
			if results[i].JID = m.address(); m.IntN(4) == 0 {
				results[i].Err = stanza.NewIQError(404)
			} else {
				results[i].Bundle = m.bundle()
			}
		}
		a, err := stanza.KeyAnswer(&stanza.IQ{ID: "1"}, results)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := stanza.ParseKeys(answered(t, a)); err != nil || !reflect.DeepEqual(back, results) {
			t.Fatalf("came back as %+v, %v", back, err)
		}
		upload := &stanza.Upload{RegistrationID: m.Uint32(), Identity: m.key(), Signed: m.bundle().Signed, PreKeys: []stanza.PreKey{}}
		for range m.IntN(200) {
			upload.PreKeys = append(upload.PreKeys, stanza.PreKey{ID: m.keyID(), Key: m.key()})
		}
		q, err := upload.IQ()
		if err != nil {
			t.Fatal(err)
		}
		q.ID = "1"
		if back, err := stanza.ParseRequest(answered(t, q)); err != nil || !reflect.DeepEqual(back, upload) {
			t.Fatalf("upload came back with %v", err)
		}
	}
}

// Every part of every request and answer is taken away in turn: what is left is understood, unknown or a typed error,
// and never a panic.
func TestRequestsAndAnswersWithoutAnyOneOfTheirPartsAreTypedErrors(t *testing.T) {
	m, cuts := maker{rand.New(rand.NewPCG(5, 6))}, 0
	q := &stanza.IQ{Type: "get", ID: "7", To: jid.ServerJID}
	keys, err := stanza.KeyAnswer(q, []stanza.KeyResult{{JID: phone, Bundle: m.bundle()}, {JID: partner, Err: stanza.NewIQError(404)}})
	if err != nil {
		t.Fatal(err)
	}
	whole := []*stanza.IQ{keys, stanza.CountAnswer(q, 3), stanza.BlocklistAnswer(q, []jid.JID{phone}),
		stanza.UsersAnswer(q, []stanza.UserResult{{ExternalID: "+49", Normalized: "49", JID: phone}, {ExternalID: "+33", Err: stanza.NewIQError(403)}})}
	for _, tc := range requests {
		r, err := tc.request.IQ()
		if err != nil {
			t.Fatal(err)
		}
		r.ID = "7"
		whole = append(whole, r)
	}
	for _, q := range whole {
		n := q.Node()
		without(n, func() {
			cuts++
			check(t, wire(t, n))
		})
	}
	if cuts < 150 {
		t.Errorf("only %d parts were taken away", cuts)
	}
}

// without calls f once for each attribute, child and content of n taken away, and puts it back.
func without(n *binxml.Node, f func()) {
	attrs, children, data := n.Attrs, n.Children, n.Data
	for i := range attrs {
		n.Attrs = append(append([]binxml.Attr(nil), attrs[:i]...), attrs[i+1:]...)
		f()
	}
	n.Attrs = attrs
	for i := range children {
		n.Children = append(append([]binxml.Node(nil), children[:i]...), children[i+1:]...)
		f()
	}
	n.Children = children
	if data != nil {
		n.Data = nil
		f()
		n.Data = append([]byte{0}, data...)
		f()
		n.Data = data
	}
	for i := range children {
		without(&children[i], f)
	}
}

func BenchmarkParseMessage(b *testing.B) {
	n := wire(b, stanzas[3].stanza.Node())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := stanza.Parse(n); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBuildMessage(b *testing.B) {
	s := stanzas[3].stanza
	b.ReportAllocs()
	for b.Loop() {
		s.Node()
	}
}
