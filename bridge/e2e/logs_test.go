package e2e_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/event"

	"postern/bridge/e2e/canary"
	"postern/bridge/parts"
	"postern/connector/e2ee"
	"postern/connector/email/emailtest"
	"postern/connector/metrics"
	"postern/database"
)

// marker is a word that occurs nowhere by itself.
const marker = "kanarienvogel"

// TestNothingSecretReachesALogAtTheLowestLevel is promise 7 on the whole program:
// everything it writes while people talk, while things go wrong on all sides, and
// while it starts and stops, is searched for what was said, by whom, and for every
// key and password there is; so are its figures, and what the runtime writes when
// the program is aborted. Every other story ends with a search, too.
func TestNothingSecretReachesALogAtTheLowestLevel(t *testing.T) {
	for name, set := range map[string]setting{"a plain room": {}, "an encrypted room": {encrypted: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set.noLogin, set.user = true, marker+"-alice"
			set.config = map[string]any{
				"network.metrics.enabled": true, "network.metrics.address": "", "network.metrics.token": marker + "-token-of-the-figures", "network.receipt_delay": "1s",
			}
			var mail *emailtest.Server
			if !set.encrypted {
				mail = emailtest.Start(t, "--user", marker+"-post", "--password", marker+"-password")
				for key, value := range map[string]any{
					"mode": "email", "smtp.address": mail.Address, "smtp.tls": "none", "smtp.from": marker + "@example.org",
					"smtp.username": marker + "-post", "smtp.password": marker + "-password",
				} {
					set.config["network.identifier."+key] = value
				}
				set.config["network.identifier_type"] = "email"
			}
			s := open(t, set)
			s.ok(s.setDisplayName(marker + " Alice"))
			search := &canary.Search{}
			if mail == nil {
				login := must(s.LogIn(s.ctx, s.person))(t)
				s.management, s.identifier = login.Room, login.Identifier
			} else {
				s.withAddresses()
				search.Text("a code", s.joinsByMail(mail))
			}
			ben := s.phone(marker+" Ben", true)
			s.commands(s.talk(ben, search), ben, search)
			s.secrets(ben, search)
			s.figures(search)
			// What the runtime writes of all goroutines goes past the log's writer.
			s.ok(s.Bridge.Signal(syscall.SIGQUIT))
			<-s.Bridge.Done()
			s.ok(s.Bridge.Start(s.ctx))
			s.ok(s.Bridge.Stop())
			s.keys(search)
			s.searchLog(search)
			s.searchHomeserver()
			for _, kind := range kinds {
				if search.Kinds()[kind] == 0 && (mail != nil || kind != "a code" && kind != "config.yaml network identifier smtp password") {
					t.Errorf("no secret of this kind is known, so none was looked for: %s", kind)
				}
			}
			log := string(must(os.ReadFile(s.Bridge.LogPath()))(t))
			if traces := strings.Count(log, `"level":"trace"`); traces < 10 {
				t.Errorf("%d lines of level trace in %d bytes of log", traces, len(log))
			}
			if !strings.Contains(log, "SIGQUIT") || strings.Count(log, "\ngoroutine ") < 10 {
				t.Error("the goroutines are not in the log")
			}
		})
	}
}

// kinds are what the story has of each, at least.
var kinds = []string{
	"a text", "a file's name", "a name", "a user's name", "a phone number", "an address", "a password", "an access token", "a code", "half a safety number",
	"what is scanned", "a file's key", "a file's hash", "an encrypted file's hash", "a file's path", "a file's reference", "the key file",
	"config.yaml appservice as_token", "config.yaml appservice hs_token", "config.yaml network metrics token", "config.yaml network identifier smtp password",
	"the sealing key", "the Noise key", "the identity key", "the stanza key", "the signing key",
}

