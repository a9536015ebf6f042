package faults_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"net/http"
	"testing"
	"time"

	_ "github.com/lib/pq"
	_ "go.mau.fi/util/dbutil/litestream" // registers the SQLite driver that the bridge has

	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
	"postern/connector/killpoint"
)

// The rows of the network and of the peers that this harness has so far: F-23, F-28, and of F-32 the transient nack.

// TestF23AHomeserverThatIsWrongLosesAndMovesNothing: whatever it answers, everything arrives once and in order.
func TestF23AHomeserverThatIsWrongLosesAndMovesNothing(t *testing.T) {
	const html = "<html><body>Bad Gateway</body></html>"
	kinds := map[string]homeserver.Fault{
		"500":                        {Status: 500, Kind: "application/json", Body: `{"errcode":"M_UNKNOWN","error":"Internal server error"}`},
		"500, but it was stored":     {Status: 500, Late: true},
		"502 with a page of HTML":    {Status: 502, Kind: "text/html", Body: html},
		"200 with a page of HTML":    {Status: 200, Kind: "text/html", Body: html},
		"429 with Retry-After":       {Status: 429, Kind: "application/json", Body: `{"errcode":"M_LIMIT_EXCEEDED","error":"slow"}`, Header: http.Header{"Retry-After": {"1"}}},
		"429 without Retry-After":    {Status: 429, Kind: "application/json", Body: `{"errcode":"M_LIMIT_EXCEEDED","error":"slow"}`},
		"no answer":                  {Cut: true},
		"slow":                       {Delay: time.Second},
		"an answer byte by byte":     {Trickle: 20 * time.Millisecond},
		"no answer, but it was late": {Status: 504, Cut: true},
		"503 with Retry-After":       {Status: 503, Kind: "text/html", Body: html, Header: http.Header{"Retry-After": {"1"}}},
		"503 of its own":             {Status: 503, Kind: "application/json", Body: `{"errcode":"M_UNKNOWN","error":"Restarting"}`},
		"401, for a while":           {Status: 401, Kind: "application/json", Body: `{"errcode":"M_UNKNOWN_TOKEN","error":"Unknown token"}`},
		"403 of a proxy":             {Status: 403, Kind: "text/html", Body: html}, // its own is a dead letter: deadletters_test.go
	}
	if all() {
		kinds["half a minute"] = homeserver.Fault{Delay: 31 * time.Second}
		kinds["a minute and a half"] = homeserver.Fault{Delay: 90 * time.Second}
	}
	for name, fault := range kinds {
		t.Run(name, func(t *testing.T) {
			each(t, func(r *rig) {
				c, fault := r.newChat(), fault
				fault.Method, fault.Path, fault.Count = "PUT", "/send/m.room.message/", 1
				if all() && fault.Delay < 30*time.Second {
					fault.Count = 3 // the pauses between attempts grow
				}
				fault.Users = func(id string) bool { return id != r.alice.UserID }
				defer r.hs.AddFault(fault)()
				c.fromPhone(4)
				c.fromMatrix(2)
				c.check()
				wrong := r.hs.Requests(func(s *homeserver.Seen) bool { return s.Wrong })
				if len(wrong) == 0 {
					r.t.Error("the homeserver was never wrong")
				}
				r.hs.ForgetRequests()
			})
		})
	}
}

// memory is the bridge's resident memory, in bytes.
func (r *rig) memory() int64 {
	r.t.Helper()
	return must(residentOf(r.Bridge.PID()))(r.t)
}

// drained waits until the gatekeeper keeps nothing any more: everything is acked.
func (r *rig) drained() {
	r.t.Helper()
	r.queuedAtMost(0)
}

// queuedAtMost waits until the gatekeeper keeps no more than that.
func (r *rig) queuedAtMost(most int) {
	r.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for r.queued() > most {
		select {
		case <-tick.C:
		case <-r.ctx.Done():
			r.t.Fatalf("the gatekeeper still keeps %d stanzas", r.queued())
		}
	}
}

