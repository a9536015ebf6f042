package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/rs/zerolog"

	"postern/connector"
	"postern/database"
)

// move takes a user who has an account to another instance, while neither of the two runs.
func (f *instancesFlags) move(ctx context.Context, stdout io.Writer) error {
	from, closeFrom, err := openMoveSide(ctx, f.config)
	if err != nil {
		return moveError(err)
	}
	moved, err := f.moveFrom(ctx, from)
	if err = errors.Join(err, closeFrom()); err != nil {
		return moveError(err)
	}
	return f.sayMoved(stdout, moved)
}

func (f *instancesFlags) moveFrom(ctx context.Context, from *connector.MoveSide) (*movedUser, error) {
	to, closeTo, err := openMoveSide(ctx, f.to)
	if err != nil {
		return nil, err
	}
	done, err := f.moveBetween(ctx, from, to)
	return done, errors.Join(err, closeTo())
}

func (f *instancesFlags) moveBetween(ctx context.Context, from, to *connector.MoveSide) (*movedUser, error) {
	shared, err := from.Network.OpenSharing(ctx, from.Config.Database.URI, filepath.Dir(f.config))
	if err != nil {
		return nil, &exitError{exitDatabase, err}
	}
	moved, err := connector.MoveUser(ctx, from, to, shared.Shared, f.user, zerolog.Nop())
	if err = errors.Join(err, shared.Close()); err != nil {
		return nil, err
	}
	return &movedUser{
		User: f.user, From: from.Network.Instances.Name, To: to.Network.Instances.Name, Already: moved.Already, Resumed: moved.Resumed,
		Accounts: moved.Accounts, Chats: moved.Chats, Waiting: moved.Waiting, NewRooms: moved.Lost,
	}, nil
}

// openMoveSide opens the database of a configuration, under its lease. It makes nothing.
func openMoveSide(ctx context.Context, config string) (*connector.MoveSide, func() error, error) {
	bridge := connector.New()
	_, network, _ := bridge.GetConfig()
	cfg, err := loadConfig(config, network)
	if err == nil {
		if err = validateConfig(cfg); err == nil {
			err = bridge.ValidateConfig()
		}
		if err == nil && bridge.Config.Instances.Name == "" {
			err = connector.ErrOnlyOne
		}
	}
	if err != nil {
		return nil, nil, &exitError{exitConfig, about(config, err)}
	}
	key, err := database.LoadKeyFile(beside(config, bridge.Config.KeyFile))
	if err != nil {
		return nil, nil, &exitError{exitConfig, about(beside(config, bridge.Config.KeyFile), err)}
	}
	db, err := database.Open(ctx, database.Config{
		Dialect: cfg.Database.Type, URI: cfg.Database.URI, MasterKey: key, Holder: "postern instances move", Existing: true,
		EpochFile: beside(config, bridge.Config.EpochFile), Instance: &bridge.Config.Instances.Name, Log: zerolog.Nop(),
	})
	if err != nil {
		return nil, nil, &exitError{exitDatabase, about(config, err)}
	}
	return &connector.MoveSide{Config: cfg, Network: &bridge.Config, DB: db}, db.Close, nil
}

// moveError says what went wrong, and what to do.
func moveError(err error) error {
	var held *database.LeaseHeldError
	var refused *connector.MoveRefused
	var exit *exitError
	switch {
	case errors.As(err, &held):
		return &exitError{exitDatabase, fmt.Errorf("an instance, or another command, is using its database: stop both instances first (%w)", err)}
	case errors.As(err, &refused), errors.As(err, &exit):
		return err
	}
	return fmt.Errorf("%w. Do it again: what was done is not lost, and is not done twice", err)
}

// movedUser is what is said of a move.
type movedUser struct {
	User     string `json:"user_id"`
	From     string `json:"from"`
	To       string `json:"to"`
	Already  bool   `json:"already,omitempty"`
	Resumed  bool   `json:"resumed,omitempty"`
	Accounts int    `json:"accounts"`
	Chats    int    `json:"chats"`
	Waiting  int    `json:"events_waiting"`
	NewRooms int    `json:"chats_without_their_room"`
}

func (f *instancesFlags) sayMoved(stdout io.Writer, m *movedUser) error {
	if f.json {
		return printJSON(stdout, m)
	}
	var err error
	switch {
	case m.Already:
		_, err = fmt.Fprintf(stdout, "%s belongs to %s already, and nothing was left to do.\n", m.User, m.To)
	case m.Resumed:
		_, err = fmt.Fprintf(stdout, "%s belonged to %s already; what was left of that move is done. Start both instances.\n", m.User, m.To)
	default:
		_, err = fmt.Fprintf(stdout, "%s belongs to %s now, with %d chats; %d events of theirs waited, and go on there. Start both instances.\n", m.User, m.To, m.Chats, m.Waiting)
	}
	if err == nil && m.NewRooms > 0 {
		_, err = fmt.Fprintf(stdout, "In %d rooms %s may not invite anybody: these chats get new rooms when somebody writes.\n", m.NewRooms, m.From)
	}
	return err
}