// withAddresses lets the bridge tell the gatekeeper the addresses of clients, which it asks the homeserver's administrator for.
func (s *scene) withAddresses() {
	s.t.Helper()
	s.ok(s.Homeserver.Register(s.ctx, "admin", "password-of-admin", true))
	token, _, err := s.Homeserver.Login(s.ctx, "admin", "password-of-admin")
	s.ok(err)
	s.ok(s.Bridge.Stop())
	s.ok(s.Bridge.Set(map[string]any{"network.client_address.policy": "pass", "network.client_address.admin_token": token}))
	s.ok(s.Bridge.Start(s.ctx))
}

// joinsByMail logs alice in under an address that she proves, and returns the code that she was sent.
func (s *scene) joinsByMail(mail *emailtest.Server) string {
	s.t.Helper()
	s.ok(s.Gatekeeper.AddIntegrator(s.ctx, parts.Integrator{
		ID: parts.IntegratorID, Name: "Postern", IdentifierType: "email", PublicBase: s.Bridge.PublicBase, MediaBase: s.Bridge.PublicBase + "/media",
	}))
	k := s.talkTo()
	k.says("login " + s.Gatekeeper.Info.Profile)
	k.asked("by your e-mail address")
	k.says(marker + ".alice@example.org")
	k.asked("on its way")
	code := codeInLetter.FindString(mail.Wait(s.ctx, s.t, 1).Text)
	k.says(code)
	k.asked("read this before you agree")
	k.says("agree")
	k.hears("you are on")
	s.management, s.identifier = k.room, must(s.IdentifierOf(s.ctx))(s.t)
	return code
}

// commands makes people do what is typed: compare numbers, report, block, and be suspended.
func (s *scene) commands(room string, ben parts.Phone, search *canary.Search) {
	s.t.Helper()
	since := time.Now().Add(-time.Millisecond)
	answered := func(who *parts.Person, room, typed, answer string) {
		s.t.Helper()
		must(who.SendText(s.ctx, room, typed))(s.t)
		must(s.BotSays(s.ctx, who, room, since, answer))(s.t)
	}
	number := must(s.Gatekeeper.Safety(s.ctx, ben.Phone, s.identifier))(s.t)
	search.Key("what is scanned", number.Scannable)
	must(s.alice.SendText(s.ctx, room, "!postern verify "+number.Number))(s.t)
	s.botSays(room, "The two numbers are the same")
	must(s.alice.SendText(s.ctx, room, "!postern verify"))(s.t)
	s.botSays(room, "Your safety number")
	for group := range slices.Chunk([]byte(number.Number), 30) {
		search.Text("half a safety number", string(group))
	}
	answered(s.person, s.management, "report "+ben.Phone+" sells "+marker+"s", "you have reported")
	answered(s.person, s.management, "block "+ben.Phone, "block")
	answered(s.person, s.management, "start-chat "+ben.Phone, "you have blocked "+marker)
	answered(s.person, s.management, "unblock "+ben.Phone, "unblock")
	carla := s.phone(marker+" Carla", true)
	declined := s.startChat(carla)
	s.toMatrix(declined, carla, marker+" of Carla")
	s.ok(s.Gatekeeper.Answer(s.ctx, carla.Phone, s.identifier, "declined"))
	s.botSays(declined, "has declined this chat")
	answered(s.person, s.management, "start-chat "+carla.Phone, marker+" Carla has declined to be written to by you")
	answered(s.person, s.management, "start-chat 0151 "+marker, "international")
	answered(s.person, s.management, "export", "confirm")
	admin := must(parts.NewPerson(s.ctx, s.Homeserver, "admin", "password-of-admin"))(s.t)
	s.t.Cleanup(admin.Close)
	office := must(admin.CreateDM(s.ctx, s.Bot))(s.t)
	must(s.BotSays(s.ctx, admin, office, since, "hello"))(s.t)
	answered(admin, office, "suspend "+s.person.UserID+" writes of "+marker+"s", "is suspended")
	must(s.BotSays(s.ctx, s.person, s.management, since, "you are suspended"))(s.t)
	answered(admin, office, "unsuspend "+s.person.UserID, "not suspended")
}

