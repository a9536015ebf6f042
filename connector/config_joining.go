package connector

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	up "go.mau.fi/util/configupgrade"

	"postern/connector/email"
)

// OperatorConfig says who runs the bridge. People read it before they agree.
type OperatorConfig struct {
	Name    string `yaml:"name"`
	Contact string `yaml:"contact"`
}

// IdentifierConfig says where identifiers come from.
type IdentifierConfig struct {
	Mode string     `yaml:"mode"`
	SMTP SMTPConfig `yaml:"smtp"`
}

// SMTPConfig is the mail server that sends codes.
type SMTPConfig struct {
	Address      string `yaml:"address"`
	TLS          string `yaml:"tls"`
	Username     string `yaml:"username"`
	Password     string `yaml:"password"`
	PasswordFile string `yaml:"password_file"`
	From         string `yaml:"from"`
}

// RegionConfig says who may join and stay, by where they are.
type RegionConfig struct {
	Gate            string   `yaml:"gate"`
	Allow           []string `yaml:"allow"`
	Countries       []string `yaml:"countries"`
	DeclarationDays int      `yaml:"declaration_days"`
	Hook            struct {
		URL       string `yaml:"url"`
		Token     string `yaml:"token"`
		TokenFile string `yaml:"token_file"`
		Timeout   string `yaml:"timeout"`
	} `yaml:"hook"`
	Recheck string `yaml:"recheck"`
	Grace   string `yaml:"grace"`

	timeout, recheck, grace time.Duration // filled by prepare
}

// Values of IdentifierConfig.Mode and RegionConfig.Gate.
const (
	modeTemplate    = "template"
	modeAssigned    = "assigned"
	modeEmail       = "email"
	gateNone        = "none"
	gateList        = "list"
	gateDeclaration = "declaration"
	gateHook        = "hook"
)

// eea are the countries of the European Economic Area, ISO 3166-1 alpha-2.
var eea = strings.Fields("AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IS IT LI LT LU LV MT NL NO PL PT RO SE SI SK")

// upgradeJoiningConfig copies the values of an admin's file into the example.
func upgradeJoiningConfig(helper up.Helper) {
	for _, path := range [][]string{
		{"operator", "name"}, {"operator", "contact"}, {"identifier", "mode"}, {"identifier", "smtp", "address"}, {"identifier", "smtp", "tls"},
		{"identifier", "smtp", "username"}, {"identifier", "smtp", "password"}, {"identifier", "smtp", "password_file"}, {"identifier", "smtp", "from"},
		{"region", "gate"}, {"region", "hook", "url"}, {"region", "hook", "token"}, {"region", "hook", "token_file"}, {"region", "hook", "timeout"},
		{"region", "recheck"}, {"region", "grace"},
	} {
		helper.Copy(up.Str|up.Null, path...)
	}
	helper.Copy(up.List, "region", "allow")
	helper.Copy(up.List, "region", "countries")
	helper.Copy(up.Int, "region", "declaration_days")
}

// prepareIdentifier checks the section on identifiers, and that its mode and the type agree.
//
//nolint:gocyclo // one refusal for each rule
func (c *Config) prepareIdentifier() error {
	s := &c.Identifier.SMTP
	switch c.Identifier.Mode {
	case "":
		c.Identifier.Mode = modeTemplate
		return nil
	case modeTemplate, modeAssigned:
		return nil
	case modeEmail:
	default:
		return errors.New("network.identifier.mode has to be template, assigned or email")
	}
	if c.IdentifierType != identifierEmail {
		return errors.New("network.identifier_type has to be email, since network.identifier.mode is email")
	}
	host, _, err := net.SplitHostPort(s.Address)
	if err != nil || host == "" {
		return errors.New("network.identifier.smtp.address has to be host:port of a mail server, since network.identifier.mode is email")
	}
	if s.TLS == "" {
		s.TLS = string(email.TLSStart)
	}
	switch email.TLS(s.TLS) {
	case email.TLSStart, email.TLSImplicit:
	case email.TLSNone:
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return errors.New("network.identifier.smtp.tls may be none only for a mail server on this machine, 127.0.0.1, ::1 or localhost")
		}
	default:
		return errors.New("network.identifier.smtp.tls has to be starttls, implicit or none")
	}
	if _, ok := email.Address(s.From); !ok {
		return errors.New("network.identifier.smtp.from has to be a plain e-mail address")
	}
	if s.Password != "" && s.PasswordFile != "" {
		return errors.New("network.identifier.smtp.password and network.identifier.smtp.password_file cannot both be set")
	}
	if (s.Password != "" || s.PasswordFile != "") != (s.Username != "") {
		return errors.New("network.identifier.smtp.username and a password belong together: set both or neither")
	}
	return nil
}

