package e2e_test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"gopkg.in/yaml.v3"
	"maunium.net/go/mautrix/event"

	"postern/bridge/parts"
	"postern/connector/e2ee"
	"postern/database"
)

// canary is a word that occurs nowhere by itself.
const canary = "kanarienvogel"

// TestNothingSecretReachesALogAtTheLowestLevel is promise 7 on the whole program:
// everything it writes while people talk, while things go wrong on all sides, and
// while it starts and stops, is searched for what was said, by whom, and for every
// key and password there is.
func TestNothingSecretReachesALogAtTheLowestLevel(t *testing.T) {
	for name, set := range map[string]setting{"a plain room": {}, "an encrypted room": {encrypted: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set.noLogin = true
			set.config = map[string]any{"logging.min_level": "trace"}
			s := open(t, set)
			s.ok(s.setDisplayName(canary + " Alice"))
			login := must(s.LogIn(s.ctx, s.person))(t)
			s.management, s.identifier = login.Room, login.Identifier
			ben := s.phone(canary+" Ben", true)
			files := s.talk(ben)
			s.ok(s.Bridge.Stop())
			log := must(os.ReadFile(s.Bridge.LogPath()))(t)
			if traces := strings.Count(string(log), `"level":"trace"`); traces < 10 {
				t.Fatalf("%d lines of level trace in %d bytes of log", traces, len(log))
			}
			s.search(string(log), ben, files)
		})
	}
}

// setDisplayName names alice on Matrix.
func (s *scene) setDisplayName(name string) error {
	return s.Homeserver.Call(s.ctx, "PUT", "/_matrix/client/v3/profile/"+s.person.UserID+"/displayname", s.person.Token,
		map[string]any{"displayname": name}, nil)
}

// attach sends a file each way and one that cannot be fetched, and returns what is secret of them.
func (s *scene) attach(room string, ben parts.Phone) map[string]string {
	s.t.Helper()
	name, caption := canary+".pdf", canary+" in a caption"
	data := []byte(canary + " in a file")
	s.send(room, event.EventMessage, with(s.upload(data, "application/pdf"), map[string]any{
		"msgtype": "m.file", "body": caption, "filename": name, "info": map[string]any{"mimetype": "application/pdf", "size": len(data)},
	}))
	e, got := s.onPhoneAs(ben, "document")
	s.same("file", e, got, data)
	if e.Media.FileName != name || e.Text != caption {
		s.t.Fatalf("the file is %+v with %q", e.Media, e.Text)
	}
	send := parts.Content{Kind: "document", Data: data, Mimetype: "application/pdf", FileName: "from the phone " + name, Caption: caption}
	s.phoneSends(ben, send)
	file := s.roomShows(room, "the file of the phone", func(e *parts.Event) bool { return e.Message().MsgType == "m.file" && !s.bots(e) })
	s.hasFile(shown(s.t, file.Content), data)
	fault := must(s.Gatekeeper.AddFault(s.ctx, parts.Fault{Kind: "media_404", Count: 1000}))(s.t)
	send.FileName = "gone " + name
	s.phoneSends(ben, send)
	s.roomShows(room, "a placeholder", func(e *parts.Event) bool {
		return e.Message().MsgType == "m.notice" && strings.Contains(e.Message().Body, caption)
	})
	s.ok(s.Gatekeeper.RemoveFault(s.ctx, fault))
	key := must(hex.DecodeString(e.Media.Key))(s.t)
	if len(key) != 32 {
		s.t.Fatalf("the file's key has %d bytes", len(key))
	}
	reference := strings.Split(strings.Trim(e.Media.DirectPath, "/"), "/")
	found := map[string]string{
		"a file's path": e.Media.DirectPath, "a file's reference": reference[len(reference)-1], "a file's hash": e.Media.SHA256[:24],
		"a file's hash once encrypted": e.Media.EncSHA256[:24],
	}
	inForms(found, "a file's key", key)
	return found
}

