package connector

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/database"
)

// file is what a message's event points at in the homeserver.
func (w *world) file(content map[string]any) []byte {
	w.t.Helper()
	address, _ := content["url"].(string)
	w.matrix.mu.Lock()
	defer w.matrix.mu.Unlock()
	return w.matrix.uploads[address]
}

// newContent is what an edit says.
func newContent(e *fakeEvent) map[string]any {
	content, _ := e.Content["m.new_content"].(map[string]any)
	return content
}

// spoolIsEmpty checks that nothing was left behind.
func (w *world) spoolIsEmpty() {
	w.t.Helper()
	left, err := filepath.Glob(filepath.Join(w.connector.spool, "in-*"))
	if err != nil || len(left) > 0 {
		w.t.Errorf("left in the spool folder: %v %v", left, err)
	}
}

func TestAnImageIsFetchedCheckedAndShown(t *testing.T) {
	w := newWorld(t)
	picture := png(640, 480)
	path := "/v/t/62.7118-24/1234_n.enc?ccb=11-4&oh=01_Q5&oe=66&_nc_sid=5e03e0"
	msg := w.host.image(t, path, "look *here*", picture)
	w.deliver("A", msg)
	list := w.expect("m.room.message look")
	content := list[0].Content
	if !bytes.Equal(w.file(content), picture) {
		t.Error("the homeserver has another file")
	}
	info, _ := content["info"].(map[string]any)
	if content["msgtype"] != "m.image" || content["filename"] == "" || info["mimetype"] != "image/png" || info["size"] != float64(len(picture)) {
		t.Errorf("content %v", content)
	}
	if w.host.times(path) != 1 {
		t.Errorf("asked for %v", w.host.asked)
	}
	w.deliver("A", msg)
	if w.expect("m.room.message look"); w.host.times(path) != 1 {
		t.Error("fetched again though Matrix has it")
	}
	w.spoolIsEmpty()
}

func TestWhatCannotBeFetchedIsNamedAndTheTextBehindItArrives(t *testing.T) {
	for _, c := range []struct {
		name, want string
		spoil      func(w *world, m *waE2E.ImageMessage)
	}{
		{"it is gone", "does not have it", func(w *world, m *waE2E.ImageMessage) { m.DirectPath = proto.String("/v/t/nothing") }},
		{"another file is there", "not what was sent", func(w *world, m *waE2E.ImageMessage) { w.host.files["/v/t/a"][20] ^= 1 }},
		{"another key", "not what was sent", func(w *world, m *waE2E.ImageMessage) { m.MediaKey[3] ^= 1 }},
		{"it is longer than told", "not what was sent", func(w *world, m *waE2E.ImageMessage) { m.FileLength = proto.Uint64(3) }},
		{"it is too large", "larger than this bridge takes", func(w *world, m *waE2E.ImageMessage) { m.FileLength = proto.Uint64(1 << 40) }},
		{"it is too large and does not say so", "larger than this bridge takes", func(w *world, m *waE2E.ImageMessage) {
			m.FileLength = nil
			w.connector.Config.Media.maxDownload = 10
		}},
		{"the homeserver does not take that much", "larger than your homeserver takes", func(w *world, m *waE2E.ImageMessage) {
			w.connector.matrix.MediaConfig.UploadSize = 10
		}},
		{"the homeserver refuses its size", "larger than your homeserver takes", func(w *world, m *waE2E.ImageMessage) {
			w.matrix.setBefore(func(r *http.Request) int {
				if strings.HasSuffix(r.URL.Path, "/upload") {
					return 413
				}
				return 0
			})
		}},
		{"the homeserver refuses it", "your homeserver does not take it", func(w *world, m *waE2E.ImageMessage) {
			w.matrix.setBefore(func(r *http.Request) int {
				if strings.HasSuffix(r.URL.Path, "/upload") {
					return 403
				}
				return 0
			})
		}},
		{"the host is out of order", "could not be fetched in time", func(w *world, m *waE2E.ImageMessage) {
			w.host.answers(func(rw http.ResponseWriter, r *http.Request) bool { rw.WriteHeader(503); return true })
		}},
		{"the host sends elsewhere", "does not have it", func(w *world, m *waE2E.ImageMessage) {
			other := newFakeHost(w.t)
			other.files["/v/t/a"] = w.host.files["/v/t/a"]
			w.host.answers(func(rw http.ResponseWriter, r *http.Request) bool {
				http.Redirect(rw, r, other.url+"/v/t/a", http.StatusFound)
				return true
			})
		}},
		{"the spool folder is not there", "no room for it", func(w *world, m *waE2E.ImageMessage) { w.connector.spool += "/nothing" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			msg := w.host.image(t, "/v/t/a", "look", png(3, 2))
			c.spoil(w, msg.ImageMessage)
			w.deliver("A", msg)
			w.say("B", "the text behind it")
			list := w.expect("m.room.message "+c.want, "m.room.message the text behind it")
			if said := body(list[0]); !strings.Contains(said, "an image") || !strings.Contains(said, "look") || !strings.Contains(said, "!postern retry-media") {
				t.Errorf("placeholder: %q", said)
			}
			if list[0].Content["msgtype"] != "m.notice" {
				t.Errorf("the placeholder is a %v", list[0].Content["msgtype"])
			}
			w.spoolIsEmpty()
		})
	}
}

