package e2e_test

import (
	"encoding/json"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/bridge/parts"
)

// fields reads an event's content.
func fields(e *parts.Event) map[string]any {
	var content map[string]any
	_ = json.Unmarshal(e.Content, &content) // the story then misses what it looks for
	return content
}

func TestOtherKindsFromWhatsAppAreShownAsWhatTheyAre(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	ghost := s.toMatrix(room, ben, "first").Sender
	says := func(s *scene, words string) *parts.Event {
		return s.roomShows(room, words, func(e *parts.Event) bool { return e.Sender == ghost && strings.Contains(e.Message().Body, words) })
	}
	s.part("a location", func(s *scene) {
		s.phoneSends(ben, parts.Content{Kind: "location", Latitude: 52.5163, Longitude: 13.3777, Name: "Brandenburger Tor"})
		got := says(s, "Brandenburger Tor")
		if c := fields(got); c["msgtype"] != "m.location" || !strings.HasPrefix(c["geo_uri"].(string), "geo:52.5163") {
			s.t.Errorf("it is %s", got.Content)
		}
	})
	s.part("a live location", func(s *scene) {
		s.phoneSends(ben, raw(s.t, &waE2E.Message{LiveLocationMessage: &waE2E.LiveLocationMessage{
			DegreesLatitude: proto.Float64(48.8584), DegreesLongitude: proto.Float64(2.2945),
		}}))
		says(s, "live location")
		says(s, "48.8584")
	})
	s.part("a contact card", func(s *scene) {
		const card = "BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Carla Example\r\nTEL;TYPE=CELL:+49 1522 8895456\r\nEND:VCARD"
		s.phoneSends(ben, parts.Content{Kind: "contact", Name: "Carla Example", VCard: card})
		says(s, "+49 1522 8895456")
		file := s.roomShows(room, "the card", func(e *parts.Event) bool { return e.Message().MsgType == "m.file" })
		data := must(s.person.Download(s.ctx, fields(file)["url"].(string)))(s.t)
		if !strings.HasPrefix(string(data), "BEGIN:VCARD") || !strings.Contains(string(data), "FN:Carla Example") {
			s.t.Errorf("the file is %q", data)
		}
	})
	s.part("a poll", func(s *scene) {
		s.phoneSends(ben, parts.Content{Kind: "poll", Question: "Where to?", Options: []string{"the lake", "the hills"}})
		got := says(s, "Where to?").Message().Body
		if !strings.Contains(got, "1. the lake") || !strings.Contains(got, "2. the hills") {
			s.t.Errorf("the poll is %q", got)
		}
	})
	s.part("a call", func(s *scene) {
		s.phoneSends(ben, raw(s.t, &waE2E.Message{Call: &waE2E.Call{CallKey: make([]byte, 32)}}))
		if got := says(s, "Calls are not possible"); got.Message().MsgType != "m.notice" {
			s.t.Errorf("it is %s", got.Content)
		}
	})
	s.part("an album", func(s *scene) {
		s.phoneSends(ben, raw(s.t, &waE2E.Message{AlbumMessage: &waE2E.AlbumMessage{ExpectedImageCount: proto.Uint32(2)}}))
		says(s, "2 images")
		for _, caption := range []string{"the first of two", "the second of two"} {
			s.phonePhoto(room, ben, caption)
		}
	})
	s.part("a kind that cannot be shown", func(s *scene) {
		s.phoneSends(ben, raw(s.t, &waE2E.Message{OrderMessage: &waE2E.OrderMessage{OrderID: proto.String("1")}}))
		says(s, "an order")
	})
	s.part("a kind that nobody knows", func(s *scene) {
		// A field with a number that no version of the format has.
		s.phoneSends(ben, parts.Content{Kind: "raw", Message: []byte{0x82, 0xf1, 0x04, 0x02, 0x0a, 0x00}})
		says(s, "does not know")
	})
	s.part("a photo that is to be seen once", func(s *scene) {
		s.phoneSends(ben, parts.Content{Kind: "image", Data: photo(s.t), Caption: "look quickly", ViewOnce: true})
		if got := says(s, "view-once"); got.Message().MsgType != "m.notice" {
			s.t.Errorf("it is %s", got.Content)
		}
	})
	s.part("a timer for disappearing messages", func(s *scene) {
		s.phoneSends(ben, parts.Content{Kind: "timer", Seconds: 86400})
		s.roomShows(room, "the timer", func(e *parts.Event) bool { return strings.Contains(e.Message().Body, "1 day") })
		s.phoneSends(ben, raw(s.t, &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
			Type: waE2E.ProtocolMessage_EPHEMERAL_SETTING.Enum(), EphemeralExpiration: proto.Uint32(1),
		}}))
		goes := s.toMatrix(room, ben, "this goes")
		s.ok(s.person.Read(s.ctx, room, goes.ID))
		s.roomShows(room, "its end", func(e *parts.Event) bool { return e.Removes() == goes.ID })
		s.phoneSends(ben, parts.Content{Kind: "timer"})
		s.roomShows(room, "the timer's end", func(e *parts.Event) bool { return strings.Contains(e.Message().Body, "Turned off") })
	})
	s.toMatrix(room, ben, "and the chat goes on")
}

