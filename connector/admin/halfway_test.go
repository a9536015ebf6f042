package admin_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"

	"github.com/rs/zerolog"

	"postern/connector/admin"
)

// halfService fails at the second id.
type halfService struct {
	fakeService
	err error
}

func (s *halfService) DropDeadLetters(_ context.Context, ids []string) ([]admin.Result, error) {
	results := []admin.Result{{ID: ids[0], Outcome: admin.Dropped}, {ID: ids[1], Outcome: admin.Failed}}
	for _, id := range ids[2:] {
		results = append(results, admin.Result{ID: id, Outcome: admin.Untried})
	}
	return results, s.err
}

func TestWhatWasDoneBeforeAFailureIsSaid(t *testing.T) {
	for _, c := range []struct{ err, want error }{{errors.New("the words of the database"), admin.ErrRefused}, {admin.ErrNotReady, admin.ErrNotReady}} {
		client := serve(t, admin.NewHandler(&halfService{err: c.err}, "secret", zerolog.Nop()))("secret")
		results, err := client.DropDeadLetters(t.Context(), []string{"one", "two", "three"})
		want := []admin.Result{{ID: "one", Outcome: admin.Dropped}, {ID: "two", Outcome: admin.Failed}, {ID: "three", Outcome: admin.Untried}}
		if !slices.Equal(results, want) || !errors.Is(err, c.want) {
			t.Errorf("got %+v (%v)", results, err)
		}
	}
	for name, answer := range map[string]string{
		"results of others":  `{"error":"no","results":[{"id":"xyz","outcome":"failed"}]}`,
		"too few results":    `{"error":"no","results":[{"id":"one","outcome":"failed"}]}`,
		"a control sequence": `{"error":"no","results":[{"id":"one","outcome":"failed"},{"id":"two","outcome":"\u001b[2J"}]}`,
	} {
		evil := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(answer))
		}))
		if results, err := evil("secret").DropDeadLetters(t.Context(), []string{"one", "two"}); results != nil || !errors.Is(err, admin.ErrNotBridge) {
			t.Errorf("%s: %+v (%v)", name, results, err)
		}
	}
}

func TestWhoHasBeenRefusedTooOftenLearnsThatTheSecretIsWrong(t *testing.T) {
	client := serve(t, admin.NewHandler(&fakeService{}, "secret", zerolog.Nop()))
	var err error
	for range 30 {
		_, err = client("other").DeadLetters(t.Context(), "", 0, 1)
	}
	if !errors.Is(err, admin.ErrTooMany) {
		t.Errorf("got %v", err)
	}
	if _, err = client("secret").DeadLetters(t.Context(), "", 0, 1); err != nil {
		t.Errorf("who has the secret: %v", err)
	}
}
