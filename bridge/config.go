package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
	"maunium.net/go/mautrix/appservice"
	"maunium.net/go/mautrix/bridgev2/bridgeconfig"
	"maunium.net/go/mautrix/bridgev2/matrix/mxmain"

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

// loadConfig reads a configuration file over the example's defaults, without
// changing the file. network is filled from the network section. A key that
// does not exist is an error that names it.
func loadConfig(path string, network any) (*bridgeconfig.Config, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w; `postern -e -c %s` writes an example", err, path)
	}
	merged, err := mergeConfig([]byte(exampleConfig), raw)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	var cfg bridgeconfig.Config
	if err := merged.Decode(&cfg); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if err := cfg.Network.Decode(network); err != nil {
		return nil, fmt.Errorf("reading the network section of %s: %w", path, err)
	}
	if cfg.EnvConfigPrefix != "" {
		if err := mxmain.UpdateConfigFromEnv(&cfg, network, cfg.EnvConfigPrefix); err != nil {
			return nil, fmt.Errorf("reading the configuration from the environment: %w", err)
		}
	}
	cfg.Bridge.Backfill = cfg.Backfill
	return &cfg, nil
}

// mergeConfig lays the user's values over the defaults.
func mergeConfig(defaults, user []byte) (*yaml.Node, error) {
	var base, over yaml.Node
	if err := yaml.Unmarshal(defaults, &base); err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal(user, &over); err != nil {
		return nil, err
	}
	if len(over.Content) == 0 {
		return base.Content[0], nil // an empty file
	}
	return base.Content[0], overlay(base.Content[0], over.Content[0], "")
}

// overlay replaces values of base by those of over, key by key.
func overlay(base, over *yaml.Node, path string) error {
	if over.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %s has to be a mapping of keys to values", over.Line, orTop(path))
	}
	for i := 0; i+1 < len(over.Content); i += 2 {
		key, value := over.Content[i], over.Content[i+1]
		full := strings.TrimPrefix(path+"."+key.Value, ".")
		target := valueOf(base, key.Value)
		switch {
		case target == nil && !isLoggingKey(full):
			return fmt.Errorf("line %d: there is no key %s%s", key.Line, full, suggest(base, key.Value))
		case target == nil:
			base.Content = append(base.Content, key, value)
		case target.Kind == yaml.MappingNode && !slices.Contains(freeMaps, full):
			if err := overlay(target, value, full); err != nil {
				return err
			}
		default:
			*target = *value
		}
	}
	return nil
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

// validateConfig says in words what has still to be set, or may not be.
func validateConfig(cfg *bridgeconfig.Config) error {
	switch {
	case cfg.Homeserver.Address == "http://example.localhost:8008":
		return errors.New("homeserver.address is not set")
	case cfg.Homeserver.Domain == "example.com":
		return errors.New("homeserver.domain is not set")
	case !cfg.Bridge.Permissions.IsConfigured():
		return errors.New("bridge.permissions is not set: nobody could use the bridge")
	case cfg.AppService.ASToken == tokenPlaceholder || cfg.AppService.HSToken == tokenPlaceholder:
		return errors.New("appservice.as_token and hs_token are not set: run `postern -g` first")
	case !strings.Contains(cfg.AppService.FormatUsername("1234567890"), "1234567890"):
		return errors.New("appservice.username_template has no place for the id: it needs {{.}}")
	case !bridgeconfig.AllowedHomeserverSoftware[cfg.Homeserver.Software]:
		return errors.New("homeserver.software is not a known value; use standard")
	case cfg.Homeserver.Websocket:
		return errors.New("homeserver.websocket is not supported: events would go around the journal")
	case cfg.DirectMedia.Enabled:
		return errors.New("direct_media.enabled is not supported")
	case cfg.Provisioning.SharedSecret != "disable" && len(cfg.Provisioning.SharedSecret) < 16:
		return errors.New("provisioning.shared_secret needs at least 16 characters, or the word disable")
	case cfg.Database.Type != "sqlite3-fk-wal" && cfg.Database.Type != "postgres":
		return fmt.Errorf("database.type %q is not supported; use sqlite3-fk-wal or postgres", cfg.Database.Type)
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

// generateRegistration makes new tokens, writes the registration, and puts the
// tokens into the configuration, where it changes nothing else.
func generateRegistration(configPath, registrationPath string, network any) error {
	cfg, err := loadConfig(configPath, network)
	if err != nil {
		return err
	}
	if cfg.Homeserver.Domain == "example.com" {
		return errors.New("generating the registration: homeserver.domain is not set")
	}
	registration := newRegistration(cfg)
	if err := registration.Save(registrationPath); err != nil {
		return fmt.Errorf("writing the registration: %w", err)
	}
	raw, err := os.ReadFile(configPath)
	if err != nil {
		return fmt.Errorf("putting the tokens into the configuration: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return fmt.Errorf("putting the tokens into the configuration: %w", err)
	}
	if len(doc.Content) == 0 {
		doc = yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.MappingNode}}}
	}
	appservice := child(doc.Content[0], "appservice", yaml.MappingNode)
	*child(appservice, "as_token", yaml.ScalarNode) = yaml.Node{Kind: yaml.ScalarNode, Value: registration.AppToken}
	*child(appservice, "hs_token", yaml.ScalarNode) = yaml.Node{Kind: yaml.ScalarNode, Value: registration.ServerToken}
	if raw, err = yaml.Marshal(&doc); err != nil {
		return fmt.Errorf("putting the tokens into the configuration: %w", err)
	}
	return replaceFile(configPath, raw)
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

// replaceFile writes a file so that a reader sees the old or the new one.
func replaceFile(path string, content []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".config-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(content)
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
