package sandbox

import (
	"fmt"
	"strconv"

	"postern/connector/e2ee"
)

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

// shownSafety is what a phone shows of a chat's safety number (PROTOCOL.md 6.14).
type shownSafety struct {
	Number    string `json:"number"`
	Scannable []byte `json:"scannable"`
}

// safety is GET /v1/users/{phone}/safety.
func (c *call) safety() (any, error) {
	q := c.r.URL.Query()
	p := partner{To: q.Get("to")}
	if text := q.Get("integrator"); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return nil, refusal(400, "integrator is a number")
		}
		p.Integrator = uint16(n)
	}
	var out shownSafety
	return &out, c.change(func(ch change) error {
		u, a, err := c.both(ch, p)
		if err != nil {
			return err
		}
		identity, known, err := u.phone.signal.Identity(c.s.ctx, a.jid)
		if err != nil {
			return fmt.Errorf("safety number: %w", err)
		}
		if !known {
			return refusal(409, "the phone knows no key of this partner user")
		}
		number := e2ee.NewSafetyNumber(c.s.prof.Safety.Version, c.s.prof.Safety.Iterations,
			e2ee.SafetyParty{Identifier: []byte(u.jid.String()), Identity: u.phone.device.IdentityPublic},
			e2ee.SafetyParty{Identifier: []byte(a.jid.String()), Identity: identity})
		out = shownSafety{Number: number.Digits(), Scannable: number.Scannable()}
		return nil
	})
}
