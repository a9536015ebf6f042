package admin_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"postern/connector/admin"
)

// suspending remembers whom it has suspended.
type suspending struct {
	admin.Service
	list []admin.Suspension
	// outcome of the next Suspend, "" for Done.
	outcome admin.Outcome
}

func (s *suspending) Suspend(_ context.Context, user, reason string) (admin.Outcome, error) {
	s.list = append(s.list, admin.Suspension{User: user, Reason: reason, At: time.Unix(1_700_000_000, 0).UTC()})
	return cmp.Or(s.outcome, admin.Done), nil
}

func (s *suspending) Unsuspend(context.Context, string) (admin.Outcome, error) {
	return admin.Already, nil
}

func (s *suspending) Suspended(_ context.Context, offset, limit int) ([]admin.Suspension, error) {
	return s.list[min(offset, len(s.list)):min(offset+limit, len(s.list))], nil
}

func TestSuspensionsPassTheSeamAndStandInNoLogLine(t *testing.T) {
	var log bytes.Buffer
	client := serve(t, admin.NewHandler(&suspending{}, "secret", zerolog.New(&log)))("secret")
	if got, err := client.Suspend(t.Context(), "@anna:example.org", "too many complaints"); err != nil || got != admin.Done {
		t.Fatal(got, err)
	}
	if got, err := client.Unsuspend(t.Context(), "@anna:example.org"); err != nil || got != admin.Already {
		t.Fatal(got, err)
	}
	want := []admin.Suspension{{User: "@anna:example.org", Reason: "too many complaints", At: time.Unix(1_700_000_000, 0).UTC()}}
	if list, err := client.Suspended(t.Context(), 0, 10); err != nil || !slices.Equal(list, want) {
		t.Errorf("%+v %v", list, err)
	}
	if list, err := client.Suspended(t.Context(), 1, 10); err != nil || len(list) != 0 {
		t.Errorf("%+v %v", list, err)
	}
	if text := log.String(); strings.Contains(text, "anna") || strings.Contains(text, "complaints") || !strings.Contains(text, `"action":"suspend"`) {
		t.Errorf("the log: %s", text)
	}
}

func TestASuspensionOfSomebodyWithoutALoginPassesTheSeam(t *testing.T) {
	service := &suspending{}
	client := serve(t, admin.NewHandler(service, "secret", zerolog.Nop()))("secret")
	for _, want := range []admin.Outcome{admin.Done, admin.Already, admin.NoLogin} {
		service.outcome = want
		if got, err := client.Suspend(t.Context(), "@nobody:example.org", ""); err != nil || got != want {
			t.Errorf("%s came as %q, %v", want, got, err)
		}
	}
	service.outcome = "something else"
	if got, err := client.Suspend(t.Context(), "@nobody:example.org", ""); !errors.Is(err, admin.ErrNotBridge) {
		t.Errorf("an outcome that there is not came as %q, %v", got, err)
	}
}

func TestASuspensionThatIsNotWhatItHasToBeIsRefused(t *testing.T) {
	service := &suspending{}
	h := admin.NewHandler(service, "secret", zerolog.Nop())
	answers(t, h, "suspended/add", map[string]posted{
		"no user":            {"application/json", `{}`, 400},
		"a name":             {"application/json", `{"user_id":"anna"}`, 400},
		"a control sequence": {"application/json", `{"user_id":"@anna:example.org","reason":"\u001b[2J"}`, 400},
		"a long reason":      {"application/json", `{"user_id":"@anna:example.org","reason":"` + strings.Repeat("x", admin.MaxReason+1) + `"}`, 400},
		"not JSON":           {"application/json", `anna`, 400},
		"another kind":       {"text/plain", `{"user_id":"@anna:example.org"}`, 415},
		"too large":          {"application/json", strings.Repeat(" ", 64<<10) + `{"user_id":"@anna:example.org"}`, 413},
	})
	if len(service.list) > 0 {
		t.Errorf("suspended: %+v", service.list)
	}
	other := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"outcome":"\u001b[2J","suspended":[{"user_id":"@a:b","reason":"\u001b[2J"}]}`))
	}))("secret")
	if _, err := other.Suspend(t.Context(), "@a:b", ""); !errors.Is(err, admin.ErrNotBridge) {
		t.Errorf("an outcome: %v", err)
	}
	if _, err := other.Suspended(t.Context(), 0, 1); !errors.Is(err, admin.ErrNotBridge) {
		t.Errorf("a list: %v", err)
	}
}
