package connector

import (
	"context"
	"errors"
	"slices"
	"testing"

	"postern/connector/admin"
)

func TestARequestThatFailsMidwaySaysWhatBecameOfEachID(t *testing.T) {
	away, calls := errors.New("the database is away"), 0
	do := func(_ context.Context, id string) (admin.Outcome, error) {
		if calls++; id == "b" {
			return "", away
		}
		return admin.Dropped, nil
	}
	s := &adminService{ready: func() bool { return true }}
	ids := []string{"a", "b", "c", "d"}
	got, err := s.each(t.Context(), ids, do)
	want := []admin.Result{{ID: "a", Outcome: admin.Dropped}, {ID: "b", Outcome: admin.Failed}, {ID: "c", Outcome: admin.Untried}, {ID: "d", Outcome: admin.Untried}}
	if !errors.Is(err, away) || !slices.Equal(got, want) || calls != 2 {
		t.Errorf("after %d calls: %+v (%v)", calls, got, err)
	}
	left := 1
	s.ready = func() bool { left--; return left >= 0 }
	got, err = s.each(t.Context(), []string{"a", "c"}, do)
	if want = []admin.Result{{ID: "a", Outcome: admin.Dropped}, {ID: "c", Outcome: admin.Untried}}; !errors.Is(err, admin.ErrNotReady) || !slices.Equal(got, want) {
		t.Errorf("a bridge that begins to stop: %+v (%v)", got, err)
	}
	if got, err = s.each(t.Context(), ids, do); got != nil || !errors.Is(err, admin.ErrNotReady) {
		t.Errorf("a bridge that is not ready: %+v (%v)", got, err)
	}
}