// talk makes everything happen that a log might tell of, and returns what is secret of the files.
func (s *scene) talk(ben parts.Phone) map[string]string {
	s.t.Helper()
	room := s.startChat(ben)
	s.toPhone(room, ben, canary+" from Matrix")
	s.toMatrix(room, ben, canary+" from the phone")
	files := s.attach(room, ben)
	// Refusals: by the bridge, by the gatekeeper, of numbers.
	must(s.Gatekeeper.AddFault(s.ctx, parts.Fault{Kind: "ack_error", Identifier: s.identifier, Match: "message", Count: 1, Code: 403}))(s.t)
	refused := must(s.alice.SendText(s.ctx, room, canary+" refused"))(s.t)
	must(s.alice.Expect(s.ctx, "the failure", func(e *parts.Event) bool {
		return e.RoomID == room && e.Sender == s.Bot && relatesTo(e, refused)
	}))(s.t)
	must(s.person.Send(s.ctx, s.management, "m.room.message", "image", map[string]any{
		"msgtype": "m.image", "body": canary + ".png", "url": "mxc://postern.localhost/" + canary,
	}))(s.t)
	closed := s.phone(canary+" Dora", false)
	s.command("start-chat " + closed.Phone)
	must(s.person.Expect(s.ctx, "a refused number", func(e *parts.Event) bool {
		return e.RoomID == s.management && e.Sender == s.Bot && strings.Contains(e.Message().Body, "opted in")
	}))(s.t)
	// A message that cannot be decrypted is asked for again.
	must(s.Gatekeeper.AddFault(s.ctx, parts.Fault{Kind: "corrupt_enc", Identifier: s.identifier, Match: "message", Count: 1}))(s.t)
	s.toMatrix(room, ben, canary+" corrupted")
	// The streams break, the gatekeeper is away, the homeserver too.
	must(s.Gatekeeper.AddFault(s.ctx, parts.Fault{Kind: "cut", Identifier: s.identifier}))(s.t)
	s.toMatrix(room, ben, canary+" after the cut")
	if s.Gatekeeper.Own() {
		s.Gatekeeper.Kill()
		must(s.alice.SendText(s.ctx, room, canary+" while the gatekeeper is away"))(s.t)
		s.ok(s.Gatekeeper.Restart(s.ctx))
		s.onPhone(ben, canary+" while the gatekeeper is away")
	}
	s.Homeserver.Kill()
	must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, canary+" while the homeserver is away"))(s.t)
	s.ok(s.Homeserver.Restart(s.ctx))
	s.inRoom(room, canary+" while the homeserver is away")
	// And a start with something to carry on with.
	s.Bridge.Kill()
	must(s.alice.SendText(s.ctx, room, canary+" while the bridge is away"))(s.t)
	s.ok(s.Bridge.Start(s.ctx))
	s.onPhone(ben, canary+" while the bridge is away")
	carla := s.phone(canary+" Carla", true)
	must(s.Gatekeeper.Say(s.ctx, carla.Phone, s.identifier, canary+" at first"))(s.t)
	s.inRoom(s.enter(carla), canary+" at first")
	return files
}

// search fails for everything in log that should not be there.
func (s *scene) search(log string, ben parts.Phone, files map[string]string) {
	s.t.Helper()
	secrets := s.secrets(ben)
	maps.Copy(secrets, files)
	for what, secret := range secrets {
		if secret == "" {
			s.t.Errorf("%s is not known, so it was not looked for", what)
		} else if at := strings.Index(strings.ToLower(log), strings.ToLower(secret)); at >= 0 {
			s.t.Errorf("%s is in the log: …%s…", what, lineAt(log, at))
		}
	}
	for what, form := range forms {
		if at := form.FindStringIndex(log); at != nil {
			s.t.Errorf("%s is in the log: …%s…", what, lineAt(log, at[0]))
		}
	}
}

// forms are what must not be in a log whoever it belongs to.
var forms = map[string]*regexp.Regexp{
	"a token":               regexp.MustCompile(`eyJ[A-Za-z0-9_-]`),
	"a Matrix ID":           regexp.MustCompile(`@[^\s:"'\\]+:[a-z0-9.-]+`),
	"an IPv4 address":       regexp.MustCompile(`\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b`),
	"an IPv6 address":       regexp.MustCompile(`\[[0-9a-f]*:[0-9a-f:]+\]`),
	"an address on the web": regexp.MustCompile(`(?i)\b(?:https?|wss?|tcp)://`),
	"the path of a file":    regexp.MustCompile(`/(?:interop/[a-z]+/download|v)/[^\s"]+`),
	"an interop address":    regexp.MustCompile(`[0-9-]+@(?:interop|lid|s\.whatsapp\.net)`),
	"a phone number":        regexp.MustCompile(`\+\d{7,}`),
}

