package interop

import (
	"context"

	"postern/connector/killpoint"
)

// renew replaces all prekeys if the store may be an old copy: the gatekeeper may hand
// out some that are not in it. The new ones come on top; a message under one that is
// missing is answered with a retry receipt. It is done when the gatekeeper has them, and
// again in full if it was cut off, no more often than keys are refilled.
func (k *keys) renew(ctx context.Context) error {
	store := k.a.store
	occasion, err := store.Renewal(ctx)
	if err != nil || occasion == "" {
		return err
	}
	if !k.mayUpload(-1) {
		return nil
	}
	if k.renewing != occasion { // or each attempt would leave one behind
		records, err := store.SignedPreKeys(ctx)
		if err != nil {
			return err
		}
		if _, err = k.newSigned(ctx, records); err != nil {
			return err
		}
		k.renewing = occasion
	}
	killpoint.Hit(killpoint.KeysRenewing)
	n := k.a.prof.PreKeys.Initial
	if err = k.upload(ctx, n); err != nil {
		return err
	}
	killpoint.Hit(killpoint.KeysRenewed)
	if err = store.Renewed(ctx, occasion); err != nil {
		return err
	}
	k.a.log.Info().Int("uploaded", n).Msg("prekeys replaced after an old copy of the database")
	return nil
}
