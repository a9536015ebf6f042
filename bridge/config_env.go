package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// fileSuffix ends the name of a variable that holds the name of a file with the value in it.
const fileSuffix = "_file"

// environment lays the variables that begin with prefix over the configuration: PREFIX, then the path in capitals with two underscores
// between keys. A list is separated by commas or written in JSON; a mapping is written in JSON, or its keys one by one. With _FILE behind the
// name the value is the content of that file, without white space around it, unless there is a key of that very name.
func (r *reading) environment(root *yaml.Node, prefix string, environ []string) error {
	environ = slices.Clone(environ)
	slices.Sort(environ) // a mapping before its keys, and always the same mistake first
	given := map[string]bool{}
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		rest, ours := strings.CutPrefix(name, prefix)
		if !ours || rest == "" {
			continue
		}
		if given[strings.ToLower(rest)] = true; given[strings.TrimSuffix(strings.ToLower(rest), fileSuffix)] && strings.HasSuffix(strings.ToLower(rest), fileSuffix) {
			return fmt.Errorf("%s: the same is set without %s as well, and only one can hold", name, strings.ToUpper(fileSuffix))
		}
		if err := r.variable(root, name, strings.ToLower(rest), text); err != nil {
			return err
		}
	}
	return nil
}

// variable sets one key.
func (r *reading) variable(root *yaml.Node, name, rest, text string) error {
	keys := strings.Split(rest, ".")
	if len(keys) == 1 {
		keys = strings.Split(rest, "__")
	}
	target, path, below, fromFile, err := find(root, keys)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if fromFile {
		if text, err = secretFrom(text); err != nil {
			return fmt.Errorf("%s: the file with the value of %s %w", name, path, err)
		}
	}
	s := setting{path: path, where: name, env: true}
	if below != "" {
		entry := child(target, below, yaml.ScalarNode)
		*entry = yaml.Node{Kind: yaml.ScalarNode, Value: text}
		s.path, s.value = path+"."+below, target
		r.set = append(r.set, s)
		return nil
	}
	if s.value, err = fromText(target, text); err != nil {
		return fmt.Errorf("%s: %s %w", name, path, err)
	}
	if target.Kind == yaml.MappingNode && !slices.Contains(freeMaps, path) {
		before := len(r.set)
		if err := r.overlay(target, s.value, path); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for i := range r.set[before:] {
			r.set[before+i].where, r.set[before+i].env = name, true
		}
		return nil
	}
	*target = *s.value
	r.set = append(r.set, s)
	return nil
}

// maxValue is the largest file with a value, in bytes.
const maxValue = 1 << 20

// secretFrom reads a file with nothing but a value. An empty one is a mistake: nobody names a file to set nothing.
func secretFrom(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, maxValue+1))
	text := strings.TrimSpace(string(raw))
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot be read: %w", err)
	case len(raw) > maxValue:
		return "", errors.New("is larger than 1 MiB")
	case text == "":
		return "", errors.New("is empty")
	}
	return text, nil
}

// find follows keys from the root. below is a key of a free mapping's own.
func find(root *yaml.Node, keys []string) (target *yaml.Node, path, below string, fromFile bool, err error) {
	target = root
	for i, key := range keys {
		if slices.Contains(freeMaps, path) {
			below, fromFile = strings.CutSuffix(strings.Join(keys[i:], "."), fileSuffix)
			return target, path, below, fromFile, nil
		}
		next := valueOf(target, key)
		if short, cut := strings.CutSuffix(key, fileSuffix); next == nil && cut && i == len(keys)-1 {
			key, fromFile = short, true
			next = valueOf(target, key)
		}
		if next == nil {
			return nil, "", "", false, fmt.Errorf("there is no key %s%s", strings.TrimPrefix(path+"."+key, "."), suggest(target, key))
		}
		target, path = next, strings.TrimPrefix(path+"."+key, ".")
	}
	return target, path, "", fromFile, nil
}

// fromText reads a value in the kind that the key has.
func fromText(target *yaml.Node, text string) (*yaml.Node, error) {
	switch target.Kind {
	case yaml.MappingNode:
		return structured(text, yaml.MappingNode, `has to be a mapping in JSON, such as {"key": "value"}`)
	case yaml.SequenceNode:
		if strings.HasPrefix(strings.TrimSpace(text), "[") {
			return structured(text, yaml.SequenceNode, "has to be a list, separated by commas or in JSON")
		}
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item != "" {
				list.Content = append(list.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: item})
			}
		}
		return list, nil
	}
	value := &yaml.Node{Kind: yaml.ScalarNode, Value: text}
	if target.ShortTag() == "!!str" {
		value.Tag = "!!str"
	}
	return value, nil
}

// structured reads JSON, or YAML in its flow form.
func structured(text string, kind yaml.Kind, otherwise string) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil || len(doc.Content) == 0 || doc.Content[0].Kind != kind {
		return nil, errors.New(otherwise)
	}
	return doc.Content[0], nil
}
