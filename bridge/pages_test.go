package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"postern/bridge/doctor"
	"postern/connector"
)

// writePages makes TestTheReferencePagesAreCurrent write them: ./build.sh docs does so.
const writePages = "POSTERN_WRITE_PAGES"

func TestTheReferencePagesAreCurrent(t *testing.T) {
	for path, page := range map[string]string{"../docs/CONFIG.md": configPage(t), "../docs/COMMANDS.md": commandsPage(t)} {
		if os.Getenv(writePages) != "" {
			if err := os.WriteFile(path, []byte(page), 0o644); err != nil { //nolint:gosec // a page for everybody
				t.Fatal(err)
			}
		}
		if raw, err := os.ReadFile(path); err != nil || string(raw) != page {
			t.Errorf("%s is not what the program makes of itself (%v): run ./build.sh docs", path, err)
		}
	}
}

// cell makes text fit for a table.
func cell(text string) string {
	text = strings.ReplaceAll(strings.TrimSpace(text), "|", `\|`)
	return strings.NewReplacer("\n", " ", "<", "&lt;").Replace(text)
}

// sentence is what a comment says.
func sentence(comments ...string) string {
	var lines []string
	for _, comment := range comments {
		for line := range strings.Lines(comment) {
			lines = append(lines, strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "#")))
		}
	}
	return strings.TrimSpace(strings.Join(lines, " "))
}

// configPage makes the reference of all keys of the example.
func configPage(t *testing.T) string {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(exampleConfig), &doc); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	out.WriteString(`# The configuration, key by key

Made from [example-config.yaml](../example-config.yaml) by ` + "`./build.sh docs`" + `; do not edit. ` + "`postern -e -c config.yaml`" + ` writes that file. A key that is
left out has the value shown here; a key that is not here is refused by name. Five keys have to be set: the top of the file names them.
` + "`postern doctor`" + ` says what does not fit.

## Keys by the environment

With ` + "`env_config_prefix: POSTERN_`" + ` in the file, variables with that prefix stand over it:

| what | as a variable |
| --- | --- |
| ` + "`homeserver.address`" + ` | ` + "`POSTERN_HOMESERVER__ADDRESS=http://synapse:8008`" + ` (two underscores between keys) |
| a secret in a file | ` + "`POSTERN_APPSERVICE__AS_TOKEN_FILE=/run/secrets/as_token`" + ` (white space around it is left out) |
| a list | ` + "`POSTERN_NETWORK__REGION__COUNTRIES=DE,FR`" + `, or in JSON |
| a mapping | ` + "`POSTERN_BRIDGE__PERMISSIONS={\"example.org\": \"user\"}`" + ` |

A key whose own name ends in ` + "`_file`" + ` is set by its own name. A variable with the prefix and no such key is refused by name.
`)
	root := doc.Content[0]
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		intro := key.HeadComment
		if i == 0 { // the top of the file stands there
			intro = ""
		}
		fmt.Fprintf(&out, "\n## %s\n", key.Value)
		if words := sentence(intro); words != "" {
			fmt.Fprintf(&out, "\n%s\n", words)
		}
		out.WriteString("\n| key | default | |\n| --- | --- | --- |\n")
		if value.Kind == yaml.MappingNode && !slices.Contains(freeMaps, key.Value) {
			keyRows(&out, value, key.Value)
		} else {
			keyRow(&out, key, value, key.Value)
		}
	}
	return out.String()
}

func keyRows(out *bytes.Buffer, mapping *yaml.Node, path string) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		full := path + "." + key.Value
		if value.Kind != yaml.MappingNode || slices.Contains(freeMaps, full) || len(value.Content) == 0 {
			keyRow(out, key, value, full)
			continue
		}
		if words := sentence(key.HeadComment, key.LineComment); words != "" {
			fmt.Fprintf(out, "| **%s** | | %s |\n", full, cell(words))
		}
		keyRows(out, value, full)
	}
}

func keyRow(out *bytes.Buffer, key, value *yaml.Node, path string) {
	shown := value.Value
	if value.Kind != yaml.ScalarNode {
		flow := *value
		flow.Style = yaml.FlowStyle
		raw, err := yaml.Marshal(uncommented(&flow))
		if err == nil {
			shown = strings.TrimSpace(string(raw))
		}
	}
	if shown != "" {
		shown = "`" + strings.ReplaceAll(shown, "|", `\|`) + "`"
	}
	fmt.Fprintf(out, "| `%s` | %s | %s |\n", path, shown, cell(sentence(key.HeadComment, key.LineComment, value.LineComment)))
}

