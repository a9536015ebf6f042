package interop

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"postern/connector/e2ee"
	"postern/connector/gatekeeper"
	"postern/connector/stanza"
)

// rotateAgain is how young the newest signed prekey must be at the first login of a
// run for it to be announced again: the process may have died before the
// gatekeeper had it.
const rotateAgain = time.Hour

// keys sees to it that the gatekeeper has one-time prekeys to hand out, and that
// the signed prekey is not too old (PROTOCOL.md 5.1).
type keys struct {
	a     *Account
	lanes lanes

	mu sync.Mutex
	// left is what the gatekeeper has as far as is known, -1 for not known.
	left int
	// check says that the gatekeeper is to be asked.
	check bool
	// refused says that it does not want ours (406): another identity is enlisted.
	refused  bool
	attempts int
	timer    *time.Timer
	rotated  bool // the first login of this run has been
}

func newKeys(a *Account) *keys {
	k := &keys{a: a, left: -1}
	k.lanes = a.lanes("keys", k.work)
	return k
}

func (k *keys) start(ctx context.Context) { k.lanes.start(ctx) }

func (k *keys) stop() {
	k.mu.Lock()
	if k.timer != nil {
		k.timer.Stop()
	}
	k.mu.Unlock()
	k.lanes.stop()
}

// live asks for the count, as after each login.
func (k *keys) live() {
	k.mu.Lock()
	k.check, k.refused, k.attempts = true, false, 0
	k.mu.Unlock()
	k.lanes.kick("")
}

// used counts a one-time prekey that a message has used up.
func (k *keys) used() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.left > 0 {
		k.left--
	}
	if k.left >= 0 && k.left < k.a.prof.PreKeys.RefillBelow {
		k.later(rand.N(k.a.limits.PreKeyJitter))
	}
}

// counted takes the gatekeeper's word that few are left.
func (k *keys) counted(left int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.left = left
	if left < k.a.prof.PreKeys.RefillBelow {
		k.later(rand.N(k.a.limits.PreKeyJitter))
	}
}

// later checks after a while; a check that is due already stands. k.mu is held.
func (k *keys) later(d time.Duration) {
	if k.check {
		return
	}
	k.check = true
	k.timer = time.AfterFunc(d, func() { k.lanes.kick("") })
}

func (k *keys) work(ctx context.Context, _ string) {
	k.mu.Lock()
	check := k.check && !k.refused
	k.check = false
	k.mu.Unlock()
	if !k.a.link.isLive() {
		return // the next login checks
	}
	err := k.rotate(ctx)
	if err == nil && check {
		err = k.refill(ctx)
	}
	if err == nil || ctx.Err() != nil {
		k.mu.Lock()
		k.attempts = 0
		k.mu.Unlock()
		return
	}
	var iq *stanza.IQError
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case errors.Is(err, gatekeeper.ErrNotConnected):
		return
	case errors.As(err, &iq) && iq.Code == 406:
		k.a.log.Error().Msg("the gatekeeper has another identity for this account: prekeys refused")
		k.refused = true
		return
	}
	k.a.log.Warn().Err(err).Msg("looking after the prekeys failed")
	k.attempts++
	k.later(backoff(k.attempts, time.Minute, time.Hour))
}

// refill asks how many one-time prekeys are left, and uploads what is missing.
func (k *keys) refill(ctx context.Context) error {
	answer, err := k.a.link.request(ctx, stanza.CountRequest{})
	if err != nil {
		return err
	}
	left, err := stanza.ParseCount(answer)
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.left = left
	k.mu.Unlock()
	counts := k.a.prof.PreKeys
	if left >= counts.RefillBelow {
		return nil
	}
	want := counts.RefillTo - left
	if left == 0 {
		want = counts.Initial
	}
	if err = k.upload(ctx, want); err != nil {
		return err
	}
	k.mu.Lock()
	k.left = left + want
	k.mu.Unlock()
	k.a.log.Info().Int("left", left).Int("uploaded", want).Msg("one-time prekeys uploaded")
	return nil
}

