package binxml

import "go.mau.fi/whatsmeow/binary/token"

// The dictionary is looked up for every string written, so it has a table of its own: open addressing over a hash of
// the length and five bytes, filled once. Entry 0 is an empty slot; a code below 256 is a single-byte token, others
// are the dictionary tag in the high byte and the index in the low one.
const tokenSlots = 4096

var (
	tokenTable  [tokenSlots]uint16
	maxTokenLen int
)

func init() {
	// Where a text stands in more than one dictionary, the single-byte token wins, then the last dictionary, as in
	// whatsmeow's writer.
	for i := 1; i < len(token.SingleByteTokens); i++ {
		insertToken(token.SingleByteTokens[i], uint16(i))
	}
	for d := len(token.DoubleByteTokens) - 1; d >= 0; d-- {
		for i := len(token.DoubleByteTokens[d]) - 1; i >= 0; i-- {
			insertToken(token.DoubleByteTokens[d][i], uint16(tagDictionary0+d)<<8|uint16(i))
		}
	}
}

func insertToken(text string, code uint16) {
	if text == "" {
		return
	}
	if _, known := lookupToken(text); known {
		return
	}
	maxTokenLen = max(maxTokenLen, len(text))
	slot := tokenHash(text)
	for tokenTable[slot] != 0 {
		slot = (slot + 1) % tokenSlots
	}
	tokenTable[slot] = code
}

func tokenHash(s string) uint32 {
	n := len(s)
	h := uint32(n)*0x9e3779b1 + uint32(s[0])
	h = h*0x85ebca6b + uint32(s[n-1])
	h = h*0x85ebca6b + uint32(s[n/2])
	h = h*0x85ebca6b + uint32(s[n/4])
	h = h*0x85ebca6b + uint32(s[n-1-n/4])
	return (h ^ h>>15) % tokenSlots
}

// lookupToken finds the code of a text, if the dictionary has it.
func lookupToken(s string) (uint16, bool) {
	if len(s) == 0 || len(s) > maxTokenLen {
		return 0, false
	}
	for slot := tokenHash(s); ; slot = (slot + 1) % tokenSlots {
		code := tokenTable[slot]
		if code == 0 {
			return 0, false
		}
		if tokenText(code) == s {
			return code, true
		}
	}
}

// tokenText is the text of a code that is in the table.
func tokenText(code uint16) string {
	if code < 256 {
		return token.SingleByteTokens[code]
	}
	return token.DoubleByteTokens[code>>8-tagDictionary0][code&0xff]
}

// Which packed forms a byte fits, and its value in them.
const (
	fitsNibble = 1
	fitsHex    = 2
)

var (
	packClass [256]uint8
	packValue [256]uint8
)

func init() {
	for c := byte('0'); c <= '9'; c++ {
		packClass[c], packValue[c] = fitsNibble|fitsHex, c-'0'
	}
	for c := byte('A'); c <= 'F'; c++ {
		packClass[c], packValue[c] = fitsHex, c-'A'+10
	}
	packClass['-'], packValue['-'] = fitsNibble, 10
	packClass['.'], packValue['.'] = fitsNibble, 11
}

// The two digits of each byte of a packed string, 0 for a half byte that is none.
var nibblePairs, hexPairs = digitPairs("0123456789-."), digitPairs("0123456789ABCDEF")

func digitPairs(digits string) (pairs [256][2]byte) {
	for v := range pairs {
		if hi := v >> 4; hi < len(digits) {
			pairs[v][0] = digits[hi]
		}
		if lo := v & 15; lo < len(digits) {
			pairs[v][1] = digits[lo]
		}
	}
	return pairs
}

// packing says which packed form fits a text: fitsNibble, fitsHex or 0.
func packing(s string) uint8 {
	if len(s) == 0 || len(s) > packedMax {
		return 0
	}
	class := uint8(fitsNibble | fitsHex)
	for i := 0; i < len(s); i++ {
		if class &= packClass[s[i]]; class == 0 {
			return 0
		}
	}
	if class&fitsNibble != 0 {
		return fitsNibble
	}
	return fitsHex
}
