package connector

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
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

// TestAnOrderAboutNobodyIsNotDone: "30d" is no length of time, so it names somebody, and nothing would be deleted in silence.
func TestAnOrderAboutNobodyIsNotDone(t *testing.T) {
	w := newWorld(t)
	w.connector.taking.Store(true)
	client, ctx := w.askAdmin(), t.Context()
	for _, words := range [][]string{{"media", "@nobody:test"}, {"media-purge", "@nobody:test"}, {"media-purge", "30d"}} {
		answer, err := client.Do(ctx, admin.Order{Action: words[0], Words: words[1:]})
		if err != nil || answer.Undone() == 0 {
			t.Errorf("%v: %+v (%v)", words, answer, err)
		} else if said := OrderText(&admin.Order{Action: words[0]}, answer); !strings.Contains(said, "no login of that name") {
			t.Errorf("%v: %s", words, said)
		}
	}
	for _, action := range []string{"media", "media-purge"} {
		if answer, err := client.Do(ctx, admin.Order{Action: action, Words: []string{w.account}}); err != nil || answer.Undone() != 0 {
			t.Errorf("%s of somebody who has no files: %+v (%v)", action, answer, err)
		}
	}
}

// TestWhatTheBotListsOfTheMediaStoreFitsIntoOneMessage, with those who have the most first, and a shell gets all.
func TestWhatTheBotListsOfTheMediaStoreFitsIntoOneMessage(t *testing.T) {
	w := newWorld(t)
	w.connector.taking.Store(true)
	const owners = 120
	for i := range owners {
		if _, err := w.connector.db.Raw().Exec(t.Context(), "INSERT INTO postern_media (ref_hash, owner, size, sha256, created, expires, fetched) VALUES ($1, $2, $3, $4, 1, $5, 0)",
			[]byte{byte(i)}, fmt.Sprintf("owner%d", i), i+1, []byte{1}, int64(1)<<50); err != nil {
			t.Fatal(err)
		}
	}
	at := slices.IndexFunc(levels, func(l level) bool { return l.may.Admin })
	said := strings.Join(w.typed(w.userAt(levels[at].name, levels[at].may), managedRoom, "admin media"), "\n")
	if strings.Count(said, "owner") != adminPage || !strings.Contains(said, "owner119") || !strings.Contains(said, "the 50 with the most") {
		t.Errorf("the bot says %s", said)
	}
	answer, err := w.askAdmin().Do(t.Context(), admin.Order{Action: "media", Offset: 100, Limit: 15})
	if err != nil || len(answer.Media.Users) != 15 || !answer.More || answer.Media.All.Waiting.Files != owners || answer.Media.Users[0].Account != "owner19" {
		t.Errorf("a page: %+v (%v)", answer, err)
	}
	if answer, err = w.askAdmin().Do(t.Context(), admin.Order{Action: "media"}); err != nil || len(answer.Media.Users) != owners || answer.More {
		t.Errorf("all: %+v (%v)", answer, err)
	}
}

// TestEveryComponentOfTheLogCanBeNamed: a line's component is looked for in the list, and a level for another one would change nothing.
func TestEveryComponentOfTheLogCanBeNamed(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`Str\("component", "([a-z]+)"\)`).FindAllStringSubmatch(string(raw), -1) {
			if found++; !slices.Contains(admin.Components, m[1]) {
				t.Errorf("%s: %s cannot be named", name, m[1])
			}
		}
	}
	if found < 5 {
		t.Errorf("only %d were found", found)
	}
}
