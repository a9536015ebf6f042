package faults_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"postern/bridge/e2e/canary"
	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
)

// ledger is what was said in a chat, written down by who said it and not by the bridge.
type ledger struct {
	mu     sync.Mutex
	matrix []said // from Matrix
	phone  []said // from the phone
	next   int
	files  map[string]*file // by their captions
	lost   []string         // what the room was told of as failed, and no phone may have
	retold map[string]bool  // texts from Matrix whose states the bridge has forgotten
}

// said is one text and the id that its sender's side gave it.
type said struct{ text, id string }

func (l *ledger) number() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	return l.next
}

func (c *chat) matrixText() string { return fmt.Sprintf("%s matrix %d", c.mark, c.number()) }
func (c *chat) phoneText() string  { return fmt.Sprintf("%s phone %d", c.mark, c.number()) }

func (l *ledger) wroteMatrix(text, event string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.matrix = append(l.matrix, said{text, event})
}

func (l *ledger) wrotePhone(text, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phone = append(l.phone, said{text, id})
}

func texts(list []said) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = s.text
	}
	return out
}

// settled waits until everything that was said has arrived and both sides know it: the last status of alice's last message is in
// the room, and the receipt of the phone's last message on the phone.
func (c *chat) settled() {
	r := c.r
	r.t.Helper()
	c.mu.Lock()
	matrix, phone := slices.Clone(c.matrix), slices.Clone(c.phone)
	c.mu.Unlock()
	waiting := map[string]bool{}
	for _, s := range matrix {
		waiting[s.id] = true
	}
	if len(waiting) > 0 {
		must(r.hs.Expect(r.ctx, c.room, "what Matrix has written to be delivered", func(e *homeserver.Event) bool {
			if st, ok := statusOf(e); ok && st.step >= delivered {
				delete(waiting, st.event)
			}
			return len(waiting) == 0
		}))(r.t)
	}
	clear(waiting)
	for _, s := range phone {
		waiting[s.id] = true
	}
	if len(waiting) == 0 {
		return
	}
	must(r.Gatekeeper.Expect(r.ctx, c.ben.Phone, "the receipts of the phone's messages", func(e *parts.PhoneEvent) bool {
		if e.Kind == "receipt" && e.Type == "delivery" {
			for _, id := range e.IDs {
				delete(waiting, id)
			}
		}
		return len(waiting) == 0
	}))(r.t)
}

// The steps of promise 3 as clients see them. Reading does not happen by itself.
const (
	pending   = 1
	sent      = 2
	delivered = 3
	failed    = 4
)

type status struct {
	event string // of whom
	step  int
}

// statusOf reads an event that tells how far one of alice's has come.
func statusOf(e *homeserver.Event) (status, bool) {
	if e.Type != "com.beeper.message_send_status" {
		return status{}, false
	}
	var content struct {
		Relates struct {
			Event string `json:"event_id"`
		} `json:"m.relates_to"`
		Status    string   `json:"status"`
		Delivered []string `json:"delivered_to_users"`
	}
	if json.Unmarshal(e.Content, &content) != nil {
		return status{}, false
	}
	step := failed
	switch {
	case content.Status == "PENDING":
		step = pending
	case content.Status == "SUCCESS" && len(content.Delivered) > 0:
		step = delivered
	case content.Status == "SUCCESS":
		step = sent
	}
	return status{content.Relates.Event, step}, true
}

// allowed is what a test's own doing brings about, and what would be a fault otherwise.
type allowed struct {
	unreadable bool // the phone asks for a message again; it has to come all the same
	moved      bool // what is sent again comes behind others
	refused    bool // the bridge has given a message up, and said so
}

// check is the checker. What it knows it has from the two ends alone.
func (c *chat) check() {
	c.r.t.Helper()
	c.checkBut(allowed{})
}

// checkBut is check for a test that itself damages or moves something.
func (c *chat) checkBut(but allowed) {
	r := c.r
	r.t.Helper()
	c.settled()
	c.awaitFiles()
	c.mu.Lock()
	matrix, phone := slices.Clone(c.matrix), slices.Clone(c.phone)
	c.mu.Unlock()
	var inRoom, fromGhost, onPhone []string
	for _, e := range c.shown() {
		if e.Sender == r.alice.UserID {
			inRoom = append(inRoom, e.Body())
		} else {
			fromGhost = append(fromGhost, e.Body())
		}
	}
	ids := map[string]bool{}
	for _, e := range r.phoneEvents(c.ben) {
		switch e.Kind {
		case "message":
			onPhone = append(onPhone, e.Text)
			if ids[e.ID] {
				r.t.Errorf("the phone shows message %s twice", e.ID)
			}
			ids[e.ID] = true
		case "undecryptable":
			if but.unreadable {
				continue
			}
			r.t.Errorf("the phone could not read message %s: %s", e.ID, e.Reason) // a key or a counter was used twice, or lost
		case "nack":
			if but.refused && e.Code == 500 {
				continue
			}
			r.t.Errorf("the bridge refuses message %s with %d", e.ID, e.Code)
		case "identity":
			r.t.Error("alice's identity has changed")
		}
	}
	inRoom = slices.DeleteFunc(inRoom, func(text string) bool { return slices.Contains(c.lost, text) })
	compare(r.t, "alice's texts in the room", inRoom, texts(matrix))
	fromMatrix, fromPhone := texts(matrix), texts(phone)
	if but.moved {
		for _, list := range [][]string{onPhone, fromGhost, fromMatrix, fromPhone} {
			slices.Sort(list)
		}
	}
	compare(r.t, "alice's texts on the phone", onPhone, fromMatrix)
	compare(r.t, "the phone's texts in the room", fromGhost, fromPhone)
	c.checkFiles()
	c.checkStatuses(matrix)
	r.checkComplaints()
	r.checkLog()
}

