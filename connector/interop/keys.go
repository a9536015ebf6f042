package interop

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"postern/connector/e2ee"
	"postern/connector/gatekeeper"
	"postern/connector/killpoint"
	"postern/connector/stanza"
)

// rotateAgain is how young the newest signed prekey must be at the first login of a
// run for it to be announced again: the process may have died before the
// gatekeeper had it.
const rotateAgain = time.Hour

const (
	// refillBurst is how many refills may follow each other, refillEvery how long each
	// further one waits: who drains the stock on purpose makes us make no keys without
	// end, and bundles without a one-time prekey work too.
	refillBurst = 5
	refillEvery = 10 * time.Minute
)

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
	refills  pace
	drain    drain
	told     map[uint32]bool // damaged signed prekeys that the log has
	// renewing is the occasion for which this run has made a signed prekey (see renew); work's alone.
	renewing string
}

func newKeys(a *Account) *keys {
	k := &keys{a: a, left: -1, refills: newPace(refillBurst, refillEvery)}
	k.lanes = lanes{a: a, kind: &keysLanes}
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

// look asks for the count and looks at the signed prekey, as from time to time.
func (k *keys) look() {
	k.mu.Lock()
	k.check = true
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
	k.taken(left)
	if left < k.a.prof.PreKeys.RefillBelow {
		k.later(rand.N(k.a.limits.PreKeyJitter))
	}
}

// drain is what was taken of our prekeys within drainTime without a message to us.
type drain struct {
	since       time.Time
	count       int
	told, waits bool // the log has it, and that a refill waits
}

// drainTime is how long a drain counts as one.
const drainTime = 24 * time.Hour

// now begins a new count when the last one is over.
func (d *drain) now() *drain {
	if now := time.Now(); now.Sub(d.since) >= drainTime {
		*d = drain{since: now}
	}
	return d
}

// taken notes what the gatekeeper says is left. What is missing and no message has
// named was handed out to somebody who has not written: many of those are a drain, which
// the operator is told of once, however slow it is. k.mu is held.
func (k *keys) taken(left int) {
	missing := max(k.left-left, 0) // nothing if that was not known
	k.left = left
	d := k.drain.now()
	if d.count += missing; d.told || d.count < k.a.prof.PreKeys.RefillTo/4 {
		return
	}
	d.told = true
	k.a.guard("keys", k.a.up.Drained)
	k.a.log.Warn().Int("count", d.count).Int("left", left).
		Msg("one-time prekeys were handed out without a message to us: somebody may be draining them")
}

// mayUpload says whether prekeys may be made now, and has it looked at again later if not. left is how many
// the gatekeeper has, -1 if that was not asked.
func (k *keys) mayUpload(left int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	wait := k.refills.take("", time.Now())
	if wait == 0 {
		return true
	}
	k.later(wait + rand.N(k.a.limits.PreKeyJitter))
	if d := k.drain.now(); !d.waits {
		d.waits = true
		k.a.log.Warn().Int("left", left).Dur("wait", wait).Msg("one-time prekeys are used up faster than is usual: the refill waits")
	}
	return false
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
	err := k.renew(ctx)
	if err == nil {
		err = k.rotate(ctx)
	}
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
	counts := k.a.prof.PreKeys
	k.mu.Lock()
	k.taken(left)
	k.mu.Unlock()
	if left >= counts.RefillBelow || !k.mayUpload(left) {
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
	records, keys, err := k.fresh(ctx, n)
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
	for i, key := range keys {
		ids[i], up.PreKeys[i] = key.ID, stanza.PreKey{ID: key.ID, Key: key.Public}
	}
	killpoint.Hit(killpoint.KeysMade)
	if err = a.store.MarkPreKeysUploaded(ctx, ids); err != nil {
		return err
	}
	killpoint.Hit(killpoint.KeysMarked)
	answer, err := a.link.request(ctx, up)
	if err == nil {
		a.meter.PreKeys(len(ids), 0, 0)
		killpoint.Hit(killpoint.KeysUploaded)
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

// fresh returns n one-time prekeys that were never uploaded, made now if need be, and
// their rows.
func (k *keys) fresh(ctx context.Context, n int) (records []KeyRecord, list []e2ee.PreKey, err error) {
	store := k.a.store
	if records, list, err = k.unsent(ctx, n); err != nil || len(list) >= n {
		return records, list, err
	}
	missing := n - len(list)
	first, err := store.ReservePreKeyIDs(ctx, missing)
	if err != nil {
		return nil, nil, err
	}
	made, err := k.a.cfg.Device.GeneratePreKeys(first, missing)
	if err != nil {
		return nil, nil, err
	}
	more := make([]KeyRecord, len(made))
	for i := range made {
		more[i] = KeyRecord{ID: made[i].ID, Record: made[i].Marshal()}
	}
	if err = store.PutPreKeys(ctx, more); err != nil {
		return nil, nil, err
	}
	return append(records, more...), append(list, made...), nil
}

// unsent returns up to n one-time prekeys that are there and were never uploaded.
// Damaged ones go: nobody has their public half.
func (k *keys) unsent(ctx context.Context, n int) (records []KeyRecord, list []e2ee.PreKey, err error) {
	stored, err := k.a.store.PreKeysToUpload(ctx, n)
	if err != nil {
		return nil, nil, err
	}
	var damaged []uint32
	for _, r := range stored {
		key, err := e2ee.UnmarshalPreKey(r.ID, r.Record)
		if err != nil {
			damaged = append(damaged, r.ID)
			continue
		}
		records, list = append(records, r), append(list, key)
	}
	if len(damaged) == 0 {
		return records, list, nil
	}
	k.a.log.Error().Int("count", len(damaged)).Uint32("id", damaged[0]).Msg("damaged one-time prekeys, never offered, are replaced")
	return records, list, k.a.store.DeletePreKeys(ctx, damaged)
}
