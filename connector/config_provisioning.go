package connector

import (
	"fmt"
	"time"

	up "go.mau.fi/util/configupgrade"
)

// ProvisioningConfig bounds the use of tokens for the provisioning interface.
type ProvisioningConfig struct {
	// PerMinute is how many requests of a token are taken in a minute.
	PerMinute int `yaml:"per_minute"`
}

// AuditConfig says how much is kept of what operators and tokens have done.
type AuditConfig struct {
	// Days is for how long, Entries how many entries at most.
	Days    int `yaml:"days"`
	Entries int `yaml:"entries"`
}

// The bounds, and how often what is too much is forgotten.
const (
	maxPerMinute    = 6000
	maxAuditDays    = 3650
	minAuditEntries = 1000
	maxAuditEntries = 10_000_000
	auditTidied     = time.Hour
)

func (p *ProvisioningConfig) check() error {
	if p.PerMinute == 0 {
		p.PerMinute = 60
	}
	if p.PerMinute < 1 || p.PerMinute > maxPerMinute {
		return fmt.Errorf("network.provisioning.per_minute is 1 to %d", maxPerMinute)
	}
	return nil
}

func (a *AuditConfig) check() error {
	if a.Days == 0 {
		a.Days = 365
	}
	if a.Entries == 0 {
		a.Entries = 100_000
	}
	if a.Days < 1 || a.Days > maxAuditDays {
		return fmt.Errorf("network.audit.days is 1 to %d", maxAuditDays)
	}
	if a.Entries < minAuditEntries || a.Entries > maxAuditEntries {
		return fmt.Errorf("network.audit.entries is %d to %d", minAuditEntries, maxAuditEntries)
	}
	return nil
}

func upgradeProvisioningConfig(helper up.Helper) {
	helper.Copy(up.Int, "provisioning", "per_minute")
	helper.Copy(up.Int, "audit", "days")
	helper.Copy(up.Int, "audit", "entries")
}