// upload gives the gatekeeper n one-time prekeys and the signed one. Keys are marked
// as uploaded before they go: one that may have been handed out is never offered
// again. Only a clear refusal takes the mark back.
func (k *keys) upload(ctx context.Context, n int) error {
	a := k.a
	records, err := k.fresh(ctx, n)
	if err != nil {
		return err
	}
	signed, err := k.signed(ctx)
	if err != nil {
		return err
	}
	up := &stanza.Upload{
		RegistrationID: a.cfg.Device.RegistrationID, Identity: a.cfg.Device.IdentityPublic,
		Signed:  stanza.SignedPreKey{ID: signed.ID, Key: signed.Public, Signature: signed.Signature},
		PreKeys: make([]stanza.PreKey, len(records)),
	}
	ids := make([]uint32, len(records))
	for i, r := range records {
		key, err := e2ee.UnmarshalPreKey(r.ID, r.Record)
		if err != nil {
			return err
		}
		ids[i], up.PreKeys[i] = r.ID, stanza.PreKey{ID: r.ID, Key: key.Public}
	}
	if err = a.store.MarkPreKeysUploaded(ctx, ids); err != nil {
		return err
	}
	answer, err := a.link.request(ctx, up)
	if err == nil {
		return stanza.ParseEmpty(answer)
	}
	var iq *stanza.IQError
	if errors.As(err, &iq) {
		if back := a.store.PutPreKeys(ctx, records); back != nil {
			a.log.Warn().Err(back).Msg("refused prekeys are lost")
		}
	}
	return err
}

// fresh returns n one-time prekeys that were never uploaded, made now if need be.
func (k *keys) fresh(ctx context.Context, n int) ([]KeyRecord, error) {
	store := k.a.store
	records, err := store.PreKeysToUpload(ctx, n)
	if err != nil || len(records) >= n {
		return records, err
	}
	missing := n - len(records)
	first, err := store.ReservePreKeyIDs(ctx, missing)
	if err != nil {
		return nil, err
	}
	made, err := k.a.cfg.Device.GeneratePreKeys(first, missing)
	if err != nil {
		return nil, err
	}
	more := make([]KeyRecord, len(made))
	for i := range made {
		more[i] = KeyRecord{ID: made[i].ID, Record: made[i].Marshal()}
	}
	if err = store.PutPreKeys(ctx, more); err != nil {
		return nil, err
	}
	return append(records, more...), nil
}

// errNoSignedKey says that the account was set up without a signed prekey.
var errNoSignedKey = errors.New("prekeys: no signed prekey")

// signed returns the newest signed prekey.
func (k *keys) signed(ctx context.Context) (e2ee.SignedPreKey, error) {
	records, err := k.a.store.SignedPreKeys(ctx)
	if err != nil {
		return e2ee.SignedPreKey{}, err
	}
	if len(records) == 0 {
		return e2ee.SignedPreKey{}, errNoSignedKey
	}
	return e2ee.UnmarshalSignedPreKey(records[0].ID, records[0].Record)
}

// rotate replaces a signed prekey that is too old, and deletes those that were
// replaced long ago.
func (k *keys) rotate(ctx context.Context) error {
	a := k.a
	records, err := a.store.SignedPreKeys(ctx)
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return errNoSignedKey
	}
	k.mu.Lock()
	first := !k.rotated
	k.rotated = true
	k.mu.Unlock()
	age := time.Since(time.UnixMilli(records[0].Created))
	newest, err := e2ee.UnmarshalSignedPreKey(records[0].ID, records[0].Record)
	if err != nil {
		return err
	}
	switch {
	case age >= a.prof.Timing.SignedPreKeyRotate:
		if newest, err = k.newSigned(ctx); err != nil {
			return err
		}
	case !first || age >= rotateAgain || len(records) < 2:
		return nil
	}
	answer, err := a.link.request(ctx, &stanza.Rotate{
		Signed: stanza.SignedPreKey{ID: newest.ID, Key: newest.Public, Signature: newest.Signature},
	})
	if err == nil {
		err = stanza.ParseEmpty(answer)
	}
	if err != nil {
		k.mu.Lock()
		k.rotated = false // announced again with the next check
		k.mu.Unlock()
		return err
	}
	a.log.Info().Msg("signed prekey rotated")
	return k.forgetOld(ctx, records)
}

func (k *keys) newSigned(ctx context.Context) (e2ee.SignedPreKey, error) {
	id, err := k.a.store.ReserveSignedPreKeyID(ctx)
	if err != nil {
		return e2ee.SignedPreKey{}, err
	}
	key, err := k.a.cfg.Device.GenerateSignedPreKey(id)
	if err != nil {
		return e2ee.SignedPreKey{}, err
	}
	record := KeyRecord{ID: id, Record: key.Marshal(), Created: time.Now().UnixMilli()}
	return key, k.a.store.PutSignedPreKey(ctx, record)
}

// forgetOld deletes signed prekeys that were replaced longer ago than
// SignedPreKeyKeep. A key was replaced when the next one was made.
func (k *keys) forgetOld(ctx context.Context, records []KeyRecord) error {
	limit := time.Now().Add(-k.a.prof.Timing.SignedPreKeyKeep).UnixMilli()
	for i := 1; i < len(records); i++ {
		if records[i-1].Created < limit { // replaced before the limit, as are all older ones
			return k.a.store.DeleteSignedPreKeys(ctx, records[i].Created+1)
		}
	}
	return nil
}
