package connector

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
	"maunium.net/go/mautrix/id"

	"postern/connector/interop"
	"postern/connector/jid"
)

func keyTo(stanza string, fromMe bool) *waCommon.MessageKey {
	return &waCommon.MessageKey{ID: &stanza, FromMe: &fromMe}
}

func reaction(target string, fromMe bool, emoji string) *waE2E.Message {
	return &waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{Key: keyTo(target, fromMe), Text: &emoji}}
}

func edit(target, text string) *waE2E.Message {
	return &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_MESSAGE_EDIT.Enum(), Key: keyTo(target, true), EditedMessage: &waE2E.Message{Conversation: &text},
	}}
}

func revoke(target string) *waE2E.Message {
	return &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_REVOKE.Enum(), Key: keyTo(target, true)}}
}

func replyTo(target, participant, quoted, text string) *waE2E.Message {
	return &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: &text, ContextInfo: &waE2E.ContextInfo{
		StanzaID: &target, Participant: &participant, QuotedMessage: &waE2E.Message{Conversation: &quoted},
	}}}
}

// body is what the n-th event of the timeline says.
func body(e *fakeEvent) string { text, _ := e.Content["body"].(string); return text }

// relation is one field of an event's relation.
func relation(e *fakeEvent, field string) string {
	relates, _ := e.Content["m.relates_to"].(map[string]any)
	text, _ := relates[field].(string)
	return text
}

// expect checks what the timeline is: each event's type and a part of its content.
func (w *world) expect(want ...string) []*fakeEvent {
	w.t.Helper()
	list := w.matrix.timeline()
	if len(list) != len(want) {
		w.t.Fatalf("%d events, want %d: %s", len(list), len(want), w.matrix.dump())
	}
	for i, e := range list {
		kind, text, _ := strings.Cut(want[i], " ")
		said := body(e)
		if e.Type == "m.reaction" {
			said = relation(e, "key")
		}
		if e.Type != kind || !strings.Contains(said, text) {
			w.t.Errorf("event %d is %s %q, want %s", i, e.Type, said, want[i])
		}
	}
	return list
}

func TestAReactionIsShownChangedAndTakenBackOneForEachPerson(t *testing.T) {
	w := newWorld(t)
	w.say("A", "hello")
	w.own("B", "$own")
	w.deliver("R1", reaction("A", true, "👍"))
	w.deliver("R2", reaction("B", false, "❤"))
	list := w.expect("m.room.message hello", "m.reaction 👍", "m.reaction ❤️")
	if relation(list[1], "event_id") != string(list[0].ID) || relation(list[2], "event_id") != "$own" {
		t.Errorf("reactions to %s and %s", relation(list[1], "event_id"), relation(list[2], "event_id"))
	}
	if list[1].Sender != w.ghost.String() {
		t.Errorf("the reaction is of %s", list[1].Sender)
	}
	w.deliver("R3", reaction("A", true, "😂"))
	w.expect("m.room.message hello", "m.reaction ❤️", "m.reaction 😂")
	w.deliver("R4", reaction("A", true, ""))
	w.expect("m.room.message hello", "m.reaction ❤️")
	w.deliver("R5", reaction("A", true, ""))
	w.deliver("R6", reaction("A", true, "😂"))
	w.expect("m.room.message hello", "m.reaction ❤️", "m.reaction 😂")
}

