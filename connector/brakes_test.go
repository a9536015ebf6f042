package connector

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/bridgev2/matrix"
	"maunium.net/go/mautrix/id"

	"postern/connector/admin"
	"postern/database"
)

// TestARateLetsNoMoreThroughInAnyMinute: in order, also those that have to wait, and a start gives no burst.
func TestARateLetsNoMoreThroughInAnyMinute(t *testing.T) {
	began := time.UnixMilli(1_700_000_000_000)
	for _, uptime := range []time.Duration{0, time.Hour} {
		r := newRate(6, began)
		now := began.Add(uptime)
		var places []time.Time
		for i := range 20 {
			if i == 9 {
				now = now.Add(90 * time.Second)
			}
			at := r.next(now)
			if at.Before(now) || i > 0 && at.Before(places[i-1]) {
				t.Fatalf("place %d at %v, now %v", i, at, now)
			}
			places = append(places, at)
		}
		for i := 6; i < len(places); i++ {
			if d := places[i].Sub(places[i-6]); d < time.Minute {
				t.Errorf("after %v: places %d and %d are %v apart", uptime, i-6, i, d)
			}
		}
		for i := range 6 {
			want := began.Add(uptime)
			if uptime == 0 {
				want = began.Add(time.Duration(i) * 10 * time.Second)
			}
			if !places[i].Equal(want) {
				t.Errorf("after %v: place %d is %v after the start", uptime, i, places[i].Sub(began))
			}
		}
		if r.full(now).IsZero() || !r.full(now.Add(time.Hour)).IsZero() {
			t.Error("it does not say when it is full")
		}
		if r.next(now.Add(time.Hour)); len(r.places) > 2 {
			t.Errorf("%d places are remembered", len(r.places))
		}
	}
}

func TestOfNewChatsLookUpsAndCodesThereAreOnlySoMany(t *testing.T) {
	w := newWorld(t)
	w.connector.Config.Brakes.User = BrakeConfig{NewChats: 2, Lookups: 3, Messages: 60}
	w.connector.Config.Brakes.Bridge = BrakeConfig{NewChats: 3, Lookups: 3, Messages: 60}
	ctx, b := t.Context(), func() *brakes { return w.connector.brakes }
	chat := func(user string) error {
		_, err := b().chat(ctx, id.UserID("@"+user), w.client.words())
		return err
	}
	for i, want := range []string{"", "", "2 new chats"} {
		if err := chat("a:test"); (want == "") != (err == nil) || want != "" && !strings.Contains(err.Error(), want) {
			t.Errorf("chat %d: %v", i, err)
		}
	}
	w.restart()
	w.connector.Config.Brakes.User, w.connector.Config.Brakes.Bridge = BrakeConfig{NewChats: 2, Lookups: 3, Messages: 60}, BrakeConfig{NewChats: 3, Lookups: 3, Messages: 60}
	if err := chat("a:test"); err == nil || !strings.Contains(err.Error(), "UTC") {
		t.Errorf("after a restart: %v", err)
	}
	if err := chat("b:test"); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	if err := chat("c:test"); err == nil || !strings.Contains(err.Error(), "everybody on this bridge") {
		t.Errorf("all together: %v", err)
	}
	// The provisioning API asks in the same way, and is answered that it is too much.
	for i := range 5 {
		_, err := w.client.ResolveIdentifier(ctx, "+4915112345678", false)
		if err == nil {
			t.Fatalf("question %d: answered without a stream", i)
		}
	}
	// Nobody could be asked, so nothing was counted.
	if _, lookups, err := b().left(ctx, fakePerson); err != nil || lookups != 3 {
		t.Errorf("%d look-ups are left (%v)", lookups, err)
	}
	for range 3 {
		if _, err := b().lookup(ctx, fakePerson, w.client.words()); err != nil {
			t.Fatal(err)
		}
	}
	_, err := w.client.ResolveIdentifier(ctx, "+4915112345678", true)
	var writable matrix.WritableError
	if !errors.As(err, &writable) || !errors.Is(err, mautrix.MLimitExceeded) || !strings.Contains(toldWords(err), "3 phone numbers") {
		t.Errorf("one too many: %v", err)
	}
	for i := range 4 {
		_, _, err := w.connector.proof(ctx, "@d:test", "d@example.org", w.client.words())
		if (i < lettersMost.Subject) != (err == nil) {
			t.Errorf("code %d: %v", i, err)
		}
	}
	for i := range 7 {
		_, _, err := w.connector.proof(ctx, "@e:test", fmt.Sprintf("e%d@example.org", i), w.client.words())
		if (i < lettersMost.User) != (err == nil) {
			t.Errorf("code %d of another: %v", i, err)
		}
	}
}

