package parts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"gopkg.in/yaml.v3"
)

// puppetRegistration is where the second registration of a world lies.
func (cfg WorldConfig) puppetRegistration() string {
	return filepath.Join(cfg.Dir, "puppets.yaml")
}

// writePuppetRegistration writes, if it is not there yet, the registration through
// which a bridge acts as the homeserver's own users: an appservice that is sent
// nothing and claims every user for itself and others alike. It returns its token.
func writePuppetRegistration(path string) (token string, err error) {
	var registration struct {
		ID         string `yaml:"id"`
		URL        string `yaml:"url"`
		AppToken   string `yaml:"as_token"`
		HSToken    string `yaml:"hs_token"`
		Sender     string `yaml:"sender_localpart"`
		Namespaces struct {
			Users []map[string]any `yaml:"users"`
		} `yaml:"namespaces"`
	}
	raw, err := os.ReadFile(path)
	if err == nil {
		if err := yaml.Unmarshal(raw, &registration); err != nil {
			return "", fmt.Errorf("reading the registration for puppets: %w", err)
		}
		return registration.AppToken, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("reading the registration for puppets: %w", err)
	}
	registration.ID, registration.AppToken, registration.HSToken, registration.Sender = "puppets", secret(), secret(), "puppets"
	registration.Namespaces.Users = []map[string]any{{"exclusive": false, "regex": "@.*:postern\\.localhost"}}
	if raw, err = yaml.Marshal(registration); err != nil {
		return "", fmt.Errorf("writing the registration for puppets: %w", err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return "", fmt.Errorf("writing the registration for puppets: %w", err)
	}
	return registration.AppToken, nil
}
