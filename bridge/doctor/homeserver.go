package doctor

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
	"maunium.net/go/mautrix/appservice"
)

// oldestSpec is the version of Matrix that the framework needs: 1.4.
const oldestSpec = 4

// serverFacts are what the homeserver says of itself.
type serverFacts struct {
	answers bool
	name    string
}

const installRegistration = "write the registration (postern -g), name it in the homeserver's app_service_config_files, and restart the homeserver"

// hs is an address of the homeserver's API.
func (e *examination) hs(path string) string {
	return strings.TrimRight(e.Config.Homeserver.Address, "/") + path
}

// lookAtRegistration compares the file, if it is here, with what the configuration says.
func lookAtRegistration(_ context.Context, e *examination) []Result {
	raw, err := os.ReadFile(e.Registration)
	if err != nil {
		return warn("there is no registration at "+e.Registration+", so it is not compared", "give the homeserver's copy with -r, or write one with postern -g")
	}
	var have appservice.Registration
	if err := yaml.Unmarshal(raw, &have); err != nil {
		return fail(e.Registration+" is no registration", "write it anew with postern -g")
	}
	want, config := e.Wanted, e.Config.AppService
	const anew = "write the registration anew (postern -g), give it to the homeserver and restart that"
	switch {
	case have.AppToken != config.ASToken:
		return fail("as_token in the registration is not appservice.as_token", anew)
	case have.ServerToken != config.HSToken:
		return fail("hs_token in the registration is not appservice.hs_token", anew)
	case have.ID != want.ID:
		return fail("id in the registration is not appservice.id", anew)
	case strings.TrimRight(have.URL, "/") != strings.TrimRight(want.URL, "/"):
		return fail("url in the registration is not appservice.address: the homeserver looks for the bridge elsewhere", anew)
	case !sameNames(have.Namespaces.UserIDs, want.Namespaces.UserIDs):
		return fail("the users that the registration reserves are not those of appservice.bot.username, appservice.username_template and homeserver.domain", anew)
	case !sameNames(have.Namespaces.RoomAliases, want.Namespaces.RoomAliases):
		return fail("the registration does not reserve the bridge's room aliases, so that a room may be made twice", anew)
	case want.EphemeralEvents && !have.EphemeralEvents && !have.SoruEphemeralEvents:
		return fail("the registration does not ask for typing and receipts, and appservice.ephemeral_events does", anew)
	case want.MSC3202 != have.MSC3202 || want.MSC4190 != have.MSC4190:
		return fail("the registration does not fit encryption.appservice and encryption.msc4190", anew)
	case have.RateLimited == nil || *have.RateLimited:
		return warn("the registration lets the homeserver hold the bridge back (rate_limited)", "set rate_limited: false in it and restart the homeserver")
	}
	return fine("%s fits the configuration", e.Registration)
}

