package connector

import (
	"strings"
	"testing"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/convert"
	"postern/connector/words"
)

func TestEveryPhraseOfConvertIsSaidInEveryLanguage(t *testing.T) {
	phrases := convert.Phrases()
	if len(phrases) < 120 {
		t.Fatalf("convert has %d phrases", len(phrases))
	}
	keys := words.For("en").Keys("incoming.")
	for _, phrase := range phrases {
		if keys[phrase] == "" {
			t.Errorf("nothing says %q", phrase)
		}
		delete(keys, phrase)
	}
	for phrase := range keys {
		t.Errorf("convert does not say %q any more", phrase)
	}
	if incomingWords(words.For("en")) != nil {
		t.Error("English is looked up")
	}
	if got := incomingWords(words.For("de"))("of nobody's"); got != "of nobody's" {
		t.Errorf("what is no phrase becomes %q", got)
	}
}

func TestWhatCannotBeShownIsNamedInTheReadersLanguage(t *testing.T) {
	options := convert.Options{Words: incomingWords(words.For("de"))}
	for name, c := range map[string]struct {
		message *waE2E.Message
		want    string
	}{
		"an unknown kind": {&waE2E.Message{InvoiceMessage: &waE2E.InvoiceMessage{}}, "Hat eine Rechnung geschickt, die diese Bridge nicht zeigen kann."},
		"a live location": {&waE2E.Message{LiveLocationMessage: &waE2E.LiveLocationMessage{}}, "Teilt einen Live-Standort."},
		"a poll": {&waE2E.Message{PollCreationMessage: &waE2E.PollCreationMessage{
			Name: proto.String("Which poll is this?"), Options: []*waE2E.PollCreationMessage_Option{{OptionName: proto.String("Sticker")}},
		}}, "Das ist eine Umfrage."},
		"an image without a key": {&waE2E.Message{ImageMessage: &waE2E.ImageMessage{}}, "Hat ein Bild geschickt, das nicht geholt werden kann"},
		"an album":               {&waE2E.Message{AlbumMessage: &waE2E.AlbumMessage{ExpectedImageCount: proto.Uint32(3), ExpectedVideoCount: proto.Uint32(1)}}, "Hat ein Album geschickt: 3 Bilder und 1 Video."},
		"seen once": {&waE2E.Message{ViewOnceMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{VideoMessage: &waE2E.VideoMessage{}}}},
			"Hat ein Video geschickt, das man nur einmal ansehen kann"},
		"a deletion of nothing": {&waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_REVOKE.Enum(), Key: &waCommon.MessageKey{}}},
			"Hat eine frühere Nachricht gelöscht"},
	} {
		var said []string
		for _, p := range convert.Read(c.message, options).Parts {
			said = append(said, p.Content.Body)
		}
		text := strings.Join(said, "\n")
		if !strings.Contains(text, c.want) || strings.Contains(text, "{") {
			t.Errorf("%s is %q", name, text)
		}
	}
	// What a person wrote is not translated, though it be a phrase.
	if got := convert.Read(&waE2E.Message{Conversation: proto.String("Sticker")}, options).Parts[0].Content.Body; got != "Sticker" {
		t.Errorf("somebody's words became %q", got)
	}
}
