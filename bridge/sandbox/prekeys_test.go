package sandbox

import (
	"context"
	"testing"

	"postern/connector/binxml"
	"postern/connector/jid"
	"postern/connector/stanza"
)

func (p *scripted) count() int {
	p.t.Helper()
	n, err := stanza.ParseCount(p.ask(stanza.CountRequest{}))
	must(p.t, err)
	return n
}

func TestOneTimePreKeysAreHandedOutOnceInOrderAndLowStocksAreToldOnce(t *testing.T) {
	l := newLab(t)
	p := l.newPartner(matilda).enlist()
	p.login()
	if n := p.count(); n != 0 {
		t.Fatalf("%d right after enlistment", n)
	}
	p.upload(12)
	phones := []string{"+4915100000011", "+4915100000012", "+4915100000013", "+4915100000014"}
	for i, phone := range phones {
		l.post("/v1/users", map[string]any{"phone": phone, "opted_in": true}, nil)
		l.say(phone, matilda, "hi")
		n := p.want("message", tagIs("message"))
		s, err := stanza.Parse(n)
		must(t, err)
		if s.(*stanza.Message).Enc.Type != "pkmsg" {
			t.Fatal("not a pkmsg")
		}
		p.open(n)
		if left := p.count(); left != 12-i-1 {
			t.Fatalf("%d left after %d", left, i+1)
		}
	}
	for id := uint32(1); id <= 4; id++ {
		if k, _ := p.store.LoadPreKey(context.Background(), id); k != nil {
			t.Errorf("prekey %d was not the one used", id)
		}
	}
	low := func(n *binxml.Node) bool { return n.Tag == "notification" && n.Child("count") != nil }
	n := p.want("low notification", low)
	if n.Child("count").Attr("value") != "9" {
		t.Fatalf("value %s", n.Child("count").Attr("value"))
	}
	p.ack(n, 0)
	for _, n := range p.unread {
		if low(n) {
			t.Fatal("told twice")
		}
	}
	p.upload(100)
	l.post("/v1/partners/prekeys", map[string]any{"to": matilda, "keep": 3}, nil)
	p.ack(p.want("low notification after an upload", low), 0)
	if left := p.count(); left != 3 {
		t.Fatalf("%d left", left)
	}
	l.noComplaints()
}

func TestTheSameUploadTwiceDoesNotBringBackWhatWasHandedOut(t *testing.T) {
	l := newLab(t)
	p := l.newPartner(matilda).enlist()
	p.login()
	p.upload(5)
	l.say(ada, matilda, "takes the first")
	p.nextKey = 1
	keys := []stanza.PreKey{}
	for id := uint32(1); id <= 5; id++ {
		k, err := p.store.LoadPreKey(context.Background(), id)
		must(t, err)
		keys = append(keys, stanza.PreKey{ID: id, Key: [32]byte(k[1:33])})
	}
	u := &stanza.Upload{
		RegistrationID: p.device.RegistrationID, Identity: p.device.IdentityPublic, PreKeys: keys,
		Signed: stanza.SignedPreKey{ID: p.signed.ID, Key: p.signed.Public, Signature: p.signed.Signature},
	}
	if a := p.ask(u); a.Err != nil {
		t.Fatal(a.Err)
	}
	if left := p.count(); left != 4 {
		t.Fatalf("%d left, want 4", left)
	}
	l.noComplaints()
	u.PreKeys = []stanza.PreKey{{ID: 2, Key: p.signed.Public}}
	if a := p.ask(u); a.Err != nil {
		t.Fatal(a.Err)
	}
	if left := p.count(); left != 4 {
		t.Fatalf("%d left, want 4", left)
	}
	l.complained("under an id already used")
}

