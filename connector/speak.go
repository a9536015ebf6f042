package connector

import (
	"context"
	"maps"
	"strings"
	"sync"

	"maunium.net/go/mautrix/bridgev2/commands"
	"maunium.net/go/mautrix/format"
	"maunium.net/go/mautrix/id"

	"postern/connector/words"
	"postern/database"
)

// languages knows in which language everybody is spoken to. It owns what is on disk about that.
type languages struct {
	store    database.PersonStore
	standard string // for those who have not chosen

	mu     sync.RWMutex
	chosen map[string]string // by Matrix ID
}

// loadLanguages reads what people have chosen.
func loadLanguages(ctx context.Context, store database.PersonStore, standard string) (*languages, error) {
	chosen, err := store.Languages(ctx)
	if err != nil {
		return nil, err
	}
	return &languages{store: store, standard: standard, chosen: maps.Clone(chosen)}, nil
}

// of is the language of a Matrix user.
func (l *languages) of(user id.UserID) string {
	if l == nil {
		return words.Default
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if language, ok := l.chosen[user.String()]; ok {
		return language
	}
	return l.standard
}

// choose stores the language of a Matrix user.
func (l *languages) choose(ctx context.Context, user id.UserID, language string) error {
	if err := l.store.PutLanguage(ctx, user.String(), language); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.chosen[user.String()] = language
	return nil
}

// wordsFor are the words in which a Matrix user is spoken to.
func (c *Connector) wordsFor(user id.UserID) words.Words { return words.For(c.languages.of(user)) }

// standardWords are those in the bridge's own language, for what everybody sees.
func (c *Connector) standardWords() words.Words { return words.For(c.Config.Language) }

// words are the words in which the person of this login is spoken to.
func (c *client) words() words.Words {
	if c.connector == nil || c.login == nil {
		return words.For(words.Default)
	}
	return c.connector.wordsFor(c.login.UserMXID)
}

// speakTo are the words for whoever typed a command.
func speakTo(ce *commands.Event) words.Words {
	if c, ok := ce.Bridge.Network.(*Connector); ok {
		return c.wordsFor(ce.User.MXID)
	}
	return words.For(words.Default)
}

// reply answers a command with words in the language of whoever typed it. The pairs fill the placeholders, see package words; what is not
// Markdown already is escaped.
func reply(ce *commands.Event, key string, pairs ...any) {
	escaped := make([]any, len(pairs))
	for i, value := range pairs {
		text, plain := value.(string)
		if escaped[i] = value; plain && i%2 == 1 {
			escaped[i] = format.EscapeMarkdown(text)
		}
	}
	text := speakTo(ce).Text(key, escaped...)
	ce.ReplyAdvanced(strings.ReplaceAll(text, "$cmdprefix", ce.Bridge.Config.CommandPrefix), true, false)
}
