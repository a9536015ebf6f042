package e2ee_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"postern/connector/e2ee"
	"postern/connector/e2ee/e2eetest"
	"postern/connector/jid"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/libsignal/keys/identity"
	"go.mau.fi/libsignal/keys/prekey"
	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/libsignal/serialize"
	"go.mau.fi/libsignal/session"
	"go.mau.fi/libsignal/state/record"
	"go.mau.fi/libsignal/util/keyhelper"
	"go.mau.fi/libsignal/util/optional"
	"google.golang.org/protobuf/encoding/protowire"
)

// all says whether the long campaigns were asked for.
func all() bool { return os.Getenv("POSTERN_ALL") == "1" }

// user is one side of a conversation: ours or stock libsignal's. Peers are numbers.
type user interface {
	bundle(oneTime bool) e2ee.Bundle
	start(peer int, b e2ee.Bundle) error
	encrypt(peer int, text string) (e2ee.Sealed, error)
	decrypt(peer int, m e2ee.Sealed) (string, error)
	hasIdentity(peer int) bool
}

// errPanicked is what a user reports if the library panicked.
var errPanicked = errors.New("panicked")

// --- ours ---------------------------------------------------------------------------------------------------------------

type ourUser struct {
	t     testing.TB
	party *e2eetest.Party
	mem   *e2eetest.MemStore
	store e2ee.Store
}

func newOurs(t testing.TB) *ourUser {
	mem := e2eetest.NewMemStore()
	return &ourUser{t: t, party: e2eetest.NewParty(t, mem, 1000), mem: mem, store: mem}
}

func peerJID(peer int) jid.JID {
	j, err := jid.NewInterop(7, fmt.Sprint(peer))
	if err != nil {
		panic(err)
	}
	return j
}

func (u *ourUser) bundle(oneTime bool) e2ee.Bundle { return u.party.Bundle(u.t, oneTime) }

func (u *ourUser) start(peer int, b e2ee.Bundle) error {
	_, err := u.party.Signal.StartSession(u.t.Context(), peerJID(peer), b, nil)
	return err
}

func (u *ourUser) encrypt(peer int, text string) (e2ee.Sealed, error) {
	return u.party.Signal.Encrypt(u.t.Context(), peerJID(peer), []byte(text), nil)
}

func (u *ourUser) decrypt(peer int, m e2ee.Sealed) (string, error) {
	text, _, err := u.open(peer, m)
	return text, err
}

func (u *ourUser) open(peer int, m e2ee.Sealed) (text string, info e2ee.Opened, err error) {
	err = u.party.Signal.Decrypt(u.t.Context(), peerJID(peer), m.Type, m.Body,
		func(_ context.Context, plaintext []byte, opened e2ee.Opened) error {
			text, info = string(plaintext), opened
			return nil
		})
	return text, info, err
}

func (u *ourUser) hasIdentity(peer int) bool {
	_, known, err := u.party.Signal.Identity(u.t.Context(), peerJID(peer))
	if err != nil {
		u.t.Fatal(err)
	}
	return known
}

// --- stock libsignal ------------------------------------------------------------------------------------------------------

// stockUser uses libsignal as its documentation says, over a store that keeps rows as bytes.
type stockUser struct {
	t      testing.TB
	own    *identity.KeyPair
	regID  uint32
	format *serialize.Serializer
	nextID uint32

	mu         sync.Mutex
	sessions   map[string][]byte
	identities map[string][]byte
	preKeys    map[uint32][]byte
	signed     map[uint32][]byte

	onLoad        func()       // runs at each load of a session
	removePreKeys func() error // what RemovePreKey does besides
}

func newStock(t testing.TB) *stockUser {
	own, err := keyhelper.GenerateIdentityKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	return &stockUser{
		t: t, own: own, regID: 77, format: serialize.NewProtoBufSerializer(), nextID: 1,
		sessions: map[string][]byte{}, identities: map[string][]byte{},
		preKeys: map[uint32][]byte{}, signed: map[uint32][]byte{},
	}
}

