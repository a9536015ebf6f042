package e2ee

import (
	"context"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/libsignal/keys/identity"
	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/libsignal/serialize"
	"go.mau.fi/libsignal/session"
	"go.mau.fi/libsignal/state/record"
)

// peer is the address libsignal sees. It stands in the library's error texts, so it says nothing; and one buffering store
// serves one address only.
var peer = protocol.NewSignalAddress("peer", 0)

// wireFormat is how libsignal codes messages. Of its record serializers only stateFormat is used.
var wireFormat = func() *serialize.Serializer {
	format := serialize.NewProtoBufSerializer()
	format.State = stateFormat{}
	return format
}()

// bufferStore is the store libsignal works on, for one operation with one address. It holds copies; what the library
// stores stays here until the caller has decided, and what it would delete is the caller's to delete.
type bufferStore struct {
	own            *identity.KeyPair
	registrationID uint32
	loaded         *record.Session // what a load gives
	stored         *record.Session // what the last store got, nil if none
	preKey         *record.PreKey
	signedPreKey   *record.SignedPreKey
}

// holdState makes state, which must be the caller's own copy, the session that is loaded.
func (b *bufferStore) holdState(state *record.State) {
	b.loaded = record.NewSessionFromState(state, wireFormat.Session)
}

// holdFresh makes a session without any state the one that is loaded, and returns it.
func (b *bufferStore) holdFresh() *record.Session {
	b.loaded = record.NewSession(wireFormat.Session, wireFormat.State)
	return b.loaded
}

// loadKeys fetches the prekeys a prekey message names. A key that is not there is ErrNoPreKey.
func (b *bufferStore) loadKeys(ctx context.Context, store Store, m *preKeyMessage) error {
	stored, err := store.LoadSignedPreKey(ctx, m.signedPreKeyID)
	if err != nil {
		return err
	}
	if stored == nil {
		return ErrNoPreKey
	}
	signed, err := UnmarshalSignedPreKey(m.signedPreKeyID, stored)
	if err != nil {
		return err
	}
	b.signedPreKey = record.NewSignedPreKey(signed.ID, 0, keyPair(signed.Public, signed.Private), signed.Signature,
		wireFormat.SignedPreKeyRecord)
	if m.preKeyID == 0 {
		return nil
	}
	if stored, err = store.LoadPreKey(ctx, m.preKeyID); err != nil {
		return err
	}
	if stored == nil {
		return ErrNoPreKey
	}
	oneTime, err := UnmarshalPreKey(m.preKeyID, stored)
	if err != nil {
		return err
	}
	b.preKey = record.NewPreKey(oneTime.ID, keyPair(oneTime.Public, oneTime.Private), wireFormat.PreKeyRecord)
	return nil
}

func (b *bufferStore) builder() *session.Builder {
	return session.NewBuilder(b, b, b, b, peer, wireFormat)
}

func keyPair(public, private [32]byte) *ecc.ECKeyPair {
	return ecc.NewECKeyPair(ecc.NewDjbECPublicKey(public), ecc.NewDjbECPrivateKey(private))
}

// GetIdentityKeyPair and the methods below are libsignal's store interfaces.
func (b *bufferStore) GetIdentityKeyPair() *identity.KeyPair { return b.own }
func (b *bufferStore) GetLocalRegistrationID() uint32        { return b.registrationID }

// IsTrustedIdentity is true: which key is believed is decided after the MAC, by Signal.
func (b *bufferStore) IsTrustedIdentity(context.Context, *protocol.SignalAddress, *identity.Key) (bool, error) {
	return true, nil
}

// SaveIdentity does nothing: Signal stores the key after the MAC, in the same transaction as the session.
func (b *bufferStore) SaveIdentity(context.Context, *protocol.SignalAddress, *identity.Key) error {
	return nil
}

func (b *bufferStore) LoadSession(context.Context, *protocol.SignalAddress) (*record.Session, error) {
	if b.loaded == nil {
		return nil, ErrNoSession
	}
	return b.loaded, nil
}

func (b *bufferStore) StoreSession(_ context.Context, _ *protocol.SignalAddress, session *record.Session) error {
	b.stored = session
	return nil
}

func (b *bufferStore) ContainsSession(context.Context, *protocol.SignalAddress) (bool, error) {
	return b.loaded != nil, nil
}

func (b *bufferStore) LoadPreKey(context.Context, uint32) (*record.PreKey, error) {
	if b.preKey == nil {
		return nil, ErrNoPreKey
	}
	return b.preKey, nil
}

func (b *bufferStore) ContainsPreKey(context.Context, uint32) (bool, error) {
	return b.preKey != nil, nil
}

func (b *bufferStore) LoadSignedPreKey(context.Context, uint32) (*record.SignedPreKey, error) {
	if b.signedPreKey == nil {
		return nil, ErrNoPreKey
	}
	return b.signedPreKey, nil
}

func (b *bufferStore) LoadSignedPreKeys(context.Context) ([]*record.SignedPreKey, error) {
	if b.signedPreKey == nil {
		return nil, nil
	}
	return []*record.SignedPreKey{b.signedPreKey}, nil
}

func (b *bufferStore) ContainsSignedPreKey(context.Context, uint32) (bool, error) {
	return b.signedPreKey != nil, nil
}

// What follows belongs to libsignal's interfaces and has no place in one operation with one address; libsignal calls none
// of it there. Should a later version do so, the operation fails and nothing is stored.

func (b *bufferStore) GetSubDeviceSessions(context.Context, string) ([]uint32, error) {
	return nil, ErrLibrary
}
func (b *bufferStore) DeleteSession(context.Context, *protocol.SignalAddress) error {
	return ErrLibrary
}
func (b *bufferStore) DeleteAllSessions(context.Context) error                   { return ErrLibrary }
func (b *bufferStore) StorePreKey(context.Context, uint32, *record.PreKey) error { return ErrLibrary }
func (b *bufferStore) RemovePreKey(context.Context, uint32) error                { return ErrLibrary }
func (b *bufferStore) StoreSignedPreKey(context.Context, uint32, *record.SignedPreKey) error {
	return ErrLibrary
}
func (b *bufferStore) RemoveSignedPreKey(context.Context, uint32) error { return ErrLibrary }
