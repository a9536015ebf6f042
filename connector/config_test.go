package connector

import (
	"bytes"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"postern/connector/binxml"
)

// exampleWith is the example's section with changes, by dotted path.
func exampleWith(t *testing.T, changes map[string]any) *Config {
	t.Helper()
	var doc map[string]any
	if err := yaml.Unmarshal([]byte(exampleConfig), &doc); err != nil {
		t.Fatal(err)
	}
	all := map[string]any{"public.base": "https://bridge.example.org", "gatekeepers.whatsapp.integrator": 7}
	for k, v := range changes {
		all[k] = v
	}
	for path, value := range all {
		at := doc
		steps := strings.Split(path, ".")
		for _, s := range steps[:len(steps)-1] {
			next, ok := at[s].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[s] = next
			}
			at = next
		}
		at[steps[len(steps)-1]] = value
	}
	raw, err := yaml.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	c := &Config{}
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheExampleHasEveryKeyOfTheSectionAndNoOther(t *testing.T) {
	c := exampleWith(t, nil) // KnownFields refuses others
	var doc, known map[string]any
	if err := yaml.Unmarshal([]byte(exampleConfig), &doc); err != nil {
		t.Fatal(err)
	}
	raw, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(raw, &known); err != nil {
		t.Fatal(err)
	}
	var compare func(path string, example, known map[string]any)
	compare = func(path string, example, known map[string]any) {
		for key, value := range known {
			got, ok := example[key]
			if !ok {
				t.Errorf("%s%s is not in the example", path, key)
				continue
			}
			if below, ok := value.(map[string]any); ok {
				compare(path+key+".", got.(map[string]any), below)
			}
		}
	}
	compare("", doc, known)
}

func TestAnExampleWithTheTwoThingsSetIsGood(t *testing.T) {
	c := exampleWith(t, nil)
	if err := c.prepare(); err != nil {
		t.Fatal(err)
	}
	if len(c.agreements) != 1 || c.agreements[0].profile.Name != "whatsapp" || c.agreements[0].integrator != 7 || c.byName("messenger") != nil {
		t.Errorf("agreements: %+v", c.agreements)
	}
}

func TestKeysThatMayBeLeftOutHaveDefaults(t *testing.T) {
	c := exampleWith(t, map[string]any{"identifier_type": "", "displayname_template": "", "identifier_template": "", "connect": ""})
	if err := c.prepare(); err != nil || c.IdentifierType != identifierUsername {
		t.Errorf("type %q, error %v", c.IdentifierType, err)
	}
}

