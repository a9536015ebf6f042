package sandbox

import (
	"bufio"
	"bytes"
	"net/url"
	"runtime"
	"testing"

	"github.com/rs/zerolog"

	"postern/connector/binxml"
	"postern/connector/jid"
	"postern/connector/stanza"
)

// allocated is how many bytes fn allocates, roughly.
func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func FuzzEnlistmentForm(f *testing.F) {
	f.Add("authkey=x&e_keytype=BQ&e_regid=AAAAAQ&e_ident=&e_skey_id=AAAB&e_skey_val=&e_skey_sig=&token=a.b.c")
	f.Add("authkey=%ff&authkey=2")
	f.Add("token=a;b")
	f.Fuzz(func(t *testing.T, body string) {
		if len(body) > maxEnlistBody {
			return
		}
		form, err := url.ParseQuery(body)
		if err != nil {
			return
		}
		bytes := allocated(func() { parseEnlistForm(form) })
		if limit := uint64(64<<10 + 8*len(body)); bytes > limit {
			t.Fatalf("%d bytes allocated for %d", bytes, len(body))
		}
	})
}

func FuzzToken(f *testing.F) {
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4IiwiZXhwIjoxZTMwMH0.AA")
	v := newVerifier("WHATSAPP", "sub", newClock().now)
	f.Fuzz(func(t *testing.T, token string) {
		in := &Integrator{ID: 1, IdentifierType: "email", PublicBase: "http://127.0.0.1:1"}
		head, body, err := splitToken(token)
		if err != nil {
			return
		}
		_ = head
		if c, err := v.claims(body); err == nil && (c.identifier == "" || c.expires == 0) {
			t.Fatalf("accepted %+v for %d", c, in.ID)
		}
	})
}

func FuzzKeySet(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"RSA","alg":"RS256","use":"sig","kid":"a","n":"AQAB","e":"AQAB"}]}`))
	f.Add([]byte(`{"keys":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeySet(data)
		if err == nil && len(keys) > maxJWKSKeys {
			t.Fatal("too many keys")
		}
		for kid, key := range keys {
			if kid == "" || key.N.BitLen() > 8192 {
				t.Fatal("a key that cannot be used")
			}
		}
	})
}

func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c123456789012"))
	f.Add([]byte("WA\x06\x03"))
	f.Fuzz(func(t *testing.T, data []byte) {
		readProxyHeader(bufio.NewReaderSize(bytes.NewReader(data), 4096))
	})
}

// FuzzPartnerStanza gives the sandbox any stanza of a partner that has everything: a stream, a session, a queue.
func FuzzPartnerStanza(f *testing.F) {
	s, err := New(Config{Log: zerolog.Nop(), PhoneServer: jid.User}) // addresses that are the same in every process
	if err != nil {
		f.Fatal(err)
	}
	const id = "AC00"
	var st *stream
	var to jid.JID
	s.state.update(func(c change) {
		in := &Integrator{ID: 1, IdentifierType: "email", PublicBase: "http://127.0.0.1:1"}
		c.integrators[1] = in
		u, err := c.newUser(s, "4915100000001", "Ada")
		if err != nil {
			f.Fatal(err)
		}
		u.OptIn.All = true
		to = u.jid
		a, err := c.newAccount(1, "m@example.org")
		if err != nil {
			f.Fatal(err)
		}
		partner := &user{Phone: "1", Address: "1@lid"}
		if err := partner.install(); err != nil {
			f.Fatal(err)
		}
		p, err := newPhone(s.state, partner)
		if err != nil {
			f.Fatal(err)
		}
		b, err := p.bundle(c, false)
		if err != nil {
			f.Fatal(err)
		}
		delete(c.alive, partner.storeKey())
		a.Enlisted = true
		a.Identity, a.Registration = b.Identity[:], b.RegistrationID
		a.SignedID, a.SignedKey, a.SignedSig = b.Signed.ID, b.Signed.Key[:], b.Signed.Signature[:]
		st = newStream(s, &carrier{}, nil, a)
		a.stream = st
		sent, err := u.phone.send(c, s, a, draft{typ: "text", content: []byte{10, 1, 'x'}})
		if err != nil {
			f.Fatal(err)
		}
		m := u.phone.sent[sent]
		m.ID = id
		u.phone.sent[id] = m
	})
	add := func(n *binxml.Node) {
		frame, err := s.codec.Append(nil, n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
	}
	add((&stanza.Message{ID: "3EB0000000000000000000", To: to, Type: "text", DisplayName: "x", Enc: stanza.Enc{V: 2, Type: "pkmsg", Data: []byte("3x")}}).Node())
	add((&stanza.Receipt{ID: id, To: to, IDs: []string{id, "b"}}).Node())
	add((&stanza.Receipt{ID: id, To: to, Type: "retry", Retry: &stanza.Retry{Count: 1, ID: id, Version: 1, RegistrationID: 5}}).Node())
	add((&stanza.Ack{Class: "message", ID: id, To: to, Error: 491}).Node())
	add((&stanza.ChatState{To: to, State: "composing"}).Node())
	for _, q := range []iqMaker{
		&stanza.KeyRequest{Users: []jid.JID{to}}, &stanza.UsersRequest{ExternalIDs: []string{ada}}, stanza.CountRequest{},
		&stanza.Upload{PreKeys: []stanza.PreKey{{ID: 1}}}, &stanza.Rotate{}, &stanza.ReachRequest{JID: to, DisplayName: "x"},
		stanza.BlockRequest{BlockChange: stanza.BlockChange{JID: to, Block: true}}, stanza.KeepAlive{},
	} {
		if iq, err := q.IQ(); err == nil {
			iq.ID, iq.To = "1", jid.ServerJID
			add(iq.Node())
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		n, err := s.codec.Decode(frame)
		if err != nil || len(n.Children) > 0 && n.Children[0].Tag == "delete_account" {
			return
		}
		bytes := allocated(func() {
			s.state.update(func(c change) {
				c.stanza(st, n)
				for _, o := range st.out {
					if o.node != nil {
						if _, err := s.codec.Append(nil, o.node); err != nil {
							t.Fatalf("an answer that cannot be encoded: %s: %v", o.node.Tag, err)
						}
					}
				}
				st.out, st.later = nil, nil
				for len(st.account.queue) > 0 {
					c.remove(st.account, st.account.queue[0])
				}
			})
		})
		if limit := uint64(8<<20 + 200*len(frame)); bytes > limit {
			t.Fatalf("%d bytes allocated for a frame of %d", bytes, len(frame))
		}
	})
}
