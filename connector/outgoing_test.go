package connector

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/bridgev2"
	frameworkdb "maunium.net/go/mautrix/bridgev2/database"
	"maunium.net/go/mautrix/bridgev2/networkid"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/convert"
	"postern/connector/interop"
	"postern/connector/profile"
)

// bareClient is a client with nothing but its profile and the operator's limit.
func bareClient(maxUpload int64) *client {
	c := New()
	c.Config.Media.maxUpload = maxUpload
	return &client{profile: profile.WhatsApp(), connector: c, log: new(zerolog.Nop())}
}

func TestTheNewestIncomingMessageIsWhatAReceiptOnSomethingElseCovers(t *testing.T) {
	at := func(row int64, second int, message networkid.MessageID) *frameworkMessage {
		return &frameworkdb.Message{RowID: row, ID: message, Timestamp: time.Unix(int64(second), 0)}
	}
	rows := []*frameworkMessage{
		at(1, 10, incomingID("c", "A")), at(3, 20, incomingID("c", "C")), at(2, 20, incomingID("c", "B")),
		at(4, 30, outgoingID("c", "D")), at(5, 40, incomingID("other", "E")), at(6, 50, "in/c/"),
	}
	for range 20 {
		if got := newestIncoming("c", rows); got != "C" {
			t.Fatalf("got %q", got)
		}
		rows = append(rows[1:], rows[0])
	}
	if got := newestIncoming("c", rows[:0]); got != "" {
		t.Errorf("of nothing: %q", got)
	}
}

func TestMessagesAreKnownByTheIDThatTheOtherSideHas(t *testing.T) {
	c := &client{profile: profile.WhatsApp(), log: new(zerolog.Nop())}
	key := portalKey("account", "chat")
	portal := &bridgev2.Portal{Portal: &frameworkdb.Portal{PortalKey: key}}
	row := func(message networkid.MessageID, stanzas ...string) *frameworkMessage {
		return &frameworkdb.Message{ID: message, Room: key, Metadata: &MessageMetadata{StanzaIDs: stanzas}}
	}
	elsewhere := row(incomingID("chat", "X"))
	elsewhere.Room = portalKey("account", "another")
	for name, x := range map[string]struct {
		row    *frameworkMessage
		stanza string
		own    bool
	}{
		"the other person's":                    {row(incomingID("chat", "X")), "X", false},
		"an own one":                            {row(outgoingID("chat", "X"), "X", "Y"), "X", true},
		"an own one without metadata":           {&frameworkdb.Message{ID: outgoingID("chat", "X"), Room: key}, "X", true},
		"an own one that was sent another way":  {row(outgoingID("chat", "X"), "Z"), "Z", true},
		"one of another room":                   {elsewhere, "", false},
		"one of another chat, in the same room": {row(incomingID("another", "X")), "", false},
		"something else":                        {row("x"), "", false},
		"none":                                  {nil, "", false},
	} {
		if stanza, own := c.stanzaOf(portal, x.row); stanza != x.stanza || own != x.own {
			t.Errorf("%s: %q %v", name, stanza, own)
		}
	}
}

// parsedEvent is an event as it comes from the homeserver.
func parsedEvent(t *testing.T, kind, content string) *event.Event {
	t.Helper()
	evt := &event.Event{ID: "$self", Type: event.Type{Type: kind, Class: event.MessageEventType}}
	if err := json.Unmarshal([]byte(content), &evt.Content); err != nil {
		t.Fatal(err)
	}
	return evt
}

