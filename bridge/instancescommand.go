package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"postern/connector"
	"postern/connector/admin"
	"postern/database"
)

const instancesUsage = `postern instances - which user belongs to which instance of the bridge

  postern instances list [--json]
  postern instances where USER [--json]
  postern instances assign USER NAME
  postern instances unassign USER
  postern instances move USER --to FILE

  -c, --config FILE   the configuration of any of the instances (config.yaml); for "move", that of the instance that has the user
  --to FILE           for "move": the configuration of the instance that is to have them
  --json              print JSON

USER is a Matrix ID, such as @anna:example.org. Who has an account belongs to the instance that has it, and anybody else to the one that a rule
gives them to. "assign" gives a user without an account to the instance with that name, and "unassign" leaves them to the rule again.

"move" takes a user who has an account to another instance, with all that they have: enlistment, sessions, chats, and what waits. Both instances have to be
stopped, and both configurations with their key files be here; all others may run. What is written meanwhile waits. The user's rooms stay the same: the
other instance's bot and ghosts come in, and the old ones leave. If it is cut off, do it again: before one commit nothing has moved, and after it only
tidying is left. Until the other instance has run, the backup of it that you have does not have the user.

Bridges may run meanwhile, and need not, but for "move".

Exit status: 0 done, 1 it could not be done, 2 wrong usage, 10 configuration, 14 database.
`

// instancesFlags are what the command was given.
type instancesFlags struct {
	verb, config, user, name, to string
	json, help                   bool
}

func parseInstances(args []string) (*instancesFlags, error) {
	f := &instancesFlags{}
	set := verbFlags("instances", &f.config, &f.json, &f.help)
	set.StringVar(&f.to, "to", "", "")
	said, err := wordsOf(set, args)
	if err != nil || f.help {
		return f, err
	}
	if len(said) == 0 {
		return nil, errors.New("instances needs one of list, where, assign, unassign and move")
	}
	wanted := map[string]int{"list": 0, "where": 1, "assign": 2, "unassign": 1, "move": 1}
	n, known := wanted[said[0]]
	f.verb = said[0]
	switch {
	case !known:
		return nil, fmt.Errorf("there is no command %q of instances", f.verb)
	case len(said)-1 > n:
		return nil, fmt.Errorf("unknown argument %q", said[n+1])
	case len(said)-1 < n && len(said) == 1:
		return nil, fmt.Errorf("%s needs a Matrix ID", f.verb)
	case len(said)-1 < n:
		return nil, fmt.Errorf("%s needs the name of an instance", f.verb)
	}
	if err := f.checkFlags(); err != nil {
		return nil, err
	}
	if n > 0 {
		if f.user = said[1]; !admin.ValidUser(f.user) {
			return nil, fmt.Errorf("%q is not a Matrix ID such as @anna:example.org", f.user)
		}
	}
	if n > 1 {
		f.name = said[2]
	}
	return f, nil
}

// checkFlags looks whether the flags go with the command.
func (f *instancesFlags) checkFlags() error {
	switch {
	case f.verb == "move" && f.to == "":
		return errors.New("move needs --to with the configuration of the instance that is to have the user")
	case f.verb != "move" && f.to != "":
		return fmt.Errorf("--to does not go with %s", f.verb)
	case f.json && (f.verb == "assign" || f.verb == "unassign"):
		return fmt.Errorf("--json does not go with %s", f.verb)
	}
	return nil
}

// instancesCommand runs the command and returns the exit status.
func instancesCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f, err := parseInstances(args)
	if err != nil {
		fmt.Fprintf(stderr, "postern: %v\n\n%s", err, instancesUsage)
		return exitUsage
	} else if f.help {
		fmt.Fprint(stdout, instancesUsage)
		return 0
	} else if f.verb == "move" {
		return verbStatus(stderr, f.move(ctx, stdout), 0)
	}
	return verbStatus(stderr, f.run(ctx, stdout), 0)
}