// searchHomeserver looks for the bridge's keys in all that the homeserver keeps: whatever the bridge says, or does there, is in its files.
func (s *scene) searchHomeserver() {
	s.t.Helper()
	search, messages := &canary.Search{}, false
	s.keys(search)
	search.Text("the key file", must(s.Bridge.Secrets())(s.t)["the key file"])
	s.ok(filepath.WalkDir(s.Homeserver.Dir, func(path string, file os.DirEntry, err error) error {
		if err != nil || !file.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, f := range search.Known(text) {
			s.t.Errorf("%s of the homeserver: %s", file.Name(), f)
		}
		messages = messages || bytes.Contains(text, []byte("m.room.message"))
		return err
	}))
	if !messages {
		s.t.Error("the homeserver's files have no messages, so nothing was searched")
	}
}

// figures searches the figures for Prometheus.
func (s *scene) figures(search *canary.Search) {
	s.t.Helper()
	req := must(http.NewRequestWithContext(s.ctx, http.MethodGet, s.Bridge.Address+metrics.Path, nil))(s.t)
	req.Header.Set("Authorization", "Bearer "+marker+"-token-of-the-figures")
	resp := must(http.DefaultClient.Do(req))(s.t)
	defer resp.Body.Close()
	text := must(io.ReadAll(resp.Body))(s.t)
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(text), "postern_") {
		s.t.Fatalf("the figures: %s: %s", resp.Status, text)
	}
	s.ok(search.World(s.World))
	for _, f := range must(search.Look(text, postern))(s.t) {
		s.t.Errorf("the figures: %s", f)
	}
}

// setDisplayName names alice on Matrix.
func (s *scene) setDisplayName(name string) error {
	return s.Homeserver.Call(s.ctx, "PUT", "/_matrix/client/v3/profile/"+s.person.UserID+"/displayname", s.person.Token,
		map[string]any{"displayname": name}, nil)
}

// attach sends a file each way and one that cannot be fetched, and adds what is secret of them.
func (s *scene) attach(room string, ben parts.Phone, search *canary.Search) {
	s.t.Helper()
	name, caption := marker+".pdf", marker+" in a caption"
	data := []byte(marker + " in a file")
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
	search.Key("a file's key", key)
	search.Key("a file's hash", must(hex.DecodeString(e.Media.SHA256))(s.t))
	search.Key("an encrypted file's hash", must(hex.DecodeString(e.Media.EncSHA256))(s.t))
	search.Text("a file's path", e.Media.DirectPath)
	search.Text("a file's reference", reference[len(reference)-1])
}

