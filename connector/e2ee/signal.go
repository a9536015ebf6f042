package e2ee

import (
	"context"
	"errors"
	"math"

	"postern/connector/jid"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/libsignal/keys/identity"
	"go.mau.fi/libsignal/keys/prekey"
	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/libsignal/session"
	"go.mau.fi/libsignal/util/optional"
)

// Signal encrypts and decrypts for one account. There is one Signal for a Device and its Store, since the locks that
// keep counters from being used twice are in it. All methods are safe for concurrent use.
//
// The functions named commit run inside the store's transaction with a context that carries it; they may be nil. They
// must not call the Signal. No method may be called from inside a transaction of the same store.
type Signal struct {
	device *Device
	store  Store
	locks  addressLocks
}

// New makes the Signal of an account. The device must not be changed any more.
func New(device *Device, store Store) *Signal { return &Signal{device: device, store: store} }

// own is the device's identity as the library wants it: made at each use, since most accounts are idle at most times.
func (s *Signal) own() *identity.KeyPair {
	return identity.NewKeyPair(
		identity.NewKey(ecc.NewDjbECPublicKey(s.device.IdentityPublic)), ecc.NewDjbECPrivateKey(s.device.IdentityPrivate))
}

// Encrypt encrypts plaintext (at most MaxPlaintextBytes) in the current session with to. The session's next state and what
// commit writes land in one transaction; after an error nothing has changed and the ciphertext must not be sent. Errors:
// ErrNoSession, ErrUntrusted, ErrTooLarge, ErrExhausted, ErrCorruptSession, or the store's or commit's own.
func (s *Signal) Encrypt(ctx context.Context, to jid.JID, plaintext []byte,
	commit func(ctx context.Context, sealed Sealed) error) (Sealed, error) {
	const operation = "encrypt"
	if len(plaintext) > MaxPlaintextBytes {
		return Sealed{}, failed(operation, ErrTooLarge)
	}
	addr := address(to)
	unlock, err := s.locks.lock(ctx, addr)
	if err != nil {
		return Sealed{}, failed(operation, err)
	}
	defer unlock()
	row, known, err := s.load(ctx, addr)
	if err != nil {
		return Sealed{}, failed(operation, err)
	}
	if row.current == nil {
		return Sealed{}, failed(operation, ErrNoSession)
	}
	sealed, err := s.seal(ctx, row, known, plaintext)
	if err != nil {
		return Sealed{}, failed(operation, err)
	}
	extra := func(context.Context) error { return nil }
	if commit != nil {
		extra = func(ctx context.Context) error { return commit(ctx, sealed) }
	}
	if err = s.store.Commit(ctx, &Change{Addr: addr, Session: row.marshal()}, extra); err != nil {
		return Sealed{}, failed(operation, err)
	}
	return sealed, nil
}

// seal encrypts in row's current state and puts the next state in its place.
func (s *Signal) seal(ctx context.Context, row *sessionRow, known []byte, plaintext []byte) (Sealed, error) {
	state, err := decodeState(row.current)
	if err != nil {
		return Sealed{}, err
	}
	var sealed Sealed
	err = guard(func() error {
		remote := state.RemoteIdentityKey().PublicKey().PublicKey()
		if known == nil || string(known) != string(remote[:]) {
			return ErrUntrusted
		}
		if state.SenderChainKey().Index() == math.MaxUint32 {
			return ErrExhausted
		}
		clampPreviousCounter(state)
		buffer := &bufferStore{own: s.own(), registrationID: s.device.RegistrationID}
		buffer.holdState(state)
		// libsignal pads by appending: a copy without room to spare keeps it out of the caller's memory.
		text := make([]byte, len(plaintext))
		copy(text, plaintext)
		message, err := session.NewCipher(buffer.builder(), peer).Encrypt(ctx, text)
		if err != nil {
			return libraryError(err)
		}
		sealed = Sealed{Type: TypeMessage, Body: message.Serialize(), Identity: remote}
		if message.Type() == protocol.PREKEY_TYPE {
			sealed.Type = TypePreKey
		}
		if buffer.stored == nil {
			return ErrLibrary
		}
		row.current, err = encodeState(buffer.stored.SessionState())
		return err
	})
	return sealed, err
}

