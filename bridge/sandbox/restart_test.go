package sandbox

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/connector/binxml"
	"postern/connector/media"
	"postern/connector/profile"
	"postern/connector/stanza"
)

// childSandbox is `postern sandbox` as a process of its own.
type childSandbox struct {
	*lab
	args string
	cmd  *exec.Cmd
	line map[string]any
}

func startChild(t *testing.T, args string) *childSandbox {
	t.Helper()
	c := &childSandbox{lab: &lab{t: t, public: newPublicFace(t)}, args: args}
	c.run()
	c.post("/v1/integrators", map[string]any{"id": 1, "name": "Test", "identifier_type": "email", "public_base": c.public.server.URL}, nil)
	c.post("/v1/users", map[string]any{"phone": ada, "name": "Ada", "opted_in": true}, nil)
	return c
}

func (c *childSandbox) run() {
	c.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "POSTERN_SANDBOX_CHILD="+c.args)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(c.t, err)
	must(c.t, cmd.Start())
	c.cmd = cmd
	c.t.Cleanup(func() { c.kill() })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	must(c.t, err)
	var info struct {
		Info
		Control string
	}
	must(c.t, json.Unmarshal(line, &info))
	must(c.t, json.Unmarshal(line, &c.line))
	c.info, c.url = info.Info, info.Control
	c.prof = profile.WhatsApp().WithEndpoints(profile.Endpoints{
		ChatTCP: info.ChatTCP, ChatWS: info.ChatWS, Enlist: info.EnlistURL, Media: info.MediaURL, JWKS: info.JWKSURL,
	})
	root, err := hex.DecodeString(info.NoiseRootKey)
	must(c.t, err)
	c.prof.Noise.RootKey = [32]byte(root)
}

// kill is SIGKILL; it returns when the process is gone.
func (c *childSandbox) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
	http.DefaultClient.CloseIdleConnections()
}

func TestAKilledSandboxComesBackWithEverything(t *testing.T) {
	c := startChild(t, "--state "+t.TempDir())
	first := c.info
	p, to := c.connected()
	p.session(to)
	m := p.seal(to, "before the kill")
	p.send(m)
	receipt := p.want("receipt", isReceipt(m.ID, ""))
	unread := c.say(ada, matilda, "unread")
	c.post("/v1/faults", map[string]any{"kind": "push_off", "count": -1}, nil)
	prekeys := c.partner(matilda).Prekeys
	p.sendNode(p.seal(to, "odd").Node()) // a message, and one complaint
	odd := p.seal(to, "odd").Node()
	setAttr(odd, binxml.S("edit", "1"))
	p.sendNode(odd)
	p.want("ack", isAck("message", odd.Attr("id")))

	c.kill()
	c.run()
	if c.info.NoiseRootKey != first.NoiseRootKey || c.info.ChatTCP != first.ChatTCP || c.info.EnlistURL != first.EnlistURL || len(c.info.Integrators) != 1 {
		t.Fatalf("another sandbox: %+v, was %+v", c.info, first)
	}
	if n := c.partner(matilda).Prekeys; n != prekeys {
		t.Fatalf("%d prekeys, had %d", n, prekeys)
	}
	c.complained("with edit")
	var faults struct{ Faults []fault }
	if c.do("GET", "/v1/faults", nil, &faults); len(faults.Faults) != 1 {
		t.Fatalf("%d faults", len(faults.Faults))
	}
	c.event(ada, 0, "the message from before", func(e eventBody) bool { return e.ID == m.ID && e.Text == "before the kill" })

	got := p.login()
	var ids []string
	for _, n := range got {
		ids = append(ids, n.Tag+" "+n.Attr("id"))
	}
	if !slices.Contains(ids, "message "+unread) || !slices.Contains(ids, "receipt "+receipt.Attr("id")) {
		t.Fatalf("queue: %v", ids)
	}
	for _, n := range got {
		if n.Tag == "message" {
			if text := p.open(n).GetConversation(); text != "unread" {
				t.Fatalf("text %q", text)
			}
		}
		p.ack(n, 0)
	}
	p.send(m) // the same bytes again: known
	p.want("ack", isAck("message", m.ID))
	again := p.seal(to, "in the old session")
	p.send(again)
	c.event(ada, 0, "a message in the old session", func(e eventBody) bool { return e.ID == again.ID })
	c.kill()
}