func TestWhatIsAboutAMessageThatIsNotThereWaitsForItAndIsDroppedInTheEnd(t *testing.T) {
	w := newWorld(t)
	for name, msg := range map[string]*waE2E.Message{
		"reaction": reaction("A", true, "👍"), "reaction to an own message": reaction("B", false, "👍"), "edit": edit("A", "new"), "revoke": revoke("A"),
	} {
		in := w.inbound("X "+name, msg)
		if err := w.client.Deliver(t.Context(), in); !errors.Is(err, interop.ErrNoTarget) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.expect()
	w.say("A", "old")
	w.deliver("X edit", edit("A", "new"))
	w.deliver("X reaction", reaction("A", true, "👍"))
	w.expect("m.room.message old", "m.room.message * new", "m.reaction 👍")
	for name, msg := range map[string]*waE2E.Message{"reaction": reaction("Z", true, "👍"), "revoke": revoke("Z")} {
		in := w.inbound("Y "+name, msg)
		in.Final = true
		if err := w.client.Deliver(t.Context(), in); !errors.Is(err, interop.ErrUnseen) {
			t.Errorf("%s for the last time: %v, want that there is nothing to be seen", name, err)
		}
	}
	in := w.inbound("Y edit", edit("Z", "what it says now"))
	in.Final = true
	if err := w.client.Deliver(t.Context(), in); err != nil {
		t.Error(err)
	}
	w.expect("m.room.message old", "m.room.message * new", "m.reaction 👍", "m.room.message Edited: what it says now")
}

func TestNobodyChangesWhatSomebodyElseHasWritten(t *testing.T) {
	w := newWorld(t)
	w.own("B", "$own")
	for name, msg := range map[string]*waE2E.Message{"edit": edit("B", "forged"), "revoke": revoke("B")} {
		in := w.inbound("X "+name, msg)
		if err := w.client.Deliver(t.Context(), in); !errors.Is(err, interop.ErrNoTarget) {
			t.Errorf("%s: %v", name, err)
		}
	}
	forged := revoke("B")
	forged.ProtocolMessage.Key.FromMe = proto.Bool(false)
	w.deliver("X", forged)
	w.expect("m.room.message It stays here")
	w.matrix.mu.Lock()
	defer w.matrix.mu.Unlock()
	for _, e := range w.matrix.events {
		if e.Redacts != "" {
			t.Errorf("%s was redacted", e.Redacts)
		}
	}
}

func TestAnEditedLongMessageHasTheNewPartsAndNoOthers(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("many words ", 6000)
	w.say("A", "short")
	w.deliver("E1", edit("A", long))
	n := len(w.matrix.timeline())
	if n < 4 {
		t.Fatalf("%d events for a long edit", n)
	}
	w.deliver("E2", edit("A", "short again"))
	for _, e := range w.matrix.timeline()[1:] {
		if relation(e, "rel_type") != "m.replace" {
			t.Errorf("a part that is not there any more was left: %.40q", body(e))
		}
	}
	w.deliver("D", revoke("A"))
	for _, e := range w.matrix.timeline() {
		if relation(e, "rel_type") != "m.replace" {
			t.Errorf("left after the revoke: %.40q", body(e))
		}
	}
}

func TestAReplyPointsAtItsTargetOrQuotesIt(t *testing.T) {
	w := newWorld(t)
	w.say("A", "theirs")
	w.own("B", "$own")
	them := testPeer.String()
	w.deliver("R1", replyTo("A", them, "theirs", "to their own"))
	w.deliver("R2", replyTo("B", "7-1@interop", "mine", "to mine"))
	w.deliver("R3", replyTo("C", them, "long gone", "to nothing"))
	list := w.expect("m.room.message theirs", "m.room.message to their own", "m.room.message to mine", "m.room.message to nothing")
	target := func(e *fakeEvent) string {
		relates, _ := e.Content["m.relates_to"].(map[string]any)
		to, _ := relates["m.in_reply_to"].(map[string]any)
		text, _ := to["event_id"].(string)
		return text
	}
	if target(list[1]) != string(list[0].ID) || target(list[2]) != "$own" || target(list[3]) != "" {
		t.Errorf("replies to %q, %q and %q", target(list[1]), target(list[2]), target(list[3]))
	}
	if !strings.Contains(body(list[3]), "long gone") || strings.Contains(body(list[2]), "mine\n") {
		t.Errorf("quotes: %q, %q", body(list[2]), body(list[3]))
	}
}

func TestATimerIsSaidAndAppliesToWhatComesAfterIt(t *testing.T) {
	w := newWorld(t)
	timer := func(seconds uint32) *waE2E.Message {
		return &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
			Type: waE2E.ProtocolMessage_EPHEMERAL_SETTING.Enum(), EphemeralExpiration: &seconds,
		}}
	}
	disappearing := func() (list []string) {
		rows, err := w.running.db.Query(t.Context(), "SELECT mxid FROM disappearing_message ORDER BY rowid")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var evt string
			if err = rows.Scan(&evt); err != nil {
				t.Fatal(err)
			}
			list = append(list, evt)
		}
		return list
	}
	w.say("A", "stays")
	w.deliver("T1", timer(86400))
	w.say("B", "goes")
	list := w.expect("m.room.message stays", "m.room.message Set the disappearing message timer to 1 day", "m.room.message goes")
	if got := disappearing(); len(got) != 1 || got[0] != string(list[2].ID) {
		t.Errorf("disappearing: %v", got)
	}
	w.restart()
	w.deliver("T1", timer(86400))
	w.say("C", "goes too")
	w.deliver("T2", timer(0))
	w.say("D", "stays too")
	w.expect("m.room.message stays", "m.room.message Set", "m.room.message goes", "m.room.message goes too", "m.room.message Turned off", "m.room.message stays too")
	if got := disappearing(); len(got) != 2 {
		t.Errorf("disappearing: %v", got)
	}
}

