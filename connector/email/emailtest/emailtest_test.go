package emailtest_test

import (
	"net/smtp"
	"strings"
	"testing"

	"postern/connector/email/emailtest"
)

// TestALetterIsTakenAsItWasSent: the client is the standard library's, and not the bridge's.
func TestALetterIsTakenAsItWasSent(t *testing.T) {
	server := emailtest.Start(t)
	if n := len(server.Letters()); n != 0 {
		t.Fatalf("%d letters before one was sent", n)
	}
	letter := "Subject: hello\r\nFrom: a@example.com\r\nTo: b@example.com\r\n\r\nThe words of it.\r\n"
	if err := smtp.SendMail(server.Address, nil, "a@example.com", []string{"b@example.com"}, []byte(letter)); err != nil {
		t.Fatal(err)
	}
	got := server.Wait(t.Context(), t, 1)
	if got.MailFrom != "a@example.com" || len(got.To) != 1 || got.To[0] != "b@example.com" || !strings.Contains(got.Text, "The words of it.") {
		t.Errorf("the letter is %+v", got)
	}
	if got.TLS || got.Login != "" {
		t.Errorf("it came over TLS (%t) from %q", got.TLS, got.Login)
	}
}
