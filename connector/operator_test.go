package connector

import (
	"slices"
	"strings"
	"testing"

	"postern/connector/admin"
	"postern/connector/words"
)

// TestEveryActionHasAFunctionAndWords: one that is new needs both, in every language.
func TestEveryActionHasAFunctionAndWords(t *testing.T) {
	for _, a := range admin.Actions {
		if (orders[a.Name] != nil) == a.Own || (ownCommands[a.Name] != nil) != a.Own {
			t.Errorf("%s: a function %v, a command of its own %v", a.Name, orders[a.Name] != nil, ownCommands[a.Name] != nil)
		}
		for _, language := range words.Languages() {
			if key := "admin.help." + a.Name; !words.For(language).Has(key) {
				t.Errorf("%s has no words in %q", a.Name, language)
			}
		}
	}
	for name := range orders {
		if admin.ActionNamed(name) == nil {
			t.Errorf("%s is not in the table", name)
		}
	}
}

// TestAnOrderOfSomebodyElseReachesNothing: neither a user nor somebody who may only command is an administrator.
func TestAnOrderOfSomebodyElseReachesNothing(t *testing.T) {
	w := newWorld(t)
	w.connector.taking.Store(true)
	at := slices.IndexFunc(levels, func(l level) bool { return l.may.Admin })
	for _, level := range append(slices.Delete(slices.Clone(levels), at, at+1), levels[at]) { // the person is gone then
		user := w.userAt(level.name, level.may)
		said := strings.Join(w.typed(user, managedRoom, "admin delete "+fakePerson.String()+" --yes"), "\n")
		leaving, err := w.connector.db.Leavings().All(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if level.may.Admin != (len(leaving) > 0) {
			t.Errorf("%s: %d are being deleted, and the bot says %q", level.name, len(leaving), said)
		}
	}
}
