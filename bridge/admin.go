package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/bridgev2/bridgeconfig"

	"postern/connector"
	"postern/connector/admin"
	"postern/database"
)

// withAdmin runs fn on the bridge that a configuration describes: on the running one over its private listener or, if nobody listens
// there, on its database. fn is run a second time if the first found nobody. Errors carry their exit code.
func withAdmin(ctx context.Context, configPath string, fn func(service admin.Service) error) error {
	bridge := connector.New()
	_, network, _ := bridge.GetConfig()
	cfg, err := loadConfig(configPath, network)
	if err != nil {
		return &exitError{exitConfig, err}
	}
	keyFile := beside(configPath, bridge.Config.KeyFile)
	key, err := database.LoadKeyFile(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return &exitError{exitConfig, fmt.Errorf("the key file %s is not there: has this bridge ever run?", keyFile)}
	} else if err != nil {
		return &exitError{exitConfig, about(keyFile, err)}
	}
	secret, err := admin.Secret(key[:])
	if err != nil {
		return err
	}
	err = fn(admin.NewClient(cfg.AppService.Hostname, cfg.AppService.Port, secret))
	switch {
	case errors.Is(err, admin.ErrNobody):
		return withDatabase(ctx, cfg, key, fn)
	case errors.Is(err, admin.ErrSecret), errors.Is(err, admin.ErrTooMany):
		return fmt.Errorf("the bridge that listens on %s runs with another key file than %s: name that bridge's configuration with -c, "+
			"or put its key file there", listens(cfg), keyFile)
	case errors.Is(err, admin.ErrNotBridge):
		return fmt.Errorf("what listens on %s is not a bridge that knows this command (appservice.hostname and appservice.port say where to ask)", listens(cfg))
	case errors.Is(err, admin.ErrNeedsBridge):
		return err
	case errors.Is(err, admin.ErrNotReady):
		return errors.New("the bridge is starting or stopping: try again in a moment")
	}
	return err
}

// withDatabase runs fn without a running bridge.
func withDatabase(ctx context.Context, cfg *bridgeconfig.Config, key [database.KeySize]byte, fn func(service admin.Service) error) error {
	service, closer, err := connector.OpenAdmin(ctx, cfg.Database.Type, cfg.Database.URI, key, zerolog.Nop())
	var held *database.LeaseHeldError
	switch {
	case errors.As(err, &held):
		return &exitError{exitDatabase, fmt.Errorf("nobody listens on %s, but another process is using the database: "+
			"the bridge is starting or stopping, or runs with another configuration", listens(cfg))}
	case errors.Is(err, fs.ErrNotExist):
		return &exitError{exitDatabase, errors.New("no bridge runs, and there is no database at database.uri " +
			"(a relative path is relative to the current folder)")}
	case err != nil:
		return &exitError{exitDatabase, fmt.Errorf("no bridge runs, and its database cannot be opened: %w", err)}
	}
	return errors.Join(fn(service), closer.Close())
}

// listens is where the bridge listens, for people.
func listens(cfg *bridgeconfig.Config) string {
	if len(cfg.AppService.Hostname) > 0 && cfg.AppService.Hostname[0] == '/' {
		return cfg.AppService.Hostname
	}
	return cfg.AppService.Hostname + ":" + strconv.Itoa(int(cfg.AppService.Port))
}
