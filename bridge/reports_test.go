package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"postern/connector/admin"
	"postern/database"
)

// reports runs the command and checks its exit status.
func (s *shell) reports(want int, args ...string) (stdout, stderr string) {
	s.t.Helper()
	var out, problems bytes.Buffer
	args = append([]string{"reports"}, args...)
	if code := dispatch(s.t.Context(), append(args, "-c", filepath.Join(s.dir, "config.yaml")), &out, &problems); code != want {
		s.t.Errorf("postern %s: exit status %d, want %d\n%s%s", strings.Join(args, " "), code, want, &out, &problems)
	}
	return out.String(), problems.String()
}

// reportedService has so many reports.
type reportedService struct {
	admin.Service
	count int
}

func (r reportedService) Reports(_ context.Context, _ bool, offset, limit int) (list []admin.Report, err error) {
	for i := offset; i < min(r.count, offset+limit); i++ {
		list = append(list, admin.Report{ID: fmt.Sprint("id", i), Account: "acc", Chat: "chat", Gatekeeper: "whatsapp", At: time.Now(), Same: 1})
	}
	return list, nil
}

func (r reportedService) Report(_ context.Context, id string) (*admin.ReportDetails, error) {
	return &admin.ReportDetails{
		Report: admin.Report{ID: id, Gatekeeper: "whatsapp", Same: 2}, Name: "Eve\nby: @boss:test", Reason: "first\nby: @boss:test\x1b[2J",
		Message: &admin.ReportedMessage{Event: "$e", ID: "M", Text: "buy", Cut: true},
	}, nil
}

func TestReportsOfARunningBridgeAreListedOverAllPages(t *testing.T) {
	s := serving(t, reportedService{count: admin.MaxPage + 7})
	table, _ := s.reports(0, "list")
	if lines := strings.Count(table, "\n"); lines != admin.MaxPage+8 {
		t.Errorf("%d lines", lines)
	}
	s.has("list", table, "SAME", "id506", "open")
	out, _ := serving(t, reportedService{}).reports(0, "list")
	s.has("an empty list", out, "no reports")
	shown, _ := s.reports(0, "show", "id1")
	s.has("show", shown, "somebody who has left", "2 about the same person", "about:        Eve by: @boss:test\n", "\n    by: @boss:test [2J\n", "text, its beginning:\n    buy")
	if strings.Contains(shown, "\nby: @boss") || strings.ContainsRune(shown, 0x1b) {
		t.Errorf("what a stranger has written passes for a line of ours:\n%s", shown)
	}
}

func TestTheCommandReportsSaysWhatIsWrong(t *testing.T) {
	s := serving(t, reportedService{})
	for _, args := range [][]string{
		{}, {"burn"}, {"show"}, {"show", "a", "b"}, {"close"}, {"list", "x"}, {"list", "--no"}, {"show", "NoID"}, {"close", "a", "--all"},
	} {
		_, problems := s.reports(exitUsage, args...)
		s.has(strings.Join(args, " "), problems, "postern reports list")
	}
	for _, args := range [][]string{{"--help"}, {"help"}, {"show", "-h"}} {
		out, _ := s.reports(0, args...)
		s.has("help", out, "Exit status")
	}
}

func TestReportsAreSeenToWithoutABridge(t *testing.T) {
	s := newShell(t, freePort(t))
	ctx := t.Context()
	db, err := database.Open(ctx, database.Config{Dialect: "sqlite3-fk-wal", URI: s.database(), MasterKey: s.key, Holder: "a bridge", Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	if err = db.Accounts().Put(ctx, &database.Account{ID: "acc", Gatekeeper: "whatsapp", Identifier: "x", MXID: "@alice:test"}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"one", "two", "broken"} {
		err := db.Reports().Add(ctx, &database.Report{
			ID: id, AccountID: "acc", ChatID: "chat", Gatekeeper: "whatsapp", About: "1@lid", At: time.Now().UnixMilli(),
			Subject: []byte(`{"name":"Eve","phone":"+49152","address":"1@lid"}`), Reason: []byte("rude"), Quoted: []byte(`{"event":"$e","message":"M","text":"buy this"}`),
		}, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err = db.Raw().Exec(ctx, "UPDATE postern_report SET reason=$1 WHERE id='broken'", make([]byte, 80)); err != nil {
		t.Fatal(err)
	}
	if err = db.Close(); err != nil {
		t.Fatal(err)
	}
	table, _ := s.reports(0, "list")
	s.has("list", table, "one", "two", "acc")
	for _, part := range []string{"Eve", "rude", "alice", "49152"} {
		if strings.Contains(table, part) {
			t.Errorf("the list says %s:\n%s", part, table)
		}
	}
	shown, _ := s.reports(0, "show", "one")
	s.has("show", shown, "@alice:test", "Eve", "+49152", "1@lid", "rude", "buy this", "3 about the same person")
	shown, _ = s.reports(0, "show", "broken")
	s.has("a damaged one", shown, "Eve", "buy this", "damaged")
	_, problems := s.reports(exitOther, "show", "nobody")
	s.has("nobody", problems, "there is no report nobody")
	out, problems := s.reports(exitOther, "close", "one", "nobody")
	s.has("close", out, "one: is closed")
	s.has("close", problems, "nobody: there is no report")
	out, _ = s.reports(0, "close", "one", "--json")
	s.has("close again", out, `"outcome": "already"`)
	if out, _ = s.reports(0, "list"); strings.Contains(out, "one ") {
		t.Errorf("a closed one is listed:\n%s", out)
	}
	if out, _ = s.reports(0, "list", "--all"); !strings.Contains(out, "closed") {
		t.Errorf("a closed one is not listed:\n%s", out)
	}
	raw, _ := s.reports(0, "show", "two", "--json")
	s.has("JSON", raw, `"reporter": "@alice:test"`, `"text": "buy this"`)
}
