package faults_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/connector/admin"
	"postern/connector/provisioning"
)

// Tokens for the provisioning interface as a story: an operator makes them, programs log people in and out with them.

// token has the operator make a token.
func (n *newcomer) token(scopes string, days int) admin.NewToken {
	n.r.t.Helper()
	said, _ := n.r.postern(0, "tokens", "add", n.UserID, "--scope", scopes, "--days", fmt.Sprint(days), "--json")
	var made admin.NewToken
	n.r.ok(json.Unmarshal([]byte(said), &made))
	return made
}

// asks is a request with a token, and what is answered.
func (r *rig) asks(token, method, path, body string) (status int, answer map[string]any) {
	r.t.Helper()
	req := must(http.NewRequestWithContext(r.ctx, method, r.Bridge.Address+provisioning.Prefix+path, strings.NewReader(body)))(r.t)
	req.Header.Set("Authorization", "Bearer "+token)
	res := must(http.DefaultClient.Do(req))(r.t)
	defer res.Body.Close()
	r.ok(json.NewDecoder(res.Body).Decode(&answer))
	if (res.StatusCode == http.StatusTooManyRequests) != (res.Header.Get("Retry-After") != "") {
		r.t.Errorf("%s: %d with Retry-After %q", path, res.StatusCode, res.Header.Get("Retry-After"))
	}
	return res.StatusCode, answer
}

// answered fails unless a request has that status.
func (r *rig) answered(want int, token, method, path string) {
	r.t.Helper()
	if status, answer := r.asks(token, method, path, "{}"); status != want {
		r.t.Errorf("%s %s: %d %v, want %d", method, path, status, answer, want)
	}
}

// begins begins a login, and is the id of what is under way.
func (r *rig) begins(token string) (process string) {
	r.t.Helper()
	status, answer := r.asks(token, http.MethodPost, "login/start/whatsapp", "{}")
	process, _ = answer["login_id"].(string)
	if status != http.StatusOK || process == "" || answer["step_id"] != "eu.postern.consent" {
		r.t.Fatalf("beginning a login: %d %v", status, answer)
	}
	return process
}

const agreeing = "/eu.postern.consent/user_input"