func TestNothingAcknowledgedIsLostOverKillsAtAnyMoment(t *testing.T) {
	rounds := 4
	if os.Getenv("POSTERN_ALL") != "" {
		rounds = 100
	}
	c := startChild(t, "--state "+t.TempDir())
	p, to := c.connected()
	p.session(to)
	var sent []*stanza.Message // in order; resent until acked
	acked := map[string]bool{}
	said := map[string]string{} // id to text, as the control API has confirmed them
	read := map[string]string{}
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)

	for round := range rounds {
		killed := make(chan struct{})
		delay := time.Duration(rng.IntN(200)) * time.Millisecond
		talk := make(chan struct{})
		go func() { // Ada talks until the sandbox is gone
			defer close(talk)
			for i := 0; ; i++ {
				text := fmt.Sprintf("round %d, %d", round, i)
				if id, ok := trySay(c.url, text); ok {
					said[id] = text
					continue
				}
				return
			}
		}()
		go func() {
			time.Sleep(delay) // where the kill falls is what is random here
			c.cmd.Process.Kill()
			close(killed)
		}()
		for i := range 50 {
			m := p.seal(to, fmt.Sprintf("to Ada %d.%d", round, i))
			sent = append(sent, m)
			if !p.trySend(m) {
				break
			}
		}
		<-killed
		<-talk
		c.cmd.Wait()
		http.DefaultClient.CloseIdleConnections()
		p.takeIn(acked, read)
		c.run()
		p.prof = c.prof
		p.dial(false, nil)
		for _, m := range sent {
			if !acked[m.ID] {
				p.send(m)
			}
		}
		for _, m := range sent {
			for !acked[m.ID] {
				p.handle(p.next("ack"), acked, read)
			}
		}
	}
	for id := range said {
		for read[id] == "" {
			p.handle(p.next("a message Ada has sent"), acked, read)
		}
	}
	for id, text := range said {
		if read[id] != text {
			t.Errorf("message read as %q, sent as %q", read[id], text)
		}
	}
	var out struct{ Events []eventBody }
	c.do("GET", "/v1/users/"+ada+"/events", nil, &out)
	var seen []string
	for _, e := range out.Events {
		switch e.Kind {
		case "message":
			seen = append(seen, e.ID)
		case "undecryptable":
			t.Errorf("unreadable: %s", e.Reason)
		}
	}
	var want []string
	for _, m := range sent {
		want = append(want, m.ID)
	}
	if !slices.Equal(seen, want) {
		t.Errorf("the phone shows %d messages, %d were sent, or the order differs", len(seen), len(want))
	}
	t.Logf("%d kills, %d messages to the phone, %d from it", rounds, len(sent), len(said))
	c.noComplaints()
}

// trySay is say for a sandbox that may die meanwhile; ok only if it has confirmed.
func trySay(url, text string) (string, bool) {
	body, _ := json.Marshal(map[string]string{"to": matilda, "text": text})
	resp, err := http.Post(url+"/v1/users/"+ada+"/messages", "application/json", strings.NewReader(string(body)))
	if err != nil {
		return "", false
	}
	defer resp.Body.Close()
	var out struct{ ID string }
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || json.Unmarshal(raw, &out) != nil {
		return "", false
	}
	return out.ID, true
}

func (p *scripted) trySend(s stanza.Stanza) bool {
	frame, err := p.codec().Append(nil, s.Node())
	must(p.t, err)
	return p.conn.WriteFrame(frame) == nil
}

// takeIn handles what arrived before the stream broke.
func (p *scripted) takeIn(acked map[string]bool, read map[string]string) {
	for n := range p.in {
		p.handle(n, acked, read)
	}
}

// handle is a partner that keeps what it reads: messages once, answers always.
func (p *scripted) handle(n *binxml.Node, acked map[string]bool, read map[string]string) {
	p.t.Helper()
	switch n.Tag {
	case "ack":
		if n.Attr("class") == "message" && !n.Has("error") {
			acked[n.Attr("id")] = true
		}
	case "message":
		if id := n.Attr("id"); read[id] == "" {
			read[id] = p.open(n).GetConversation()
		}
		p.tryAck(n)
	case "receipt", "notification":
		p.tryAck(n)
	}
}

