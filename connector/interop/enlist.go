package interop

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"postern/connector/jid"
	"postern/connector/profile"
)

const (
	// enlistTimeout bounds one enlistment from dial to the last byte.
	enlistTimeout = 30 * time.Second
	// maxEnlistBody bounds the answer in bytes.
	maxEnlistBody = 16 << 10
	// keyTypeCurve25519 is e_keytype (PROTOCOL.md 3.1).
	keyTypeCurve25519 = 0x05
)

// EnlistRequest is what an enlistment tells the gatekeeper (PROTOCOL.md 3.1). All
// keys are public ones of 32 bytes, without the type byte.
type EnlistRequest struct {
	Profile *profile.Profile
	// NoiseKey is the Noise static key that the stream will use.
	NoiseKey [32]byte
	// RegistrationID and IdentityKey are the Signal device's.
	RegistrationID uint32
	IdentityKey    [32]byte
	// SignedPreKeyID is 1 to 2^24-1; the signature is XEdDSA over the 33-byte key.
	SignedPreKeyID        uint32
	SignedPreKey          [32]byte
	SignedPreKeySignature [64]byte
	// Token is a fresh JWT (PROTOCOL.md 2).
	Token string
	// Client replaces the built-in HTTP client, for tests.
	Client *http.Client
}

// EnlistResult is what the gatekeeper made of it (PROTOCOL.md 3.2).
type EnlistResult struct {
	// Login is the account's address from now on.
	Login jid.JID
	// Identifier is the gatekeeper's normalised form of the user-visible
	// identifier, which then stands everywhere; empty if it did not say.
	Identifier string
}

// The reasons of PROTOCOL.md 3.2, and ours for answers that are not of that form.
const (
	EnlistBadIntegrator = "bad_integrator"
	EnlistBadParam      = "bad_param"
	EnlistMissingParam  = "missing_param"
	EnlistBadToken      = "bad_token"
	EnlistBlocked       = "blocked"
	EnlistOldVersion    = "old_version"
	EnlistNotAllowed    = "not_allowed"
	EnlistUnavailable   = "temporarily_unavailable"
	EnlistNoAnswer      = "no_answer"   // no connection, time-out
	EnlistHTTP          = "http_status" // EnlistError.Status is not 200
	EnlistNotJSON       = "bad_answer"  // not the JSON of PROTOCOL.md 3.2
	EnlistUnknown       = "unknown_reason"
)

// EnlistError says why an enlistment failed.
type EnlistError struct {
	// Reason is one of the constants above.
	Reason string
	// Permanent says that trying again changes nothing.
	Permanent bool
	// Status is the HTTP status for EnlistHTTP.
	Status int
	// Err is the cause, if there is one. It may name addresses of servers, so it
	// is not part of the text.
	Err error
}

// Error names the reason.
func (e *EnlistError) Error() string { return "enlist: " + e.Reason }

// Unwrap gives the cause.
func (e *EnlistError) Unwrap() error { return e.Err }

// enlistClient follows no redirect, as keys and a token must go to the agreed
// place and nowhere else, and keeps no connection open for a call made once.
var enlistClient = &http.Client{
	Timeout: enlistTimeout,
	Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  20 * time.Second,
		MaxResponseHeaderBytes: 16 << 10,
		DisableKeepAlives:      true,
	},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// form is the body of the POST.
func (r *EnlistRequest) form() url.Values {
	b64 := base64.RawURLEncoding.EncodeToString
	return url.Values{
		"authkey":    {b64(r.NoiseKey[:])},
		"e_keytype":  {b64([]byte{keyTypeCurve25519})},
		"e_regid":    {b64(binary.BigEndian.AppendUint32(nil, r.RegistrationID))},
		"e_ident":    {b64(r.IdentityKey[:])},
		"e_skey_id":  {b64([]byte{byte(r.SignedPreKeyID >> 16), byte(r.SignedPreKeyID >> 8), byte(r.SignedPreKeyID)})},
		"e_skey_val": {b64(r.SignedPreKey[:])},
		"e_skey_sig": {b64(r.SignedPreKeySignature[:])},
		"token":      {r.Token},
	}
}

// Enlist makes an account known to the gatekeeper, or replaces its keys there
// (PROTOCOL.md 3.1–3.3). Errors are *EnlistError, or the context's.
func Enlist(ctx context.Context, r EnlistRequest) (EnlistResult, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.Profile.Endpoints.Enlist, strings.NewReader(r.form().Encode()))
	if err != nil {
		return EnlistResult{}, &EnlistError{Reason: EnlistBadParam, Permanent: true, Err: err}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	client := r.Client
	if client == nil {
		client = enlistClient
	}
	resp, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return EnlistResult{}, ctx.Err()
		}
		return EnlistResult{}, &EnlistError{Reason: EnlistNoAnswer, Err: err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return EnlistResult{}, &EnlistError{Reason: EnlistHTTP, Status: resp.StatusCode}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxEnlistBody+1))
	if err != nil {
		return EnlistResult{}, &EnlistError{Reason: EnlistNoAnswer, Err: err}
	}
	return parseEnlist(body)
}

// parseEnlist reads the answer (PROTOCOL.md 3.2).
func parseEnlist(body []byte) (EnlistResult, error) {
	if len(body) > maxEnlistBody {
		return EnlistResult{}, &EnlistError{Reason: EnlistNotJSON, Err: errors.New("enlist: answer too long")}
	}
	var answer struct {
		Status     string `json:"status"`
		Login      string `json:"login"`
		Identifier string `json:"identifier"`
		Reason     string `json:"reason"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return EnlistResult{}, &EnlistError{Reason: EnlistNotJSON}
	}
	switch answer.Status {
	case "ok":
		login, err := jid.Parse(answer.Login)
		if err != nil || !login.IsInterop() || login.Device != 0 || len(answer.Identifier) > 400 {
			return EnlistResult{}, &EnlistError{Reason: EnlistNotJSON}
		}
		return EnlistResult{Login: login, Identifier: answer.Identifier}, nil
	case "fail":
		return EnlistResult{}, enlistFailure(answer.Reason)
	}
	return EnlistResult{}, &EnlistError{Reason: EnlistNotJSON}
}

func enlistFailure(reason string) *EnlistError {
	switch reason {
	case EnlistUnavailable:
		return &EnlistError{Reason: reason}
	case EnlistBadIntegrator, EnlistBadParam, EnlistMissingParam, EnlistBadToken, EnlistBlocked, EnlistOldVersion, EnlistNotAllowed:
		return &EnlistError{Reason: reason, Permanent: true}
	case "":
		return &EnlistError{Reason: EnlistNotJSON}
	}
	return &EnlistError{Reason: EnlistUnknown, Permanent: true}
}
