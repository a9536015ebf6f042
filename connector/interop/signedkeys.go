package interop

import (
	"context"
	"time"

	"postern/connector/e2ee"
	"postern/connector/stanza"
)

// readable returns the newest signed prekey that can be read, nil if there is none, and
// whether a damaged one stands before it.
func (k *keys) readable(records []KeyRecord) (key *e2ee.SignedPreKey, damaged bool) {
	for _, r := range records {
		found, err := e2ee.UnmarshalSignedPreKey(r.ID, r.Record)
		if err == nil {
			return &found, damaged
		}
		damaged = true
		k.mu.Lock()
		if !k.told[r.ID] {
			put(&k.told, r.ID, true)
			k.a.log.Error().Uint32("id", r.ID).Msg("a signed prekey is damaged and passed over")
		}
		k.mu.Unlock()
	}
	return nil, damaged
}

// signed returns the newest signed prekey that can be read, made now if there is none.
func (k *keys) signed(ctx context.Context) (e2ee.SignedPreKey, error) {
	records, err := k.a.store.SignedPreKeys(ctx)
	if err != nil {
		return e2ee.SignedPreKey{}, err
	}
	if key, _ := k.readable(records); key != nil {
		return *key, nil
	}
	return k.newSigned(ctx, records)
}

// rotate replaces a signed prekey that is too old or damaged, and deletes those that
// were replaced long ago.
func (k *keys) rotate(ctx context.Context) error {
	a := k.a
	records, err := a.store.SignedPreKeys(ctx)
	if err != nil {
		return err
	}
	k.mu.Lock()
	first := !k.rotated
	k.rotated = true
	k.mu.Unlock()
	var age time.Duration
	if len(records) > 0 {
		age = time.Since(time.UnixMilli(records[0].Created))
	}
	newest, damaged := k.readable(records)
	switch {
	case newest == nil, damaged, age >= a.prof.Timing.SignedPreKeyRotate:
		made, err := k.newSigned(ctx, records)
		if err != nil {
			return err
		}
		newest = &made
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

// newSigned makes the signed prekey that comes after records, also if a wrong clock has
// dated those ahead.
func (k *keys) newSigned(ctx context.Context, records []KeyRecord) (e2ee.SignedPreKey, error) {
	id, err := k.a.store.ReserveSignedPreKeyID(ctx)
	if err != nil {
		return e2ee.SignedPreKey{}, err
	}
	key, err := k.a.cfg.Device.GenerateSignedPreKey(id)
	if err != nil {
		return e2ee.SignedPreKey{}, err
	}
	created := time.Now().UnixMilli()
	if len(records) > 0 {
		created = max(created, records[0].Created+1)
	}
	return key, k.a.store.PutSignedPreKey(ctx, KeyRecord{ID: id, Record: key.Marshal(), Created: created})
}

// forgetOld deletes signed prekeys that were replaced longer ago than
// SignedPreKeyKeep. A key was replaced when the next one was made.
func (k *keys) forgetOld(ctx context.Context, records []KeyRecord) error {
	limit := k.a.age().Add(-k.a.prof.Timing.SignedPreKeyKeep).UnixMilli()
	for i := 1; i < len(records); i++ {
		if records[i-1].Created < limit { // replaced before the limit, as are all older ones
			return k.a.store.DeleteSignedPreKeys(ctx, records[i].Created+1)
		}
	}
	return nil
}
