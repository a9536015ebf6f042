package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"gopkg.in/yaml.v3"
	"maunium.net/go/mautrix/appservice"
	"maunium.net/go/mautrix/bridgev2/bridgeconfig"

	"postern/connector"
)

// complete is a short configuration that is good.
const complete = `homeserver: {address: 'http://localhost:1', domain: a.example.org}
bridge: {permissions: {a.example.org: user}}
appservice: {as_token: 'abcdefghijklmnop', hs_token: 'ponmlkjihgfedcba'}
network: {public: {base: 'https://bridge.a.example.org'}, gatekeepers: {whatsapp: {integrator: 7}}}
`

// wholly reads a configuration as the program does before it runs.
func wholly(path string) (*connector.Connector, error) {
	bridge := connector.New()
	_, network, _ := bridge.GetConfig()
	cfg, err := loadConfig(path, network)
	if err == nil {
		err = validateConfig(cfg)
	}
	if err == nil {
		err = bridge.ValidateConfig()
	}
	return bridge, err
}

func TestEachMistakeIsOneSentenceWithTheKeysPath(t *testing.T) {
	if _, err := wholly(write(t, complete)); err != nil {
		t.Fatal(err)
	}
	for change, want := range map[string]string{
		"appservice.port: many":                                   "appservice.port has to be a whole number from 0 to 65535",
		"appservice.port: 70000":                                  "appservice.port has to be a whole number from 0 to 65535",
		"appservice.port: 0":                                      "appservice.port has to be a port",
		"appservice.address: localhost:29340":                     "appservice.address has to be a complete http",
		"appservice.bot.username: '@bot:a.example.org'":           "appservice.bot.username has to be the local part",
		"appservice.id: ''":                                       "appservice.id has to be set",
		"appservice.hs_token: abcdefghijklmnop":                   "two different tokens",
		"appservice.username_template: ghost":                     "appservice.username_template",
		"appservice.ephemeral_events: maybe":                      "appservice.ephemeral_events has to be true or false",
		"homeserver.address: localhost":                           "homeserver.address has to be a complete http",
		"homeserver.domain: 'https://a.example.org'":              "homeserver.domain has to be",
		"homeserver.software: other":                              "homeserver.software",
		"homeserver.websocket: true":                              "homeserver.websocket is not supported",
		"database.type: mysql":                                    "database.type",
		"database.uri: ''":                                        "database.uri has to name",
		"database.max_open_conns: 0":                              "database.max_open_conns",
		"database.max_conn_lifetime: soon":                        "database.max_conn_lifetime has to be a length of time",
		"database.max_open_conns: [1]":                            "database.max_open_conns has to be a whole number",
		"bridge.permissions: {alice: owner}":                      "bridge.permissions",
		"bridge.permissions: {'@alice': user}":                    `bridge.permissions: "@alice" is neither`,
		"bridge.relay.default_relays: one":                        "bridge.relay.default_relays has to be a list",
		"bridge.transient_state_debounce: soon":                   "bridge.transient_state_debounce has to be a length of time",
		"provisioning.shared_secret: short":                       "provisioning.shared_secret needs at least",
		"encryption.allow: {}":                                    "encryption.allow has to be true or false",
		"encryption.verification_levels.send: friend":             "encryption.verification_levels.send",
		"encryption.rotation: {enable_custom: true, messages: 0}": "encryption.rotation: milliseconds and messages",
		"bridge.portal_event_buffer: 64":                          "bridge.portal_event_buffer has to be 0",
		"appservice.async_transactions: true":                     "appservice.async_transactions off",
		"bridge.bridge_status_notices: some":                      "bridge.bridge_status_notices has to be none",
		"bridge.portal_create_filter.mode: maybe":                 "bridge.portal_create_filter.mode has to be",
		"bridge.cleanup_on_logout.manual.private: burn":           "bridge.cleanup_on_logout.manual",
		"public_media.hash_length: 99":                            "public_media.hash_length",
		"double_puppet.servers: {b.example.org: b}":               "double_puppet.servers.b.example.org has to be",
		"logging.min_level: loud":                                 "logging.min_level has to be trace",
		"logging.writers: [{type: file}]":                         "needs a filename",
		"logging.writers: stdout":                                 "logging.writers has to be a list",
		"bridge.permissions: {a.example.org: {login: sure}}":      "bridge.permissions has to be a mapping",
		"bridge.relay.message_formats: {m.text: '{{'}":            "bridge.relay.message_formats cannot be used",
		"network.public.base: 'https://a/'":                       "network.public.base must not end",
		"network.media.quota: much":                               "network.media.quota",
		"network.gatekeepers.whatsapp.integrator: a":              "network.gatekeepers.whatsapp.integrator has to be a whole number",
		"network.region.allow: all":                               "network.region.allow has to be a list",
		"network.connects_per_second: 5 a minute":                 "network.connects_per_second has to be a whole number",
		"network.gatekeepers.whatsapp.jid_dialect.reads: 246":     "network.gatekeepers.whatsapp.jid_dialect.reads",
	} {
		path, value, _ := strings.Cut(change, ": ")
		var doc, with yaml.Node
		if err := yaml.Unmarshal([]byte(complete), &doc); err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal([]byte(value), &with); err != nil {
			t.Fatal(err)
		}
		node := doc.Content[0]
		for key := range strings.SplitSeq(path, ".") {
			node = child(node, key, yaml.MappingNode)
		}
		*node = *with.Content[0]
		raw, err := yaml.Marshal(&doc)
		if err != nil {
			t.Fatal(err)
		}
		_, err = wholly(write(t, string(raw)))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "unmarshal") {
			t.Errorf("%s gave %v, want %q", change, err, want)
		}
	}
	for text, want := range map[string]string{
		"homeserver:\n  address: a\n  address: b\n":          "homeserver.address stands there a second time",
		"homeserver: {address: 'a\n":                         "found unexpected end",
		complete + "---\nappservice: {port: 1}\n":            "a second document begins",
		complete + "appservice:\n  port: 1\n":                "appservice stands there a second time",
		strings.Replace(complete, "7", "secret-in-place", 1): "network.gatekeepers.whatsapp.integrator has to be",
		strings.ReplaceAll(complete, "a.example.org", "[1]"): "homeserver.domain has to be a text",
	} {
		_, err := wholly(write(t, text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret-in-place") {
			t.Errorf("%q gave %v, want %q", text, err, want)
		}
	}
}