func TestEventsOfOtherKindsAreCarriedAsTextAndALivePositionOnce(t *testing.T) {
	const poll = `{"org.matrix.msc3381.poll.start":{"question":{"org.matrix.msc1767.text":"Pizza?"},"answers":[{"id":"a","org.matrix.msc1767.text":"Yes"}]}}`
	const beacon = `{"m.relates_to":{"rel_type":"m.reference","event_id":"$begun"},"org.matrix.msc3488.location":{"uri":"geo:52.5,13.4"}}`
	for name, x := range map[string]struct {
		kind, content string
		carried       bool
		source        id.EventID
		says          string
	}{
		"a poll":                       {"org.matrix.msc3381.poll.start", poll, true, "$self", "Pizza?"},
		"a poll of the later form":     {"m.poll.start", strings.ReplaceAll(strings.ReplaceAll(poll, "org.matrix.msc3381.poll.start", "m.poll"), `"org.matrix.msc1767.text":"Pizza?"`, `"m.text":[{"body":"Pizza?"}]`), true, "$self", "Pizza?"},
		"a position on the way":        {"org.matrix.msc3672.beacon", beacon, true, "$begun", "52.5"},
		"a position that is about all": {"m.beacon", strings.ReplaceAll(strings.ReplaceAll(beacon, "m.relates_to", "x"), "org.matrix.msc3488.location", "m.location"), true, "$self", "52.5"},
		"a vote":                       {"org.matrix.msc3381.poll.response", `{}`, false, "", ""},
		"something of somebody's own":  {"org.example.x", `{}`, false, "", ""},
	} {
		evt := parsedEvent(t, x.kind, x.content)
		carryOther(evt)
		if carried := evt.Type == event.EventMessage; carried != x.carried {
			t.Errorf("%s: carried: %v", name, carried)
		}
		if !x.carried {
			continue
		}
		msg := &bridgev2.MatrixMessage{}
		msg.Event, msg.Content = evt, evt.Content.AsMessage()
		if got := sourceEvent(msg); got != x.source {
			t.Errorf("%s: goes as %s", name, got)
		}
		messages, err := convert.EventToInterop(msg.Content.Body, evt.Content.VeryRaw, convert.Limits{})
		if err != nil || !strings.Contains(messages[0].GetConversation(), x.says) {
			t.Errorf("%s: %v %v", name, messages, err)
		}
	}
}

