package parts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// DendriteVersion is the version that build.sh builds from its Go module.
const DendriteVersion = "0.15.2"

// DendriteConfig says how to run Dendrite.
type DendriteConfig struct {
	Dir           string   // all of its data; made if missing, carried on if not
	ServerName    string   // default "postern.localhost"
	Registrations []string // absolute paths of appservice registrations
}

// DendritePath returns the folder with Dendrite's programs, or an error
// matching ErrMissing.
func DendritePath() (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "dendrite-"+DendriteVersion)
	if _, err := os.Stat(filepath.Join(dir, ".complete")); err != nil {
		return "", missing("Dendrite "+DendriteVersion, dir, "./build.sh setup")
	}
	return filepath.Join(dir, "bin"), nil
}

// StartDendrite starts Dendrite on loopback with SQLite and without
// federation, and waits until it answers. It sends no typing, receipts or
// to-device messages to appservices, and claims an old version of the Matrix
// specification: the bridge needs --ignore-unsupported-server.
func StartDendrite(ctx context.Context, cfg DendriteConfig) (*Homeserver, error) {
	bin, err := DendritePath()
	if err != nil {
		return nil, err
	}
	if cfg.ServerName == "" {
		cfg.ServerName = "postern.localhost"
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("starting Dendrite: %w", err)
	}
	state, err := loadState(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("starting Dendrite: %w", err)
	}
	configPath := filepath.Join(cfg.Dir, "dendrite.yaml")
	if err := writeDendriteConfig(cfg, state, configPath); err != nil {
		return nil, fmt.Errorf("starting Dendrite: %w", err)
	}
	log := filepath.Join(cfg.Dir, "dendrite.out.log")
	if _, err := os.Stat(filepath.Join(cfg.Dir, "matrix_key.pem")); errors.Is(err, os.ErrNotExist) {
		keys, err := Start(ProcessConfig{
			Name: "generate-keys", Path: filepath.Join(bin, "generate-keys"), Dir: cfg.Dir,
			Args: []string{"--private-key", "matrix_key.pem"}, LogPath: log,
		})
		if err != nil {
			return nil, err
		}
		<-keys.Done()
		if err := keys.exitError(); err != nil {
			return nil, err
		}
	}
	h := &Homeserver{
		Kind: "dendrite", Version: DendriteVersion, Dir: cfg.Dir, ServerName: cfg.ServerName,
		URL: fmt.Sprintf("http://127.0.0.1:%d", state.Port), secret: state.Registration,
	}
	h.start = func() (*Process, error) {
		return Start(ProcessConfig{
			Name: "Dendrite", Path: filepath.Join(bin, "dendrite"), Dir: cfg.Dir, LogPath: log,
			Args: []string{"--config", configPath, "--http-bind-address", fmt.Sprintf("127.0.0.1:%d", state.Port)},
		})
	}
	if err := h.Restart(ctx); err != nil {
		return nil, err
	}
	return h, nil
}

// writeDendriteConfig writes a configuration in which every component has its
// own SQLite file, as Dendrite wants it without a global database.
func writeDendriteConfig(cfg DendriteConfig, s *homeserverState, path string) error {
	registrations, err := json.Marshal(cfg.Registrations) // JSON is YAML
	if err != nil {
		return err
	}
	if cfg.Registrations == nil {
		registrations = []byte("[]")
	}
	config := strings.NewReplacer(
		"@NAME@", cfg.ServerName, "@DIR@", cfg.Dir, "@SECRET@", s.Registration, "@APPSERVICES@", string(registrations),
	).Replace(dendriteConfig)
	return os.WriteFile(path, []byte(config), 0o600)
}

const dendriteConfig = `version: 2
global:
  server_name: "@NAME@"
  private_key: "@DIR@/matrix_key.pem"
  disable_federation: true
  presence: {enable_inbound: true, enable_outbound: true}
  jetstream: {storage_path: "@DIR@/jetstream", in_memory: false}
app_service_api:
  config_files: @APPSERVICES@
client_api:
  registration_disabled: true
  registration_shared_secret: "@SECRET@"
  rate_limiting: {enabled: false}
federation_api:
  database: {connection_string: "file:@DIR@/federation.db"}
key_server:
  database: {connection_string: "file:@DIR@/keys.db"}
media_api:
  database: {connection_string: "file:@DIR@/media.db"}
  base_path: "@DIR@/media"
  max_file_size_bytes: 104857600
mscs:
  database: {connection_string: "file:@DIR@/mscs.db"}
relay_api:
  database: {connection_string: "file:@DIR@/relay.db"}
room_server:
  default_room_version: "10"
  database: {connection_string: "file:@DIR@/rooms.db"}
sync_api:
  database: {connection_string: "file:@DIR@/sync.db"}
user_api:
  bcrypt_cost: 4
  account_database: {connection_string: "file:@DIR@/accounts.db"}
  device_database: {connection_string: "file:@DIR@/devices.db"}
logging:
  - {type: std, level: warn}
`
