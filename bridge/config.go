package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
	"maunium.net/go/mautrix/appservice"
	"maunium.net/go/mautrix/bridgev2/bridgeconfig"

	"postern/connector"
)

// exampleConfig is what -e writes, and the defaults of every key that a
// configuration leaves out.
//
//go:embed example-config.yaml
var exampleConfig string

// tokenPlaceholder stands in the example where -g puts in the tokens.
const tokenPlaceholder = "This value is generated when generating the registration"

// freeMaps are mappings whose keys are the admin's own: they replace the
// example's as a whole, and any key is right in them.
var freeMaps = []string{
	"bridge.permissions", "bridge.relay.message_formats", "double_puppet.servers", "double_puppet.secrets",
	"backfill.queue.max_batches_override", "logging.metadata", "direct_media.well_known_response",
}

// writeExample writes the example configuration to a new file, or to stdout
// for "-". It never overwrites.
func writeExample(path string, stdout io.Writer) error {
	if path == "-" {
		_, err := io.WriteString(stdout, exampleConfig)
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("writing the example configuration: %s is there already; move it away first", path)
	}
	if err != nil {
		return fmt.Errorf("writing the example configuration: %w", err)
	}
	_, err = file.WriteString(exampleConfig)
	return errors.Join(err, file.Close())
}

// isLoggingKey reports whether a key that the example does not show is one of
// the logging library's.
func isLoggingKey(path string) bool {
	return slices.Contains([]string{"logging.timestamp", "logging.caller", "logging.metadata"}, path)
}