func TestAProgramLogsSomebodyInAndOutWithATokenThatIsGoodForNothingElse(t *testing.T) {
	withClock(t, func(r *rig) {
		anna, bert := r.newcomer(), r.newcomer()
		hers, his := anna.token("status,login,logout", 7), bert.token("status,login,logout", 7)
		reads, short := bert.token("status", 7), anna.token("status", 1)

		// Anna's program shows her what she agrees to, and logs her in. Bert's touches neither her login under way nor, later, what came of it.
		r.answered(200, hers.Secret, "GET", "login/flows")
		r.answered(403, reads.Secret, "POST", "login/start/whatsapp")
		process := r.begins(hers.Secret)
		r.answered(404, his.Secret, "POST", "login/step/"+process+agreeing)
		r.answered(404, his.Secret, "POST", "login/cancel/"+process)
		if status, answer := r.asks(hers.Secret, "POST", "login/step/"+process+agreeing, `{"answer":"yes"}`); status != 400 || answer["errcode"] != "EU.POSTERN.REFUSED" ||
			!strings.Contains(fmt.Sprint(answer["error"]), "not an agreement") || len(anna.partners()) != 0 {
			r.t.Errorf("what is no agreement is answered with %d %v", status, answer)
		}
		status, answer := r.asks(hers.Secret, "POST", "login/step/"+r.begins(hers.Secret)+agreeing, `{"answer":"agree"}`)
		complete, _ := answer["complete"].(map[string]any)
		login, _ := complete["user_login_id"].(string)
		if status != http.StatusOK || login == "" {
			r.t.Fatalf("agreeing: %d %v", status, answer)
		}
		r.until("the account to be connected", anna.connected)
		r.until("her program to see that", func() bool {
			status, answer := r.asks(short.Secret, "GET", "whoami", "")
			text := fmt.Sprint(answer["logins"])
			return status == http.StatusOK && strings.Contains(text, login) && strings.Contains(text, "CONNECTED")
		})
		if status, answer = r.asks(his.Secret, "GET", "whoami", ""); status != http.StatusOK || strings.Contains(fmt.Sprint(answer), login) {
			r.t.Errorf("his program sees %d %v", status, answer)
		}
		r.answered(403, his.Secret, "GET", "whoami?user_id="+anna.UserID)
		r.answered(404, his.Secret, "POST", "logout/"+login)
		r.answered(403, short.Secret, "POST", "logout/"+login)
		r.answered(403, hers.Secret, "GET", "contacts")
		r.answered(401, "pst_nobody_"+strings.Repeat("A", 43), "GET", "whoami")
		r.answered(401, "", "GET", "whoami")

		// A program that asks too much is slowed down, and no other.
		r.until("a program to be slowed down", func() bool {
			status, _ := r.asks(reads.Secret, "GET", "logins", "")
			return status == http.StatusTooManyRequests
		})
		r.answered(200, his.Secret, "GET", "logins")

		// Tokens end: by the operator, and by themselves.
		r.postern(0, "tokens", "revoke", his.ID)
		r.answered(401, his.Secret, "GET", "logins")
		r.answered(200, short.Secret, "GET", "logins")
		r.ahead(25 * time.Hour)
		r.setClock(25 * time.Hour)
		r.answered(401, short.Secret, "GET", "logins")
		r.answered(200, hers.Secret, "GET", "logins")
		said, _ := r.postern(0, "tokens", "list")
		for id, state := range map[string]string{his.ID: "revoked", short.ID: "expired", hers.ID: "good"} {
			if !slices.ContainsFunc(strings.Split(said, "\n"), func(line string) bool { return strings.Contains(line, id) && strings.Contains(line, state) }) {
				r.t.Errorf("the list does not say that %s is %s:\n%s", id, state, said)
			}
		}

		// Her program logs her out, which is the end of her tokens too.
		r.answered(200, hers.Secret, "POST", "logout/"+login)
		r.until("the gatekeeper to have deleted her", func() bool { return len(anna.partners()) == 0 })
		r.until("her token to be no good any more", func() bool {
			status, _ := r.asks(hers.Secret, "GET", "logins", "")
			return status == http.StatusUnauthorized
		})
		r.audited(map[string]int{
			"operator add-token " + hers.ID + ": done":           1,
			"operator add-token " + his.ID + ": done":            1,
			"operator revoke-token " + his.ID + ": done":         1,
			"token " + hers.ID + " login-start: done":            2,
			"token " + hers.ID + " login-step: refused":          1,
			"token " + hers.ID + " login-step: done":             1,
			"token " + hers.ID + " logout " + login + ": done":   1,
			"token " + hers.ID + " read-contacts: refused":       1,
			"token " + reads.ID + " login-start: refused":        1,
			"token " + short.ID + " logout: refused":             1,
			"token " + his.ID + " read-status: refused":          1,
			"token " + his.ID + " logout " + login + ": refused": 1,
		}, anna.name, bert.name, hers.Secret[20:], his.Secret[20:])
	})
}

// audited fails unless `postern audit` has these lines so many times, and none of these secrets.
func (r *rig) audited(want map[string]int, secrets ...string) {
	r.t.Helper()
	said, _ := r.postern(0, "audit", "--json")
	var list struct {
		Audit []admin.AuditEntry `json:"audit"`
	}
	r.ok(json.Unmarshal([]byte(said), &list))
	have := map[string]int{}
	for _, e := range list.Audit {
		have[strings.TrimSpace(e.Actor+" "+e.Action+" "+e.Subject)+": "+e.Outcome]++
	}
	for line, n := range want {
		if have[line] != n {
			r.t.Errorf("%q stands %d times in the audit log, want %d:\n%s", line, have[line], n, said)
		}
	}
	for _, secret := range secrets {
		if strings.Contains(said, secret) {
			r.t.Errorf("the audit log has %s", secret)
		}
	}
}