func (p *scripted) tryAck(n *binxml.Node) {
	s, err := stanza.Parse(n)
	must(p.t, err)
	if a, ok := stanza.AckFor(s, 0); ok {
		p.trySend(a)
	}
}

func TestAStateDirectoryIsForOneProcess(t *testing.T) {
	dir := t.TempDir()
	s, err := New(Config{Dir: dir})
	must(t, err)
	if _, err := New(Config{Dir: dir}); err == nil {
		t.Error("a second sandbox on the same state")
	}
	must(t, s.Close())
	s, err = New(Config{Dir: dir})
	must(t, err)
	must(t, s.Close())
}

func TestEveryKindOfValueSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	l := newLab(t, func(c *Config) { c.Dir = dir })
	p, to := l.connected()
	p.session(to)
	p.ask(stanza.BlockRequest{BlockChange: stanza.BlockChange{JID: to, Block: true}})
	p.send(p.seal(to, "x"))
	l.event(ada, 0, "message", kindIs("message"))
	l.say(ada, matilda, "y")
	l.fault(map[string]any{"kind": "drop", "match": "none"})
	odd := p.seal(to, "x").Node()
	delAttr(odd, "display_name")
	p.sendNode(odd)
	p.want("ack", isAck("message", odd.Attr("id")))
	stored := l.store([]byte("x"), media.Document)
	p.sendFile(stored.document("kept"))
	l.event(ada, 0, "media", func(e eventBody) bool { return e.Media != nil })
	l.gateOn(stored.reference)
	p.sendFile(stored.document("on its way"))
	p.send(&stanza.ChatState{To: to, State: stanza.Composing, Media: "audio"})
	l.event(ada, 0, "typing", kindIs("typing"))
	p.hangUp()
	l.until("the stream's end", func() bool { return !l.partner(matilda).Connected })
	p.l.post("/v1/users", map[string]any{"phone": bob, "opted_in": []int{1}}, nil)
	l.say(bob, matilda, "push")
	var pushes struct{ Pushes []pushed }
	l.until("a push", func() bool { l.do("GET", "/v1/pushes", nil, &pushes); return len(pushes.Pushes) > 0 })
	must(t, l.s.Close())
	kinds := map[string]bool{}
	before := map[string]record{}
	for key := range l.s.state.alive {
		kind, _, _ := strings.Cut(key, "/")
		kinds[kind] = true
		before[key] = l.s.state.record(key)
	}
	for _, ld := range loaders {
		if !kinds[ld.kind] {
			t.Errorf("nothing of kind %q in this test", ld.kind)
		}
	}
	s, err := New(Config{Dir: dir})
	must(t, err)
	defer s.Close()
	for key, r := range before {
		after := s.state.record(key)
		if string(after.value) != string(r.value) {
			t.Errorf("%s differs after the restart:\n%s\n%s", strings.SplitN(key, "/", 2)[0], r.value, after.value)
		}
	}
	if len(s.state.alive) != len(before) {
		t.Errorf("%d values after the restart, %d before", len(s.state.alive), len(before))
	}
	if a := s.state.accounts[p.jid]; a == nil || len(a.fresh) != len(l.s.state.accounts[p.jid].fresh) || !a.blocked[s.state.users[ada[1:]]] {
		t.Error("the account is not what it was")
	}
}

func TestMainSaysWhereItIsAndStopsWhenAsked(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, w := io.Pipe()
	status := make(chan int, 1)
	go func() {
		status <- Main(ctx, []string{"--phone-server", "s.whatsapp.net", "--jid-reads", "245-bare", "--noise-strict"}, w, io.Discard)
	}()
	line, err := bufio.NewReader(r).ReadBytes('\n')
	must(t, err)
	var first map[string]any
	must(t, json.Unmarshal(line, &first))
	for _, name := range []string{"profile", "chat_tcp", "chat_ws", "enlist_url", "media_url", "jwks_url", "noise_root_key", "jid_dialect", "integrators", "control"} {
		if first[name] == nil {
			t.Errorf("no %s in the first line", name)
		}
	}
	resp, err := http.Get(first["control"].(string) + "/v1/info")
	must(t, err)
	var info map[string]any
	must(t, json.NewDecoder(resp.Body).Decode(&info))
	resp.Body.Close()
	delete(first, "control")
	if fmt.Sprint(info) != fmt.Sprint(first) {
		t.Errorf("/v1/info and the first line differ: %v %v", info, first)
	}
	if d := info["jid_dialect"].(map[string]any); d["reads"] != "245-bare" || d["writes"] != "245-with-server" {
		t.Errorf("dialects %v", d)
	}
	cancel()
	if got := <-status; got != 0 {
		t.Errorf("exit status %d", got)
	}
}