func TestTheEnvironmentSetsEveryKindOfKey(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("from-a-file-1234\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := write(t, "env_config_prefix: POSTERN_TEST_\nappservice: {port: 1}\n")
	bridge := connector.New()
	_, network, _ := bridge.GetConfig()
	cfg, _, err := readConfig(path, network, []string{
		"PATH=/bin", "OTHER_HOMESERVER__ADDRESS=no",
		"POSTERN_TEST_HOMESERVER__ADDRESS=http://hs:8008", "POSTERN_TEST_HOMESERVER__DOMAIN=a.example.org", "POSTERN_TEST_APPSERVICE__PORT=29341",
		"POSTERN_TEST_APPSERVICE__AS_TOKEN_FILE=" + secret, "POSTERN_TEST_appservice.hs_token=12345678901234567890", "POSTERN_TEST_ENCRYPTION__ALLOW=true",
		`POSTERN_TEST_BRIDGE__PERMISSIONS={"a.example.org": "user", "@admin:a.example.org": "admin"}`,
		"POSTERN_TEST_NETWORK__GATEKEEPERS__WHATSAPP__INTEGRATOR=7", "POSTERN_TEST_NETWORK__REGION__ALLOW=*:a.example.org, @x:b.example.org",
		`POSTERN_TEST_NETWORK__REGION__COUNTRIES=["DE","FR"]`, "POSTERN_TEST_NETWORK__KEY_FILE=/keys/postern.key", "POSTERN_TEST_NETWORK__LANGUAGE=de",
		"POSTERN_TEST_DOUBLE_PUPPET__SECRETS__A__EXAMPLE__ORG_FILE=" + secret, "POSTERN_TEST_NETWORK__PUBLIC__BASE=https://bridge.a.example.org",
		`POSTERN_TEST_NETWORK__OPERATOR={"name": "Example", "contact": "@admin:a.example.org"}`, "POSTERN_TEST_DATABASE__MAX_CONN_IDLE_TIME=5m",
		"POSTERN_TEST_NETWORK__REGION__HOOK__TOKEN_FILE=token",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := validateConfig(cfg); err != nil {
		t.Error(err)
	}
	if err := bridge.ValidateConfig(); err != nil {
		t.Error(err)
	}
	n := &bridge.Config
	for what, ok := range map[string]bool{
		"address": cfg.Homeserver.Address == "http://hs:8008", "port": cfg.AppService.Port == 29341, "token from a file": cfg.AppService.ASToken == "from-a-file-1234",
		"dotted name": cfg.AppService.HSToken == "12345678901234567890", "switch": cfg.Encryption.Allow, "mapping": len(cfg.Bridge.Permissions) == 2,
		"number": n.Gatekeepers["whatsapp"].Integrator == 7, "list": len(n.Region.Allow) == 2 && n.Region.Allow[1] == "@x:b.example.org",
		"list in JSON": len(n.Region.Countries) == 2, "a key that ends with _file": n.KeyFile == "/keys/postern.key" && n.Region.Hook.TokenFile == "token",
		"own key of a mapping, from a file": cfg.DoublePuppet.Secrets["a.example.org"] == "from-a-file-1234", "section in JSON": n.Operator.Name == "Example",
		"what is null": cfg.Database.ConnMaxIdleTime == "5m", "language": n.Language == "de",
	} {
		if !ok {
			t.Errorf("%s did not arrive", what)
		}
	}
}

func TestWithoutAPrefixTheEnvironmentIsNotRead(t *testing.T) {
	t.Setenv("POSTERN_HOMESERVER__ADDRESS", "http://elsewhere:1")
	cfg, err := loadConfig(write(t, complete), new(yaml.Node))
	if err != nil || cfg.Homeserver.Address != "http://localhost:1" {
		t.Errorf("%v, %+v", err, cfg)
	}
}

func TestAMistakeInTheEnvironmentNamesTheVariable(t *testing.T) {
	path := write(t, complete+"env_config_prefix: PT_\n")
	for entry, want := range map[string]string{
		"PT_HOMESERVER__ADRESS=x":                "PT_HOMESERVER__ADRESS: there is no key homeserver.adress", //nolint:misspell // the slip is what is tested
		"PT_APPSERVICE__PORT=secret-word":        "PT_APPSERVICE__PORT: appservice.port has to be a whole number",
		"PT_APPSERVICE__AS_TOKEN_FILE=/dev/null": "PT_APPSERVICE__AS_TOKEN_FILE: the file with the value of appservice.as_token is empty",
		"PT_APPSERVICE__AS_TOKEN_FILE=/dev/zero": "PT_APPSERVICE__AS_TOKEN_FILE: the file with the value of appservice.as_token is larger than 1 MiB",
		"PT_APPSERVICE__AS_TOKEN_FILE=/nowhere":  "PT_APPSERVICE__AS_TOKEN_FILE: the file with the value of appservice.as_token cannot be read",
		"PT_BRIDGE__PERMISSIONS=everybody":       "PT_BRIDGE__PERMISSIONS: bridge.permissions has to be a mapping",
		"PT_BRIDGE={\"permision\": {}}":          "PT_BRIDGE: line 1: there is no key bridge.permision",
		"PT_ENCRYPTION__ALLOW=secret-word":       "PT_ENCRYPTION__ALLOW: encryption.allow has to be true or false",
	} {
		_, _, err := readConfig(path, new(yaml.Node), []string{entry})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret-word") {
			t.Errorf("%s gave %v, want %q", entry, err, want)
		}
	}
	both := []string{"PT_APPSERVICE__AS_TOKEN_FILE=" + path, "PT_APPSERVICE__AS_TOKEN=secret-word"}
	if _, _, err := readConfig(path, new(yaml.Node), both); err == nil || !strings.Contains(err.Error(), "only one can hold") {
		t.Errorf("a value and a file with it: %v", err)
	}
}

// asNobody runs fn in the eyes of the file system as a user who may write nothing of root's.
func asNobody(t *testing.T, fn func()) {
	t.Helper()
	if os.Getuid() != 0 {
		fn()
		return
	}
	runtime.LockOSThread() // the identity is the thread's; it is not unlocked, so that the thread ends with this goroutine
	const nobody = 65534
	if _, _, no := syscall.RawSyscall(syscall.SYS_SETFSUID, nobody, 0, 0); no != 0 {
		t.Fatal("root cannot look at the file system as another user")
	}
	fn()
	_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSUID, 0, 0, 0) // answers with the identity before
	runtime.UnlockOSThread()
}

func TestAConfigurationThatCannotBeWrittenIsOnlyComplainedAboutIfSomethingMustBeStored(t *testing.T) {
	for name, c := range map[string]struct {
		text, env, want string
	}{
		"tokens in it":               {text: complete},
		"tokens in the environment":  {text: "env_config_prefix: PTR_\nhomeserver: {domain: a.example.org}\n", env: "from-the-environment"},
		"no tokens anywhere":         {text: "homeserver: {domain: a.example.org}\n", want: "have to be stored"},
		"one in the environment":     {text: "env_config_prefix: PTR_\nhomeserver: {domain: a.example.org}\n", env: "half", want: "give both"},
		"tokens in it and in theirs": {text: "env_config_prefix: PTR_\n" + complete, env: "from-the-environment"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.env != "" {
				t.Setenv("PTR_APPSERVICE__AS_TOKEN", c.env+"-as")
			}
			if c.env == "from-the-environment" {
				t.Setenv("PTR_APPSERVICE__HS_TOKEN", c.env+"-hs")
			}
			path := write(t, c.text)
			public := t.TempDir()
			for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
				_ = os.Chmod(dir, 0o555) // what is not ours stays as it is
			}
			for dir := public; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
				_ = os.Chmod(dir, 0o777) // likewise
			}
			defer func() { _ = os.Chmod(filepath.Dir(path), 0o700) }() // so that it can be removed
			if err := os.Chmod(path, 0o444); err != nil {
				t.Fatal(err)
			}
			registration := filepath.Join(public, "registration.yaml")
			var err error
			asNobody(t, func() { err = generateRegistration(path, registration, new(yaml.Node)) })
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want %q", err, c.want)
				}
				if _, err := os.Stat(registration); err == nil {
					t.Error("a registration was written whose tokens nobody has")
				}
			} else if err != nil {
				t.Error(err)
			} else if r, err := appservice.LoadRegistration(registration); err != nil || !strings.Contains("abcdefghijklmnop from-the-environment-as", r.AppToken) {
				t.Errorf("%v, %+v", err, r)
			}
			if raw, err := os.ReadFile(path); err != nil || string(raw) != c.text {
				t.Errorf("the file was changed: %v", err)
			}
		})
	}
}