func stockAddress(peer int) *protocol.SignalAddress {
	return protocol.NewSignalAddress(fmt.Sprint("peer-", peer), 0)
}

func (u *stockUser) builder(peer int) *session.Builder {
	return session.NewBuilder(u, u, u, u, stockAddress(peer), u.format)
}

func (u *stockUser) cipher(peer int) *session.Cipher {
	return session.NewCipher(u.builder(peer), stockAddress(peer))
}

func (u *stockUser) bundle(oneTime bool) e2ee.Bundle {
	id := u.nextID
	u.nextID++
	signed, err := keyhelper.GenerateSignedPreKey(u.own, id, u.format.SignedPreKeyRecord)
	if err != nil {
		u.t.Fatal(err)
	}
	u.signed[id] = signed.Serialize()
	b := e2ee.Bundle{
		RegistrationID: u.regID,
		Identity:       u.own.PublicKey().PublicKey().PublicKey(),
		Signed:         e2ee.BundleSignedKey{ID: id, Key: signed.KeyPair().PublicKey().PublicKey(), Signature: signed.Signature()},
	}
	if oneTime {
		pair, err := ecc.GenerateKeyPair()
		if err != nil {
			u.t.Fatal(err)
		}
		u.preKeys[id] = record.NewPreKey(id, pair, u.format.PreKeyRecord).Serialize()
		b.PreKey = &e2ee.BundleKey{ID: id, Key: pair.PublicKey().PublicKey()}
	}
	return b
}

func (u *stockUser) start(peer int, b e2ee.Bundle) error {
	id, key := optional.NewEmptyUint32(), ecc.ECPublicKeyable(nil)
	if b.PreKey != nil {
		id, key = optional.NewOptionalUint32(b.PreKey.ID), ecc.NewDjbECPublicKey(b.PreKey.Key)
	}
	return u.builder(peer).ProcessBundle(u.t.Context(), prekey.NewBundle(b.RegistrationID, 0, id, b.Signed.ID, key,
		ecc.NewDjbECPublicKey(b.Signed.Key), b.Signed.Signature, identity.NewKey(ecc.NewDjbECPublicKey(b.Identity))))
}

func (u *stockUser) encrypt(peer int, text string) (sealed e2ee.Sealed, err error) {
	defer recovered(&err)
	m, err := u.cipher(peer).Encrypt(u.t.Context(), []byte(text))
	if err != nil {
		return e2ee.Sealed{}, err
	}
	sealed = e2ee.Sealed{Type: e2ee.TypeMessage, Body: m.Serialize()}
	if m.Type() == protocol.PREKEY_TYPE {
		sealed.Type = e2ee.TypePreKey
	}
	return sealed, nil
}

func (u *stockUser) decrypt(peer int, m e2ee.Sealed) (text string, err error) {
	defer recovered(&err)
	var plaintext []byte
	if m.Type == e2ee.TypePreKey {
		message, err := protocol.NewPreKeySignalMessageFromBytes(m.Body, u.format.PreKeySignalMessage, u.format.SignalMessage)
		if err != nil {
			return "", err
		}
		plaintext, err = u.cipher(peer).DecryptMessage(u.t.Context(), message)
		return string(plaintext), err
	}
	message, err := protocol.NewSignalMessageFromBytes(m.Body, u.format.SignalMessage)
	if err != nil {
		return "", err
	}
	plaintext, err = u.cipher(peer).Decrypt(u.t.Context(), message)
	return string(plaintext), err
}

func recovered(err *error) {
	if value := recover(); value != nil {
		*err = errPanicked
	}
}

func (u *stockUser) hasIdentity(peer int) bool {
	return u.identities[stockAddress(peer).String()] != nil
}

func (u *stockUser) GetIdentityKeyPair() *identity.KeyPair { return u.own }
func (u *stockUser) GetLocalRegistrationID() uint32        { return u.regID }

