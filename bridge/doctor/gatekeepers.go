package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"postern/connector"
)

// lookAtGatekeepers: whether each one's services can be reached. Nobody is enlisted and nothing is sent but a request for its public keys.
func lookAtGatekeepers(ctx context.Context, e *examination) (results []Result) {
	for _, a := range e.Network.Agreed() {
		results = append(results, named("gatekeeper-"+a.Profile.Name, e.lookAtGatekeeper(ctx, a))...)
	}
	return results
}

func (e *examination) lookAtGatekeeper(ctx context.Context, a connector.Agreed) []Result {
	key, at := "network.gatekeepers."+a.Profile.Name+".", a.Profile.Endpoints
	chat := at.ChatTCP
	if at.ChatWS != "" {
		chat = at.ChatWS
	}
	var wrong []string
	for _, service := range []struct{ key, address string }{{"chat", chat}, {"enlist_url", at.Enlist}, {"media_url", at.Media}} {
		if service.address == "" {
			continue
		}
		if err := reach(ctx, service.address); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s%s (%s): %v", key, service.key, host(service.address), err))
		}
	}
	if at.JWKS != "" {
		if err := e.gatekeeperKeys(ctx, a, at.JWKS); err != nil {
			wrong = append(wrong, fmt.Sprintf("%sjwks_url (%s): %v", key, host(at.JWKS), err))
		}
	}
	if len(wrong) > 0 {
		return fail("not all of "+a.Profile.DisplayName+"'s services can be reached: "+strings.Join(wrong, "; "),
			"let this machine out to those addresses (firewall, proxy), and compare them with the agreement; an empty key stands for the address that the program knows")
	}
	return fine("%s's services can be reached", a.Profile.DisplayName)
}

// gatekeeperKeys fetches the keys with which pushes are signed.
func (e *examination) gatekeeperKeys(ctx context.Context, a connector.Agreed, address string) error {
	r, err := ask(ctx, http.MethodGet, address, "", nil)
	if err != nil {
		return err
	}
	e.noteClock(a.Profile.DisplayName, r)
	var set publishedSet
	if r.status != http.StatusOK || !r.json(&set) || len(set.Keys) == 0 {
		return errors.New("there are no keys (status " + strconv.Itoa(r.status) + ")")
	}
	return nil
}

// lookAtMail: whether the mail server for codes greets.
func lookAtMail(ctx context.Context, e *examination) []Result {
	smtp := e.Network.Identifier.SMTP
	if e.Network.Identifier.Mode != "email" {
		return fine("no mail is sent (network.identifier.mode)")
	}
	const remedy = "let network.identifier.smtp.address be host:port of a mail server that this machine may use, and tls what it speaks there (implicit: usually port 465)"
	if smtp.TLS == "implicit" {
		if err := reach(ctx, "https://"+smtp.Address); err != nil {
			return fail("the mail server cannot be reached: "+err.Error(), remedy)
		}
		return fine("the mail server can be reached")
	}
	conn, err := (&net.Dialer{Timeout: question}).DialContext(ctx, "tcp", smtp.Address)
	if err != nil {
		return fail("the mail server cannot be reached: "+networkWords(err), remedy)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(question)); err != nil {
		return fail("the mail server cannot be waited for", remedy)
	}
	greeting, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.HasPrefix(greeting, "220") {
		return fail("what answers at network.identifier.smtp.address is no mail server", remedy)
	}
	return fine("the mail server greets")
}

// lookAtHook: whether the service that says who may join can be reached. Nobody is asked about.
func lookAtHook(ctx context.Context, e *examination) []Result {
	if e.Network.Region.Gate != "hook" {
		return fine("no service is asked who may join (network.region.gate)")
	}
	if err := reach(ctx, e.Network.Region.Hook.URL); err != nil {
		return fail("the service at network.region.hook.url cannot be reached: "+err.Error(), "start it, or correct the address: nobody joins while it does not answer")
	}
	return fine("the service at network.region.hook.url can be reached")
}