func TestAPhotoThatIsToBeSeenOnceIsShownWhereTheAdminWantsIt(t *testing.T) {
	t.Parallel()
	s := open(t, setting{config: map[string]any{"network.media.view_once": "show"}})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	picture := photo(t)
	s.phoneSends(ben, parts.Content{Kind: "image", Data: picture, Caption: "look quickly", ViewOnce: true})
	got := s.roomShows(room, "the photo", func(e *parts.Event) bool { return e.Message().MsgType == "m.image" })
	s.hasFile(shown(t, got.Content), picture)
}

func TestOtherKindsFromMatrixGoAsReadableText(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	reads := func(s *scene, words string) string {
		return s.phoneSees(ben, words, func(e *parts.PhoneEvent) bool { return e.Kind == "message" && strings.Contains(e.Text, words) }).Text
	}
	s.part("a location", func(s *scene) {
		s.say(room, "m.room.message", map[string]any{"msgtype": "m.location", "body": "Brandenburger Tor", "geo_uri": "geo:52.5163,13.3777"})
		if got := reads(s, "Brandenburger Tor"); !strings.Contains(got, "52.516300, 13.377700") {
			s.t.Errorf("it is %q", got)
		}
	})
	var poll string
	s.part("a poll", func(s *scene) {
		answer := func(id, text string) map[string]any { return map[string]any{"id": id, "org.matrix.msc1767.text": text} }
		poll = s.say(room, "org.matrix.msc3381.poll.start", map[string]any{
			"org.matrix.msc1767.text": "Where to?",
			"org.matrix.msc3381.poll.start": map[string]any{
				"kind": "org.matrix.msc3381.poll.disclosed", "max_selections": 1,
				"question": map[string]any{"org.matrix.msc1767.text": "Where to?"}, "answers": []any{answer("a", "the lake"), answer("b", "the hills")},
			},
		})
		if got := reads(s, "Where to?"); !strings.Contains(got, "1. the lake") || !strings.Contains(got, "2. the hills") {
			s.t.Errorf("the poll is %q", got)
		}
	})
	s.part("a vote is refused in words", func(s *scene) {
		vote := s.say(room, "org.matrix.msc3381.poll.response", map[string]any{
			"m.relates_to":                     map[string]any{"rel_type": "m.reference", "event_id": poll},
			"org.matrix.msc3381.poll.response": map[string]any{"answers": []string{"a"}},
		})
		s.roomShows(room, "a notice", func(e *parts.Event) bool {
			return e.Sender == s.Bot && e.Message().MsgType == "m.notice" && relatesTo(e, vote)
		})
	})
	s.part("a call is refused in words", func(s *scene) {
		call := s.say(room, "m.call.invite", map[string]any{
			"call_id": "1", "version": "1", "party_id": "1", "lifetime": 60_000, "offer": map[string]any{"type": "offer", "sdp": "v=0"},
		})
		s.roomShows(room, "a notice", func(e *parts.Event) bool {
			m := e.Message()
			return e.Sender == s.Bot && m.MsgType == "m.notice" && relatesTo(e, call) && strings.Contains(m.Body, "Calls are not possible")
		})
	})
	s.toPhone(room, ben, "and the chat goes on")
}

func TestALongTextFromMatrixArrivesWhole(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.toPhone(room, ben, strings.TrimSpace(strings.Repeat("a long text ", 4500)))
}
