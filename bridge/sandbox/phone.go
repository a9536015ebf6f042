package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"postern/connector/e2ee"
)

// phone is the phone of one WhatsApp user: Signal identity and sessions of its own, the messages it has sent
// and received. It is always switched on and connected. Its Signal store is the sandbox's state, so the lock
// on the state is the transaction: every method here runs inside an update.
type phone struct {
	state  *state
	user   *user
	device *e2ee.Device
	signal *e2ee.Signal
	rows   map[string]*signalRow
	sent   map[string]*sentMessage
	heard  map[heardKey]*heardMessage
	got    map[heardKey]*mediaFile // media it has fetched, by message

	waiting map[string][]*waiting // events that wait, by partner user, in order
}

type heardKey struct{ account, id string }

func newPhone(s *state, u *user) (*phone, error) {
	device, err := e2ee.UnmarshalDevice(u.Device)
	if err != nil {
		return nil, err
	}
	p := &phone{
		state: s, user: u, device: device,
		rows: map[string]*signalRow{}, sent: map[string]*sentMessage{}, heard: map[heardKey]*heardMessage{},
		got: map[heardKey]*mediaFile{}, waiting: map[string][]*waiting{},
	}
	p.signal = e2ee.New(device, p)
	return p, nil
}

// install gives u a new identity and keys: a new phone.
func (u *user) install() error {
	device, err := e2ee.NewDevice(nil)
	if err != nil {
		return fmt.Errorf("install phone: %w", err)
	}
	id := u.SignedID%e2ee.MaxKeyID + 1
	signed, err := device.GenerateSignedPreKey(id)
	if err != nil {
		return fmt.Errorf("install phone: %w", err)
	}
	u.Device, u.SignedID, u.SignedKey = device.Marshal(), id, signed.Marshal()
	return nil
}

// reinstall replaces the phone: new identity, same address, sessions gone.
func (p *phone) reinstall(c change) error {
	if err := p.user.install(); err != nil {
		return err
	}
	for _, r := range p.rows {
		c.drop(r)
	}
	next, err := newPhone(p.state, p.user)
	if err != nil {
		return err
	}
	// What a person sees of old chats comes back from a backup; the keys do not.
	next.heard, next.got, next.waiting, next.sent = p.heard, p.got, p.waiting, map[string]*sentMessage{}
	for _, m := range p.sent {
		m.Plain = nil // a new phone has no plaintexts to answer retries with
		next.sent[m.ID] = m
		c.put(m)
	}
	p.user.phone = next
	for _, ct := range p.user.contacts {
		ct.SessionKnown = false
		c.put(ct)
	}
	c.put(p.user)
	return nil
}

// bundle is what the key server hands out about this phone. With oneTime it holds a fresh one-time prekey.
func (p *phone) bundle(c change, oneTime bool) (e2ee.Bundle, error) {
	signed, err := e2ee.UnmarshalSignedPreKey(p.user.SignedID, p.user.SignedKey)
	if err != nil {
		return e2ee.Bundle{}, err
	}
	if !oneTime {
		return p.device.Bundle(signed, nil), nil
	}
	id := p.user.NextPreKey%e2ee.MaxKeyID + 1
	keys, err := p.device.GeneratePreKeys(id, 1)
	if err != nil {
		return e2ee.Bundle{}, err
	}
	p.user.NextPreKey = id
	c.put(p.user)
	p.putRow(c, "prekey", itoa(uint64(id)), keys[0].Marshal())
	return p.device.Bundle(signed, &keys[0]), nil
}

func (p *phone) putRow(c change, kind, name string, value []byte) {
	key := kind + "/" + name
	r := p.rows[key]
	if r == nil {
		r = &signalRow{Phone: p.user.Phone, Kind: kind, Name: name}
		p.rows[key] = r
	}
	r.Value = bytes.Clone(value)
	c.put(r)
}

func (p *phone) dropRow(c change, kind, name string) bool {
	r := p.rows[kind+"/"+name]
	if r == nil {
		return false
	}
	delete(p.rows, kind+"/"+name)
	c.drop(r)
	return true
}

func (p *phone) row(kind, name string) ([]byte, error) {
	if r := p.rows[kind+"/"+name]; r != nil {
		return bytes.Clone(r.Value), nil
	}
	return nil, nil
}

// The phone is the e2ee.Store of its own Signal.
var _ e2ee.Store = (*phone)(nil)

