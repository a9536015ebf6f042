package faults_test

import (
	"net/http"
	"testing"

	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
	"postern/connector/killpoint"
)

// The row F-35, from the phone to Matrix, and what of F-16 concerns attachments that come later than their messages.

// askAgain lets alice answer what stands in the place of an attachment with the command that fetches it again.
func (c *chat) askAgain(event string) {
	r := c.r
	r.t.Helper()
	content := map[string]any{
		"msgtype": "m.text", "body": r.BotPrefix + " retry-media", "m.relates_to": map[string]any{"m.in_reply_to": map[string]any{"event_id": event}},
	}
	must(r.alice.Send(r.ctx, c.room, "m.room.message", event, content))(r.t)
}

// TestF35AMediaHostThatIsWrong: an attachment comes all the same, or something that says why it does not is in its place, words behind it
// do not wait, and it comes when it is asked for again.
func TestF35AMediaHostThatIsWrong(t *testing.T) {
	kinds := []struct {
		fault string
		count int
		words string // of what stands in its place; none: it comes by itself
	}{
		{"404", 1, "does not have it"}, {"damaged", 1, "is not what was sent"}, {"short", 1, "is not what was sent"}, {"long", 1, "is not what was sent"},
		{"away", 1, ""}, {"503", 1, ""}, {"cut", 1, ""}, {"slow", 1, ""},
	}
	if all() {
		kinds = append(kinds, kinds[0])
		kinds[len(kinds)-1].fault, kinds[len(kinds)-1].count, kinds[len(kinds)-1].words = "cut", -1, "could not be fetched in time"
	}
	for _, kind := range kinds {
		name := kind.fault
		if kind.count < 0 {
			name += ", again and again"
		}
		t.Run(name, func(t *testing.T) {
			each(t, func(r *rig) {
				c := r.newChat()
				r.files.is(kind.fault, kind.count)
				caption := c.fileFromPhone(true)
				c.fromPhone(1)
				if kind.words != "" {
					event := c.missing(caption, kind.words)
					c.settled()
					r.files.is("", 0)
					c.askAgain(event)
					c.expectBody(caption, func(body string) bool { return body == caption })
				}
				c.fromMatrix(1)
				c.check()
				if n := r.files.times(); kind.words == "" && n != 1 {
					r.t.Errorf("the media host was wrong %d times, want once", n)
				}
				r.tidy()
			})
		})
	}
}

// TestF35AHomeserverThatDoesNotTakeAnAttachment: the same for the other side of its way.
func TestF35AHomeserverThatDoesNotTakeAnAttachment(t *testing.T) {
	kinds := map[string]struct {
		fault homeserver.Fault
		words string
	}{
		"500":       {homeserver.Fault{Status: 500, Count: 1}, ""},
		"no answer": {homeserver.Fault{Cut: true, Count: 1}, ""},
		"403":       {homeserver.Fault{Status: 403, Count: 1, Kind: "application/json", Body: `{"errcode":"M_FORBIDDEN","error":"no"}`}, "does not take it"},
		"too large": {homeserver.Fault{Status: 413, Count: 1, Kind: "application/json", Body: `{"errcode":"M_TOO_LARGE","error":"no"}`}, "larger than your homeserver takes"},
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			each(t, func(r *rig) {
				c := r.newChat()
				f := kind.fault
				f.Method, f.Path, f.Users = http.MethodPost, "/media/v3/upload", func(id string) bool { return id != r.alice.UserID }
				r.hs.AddFault(f)
				caption := c.fileFromPhone(true)
				c.fromPhone(1)
				if kind.words != "" {
					event := c.missing(caption, kind.words)
					c.settled()
					c.askAgain(event)
					c.expectBody(caption, func(body string) bool { return body == caption })
				}
				c.fromMatrix(1)
				c.check()
				r.tidy()
			})
		})
	}
}

// TestF16KilledWhileAnAttachmentIsAskedForAgain: it was missing, alice asks for it, and the bridge dies; the homeserver forgets transaction
// ids meanwhile. It takes its place once.
func TestF16KilledWhileAnAttachmentIsAskedForAgain(t *testing.T) {
	for _, point := range []string{killpoint.InFileAsked, killpoint.InFileWanted, killpoint.InFileUploaded, killpoint.InFileReplacing, killpoint.InFileReplaced} {
		t.Run(point, func(t *testing.T) {
			each(t, func(r *rig) {
				c := r.newChat()
				r.files.is("404", 1)
				caption := c.fileFromPhone(true)
				event := c.missing(caption, "does not have it")
				c.settled()
				r.ok(r.hs.Pushed(r.ctx))
				r.arm(point, 1)
				c.askAgain(event)
				r.dead(point)
				c.fromPhone(1)
				r.hs.ForgetTransactions()
				r.run()
				c.expectBody(caption, func(body string) bool { return body == caption })
				c.fromMatrix(1)
				c.check()
				if n := c.edits(event); n != 1 {
					r.t.Errorf("what stood in its place was replaced %d times, want once", n)
				}
				r.tidy()
			})
		})
	}
}

// TestF35AnAttachmentThatIsTakenBackWhileItIsMissing would come to nothing, and so it does.
func TestF35AnAttachmentThatIsTakenBackWhileItIsMissing(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		r.files.is("404", 1)
		text, id, err := c.attachPhone(true)
		r.ok(err)
		event := c.missing(text, "does not have it")
		must(r.Gatekeeper.Send(r.ctx, c.ben.Phone, parts.Content{To: r.identifier, Kind: "revoke", Target: id}))(r.t)
		must(r.hs.Expect(r.ctx, c.room, "the placeholder to be taken back", func(e *homeserver.Event) bool { return e.Redacts == event }))(r.t)
		c.askAgain(event)
		c.fromMatrix(1)
		c.settled()
		if n := c.edits(event); n != 0 {
			r.t.Errorf("what was taken back was replaced %d times", n)
		}
		if n := r.count("SELECT COUNT(*) FROM postern_incoming_media WHERE state <> 2"); n != 0 {
			r.t.Errorf("%d attachments are still asked for", n)
		}
		r.tidy()
	})
}
