// Package oracle holds the official Signal library against connector/e2ee: it is the outside judge of whether what we send
// can be read by others, and what others send by us. It has tests only; install.sh puts the library into the cache.
package oracle

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"postern/connector/e2ee"
	"postern/connector/e2ee/e2eetest"
)

// versions are the official releases judged against: the newest that speaks X3DH, whose messages begin with 0x34, and one
// whose messages begin with 0x33.
var versions = []struct {
	version   string
	firstByte byte
}{
	{"0.72.1", 0x34},
	{"0.23.1", 0x33},
}

// install is the command that puts the official library where this test looks.
const install = "connector/e2ee/oracle/install.sh"

// folder is where a version is installed.
func folder(version string) string {
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = filepath.Join(os.Getenv("HOME"), ".cache")
	}
	return filepath.Join(cache, "postern", "libsignal-oracle-"+version)
}

// missing ends a test that cannot run here: with a failure in CI, where it must be able to.
func missing(t *testing.T, what string) {
	t.Helper()
	text := fmt.Sprintf("%s: NOT TESTED AGAINST THE OFFICIAL SIGNAL LIBRARY; run %s (it needs Node.js 20 or newer and npm)", what, install)
	if os.Getenv("CI") == "true" {
		t.Fatal(text)
	}
	t.Skip(text)
}

// official is a user of the official library, in a process of its own.
type official struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
}

// under is the same user, whose failures are those of t.
func (o *official) under(t *testing.T) *official { return &official{t: t, in: o.in, out: o.out} }

// startOfficial starts a user on the given version of the library. It ends with the test.
func startOfficial(t *testing.T, version string) *official {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		missing(t, "node is not installed")
	}
	dir := folder(version)
	if _, err = os.Stat(filepath.Join(dir, ".complete")); err != nil {
		missing(t, "libsignal-client "+version+" is not installed")
	}
	command := exec.Command(node, "oracle.js", dir)
	var complaints bytes.Buffer
	command.Stderr = &complaints
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = command.Start(); err != nil {
		t.Fatal(err)
	}
	o := &official{t: t, in: in, out: bufio.NewReader(out)}
	// A bound for a process that hangs, far above what any test takes.
	watchdog := time.AfterFunc(10*time.Minute, func() { _ = command.Process.Kill() })
	t.Cleanup(func() {
		watchdog.Stop()
		_ = in.Close() // the process ends when its input does
		if err := command.Wait(); err != nil {
			t.Errorf("the official library's process: %v\n%s", err, complaints.String())
		}
	})
	return o
}

// officialError is the official library's refusal.
type officialError struct{ Name, Detail string }

func (e *officialError) Error() string { return e.Name + ": " + e.Detail }

// call has the process do one thing and fills answer.
func (o *official) call(request map[string]any, answer any) error {
	o.t.Helper()
	line, err := json.Marshal(request)
	if err != nil {
		o.t.Fatal(err)
	}
	if _, err = o.in.Write(append(line, '\n')); err != nil {
		o.t.Fatalf("write to the official library: %v", err)
	}
	reply, err := o.out.ReadBytes('\n')
	if err != nil {
		o.t.Fatalf("read from the official library: %v", err)
	}
	var refused struct{ Error, Detail string }
	if err = json.Unmarshal(reply, &refused); err != nil {
		o.t.Fatalf("the official library answered %q: %v", reply, err)
	}
	if refused.Error != "" {
		return &officialError{Name: refused.Error, Detail: refused.Detail}
	}
	if answer == nil {
		return nil
	}
	if err = json.Unmarshal(reply, answer); err != nil {
		o.t.Fatalf("the official library answered %q: %v", reply, err)
	}
	return nil
}

func (o *official) must(request map[string]any, answer any) {
	o.t.Helper()
	if err := o.call(request, answer); err != nil {
		o.t.Fatalf("official library, %v: %v", request["op"], err)
	}
}

// wireKey is a key in the process's JSON.
type wireKey struct {
	ID        uint32 `json:"id"`
	Key       []byte `json:"key"`
	Signature []byte `json:"signature,omitempty"`
}

type wireBundle struct {
	RegistrationID uint32   `json:"registrationId"`
	Identity       []byte   `json:"identity"`
	Signed         wireKey  `json:"signed"`
	PreKey         *wireKey `json:"preKey,omitempty"`
}

// bundle makes prekeys at the official side.
func (o *official) bundle(oneTime bool) e2ee.Bundle {
	o.t.Helper()
	var w wireBundle
	o.must(map[string]any{"op": "bundle", "oneTime": oneTime}, &w)
	b := e2ee.Bundle{
		RegistrationID: w.RegistrationID,
		Identity:       [32]byte(w.Identity),
		Signed:         e2ee.BundleSignedKey{ID: w.Signed.ID, Key: [32]byte(w.Signed.Key), Signature: [64]byte(w.Signed.Signature)},
	}
	if w.PreKey != nil {
		b.PreKey = &e2ee.BundleKey{ID: w.PreKey.ID, Key: [32]byte(w.PreKey.Key)}
	}
	return b
}

