package parts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"
)

// BridgeConfig says how to run the bridge itself.
type BridgeConfig struct {
	Postern string // the program
	Dir     string // config, registration, database and log; carried on if it is there
	// Settings are values of the configuration by dotted path, such as
	// "homeserver.domain". They are written over what the file has.
	Settings map[string]any
	Args     []string // more flags
	Env      []string // added to the environment of the running bridge
}

// Bridge is the bridge as a process of its own, with a configuration and a
// registration that it generated itself.
type Bridge struct {
	cfg        BridgeConfig
	Address    string // where the homeserver reaches it, no trailing slash
	PublicBase string // where the gatekeeper reaches it, no trailing slash
	proc       *Process
}

// PrepareBridge lets the program write its example configuration and its
// registration, with free ports on loopback and SQLite, if the folder does not
// have them yet.
func PrepareBridge(cfg BridgeConfig) (*Bridge, error) {
	b := &Bridge{cfg: cfg}
	if err := makeDir(cfg.Dir); err != nil {
		return nil, err
	}
	if _, err := os.Stat(b.ConfigPath()); errors.Is(err, os.ErrNotExist) {
		if err := b.writeConfig(); err != nil {
			return nil, err
		}
	}
	if err := b.Set(cfg.Settings); err != nil {
		return nil, err
	}
	if err := b.readAddresses(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(b.RegistrationPath()); errors.Is(err, os.ErrNotExist) {
		if err := b.run("-g", "-c", b.ConfigPath(), "-r", b.RegistrationPath()); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// ConfigPath is the bridge's configuration file.
func (b *Bridge) ConfigPath() string { return filepath.Join(b.cfg.Dir, "config.yaml") }

// RegistrationPath is the file the homeserver has to load.
func (b *Bridge) RegistrationPath() string { return filepath.Join(b.cfg.Dir, "registration.yaml") }

// DatabasePath is the bridge's SQLite file.
func (b *Bridge) DatabasePath() string { return filepath.Join(b.cfg.Dir, "postern.db") }

// PID is the bridge's process id.
func (b *Bridge) PID() int { return b.proc.PID() }

// LogPath is the file that holds the bridge's output.
func (b *Bridge) LogPath() string { return filepath.Join(b.cfg.Dir, "bridge.out.log") }

// Done is closed when the bridge's process has ended.
func (b *Bridge) Done() <-chan struct{} { return b.proc.Done() }

// Stop ends the bridge in order.
func (b *Bridge) Stop() error { return b.proc.Stop() }

// Kill ends the bridge with SIGKILL.
func (b *Bridge) Kill() { b.proc.Kill() }

// Signal sends the bridge a signal.
func (b *Bridge) Signal(sig os.Signal) error { return b.proc.cmd.Process.Signal(sig) }

// run calls the program and waits for its end.
func (b *Bridge) run(args ...string) error {
	p, err := Start(ProcessConfig{Name: "postern " + args[0], Path: b.cfg.Postern, Args: args, Dir: b.cfg.Dir, LogPath: b.LogPath()})
	if err != nil {
		return err
	}
	<-p.Done()
	return p.exitError()
}

// writeConfig makes the example configuration and gives it addresses.
func (b *Bridge) writeConfig() error {
	if err := b.run("-e", "-c", b.ConfigPath()); err != nil {
		return err
	}
	private, err := FreePort()
	if err != nil {
		return err
	}
	public, err := FreePort()
	if err != nil {
		return err
	}
	return b.Set(map[string]any{
		"appservice.address":     fmt.Sprintf("http://127.0.0.1:%d", private),
		"appservice.hostname":    "127.0.0.1",
		"appservice.port":        private,
		"network.public.base":    fmt.Sprintf("http://127.0.0.1:%d", public),
		"network.public.address": fmt.Sprintf("127.0.0.1:%d", public),
		"database.type":          "sqlite3-fk-wal",
		"database.uri":           "file:" + b.DatabasePath() + "?_txlock=immediate",
	})
}

// readAddresses learns the addresses from the configuration file.
func (b *Bridge) readAddresses() error {
	var cfg struct {
		AppService struct{ Address string }
		Network    struct{ Public struct{ Base string } }
	}
	raw, err := os.ReadFile(b.ConfigPath())
	if err != nil {
		return fmt.Errorf("reading the bridge's configuration: %w", err)
	}
	if err := yaml.Unmarshal(raw, &cfg); err != nil {
		return fmt.Errorf("reading the bridge's configuration: %w", err)
	}
	b.Address, b.PublicBase = cfg.AppService.Address, cfg.Network.Public.Base
	return nil
}

// Set writes values into the configuration file, by dotted path. Comments
// and everything else stay.
func (b *Bridge) Set(values map[string]any) error {
	if len(values) == 0 {
		return nil
	}
	raw, err := os.ReadFile(b.ConfigPath())
	if err != nil {
		return fmt.Errorf("changing the bridge's configuration: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return fmt.Errorf("changing the bridge's configuration: %w", err)
	}
	for path, value := range values {
		if err := setYAML(doc.Content[0], strings.Split(path, "."), value); err != nil {
			return fmt.Errorf("changing %s in the bridge's configuration: %w", path, err)
		}
	}
	if raw, err = yaml.Marshal(&doc); err != nil {
		return err
	}
	return os.WriteFile(b.ConfigPath(), raw, 0o600)
}

// setYAML replaces or adds the value at path below a mapping.
func setYAML(node *yaml.Node, path []string, value any) error {
	if node.Kind != yaml.MappingNode {
		return errors.New("not a mapping")
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value != path[0] {
			continue
		}
		if len(path) > 1 {
			return setYAML(node.Content[i+1], path[1:], value)
		}
		return node.Content[i+1].Encode(value)
	}
	key := &yaml.Node{Kind: yaml.ScalarNode, Value: path[0]}
	child := &yaml.Node{Kind: yaml.MappingNode}
	node.Content = append(node.Content, key, child)
	if len(path) > 1 {
		return setYAML(child, path[1:], value)
	}
	return child.Encode(value)
}

// Start runs the bridge and waits until it says that it is ready.
func (b *Bridge) Start(ctx context.Context) error {
	if err := b.Launch(); err != nil {
		return err
	}
	return b.Ready(ctx)
}

// Launch runs the bridge and does not wait.
func (b *Bridge) Launch() error {
	p, err := Start(ProcessConfig{
		Name: "the bridge", Path: b.cfg.Postern, Dir: b.cfg.Dir, LogPath: b.LogPath(), Env: b.cfg.Env,
		Args: append([]string{"-c", b.ConfigPath()}, b.cfg.Args...),
	})
	if err != nil {
		return err
	}
	b.proc = p
	return nil
}

// Ready waits until the running bridge says that it is ready, and fails if it ends before.
func (b *Bridge) Ready(ctx context.Context) error {
	return waitReady(ctx, b.proc, "the bridge", b.Address+"/_matrix/mau/ready", b.LogPath())
}

// ExitCode is what the bridge's process has ended with: -1 if it runs, or ended by a signal.
func (b *Bridge) ExitCode() int {
	select {
	case <-b.proc.Done():
		return b.proc.cmd.ProcessState.ExitCode()
	default:
		return -1
	}
}
