package convert

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
)

func TestAReactionNamesItsTarget(t *testing.T) {
	got := Reaction("1@lid", "3EB0", true, "👍", time.UnixMilli(1700000000123))
	want := &waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{
		Key:  &waCommon.MessageKey{RemoteJID: proto.String("1@lid"), FromMe: proto.Bool(true), ID: proto.String("3EB0")},
		Text: proto.String("👍"), SenderTimestampMS: proto.Int64(1700000000123),
	}}
	if !proto.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if back := Read(got, Options{}); back.Reaction == nil || back.Reaction.Key != (Key{ID: "3EB0", FromMe: true}) || !SameEmoji(back.Reaction.Emoji, "👍") {
		t.Errorf("read again: %+v", back)
	}
	removed := Reaction("1@lid", "3EB0", false, "", time.UnixMilli(1))
	if removed.GetReactionMessage().Text == nil {
		t.Error("a removal has no text at all")
	}
	if back := Read(removed, Options{}); back.Reaction == nil || back.Reaction.Emoji != "" {
		t.Errorf("a removal read again: %+v", back)
	}
}

func TestEmojiAreTheSameWithAndWithoutVariationSelectors(t *testing.T) {
	for _, tc := range []struct{ key, interop, matrix string }{
		{"👍", "👍", "👍\ufe0f"},
		{"👍\ufe0f", "👍", "👍\ufe0f"},
		{"❤", "❤\ufe0f", "❤\ufe0f"},
		{"❤\ufe0f", "❤\ufe0f", "❤\ufe0f"},
		{" 😀 ", "😀", "😀"},
		{"👍🏽", "👍🏽", "👍🏽"},
		{"👩\u200d👩\u200d👧\u200d👦", "👩\u200d👩\u200d👧\u200d👦", "👩\u200d👩\u200d👧\u200d👦"},
		{"❤\u200d🔥", "❤\ufe0f\u200d🔥", "❤\ufe0f\u200d🔥"},
		{"🇩🇪", "🇩🇪", "🇩🇪"},
		{"1\ufe0f\u20e3", "1\ufe0f\u20e3", "1\ufe0f\u20e3"},
		{"🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"},
		{"ℹ", "ℹ\ufe0f", "ℹ\ufe0f"},
		{"‼", "‼\ufe0f", "‼\ufe0f"},
	} {
		got, err := EmojiToInterop(tc.key)
		if err != nil || got != tc.interop {
			t.Errorf("%q to WhatsApp: %+q %v, want %+q", tc.key, got, err, tc.interop)
		}
		if got := EmojiToMatrix(tc.key); got != tc.matrix {
			t.Errorf("%q to Matrix: %+q, want %+q", tc.key, got, tc.matrix)
		}
		if !SameEmoji(tc.key, tc.interop) || !SameEmoji(tc.matrix, tc.interop) || SameEmoji(tc.key, "🍏") {
			t.Errorf("%q is not itself", tc.key)
		}
	}
}

func TestWhatIsNoEmojiIsNoReaction(t *testing.T) {
	for _, key := range []string{
		"", " ", "lol", "+1", "mxc://x.org/abc", "👍👍", "👍 ", "👍a", "1", "#", "\ufe0f", "\u200d", "🇩🇪🇫🇷", "\xff", "👍\x00", strings.Repeat("👩\u200d", 40),
	} {
		if key == "👍 " {
			continue // spaces around it are taken off
		}
		got, err := EmojiToInterop(key)
		var refused *Unsupported
		if !errors.As(err, &refused) || refused.Kind != KindReactionText || got != "" || Refused(err) == "" {
			t.Errorf("%+q: %q %v", key, got, err)
		}
	}
	if got := EmojiToMatrix(strings.Repeat("x", 100)); got != "" {
		t.Errorf("a long text is the emoji %q", got)
	}
}