// retry runs the command as an answer to an event, "" for none.
func (w *world) retry(evt id.EventID) int {
	w.t.Helper()
	portal, err := w.connector.bridge.GetExistingPortalByKey(w.t.Context(), portalKey(w.account, w.peer.Chat))
	if err != nil {
		w.t.Fatal(err)
	}
	n, err := w.client.retry(w.t.Context(), portal.Portal, evt)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func TestRetryMediaPutsTheFileInThePlaceOfItsPlaceholder(t *testing.T) {
	for _, restart := range []bool{false, true} {
		w := newWorld(t)
		picture := png(30, 20)
		msg := w.host.image(t, "/v/t/a", "look", picture)
		kept := w.host.files["/v/t/a"]
		delete(w.host.files, "/v/t/a")
		w.deliver("A", msg)
		w.say("B", "text")
		list := w.expect("m.room.message does not have it", "m.room.message text")
		if n := w.retry(list[1].ID); n != 0 {
			t.Errorf("%d attachments behind a text", n)
		}
		if n := w.retry(list[0].ID); n != 1 {
			t.Errorf("%d attachments behind a placeholder", n)
		}
		list = w.matrix.await(t, func(list []*fakeEvent) bool { return len(list) == 3 })
		if said, _ := newContent(list[2])["body"].(string); !strings.Contains(said, "That was try 2") || relation(list[2], "event_id") != string(list[0].ID) {
			t.Errorf("after a second failure: %q", said)
		}
		w.awaitState(t, "A", database.IncomingMediaMissing)
		if restart {
			w.restart()
		}
		w.host.mu.Lock()
		w.host.files["/v/t/a"] = kept
		w.host.mu.Unlock()
		if n := w.retry(""); n != 1 {
			t.Errorf("%d attachments are missing in the room", n)
		}
		list = w.matrix.await(t, func(list []*fakeEvent) bool { return len(list) == 4 })
		content := newContent(list[3])
		if content["msgtype"] != "m.image" || content["body"] != "look" || !bytes.Equal(w.file(content), picture) || relation(list[3], "event_id") != string(list[0].ID) {
			t.Errorf("in the placeholder's place: %v", list[3].Content)
		}
		w.awaitState(t, "A", database.IncomingMediaShown)
		if n := w.retry(""); n != 0 {
			t.Errorf("%d attachments are missing after that", n)
		}
		w.spoolIsEmpty()
	}
}

// awaitState waits until an attachment is in a state and nothing is being done with it.
func (w *world) awaitState(t *testing.T, stanza string, state database.IncomingMediaState) *database.IncomingMedia {
	t.Helper()
	for limit := time.Now().Add(60 * time.Second); ; {
		row, err := w.connector.db.IncomingMedia().Get(t.Context(), w.peer.Chat, stanza)
		if err != nil {
			t.Fatal(err)
		}
		w.client.arrivals.mu.Lock()
		busy := len(w.client.arrivals.jobs)
		w.client.arrivals.mu.Unlock()
		if row != nil && row.State == state && busy == 0 {
			return row
		}
		if time.Now().After(limit) {
			t.Fatalf("attachment is %+v", row)
		}
		time.Sleep(time.Millisecond)
	}
}

// slow makes the host answer when the returned function is called, and tells when it was asked.
func (w *world) slow() (asked chan struct{}, release func()) {
	asked, gate := make(chan struct{}, 10), make(chan struct{})
	w.host.answers(func(_ http.ResponseWriter, r *http.Request) bool {
		asked <- struct{}{}
		select {
		case <-gate:
		case <-r.Context().Done():
		}
		return false
	})
	return asked, func() { close(gate) }
}

func TestASlowAttachmentHoldsNothingUpAndComesInTheEnd(t *testing.T) {
	for _, restart := range []bool{false, true} {
		w := newWorld(t)
		w.client.arrivals.patience = time.Millisecond
		picture := png(30, 20)
		asked, release := w.slow()
		w.deliver("A", w.host.image(t, "/v/t/a", "look", picture))
		w.say("B", "text")
		w.expect("m.room.message still being fetched", "m.room.message text")
		<-asked
		if restart {
			w.restart()
			<-asked
		}
		release()
		list := w.matrix.await(t, func(list []*fakeEvent) bool { return len(list) == 3 })
		if content := newContent(list[2]); content["msgtype"] != "m.image" || !bytes.Equal(w.file(content), picture) {
			t.Errorf("in the end: %v", list[2].Content)
		}
		w.awaitState(t, "A", database.IncomingMediaShown)
		w.spoolIsEmpty()
	}
}

func TestAPlaceholderThatMayBeInTheRoomIsNotFollowedByTheFileAsASecondMessage(t *testing.T) {
	w := newWorld(t)
	w.client.arrivals.patience = time.Millisecond
	_, release := w.slow()
	cut := true
	w.matrix.setAfter(func(r *http.Request) int {
		if cut && strings.Contains(r.URL.Path, "/send/") {
			cut = false
			return -1
		}
		return 0
	})
	in := w.inbound("A", w.host.image(t, "/v/t/a", "look", png(3, 2)))
	if err := w.client.Deliver(t.Context(), in); err == nil {
		t.Fatal("delivered though the homeserver did not answer")
	}
	release()
	w.matrix.restart()
	if err := w.client.Deliver(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	list := w.matrix.await(t, func(list []*fakeEvent) bool { return len(list) == 2 })
	if relation(list[1], "event_id") != string(list[0].ID) || newContent(list[1])["msgtype"] != "m.image" {
		t.Errorf("the room: %s", w.matrix.dump())
	}
	w.awaitState(t, "A", database.IncomingMediaShown)
}

func TestAFileThatWasUploadedIsNotFetchedAgainWhenItsEventIsSentAgain(t *testing.T) {
	w := newWorld(t)
	w.matrix.setBefore(func(r *http.Request) int {
		if strings.Contains(r.URL.Path, "/send/") {
			return -1
		}
		return 0
	})
	in := w.inbound("A", w.host.image(t, "/v/t/a", "look", png(3, 2)))
	if err := w.client.Deliver(t.Context(), in); err == nil {
		t.Fatal("delivered though the homeserver did not answer")
	}
	w.restart()
	w.matrix.setBefore(nil)
	if err := w.client.Deliver(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	w.expect("m.room.message look")
	if n := w.host.times("/v/t/a"); n != 1 || len(w.matrix.uploads) != 1 {
		t.Errorf("fetched %d times, uploaded %d times", n, len(w.matrix.uploads))
	}
}

// captionEdit is an edit of an image's caption.
func captionEdit(target string, image *waE2E.Message, caption string) *waE2E.Message {
	changed := proto.Clone(image).(*waE2E.Message)
	changed.ImageMessage.Caption = &caption
	return &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_MESSAGE_EDIT.Enum(), Key: keyTo(target, true), EditedMessage: changed,
	}}
}

func TestACaptionIsEditedAndTheFileStays(t *testing.T) {
	w := newWorld(t)
	picture := png(30, 20)
	msg := w.host.image(t, "/v/t/a", "look", picture)
	w.deliver("A", msg)
	w.deliver("E", captionEdit("A", msg, "look *there*"))
	list := w.expect("m.room.message look", "m.room.message")
	content := newContent(list[1])
	if content["body"] != "look *there*" || content["msgtype"] != "m.image" || !bytes.Equal(w.file(content), picture) {
		t.Errorf("edited: %v", list[1].Content)
	}
	w.deliver("E2", captionEdit("A", msg, ""))
	list = w.expect("m.room.message look", "m.room.message", "m.room.message")
	if content = newContent(list[2]); content["body"] != content["filename"] || !bytes.Equal(w.file(content), picture) {
		t.Errorf("without its caption: %v", list[2].Content)
	}
}

func TestACaptionThatWasEditedWhileTheFileWasMissingComesWithIt(t *testing.T) {
	w := newWorld(t)
	msg := w.host.image(t, "/v/t/a", "look", png(3, 2))
	kept := w.host.files["/v/t/a"]
	delete(w.host.files, "/v/t/a")
	w.deliver("A", msg)
	w.deliver("E", captionEdit("A", msg, "look there"))
	list := w.expect("m.room.message look", "m.room.message")
	if said, _ := newContent(list[1])["body"].(string); !strings.Contains(said, "look there") || !strings.Contains(said, "an image") {
		t.Errorf("the placeholder says %q", said)
	}
	w.host.mu.Lock()
	w.host.files["/v/t/a"] = kept
	w.host.mu.Unlock()
	w.retry("")
	list = w.matrix.await(t, func(list []*fakeEvent) bool { return len(list) == 3 })
	if content := newContent(list[2]); content["body"] != "look there" || content["msgtype"] != "m.image" {
		t.Errorf("the file says %v", content)
	}
}

func TestAMissingFileWhoseMessageIsTakenBackIsForgotten(t *testing.T) {
	w := newWorld(t)
	w.deliver("A", func() *waE2E.Message {
		m := w.host.image(t, "/v/t/a", "", png(3, 2))
		delete(w.host.files, "/v/t/a")
		return m
	}())
	w.deliver("D", revoke("A"))
	w.expect()
	if row, err := w.connector.db.IncomingMedia().Get(t.Context(), w.peer.Chat, "A"); row != nil || err != nil {
		t.Errorf("kept: %+v %v", row, err)
	}
	if n := w.retry(""); n != 0 {
		t.Errorf("%d attachments are missing", n)
	}
}

func TestWhatIsInAnEncryptedRoomIsUploadedEncrypted(t *testing.T) {
	w := newWorld(t)
	if err := w.connector.matrix.StateStore.SetEncryptionEvent(t.Context(), fakeRoom, &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1}); err != nil {
		t.Fatal(err)
	}
	secret := bytes.Repeat([]byte("a picture of something "), 5000)
	uploaded, err := w.connector.uploadBytes(t.Context(), fakeRoom, w.ghost, secret, "image/png", "secret.png", false)
	if err != nil || uploaded.URL != "" || uploaded.File == nil {
		t.Fatalf("%+v %v", uploaded, err)
	}
	stored := w.matrix.uploads[string(uploaded.File.URL)]
	if bytes.Contains(stored, []byte("picture")) || len(stored) != len(secret) {
		t.Error("the file is readable in the homeserver")
	}
	plain, err := io.ReadAll(uploaded.File.DecryptStream(bytes.NewReader(stored)))
	if err != nil || !bytes.Equal(plain, secret) {
		t.Errorf("decrypted to something else: %v", err)
	}
	for _, call := range w.matrix.calls {
		if strings.Contains(call, "secret") {
			t.Errorf("the name was told: %s", call)
		}
	}
	// The framework's own way needs what a fake homeserver has not.
	if _, err := json.Marshal(uploaded.File); err != nil {
		t.Error(err)
	}
}

