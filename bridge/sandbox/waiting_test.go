package sandbox

import (
	"bytes"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"postern/connector/media"
)

// depotFiles are the names in the depot.
func (s *Server) depotFiles(t testing.TB) []string {
	t.Helper()
	dir, err := s.depot.folder()
	must(t, err)
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// gateOn holds up every answer for one reference until it is let go.
func (l *lab) gateOn(reference string) (open func()) {
	gate := make(chan struct{})
	l.public.media.behave(func(w http.ResponseWriter, r *http.Request, blob []byte) {
		if r.PathValue("ref") == reference {
			select {
			case <-gate:
			case <-r.Context().Done():
			}
		}
		if blob == nil {
			http.NotFound(w, r)
			return
		}
		honest(w, r, blob)
	})
	return func() { close(gate) }
}

func TestAChatsEventsComeInTheOrderOfItsMessagesHoweverLongMediaTakes(t *testing.T) {
	l := newLab(t, quickRules(nil))
	p := l.ready()
	other := l.newPartner("other@example.org").enlist()
	other.login()
	other.upload(5)
	to := other.find(ada)
	other.session(to)

	slow, quick := l.store(someBytes(100_000), media.Document), l.store(someBytes(10), media.Document)
	open := l.gateOn(slow.reference)
	want := []string{p.sendFile(slow.document("slow"))}
	text := p.seal(p.find(ada), "behind it")
	p.send(text)
	want = append(want, text.ID, p.sendFile(quick.document("quick")))
	p.want("delivery of a text behind media", isReceipt(text.ID, ""))
	another := other.seal(to, "in another chat")
	other.send(another)
	e := l.event(ada, 0, "a message of another chat", kindIs("message"))
	if e.ID != another.ID {
		t.Fatalf("%+v came first", e)
	}
	var answer struct{ Error string }
	if status := l.do("POST", "/v1/users/"+ada+"/read", map[string]any{"to": matilda, "ids": []string{text.ID}}, &answer); status != 404 {
		t.Errorf("read before it is shown: %d", status)
	}
	open()
	l.event(ada, 0, "the last", messageIs(want[2]))
	var out struct{ Events []eventBody }
	l.do("GET", "/v1/users/"+ada+"/events", nil, &out)
	var got []string
	for _, e := range out.Events[1:] {
		got = append(got, e.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	l.noComplaints()
}

func TestMediaThatWasOnItsWayIsFetchedAfterARestart(t *testing.T) {
	c := startChild(t, "--state "+t.TempDir())
	p := c.ready()
	data := someBytes(200_000)
	slow, done := c.store(data, media.Document), c.store(someBytes(99), media.Document)
	before := p.sendFile(done.document("before"))
	c.event(ada, 0, "media before the kill", messageIs(before))
	open := c.gateOn(slow.reference)
	id := p.sendFile(slow.document("slow"))
	text := p.seal(p.find(ada), "behind it")
	p.send(text)
	p.want("delivery", isReceipt(text.ID, ""))
	c.until("it is being fetched", func() bool { return len(c.public.media.requests()) > 0 })
	c.kill()
	open()
	c.run()
	e := c.event(ada, 0, "media that was on its way", messageIs(id))
	if e.Media.Error != "" || e.Media.SHA256 != hexOf(data) {
		t.Fatalf("%+v", e.Media)
	}
	c.event(ada, e.Seq, "the text behind it", messageIs(text.ID))
	if got, _ := c.received(ada, id); !bytes.Equal(got, data) {
		t.Errorf("%d bytes", len(got))
	}
	if got, status := c.received(ada, before); status != 200 || len(got) != 99 {
		t.Errorf("media from before: %d, %d bytes", status, len(got))
	}
	c.noComplaints()
}

func TestWhatACrashLeavesInTheMediaFolderIsSwept(t *testing.T) {
	dir := t.TempDir()
	l := newLab(t, func(c *Config) { c.Dir = dir })
	p := l.ready()
	s := l.store([]byte("kept"), media.Document)
	id := p.sendFile(s.document("a"))
	l.event(ada, 0, "the file", messageIs(id))
	must(t, l.s.Close())
	kept := l.s.depotFiles(t)
	if len(kept) != 1 {
		t.Fatalf("%q", kept)
	}
	for _, name := range []string{depotNewTag + "123", newID("", 16)} {
		must(t, os.WriteFile(dir+"/"+depotName+"/"+name, []byte("left behind"), 0o600))
	}
	l.start(Config{Dir: dir})
	if got := l.s.depotFiles(t); !slices.Equal(got, kept) {
		t.Errorf("%q", got)
	}
	if got, status := l.received(ada, id); status != 200 || string(got) != "kept" {
		t.Errorf("%d %q", status, got)
	}
}

func TestWithoutAStateTheMediaFolderGoesWithTheSandbox(t *testing.T) {
	l := newLab(t)
	p := l.ready()
	id := p.sendFile(l.store([]byte("x"), media.Document).document("a"))
	l.event(ada, 0, "the file", messageIs(id))
	dir, err := l.s.depot.folder()
	must(t, err)
	must(t, l.s.Close())
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
}

func TestTooMuchThatWaitsGivesTheOldestUp(t *testing.T) {
	l := newLab(t, quickRules(nil))
	p := l.ready()
	slow := l.store(someBytes(10), media.Document)
	open := l.gateOn(slow.reference)
	id := p.sendFile(slow.document("a"))
	l.until("it is being fetched", func() bool { return len(l.public.media.requests()) > 0 })
	l.s.state.update(func(c change) {
		a, u := c.accounts[p.jid], c.users[ada[1:]]
		for range keptWaiting {
			u.phone.show(c, l.s, a, eventBody{Kind: "message", ID: "behind"}, false)
		}
		if len(u.phone.waiting) != 0 || len(u.events) != keptWaiting+1 {
			t.Errorf("%d waiting, %d events", len(u.phone.waiting), len(u.events))
		}
	})
	if e := l.event(ada, 0, "the file", messageIs(id)); e.Media.Error != wordWaiting {
		t.Errorf("%+v", e.Media)
	}
	open()
	l.until("the fetch is over", func() (over bool) {
		l.s.state.view(func() { over = l.s.state.fetches.running == 0 })
		return over
	})
	if files := l.s.depotFiles(t); len(files) != 0 {
		t.Errorf("%q", files)
	}
}

func TestNotEverybodysFetchesRunAtOnce(t *testing.T) {
	l := newLab(t, quickRules(nil))
	p := l.ready()
	s := l.store(someBytes(10), media.Document)
	open := l.gateOn(s.reference)
	var ids []string
	for range 2 * fetchesOfAnyone {
		ids = append(ids, p.sendFile(s.document("a")))
	}
	l.until("some are being fetched", func() bool { return len(l.public.media.requests()) == fetchesOfAnyone })
	l.s.state.view(func() {
		if n := l.s.state.fetches.running; n != fetchesOfAnyone {
			t.Errorf("%d at once", n)
		}
	})
	open()
	for _, id := range ids {
		if e := l.event(ada, 0, "a file", messageIs(id)); e.Media.Error != "" {
			t.Error(e.Media.Error)
		}
	}
	l.noComplaints()
}

func TestMediaOfADeletedAccountIsNobodysFault(t *testing.T) {
	l := newLab(t, quickRules(nil))
	p := l.ready()
	s := l.store(someBytes(10), media.Document)
	open := l.gateOn(s.reference)
	id := p.sendFile(s.document("a"))
	l.until("it is being fetched", func() bool { return len(l.public.media.requests()) > 0 })
	l.s.state.update(func(c change) { c.accounts[p.jid].Deleted = true })
	l.public.media.mu.Lock()
	delete(l.public.media.blobs, s.reference)
	l.public.media.mu.Unlock()
	open()
	e := l.event(ada, 0, "the file", messageIs(id))
	if e.Media.Error == "" || !strings.Contains("404", e.Media.Error) {
		t.Errorf("%+v", e.Media)
	}
	l.noComplaints()
}

func TestANewPhoneHasTheMediaOfTheOldOneAndGetsWhatWasOnItsWay(t *testing.T) {
	l := newLab(t, quickRules(nil))
	p := l.ready()
	quick, slow := l.store([]byte("quick"), media.Document), l.store([]byte("slow"), media.Document)
	open := l.gateOn(slow.reference)
	before := p.sendFile(quick.document("a"))
	l.event(ada, 0, "the quick file", messageIs(before))
	after := p.sendFile(slow.document("b"))
	l.until("it is being fetched", func() bool { return len(l.public.media.requests()) == 3 })
	l.post("/v1/users/"+ada+"/reinstall", map[string]any{"silent": true}, nil)
	open()
	if e := l.event(ada, 0, "the slow file", messageIs(after)); e.Media.Error != "" {
		t.Error(e.Media.Error)
	}
	for id, want := range map[string]string{before: "quick", after: "slow"} {
		if got, status := l.received(ada, id); status != 200 || string(got) != want {
			t.Errorf("%s: %d %q", want, status, got)
		}
	}
	l.noComplaints()
}
