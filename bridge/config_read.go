package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
	"maunium.net/go/mautrix/bridgev2/bridgeconfig"
)

// reading is a configuration that is put together: the example's defaults, over them the file, over that the environment.
type reading struct {
	// set are the values that are not the example's, in the order in which they were set.
	set []setting
}

// setting is a value that somebody has set.
type setting struct {
	path string
	// where says in words where: a line of the file, or a variable.
	where string
	value *yaml.Node
	env   bool
}

// loadConfig reads a configuration file over the example's defaults, without changing the file, and the environment over that. network is
// filled from the network section. A key that does not exist is an error that names it, as is a value of another kind.
func loadConfig(path string, network any) (*bridgeconfig.Config, error) {
	cfg, _, err := readConfig(path, network, os.Environ())
	return cfg, err
}

// readConfig is loadConfig with the environment given, and with what was set.
func readConfig(path string, network any, environ []string) (*bridgeconfig.Config, *reading, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the configuration: %w; `postern -e -c %s` writes an example", err, path)
	}
	r := &reading{}
	merged, err := r.merge(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if prefix := valueOf(merged, "env_config_prefix"); prefix != nil && prefix.ShortTag() != "!!null" && prefix.Value != "" {
		if err := r.environment(merged, prefix.Value, environ); err != nil {
			return nil, nil, fmt.Errorf("reading the configuration from the environment: %w", err)
		}
	}
	cfg, err := decodeConfig(merged, network)
	if err != nil {
		return nil, nil, fmt.Errorf("reading %s: %w", path, r.blame(network, err))
	}
	return cfg, r, nil
}

// decodeConfig fills both halves of the configuration.
func decodeConfig(merged *yaml.Node, network any) (*bridgeconfig.Config, error) {
	var cfg bridgeconfig.Config
	if err := merged.Decode(&cfg); err != nil {
		return nil, err
	}
	if err := cfg.Network.Decode(network); err != nil {
		return nil, err
	}
	cfg.Bridge.Backfill = cfg.Backfill
	// The framework's type has other names for these two than its own example.
	for key, to := range map[string]*string{"max_conn_idle_time": &cfg.Database.ConnMaxIdleTime, "max_conn_lifetime": &cfg.Database.ConnMaxLifetime} {
		if value := valueOf(valueOf(merged, "database"), key); value != nil {
			if err := value.Decode(to); err != nil {
				return nil, err
			}
		}
	}
	return &cfg, nil
}

// example parses the example anew.
func example() (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(exampleConfig), &doc); err != nil {
		return nil, err
	}
	return doc.Content[0], nil
}

// merge lays the file's values over the defaults.
func (r *reading) merge(file []byte) (*yaml.Node, error) {
	base, err := example()
	if err != nil {
		return nil, err
	}
	var over, behind yaml.Node
	documents := yaml.NewDecoder(bytes.NewReader(file))
	if err := documents.Decode(&over); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := documents.Decode(&behind); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	} else if err == nil {
		return nil, fmt.Errorf("line %d: a second document begins, and only the first would count: take the line with --- away", behind.Line)
	}
	if len(over.Content) == 0 {
		return base, nil // an empty file
	}
	return base, r.overlay(base, over.Content[0], "")
}

// overlay replaces values of base by those of over, key by key.
func (r *reading) overlay(base, over *yaml.Node, path string) error {
	if over.Kind == yaml.AliasNode {
		over = over.Alias
	}
	if over.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %s has to be a mapping of keys to values", over.Line, orTop(path))
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(over.Content); i += 2 {
		key, value := over.Content[i], over.Content[i+1]
		full := strings.TrimPrefix(path+"."+key.Value, ".")
		if seen[key.Value] {
			return fmt.Errorf("line %d: %s stands there a second time", key.Line, full)
		}
		seen[key.Value] = true
		target := valueOf(base, key.Value)
		switch {
		case target == nil && !isLoggingKey(full):
			return fmt.Errorf("line %d: there is no key %s%s", key.Line, full, suggest(base, key.Value))
		case target == nil:
			base.Content = append(base.Content, key, value)
		case target.Kind == yaml.MappingNode && !slices.Contains(freeMaps, full):
			if err := r.overlay(target, value, full); err != nil {
				return err
			}
		default:
			*target = *value
			r.set = append(r.set, setting{path: full, where: fmt.Sprintf("line %d", key.Line), value: value})
		}
	}
	return nil
}

// blame finds the value because of which a configuration could not be decoded, and says so in a sentence.
func (r *reading) blame(network any, cause error) error {
	for _, s := range r.set {
		base, err := example()
		if err != nil {
			return err
		}
		target := base
		for _, key := range s.keys() {
			if target = valueOf(target, key); target == nil {
				break
			}
		}
		if target == nil {
			continue
		}
		*target = *s.value
		alone := reflect.New(reflect.TypeOf(network).Elem()).Interface()
		if _, err := decodeConfig(base, alone); err != nil {
			if choice := choices[strings.Join(s.keys(), ".")]; choice != "" {
				return fmt.Errorf("%s: %s has to be %s", s.where, s.path, choice)
			}
			return fmt.Errorf("%s: %s %s", s.where, s.path, kindWords(err))
		}
	}
	return cause
}

// keys are the keys of a setting's path as far as the example has them: what is below a free mapping belongs to that.
func (s *setting) keys() []string {
	for _, free := range freeMaps {
		if strings.HasPrefix(s.path, free+".") {
			return strings.Split(free, ".")
		}
	}
	return strings.Split(s.path, ".")
}

// intoKind finds what a value should have been.
var intoKind = regexp.MustCompile(`cannot unmarshal .* into (\S+)$`)

// kinds are Go's types in words.
var kinds = map[string]string{
	"bool": "true or false", "string": "a text", "int": "a whole number", "int64": "a whole number", "uint16": "a whole number from 0 to 65535",
	"time.Duration": "a length of time such as 30s", "[]string": "a list", "float64": "a number",
}

// kindWords says what a value has to be. The value itself is left out: it may be a secret.
func kindWords(err error) string {
	var wrong *yaml.TypeError
	if errors.As(err, &wrong) && len(wrong.Errors) > 0 {
		if found := intoKind.FindStringSubmatch(wrong.Errors[0]); found != nil {
			kind, known := kinds[found[1]]
			if !known && strings.HasPrefix(found[1], "[]") {
				kind = "a list"
			} else if !known {
				kind = "of another kind"
			}
			return "has to be " + kind
		}
	}
	return "cannot be used: " + strings.TrimPrefix(err.Error(), "yaml: ")
}
