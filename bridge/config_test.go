package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
	"maunium.net/go/mautrix/bridgev2/matrix/mxmain"

	"postern/connector"
)

// leaves lists the dotted paths of all keys below a mapping.
func leaves(n *yaml.Node, path string, into map[string]*yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		full := strings.TrimPrefix(path+"."+n.Content[i].Value, ".")
		into[full] = n.Content[i]
		if v := n.Content[i+1]; v.Kind == yaml.MappingNode {
			free := false
			for _, f := range freeMaps {
				free = free || f == full
			}
			if !free {
				leaves(v, full, into)
			}
		}
	}
}

func keysOf(t *testing.T, text string) map[string]*yaml.Node {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	keys := map[string]*yaml.Node{}
	leaves(doc.Content[0], "", keys)
	return keys
}

func TestTheExampleHasEveryKeyOfTheFrameworkAndNoOther(t *testing.T) {
	framework := keysOf(t, regexp.MustCompile(`\$<<.*?>>`).ReplaceAllString(mxmain.MatrixExampleConfigBase, "x"))
	ours := keysOf(t, exampleConfig)
	for key := range framework {
		if ours[key] == nil {
			t.Errorf("the framework's key %s is missing from the example", key)
		}
	}
	for key := range ours {
		if framework[key] == nil && key != "network" && !strings.HasPrefix(key, "network.") {
			t.Errorf("the example's key %s is unknown to the framework", key)
		}
	}
	if len(framework) < 150 {
		t.Errorf("only %d keys were compared", len(framework))
	}
}

func TestEveryKeyOfTheExampleIsExplained(t *testing.T) {
	// These have the keys of what stands above them, and say so.
	alike := regexp.MustCompile(`^(network\.gatekeepers\.messenger|bridge\.cleanup_on_logout\.bad_credentials)\.`)
	explained := 0
	var walk func(n *yaml.Node, path string)
	walk = func(n *yaml.Node, path string) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			full := strings.TrimPrefix(path+"."+key.Value, ".")
			words := key.HeadComment + value.LineComment + key.LineComment
			switch {
			case words != "":
				explained++
			case value.Kind != yaml.MappingNode && !alike.MatchString(full):
				t.Errorf("line %d: %s has no comment", key.Line, full)
			}
			if value.Kind == yaml.MappingNode && !slices.Contains(freeMaps, full) {
				walk(value, full)
			}
		}
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(exampleConfig), &doc); err != nil {
		t.Fatal(err)
	}
	walk(doc.Content[0], "")
	if explained < 150 {
		t.Errorf("only %d keys are explained", explained)
	}
}

func TestTheExampleAtTheTopOfTheTreeIsTheOneThatIsWritten(t *testing.T) {
	top, err := os.ReadFile("../example-config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := writeExample(path, io.Discard); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(top, written) {
		t.Error("example-config.yaml differs from what -e writes")
	}
	if err := writeExample(path, io.Discard); err == nil {
		t.Error("an existing file was overwritten")
	}
}

func TestTheExamplesNetworkSectionIsTheConnectorsOwn(t *testing.T) {
	_, section, _ := strings.Cut(exampleConfig, "\nnetwork:\n")
	section, _, ok := strings.Cut(section, "\n\nbridge:\n")
	if !ok {
		t.Fatal("the example has no network section before bridge")
	}
	own, _, _ := connector.New().GetConfig()
	if got := regexp.MustCompile(`(?m)^ {4}`).ReplaceAllString(section+"\n", ""); got != own {
		t.Error("the network section of example-config.yaml differs from connector/example.yaml")
	}
}

// write makes a configuration file.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAShortFileTakesEverythingElseFromTheExample(t *testing.T) {
	path := write(t, "homeserver:\n  domain: matrix.example.org\nbridge:\n  permissions:\n    matrix.example.org: user\n")
	var network yaml.Node
	cfg, err := loadConfig(path, &network)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Homeserver.Domain != "matrix.example.org" || cfg.Bridge.DeduplicateMatrixMessages || cfg.Database.Type != "sqlite3-fk-wal" || cfg.Bridge.PortalEventBuffer != 0 {
		t.Errorf("read %+v", cfg)
	}
	if len(cfg.Bridge.Permissions) != 1 {
		t.Errorf("permissions of the example were mixed in: %v", cfg.Bridge.Permissions)
	}
}

func TestAKeyThatDoesNotExistIsNamedWithItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"homeserver:\n  adress: x\n":      "line 2: there is no key homeserver.adress", //nolint:misspell // the slip is what is tested
		"databse: {}\n":                   "line 1: there is no key databse",
		"network:\n  public:\n    bas: x": "line 3: there is no key network.public.bas; did you mean base?",
		"homeserver: x\n":                 "line 1: homeserver has to be a mapping",
		"- a list\n":                      "line 1: the file has to be a mapping",
	} {
		_, err := loadConfig(write(t, text), new(yaml.Node))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gave %v, want %q", text, err, want)
		}
	}
}

func TestARegistrationPutsInTheTokensAndChangesNothingElse(t *testing.T) {
	const text = "# mine\nhomeserver:\n    domain: matrix.example.org # ours\nlogging:\n    min_level: warn\n"
	path := write(t, text)
	registration := filepath.Join(filepath.Dir(path), "registration.yaml")
	if err := generateRegistration(path, registration, new(yaml.Node)); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(raw), text) {
		t.Errorf("the file was rewritten:\n%s", raw)
	}
	cfg, err := loadConfig(path, new(yaml.Node))
	if err != nil {
		t.Fatal(err)
	}
	reg, err := os.ReadFile(registration)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{cfg.AppService.ASToken, cfg.AppService.HSToken} {
		if token == tokenPlaceholder || len(token) < 16 || !strings.Contains(string(reg), token) {
			t.Errorf("token %d characters long is not in the registration", len(token))
		}
	}
}

func TestWhatHasToBeSetIsNamed(t *testing.T) {
	const good = "homeserver: {address: 'http://localhost:1', domain: a.example.org}\nbridge: {permissions: {a.example.org: user}}\nappservice: {as_token: 'abcdefghijklmnop', hs_token: 'ponmlkjihgfedcba'}\n"
	for change, want := range map[string]string{
		"":                                      "",
		"homeserver: {domain: a.example.org}\n": "homeserver.address",
		"homeserver: {address: 'http://localhost:1'}\n": "homeserver.domain",
		"provisioning: {shared_secret: short}\n":        "provisioning.shared_secret",
		"direct_media: {enabled: true}\n":               "direct_media",
		"database: {type: mysql}\n":                     "database.type",
	} {
		text := good
		if strings.HasPrefix(change, "homeserver") {
			text = change + good[strings.Index(good, "\n")+1:]
		} else {
			text += change
		}
		cfg, err := loadConfig(write(t, text), new(yaml.Node))
		if err != nil {
			t.Fatalf("%q: %v", change, err)
		}
		err = validateConfig(cfg)
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q gave %v, want %q", change, err, want)
		}
	}
}
