package main

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"postern/connector/admin"
)

// verbFlags are the flags that all commands of the operator have.
func verbFlags(name string, config *string, asJSON, help *bool) *flag.FlagSet {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	for _, name := range []string{"c", "config"} {
		set.StringVar(config, name, "config.yaml", "")
	}
	for _, name := range []string{"h", "help"} {
		set.BoolVar(help, name, false, "")
	}
	set.BoolVar(asJSON, "json", false, "")
	return set
}

// wordsOf parses the arguments and returns those that are no flags; flags may stand behind words.
func wordsOf(set *flag.FlagSet, args []string) (words []string, err error) {
	for {
		if err := set.Parse(args); err != nil {
			return nil, err
		}
		if set.NArg() == 0 {
			return words, nil
		}
		words, args = append(words, set.Arg(0)), set.Args()[1:]
	}
}

// verbOf parses the arguments of a command that has verbs, which verbs lists; help says that only the usage is asked for.
func verbOf(set *flag.FlagSet, args []string, help *bool, verbs string) (verb string, words []string, err error) {
	words, err = wordsOf(set, args)
	switch {
	case err != nil:
		return "", nil, err
	case *help || len(words) > 0 && words[0] == "help":
		*help = true
		return "", nil, nil
	case len(words) == 0:
		return "", nil, fmt.Errorf("%s needs a verb: %s", set.Name(), verbs)
	}
	return words[0], words[1:], nil
}

// allPages asks for one page after the other, each from an offset, and returns all that is on them; never nil.
func allPages[T any](ask func(offset int) ([]T, error)) ([]T, error) {
	all := []T{}
	for {
		page, err := ask(len(all))
		if err != nil {
			return nil, err
		}
		if all = append(all, page...); len(page) < admin.MaxPage {
			return all, nil
		}
	}
}

// verbStatus is the exit status of a command that has asked the bridge, and says what went wrong; undone is how much of what was asked for
// could not be done.
func verbStatus(stderr io.Writer, err error, undone int) int {
	var exit *exitError
	if errors.As(err, &exit) {
		return report(stderr, exit.err, exit.code)
	} else if err == nil && undone > 0 {
		return exitOther
	}
	return report(stderr, err, exitOther)
}