func (u *stockUser) SaveIdentity(_ context.Context, a *protocol.SignalAddress, key *identity.Key) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.identities[a.String()] = key.Serialize()
	return nil
}

func (u *stockUser) IsTrustedIdentity(context.Context, *protocol.SignalAddress, *identity.Key) (bool, error) {
	return true, nil
}

func (u *stockUser) LoadSession(_ context.Context, a *protocol.SignalAddress) (*record.Session, error) {
	u.mu.Lock()
	row := u.sessions[a.String()]
	u.mu.Unlock()
	if u.onLoad != nil {
		u.onLoad()
	}
	if row == nil {
		return record.NewSession(u.format.Session, u.format.State), nil
	}
	return record.NewSessionFromBytes(row, u.format.Session, u.format.State)
}

func (u *stockUser) StoreSession(_ context.Context, a *protocol.SignalAddress, s *record.Session) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sessions[a.String()] = s.Serialize()
	return nil
}

func (u *stockUser) ContainsSession(_ context.Context, a *protocol.SignalAddress) (bool, error) {
	return u.sessions[a.String()] != nil, nil
}

func (u *stockUser) LoadPreKey(_ context.Context, id uint32) (*record.PreKey, error) {
	if u.preKeys[id] == nil {
		return nil, nil
	}
	return record.NewPreKeyFromBytes(u.preKeys[id], u.format.PreKeyRecord)
}

func (u *stockUser) ContainsPreKey(_ context.Context, id uint32) (bool, error) {
	return u.preKeys[id] != nil, nil
}

func (u *stockUser) RemovePreKey(_ context.Context, id uint32) error {
	if u.removePreKeys != nil {
		if err := u.removePreKeys(); err != nil {
			return err
		}
	}
	delete(u.preKeys, id)
	return nil
}

func (u *stockUser) LoadSignedPreKey(_ context.Context, id uint32) (*record.SignedPreKey, error) {
	if u.signed[id] == nil {
		return nil, nil
	}
	return record.NewSignedPreKeyFromBytes(u.signed[id], u.format.SignedPreKeyRecord)
}

var errNotUsed = errors.New("not used here")

func (u *stockUser) GetSubDeviceSessions(context.Context, string) ([]uint32, error) {
	return nil, errNotUsed
}
func (u *stockUser) DeleteSession(context.Context, *protocol.SignalAddress) error { return errNotUsed }
func (u *stockUser) DeleteAllSessions(context.Context) error                      { return errNotUsed }
func (u *stockUser) StorePreKey(context.Context, uint32, *record.PreKey) error    { return errNotUsed }
func (u *stockUser) LoadSignedPreKeys(context.Context) ([]*record.SignedPreKey, error) {
	return nil, errNotUsed
}
func (u *stockUser) StoreSignedPreKey(context.Context, uint32, *record.SignedPreKey) error {
	return errNotUsed
}
func (u *stockUser) RemoveSignedPreKey(context.Context, uint32) error { return errNotUsed }
func (u *stockUser) ContainsSignedPreKey(_ context.Context, id uint32) (bool, error) {
	return u.signed[id] != nil, nil
}

// --- messages made by hand ------------------------------------------------------------------------------------------------

// handmade is a message put together field by field from the sender's state, with a right MAC over whatever it says.
type handmade struct {
	version    byte
	ratchetKey []byte
	counter    uint32
	ciphertext []byte
	unknown    []byte // further protobuf fields
	keys       struct{ cipher, mac, iv []byte }
}

