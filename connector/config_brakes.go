package connector

import (
	"errors"
	"fmt"

	up "go.mau.fi/util/configupgrade"
)

// BrakesConfig bounds what users may do, against abuse.
type BrakesConfig struct {
	// User is what each user may do, Bridge all of them together.
	User   BrakeConfig `yaml:"user"`
	Bridge BrakeConfig `yaml:"bridge"`
}

// BrakeConfig has three rates. A zero is the default.
type BrakeConfig struct {
	// NewChats is how many chats may be begun in 24 hours, with people who have not written first.
	NewChats int `yaml:"new_chats_a_day"`
	// Lookups is how many phone numbers may be looked up in an hour.
	Lookups int `yaml:"lookups_an_hour"`
	// Messages is how many messages may be sent in a minute. The rest is sent later, in order.
	Messages int `yaml:"messages_a_minute"`
}

const maxBrake = 1_000_000

// check fills in defaults and says what is wrong.
func (b *BrakesConfig) check() error {
	for _, one := range []struct {
		key                   string
		user, bridge          *int
		ofUser, ofAllTogether int
	}{
		{"new_chats_a_day", &b.User.NewChats, &b.Bridge.NewChats, 10, 1000},
		{"lookups_an_hour", &b.User.Lookups, &b.Bridge.Lookups, 30, 3000},
		{"messages_a_minute", &b.User.Messages, &b.Bridge.Messages, 60, 6000},
	} {
		if *one.user == 0 {
			*one.user = one.ofUser
		}
		if *one.bridge == 0 {
			*one.bridge = max(one.ofAllTogether, *one.user)
		}
		for section, n := range map[string]int{"user": *one.user, "bridge": *one.bridge} {
			if n < 1 || n > maxBrake {
				return fmt.Errorf("network.brakes.%s.%s is 1 to %d", section, one.key, maxBrake)
			}
		}
		if *one.bridge < *one.user {
			return errors.New("network.brakes.bridge." + one.key + " is for all users together, so it must not be less than network.brakes.user." + one.key)
		}
	}
	return nil
}

func upgradeBrakesConfig(helper up.Helper) {
	for _, section := range []string{"user", "bridge"} {
		for _, key := range []string{"new_chats_a_day", "lookups_an_hour", "messages_a_minute"} {
			helper.Copy(up.Int, "brakes", section, key)
		}
	}
}
