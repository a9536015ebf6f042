package connector

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/convert"
	"postern/connector/interop"
)

// fromPerson hands an event of the person's to the framework.
func (w *world) fromPerson(evt id.EventID, kind string, content map[string]any) {
	w.t.Helper()
	raw, err := json.Marshal(content)
	if err != nil {
		w.t.Fatal(err)
	}
	e := &event.Event{ID: evt, RoomID: fakeRoom, Sender: fakePerson, Timestamp: time.Now().UnixMilli(), Type: event.Type{Type: kind, Class: event.MessageEventType}}
	if kind == "m.room.redaction" {
		e.Redacts = id.EventID(content["redacts"].(string))
	}
	if err = json.Unmarshal(raw, &e.Content); err != nil {
		w.t.Fatal(err)
	}
	if err = e.Content.ParseRaw(e.Type); err != nil && !errors.Is(err, event.ErrUnsupportedContentType) {
		w.t.Fatal(err)
	}
	carryOther(e)
	w.connector.bridge.QueueMatrixEvent(w.t.Context(), e)
}

// queued are the parts that wait for the stream, in order.
func (w *world) queued() []*interop.OutRow {
	w.t.Helper()
	rows, err := NewAccountStore(w.connector.db, w.account, "whatsapp").PendingOutbound(w.t.Context(), w.peer.Chat, 0, 100)
	if err != nil {
		w.t.Fatal(err)
	}
	return rows
}

// read unmarshals what a phone would get.
func (w *world) read(plaintext []byte) *waE2E.Message {
	w.t.Helper()
	msg := &waE2E.Message{}
	if err := proto.Unmarshal(plaintext, msg); err != nil {
		w.t.Fatal(err)
	}
	return msg
}

// notices are the texts that wait for the room.
func (w *world) notices() string {
	w.t.Helper()
	list, err := w.connector.db.Notices().Waiting(w.t.Context(), 100)
	if err != nil {
		w.t.Fatal(err)
	}
	var all []string
	for _, n := range list {
		all = append(all, string(n.Content))
	}
	return strings.Join(all, "\n")
}

// shown is the event that shows an incoming text.
func (w *world) shown(text string) id.EventID {
	w.t.Helper()
	for _, e := range w.matrix.timeline() {
		if e.Content["body"] == text {
			return e.ID
		}
	}
	w.t.Fatalf("%q is not in the room", text)
	return ""
}

func related(kind string, to id.EventID, more map[string]any) map[string]any {
	relation := map[string]any{"rel_type": kind, "event_id": to}
	if kind == "" {
		relation = map[string]any{"m.in_reply_to": map[string]any{"event_id": to}}
	}
	content := map[string]any{"m.relates_to": relation}
	for k, v := range more {
		if k == "key" {
			relation["key"] = v
			continue
		}
		content[k] = v
	}
	return content
}

func text(body string) map[string]any { return map[string]any{"msgtype": "m.text", "body": body} }

func TestAnAnswerRefersToTheMessageAsTheOtherSideKnowsIt(t *testing.T) {
	w := newWorld(t)
	w.say("THEIRS", "the question")
	w.own("MINE", "$mine")
	w.fromPerson("$p1", "m.room.message", related("", w.shown("the question"), text("the answer")))
	w.fromPerson("$p2", "m.room.message", related("", "$mine", text("to myself")))
	w.fromPerson("$p3", "m.room.message", related("", "$nowhere", text("to nobody")))
	rows := w.queued()
	if len(rows) != 3 {
		t.Fatalf("%d parts; %s", len(rows), w.notices())
	}
	for i, want := range []struct{ stanza, participant, text string }{
		{"THEIRS", testPeer.String(), "the question"}, {"MINE", "7-1@interop", "…"},
	} {
		got := w.read(rows[i].Plaintext).GetExtendedTextMessage().GetContextInfo()
		if got.GetStanzaID() != want.stanza || got.GetParticipant() != want.participant || got.GetQuotedMessage().GetConversation() != want.text {
			t.Errorf("answer %d refers to %v", i, got)
		}
	}
	if got := w.read(rows[0].Fallback).GetConversation(); !strings.Contains(got, ": the question\nthe answer") || !strings.HasPrefix(got, "> ") {
		t.Errorf("the fall-back is %q", got)
	}
	if got := w.read(rows[2].Plaintext).GetConversation(); got != "to nobody" || rows[2].Fallback != nil {
		t.Errorf("an answer to nothing is %q", got)
	}
	row, err := w.connector.bridge.DB.Message.GetPartByMXID(t.Context(), "$p1")
	if err != nil || row == nil || row.ReplyTo.MessageID != incomingID(w.peer.Chat, "THEIRS") {
		t.Errorf("the framework's row: %+v %v", row, err)
	}
}

