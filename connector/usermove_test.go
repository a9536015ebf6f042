package connector

import (
	"net/http"
	"slices"
	"testing"

	"maunium.net/go/mautrix/bridgev2/bridgeconfig"

	"postern/connector/matrixdurable"
	"postern/database"
	"postern/database/databasetest"
)

// TestWhatUsersOfOtherInstancesDoIsNobodysMessage: the bot and the ghosts that a room had, or will have, are no people.
func TestWhatUsersOfOtherInstancesDoIsNobodysMessage(t *testing.T) {
	as := &bridgeconfig.AppserviceConfig{UsernameTemplate: "postern_west_{{.}}"}
	in := &instances{others: []database.Instance{
		{Name: "west", Bot: "@postern_west:test", Ghosts: ghostsOf(as, "test")}, {Name: "old", Bot: "@postern_old:test"},
	}}
	j := journal{store: databasetest.Open(t, databasetest.SQLiteConfig(t)).Journal(), foreign: in.foreignUsers()}
	var entries []matrixdurable.Entry
	for sender, id := range map[string]string{
		"@postern_west:test": "$bot", "@postern_west_wa-x:test": "$ghost", "@postern_west_:test": "$nobody", "@postern_west_wa-x:elsewhere": "$elsewhere",
		"@postern_old:test": "$old", "@postern_old_wa-x:test": "$unknown", "@anna:test": "$anna",
	} {
		entries = append(entries, matrixdurable.Entry{Kind: matrixdurable.KindRoom, EventID: id, Room: "!r", Body: []byte(`{"sender":"` + sender + `"}`)})
	}
	want := []string{"$anna", "$elsewhere", "$nobody", "$unknown"}
	ids := func(list []matrixdurable.Entry) (ids []string) {
		for _, e := range list {
			ids = append(ids, e.EventID)
		}
		slices.Sort(ids)
		return ids
	}
	stored, _, err := j.Accept(t.Context(), "1", entries)
	if err != nil || !slices.Equal(ids(stored), want) {
		t.Errorf("of a transaction %q, %v", ids(stored), err)
	}
	j.store = databasetest.Open(t, databasetest.SQLiteConfig(t)).Journal()
	stored, err = j.Merge(t.Context(), "x", "", entries, func(string) bool { return false })
	if err != nil || !slices.Equal(ids(stored), want) {
		t.Errorf("of what was missed %q, %v", ids(stored), err)
	}
	if (*instances)(nil).foreignUsers() != nil {
		t.Error("a bridge that is the only one knows others")
	}
}

// TestAnAttachmentOfAnotherInstancesIsThereAndOneThatIsAwayIsWaitedFor: what was prepared before a user was moved is still sent.
func TestAnAttachmentOfAnotherInstancesIsThereAndOneThatIsAwayIsWaitedFor(t *testing.T) {
	has := func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead || r.URL.Path != "/media/"+testReference || r.Header.Get(askedBy) != "here" {
			t.Errorf("%s %s %v", r.Method, r.URL.Path, r.Header)
		}
	}
	broken := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	for name, c := range map[string]struct {
		others []http.HandlerFunc
		there  bool
		away   bool
	}{
		"one has it": {[]http.HandlerFunc{refuses, has}, true, false}, "nobody": {[]http.HandlerFunc{refuses, refuses}, false, false},
		"one is away": {[]http.HandlerFunc{broken, refuses}, false, true}, "one is away, one has it": {[]http.HandlerFunc{broken, has}, true, false},
	} {
		there, err := neighbours(t, c.others...).othersHave(t.Context(), testReference)
		if there != c.there || (err != nil) != c.away {
			t.Errorf("%s: %v, %v", name, there, err)
		}
	}
}
