package connector

import (
	"errors"
	"fmt"
	"time"

	up "go.mau.fi/util/configupgrade"
)

// DepartedConfig is the section on Matrix users who are gone.
type DepartedConfig struct {
	AdminToken     string `yaml:"admin_token"`
	AdminTokenFile string `yaml:"admin_token_file"`
	Check          string `yaml:"check"`
	Grace          string `yaml:"grace"`

	check, grace time.Duration // filled by prepare
}

// upgradeDepartedConfig copies the values of an admin's file into the example.
func upgradeDepartedConfig(helper up.Helper) {
	for _, key := range []string{"admin_token", "admin_token_file", "check", "grace"} {
		helper.Copy(up.Str|up.Null, "departed", key)
	}
}

// prepare checks the section, and reads its times.
func (d *DepartedConfig) prepare() error {
	if d.AdminToken != "" && d.AdminTokenFile != "" {
		return errors.New("network.departed.admin_token and network.departed.admin_token_file cannot both be set")
	}
	for _, t := range []struct {
		key, text         string
		otherwise         time.Duration
		shortest, longest time.Duration
		to                *time.Duration
	}{
		{"check", d.Check, 24 * time.Hour, time.Second, 30 * 24 * time.Hour, &d.check},
		{"grace", d.Grace, 72 * time.Hour, 0, 365 * 24 * time.Hour, &d.grace},
	} {
		*t.to = t.otherwise
		if t.text == "" {
			continue
		}
		value, err := time.ParseDuration(t.text)
		if err != nil || value < t.shortest || value > t.longest {
			return fmt.Errorf("network.departed.%s has to be a length of time from %v to %v, such as %v", t.key, t.shortest, t.longest, t.otherwise)
		}
		*t.to = value
	}
	if d.grace == 0 && d.AdminToken == "" && d.AdminTokenFile == "" {
		return errors.New("network.departed.grace cannot be 0 without network.departed.admin_token: who only seems to be gone has to have time to come back")
	}
	return nil
}
