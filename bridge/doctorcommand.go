package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"

	"postern/bridge/doctor"
	"postern/connector"
)

const doctorUsage = `postern doctor - what is wrong with an installation, and what to do

  postern doctor [-c config.yaml] [-r registration.yaml] [--json]

  -c, --config FILE        the bridge's configuration (config.yaml)
  -r, --registration FILE  the registration (registration.yaml beside the configuration)
  --json                   print JSON

Looks at the configuration and at all that it names: database, disks, key and epoch file, homeserver (both ways), public address,
token keys, gatekeepers, clocks, ffmpeg. It says one line for each, with what to do if it is not right. It works beside a running
bridge and without one; without one it listens in its place for some seconds. Nothing is changed, and no secret is printed. Run it
as the user that the bridge runs as, in the folder that it is started in.

Exit status: 0 nothing has failed (there may be warnings), 1 something has, 2 it could not look (wrong usage, or a configuration
that cannot be used; what is wrong with that is said).
`

// parseDoctor reads the flags.
func parseDoctor(args []string) (config, registration string, asJSON, help bool, err error) {
	set := flag.NewFlagSet("doctor", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	for _, name := range []string{"c", "config"} {
		set.StringVar(&config, name, "config.yaml", "")
	}
	for _, name := range []string{"r", "registration"} {
		set.StringVar(&registration, name, "", "")
	}
	for _, name := range []string{"h", "help"} {
		set.BoolVar(&help, name, false, "")
	}
	set.BoolVar(&asJSON, "json", false, "")
	if err = set.Parse(args); err == nil && set.NArg() > 0 {
		err = fmt.Errorf("unknown argument %q", set.Arg(0))
	}
	if registration == "" {
		registration = filepath.Join(filepath.Dir(config), "registration.yaml")
	}
	return config, registration, asJSON, help, err
}

// doctorCommand runs the command and returns the exit status.
func doctorCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	config, registration, asJSON, help, err := parseDoctor(args)
	if err != nil {
		fmt.Fprintf(stderr, "postern: %v\n\n%s", err, doctorUsage)
		return exitUsage
	} else if help {
		fmt.Fprint(stdout, doctorUsage)
		return 0
	}
	tell := func(r doctor.Result) {
		if !asJSON {
			fmt.Fprintln(stdout, doctorLine(&r))
		}
	}
	subject, err := doctorSubject(config, registration)
	var results []doctor.Result
	if err != nil {
		r := doctor.Result{Check: "configuration", State: doctor.Failed, Finding: err.Error(), Remedy: "correct it and look again; nothing else was looked at"}
		results = append(results, r)
		tell(r)
	} else {
		r := doctor.Result{Check: "configuration", State: doctor.OK, Finding: config + " can be used"}
		tell(r)
		var rest []doctor.Result
		rest, err = doctor.Run(ctx, subject, tell)
		results = append([]doctor.Result{r}, rest...)
	}
	worst := doctor.Worst(results)
	if asJSON {
		if err := printJSON(stdout, map[string]any{"ok": worst != doctor.Failed && err == nil, "checks": results}); err != nil {
			return report(stderr, err, exitUsage)
		}
	}
	switch {
	case err != nil:
		return exitUsage
	case worst == doctor.Failed:
		return exitOther
	}
	return 0
}

// doctorSubject reads the configuration as the bridge does.
func doctorSubject(config, registration string) (*doctor.Subject, error) {
	bridge := connector.New()
	_, network, _ := bridge.GetConfig()
	cfg, err := loadConfig(config, network)
	if err != nil {
		return nil, err
	}
	if err = errors.Join(validateConfig(cfg), bridge.ValidateConfig()); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(config))
	if err != nil {
		return nil, err
	}
	return &doctor.Subject{
		Config: cfg, Network: &bridge.Config, Dir: dir, Registration: registration, Wanted: newRegistration(cfg),
	}, nil
}

// doctorLine is a result for people.
func doctorLine(r *doctor.Result) string {
	state := map[doctor.State]string{doctor.OK: "ok", doctor.Warning: "warning", doctor.Failed: "FAIL", doctor.Skipped: "-"}[r.State]
	line := fmt.Sprintf("%-8s %s: %s", state, r.Check, r.Finding)
	if r.Remedy != "" {
		line += ". To do: " + r.Remedy
	}
	return line
}
