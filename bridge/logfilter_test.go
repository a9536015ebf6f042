package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// filtered logs through the filter and returns the line.
func filtered(t *testing.T, write func(zerolog.Logger)) string {
	t.Helper()
	var out bytes.Buffer
	multi := zerolog.MultiLevelWriter(&out)
	write(zerolog.New(&logFilter{out: multi, plain: multi}))
	if !json.Valid(out.Bytes()) {
		t.Fatalf("not JSON: %s", out.String())
	}
	return out.String()
}

func TestFieldsThatNobodyAllowedAreLeftOut(t *testing.T) {
	line := filtered(t, func(l zerolog.Logger) {
		l.Info().Str("req_body", "the body of a message").Any("content", map[string]string{"body": "another"}).
			Str("user_id", "@alice:example.org").Int("count", 3).Bool("status", true).Msg("Sent")
	})
	for _, forbidden := range []string{"body", "alice", "content", "user_id"} {
		if strings.Contains(line, forbidden) {
			t.Errorf("%q got into %s", forbidden, line)
		}
	}
	for _, wanted := range []string{`"count":3`, `"status":true`, `"message":"Sent"`, `"level":"info"`} {
		if !strings.Contains(line, wanted) {
			t.Errorf("%q is missing from %s", wanted, line)
		}
	}
}

func TestPeopleAndSecretsAreTakenOutOfAllowedFields(t *testing.T) {
	for name, secret := range map[string]string{
		"a Matrix ID":                 "@alice:example.org",
		"a Matrix ID with a port":     "@alice.b-c:localhost:8448",
		"an interop address":          "7-10853634039893@interop",
		"a phone's address":           "12345@lid",
		"a phone's old address":       "4915228817386:0@s.whatsapp.net",
		"a phone number":              "+4915228817386",
		"a phone number without plus": "4915228817386",
		"an e-mail address":           "alice@example.org",
		"an IPv4 address":             "192.168.1.17:5222",
		"an IPv6 address":             "[2001:db8:0:1::17]:443",
		"a URL":                       "http://localhost:1/_matrix/x?access_token=abc",
		"a token":                     "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln",
		"an access token":             "syt_YWxpY2U_abcdefgh",
	} {
		line := filtered(t, func(l zerolog.Logger) {
			l.Error().Str("error", "request to "+secret+" failed").Msg("about " + secret)
		})
		if strings.Contains(line, secret) || strings.Count(line, "[hidden]") != 2 {
			t.Errorf("%s: %s", name, line)
		}
		if !strings.Contains(line, "request to") || !strings.Contains(line, "failed") {
			t.Errorf("%s: too much is gone from %s", name, line)
		}
	}
}

func TestALineThatIsNoJSONIsReplaced(t *testing.T) {
	if got := string(filterLine([]byte("panic: @alice:example.org\n"))); strings.Contains(got, "alice") || !json.Valid([]byte(got)) {
		t.Errorf("got %s", got)
	}
}

func TestWhatAPanicSaysIsLeftOutAndWhatAnErrorSaysIsNot(t *testing.T) {
	for _, message := range []string{"Event handling panicked", "Panic in Matrix command handler"} {
		for _, value := range []any{"reading hello Ben: out of range", errors.New("reading hello Ben: out of range"), []string{"hello Ben"}} {
			line := filtered(t, func(l zerolog.Logger) {
				l.Error().Any(zerolog.ErrorFieldName, value).Str("action", "handle").Bytes("stack", []byte("main.f({0x1})")).Msg(message)
			})
			if strings.Contains(line, "hello Ben") || !strings.Contains(line, message) || !strings.Contains(line, `"action":"handle"`) {
				t.Errorf("%T: %s", value, line)
			}
		}
	}
	if line := filtered(t, func(l zerolog.Logger) { l.Error().Err(errors.New("no route")).Msg("Connecting failed") }); !strings.Contains(line, `"error":"no route"`) {
		t.Errorf("got %s", line)
	}
}

func TestOpaqueIdsAndTimesStay(t *testing.T) {
	line := filtered(t, func(l zerolog.Logger) {
		l.Info().Str("chat", "c2k4m6p8q0s2u4w6").Str("event_id", "$abcDEF-123_xyz").Str("time", "2026-11-22T01:02:03Z").Msg("Delivered")
	})
	for _, wanted := range []string{"c2k4m6p8q0s2u4w6", "$abcDEF-123_xyz", "2026-11-22T01:02:03Z"} {
		if !strings.Contains(line, wanted) {
			t.Errorf("%q is missing from %s", wanted, line)
		}
	}
}

func BenchmarkFilter(b *testing.B) {
	line := []byte(`{"level":"info","account":"c2k4m6p8q0s2u4w6","event_id":"$abcDEF-123_xyz","req_body":{"a":"b"},"count":3,"time":"2026-11-22T01:02:03Z","message":"Delivered a message"}`)
	b.ReportAllocs()
	for b.Loop() {
		filterLine(line)
	}
}
