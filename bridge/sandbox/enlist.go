package sandbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strconv"

	"go.mau.fi/libsignal/ecc"

	"postern/connector/jid"
)

const maxEnlistBody = 64 << 10 // bytes of an enlistment form

// Reasons an enlistment fails for (PROTOCOL.md 3.2).
const (
	reasonBadIntegrator = "bad_integrator"
	reasonBadParam      = "bad_param"
	reasonMissingParam  = "missing_param"
	reasonBadToken      = "bad_token"
	reasonTemporary     = "temporarily_unavailable"
)

// enlistForm is the form of PROTOCOL.md 3.1, decoded.
type enlistForm struct {
	authKey      [32]byte
	registration uint32
	identity     [32]byte
	signedID     uint32
	signedKey    [32]byte
	signature    [64]byte
	token        string
}

// parseEnlistForm reads the form; reason is "" or why it is refused.
func parseEnlistForm(form url.Values) (f enlistForm, reason string) {
	var keyType [1]byte
	var registration [4]byte
	var signedID [3]byte
	fields := []struct {
		name string
		into []byte
	}{
		{"authkey", f.authKey[:]}, {"e_keytype", keyType[:]}, {"e_regid", registration[:]}, {"e_ident", f.identity[:]},
		{"e_skey_id", signedID[:]}, {"e_skey_val", f.signedKey[:]}, {"e_skey_sig", f.signature[:]},
	}
	for _, field := range fields {
		if form.Get(field.name) == "" {
			return f, reasonMissingParam
		}
	}
	if f.token = form.Get("token"); f.token == "" {
		return f, reasonMissingParam
	}
	if len(form["token"]) != 1 {
		return f, reasonBadParam
	}
	for _, field := range fields {
		b, err := base64.RawURLEncoding.Strict().DecodeString(form.Get(field.name))
		if err != nil || len(b) != len(field.into) || len(form[field.name]) != 1 {
			return f, reasonBadParam
		}
		copy(field.into, b)
	}
	f.registration = bigEndian(registration[:])
	f.signedID = bigEndian(signedID[:])
	if keyType[0] != ecc.DjbType || !signedKeyGood(f.identity, f.signedKey, f.signature) {
		return f, reasonBadParam
	}
	return f, ""
}

func bigEndian(b []byte) (n uint32) {
	for _, x := range b {
		n = n<<8 | uint32(x)
	}
	return n
}

// signedKeyGood checks the signature of a signed prekey: XEdDSA over the key with its type byte in front
// (PROTOCOL.md 3.1, 6.0).
func signedKeyGood(identity, key [32]byte, signature [64]byte) bool {
	message := append([]byte{ecc.DjbType}, key[:]...)
	return ecc.VerifySignature(ecc.NewDjbECPublicKey(identity), message, signature)
}

// handleEnlist answers POST {enlist URL}.
func (s *Server) handleEnlist(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "enlistment is a POST", http.StatusMethodNotAllowed)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxEnlistBody)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "not a form", http.StatusBadRequest)
		return
	}
	s.witness.request(r)
	login, identifier, reason, err := s.enlist(r.Context(), r.PostForm)
	if err != nil {
		http.Error(w, "enlistment failed", http.StatusInternalServerError)
		return
	}
	answer := map[string]string{"status": "ok", "login": login, "identifier": identifier}
	if reason != "" {
		answer = map[string]string{"status": "fail", "reason": reason}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // fails only when the asker has gone
}