// TestEveryKindOfSendArrivesOnceThoughTheHomeserverAnswersNothing cuts the connection after the homeserver has stored something, and lets it and
// the bridge be restarted before the item comes again.
func TestEveryKindOfSendArrivesOnceThoughTheHomeserverAnswersNothing(t *testing.T) {
	for _, c := range []struct {
		name  string
		setup func(w *world)
		msg   func(w *world) *waE2E.Message
		path  string
		want  []string
	}{
		{"a text", nil, func(*world) *waE2E.Message { return &waE2E.Message{Conversation: proto.String("hi")} }, "/send/m.room.message/", []string{"m.room.message hi"}},
		{"a reaction", func(w *world) { w.say("A", "hello") }, func(*world) *waE2E.Message { return reaction("A", true, "👍") },
			"/send/m.reaction/", []string{"m.room.message hello", "m.reaction 👍"}},
		{"a changed reaction", func(w *world) { w.say("A", "hello"); w.deliver("R", reaction("A", true, "😂")) },
			func(*world) *waE2E.Message { return reaction("A", true, "👍") },
			"/send/m.reaction/", []string{"m.room.message hello", "m.reaction 👍"}},
		{"a changed reaction whose first is being taken back", func(w *world) { w.say("A", "hello"); w.deliver("R", reaction("A", true, "😂")) },
			func(*world) *waE2E.Message { return reaction("A", true, "👍") },
			"/redact/", []string{"m.room.message hello", "m.reaction 👍"}},
		{"a reaction that is taken back", func(w *world) { w.say("A", "hello"); w.deliver("R", reaction("A", true, "😂")) },
			func(*world) *waE2E.Message { return reaction("A", true, "") }, "/redact/", []string{"m.room.message hello"}},
		{"an edit", func(w *world) { w.say("A", "hello") }, func(*world) *waE2E.Message { return edit("A", "bye") },
			"/send/m.room.message/", []string{"m.room.message hello", "m.room.message * bye"}},
		{"a revoke", func(w *world) { w.say("A", "hello") }, func(*world) *waE2E.Message { return revoke("A") }, "/redact/", nil},
		{"a sticker", nil, func(w *world) *waE2E.Message { return w.host.sticker(w.t, "/v/t/s") }, "/send/m.sticker/", []string{"m.sticker"}},
		{"an image", nil, func(w *world) *waE2E.Message { return w.host.image(w.t, "/v/t/i", "look", png(3, 2)) }, "/send/m.room.message/", []string{"m.room.message look"}},
	} {
		for _, restart := range []bool{false, true} {
			name := c.name
			if restart {
				name += ", and both are restarted"
			}
			t.Run(name, func(t *testing.T) {
				w := newWorld(t)
				if c.setup != nil {
					c.setup(w)
				}
				cut := true
				w.matrix.setAfter(func(r *http.Request) int {
					if cut && strings.Contains(r.URL.Path, c.path) {
						cut = false
						return -1
					}
					return 0
				})
				in := w.inbound("X", c.msg(w))
				if err := w.client.Deliver(t.Context(), in); err == nil || cut {
					t.Fatalf("delivery without an answer: %v (cut %v)", err, !cut)
				}
				w.matrix.restart()
				if restart {
					w.restart()
				}
				for range 2 {
					if err := w.client.Deliver(t.Context(), in); err != nil {
						if !errors.Is(err, interop.ErrNoTarget) || c.name != "a revoke" {
							t.Fatal(err)
						}
					}
				}
				w.expect(c.want...)
			})
		}
	}
}

