package connector

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/event"

	"postern/connector/interop"
	"postern/connector/words"
	"postern/database"
)

// refusing has the gatekeeper deliver nothing before an answer.
func (w *world) refusing() {
	before := w.client.profile.Message.Unanswered
	w.client.profile.Message.Unanswered = false
	w.t.Cleanup(func() { w.client.profile.Message.Unanswered = before })
}

// answering has every question answered so.
func (w *world) answering(err error) *atomic.Int64 {
	asked := &atomic.Int64{}
	w.client.reach.question = func(context.Context, string, string) error { asked.Add(1); return err }
	return asked
}

func (w *world) stateOf() database.ReachState {
	w.t.Helper()
	row, err := w.client.reach.store().Get(w.t.Context(), w.account, w.peer.Chat)
	if err != nil {
		w.t.Fatal(err)
	}
	return row.State
}

// TestWhoWasNotAskedIsNotSaidToHaveBeen: without a stream, with an answer that does not come, and where the gatekeeper wants fewer questions.
func TestWhoWasNotAskedIsNotSaidToHaveBeen(t *testing.T) {
	for what, x := range map[string]struct {
		cause error
		part  string
	}{
		"no stream":       {interop.ErrOffline, "could not be reached"},
		"no answer":       {context.DeadlineExceeded, "did not answer"},
		"a fault":         {&interop.RequestError{Op: "ping", Code: 503, Transient: true}, "did not answer"},
		"fewer questions": {&interop.RequestError{Op: "ping", Code: 429, Transient: true}, "fewer questions"},
	} {
		w := newWorld(t)
		w.refusing()
		w.answering(x.cause)
		news, err := w.client.reach.begin(t.Context(), w.peer.Chat, "Ben")
		if err != nil || news.state != database.ReachToAsk {
			t.Fatalf("%s: %+v %v", what, news, err)
		}
		if text := news.words(words.For("en"), w.client); !strings.Contains(text, x.part) || !strings.Contains(text, "not been asked yet") {
			t.Errorf("%s: the command says %q", what, text)
		}
		var said bridgev2.MessageStatus
		if err = w.client.mayWrite(t.Context(), w.peer.Chat); !errors.As(err, &said) || !strings.Contains(said.Message, "not been asked yet") {
			t.Errorf("%s: a message: %v", what, said.Message)
		}
		if !w.client.reach.loop.wanted() {
			t.Errorf("%s: nobody tries again", what)
		}
	}
}

// TestAQuestionThatWasNotTakenIsPutAgainWithoutANewStream: later and later, and at once with a new stream.
func TestAQuestionThatWasNotTakenIsPutAgainWithoutANewStream(t *testing.T) {
	w := newWorld(t)
	asked := w.answering(&interop.RequestError{Op: "ping", Code: 429, Transient: true})
	if _, err := w.client.reach.begin(t.Context(), w.peer.Chat, "Ben"); err != nil {
		t.Fatal(err)
	}
	w.client.reach.again = time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.client.reach.start(ctx); <-ctx.Done(); w.client.reach.loop.end(ctx) })
	w.until("it is asked again and again", func() bool { return asked.Load() >= 4 })
	stop()
	running.Wait()
	w.answering(nil)
	ctx, stop = context.WithCancel(t.Context())
	w.client.reach.again = time.Hour
	running.Go(func() { w.client.reach.start(ctx); <-ctx.Done(); w.client.reach.loop.end(ctx) })
	w.client.Connection(t.Context(), interop.ConnState{Kind: interop.ConnLive})
	w.until("it is asked with a new stream", func() bool { return w.stateOf() == database.ReachAsked })
	stop()
	running.Wait()
}

// TestAQuestionThatWaitsForItsAnswerHoldsUpNothing: neither other chats nor what is written in the same one.
func TestAQuestionThatWaitsForItsAnswerHoldsUpNothing(t *testing.T) {
	w := newWorld(t)
	asked, release := make(chan struct{}), make(chan struct{})
	w.client.reach.question = func(context.Context, string, string) error { close(asked); <-release; return nil }
	var news startNews
	var err error
	var asking sync.WaitGroup
	asking.Go(func() { news, err = w.client.reach.begin(t.Context(), w.peer.Chat, "Ben") })
	<-asked
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.client.chats.get(w.peer.Chat).writable.Store(false)
		if err := w.client.mayWrite(t.Context(), w.peer.Chat); err != nil && !errors.Is(err, errUnanswered) {
			t.Error(err)
		}
		if err := w.client.mayWrite(t.Context(), "another chat"); err != nil {
			t.Error(err)
		}
		if err := w.client.Deliver(t.Context(), w.inbound("A", plainText("hello"))); err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Error("a message waits for the answer to a question")
	}
	close(release)
	asking.Wait()
	<-done
	if err != nil || news.state != database.ReachAccepted || w.stateOf() != database.ReachAccepted {
		t.Errorf("who has written before the question was answered: %+v %v, %d", news, err, w.stateOf())
	}
}

