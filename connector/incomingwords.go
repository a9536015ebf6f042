package connector

import (
	"sync"

	"postern/connector/words"
)

// incomingKeys are the keys of what stands in a room for content that Matrix has no form for, by the English text.
var incomingKeys = sync.OnceValue(func() map[string]string { return words.For(words.Default).Keys("incoming.") })

// incomingWords says convert's phrases in somebody's language; nil for English.
func incomingWords(w words.Words) func(english string) string {
	if w.Language() == words.Default {
		return nil
	}
	return func(english string) string {
		if key, known := incomingKeys()[english]; known {
			return w.Text(key)
		}
		return english
	}
}