func TestUploadsOfAnotherIdentityOrWithABadSignatureAreRefused(t *testing.T) {
	l := newLab(t)
	p := l.newPartner(matilda).enlist()
	other := l.newPartner("other@example.org")
	p.login()
	good := stanza.Upload{
		RegistrationID: p.device.RegistrationID, Identity: p.device.IdentityPublic,
		PreKeys: []stanza.PreKey{{ID: 1, Key: p.signed.Public}},
		Signed:  stanza.SignedPreKey{ID: p.signed.ID, Key: p.signed.Public, Signature: p.signed.Signature},
	}
	for name, edit := range map[string]func(*stanza.Upload){
		"another identity":     func(u *stanza.Upload) { u.Identity = other.device.IdentityPublic },
		"another registration": func(u *stanza.Upload) { u.RegistrationID++ },
		"a wrong signature":    func(u *stanza.Upload) { u.Signed.Signature[3] ^= 1 },
	} {
		u := good
		edit(&u)
		if code := iqCode(p.ask(&u)); code != 406 {
			t.Errorf("%s: %d", name, code)
		}
	}
	for name, edit := range map[string]func(n *binxml.Node){
		"a short key":     func(n *binxml.Node) { key(n).Child("value").Data = make([]byte, 31) },
		"a short id":      func(n *binxml.Node) { key(n).Child("id").Data = make([]byte, 2) },
		"a key of no id":  func(n *binxml.Node) { key(n).Children = key(n).Children[1:] },
		"no registration": func(n *binxml.Node) { drop(n, "registration") },
		"no type":         func(n *binxml.Node) { drop(n, "type") },
		"no identity":     func(n *binxml.Node) { drop(n, "identity") },
	} {
		q, err := good.IQ()
		must(t, err)
		n := q.Node()
		edit(n)
		if code := iqCode(p.askIQ(&stanza.IQ{Type: "set", XMLNS: "encrypt", Children: n.Children})); code != 400 {
			t.Errorf("%s: %d", name, code)
		}
	}
	if left := p.count(); left != 0 {
		t.Fatalf("%d prekeys from refused uploads", left)
	}
}

func key(n *binxml.Node) *binxml.Node { return n.Child("list").Child("key") }

func drop(n *binxml.Node, tag string) {
	for i := range n.Children {
		if n.Children[i].Tag == tag {
			n.Children = append(n.Children[:i:i], n.Children[i+1:]...)
			return
		}
	}
}

func TestARotatedSignedPreKeyIsUsedFromThenOn(t *testing.T) {
	l := newLab(t)
	p := l.newPartner(matilda).enlist()
	p.login()
	next, err := p.device.GenerateSignedPreKey(2)
	must(t, err)
	q := &stanza.Rotate{Signed: stanza.SignedPreKey{ID: next.ID, Key: next.Public, Signature: next.Signature}}
	bad := *q
	bad.Signed.Signature[0] ^= 1
	if code := iqCode(p.ask(&bad)); code != 406 {
		t.Errorf("a wrong signature: %d", code)
	}
	if a := p.ask(q); a.Err != nil {
		t.Fatal(a.Err)
	}
	must(t, p.store.StoreSignedPreKey(context.Background(), next))
	l.say(ada, matilda, "to the new key")
	n := p.want("message", tagIs("message"))
	if got := p.open(n).GetConversation(); got != "to the new key" {
		t.Fatal(got)
	}
	l.noComplaints()
}

func TestBundlesOfPhonesHaveAFreshOneTimePreKeyUnlessTheyAreGone(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	nobody, err := jid.Parse("77@lid")
	must(t, err)
	ids := map[uint32]bool{}
	for range 3 {
		r, err := stanza.ParseKeys(p.ask(&stanza.KeyRequest{Users: []jid.JID{nobody, to}}))
		must(t, err)
		if len(r) != 2 || r[0].Err == nil || r[1].Err != nil || r[1].Bundle.PreKey == nil || ids[r[1].Bundle.PreKey.ID] {
			t.Fatalf("%+v", r)
		}
		ids[r[1].Bundle.PreKey.ID] = true
	}
	l.post("/v1/faults", map[string]any{"kind": "prekeys_gone"}, nil)
	r, err := stanza.ParseKeys(p.ask(&stanza.KeyRequest{Users: []jid.JID{to}}))
	must(t, err)
	if r[0].Bundle.PreKey != nil {
		t.Fatal("a one-time prekey although they are gone")
	}
	_, err = p.signal.StartSession(context.Background(), to, bundleOf(r[0].Bundle), nil)
	must(t, err)
	m := p.seal(to, "without one")
	p.send(m)
	l.event(ada, 0, "message", func(e eventBody) bool { return e.Text == "without one" })
	l.noComplaints()
}
