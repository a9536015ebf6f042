package connector

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"maunium.net/go/mautrix/id"
)

func TestTheRuleDividesUsersEvenlyAndMovesOnlyThoseWhomANewInstanceTakes(t *testing.T) {
	names := []string{"a", "b", "c"}
	const users = 6000
	counts := map[string]int{}
	for i := range users {
		user := id.UserID(fmt.Sprintf("@user%d:example.org", i))
		home := rule(names, user)
		counts[home]++
		if again := rule([]string{"c", "a", "b"}, user); again != home {
			t.Fatalf("%s belongs to %s or to %s, by the order of the list", user, home, again)
		}
		if more := rule(append(slices.Clone(names), "d"), user); more != home && more != "d" {
			t.Fatalf("%s moves from %s to %s when d is added", user, home, more)
		}
	}
	for _, name := range names {
		if share := counts[name]; share < users/3-users/20 || share > users/3+users/20 {
			t.Errorf("%s has %d of %d users", name, share, users)
		}
	}
	if got := rule(names, "@anna:example.org"); got != rule(names, "@anna:example.org") || got == "" {
		t.Error("not the same twice")
	}
}

func TestTheRuleIsTheSameInEveryVersion(t *testing.T) {
	for user, want := range map[id.UserID]string{"@user0:postern.localhost": "east", "@user1:postern.localhost": "west"} {
		if got := rule([]string{"east", "west"}, user); got != want {
			t.Errorf("%s belongs to %s, and did to %s", user, got, want)
		}
	}
}

func TestWhatIsWrongWithInstancesIsSaidInWords(t *testing.T) {
	good := func() *Config {
		c := &Config{KeyFile: "postern.key", EpochFile: "postern.epoch"}
		c.Public.Address = "10.0.0.1:29341"
		c.Instances = InstancesConfig{Name: "east", All: []string{"east", "west"}}
		return c
	}
	c := good()
	if err := c.prepareInstances(); err != nil || c.Instances.Address != "http://10.0.0.1:29341" || c.Instances.Schema != "postern_shared" || c.Instances.KeyFile != "shared.key" {
		t.Errorf("%v, %+v", err, c.Instances)
	}
	alone := &Config{}
	if err := alone.prepareInstances(); err != nil {
		t.Errorf("the only one: %v", err)
	}
	for want, change := range map[string]func(c *Config){
		"network.instances.name has to be set":    func(c *Config) { c.Instances.Name = "" },
		"this instance's own name":                func(c *Config) { c.Instances.All = []string{"west"} },
		"twice":                                   func(c *Config) { c.Instances.All = append(c.Instances.All, "west") },
		"is not a name":                           func(c *Config) { c.Instances.All = append(c.Instances.All, "No Name") },
		`"a;b" is not a name`:                     func(c *Config) { c.Instances.Schema = "a;b" },
		"a file of its own":                       func(c *Config) { c.Instances.KeyFile = "postern.key" },
		"has to say where the other instances":    func(c *Config) { c.Public.Address = "0.0.0.0:29341" },
		"network.instances.address has to be a c": func(c *Config) { c.Instances.Address = "10.0.0.1:29341/" },
	} {
		c := good()
		change(c)
		if err := c.prepareInstances(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
