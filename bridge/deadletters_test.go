package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"postern/connector/admin"
	"postern/database"
)

// shell is a folder with a bridge's configuration and key file.
type shell struct {
	t    *testing.T
	dir  string
	port int
	key  [database.KeySize]byte
}

func newShell(t *testing.T, port int) *shell {
	t.Helper()
	s := &shell{t: t, dir: t.TempDir(), port: port}
	s.configure("127.0.0.1")
	key, err := database.LoadOrCreateKeyFile(filepath.Join(s.dir, "postern.key"))
	if err != nil {
		t.Fatal(err)
	}
	s.key = key
	return s
}

func (s *shell) configure(host string) {
	s.t.Helper()
	text := fmt.Sprintf("appservice:\n    hostname: %s\n    port: %d\ndatabase:\n    type: sqlite3-fk-wal\n    uri: %s\n",
		host, s.port, s.database())
	if err := os.WriteFile(filepath.Join(s.dir, "config.yaml"), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shell) database() string { return filepath.Join(s.dir, "postern.db") }

// run runs the command and checks its exit status.
func (s *shell) run(want int, args ...string) (stdout, stderr string) {
	s.t.Helper()
	var out, problems bytes.Buffer
	args = append([]string{"dead-letters"}, args...)
	code := dispatch(s.t.Context(), append(args, "-c", filepath.Join(s.dir, "config.yaml")), &out, &problems)
	if code != want {
		s.t.Errorf("postern %s: exit status %d, want %d\n%s%s", strings.Join(args, " "), code, want, &out, &problems)
	}
	return out.String(), problems.String()
}

func (s *shell) has(what, text string, parts ...string) {
	s.t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			s.t.Errorf("%s: %q is not in\n%s", what, part, text)
		}
	}
}

// deadService has so many dead letters.
type deadService struct {
	admin.Service
	count int
}

func (d deadService) DeadLetters(_ context.Context, _ string, offset, limit int) (list []admin.DeadLetter, err error) {
	for i := offset; i < min(d.count, offset+limit); i++ {
		list = append(list, admin.DeadLetter{
			ID: fmt.Sprint("id", i), Account: "acc", Chat: "chat", Direction: admin.Incoming, Kind: "message", Reason: "forbidden", Tries: 1, Parts: 1,
		})
	}
	return list, nil
}

func (d deadService) RetryDeadLetters(_ context.Context, ids []string) (list []admin.Result, err error) {
	for _, id := range ids {
		list = append(list, admin.Result{ID: id, Outcome: admin.Retried})
	}
	return list, nil
}

func (d deadService) DropDeadLetters(context.Context, []string) ([]admin.Result, error) {
	return nil, admin.ErrNotReady
}

// listening is a shell whose bridge is a handler.
func listening(t *testing.T, handler func(s *shell) http.Handler) *shell {
	t.Helper()
	var s *shell
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler(s).ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	s = newShell(t, server.Listener.Addr().(*net.TCPAddr).Port)
	return s
}

func serving(t *testing.T, service admin.Service) *shell {
	return listening(t, func(s *shell) http.Handler {
		secret, err := admin.Secret(s.key[:])
		if err != nil {
			t.Error(err)
		}
		return admin.NewHandler(service, secret, zerolog.Nop())
	})
}

func TestTheCommandAsksTheRunningBridgeAndPrintsAllPages(t *testing.T) {
	s := serving(t, deadService{count: admin.MaxPage + 7})
	table, _ := s.run(0, "list")
	if lines := strings.Count(table, "\n"); lines != admin.MaxPage+8 {
		t.Errorf("%d lines", lines)
	}
	s.has("list", table, "REASON", "forbidden", "id506")
	raw, _ := s.run(0, "list", "--json")
	var listed struct {
		DeadLetters []admin.DeadLetter `json:"dead_letters"`
	}
	if err := json.Unmarshal([]byte(raw), &listed); err != nil || len(listed.DeadLetters) != admin.MaxPage+7 {
		t.Errorf("%d dead letters as JSON (%v)", len(listed.DeadLetters), err)
	}
	out, _ := s.run(0, "retry", "id1", "id2")
	s.has("retry", out, "id1: is put into its room again", "id2: ")
	_, problems := s.run(exitOther, "drop", "id1")
	s.has("drop", problems, "starting or stopping")
	out, _ = serving(t, deadService{}).run(0, "list")
	s.has("an empty list", out, "no dead letters")
}

