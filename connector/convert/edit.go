package convert

import (
	"strings"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"maunium.net/go/mautrix/event"
)

const editMark = "✏️ Edited:"

// EditText converts an edit into messages of its own, since the other side cannot change what it has: the new text, or for a file the
// new caption, behind words that say that it is an edit; long ones in several parts. content is the content of the edit event or its
// m.new_content.
//
// The old text is not in it: give the result to WithReply or WithQuotedText with the edited message as the Quote, as for an answer. The
// error is *Unsupported of KindEdit for what has no words, such as an edit that takes a caption away.
func EditText(content *event.MessageEventContent, limits Limits) ([]*waE2E.Message, error) {
	if content != nil && content.NewContent != nil {
		content = content.NewContent
	}
	if content == nil {
		return nil, &Unsupported{Kind: KindEdit}
	}
	words := *content
	words.NewContent, words.RelatesTo = nil, nil
	room := max(limits.units()-units(editMark)-1, MinTextUnits/2)
	var parts []string
	switch {
	case words.MsgType.IsText():
		parts = interopText(&words, room)
	case words.MsgType == event.MsgLocation:
		parts = splitText(locationText(&words), room)
	default:
		parts = splitText(caption(&words), room)
	}
	if len(parts) == 0 || strings.TrimSpace(parts[0]) == "" {
		return nil, &Unsupported{Kind: KindEdit}
	}
	// A mark for a line would not be one behind other words.
	between := " "
	if kind, _, _ := linePrefix(parts[0]); kind != plainLine || strings.Contains(parts[0], "\n") || strings.HasPrefix(parts[0], fence) {
		between = "\n"
	}
	parts[0] = editMark + between + parts[0]
	return textMessages(parts)
}