// start begins a session at the official side from a bundle of ours.
func (o *official) start(peer string, b e2ee.Bundle) {
	o.t.Helper()
	w := wireBundle{
		RegistrationID: b.RegistrationID,
		Identity:       b.Identity[:],
		Signed:         wireKey{ID: b.Signed.ID, Key: b.Signed.Key[:], Signature: b.Signed.Signature[:]},
	}
	if b.PreKey != nil {
		w.PreKey = &wireKey{ID: b.PreKey.ID, Key: b.PreKey.Key[:]}
	}
	o.must(map[string]any{"op": "start", "peer": peer, "bundle": w}, nil)
}

func (o *official) encrypt(peer string, text []byte) e2ee.Sealed {
	o.t.Helper()
	var answer struct {
		Type string
		Body []byte
	}
	o.must(map[string]any{"op": "encrypt", "peer": peer, "text": text}, &answer)
	return e2ee.Sealed{Type: answer.Type, Body: answer.Body}
}

func (o *official) decrypt(peer string, sealed e2ee.Sealed) ([]byte, error) {
	o.t.Helper()
	var answer struct{ Text []byte }
	err := o.call(map[string]any{"op": "decrypt", "peer": peer, "type": sealed.Type,
		"body": base64.StdEncoding.EncodeToString(sealed.Body)}, &answer)
	return answer.Text, err
}

// pairOf is one of our accounts and one of the official library that talk to each other.
type pairOf struct {
	t         *testing.T
	ours      *e2eetest.Party // our account
	them      *e2eetest.Party // only its address is used
	theirs    *official
	us        string // what the official side calls us
	firstByte byte   // what their messages begin with
	read      int    // messages one side has sent and the other has read
}

func newPair(t *testing.T, theirs *official, firstByte byte, number int) *pairOf {
	t.Helper()
	return &pairOf{
		t:      t,
		ours:   e2eetest.NewParty(t, e2eetest.NewMemStore(), 1),
		them:   e2eetest.NewParty(t, e2eetest.NewMemStore(), 2),
		theirs: theirs, us: fmt.Sprint("postern", number), firstByte: firstByte,
	}
}

// message is a message on its way.
type message struct {
	byUs   bool
	text   []byte
	sealed e2ee.Sealed
	age    int // how many messages have been sent since
}

func (p *pairOf) send(byUs bool, text []byte) *message {
	p.t.Helper()
	m := &message{byUs: byUs, text: text}
	if byUs {
		m.sealed = p.ours.Send(p.t, p.them, text)
	} else {
		m.sealed = p.theirs.encrypt(p.us, text)
	}
	want := byte(0x33)
	if !byUs {
		want = p.firstByte
	}
	if got := m.sealed.Body[0]; got != want {
		p.t.Fatalf("a %s (by us: %v) begins with %#x, want %#x", m.sealed.Type, byUs, got, want)
	}
	return m
}

// deliver has the other side read m.
func (p *pairOf) deliver(m *message) {
	p.t.Helper()
	text, err := p.open(m)
	if err != nil {
		p.t.Fatalf("message %d, a %s (by us: %v), cannot be read: %v", p.read, m.sealed.Type, m.byUs, err)
	}
	if !bytes.Equal(text, m.text) {
		p.t.Fatalf("message %d (by us: %v) was read as another text", p.read, m.byUs)
	}
	p.read++
}

func (p *pairOf) open(m *message) ([]byte, error) {
	p.t.Helper()
	if m.byUs {
		return p.theirs.decrypt(p.us, m.sealed)
	}
	text, _, err := p.ours.Receive(p.t, p.them, m.sealed)
	return text, err
}

// refuse has the other side get m, which it has read before, once more.
func (p *pairOf) refuse(m *message) {
	p.t.Helper()
	_, err := p.open(m)
	var theirs *officialError
	switch {
	case m.byUs && (!errors.As(err, &theirs) || theirs.Name != "DuplicatedMessage"):
		p.t.Fatalf("the official library takes a duplicate of ours with %v", err)
	case !m.byUs && !errors.Is(err, e2ee.ErrDuplicate):
		p.t.Fatalf("we take a duplicate of theirs with %v", err)
	}
}

func (p *pairOf) startUs(oneTime bool) {
	p.t.Helper()
	if _, err := p.ours.Signal.StartSession(p.t.Context(), p.them.Address, p.theirs.bundle(oneTime), nil); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pairOf) startThem(oneTime bool) {
	p.t.Helper()
	p.theirs.start(p.us, p.ours.Bundle(p.t, oneTime))
}