func TestTheCommandSaysWhatIsWrong(t *testing.T) {
	s := serving(t, deadService{})
	key := filepath.Join(s.dir, "postern.key")
	if err := os.Rename(key, key+".old"); err != nil {
		t.Fatal(err)
	}
	_, problems := s.run(exitConfig, "list")
	s.has("no key file", problems, "is not there", "postern.key")
	if _, err := os.Stat(key); err == nil {
		t.Error("a key file was made")
	}
	if _, err := database.LoadOrCreateKeyFile(key); err != nil {
		t.Fatal(err)
	}
	_, problems = s.run(exitOther, "list")
	s.has("another key file", problems, "another key file")
	other := listening(t, func(*shell) http.Handler { return http.NotFoundHandler() })
	_, problems = other.run(exitOther, "list")
	s.has("something else listens", problems, "not a bridge", fmt.Sprint(other.port))
	for _, args := range [][]string{
		{}, {"burn"}, {"retry"}, {"drop"}, {"list", "x"}, {"list", "--no"}, {"retry", "NoID"}, {"retry", "a", "--account", "b"},
	} {
		_, problems = s.run(exitUsage, args...)
		s.has(strings.Join(args, " "), problems, "postern dead-letters list")
	}
	for _, args := range [][]string{{"--help"}, {"help"}, {"retry", "-h"}} {
		out, _ := s.run(0, args...)
		s.has("help", out, "Exit status")
	}
}

// freePort is one on which nobody listens.
func freePort(t *testing.T) int {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	return socket.Addr().(*net.TCPAddr).Port
}

func TestTheCommandOpensTheDatabaseIfNoBridgeRuns(t *testing.T) {
	s := newShell(t, freePort(t))
	_, problems := s.run(exitDatabase, "list")
	s.has("no database", problems, "there is no database")
	if _, err := os.Stat(s.database()); err == nil {
		t.Error("a database was made")
	}
	ctx := t.Context()
	db, err := database.Open(ctx, database.Config{Dialect: "sqlite3-fk-wal", URI: s.database(), MasterKey: s.key, Holder: "a bridge", Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	_, problems = s.run(exitDatabase, "list")
	s.has("a bridge that listens elsewhere", problems, "another process is using the database", fmt.Sprint(s.port))
	if err = db.Accounts().Put(ctx, &database.Account{ID: "acc", Gatekeeper: "whatsapp", Identifier: "x"}); err != nil {
		t.Fatal(err)
	}
	contact, err := db.Contacts().Ensure(ctx, "whatsapp", "1@lid")
	if err != nil {
		t.Fatal(err)
	}
	chat, err := db.Chats().Ensure(ctx, "acc", contact.ID)
	if err != nil {
		t.Fatal(err)
	}
	for i, item := range []string{"A", "B"} {
		row := &database.QueueIn{ChatID: chat.ID, ItemID: item, Seq: int64(i + 1), Kind: "message", Payload: []byte("the words of it")}
		if err = db.Queue("acc").InsertIn(ctx, row); err == nil {
			err = db.Queue("acc").BuryIn(ctx, row, "forbidden", int64(i+1))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	list, err := db.Letters(ctx, "", 0, 10)
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	if err = db.Close(); err != nil {
		t.Fatal(err)
	}
	table, _ := s.run(0, "list", "--account", "acc")
	s.has("list", table, list[0].ID, list[1].ID, chat.ID, "forbidden")
	if strings.Contains(table, "words") || strings.Contains(table, "1@lid") {
		t.Errorf("the table names a person or has words of theirs:\n%s", table)
	}
	out, _ := s.run(0, "retry", list[0].ID, "--json")
	s.has("retry", out, `"outcome": "retried"`)
	out, problems = s.run(exitOther, "drop", list[0].ID, list[1].ID, "nobody")
	s.has("drop", out, list[1].ID+": is dropped")
	s.has("drop", problems, list[0].ID+": is not dropped", "nobody: there is no dead letter")
	out, _ = s.run(0, "list")
	s.has("list", out, "no dead letters")
}