func TestAConfigurationThatCannotWorkIsRefusedAndTheKeyIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		changes map[string]any
		key     string
	}{
		"the example's base":                  {map[string]any{"public.base": "https://postern.example.com"}, "network.public.base"},
		"a base with a slash":                 {map[string]any{"public.base": "https://a.example/"}, "network.public.base"},
		"a base without a scheme":             {map[string]any{"public.base": "a.example"}, "network.public.base"},
		"a base with a query":                 {map[string]any{"public.base": "https://a.example?x=1"}, "network.public.base"},
		"an address without a port":           {map[string]any{"public.address": "127.0.0.1"}, "network.public.address"},
		"an idle time that is none":           {map[string]any{"connect": "attached", "attached.idle": "soon"}, "network.attached.idle"},
		"an idle time that is too short":      {map[string]any{"attached.idle": "1s"}, "network.attached.idle"},
		"an idle time that is too long":       {map[string]any{"attached.idle": "25h"}, "network.attached.idle"},
		"an account that stays away":          {map[string]any{"attached.at_least": "721h"}, "network.attached.at_least"},
		"no connections at all":               {map[string]any{"connects_per_second": -1}, "network.connects_per_second"},
		"a receipt that waits for ever":       {map[string]any{"receipt_delay": "2h"}, "network.receipt_delay"},
		"a receipt before its time":           {map[string]any{"receipt_delay": "-2s"}, "network.receipt_delay"},
		"too many connections":                {map[string]any{"connects_per_second": 1001}, "network.connects_per_second"},
		"an unknown address policy":           {map[string]any{"client_address.policy": "maybe"}, "network.client_address.policy"},
		"how long somebody is to be gone":     {map[string]any{"departed.grace": "soon"}, "network.departed.grace"},
		"no time to come back":                {map[string]any{"departed.grace": "0s"}, "network.departed.grace"},
		"looking all the time":                {map[string]any{"departed.check": "1ms"}, "network.departed.check"},
		"a token and a file with it":          {map[string]any{"departed.admin_token": "a", "departed.admin_token_file": "b"}, "network.departed.admin_token"},
		"addresses without a token":           {map[string]any{"client_address.policy": "require"}, "network.client_address.admin_token"},
		"an unknown language":                 {map[string]any{"language": "xx"}, "network.language"},
		"an unknown policy":                   {map[string]any{"connect": "sometimes"}, "network.connect"},
		"an unknown identifier type":          {map[string]any{"identifier_type": "name"}, "network.identifier_type"},
		"a broken template":                   {map[string]any{"identifier_template": "{{.Localpart"}, "network.identifier_template"},
		"a template with unknown field":       {map[string]any{"displayname_template": "{{.Phone}}"}, "network.displayname_template"},
		"no integrator":                       {map[string]any{"gatekeepers.whatsapp.integrator": 0}, "network.gatekeepers.whatsapp.integrator"},
		"an integrator over 999":              {map[string]any{"gatekeepers.whatsapp.integrator": 1000}, "network.gatekeepers.whatsapp.integrator"},
		"a chat address of another kind":      {map[string]any{"gatekeepers.whatsapp.chat": "http://x"}, "network.gatekeepers.whatsapp.chat"},
		"a chat address without a port":       {map[string]any{"gatekeepers.whatsapp.chat": "tcp://x"}, "network.gatekeepers.whatsapp.chat"},
		"a root key too short":                {map[string]any{"gatekeepers.whatsapp.noise_root_key": "abcd"}, "network.gatekeepers.whatsapp.noise_root_key"},
		"an unknown dialect":                  {map[string]any{"gatekeepers.whatsapp.jid_dialect.reads": "246"}, "network.gatekeepers.whatsapp.jid_dialect.reads"},
		"an unknown gatekeeper":               {map[string]any{"gatekeepers.telegram.enabled": true}, "network.gatekeepers.telegram"},
		"no gatekeeper at all":                {map[string]any{"gatekeepers.whatsapp.enabled": false}, "network.gatekeepers"},
		"an unknown mode of identifiers":      {map[string]any{"identifier.mode": "guess"}, "network.identifier.mode"},
		"e-mail of another type":              {map[string]any{"identifier.mode": "email", "identifier_type": "username", "identifier.smtp.address": "127.0.0.1:25", "identifier.smtp.from": "a@example.org"}, "network.identifier_type"},
		"a mail server without a port":        {map[string]any{"identifier.mode": "email", "identifier_type": "email", "identifier.smtp.address": "mail", "identifier.smtp.from": "a@example.org"}, "network.identifier.smtp.address"},
		"no mail server":                      {map[string]any{"identifier.mode": "email", "identifier_type": "email", "identifier.smtp.address": "", "identifier.smtp.from": "a@example.org"}, "network.identifier.smtp.address"},
		"an unknown way to a mail server":     {map[string]any{"identifier.mode": "email", "identifier_type": "email", "identifier.smtp.address": "127.0.0.1:25", "identifier.smtp.from": "a@example.org", "identifier.smtp.tls": "ssl"}, "network.identifier.smtp.tls"},
		"a mail server elsewhere without TLS": {map[string]any{"identifier.mode": "email", "identifier_type": "email", "identifier.smtp.address": "mail.example.org:25", "identifier.smtp.from": "a@example.org", "identifier.smtp.tls": "none"}, "network.identifier.smtp.tls"},
		"no sender":                           {map[string]any{"identifier.mode": "email", "identifier_type": "email", "identifier.smtp.address": "127.0.0.1:25", "identifier.smtp.from": "Bridge <a@example.org>"}, "network.identifier.smtp.from"},
		"a password without a name":           {map[string]any{"identifier.mode": "email", "identifier_type": "email", "identifier.smtp.address": "127.0.0.1:25", "identifier.smtp.from": "a@example.org", "identifier.smtp.password": "x"}, "network.identifier.smtp.username"},
		"a name without a password":           {map[string]any{"identifier.mode": "email", "identifier_type": "email", "identifier.smtp.address": "127.0.0.1:25", "identifier.smtp.from": "a@example.org", "identifier.smtp.username": "x"}, "network.identifier.smtp.username"},
		"two passwords":                       {map[string]any{"identifier.mode": "email", "identifier_type": "email", "identifier.smtp.address": "127.0.0.1:25", "identifier.smtp.from": "a@example.org", "identifier.smtp.username": "x", "identifier.smtp.password": "x", "identifier.smtp.password_file": "x"}, "network.identifier.smtp.password"},
		"an unknown gate":                     {map[string]any{"region.gate": "passport"}, "network.region.gate"},
		"an empty list":                       {map[string]any{"region.gate": "list"}, "network.region.allow"},
		"a list of names":                     {map[string]any{"region.gate": "list", "region.allow": []string{"anna"}}, "network.region.allow"},
		"a country in words":                  {map[string]any{"region.gate": "declaration", "region.countries": []string{"Germany"}}, "network.region.countries"},
		"a declaration for no time":           {map[string]any{"region.gate": "declaration", "region.declaration_days": 0}, "network.region.declaration_days"},
		"no hook":                             {map[string]any{"region.gate": "hook"}, "network.region.hook.url"},
		"two tokens":                          {map[string]any{"region.gate": "hook", "region.hook.url": "http://127.0.0.1:1", "region.hook.token": "a", "region.hook.token_file": "b"}, "network.region.hook.token"},
		"a time that is none":                 {map[string]any{"region.hook.timeout": "soon"}, "network.region.hook.timeout"},
		"no time between two looks":           {map[string]any{"region.recheck": "0s"}, "network.region.recheck"},
		"a grace that is past":                {map[string]any{"region.grace": "-1h"}, "network.region.grace"},
	} {
		err := exampleWith(t, c.changes).prepare()
		if err == nil || !strings.HasPrefix(err.Error(), c.key) {
			t.Errorf("%s: error is %v, want it to begin with %s", name, err, c.key)
		}
	}
}