// queued is how much the gatekeeper keeps.
func (r *rig) queued() (n int) {
	r.t.Helper()
	for _, p := range must(r.Gatekeeper.Partners(context.WithoutCancel(r.ctx)))(r.t) {
		n += p.Queued
	}
	return n
}

// TestF05NoReceiptBeforeMatrixHasTheMessage: the ack takes the message from the gatekeeper, and the phone learns nothing yet.
func TestF05NoReceiptBeforeMatrixHasTheMessage(t *testing.T) {
	each(t, func(r *rig) {
		c, other := r.newChat(), r.newChat()
		let, waits := make(chan struct{}), make(chan struct{}, 8)
		remove := r.hs.AddFault(homeserver.Fault{
			Method: "PUT", Path: "/send/m.room.message/", Users: func(id string) bool { return id != r.alice.UserID },
			Before: func() { waits <- struct{}{}; <-let },
		})
		c.fromPhone(1)
		<-waits // the homeserver has the request, and thinks
		r.drained()
		other.fromMatrix(1) // all the way to a phone, behind whatever was sent before on the stream
		text := other.matrix[len(other.matrix)-1].text
		must(r.Gatekeeper.Expect(r.ctx, other.ben.Phone, text, func(e *parts.PhoneEvent) bool { return e.Kind == "message" && e.Text == text }))(r.t)
		last := c.ledger.phone[len(c.ledger.phone)-1].id
		for _, e := range r.phoneEvents(c.ben) {
			for _, id := range e.IDs {
				if e.Kind == "receipt" && id == last {
					r.t.Errorf("the phone has a receipt (%s) for a message that Matrix does not have", e.Type)
				}
			}
		}
		remove()
		close(let)
		c.check()
		other.check()
	})
}

// TestF32ATransientNackIsSentAgain: the gatekeeper has not taken it, and says that it may be tried again.
func TestF32ATransientNackIsSentAgain(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "ack_error", Identifier: r.identifier, Match: "message", Count: 1, Code: 503}))(r.t)
		c.fromMatrix(3)
		c.check()
	})
}

// TestF28ARejectedMessageLeavesTheStoredSessionsAsTheyWere: one bit of the ciphertext is another. The bridge is killed when it has found
// that out, and every row of its sessions is compared; then the message comes again and is read.
func TestF28ARejectedMessageLeavesTheStoredSessionsAsTheyWere(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		before := r.sessions()
		must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "corrupt_enc", Identifier: r.identifier, Match: "message", Count: 1}))(r.t)
		r.arm(killpoint.InRefused, 1)
		c.fromPhone(1)
		r.dead(killpoint.InRefused)
		if after := r.sessions(); after != before {
			r.t.Error("the stored sessions are others than before the message that was rejected")
		}
		// What was damaged on its way comes again undamaged, since it was not acked.
		r.run()
		c.fromPhone(1)
		c.fromMatrix(1)
		c.check()
	})
}

// sessions is a hash of all rows of the bridge's Signal sessions, as they lie in the database.
func (r *rig) sessions() string {
	r.t.Helper()
	driver, uri := "sqlite3-fk-wal", "file:"+r.Bridge.DatabasePath()
	if r.database == postgres {
		driver, uri = "postgres", r.uri
	}
	db := must(sql.Open(driver, uri))(r.t)
	defer db.Close()
	rows := must(db.QueryContext(r.ctx, "SELECT address, session FROM postern_signal_session ORDER BY account_id, address"))(r.t)
	defer rows.Close()
	sum, n := sha256.New(), 0
	for rows.Next() {
		var addr string
		var record []byte
		r.ok(rows.Scan(&addr, &record))
		fmt.Fprintf(sum, "%s %x\n", addr, record)
		n++
	}
	r.ok(rows.Err())
	if n == 0 {
		r.t.Fatal("there are no sessions")
	}
	return hex.EncodeToString(sum.Sum(nil))
}
