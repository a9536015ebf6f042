package e2ee

import (
	"math"

	"go.mau.fi/libsignal/keys/chain"
	"go.mau.fi/libsignal/keys/message"
	"go.mau.fi/libsignal/serialize"
	"go.mau.fi/libsignal/state/record"
	"go.mau.fi/libsignal/util/optional"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// rowVersion is the first byte of a session row. Behind it stand the states, the current one first, each as its length
// (varint) and its bytes; length 0 as the first says that there is no current one. In a row of version retiredVersion the number
// of retired states (a byte) stands before them.
const (
	rowVersion     = 1
	retiredVersion = 2
)

// sessionRow is a session row taken apart. The states stay bytes: one is decoded only to be tried, and only one that has
// changed is encoded. So no attempt can touch another state, and a row with many old states costs little.
type sessionRow struct {
	current  []byte   // nil: none
	archived [][]byte // the latest first, at most MaxArchivedStates
	// retired is how many of the archived states, from the last on, may only be read in, for ever. None of them is promoted
	// and later ones come before them, so they stay at the end.
	retired int
}

// unmarshalRow reads a stored row; nil is the row without states. The error is ErrCorruptSession. The result shares memory
// with stored.
//
//nolint:gocyclo // one refusal for each way in which a row can be wrong
func unmarshalRow(stored []byte) (*sessionRow, error) {
	row := &sessionRow{}
	if stored == nil {
		return row, nil
	}
	if len(stored) == 0 || len(stored) > MaxSessionBytes {
		return nil, ErrCorruptSession
	}
	rest, first := stored[1:], true
	switch {
	case stored[0] == retiredVersion && len(rest) > 0 && rest[0] > 0:
		row.retired, rest = int(rest[0]), rest[1:]
	case stored[0] != rowVersion:
		return nil, ErrCorruptSession
	}
	for len(rest) > 0 {
		state, n := protowire.ConsumeBytes(rest)
		if n < 0 || len(state) == 0 && !first || len(row.archived) == MaxArchivedStates {
			return nil, ErrCorruptSession
		}
		rest = rest[n:]
		// The capacity ends with the state, so that nothing can be appended into the next one.
		state = state[:len(state):len(state)]
		switch {
		case !first:
			row.archived = append(row.archived, state)
		case len(state) > 0:
			row.current = state
		}
		first = false
	}
	if first || row.retired > len(row.archived) {
		return nil, ErrCorruptSession
	}
	return row, nil
}

// marshal is the stored form. Archived states beyond MaxArchivedStates or MaxSessionBytes are dropped, the oldest first.
func (r *sessionRow) marshal() []byte {
	size := 1 + protowire.SizeBytes(len(r.current))
	if r.retired > 0 {
		size++
	}
	keep := 0
	for _, state := range r.archived {
		next := size + protowire.SizeBytes(len(state))
		if keep == MaxArchivedStates || next > MaxSessionBytes {
			break
		}
		size, keep = next, keep+1
	}
	r.retired = max(0, r.retired-(len(r.archived)-keep))
	r.archived = r.archived[:keep]
	b := make([]byte, 0, size)
	if r.retired > 0 {
		b = append(b, retiredVersion, byte(r.retired))
	} else {
		b = append(b, rowVersion)
	}
	b = protowire.AppendBytes(b, r.current)
	for _, state := range r.archived {
		b = protowire.AppendBytes(b, state)
	}
	return b
}

// begin makes state the current one, nil for none, and archives the one before.
func (r *sessionRow) begin(state []byte) {
	if r.current != nil {
		archived := make([][]byte, 0, len(r.archived)+1)
		archived = append(archived, r.current)
		r.archived = append(archived, r.archived...)
	}
	r.current = state
}

// retire archives the current state and retires all.
func (r *sessionRow) retire() {
	r.begin(nil)
	r.retired = len(r.archived)
}

// isRetired says whether archived state number i may only be read in.
func (r *sessionRow) isRetired(i int) bool { return i >= len(r.archived)-r.retired }

// RetireSession makes of a session row, as Store.Commit got it, one in whose sessions nothing is encrypted any more, now or after a step of the
// peer: Encrypt gives ErrNoSession until another session is begun, by us or by the peer. What is still on its way can be read. It is for rows of an old
// copy, whose sender chains may have gone on elsewhere. What is no row comes back as it is.
func RetireSession(stored []byte) []byte {
	row, err := unmarshalRow(stored)
	if err != nil || stored == nil {
		return stored
	}
	row.retire()
	return row.marshal()
}

// promote makes the archived state number i, in its new form, the current one.
func (r *sessionRow) promote(i int, state []byte) {
	rest := make([][]byte, 0, len(r.archived)-1)
	rest = append(rest, r.archived[:i]...)
	r.archived = append(rest, r.archived[i+1:]...)
	r.begin(state)
}

// currentState is the number of the current state where archived ones have 0 and up; notFound is none at all.
const (
	currentState = -1
	notFound     = -2
)

// at is the state of a number.
func (r *sessionRow) at(i int) []byte {
	if i == currentState {
		return r.current
	}
	return r.archived[i]
}

// find returns the number of the state that baseKey began, notFound if there is none.
func (r *sessionRow) find(baseKey [32]byte) int {
	for i := currentState; i < len(r.archived); i++ {
		if state := r.at(i); state != nil && string(stateBaseKey(state)) == string(typed(baseKey)) {
			return i
		}
	}
	return notFound
}

// stateBaseKey reads the base key, with type byte, out of an encoded state without decoding the rest; nil if there is none.
func stateBaseKey(state []byte) []byte {
	var key []byte
	err := readFields(state, func(number protowire.Number, value field) error {
		if number == 13 {
			return value.bytes(&key)
		}
		return nil
	})
	if err != nil {
		return nil
	}
	return key
}

// decodeState makes a state of its stored bytes, sharing nothing with them. The error is ErrCorruptSession.
func decodeState(stored []byte) (*record.State, error) {
	var state *record.State
	err := guard(func() (err error) {
		state, err = record.NewStateFromBytes(stored, stateFormat{})
		return err
	})
	if err != nil || state.Version() != messageVersion || !state.HasSenderChain() {
		return nil, ErrCorruptSession
	}
	return state, nil
}

// encodeState is the stored form of a state. It runs under guard, like all that calls libsignal. The error is ErrLibrary.
func encodeState(state *record.State) ([]byte, error) {
	stored := state.Serialize()
	if len(stored) == 0 {
		return nil, ErrLibrary // an empty state must never be stored
	}
	return stored, nil
}

// clampPreviousCounter takes back the underflow libsignal's own receive step leaves when a side ratchets without having
// sent. Our receive step never makes it; this is for the wire to be right whatever made the state. The MAC comes after.
func clampPreviousCounter(state *record.State) {
	if state.PreviousCounter() == math.MaxUint32 {
		state.SetPreviousCounter(0)
	}
}

// stateFormat stores session states as the protobuf message that libsignal defines for them (SessionStructure in its
// LocalStorageProtocol), where its own serializer writes JSON of twice the size.
type stateFormat struct{}

// Serialize implements record.StateSerializer, which has no way to report an error: the result is then empty. Marshalling
// fails on invalid UTF-8 and missing required fields, and this message has neither kind of field.
func (stateFormat) Serialize(s *record.StateStructure) []byte {
	version := uint32(s.SessionVersion)
	out := &serialize.SessionStructure{
		SessionVersion:       &version,
		LocalIdentityPublic:  s.LocalIdentityPublic,
		RemoteIdentityPublic: s.RemoteIdentityPublic,
		RootKey:              s.RootKey,
		PreviousCounter:      &s.PreviousCounter,
		SenderChain:          chainOut(s.SenderChain),
		ReceiverChains:       make([]*serialize.SessionStructure_Chain, len(s.ReceiverChains)),
		RemoteRegistrationId: &s.RemoteRegistrationID,
		LocalRegistrationId:  &s.LocalRegistrationID,
		AliceBaseKey:         s.SenderBaseKey,
	}
	for i, c := range s.ReceiverChains {
		out.ReceiverChains[i] = chainOut(c)
	}
	if p := s.PendingPreKey; p != nil {
		signed := int32(p.SignedPreKeyID)
		out.PendingPreKey = &serialize.SessionStructure_PendingPreKey{SignedPreKeyId: &signed, BaseKey: p.BaseKey}
		if p.PreKeyID != nil && !p.PreKeyID.IsEmpty {
			out.PendingPreKey.PreKeyId = &p.PreKeyID.Value
		}
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(out)
	if err != nil {
		return nil
	}
	return b
}

// Deserialize implements record.StateSerializer.
func (stateFormat) Deserialize(stored []byte) (*record.StateStructure, error) {
	var in serialize.SessionStructure
	if err := proto.Unmarshal(stored, &in); err != nil {
		return nil, ErrCorruptSession
	}
	if !wellFormed(&in) {
		return nil, ErrCorruptSession
	}
	out := &record.StateStructure{
		SessionVersion:       int(in.GetSessionVersion()),
		LocalIdentityPublic:  in.LocalIdentityPublic,
		RemoteIdentityPublic: in.RemoteIdentityPublic,
		RootKey:              in.RootKey,
		PreviousCounter:      in.GetPreviousCounter(),
		SenderChain:          chainIn(in.SenderChain),
		ReceiverChains:       make([]*record.ChainStructure, len(in.ReceiverChains)),
		RemoteRegistrationID: in.GetRemoteRegistrationId(),
		LocalRegistrationID:  in.GetLocalRegistrationId(),
		SenderBaseKey:        in.AliceBaseKey,
	}
	for i, c := range in.ReceiverChains {
		out.ReceiverChains[i] = chainIn(c)
	}
	if p := in.PendingPreKey; p != nil {
		id := optional.NewEmptyUint32()
		if p.PreKeyId != nil {
			id = optional.NewOptionalUint32(p.GetPreKeyId())
		}
		out.PendingPreKey = &record.PendingPreKeyStructure{
			PreKeyID: id, SignedPreKeyID: uint32(p.GetSignedPreKeyId()), BaseKey: p.BaseKey,
		}
	}
	return out, nil
}

// wellFormed checks what the library takes on trust: that all keys are there and have their lengths.
func wellFormed(s *serialize.SessionStructure) bool {
	public := func(key []byte) bool { return len(key) == typedKeyLength }
	chainOK := func(c *serialize.SessionStructure_Chain) bool {
		for _, k := range c.MessageKeys {
			if len(k.CipherKey) != message.CipherKeyLength || len(k.MacKey) != message.MacKeyLength || len(k.Iv) != message.IVLength {
				return false
			}
		}
		return public(c.SenderRatchetKey) && len(c.GetChainKey().GetKey()) == 32
	}
	if s.SenderChain == nil || !chainOK(s.SenderChain) || len(s.SenderChain.SenderRatchetKeyPrivate) != 32 {
		return false
	}
	for _, c := range s.ReceiverChains {
		if !chainOK(c) {
			return false
		}
	}
	return len(s.RootKey) == 32 && public(s.LocalIdentityPublic) && public(s.RemoteIdentityPublic) &&
		public(s.AliceBaseKey) && (s.PendingPreKey == nil || public(s.PendingPreKey.BaseKey))
}

func chainOut(c *record.ChainStructure) *serialize.SessionStructure_Chain {
	out := &serialize.SessionStructure_Chain{
		SenderRatchetKey:        c.SenderRatchetKeyPublic,
		SenderRatchetKeyPrivate: c.SenderRatchetKeyPrivate,
		ChainKey:                &serialize.SessionStructure_Chain_ChainKey{Index: &c.ChainKey.Index, Key: c.ChainKey.Key},
		MessageKeys:             make([]*serialize.SessionStructure_Chain_MessageKey, len(c.MessageKeys)),
	}
	for i, k := range c.MessageKeys {
		out.MessageKeys[i] = &serialize.SessionStructure_Chain_MessageKey{
			Index: &k.Index, CipherKey: k.CipherKey, MacKey: k.MacKey, Iv: k.IV,
		}
	}
	return out
}

func chainIn(c *serialize.SessionStructure_Chain) *record.ChainStructure {
	out := &record.ChainStructure{
		SenderRatchetKeyPublic:  c.SenderRatchetKey,
		SenderRatchetKeyPrivate: c.SenderRatchetKeyPrivate,
		ChainKey:                &chain.KeyStructure{Key: c.GetChainKey().GetKey(), Index: c.GetChainKey().GetIndex()},
		MessageKeys:             make([]*message.KeysStructure, len(c.MessageKeys)),
	}
	for i, k := range c.MessageKeys {
		out.MessageKeys[i] = &message.KeysStructure{
			CipherKey: k.CipherKey, MacKey: k.MacKey, IV: k.Iv, Index: k.GetIndex(),
		}
	}
	return out
}
