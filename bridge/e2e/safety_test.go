package e2e_test

import (
	"bytes"
	"encoding/base64"
	picturepng "image/png"
	"slices"
	"strings"
	"testing"

	"postern/bridge/parts"
)

// says lets alice type something in a room, and waits for the bot's words.
func (s *scene) says(room, text, words string) {
	s.t.Helper()
	must(s.person.SendText(s.ctx, room, text))(s.t)
	s.botSays(room, words)
}

// botShows waits until the bot shows a safety number in a room, with its QR code.
func (s *scene) botShows(room, number string) {
	s.t.Helper()
	s.roomShows(room, "the number of the phone", func(e *parts.Event) bool {
		return e.Sender == s.Bot && strings.Contains(strings.Join(strings.Fields(e.Message().Body), ""), number)
	})
	picture := must(s.alice.Expect(s.ctx, "its QR code", func(e *parts.Event) bool {
		return e.RoomID == room && e.Sender == s.Bot && e.Message().MsgType == "m.image"
	}))(s.t)
	raw := must(s.person.Download(s.ctx, string(shown(s.t, picture.Content).URL)))(s.t)
	if size := must(picturepng.DecodeConfig(bytes.NewReader(raw)))(s.t); size.Width < 200 || size.Width != size.Height {
		s.t.Errorf("the QR code has %d × %d pixels", size.Width, size.Height)
	}
}

func TestAliceComparesSafetyNumbersAndWritesToNoNewPhoneBeforeSheKnowsWhoseItIs(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.says(room, "!postern verify", "There is no safety number")
	s.toPhone(room, ben, "hello Ben")
	s.toMatrix(room, ben, "hello Alice")

	// They meet, and hold the two numbers side by side. They are the same, and she says so.
	number := must(s.Gatekeeper.Safety(s.ctx, ben.Phone, s.identifier))(t)
	s.says(room, "!postern verify confirm", "not one that you were shown")
	must(s.person.SendText(s.ctx, room, "!postern verify"))(t)
	s.botShows(room, number.Number)
	s.says(room, "!postern verify confirm", "You have confirmed the safety number")

	// Ben's number comes by letter, or somebody scans it: comparing is the bridge's work. A wrong digit is seen.
	s.says(s.management, "verify Ben "+number.Number, "The two numbers are the same")
	s.says(room, "!postern verify "+base64.StdEncoding.EncodeToString(number.Scannable), "you have confirmed that before")
	wrong := []byte(number.Number)
	wrong[30] = '0' + (wrong[30]-'0'+1)%10
	s.says(room, "!postern verify "+string(wrong), "The two numbers are different")

	// Somebody has a new phone with Ben's number. What she writes waits, though what it writes is shown.
	s.ok(s.Gatekeeper.NewPhone(s.ctx, ben.Phone, false))
	s.botSays(room, "you had confirmed their safety number")
	for _, text := range []string{"waiting: one", "waiting: two"} {
		must(s.alice.SendText(s.ctx, room, text))(t)
	}
	s.botSays(room, "This waits, because")
	s.toMatrix(room, ben, "who is this?")
	if got := s.phoneTexts(ben, "waiting"); len(got) != 0 {
		t.Errorf("the new phone has %q before she has confirmed it", got)
	}

	// It is Ben's: their new numbers are the same too. What has waited goes out, in its order.
	s.says(s.management, "verify Ben confirm", "the number that stands now is not one that you were shown")
	anew := must(s.Gatekeeper.Safety(s.ctx, ben.Phone, s.identifier))(t)
	if anew.Number == number.Number {
		t.Fatal("a new phone has the old number")
	}
	s.says(s.management, "verify Ben "+anew.Number, "to confirm that")
	s.says(s.management, "verify Ben confirm", "What has waited goes out now")
	s.toPhone(room, ben, "waiting: three")
	if got := s.phoneTexts(ben, "waiting"); !slices.Equal(got, []string{"waiting: one", "waiting: two", "waiting: three"}) {
		t.Errorf("the new phone has %q", got)
	}

	// She has enough of comparing. From now on a new phone is a notice, as it is for everybody.
	s.says(room, "!postern unverify", "is not confirmed any more")
	s.ok(s.Gatekeeper.NewPhone(s.ctx, ben.Phone, false))
	s.toPhone(room, ben, "to whoever you are")
}