func TestConfiguredValuesStandInPlaceOfTheProfiles(t *testing.T) {
	c := exampleWith(t, map[string]any{
		"gatekeepers.whatsapp.chat":                "ws://127.0.0.1:1/ws",
		"gatekeepers.whatsapp.enlist_url":          "http://127.0.0.1:2/enlist",
		"gatekeepers.whatsapp.noise_root_key":      strings.Repeat("ab", 32),
		"gatekeepers.whatsapp.jid_dialect.reads":   "245-bare",
		"gatekeepers.whatsapp.jid_dialect.writes":  "244-domain-byte",
		"gatekeepers.messenger.enabled":            true,
		"gatekeepers.messenger.integrator":         8,
		"gatekeepers.messenger.chat":               "tcp://127.0.0.1:3",
		"gatekeepers.messenger.enlist_url":         "http://127.0.0.1:4",
		"gatekeepers.messenger.media_url":          "http://127.0.0.1:4",
		"gatekeepers.messenger.jwks_url":           "http://127.0.0.1:4/jwks",
		"gatekeepers.messenger.noise_root_key":     strings.Repeat("cd", 32),
		"gatekeepers.messenger.jid_dialect.writes": "",
	})
	if err := c.prepare(); err != nil {
		t.Fatal(err)
	}
	p := c.byName("whatsapp").profile
	if p.Endpoints.ChatWS != "ws://127.0.0.1:1/ws" || p.Endpoints.ChatTCP != "" || p.Endpoints.Enlist != "http://127.0.0.1:2/enlist" {
		t.Errorf("endpoints: %+v", p.Endpoints)
	}
	// What the gatekeeper reads is what we write.
	if p.WriteDialect != binxml.Dialect245Bare || p.ReadDialect != binxml.Dialect244DomainByte || p.Noise.RootKey[0] != 0xab {
		t.Errorf("dialects %v %v, root key %x", p.WriteDialect, p.ReadDialect, p.Noise.RootKey)
	}
	if c.byName("messenger").integrator != 8 || len(c.agreements) != 2 {
		t.Errorf("agreements: %+v", c.agreements)
	}
}

func TestIdentifiersAreNormalised(t *testing.T) {
	for _, c := range []struct{ kind, in, want string }{
		{identifierUsername, "Alice", "alice"},
		{identifierUsername, " ÄNNE ", "änne"},
		{identifierEmail, " Alice@Example.ORG\t", "alice@example.org"},
		{identifierPhone, "+49 (151) 234-56", "4915123456"},
		{identifierPhone, "no digits", ""},
		{identifierUsername, "   ", ""},
		{identifierUsername, strings.Repeat("ä", 100), strings.Repeat("ä", 100)},
		{identifierUsername, strings.Repeat("ä", 101), ""},
	} {
		got, err := normalise(c.kind, c.in)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s %q: %q, %v", c.kind, c.in, got, err)
		}
	}
}
