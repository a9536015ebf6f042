package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// kept is DIR/demo.json: what scripts need to join in, and what the demo needs
// to carry on.
type kept struct {
	Homeserver       string                 `json:"homeserver"`      // client API
	HomeserverKind   string                 `json:"homeserver_kind"` // synapse or dendrite
	ServerName       string                 `json:"server_name"`
	Control          string                 `json:"control"`     // the gatekeeper's control API
	BridgeURL        string                 `json:"bridge"`      // appservice listener
	PublicBase       string                 `json:"public_base"` // what the gatekeeper sees of the bridge
	Bot              string                 `json:"bot"`
	Users            map[string]matrixLogin `json:"users"`  // by local part
	Phones           map[string]phoneInfo   `json:"phones"` // by name
	Rooms            map[string]string      `json:"rooms"`  // management, and a room for each phone's name
	Identifier       string                 `json:"identifier"`
	PIDs             map[string]int         `json:"pids"`
	BridgeConfig     string                 `json:"bridge_config"`
	BridgeDatabase   string                 `json:"bridge_database"`
	Registration     string                 `json:"registration"`
	Logs             map[string]string      `json:"logs"`
	HomeserverFolder string                 `json:"homeserver_folder"`
}

// matrixLogin is how to be one of the demo's Matrix users.
type matrixLogin struct {
	UserID      string `json:"user_id"`
	Password    string `json:"password"`
	AccessToken string `json:"access_token"`
	DeviceID    string `json:"device_id"`
}

// phoneInfo is a WhatsApp user of the demo.
type phoneInfo struct {
	Phone string `json:"phone"`
	Name  string `json:"name"`
}

// loadKept reads what an earlier run left in dir; nothing is fine too.
func loadKept(dir string) *kept {
	k := &kept{}
	if raw, err := os.ReadFile(filepath.Join(dir, "demo.json")); err == nil {
		if json.Unmarshal(raw, k) != nil {
			k = &kept{} // cut off while writing: begin anew
		}
	}
	if k.Users == nil {
		k.Users = map[string]matrixLogin{}
	}
	if k.Phones == nil {
		k.Phones = map[string]phoneInfo{}
	}
	if k.Rooms == nil {
		k.Rooms = map[string]string{}
	}
	return k
}

// save writes demo.json so that a reader never sees half of it.
func (k *kept) save(dir string) error {
	raw, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "demo.json")
	if err := os.WriteFile(path+".new", append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing demo.json: %w", err)
	}
	return os.Rename(path+".new", path)
}

// writeDemoJSON fills in addresses and process ids and saves.
func (s *story) writeDemoJSON() error {
	w, k := s.world, s.kept
	k.Homeserver, k.HomeserverKind, k.ServerName, k.HomeserverFolder = w.Homeserver.URL, w.Homeserver.Kind, w.Homeserver.ServerName, w.Homeserver.Dir
	k.Control, k.BridgeURL, k.PublicBase, k.Bot = w.Gatekeeper.Control, w.Bridge.Address, w.Bridge.PublicBase, w.Bot
	k.BridgeConfig, k.BridgeDatabase, k.Registration = w.Bridge.ConfigPath(), w.Bridge.DatabasePath(), w.Bridge.RegistrationPath()
	k.PIDs = map[string]int{"homeserver": w.Homeserver.PID(), "bridge": w.Bridge.PID(), "demo": os.Getpid()}
	k.Logs = map[string]string{"homeserver": w.Homeserver.LogPath(), "bridge": w.Bridge.LogPath()}
	if w.Gatekeeper.Own() {
		k.PIDs["sandbox"], k.Logs["sandbox"] = w.Gatekeeper.PID(), w.Gatekeeper.LogPath()
	}
	return k.save(s.dir)
}

// logs are the log files of all that this process started.
func (s *story) logs() []string {
	paths := []string{s.world.Bridge.LogPath(), s.world.Homeserver.LogPath()}
	if s.world.Gatekeeper.Own() {
		paths = append(paths, s.world.Gatekeeper.LogPath())
	}
	return paths
}

// invite says how to join in.
func (s *story) invite(out io.Writer) {
	alice, ben := s.kept.Users["alice"], s.kept.Phones["Ben"]
	fmt.Fprintf(out, `
Everything stays up. Join in with any Matrix client:

  homeserver   %s
  user         %s
  password     %s

Make the WhatsApp user %s speak:

  curl -s %s/v1/users/%s/messages -d '{"to": %q, "text": "hello from the phone"}'

See what %s's phone has received:

  curl -s '%s/v1/users/%s/events?after=0'

Addresses, tokens and process ids are in %s/demo.json. Ctrl-C stops everything.
`, s.kept.Homeserver, alice.UserID, alice.Password, ben.Name, s.kept.Control, ben.Phone, s.kept.Identifier, ben.Name, s.kept.Control, ben.Phone, s.dir)
}