func TestBrakesThatCannotBeAreRefusedInWords(t *testing.T) {
	for want, b := range map[string]BrakesConfig{
		"network.brakes.user.lookups_an_hour is 1 to":               {User: BrakeConfig{Lookups: -1}},
		"network.brakes.bridge.messages_a_minute is 1 to":           {Bridge: BrakeConfig{Messages: 10_000_000}},
		"must not be less than network.brakes.user.new_chats_a_day": {User: BrakeConfig{NewChats: 20}, Bridge: BrakeConfig{NewChats: 19}},
	} {
		if err := b.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
	var b BrakesConfig
	if err := b.check(); err != nil || b.User != (BrakeConfig{10, 30, 60}) {
		t.Errorf("the defaults: %+v %v", b, err)
	}
}

// TestWhatIsWrittenBeforeAnAnswerFollowsTheGatekeeper: refused where it is not delivered, and after a refusal in any case.
func TestWhatIsWrittenBeforeAnAnswerFollowsTheGatekeeper(t *testing.T) {
	w := newWorld(t)
	r := w.client.reach
	set := func(state database.ReachState) {
		t.Helper()
		r.mu.Lock()
		defer r.mu.Unlock()
		if err := r.put(t.Context(), w.peer.Chat, state, nil); err != nil {
			t.Fatal(err)
		}
	}
	may := func(delivers bool, state database.ReachState) bool {
		t.Helper()
		w.client.profile.Message.Unanswered = delivers
		set(state)
		err := w.client.mayWrite(t.Context(), w.peer.Chat)
		if err != nil && !errors.Is(err, errUnanswered) {
			t.Fatal(err)
		}
		return err == nil
	}
	for state, want := range map[database.ReachState][2]bool{
		database.ReachNone: {true, true}, database.ReachToAsk: {true, false}, database.ReachAsked: {true, false}, database.ReachAccepted: {true, true},
		database.ReachDeclined: {false, false}, database.ReachOff: {true, true},
	} {
		if got := [2]bool{may(true, state), may(false, state)}; got != want {
			t.Errorf("state %d: %v, want %v", state, got, want)
		}
	}
	// Who has declined and writes has accepted, and what the gatekeeper says counts as well; both after a restart too.
	set(database.ReachDeclined)
	w.restart()
	r = w.client.reach
	if w.client.mayWrite(t.Context(), w.peer.Chat) == nil {
		t.Error("forgotten over a restart")
	}
	w.say("A", "all right then")
	if err := w.client.mayWrite(t.Context(), w.peer.Chat); err != nil {
		t.Errorf("after they have written: %v", err)
	}
	for _, x := range []struct {
		what  string
		state database.ReachState
	}{{"declined", database.ReachDeclined}, {"off", database.ReachOff}, {"accepted", database.ReachAccepted}, {"nonsense", database.ReachAccepted}} {
		if err := r.told(t.Context(), w.peer.Chat, x.what, "x", ""); err != nil {
			t.Fatal(err)
		}
		if row, err := r.store().Get(t.Context(), w.account, w.peer.Chat); err != nil || row.State != x.state {
			t.Errorf("%s: %+v %v", x.what, row, err)
		}
	}
}

// TestWhoIsToBeAskedAndCannotBeStaysSo: without a stream the wish stands, is counted once, and asking again adds nothing.
func TestWhoIsToBeAskedAndCannotBeStaysSo(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		news, err := w.client.reach.begin(t.Context(), w.peer.Chat, "Ben")
		if err != nil || news.state != database.ReachToAsk {
			t.Fatalf("%+v %v", news, err)
		}
	}
	if chats, _, err := w.connector.brakes.left(t.Context(), fakePerson); err != nil || chats != w.connector.Config.Brakes.User.NewChats-1 {
		t.Errorf("%d chats are left (%v)", chats, err)
	}
	if rows, err := w.client.reach.store().ToAsk(t.Context(), w.account); err != nil || len(rows) != 1 {
		t.Errorf("%v %v", rows, err)
	}
}

func TestWhoIsSuspendedIsRefusedEverywhereAndLetOn(t *testing.T) {
	w := newWorld(t)
	s := w.connector.suspended
	if outcome, err := s.begin(t.Context(), fakePerson, "spam"); err != nil || outcome != admin.Done {
		t.Fatal(outcome, err)
	}
	refused := func(when string) {
		t.Helper()
		if err := w.client.mayWrite(t.Context(), w.peer.Chat); !errors.Is(err, errSuspended) {
			t.Errorf("%s: a message: %v", when, err)
		}
		for what, err := range map[string]error{
			"a look-up": func() error { _, err := w.client.lookup(t.Context(), "+4915112345678"); return err }(),
			"a chat":    func() error { _, err := w.client.reach.begin(t.Context(), w.peer.Chat, "Ben"); return err }(),
			"a login": func() error {
				l, err := w.connector.CreateLogin(t.Context(), w.client.login.User, "whatsapp")
				if err == nil {
					_, err = l.Start(t.Context())
				}
				return err
			}(),
		} {
			if err == nil || !strings.Contains(err.Error(), "suspended") {
				t.Errorf("%s: %s: %v", when, what, err)
			}
		}
		w.client.Connect(t.Context())
		if w.client.cancel != nil {
			t.Errorf("%s: a stream is open", when)
		}
	}
	refused("at once")
	w.restart()
	refused("after a restart")
	w.client.arrivals.close() // the fixture's own
	if was, err := w.connector.suspended.end(t.Context(), fakePerson); err != nil || !was {
		t.Fatal(was, err)
	}
	if w.client.cancel == nil {
		t.Error("no stream is opened")
	}
	w.client.Disconnect()
	if err := w.client.mayWrite(t.Context(), w.peer.Chat); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
