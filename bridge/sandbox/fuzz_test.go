package sandbox

import (
	"bufio"
	"bytes"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

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

// bounded fails if fn, which has no effect, allocates more than bound bytes. Other goroutines are counted too, so a figure
// that is too high is measured again.
func bounded(t *testing.T, bound int, fn func()) {
	t.Helper()
	var used uint64
	for range 5 {
		if used = allocated(fn); used <= uint64(bound) {
			return
		}
	}
	t.Fatalf("%d bytes allocated, the bound is %d", used, bound)
}

// FuzzEnlistmentForm reads any form; what is allocated is bounded by 64 KiB and 8 times its length.
//
// decoder: enlist.go:parseEnlistForm,bigEndian,signedKeyGood
func FuzzEnlistmentForm(f *testing.F) {
	device := worldDevice(f)
	signed, err := device.GenerateSignedPreKey(1)
	if err != nil {
		f.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	good := url.Values{
		"authkey": {b64(make([]byte, 32))}, "e_keytype": {b64([]byte{5})}, "e_regid": {b64(be(device.RegistrationID, 4))},
		"e_ident": {b64(device.IdentityPublic[:])}, "e_skey_id": {b64(be(signed.ID, 3))}, "e_skey_val": {b64(signed.Public[:])},
		"e_skey_sig": {b64(signed.Signature[:])}, "token": {"a.b.c"},
	}
	f.Add(good.Encode())
	for name := range good {
		tampered := clone(good)
		tampered.Set(name, "AA")
		f.Add(tampered.Encode())
		tampered.Add(name, good.Get(name))
		f.Add(tampered.Encode())
	}
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
		bounded(t, 64<<10+8*len(body), func() { parseEnlistForm(form) })
	})
}

// FuzzToken takes a token apart and judges its claims. Claims that are accepted have an identifier and an end; what is
// allocated is bounded by 64 KiB and 256 bytes for each byte.
//
// decoder: token.go:splitToken,verifier.claims,seconds
func FuzzToken(f *testing.F) {
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4IiwiZXhwIjoxZTMwMH0.AA")
	clock := newClock()
	now := unix(clock.now())
	for _, edit := range []tokenEdit{
		func(map[string]any, map[string]any) {}, claim("aud", []string{"x", "WHATSAPP"}), claim("aud", []string{}), claim("aud", "x"), claim("aud", 1),
		claim("exp", now-1000), claim("exp", now+9000), claim("exp", "soon"), claim("iat", 1e300), claim("nbf", now+1000), claim("nbf", nil),
		claim("nbf", "x"), claim("sub", ""), claim("sub", 7), claim("jti", nil),
	} {
		head := map[string]any{"alg": "RS256", "typ": "JWT", "kid": "k"}
		body := map[string]any{"iss": "x", "aud": "WHATSAPP", "sub": "m@example.org", "exp": now + 600, "iat": now, "nbf": now, "jti": "j"}
		edit(head, body)
		parts := make([]string, 0, 3)
		for _, part := range []any{head, body} {
			b, err := json.Marshal(part)
			if err != nil {
				f.Fatal(err)
			}
			parts = append(parts, base64.RawURLEncoding.EncodeToString(b))
		}
		f.Add(strings.Join(append(parts, "AA"), "."))
	}
	v := newVerifier("WHATSAPP", "sub", func() time.Time { return time.Unix(now, 0) })
	f.Fuzz(func(t *testing.T, token string) {
		var c *claims
		var err error
		bounded(t, 64<<10+256*len(token), func() {
			var body map[string]any
			if _, body, err = splitToken(token); err == nil {
				c, err = v.claims(body)
			}
		})
		if err == nil && (c.identifier == "" || c.expires == 0) {
			t.Fatalf("accepted %+v", c)
		}
	})
}

