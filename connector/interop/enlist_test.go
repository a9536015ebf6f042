package interop_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"postern/connector/interop"
	"postern/connector/profile"
)

func enlistRequest(url string) interop.EnlistRequest {
	r := interop.EnlistRequest{
		Profile: profile.WhatsApp().WithEndpoints(profile.Endpoints{Enlist: url}), RegistrationID: 0x01020304, SignedPreKeyID: 0x050607, Token: "a.b.c",
	}
	for i := range 32 {
		r.NoiseKey[i], r.IdentityKey[i], r.SignedPreKey[i] = byte(i), byte(0x80+i), byte(0xC0+i)
	}
	for i := range 64 {
		r.SignedPreKeySignature[i] = byte(i)
	}
	return r
}

func TestEnlistingSendsTheFieldsOfTheProtocol(t *testing.T) {
	var form map[string][]string
	var contentType string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		contentType = r.Header.Get("Content-Type")
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		form = r.PostForm
		w.Write([]byte(`{"status":"ok","login":"1-10853634039893@interop","identifier":"matilda@example.org"}`))
	}))
	defer s.Close()
	r := enlistRequest(s.URL)
	result, err := interop.Enlist(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	if result.Login.String() != "1-10853634039893@interop" || result.Identifier != "matilda@example.org" {
		t.Errorf("got %v", result)
	}
	if contentType != "application/x-www-form-urlencoded" {
		t.Errorf("content type %q", contentType)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	for field, want := range map[string]string{
		"authkey": b64(r.NoiseKey[:]), "e_keytype": "BQ", "e_regid": "AQIDBA", "e_ident": b64(r.IdentityKey[:]),
		"e_skey_id": "BQYH", "e_skey_val": b64(r.SignedPreKey[:]), "e_skey_sig": b64(r.SignedPreKeySignature[:]), "token": "a.b.c",
	} {
		if len(form[field]) != 1 || form[field][0] != want {
			t.Errorf("%s is %q, want %q", field, form[field], want)
		}
	}
	if len(form) != 8 {
		t.Errorf("%d fields, want 8", len(form))
	}
}

func TestAnswersToEnlistingArePermanentOrTransient(t *testing.T) {
	for _, c := range []struct {
		name, body string
		status     int
		reason     string
		permanent  bool
	}{
		{"a bad token", `{"status":"fail","reason":"bad_token"}`, 200, interop.EnlistBadToken, true},
		{"an unknown integrator", `{"status":"fail","reason":"bad_integrator"}`, 200, interop.EnlistBadIntegrator, true},
		{"a blocked user", `{"status":"fail","reason":"blocked"}`, 200, interop.EnlistBlocked, true},
		{"an old version", `{"status":"fail","reason":"old_version"}`, 200, interop.EnlistOldVersion, true},
		{"a region", `{"status":"fail","reason":"not_allowed"}`, 200, interop.EnlistNotAllowed, true},
		{"a missing field", `{"status":"fail","reason":"missing_param"}`, 200, interop.EnlistMissingParam, true},
		{"a bad field", `{"status":"fail","reason":"bad_param"}`, 200, interop.EnlistBadParam, true},
		{"a reason nobody knows", `{"status":"fail","reason":"phase_of_the_moon"}`, 200, interop.EnlistUnknown, true},
		{"keys out of reach", `{"status":"fail","reason":"temporarily_unavailable"}`, 200, interop.EnlistUnavailable, false},
		{"an error page", "<html>", 502, interop.EnlistHTTP, false},
		{"a refusal by HTTP", `{"status":"fail","reason":"bad_token"}`, 403, interop.EnlistHTTP, false},
		{"a redirect", "", 307, interop.EnlistHTTP, false},
		{"no JSON", "hello", 200, interop.EnlistNotJSON, false},
		{"another status", `{"status":"maybe"}`, 200, interop.EnlistNotJSON, false},
		{"no reason", `{"status":"fail"}`, 200, interop.EnlistNotJSON, false},
		{"no login", `{"status":"ok"}`, 200, interop.EnlistNotJSON, false},
		{"a login of another kind", `{"status":"ok","login":"4915@s.whatsapp.net"}`, 200, interop.EnlistNotJSON, false},
		{"an endless answer", `{"status":"ok","login":"` + strings.Repeat("1", 1<<20), 200, interop.EnlistNotJSON, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if c.status == 307 {
					w.Header().Set("Location", "/elsewhere")
				}
				if r.URL.Path == "/elsewhere" {
					t.Error("keys and token went where the redirect says")
				}
				w.WriteHeader(c.status)
				w.Write([]byte(c.body))
			}))
			defer s.Close()
			_, err := interop.Enlist(context.Background(), enlistRequest(s.URL))
			var e *interop.EnlistError
			if !errors.As(err, &e) || e.Reason != c.reason || e.Permanent != c.permanent {
				t.Errorf("got %v %+v, want %s, permanent %v", err, e, c.reason, c.permanent)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		s := httptest.NewServer(http.NotFoundHandler())
		url := s.URL
		s.Close()
		_, err := interop.Enlist(context.Background(), enlistRequest(url))
		var e *interop.EnlistError
		if !errors.As(err, &e) || e.Reason != interop.EnlistNoAnswer || e.Permanent {
			t.Errorf("got %v", err)
		}
		if strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("the text names an address: %v", err)
		}
	})
	t.Run("the caller gives up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := interop.Enlist(ctx, enlistRequest("http://127.0.0.1:1")); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}
