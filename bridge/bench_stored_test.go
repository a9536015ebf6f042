//go:build unix

package main

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// What BenchmarkStored compares: a bridge with fewStored messages and one with
// manyStored, half of them in, half of them out.
const (
	fewStored    = 1_000
	manyStored   = 100_000
	storedRounds = 5
)

// BenchmarkStored is the processor time of a message when 100,000 messages are
// stored beside that when 1,000 are: two bridges at the same time, which are given
// the same load in turns. ratio is the quickest round of each, ratio-median the median of the rounds; the
// goal is at most 1.05.
func BenchmarkStored(b *testing.B) {
	few, many := newBenchWorld(b, nil), newBenchWorld(b, nil)
	few.store(fewStored)
	many.store(manyStored)
	for _, c := range []struct {
		name  string
		crowd func(*benchWorld, string) time.Duration
	}{{"in", (*benchWorld).crowdIn}, {"out", (*benchWorld).crowdOut}} {
		c.crowd(few, c.name+"warm")
		c.crowd(many, c.name+"warm")
		var least, most []time.Duration
		for i := range storedRounds {
			round := fmt.Sprint(c.name, i)
			if i%2 == 0 {
				least = append(least, c.crowd(few, round))
				most = append(most, c.crowd(many, round))
			} else {
				most = append(most, c.crowd(many, round))
				least = append(least, c.crowd(few, round))
			}
		}
		b.Log(c.name, least, most)
		slices.Sort(least)
		slices.Sort(most)
		b.ReportMetric(milliseconds(least[0]), c.name+"-few-ms/msg")
		b.ReportMetric(milliseconds(most[0]), c.name+"-many-ms/msg")
		b.ReportMetric(float64(most[0])/float64(least[0]), c.name+"-ratio")
		b.ReportMetric(float64(most[storedRounds/2])/float64(least[storedRounds/2]), c.name+"-ratio-median")
	}
	b.ReportMetric(0, "ns/op")
}

// store makes the bridge's database have so many messages more, as copies of those that are
// there, under other ids and older, with the journal's memory of the outgoing ones.
func (w *benchWorld) store(count int) {
	w.ok(w.bridge.Stop())
	db := must(sql.Open("sqlite3", "file:"+w.bridge.DatabasePath()))
	const random = "lower(hex(randomblob(11)))"
	each := count / 2 / benchChats
	w.copies(db, "postern_in", each, "class = 0 AND state = 1", map[string]string{
		"item_id": random, "seq": "seq + 1000 * n", "hash": "randomblob(32)", "timestamp": "timestamp - n", "read_receipt": "2",
	})
	w.copies(db, "postern_out", each, "work = 0", map[string]string{
		"stanza_id": random, "seq": "seq + 1000 * n", "event_id": "'$' || hex(randomblob(21))",
	})
	w.copies(db, "postern_as_event", each, "finished_at IS NOT NULL AND event_id IS NOT NULL", map[string]string{
		"seq": "seq + 1000 * n", "event_id": "'$' || hex(randomblob(21))",
	})
	w.copies(db, "message", each, "true", map[string]string{
		"id": "substr(id, 1, length(id) - 22) || " + random, "mxid": "'$' || hex(randomblob(21))", "timestamp": "timestamp - n * 1000000000",
		"send_txn_id": "CASE WHEN send_txn_id IS NULL THEN NULL ELSE " + random + " END", "rowid": "",
	})
	var in, out, known int
	w.ok(db.QueryRow("SELECT (SELECT count(*) FROM postern_in), (SELECT count(*) FROM postern_out), (SELECT count(*) FROM message)").Scan(&in, &out, &known))
	if in < count/2 || out < count/2 || known < count {
		w.b.Fatalf("%d, %d and %d rows, want %d messages", in, out, known, count)
	}
	w.ok(db.Close())
	w.ok(w.bridge.Start(w.ctx))
	w.settle()
}

// copies stores each row of a table that where names so many times more, with some of the columns changed; n is
// the number of the copy. A column without an expression is left to the database.
func (w *benchWorld) copies(db *sql.DB, table string, count int, where string, changed map[string]string) {
	var names, values []string
	rows := must(db.Query("SELECT name FROM pragma_table_info(?)", table))
	for rows.Next() {
		var name string
		w.ok(rows.Scan(&name))
		value, found := changed[name]
		if !found {
			value = name
		}
		if value != "" {
			names, values = append(names, name), append(values, value)
		}
	}
	w.ok(rows.Err())
	w.ok(rows.Close())
	must(db.Exec(fmt.Sprintf(`WITH RECURSIVE k (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE n < %d)
		INSERT INTO %s (%s) SELECT %s FROM %s, k WHERE %s`,
		count, table, strings.Join(names, ", "), strings.Join(values, ", "), table, where)))
}
