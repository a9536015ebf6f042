package faults_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"postern/bridge/parts"
)

// series are the names and labels of all figures of ours.
func (f figures) series() (list []string) {
	for line := range strings.Lines(string(f.raw)) {
		if name, _, ok := strings.Cut(line, " "); ok && strings.HasPrefix(name, "postern_") {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// moves waits until each figure has grown since before; with nothing before, until it is more than nothing.
func (r *rig) moves(before figures, list ...figure) {
	r.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		now := r.scrape()
		list = slices.DeleteFunc(list, func(f figure) bool { return now.sum(f.family, f.labels...) > before.sum(f.family, f.labels...) })
		if len(list) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-r.ctx.Done():
			r.t.Fatalf("these figures do not move: %v", list)
		}
	}
}

// TestTheFiguresOfWhatWaitsAndOfWhatGoesWrongMove, one thing after another; and one user more makes no figure more.
func TestTheFiguresOfWhatWaitsAndOfWhatGoesWrongMove(t *testing.T) {
	onOwn(t, func(r *rig) {
		r.until("the first prekeys to be there", func() bool { return r.partner().Prekeys > 0 })
		r.restartWith(r.ctx, nil) // prekeys are counted at the start, and not often
		r.connected(true)
		c := r.newChat()
		r.moves(figures{}, of("postern_prekeys"), of("postern_database_bytes"), of("postern_accounts"), of("postern_users", "state=live"),
			of("postern_counted_timestamp_seconds"), of("postern_build_info"), of("go_goroutines"), of("process_resident_memory_bytes"),
			of("postern_stream_login_seconds"), of("postern_database_wait_seconds"), of("postern_database_commit_jobs"),
			of("postern_database_query_seconds", "pool=framework"), of("postern_journal_seconds"), of("postern_homeserver_request_seconds", "kind=send"))

		// Attachments, each way.
		before := r.scrape()
		c.fileFromMatrix(false)
		c.fileFromPhone(false)
		c.awaitFiles()
		for _, operation := range []string{"stored", "served", "fetched", "uploaded"} {
			r.moves(before, of("postern_media_bytes_total", "operation="+operation), of("postern_media_files_total", "operation="+operation))
		}
		r.moves(before, of("postern_media_store_bytes"), of("postern_media_store_files"), of("postern_outgoing_total", "content=media", "state=delivered"),
			of("postern_incoming_total", "content=media", "state=delivered"))

		// Refusals, and messages that cannot be read.
		before = r.scrape()
		must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "ack_error", Identifier: r.identifier, Match: "message", Count: 1, Code: 503}))(r.t)
		c.fromMatrix(1)
		c.settled()
		r.moves(before, of("postern_nacks_total", "direction=in", "code=503"))
		must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "ack_error", Identifier: r.identifier, Match: "message", Count: 1, Code: 479}))(r.t)
		lost := must(r.alice.SendText(r.ctx, c.room, "is refused"))(r.t)
		r.moves(before, of("postern_outgoing_failed_total"), of("postern_outgoing_total", "state=failed"), of("postern_nacks_total", "direction=in", "code=479"))
		c.failedAs(lost, "")
		c.phoneDoes("lose", nil)
		c.fromMatrix(1) // the phone asks for it again
		c.settled()
		c.phoneDoes("lose", nil)
		c.fromPhone(1) // and begins another session
		c.settled()
		r.moves(before, of("postern_retry_receipts_total", "direction=in"), of("postern_prekeys_used_total"))
		r.misbehave("corrupt_enc", 1)
		c.fromPhone(1)
		c.settled()
		r.moves(before, of("postern_retry_receipts_total", "direction=out"))

		// The stream, and what is in stock.
		before = r.scrape()
		r.drain(3)
		r.moves(before, of("postern_prekeys_low_total"))
		r.anew()
		r.moves(before, of("postern_stream_failures_total"), of("postern_stream_connects_total"), of("postern_stream_logins_total"), of("postern_prekeys_uploaded_total"))

		// What waits, since the homeserver is away.
		before = r.scrape()
		r.hs.Down()
		c.fromPhone(2)
		r.moves(before, of("postern_queue_items", "queue=to_matrix"), of("postern_queue_oldest_seconds", "queue=to_matrix"),
			of("postern_retries_total", "what=to_matrix"), of("postern_homeserver_requests_total", "result=failed"))
		r.ok(r.hs.Up())
		c.settled()

		alone := r.scrape().series()
		n := r.newcomer()
		n.logIn()
		r.until("the account to be connected", n.connected)
		r.moves(before, of("postern_users", "state=live"), of("postern_accounts"))
		if more := r.scrape().series(); !slices.Equal(alone, more) {
			r.t.Errorf("one user makes %d series, two make %d", len(alone), len(more))
		}
		c.checkBut(resent)
	})
}
