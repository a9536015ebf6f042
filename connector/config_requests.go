package connector

import (
	"errors"
	"fmt"

	up "go.mau.fi/util/configupgrade"

	"maunium.net/go/mautrix/bridgev2"
)

// What may become of somebody who writes for the first time.
const (
	requestsAsk    = "ask"
	requestsAccept = "accept"
	requestsRefuse = "refuse"
)

// RequestsConfig says what becomes of people who write for the first time.
type RequestsConfig struct {
	// Policy is ask, accept or refuse, for those who have not chosen with the command requests.
	Policy string `yaml:"policy"`
	// PerHour is how many requests a login gets in an hour; the rest is held back.
	PerHour int `yaml:"per_hour"`
}

const maxRequestsPerHour = 10_000

func (r *RequestsConfig) check() error {
	if r.Policy == "" {
		r.Policy = requestsAsk
	}
	if !requestPolicy(r.Policy) {
		return errors.New("network.requests.policy has to be ask, accept or refuse")
	}
	if r.PerHour == 0 {
		r.PerHour = 10
	}
	if r.PerHour < 1 || r.PerHour > maxRequestsPerHour {
		return fmt.Errorf("network.requests.per_hour is 1 to %d", maxRequestsPerHour)
	}
	return nil
}

// requestPolicy says whether a word is one of the three.
func requestPolicy(word string) bool {
	return word == requestsAsk || word == requestsAccept || word == requestsRefuse
}

// policyOf is what the person of a login has chosen, or else the installation's.
func (c *Connector) policyOf(login *bridgev2.UserLogin) string {
	if metadata, ok := login.Metadata.(*LoginMetadata); ok && requestPolicy(metadata.Requests) {
		return metadata.Requests
	}
	return c.Config.Requests.Policy
}

func (q *requests) policy() string { return q.client.connector.policyOf(q.client.login) }

func upgradeRequestsConfig(helper up.Helper) {
	helper.Copy(up.Str, "requests", "policy")
	helper.Copy(up.Int, "requests", "per_hour")
}
