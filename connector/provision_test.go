package connector

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/connector/admin"
	"postern/connector/provisioning"
	"postern/database"
)

// provision makes a request to the framework's interface as it is reached from outside.
func (w *world) provision(method, path, token string) (status int, answer map[string]any) {
	w.t.Helper()
	r := httptest.NewRequest(method, provisioning.Prefix+path, strings.NewReader("{}"))
	r.Header.Set("Authorization", "Bearer "+token)
	rec := httptest.NewRecorder()
	w.connector.matrix.AS.Router.ServeHTTP(rec, r)
	if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil {
		w.t.Errorf("%s %s: %d %s", method, path, rec.Code, rec.Body)
	}
	return rec.Code, answer
}

// audited is the audit log, an entry a line.
func (w *world) audited() (lines []string) {
	w.t.Helper()
	list, err := w.connector.admin.Audit(w.t.Context(), time.Time{}, 0, admin.MaxPage)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range list {
		lines = append(lines, strings.TrimSpace(e.Actor+" "+e.Action+" "+e.Subject)+": "+e.Outcome)
	}
	return lines
}

// TestATokenActsForItsUserInTheRealFrameworkAndForNobodyElse: the gate before the framework's own handlers.
func TestATokenActsForItsUserInTheRealFrameworkAndForNobodyElse(t *testing.T) {
	w := newWorld(t)
	w.connector.taking.Store(true)
	w.connector.matrix.Provisioning.Init() // as the framework's start does
	client := w.askAdmin()
	made, err := client.AddToken(t.Context(), fakePerson.String(), []string{provisioning.ScopeStatus}, 30)
	if err != nil {
		t.Fatal(err)
	}
	status, answer := w.provision("GET", "whoami", made.Secret)
	logins, _ := answer["logins"].([]any)
	if status != http.StatusOK || len(logins) != 1 || !strings.Contains(fmt.Sprint(logins[0]), w.account) {
		t.Errorf("whoami: %d %v", status, answer)
	}
	for path, want := range map[string]int{
		"whoami?user_id=@somebody:test": 403, "contacts": 403, "whoami?user_id=" + fakePerson.String(): 200, "nothing": 404,
	} {
		if status, answer := w.provision("GET", path, made.Secret); status != want {
			t.Errorf("%s: %d %v, want %d", path, status, answer, want)
		}
	}
	if status, _ := w.provision("POST", "logout/"+w.account, made.Secret); status != 403 {
		t.Errorf("a token that may only read logs out: %d", status)
	}
	for what, token := range map[string]string{"none": "", "a Matrix token": "syt_person", "the key file's": w.secret()} {
		if status, _ := w.provision("GET", "whoami?user_id="+fakePerson.String(), token); status != 401 {
			t.Errorf("%s: %d", what, status)
		}
	}
	stranger, err := client.AddToken(t.Context(), "@stranger:test", provisioning.Scopes, 30)
	if err != nil {
		t.Fatal(err)
	}
	if status, answer := w.provision("POST", "logout/"+w.account, stranger.Secret); status != 404 {
		t.Errorf("another user logs them out: %d %v", status, answer)
	}
	if _, err = w.connector.admin.Suspend(t.Context(), fakePerson.String(), ""); err != nil {
		t.Fatal(err)
	}
	if status, _ := w.provision("GET", "whoami", made.Secret); status != 403 {
		t.Errorf("the token of somebody who is suspended: %d", status)
	}
	if results, err := client.RevokeTokens(t.Context(), []string{made.ID, "nobody"}); err != nil || fmt.Sprint(outcomes(results)) != "[done unknown]" {
		t.Errorf("revoking: %v (%v)", results, err)
	}
	if status, _ := w.provision("GET", "whoami", made.Secret); status != 401 {
		t.Errorf("a revoked token: %d", status)
	}
	got := w.audited()
	for _, line := range got {
		if strings.Contains(line, "person") || strings.Contains(line, made.Secret[16:]) {
			t.Errorf("the audit log has %q", line)
		}
	}
	want := []string{
		"operator add-token " + made.ID + ": done", "token " + made.ID + " read-status: refused", "token " + made.ID + " read-contacts: refused", "token " + made.ID + " logout: refused",
		"operator add-token " + stranger.ID + ": done", "token " + stranger.ID + " logout " + w.account + ": refused",
		"offline suspend " + w.account + ": done", "token " + made.ID + " read-status: refused",
		"operator revoke-token " + made.ID + ": done", "operator revoke-token nobody: unknown",
	}
	if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("the audit log is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// secret is what a request of the operator's brings.
func (w *world) secret() string {
	secret, err := admin.Secret(w.key[:])
	if err != nil {
		w.t.Fatal(err)
	}
	return secret
}

func TestTokensAreListedAndBounded(t *testing.T) {
	w := newWorld(t)
	w.connector.taking.Store(true)
	client, ctx := w.askAdmin(), t.Context()
	if _, err := client.AddToken(ctx, "@a:test", []string{"everything"}, 30); !errors.Is(err, admin.ErrRefused) {
		t.Errorf("a scope that is not there: %v", err)
	}
	for _, days := range []int{0, -1, admin.MaxTokenDays + 1} {
		if _, err := client.AddToken(ctx, "@a:test", []string{"status"}, days); !errors.Is(err, admin.ErrRefused) {
			t.Errorf("%d days: %v", days, err)
		}
	}
	made, err := client.AddToken(ctx, "@a:test", []string{"status", "login"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err = w.connector.db.Tokens().Add(ctx, &database.Token{ID: "old", MXID: "@a:test", Scopes: []string{"status"}, At: 1, Expires: 2}, maxTokens); err != nil {
		t.Fatal(err)
	}
	list, err := client.Tokens(ctx, 0, 10)
	if err != nil || len(list) != 2 || list[0].State != admin.TokenExpired || list[1].ID != made.ID || list[1].State != admin.TokenGood || !slices.Equal(list[1].Scopes, []string{"status", "login"}) {
		t.Errorf("%+v (%v)", list, err)
	}
	raw, err := json.Marshal(list)
	if err != nil || strings.Contains(string(raw), made.Secret[17:]) {
		t.Errorf("the list has the token: %s (%v)", raw, err)
	}
	var kept int
	if err = w.connector.db.Raw().QueryRow(ctx, "SELECT COUNT(*) FROM postern_token WHERE hash LIKE $1", "%"+made.Secret[17:]+"%").Scan(&kept); err != nil || kept != 0 {
		t.Errorf("the secret is in the database (%v)", err)
	}
}

// TestWhatTheOperatorChangesIsNotedDownWhateverItIs in all places where it can be ordered.
func TestWhatTheOperatorChangesIsNotedDownWhateverItIs(t *testing.T) {
	w := newWorld(t)
	w.connector.taking.Store(true)
	at := slices.IndexFunc(levels, func(l level) bool { return l.may.Admin })
	boss := w.userAt(levels[at].name, levels[at].may)
	letter := buryIn(t, w.connector.db, NewAccountStore(w.connector.db, w.account, "whatsapp"), w.peer.Chat, "A", "forbidden")
	client, ctx := w.askAdmin(), t.Context()
	for _, typed := range []string{
		"admin users", "admin user " + fakePerson.String(), "admin disconnect " + fakePerson.String(), "suspend @nobody:test why", "admin unsuspend @nobody:test",
		"admin disconnect @nobody:test", "admin dead-letters drop " + letter, "assign-identifier",
	} {
		w.typed(boss, managedRoom, typed)
	}
	if _, err := client.Do(ctx, admin.Order{Action: "users"}); err != nil {
		t.Error(err)
	}
	if _, err := client.CloseReports(ctx, []string{"none"}); err != nil {
		t.Error(err)
	}
	if _, err := client.Report(ctx, "none"); err != nil {
		t.Error(err)
	}
	if _, err := client.RetryDeadLetters(ctx, []string{letter}); err != nil {
		t.Error(err)
	}
	if _, err := client.Do(ctx, admin.Order{Action: "rotate-key"}); err != nil {
		t.Error(err)
	}
	if _, err := client.Do(ctx, admin.Order{Action: "delete", Words: []string{w.account}, Yes: true}); err != nil {
		t.Error(err)
	}
	who := "admin " + boss.MXID.String() + " "
	want := []string{
		who + "disconnect " + w.account + ": already", who + "suspend: no_login", who + "unsuspend: done", who + "disconnect: unknown",
		who + "drop-dead-letter " + letter + ": dropped", who + "assign-identifier: asked",
		"operator close-report none: unknown", "operator read-report none: unknown", "operator retry-dead-letter " + letter + ": unknown", "operator rotate-key: too_early", "operator delete " + w.account + ": begun",
	}
	if got := w.audited(); !slices.Equal(got, want) {
		t.Errorf("the audit log is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if _, err := w.connector.db.Raw().Exec(ctx, "DROP TABLE postern_audit"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Suspend(ctx, "@other:test", ""); err == nil {
		t.Error("something was done that could not be noted down")
	}
	if w.connector.suspended.has("@other:test") {
		t.Error("somebody is suspended, and nobody knows by whom")
	}
}
