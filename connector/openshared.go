package connector

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"maunium.net/go/mautrix/id"

	"postern/database"
)

// Sharing is what the instances of a bridge share, for the operator's commands: it needs no running bridge, and is in no running one's way.
type Sharing struct {
	*database.Shared
	cfg *InstancesConfig
}

// ErrOnlyOne says that the configuration knows no other instances.
var ErrOnlyOne = errors.New("network.instances.name is not set: this bridge is the only one")

// ErrNeverRun says that nothing is there of what the instances share.
var ErrNeverRun = errors.New("network.instances.schema: there is no such schema with data of instances: has one ever run?")

// OpenSharing opens what a configuration's instances share, and makes nothing of it, on the database with that URI; relative paths are relative to dir.
func (c *Config) OpenSharing(ctx context.Context, uri, dir string) (*Sharing, error) {
	if c.Instances.Name == "" {
		return nil, ErrOnlyOne
	}
	if err := c.prepareInstances(); err != nil {
		return nil, err
	}
	file, err := resolve(dir, c.Instances.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("network.instances.key_file: %w", err)
	}
	key, err := database.LoadKeyFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("network.instances.key_file: %s is not there: has an instance ever run?", file)
	} else if err != nil {
		return nil, fmt.Errorf("network.instances.key_file: %w", err)
	}
	shared, err := database.OpenShared(ctx, database.SharedConfig{URI: uri, Schema: c.Instances.Schema, Key: key, Existing: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNeverRun
	} else if err != nil {
		return nil, err
	}
	return &Sharing{shared, &c.Instances}, nil
}

// Names are the configured instances.
func (s *Sharing) Names() []string { return s.cfg.All }

// Rule is the instance that a Matrix user belongs to who has no account and was not assigned.
func (s *Sharing) Rule(mxid string) string { return rule(s.cfg.All, id.UserID(mxid)) }