// sameNames compares namespaces, whatever their order.
func sameNames(have, want appservice.NamespaceList) bool {
	for _, w := range want {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return true
}

var specVersion = regexp.MustCompile(`^v1\.([0-9]{1,4})$`)

// lookAtHomeserver: whether it answers, and is new enough.
func lookAtHomeserver(ctx context.Context, e *examination) []Result {
	address := e.Config.Homeserver.Address
	r, err := ask(ctx, http.MethodGet, e.hs("/_matrix/client/versions"), "", nil)
	if err != nil {
		return fail("the homeserver at "+host(address)+" cannot be reached: "+err.Error(),
			"start it, or set homeserver.address to where its client API is, as seen from here (usually http://localhost:8008 on the same machine)")
	}
	var said struct {
		Versions []string `json:"versions"`
	}
	if r.status != http.StatusOK || !r.json(&said) || len(said.Versions) == 0 {
		return fail("what answers at "+host(address)+" is no homeserver (status "+strconv.Itoa(r.status)+")",
			"set homeserver.address to the homeserver's client API itself, without a path")
	}
	e.server.answers = true
	e.noteClock("the homeserver", r)
	newest := 0
	for _, v := range said.Versions {
		if found := specVersion.FindStringSubmatch(v); found != nil {
			n, _ := strconv.Atoi(found[1]) // digits
			newest = max(newest, n)
		}
	}
	name := e.server.ask(ctx, e)
	if newest < oldestSpec {
		return fail(fmt.Sprintf("the homeserver (%s) speaks no Matrix newer than 1.%d, and the bridge needs 1.%d", name, newest, oldestSpec),
			"upgrade it; the bridge starts all the same with --ignore-unsupported-server")
	}
	return fine("%s answers at %s and speaks Matrix 1.%d", name, host(address), newest)
}

// ask learns what the homeserver calls itself; many do not tell on this listener.
func (f *serverFacts) ask(ctx context.Context, e *examination) string {
	var said struct {
		Server struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"server"`
	}
	r, err := ask(ctx, http.MethodGet, e.hs("/_matrix/federation/v1/version"), "", nil)
	if err == nil && r.status == http.StatusOK && r.json(&said) && said.Server.Name != "" {
		f.name = plain(said.Server.Name)
		return strings.TrimSpace(f.name + " " + plain(said.Server.Version))
	}
	var synapse struct {
		Version string `json:"server_version"`
	}
	r, err = ask(ctx, http.MethodGet, e.hs("/_synapse/admin/v1/server_version"), "", nil)
	if err == nil && r.status == http.StatusOK && r.json(&synapse) && synapse.Version != "" {
		f.name = "Synapse"
		return "Synapse " + plain(synapse.Version)
	}
	return "the homeserver"
}

// plain keeps what somebody else says of themselves to a few visible characters.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, text)
	return text[:min(len(text), 60)]
}

type matrixError struct {
	Code string `json:"errcode"`
}

// lookAtToken: whether the homeserver knows the registration.
func lookAtToken(ctx context.Context, e *examination) []Result {
	if !e.server.answers {
		return skip("the homeserver does not answer")
	}
	user, results := e.whoIs(ctx, e.Config.AppService.ASToken)
	if results != nil {
		return results
	}
	if _, domain, _ := strings.Cut(user, ":"); domain != e.Config.Homeserver.Domain {
		return fail("the homeserver is called "+plain(domain)+", and homeserver.domain is "+e.Config.Homeserver.Domain,
			"set homeserver.domain to the homeserver's server_name, and write the registration anew")
	}
	return fine("the homeserver takes appservice.as_token")
}

// whoIs asks whose the appservice's token is.
func (e *examination) whoIs(ctx context.Context, token string) (user string, results []Result) {
	r, err := ask(ctx, http.MethodGet, e.hs("/_matrix/client/v3/account/whoami"), token, nil)
	if err != nil {
		return "", fail("the homeserver does not answer: "+err.Error(), "see its log")
	}
	var said struct {
		matrixError
		User string `json:"user_id"`
	}
	known := r.json(&said)
	switch {
	case r.status == http.StatusUnauthorized, r.status == http.StatusForbidden:
		return "", fail("the homeserver does not know appservice.as_token", installRegistration)
	case r.status != http.StatusOK || !known:
		return "", fail("the homeserver answers with status "+strconv.Itoa(r.status)+" when it is asked whose appservice.as_token is", "see its log")
	}
	return said.User, nil
}

// lookAtPing asks the homeserver to call the bridge, which is the way that every event takes.
func lookAtPing(ctx context.Context, e *examination) []Result {
	switch {
	case !e.server.answers:
		return skip("the homeserver does not answer")
	case !e.runs && e.private == nil:
		return skip(e.blocked)
	}
	path := "/_matrix/client/v1/appservice/" + url.PathEscape(e.Config.AppService.ID) + "/ping"
	r, err := ask(ctx, http.MethodPost, e.hs(path), e.Config.AppService.ASToken, map[string]string{"transaction_id": "postern doctor"})
	if err != nil {
		return fail("the homeserver does not answer when it is asked to call the bridge: "+err.Error(), "see its log")
	}
	if r.status != http.StatusOK {
		return e.pingFailed(r)
	}
	if e.private != nil && e.private.pinged.Load() == 0 {
		return fail("the homeserver has reached another program than this one at "+host(e.Config.AppService.Address), makeReachable)
	}
	return fine("the homeserver reaches the bridge, with the right token")
}

const makeReachable = "let appservice.address be where the homeserver reaches the bridge (in containers: the name of the bridge's container, not localhost; " +
	"then appservice.hostname is 0.0.0.0), write the registration anew and restart the homeserver"

// pingFailed says what a homeserver means that did not reach the bridge.
func (e *examination) pingFailed(r *reply) []Result {
	var said matrixError
	_ = r.json(&said) // what is no Matrix error has no code
	where := host(e.Config.AppService.Address)
	if e.private != nil && e.private.refused.Load() > 0 || e.runs && said.Code == "M_BAD_STATUS" {
		return fail("the homeserver reaches "+where+", and what is there refuses its hs_token", installRegistration)
	}
	if r.status == http.StatusNotFound && said.Code == "" {
		said.Code = "M_UNRECOGNIZED"
	}
	switch said.Code {
	case "M_BAD_STATUS":
		return fail("the homeserver reaches another program at "+where, makeReachable)
	case "M_CONNECTION_TIMEOUT":
		return fail("the homeserver gets no answer from "+where+" in time", makeReachable+"; see whether a firewall is in between")
	case "M_CONNECTION_FAILED":
		return fail("the homeserver cannot reach "+where, makeReachable)
	case "M_URL_NOT_SET":
		return fail("the registration that the homeserver has names no url", installRegistration)
	case "M_UNRECOGNIZED":
		return warn("this homeserver cannot be asked to call the bridge, so that way is not looked at", "write to the bot: if it does not answer, the homeserver does not reach "+where)
	}
	if r.status == http.StatusUnauthorized || r.status == http.StatusForbidden {
		return fail("the homeserver does not take the bridge for appservice.id", installRegistration)
	}
	return fail("the homeserver answers with status "+strconv.Itoa(r.status)+" when it is asked to call the bridge", "see its log")
}

// dendrite says whether the homeserver is one.
func (e *examination) dendrite() bool { return strings.EqualFold(e.server.name, "dendrite") }

// lookAtEphemeral: whether typing and receipts come.
func lookAtEphemeral(_ context.Context, e *examination) []Result {
	switch asked := e.Config.AppService.EphemeralEvents; {
	case asked && e.dendrite():
		return warn("Dendrite passes no typing and no receipts to bridges", "nothing can be done here; set appservice.ephemeral_events: false, so that nobody waits for them")
	case !asked && e.Network.Connect == "attached":
		return warn("appservice.ephemeral_events is off, so reading and typing are no signs of life for network.connect: attached", "switch it on, and write the registration anew")
	case !asked:
		return fine("typing and receipts are switched off (appservice.ephemeral_events)")
	}
	return fine("typing and receipts are asked for")
}

// lookAtEncryption: whether encrypted rooms can work.
func lookAtEncryption(ctx context.Context, e *examination) []Result {
	c := e.Config.Encryption
	switch {
	case !c.Allow && (c.Require || c.Default):
		return fail("encryption.require or encryption.default is on, and encryption.allow is off", "switch encryption.allow on, or the other two off")
	case !c.Allow:
		return fine("encrypted rooms are switched off (encryption.allow)")
	case e.dendrite():
		return fail("Dendrite passes no encryption keys to bridges, so encrypted rooms do not work", "set encryption.allow: false")
	case c.MSC4190:
		return fine("encrypted rooms are on; the bridge makes its device itself (encryption.msc4190)")
	case !e.server.answers:
		return skip("the homeserver does not answer")
	}
	r, err := ask(ctx, http.MethodGet, e.hs("/_matrix/client/v3/login"), "", nil)
	if err != nil {
		return fail("the homeserver does not answer: "+err.Error(), "see its log")
	}
	if !strings.Contains(string(r.body), `"m.login.application_service"`) {
		return fail("the homeserver lets no bridge log in for encryption", "where users log in through an identity provider, set encryption.msc4190: true and write the registration anew")
	}
	if c.Appservice {
		return warn("encryption.appservice needs features of the homeserver that do not show from here",
			"in Synapse, switch on msc2409_to_device_messages_enabled and msc3202_transaction_extensions under experimental_features; or set encryption.appservice: false")
	}
	return fine("encrypted rooms are on, and the homeserver lets the bridge have a device")
}

// lookAtPuppets: whether the tokens for acting as users are good.
func lookAtPuppets(ctx context.Context, e *examination) (results []Result) {
	secret, found := e.Config.DoublePuppet.Secrets[e.Config.Homeserver.Domain]
	if !found {
		return fine("the bridge does not act as users of %s", e.Config.Homeserver.Domain)
	}
	token, asToken := strings.CutPrefix(secret, "as_token:")
	switch {
	case !asToken:
		return fail("double_puppet.secrets for "+e.Config.Homeserver.Domain+" is no as_token:…", "make a second registration that reserves all users, not exclusively and without a url, and give as_token: and its token")
	case token == e.Config.AppService.ASToken:
		return fail("double_puppet.secrets has the bridge's own token", "make a second registration that reserves all users, not exclusively and without a url, and give its token")
	case !e.server.answers:
		return skip("the homeserver does not answer")
	}
	r, err := ask(ctx, http.MethodGet, e.hs("/_matrix/client/v3/account/whoami"), token, nil)
	if err != nil || r.status != http.StatusOK {
		return fail("the homeserver does not know the token in double_puppet.secrets", "give the homeserver the second registration too, and restart it")
	}
	return fine("the homeserver takes the token in double_puppet.secrets")
}

// lookAtAdminToken: whether the homeserver tells the addresses of the users' clients.
func lookAtAdminToken(ctx context.Context, e *examination) []Result {
	a := e.Network.ClientAddress
	switch {
	case a.Policy == "off":
		return fine("the gatekeeper is not told where users connect from (network.client_address)")
	case !e.server.answers:
		return skip("the homeserver does not answer")
	}
	bot := "@" + e.Config.AppService.Bot.Username + ":" + e.Config.Homeserver.Domain
	r, err := ask(ctx, http.MethodGet, e.hs("/_matrix/client/v3/admin/whois/"+url.PathEscape(bot)), a.AdminToken, nil)
	switch {
	case err != nil:
		return fail("the homeserver does not answer: "+err.Error(), "see its log")
	case r.status == http.StatusUnauthorized:
		return fail("the homeserver does not know network.client_address.admin_token", "log in as an administrator of the homeserver and give that access token")
	case r.status == http.StatusForbidden:
		return fail("network.client_address.admin_token is not an administrator's", "make its user an administrator of the homeserver, or give another's token")
	}
	return fine("the homeserver takes network.client_address.admin_token")
}
