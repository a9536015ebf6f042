package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"maunium.net/go/mautrix/bridgev2/bridgeconfig"

	"postern/connector"
)

const healthUsage = `postern health - does the bridge run?

  postern health [--ready] [-c config.yaml]

  -c, --config FILE  the bridge's configuration (config.yaml)
  --ready            want it to be ready, too

Asks the bridge on its private listener. It is the image's health check. A bridge that runs but waits for something else, such as the
homeserver, the database or a gatekeeper, is healthy, since starting it anew would mend nothing: what it waits for is said. With --ready such
a one fails.

Exit status: 0 it runs (--ready: and can take messages), 1 it does not, or is starting or stopping, 2 wrong usage, 10 configuration.
`

// healthPatience is how long the bridge's answer is waited for, and healthSize how many bytes of it are read.
const (
	healthPatience = 8 * time.Second
	healthSize     = 64 << 10
)

// healthCommand runs the command and returns the exit status.
func healthCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var config string
	var ready, help bool
	set := flag.NewFlagSet("health", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	for _, name := range []string{"c", "config"} {
		set.StringVar(&config, name, "config.yaml", "")
	}
	for _, name := range []string{"h", "help"} {
		set.BoolVar(&help, name, false, "")
	}
	set.BoolVar(&ready, "ready", false, "")
	err := set.Parse(args)
	if err == nil && set.NArg() > 0 {
		err = fmt.Errorf("unknown argument %q", set.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(stderr, "postern: %v\n\n%s", err, healthUsage)
		return exitUsage
	} else if help {
		fmt.Fprint(stdout, healthUsage)
		return 0
	}
	bridge := connector.New()
	_, network, _ := bridge.GetConfig()
	cfg, err := loadConfig(config, network)
	if err != nil {
		return report(stderr, err, exitConfig)
	}
	reasons, err := askHealth(ctx, cfg)
	switch {
	case err != nil:
		return report(stderr, err, exitOther)
	case len(reasons) == 0:
		fmt.Fprintln(stdout, "The bridge runs, and can take messages.")
	case ready:
		return report(stderr, errors.New("the bridge runs, but is not ready: "+strings.Join(reasons, "; ")), exitOther)
	default:
		fmt.Fprintln(stdout, "The bridge runs, and waits: "+strings.Join(reasons, "; "))
	}
	return 0
}

// askHealth asks the bridge of a configuration for the reasons why it cannot take messages; none if it can. That it does not run, starts or stops
// is an error.
func askHealth(ctx context.Context, cfg *bridgeconfig.Config) (reasons []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, healthPatience)
	defer cancel()
	client, base := privateListener(cfg)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/_matrix/mau/ready", nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("no bridge answers on %s", listens(cfg))
	}
	defer answer.Body.Close()
	var said struct {
		Reasons []string `json:"reasons"`
		Checks  map[string]struct {
			OK bool `json:"ok"`
		} `json:"checks"`
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, healthSize)).Decode(&said); err != nil || said.Checks == nil {
		return nil, fmt.Errorf("what answers on %s is no bridge", listens(cfg))
	}
	if start, known := said.Checks["start"]; known && !start.OK {
		return nil, errors.New("the bridge is starting or stopping: " + strings.Join(said.Reasons, "; "))
	}
	return said.Reasons, nil
}

// privateListener is where the bridge of a configuration is asked, from the same machine.
func privateListener(cfg *bridgeconfig.Config) (client *http.Client, base string) {
	transport, host := &http.Transport{DisableKeepAlives: true}, cfg.AppService.Hostname
	client = &http.Client{Transport: transport}
	if strings.HasPrefix(host, "/") {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", host)
		}
		return client, "http://postern"
	}
	switch ip := net.ParseIP(host); {
	case host == "" || ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	return client, "http://" + net.JoinHostPort(host, strconv.Itoa(int(cfg.AppService.Port)))
}