func TestNobodyIsAskedByTwoAtOnce(t *testing.T) {
	w := newWorld(t)
	var asked atomic.Int64
	w.client.reach.question = func(_ context.Context, chat, _ string) error {
		if asking := &w.client.chats.get(chat).asking; asking.TryLock() {
			asking.Unlock()
			t.Error("somebody else could ask now")
		}
		asked.Add(1)
		return nil
	}
	var all sync.WaitGroup
	all.Go(func() { _, _ = w.client.reach.askLate(t.Context(), w.peer.Chat) })
	for range 4 {
		all.Go(func() {
			if _, err := w.client.reach.begin(t.Context(), w.peer.Chat, "Ben"); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			if _, err := w.client.reach.catchUp(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if asked.Load() != 1 {
		t.Errorf("they are asked %d times", asked.Load())
	}
}

// TestWhatIsSaidLateIsStoredWithItsCause: a state whose words could not be stored is not stored either, so that a kill between the two loses
// nothing.
func TestWhatIsSaidLateIsStoredWithItsCause(t *testing.T) {
	late := func(w *world) error {
		w.answering(&interop.RequestError{Op: "ping", Code: 403})
		_, err := w.client.reach.catchUp(w.t.Context())
		return err
	}
	for what, x := range map[string]struct {
		do   func(w *world) error
		end  database.ReachState
		part string
		room bool
	}{
		"refused, with a room":    {late, database.ReachNone, "could not be asked", true},
		"refused, without a room": {late, database.ReachNone, "could not be asked", false},
		"declined, without a room": {func(w *world) error {
			in := w.inbound("news", nil)
			in.Kind, in.Reason, in.Message = interop.KindReachability, "declined", nil
			return w.client.Deliver(w.t.Context(), in)
		}, database.ReachDeclined, "declined", false},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.reached(database.ReachToAsk)
			if !x.room {
				w.roomless()
			}
			exec := func(query string) {
				t.Helper()
				if _, err := w.running.db.Exec(t.Context(), query); err != nil {
					t.Fatal(err)
				}
			}
			exec("CREATE TRIGGER no_notice BEFORE INSERT ON postern_notice BEGIN SELECT RAISE(ABORT, 'no'); END")
			_ = x.do(w)
			if got := w.stateOf(); got != database.ReachToAsk {
				t.Errorf("the state is %d before the person can be told", got)
			}
			exec("DROP TRIGGER no_notice")
			for range 2 {
				if err := x.do(w); err != nil {
					t.Fatal(err)
				}
			}
			if got := w.stateOf(); got != x.end {
				t.Errorf("the state is %d, want %d", got, x.end)
			}
			if list := w.waitingNotices(); len(list) != 1 || !strings.Contains(string(list[0].Content), x.part) {
				t.Errorf("the person is told %s", w.notices())
			}
		})
	}
}

// roomless takes the chat's room away, and has the bot have a room with the person.
func (w *world) roomless() {
	w.t.Helper()
	portal, err := w.connector.bridge.GetPortalByKey(w.t.Context(), portalKey(w.account, w.peer.Chat))
	if err != nil {
		w.t.Fatal(err)
	}
	portal.MXID = ""
	if err = portal.Save(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.client.login.User.ManagementRoom = managedRoom
}

func TestWhatIsRefusedHasOneWarningAndItsOwnReason(t *testing.T) {
	w := newWorld(t)
	w.refusing()
	for _, x := range []struct {
		what    string
		prepare func()
	}{
		{"declined", func() { w.reached(database.ReachDeclined) }},
		{"unanswered", func() { w.reached(database.ReachAsked) }},
		{"not asked", func() { w.reached(database.ReachToAsk) }},
		{"blocked", func() { w.block(true) }},
		{"suspended", func() {
			if _, err := w.connector.suspended.begin(t.Context(), fakePerson, "spam"); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		x.prepare()
		var said bridgev2.MessageStatus
		err := w.client.mayWrite(t.Context(), w.peer.Chat)
		if !errors.As(err, &said) || strings.Contains(said.Message, "⚠️") || said.ErrorReason != event.MessageStatusNoPermission {
			t.Errorf("%s: %q because of %s (%v)", x.what, said.Message, said.ErrorReason, err)
		}
	}
}