func (f *instancesFlags) run(ctx context.Context, stdout io.Writer) error {
	bridge := connector.New()
	_, network, _ := bridge.GetConfig()
	cfg, err := loadConfig(f.config, network)
	if err != nil {
		return &exitError{exitConfig, err}
	}
	if cfg.Database.Type != "postgres" {
		return &exitError{exitConfig, errors.New("this bridge is the only one: several instances need database.type postgres (docs/SCALE.md)")}
	}
	shared, err := bridge.Config.OpenSharing(ctx, cfg.Database.URI, filepath.Dir(f.config))
	switch {
	case errors.Is(err, connector.ErrOnlyOne):
		return &exitError{exitConfig, err}
	case err != nil:
		return &exitError{exitDatabase, err}
	}
	return errors.Join(f.do(ctx, shared, stdout), shared.Close())
}

func (f *instancesFlags) do(ctx context.Context, shared *connector.Sharing, stdout io.Writer) error {
	switch f.verb {
	case "list":
		return f.list(ctx, shared, stdout)
	case "where":
		return f.where(ctx, shared, stdout)
	case "assign":
		if !slices.Contains(shared.Names(), f.name) {
			return fmt.Errorf("there is no instance %q in network.instances.all, which has %s", f.name, strings.Join(shared.Names(), ", "))
		}
	}
	account, err := shared.Assign(ctx, f.user, f.name)
	switch {
	case err != nil:
		return &exitError{exitDatabase, err}
	case account != "":
		return fmt.Errorf("%s has an account at %s, and a user with an account is not assigned: see postern instances move", f.user, account)
	case f.name == "":
		_, err = fmt.Fprintf(stdout, "%s belongs to %s, by the rule.\n", f.user, shared.Rule(f.user))
	default:
		_, err = fmt.Fprintf(stdout, "%s belongs to %s.\n", f.user, f.name)
	}
	return err
}

// shownInstance is an instance as it is listed.
type shownInstance struct {
	Name     string `json:"name"`
	Joined   bool   `json:"joined"`
	Bot      string `json:"bot"`
	Address  string `json:"address"`
	Schema   string `json:"schema"`
	Accounts int    `json:"users_with_accounts"`
	Assigned int    `json:"users_assigned"`
}

func (f *instancesFlags) list(ctx context.Context, shared *connector.Sharing, stdout io.Writer) error {
	joined, err := shared.Instances(ctx)
	if err != nil {
		return &exitError{exitDatabase, err}
	}
	homes, err := shared.Homes(ctx)
	if err != nil {
		return &exitError{exitDatabase, err}
	}
	names := slices.Clone(shared.Names())
	for _, one := range joined {
		names = append(names, one.Name)
	}
	slices.Sort(names)
	all := []*shownInstance{}
	for _, name := range slices.Compact(names) {
		shown := &shownInstance{Name: name}
		if i := slices.IndexFunc(joined, func(one database.Instance) bool { return one.Name == name }); i >= 0 {
			shown.Joined, shown.Bot, shown.Address, shown.Schema = true, joined[i].Bot, joined[i].Address, joined[i].Tables
		}
		for _, home := range homes {
			switch {
			case home.Instance != name:
			case home.Account:
				shown.Accounts++
			default:
				shown.Assigned++
			}
		}
		all = append(all, shown)
	}
	if f.json {
		return printJSON(stdout, map[string]any{"instances": all})
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tBOT\tADDRESS\tSCHEMA\tUSERS WITH ACCOUNTS\tASSIGNED")
	for _, one := range all {
		bot := one.Bot
		if !one.Joined {
			bot = "has never run"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%d\n", one.Name, bot, one.Address, one.Schema, one.Accounts, one.Assigned)
	}
	return table.Flush()
}

func (f *instancesFlags) where(ctx context.Context, shared *connector.Sharing, stdout io.Writer) error {
	home, err := shared.Home(ctx, f.user)
	if err != nil {
		return &exitError{exitDatabase, err}
	}
	name, why := home.Instance, "rule"
	switch {
	case home.Account:
		why = "account"
	case home.Assigned:
		why = "assigned"
	default:
		name = shared.Rule(f.user)
	}
	if f.json {
		return printJSON(stdout, map[string]string{"user_id": f.user, "instance": name, "why": why})
	}
	_, err = fmt.Fprintf(stdout, "%s belongs to %s, %s.\n", f.user, name,
		map[string]string{"rule": "by the rule", "account": "and has an account there", "assigned": "since it was assigned"}[why])
	return err
}