func TestAnAttachmentOverTheSmallerLimitIsRefusedWithItsName(t *testing.T) {
	const mib = 1 << 20
	for name, x := range map[string]struct {
		role     convert.Role
		size     int64
		operator int64
		words    string // "" for taken
	}{
		"an image under both":              {convert.RoleImage, 64 * mib, 100 * mib, ""},
		"an image over the gatekeeper's":   {convert.RoleImage, 64*mib + 1, 100 * mib, "64 MiB"},
		"an image over the operator's":     {convert.RoleImage, 11 * mib, 10 * mib, "10 MiB"},
		"a sticker over the gatekeeper's":  {convert.RoleSticker, 65 * mib, 0, "64 MiB"},
		"a file where nothing is limited":  {convert.RoleDocument, 2000 * mib, 0, ""},
		"a video over the gatekeeper's":    {convert.RoleVideo, 2001 * mib, 0, "2000 MiB"},
		"a voice message over half a MiB":  {convert.RoleVoice, mib, mib / 2, "0.5 MiB"},
		"something whose size is not told": {convert.RoleVideo, -1, mib, ""},
	} {
		c := bareClient(x.operator)
		raw, err := c.recipe(&convert.Attachment{Role: x.role, Size: x.size, URI: someURI}, nil)
		if x.words == "" {
			if err != nil || len(raw) == 0 {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		said, ok := err.(bridgev2.MessageStatus)
		if !ok || !strings.Contains(said.Message, x.words) || !strings.Contains(said.Message, x.role.Noun()) || !said.SendNotice || raw != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	none := bareClient(0)
	none.profile.Features.Media = false
	if _, err := none.recipe(&convert.Attachment{Role: convert.RoleVoice}, nil); err == nil {
		t.Error("a gatekeeper without attachments takes one")
	}
	if _, err := bareClient(0).recipe(&convert.Attachment{Role: convert.RoleImage, Caption: strings.Repeat("x", interop.MaxRecipe)}, nil); err == nil {
		t.Error("a recipe that is too long is taken")
	}
}

func TestARecipeIsReadAsItWasWritten(t *testing.T) {
	_, file := sealed([]byte("x"))
	a := &convert.Attachment{
		Role: convert.RoleVoice, Size: 5, Duration: time.Second, Waveform: []byte{1, 2}, URI: someURI, File: file, Caption: "hello",
	}
	raw, err := bareClient(0).recipe(a, &convert.Quote{StanzaID: "A", Participant: "p", Text: "t", Author: "u"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := readRecipe(raw)
	if err != nil || r.Quote == nil || *r.Quote != (convert.Quote{StanzaID: "A", Participant: "p", Text: "t", Author: "u"}) {
		t.Fatalf("%+v %v", r, err)
	}
	if r.Attachment.Role != a.Role || r.Attachment.Duration != a.Duration || !slices.Equal(r.Attachment.Waveform, a.Waveform) ||
		r.Attachment.File.Hashes != file.Hashes || r.Attachment.Caption != "hello" {
		t.Errorf("read %+v", r.Attachment)
	}
	if _, err = readRecipe([]byte("{")); err == nil {
		t.Error("half a recipe is read")
	}
}

func TestAChatSaysWhatItCanDo(t *testing.T) {
	const mib = 1 << 20
	f := roomFeatures(profile.WhatsApp(), 100*mib)
	for kind, limit := range map[event.CapabilityMsgType]int64{
		event.MsgImage: 64 * mib, event.MsgVideo: 100 * mib, event.MsgAudio: 100 * mib, event.MsgFile: 100 * mib,
		event.CapMsgVoice: 100 * mib, event.CapMsgGIF: 100 * mib, event.CapMsgSticker: 64 * mib,
	} {
		file := f.File[kind]
		if file == nil || file.MaxSize != limit {
			t.Errorf("%s: %+v", kind, file)
		} else if file.GetMimeSupport("application/x-something") < event.CapLevelPartialSupport {
			t.Errorf("%s: what can go as a document is refused", kind)
		}
	}
	if f.File[event.MsgImage].GetMimeSupport("image/webp") != event.CapLevelPartialSupport || !f.File[event.MsgImage].GetMimeSupport("image/jpeg").Full() {
		t.Error("images that are converted and images that are not look the same")
	}
	if f.ReactionCount != 1 || f.AllowedReactions != nil || f.CustomEmojiReactions || !f.Reaction.Full() || !f.Reply.Full() || f.Edit != event.CapLevelPartialSupport ||
		!f.Delete.Reject() || !f.ReadReceipts || !f.TypingNotifications || f.DisappearingTimer != nil {
		t.Errorf("%+v", f)
	}
	p := profile.WhatsApp()
	p.Features = profile.Features{}
	less := roomFeatures(p, 0)
	if less.File != nil || !less.Reaction.Reject() || less.Reply.Partial() || less.ReadReceipts || less.TypingNotifications {
		t.Errorf("without features: %+v", less)
	}
	if f.ID == less.ID || f.ID != roomFeatures(profile.WhatsApp(), 100*mib).ID {
		t.Error("ids do not tell features apart")
	}
}

func TestReadReceiptsAreSwitchedByOneWord(t *testing.T) {
	for in, want := range map[string][3]bool{ // on, change, understood
		"": {false, false, true}, "on": {true, true, true}, "off": {false, true, true}, "maybe": {}, "on off": {},
	} {
		on, change, understood := parseSwitch(strings.Fields(in))
		if got := [3]bool{on, change, understood}; got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
	login := &bridgev2.UserLogin{UserLogin: &frameworkdb.UserLogin{Metadata: &LoginMetadata{}}}
	if !wantsReceipts(login) {
		t.Error("somebody who has not chosen gets none")
	}
	login.Metadata = &LoginMetadata{NoReadReceipts: true}
	if wantsReceipts(login) {
		t.Error("somebody who wants none gets them")
	}
}

func TestSizesAreWrittenForPeople(t *testing.T) {
	for bytes, want := range map[int64]string{64 << 20: "64 MiB", 2000 << 20: "2000 MiB", 3 << 19: "1.5 MiB", 1<<20 + 10487: "1.01 MiB"} {
		if got := sizeWords(bytes); got != want {
			t.Errorf("%d: %s, want %s", bytes, got, want)
		}
	}
}
