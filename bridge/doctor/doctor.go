// Package doctor looks at a bridge's configuration and at everything that it names, and says of each thing that usually goes wrong whether it
// is right and, if not, what to do.
//
// Layer: beside the program's other commands, below bridge. It asks connector and database, and must not import the parts of connector that
// bridge people, the sandbox or the demo. It checks what docs/PROTOCOL.md says in 2.3 (the published keys), 7.2 and 8.2 (the public paths), and
// implements none of it.
//
// It works beside a running bridge and without one. Without one it listens itself, for as long as it looks, where the bridge would, to see
// whether the homeserver and the public address lead there. It changes nothing that lasts: files and rows that it makes for a trial are
// taken back, and what a homeserver hands over meanwhile is refused, so that it comes again.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"maunium.net/go/mautrix/appservice"
	"maunium.net/go/mautrix/bridgev2/bridgeconfig"

	"postern/connector"
	"postern/connector/issuer"
	"postern/database"
)

// State is what a check comes to.
type State string

// The states. A warning keeps nothing from working now. What is skipped could not be looked at, because something else is wrong first.
const (
	OK      State = "ok"
	Warning State = "warning"
	Failed  State = "failed"
	Skipped State = "skipped"
)

// Result is what one check has found.
type Result struct {
	// Check is its name, which scripts may rely on.
	Check string `json:"check"`
	State State  `json:"state"`
	// Finding is a sentence; Remedy says what to do, empty if there is nothing to be done. Neither has a secret in it.
	Finding string `json:"finding"`
	Remedy  string `json:"remedy,omitempty"`
}

// Subject is what is looked at: a configuration that has passed its validation.
type Subject struct {
	// Config is the framework's part, Network the connector's.
	Config  *bridgeconfig.Config
	Network *connector.Config
	// Dir is what relative paths are relative to. The database's own are relative to the current folder, as for the bridge.
	Dir string
	// Registration is where the registration may lie. Wanted is what the program would write now, but for its tokens.
	Registration string
	Wanted       *appservice.Registration
}

// patience bounds one check, and a single question asked of somebody else.
const (
	patience = 30 * time.Second
	question = 10 * time.Second
)

// examination is one run.
type examination struct {
	*Subject
	tell    func(Result)
	results []Result
	hide    *strings.Replacer

	key [database.KeySize]byte
	// haveKey: key is the bridge's; noKey: its file is not there.
	haveKey, noKey bool
	base           *database.Inspection
	// sharing is what the instances share, nil if there is only one.
	sharing *connector.Sharing
	// held is who uses the database, nil for nobody; runs: it is the bridge of this configuration; nameless: it cannot be told whether it is.
	held           *database.LeaseHeldError
	runs, nameless bool
	// blocked says why the listeners cannot be had, "" if they can.
	blocked string
	private *privateListener
	public  *publicListener
	issuer  *issuer.Issuer

	server serverFacts
	clocks []clock
}

// check is one thing to look at. Its results come under its name unless they have one of their own.
type check struct {
	name string
	look func(ctx context.Context, e *examination) []Result
}

// checks are all there are, in their order: a later one may need what an earlier one has found.
var checks = []check{
	{"user", lookAtUser},
	{"permissions", lookAtPermissions},
	{"operator", lookAtOperator},
	{"key-file", lookAtKeyFile},
	{"database", lookAtDatabase},
	{"database-writable", lookAtWriting},
	{"database-durability", lookAtDurability},
	{"instances", lookAtInstances},
	{"bridge", lookForBridge},
	{"readiness", lookAtReadiness},
	{"metrics", lookAtMetrics},
	{"epoch-file", lookAtEpochFile},
	{"secret-files", lookAtSecretFiles},
	{"disk", lookAtDisk},
	{"spool", lookAtSpool},
	{"media-store", lookAtMedia},
	{"ffmpeg", lookAtFFmpeg},
	{"file-limit", lookAtFileLimit},
	{"certificates", lookAtCertificates},
	{"registration", lookAtRegistration},
	{"homeserver", lookAtHomeserver},
	{"homeserver-token", lookAtToken},
	{"ping", lookAtPing},
	{"ephemeral-events", lookAtEphemeral},
	{"encryption", lookAtEncryption},
	{"double-puppets", lookAtPuppets},
	{"client-address", lookAtAdminToken},
	{"public-keys", lookAtPublicKeys},
	{"public-paths", lookAtPublicPaths},
	{"token", lookAtOwnToken},
	{"gatekeeper", lookAtGatekeepers},
	{"clock", lookAtClocks},
	{"mail-server", lookAtMail},
	{"region-hook", lookAtHook},
}

// Names are the names of all checks, for people and for tests. Those of a gatekeeper have its name behind: gatekeeper-whatsapp.
func Names() []string {
	names := make([]string, len(checks))
	for i, c := range checks {
		names[i] = c.name
	}
	return names
}

// Run looks at everything and tells each result as it comes. Errors: only ctx's.
func Run(ctx context.Context, s *Subject, tell func(Result)) ([]Result, error) {
	e := &examination{Subject: s, tell: tell, hide: hideSecrets(s)}
	defer e.close()
	for _, c := range checks {
		if err := ctx.Err(); err != nil {
			return e.results, err
		}
		bounded, cancel := context.WithTimeout(ctx, patience)
		for _, r := range c.look(bounded, e) {
			if r.Check == "" {
				r.Check = c.name
			}
			r.Finding, r.Remedy = e.hide.Replace(r.Finding), e.hide.Replace(r.Remedy)
			e.results = append(e.results, r)
			e.tell(r)
		}
		cancel()
	}
	return e.results, ctx.Err()
}

