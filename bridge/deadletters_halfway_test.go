package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/connector/admin"
	"postern/database"
)

// halfService does so many and fails then.
type halfService struct {
	deadService
	left *int
}

func (s halfService) RetryDeadLetters(_ context.Context, ids []string) (list []admin.Result, err error) {
	for _, id := range ids {
		outcome := admin.Retried
		switch *s.left--; {
		case *s.left == -1:
			outcome, err = admin.Failed, errors.New("the database is away")
		case *s.left < -1:
			outcome = admin.Untried
		}
		list = append(list, admin.Result{ID: id, Outcome: outcome})
	}
	return list, err
}

func TestACommandThatFailsMidwaySaysWhatWasDone(t *testing.T) {
	left := admin.MaxIDs + 2
	s := serving(t, halfService{left: &left})
	args := []string{"retry"}
	for i := range 2*admin.MaxIDs + 5 {
		args = append(args, fmt.Sprint("id", i))
	}
	out, problems := s.run(exitOther, args...)
	if n := strings.Count(out, "is put into its room again"); n != admin.MaxIDs+2 {
		t.Errorf("%d are said to be done, want %d", n, admin.MaxIDs+2)
	}
	s.has("the one", problems, fmt.Sprintf("id%d: failed, and may have been done all the same", admin.MaxIDs+2), "its log says why")
	if n := strings.Count(problems, "was not tried"); n != admin.MaxIDs+2 {
		t.Errorf("%d are said to be untried, want %d", n, admin.MaxIDs+2)
	}
	left = 1
	out, _ = s.run(exitOther, "retry", "a", "b", "c", "--json")
	s.has("as JSON", out, `"outcome": "retried"`, `"outcome": "failed"`, `"outcome": "untried"`)
}

func TestAWrongKeyFileIsNamedHoweverOftenItWasRefused(t *testing.T) {
	s := serving(t, deadService{})
	key := filepath.Join(s.dir, "postern.key")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, err := database.LoadOrCreateKeyFile(key); err != nil {
		t.Fatal(err)
	}
	for range 25 {
		_, problems := s.run(exitOther, "list")
		s.has("a wrong key", problems, "another key file than "+key, "with -c")
	}
}
