package parts

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// secretName is what keys of the configuration and the registration are called whose values are secrets.
var secretName = regexp.MustCompile(`(?:secret|token|password|access_key|pickle_key|signing_key|server_key)$`)

// Secrets are what lies in the bridge's files to be kept from everybody, by the file's name and the key: tokens, passwords and shared
// secrets of its configuration and registration, and the key file. It is for tests that look for them elsewhere.
func (b *Bridge) Secrets() (map[string]string, error) {
	found := map[string]string{}
	for _, path := range []string{b.ConfigPath(), b.RegistrationPath()} {
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading the bridge's secrets: %w", err)
		}
		var doc map[string]any
		if err := yaml.Unmarshal(raw, &doc); err != nil {
			return nil, fmt.Errorf("reading the bridge's secrets: %w", err)
		}
		addSecrets(found, filepath.Base(path), false, doc)
	}
	key, err := os.ReadFile(filepath.Join(b.cfg.Dir, "postern.key"))
	if err != nil {
		return nil, fmt.Errorf("reading the bridge's secrets: %w", err)
	}
	found["the key file"] = strings.TrimSpace(string(key))
	return found, nil
}

// addSecrets adds those of the values below a name; all says that all are secrets.
func addSecrets(to map[string]string, name string, all bool, v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			addSecrets(to, name+" "+key, all || key == "secrets" || secretName.MatchString(key), value)
		}
	case string:
		v = strings.TrimPrefix(v, "as_token:")
		if all && len(v) >= 8 && v != "generate" { // which is an instruction
			to[name] = v
		}
	}
}
