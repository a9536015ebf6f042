package connector

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"maunium.net/go/mautrix/bridgev2/bridgeconfig"
	"maunium.net/go/mautrix/id"

	"postern/connector/admin"
)

// command types a command in the chat's room, as an answer to an event if that is one, and waits for the bot's answer to it.
func (w *world) command(evt, words string, answered id.EventID) string {
	w.t.Helper()
	before := len(w.matrix.timeline())
	content := text("!postern " + words)
	if answered != "" {
		content = related("", answered, content)
	}
	w.fromPerson(id.EventID(evt), "m.room.message", content)
	list := w.matrix.await(w.t, func(events []*fakeEvent) bool {
		return slices.ContainsFunc(events[before:], func(e *fakeEvent) bool { return e.Content["msgtype"] == "m.notice" })
	})
	for _, e := range list[before:] {
		if e.Content["msgtype"] == "m.notice" {
			return body(e)
		}
	}
	return ""
}

// reports are what the operator sees of all reports.
func (w *world) reports() (list []*admin.ReportDetails) {
	w.t.Helper()
	client := w.askAdmin()
	heads, err := client.Reports(w.t.Context(), true, 0, 100)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, head := range heads {
		r, err := client.Report(w.t.Context(), head.ID)
		if err != nil || r == nil {
			w.t.Fatal(r, err)
		}
		list = append(list, r)
	}
	return list
}

func (w *world) says(what, text string, parts ...string) {
	w.t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			w.t.Errorf("%s: %q is not in %q", what, part, text)
		}
	}
}

func TestAReportHasTheMessageThatItAnswersAndNoOther(t *testing.T) {
	w := newWorld(t)
	w.connector.Config.Operator = OperatorConfig{Name: "The Club", Contact: "desk@club.example"}
	w.say("A", "how are you?")
	w.say("B", "send me money")
	w.own("C", "$mine")
	w.says("alone", w.command("$1", "report", ""), "You have reported", "The Club", "desk@club.example", "Nothing else", "No messages", "block")
	w.says("an answer", w.command("$2", "Report he asks\nfor money", w.shown("send me money")), "What you said", "with its words")
	w.says("an answer to one's own", w.command("$3", "report", "$mine"), "Nothing was reported")
	w.says("an answer to nothing that is known", w.command("$4", "report", "$other"), "Nothing was reported")
	list := w.reports()
	if len(list) != 2 {
		t.Fatalf("%d reports", len(list))
	}
	contact, err := w.connector.db.Contacts().Get(t.Context(), w.peer.Contact)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range list {
		if r.Account != w.account || r.Chat != w.peer.Chat || r.Reporter != fakePerson.String() || r.Gatekeeper != "whatsapp" || r.Address != contact.JID ||
			r.Name == "" || r.Same != 2 || r.Damaged || !r.Closed.IsZero() {
			t.Errorf("report %d is %+v", i, r)
		}
	}
	if r := list[0]; r.Reason != "" || r.Message != nil || r.HasMessage || r.HasReason {
		t.Errorf("the first says more than was said: %+v", r)
	}
	if r := list[1]; r.Reason != "he asks\nfor money" || r.Message == nil || r.Message.Text != "send me money" || r.Message.ID != "B" || r.Message.Missing {
		t.Errorf("the second: %+v %+v", r, r.Message)
	}
	raw, err := json.Marshal(list)
	if err != nil || strings.Contains(string(raw), "how are you") {
		t.Errorf("a message went along that nobody pointed at (%v)", err)
	}
	if got := w.queued(); len(got) > 0 {
		t.Error("something was sent to the reported person")
	}
}

func TestAReportIsStoredWithoutTheWordsOfAMessageThatCannotBeHad(t *testing.T) {
	w := newWorld(t)
	w.say("A", "hello")
	evt := w.shown("hello")
	w.matrix.mu.Lock()
	w.matrix.events = slices.DeleteFunc(w.matrix.events, func(e *fakeEvent) bool { return e.ID == evt })
	w.matrix.mu.Unlock()
	w.says("the answer", w.command("$1", "report", evt), "not its words")
	if list := w.reports(); len(list) != 1 || list[0].Message == nil || !list[0].Message.Missing || list[0].Message.Text != "" || list[0].Message.ID != "A" {
		t.Errorf("%+v", list)
	}
}

func TestReportsAreBoundedAndLongReasonsRefused(t *testing.T) {
	w := newWorld(t)
	w.connector.Config.Reports.PerDay = 2
	w.says("too long", w.command("$0", "report "+strings.Repeat("ä", maxReason+1), ""), "at most 2000 characters")
	for _, evt := range []string{"$1", "$2"} {
		w.says(evt, w.command(evt, "report "+strings.Repeat("ä", maxReason), ""), "You have reported")
	}
	w.says("the third", w.command("$3", "report", ""), "takes 2 reports")
	w.restart()
	w.connector.Config.Reports.PerDay = 2
	w.says("the third, after a restart", w.command("$4", "report", ""), "takes 2 reports")
	if n := len(w.reports()); n != 2 {
		t.Errorf("%d reports", n)
	}
}

