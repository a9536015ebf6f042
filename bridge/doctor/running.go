package doctor

import (
	"context"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// lookAtSecretFiles: whether the files with secrets that the configuration names can be read; the bridge does not start without them.
func lookAtSecretFiles(_ context.Context, e *examination) (results []Result) {
	n := e.Network
	count := 0
	for _, f := range []struct{ key, path string }{
		{"network.identifier.smtp.password_file", n.Identifier.SMTP.PasswordFile}, {"network.region.hook.token_file", n.Region.Hook.TokenFile},
		{"network.metrics.token_file", n.Metrics.TokenFile},
	} {
		if f.path == "" {
			continue
		}
		count++
		if raw, err := os.ReadFile(e.beside(f.path)); err != nil {
			results = append(results, fail("the file of "+f.key+" cannot be read: "+errText(err), "put the secret there, readable for the bridge's user, or correct the path")...)
		} else if strings.TrimSpace(string(raw)) == "" {
			results = append(results, fail("the file of "+f.key+" is empty", "put the secret there")...)
		}
	}
	if results == nil {
		return fine("%d files with secrets are named, and can be read", count)
	}
	return results
}

// lookAtReadiness asks the running bridge whether it can take messages.
func lookAtReadiness(ctx context.Context, e *examination) []Result {
	host := e.Config.AppService.Hostname
	if e.nameless {
		return skip(e.blocked)
	}
	if !e.runs || strings.HasPrefix(host, "/") {
		return skip("the bridge does not run, or listens on a socket file")
	}
	r, err := ask(ctx, http.MethodGet, "http://"+reachable(listens(host, e.Config.AppService.Port))+"/_matrix/mau/ready", "", nil)
	if err != nil {
		return fail("the bridge does not say whether it is ready: "+err.Error(), "see its log")
	}
	var said struct {
		Reasons []string `json:"reasons"`
	}
	if r.status != http.StatusOK {
		reasons := "status " + strconv.Itoa(r.status)
		if r.json(&said) && len(said.Reasons) > 0 {
			reasons = plainLine(strings.Join(said.Reasons, "; "))
		}
		return fail("the bridge says that it is not ready: "+reasons, "mend what it names; it goes on by itself, and nothing is lost meanwhile")
	}
	return fine("it can take messages")
}

// plainLine keeps what the bridge says to one line.
func plainLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, text)
}

// reachable is an address to call for one to listen on: one that stands for all is called on loopback.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() && ip.To4() != nil {
		host = "127.0.0.1"
	} else if ip != nil && ip.IsUnspecified() {
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}

// lookAtMetrics: whether the figures are served, or could be.
func lookAtMetrics(ctx context.Context, e *examination) []Result {
	m := e.Network.Metrics
	switch {
	case !m.Enabled:
		return fine("no figures are served (network.metrics)")
	case m.Address == "":
		return fine("the figures are on the private listener")
	case e.nameless:
		return skip(e.blocked)
	case !e.runs:
		socket, err := net.Listen("tcp", m.Address)
		if err != nil {
			return fail("nothing can listen on network.metrics.address: "+listenWords(err), "name a free port of this machine")
		}
		_ = socket.Close() // nothing has come
		return fine("network.metrics.address is free")
	}
	token := m.Token
	if m.TokenFile != "" {
		raw, err := os.ReadFile(e.beside(m.TokenFile))
		if err != nil {
			return skip("the file of network.metrics.token_file cannot be read")
		}
		token = strings.TrimSpace(string(raw))
	}
	r, err := ask(ctx, http.MethodGet, "http://"+reachable(m.Address)+"/metrics", token, nil)
	const restart = "restart the bridge, if network.metrics was changed since it was started"
	switch {
	case err != nil:
		return fail("there are no figures at network.metrics.address: "+err.Error(), restart)
	case r.status == http.StatusUnauthorized, r.status == http.StatusForbidden:
		return fail("the token of network.metrics is not the running bridge's", restart)
	case r.status != http.StatusOK:
		return fail("there are no figures at network.metrics.address (status "+strconv.Itoa(r.status)+")", "another program may listen there: name a free port")
	}
	return fine("the figures are served")
}
