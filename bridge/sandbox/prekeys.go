package sandbox

import (
	"cmp"
	"slices"

	"go.mau.fi/libsignal/ecc"

	"postern/connector/binxml"
	"postern/connector/e2ee"
)

const (
	maxUpload   = 1000 // one-time prekeys in one upload
	maxPreKeys  = 5000 // one-time prekeys of one account that were not handed out
	keptPreKeys = 50_000
	lowPreKeys  = 10 // PROTOCOL.md 5.1
)

// encryptIQ is the prekey server (PROTOCOL.md 5.1).
func (c change) encryptIQ(s *Server, a *account, n *binxml.Node, typ, child string) *binxml.Node {
	switch {
	case typ == "get" && child == "count":
		return s.iqResult(n, node("count", attrs{binxml.I("value", len(a.fresh))}))
	case typ == "get" && child == "key":
		return c.keyQuery(s, a, n)
	case typ == "set" && child == "rotate":
		return c.rotate(s, a, n)
	case typ == "set" && n.Child("list") != nil:
		return c.upload(s, a, n)
	default:
		return s.iqError(n, 400)
	}
}

// readSigned reads a signed prekey and checks its signature under a's identity.
func (a *account) readSigned(n *binxml.Node) (id uint32, key [32]byte, sig [64]byte, ok bool) {
	if n == nil || len(a.Identity) != 32 {
		return
	}
	idNode, value, signature := n.Child("id"), n.Child("value"), n.Child("signature")
	if idNode == nil || value == nil || signature == nil || len(idNode.Data) != 3 || len(value.Data) != 32 || len(signature.Data) != 64 {
		return
	}
	id, key, sig = bigEndian(idNode.Data), [32]byte(value.Data), [64]byte(signature.Data)
	return id, key, sig, signedKeyGood([32]byte(a.Identity), key, sig)
}

// hasRoomFor says whether one-time prekeys have their form and are not too many.
func (a *account) hasRoomFor(list []*binxml.Node) bool {
	if len(list) > maxUpload || len(a.fresh)+len(list) > maxPreKeys || len(a.prekeys)+len(list) > keptPreKeys {
		return false
	}
	for _, k := range list {
		id, value := k.Child("id"), k.Child("value")
		if id == nil || value == nil || len(id.Data) != 3 || len(value.Data) != 32 {
			return false
		}
	}
	return true
}

// upload takes one-time prekeys and the signed prekey.
func (c change) upload(s *Server, a *account, n *binxml.Node) *binxml.Node {
	registration, typ, identity := n.Child("registration"), n.Child("type"), n.Child("identity")
	if registration == nil || len(registration.Data) != 4 || typ == nil || len(typ.Data) != 1 || identity == nil || len(identity.Data) != 32 {
		return s.iqError(n, 400)
	}
	if string(identity.Data) != string(a.Identity) || bigEndian(registration.Data) != a.Registration || typ.Data[0] != ecc.DjbType {
		return s.iqError(n, 406)
	}
	id, key, sig, ok := a.readSigned(n.Child("skey"))
	if !ok {
		return s.iqError(n, 406)
	}
	list := n.Child("list").ChildrenNamed("key")
	if !a.hasRoomFor(list) {
		return s.iqError(n, 400)
	}
	a.SignedID, a.SignedKey, a.SignedSig = id, key[:], sig[:]
	a.LowTold = false
	c.put(a)
	for _, k := range list {
		c.addPreKey(s, a, bigEndian(k.Child("id").Data), k.Child("value").Data)
	}
	return s.iqResult(n)
}

// addPreKey takes one one-time prekey. The same key again changes nothing, in particular if it has been handed
// out already; another key under a used id is a fault of the partner.
func (c change) addPreKey(s *Server, a *account, id uint32, key []byte) {
	old := a.prekeys[id]
	if old != nil {
		if string(old.Key) == string(key) {
			return
		}
		c.complain(s, a, "5.1", "another one-time prekey under an id already used")
		if !old.Used {
			a.fresh = slices.DeleteFunc(a.fresh, func(x uint32) bool { return x == id })
		}
	}
	k := &accountPreKey{Account: a.Address, ID: id, Key: slices.Clone(key), Order: c.order()}
	a.prekeys[id] = k
	a.fresh = append(a.fresh, id)
	c.put(k)
}

func (c change) rotate(s *Server, a *account, n *binxml.Node) *binxml.Node {
	id, key, sig, ok := a.readSigned(n.Children[0].Child("skey"))
	if !ok {
		return s.iqError(n, 406)
	}
	a.SignedID, a.SignedKey, a.SignedSig = id, key[:], sig[:]
	c.put(a)
	return s.iqResult(n)
}