func TestMainRefusesWrongArguments(t *testing.T) {
	for _, c := range []struct {
		args string
		want int
	}{
		{"--profile signal", 2}, {"--jid-writes 246", 2}, {"extra", 2}, {"--unknown", 2},
		{"--phone-server example.org", 1}, {"--chat 256.0.0.1:0", 1}, {"--state /dev/null/x", 1}, {"-h", 0},
	} {
		var errs strings.Builder
		if got := Main(context.Background(), strings.Split(c.args, " "), io.Discard, &errs); got != c.want || errs.Len() == 0 {
			t.Errorf("%s: status %d, %q", c.args, got, errs.String())
		}
	}
}

// TestNothingLeavesBeforeItIsOnDisk holds the disk up: neither an ack, nor a stanza to the partner, nor an answer
// of the control API may come through until it is let go.
func TestNothingLeavesBeforeItIsOnDisk(t *testing.T) {
	gate := make(chan struct{})
	var held atomic.Bool
	s, err := New(Config{Dir: t.TempDir()})
	must(t, err)
	s.state.journal.sync = func(f *os.File) error {
		if held.Load() {
			<-gate
		}
		return f.Sync()
	}
	must(t, s.Start(context.Background()))
	t.Cleanup(func() { s.Close() })
	l := &lab{t: t, s: s, info: s.Info(), url: s.ControlURL(), prof: s.Profile(), public: newPublicFace(t)}
	l.post("/v1/integrators", map[string]any{"id": 1, "identifier_type": "email", "public_base": l.public.server.URL}, nil)
	l.post("/v1/users", map[string]any{"phone": ada, "name": "Ada", "opted_in": true}, nil)
	p, to := l.connected()
	p.session(to)

	held.Store(true)
	said := make(chan string, 1)
	m := p.seal(to, "held up")
	p.send(m)
	go func() {
		id, _ := trySay(l.url, "held up too")
		said <- id
	}()
	l.until("both are in memory", func() (both bool) {
		s.state.view(func() {
			u := s.state.users[ada[1:]]
			both = len(u.phone.sent) == 1 && len(u.events) == 1
		})
		return both
	})
	select {
	case n := <-p.in:
		close(gate)
		t.Fatalf("a %s left before its change was on disk", n.Tag)
	case <-said:
		close(gate)
		t.Fatal("the control API answered before its change was on disk")
	case <-time.After(300 * time.Millisecond): // the absence of something cannot be waited for in another way
	}
	held.Store(false)
	close(gate)
	p.want("ack", isAck("message", m.ID))
	id := <-said
	p.want("message", func(n *binxml.Node) bool { return n.Attr("id") == id })
}

func TestASandboxThatCannotWriteAnswersNothingAndSaysSo(t *testing.T) {
	s, err := New(Config{Dir: t.TempDir()})
	must(t, err)
	var broken atomic.Bool
	s.state.journal.sync = func(f *os.File) error {
		if broken.Load() {
			return errors.New("the disk is full")
		}
		return f.Sync()
	}
	must(t, s.Start(context.Background()))
	t.Cleanup(func() { s.Close() })
	l := &lab{t: t, url: s.ControlURL()}
	broken.Store(true)
	var answer struct{ Error string }
	if status := l.do("POST", "/v1/users", map[string]any{"phone": ada}, &answer); status != 500 || answer.Error == "" {
		t.Fatalf("%d %q", status, answer.Error)
	}
	select {
	case <-s.Failed():
	case <-time.After(patience):
		t.Fatal("not reported as failed")
	}
	if err := s.Close(); err == nil {
		t.Error("closed without an error")
	}
}