func (e *examination) close() {
	if e.private != nil {
		e.private.close()
	}
	if e.public != nil {
		e.public.close()
	}
	if e.base != nil {
		_ = e.base.Close() // nothing was written
	}
	if e.sharing != nil {
		_ = e.sharing.Close() // neither here
	}
}

// Worst is the worst state among results; skipped is no worse than a warning.
func Worst(results []Result) State {
	worst := OK
	for _, r := range results {
		switch {
		case r.State == Failed:
			return Failed
		case r.State != OK:
			worst = Warning
		}
	}
	return worst
}

func fine(format string, args ...any) []Result {
	return []Result{{State: OK, Finding: fmt.Sprintf(format, args...)}}
}

func warn(finding, remedy string) []Result {
	return []Result{{State: Warning, Finding: finding, Remedy: remedy}}
}

func fail(finding, remedy string) []Result {
	return []Result{{State: Failed, Finding: finding, Remedy: remedy}}
}

func skip(because string) []Result {
	return []Result{{State: Skipped, Finding: "not looked at: " + because}}
}

func named(name string, results []Result) []Result {
	for i := range results {
		results[i].Check = name
	}
	return results
}

// beside makes a path of the configuration relative to its folder.
func (e *examination) beside(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(e.Dir, path)
}

// shortestSecret: what is shorter would be taken out of ordinary words.
const shortestSecret = 6

// hideSecrets takes the configuration's secrets out of any text: what others say may quote what they were sent.
func hideSecrets(s *Subject) *strings.Replacer {
	c, n := s.Config, s.Network
	secrets := []string{
		c.AppService.ASToken, c.AppService.HSToken, c.Provisioning.SharedSecret, c.Encryption.PickleKey, c.PublicMedia.SigningKey, c.Analytics.Token,
		n.ClientAddress.AdminToken, n.Identifier.SMTP.Password, n.Region.Hook.Token, n.Media.S3.SecretKey, n.Media.S3.AccessKey,
		n.Metrics.Token,
	}
	for _, secret := range c.DoublePuppet.Secrets {
		secrets = append(secrets, secret, strings.TrimPrefix(secret, "as_token:"))
	}
	secrets = append(secrets, databaseSecrets(c.Database.URI)...)
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) }) // the longer one first, where one is part of another
	var pairs []string
	for _, secret := range secrets {
		if len(secret) >= shortestSecret && secret != "disable" && secret != "generate" {
			pairs = append(pairs, secret, "…")
		}
	}
	return strings.NewReplacer(pairs...)
}

// databaseSecrets finds the password in a database's address, in any of its two forms.
func databaseSecrets(uri string) (secrets []string) {
	if _, rest, found := strings.Cut(uri, "://"); found {
		if i := strings.LastIndex(rest, "@"); i > 0 {
			if _, password, found := strings.Cut(rest[:i], ":"); found {
				secrets = append(secrets, password)
			}
		}
	}
	for _, mark := range []string{"password=", "sslpassword="} {
		if _, rest, found := strings.Cut(uri, mark); found {
			value, _, _ := strings.Cut(rest, " ")
			value, _, _ = strings.Cut(value, "&")
			secrets = append(secrets, value, strings.Trim(value, "'"))
		}
	}
	return secrets
}

// lookAtPermissions: whether somebody may use the bridge, and somebody look after it.
func lookAtPermissions(_ context.Context, e *examination) []Result {
	domain, admins, users, ours := e.Config.Homeserver.Domain, 0, 0, 0
	for who, may := range e.Config.Bridge.Permissions {
		if may == nil {
			continue
		}
		if may.Login {
			users++
			if who == "*" || who == domain || strings.HasSuffix(who, ":"+domain) {
				ours++
			}
		}
		if may.Admin {
			admins++
		}
	}
	switch {
	case users == 0:
		return fail("nobody may log in", "give \""+domain+"\": user, or single Matrix IDs, in bridge.permissions")
	case ours == 0:
		return warn("nobody of homeserver.domain ("+domain+") may log in, only people of other servers", "if that is not meant, give \""+domain+"\": user in bridge.permissions")
	case admins == 0:
		return warn("nobody is an admin of the bridge, so nobody is told of reports and of what goes wrong in chats",
			"give your own Matrix ID: admin in bridge.permissions")
	}
	return fine("people of %s may log in, and there is an admin", domain)
}

// lookAtOperator: people are told who can read along before they agree.
func lookAtOperator(_ context.Context, e *examination) []Result {
	if o := e.Network.Operator; o.Name == "" || o.Contact == "" {
		return warn("people are not told who runs the bridge", "set network.operator.name and network.operator.contact: both are shown before anybody agrees")
	}
	return fine("network.operator names who runs the bridge")
}

// errText is what an error says, without the package's name before it, and without a path that the reader knows.
func errText(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	for _, prefix := range []string{"database: inspect: ", "database: ", "mediastore: "} {
		if text, found := strings.CutPrefix(err.Error(), prefix); found {
			return text
		}
	}
	return err.Error()
}
