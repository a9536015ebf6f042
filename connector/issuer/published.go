package issuer

import "time"

// PublishedKey is one of the keys that gatekeepers can check our tokens with, now.
type PublishedKey struct {
	// ID is the key's thumbprint, which is public.
	ID string
	// Signs: new tokens are signed with it. Neither that nor retired is the next one.
	Signs bool
	// Published is since when it stands in the key set, From since when it signs, or zero.
	Published, From time.Time
	// Retired is when it stopped signing, and Until when it leaves the key set; zero for one that has not.
	Retired, Until time.Time
}

// Published lists the keys that are in the key set: the one that signs first, then the next one, then those that have retired.
func (i *Issuer) Published() []PublishedKey {
	i.mu.RLock()
	defer i.mu.RUnlock()
	moment := func(seconds int64) time.Time {
		if seconds == 0 {
			return time.Time{}
		}
		return time.Unix(seconds, 0).UTC()
	}
	var list []PublishedKey
	for _, k := range i.set.published(i.cfg.Now()) {
		one := PublishedKey{ID: k.ID, Signs: k == i.set.current(), Published: moment(k.Published), From: moment(k.SignsFrom), Retired: moment(k.Retired)}
		if k.Retired != 0 {
			one.Until = k.gone().UTC()
		}
		list = append(list, one)
	}
	return list
}
