package e2ee

import (
	"errors"
	"math"

	"go.mau.fi/libsignal/cipher"
	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/libsignal/keys/chain"
	"go.mau.fi/libsignal/keys/message"
	"go.mau.fi/libsignal/keys/session"
	"go.mau.fi/libsignal/state/record"
)

// opened is a message read in one state.
type opened struct {
	plaintext []byte
	identity  [32]byte // of the sender, under which the MAC verified
	stepped   bool     // the message began a new ratchet step
}

// open finds the state of the row that can read in, reads it there and puts that state's next form in its place; all
// others stay the bytes they are. After an error the row has not changed. known is the stored identity key, nil if none.
func (r *sessionRow) open(in *incoming, known []byte) (opened, error) {
	first, last := currentState, len(r.archived)-1
	if in.preKey != nil {
		// The session is known: the message belongs in the state its base key began, and nowhere else.
		first = r.find(in.preKey.baseKey)
		last = first
	}
	failure := error(ErrNoSession)
	for i := first; i <= last; i++ {
		stored := r.at(i)
		if stored == nil {
			continue
		}
		result, next, err := try(stored, in)
		if err == nil {
			r.settle(i, next, result, known)
			return result, nil
		}
		if errors.Is(err, ErrMalformed) {
			// It verified in this state, so it is in no other.
			return opened{}, err
		}
		failure = worse(failure, err)
	}
	return opened{}, failure
}

// try reads in on a copy of a stored state and returns the state's next form.
func try(stored []byte, in *incoming) (opened, []byte, error) {
	state, err := decodeState(stored)
	if err != nil {
		return opened{}, nil, err
	}
	var result opened
	var next []byte
	err = guard(func() (err error) {
		if in.preKey != nil && state.RemoteIdentityKey().PublicKey().PublicKey() != in.preKey.identity {
			// The head names another sender than the session it refers to.
			return ErrBadMAC
		}
		if result, err = receive(state, in.message); err != nil {
			return err
		}
		next, err = encodeState(state)
		return err
	})
	return result, next, err
}

// settle stores the next form of state number i. An archived state takes the place of the current one only if the peer has
// begun a ratchet step in it, only under the identity key that is stored, and never if it is retired. Where there is no current one, because the
// session was ended, it stays so until a session is begun.
func (r *sessionRow) settle(i int, next []byte, result opened, known []byte) {
	switch {
	case i == currentState:
		r.current = next
	case result.stepped && r.current != nil && !r.isRetired(i) && (known == nil || string(known) == string(result.identity[:])):
		r.promote(i, next)
	default:
		archived := append([][]byte(nil), r.archived...)
		archived[i] = next
		r.archived = archived
	}
}

// worse chooses which failure to report when several states could not read a message: the one that says most.
func worse(a, b error) error {
	rank := func(err error) int {
		for i, known := range []*Error{ErrNoSession, ErrCorruptSession, ErrLibrary, ErrBadMAC, ErrTooFarAhead, ErrDuplicate} {
			if errors.Is(err, known) {
				return i
			}
		}
		return math.MaxInt
	}
	if rank(b) > rank(a) {
		return b
	}
	return a
}

// receive is the receive step of the double ratchet (specification 3.4 and 3.5) on state, which is the caller's own copy: after
// an error it must be thrown away. First everything that reads only: find or derive the receiving chain, walk to the
// message's key, check the MAC, decrypt, check the padding. Then the state changes. It runs under guard. Errors:
// ErrDuplicate, ErrTooFarAhead, ErrBadMAC; ErrMalformed if the message verified and yet is wrong.
func receive(state *record.State, m *signalMessage) (opened, error) {
	theirs := ecc.NewDjbECPublicKey(m.ratchetKey)
	var start *chain.Key         // of the receiving chain, where it stands now
	var root session.RootKeyable // behind the receiving chain, if that is new
	stepped := !state.HasReceiverChain(theirs)
	if stepped {
		derived, err := state.RootKey().CreateChain(theirs, state.SenderRatchetKeyPair())
		if err != nil {
			return opened{}, ErrLibrary
		}
		start, root = derived.ChainKey.Current(), derived.RootKey
	} else {
		start = state.ReceiverChainKey(theirs)
	}
	keys, next, err := messageKeys(state, theirs, start, m.counter)
	if err != nil {
		return opened{}, err
	}
	sender, receiver := state.RemoteIdentityKey().Serialize(), state.LocalIdentityKey().Serialize()
	if !m.verify(keys.MacKey(), sender, receiver) {
		return opened{}, ErrBadMAC
	}
	plaintext, err := decrypt(keys, m.ciphertext)
	if err != nil {
		return opened{}, err
	}
	if stepped {
		if err = step(state, theirs, start, root); err != nil {
			return opened{}, err
		}
	}
	if next != nil {
		for k := start; k.Index() < m.counter; k = k.NextKey() {
			state.SetMessageKeys(theirs, k.MessageKeys())
		}
		state.SetReceiverChainKey(theirs, next)
	}
	state.ClearUnackPreKeyMessage()
	return opened{
		plaintext: plaintext,
		identity:  state.RemoteIdentityKey().PublicKey().PublicKey(),
		stepped:   stepped,
	}, nil
}

// messageKeys finds the keys of message number counter in the chain that stands at start: those kept when it was skipped
// (they leave the state, which is a copy), or those the chain leads to; then next is the chain behind it, otherwise nil.
func messageKeys(state *record.State, theirs ecc.ECPublicKeyable, start *chain.Key, counter uint32) (
	keys *message.Keys, next *chain.Key, err error) {
	if counter < start.Index() {
		if !state.HasMessageKeys(theirs, counter) {
			return nil, nil, ErrDuplicate
		}
		return state.RemoveMessageKeys(theirs, counter), nil, nil
	}
	if counter-start.Index() > MaxForwardJump {
		return nil, nil, ErrTooFarAhead
	}
	k := start
	for k.Index() < counter {
		k = k.NextKey()
	}
	return k.MessageKeys(), k.NextKey(), nil
}

// step makes the ratchet step a message from a new chain asks for: the receiving chain goes into the state, a new key
// pair of ours makes the next sending chain.
func step(state *record.State, theirs ecc.ECPublicKeyable, receiving *chain.Key, root session.RootKeyable) error {
	ours, err := ecc.GenerateKeyPair()
	if err != nil {
		return ErrLibrary
	}
	sending, err := root.CreateChain(theirs, ours)
	if err != nil {
		return ErrLibrary
	}
	// How many messages our last chain had, less one; 0 if it had none, as Signal has it.
	previous := state.SenderChainKey().Index()
	if previous > 0 {
		previous--
	}
	state.SetRootKey(sending.RootKey)
	state.AddReceiverChain(theirs, receiving)
	state.SetPreviousCounter(previous)
	state.SetSenderChain(ours, sending.ChainKey)
	return nil
}

// decrypt opens a body whose MAC has verified. Its padding must be PKCS#7 to the letter; the library alone would take
// any last byte up to the length.
func decrypt(keys *message.Keys, ciphertext []byte) ([]byte, error) {
	text := append([]byte(nil), ciphertext...)
	if _, err := cipher.DecryptCbc(keys.Iv(), keys.CipherKey(), text); err != nil {
		return nil, ErrMalformed
	}
	n := int(text[len(text)-1])
	if n < 1 || n > 16 || n > len(text) {
		return nil, ErrMalformed
	}
	for _, b := range text[len(text)-n:] {
		if int(b) != n {
			return nil, ErrMalformed
		}
	}
	return text[: len(text)-n : len(text)-n], nil
}
