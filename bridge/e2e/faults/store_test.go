package faults_test

import (
	"net/http"
	"os"
	"path"
	"strings"
	"testing"

	"postern/bridge/e2e/faults/homeserver"
	"postern/connector/killpoint"
	"postern/connector/mediastore"
)

// The row F-35, from Matrix to the phone: the store that the phone's attachments lie in is a folder here.

// failedAs waits until an event of alice's is told as failed, with these words.
func (c *chat) failedAs(event, words string) {
	r := c.r
	r.t.Helper()
	must(r.hs.Expect(r.ctx, c.room, "a failure with "+words, func(e *homeserver.Event) bool {
		st, ok := statusOf(e)
		return ok && st.event == event && st.step == failed && strings.Contains(string(e.Content), words)
	}))(r.t)
}

// takeBack leaves something that has failed out of what is compared.
func (c *chat) takeBack(event string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.matrix {
		if s.id == event {
			c.lost = append(c.lost, s.text)
			c.matrix = append(c.matrix[:i:i], c.matrix[i+1:]...)
			return
		}
	}
}

// TestF35AStoreThatIsAway: attachments wait, what is behind them too, and both go out in order when it is back.
func TestF35AStoreThatIsAway(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		away := r.storeDir() + ".away"
		r.ok(os.Rename(r.storeDir(), away))
		r.ok(os.WriteFile(r.storeDir(), nil, 0o600))
		r.hs.ForgetRequests()
		event := c.fileFromMatrix(true)
		c.fromMatrix(1)
		// It is tried more than once.
		tries := func() int {
			return len(r.hs.Requests(func(s *homeserver.Seen) bool { return strings.Contains(s.Path, "/media/download/") }))
		}
		r.until("a second try", func() bool { return tries() > 1 })
		for _, e := range r.phoneEvents(c.ben) {
			if e.Media != nil {
				r.t.Error("an attachment that is stored nowhere is referred to")
			}
		}
		r.ok(os.Remove(r.storeDir()))
		r.ok(os.Rename(away, r.storeDir()))
		c.fromPhone(1)
		c.check()
		if n := c.phoneHas(event); n != 1 {
			r.t.Errorf("the phone has it %d times", n)
		}
		r.tidy()
	})
}

// phoneHas is how often the phone has what alice has sent as an event.
func (c *chat) phoneHas(event string) (n int) {
	c.r.t.Helper()
	text := ""
	for _, s := range c.matrix {
		if s.id == event {
			text = s.text
		}
	}
	for _, e := range c.r.phoneEvents(c.ben) {
		if e.Kind == "message" && e.Text == text {
			n++
		}
	}
	return n
}

// TestF35AStoreThatStaysAway: after a minute the room says that the attachment was not sent, and the chat goes on.
func TestF35AStoreThatStaysAway(t *testing.T) {
	if !all() {
		t.Log("waits for a minute: only with POSTERN_ALL")
		return
	}
	each(t, func(r *rig) {
		c := r.newChat()
		away := r.storeDir() + ".away"
		r.ok(os.Rename(r.storeDir(), away))
		r.ok(os.WriteFile(r.storeDir(), nil, 0o600))
		event := c.fileFromMatrix(false)
		c.failedAs(event, "could not store it")
		c.takeBack(event)
		c.fromMatrix(1)
		r.ok(os.Remove(r.storeDir()))
		r.ok(os.Rename(away, r.storeDir()))
		c.fileFromMatrix(false)
		c.check()
		r.tidy()
	})
}

// TestF35WhatGotLostBeforeItWasSentIsNotReferredTo: the bridge dies between the commit of the message and its encryption, and meanwhile the
// file is removed, cut, or changed by a bit. The room is told, and no phone.
func TestF35WhatGotLostBeforeItWasSentIsNotReferredTo(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"removed": os.Remove,
		"cut":     func(path string) error { return os.Truncate(path, 3) },
		"a bit":   turnBit,
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(r *rig) {
				c := r.newChat()
				r.ok(r.hs.Pushed(r.ctx))
				before := r.index()
				r.arm(killpoint.OutPrepared, 1)
				event := c.fileFromMatrix(true)
				c.fromMatrix(1)
				r.dead(killpoint.OutPrepared)
				lost := ""
				for name := range r.index() {
					if before[name] == "" {
						lost = name
					}
				}
				r.ok(harm(r.blobPath(lost)))
				r.run()
				c.failedAs(event, "Please send it again")
				c.takeBack(event)
				c.fileFromMatrix(true)
				c.check()
				r.forget(lost)
				r.tidy()
			})
		})
	}
}

// forget removes what a test has broken, so that the next one finds a sound store.
func (r *rig) forget(name string) {
	r.t.Helper()
	if err := os.Remove(r.blobPath(name)); err != nil && !os.IsNotExist(err) {
		r.t.Fatal(err)
	}
	db := r.openDatabase()
	defer db.Close()
	literal := "x'" + name + "'"
	if r.database == postgres {
		literal = `'\x` + name + "'::bytea"
	}
	must(db.ExecContext(r.ctx, "DELETE FROM postern_media WHERE ref_hash = "+literal))(r.t)
}

// turnBit changes one bit in the middle of a file.
func turnBit(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	raw[len(raw)/2] ^= 4
	return os.WriteFile(path, raw, 0o600)
}

// TestF35ADamagedFileIsNotServed: it was sent and fetched, and lies there when a bit of it turns. Who fetches it again gets nothing rather than
// something else; what else lies there is served.
func TestF35ADamagedFileIsNotServed(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		events := []string{c.fileFromMatrix(false), c.fileFromMatrix(false)}
		c.check()
		var refs []string
		for _, e := range r.phoneEvents(c.ben) {
			if e.Media != nil {
				refs = append(refs, path.Base(strings.TrimSuffix(e.Media.DirectPath, "/")))
			}
		}
		if len(refs) != len(events) {
			r.t.Fatalf("the phone has %d attachments", len(refs))
		}
		name := mediastore.NameOf(refs[0]).String()
		r.ok(turnBit(r.blobPath(name)))
		r.again() // or it would be believed for an hour
		for ranges, want := range map[string]int{"": http.StatusNotFound, "bytes=0-0": http.StatusNotFound} {
			if got := r.fetch(refs[0], ranges); got != want {
				r.t.Errorf("a damaged file, range %q: %d, want %d", ranges, got, want)
			}
			if got := r.fetch(refs[1], ranges); got >= 300 {
				r.t.Errorf("another file, range %q: %d", ranges, got)
			}
		}
		r.ok(turnBit(r.blobPath(name)))
		c.fromPhone(1)
		c.check()
	})
}

// fetch asks the public listener for an attachment, and returns the status.
func (r *rig) fetch(ref, ranges string) int {
	r.t.Helper()
	req := must(http.NewRequestWithContext(r.ctx, http.MethodGet, r.Bridge.PublicBase+"/media/"+ref, nil))(r.t)
	if ranges != "" {
		req.Header.Set("Range", ranges)
	}
	resp := must(http.DefaultClient.Do(req))(r.t)
	r.ok(resp.Body.Close())
	return resp.StatusCode
}