// lineAt is the line around a place, not too much of it.
func lineAt(log string, at int) string {
	begin := strings.LastIndexByte(log[:at], '\n') + 1
	end := at + strings.IndexByte(log[at:]+"\n", '\n')
	return log[max(begin, at-300):min(end, at+300)]
}

// secrets are what this world's people and programs have to hide, by what it is.
func (s *scene) secrets(ben parts.Phone) map[string]string {
	s.t.Helper()
	found := map[string]string{
		"a text or a name": canary, "Ben's number": strings.TrimPrefix(ben.Phone, "+"),
		"Ben's address": strings.SplitN(ben.JID, "@", 2)[0], "Alice's password": s.person.Password, "Alice's access token": s.person.Token,
	}
	for _, p := range must(s.Gatekeeper.Partners(s.ctx))(s.t) {
		user, _, _ := strings.Cut(p.JID, "@")
		_, number, _ := strings.Cut(user, "-")
		found["Alice's address"] = number
	}
	var registration struct {
		AppToken string `yaml:"as_token"`
		HSToken  string `yaml:"hs_token"`
	}
	s.ok(yaml.Unmarshal(must(os.ReadFile(s.Bridge.RegistrationPath()))(s.t), &registration))
	found["the appservice's token"], found["the homeserver's token"] = registration.AppToken, registration.HSToken

	keyFile := filepath.Join(filepath.Dir(s.Bridge.ConfigPath()), "postern.key")
	found["the key file"] = strings.TrimSpace(string(must(os.ReadFile(keyFile))(s.t)))
	key := must(database.LoadOrCreateKeyFile(keyFile))(s.t)
	db := must(database.Open(s.ctx, database.Config{
		Dialect: "sqlite3-fk-wal", URI: "file:" + s.Bridge.DatabasePath() + "?_txlock=immediate", MasterKey: key, Holder: "a test", Log: zerolog.Nop(),
	}))(s.t)
	defer db.Close()
	accounts := must(db.Accounts().All(s.ctx))(s.t)
	if len(accounts) != 1 {
		s.t.Fatalf("%d accounts", len(accounts))
	}
	device := must(e2ee.UnmarshalDevice(accounts[0].Device))(s.t)
	binary := map[string][]byte{
		"the sealing key": key[:], "the Noise key": accounts[0].NoiseKey, "the identity key": device.IdentityPrivate[:],
		"the stanza key": accounts[0].HMACKey, "the signing key": s.signingKey(db),
	}
	for what, raw := range binary {
		// A part of it is as bad as all of it, and shows its other forms too.
		if len(raw) < 32 {
			s.t.Errorf("%s has %d bytes", what, len(raw))
			continue
		}
		inForms(found, what, raw)
	}
	return found
}

// inForms adds the beginning of a key in each way that a log may have it.
func inForms(found map[string]string, what string, raw []byte) {
	found[what+" in hex"] = hex.EncodeToString(raw[:12])
	found[what+" in base64"] = base64.StdEncoding.EncodeToString(raw[:12])
	found[what+" in base64 for URLs"] = base64.URLEncoding.EncodeToString(raw[:12])
	found[what+" as numbers"] = strings.Trim(fmt.Sprint(raw[:12]), "[]") //nolint:staticcheck // as numbers, not as text
}

// signingKey is the first prime of the issuer's newest key.
func (s *scene) signingKey(db *database.DB) []byte {
	s.t.Helper()
	document, _, err := db.IssuerKeys().Load(s.ctx)
	s.ok(err)
	var stored struct {
		Keys []struct {
			PKCS8 []byte `json:"pkcs8"`
		} `json:"keys"`
	}
	s.ok(json.Unmarshal(document, &stored))
	for _, k := range stored.Keys {
		if len(k.PKCS8) > 0 {
			private, ok := must(x509.ParsePKCS8PrivateKey(k.PKCS8))(s.t).(*rsa.PrivateKey)
			if !ok {
				break
			}
			return private.Primes[0].Bytes()
		}
	}
	s.t.Error("there is no signing key")
	return nil
}
