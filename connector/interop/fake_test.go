package interop_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/libsignal/serialize"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/binxml"
	"postern/connector/e2ee"
	"postern/connector/e2ee/e2eetest"
	"postern/connector/gatekeeper"
	"postern/connector/interop"
	"postern/connector/jid"
	"postern/connector/profile"
	"postern/connector/stanza"
)

// fakeGate is a gatekeeper without a wire: it queues for the partner until acked, drops repeated ids, and holds the
// phones. It lives as long as the test, while accounts come and go.
type fakeGate struct {
	t     testing.TB
	prof  *profile.Profile
	codec binxml.Codec

	mu       sync.Mutex
	stream   *fakeStream
	queue    []*queued // to the partner, until acked
	phones   map[jid.JID]*fakePhone
	seen     map[string]bool // message ids from the partner that were routed
	identity [32]byte        // of the partner
	regID    uint32
	skey     stanza.SignedPreKey
	preKeys  []stanza.PreKey
	uploads  []int
	rotates  int
	deleted  bool
	acks     []*stanza.Ack // of the partner
	wire     []wired
	bodies   map[string][]byte // Signal message key (ratchet key and counter) -> ciphertext
	// ackCode, if set, gives the error of the ack of a message (0: good, -1: none).
	ackCode func(m *stanza.Message) int
	// iqCode, if set, gives the error of an iq (0: none).
	iqCode func(r stanza.Request) int
	// quiet keeps back the acks of receipts of a type.
	quiet map[string]bool
	// mute is a phone to which no receipts are acked.
	mute *fakePhone
	// reads is what the last login said of read receipts.
	reads   bool
	logins  int
	slow    time.Duration // how long a login takes
	blunder []string      // what should not have come
	pushed  int           // logins whose stream was told of a push before it began
	// parting is what comes while a stream is being ended by us, if anything.
	parting stanza.Stanza
	// blocked is the partner's block list, blockTold what changes of it came, blockAsked how often it was asked for.
	blocked    []jid.JID
	blockTold  []bool
	blockAsked int
}

type queued struct {
	s   stanza.Stanza
	key stanza.Key
}

// wired is a message of the partner as it came over the wire.
type wired struct {
	id    string
	count int
	frame string
	at    time.Time
}

type fakePhone struct {
	jid    jid.JID
	device *e2ee.Device
	store  *e2eetest.MemStore
	signal *e2ee.Signal
	signed e2ee.SignedPreKey
	nextID uint32
	texts  []string
	got    map[string]bool // ids
	count  map[string]int  // retries asked for, by id
	sent   map[string]string
	// deaf makes it nack, or ask again, instead of reading: by id.
	deaf map[string]int
	// silent keeps its delivery receipts back.
	silent bool
	read   []string // receipts of the partner: type and ids
	retry  []*stanza.Receipt
	// receipts are those of read, one for each stanza; typing is what the partner's typing was.
	receipts []*stanza.Receipt
	typing   []typed
	ids      []string // of texts, in the same order
}

// typed is a chat state and when it came.
type typed struct {
	state string
	at    time.Time
}