func TestTheFirstWordsOfAReportSayWhoItIsAboutWhereThereIsNoChat(t *testing.T) {
	for words, want := range map[string][]reportSplit{
		"":                               nil,
		"Eve":                            {{"Eve", ""}},
		"Eve sends spam":                 {{"Eve sends spam", ""}, {"Eve sends", "spam"}, {"Eve", "sends spam"}},
		"Eve: spam":                      {{"Eve: spam", ""}, {"Eve", "spam"}},
		"+49 (152) 28-1 sends spam":      {{"+49 (152) 28-1", "sends spam"}},
		"+4915228: 3 times":              {{"+4915228", "3 times"}},
		"+4915228":                       {{"+4915228", ""}},
		"@postern_1:test he is rude":     {{"@postern_1:test he is rude", ""}, {"@postern_1:test he is", "rude"}, {"@postern_1:test he", "is rude"}, {"@postern_1:test", "he is rude"}},
		strings.Repeat("a ", 20) + "end": nil,
	} {
		got := reportSplits(strings.Fields(words))
		if want == nil && words != "" {
			if len(got) != maxNameWords {
				t.Errorf("%q is read in %d ways", words, len(got))
			}
			continue
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", words, got, want)
		}
	}
}

func TestSomebodyIsReportedByNameFromTheManagementRoom(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	contact, err := w.connector.db.Contacts().Get(ctx, w.peer.Contact)
	if err != nil {
		t.Fatal(err)
	}
	contact.Name = "Eve of the Shop"
	if err = w.connector.db.Contacts().Update(ctx, contact); err != nil {
		t.Fatal(err)
	}
	const home id.RoomID = "!home:test"
	w.client.login.User.ManagementRoom = home
	say := func(words, want string) {
		t.Helper()
		before := len(w.matrix.timeline())
		w.connector.bridge.Commands.Handle(ctx, home, id.EventID("$"+words), w.client.login.User, words, "")
		list := w.matrix.await(t, func(events []*fakeEvent) bool { return len(events) > before })
		w.says(words, body(list[before]), want)
	}
	say("report", "Usage")
	say("report Bob is rude", "no chat with anybody")
	say("report eve of the shop sends spam", "You have reported")
	say("report "+handleOf(w.peer.Chat)+" again", "You have reported")
	list := w.reports()
	if len(list) != 2 || list[0].Reason != "sends spam" || list[1].Reason != "again" || list[0].Name != "Eve of the Shop" {
		t.Errorf("%+v", list)
	}
}

func TestWhoHasReportedSomebodyIsToldOnceThatItWasSeenToInTheirLanguage(t *testing.T) {
	w := newWorld(t)
	home := func() { w.userAt("joined", bridgeconfig.PermissionLevelUser).ManagementRoom = "!home:test" }
	home()
	if err := w.connector.languages.choose(t.Context(), fakePerson, "de"); err != nil {
		t.Fatal(err)
	}
	w.command("$1", "report", "")
	told := func() (list []string) {
		t.Helper()
		all, err := w.connector.db.Notices().Waiting(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, notice := range all {
			if strings.Contains(string(notice.Content), "gekümmert") && notice.RoomID == "!home:test" {
				list = append(list, string(notice.Content))
			}
		}
		return list
	}
	look := func() {
		t.Helper()
		if err := w.connector.tellClosed(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if look(); len(told()) != 0 {
		t.Fatal("an open report is said to be closed")
	}
	report := w.reports()[0].ID
	none := &adminService{db: w.connector.db, ready: func() bool { return true }} // a command while no bridge runs
	for range 2 {
		if _, err := none.CloseReports(t.Context(), []string{report}); err != nil {
			t.Fatal(err)
		}
	}
	look()
	look()
	if list := told(); len(list) != 1 || !strings.Contains(list[0], report) {
		t.Fatalf("told %q", list)
	}
	w.restart()
	home()
	if look(); len(told()) != 1 {
		t.Errorf("after a restart: %q", told())
	}
	w.command("$2", "report again", "")
	closed := w.reports()[1].ID
	w.connector.taking.Store(true)
	if _, err := w.askAdmin().CloseReports(t.Context(), []string{closed}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.connector.reportsClosed:
	default:
		t.Error("a bridge that runs is not told that a report was closed")
	}
	if look(); len(told()) != 2 {
		t.Errorf("the second one: %q", told())
	}
}