// enlist carries out an enlistment. reason is "" or a reason of PROTOCOL.md 3.2; err is a failure of ours.
func (s *Server) enlist(ctx context.Context, form url.Values) (login, identifier, reason string, err error) {
	f, reason := parseEnlistForm(form)
	if reason != "" {
		return "", "", reason, nil
	}
	cl, err := s.verifier.verify(ctx, f.token, s.integratorByBase)
	switch {
	case errors.Is(err, errTokenIssuer):
		return "", "", reasonBadIntegrator, nil
	case errors.Is(err, errTokenTemporary):
		return "", "", reasonTemporary, nil
	case err != nil:
		return "", "", reasonBadToken, nil
	}
	identifier = normalise(cl.integrator.IdentifierType, cl.identifier)
	if identifier == "" {
		return "", "", reasonBadToken, nil
	}
	var failure error
	n := s.state.update(func(c change) {
		if ft := c.takeFault("enlist_fail", cl.integrator.ID, identifier, ""); ft != nil {
			reason = ft.Reason
			return
		}
		a := c.accountByIdentifier(cl.integrator.ID, identifier)
		if a == nil {
			if a, failure = c.newAccount(cl.integrator.ID, identifier); failure != nil {
				return
			}
		}
		c.noteToken(s, a, cl)
		c.enlist(s, a, f)
		login = a.Address
	})
	if failure != nil {
		return "", "", "", failure
	}
	if err := s.state.settle(n); err != nil {
		return "", "", "", err
	}
	return login, identifier, reason, nil
}

// enlist gives a the keys of f (PROTOCOL.md 3.3).
func (c change) enlist(s *Server, a *account, f enlistForm) {
	again := a.Identity != nil && !bytes.Equal(a.Identity, f.identity[:])
	if again {
		for _, k := range a.prekeys {
			c.drop(k)
		}
		a.prekeys, a.fresh = map[uint32]*accountPreKey{}, nil
		a.LowTold = false
	}
	a.Enlisted = true
	a.AuthKey = f.authKey[:]
	a.Identity = f.identity[:]
	a.Registration = f.registration
	a.SignedID, a.SignedKey, a.SignedSig = f.signedID, f.signedKey[:], f.signature[:]
	a.LastSeen = unix(s.now())
	c.put(a)
	c.endStream(a, replacedError())
	if again {
		for _, u := range c.usersInOrder() {
			u.phone.partnerChangedIdentity(c, s, a)
		}
	}
}

// noteToken keeps the token's jti and complains about a token that is used for a second thing (PROTOCOL.md
// 2.4: made fresh for each enlistment and each login).
func (c change) noteToken(s *Server, a *account, cl *claims) {
	for _, odd := range cl.oddities {
		c.complain(s, a, "2.1", odd)
	}
	if in := c.integrators[a.Integrator]; in != nil && normalise(in.IdentifierType, cl.identifier) != cl.identifier {
		c.complain(s, a, "1.5", "an identifier in the token that is not normalised")
	}
	now := unix(s.now())
	for jti, until := range a.UsedJTI {
		if until < now {
			delete(a.UsedJTI, jti)
		}
	}
	if cl.jti == "" || len(a.UsedJTI) > 10000 {
		return
	}
	if _, used := a.UsedJTI[cl.jti]; used {
		c.complain(s, a, "2.4", "a token used for more than one enlistment or login")
	}
	if a.UsedJTI == nil {
		a.UsedJTI = map[string]int64{}
	}
	a.UsedJTI[cl.jti] = cl.expires + int64(tokenSkew.Seconds())
	c.put(a)
}

func (s *Server) integratorByBase(base string) (found *Integrator) {
	s.state.view(func() {
		for _, in := range s.state.integrators {
			if in.PublicBase == base {
				clone := *in
				found = &clone
			}
		}
	})
	return found
}

// accountByIdentifier finds the account of a normalised identifier that has not been deleted.
func (c change) accountByIdentifier(in uint16, identifier string) *account {
	return c.identified[identity{in, identifier}]
}

// newAccount makes an account with a number that was never given out before.
func (c change) newAccount(in uint16, identifier string) (*account, error) {
	for {
		n, err := rand.Int(rand.Reader, big.NewInt(90_000_000_000_000))
		if err != nil {
			return nil, fmt.Errorf("new account number: %w", err)
		}
		j, err := jid.NewInterop(in, strconv.FormatInt(n.Int64()+10_000_000_000_000, 10))
		if err != nil {
			return nil, fmt.Errorf("new account: %w", err)
		}
		if c.accounts[j] != nil {
			continue
		}
		a := &account{Address: j.String(), Integrator: in, Identifier: identifier}
		if err := c.placeAccount(a); err != nil {
			return nil, fmt.Errorf("new account: %w", err)
		}
		c.put(a)
		return a, nil
	}
}