// valueOf is the value of a key in a mapping, or nil.
func valueOf(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// suggest names the keys that could have been meant.
func suggest(mapping *yaml.Node, key string) string {
	known := map[string]bool{}
	for i := 0; i < len(mapping.Content); i += 2 {
		if k := mapping.Content[i].Value; len(key) > 2 && (strings.Contains(k, key) || strings.Contains(key, k)) {
			known[k] = true
		}
	}
	if len(known) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(slices.Sorted(maps.Keys(known)), " or ") + "?"
}

func orTop(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

// rule is something that a configuration must not have.
type rule struct {
	broken bool
	words  string
}

// validateConfig says in words what has still to be set, or may not be.
func validateConfig(cfg *bridgeconfig.Config) error {
	for _, r := range slices.Concat(homeserverRules(cfg), appserviceRules(cfg), otherRules(cfg), valueRules(cfg)) {
		if r.broken {
			return errors.New(r.words)
		}
	}
	for key, text := range map[string]string{"max_conn_idle_time": cfg.Database.ConnMaxIdleTime, "max_conn_lifetime": cfg.Database.ConnMaxLifetime} {
		if length, err := time.ParseDuration(text); text != "" && (err != nil || length <= 0) {
			return fmt.Errorf("database.%s has to be a length of time such as 5m, or null", key)
		}
	}
	return validatePermissions(cfg.Bridge.Permissions)
}

func homeserverRules(cfg *bridgeconfig.Config) []rule {
	return []rule{
		{cfg.Homeserver.Address == "http://example.localhost:8008", "homeserver.address is not set"},
		{!webAddress(cfg.Homeserver.Address), "homeserver.address has to be a complete http or https address"},
		{cfg.Homeserver.Domain == "example.com", "homeserver.domain is not set"},
		{cfg.Homeserver.Domain == "" || strings.ContainsAny(cfg.Homeserver.Domain, "/@ #"), "homeserver.domain has to be what stands behind the colon in your users' Matrix IDs, such as example.org"},
		{!bridgeconfig.AllowedHomeserverSoftware[cfg.Homeserver.Software], "homeserver.software is not a known value; use standard"},
		{cfg.Homeserver.Websocket, "homeserver.websocket is not supported: events would go around the journal"},
	}
}

func appserviceRules(cfg *bridgeconfig.Config) []rule {
	return []rule{
		{cfg.AppService.ASToken == tokenPlaceholder || cfg.AppService.HSToken == tokenPlaceholder, "appservice.as_token and hs_token are not set: run `postern -g` first"},
		{!webAddress(cfg.AppService.Address), "appservice.address has to be a complete http or https address, where the homeserver reaches the bridge"},
		{cfg.AppService.Port == 0 && !strings.HasPrefix(cfg.AppService.Hostname, "/"), "appservice.port has to be a port from 1 to 65535"},
		{cfg.AppService.ID == "", "appservice.id has to be set"},
		{cfg.AppService.ASToken == cfg.AppService.HSToken, "appservice.as_token and hs_token have to be two different tokens"},
		{!localpart.MatchString(cfg.AppService.Bot.Username), "appservice.bot.username has to be the local part of a Matrix ID: small letters, digits and ._=/+-"},
		{!strings.Contains(cfg.AppService.FormatUsername("1234567890"), "1234567890"), "appservice.username_template has no place for the id: it needs {{.}}"},
	}
}

func otherRules(cfg *bridgeconfig.Config) []rule {
	return []rule{
		{!cfg.Bridge.Permissions.IsConfigured(), "bridge.permissions is not set: nobody could use the bridge"},
		{cfg.DirectMedia.Enabled, "direct_media.enabled is not supported"},
		{cfg.Provisioning.SharedSecret != "disable" && len(cfg.Provisioning.SharedSecret) < 16, "provisioning.shared_secret needs at least 16 characters, or the word disable"},
		{cfg.Database.Type != "sqlite3-fk-wal" && cfg.Database.Type != "postgres", fmt.Sprintf("database.type %q is not supported; use sqlite3-fk-wal or postgres", cfg.Database.Type)},
		{cfg.Database.URI == "", "database.uri has to name a file, or a Postgres database"},
		{cfg.Database.MaxOpenConns < 1 || cfg.Database.MaxIdleConns < 0 || cfg.Database.MaxIdleConns > cfg.Database.MaxOpenConns, "database.max_open_conns has to be at least 1, and max_idle_conns from 0 to that"},
	}
}

// localpart is what the part of a Matrix ID before the colon may be.
var localpart = regexp.MustCompile(`^[a-z0-9._=/+-]{1,200}$`)

// webAddress says whether text is a complete http or https address.
func webAddress(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// validatePermissions finds names that nobody can have.
func validatePermissions(permissions bridgeconfig.PermissionConfig) error {
	for _, who := range slices.Sorted(maps.Keys(permissions)) {
		local, domain, full := strings.Cut(strings.TrimPrefix(who, "@"), ":")
		isUser := strings.HasPrefix(who, "@")
		if isUser && (!full || local == "" || domain == "") || !isUser && (who == "" || strings.ContainsAny(who, "/@# ")) {
			return fmt.Errorf("bridge.permissions: %q is neither * nor a domain nor a Matrix ID such as @alice:example.org", who)
		}
	}
	return nil
}

// beside makes a relative path relative to the configuration file.
func beside(configPath, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(configPath), path)
}

// newRegistration makes a registration with tokens of its own; the configuration stays as it is.
func newRegistration(cfg *bridgeconfig.Config) *appservice.Registration {
	as, hs := cfg.AppService.ASToken, cfg.AppService.HSToken
	registration := cfg.GenerateRegistration()
	cfg.AppService.ASToken, cfg.AppService.HSToken = as, hs
	// Rooms are made under aliases of their own, so that making one again finds it.
	aliases := fmt.Sprintf("^#%s.+:%s$", regexp.QuoteMeta(connector.AliasPrefix(cfg.AppService.ID)), regexp.QuoteMeta(cfg.Homeserver.Domain))
	registration.Namespaces.RoomAliases.Register(regexp.MustCompile(aliases), true)
	return registration
}

// child is the value of a key, made if it is missing.
func child(mapping *yaml.Node, key string, kind yaml.Kind) *yaml.Node {
	if v := valueOf(mapping, key); v != nil {
		return v
	}
	v := &yaml.Node{Kind: kind}
	mapping.Content = append(mapping.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, v)
	return v
}
