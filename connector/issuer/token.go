package issuer

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxKeyID is the greatest length of a kid in bytes.
const maxKeyID = 256

// rejected says why a token is invalid: for tests and counters, never for the sender.
type rejected struct{ why string }

func (e *rejected) Error() string { return "issuer: token is invalid: " + e.why }

// Unwrap makes errors.Is(err, ErrInvalid) true.
func (e *rejected) Unwrap() error { return ErrInvalid }

func reject(why string) error { return &rejected{why} }

// unverified is a token taken apart, before its signature has been looked at.
type unverified struct {
	keyID  string
	claims Claims
	nbf    int64 // 0 if there is none
}

// takeApart reads a compact JWS strictly: its size, its alphabet, its header, its claims' types. The
// library checks much of this too; here the rules stand in one place and do not change with it.
func takeApart(token string) (*unverified, error) {
	if len(token) > MaxToken {
		return nil, reject("too long")
	}
	parts := strings.SplitN(token, ".", 4)
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return nil, reject("not three parts")
	}
	var decoded [3][]byte
	for n, part := range parts {
		var err error
		// Strict, so that no two texts are one token; the decoder would pass line ends over.
		if decoded[n], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil || strings.ContainsAny(part, "\r\n") {
			return nil, reject("not base64url")
		}
	}
	keyID, err := readHeader(decoded[0])
	if err != nil {
		return nil, err
	}
	u, err := readClaims(decoded[1])
	if err != nil {
		return nil, err
	}
	u.keyID = keyID
	return u, nil
}

// readHeader lets RS256 with a kid through. Whatever would have the verifier take a key from the
// token, follow a URL, understand an extension or see another kind of content is refused, not ignored.
func readHeader(data []byte) (keyID string, err error) {
	header, err := readObject(data)
	if err != nil {
		return "", reject("header is not one JSON object")
	}
	for _, name := range []string{"jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "crit", "b64", "zip", "enc", "cty"} {
		if _, there := header[name]; there {
			return "", reject("header has " + name)
		}
	}
	if alg, ok := readString(header["alg"]); !ok || alg != "RS256" {
		return "", reject("alg is not RS256")
	}
	if typ, ok := readString(header["typ"]); !ok || typ != "JWT" {
		return "", reject("typ is not JWT")
	}
	keyID, ok := readString(header["kid"])
	if !ok || keyID == "" || len(keyID) > maxKeyID {
		return "", reject("no usable kid")
	}
	return keyID, nil
}

func readClaims(data []byte) (*unverified, error) {
	members, err := readObject(data)
	if err != nil {
		return nil, reject("claims are not one JSON object")
	}
	u := &unverified{}
	var ok bool
	if u.claims.Issuer, ok = readString(members["iss"]); !ok {
		return nil, reject("iss is not a string")
	}
	if u.claims.Audience, ok = readAudience(members["aud"]); !ok {
		return nil, reject("aud is not a string or an array of strings")
	}
	if raw, there := members["sub"]; there {
		if u.claims.Subject, ok = readString(raw); !ok || !printable(u.claims.Subject, MaxSubject) {
			return nil, reject("sub is not 1 to 100 characters")
		}
	}
	if u.claims.IssuedAt, ok = readTime(members["iat"]); !ok {
		return nil, reject("iat is not a time")
	}
	if u.claims.Expires, ok = readTime(members["exp"]); !ok {
		return nil, reject("exp is not a time")
	}
	if raw, there := members["nbf"]; there {
		if u.nbf, ok = readTime(raw); !ok {
			return nil, reject("nbf is not a time")
		}
	}
	return u, nil
}

var errObject = errors.New("not one JSON object")

// readObject reads exactly one JSON object: no member twice, nothing after it, valid UTF-8, and
// names compared as they are (the standard decoder would match "Exp" with "exp" and keep the last of two).
func readObject(data []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(data) {
		return nil, errObject
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, errObject
	}
	members := map[string]json.RawMessage{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, errObject
		}
		text, ok := name.(string)
		if _, twice := members[text]; !ok || twice {
			return nil, errObject
		}
		var value json.RawMessage
		if err = d.Decode(&value); err != nil {
			return nil, errObject
		}
		members[text] = value
	}
	if end, err := d.Token(); err != nil || end != json.Delim('}') {
		return nil, errObject
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errObject
	}
	return members, nil
}

func readString(raw json.RawMessage) (string, bool) {
	var text *string // a pointer tells null
	if len(raw) == 0 || json.Unmarshal(raw, &text) != nil || text == nil {
		return "", false
	}
	return *text, true
}

func readAudience(raw json.RawMessage) ([]string, bool) {
	if one, ok := readString(raw); ok {
		return []string{one}, true
	}
	var many []*string
	if len(raw) == 0 || json.Unmarshal(raw, &many) != nil || len(many) == 0 || slices.Contains(many, nil) {
		return nil, false
	}
	list := make([]string, len(many))
	for n, text := range many {
		list[n] = *text
	}
	return list, true
}

// readTime reads a NumericDate (RFC 7519) from a JSON number: Unix seconds, a fraction is cut off. Nothing
// before 1970 or past the year 9999, so that no sum overflows.
func readTime(raw json.RawMessage) (int64, bool) {
	if len(raw) == 0 || raw[0] < '0' || raw[0] > '9' {
		return 0, false // a string, null, a negative number …
	}
	seconds, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || math.IsNaN(seconds) || seconds > 253402300799 {
		return 0, false
	}
	return int64(seconds), true
}
