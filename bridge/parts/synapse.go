package parts

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// SynapseVersion is the version that build.sh installs from PyPI.
const SynapseVersion = "1.163.2"

// SynapseConfig says how to run Synapse.
type SynapseConfig struct {
	Dir           string   // all of its data; made if missing, carried on if not
	ServerName    string   // default "postern.localhost"
	Registrations []string // absolute paths of appservice registrations
	// Python is the interpreter of the virtual environment; empty: the one in
	// CacheDir.
	Python string
}

// SynapsePython returns the interpreter that has Synapse installed, or an
// error matching ErrMissing.
func SynapsePython() (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	python := filepath.Join(cache, "synapse-"+SynapseVersion, "bin", "python")
	if _, err := os.Stat(filepath.Join(filepath.Dir(python), "..", ".complete")); err != nil {
		return "", missing("Synapse "+SynapseVersion, filepath.Dir(filepath.Dir(python)), "./build.sh setup")
	}
	return python, nil
}

// StartSynapse starts Synapse on loopback with SQLite, open rate limits and
// no federation, and waits until it answers.
func StartSynapse(ctx context.Context, cfg SynapseConfig) (*Homeserver, error) {
	if cfg.Python == "" {
		python, err := SynapsePython()
		if err != nil {
			return nil, err
		}
		cfg.Python = python
	}
	if cfg.ServerName == "" {
		cfg.ServerName = "postern.localhost"
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("starting Synapse: %w", err)
	}
	state, err := loadState(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("starting Synapse: %w", err)
	}
	configPath := filepath.Join(cfg.Dir, "homeserver.yaml")
	if err := writeSynapseFiles(cfg, state, configPath); err != nil {
		return nil, fmt.Errorf("starting Synapse: %w", err)
	}
	h := &Homeserver{
		Kind: "synapse", Version: SynapseVersion, Dir: cfg.Dir, ServerName: cfg.ServerName,
		URL: fmt.Sprintf("http://127.0.0.1:%d", state.Port), secret: state.Registration,
	}
	run := func(extra ...string) (*Process, error) {
		return Start(ProcessConfig{
			Name: "Synapse", Path: cfg.Python, Dir: cfg.Dir,
			Args:    append([]string{"-m", "synapse.app.homeserver", "-c", configPath}, extra...),
			LogPath: filepath.Join(cfg.Dir, "synapse.out.log"),
		})
	}
	h.start = func() (*Process, error) { return run() }
	if _, err := os.Stat(filepath.Join(cfg.Dir, "signing.key")); errors.Is(err, os.ErrNotExist) {
		keys, err := run("--generate-keys")
		if err != nil {
			return nil, err
		}
		<-keys.Done()
		if err := keys.exitError(); err != nil {
			return nil, err
		}
	}
	if err := h.Restart(ctx); err != nil {
		return nil, err
	}
	return h, nil
}

// secret is 128 random bits in hex.
func secret() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// writeSynapseFiles writes the configuration and the log set-up.
func writeSynapseFiles(cfg SynapseConfig, s *homeserverState, configPath string) error {
	registrations, err := json.Marshal(cfg.Registrations) // JSON is YAML
	if err != nil {
		return err
	}
	if cfg.Registrations == nil {
		registrations = []byte("[]")
	}
	config := strings.NewReplacer(
		"@NAME@", cfg.ServerName, "@DIR@", cfg.Dir, "@PORT@", fmt.Sprint(s.Port),
		"@REGISTRATION@", s.Registration, "@MACAROON@", s.Macaroon, "@FORM@", s.Form,
		"@APPSERVICES@", string(registrations),
	).Replace(synapseConfig)
	if err := os.WriteFile(configPath, []byte(config), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(cfg.Dir, "log.yaml"), []byte(synapseLog), 0o600)
}

// synapseConfig is a private homeserver for one machine: loopback only, no
// federation, no rate limits, what encrypted appservice rooms need switched on.
const synapseConfig = `server_name: "@NAME@"
pid_file: "@DIR@/homeserver.pid"
listeners:
  - port: @PORT@
    bind_addresses: ["127.0.0.1"]
    type: http
    tls: false
    x_forwarded: false
    resources: [{names: [client, media], compress: false}]
database:
  name: sqlite3
  args: {database: "@DIR@/homeserver.db"}
log_config: "@DIR@/log.yaml"
media_store_path: "@DIR@/media"
signing_key_path: "@DIR@/signing.key"
registration_shared_secret: "@REGISTRATION@"
macaroon_secret_key: "@MACAROON@"
form_secret: "@FORM@"
report_stats: false
trusted_key_servers: []
suppress_key_server_warning: true
federation_domain_whitelist: []
enable_registration: false
bcrypt_rounds: 4
url_preview_enabled: false
presence: {enabled: true}
app_service_config_files: @APPSERVICES@
use_appservice_legacy_authorization: false
experimental_features:
  msc2409_to_device_messages_enabled: true
  msc3202_device_masquerading: true
  msc3202_transaction_extensions: true
rc_message: {per_second: 10000, burst_count: 10000}
rc_registration: {per_second: 10000, burst_count: 10000}
rc_login:
  address: {per_second: 10000, burst_count: 10000}
  account: {per_second: 10000, burst_count: 10000}
  failed_attempts: {per_second: 10000, burst_count: 10000}
rc_joins:
  local: {per_second: 10000, burst_count: 10000}
  remote: {per_second: 10000, burst_count: 10000}
rc_joins_per_room: {per_second: 10000, burst_count: 10000}
rc_room_creation: {per_second: 10000, burst_count: 10000}
rc_invites:
  per_room: {per_second: 10000, burst_count: 10000}
  per_user: {per_second: 10000, burst_count: 10000}
  per_issuer: {per_second: 10000, burst_count: 10000}
`

const synapseLog = `version: 1
formatters:
  precise: {format: '%(asctime)s %(name)s %(levelname)s %(message)s'}
handlers:
  console: {class: logging.StreamHandler, formatter: precise}
root: {level: WARNING, handlers: [console]}
disable_existing_loggers: false
`