func TestTokensArePutIntoTheTextAndNothingElseIsChanged(t *testing.T) {
	tokens, old := regexp.MustCompile(`\bTOKEN-(AS|HS)\b`), regexp.MustCompile(`^ +(as|hs)_token:`)
	for name, text := range map[string]string{
		"the example":       exampleConfig,
		"nothing":           "",
		"without a section": "# mine\n\nhomeserver:\n  domain: a.example.org # ours\n\n\n# the end\n",
		"another indent":    "appservice:\n  # here\n  id: postern\n\n  as_token: \"old\"   # keep\n  hs_token: 'old' \n\nlogging:\n  min_level: warn\n",
		"one missing":       "appservice:\n   # first\n   id: postern\n   as_token: old\n",
		"plain":             "appservice:\n    as_token: This value is generated\n    hs_token: This value is generated # twice\n",
	} {
		out, err := putTokens([]byte(text), "TOKEN-AS", "TOKEN-HS")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		// Whatever line has no token in it stands there as before, in the same order.
		var rest []string
		for line := range strings.Lines(string(out)) {
			if !tokens.MatchString(line) {
				rest = append(rest, line)
			}
		}
		var before []string
		for line := range strings.Lines(text) {
			if !old.MatchString(line) {
				before = append(before, line)
			}
		}
		bare := func(lines []string) string {
			return strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(strings.Join(lines, "")), "appservice:"))
		}
		if bare(rest) != bare(before) {
			t.Errorf("%s: became\n%s", name, out)
		}
		for _, comment := range []string{"# keep", "# twice"} {
			if strings.Contains(text, comment) && !strings.Contains(string(out), comment) {
				t.Errorf("%s: the comment %q has gone", name, comment)
			}
		}
		var doc struct {
			AppService struct {
				AS string `yaml:"as_token"`
				HS string `yaml:"hs_token"`
			} `yaml:"appservice"`
		}
		if err := yaml.Unmarshal(out, &doc); err != nil || doc.AppService.AS != "TOKEN-AS" || doc.AppService.HS != "TOKEN-HS" {
			t.Errorf("%s: %v, %+v", name, err, doc)
		}
	}
	// In other forms the words stay, if not the looks.
	out, err := putTokens([]byte("appservice: {as_token: old, id: x} # why\n"), "TOKEN-AS", "TOKEN-HS")
	if err != nil || !strings.Contains(string(out), "TOKEN-HS") || !strings.Contains(string(out), "# why") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestEveryKeyOfTheExampleIsReadByTheProgram(t *testing.T) {
	for _, half := range []struct {
		into any
		text string
	}{
		{new(bridgeconfig.Config), exampleConfig},
		{new(connector.Config), func() string { own, _, _ := connector.New().GetConfig(); return own }()},
	} {
		decoder := yaml.NewDecoder(strings.NewReader(half.text))
		decoder.KnownFields(true)
		err := decoder.Decode(half.into)
		var unread *yaml.TypeError
		if errors.As(err, &unread) {
			for _, e := range unread.Errors {
				if !readByUs.MatchString(e) {
					t.Error(e)
				}
			}
		} else if err != nil {
			t.Error(err)
		}
	}
}

// readByUs are keys that the framework's own types do not read, and decodeConfig does, or one of a section that is refused.
var readByUs = regexp.MustCompile(`field (max_conn_idle_time|max_conn_lifetime|allow_proxy) not found`)

// TestAnOldConfigurationIsGoodAndKeepsItsComments: one of the first, in which many keys of today are missing, and with words of its owner.
func TestAnOldConfigurationIsGoodAndKeepsItsComments(t *testing.T) {
	old, err := os.ReadFile("testdata/config-old.yaml")
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, string(old))
	if err := generateRegistration(path, filepath.Join(filepath.Dir(path), "registration.yaml"), new(yaml.Node)); err != nil {
		t.Fatal(err)
	}
	if _, err := wholly(path); err != nil {
		t.Error(err)
	}
	now, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed, lines := 0, strings.Split(string(now), "\n")
	for i, line := range strings.Split(string(old), "\n") {
		if i >= len(lines) || lines[i] != line {
			changed++
		}
	}
	if changed != len(tokenKeys) || !strings.Contains(string(now), "# mine: ") {
		t.Errorf("%d lines have changed, want those of the two tokens", changed)
	}
}