// talk makes everything happen that a log might tell of, adds what is secret of the files, and returns the room.
func (s *scene) talk(ben parts.Phone, search *canary.Search) string {
	s.t.Helper()
	room := s.startChat(ben)
	s.toPhone(room, ben, marker+" from Matrix")
	s.toMatrix(room, ben, marker+" from the phone")
	s.attach(room, ben, search)
	// Refusals: by the bridge, by the gatekeeper, of numbers.
	must(s.Gatekeeper.AddFault(s.ctx, parts.Fault{Kind: "ack_error", Identifier: s.identifier, Match: "message", Count: 1, Code: 403}))(s.t)
	refused := must(s.alice.SendText(s.ctx, room, marker+" refused"))(s.t)
	must(s.alice.Expect(s.ctx, "the failure", func(e *parts.Event) bool {
		return e.RoomID == room && e.Sender == s.Bot && relatesTo(e, refused)
	}))(s.t)
	must(s.person.Send(s.ctx, s.management, "m.room.message", "image", map[string]any{
		"msgtype": "m.image", "body": marker + ".png", "url": "mxc://postern.localhost/" + marker,
	}))(s.t)
	closed := s.phone(marker+" Dora", false)
	s.command("start-chat " + closed.Phone)
	must(s.person.Expect(s.ctx, "a refused number", func(e *parts.Event) bool {
		return e.RoomID == s.management && e.Sender == s.Bot && strings.Contains(e.Message().Body, "opted in")
	}))(s.t)
	// A message that cannot be decrypted is asked for again.
	must(s.Gatekeeper.AddFault(s.ctx, parts.Fault{Kind: "corrupt_enc", Identifier: s.identifier, Match: "message", Count: 1}))(s.t)
	s.toMatrix(room, ben, marker+" corrupted")
	// The streams break, the gatekeeper is away, the homeserver too.
	must(s.Gatekeeper.AddFault(s.ctx, parts.Fault{Kind: "cut", Identifier: s.identifier}))(s.t)
	s.toMatrix(room, ben, marker+" after the cut")
	if s.Gatekeeper.Own() {
		s.Gatekeeper.Kill()
		must(s.alice.SendText(s.ctx, room, marker+" while the gatekeeper is away"))(s.t)
		s.ok(s.Gatekeeper.Restart(s.ctx))
		s.onPhone(ben, marker+" while the gatekeeper is away")
	}
	s.Homeserver.Kill()
	must(s.Gatekeeper.Say(s.ctx, ben.Phone, s.identifier, marker+" while the homeserver is away"))(s.t)
	s.ok(s.Homeserver.Restart(s.ctx))
	s.inRoom(room, marker+" while the homeserver is away")
	// And a start with something to carry on with.
	s.Bridge.Kill()
	must(s.alice.SendText(s.ctx, room, marker+" while the bridge is away"))(s.t)
	s.ok(s.Bridge.Start(s.ctx))
	s.onPhone(ben, marker+" while the bridge is away")
	carla := s.phone(marker+" Carla", true)
	must(s.Gatekeeper.Say(s.ctx, carla.Phone, s.identifier, marker+" at first"))(s.t)
	s.inRoom(s.enter(carla), marker+" at first")
	return room
}

// searchLog looks for what was said and named in this world, its secrets, and those of search in the bridge's log.
func (s *scene) searchLog(search *canary.Search) {
	s.t.Helper()
	found, _, err := search.Log(s.World, postern, 0)
	if err != nil {
		s.t.Errorf("%v", err)
	}
	for _, f := range found {
		s.t.Errorf("the bridge's log: %s", f)
	}
}

// secrets adds what this world's people have to hide and no part has heard.
func (s *scene) secrets(ben parts.Phone, search *canary.Search) {
	s.t.Helper()
	search.Text("a mark", marker)
	search.Text("Ben's address", strings.SplitN(ben.JID, "@", 2)[0])
	for _, p := range must(s.Gatekeeper.Partners(s.ctx))(s.t) {
		user, _, _ := strings.Cut(p.JID, "@")
		_, number, _ := strings.Cut(user, "-")
		search.Text("Alice's address", number)
	}
}

// keys adds the keys that are in the bridge's database.
func (s *scene) keys(search *canary.Search) {
	s.t.Helper()
	key := must(database.LoadOrCreateKeyFile(filepath.Join(filepath.Dir(s.Bridge.ConfigPath()), "postern.key")))(s.t)
	db := must(database.Open(s.ctx, database.Config{
		Dialect: "sqlite3-fk-wal", URI: "file:" + s.Bridge.DatabasePath() + "?_txlock=immediate", MasterKey: key, Holder: "a test", Log: zerolog.Nop(),
	}))(s.t)
	defer db.Close()
	accounts := must(db.Accounts().All(s.ctx))(s.t)
	if len(accounts) != 1 {
		s.t.Fatalf("%d accounts", len(accounts))
	}
	device := must(e2ee.UnmarshalDevice(accounts[0].Device))(s.t)
	for what, raw := range map[string][]byte{
		"the sealing key": key[:], "the Noise key": accounts[0].NoiseKey, "the identity key": device.IdentityPrivate[:],
		"the stanza key": accounts[0].HMACKey, "the signing key": s.signingKey(db),
	} {
		if len(raw) < 32 {
			s.t.Errorf("%s has %d bytes", what, len(raw))
		}
		search.Key(what, raw)
	}
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
