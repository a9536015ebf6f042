package connector

import (
	"strings"
	"testing"

	"postern/connector/admin"
)

// TestWhoIsSuspendedReadsEachReasonAndTheEnd: each once, also over restarts, and the end also if no bridge ran when it was ordered.
func TestWhoIsSuspendedReadsEachReasonAndTheEnd(t *testing.T) {
	w := newWorld(t)
	said := func() (list []string) {
		for _, n := range w.waitingNotices() {
			if text := string(n.Content); strings.Contains(text, "suspended") {
				list = append(list, text)
			}
		}
		return list
	}
	home := func() { w.client.login.User.ManagementRoom = managedRoom }
	told := func(when string, want int, part string) {
		t.Helper()
		w.until(when, func() bool { return strings.Contains(strings.Join(said(), ""), part) })
		if list := said(); len(list) != want {
			t.Errorf("%s: %d notices: %q", when, len(list), list)
		}
	}
	home()
	for i, reason := range []string{"spam", "and lies"} {
		outcome, err := w.connector.suspended.begin(t.Context(), fakePerson, reason)
		if want := []admin.Outcome{admin.Done, admin.Already}[i]; err != nil || outcome != want {
			t.Fatal(outcome, err)
		}
		told("the reason "+reason, i+1, reason)
	}
	w.restart()
	home()
	w.connector.suspended.tell(t.Context(), fakePerson)
	told("after a restart", 2, "and lies")
	service := &adminService{db: w.connector.db, ready: func() bool { return true }} // as the command has it where no bridge runs
	if outcome, err := service.Unsuspend(t.Context(), fakePerson.String()); err != nil || outcome != admin.Done {
		t.Fatal(outcome, err)
	}
	w.restart()
	home()
	w.client.arrivals.close() // the fixture's own
	w.client.Connect(t.Context())
	defer w.client.Disconnect()
	told("the end", 3, "not suspended any more")
	w.until("the end to be done with", func() bool {
		list, err := w.connector.db.Suspensions().Ended(t.Context())
		return err == nil && len(list) == 0
	})
	w.connector.suspended.tellEnded(t.Context(), fakePerson)
	told("again", 3, "not suspended any more")
}

// TestASuspensionOfSomebodyWithoutALoginSaysSo: it stands, so that they are refused when they come, and nobody is said to be told.
func TestASuspensionOfSomebodyWithoutALoginSaysSo(t *testing.T) {
	w := newWorld(t)
	for _, service := range []*adminService{
		{db: w.connector.db, suspended: w.connector.suspended, ready: func() bool { return true }}, {db: w.connector.db, ready: func() bool { return true }},
	} {
		for _, want := range []admin.Outcome{admin.NoLogin, admin.Already} {
			if outcome, err := service.Suspend(t.Context(), "@typo:else.test", "spam"); err != nil || outcome != want {
				t.Errorf("%v %v, want %v", outcome, err, want)
			}
		}
		if list, err := service.Suspended(t.Context(), 0, 10); err != nil || len(list) != 1 {
			t.Errorf("%v %v", list, err)
		}
		if outcome, err := service.Unsuspend(t.Context(), "@typo:else.test"); err != nil || outcome != admin.Done {
			t.Errorf("%v %v", outcome, err)
		}
		if list, err := w.connector.db.Suspensions().Ended(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("kept for nobody: %v %v", list, err)
		}
	}
}

// TestTheEndOfASuspensionIsOrderedAgainWhenItsAnswerWasAnError: what was done all the same is done to its end, and they are connected.
func TestTheEndOfASuspensionIsOrderedAgainWhenItsAnswerWasAnError(t *testing.T) {
	for what, first := range map[string]func(w *world) error{
		"the commit was not answered": func(w *world) error {
			_, err := w.connector.db.Suspensions().End(t.Context(), fakePerson.String())
			return err
		},
		"it stopped before they were connected": func(w *world) error {
			_, err := w.connector.db.Suspensions().End(t.Context(), fakePerson.String())
			if err == nil {
				err = w.connector.suspended.load(t.Context())
			}
			return err
		},
	} {
		w := newWorld(t)
		s := w.connector.suspended
		if _, err := s.begin(t.Context(), fakePerson, "spam"); err != nil {
			t.Fatal(err)
		}
		known := what == "the commit was not answered"
		if err := first(w); err != nil {
			t.Fatal(err)
		}
		w.client.arrivals.close() // the fixture's own
		if was, err := s.end(t.Context(), fakePerson); err != nil || was != known {
			t.Errorf("%s: %v %v", what, was, err)
		}
		w.client.mu.Lock()
		running := w.client.cancel != nil
		w.client.mu.Unlock()
		if !running {
			t.Errorf("%s: nobody connects them", what)
		}
		w.client.Disconnect()
	}
}
