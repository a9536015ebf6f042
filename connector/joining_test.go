package connector

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"postern/connector/profile"
	"postern/connector/words"
	"postern/database"
	"postern/database/databasetest"
)

// TestTheWordsOfTheConsentAreThoseOfTheirVersion fails when the words change. Everybody who has agreed is asked again then, so it should be
// meant: put the new version here.
func TestTheWordsOfTheConsentAreThoseOfTheirVersion(t *testing.T) {
	for language, want := range map[string]string{"en": "c359f8d0ca19", "de": "b2be15f2f4a3"} {
		if got := New().wording(words.For(language)); got != want {
			t.Errorf("%s: the version is %s", language, got)
		}
	}
	c := New()
	before := c.wording(words.For("en"))
	c.Config.Operator.Contact = "bridge@example.org"
	if c.wording(words.For("en")) == before {
		t.Error("another operator does not change the version")
	}
}

func TestAConsentIsKeptAsItWasShownAndIsOutdatedWhenTheWordsAreOthers(t *testing.T) {
	c := New()
	c.db = databasetest.Open(t, databasetest.SQLiteConfig(t))
	account := &database.Account{ID: "a", Gatekeeper: "whatsapp", MXID: "@a:test", Identifier: "a", ConsentVersion: 1}
	if err := c.db.Accounts().Put(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	row, d, err := c.consentOf(t.Context(), "a")
	if row != nil || err != nil || !c.outdated(row, d) {
		t.Fatalf("an account without one: %+v %v", row, err)
	}
	de := words.For("de")
	text := c.consentText(de, profile.WhatsApp(), "a")
	made, err := c.newConsent(de, "a", consentDocument{Text: text, Gatekeeper: "whatsapp", Identifier: "a", Source: modeEmail, ReadReceipts: true, Country: "DE"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.db.Consents().Add(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	row, d, err = c.consentOf(t.Context(), "a")
	if err != nil || d.Text != text || d.Language != "de" || !d.ReadReceipts || d.Country != "DE" || d.Source != modeEmail || c.outdated(row, d) {
		t.Errorf("%+v %+v %v", row, d, err)
	}
	c.Config.Operator.Name = "Somebody else"
	if !c.outdated(row, d) {
		t.Error("a new operator, and nobody is asked again")
	}
}

func TestTheConsentNamesWhoRunsTheBridge(t *testing.T) {
	c := New()
	for _, x := range []struct{ name, contact, want string }{
		{"ACME", "bridge@example.org", "ACME (bridge@example.org)"}, {"ACME", "", "that is ACME."}, {"", "b@example.org", "that is b@example.org."},
		{"", "", "somebody who has not put a name here"},
	} {
		c.Config.Operator = OperatorConfig{x.name, x.contact}
		if text := c.consentText(words.For("en"), profile.WhatsApp(), "a_b*c"); !strings.Contains(text, x.want) || !strings.Contains(text, `a\_b\*c`) {
			t.Errorf("%+v: %s", x, text)
		}
	}
}

// gated is a connector with a gate and an empty database.
func gated(t *testing.T, changes map[string]any) *Connector {
	t.Helper()
	c := New()
	c.Config = *exampleWith(t, changes)
	if err := c.Config.prepare(); err != nil {
		t.Fatal(err)
	}
	c.db = databasetest.Open(t, databasetest.SQLiteConfig(t))
	if err := c.prepareJoining(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheListOfTheAdminLetsInWhoIsOnIt(t *testing.T) {
	c := gated(t, map[string]any{"region.gate": "list", "region.allow": []string{"@anna:example.org", "@team-*:example.org", "*:b.example"}})
	for user, want := range map[id.UserID]verdict{
		"@anna:example.org": regionAdmitted, "@team-x:example.org": regionAdmitted, "@any:b.example": regionAdmitted,
		"@anna:exampleXorg": regionRefused, "@annab:example.org": regionRefused, "@x:b.example.net": regionRefused, "@anna:example.org:1": regionRefused,
	} {
		if got, err := c.admit(t.Context(), user); err != nil || got != want {
			t.Errorf("%s: %v %v", user, got, err)
		}
	}
	if row, err := c.db.Regions().Get(t.Context(), "@anna:example.org"); err != nil || row.Checked == 0 || row.Until != 0 {
		t.Errorf("%+v %v", row, err)
	}
	if row, err := c.db.Regions().Get(t.Context(), "@annab:example.org"); err != nil || row.Checked != 0 {
		t.Errorf("something is kept of who was refused: %+v %v", row, err)
	}
}

func TestADeclarationHoldsForItsTimeAndForItsCountries(t *testing.T) {
	c := gated(t, map[string]any{"region.gate": "declaration", "region.declaration_days": 10})
	day := 24 * time.Hour
	for name, x := range map[string]struct {
		country string
		age     time.Duration
		want    verdict
	}{
		"none":              {"", 0, regionRefused},
		"Germany":           {"DE", time.Minute, regionAdmitted},
		"Norway":            {"NO", 9 * day, regionAdmitted},
		"too long ago":      {"DE", 10*day + time.Minute, regionRefused},
		"another continent": {"BR", time.Minute, regionRefused},
	} {
		user := id.UserID("@" + strings.ReplaceAll(name, " ", "") + ":test")
		declared := time.Now().Add(-x.age)
		if err := c.db.Regions().Put(t.Context(), &database.Region{MXID: user.String(), Country: x.country, Declared: declared.UnixMilli()}); err != nil {
			t.Fatal(err)
		}
		if got, err := c.admit(t.Context(), user); err != nil || got != x.want {
			t.Errorf("%s: %v %v", name, got, err)
		}
		row, err := c.db.Regions().Get(t.Context(), user.String())
		if err != nil || x.want == regionAdmitted && row.Until != declared.Add(10*day).UnixMilli() {
			t.Errorf("%s: %+v %v", name, row, err)
		}
	}
}

func TestTheHookDecidesAndWhatIsNoAnswerIsUnknown(t *testing.T) {
	var answer atomic.Value
	var seen atomic.Pointer[http.Request]
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r)
		switch text := answer.Load().(string); text {
		case "500":
			w.WriteHeader(http.StatusInternalServerError)
		case "elsewhere":
			http.Redirect(w, r, "/other", http.StatusFound)
		case "hang":
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		default:
			_, _ = w.Write([]byte(text))
		}
	}))
	defer server.Close()
	defer close(hang)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("word of trust\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := gated(t, map[string]any{
		"region.gate": "hook", "region.hook.url": server.URL, "region.hook.token_file": filepath.Join(dir, "token"), "region.hook.timeout": "200ms",
	})
	future := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for name, x := range map[string]struct {
		answer string
		want   verdict
		until  int64
	}{
		"yes":                {`{"allow":true}`, regionAdmitted, 0},
		"yes, for a while":   {`{"allow":true,"until":"` + future.Format(time.RFC3339) + `"}`, regionAdmitted, future.UnixMilli()},
		"yes, until the day": {`{"allow":true,"until":"2020-01-01T00:00:00Z"}`, regionRefused, 0},
		"no":                 {`{"allow":false}`, regionRefused, 0},
		"not said":           {`{}`, regionUnknown, 0},
		"no JSON":            {`yes`, regionUnknown, 0},
		"a fault":            {"500", regionUnknown, 0},
		"another address":    {"elsewhere", regionUnknown, 0},
		"nothing":            {"hang", regionUnknown, 0},
		"a lot":              {`{"allow":` + strings.Repeat(" ", maxHookAnswer) + `true}`, regionUnknown, 0},
	} {
		answer.Store(x.answer)
		user := id.UserID("@" + strings.Map(func(r rune) rune {
			if r < 'a' || r > 'z' {
				return -1
			}
			return r
		}, name) + ":test")
		got, err := c.admit(t.Context(), user)
		row, rowErr := c.db.Regions().Get(t.Context(), user.String())
		if err != nil || rowErr != nil || got != x.want || row.Until != x.until || (row.Checked != 0) != (got == regionAdmitted) {
			t.Errorf("%s: %v %+v %v %v", name, got, row, err, rowErr)
		}
		if r := seen.Load(); r.Method != http.MethodPost || r.Header.Get("Authorization") != "Bearer word of trust" {
			t.Errorf("%s: %s with %v", name, r.Method, r.Header)
		}
	}
}

// FuzzAnswersOfTheHook reads any answer of the operator's service: one that says nothing is an error.
//
// decoder: region.go:readHookAnswer
func FuzzAnswersOfTheHook(f *testing.F) {
	f.Add(`{"allow":true}`)
	f.Add(`{"allow":false,"until":"2027-01-31T00:00:00Z"}`)
	f.Add(`{"allow":1}`)
	f.Fuzz(func(t *testing.T, text string) {
		var answer *hookAnswer
		var err error
		boundedAllocation(t, 64<<10+64*len(text), func() { answer, err = readHookAnswer(strings.NewReader(text)) })
		if err == nil && answer.Allow == nil {
			t.Errorf("%q is taken for an answer", text)
		}
	})
}

func TestSomebodyWithoutALoginIsForgotten(t *testing.T) {
	c := gated(t, map[string]any{"region.gate": "declaration"})
	ctx := context.Background()
	for _, user := range []string{"@in:test", "@out:test"} {
		if err := c.db.Regions().Put(ctx, &database.Region{MXID: user, Country: "DE", Declared: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.db.Accounts().Put(ctx, &database.Account{ID: "a", Gatekeeper: "whatsapp", MXID: "@in:test", Identifier: "in"}); err != nil {
		t.Fatal(err)
	}
	for user, want := range map[id.UserID]string{"@in:test": "DE", "@out:test": ""} {
		if err := c.forgetRegion(ctx, user); err != nil {
			t.Fatal(err)
		}
		if row, err := c.db.Regions().Get(ctx, user.String()); err != nil || row.Country != want {
			t.Errorf("%s: %+v %v", user, row, err)
		}
	}
}

func TestWhatTheGatekeeperAnswersWithHasToBeAnIdentifier(t *testing.T) {
	for text, want := range map[string]bool{
		"alice": true, "Ä.b@c": true, strings.Repeat("ä", 100): true, "": false, strings.Repeat("a", 101): false, "a\nb": false, "\xff": false,
	} {
		if usable(text) != want {
			t.Errorf("%q", text)
		}
	}
	for _, x := range []struct {
		kind, text string
		want       bool
	}{
		{identifierEmail, "a@example.org", true}, {identifierEmail, "a", false}, {identifierPhone, "4915112345678", true}, {identifierPhone, "12", false},
		{identifierPhone, "01234567", false}, {identifierUsername, "a.b", true}, {identifierUsername, "a b", false}, {identifierUsername, "a\u202eb", false},
	} {
		if proper(x.kind, x.text) != x.want {
			t.Errorf("%s %q", x.kind, x.text)
		}
	}
}

func TestASecretComesFromItsFile(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"good": "pass word \r\n", "empty": "\n", "long": strings.Repeat("x", 5000)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := secretFile("network.x", dir, "good"); err != nil || got != "pass word " {
		t.Errorf("%q %v", got, err)
	}
	for _, name := range []string{"empty", "long", "none"} {
		if _, err := secretFile("network.x", dir, name); err == nil || !strings.HasPrefix(err.Error(), "network.x: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
