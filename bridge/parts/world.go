package parts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// IntegratorID is the number under which the bridge is known to the sandbox.
const IntegratorID = 7

// WorldConfig says what a World is made of.
type WorldConfig struct {
	Dir        string // everything is kept here; carried on if it is there
	Postern    string // the program
	Homeserver string // "synapse" (default) or "dendrite"
	// Own, if not nil, gives a homeserver of the caller's that loads these registrations; it takes the place of Homeserver.
	Own        func(registrations []string) (*Homeserver, error)
	Gatekeeper string         // control address of a running gatekeeper; empty: the built-in sandbox
	Sandbox    []string       // more flags for the sandbox
	Settings   map[string]any // more settings of the bridge, by dotted path
	Env        []string       // added to the bridge's environment
	Puppets    bool           // the bridge may act as the homeserver's users
	Progress   func(string)   // told before each step; may be nil
}

// World is a homeserver, a gatekeeper and the bridge between them, each a
// process of its own.
type World struct {
	Dir        string
	Homeserver *Homeserver
	Gatekeeper *Gatekeeper
	Bridge     *Bridge
	Bot        string // the bridge bot's Matrix ID
	BotPrefix  string // what commands outside the management room begin with
}

// StartWorld starts all three. On an error what was started is stopped again.
func StartWorld(ctx context.Context, cfg WorldConfig) (w *World, err error) {
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	w = &World{Dir: cfg.Dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Stop())
			w = nil
		}
	}()
	if err = makeDir(cfg.Dir); err != nil {
		return w, err
	}
	if err = w.startGatekeeper(ctx, cfg); err != nil {
		return w, err
	}
	if err = w.prepareBridge(cfg); err != nil {
		return w, err
	}
	if err = w.startHomeserver(ctx, cfg); err != nil {
		return w, err
	}
	cfg.Progress("starting the bridge")
	if err = w.Bridge.Set(map[string]any{"homeserver.address": w.Homeserver.URL}); err != nil {
		return w, err
	}
	err = w.Gatekeeper.AddIntegrator(ctx, Integrator{
		ID: IntegratorID, Name: "Postern demo", IdentifierType: "username",
		PublicBase: w.Bridge.PublicBase, MediaBase: w.Bridge.PublicBase + "/media",
	})
	if err != nil {
		return w, fmt.Errorf("making the agreement with the gatekeeper: %w", err)
	}
	return w, w.Bridge.Start(ctx)
}

func (w *World) startGatekeeper(ctx context.Context, cfg WorldConfig) (err error) {
	if cfg.Gatekeeper != "" {
		cfg.Progress("connecting to the gatekeeper at " + cfg.Gatekeeper)
		w.Gatekeeper, err = UseGatekeeper(ctx, cfg.Gatekeeper)
		return err
	}
	cfg.Progress("starting the sandbox gatekeeper")
	w.Gatekeeper, err = StartSandbox(ctx, SandboxConfig{Postern: cfg.Postern, Dir: filepath.Join(cfg.Dir, "sandbox"), Args: cfg.Sandbox})
	return err
}

// prepareBridge lets the bridge write its files, and tells it of the gatekeeper.
func (w *World) prepareBridge(cfg WorldConfig) (err error) {
	cfg.Progress("letting the bridge write its configuration and registration")
	settings := w.Gatekeeper.Settings()
	settings["homeserver.domain"] = "postern.localhost"
	settings["bridge.permissions"] = map[string]string{"postern.localhost": "user", "@admin:postern.localhost": "admin"}
	if cfg.Puppets {
		token, err := writePuppetRegistration(cfg.puppetRegistration())
		if err != nil {
			return err
		}
		settings["double_puppet.secrets"] = map[string]string{"postern.localhost": "as_token:" + token}
	}
	settings["network.requests.policy"] = "accept" // where requests are not the subject, and brakes neither
	for _, key := range []string{"new_chats_a_day", "lookups_an_hour", "messages_a_minute"} {
		settings["network.brakes.user."+key], settings["network.brakes.bridge."+key] = 1_000_000, 1_000_000
	}
	settings["network.receipt_delay"] = "0s" // a test of it sets it
	for path, value := range cfg.Settings {
		settings[path] = value
	}
	bridge := BridgeConfig{Postern: cfg.Postern, Dir: filepath.Join(cfg.Dir, "bridge"), Settings: settings, Env: cfg.Env}
	if cfg.Homeserver == "dendrite" {
		bridge.Args = []string{"--ignore-unsupported-server"}
	}
	if w.Bridge, err = PrepareBridge(bridge); err != nil {
		return err
	}
	return w.readBot()
}

// Settings is what the bridge has to know of the gatekeeper, in the form that
// BridgeConfig takes. No other gatekeeper is switched on.
func (g *Gatekeeper) Settings() map[string]any {
	info, settings := g.Info, map[string]any{}
	for key, value := range map[string]any{
		"enabled": true, "integrator": IntegratorID, "chat": info.ChatTCP, "enlist_url": info.EnlistURL, "media_url": info.MediaURL,
		"jwks_url": info.JWKSURL, "noise_root_key": info.NoiseRootKey,
		"jid_dialect.reads": info.JIDDialect.Reads, "jid_dialect.writes": info.JIDDialect.Writes,
	} {
		settings["network.gatekeepers."+info.Profile+"."+key] = value
	}
	if info.Profile != "whatsapp" { // the example configuration has it on, and there is no agreement with it here
		settings["network.gatekeepers.whatsapp.enabled"] = false
	}
	return settings
}

