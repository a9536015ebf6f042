package main

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
	"go.mau.fi/util/dbutil"
	_ "go.mau.fi/util/dbutil/litestream" // registers the framework's SQLite driver
	"go.mau.fi/util/exzerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/bridgeconfig"
	"maunium.net/go/mautrix/bridgev2/commands"
	"maunium.net/go/mautrix/bridgev2/matrix"

	"postern/connector"
	"postern/database"
)

// The exit codes. Those from 10 to 22 are the framework's own, so that scripts
// for such bridges understand them.
const (
	exitOther        = 1
	exitUsage        = 2
	exitConfig       = 10
	exitInvalid      = 11
	exitLogging      = 12
	exitDatabase     = 14
	exitRegistration = 20
	exitListener     = 23
)

// exitError carries the exit code that an error means.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// stopTime is how long the parts of an orderly stop may take together, and takingTime how long of that may be waited for events that are being
// handled. With connector.Shutdown it is less than 10 s; what is not done then is done after the next start.
const (
	stopTime   = 6 * time.Second
	takingTime = 3 * time.Second
)

// program is the running bridge.
type program struct {
	flags     *runFlags
	cfg       *bridgeconfig.Config
	connector *connector.Connector
	matrix    *matrix.Connector
	bridge    *bridgev2.Bridge
	db        *dbutil.Database
	key       [database.KeySize]byte
	log       *zerolog.Logger
	levels    *logLevels
}

// runBridge runs the bridge until ctx ends or something fails for good.
func runBridge(ctx context.Context, f *runFlags) error {
	p := &program{flags: f, connector: connector.New()}
	if err := p.load(); err != nil {
		return err
	}
	early := p.expectEnd(ctx)
	defer early.over()
	if err := p.assemble(ctx); err != nil {
		return errors.Join(early.unless(err), p.close())
	}
	failed := make(chan error, 8)
	tell := func(err error) {
		select {
		case failed <- err:
		default: // one is enough
		}
	}
	if err := p.start(ctx, tell); err != nil {
		return errors.Join(early.unless(err), p.stop())
	}
	early.over()
	p.log.Info().Msg("Bridge is running")
	running, stopped := context.WithCancel(ctx)
	defer stopped()
	go giveMemoryBack(running)
	var err error
	select {
	case <-ctx.Done():
		p.log.Info().Msg("Stopping")
	case err = <-failed:
		p.log.Error().Err(err).Msg("Stopping, since something failed for good")
		if errors.Is(err, database.ErrFailed) {
			err = &exitError{exitDatabase, err}
		}
	}
	return errors.Join(err, p.stop())
}

// load reads configuration and key, and sets up the log.
func (p *program) load() (err error) {
	_, network, _ := p.connector.GetConfig()
	if p.cfg, err = loadConfig(p.flags.config, network); err != nil {
		return &exitError{exitConfig, err}
	}
	if err = validateConfig(p.cfg); err == nil {
		err = p.connector.ValidateConfig()
	}
	if err != nil {
		return &exitError{exitInvalid, fmt.Errorf("%s: %w", p.flags.config, err)}
	}
	if p.log, p.levels, err = newLogger(&p.cfg.Logging); err != nil {
		return &exitError{exitLogging, err}
	}
	exzerolog.SetupDefaults(p.log)
	keyFile := beside(p.flags.config, p.connector.Config.KeyFile)
	if p.key, err = database.LoadOrCreateKeyFile(keyFile); err != nil {
		return &exitError{exitDatabase, about(keyFile, err)}
	}
	return deriveSecrets(p.cfg, p.key)
}

// deriveSecrets makes what the configuration leaves to be generated from the
// key file, so that it is the same at each start without rewriting the file.
func deriveSecrets(cfg *bridgeconfig.Config, key [database.KeySize]byte) error {
	for name, field := range map[string]*string{
		"encryption.pickle_key": &cfg.Encryption.PickleKey, "public_media.signing_key": &cfg.PublicMedia.SigningKey,
		"direct_media.server_key": &cfg.DirectMedia.ServerKey,
	} {
		if *field != "generate" {
			continue
		}
		secret, err := hkdf.Key(sha256.New, key[:], nil, "postern "+name, 32)
		if err != nil {
			return err
		}
		*field = base64.RawURLEncoding.EncodeToString(secret)
	}
	return nil
}