func TestAnErrorOfTheHomeserverLosesNoRedaction(t *testing.T) {
	w := newWorld(t)
	w.say("A", "hello")
	w.deliver("R", reaction("A", true, "😂"))
	w.matrix.setBefore(func(r *http.Request) int {
		if strings.Contains(r.URL.Path, "/redact/") {
			return 500
		}
		return 0
	})
	changed, gone := w.inbound("R2", reaction("A", true, "👍")), w.inbound("D", revoke("A"))
	for _, in := range []*interop.Inbound{changed, gone} {
		if err := w.client.Deliver(t.Context(), in); err == nil || errors.Is(err, interop.ErrNoTarget) {
			t.Errorf("%s while the homeserver does not work: %v", in.MessageID, err)
		}
	}
	w.expect("m.room.message hello", "m.reaction 😂")
	w.matrix.setBefore(nil)
	if err := w.client.Deliver(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	w.expect("m.room.message hello", "m.reaction 👍")
	if err := w.client.Deliver(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	w.expect("m.reaction 👍") // the homeserver hides it with its message
}

func TestAReadReceiptNeverGoesBack(t *testing.T) {
	w := newWorld(t)
	w.ownAt("A", "$a", time.Now())
	w.ownAt("B", "$b", time.Now().Add(time.Second))
	var markers []string
	w.matrix.setBefore(func(r *http.Request) int {
		if strings.HasSuffix(r.URL.Path, "/read_markers") {
			markers = append(markers, r.URL.Query().Get("user_id"))
		}
		return 0
	})
	for _, evt := range []id.EventID{"$b", "$a", "$b", "$unknown"} {
		err := w.client.Status(t.Context(), interop.OutStatus{EventID: evt.String(), RoomID: fakeRoom.String(), Chat: w.peer.Chat, State: interop.OutRead, At: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(markers) != 2 || markers[0] != w.ghost.String() {
		t.Errorf("read markers set by %v, want two by the ghost: the newest, and again", markers)
	}
}

func typingOf(p interop.Peer, composing, voice bool) interop.Typing {
	return interop.Typing{Chat: p.Chat, Contact: p.Contact, Composing: composing, Voice: voice}
}

func TestAContactWhoseAddressChangesKeepsItsGhostAndItsChat(t *testing.T) {
	w := newWorld(t)
	w.say("A", "hello")
	contact, err := w.connector.db.Contacts().Get(t.Context(), w.peer.Contact)
	if err != nil {
		t.Fatal(err)
	}
	contact.JID = jid.JID{User: "4915112345678", Server: jid.User}.String()
	if err = w.connector.db.Contacts().Update(t.Context(), contact); err != nil {
		t.Fatal(err)
	}
	moved, err := NewAccountStore(w.connector.db, w.account, "whatsapp").PeerByJID(t.Context(), jid.JID{User: "4915112345678", Server: jid.User})
	if err != nil || moved.Contact != w.peer.Contact || moved.Chat != w.peer.Chat {
		t.Fatalf("behind the new address: %+v %v, want %+v", moved, err, w.peer)
	}
	ghost, err := w.client.ghost(t.Context(), moved.Contact)
	if err != nil || ghost.Intent.GetMXID() != w.ghost {
		t.Errorf("ghost %v %v, want %s", ghost.Intent.GetMXID(), err, w.ghost)
	}
}

func TestAnItemIsUncertainUntilItIsKnownThatNoAttemptMayHaveArrived(t *testing.T) {
	began := time.Now()
	item := func(id string, at time.Time) *interop.Inbound {
		return &interop.Inbound{Kind: interop.KindMessage, MessageID: id, Timestamp: at}
	}
	ch := newChats(nil).get("chat")
	// hand gives an item over and says whether it was uncertain.
	hand := func(in *interop.Inbound, aside bool, err error) bool {
		uncertain := ch.begin(in, aside, began)
		ch.end(in, aside, err)
		return uncertain
	}
	old, late := began.Add(-time.Hour), began.Add(time.Hour)
	held, first, second := item("held", old), item("first", old), item("second", old)
	trouble := errors.New("no answer")
	for i, step := range []struct {
		in    *interop.Inbound
		aside bool
		err   error
		want  bool
	}{
		{held, true, nil, true},         // the process before may have tried it
		{first, false, trouble, true},   // and this one, though something else went well since
		{first, false, nil, true},       // this process has tried it
		{second, false, nil, false},     // nobody has
		{second, false, trouble, false}, //
		{item("third", late), false, nil, false},
		{second, false, nil, true}, // tried above, and others in between
		{item("r1", old), true, interop.ErrNoTarget, true},
		{item("r1", old), true, nil, false}, // nothing was sent of it
		{item("r2", late), true, trouble, false},
		{item("r2", late), true, interop.ErrNoTarget, true},
		{item("r2", late), true, nil, false},
	} {
		if got := hand(step.in, step.aside, step.err); got != step.want {
			t.Errorf("step %d, %s: uncertain %v, want %v", i, step.in.MessageID, got, step.want)
		}
	}
}
