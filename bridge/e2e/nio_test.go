package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/bridge/parts"
)

// nioVersion is the version of matrix-nio that build.sh installs from PyPI, with
// its own encryption (libolm).
const nioVersion = "0.25.2"

// nioClient is testdata/nio_client.py: a Matrix client that shares no code with
// the bridge.
type nioClient struct {
	s     *scene
	proc  *parts.Process
	log   string
	steps int
}

// nioStep is one thing that the client does, and what it tells of it.
type nioStep map[string]any

// nio starts the client as a further device of alice's, and waits until it has
// published its keys. When it gives up, so does the story.
func (s *scene) nio(steps ...nioStep) *nioClient {
	s.t.Helper()
	cache := must(parts.CacheDir())(s.t)
	python := filepath.Join(cache, "nio-e2e-"+nioVersion, "bin", "python")
	if _, err := os.Stat(python); err != nil {
		if os.Getenv("CI") == "true" {
			s.t.Fatal(err)
		}
		s.t.Skipf("SKIPPED: matrix-nio %s with encryption is not installed; run `./build.sh setup`", nioVersion)
	}
	dir := s.t.TempDir()
	script := must(json.Marshal(steps))(s.t)
	c := &nioClient{s: s, log: filepath.Join(dir, "nio.log"), steps: len(steps)}
	c.proc = must(parts.Start(parts.ProcessConfig{
		Name: "matrix-nio", Path: python, LogPath: c.log, FirstLine: true,
		Args: []string{"testdata/nio_client.py", s.Homeserver.URL, s.person.UserID, s.person.Password, dir, string(script)},
	}))(s.t)
	s.t.Cleanup(func() {
		c.proc.Kill()
		if _, raw := c.told(); s.t.Failed() {
			s.t.Logf("matrix-nio says:\n%s", raw)
		}
	})
	if line, err := c.proc.FirstLine(s.ctx); err != nil || !strings.Contains(line, "login") {
		s.t.Fatalf("matrix-nio did not log in: %v\n%s", err, line)
	}
	ctx, giveUp := context.WithCancel(s.ctx)
	s.ctx = ctx
	go func() {
		<-c.proc.Done()
		if told, _ := c.told(); len(told) < c.steps {
			giveUp()
		}
	}()
	return c
}

// told is what the client has told of its steps so far.
func (c *nioClient) told() (steps []nioStep, raw []byte) {
	raw, _ = os.ReadFile(c.log) // without it nothing was told
	for line := range bytes.Lines(raw) {
		var step nioStep
		if json.Unmarshal(line, &step) == nil {
			steps = append(steps, step)
		}
	}
	return steps, raw
}

// finish waits until the client has done all its steps and returns what it told of
// them.
func (c *nioClient) finish() []nioStep {
	c.s.t.Helper()
	select {
	case <-c.proc.Done():
	case <-c.s.ctx.Done():
	}
	told, _ := c.told()
	if len(told) != c.steps {
		c.s.t.Fatalf("matrix-nio did %d of %d steps", len(told), c.steps)
	}
	return told
}

// writtenByAGhost fails if a step was not somebody else's message.
func (s *scene) writtenByAGhost(step nioStep) {
	s.t.Helper()
	if from := step["sender"]; from == nil || from == s.Bot || from == s.person.UserID {
		s.t.Errorf("nio was written to by %v", from)
	}
}

func TestAMatrixClientThatIsNotOursReadsAndWritesInABridgedRoom(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	nio := s.nio(nioStep{"enter": []string{ben.Name, ben.Phone}},
		nioStep{"send_text": "hello from nio"}, nioStep{"expect_text": "hello from the phone"})
	s.command("start-chat " + ben.Phone)
	s.onPhone(ben, "hello from nio")
	must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "hello from the phone"))(t)
	told := nio.finish()
	s.writtenByAGhost(told[2])
	if told[0]["encrypted"] != false {
		t.Error("the room is encrypted")
	}
}

// exampleEncryption is encryption switched on and everything else of it as the
// example configuration has it.
var exampleEncryption = map[string]any{"encryption.allow": true, "encryption.default": true}

func TestAMatrixClientThatIsNotOursReadsAndWritesInAnEncryptedRoom(t *testing.T) {
	t.Parallel()
	s := open(t, setting{config: exampleEncryption})
	ben := s.phone("Ben", true)
	dir, image := t.TempDir(), photo(t)
	mine, theirs := filepath.Join(dir, "mine.jpg"), filepath.Join(dir, "theirs.jpg")
	s.ok(os.WriteFile(mine, image, 0o600))
	nio := s.nio(nioStep{"enter": []string{ben.Name, ben.Phone}},
		nioStep{"check_device_of": s.Bot},
		nioStep{"send_text": "hello from nio, encrypted"}, nioStep{"expect_text": "hello from the phone, encrypted"},
		nioStep{"send_image": mine, "mimetype": "image/jpeg", "width": 24, "height": 16}, nioStep{"expect_image": "theirs", "to": theirs},
		nioStep{"send_text": "and again"}, nioStep{"expect_text": "and again from the phone"})
	s.command("start-chat " + ben.Phone)
	s.onPhone(ben, "hello from nio, encrypted")
	must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "hello from the phone, encrypted"))(t)
	e, got := s.onPhoneAs(ben, "image")
	s.same("nio's image", e, got, image)
	s.phoneSends(ben, parts.Content{Kind: "image", Data: image, Caption: "theirs"})
	s.onPhone(ben, "and again")
	must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, "and again from the phone"))(t)
	told := nio.finish()
	if told[0]["encrypted"] != true {
		t.Error("nio entered a room that is not encrypted")
	}
	if got := must(os.ReadFile(theirs))(t); !bytes.Equal(got, image) {
		t.Errorf("nio got a file of %d bytes, not the %d that were sent", len(got), len(image))
	}
	if told[5]["file_encrypted"] != true {
		t.Errorf("the file of the phone's is not encrypted: %v", told[5])
	}
	for _, step := range []nioStep{told[3], told[5], told[7]} {
		s.writtenByAGhost(step)
		if step["decrypted"] != true {
			t.Errorf("nio had nothing to decrypt: %v", step)
		}
	}
	s.nothingIsReadable(fmt.Sprint(told[0]["room"]))
}

// nothingIsReadable fails if the homeserver has a message of an encrypted room in
// the clear.
func (s *scene) nothingIsReadable(room string) {
	s.t.Helper()
	encrypted := 0
	for _, e := range must(s.person.Messages(s.ctx, room))(s.t) {
		switch e.Type {
		case "m.room.encrypted":
			encrypted++
		case "m.room.message", "m.sticker":
			s.t.Errorf("the homeserver can read a message: %s", e.Content)
		}
	}
	if encrypted == 0 {
		s.t.Error("the homeserver shows no encrypted message")
	}
}