// prepare checks the section on regions, and reads its times.
func (r *RegionConfig) prepare() error {
	switch r.Gate {
	case "":
		r.Gate = gateNone
	case gateNone, gateList, gateDeclaration, gateHook:
	default:
		return errors.New("network.region.gate has to be none, list, declaration or hook")
	}
	for _, d := range []struct {
		key, text, otherwise string
		least                time.Duration
		to                   *time.Duration
	}{
		{"hook.timeout", r.Hook.Timeout, "10s", time.Millisecond, &r.timeout}, {"recheck", r.Recheck, "24h", time.Second, &r.recheck},
		{"grace", r.Grace, "72h", 0, &r.grace},
	} {
		if d.text == "" {
			d.text = d.otherwise
		}
		value, err := time.ParseDuration(d.text)
		if err != nil || value < d.least {
			return fmt.Errorf("network.region.%s has to be a time such as %s", d.key, d.otherwise)
		}
		*d.to = value
	}
	switch r.Gate {
	case gateList:
		return r.prepareList()
	case gateDeclaration:
		return r.prepareDeclaration()
	case gateHook:
		return r.prepareHook()
	}
	return nil
}

func (r *RegionConfig) prepareList() error {
	if len(r.Allow) == 0 {
		return errors.New("network.region.allow is empty, and network.region.gate is list: nobody could join")
	}
	for _, pattern := range r.Allow {
		if !strings.HasPrefix(pattern, "@") && !strings.HasPrefix(pattern, "*") || !strings.Contains(pattern, ":") && pattern != "*" {
			return errors.New("network.region.allow has to be a list of Matrix IDs such as @anna:example.org, in which * stands for any characters")
		}
	}
	return nil
}

var countryCode = regexp.MustCompile(`^[A-Z]{2}$`)

func (r *RegionConfig) prepareDeclaration() error {
	if len(r.Countries) == 0 {
		r.Countries = slices.Clone(eea)
	}
	for i, country := range r.Countries {
		r.Countries[i] = strings.ToUpper(country)
		if !countryCode.MatchString(r.Countries[i]) {
			return errors.New("network.region.countries has to be a list of countries in two letters each, such as DE")
		}
	}
	if r.DeclarationDays < 1 {
		return errors.New("network.region.declaration_days has to be at least 1")
	}
	return nil
}

func (r *RegionConfig) prepareHook() error {
	hook, err := url.Parse(r.Hook.URL)
	if err != nil || hook.Host == "" || (hook.Scheme != "https" && hook.Scheme != "http") {
		return errors.New("network.region.hook.url has to be a complete http or https address, since network.region.gate is hook")
	}
	if r.Hook.Token != "" && r.Hook.TokenFile != "" {
		return errors.New("network.region.hook.token and network.region.hook.token_file cannot both be set")
	}
	return nil
}

// secretFile reads a secret from a file, without the end of its line.
func secretFile(key, dir, path string) (string, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	secret := strings.TrimRight(string(raw), "\r\n")
	if secret == "" || len(secret) > 4096 {
		return "", fmt.Errorf("%s: the file has no secret in it", key)
	}
	return secret, nil
}