// handmade makes the next message of u to peer as change wants it. u's state stays as it is.
func (u *stockUser) handmade(peer int, change func(h *handmade)) e2ee.Sealed {
	u.t.Helper()
	row, err := record.NewSessionFromBytes(u.sessions[stockAddress(peer).String()], u.format.Session, u.format.State)
	if err != nil {
		u.t.Fatal(err)
	}
	state := row.SessionState()
	chain := state.SenderChainKey()
	h := &handmade{version: 0x33, ratchetKey: state.SenderRatchetKey().Serialize(), counter: chain.Index()}
	keys := chain.MessageKeys()
	h.keys.cipher, h.keys.mac, h.keys.iv = keys.CipherKey(), keys.MacKey(), keys.Iv()
	h.ciphertext = h.blocks(u.t, pad("by hand"))
	change(h)
	b := []byte{h.version}
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendBytes(b, h.ratchetKey)
	b = protowire.AppendTag(b, 2, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(h.counter))
	b = protowire.AppendTag(b, 3, protowire.VarintType)
	b = protowire.AppendVarint(b, 0)
	b = protowire.AppendTag(b, 4, protowire.BytesType)
	b = protowire.AppendBytes(b, h.ciphertext)
	b = append(b, h.unknown...)
	mac := hmac.New(sha256.New, h.keys.mac)
	mac.Write(state.LocalIdentityKey().Serialize())
	mac.Write(state.RemoteIdentityKey().Serialize())
	mac.Write(b)
	b = append(b, mac.Sum(nil)[:8]...)
	if !state.HasUnacknowledgedPreKeyMessage() {
		return e2ee.Sealed{Type: e2ee.TypeMessage, Body: b}
	}
	items, err := state.UnackPreKeyMessageItems()
	if err != nil {
		u.t.Fatal(err)
	}
	return e2ee.Sealed{Type: e2ee.TypePreKey, Body: u.format.PreKeySignalMessage.Serialize(&protocol.PreKeySignalMessageStructure{
		RegistrationID: u.regID, PreKeyID: items.PreKeyID(), SignedPreKeyID: items.SignedPreKeyID(),
		BaseKey: items.BaseKey().Serialize(), IdentityKey: u.own.PublicKey().Serialize(), Message: b, Version: 3,
	})}
}

// blocks encrypts plaintext, whole blocks, without any padding of its own.
func (h *handmade) blocks(t testing.TB, plaintext []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(h.keys.cipher)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, len(plaintext))
	cipher.NewCBCEncrypter(block, h.keys.iv).CryptBlocks(out, plaintext)
	return out
}

// pad is PKCS#7.
func pad(text string) []byte {
	n := 16 - len(text)%16
	out := []byte(text)
	for range n {
		out = append(out, byte(n))
	}
	return out
}

// --- steps of a scenario ----------------------------------------------------------------------------------------------------

func mustEncrypt(t testing.TB, u user, peer int, text string) e2ee.Sealed {
	t.Helper()
	m, err := u.encrypt(peer, text)
	if err != nil {
		t.Fatalf("encrypt: %v", err)
	}
	return m
}

func mustRead(t testing.TB, u user, peer int, m e2ee.Sealed, want string) {
	t.Helper()
	if text, err := u.decrypt(peer, m); err != nil || text != want {
		t.Fatalf("read a %s: text right: %v, error %v", m.Type, text == want, err)
	}
}

func mustStart(t testing.TB, u user, peer int, b e2ee.Bundle) {
	t.Helper()
	if err := u.start(peer, b); err != nil {
		t.Fatalf("start: %v", err)
	}
}

// acquaint lets a begin with b and b answer. To a, b is peer 2; to b, a is peer 1.
func acquaint(t testing.TB, a, b user) {
	t.Helper()
	mustStart(t, a, 2, b.bundle(true))
	mustRead(t, b, 1, mustEncrypt(t, a, 2, "hello"), "hello")
	mustRead(t, a, 2, mustEncrypt(t, b, 1, "hello yourself"), "hello yourself")
}

// unchanged says whether the store holds, byte for byte, what it held at the snapshot.
func unchanged(store *e2eetest.MemStore, before map[string][]byte) bool {
	now := store.Snapshot()
	if len(now) != len(before) {
		return false
	}
	for name, row := range before {
		got, there := now[name]
		if !there || string(got) != string(row) {
			return false
		}
	}
	return true
}
