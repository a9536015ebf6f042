package database_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.mau.fi/util/dbutil"

	"postern/database"
	"postern/database/databasetest"
)

func TestFiguresAreWhatTheTablesHave(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		empty, err := db.Figures(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if empty.ToMatrix != (database.Waiting{}) || empty.DeadIn != 0 || empty.Bytes <= 0 || len(empty.Accounts) != 0 {
			t.Errorf("an empty database has %+v", empty)
		}
		a, b := letterChat(t, db, "a"), letterChat(t, db, "b")
		old := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
		in := func(account, chat, item string, at time.Time, state int) {
			t.Helper()
			row := &database.QueueIn{ChatID: chat, ItemID: item, Seq: at.UnixMicro(), Kind: "message", State: state, Payload: []byte("x")}
			if err := db.Queue(account).InsertIn(ctx, row); err != nil {
				t.Fatal(err)
			}
		}
		in("a", a, "1", old, 0)
		in("a", a, "2", old.Add(time.Second), 0)
		in("b", b, "3", old.Add(time.Minute), 3)
		in("b", b, "4", old.Add(2*time.Minute), 1)
		buried(t, db, "b", b, "5", old.UnixMicro(), 10)
		if _, _, err := db.Journal().Accept(ctx, "t1", []database.JournalEvent{{Kind: "room", EventID: "$1", RoomID: "!r", Body: []byte("{}")}}); err != nil {
			t.Fatal(err)
		}
		got, err := db.Figures(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if want := (database.Waiting{Items: 2, Oldest: old.UnixMilli()}); got.ToMatrix != want {
			t.Errorf("to Matrix: %+v, want %+v", got.ToMatrix, want)
		}
		if want := (database.Waiting{Items: 1, Oldest: old.Add(time.Minute).UnixMilli()}); got.Resend != want {
			t.Errorf("to be sent again: %+v, want %+v", got.Resend, want)
		}
		if got.DeadIn != 1 || got.DeadOut != 0 || got.Events.Items != 1 || got.FirstEvent == 0 || got.Accounts["whatsapp"] != 2 {
			t.Errorf("figures are %+v", got)
		}
		if n, err := db.CountPreKeys(ctx); err != nil || n != 0 {
			t.Errorf("%d prekeys, %v", n, err)
		}
	})
}

// TestFiguresGoThroughNoTableOfMessages: what waits is found by an index, however many messages are done with.
func TestFiguresGoThroughNoTableOfMessages(t *testing.T) {
	plans := &planner{DatabaseLogger: dbutil.NoopLogger}
	db := databasetest.Open(t, databasetest.SQLiteConfig(t))
	plans.DatabaseLogger, db.Raw().Log = db.Raw().Log, plans
	if _, err := db.Figures(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(plans.queries) < 10 {
		t.Fatalf("%d queries were seen", len(plans.queries))
	}
	for _, query := range plans.queries {
		rows, err := db.Raw().Query(t.Context(), "EXPLAIN QUERY PLAN "+query)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id, parent, unused int
			var step string
			if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
				t.Fatal(err)
			}
			for _, table := range []string{"postern_in", "postern_out", "postern_as_event", "postern_notice", "postern_incoming_media"} {
				if step == "SCAN "+table {
					t.Errorf("%s: the whole table is gone through", query)
				}
			}
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// planner remembers queries.
type planner struct {
	dbutil.DatabaseLogger
	queries []string
}

func (p *planner) QueryTiming(ctx context.Context, method, query string, args []any, rows int, took time.Duration, err error) {
	if strings.HasPrefix(strings.TrimSpace(query), "SELECT") {
		p.queries = append(p.queries, query)
	}
	p.DatabaseLogger.QueryTiming(ctx, method, query, args, rows, took, err)
}

// counted is a Meter that remembers.
type counted struct {
	commits, waited chan int
}

func (c *counted) Committed(_ time.Duration, jobs int, err error) {
	if err == nil {
		c.commits <- jobs
	}
}
func (c *counted) Waited(time.Duration)      { c.waited <- 1 }
func (c *counted) Query(bool, time.Duration) {}

func TestTheMeterIsToldOfEachCommitAndEachCall(t *testing.T) {
	m := &counted{commits: make(chan int, 1000), waited: make(chan int, 1000)}
	cfg := databasetest.SQLiteConfig(t)
	cfg.Meter = m
	db := databasetest.Open(t, cfg)
	for len(m.commits) > 0 {
		<-m.commits
	}
	before := len(m.waited)
	for range 3 {
		if err := db.Do(t.Context(), func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.commits) != 3 || len(m.waited)-before != 3 || <-m.commits != 1 {
		t.Errorf("%d commits and %d calls were told", len(m.commits), len(m.waited)-before)
	}
}
