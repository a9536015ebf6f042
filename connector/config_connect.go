package connector

import (
	"errors"
	"fmt"
	"time"

	up "go.mau.fi/util/configupgrade"

	"postern/connector/interop"
)

// AttachedConfig is the section on streams that are open only while they are needed.
type AttachedConfig struct {
	Idle    string `yaml:"idle"`
	AtLeast string `yaml:"at_least"`

	idle, atLeast time.Duration // filled by prepare
}

// AddressConfig is the section on the addresses of the users' clients.
type AddressConfig struct {
	Policy     string `yaml:"policy"`
	AdminToken string `yaml:"admin_token"`
}

// Values of Config.Connect and AddressConfig.Policy.
const (
	connectAlways   = "always"
	connectAttached = "attached"

	addressOff     = "off"
	addressPass    = "pass"
	addressRequire = "require"
)

const (
	// shortestIdle keeps a stream open for longer than the second in which the gatekeeper does not repeat a push (PROTOCOL.md 8.2).
	shortestIdle = 2 * time.Second
	longestIdle  = 24 * time.Hour
	// longestAway is well before the 30 days after which a user is un-enlisted (PROTOCOL.md 3.4).
	shortestAway = time.Hour
	longestAway  = 20 * 24 * time.Hour
	// fastestConnects bounds connects_per_second.
	defaultConnects = 20
	// longestReceiptDelay bounds receipt_delay.
	defaultReceiptDelay = 2 * time.Second
	longestReceiptDelay = time.Minute
	fastestConnects     = 1000
)

// upgradeConnectConfig copies the values of an admin's file into the example.
func upgradeConnectConfig(helper up.Helper) {
	helper.Copy(up.Str, "attached", "idle")
	helper.Copy(up.Str, "attached", "at_least")
	helper.Copy(up.Int, "connects_per_second")
	helper.Copy(up.Str, "receipt_delay")
	helper.Copy(up.Str, "client_address", "policy")
	helper.Copy(up.Str|up.Null, "client_address", "admin_token")
}

// prepareConnect checks when and how streams are opened, and fills in defaults.
func (c *Config) prepareConnect() error {
	if c.Connect == "" {
		c.Connect = connectAlways
	}
	if c.Connect != connectAlways && c.Connect != connectAttached {
		return errors.New("network.connect has to be always or attached")
	}
	if err := c.prepareAttached(); err != nil {
		return err
	}
	if c.ConnectsPerSecond == 0 {
		c.ConnectsPerSecond = defaultConnects
	}
	if c.ConnectsPerSecond < 1 || c.ConnectsPerSecond > fastestConnects {
		return fmt.Errorf("network.connects_per_second has to be a number from 1 to %d", fastestConnects)
	}
	c.receiptDelay = defaultReceiptDelay
	if c.ReceiptDelay != "" {
		delay, err := time.ParseDuration(c.ReceiptDelay)
		if err != nil || delay < 0 || delay > longestReceiptDelay {
			return fmt.Errorf("network.receipt_delay has to be a length of time from 0s to %v, such as %v", longestReceiptDelay, defaultReceiptDelay)
		}
		c.receiptDelay = delay
	}
	return c.prepareAddress()
}

// prepareAttached is for the lengths of time of policy attached.
func (c *Config) prepareAttached() error {
	for _, d := range []struct {
		key, text                    string
		otherwise, shortest, longest time.Duration
		to                           *time.Duration
	}{
		{"idle", c.Attached.Idle, 5 * time.Minute, shortestIdle, longestIdle, &c.Attached.idle},
		{"at_least", c.Attached.AtLeast, 24 * time.Hour, shortestAway, longestAway, &c.Attached.atLeast},
	} {
		*d.to = d.otherwise
		if d.text == "" {
			continue
		}
		length, err := time.ParseDuration(d.text)
		if err != nil || length < d.shortest || length > d.longest {
			return fmt.Errorf("network.attached.%s has to be a length of time from %v to %v, such as %v", d.key, d.shortest, d.longest, d.otherwise)
		}
		*d.to = length
	}
	return nil
}

// prepareAddress is for the users' addresses.
func (c *Config) prepareAddress() error {
	switch c.ClientAddress.Policy {
	case "":
		c.ClientAddress.Policy = addressOff
	case addressOff:
	case addressPass, addressRequire:
		if c.ClientAddress.AdminToken == "" {
			return errors.New("network.client_address.admin_token is not set, and without it the homeserver tells the bridge no address")
		}
	default:
		return errors.New("network.client_address.policy has to be off, pass or require")
	}
	return nil
}

// limits are those of an account.
func (c *Config) limits() interop.Limits {
	limits := interop.Limits{MaxPending: c.Backlog.Account, MaxPendingChat: c.Backlog.Chat, ReceiptDelay: c.receiptDelay}
	if limits.ReceiptDelay == 0 {
		limits.ReceiptDelay = -1 // none
	}
	return limits
}

// attendance is what the policy means for an account.
func (c *Config) attendance() interop.Attendance {
	if c.Connect != connectAttached {
		return interop.Attendance{}
	}
	return interop.Attendance{Idle: c.Attached.idle, AtLeast: c.Attached.atLeast}
}