// uncommented is a value without its comments.
func uncommented(n *yaml.Node) *yaml.Node {
	out := *n
	out.HeadComment, out.LineComment, out.FootComment, out.Content = "", "", "", nil
	for _, c := range n.Content {
		out.Content = append(out.Content, uncommented(c))
	}
	return &out
}

// usageVerbs finds the program's commands in its usage.
func usageVerbs() []string {
	var list []string
	for _, found := range regexp.MustCompile(`(?m)^  postern ([a-z][a-z-]*)`).FindAllStringSubmatch(usage, -1) {
		if !slices.Contains(list, found[1]) {
			list = append(list, found[1])
		}
	}
	return list
}

// commandsPage makes the reference of what people type to the bot, and of the program's own commands.
func commandsPage(t *testing.T) string {
	var out bytes.Buffer
	out.WriteString(`# All commands

Made from the program by ` + "`./build.sh docs`" + `; do not edit.

## What people type to the bot

As they are in the room with the bot alone; anywhere else with ` + "`!postern`" + ` before them (` + "`bridge.command_prefix`" + `). What stands in [square brackets] may be left
out, what stands in <angle brackets> is needed. ` + "`help`" + ` shows each user only what they may do, in their language.
`)
	for _, section := range connector.DescribeCommands() {
		if len(section.Commands) == 0 {
			t.Errorf("the section %s of help is empty", section.Title)
		}
		fmt.Fprintf(&out, "\n### %s\n\n| command | | for |\n| --- | --- | --- |\n", section.Title)
		for _, c := range section.Commands {
			name := "`" + strings.TrimSpace(c.Name+" "+plainArgs(c.Args)) + "`"
			if len(c.Aliases) > 0 {
				name += ", `" + strings.Join(c.Aliases, "`, `") + "`"
			}
			whom := c.For
			if whom == "" {
				whom = "everybody"
			}
			fmt.Fprintf(&out, "| %s | %s | %s |\n", strings.ReplaceAll(name, "|", `\|`), cell(c.Text), whom)
		}
	}
	out.WriteString("\n## The program\n\n```\n" + usage + "```\n")
	for _, verb := range usageVerbs() {
		var stdout, stderr bytes.Buffer
		if verb == "run" || verb == "version" || verb == "sandbox" {
			continue // said above, and in SANDBOX.md
		}
		if code := dispatch(t.Context(), []string{verb, "--help"}, &stdout, &stderr); code != 0 || stdout.Len() == 0 {
			t.Errorf("postern %s --help ends with %d and says %q", verb, code, stdout.String())
		}
		fmt.Fprintf(&out, "\n### postern %s\n\n```\n%s```\n", verb, stdout.String())
	}
	return out.String()
}

// plainArgs takes the emphasis out of what a command takes.
func plainArgs(args string) string {
	return regexp.MustCompile("[_`]").ReplaceAllString(args, "")
}

func TestTroubleshootingNamesEveryCheckOfTheDoctorAndNoOther(t *testing.T) {
	raw, err := os.ReadFile("../docs/TROUBLESHOOTING.md")
	if err != nil {
		t.Fatal(err)
	}
	page, names := string(raw), doctor.Names()
	for _, name := range names {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("the check %s is not named", name)
		}
	}
	rows := 0
	for line := range strings.Lines(page) {
		cells := strings.Split(line, " | ")
		if len(cells) != 3 || strings.HasPrefix(line, "| ---") || strings.HasPrefix(line, "| you see") {
			continue
		}
		rows++
		for _, found := range regexp.MustCompile("doctor: ((?:`[a-z-]+`(?:, )?)+)").FindAllStringSubmatch(cells[1], -1) {
			for name := range strings.SplitSeq(strings.ReplaceAll(found[1], "`", ""), ", ") {
				if name != "" && !slices.Contains(names, name) {
					t.Errorf("there is no check %s", name)
				}
			}
		}
	}
	if rows < 20 {
		t.Errorf("only %d symptoms", rows)
	}
	for _, found := range regexp.MustCompile("`postern ([a-z][a-z-]+)").FindAllStringSubmatch(page, -1) {
		if !slices.Contains(usageVerbs(), found[1]) {
			t.Errorf("there is no command postern %s", found[1])
		}
	}
	known := map[string]bool{}
	for _, section := range connector.DescribeCommands() {
		for _, c := range section.Commands {
			known[c.Name] = true
		}
	}
	for _, found := range regexp.MustCompile("the bot's `([a-z-]+)").FindAllStringSubmatch(page, -1) {
		if !known[found[1]] {
			t.Errorf("the bot has no command %s", found[1])
		}
	}
}
