package e2e_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/bridge/parts"
)

// central are the settings on which the central stories play.
var central = map[string]setting{
	"Synapse":                           {},
	"Synapse, an encrypted room":        {encrypted: true},
	"Synapse and Postgres":              {postgres: true},
	"Dendrite":                          {homeserver: "dendrite"},
	"users with phone-number addresses": {sandbox: []string{"--phone-server", "s.whatsapp.net"}},
}

func TestAMatrixUserAndAWhatsAppUserTalk(t *testing.T) {
	for name, setting := range central {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, setting)
			ben := s.phone("Ben", true)
			room := s.startChat(ben)
			s.toPhone(room, ben, "one from Matrix")
			s.toMatrix(room, ben, "one from WhatsApp")
			s.toPhone(room, ben, "two from Matrix")
			s.toMatrix(room, ben, "two from WhatsApp")
			mine, theirs := s.texts(room, "from")
			if want := []string{"one from WhatsApp", "two from WhatsApp"}; !slices.Equal(theirs, want) {
				t.Errorf("the room shows %q from the phone, want %q", theirs, want)
			}
			if got := s.phoneTexts(ben, "from Matrix"); !slices.Equal(got, mine) {
				t.Errorf("the phone shows %q, the room %q", got, mine)
			}
			if setting.encrypted {
				var state struct{ Algorithm string }
				s.ok(s.alice.RoomState(s.ctx, room, "m.room.encryption", "", &state))
				if state.Algorithm != "m.megolm.v1.aes-sha2" {
					t.Errorf("the room is not encrypted: %+v", state)
				}
			}
		})
	}
}

func TestARoomBeginsWithTheNoticeAndLiesInTheSpace(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	first := must(s.alice.Expect(s.ctx, "a first message", func(e *parts.Event) bool { return e.RoomID == room && e.Type == "m.room.message" }))(t)
	if m := first.Message(); m.MsgType != "m.notice" || !strings.Contains(m.Body, "encrypted") {
		t.Errorf("the room begins with %+v", m)
	}
	space := must(s.alice.ExpectInvite(s.ctx, "the space", func(i parts.Invite) bool { return i.Space }))(t)
	s.ok(s.alice.Join(s.ctx, space.Room))
	must(s.alice.Expect(s.ctx, "the room in the space", func(e *parts.Event) bool {
		return e.RoomID == space.Room && e.Type == "m.space.child" && e.StateKey != nil && *e.StateKey == room
	}))(t)
	if !strings.Contains(strings.ToLower(space.Name), "third-party") {
		t.Errorf("the space is called %q", space.Name)
	}
}

func TestAWhatsAppUserWritesFirstAndARoomWithAnInvitationAppears(t *testing.T) {
	for name, setting := range map[string]setting{"Synapse": {}, "an encrypted room": {encrypted: true}, "Postgres": {postgres: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, setting)
			carla := s.phone("Carla", true)
			must(s.Gatekeeper.Say(s.ctx, carla.Phone, s.identifier, "is this Alice?"))(t)
			room := s.enter(carla)
			s.inRoom(room, "is this Alice?")
			s.toPhone(room, carla, "yes, it is")
		})
	}
}

func TestTextKeepsItsFormattingBothWays(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	must(s.person.Send(s.ctx, room, "m.room.message", "formatted", parts.Message{
		MsgType: "m.text", Body: "**bold** and *italic*", Format: "org.matrix.custom.html",
		FormattedBody: "<strong>bold</strong> and <em>italic</em>",
	}))(t)
	s.onPhone(ben, "*bold* and _italic_")
	got := s.toMatrix(room, ben, "*bold* and _italic_ and <b>no tag</b>").Message()
	if !strings.Contains(got.FormattedBody, "<strong>bold</strong>") || !strings.Contains(got.FormattedBody, "<em>italic</em>") {
		t.Errorf("formatted body is %q", got.FormattedBody)
	}
	if strings.Contains(got.FormattedBody, "<b>") {
		t.Errorf("a phone's text brought a tag of its own: %q", got.FormattedBody)
	}
}