func TestTypingIsShownByTheGhost(t *testing.T) {
	w := newWorld(t)
	w.say("A", "hello")
	var puts []string
	w.matrix.setBefore(func(r *http.Request) int {
		if strings.Contains(r.URL.Path, "/typing/") {
			puts = append(puts, r.URL.Path)
		}
		return 0
	})
	for _, typing := range []bool{true, true, false} {
		w.client.Typing(t.Context(), typingOf(w.peer, typing, typing))
	}
	if len(puts) != 3 || !strings.HasSuffix(puts[0], w.ghost.String()) {
		t.Errorf("typing set at %v", puts)
	}
}

func TestWhatWasFetchedIsNotReadableByOthers(t *testing.T) {
	w := newWorld(t)
	f, err := w.connector.newSpooled()
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	f.remove()
	if _, err := os.Stat(f.Name()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after its removal: %v", err)
	}
}

func TestAHomeserverThatIsAwayIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	left := 10
	w.matrix.setBefore(func(r *http.Request) int {
		if strings.HasSuffix(r.URL.Path, "/upload") && left > 0 {
			left--
			return []int{-1, 502, 503, 429}[left%4]
		}
		return 0
	})
	w.deliver("A", w.host.image(t, "/v/t/a", "look", png(3, 2)))
	if list := w.expect("m.room.message look"); list[0].Content["msgtype"] != "m.image" || w.host.times("/v/t/a") != 1 {
		t.Errorf("shown as %v, fetched %d times", list[0].Content["msgtype"], w.host.times("/v/t/a"))
	}
}