// FuzzKeySet reads any key set: a bounded number of keys, each with an id and at most 8192 bits; what is allocated is
// bounded by 1 MiB and 256 bytes for each byte.
//
// decoder: token.go:parseKeySet
func FuzzKeySet(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"RSA","alg":"RS256","use":"sig","kid":"a","n":"AQAB","e":"AQAB"}]}`))
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`{"keys":[` + strings.Repeat(`{},`, maxJWKSKeys) + `{}]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AA","kid":"a"},{"kty":"RSA","alg":"RS256","use":"enc","kid":"a","n":"AQAB","e":"AQAB"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var keys map[string]*rsa.PublicKey
		var err error
		bounded(t, 1<<20+256*len(data), func() { keys, err = parseKeySet(data) })
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

// FuzzProxyHeader reads the start of any stream. What it finds is an address or nothing, the bytes after the header stay in
// the stream, and the allocation is bounded by 64 KiB.
//
// decoder: carrier.go:readProxyHeader
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c123456789012"))
	f.Add([]byte("WA\x06\x03"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24" + strings.Repeat("1", 36)))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x11\x11\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r *bufio.Reader
		var address string
		var err error
		bounded(t, 64<<10, func() {
			r = bufio.NewReaderSize(bytes.NewReader(data), 4096)
			address, err = readProxyHeader(r)
		})
		if _, bad := netip.ParseAddr(address); address != "" && (bad != nil || err != nil) {
			t.Fatalf("the address is %q, %v", address, err)
		}
		if err != nil {
			return
		}
		rest, err := io.ReadAll(r)
		if err != nil || !bytes.HasSuffix(data, rest) || len(data) > 0 && data[0] != proxySignature[0] && len(rest) != len(data) {
			t.Fatalf("%d of %d bytes are left, %v", len(rest), len(data), err)
		}
	})
}

// FuzzPartnerStanza gives the sandbox any stanza of a partner that has everything, in any situation. Every answer can be
// encoded, and what is allocated is bounded by 8 MiB and 200 bytes for each byte of the frame.
//
// decoder: receive.go:-change.accountByNumber iq.go:-change.tell,-change.retell
// decoder: prekeys.go:-change.bundle,-change.lowOnPreKeys,-account.sortPreKeys,-bundleNodes,-be
// decoder: phone_send.go:change.readRetry,phone.retryAsked,phone.renewSession
func FuzzPartnerStanza(f *testing.F) {
	w := newFuzzWorld(f)
	for _, seed := range partnerSeeds(f, w.to) {
		frame, err := w.s.codec.Append(nil, seed.n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame, seed.situation)
	}
	f.Fuzz(func(t *testing.T, frame []byte, situation byte) {
		n, err := w.s.codec.Decode(frame)
		if err != nil {
			return
		}
		w.s.state.update(func(c change) {
			w.reset(c, situation)
			bytes := allocated(func() { c.stanza(w.st, n) })
			for _, o := range w.st.out {
				if o.node == nil {
					continue
				}
				if _, err := w.s.codec.Append(nil, o.node); err != nil {
					t.Fatalf("an answer that cannot be encoded: %s: %v", o.node.Tag, err)
				}
			}
			if limit := uint64(8<<20 + 200*len(frame)); bytes > limit {
				t.Fatalf("%d bytes allocated for a frame of %d", bytes, len(frame))
			}
		})
	})
}

type partnerSeed struct {
	n         *binxml.Node
	situation byte
}

