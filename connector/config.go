package connector

import (
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"text/template"
	"time"
	"unicode/utf8"

	up "go.mau.fi/util/configupgrade"

	"postern/connector/binxml"
	"postern/connector/noise"
	"postern/connector/profile"
	"postern/connector/words"
)

// exampleConfig is the network section with its defaults and explanations.
//
//go:embed example.yaml
var exampleConfig string

// Config is the network section of the configuration file.
type Config struct {
	Public struct {
		Base    string `yaml:"base"`
		Address string `yaml:"address"`
	} `yaml:"public"`
	IdentifierTemplate  string                      `yaml:"identifier_template"`
	IdentifierType      string                      `yaml:"identifier_type"`
	DisplaynameTemplate string                      `yaml:"displayname_template"`
	Operator            OperatorConfig              `yaml:"operator"`
	Identifier          IdentifierConfig            `yaml:"identifier"`
	Region              RegionConfig                `yaml:"region"`
	Connect             string                      `yaml:"connect"`
	Attached            AttachedConfig              `yaml:"attached"`
	ConnectsPerSecond   int                         `yaml:"connects_per_second"`
	ReceiptDelay        string                      `yaml:"receipt_delay"`
	ClientAddress       AddressConfig               `yaml:"client_address"`
	Departed            DepartedConfig              `yaml:"departed"`
	Language            string                      `yaml:"language"`
	KeyFile             string                      `yaml:"key_file"`
	EpochFile           string                      `yaml:"epoch_file"`
	Instances           InstancesConfig             `yaml:"instances"`
	Backlog             BacklogConfig               `yaml:"backlog"`
	Requests            RequestsConfig              `yaml:"requests"`
	Reports             ReportsConfig               `yaml:"reports"`
	Provisioning        ProvisioningConfig          `yaml:"provisioning"`
	Audit               AuditConfig                 `yaml:"audit"`
	Brakes              BrakesConfig                `yaml:"brakes"`
	Media               MediaConfig                 `yaml:"media"`
	Metrics             MetricsConfig               `yaml:"metrics"`
	Health              HealthConfig                `yaml:"health"`
	Gatekeepers         map[string]GatekeeperConfig `yaml:"gatekeepers"`

	identifier  *template.Template
	displayname *template.Template
	// receiptDelay is ReceiptDelay.
	receiptDelay time.Duration
	agreements   []*agreement // enabled ones, in the profiles' order
}

// BacklogConfig says how many messages may wait for Matrix on disk before the gatekeeper keeps the rest.
type BacklogConfig struct {
	Account int `yaml:"account"`
	Chat    int `yaml:"chat"`
}

// The bounds of what may be configured. Each message that waits takes room on disk, none in memory.
const (
	minBacklog = 10
	maxBacklog = 10_000_000
)

func (b *BacklogConfig) check() error {
	if b.Account == 0 {
		b.Account = 10_000
	}
	if b.Chat == 0 {
		b.Chat = 2_000
	}
	for _, n := range []int{b.Account, b.Chat} {
		if n < minBacklog || n > maxBacklog {
			return fmt.Errorf("network.backlog: account and chat are %d to %d", minBacklog, maxBacklog)
		}
	}
	return nil
}

// GatekeeperConfig is what is agreed with one gatekeeper. An empty field is the
// profile's own value.
type GatekeeperConfig struct {
	Enabled      bool   `yaml:"enabled"`
	Integrator   int    `yaml:"integrator"`
	Chat         string `yaml:"chat"`
	EnlistURL    string `yaml:"enlist_url"`
	MediaURL     string `yaml:"media_url"`
	JWKSURL      string `yaml:"jwks_url"`
	NoiseRootKey string `yaml:"noise_root_key"`
	// Unanswered is send or refuse.
	Unanswered string `yaml:"unanswered"`
	JIDDialect struct {
		Reads  string `yaml:"reads"`
		Writes string `yaml:"writes"`
	} `yaml:"jid_dialect"`
}

// agreement is a gatekeeper that the bridge may talk to.
type agreement struct {
	profile    *profile.Profile
	integrator uint16
}

// personData is what the templates can use.
type personData struct{ MXID, Localpart, Domain, Displayname string }