func newFakeGate(t testing.TB) *fakeGate {
	p := profile.WhatsApp()
	return &fakeGate{
		t: t, prof: p, codec: binxml.Codec{Read: p.WriteDialect, Write: p.ReadDialect},
		phones: make(map[jid.JID]*fakePhone), seen: make(map[string]bool), bodies: make(map[string][]byte),
		quiet: make(map[string]bool),
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (g *fakeGate) phone(number string) *fakePhone {
	p := &fakePhone{
		jid: jid.JID{User: number, Server: jid.LID}, got: make(map[string]bool), count: make(map[string]int),
		sent: make(map[string]string), deaf: make(map[string]int),
	}
	p.reinstall()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.phones[p.jid] = p
	return p
}

// reinstall gives a phone new keys and takes its sessions away.
func (p *fakePhone) reinstall() {
	p.device = must(e2ee.NewDevice(nil))
	p.store = e2eetest.NewMemStore()
	p.signal = e2ee.New(p.device, p.store)
	p.signed = must(p.device.GenerateSignedPreKey(1))
	if err := p.store.StoreSignedPreKey(context.Background(), p.signed); err != nil {
		panic(err)
	}
}

// bundle makes a fresh bundle of a phone.
func (p *fakePhone) bundle() *stanza.Bundle {
	p.nextID++
	keys := must(p.device.GeneratePreKeys(p.nextID, 1))
	if err := p.store.StorePreKeys(context.Background(), keys); err != nil {
		panic(err)
	}
	return &stanza.Bundle{
		RegistrationID: p.device.RegistrationID, Type: stanza.KeyType, Identity: p.device.IdentityPublic,
		PreKey: &stanza.PreKey{ID: keys[0].ID, Key: keys[0].Public},
		Signed: stanza.SignedPreKey{ID: p.signed.ID, Key: p.signed.Public, Signature: p.signed.Signature},
	}
}

// partnerJID is what the fake calls the partner towards phones.
var partnerJID = must(jid.NewInterop(1, "4711"))

// says sends a text from a phone; g.mu must not be held.
func (g *fakeGate) says(p *fakePhone, id, text string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p.sent[id] = text
	g.push(g.seal(p, id, text, 0))
}

func (g *fakeGate) seal(p *fakePhone, id, text string, count int) *stanza.Message {
	ctx := context.Background()
	if has := must(p.signal.HasSession(ctx, partnerJID)); !has || count > 1 {
		b := e2ee.Bundle{RegistrationID: g.regID, Identity: g.identity, Signed: e2ee.BundleSignedKey{ID: g.skey.ID, Key: g.skey.Key, Signature: g.skey.Signature}}
		if len(g.preKeys) > 0 {
			b.PreKey = &e2ee.BundleKey{ID: g.preKeys[0].ID, Key: g.preKeys[0].Key}
			g.preKeys = g.preKeys[1:]
		}
		must(p.signal.StartSession(ctx, partnerJID, b, nil))
	}
	plain := append(must(proto.Marshal(&waE2E.Message{Conversation: proto.String(text)})), 1)
	sealed := must(p.signal.Encrypt(ctx, partnerJID, plain, nil))
	return &stanza.Message{ID: id, From: p.jid, Type: "text", T: 1_700_000_000, Notify: "Phone",
		Enc: stanza.Enc{V: 2, Type: sealed.Type, Count: count, Data: sealed.Body}}
}

// push queues a stanza for the partner; g.mu is held.
func (g *fakeGate) push(s stanza.Stanza) {
	key, owed := stanza.Expects(s)
	q := &queued{s: g.overWire(s), key: key}
	if owed {
		g.queue = append(g.queue, q)
	}
	if g.stream != nil {
		g.stream.hand(q)
	}
}

// overWire encodes and decodes a stanza, as the wire does.
func (g *fakeGate) overWire(s stanza.Stanza) stanza.Stanza {
	frame := must(g.codec.Append(nil, s.Node()))
	codec := g.codec
	codec.Read = codec.Write
	return must(stanza.Parse(must(codec.Decode(frame))))
}

// message takes a message of the partner; g.mu is held.
func (g *fakeGate) message(m *stanza.Message, frame []byte) {
	g.wire = append(g.wire, wired{m.ID, m.Enc.Count, string(frame), time.Now()})
	g.checkKey(m)
	p := g.phones[m.To]
	if p == nil {
		g.push(&stanza.Ack{Class: "message", ID: m.ID, From: m.To, Error: 404})
		return
	}
	code := 0
	if g.ackCode != nil {
		code = g.ackCode(m)
	}
	if code != 0 {
		if code > 0 {
			g.push(&stanza.Ack{Class: "message", ID: m.ID, From: m.To, Error: code})
		}
		return
	}
	again := g.seen[m.ID] && m.Enc.Count == 0
	g.seen[m.ID] = true
	g.push(&stanza.Ack{Class: "message", ID: m.ID, From: m.To, T: 1_700_000_001})
	if !again {
		g.read(p, m)
	}
}

// checkKey notes which message key a ciphertext was made with; two ciphertexts of one key are the worst that can be.
func (g *fakeGate) checkKey(m *stanza.Message) {
	format := serialize.NewProtoBufSerializer()
	body := m.Enc.Data
	if m.Enc.Type == stanza.EncPreKey {
		pk := must(protocol.NewPreKeySignalMessageFromBytes(body, format.PreKeySignalMessage, format.SignalMessage))
		body = pk.WhisperMessage().Serialize()
	}
	msg := must(protocol.NewSignalMessageFromBytes(body, format.SignalMessage))
	ratchet := msg.SenderRatchetKey().PublicKey()
	key := hex.EncodeToString(ratchet[:]) + fmt.Sprint("/", msg.Counter())
	if old, ok := g.bodies[key]; ok && !bytes.Equal(old, msg.Body()) {
		g.blunder = append(g.blunder, "one message key for two ciphertexts")
	}
	g.bodies[key] = msg.Body()
}

// read is a phone that gets a message; g.mu is held.
func (g *fakeGate) read(p *fakePhone, m *stanza.Message) {
	if code := p.deaf[m.ID]; code > 0 {
		g.push(&stanza.Ack{Class: "message", ID: m.ID, From: m.To, Error: code})
		return
	}
	if p.deaf[m.ID] < 0 {
		p.deaf[m.ID]++
		g.ask(p, m.ID, 7)
		return
	}
	err := p.signal.Decrypt(context.Background(), partnerJID, m.Enc.Type, m.Enc.Data, func(_ context.Context, plain []byte, _ e2ee.Opened) error {
		if p.got[m.ID] {
			return nil
		}
		p.got[m.ID] = true
		msg := &waE2E.Message{}
		if err := proto.Unmarshal(plain[:len(plain)-int(plain[len(plain)-1])], msg); err != nil {
			g.blunder = append(g.blunder, "content does not parse")
		}
		p.texts, p.ids = append(p.texts, msg.GetConversation()), append(p.ids, m.ID)
		return nil
	})
	if err != nil && !p.got[m.ID] {
		g.ask(p, m.ID, e2ee.RetryReason(err))
		return
	}
	if !p.silent {
		g.push(&stanza.Receipt{ID: m.ID, From: p.jid, T: 1_700_000_002})
	}
}

// ask makes a phone ask for a message again; g.mu is held.
func (g *fakeGate) ask(p *fakePhone, id string, reason int) {
	p.count[id]++
	r := &stanza.Receipt{ID: id, From: p.jid, Type: stanza.ReceiptRetry, T: 1_700_000_003 + int64(p.count[id]), Retry: &stanza.Retry{
		Count: p.count[id], ID: id, T: 1_700_000_001, Version: 1, Error: reason, RegistrationID: p.device.RegistrationID,
	}}
	if p.count[id] > 1 {
		r.Retry.Keys = p.bundle()
	}
	g.push(r)
}

// receipt takes a receipt of the partner; g.mu is held.
func (g *fakeGate) receipt(r *stanza.Receipt) {
	p := g.phones[r.To]
	if !g.quiet[r.Type] && (p == nil || p != g.mute) {
		g.push(&stanza.Ack{Class: "receipt", ID: r.ID, From: r.To, Type: r.Type})
	}
	if p == nil {
		return
	}
	if r.Type != stanza.ReceiptRetry {
		p.receipts = append(p.receipts, r)
		for _, id := range r.IDs {
			p.read = append(p.read, r.Type+id)
			g.drop(stanza.Key{Class: "message", ID: id})
		}
		return
	}
	p.retry = append(p.retry, r)
	text, ok := p.sent[r.Retry.ID]
	if !ok || text == "" { // it was never written by this phone, or is not to be sent again
		return
	}
	if k := r.Retry.Keys; k != nil {
		b := e2ee.Bundle{RegistrationID: k.RegistrationID, Identity: k.Identity, Signed: e2ee.BundleSignedKey{ID: k.Signed.ID, Key: k.Signed.Key, Signature: k.Signed.Signature}}
		if k.PreKey != nil {
			b.PreKey = &e2ee.BundleKey{ID: k.PreKey.ID, Key: k.PreKey.Key}
		}
		must(p.signal.StartSession(context.Background(), partnerJID, b, nil))
	}
	g.push(g.seal(p, r.Retry.ID, text, 1))
}

// drop takes all with a key out of the queue; g.mu is held.
func (g *fakeGate) drop(key stanza.Key) {
	g.queue = slices.DeleteFunc(g.queue, func(q *queued) bool { return q.key.AnsweredBy(key) })
}

// take is the gate's end of a stream; g.mu is held.
func (g *fakeGate) take(s stanza.Stanza, frame []byte) {
	switch s := s.(type) {
	case *stanza.Message:
		g.message(s, frame)
	case *stanza.Receipt:
		g.receipt(s)
	case *stanza.ChatState:
		if p := g.phones[s.To]; p != nil {
			p.typing = append(p.typing, typed{s.State + s.Media, time.Now()})
		}
	case *stanza.Ack:
		g.acks = append(g.acks, s)
		if s.Error == 500 || s.Error == 491 {
			g.blunder = append(g.blunder, fmt.Sprint("nack ", s.Error))
		}
		for _, key := range stanza.Answers(s) {
			// Answers come in the order of what they answer: of two with one id the older goes.
			if i := slices.IndexFunc(g.queue, func(q *queued) bool { return q.key.AnsweredBy(key) }); i >= 0 {
				g.queue = slices.Delete(g.queue, i, i+1)
			}
		}
	}
}

// iq answers a question; g.mu is held.
func (g *fakeGate) iq(q *stanza.IQ) *stanza.IQ {
	r, err := stanza.ParseRequest(g.overWire(q).(*stanza.IQ))
	if err != nil {
		return q.Fail(501)
	}
	if g.iqCode != nil {
		if code := g.iqCode(r); code != 0 {
			return q.Fail(code)
		}
	}
	switch r := r.(type) {
	case *stanza.CountRequest:
		return stanza.CountAnswer(q, len(g.preKeys))
	case stanza.CountRequest:
		return stanza.CountAnswer(q, len(g.preKeys))
	case *stanza.Upload:
		g.uploads = append(g.uploads, len(r.PreKeys))
		g.preKeys = append(g.preKeys, r.PreKeys...)
		g.skey = r.Signed
	case *stanza.Rotate:
		g.rotates++
		g.skey = r.Signed
	case *stanza.KeyRequest:
		var results []stanza.KeyResult
		for _, j := range r.Users {
			if p := g.phones[j]; p != nil {
				results = append(results, stanza.KeyResult{JID: j, Bundle: p.bundle()})
			} else {
				results = append(results, stanza.KeyResult{JID: j, Err: stanza.NewIQError(404)})
			}
		}
		return must(stanza.KeyAnswer(q, results))
	case stanza.BlockRequest:
		g.blockTold = append(g.blockTold, r.Block)
		if g.blocked = slices.DeleteFunc(g.blocked, func(j jid.JID) bool { return j == r.JID }); r.Block {
			g.blocked = append(g.blocked, r.JID)
		}
		return stanza.BlocklistAnswer(q, g.blocked)
	case stanza.BlocklistRequest:
		g.blockAsked++
		return stanza.BlocklistAnswer(q, g.blocked)
	case *stanza.DeleteRequest, stanza.DeleteRequest:
		g.deleted = true
	}
	return q.Result()
}

// fakeStream is an interop.Stream to a fakeGate.
type fakeStream struct {
	g     *fakeGate
	h     gatekeeper.Handler
	reads bool

	mu   sync.Mutex
	in   []*queued
	more chan struct{}
	up   bool
	// pushed says that Wake was called.
	pushed bool
	cut    context.CancelCauseFunc
}

func (g *fakeGate) newStream(c gatekeeper.Config) interop.Stream {
	return &fakeStream{g: g, h: c.Handler, reads: c.ReadReceipts, more: make(chan struct{}, 1)}
}

// hand gives a stanza to the reader; g.mu is held.
func (s *fakeStream) hand(q *queued) {
	s.mu.Lock()
	s.in = append(s.in, q)
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// Run is one login, and the same again after each cut.
func (s *fakeStream) Run(ctx context.Context) error {
	s.mu.Lock()
	pushed := s.pushed
	s.mu.Unlock()
	s.g.mu.Lock()
	if pushed {
		s.g.pushed++
	}
	s.g.mu.Unlock()
	for {
		s.h.State(gatekeeper.State{Phase: gatekeeper.Connecting})
		cause := s.login(ctx)
		s.g.mu.Lock()
		s.g.stream = nil
		s.g.mu.Unlock()
		s.mu.Lock()
		s.up, s.in = false, nil
		s.mu.Unlock()
		if ctx.Err() != nil {
			s.part(ctx)
			s.h.State(gatekeeper.State{Phase: gatekeeper.Stopped})
			return ctx.Err()
		}
		if stop, ok := cause.(*gatekeeper.StopError); ok {
			s.h.State(gatekeeper.State{Phase: gatekeeper.Stopped, Code: stop.Code, Cause: stop})
			return stop
		}
		s.h.State(gatekeeper.State{Phase: gatekeeper.Waiting, Wait: time.Second, Cause: cause})
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// part hands over what comes between our farewell and its arrival, which is queued like anything else.
func (s *fakeStream) part(ctx context.Context) {
	s.g.mu.Lock()
	last := s.g.parting
	s.g.parting = nil
	if last != nil {
		s.g.push(last)
	}
	s.g.mu.Unlock()
	if last != nil && errors.Is(context.Cause(ctx), gatekeeper.ErrRest) {
		s.h.Stanza(ctx, last)
	}
}

// Wake is Stream.Wake as far as it is called before Run.
func (s *fakeStream) Wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pushed = true
}

func (s *fakeStream) login(parent context.Context) error {
	ctx, cut := context.WithCancelCause(parent)
	defer cut(nil)
	s.g.mu.Lock()
	slow := s.g.slow
	s.g.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.g.mu.Lock()
	s.g.logins++
	s.g.reads = s.reads
	s.g.stream = s
	backlog := slices.Clone(s.g.queue)
	s.mu.Lock()
	s.in, s.up, s.cut = backlog, true, cut
	s.mu.Unlock()
	s.g.mu.Unlock()
	s.h.State(gatekeeper.State{Phase: gatekeeper.Draining})
	for i := 0; ; i++ {
		s.mu.Lock()
		var next *queued
		if len(s.in) > 0 {
			next, s.in = s.in[0], s.in[1:]
		}
		s.mu.Unlock()
		if i == len(backlog) {
			s.h.State(gatekeeper.State{Phase: gatekeeper.Live})
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if next != nil {
			s.h.Stanza(parent, next.s)
			continue
		}
		select {
		case <-s.more:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		i = max(i, len(backlog))
	}
}

// breaks ends the login, as a broken connection does.
func (g *fakeGate) breaks(cause error) {
	g.mu.Lock()
	s := g.stream
	g.mu.Unlock()
	if s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cut(cause)
	}
}

func (s *fakeStream) connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up
}

func (s *fakeStream) Send(ctx context.Context, st stanza.Stanza) error {
	codec := binxml.Codec{Read: s.g.prof.WriteDialect, Write: s.g.prof.WriteDialect}
	frame, err := codec.Append(nil, st.Node())
	if err != nil {
		return err
	}
	return s.SendFrame(ctx, frame)
}

func (s *fakeStream) SendFrame(_ context.Context, frame []byte) error {
	if !s.connected() {
		return gatekeeper.ErrNotConnected
	}
	st, err := stanza.Parse(must(s.g.codec.Decode(frame)))
	if err != nil {
		return err
	}
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	s.g.take(st, frame)
	return nil
}

func (s *fakeStream) Request(_ context.Context, iq *stanza.IQ) (*stanza.IQ, error) {
	if !s.connected() {
		return nil, gatekeeper.ErrNotConnected
	}
	q := *iq
	q.ID = "q"
	s.g.mu.Lock()
	answer := s.g.iq(&q)
	s.g.mu.Unlock()
	if answer.Err != nil {
		return nil, answer.Err
	}
	return answer, nil
}

// bench is an account on a fake gate and a store in memory.
type bench struct {
	t      testing.TB
	g      *fakeGate
	store  interop.Store
	device *e2ee.Device
	m      *matrix
	limits interop.Limits
	edit   func(*interop.Config)
	a      *interop.Account
	stop   context.CancelFunc
	done   chan error
}

func newBench(t testing.TB, store interop.Store) *bench {
	b := &bench{t: t, g: newFakeGate(t), store: store, device: must(e2ee.NewDevice(nil)), m: newMatrix()}
	signed := must(b.device.GenerateSignedPreKey(must(store.ReserveSignedPreKeyID(context.Background()))))
	record := interop.KeyRecord{ID: signed.ID, Record: signed.Marshal(), Created: time.Now().UnixMilli()}
	if err := store.PutSignedPreKey(context.Background(), record); err != nil {
		t.Fatal(err)
	}
	b.g.identity, b.g.regID = b.device.IdentityPublic, b.device.RegistrationID
	b.g.skey = stanza.SignedPreKey{ID: signed.ID, Key: signed.Public, Signature: signed.Signature}
	return b
}

func (b *bench) config() interop.Config {
	c := interop.Config{
		ID: "account1", Profile: b.g.prof, JID: partnerJID, DisplayName: "Matilda", Device: b.device, StanzaKey: [32]byte{9},
		ReadReceipts: true,
		Store:        b.store, Upcalls: b.m, Limits: b.limits, NewStream: b.g.newStream,
	}
	if c.Limits.ReceiptDelay == 0 {
		c.Limits.ReceiptDelay = -1 // but for the tests of it
	}
	if b.edit != nil {
		b.edit(&c)
	}
	return c
}

// run starts an account on the store.
func (b *bench) run() {
	b.a = interop.New(b.config())
	ctx, stop := context.WithCancel(context.Background())
	b.stop, b.done = stop, make(chan error, 1)
	go func() { b.done <- b.a.Run(ctx) }()
}

// end stops the account and returns what Run returned; nil if it does not run.
func (b *bench) end() error {
	if b.done == nil {
		return nil
	}
	b.stop()
	err := <-b.done
	b.done = nil
	return err
}

// chatWith is the chat of a phone.
func (b *bench) chatWith(p *fakePhone) string {
	return must(b.store.PeerByJID(context.Background(), p.jid)).Chat
}

func (b *bench) send(chat, event string, texts ...string) []string {
	b.t.Helper()
	out := interop.Outgoing{EventID: event, RoomID: "!" + chat, Chat: chat, Type: "text"}
	for _, text := range texts {
		out.Parts = append(out.Parts, textOf(b.t, text))
	}
	ids, err := b.a.Send(context.Background(), out, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return ids
}

// sees reads what the test compares, with the locks held.
func (b *bench) sees(fn func()) {
	b.g.mu.Lock()
	defer b.g.mu.Unlock()
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	fn()
}

// identityChild is the content of an identity notification.
func identityChild() []binxml.Node { return []binxml.Node{{Tag: "identity"}} }

// countChild is the content of a notification that few prekeys are left.
func countChild(n int) []binxml.Node {
	return []binxml.Node{{Tag: "count", Attrs: []binxml.Attr{binxml.I("value", n)}}}
}

// reachChild is the content of a reachability notification.
func reachChild(j jid.JID, state string) []binxml.Node {
	return []binxml.Node{{Tag: "reachability", Attrs: []binxml.Attr{binxml.J("jid", j), binxml.S("state", state)}}}
}

// phoneLocked is phone for who holds g.mu.
func (g *fakeGate) phoneLocked(number string) *fakePhone {
	g.mu.Unlock()
	defer g.mu.Lock()
	return g.phone(number)
}
