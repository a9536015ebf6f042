package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// networkWords says in plain words what went wrong on the way to a server.
func networkWords(err error) string {
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "there is no host of that name"
	case errors.As(err, &dns):
		return "the name cannot be looked up"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nobody listens there"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no way to that host"
	case errors.As(err, &unknown):
		return "its certificate is not from an authority that this machine knows"
	case errors.As(err, &name):
		return "its certificate is for another name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired, or this machine's clock is wrong"
	case errors.As(err, &invalid):
		return "its certificate is not valid"
	case errors.As(err, &record), strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		return "it does not speak TLS there: http in place of https, or another port"
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "nobody answers in time"
	case strings.Contains(err.Error(), "EOF"), errors.Is(err, syscall.ECONNRESET):
		return "the connection is closed without an answer"
	}
	return "the connection fails"
}

// usualPorts by scheme.
var usualPorts = map[string]string{"http": "80", "ws": "80", "https": "443", "wss": "443"}

// reach makes a connection, with TLS where the address has it, and closes it again: nothing is asked.
func reach(ctx context.Context, address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return errors.New("the address is not usable")
	}
	port := u.Port()
	if port == "" {
		port = usualPorts[u.Scheme]
	}
	ctx, cancel := context.WithTimeout(ctx, question)
	defer cancel()
	target := net.JoinHostPort(u.Hostname(), port)
	var conn net.Conn
	if u.Scheme == "https" || u.Scheme == "wss" {
		conn, err = (&tls.Dialer{}).DialContext(ctx, "tcp", target)
	} else {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", target)
	}
	if err != nil {
		return errors.New(networkWords(err))
	}
	return conn.Close()
}

// clock is what somebody else's clock showed.
type clock struct {
	whose string
	// ahead is by how much it is before ours, at the least.
	ahead time.Duration
}

// noteClock keeps the time that an answer was given at. A Date has whole seconds.
func (e *examination) noteClock(whose string, r *reply) {
	theirs, err := time.Parse(time.RFC1123, r.header.Get("Date"))
	if err != nil {
		return
	}
	var ahead time.Duration
	switch {
	case theirs.After(r.after):
		ahead = theirs.Sub(r.after)
	case theirs.Add(time.Second).Before(r.before):
		ahead = theirs.Add(time.Second).Sub(r.before)
	}
	e.clocks = append(e.clocks, clock{whose, ahead})
}

// From where on a difference between clocks is told: the first is a sign of a clock that nobody sets, with the other tokens and pushes
// are refused (PROTOCOL.md 2.4, 8.2).
const (
	oddClock   = 20 * time.Second
	wrongClock = 110 * time.Second
)

// lookAtClocks compares our clock with those of the servers that have answered.
func lookAtClocks(_ context.Context, e *examination) (results []Result) {
	if len(e.clocks) == 0 {
		return skip("no server has told its time")
	}
	const remedy = "set this machine's clock by NTP (timedatectl set-ntp true), or that server's if it is the one that is wrong"
	for _, c := range e.clocks {
		differs := c.ahead.Abs().Round(time.Second)
		finding := "the clock of " + c.whose + " is " + differs.String() + " " + map[bool]string{true: "ahead of", false: "behind"}[c.ahead > 0] + " this machine's"
		switch {
		case differs >= wrongClock:
			results = append(results, fail(finding+": pushes are refused at two minutes, logins at five", remedy)...)
		case differs >= oddClock:
			results = append(results, warn(finding, remedy)...)
		}
	}
	if len(results) == 0 {
		return fine("%d other clocks agree with this machine's", len(e.clocks))
	}
	return results
}