// upgradeConfig copies the values of an admin's file into the example.
func upgradeConfig(helper up.Helper) {
	helper.Copy(up.Str, "public", "base")
	helper.Copy(up.Str, "public", "address")
	for _, key := range []string{"identifier_template", "identifier_type", "displayname_template", "connect", "language", "key_file", "epoch_file"} {
		helper.Copy(up.Str, key)
	}
	helper.Copy(up.Int, "backlog", "account")
	helper.Copy(up.Int, "backlog", "chat")
	upgradeRequestsConfig(helper)
	upgradeReportsConfig(helper)
	upgradeProvisioningConfig(helper)
	upgradeInstancesConfig(helper)
	upgradeBrakesConfig(helper)
	upgradeConnectConfig(helper)
	upgradeDepartedConfig(helper)
	upgradeMediaConfig(helper)
	upgradeMetricsConfig(helper)
	upgradeJoiningConfig(helper)
	for _, p := range profile.All() {
		helper.Copy(up.Bool, "gatekeepers", p.Name, "enabled")
		helper.Copy(up.Int, "gatekeepers", p.Name, "integrator")
		for _, key := range []string{"chat", "enlist_url", "media_url", "jwks_url", "noise_root_key", "unanswered"} {
			helper.Copy(up.Str|up.Null, "gatekeepers", p.Name, key)
		}
		helper.Copy(up.Str|up.Null, "gatekeepers", p.Name, "jid_dialect", "reads")
		helper.Copy(up.Str|up.Null, "gatekeepers", p.Name, "jid_dialect", "writes")
	}
}

// prepare checks the section and works out what follows from it. Its errors are for the admin and name the key.
func (c *Config) prepare() error {
	if err := c.prepareConnect(); err != nil {
		return err
	}
	if err := c.checkPublic(); err != nil {
		return err
	}
	if err := c.checkLanguage(); err != nil {
		return err
	}
	if err := c.prepareNames(); err != nil {
		return err
	}
	if c.EpochFile == "" {
		return errors.New("network.epoch_file has to name a file: without it an old copy of the database would not be noticed")
	}
	if c.EpochFile == c.KeyFile {
		return errors.New("network.epoch_file must not be the key file")
	}
	for _, section := range []func() error{
		c.Backlog.check, c.prepareIdentifier, c.Requests.check, c.Reports.check, c.Provisioning.check, c.Audit.check, c.Brakes.check, c.Departed.prepare, c.Region.prepare,
		c.Media.prepare, c.Metrics.prepare, c.Health.prepare, c.prepareInstances,
	} {
		if err := section(); err != nil {
			return err
		}
	}
	return c.agree()
}

// prepareNames checks under which names people appear, and fills in defaults.
func (c *Config) prepareNames() (err error) {
	switch c.IdentifierType {
	case "":
		c.IdentifierType = identifierUsername
	case identifierUsername, identifierEmail, identifierPhone:
	default:
		return errors.New("network.identifier_type has to be username, email or pn")
	}
	if c.identifier, err = parseTemplate("network.identifier_template", c.IdentifierTemplate, "{{.Localpart}}"); err != nil {
		return err
	}
	c.displayname, err = parseTemplate("network.displayname_template", c.DisplaynameTemplate, "{{.Displayname}}")
	return err
}

// checkLanguage brings the bridge's own language into the form that package words knows.
func (c *Config) checkLanguage() error {
	if c.Language == "" {
		c.Language = words.Default
	}
	known := words.Known(c.Language)
	if known == "" {
		return fmt.Errorf("network.language has to be one of: %s", strings.Join(words.Languages(), ", "))
	}
	c.Language = known
	return nil
}

func (c *Config) checkPublic() error {
	base, err := url.Parse(c.Public.Base)
	if err != nil || base.Host == "" || (base.Scheme != "https" && base.Scheme != "http") || base.RawQuery != "" || base.Fragment != "" {
		return errors.New("network.public.base has to be a complete http or https address")
	}
	if strings.HasSuffix(c.Public.Base, "/") {
		return errors.New("network.public.base must not end with a slash")
	}
	if base.Host == "postern.example.com" {
		return errors.New("network.public.base is not configured")
	}
	if _, _, err := net.SplitHostPort(c.Public.Address); err != nil {
		return errors.New("network.public.address has to be host:port")
	}
	return nil
}

func parseTemplate(key, text, otherwise string) (*template.Template, error) {
	if text == "" {
		text = otherwise
	}
	t, err := template.New(key).Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if _, err := render(t, personData{"@a:b.example", "a", "b.example", "A"}); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return t, nil
}

// render fills a template and bounds the result.
func render(t *template.Template, data personData) (string, error) {
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return "", err
	}
	if b.Len() > 1000 {
		return "", errors.New("result is too long")
	}
	return strings.TrimSpace(b.String()), nil
}

