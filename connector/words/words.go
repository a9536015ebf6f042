// Package words has all words of the bridge that people read, in every language it speaks: en.yaml, de.yaml, and one such file for each
// further language. It is at the bottom of connector and must import nothing of this module. It has nothing to do with
// PROTOCOL.md: what goes to the gatekeeper is not translated.
//
// # How to add words
//
// Put a key and its text into en.yaml and into every other language's file: lower case, the topic first, dots between,
// such as
//
//	block.done: "**{name}** is blocked."
//
// with a name in braces for each thing that is filled in. Then say it, in the connector, where a command answers, with
//
//	reply(ce, "block.done", "name", contact.Name)
//
// and otherwise with the words of the person it is for: c.words() of a client, Connector.wordsFor(mxid) of a Matrix user,
//
//	w.Text("block.done", "name", contact.Name)   // a string
//	w.Error("block.failed")                      // an error that the framework shows as it is
//
// Keys are string literals where they are used, so that a test can hold each of them against the files: it fails for a key
// that a file lacks or that no code uses, for placeholders that differ from one language to another, and for arguments
// that do not fit them. A key that is put together has a literal beginning that ends in a dot or a dash ("failure."+reason).
//
// Texts are Markdown where a command answers, and plain text in notices. reply escapes what is filled in unless it is Markdown; in texts
// for it "$cmdprefix" stands for the bridge's command prefix.
package words

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"gopkg.in/yaml.v3"
)

// Default is the language of those who have not chosen, where the configuration says nothing.
const Default = "en"

//go:embed *.yaml
var files embed.FS

// tables are the texts by language and key. The files are part of the program, and a test reads them.
var tables = sync.OnceValues(func() (map[string]map[string]string, error) {
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("words: %w", err)
	}
	all := make(map[string]map[string]string, len(names))
	for _, name := range names {
		raw, err := files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("words: %w", err)
		}
		table := map[string]string{}
		if err := yaml.Unmarshal(raw, &table); err != nil {
			return nil, fmt.Errorf("words: %s: %w", name, err)
		}
		for key, text := range table {
			table[key] = strings.TrimSpace(text)
		}
		all[strings.TrimSuffix(name, ".yaml")] = table
	}
	return all, nil
})

// Words are the words of one language.
type Words struct {
	language string
	table    map[string]string
}

// Markdown is a filled-in value that is Markdown already, so that nobody escapes it.
type Markdown string

// Languages are the languages' codes, sorted.
func Languages() []string {
	all, err := tables()
	if err != nil {
		return nil
	}
	languages := make([]string, 0, len(all))
	for language := range all {
		languages = append(languages, language)
	}
	slices.Sort(languages)
	return languages
}

// Known brings the code of a language into the form that Languages has ("de-AT" is "de"); "" for one that is not spoken.
func Known(language string) string {
	language, _, _ = strings.Cut(strings.ToLower(strings.TrimSpace(language)), "-")
	language, _, _ = strings.Cut(language, "_")
	if all, err := tables(); err == nil && all[language] != nil {
		return language
	}
	return ""
}

// For returns the words of a language, of Default for one that is not spoken.
func For(language string) Words {
	known := Known(language)
	if known == "" {
		known = Default
	}
	all, err := tables()
	if err != nil {
		return Words{language: known}
	}
	return Words{known, all[known]}
}

// Language is the code of the words' language.
func (w Words) Language() string { return w.language }

// Has says whether there are words for a key.
func (w Words) Has(key string) bool { _, ok := w.table[key]; return ok }

// Text says what the key stands for. The pairs are the names of placeholders, each with its value, as fmt.Sprint writes it. A key that
// is not there is said itself; the tests of this package see to it that none is.
func (w Words) Text(key string, pairs ...any) string {
	text, ok := w.table[key]
	if !ok {
		return key
	}
	return Fill(text, pairs...)
}

// All are all texts whose keys begin with that, by key, with their placeholders: to notice when one of them changes.
func (w Words) All(beginning string) string {
	var all strings.Builder
	for _, key := range slices.Sorted(maps.Keys(w.table)) {
		if strings.HasPrefix(key, beginning) {
			all.WriteString(key + "=" + w.table[key] + "\n")
		}
	}
	return all.String()
}

// Keys are the keys that begin with that, by their texts: to say in another language what is known by its words.
func (w Words) Keys(beginning string) map[string]string {
	keys := map[string]string{}
	for key, text := range w.table {
		if strings.HasPrefix(key, beginning) {
			keys[text] = key
		}
	}
	return keys
}

// Error is Text as an error, for where the framework shows errors to people.
func (w Words) Error(key string, pairs ...any) error { return errors.New(w.Text(key, pairs...)) }

// Fill puts values in place of a text's placeholders. What is filled in is not looked through for placeholders again.
func Fill(text string, pairs ...any) string {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "{")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		name, after, closed := strings.Cut(rest, "}")
		value, given := valueOf(name, pairs)
		if !closed || !given {
			out.WriteString("{")
			text = rest
			continue
		}
		out.WriteString(value)
		text = after
	}
}

func valueOf(name string, pairs []any) (string, bool) {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i] == name {
			return fmt.Sprint(pairs[i+1]), true
		}
	}
	return "", false
}