func TestMentionsAndLinksGoAsText(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	must(s.person.Send(s.ctx, room, "m.room.message", "mention", parts.Message{
		MsgType: "m.text", Body: "Bob, see this", Format: "org.matrix.custom.html",
		FormattedBody: `<a href="https://matrix.to/#/@bob:postern.localhost">Bob</a>, see <a href="https://example.org/">this</a>`,
	}))(t)
	got := s.phoneSees(ben, "the mention", func(e *parts.PhoneEvent) bool { return strings.Contains(e.Text, "Bob, see this") }).Text
	if strings.Contains(got, "matrix.to") || !strings.Contains(got, "https://example.org/") {
		t.Errorf("the phone shows %q", got)
	}
}

func TestWhatCannotBeSentIsRefusedVisibly(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	event := must(s.person.Send(s.ctx, room, "m.room.message", "image", map[string]any{
		"msgtype": "m.image", "body": "a.png", "url": "mxc://postern.localhost/none", "info": map[string]any{"mimetype": "image/png"},
	}))(t)
	must(s.alice.Expect(s.ctx, "a notice about the image", func(e *parts.Event) bool {
		return e.RoomID == room && e.Sender == s.Bot && e.Message().MsgType == "m.notice" && relatesTo(e, event)
	}))(t)
	s.toPhone(room, ben, "and the chat goes on")
}

func TestALongTextArrivesInPartsAndInOrder(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	// A phone's text may be longer than a Matrix event.
	var long strings.Builder
	for i := 0; long.Len() < 60_000; i++ {
		fmt.Fprintf(&long, "word%d ", i)
	}
	text := strings.TrimSpace(long.String())
	must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, text))(t)
	s.toMatrix(room, ben, "after the long one")
	_, got := s.texts(room, "word")
	if joined := strings.Join(strings.Fields(strings.Join(got, " ")), " "); joined != text || len(got) < 2 {
		t.Errorf("the long text came in %d parts with %d of %d bytes", len(got), len(joined), len(text))
	}
}

func TestDeliveredIsShownOnlyAfterThePhonesReceipt(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.toPhone(room, ben, "before")
	// Receipts towards the bridge are held back.
	fault := must(s.Gatekeeper.AddFault(s.ctx, parts.Fault{Kind: "delay", Identifier: s.identifier, Match: "receipt", Count: 1000, DelayMS: 600_000}))(t)
	event := s.toPhone(room, ben, "held")
	must(s.alice.Expect(s.ctx, "the status sent", func(e *parts.Event) bool { return statusOf(e, event) == "sent" }))(t)
	// What the phone sends later overtakes the receipt; when it is here, the
	// receipt would have been.
	s.toMatrix(room, ben, "a later text")
	if seen := s.alice.Seen(func(e *parts.Event) bool { return statusOf(e, event) == "delivered" }); len(seen) > 0 {
		t.Fatalf("delivered is shown without the phone's receipt: %s", seen[0].Content)
	}
	s.ok(s.Gatekeeper.RemoveFault(s.ctx, fault))
	must(s.alice.Expect(s.ctx, "the status delivered", func(e *parts.Event) bool { return statusOf(e, event) == "delivered" }))(t)
}

// statusOf is "sent" or "delivered" if e tells so of event, else another word
// or nothing.
func statusOf(e *parts.Event, event string) string {
	if e.Type != "com.beeper.message_send_status" {
		return ""
	}
	var content struct {
		RelatesTo struct {
			EventID string `json:"event_id"`
		} `json:"m.relates_to"`
		Status      string   `json:"status"`
		DeliveredTo []string `json:"delivered_to_users"`
	}
	if json.Unmarshal(e.Content, &content) != nil || content.RelatesTo.EventID != event {
		return ""
	}
	switch {
	case content.Status == "SUCCESS" && len(content.DeliveredTo) > 0:
		return "delivered"
	case content.Status == "SUCCESS":
		return "sent"
	}
	return strings.ToLower(content.Status)
}

// relatesTo reports whether e is a reply to, or otherwise about, event.
func relatesTo(e *parts.Event, event string) bool {
	return strings.Contains(string(e.Content), event)
}

