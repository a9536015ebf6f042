package connector

import (
	"fmt"

	up "go.mau.fi/util/configupgrade"
)

// ReportsConfig says how much people may report to whoever runs the bridge.
type ReportsConfig struct {
	// PerDay is how many reports of a Matrix user are taken in a day.
	PerDay int `yaml:"per_day"`
}

const (
	reportsPerDay    = 10
	maxReportsPerDay = 1000
)

func (r *ReportsConfig) check() error {
	if r.PerDay == 0 {
		r.PerDay = reportsPerDay
	}
	if r.PerDay < 1 || r.PerDay > maxReportsPerDay {
		return fmt.Errorf("network.reports.per_day is 1 to %d", maxReportsPerDay)
	}
	return nil
}

func upgradeReportsConfig(helper up.Helper) { helper.Copy(up.Int, "reports", "per_day") }