// readBot learns the bot's name from the configuration.
func (w *World) readBot() error {
	raw, err := os.ReadFile(w.Bridge.ConfigPath())
	if err != nil {
		return fmt.Errorf("reading the bridge's configuration: %w", err)
	}
	var cfg struct {
		AppService struct{ Bot struct{ Username string } }
		Homeserver struct{ Domain string }
		Bridge     struct {
			CommandPrefix string `yaml:"command_prefix"`
		}
	}
	if err := yaml.Unmarshal(raw, &cfg); err != nil {
		return fmt.Errorf("reading the bridge's configuration: %w", err)
	}
	w.Bot = "@" + cfg.AppService.Bot.Username + ":" + cfg.Homeserver.Domain
	w.BotPrefix = cfg.Bridge.CommandPrefix
	return nil
}

func (w *World) startHomeserver(ctx context.Context, cfg WorldConfig) (err error) {
	registrations := []string{w.Bridge.RegistrationPath()}
	if cfg.Puppets {
		registrations = append(registrations, cfg.puppetRegistration())
	}
	if cfg.Own != nil {
		w.Homeserver, err = cfg.Own(registrations)
		return err
	}
	if cfg.Homeserver == "dendrite" {
		cfg.Progress("starting Dendrite " + DendriteVersion)
		w.Homeserver, err = StartDendrite(ctx, DendriteConfig{Dir: filepath.Join(cfg.Dir, "dendrite"), Registrations: registrations})
		return err
	}
	cfg.Progress("starting Synapse " + SynapseVersion)
	w.Homeserver, err = StartSynapse(ctx, SynapseConfig{Dir: filepath.Join(cfg.Dir, "synapse"), Registrations: registrations})
	return err
}

// Stop ends everything this world started: the bridge first, so that it can
// finish what it is doing while the others still answer.
func (w *World) Stop() error {
	var errs []error
	if w.Bridge != nil && w.Bridge.proc != nil {
		errs = append(errs, w.Bridge.Stop())
	}
	if w.Homeserver != nil {
		errs = append(errs, w.Homeserver.Stop())
	}
	if w.Gatekeeper != nil {
		errs = append(errs, w.Gatekeeper.Stop())
	}
	return errors.Join(errs...)
}

// BotSays waits for a message of the bridge bot in room, sent after since
// (Unix milliseconds), that contains text. Case does not matter.
func (w *World) BotSays(ctx context.Context, p *Person, room string, since time.Time, text string) (*Event, error) {
	return p.Expect(ctx, fmt.Sprintf("the bridge bot to say %q", text), func(e *Event) bool {
		return e.RoomID == room && e.Sender == w.Bot && e.TS >= since.UnixMilli() &&
			strings.Contains(strings.ToLower(e.Message().Body), strings.ToLower(text))
	})
}

// Login is what came of LogIn.
type Login struct {
	Room       string // the management room
	Consent    string // what the bridge told before asking
	Identifier string // under which WhatsApp users find the user
}

// LogIn takes a user through the bridge's login as a person would: in a direct
// chat with the bot, reading what it says and typing the answer it asks for.
func (w *World) LogIn(ctx context.Context, p *Person) (*Login, error) {
	login := &Login{}
	known, err := w.Gatekeeper.Partners(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking the gatekeeper for its partners: %w", err)
	}
	var others []string
	for _, partner := range known {
		others = append(others, partner.Identifier)
	}
	since := time.Now().Add(-time.Second)
	if login.Room, err = p.CreateDM(ctx, w.Bot); err != nil {
		return nil, err
	}
	if _, err := w.BotSays(ctx, p, login.Room, since, "hello"); err != nil {
		return nil, err
	}
	if _, err := p.SendText(ctx, login.Room, "login "+w.Gatekeeper.Info.Profile); err != nil {
		return nil, err
	}
	consent, err := w.BotSays(ctx, p, login.Room, since, "encrypted")
	if err != nil {
		return nil, err
	}
	login.Consent = consent.Message().Body
	if _, err := w.BotSays(ctx, p, login.Room, since, "please enter"); err != nil {
		return nil, err
	}
	if _, err := p.SendText(ctx, login.Room, "agree"); err != nil {
		return nil, err
	}
	login.Identifier, err = w.IdentifierOf(ctx, others...)
	return login, err
}

// IdentifierOf waits until a partner user is enlisted and connected at the
// gatekeeper and returns the identifier under which WhatsApp users find them.
// Others in except are passed over.
func (w *World) IdentifierOf(ctx context.Context, except ...string) (string, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		partners, err := w.Gatekeeper.Partners(ctx)
		if err != nil {
			return "", fmt.Errorf("asking the gatekeeper for its partners: %w", err)
		}
		for _, p := range partners {
			if p.Integrator == IntegratorID && p.Connected && !slices.Contains(except, p.Identifier) {
				return p.Identifier, nil
			}
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for an enlisted and connected partner user: %w", ctx.Err())
		case <-tick.C:
		}
	}
}