// Decrypt reads a message of from. typ is TypePreKey or TypeMessage, body the ciphertext as received (not changed, not
// kept). commit gets the plaintext and runs in the transaction that stores the session; its error, like any other,
// leaves the stored rows as they were. Errors: the sentinels of this package (see RetryReason), or the store's or commit's own.
func (s *Signal) Decrypt(ctx context.Context, from jid.JID, typ string, body []byte,
	commit func(ctx context.Context, plaintext []byte, info Opened) error) error {
	const operation = "decrypt"
	if len(body) > MaxMessageBytes {
		return failed(operation, ErrTooLarge)
	}
	incoming, err := parseIncoming(typ, body)
	if err != nil {
		return failed(operation, err)
	}
	addr := address(from)
	unlock, err := s.locks.lock(ctx, addr)
	if err != nil {
		return failed(operation, err)
	}
	defer unlock()
	row, known, err := s.load(ctx, addr)
	if errors.Is(err, ErrCorruptSession) && incoming.preKey != nil {
		// What the row held is lost; a prekey message brings its own session.
		row, err = &sessionRow{}, nil
	}
	if err != nil {
		return failed(operation, err)
	}
	plaintext, info, change, err := s.open(ctx, row, known, incoming)
	if err != nil {
		return failed(operation, err)
	}
	change.Addr = addr
	extra := func(context.Context) error { return nil }
	if commit != nil {
		extra = func(ctx context.Context) error { return commit(ctx, plaintext, info) }
	}
	return failed(operation, s.store.Commit(ctx, change, extra))
}

// open reads a message in row, which is this call's own, and says what is to be stored.
func (s *Signal) open(ctx context.Context, row *sessionRow, known []byte, in *incoming) ([]byte, Opened, *Change, error) {
	if in.preKey != nil && row.find(in.preKey.baseKey) == notFound {
		return s.openFirst(ctx, row, known, in)
	}
	result, err := row.open(in, known)
	if err != nil {
		return nil, Opened{}, nil, err
	}
	info := Opened{Identity: result.identity}
	info.Superseded = known != nil && string(known) != string(info.Identity[:])
	return result.plaintext, info, &Change{Session: row.marshal()}, nil
}

// openFirst reads a prekey message that begins a session: libsignal builds the state on a buffering store, then the receive
// step reads the message in it. Only if that verified does anything leave this function.
func (s *Signal) openFirst(ctx context.Context, row *sessionRow, known []byte, in *incoming) ([]byte, Opened, *Change, error) {
	buffer := &bufferStore{own: s.own(), registrationID: s.device.RegistrationID}
	if err := buffer.loadKeys(ctx, s.store, in.preKey); err != nil {
		return nil, Opened{}, nil, err
	}
	var result opened
	var state []byte
	err := guard(func() error {
		message, err := in.preKey.library()
		if err != nil {
			return err
		}
		fresh := buffer.holdFresh()
		if _, err = buffer.builder().Process(ctx, fresh, message); err != nil {
			return libraryError(err)
		}
		result, err = receive(fresh.SessionState(), in.message)
		if err != nil {
			return err
		}
		state, err = encodeState(fresh.SessionState())
		return err
	})
	if err != nil {
		return nil, Opened{}, nil, err
	}
	row.begin(state)
	id := result.identity
	info := Opened{Identity: id, NewSession: true, FirstIdentity: known == nil}
	change := &Change{Session: row.marshal()}
	if string(known) != string(id[:]) {
		change.Identity = id[:]
		info.IdentityChanged = known != nil
		copy(info.PreviousIdentity[:], known)
	}
	if in.preKey.preKeyID != 0 {
		used := in.preKey.preKeyID
		info.UsedPreKey, change.UsedPreKey = &used, &used
	}
	return result.plaintext, info, change, nil
}

// StartSession begins a session with to from its bundle and makes it the current one; the one before is archived. The
// signature of the signed prekey is verified first. A new identity key is accepted and reported. Errors: ErrInvalidKey,
// ErrSignature, ErrCorruptSession, or the store's or commit's own.
func (s *Signal) StartSession(ctx context.Context, to jid.JID, bundle Bundle,
	commit func(ctx context.Context, started Started) error) (Started, error) {
	const operation = "start session"
	if err := bundle.verify(); err != nil {
		return Started{}, failed(operation, err)
	}
	addr := address(to)
	unlock, err := s.locks.lock(ctx, addr)
	if err != nil {
		return Started{}, failed(operation, err)
	}
	defer unlock()
	row, known, err := s.load(ctx, addr)
	if errors.Is(err, ErrCorruptSession) {
		// A row that cannot be read stays lost; a new session is the cure.
		row, err = &sessionRow{}, nil
	}
	if err != nil {
		return Started{}, failed(operation, err)
	}
	state, err := s.build(ctx, bundle)
	if err != nil {
		return Started{}, failed(operation, err)
	}
	row.begin(state)
	started := Started{Identity: bundle.Identity, FirstIdentity: known == nil}
	change := &Change{Addr: addr, Session: row.marshal()}
	if string(known) != string(bundle.Identity[:]) {
		change.Identity = bundle.Identity[:]
		started.IdentityChanged = known != nil
		copy(started.PreviousIdentity[:], known)
	}
	extra := func(context.Context) error { return nil }
	if commit != nil {
		extra = func(ctx context.Context) error { return commit(ctx, started) }
	}
	if err = s.store.Commit(ctx, change, extra); err != nil {
		return Started{}, failed(operation, err)
	}
	return started, nil
}