// phoneEvents are all events of a phone.
func (r *rig) phoneEvents(p parts.Phone) []parts.PhoneEvent {
	r.t.Helper()
	var all []parts.PhoneEvent
	for after := int64(0); ; {
		page := must(r.Gatekeeper.Events(r.ctx, p.Phone, after, 0))(r.t)
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
		after = page[len(page)-1].Seq
	}
}

// errorer is what compare needs of a test, so that it can be tested itself.
type errorer interface {
	Helper()
	Errorf(format string, args ...any)
}

// compare says what is lost, doubled and moved.
func compare(t errorer, what string, got, want []string) {
	t.Helper()
	count := map[string]int{}
	for _, text := range got {
		count[text]++
	}
	for _, text := range want {
		if n := count[text]; n == 0 {
			t.Errorf("%s: %q is lost", what, text)
		} else if n > 1 {
			t.Errorf("%s: %q is there %d times", what, text, n)
		}
		delete(count, text)
	}
	for text := range count {
		t.Errorf("%s: %q was never sent", what, text)
	}
	if len(got) == len(want) && !slices.Equal(got, want) {
		t.Errorf("%s are not in order: %q", what, got)
	}
}

// checkStatuses is promise 3: each state at most once, never back, and no failure where nothing fails.
func (c *chat) checkStatuses(matrix []said) {
	r := c.r
	r.t.Helper()
	steps := map[string][]int{}
	for _, e := range r.hs.Events(c.room, "com.beeper.message_send_status") {
		if st, ok := statusOf(&e); ok {
			steps[st.event] = append(steps[st.event], st.step)
		}
	}
	for _, s := range matrix {
		if c.retold[s.text] {
			slices.Sort(steps[s.id])
			steps[s.id] = slices.Compact(steps[s.id])
		}
		checkSteps(r.t, s.text, steps[s.id])
	}
}

func checkSteps(t errorer, text string, steps []int) {
	t.Helper()
	last := 0
	for _, step := range steps {
		if step == failed {
			t.Errorf("%q is told as failed", text)
		}
		if step <= last {
			t.Errorf("the states of %q are not promise 3's: %v", text, steps)
			break
		}
		last = step
	}
	if last < delivered {
		t.Errorf("%q has no last state: %v", text, steps)
	}
}

// checkComplaints asks the gatekeeper, which complains about a second encryption under an id already used, among other things.
func (r *rig) checkComplaints() {
	r.t.Helper()
	if complaints := complaintsBut(must(r.Gatekeeper.Complaints(r.ctx))(r.t), r.allowed); len(complaints) > 0 {
		r.t.Errorf("the gatekeeper complains: %s", complaints)
	}
	if unknown := r.hs.Unknown(); len(unknown) > 0 {
		r.t.Errorf("the bridge asks for what the scripted homeserver does not have: %v", unknown)
	}
}

// logScan remembers how far the bridge's log was read, and what must not be in it.
type logScan struct {
	at     int64
	search canary.Search
}

// checkLog searches what the bridge has written since the last time, at the lowest level there is, for all that was said and named
// in its world and for its secrets. Those in its database are looked for in bridge/e2e.
func (r *rig) checkLog() {
	r.t.Helper()
	text, err := r.searchLog()
	r.ok(err)
	if r.allowed == "" && bytes.Contains(text, []byte("The database may be an old copy")) {
		r.t.Error("the bridge takes its database for an old copy")
	}
}

// searchLog is the search, also for a world that ends. What was searched is not searched again.
func (r *rig) searchLog() ([]byte, error) {
	r.log.search.Text("a text", "kanarienvogel") // of more than are remembered
	found, text, err := r.log.search.Log(r.World, r.program, r.log.at)
	if err != nil {
		return nil, err
	}
	r.log.at += int64(len(text))
	var errs []error
	for _, f := range found {
		errs = append(errs, fmt.Errorf("the bridge's log: %s", f))
	}
	return text, errors.Join(errs...)
}
