package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"maunium.net/go/mautrix/event"
)

// needless are forms of what no gatekeeper needs to know (M5).
var needless = map[string]*regexp.Regexp{
	"a Matrix ID":         regexp.MustCompile(`@[a-z0-9._=/-]+:[a-z0-9.-]+\.[a-z]+`),
	"an id of a room":     regexp.MustCompile(`![A-Za-z0-9]{10,}`),
	"an id of an event":   regexp.MustCompile(`\$[A-Za-z0-9_-]{40,}`),
	"an address of media": regexp.MustCompile(`mxc:`),
	"a country":           regexp.MustCompile(`(?i)country|region|="?LT"?[\s>]|:"LT"`),
}

// mailAddress finds addresses; the gatekeeper's own look like them.
var mailAddress = regexp.MustCompile(`[A-Za-z0-9._+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[a-z]{2,}`)

// TestNothingThatTheGatekeeperNeedNotKnowGoesOverTheWire: the gatekeeper writes down what it sees of somebody who joins, says where they
// live, writes, reads, reacts, sends a file, starts a chat that is refused, blocks and leaves.
func TestNothingThatTheGatekeeperNeedNotKnowGoesOverTheWire(t *testing.T) {
	t.Parallel()
	record := filepath.Join(t.TempDir(), "record")
	s := open(t, setting{
		noLogin: true, sandbox: []string{"--record", record},
		config: map[string]any{"network.region.gate": "declaration", "network.operator.contact": "bridge@example.org"},
	})
	s.ok(s.setDisplayName("Alice of the record"))
	k := s.talkTo()
	k.says("login " + s.Gatekeeper.Info.Profile)
	k.asked("in which country are you")
	k.says("LT")
	k.asked("read this before you agree")
	k.says("agree")
	k.hears("you are on")
	s.management, s.identifier = k.room, must(s.IdentifierOf(s.ctx))(t)
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.toPhone(room, ben, "from Matrix")
	s.toMatrix(room, ben, "from the phone")
	data := []byte("a file")
	s.send(room, event.EventMessage, with(s.upload(data, "application/pdf"), map[string]any{
		"msgtype": "m.file", "body": "file.pdf", "info": map[string]any{"mimetype": "application/pdf", "size": len(data)},
	}))
	s.onPhoneAs(ben, "document")
	k.says("block " + ben.Phone)
	k.hears("block")
	k.says("logout")
	k.hears("deleted")
	s.ok(s.Bridge.Stop())

	seen := string(must(os.ReadFile(record))(t))
	for _, there := range []string{"field ", "login ", "token {", "stanza <message", "stanza <iq", s.identifier} {
		if !strings.Contains(seen, there) {
			t.Errorf("the record has no %q, so it shows nothing", there)
		}
	}
	for what, form := range needless {
		if at := form.FindStringIndex(seen); at != nil {
			t.Errorf("%s goes to the gatekeeper: …%s…", what, around(seen, at[0]))
		}
	}
	for _, address := range mailAddress.FindAllString(seen, -1) {
		_, server, _ := strings.Cut(address, "@")
		if address != s.identifier && server != "s.whatsapp.net" {
			t.Errorf("an address that is not the identifier goes to the gatekeeper: %s", address)
		}
	}
	for what, secret := range map[string]string{"the password": s.person.Password, "the access token": s.person.Token} {
		if strings.Contains(seen, secret) {
			t.Errorf("%s goes to the gatekeeper", what)
		}
	}
}

// around is some of a text around a place.
func around(text string, at int) string { return text[max(0, at-200):min(len(text), at+200)] }