// partnerSeeds is each stanza a partner sends, and the ways they can be wrong.
func partnerSeeds(f *testing.F, to jid.JID) (seeds []partnerSeed) {
	add := func(situation byte, stanzas ...stanza.Stanza) {
		for _, s := range stanzas {
			seeds = append(seeds, partnerSeed{s.Node(), situation})
		}
	}
	const fresh = "3EB0000000000000000002"
	message := func(id, media string, count int, edit func(*stanza.Message)) *stanza.Message {
		m := &stanza.Message{ID: id, To: to, Type: "text", DisplayName: "x", Enc: stanza.Enc{
			V: 2, Type: "msg", MediaType: media, Count: count, Data: []byte(worldBody),
		}}
		if media != "" {
			m.Type = "media"
		}
		if edit != nil {
			edit(m)
		}
		return m
	}
	plain := message(fresh, "", 0, nil)
	for _, situation := range []byte{0, worldDeclined, worldBlocked, worldNotIn, worldNack, worldAckError, worldNoAck, worldUnread} {
		add(situation, plain, &stanza.Receipt{ID: worldMessage, To: to, IDs: []string{worldMessage}, Type: "read"})
	}
	add(0, message(worldSeen, "", 0, nil), message(worldSeen, "", 1, nil), message(fresh, "", 2, nil), message(fresh, "image", 0, nil),
		message(worldSeen, "", 0, func(m *stanza.Message) { m.Enc.Data = []byte("another") }),
		message("odd", "", 0, func(m *stanza.Message) { m.Edit, m.Enc.DecryptFail = "1", "hide" }),
		message(fresh, "", 0, func(m *stanza.Message) { m.To = jid.JID{User: "2", Server: jid.User} }),
		message(fresh, "", 0, func(m *stanza.Message) { m.Enc.V = 3 }))
	device := worldDevice(f)
	key, err := device.GenerateSignedPreKey(2)
	if err != nil {
		f.Fatal(err)
	}
	signed := stanza.SignedPreKey{ID: key.ID, Key: key.Public, Signature: key.Signature}
	bundle := &stanza.Bundle{
		RegistrationID: device.RegistrationID, Type: 5, Identity: device.IdentityPublic, Signed: signed,
		PreKey: &stanza.PreKey{ID: 3, Key: key.Public},
	}
	retry := func(edit func(*stanza.Retry)) *stanza.Receipt {
		y := &stanza.Retry{Count: 1, ID: worldMessage, T: 1, Version: 1, RegistrationID: device.RegistrationID, Keys: bundle}
		edit(y)
		return &stanza.Receipt{ID: worldMessage, To: to, Type: "retry", Retry: y}
	}
	add(0, retry(func(*stanza.Retry) {}), retry(func(y *stanza.Retry) { y.Keys = nil }), retry(func(y *stanza.Retry) { y.Count = 6 }),
		retry(func(y *stanza.Retry) { y.Error = 500 }), retry(func(y *stanza.Retry) { y.RegistrationID++ }),
		&stanza.Receipt{ID: worldMessage, To: to, IDs: []string{worldMessage, "b"}, Type: "odd"}, &stanza.Receipt{ID: "x", To: jid.JID{User: "2", Server: jid.User}},
		&stanza.Ack{Class: "message", ID: worldMessage, To: to, Error: 491}, &stanza.Ack{Class: "message", ID: "x", To: to},
		&stanza.Ack{Class: "receipt", ID: worldSeen, To: to, Type: "retry"}, &stanza.Ack{Class: "receipt", ID: worldSeen, To: jid.ServerJID, Type: "retry"},
		&stanza.Ack{Class: "notification", ID: "n1", To: jid.ServerJID}, &stanza.Ack{Class: "iq", ID: "x"},
		&stanza.ChatState{To: to, State: "composing", Media: "audio"}, &stanza.ChatState{To: to, State: "paused"},
		&stanza.IQ{Type: "result", ID: worldPing, To: jid.ServerJID}, &stanza.IQ{Type: "error", ID: worldPing, To: jid.ServerJID},
		&stanza.IQ{Type: "odd", ID: "1", To: jid.ServerJID}, stanza.NewPreKeyCount(1), &stanza.IB{})
	upload := &stanza.Upload{
		RegistrationID: device.RegistrationID, Identity: device.IdentityPublic, Signed: signed,
		PreKeys: []stanza.PreKey{{ID: 1}, {ID: worldPreKey}, {ID: worldPreKey, Key: key.Public}},
	}
	wrong := *upload
	wrong.RegistrationID++
	for _, q := range []iqMaker{
		&stanza.KeyRequest{Users: []jid.JID{to, {User: "2", Server: jid.User}}}, &stanza.UsersRequest{ExternalIDs: []string{ada, "+12", "49"}},
		stanza.CountRequest{}, upload, &wrong, &stanza.Rotate{Signed: signed}, &stanza.Rotate{}, &stanza.ReachRequest{JID: to, DisplayName: "x"},
		stanza.BlockRequest{BlockChange: stanza.BlockChange{JID: to, Block: true}}, stanza.BlockRequest{BlockChange: stanza.BlockChange{JID: to}},
		stanza.BlocklistRequest{}, stanza.KeepAlive{}, stanza.PassiveRequest{}, stanza.DeleteRequest{},
	} {
		iq, err := q.IQ()
		if err != nil {
			f.Fatal(err)
		}
		iq.ID, iq.To = "1", jid.ServerJID
		add(0, iq)
		add(worldAckError|worldKeysGone, iq)
		add(worldKeysGone|worldNotIn, iq)
	}
	return seeds
}

// FuzzContent gives a phone any content of a message that it could decrypt. Whatever is allocated is bounded by 1 MiB and
// 400 bytes for each byte of it.
//
// decoder: content.go content_media.go reply.go:phone.quote,quotable,unwrap phone_receive.go:phone.read,phone.refuse phone_send.go:unpad
func FuzzContent(f *testing.F) {
	w := newFuzzWorld(f)
	for _, m := range contentSeeds(w.to) {
		plain, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append(plain, 1), "text", "")
		f.Add(append(plain, 0), "media", "image")
	}
	f.Fuzz(func(t *testing.T, padded []byte, typ, media string) {
		plain, n, ok := unpad(padded)
		if !ok {
			return
		}
		if len(plain)+n != len(padded) || n < 1 || n > 16 {
			t.Fatalf("%d bytes of %d, padding %d", len(plain), len(padded), n)
		}
		w.s.state.update(func(c change) {
			w.reset(c, 0)
			h := &heardMessage{Phone: w.u.Phone, ID: "3EB0000000000000000003", Account: w.a.Address}
			enc := leaf("enc", attrs{binxml.S("mediatype", media)}, nil)
			bytes := allocated(func() { w.u.phone.read(c, w.s, w.a, h, node("message", attrs{binxml.S("type", typ)}, enc), enc, plain) })
			if shown := len(w.u.events) + len(w.u.phone.waiting[w.a.Address]); !h.Done || shown != 1 {
				t.Fatalf("done %v, %d events", h.Done, shown)
			}
			if limit := uint64(1<<20 + 400*len(padded)); bytes > limit {
				t.Fatalf("%d bytes allocated for content of %d", bytes, len(padded))
			}
			if h.Plain == nil {
				return
			}
			w.u.phone.heard[heardKey{h.Account, h.ID}] = h
			quote, err := w.u.phone.quote(w.a, h.ID)
			if err != nil || quote.GetQuotedMessage() == nil || quote.GetParticipant() != w.a.Address {
				t.Fatalf("cannot be replied to: %v", err)
			}
		})
	})
}

