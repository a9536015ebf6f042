package connector

import (
	"strings"

	"maunium.net/go/mautrix/bridgev2/commands"

	"postern/connector/words"
)

// languageCommand lets a person choose the language in which the bridge speaks to them, logged in or not.
func languageCommand(help words.Words) *commands.FullHandler {
	return &commands.FullHandler{
		Func: chooseLanguage, Name: "language",
		Help: commands.HelpMeta{
			Section: commands.HelpSectionGeneral, Description: help.Text("help.language"), Args: "[_" + strings.Join(words.Languages(), "_|_") + "_]",
		},
	}
}

func chooseLanguage(ce *commands.Event) {
	c, ok := ce.Bridge.Network.(*Connector)
	if !ok {
		return
	}
	if len(ce.Args) == 0 {
		example := "de"
		if speakTo(ce).Language() == example {
			example = words.Default
		}
		reply(ce, "language.is", "name", speakTo(ce).Text("language.name"), "all", allLanguages(), "example", words.Markdown(example))
		return
	}
	language := words.Known(strings.Join(ce.Args, " "))
	if language == "" {
		reply(ce, "language.unknown", "all", allLanguages())
		return
	}
	if err := c.languages.choose(ce.Ctx, ce.User.MXID, language); err != nil {
		ce.Log.Err(err).Msg("Could not store a language")
		reply(ce, "error.bridge")
		return
	}
	reply(ce, "language.set")
}

// allLanguages are all languages with their own names, in Markdown.
func allLanguages() words.Markdown {
	var all []string
	for _, code := range words.Languages() {
		all = append(all, "`"+code+"` ("+words.For(code).Text("language.name")+")")
	}
	return words.Markdown(strings.Join(all, ", "))
}
