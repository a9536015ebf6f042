package email

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/connector/email/emailtest"
)

// certificate makes one for 127.0.0.1 and returns its files and who trusts it.
func certificate(t *testing.T) (cert, key string, roots *tls.Config) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return cert, key, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

func TestALetterArrivesWholeInEveryWayOfConnecting(t *testing.T) {
	cert, key, roots := certificate(t)
	for _, way := range []TLS{TLSNone, TLSStart, TLSImplicit} {
		t.Run(string(way), func(t *testing.T) {
			args := []string{"--tls", string(way), "--cert", cert, "--key", key}
			c := Config{TLS: way, From: "bridge@example.org", Roots: roots}
			if way == TLSStart {
				args = append(args, "--user", "bridge", "--password", "pass word")
				c.Username, c.Password = "bridge", "pass word"
			}
			server := emailtest.Start(t, args...)
			c.Address = server.Address
			text := "Grüße,\n.\n..\nFrom here = there\n" + strings.Repeat("lang ", 400)
			if err := c.Send(t.Context(), "anna@example.org", "Dein Code: für dich", text); err != nil {
				t.Fatal(err)
			}
			got := server.Wait(t.Context(), t, 1)
			if got.MailFrom != c.From || len(got.To) != 1 || got.To[0] != "anna@example.org" || len(got.Defects) > 0 || got.Login != c.Username {
				t.Errorf("%+v", got)
			}
			if got.TLS != (way != TLSNone) {
				t.Errorf("TLS: %v", got.TLS)
			}
			if got.Headers["Subject"] != "Dein Code: für dich" || got.Headers["To"] != "anna@example.org" || got.Headers["Auto-Submitted"] != "auto-generated" {
				t.Errorf("headers %q", got.Headers)
			}
			if strings.TrimSpace(strings.ReplaceAll(got.Text, "\r\n", "\n")) != strings.TrimSpace(text) {
				t.Errorf("the text is %q", got.Text)
			}
		})
	}
}

func TestWhatTheMailServerRefusesIsToldApartAndNamesNobody(t *testing.T) {
	cert, key, roots := certificate(t)
	plain := emailtest.Start(t, "--refuse", "nobody")
	secure := emailtest.Start(t, "--tls", "starttls", "--cert", cert, "--key", key, "--user", "u", "--password", "p")
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := gone.Addr().String()
	_ = gone.Close()
	from := "bridge@example.org"
	for name, c := range map[string]struct {
		cfg  Config
		to   string
		want error
	}{
		"an address that is not there": {Config{Address: plain.Address, TLS: TLSNone, From: from}, "nobody@example.org", ErrRefused},
		"a server that is not there":   {Config{Address: away, TLS: TLSNone, From: from}, "anna@example.org", ErrAway},
		"no STARTTLS":                  {Config{Address: plain.Address, TLS: TLSStart, From: from, Roots: roots}, "anna@example.org", ErrConfig},
		"nobody vouches for it":        {Config{Address: secure.Address, TLS: TLSStart, From: from}, "anna@example.org", ErrConfig},
		"a wrong password":             {Config{Address: secure.Address, TLS: TLSStart, From: from, Roots: roots, Username: "u", Password: "secret"}, "anna@example.org", ErrConfig},
		"no password":                  {Config{Address: secure.Address, TLS: TLSStart, From: from, Roots: roots}, "anna@example.org", ErrConfig},
		"TLS where there is none":      {Config{Address: plain.Address, TLS: TLSImplicit, From: from, Roots: roots}, "anna@example.org", ErrAway},
	} {
		err := c.cfg.Send(t.Context(), c.to, "x", "y")
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "@") || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%s: the error says too much: %v", name, err)
		}
	}
	if len(plain.Letters())+len(secure.Letters()) > 0 {
		t.Error("a letter was taken")
	}
}

func TestALetterThatIsGivenUpEnds(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	c := Config{Address: silent.Addr().String(), TLS: TLSNone, From: "a@example.org"}
	if err := c.Send(ctx, "b@example.org", "x", "y"); !errors.Is(err, ErrAway) {
		t.Errorf("%v", err)
	}
}

func TestOnlyPlainAddressesAreTaken(t *testing.T) {
	for in, want := range map[string]string{
		" Anna@Example.ORG\n": "anna@example.org", "a.b+c@sub.example.org": "a.b+c@sub.example.org", "anna": "", "anna@localhost": "", "@example.org": "",
		"Anna <anna@example.org>": "", "anna@example.org,b@example.org": "", "anna@example.org\r\nBcc: b@example.org": "", "änne@example.org": "",
		"anna@exämple.org": "", `"a b"@example.org`: "", "a@b@example.org": "", "anna@.org": "", "anna@example.org.": "", "": "",
		strings.Repeat("a", 65) + "@example.org": "", "a@" + strings.Repeat("b", 100) + ".org": "",
	} {
		if got, ok := Address(in); got != want || ok != (want != "") {
			t.Errorf("%q: %q %v", in, got, ok)
		}
	}
}

// FuzzAddresses reads any text as an e-mail address: an accepted one is what it says and stays so, and can end no line of a letter.
//
// decoder: smtp.go:Address
func FuzzAddresses(f *testing.F) {
	f.Add("Anna@Example.org")
	f.Add("a@b.c\r\nBcc: d@e.f")
	f.Add(`"x"@y.z`)
	f.Fuzz(func(t *testing.T, in string) {
		address, ok := Address(in)
		if !ok {
			return
		}
		if again, ok := Address(address); !ok || again != address || len(address) > maxAddress || strings.ContainsAny(address, " \r\n<>,;\x00") {
			t.Errorf("%q became %q", in, address)
		}
		letter, err := (&Config{From: "a@example.org"}).letter(address, "s", "t")
		if err != nil || bytes.Count(letter, []byte("\r\n")) != 11 {
			t.Errorf("%q: %v\n%s", in, err, letter)
		}
	})
}