// contentSeeds is each kind of content a phone takes, and kinds it does not.
func contentSeeds(to jid.JID) []*waE2E.Message {
	target := worldMessage
	quote := func(id string, participant string) *waE2E.ContextInfo {
		return &waE2E.ContextInfo{StanzaID: &id, Participant: &participant, QuotedMessage: &waE2E.Message{Conversation: proto.String("q")}}
	}
	reply := func(quote *waE2E.ContextInfo) *waE2E.Message {
		return &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("re"), ContextInfo: quote}}
	}
	more := quote(target, to.String())
	more.IsForwarded = proto.Bool(true)
	captioned := quote(target, to.String())
	captioned.QuotedMessage = &waE2E.Message{ImageMessage: picture("image/png")}
	film, voice, doc := &waE2E.VideoMessage{}, &waE2E.AudioMessage{}, &waE2E.DocumentMessage{}
	film.Mimetype, film.FileSHA256, film.FileEncSHA256, film.MediaKey, film.DirectPath = proto.String("video/mp4"), hash32, hash32, hash32, proto.String("/x")
	voice.Mimetype, voice.PTT = proto.String("audio/ogg; codecs=opus"), proto.Bool(true)
	voice.FileSHA256, voice.FileEncSHA256, voice.MediaKey, voice.DirectPath, voice.URL = hash32, hash32, hash32, proto.String("/x"), proto.String("x")
	doc.FileSHA256, doc.FileEncSHA256, doc.MediaKey, doc.ContextInfo = hash32, hash32, hash32, quote("x", "y")
	gif := proto.Clone(film).(*waE2E.VideoMessage)
	gif.GifPlayback = proto.Bool(true)
	key := &waCommon.MessageKey{ID: &target, FromMe: proto.Bool(false)}
	mine := &waCommon.MessageKey{ID: proto.String("x"), FromMe: proto.Bool(true)}
	return []*waE2E.Message{
		{}, {Conversation: proto.String("x")}, {Conversation: proto.String("x"), ReactionMessage: &waE2E.ReactionMessage{}}, {LocationMessage: &waE2E.LocationMessage{}},
		reply(quote(target, to.String())), reply(quote("", "")), reply(quote("x", "y")), reply(more), reply(nil), reply(captioned),
		{ReactionMessage: &waE2E.ReactionMessage{Key: key, Text: proto.String("y")}}, {ReactionMessage: &waE2E.ReactionMessage{Key: mine}}, {ReactionMessage: &waE2E.ReactionMessage{}},
		{ImageMessage: picture("image/png")}, {ImageMessage: picture("image/x")}, {VideoMessage: film}, {VideoMessage: gif}, {AudioMessage: voice}, {DocumentMessage: doc},
	}
}

// FuzzRelayPath reads the path of any message or request. What it takes is written in one way only, and the allocation is
// bounded by 64 KiB.
//
// decoder: relay.go:relayPath,goodReference
func FuzzRelayPath(f *testing.F) {
	good := "/interop/whatsapp/download/12/" + strings.Repeat("aZ-_0", 8) + "aZ9/"
	for _, path := range []string{good, good[:len(good)-1], good + "/", strings.Replace(good, "12", "012", 1), strings.Replace(good, "a", ".", 1), "/interop/whatsapp/download//"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		var in uint16
		var reference string
		var ok bool
		bounded(t, 64<<10, func() { in, reference, ok = relayPath("whatsapp", path) })
		if !ok {
			return
		}
		if again := fmt.Sprintf("/interop/whatsapp/download/%d/%s/", in, reference); again != path || len(reference) != referenceSize || in < 1 || in > 999 {
			t.Fatalf("%q is read as integrator %d and %q", path, in, reference)
		}
	})
}
