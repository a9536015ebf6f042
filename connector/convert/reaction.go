package convert

import (
	"strings"
	"time"
	"unicode"

	"go.mau.fi/util/variationselector"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
)

// maxEmoji is the most bytes of a reaction. The longest emoji, a family of four with skin tones or a flag made of tags, has fewer.
const maxEmoji = 64

// Reaction writes a reaction to a message: fromMe says that we, the reactor, wrote that message, and remoteJID is the other party of
// the chat as we know it (PROTOCOL.md 6.4). emoji is as EmojiToInterop gives it; "" takes the reaction back.
func Reaction(remoteJID, stanzaID string, fromMe bool, emoji string, at time.Time) *waE2E.Message {
	return &waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{
		Key:               &waCommon.MessageKey{RemoteJID: proto.String(remoteJID), FromMe: proto.Bool(fromMe), ID: proto.String(stanzaID)},
		Text:              proto.String(emoji),
		SenderTimestampMS: proto.Int64(at.UnixMilli()),
	}}
}

// EmojiToInterop gives the key of a Matrix reaction as phones write it: with variation selectors where Unicode's fully qualified form
// has them, and nowhere else. Phones have one emoji for a reaction, so a word or a picture of the homeserver's is refused with an
// *Unsupported of KindReactionText, which Explain puts into words.
func EmojiToInterop(key string) (string, error) {
	key = strings.TrimSpace(key)
	if !isEmoji(key) {
		return "", &Unsupported{Kind: KindReactionText}
	}
	return variationselector.FullyQualify(key), nil
}

// EmojiToMatrix gives the text of a WhatsApp reaction as Matrix clients write it, with a variation selector wherever one is allowed, so
// that equal reactions count as equal. "" stays "".
func EmojiToMatrix(text string) string {
	text = clean(strings.TrimSpace(text))
	if len(text) > maxEmoji {
		return ""
	}
	return variationselector.Add(text)
}

// SameEmoji says whether two reactions are the same but for variation selectors.
func SameEmoji(a, b string) bool { return bareEmoji(a) == bareEmoji(b) }

func bareEmoji(s string) string {
	return variationselector.Remove(strings.ReplaceAll(strings.TrimSpace(s), "\ufe0e", ""))
}

// isEmoji says whether a text can be one emoji: symbols and what joins them, but no letters and spaces. A digit is one only as a
// keycap. It does not tell emoji from other symbols: new ones come every year, and a phone shows what it knows.
func isEmoji(s string) bool {
	if s == "" || len(s) > maxEmoji || s != clean(s) {
		return false
	}
	symbols, flags, prev := 0, 0, rune(0)
	for i, r := range s {
		switch {
		case isSymbol(r), i == 0 && isKeycap(s):
			if symbols++; i > 0 && !joins(prev, r, flags) {
				return false // a second one
			}
		case !unicode.Is(unicode.M, r) && !unicode.Is(unicode.Cf, r):
			return false
		}
		if prev = r; isFlag(r) {
			flags++
		} else {
			flags = 0
		}
	}
	return symbols > 0
}

// isSymbol says whether a code point can show as an emoji; four that can do not count as symbols in Unicode.
func isSymbol(r rune) bool {
	return unicode.Is(unicode.S, r) || strings.ContainsRune("ℹ‼⁉〰", r)
}

// isKeycap says whether a text is a digit or sign on a key.
func isKeycap(s string) bool {
	return strings.ContainsRune("0123456789#*", rune(s[0])) && strings.TrimPrefix(s[1:], "\ufe0f") == "\u20e3"
}