func TestAFileThatMakesTheHomeserverFailIsGivenUp(t *testing.T) {
	w := newWorld(t)
	w.matrix.setBefore(func(r *http.Request) int {
		if strings.HasSuffix(r.URL.Path, "/upload") {
			return 500
		}
		return 0
	})
	w.deliver("A", w.host.image(t, "/v/t/a", "look", png(3, 2)))
	w.expect("m.room.message could not be fetched in time")
}

func TestKindsThatHaveNoFileHaveTheirForms(t *testing.T) {
	w := newWorld(t)
	card := "BEGIN:VCARD\nVERSION:3.0\nFN:Dana\nTEL;waid=4915112345678:+49 151 12345678\nEND:VCARD\n"
	w.deliver("L", &waE2E.Message{LocationMessage: &waE2E.LocationMessage{
		DegreesLatitude: proto.Float64(52.5), DegreesLongitude: proto.Float64(13.4), Name: proto.String("Here"),
	}})
	w.deliver("C", &waE2E.Message{ContactMessage: &waE2E.ContactMessage{DisplayName: proto.String("Dana"), Vcard: &card}})
	w.deliver("P", &waE2E.Message{PollCreationMessage: &waE2E.PollCreationMessage{
		Name: proto.String("Tea or coffee?"), Options: []*waE2E.PollCreationMessage_Option{{OptionName: proto.String("Tea")}, {OptionName: proto.String("Coffee")}},
	}})
	var types []string
	var cards int
	for _, e := range w.matrix.timeline() {
		types = append(types, fmt.Sprint(e.Content["msgtype"]))
		if e.Content["msgtype"] == "m.file" {
			cards++
			if strings.TrimSpace(string(w.file(e.Content))) != strings.TrimSpace(card) {
				t.Errorf("the card is %q", w.file(e.Content))
			}
		}
		if e.Content["msgtype"] == "m.location" && e.Content["geo_uri"] == nil {
			t.Errorf("location %v", e.Content)
		}
	}
	if cards != 1 || !strings.Contains(strings.Join(types, " "), "m.location") || !strings.Contains(w.matrix.dump(), "Coffee") {
		t.Errorf("shown as %v: %s", types, w.matrix.dump())
	}
}

func TestWhatIsToBeSeenOnceIsANoticeUnlessTheOperatorWantsOtherwise(t *testing.T) {
	w := newWorld(t)
	once := func(path string) *waE2E.Message {
		return &waE2E.Message{ViewOnceMessage: &waE2E.FutureProofMessage{Message: w.host.image(t, path, "", png(3, 2))}}
	}
	w.deliver("A", once("/v/t/a"))
	w.connector.Config.Media.ViewOnce = viewOnceShow
	w.deliver("B", once("/v/t/b"))
	list := w.matrix.timeline()
	if len(list) != 2 || list[0].Content["msgtype"] != "m.notice" || list[1].Content["msgtype"] != "m.image" || w.host.times("/v/t/a") != 0 {
		t.Errorf("shown: %s", w.matrix.dump())
	}
}
