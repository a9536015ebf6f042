package interop

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// stanzaIDPrefix begins our message ids, as those of other clients do
// (PROTOCOL.md 6.1, observed).
const stanzaIDPrefix = "3EB0"

// StanzaID makes the message id of one part of a Matrix event: the prefix and 18
// upper-case hex digits of HMAC-SHA256(key, event id ‖ part), the part as four
// bytes, big-endian (PROTOCOL.md 6.1). The same event and part give the same id
// for ever, so that a repetition is recognised on every side.
func StanzaID(key [32]byte, eventID string, part int) string {
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte(eventID))
	mac.Write(binary.BigEndian.AppendUint32(nil, uint32(part)))
	return stanzaIDPrefix + strings.ToUpper(hex.EncodeToString(mac.Sum(nil)[:9]))
}
