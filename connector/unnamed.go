package connector

import (
	"errors"

	"github.com/rs/zerolog"
)

// toldError is why a chat was not begun, in words for the person alone. They can name somebody, and the framework puts what Error says into
// the log.
type toldError struct{ words error }

func (*toldError) Error() string {
	return "connector: start chat: refused, and the person was told why"
}

// Unwrap gives those who answer the person the words.
func (e *toldError) Unwrap() error { return e.words }

// unnamed is an error that the framework may log, of one that is words for a person; nil stays nil.
func unnamed(err error) error {
	if err == nil || errors.As(err, new(*toldError)) {
		return err
	}
	return &toldError{err}
}

// toldWords are the words of an error for the person.
func toldWords(err error) string {
	var told *toldError
	if errors.As(err, &told) {
		return told.words.Error()
	}
	return err.Error()
}

// toldOnly keeps what the framework says of a chat that was not begun out of the log: the person reads it, whoever runs the bridge has nothing
// to do about a number that was mistyped, and for what is a fault there is a line of its own.
type toldOnly struct{}

// Run implements zerolog.Hook.
func (toldOnly) Run(e *zerolog.Event, _ zerolog.Level, message string) {
	if message == "Failed to resolve identifier" || message == "Failed to create chat" {
		e.Discard()
	}
}
