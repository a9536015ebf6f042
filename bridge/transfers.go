package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/bridgev2/bridgeconfig"
	framework "maunium.net/go/mautrix/bridgev2/database/upgrades"
	crypto "maunium.net/go/mautrix/crypto/sql_store_upgrade"
	"maunium.net/go/mautrix/sqlstatestore"

	"postern/connector"
	"postern/connector/killpoint"
	"postern/connector/mediastore"
	"postern/database"
	"postern/database/transfer"
)

// frameworkOwner is what the framework notes in a database that it uses.
const frameworkOwner = "megabridge/postern"

// frameworkSchemas are the tables that the framework makes at its start.
var frameworkSchemas = []transfer.Schema{
	{Version: "version", Upgrades: framework.Table, Owner: frameworkOwner},
	{Version: sqlstatestore.VersionTableName, Upgrades: sqlstatestore.UpgradeTable},
	{Version: crypto.VersionTableName, Upgrades: crypto.Table},
}

// subject is the bridge whose database is copied.
type subject struct {
	configPath string
	cfg        *bridgeconfig.Config
	network    *connector.Config
	keyFile    string
}

func loadSubject(configPath string) (*subject, error) {
	bridge := connector.New()
	_, network, _ := bridge.GetConfig()
	cfg, err := loadConfig(configPath, network)
	if err != nil {
		return nil, &exitError{exitConfig, err}
	}
	return &subject{configPath, cfg, &bridge.Config, beside(configPath, bridge.Config.KeyFile)}, nil
}

// key reads the key file.
func (s *subject) key() ([database.KeySize]byte, error) {
	key, err := database.LoadKeyFile(s.keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return key, &exitError{exitConfig, fmt.Errorf("the key file %s is not there: has this bridge ever run?", s.keyFile)}
	} else if err != nil {
		return key, &exitError{exitConfig, about(s.keyFile, err)}
	}
	return key, nil
}

func (s *subject) config(key [database.KeySize]byte) transfer.Config {
	cfg := transfer.Config{
		Database: database.Config{Dialect: s.cfg.Database.Type, URI: s.cfg.Database.URI, MasterKey: key, Log: zerolog.Nop()},
		Schemas:  frameworkSchemas, Program: Tag, Log: zerolog.Nop(), Step: step,
	}
	if s.network.EpochFile != "" {
		cfg.Database.EpochFile = beside(s.configPath, s.network.EpochFile)
	}
	return cfg
}

// step is where tests end the program in the middle of a restore or a move.
func step(at transfer.Step) error {
	killpoint.Hit(string(at))
	return nil
}

// keepsFiles says whether attachments lie in a folder; the other store has its own ways.
func (s *subject) keepsFiles() bool { return s.network.Media.Store == "files" }

// readFiles is the folder of attachments, for reading alone.
func (s *subject) readFiles() *transfer.Attachments {
	dir := beside(s.configPath, s.network.Media.Path)
	return &transfer.Attachments{Open: func(name [sha256.Size]byte) (io.ReadCloser, error) { return mediastore.OpenIn(dir, name) }}
}

// writeFiles is the folder of attachments, for writing. It is made, and cleaned, with the first of them: no bridge uses it any more then.
func (s *subject) writeFiles() *transfer.Attachments {
	folder := sync.OnceValues(func() (mediastore.Backend, error) {
		return mediastore.Files(beside(s.configPath, s.network.Media.Path))
	})
	return &transfer.Attachments{Put: func(ctx context.Context, name [sha256.Size]byte, size int64, sum [sha256.Size]byte, content io.Reader) error {
		backend, err := folder()
		if err != nil {
			return err
		}
		return mediastore.PutInto(ctx, backend, name, size, sum, content)
	}}
}

// transferError says of what went wrong what it means and what to do, with the exit status.
func (s *subject) transferError(err error) error {
	var held *database.LeaseHeldError
	var exit *exitError
	say := func(format string, args ...any) error { return &exitError{exitDatabase, fmt.Errorf(format, args...)} }
	switch {
	case err == nil, errors.As(err, &exit), errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &held):
		return say("a bridge, or another command, is using the database: stop it first (%w)", err)
	case errors.Is(err, transfer.ErrNotEmpty):
		return say("there is a database already, and nothing was changed: move it away with all files beside it, or make an empty one on the server (%w)", err)
	case errors.Is(err, transfer.ErrNewer):
		return say("it is of a newer version than this program: use the program of that version, or a newer one (%w)", err)
	case errors.Is(err, transfer.ErrVersions):
		return say("between SQLite and PostgreSQL the tables have to be of this program's versions: let the bridge start once with this program, on the kind of "+
			"database that it was made with, and stop it; for a backup, make another one then (%w)", err)
	case errors.Is(err, transfer.ErrKey):
		return say("it was not made under the key in %s, or was changed since; nothing was changed here: put the key file that belongs to it there (%w)", s.keyFile, err)
	case errors.Is(err, transfer.ErrUnknown):
		return say("the answer to the last commit got lost: look whether the tables are there. If they are, they are whole; if not, do it again (%w)", err)
	case errors.Is(err, database.ErrEpochForeign):
		return say("%s belongs to another database, and nothing was changed: move it away, and the first start makes a new one (%w)", beside(s.configPath, s.network.EpochFile), err)
	case errors.Is(err, database.ErrWrongKey):
		return say("%w", about(s.keyFile, err))
	case database.IsAbsent(err):
		return say("there is no database at database.uri (a relative path is relative to the current folder): %w", err)
	}
	return say("%w", err)
}
