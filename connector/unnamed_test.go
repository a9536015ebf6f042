package connector

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/provisionutil"

	"postern/connector/words"
	"postern/database"
)

// TestWhoCannotBeWrittenToIsNamedToThePersonAndNotInTheLog: as a command begins a chat with them, and as the framework does elsewhere.
func TestWhoCannotBeWrittenToIsNamedToThePersonAndNotInTheLog(t *testing.T) {
	for what, prepare := range map[string]func(w *world){
		"declined": func(w *world) { w.reached(database.ReachDeclined) },
		"blocked":  func(w *world) { w.block(true) },
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.client.connector.Config.Requests.Policy = requestsAccept
			in := w.inbound("A", plainText("hello"))
			in.Notify = "Zacharias"
			if err := w.client.Deliver(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			prepare(w)
			log := &bytes.Buffer{}
			ctx := zerolog.New(log).WithContext(t.Context())
			_, err := provisionutil.ResolveIdentifier(ctx, w.client.login, w.ghost.String(), true)
			if err == nil || !strings.Contains(toldWords(err), "Zacharias") {
				t.Errorf("the person reads %v", err)
			}
			if !strings.Contains(log.String(), "was told why") || strings.Contains(log.String(), "Zacharias") {
				t.Errorf("the log says %q", log)
			}
			log.Reset()
			w.connector.bridge.Log = zerolog.New(log)
			if said := w.command("$typed", "start-chat "+w.ghost.String(), ""); !strings.Contains(said, "Zacharias") {
				t.Errorf("the command answers %q", said)
			}
			if strings.Contains(log.String(), "Zacharias") || strings.Contains(log.String(), `"level":"error"`) {
				t.Errorf("the log of a command says %q", log)
			}
		})
	}
}

func TestANumberThatIsMistypedIsNoFaultForTheLog(t *testing.T) {
	w := newWorld(t)
	log := &bytes.Buffer{}
	w.connector.bridge.Log = zerolog.New(log)
	if said := w.command("$typed", "start-chat +0151", ""); !strings.Contains(said, "phone number") {
		t.Errorf("the command answers %q", said)
	}
	if strings.Contains(log.String(), `"level":"error"`) {
		t.Errorf("the log says %q", log)
	}
	if _, err := w.client.ResolveIdentifier(t.Context(), "+0151", true); err == nil || strings.Contains(err.Error(), "number") {
		t.Errorf("the framework is given %v", err)
	}
	if _, err := w.client.openChatWith(t.Context(), "nobody"); !errors.Is(err, bridgev2.ErrResolveIdentifierTryNext) {
		t.Errorf("nobody: %v", err)
	}
}

// reached sets how it stands with asking the other person.
func (w *world) reached(state database.ReachState) {
	w.t.Helper()
	r := w.client.reach
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.put(w.t.Context(), w.peer.Chat, state, nil); err != nil {
		w.t.Fatal(err)
	}
}

// TestAProgramIsToldWhyInWordsAndWhatIsAFaultOfTheBridge: the framework answers with what an error writes.
func TestAProgramIsToldWhyInWordsAndWhatIsAFaultOfTheBridge(t *testing.T) {
	w := newWorld(t)
	german := words.For("de").Error("error.wrong")
	_, mistyped := w.client.ResolveIdentifier(t.Context(), "+0151", true)
	for what, c := range map[string]struct {
		err    error
		status int
		says   string
	}{
		"a number":  {mistyped, http.StatusBadRequest, "phone number"},
		"an answer": {overHTTP(errors.New("this is not an agreement")), http.StatusBadRequest, "not an agreement"},
		"a fault":   {overHTTP(german), http.StatusInternalServerError, german.Error()},
		"a brake":   {unnamed(bridgev2.RespError(mautrix.MLimitExceeded.WithMessage("slower"))), http.StatusTooManyRequests, "slower"},
	} {
		rec := httptest.NewRecorder()
		var writes interface{ Write(w http.ResponseWriter) }
		if !errors.As(c.err, &writes) {
			t.Errorf("%s: %v writes nothing", what, c.err)
			continue
		}
		writes.Write(rec)
		if rec.Code != c.status || !strings.Contains(rec.Body.String(), c.says) {
			t.Errorf("%s: %d %s", what, rec.Code, rec.Body)
		}
	}
	if overHTTP(nil) != nil {
		t.Error("no error is one")
	}
}
