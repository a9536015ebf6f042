package sandbox

import "fmt"

// maxSkip is how many messages a phone may encrypt for nobody in one call.
const maxSkip = 50_000

// skip is POST /v1/users/{phone}/skip: messages that the phone encrypts and nobody gets, so that its next one is that far
// ahead in its chain.
func (c *call) skip() (any, error) {
	var in struct {
		partner
		Count int `json:"count"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if in.Count < 1 || in.Count > maxSkip {
		return nil, refusal(400, "count is 1 to %d", maxSkip)
	}
	return nil, c.change(func(ch change) error {
		u, a, err := c.both(ch, in.partner)
		if err != nil {
			return err
		}
		if err = ch.able(u, a); err != nil {
			return err
		}
		if err = u.phone.ensureSession(ch, c.s, a, false); err != nil {
			return fmt.Errorf("skip: %w", err)
		}
		for range in.Count {
			if _, err = u.phone.signal.Encrypt(c.s.ctx, a.jid, nil, nil); err != nil {
				return fmt.Errorf("skip: %w", err)
			}
		}
		return nil
	})
}

// lose is POST /v1/users/{phone}/lose: the phone's session with a partner user is gone, and all it has kept of earlier
// ones; the identities stay.
func (c *call) lose() (any, error) {
	var in partner
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	return nil, c.change(func(ch change) error {
		u, a, err := c.both(ch, in)
		if err != nil {
			return err
		}
		if !u.phone.dropRow(ch, "session", a.jid.SignalAddress()) {
			return refusal(409, "there is no session")
		}
		return nil
	})
}