// build has libsignal make a session state from a verified bundle.
func (s *Signal) build(ctx context.Context, bundle Bundle) ([]byte, error) {
	var state []byte
	err := guard(func() error {
		preKeyID, preKeyPublic := optional.NewEmptyUint32(), ecc.ECPublicKeyable(nil)
		if bundle.PreKey != nil {
			preKeyID = optional.NewOptionalUint32(bundle.PreKey.ID)
			preKeyPublic = ecc.NewDjbECPublicKey(bundle.PreKey.Key)
		}
		buffer := &bufferStore{own: s.own(), registrationID: s.device.RegistrationID}
		buffer.holdFresh()
		err := buffer.builder().ProcessBundle(ctx, prekey.NewBundle(
			bundle.RegistrationID, 0, preKeyID, bundle.Signed.ID, preKeyPublic,
			ecc.NewDjbECPublicKey(bundle.Signed.Key), bundle.Signed.Signature,
			identity.NewKey(ecc.NewDjbECPublicKey(bundle.Identity))))
		if err != nil {
			return libraryError(err)
		}
		if buffer.stored == nil {
			return ErrLibrary
		}
		state, err = encodeState(buffer.stored.SessionState())
		return err
	})
	return state, err
}

// EndSession archives the current session with to: what is still on its way can be read, but Encrypt gives ErrNoSession
// until a session is begun. The identity key stays, so that a change is noticed. Without a session it does nothing but
// run commit in a transaction.
func (s *Signal) EndSession(ctx context.Context, to jid.JID, commit func(ctx context.Context) error) error {
	const operation = "end session"
	addr := address(to)
	unlock, err := s.locks.lock(ctx, addr)
	if err != nil {
		return failed(operation, err)
	}
	defer unlock()
	change := &Change{Addr: addr}
	row, _, err := s.load(ctx, addr)
	switch {
	case errors.Is(err, ErrCorruptSession):
		change.Session = (&sessionRow{}).marshal()
	case err != nil:
		return failed(operation, err)
	case row.current != nil:
		row.begin(nil)
		change.Session = row.marshal()
	}
	return failed(operation, s.store.Commit(ctx, change, commit))
}

// HasSession says whether Encrypt has a session to use with to.
func (s *Signal) HasSession(ctx context.Context, to jid.JID) (bool, error) {
	info, err := s.Session(ctx, to)
	return info.Exists, err
}

// SessionRegistrationID is the registration id of the peer in the current session; false if there is no session.
func (s *Signal) SessionRegistrationID(ctx context.Context, to jid.JID) (uint32, bool, error) {
	info, err := s.Session(ctx, to)
	return info.RegistrationID, info.Exists, err
}

// Session describes the current session with to.
func (s *Signal) Session(ctx context.Context, to jid.JID) (SessionInfo, error) {
	const operation = "describe session"
	row, err := s.loadRow(ctx, address(to))
	if err != nil {
		return SessionInfo{}, failed(operation, err)
	}
	if row.current == nil {
		return SessionInfo{}, nil
	}
	state, err := decodeState(row.current)
	if err != nil {
		return SessionInfo{}, failed(operation, err)
	}
	info := SessionInfo{Exists: true, Archived: len(row.archived)}
	err = guard(func() error {
		info.RegistrationID = state.RemoteRegistrationID()
		info.Identity = state.RemoteIdentityKey().PublicKey().PublicKey()
		info.Unacknowledged = state.HasUnacknowledgedPreKeyMessage()
		if base := state.SenderBaseKey(); len(base) == typedKeyLength {
			copy(info.BaseKey[:], base[1:])
		}
		return nil
	})
	return info, failed(operation, err)
}

// Identity is the stored identity key of who; false if there is none.
func (s *Signal) Identity(ctx context.Context, who jid.JID) ([32]byte, bool, error) {
	key, err := s.loadIdentity(ctx, address(who))
	if key == nil || err != nil {
		return [32]byte{}, false, failed("look up identity", err)
	}
	return [32]byte(key), true, nil
}

// load reads the rows of addr; identity is nil if there is none. The row is the caller's own. If the session row alone is
// unreadable (ErrCorruptSession) the identity comes with the error.
func (s *Signal) load(ctx context.Context, addr string) (row *sessionRow, identity []byte, err error) {
	if identity, err = s.loadIdentity(ctx, addr); err != nil {
		return nil, nil, err
	}
	row, err = s.loadRow(ctx, addr)
	return row, identity, err
}

func (s *Signal) loadRow(ctx context.Context, addr string) (*sessionRow, error) {
	stored, err := s.store.LoadSession(ctx, addr)
	if err != nil {
		return nil, err
	}
	return unmarshalRow(stored)
}

// loadIdentity returns the stored key of addr, nil if there is none. One that is damaged is a key that nobody has: the next
// one counts as changed, and not as the first.
func (s *Signal) loadIdentity(ctx context.Context, addr string) ([]byte, error) {
	key, err := s.store.LoadIdentity(ctx, addr)
	if errors.Is(err, ErrKeyStored) || err == nil && key != nil && len(key) != 32 {
		return make([]byte, 32), nil
	}
	return key, err
}
