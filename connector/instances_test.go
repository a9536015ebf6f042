package connector

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"maunium.net/go/mautrix/bridgev2"
	frameworkdb "maunium.net/go/mautrix/bridgev2/database"
	"maunium.net/go/mautrix/id"

	"postern/connector/profile"
	"postern/connector/words"
	"postern/database"
	"postern/database/databasetest"
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

// among is a connector of an instance, over what the instances share.
func among(t *testing.T, shared *database.Shared, cfg database.Config, name string) *Connector {
	t.Helper()
	c := gated(t, map[string]any{"connect": "always"})
	c.db = databasetest.Open(t, cfg)
	c.ctx = t.Context()
	var err error
	if c.suspended, err = loadSuspensions(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if c.maintenance, err = loadMaintenance(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	c.instances = &instances{c: c, name: name, all: []string{"east", "west"}, shared: shared, strangers: map[id.UserID]bool{}}
	return c
}

func sharedForTest(t *testing.T) *database.Shared {
	t.Helper()
	shared, err := database.OpenShared(t.Context(), database.SharedConfig{URI: databasetest.PostgresConfig(t).URI, Schema: "both", Key: [database.KeySize]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = shared.Close() })
	for _, one := range []database.Instance{
		{Name: "east", Tables: "e", Appservice: "e", Bot: "@east:test", Address: "http://e"}, {Name: "west", Tables: "w", Appservice: "w", Bot: "@west:test", Address: "http://w"},
	} {
		if err := shared.Join(t.Context(), one); err != nil {
			t.Fatal(err)
		}
	}
	return shared
}

// TestAnOldBackupSpeaksForNobodyWhoBelongsToAnotherInstanceByNow starts an instance with an account whose user has one at another instance by
// now, beside one of its own.
func TestAnOldBackupSpeaksForNobodyWhoBelongsToAnotherInstanceByNow(t *testing.T) {
	shared := sharedForTest(t)
	east := among(t, shared, databasetest.SQLiteConfig(t), "east")
	for i, who := range []string{"gone", "stays"} {
		account := &database.Account{
			ID: who, Gatekeeper: "whatsapp", MXID: "@" + who + ":test", Identifier: who, Login: fmt.Sprintf("7-%d@interop", i+1), Integrator: 7, ConsentVersion: 1, EnlistedAt: 1,
		}
		if err := east.db.Accounts().Put(t.Context(), account); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := shared.Claim(t.Context(), "@gone:test", "west"); err != nil {
		t.Fatal(err)
	}
	if _, err := shared.Claim(t.Context(), "@left:test", "east"); err != nil { // whose account is not there any more
		t.Fatal(err)
	}
	if err := east.instances.adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	homes, err := shared.Homes(t.Context())
	if err != nil || len(homes) != 2 || homes["@stays:test"].Instance != "east" || homes["@gone:test"].Instance != "west" {
		t.Errorf("homes are %v, %v", homes, err)
	}
	login := &bridgev2.UserLogin{UserLogin: &frameworkdb.UserLogin{ID: "gone", UserMXID: "@gone:test"}}
	if err := east.LoadUserLogin(t.Context(), login); err != nil {
		t.Fatal(err)
	}
	if broken, ok := login.Client.(*brokenClient); !ok || !broken.elsewhere {
		t.Errorf("the client of somebody else's user is %T", login.Client)
	}
	outcome, err := east.askToDelete(t.Context(), &database.Leaving{AccountID: "gone", MXID: "@gone:test", Gatekeeper: "whatsapp", Asked: 1})
	if outcome != outcomeUntold || err != nil {
		t.Errorf("the account at the gatekeeper was asked to be deleted: %s, %v", outcome, err)
	}
	if east.instances.stranger("@stays:test") {
		t.Error("its own user counts as another's")
	}
}

// TestALogInAtAnotherInstanceIsRefusedAndNamesTheRightBot covers clients with buttons, which type no command.
func TestALogInAtAnotherInstanceIsRefusedAndNamesTheRightBot(t *testing.T) {
	shared := sharedForTest(t)
	west := among(t, shared, databasetest.SQLiteConfig(t), "west")
	if _, err := shared.Assign(t.Context(), "@anna:test", "east"); err != nil {
		t.Fatal(err)
	}
	l := &loginProcess{
		connector: west, user: &bridgev2.User{User: &frameworkdb.User{MXID: "@anna:test"}}, agreed: &agreement{profile: profile.WhatsApp()}, words: words.For("en"),
		identifier: "anna", admitted: true,
	}
	if step, err := l.Start(t.Context()); step != nil || err == nil || !strings.Contains(err.Error(), "@east:test") {
		t.Errorf("the log-in goes on: %+v, %v", step, err)
	}
	if row, err := l.enlist(t.Context(), true); row != nil || err == nil || !strings.Contains(err.Error(), "@east:test") {
		t.Errorf("enlisted: %+v, %v", row, err)
	}
	if accounts, err := west.db.Accounts().All(t.Context()); len(accounts) != 0 || err != nil {
		t.Errorf("accounts: %v, %v", accounts, err)
	}
	for who, want := range map[id.UserID]error{"@anna:test": errElsewhere, "@ben:test": errTaken} {
		if _, err := shared.Assign(t.Context(), "@ben:test", "west"); err != nil {
			t.Fatal(err)
		}
		if _, err := shared.ClaimIdentifier(t.Context(), "whatsapp", "anna", "@anna:test"); err != nil {
			t.Fatal(err)
		}
		if err := west.claim(t.Context(), who, "whatsapp", "anna"); !errors.Is(err, want) {
			t.Errorf("%s claims: %v, want %v", who, err, want)
		}
	}
}
