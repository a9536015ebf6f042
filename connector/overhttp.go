package connector

import (
	"errors"
	"net/http"
	"slices"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/bridgev2"

	"postern/connector/words"
)

// overHTTP is an error in words for a person as a program of theirs gets it over the provisioning interface: with the words, and with a status that
// tells what they can do something about from a fault of the bridge. Without it the framework would answer each with a 500 and no reason. An error
// that has a form of its own keeps it, and nil stays nil.
func overHTTP(err error) error {
	if err == nil || errors.As(err, new(bridgev2.RespError)) {
		return err
	}
	status := http.StatusBadRequest
	if slices.ContainsFunc(words.Languages(), func(language string) bool { return words.For(language).Text("error.wrong") == err.Error() }) {
		status = http.StatusInternalServerError
	}
	return bridgev2.RespError(mautrix.RespError{ErrCode: "EU.POSTERN.REFUSED", Err: err.Error(), StatusCode: status})
}

// Write makes a toldError one that the framework answers a program with.
func (e *toldError) Write(w http.ResponseWriter) {
	var form bridgev2.RespError
	if errors.As(overHTTP(e.words), &form) {
		form.Write(w)
	}
}
