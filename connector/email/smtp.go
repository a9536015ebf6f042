// Package email sends the letters by which people prove an e-mail address, and judges the codes that come back. It is at the
// bottom of connector: it knows neither Matrix nor the gatekeeper, and imports nothing of this module. PROTOCOL.md 1.5 has the identifiers
// that such an address may be.
//
// No error and no log line has an address, a code or a server's own words in it.
package email

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"strings"
	"time"
)

// TLS says how the connection to the mail server is secured.
type TLS string

// The ways. None is for a server on the same machine.
const (
	TLSImplicit TLS = "implicit"
	TLSStart    TLS = "starttls"
	TLSNone     TLS = "none"
)

// Config says how letters are sent.
type Config struct {
	// Address is the server's host:port.
	Address string
	TLS     TLS
	// Username and Password are empty for a server that asks for none.
	Username, Password string
	// From is the sender's address, bare.
	From string
	// Roots are who the server's certificate may come from; nil for the system's.
	Roots *tls.Config
}

// Errors of Send.
var (
	// ErrAway: the server cannot be reached, or answers that it is out of order.
	ErrAway = errors.New("email: the mail server cannot be used")
	// ErrRefused: the server does not take letters to that address.
	ErrRefused = errors.New("email: the mail server refuses the address")
	// ErrConfig: the server refuses our name, password or sender, or has no STARTTLS.
	ErrConfig = errors.New("email: the mail server refuses the bridge")
)

// sendPatience bounds one letter.
const sendPatience = 30 * time.Second

// Send sends a letter of plain text. It returns when the server has taken it, or one of the errors above.
func (c *Config) Send(ctx context.Context, to, subject, text string) error {
	ctx, cancel := context.WithTimeout(ctx, sendPatience)
	defer cancel()
	client, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := c.introduce(client); err != nil {
		return err
	}
	if err := client.Mail(c.From); err != nil {
		return blame(err, ErrConfig)
	}
	if err := client.Rcpt(to); err != nil {
		return blame(err, ErrRefused)
	}
	body, err := client.Data()
	if err != nil {
		return blame(err, ErrRefused)
	}
	letter, err := c.letter(to, subject, text)
	if err != nil {
		return err
	}
	if _, err := body.Write(letter); err != nil {
		return ErrAway
	}
	if err := body.Close(); err != nil {
		return blame(err, ErrRefused)
	}
	_ = client.Quit() // the letter is taken
	return nil
}

// dial connects, with TLS from the start where that is how.
func (c *Config) dial(ctx context.Context) (*smtp.Client, error) {
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		return nil, ErrConfig
	}
	var conn net.Conn
	if c.TLS == TLSImplicit {
		conn, err = (&tls.Dialer{Config: c.tls(host)}).DialContext(ctx, "tcp", c.Address)
	} else {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", c.Address)
	}
	if err != nil {
		return nil, ErrAway
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, errors.Join(ErrAway, conn.Close())
		}
	}
	client, err := smtp.NewClient(conn, host)
	if err != nil {
		return nil, errors.Join(ErrAway, conn.Close())
	}
	return client, nil
}

func (c *Config) tls(host string) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.Roots != nil {
		cfg = c.Roots.Clone()
	}
	cfg.ServerName = host
	return cfg
}

// introduce says who we are. Without TLS no password is sent, save to the same machine: the standard library sees to it.
func (c *Config) introduce(client *smtp.Client) error {
	if err := client.Hello("localhost"); err != nil {
		return ErrAway
	}
	host, _, _ := net.SplitHostPort(c.Address) // dial has looked
	if c.TLS == TLSStart {
		if err := client.StartTLS(c.tls(host)); err != nil {
			return ErrConfig
		}
	}
	if c.Username == "" {
		return nil
	}
	if err := client.Auth(smtp.PlainAuth("", c.Username, c.Password, host)); err != nil {
		return blame(err, ErrConfig)
	}
	return nil
}

// blame turns an answer of the server's into one of our errors: permanent ones are final, all others mean that it is out of order.
func blame(err, permanent error) error {
	var answer *textproto.Error
	if errors.As(err, &answer) && answer.Code < 500 {
		return ErrAway
	}
	if answer == nil && permanent == ErrRefused { //nolint:errorlint // one of our own, given by the caller
		return ErrAway
	}
	return permanent
}

// letter writes a letter down (RFC 5322). The subject may have any characters.
func (c *Config) letter(to, subject, text string) ([]byte, error) {
	var b bytes.Buffer
	id := make([]byte, 18)
	if _, err := rand.Read(id); err != nil {
		return nil, fmt.Errorf("email: letter: %w", err)
	}
	_, domain, _ := strings.Cut(c.From, "@")
	for _, line := range [][2]string{
		{"From", "<" + c.From + ">"}, {"To", "<" + to + ">"}, {"Subject", mime.QEncoding.Encode("utf-8", subject)},
		{"Date", time.Now().UTC().Format(time.RFC1123Z)}, {"Message-ID", "<" + base64.RawURLEncoding.EncodeToString(id) + "@" + domain + ">"},
		{"Auto-Submitted", "auto-generated"}, {"MIME-Version", "1.0"}, {"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", "quoted-printable"},
	} {
		b.WriteString(line[0] + ": " + line[1] + "\r\n")
	}
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	if _, err := io.WriteString(w, strings.ReplaceAll(text, "\n", "\r\n")+"\r\n"); err != nil {
		return nil, fmt.Errorf("email: letter: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("email: letter: %w", err)
	}
	return b.Bytes(), nil
}

// maxAddress is the most characters of an identifier (PROTOCOL.md 1.5).
const maxAddress = 100

// Address brings an e-mail address into the form in which it is compared and stored: bare, lower-case, ASCII, with a domain that has a
// dot. ok is false for anything else.
func Address(text string) (address string, ok bool) {
	text = strings.TrimSpace(text)
	if len(text) > maxAddress {
		return "", false
	}
	for _, r := range text {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`"\<>()[],;:`, r) {
			return "", false
		}
	}
	parsed, err := mail.ParseAddress(text)
	if err != nil || parsed.Address != text {
		return "", false
	}
	local, domain, _ := strings.Cut(text, "@")
	name, top, dotted := strings.Cut(domain, ".")
	if local == "" || len(local) > 64 || !dotted || name == "" || top == "" || strings.HasSuffix(top, ".") {
		return "", false
	}
	return strings.ToLower(text), true
}