func TestAMessageOfAnotherRoomIsNeverReferredTo(t *testing.T) {
	w := newWorld(t)
	w.own("ELSEWHERE", "$elsewhere")
	row, err := w.connector.bridge.DB.Message.GetPartByMXID(t.Context(), "$elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	w.say("HERE", "here")
	row.ID = outgoingID("another chat", "ELSEWHERE")
	if err = w.connector.bridge.DB.Message.Update(t.Context(), row); err != nil {
		t.Fatal(err)
	}
	w.fromPerson("$p1", "m.room.message", related("", "$elsewhere", text("hello")))
	w.fromPerson("$p2", "m.reaction", related("m.annotation", "$elsewhere", map[string]any{"key": "👍"}))
	w.fromPerson("$p3", "m.room.message", related("m.replace", "$elsewhere", map[string]any{"msgtype": "m.text", "body": "* x", "m.new_content": text("x")}))
	rows := w.queued()
	if len(rows) != 1 || w.read(rows[0].Plaintext).GetConversation() != "hello" {
		t.Errorf("%d parts are queued", len(rows))
	}
	if notices := w.notices(); !strings.Contains(notices, "not part of this chat") || !strings.Contains(notices, "of your own") {
		t.Errorf("the person reads %q", notices)
	}
}

func TestAReactionIsSentChangedAndTakenBack(t *testing.T) {
	w := newWorld(t)
	w.say("THEIRS", "nice")
	target := w.shown("nice")
	reactions := func() []string { return w.reactionsOn(target) }
	w.fromPerson("$r1", "m.reaction", related("m.annotation", target, map[string]any{"key": "❤"}))
	w.fromPerson("$r1", "m.reaction", related("m.annotation", target, map[string]any{"key": "❤"}))           // handed over again
	w.fromPerson("$r1b", "m.reaction", related("m.annotation", target, map[string]any{"key": "❤\ufe0f"}))    // the same but for a selector
	w.fromPerson("$r2", "m.reaction", related("m.annotation", target, map[string]any{"key": "👍\U0001f3fd"})) // another one
	w.fromPerson("$red1", "m.room.redaction", map[string]any{"redacts": "$r1"})                              // has left already
	w.fromPerson("$red2", "m.room.redaction", map[string]any{"redacts": "$r2"})
	rows := w.queued()
	var sent []string
	for _, row := range rows {
		r := w.read(row.Plaintext).GetReactionMessage()
		if row.Type != "reaction" || r.GetKey().GetID() != "THEIRS" || r.GetKey().GetFromMe() || r.GetKey().GetRemoteJID() != testPeer.String() {
			t.Errorf("%s: %v", row.Type, r)
		}
		sent = append(sent, row.EventID+" "+r.GetText())
	}
	if got := strings.Join(sent, ", "); got != "$r1 ❤️, $r2 👍🏽, $red2 " {
		t.Errorf("sent: %s", got)
	}
	if left := reactions(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	var redacted []id.EventID
	for _, e := range w.matrix.events {
		if e.Redacts != "" {
			redacted = append(redacted, e.Redacts)
		}
	}
	if len(redacted) != 1 || redacted[0] != "$r1" {
		t.Errorf("the bridge has redacted %v", redacted)
	}
}

// reactionsOn are the framework's rows of the person's reactions to an event.
func (w *world) reactionsOn(target id.EventID) (emoji []string) {
	w.t.Helper()
	db := w.connector.bridge.DB
	row, err := db.Message.GetPartByMXID(w.t.Context(), target)
	if err != nil || row == nil {
		w.t.Fatalf("no message: %v", err)
	}
	list, err := db.Reaction.GetAllToMessageBySender(w.t.Context(), row.Room.Receiver, row.ID, selfID(w.client.profile, w.account))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range list {
		emoji = append(emoji, r.Emoji)
	}
	return emoji
}

func TestAReactionThatIsReplacedWhileMatrixIsAwayIsHandledAgain(t *testing.T) {
	w := newWorld(t)
	w.own("MINE", "$mine")
	w.fromPerson("$r1", "m.reaction", related("m.annotation", "$mine", map[string]any{"key": "👍"}))
	w.matrix.setBefore(refuseRedactions(502))
	w.fromPerson("$r2", "m.reaction", related("m.annotation", "$mine", map[string]any{"key": "🎉"}))
	if got := w.reactionsOn("$mine"); len(got) != 1 || got[0] != "👍" {
		t.Errorf("after a failure: %v", got)
	}
	w.matrix.setBefore(nil)
	w.restart()
	w.fromPerson("$r2", "m.reaction", related("m.annotation", "$mine", map[string]any{"key": "🎉"}))
	if got := w.reactionsOn("$mine"); len(got) != 1 || got[0] != "🎉" {
		t.Errorf("handled again: %v", got)
	}
	if rows := w.queued(); len(rows) != 2 || w.read(rows[1].Plaintext).GetReactionMessage().GetText() != "🎉" {
		t.Errorf("%d reactions are queued", len(rows))
	} else if !w.read(rows[0].Plaintext).GetReactionMessage().GetKey().GetFromMe() {
		t.Error("a reaction to an own message is one to the other person's")
	}
	if strings.Contains(w.notices(), "not bridged") {
		t.Errorf("the person was bothered: %s", w.notices())
	}
}

func TestWhatIsNoEmojiIsRefusedInWordsAndAReactionOfTheOthersStays(t *testing.T) {
	w := newWorld(t)
	w.say("THEIRS", "hm")
	target := w.shown("hm")
	w.fromPerson("$p1", "m.reaction", related("m.annotation", target, map[string]any{"key": "mxc://example.org/picture"}))
	w.fromPerson("$p2", "m.reaction", related("m.annotation", target, map[string]any{"key": "very good"}))
	if len(w.queued()) != 0 || !strings.Contains(w.notices(), "single emoji") {
		t.Errorf("%d queued, the person reads %q", len(w.queued()), w.notices())
	}
	w.deliver("R", &waE2E.Message{ReactionMessage: reactionTo("THEIRS", true, "👍")})
	theirs := w.matrix.await(t, func(events []*fakeEvent) bool { return len(events) > 0 && events[len(events)-1].Type == "m.reaction" })
	w.fromPerson("$p3", "m.room.redaction", map[string]any{"redacts": string(theirs[len(theirs)-1].ID)})
	if len(w.queued()) != 0 || !strings.Contains(w.notices(), "deletion was not bridged: Only the other person can take back") {
		t.Errorf("%d queued, the person reads %q", len(w.queued()), w.notices())
	}
}

func TestAReactionToWhatThePhoneDoesNotHaveIsRefusedInWords(t *testing.T) {
	w := newWorld(t)
	w.fromPerson("$p1", "m.reaction", related("m.annotation", "$a notice of the bot's", map[string]any{"key": "👍"}))
	if notices := w.notices(); len(w.queued()) != 0 || !strings.Contains(notices, "Your reaction was not bridged: The message that you reacted to") {
		t.Errorf("%d queued, the person reads %q", len(w.queued()), notices)
	}
}

func TestAnEditGoesAsAMessageThatQuotesTheOldOne(t *testing.T) {
	w := newWorld(t)
	w.own("MINE", "$mine")
	edit := related("m.replace", "$mine", map[string]any{"msgtype": "m.text", "body": "* better", "m.new_content": text("better")})
	w.fromPerson("$edit", "m.room.message", edit)
	w.fromPerson("$edit", "m.room.message", edit) // handed over again
	rows := w.queued()
	if len(rows) != 1 {
		t.Fatalf("%d parts; %s", len(rows), w.notices())
	}
	got := w.read(rows[0].Plaintext).GetExtendedTextMessage()
	if !strings.Contains(got.GetText(), "Edited: better") || got.GetContextInfo().GetStanzaID() != "MINE" {
		t.Errorf("the phone gets %v", got)
	}
	row, err := w.connector.bridge.DB.Message.GetPartByMXID(t.Context(), "$edit")
	if err != nil || row == nil || row.Metadata.(*MessageMetadata).EditOf != "$mine" {
		t.Errorf("the framework's row: %+v %v", row, err)
	}
	w.fromPerson("$late", "m.room.message", related("m.replace", "$never", map[string]any{"msgtype": "m.text", "body": "* x", "m.new_content": text("x")}))
	if notices := w.notices(); len(w.queued()) != 1 || !strings.Contains(notices, "send it as a new message") {
		t.Errorf("an edit of what was never sent: %q", notices)
	}
}

func TestAnEditThatChangesNothingIsNotSent(t *testing.T) {
	w := newWorld(t)
	w.fromPerson("$mine", "m.room.message", text("old"))
	edit := func(evt id.EventID, words string, want int) {
		t.Helper()
		w.fromPerson(evt, "m.room.message", related("m.replace", "$mine", map[string]any{"msgtype": "m.text", "body": "* " + words, "m.new_content": text(words)}))
		if got := len(w.queued()); got != want {
			t.Errorf("%s: %d parts are queued, want %d", evt, got, want)
		}
	}
	edit("$e1", "old", 1)
	edit("$e2", "new", 2)
	edit("$e2", "new", 2) // handed over again
	edit("$e3", "new", 2)
	edit("$e4", "old", 3) // the other side has "new"
	failed := interop.OutStatus{EventID: "$e4", RoomID: fakeRoom.String(), Chat: w.peer.Chat, State: interop.OutFailed, Reason: interop.ReasonNoAnswer, At: time.Now()}
	if err := w.client.Status(t.Context(), failed); err != nil {
		t.Fatal(err)
	}
	edit("$e5", "old", 4)
	edit("$e6", "old", 4)
	if strings.Contains(w.notices(), "not bridged") {
		t.Errorf("the person reads %q", w.notices())
	}
}

func TestADeletionIsAnsweredAndSendsNothing(t *testing.T) {
	w := newWorld(t)
	w.own("MINE", "$mine")
	w.say("THEIRS", "theirs")
	w.fromPerson("$p1", "m.room.redaction", map[string]any{"redacts": "$mine"})
	w.fromPerson("$p2", "m.room.redaction", map[string]any{"redacts": string(w.shown("theirs"))})
	notices := w.notices()
	if len(w.queued()) != 0 || !strings.Contains(notices, "still there for them") || !strings.Contains(notices, "gone from this room only") {
		t.Errorf("the person reads %q", notices)
	}
	w.fromPerson("$p3", "m.room.message", related("m.replace", "$mine", map[string]any{"msgtype": "m.text", "body": "* x", "m.new_content": text("x")}))
	if len(w.queued()) != 0 || !strings.Contains(w.notices(), "edited message was deleted") {
		t.Errorf("an edit of what is gone: %q", w.notices())
	}
	for _, evt := range []id.EventID{"$mine", w.shown("theirs")} {
		if row, err := w.connector.bridge.DB.Message.GetPartByMXID(t.Context(), evt); err != nil || row == nil {
			t.Errorf("%s is forgotten (%v)", evt, err)
		}
	}
}

func TestWhereTheOtherSideCanChangeAndDeleteThatIsWhatHappens(t *testing.T) {
	w := newWorld(t)
	w.client.profile.Features.Edits, w.client.profile.Features.Deletions = true, true
	w.own("MINE", "$mine")
	w.fromPerson("$edit", "m.room.message", related("m.replace", "$mine", map[string]any{"msgtype": "m.text", "body": "* new", "m.new_content": text("new")}))
	w.fromPerson("$gone", "m.room.redaction", map[string]any{"redacts": "$mine"})
	rows := w.queued()
	if len(rows) != 2 {
		t.Fatalf("%d parts; %s", len(rows), w.notices())
	}
	edit, revoke := w.read(rows[0].Plaintext).GetProtocolMessage(), w.read(rows[1].Plaintext).GetProtocolMessage()
	if edit.GetType() != waE2E.ProtocolMessage_MESSAGE_EDIT || edit.GetEditedMessage().GetConversation() != "new" || edit.GetKey().GetID() != "MINE" || !edit.GetKey().GetFromMe() {
		t.Errorf("the edit is %v", edit)
	}
	if revoke.GetType() != waE2E.ProtocolMessage_REVOKE || revoke.GetKey().GetID() != "MINE" || revoke.GetKey().GetRemoteJID() != testPeer.String() {
		t.Errorf("the deletion is %v", revoke)
	}
	if row, err := w.connector.bridge.DB.Message.GetPartByMXID(t.Context(), "$mine"); err != nil || row != nil {
		t.Errorf("what was deleted is still known: %v %v", row, err)
	}
	if notices := w.notices(); notices != "" {
		t.Errorf("the person reads %q", notices)
	}
}

// FuzzEventsOfOtherKinds carries any content as an event that the framework has no way for: it has an id to go under, and package convert
// says what it is or that it is nothing. What is allocated is bounded by 256 KiB and 512 bytes for each byte.
//
// decoder: handlematrixother.go:carryOther handlematrixother.go:sourceEvent
func FuzzEventsOfOtherKinds(f *testing.F) {
	f.Add("m.beacon", []byte(`{"m.relates_to":{"rel_type":"m.reference","event_id":"$a"},"m.location":{"uri":"geo:1,2"}}`))
	f.Add("m.poll.start", []byte(`{"m.poll":{"question":{"m.text":[{"body":"x"}]},"answers":[]}}`))
	f.Add("org.matrix.msc3381.poll.start", []byte(`{"m.relates_to":7}`))
	f.Fuzz(func(t *testing.T, kind string, content []byte) {
		evt := &event.Event{ID: "$self", Type: event.Type{Type: kind, Class: event.MessageEventType}}
		if json.Unmarshal(content, &evt.Content) != nil {
			return
		}
		boundedAllocation(t, 256<<10+512*len(content), func() {
			evt.Type.Type = kind
			carryOther(evt)
			if evt.Type != event.EventMessage || !carriedEvents[kind] {
				return
			}
			msg := &bridgev2.MatrixMessage{}
			msg.Event, msg.Content = evt, evt.Content.AsMessage()
			if sourceEvent(msg) == "" {
				t.Error("no id to go under")
			}
			messages, err := convert.EventToInterop(msg.Content.Body, evt.Content.VeryRaw, convert.Limits{})
			if err == nil && len(messages) == 0 {
				t.Error("neither text nor an error")
			}
		})
	})
}

func TestAttachmentsAreQueuedAsRecipesAndTooLargeOnesRefused(t *testing.T) {
	w := newWorld(t)
	image := map[string]any{
		"msgtype": "m.image", "body": "see", "filename": "a.png", "url": string(someURI), "info": map[string]any{"size": 1000, "mimetype": "image/png"},
	}
	w.fromPerson("$p1", "m.room.message", image)
	w.fromPerson("$p2", "m.sticker", map[string]any{"body": "a cat", "url": string(someURI), "info": map[string]any{}})
	image["info"] = map[string]any{"size": 65 << 20, "mimetype": "image/png"}
	w.fromPerson("$p3", "m.room.message", image)
	rows := w.queued()
	if len(rows) != 2 {
		t.Fatalf("%d parts; %s", len(rows), w.notices())
	}
	for i, role := range []string{"image", "sticker"} {
		r, err := readRecipe(rows[i].Recipe)
		if err != nil || string(r.Attachment.Role) != role || r.Attachment.URI != someURI || rows[i].Plaintext != nil {
			t.Errorf("%s: %+v %v", role, r, err)
		}
	}
	row, err := w.connector.bridge.DB.Message.GetPartByMXID(t.Context(), "$p1")
	if err != nil || row == nil || row.Metadata.(*MessageMetadata).Role != "image" {
		t.Errorf("the framework's row: %+v %v", row, err)
	}
	if notices := w.notices(); !strings.Contains(notices, "An image may have at most 64 MiB to be sent to this chat.") || strings.Contains(notices, "larger than the maximum") {
		t.Errorf("the person reads %q", notices)
	}
	words := w.client.failed(t.Context(), interop.OutStatus{EventID: "$p1", Reason: interop.ReasonTooLarge})
	if !strings.Contains(words, "64 MiB") || !strings.Contains(words, "an image") {
		t.Errorf("later: %q", words)
	}
}

func TestEventsOfOtherKindsAreQueuedAsText(t *testing.T) {
	w := newWorld(t)
	w.fromPerson("$p1", "org.matrix.msc3381.poll.start", map[string]any{"org.matrix.msc3381.poll.start": map[string]any{
		"question": map[string]any{"body": "Pizza?"}, "answers": []any{map[string]any{"id": "1", "body": "Yes"}},
	}})
	w.fromPerson("$p2", "m.room.message", map[string]any{"msgtype": "m.location", "body": "here", "geo_uri": "geo:52.5,13.4"})
	for _, evt := range []id.EventID{"$p3", "$p4"} {
		w.fromPerson(evt, "org.matrix.msc3672.beacon", related("m.reference", "$begun", map[string]any{"org.matrix.msc3488.location": map[string]any{"uri": "geo:1,2"}}))
	}
	w.fromPerson("$p5", "org.matrix.msc3381.poll.response", related("m.reference", "$p1", map[string]any{"org.matrix.msc3381.poll.response": map[string]any{"answers": []any{"1"}}}))
	rows := w.queued()
	if len(rows) != 3 {
		t.Fatalf("%d parts; %s", len(rows), w.notices())
	}
	for i, want := range []string{"Pizza?", "52.5", "1.0"} {
		if got := w.read(rows[i].Plaintext).GetConversation(); !strings.Contains(got, want) {
			t.Errorf("%d is %q", i, got)
		}
	}
	if !strings.Contains(w.notices(), "Votes") {
		t.Errorf("the person reads %q", w.notices())
	}
}

func TestAPositionThatRefersToAnOrdinaryMessageIsRefusedInWords(t *testing.T) {
	w := newWorld(t)
	w.own("MINE", "$mine")
	w.say("THEIRS", "theirs")
	w.fromPerson("$r", "m.reaction", related("m.annotation", "$mine", map[string]any{"key": "👍"}))
	for i, target := range []id.EventID{"$mine", w.shown("theirs"), "$r"} {
		before := len(w.queued())
		w.fromPerson(id.EventID(fmt.Sprintf("$p%d", i)), "org.matrix.msc3672.beacon",
			related("m.reference", target, map[string]any{"org.matrix.msc3488.location": map[string]any{"uri": "geo:1,2"}}))
		if got := strings.Count(w.notices(), "is no live location"); got != i+1 || len(w.queued()) != before {
			t.Errorf("%s: %d notices, %d queued", target, got, len(w.queued())-before)
		}
	}
}

func TestReadingIsToldUpToTheRightMessage(t *testing.T) {
	w := newWorld(t)
	store := NewAccountStore(w.connector.db, w.account, "whatsapp")
	for i, stanza := range []string{"A", "B", "C"} {
		w.say(stanza, "text "+stanza)
		row := &interop.InRow{Seq: int64(i + 1), Chat: w.peer.Chat, Class: interop.ClassMessage, ID: stanza, Kind: interop.KindMessage, State: interop.InDone}
		if err := store.InsertInbound(t.Context(), row); err != nil {
			t.Fatal(err)
		}
	}
	due := func() (ids []string) {
		rows, err := store.DueReads(t.Context(), w.peer.Chat, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			ids = append(ids, r.ID)
		}
		return ids
	}
	receipt := func(evt id.EventID, at time.Time) {
		content := event.ReceiptEventContent{evt: {event.ReceiptTypeRead: {fakePerson: event.ReadReceipt{Timestamp: at}, "@other:test": event.ReadReceipt{Timestamp: at}}}}
		w.connector.bridge.QueueMatrixEvent(t.Context(), &event.Event{
			Type: event.EphemeralEventReceipt, RoomID: fakeRoom, Content: event.Content{Parsed: &content},
			Mautrix: event.MautrixInfo{EventSource: event.SourceEphemeral},
		})
	}
	w.own("MINE", "$mine")
	receipt(w.shown("text B"), time.Now())
	if got := strings.Join(due(), ""); got != "AB" {
		t.Errorf("read up to B: %s", got)
	}
	receipt("$something else", time.Now().Add(time.Second)) // all that was shown before
	if got := strings.Join(due(), ""); got != "ABC" {
		t.Errorf("read up to now: %s", got)
	}
	// Two of the same second: who has read the first has not read the second.
	second := time.Unix(time.Now().Add(time.Minute).Unix(), 0)
	for i, stanza := range []string{"D", "E"} {
		in := w.inbound(stanza, &waE2E.Message{Conversation: proto.String("text " + stanza)})
		in.Timestamp = second
		if err := w.client.Deliver(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		row := &interop.InRow{Seq: int64(i + 10), Chat: w.peer.Chat, Class: interop.ClassMessage, ID: stanza, Kind: interop.KindMessage, State: interop.InDone}
		if err := store.InsertInbound(t.Context(), row); err != nil {
			t.Fatal(err)
		}
	}
	receipt(w.shown("text D"), time.Now())
	if got := strings.Join(due(), ""); got != "ABCD" {
		t.Errorf("read up to D: %s", got)
	}
	w.client.profile.Features.ReadReceipts = false
	if err := w.client.HandleMatrixReadReceipt(t.Context(), &bridgev2.MatrixReadReceipt{}); err != nil {
		t.Errorf("a gatekeeper without them: %v", err)
	}
}

func TestTheIDThatTheOtherSideHasIsLearntFromTheStatus(t *testing.T) {
	w := newWorld(t)
	w.own("FIRST", "$mine")
	status := interop.OutStatus{
		EventID: "$mine", RoomID: fakeRoom.String(), Chat: w.peer.Chat, State: interop.OutSent, StanzaIDs: []string{"SECOND"}, At: time.Now(),
	}
	for range 2 {
		if err := w.client.Status(t.Context(), status); err != nil {
			t.Fatal(err)
		}
	}
	w.fromPerson("$r", "m.reaction", related("m.annotation", "$mine", map[string]any{"key": "👍"}))
	rows := w.queued()
	if len(rows) != 1 || w.read(rows[0].Plaintext).GetReactionMessage().GetKey().GetID() != "SECOND" {
		t.Errorf("%d reactions, %s", len(rows), w.notices())
	}
	status = interop.OutStatus{EventID: "$r", RoomID: fakeRoom.String(), Chat: w.peer.Chat, State: interop.OutFailed, Reason: interop.ReasonBlocked, At: time.Now()}
	if err := w.client.Status(t.Context(), status); err != nil || !strings.Contains(w.notices(), "Your reaction was not delivered") {
		t.Errorf("the person reads %q (%v)", w.notices(), err)
	}
}

// refuseRedactions lets the homeserver answer redactions with a status.
func refuseRedactions(status int) func(*http.Request) int {
	return func(r *http.Request) int {
		if strings.Contains(r.URL.Path, "/redact/") {
			return status
		}
		return 0
	}
}

// reactionTo is a reaction of the other person's; fromMe says that the message is theirs.
func reactionTo(stanza string, fromMe bool, emoji string) *waE2E.ReactionMessage {
	return &waE2E.ReactionMessage{Key: &waCommon.MessageKey{ID: &stanza, FromMe: &fromMe}, Text: &emoji}
}