// assemble makes the framework's objects and puts ours around them.
func (p *program) assemble(ctx context.Context) error {
	var err error
	framework := p.cfg.Database
	framework.Type, framework.URI = database.FrameworkPool(framework.Type, framework.URI)
	p.db, err = dbutil.NewFromConfig("megabridge/postern", framework,
		p.connector.WatchedLogger(dbutil.ZeroLogger(p.log.With().Str("db_section", "framework").Logger())))
	if err != nil {
		return &exitError{exitDatabase, fmt.Errorf("opening the database: %w", err)}
	}
	mautrix.DefaultUserAgent = "postern/" + Tag + " " + mautrix.DefaultUserAgent
	p.connector.PrepareProvisioning(&p.cfg.Provisioning)
	p.matrix = matrix.NewConnector(p.cfg)
	p.matrix.IgnoreUnsupportedServer = p.flags.ignoreUnsupportedServer
	p.bridge = bridgev2.NewBridge("", p.db, *p.log, &p.cfg.Bridge, p.matrix, p.connector, commands.NewProcessor)
	p.matrix.AS.DoublePuppetValue = "postern"
	epochFile := beside(p.flags.config, p.connector.Config.EpochFile)
	err = p.connector.Attach(ctx, connector.AttachConfig{
		Matrix: p.matrix, DatabaseDialect: p.cfg.Database.Type, DatabaseURI: p.cfg.Database.URI, Key: p.key, Log: *p.log,
		Dir: filepath.Dir(p.flags.config), EpochFile: epochFile, LogLevels: p.levels, Version: Tag, Commit: Commit, Built: BuildTime,
	})
	switch {
	case errors.Is(err, database.ErrEpochFile), errors.Is(err, database.ErrEpochForeign), errors.Is(err, database.ErrEpochFormat):
		return &exitError{exitDatabase, about(epochFile, err)}
	case err != nil:
		return &exitError{exitDatabase, err}
	}
	return nil
}

// about says which file an error is about.
func about(path string, err error) error { return fmt.Errorf("%s: %w", path, err) }

// start opens the listeners first, since the framework's start makes the
// homeserver call us. It waits for the homeserver, until ended is over.
func (p *program) start(ended context.Context, failed func(error)) error {
	ctx, cancel := context.WithCancel(p.log.WithContext(context.Background()))
	// Only what waits in here ends with the signal: what was started is stopped in order, by stop.
	started := context.AfterFunc(ended, cancel)
	defer started()
	if err := p.connector.Listen(ctx, failed); err != nil {
		return &exitError{exitListener, err}
	}
	var exit matrix.ExitError
	var upgrade bridgev2.DBUpgradeError
	if err := p.bridge.StartConnectors(ctx); errors.As(err, &exit) {
		return &exitError{exit.ExitCode, err}
	} else if errors.As(err, &upgrade) {
		return &exitError{exitDatabase, fmt.Errorf("upgrading the database: %w", err)}
	} else if err != nil {
		return err
	}
	if err := p.bridge.StartLogins(ctx); err != nil {
		return fmt.Errorf("starting the logins: %w", err)
	}
	p.connector.Run()
	go p.bridge.PostStart(ctx)
	return nil
}

// stop ends everything in order: no more events, then the logins, then the
// database.
func (p *program) stop() error {
	deadline := time.Now().Add(stopTime)
	ctx, cancel := context.WithTimeout(context.Background(), takingTime)
	defer cancel()
	err := p.connector.StopTaking(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		p.log.Warn().Msg("Some events are not handled yet, and will be after the next start")
		err = nil
	}
	p.bridge.StopWithTimeout(time.Until(deadline))
	return errors.Join(err, p.close())
}

// close gives back what assemble has opened.
func (p *program) close() error {
	err := p.connector.Shutdown()
	if p.db != nil {
		err = errors.Join(err, p.db.Close())
	}
	return err
}
