package connector

import (
	"slices"
	"strings"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/commands"

	"postern/connector/words"
)

// DescribedCommand is what a reference page says of a command.
type DescribedCommand struct {
	// Name, and Args as help shows them: [optional], <needed>.
	Name, Args string
	// Text is one sentence.
	Text    string
	Aliases []string
	// For says who may type it and where, in words; empty for everybody and anywhere.
	For string
}

// DescribedCommands is a part of help.
type DescribedCommands struct {
	Title    string
	Commands []DescribedCommand
}

// DescribeCommands lists all commands as help has them, in English, for documentation. It needs no configuration.
func DescribeCommands() []DescribedCommands {
	c := New()
	c.Config.Language = words.Default
	if processor, ok := commands.NewProcessor(&bridgev2.Bridge{}).(*commands.Processor); ok {
		c.addCommands(processor)
	}
	w := c.standardWords()
	list := make([]DescribedCommands, len(helpSections))
	for i, s := range helpSections {
		list[i].Title = w.Text("help.section." + s.name)
	}
	sorted := slices.Clone(c.commands)
	slices.SortStableFunc(sorted, func(a, b *command) int {
		_, one := sectionOf(a)
		_, other := sectionOf(b)
		return one - other
	})
	for _, h := range sorted {
		at, _ := sectionOf(h)
		line := strings.TrimPrefix(h.line(w), "* **"+h.Name+"**")
		args, text, _ := strings.Cut(line, " – ")
		list[at].Commands = append(list[at].Commands, DescribedCommand{
			Name: h.Name, Args: strings.TrimSpace(args), Text: text, Aliases: h.Aliases, For: h.forWhom(),
		})
	}
	return list
}

// forWhom says who may type a command, and where.
func (h *command) forWhom() string {
	var parts []string
	switch {
	case h.RequiresAdmin:
		parts = append(parts, "administrators of the bridge")
	case h.RequiresLogin:
		parts = append(parts, "who has joined")
	case h.RequiresLoginPermission:
		parts = append(parts, "who may join")
	}
	if h.RequiresPortal {
		parts = append(parts, "in a chat's room")
	}
	return strings.Join(parts, ", ")
}
