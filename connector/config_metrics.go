package connector

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	up "go.mau.fi/util/configupgrade"
)

// MetricsConfig is the section on figures for Prometheus.
type MetricsConfig struct {
	Enabled bool `yaml:"enabled"`
	// Address is where they are served; "" for the private listener.
	Address   string `yaml:"address"`
	Token     string `yaml:"token"`
	TokenFile string `yaml:"token_file"`
}

// HealthConfig is the section on the readiness endpoint.
type HealthConfig struct {
	// Connected is the share of users in percent that have to be connected.
	Connected int `yaml:"connected"`
	// Patience is for how long fewer may be.
	Patience string `yaml:"patience"`

	patience time.Duration // filled by prepare
}

const (
	// minMetricsToken is how many characters a token has at least.
	minMetricsToken = 16
	// defaultPatience is health.patience, longestPatience the most it may be.
	defaultPatience = 5 * time.Minute
	longestPatience = 24 * time.Hour
)

func upgradeMetricsConfig(helper up.Helper) {
	helper.Copy(up.Bool, "metrics", "enabled")
	for _, key := range []string{"address", "token", "token_file"} {
		helper.Copy(up.Str|up.Null, "metrics", key)
	}
	helper.Copy(up.Int, "health", "connected")
	helper.Copy(up.Str, "health", "patience")
}

// prepare checks the section. Whoever can reach a port of another address than this machine's own has to bring a token.
func (m *MetricsConfig) prepare() error {
	if !m.Enabled {
		return nil
	}
	if m.Token != "" && m.TokenFile != "" {
		return errors.New("network.metrics.token and token_file are both set, and only one can hold")
	}
	if m.Token != "" && len(m.Token) < minMetricsToken {
		return fmt.Errorf("network.metrics.token needs at least %d characters", minMetricsToken)
	}
	tokened := m.Token != "" || m.TokenFile != ""
	if m.Address == "" {
		if !tokened {
			return errors.New("network.metrics.token is not set, and without network.metrics.address the figures are on the private listener, which others reach")
		}
		return nil
	}
	host, _, err := net.SplitHostPort(m.Address)
	if err != nil {
		return errors.New("network.metrics.address has to be host:port, or empty for the private listener")
	}
	if !tokened && !loopback(host) {
		return errors.New("network.metrics.token is not set, and network.metrics.address can be reached from other machines: set one, or listen on 127.0.0.1")
	}
	return nil
}

// loopback says whether a host is this machine's own, for itself alone.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}

func (h *HealthConfig) prepare() error {
	if h.Connected < 0 || h.Connected > 100 {
		return errors.New("network.health.connected is a share in percent, 0 to 100")
	}
	h.patience = defaultPatience
	if h.Patience == "" {
		return nil
	}
	patience, err := time.ParseDuration(h.Patience)
	if err != nil || patience < 0 || patience > longestPatience {
		return fmt.Errorf("network.health.patience has to be a length of time up to %v, such as %v", longestPatience, defaultPatience)
	}
	h.patience = patience
	return nil
}