// agree works out the enabled gatekeepers.
func (c *Config) agree() error {
	c.agreements = nil
	for name := range c.Gatekeepers {
		if _, err := profile.ByName(name); err != nil {
			return fmt.Errorf("network.gatekeepers.%s: there is no such gatekeeper", name)
		}
	}
	for _, p := range profile.All() {
		g, ok := c.Gatekeepers[p.Name]
		if !ok || !g.Enabled {
			continue
		}
		a, err := g.over(p)
		if err != nil {
			return fmt.Errorf("network.gatekeepers.%s.%w", p.Name, err)
		}
		c.agreements = append(c.agreements, a)
	}
	if len(c.agreements) == 0 {
		return errors.New("network.gatekeepers: none is enabled")
	}
	return nil
}

var dialects = map[string]binxml.Dialect{
	"245-with-server": binxml.Dialect245WithServer,
	"245-bare":        binxml.Dialect245Bare,
	"244-domain-byte": binxml.Dialect244DomainByte,
}

// over puts the configured values over a profile. Its errors begin with the key below the gatekeeper's.
func (g *GatekeeperConfig) over(p *profile.Profile) (*agreement, error) {
	if g.Integrator < 1 || g.Integrator > 999 {
		return nil, errors.New("integrator has to be the number that the gatekeeper gave you, 1 to 999")
	}
	endpoints := profile.Endpoints{Enlist: g.EnlistURL, Media: g.MediaURL, JWKS: g.JWKSURL}
	switch {
	case g.Chat == "":
	case strings.HasPrefix(g.Chat, "tcp://"):
		endpoints.ChatTCP = g.Chat
	case strings.HasPrefix(g.Chat, "ws://"), strings.HasPrefix(g.Chat, "wss://"):
		endpoints.ChatWS = g.Chat
	default:
		return nil, errors.New("chat has to begin with tcp://, ws:// or wss://")
	}
	p = p.WithEndpoints(endpoints)
	if g.NoiseRootKey != "" {
		key, err := hex.DecodeString(g.NoiseRootKey)
		if err != nil || len(key) != noise.KeySize {
			return nil, errors.New("noise_root_key has to be 64 hexadecimal digits")
		}
		p.Noise.RootKey = [noise.KeySize]byte(key)
	}
	switch g.Unanswered {
	case "":
	case "send", "refuse":
		p.Message.Unanswered = g.Unanswered == "send"
	default:
		return nil, errors.New("unanswered has to be send or refuse")
	}
	// What the gatekeeper reads is what we write.
	for _, d := range []struct {
		name, key string
		to        *binxml.Dialect
	}{{g.JIDDialect.Reads, "reads", &p.WriteDialect}, {g.JIDDialect.Writes, "writes", &p.ReadDialect}} {
		if d.name == "" {
			continue
		}
		dialect, ok := dialects[d.name]
		if !ok {
			return nil, fmt.Errorf("jid_dialect.%s has to be 245-with-server, 245-bare or 244-domain-byte", d.key)
		}
		*d.to = dialect
	}
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("chat, enlist_url, media_url, jwks_url or noise_root_key: %w", err)
	}
	return &agreement{profile: p, integrator: uint16(g.Integrator)}, nil
}

// byName returns the enabled gatekeeper with that profile name, nil if there is none.
func (c *Config) byName(name string) *agreement {
	for _, a := range c.agreements {
		if a.profile.Name == name {
			return a
		}
	}
	return nil
}

// Kinds of user-visible identifiers, and the most characters of one (PROTOCOL.md 1.5).
const (
	identifierUsername = "username"
	identifierEmail    = "email"
	identifierPhone    = "pn"
	maxIdentifier      = 100
)

// errIdentifier: the template makes nothing usable of a Matrix ID.
var errIdentifier = errors.New("connector: identifier: not usable")

// normalise brings an identifier into the form in which it is compared and stored (PROTOCOL.md 1.5).
func normalise(kind, identifier string) (string, error) {
	identifier = strings.TrimSpace(identifier)
	if kind == identifierPhone {
		identifier = digits(identifier)
	} else {
		identifier = strings.ToLower(identifier)
	}
	if n := utf8.RuneCountInString(identifier); n < 1 || n > maxIdentifier {
		return "", errIdentifier
	}
	return identifier, nil
}

// digits leaves out everything but the digits 0 to 9.
func digits(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, text)
}