func TestAMessageThatThePhoneCannotReadIsShownAsFailed(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.toPhone(room, ben, "before")
	must(s.Gatekeeper.AddFault(s.ctx, parts.Fault{Kind: "ack_error", Identifier: s.identifier, Match: "message", Count: 1, Code: 403}))(t)
	event := must(s.alice.SendText(s.ctx, room, "refused"))(t)
	must(s.alice.Expect(s.ctx, "the failure", func(e *parts.Event) bool {
		return e.RoomID == room && e.Sender == s.Bot && relatesTo(e, event) && (e.Message().MsgType == "m.notice" || strings.HasPrefix(statusOf(e, event), "fail"))
	}))(t)
	s.toPhone(room, ben, "and the chat goes on")
}

func TestTheBridgeIsKilledInTheMiddleOfAChat(t *testing.T) {
	for name, setting := range map[string]setting{"Synapse": {}, "an encrypted room": {encrypted: true}, "Postgres": {postgres: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, setting)
			ben := s.phone("Ben", true)
			room := s.startChat(ben)
			s.toPhone(room, ben, "from Matrix 0")
			s.Bridge.Kill()
			// Both write while the bridge is gone.
			must(s.alice.SendText(s.ctx, room, "from Matrix 1"))(t)
			must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "from the phone 1"))(t)
			s.ok(s.Bridge.Start(s.ctx))
			s.inRoom(room, "from the phone 1")
			s.onPhone(ben, "from Matrix 1")
			s.toPhone(room, ben, "from Matrix 2")
			if got, want := s.phoneTexts(ben, "from Matrix"), []string{"from Matrix 0", "from Matrix 1", "from Matrix 2"}; !slices.Equal(got, want) {
				t.Errorf("the phone shows %q, want %q", got, want)
			}
			if _, got := s.texts(room, "from the phone"); !slices.Equal(got, []string{"from the phone 1"}) {
				t.Errorf("the room shows %q from the phone", got)
			}
		})
	}
}

func TestTheGatekeeperIsRestartedInTheMiddleOfAChat(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	if !s.Gatekeeper.Own() {
		t.Skip("SKIPPED: the gatekeeper is not ours to restart")
	}
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.toPhone(room, ben, "from Matrix 0")
	s.Gatekeeper.Kill()
	must(s.alice.SendText(s.ctx, room, "from Matrix 1"))(t)
	s.ok(s.Gatekeeper.Restart(s.ctx))
	s.onPhone(ben, "from Matrix 1")
	s.toMatrix(room, ben, "from the phone 1")
	if got, want := s.phoneTexts(ben, "from Matrix"), []string{"from Matrix 0", "from Matrix 1"}; !slices.Equal(got, want) {
		t.Errorf("the phone shows %q, want %q", got, want)
	}
}

func TestANumberThatCannotBeReachedIsRefusedInWords(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	closed := s.phone("Dora", false)
	for number, sentence := range map[string]string{closed.Phone: "opted in", "+4915228000001": "not on WhatsApp", "not a number": "phone number"} {
		since := time.Now().Add(-time.Millisecond)
		s.command("start-chat " + number)
		if _, err := s.BotSays(s.ctx, s.person, s.management, since, sentence); err != nil {
			t.Errorf("%s: %v", number, err)
		}
	}
}

func TestNothingIsSentBeforeTheUserAgrees(t *testing.T) {
	t.Parallel()
	s := open(t, setting{noLogin: true})
	since := time.Now().Add(-time.Millisecond)
	room := must(s.person.CreateDM(s.ctx, s.Bot))(t)
	must(s.BotSays(s.ctx, s.person, room, since, "hello"))(t)
	must(s.person.SendText(s.ctx, room, "login "+s.Gatekeeper.Info.Profile))(t)
	must(s.BotSays(s.ctx, s.person, room, since, "please enter"))(t)
	must(s.person.SendText(s.ctx, room, "no"))(t)
	must(s.BotSays(s.ctx, s.person, room, since, "agree"))(t)
	if partners := must(s.Gatekeeper.Partners(s.ctx))(t); len(partners) > 0 {
		t.Fatalf("the gatekeeper knows %+v although nobody agreed", partners)
	}
}