// LoadSession implements e2ee.Store.
func (p *phone) LoadSession(_ context.Context, addr string) ([]byte, error) {
	return p.row("session", addr)
}

// LoadIdentity implements e2ee.Store.
func (p *phone) LoadIdentity(_ context.Context, addr string) ([]byte, error) {
	return p.row("identity", addr)
}

// LoadPreKey implements e2ee.Store.
func (p *phone) LoadPreKey(_ context.Context, id uint32) ([]byte, error) {
	return p.row("prekey", strconv.FormatUint(uint64(id), 10))
}

// LoadSignedPreKey implements e2ee.Store.
func (p *phone) LoadSignedPreKey(_ context.Context, id uint32) ([]byte, error) {
	if id != p.user.SignedID {
		return nil, nil
	}
	return bytes.Clone(p.user.SignedKey), nil
}

// Commit implements e2ee.Store. It runs inside the update that called Signal, so it is one change with
// whatever else that update does.
func (p *phone) Commit(ctx context.Context, ch *e2ee.Change, extra func(context.Context) error) error {
	if ch.UsedPreKey != nil && p.rows["prekey/"+itoa(uint64(*ch.UsedPreKey))] == nil {
		return e2ee.ErrPreKeyGone
	}
	if extra != nil {
		if err := extra(ctx); err != nil {
			return err
		}
	}
	c := change{p.state}
	if ch.UsedPreKey != nil {
		p.dropRow(c, "prekey", itoa(uint64(*ch.UsedPreKey)))
	}
	if ch.Session != nil {
		p.putRow(c, "session", ch.Addr, ch.Session)
	}
	if ch.Identity != nil {
		p.putRow(c, "identity", ch.Addr, ch.Identity)
	}
	return nil
}

// knowSession notes that the phone has a session with a, so that it is told of a new identity.
func (p *phone) knowSession(c change, a *account) {
	if ct := c.inTouch(p.user, a); !ct.SessionKnown {
		ct.SessionKnown = true
		c.put(ct)
	}
}

// identityEvent shows the person that a partner user's key has changed.
func (p *phone) identityEvent(c change, s *Server, a *account) {
	p.user.add(c, s, eventBody{Kind: "identity", From: a.Identifier, Integrator: a.Integrator})
}

// partnerChangedIdentity is what the phone does when the server tells it of a new identity (PROTOCOL.md 3.3,
// 6.9): it forgets session and key, so that the next message uses the new one.
func (p *phone) partnerChangedIdentity(c change, s *Server, a *account) {
	ct := p.user.contacts[a]
	if ct == nil || !ct.SessionKnown {
		return
	}
	addr := a.jid.SignalAddress()
	p.dropRow(c, "session", addr)
	p.dropRow(c, "identity", addr)
	ct.SessionKnown = false
	c.put(ct)
	p.identityEvent(c, s, a)
}

// forgetPartner drops what only served to talk with a deleted account.
func (p *phone) forgetPartner(c change, a *account) {
	addr := a.jid.SignalAddress()
	p.dropRow(c, "session", addr)
	p.dropRow(c, "identity", addr)
	if ct := p.user.contacts[a]; ct != nil {
		delete(p.user.contacts, a)
		c.drop(ct)
	}
	delete(a.blocked, p.user)
}

// forget drops plaintexts and messages from before limit, Unix seconds.
func (p *phone) forget(c change, limit int64) {
	for id, m := range p.sent {
		if m.At < limit {
			delete(p.sent, id)
			c.drop(m)
		}
	}
	for key, m := range p.heard {
		if m.At < limit {
			delete(p.heard, key)
			c.drop(m)
		}
	}
}

// ensureSession makes a session with a from the bundle on the server, if there is none or fresh is asked for.
func (p *phone) ensureSession(c change, s *Server, a *account, fresh bool) error {
	has, err := p.signal.HasSession(s.ctx, a.jid)
	if err != nil && !errors.Is(err, e2ee.ErrCorruptSession) {
		return err
	}
	if has && err == nil && !fresh {
		return nil
	}
	return p.startSession(c, s, a, c.bundle(s, a))
}

func (p *phone) startSession(c change, s *Server, a *account, b e2ee.Bundle) error {
	started, err := p.signal.StartSession(s.ctx, a.jid, b, nil)
	if err != nil {
		return err
	}
	if started.IdentityChanged {
		p.identityEvent(c, s, a)
	}
	p.knowSession(c, a)
	return nil
}
