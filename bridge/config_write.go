package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"gopkg.in/yaml.v3"
	"maunium.net/go/mautrix/bridgev2/bridgeconfig"
)

// tokenKeys are what -g puts into the configuration, below appservice.
var tokenKeys = []string{"as_token", "hs_token"}

// generateRegistration makes new tokens, writes the registration, and puts the tokens into the configuration, where it changes nothing else. A
// configuration that may not be written keeps its tokens, as do tokens from the environment: the registration is then written with those.
func generateRegistration(configPath, registrationPath string, network any) error {
	cfg, set, err := readConfig(configPath, network, os.Environ())
	if err != nil {
		return err
	}
	if cfg.Homeserver.Domain == "example.com" {
		return errors.New("generating the registration: homeserver.domain is not set")
	}
	registration := newRegistration(cfg)
	keep, err := keepTokens(cfg, set, configPath)
	if err != nil {
		return err
	}
	if keep {
		registration.AppToken, registration.ServerToken = cfg.AppService.ASToken, cfg.AppService.HSToken
	}
	text, err := registration.YAML()
	if err != nil {
		return fmt.Errorf("writing the registration: %w", err)
	}
	// Tried first: a configuration with new tokens is of no use without a registration.
	if err := mayWrite(registrationPath); err != nil {
		return fmt.Errorf("writing the registration: %w", err)
	}
	if !keep {
		raw, err := os.ReadFile(configPath)
		if err != nil {
			return fmt.Errorf("putting the tokens into the configuration: %w", err)
		}
		if raw, err = putTokens(raw, registration.AppToken, registration.ServerToken); err != nil {
			return fmt.Errorf("putting the tokens into the configuration: %w", err)
		}
		if err := replaceFile(configPath, raw); err != nil {
			return err
		}
	}
	return replaceFile(registrationPath, []byte(text))
}

// keepTokens says whether the configuration's own tokens are to be taken.
func keepTokens(cfg *bridgeconfig.Config, set *reading, configPath string) (bool, error) {
	fromEnvironment := 0
	for _, s := range set.set {
		if s.env && (s.path == "appservice.as_token" || s.path == "appservice.hs_token") {
			fromEnvironment++
		}
	}
	there := cfg.AppService.ASToken != tokenPlaceholder && cfg.AppService.HSToken != tokenPlaceholder
	err := mayWrite(configPath)
	switch {
	case fromEnvironment == len(tokenKeys):
		return true, nil
	case fromEnvironment > 0:
		return false, errors.New("generating the registration: only one of appservice.as_token and appservice.hs_token is given by the environment; give both")
	case err != nil && there:
		return true, nil
	case err != nil:
		return false, fmt.Errorf("generating the registration: appservice.as_token and appservice.hs_token have to be stored: %w; make the file writable, "+
			"or give both tokens yourself (64 random letters each), there or by the environment", err)
	}
	return false, nil
}

// mayWrite says whether a file may be written: a read-only one may not, although its folder might let us replace it.
func mayWrite(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		return file.Close()
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	probe, err := os.CreateTemp(filepath.Dir(path), ".config-*")
	if err != nil {
		return err
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// putTokens puts the tokens into the text of a configuration. Everything else stays as it is, to the byte; only where the tokens stand in an
// unusual form the text is written anew, with its comments.
func putTokens(raw []byte, as, hs string) ([]byte, error) {
	tokens := map[string]string{"as_token": as, "hs_token": hs}
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) == 0 {
		doc = yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.MappingNode}}}
	}
	edited := editTokens(raw, doc.Content[0], tokens)
	appservice := child(doc.Content[0], "appservice", yaml.MappingNode)
	for _, key := range tokenKeys {
		value := child(appservice, key, yaml.ScalarNode)
		*value = yaml.Node{Kind: yaml.ScalarNode, Value: tokens[key], LineComment: value.LineComment}
	}
	anew, err := yaml.Marshal(&doc)
	if err == nil && edited != nil && sameValues(edited, anew) {
		return edited, nil
	}
	return anew, err
}

// sameValues says whether two texts mean the same.
func sameValues(a, b []byte) bool {
	var one, other any
	return yaml.Unmarshal(a, &one) == nil && yaml.Unmarshal(b, &other) == nil && reflect.DeepEqual(one, other)
}

// editTokens changes the lines with the tokens, or adds them; nil if they stand in a form that it does not know.
func editTokens(raw []byte, root *yaml.Node, tokens map[string]string) []byte {
	lines := strings.SplitAfter(string(raw), "\n")
	appservice := valueOf(root, "appservice")
	if appservice == nil {
		text := strings.TrimRight(string(raw), "\n")
		if text != "" {
			text += "\n\n"
		}
		return []byte(text + "appservice:\n    as_token: " + tokens["as_token"] + "\n    hs_token: " + tokens["hs_token"] + "\n")
	}
	if appservice.Kind != yaml.MappingNode || appservice.Style&yaml.FlowStyle != 0 || len(appservice.Content) == 0 {
		return nil
	}
	var missing []string
	for _, key := range tokenKeys {
		value := valueOf(appservice, key)
		if value == nil {
			missing = append(missing, strings.Repeat(" ", appservice.Content[0].Column-1)+key+": "+tokens[key]+"\n")
			continue
		}
		if value.Kind != yaml.ScalarNode || value.Line < 1 || value.Line > len(lines) {
			return nil
		}
		line, ok := replaceScalar(lines[value.Line-1], value, tokens[key])
		if !ok {
			return nil
		}
		lines[value.Line-1] = line
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value == "appservice" && len(missing) > 0 {
			lines = slices.Insert(lines, root.Content[i].Line, missing...)
		}
	}
	return []byte(strings.Join(lines, ""))
}

// replaceScalar puts another value where one stands in a line.
func replaceScalar(line string, value *yaml.Node, with string) (string, bool) {
	runes := []rune(line)
	if value.Column < 1 || value.Column > len(runes) {
		return "", false
	}
	before, rest := string(runes[:value.Column-1]), string(runes[value.Column-1:])
	end := -1
	switch {
	case value.Style&yaml.DoubleQuotedStyle != 0 && strings.HasPrefix(rest, `"`):
		end = strings.IndexByte(rest[1:], '"') + 2
	case value.Style&yaml.SingleQuotedStyle != 0 && strings.HasPrefix(rest, `'`):
		end = strings.IndexByte(rest[1:], '\'') + 2
	case value.Value != "" && strings.HasPrefix(rest, value.Value):
		end = len(value.Value)
	}
	if end < 2 && value.Style != 0 || end < 1 {
		return "", false
	}
	return before + with + rest[end:], true
}

// replaceFile writes a file so that a reader sees the old or the new one; its mode stays. A file that is mounted by itself, as in a container,
// or whose folder may not be written, cannot be replaced and is written over.
func replaceFile(path string, content []byte) error {
	err := exchange(path, content)
	if errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EROFS) {
		err = overwrite(path, content)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func exchange(path string, content []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".config-*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	if was, statErr := os.Stat(path); statErr == nil {
		err = temporary.Chmod(was.Mode().Perm())
	}
	if err == nil {
		_, err = temporary.Write(content)
	}
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}

func overwrite(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = bytes.NewReader(content).WriteTo(file)
	return errors.Join(err, file.Sync(), file.Close())
}