// keyQuery hands out bundles of phones.
func (c change) keyQuery(s *Server, a *account, n *binxml.Node) *binxml.Node {
	asked, ok := jidsOf(&n.Children[0])
	if !ok {
		return s.iqError(n, 400)
	}
	list := node("list", nil)
	for _, j := range asked {
		entry := node("user", attrs{binxml.J("jid", j)})
		u := c.usersByJID[j]
		if code := c.reachable(u, a); code != 0 {
			entry.Children = []binxml.Node{*errorNode(code)}
		} else {
			c.inTouch(u, a)
			gone := c.takeFault("prekeys_gone", a.Integrator, a.Identifier, "") != nil
			b, err := u.phone.bundle(c, !gone)
			if err != nil {
				s.log.Error().Err(err).Msg("a phone has no bundle")
				entry.Children = []binxml.Node{*errorNode(500)}
			} else {
				entry.Attrs = append(entry.Attrs, binxml.I("t", unix(s.now())))
				entry.Children = bundleNodes(b)
			}
		}
		list.Children = append(list.Children, *entry)
	}
	return s.iqResult(n, list)
}

// bundle takes a bundle of a partner user off the server, with a one-time prekey if one is left.
func (c change) bundle(s *Server, a *account) e2ee.Bundle {
	b := e2ee.Bundle{
		RegistrationID: a.Registration,
		Identity:       [32]byte(a.Identity),
		Signed:         e2ee.BundleSignedKey{ID: a.SignedID, Key: [32]byte(a.SignedKey), Signature: [64]byte(a.SignedSig)},
	}
	if len(a.fresh) > 0 {
		k := a.prekeys[a.fresh[0]]
		a.fresh = a.fresh[1:]
		k.Used = true
		c.put(k)
		b.PreKey = &e2ee.BundleKey{ID: k.ID, Key: [32]byte(k.Key)}
	}
	c.lowOnPreKeys(s, a)
	return b
}

// lowOnPreKeys tells a partner user once that few one-time prekeys are left.
func (c change) lowOnPreKeys(s *Server, a *account) {
	if len(a.fresh) >= lowPreKeys || a.LowTold {
		return
	}
	a.LowTold = true
	c.put(a)
	c.enqueue(s, a, node("notification", attrs{
		binxml.S("id", newID("", 8)), binxml.J("from", s.prof.ServerJID), binxml.S("type", "encrypt"), binxml.I("t", unix(s.now())),
	}, node("count", attrs{binxml.I("value", len(a.fresh))})))
}

// sortPreKeys puts the prekeys that were not handed out into their order, after loading.
func (a *account) sortPreKeys() {
	for id, k := range a.prekeys {
		if !k.Used {
			a.fresh = append(a.fresh, id)
		}
	}
	slices.SortFunc(a.fresh, func(x, y uint32) int { return cmp.Compare(a.prekeys[x].Order, a.prekeys[y].Order) })
}

// bundleNodes is a bundle as the wire has it.
func bundleNodes(b e2ee.Bundle) []binxml.Node {
	nodes := []binxml.Node{
		*leaf("registration", nil, be(b.RegistrationID, 4)),
		*leaf("type", nil, []byte{ecc.DjbType}),
		*leaf("identity", nil, b.Identity[:]),
	}
	if b.PreKey != nil {
		nodes = append(nodes, *node("key", nil, leaf("id", nil, be(b.PreKey.ID, 3)), leaf("value", nil, b.PreKey.Key[:])))
	}
	return append(nodes, *node("skey", nil,
		leaf("id", nil, be(b.Signed.ID, 3)), leaf("value", nil, b.Signed.Key[:]), leaf("signature", nil, b.Signed.Signature[:])))
}

// readBundle reads registration and keys of a retry receipt (PROTOCOL.md 6.8).
func readBundle(registration, keys *binxml.Node) (b e2ee.Bundle, ok bool) {
	if registration == nil || len(registration.Data) != 4 || keys == nil {
		return b, false
	}
	typ, identity, skey := keys.Child("type"), keys.Child("identity"), keys.Child("skey")
	if typ == nil || len(typ.Data) != 1 || typ.Data[0] != ecc.DjbType || identity == nil || len(identity.Data) != 32 || skey == nil {
		return b, false
	}
	probe := &account{Identity: identity.Data}
	id, key, sig, ok := probe.readSigned(skey)
	if !ok {
		return b, false
	}
	b = e2ee.Bundle{
		RegistrationID: bigEndian(registration.Data), Identity: [32]byte(identity.Data),
		Signed: e2ee.BundleSignedKey{ID: id, Key: key, Signature: sig},
	}
	if k := keys.Child("key"); k != nil {
		idNode, value := k.Child("id"), k.Child("value")
		if idNode == nil || value == nil || len(idNode.Data) != 3 || len(value.Data) != 32 {
			return b, false
		}
		b.PreKey = &e2ee.BundleKey{ID: bigEndian(idNode.Data), Key: [32]byte(value.Data)}
	}
	return b, true
}

// be writes n big-endian in size bytes.
func be(n uint32, size int) []byte {
	b := make([]byte, size)
	for i := size - 1; i >= 0; i-- {
		b[i] = byte(n)
		n >>= 8
	}
	return b
}
