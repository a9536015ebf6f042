package connector

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"maunium.net/go/mautrix/bridgev2/bridgeconfig"
	"maunium.net/go/mautrix/format"
	"maunium.net/go/mautrix/id"

	"postern/connector/words"
	"postern/database"
)

// instancesEvery is how often it is looked whether another instance has joined or moved, or has changed the token keys.
const instancesEvery = 10 * time.Second

// instances knows which users belong to this instance of the bridge and where the others are. It is nil where there is only one.
//
// Whoever has an account here belongs here: that is written down in the shared schema before the account is made, so that no other instance
// makes one, whatever its configuration says. Of all others the rule decides, which needs nothing but the names.
type instances struct {
	c      *Connector
	name   string
	all    []string
	shared *database.Shared

	mu     sync.RWMutex
	others []database.Instance // that have joined, without this one
	// strangers are Matrix users with an account here who belong to another instance. Nothing is done for them.
	strangers map[id.UserID]bool
	// failing: the shared schema does not answer, and that was said.
	failing bool
}

// openInstances opens what the instances share, takes part in it, and finds out whose accounts are here.
func (c *Connector) openInstances(ctx context.Context, cfg AttachConfig) error {
	i := &c.Config.Instances
	if i.Name == "" {
		return nil
	}
	if cfg.DatabaseDialect != "postgres" {
		return errors.New("network.instances: several instances need database.type postgres, since they share a database")
	}
	file, err := resolve(cfg.Dir, i.KeyFile)
	if err != nil {
		return fmt.Errorf("network.instances.key_file: %w", err)
	}
	key, err := database.LoadOrCreateKeyFile(file)
	if err != nil {
		return fmt.Errorf("network.instances.key_file: %w", err)
	}
	shared, err := database.OpenShared(ctx, database.SharedConfig{URI: cfg.DatabaseURI, Schema: i.Schema, Key: key})
	if errors.Is(err, database.ErrSharedKey) {
		return fmt.Errorf("network.instances.key_file: %w", err)
	} else if err != nil {
		return err
	}
	in := &instances{c: c, name: i.Name, all: i.All, shared: shared, strangers: map[id.UserID]bool{}}
	if err := in.join(ctx, cfg); err != nil {
		return errors.Join(err, shared.Close())
	}
	c.instances = in
	return nil
}

func (in *instances) join(ctx context.Context, cfg AttachConfig) error {
	tables, err := in.c.db.SchemaName(ctx)
	if err != nil {
		return err
	}
	if tables == in.c.Config.Instances.Schema {
		return errors.New("network.instances.schema has to be another schema than the one in which this instance has its tables")
	}
	as := &cfg.Matrix.Config.AppService
	err = in.shared.Join(ctx, database.Instance{
		Name: in.name, Tables: tables, Appservice: as.ID, Bot: id.NewUserID(as.Bot.Username, cfg.Matrix.Config.Homeserver.Domain).String(),
		Address: in.c.Config.Instances.Address, Media: in.c.Config.Media.mediaPlace(),
		Ghosts: ghostsOf(as, cfg.Matrix.Config.Homeserver.Domain),
	})
	if err != nil {
		return err
	}
	if err := in.takeOver(ctx); err != nil {
		return err
	}
	if err := in.adopt(ctx); err != nil {
		return err
	}
	return in.look(ctx)
}

// takeOver makes the token keys of a bridge that was the only one those of all.
func (in *instances) takeOver(ctx context.Context) error {
	own, _, err := in.c.db.IssuerKeys().Load(ctx)
	if err != nil || own == nil {
		return err
	}
	if there, _, err := in.shared.IssuerKeys().Load(ctx); err != nil || there != nil {
		return err
	}
	_, err = in.shared.IssuerKeys().Save(ctx, own, 0) // false: another instance has just done so
	return err
}

// adopt writes down that those who have accounts here belong here, and gives up whoever has none any more.
func (in *instances) adopt(ctx context.Context) error {
	accounts, err := in.c.db.Accounts().All(ctx)
	if err != nil && !errors.Is(err, database.ErrSealBroken) {
		return err
	}
	homes, err := in.shared.Homes(ctx)
	if err != nil {
		return err
	}
	here := map[string]bool{}
	for _, account := range accounts {
		home := homes[account.MXID]
		if home.Instance == "" || home.Instance == in.name && !home.Account {
			if home.Instance, err = in.shared.Claim(ctx, account.MXID, in.name); err != nil {
				return err
			}
			home.Account = true
			homes[account.MXID] = home
		}
		if home.Instance != in.name {
			if !in.strangers[id.UserID(account.MXID)] {
				in.c.log.Error().Str("account", account.ID).Msg("An account here is of a user who belongs to another instance: nothing is done for it")
			}
			in.strangers[id.UserID(account.MXID)] = true
			continue
		}
		here[account.MXID] = true
		if ours, err := in.shared.ClaimIdentifier(ctx, account.Gatekeeper, account.Identifier, account.MXID); err != nil {
			return err
		} else if !ours {
			in.c.log.Error().Str("account", account.ID).Msg("An account here has the identifier of somebody of another instance")
			in.strangers[id.UserID(account.MXID)] = true
		}
	}
	return in.shared.Release(ctx, in.name, here)
}

// look finds out where the others are.
func (in *instances) look(ctx context.Context) error {
	all, err := in.shared.Instances(ctx)
	if err != nil {
		return err
	}
	var others []database.Instance
	for _, one := range all {
		if one.Name != in.name {
			others = append(others, one)
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.others = others
	return nil
}

// run keeps up with the others until ctx ends.
func (in *instances) run(ctx context.Context) {
	tick := time.NewTicker(instancesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := errors.Join(in.look(ctx), in.c.issuer.Refresh(ctx), in.deleteGone(ctx))
		if ctx.Err() != nil {
			return
		}
		if (err != nil) != in.failing {
			in.failing = err != nil
			in.c.log.Warn().Err(err).Bool("failing", in.failing).Msg("What the instances share can be read, or not, unlike before")
		}
	}
}

// deleteGone deletes the files of accounts that were moved away from here and are no more.
func (in *instances) deleteGone(ctx context.Context) error {
	gone, err := in.shared.GoneFrom(ctx, in.name)
	if err != nil {
		return err
	}
	for _, account := range gone {
		if here, err := in.c.db.Accounts().Get(ctx, account); err != nil && !errors.Is(err, database.ErrSealBroken) {
			return err
		} else if here == nil && err == nil { // else it has come back, and what happens to its files is its leaving's
			if err := in.c.media.DeleteOwner(ctx, account); err != nil {
				return err
			}
		}
		if err := in.shared.ForgetGone(ctx, account, in.name); err != nil {
			return err
		}
	}
	return nil
}

// sayGone tells the instances that have files of an account that it is no more.
func (c *Connector) sayGone(ctx context.Context, account string) error {
	if c.instances == nil || c.instances.shared == nil {
		return nil
	}
	return c.instances.shared.Gone(ctx, account)
}

// peers are the other instances, as far as they have joined.
func (in *instances) peers() []database.Instance {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.others
}

// ghostsMark stands in database.Instance.Ghosts for what differs from one ghost to another.
const ghostsMark = "*"

// ghostsOf are the Matrix IDs of an instance's ghosts, as it tells the others.
func ghostsOf(as *bridgeconfig.AppserviceConfig, domain string) string {
	return id.NewUserID(as.FormatUsername(ghostsMark), domain).String()
}

// foreignUsers tells the bots and ghosts of the other instances; nil where there are none.
func (in *instances) foreignUsers() func(user string) bool {
	if in == nil {
		return nil
	}
	return func(user string) bool {
		return slices.ContainsFunc(in.peers(), func(peer database.Instance) bool { return speaksFor(&peer, user) })
	}
}

// speaksFor says whether a Matrix user is an instance's bot, or one of its ghosts.
func speaksFor(one *database.Instance, user string) bool {
	before, behind, known := strings.Cut(one.Ghosts, ghostsMark)
	return user == one.Bot || known && len(user) > len(before)+len(behind) && strings.HasPrefix(user, before) && strings.HasSuffix(user, behind)
}

// stranger says whether somebody with an account here belongs to another instance.
func (in *instances) stranger(user id.UserID) bool { return in != nil && in.strangers[user] }

// rule says which of the names a Matrix user belongs to: the one with the greatest hash. A name that is added takes its share of all others, and one
// that is taken away gives its users to all others; nobody else is moved.
func rule(names []string, user id.UserID) string {
	best, chosen := uint64(0), ""
	for _, name := range names {
		sum := sha256.Sum256([]byte("postern instance\x00" + name + "\x00" + user.String()))
		if weight := binary.BigEndian.Uint64(sum[:8]); chosen == "" || weight > best || weight == best && name < chosen {
			best, chosen = weight, name
		}
	}
	return chosen
}

// home is the instance that a Matrix user belongs to.
func (in *instances) home(ctx context.Context, user id.UserID) (string, error) {
	home, err := in.shared.Home(ctx, user.String())
	if err != nil || home.Instance != "" {
		return home.Instance, err
	}
	return rule(in.all, user), nil
}

// botOf is the bot of another instance, "" for one that has never run. Who is not known may have joined a moment ago.
func (in *instances) botOf(ctx context.Context, name string) id.UserID {
	for range 2 {
		for _, other := range in.peers() {
			if other.Name == name {
				return id.UserID(other.Bot)
			}
		}
		if err := in.look(ctx); err != nil {
			in.c.log.Warn().Err(err).Msg("Could not look up the other instances")
			break
		}
	}
	return ""
}

// belongsElsewhere is what is to be said to a Matrix user who belongs to another instance; nil for those of this one.
func (c *Connector) belongsElsewhere(ctx context.Context, user id.UserID, w words.Words) error {
	if c.instances == nil {
		return nil
	}
	home, err := c.instances.home(ctx, user)
	if err != nil {
		c.log.Err(err).Msg("Could not look up to which instance a user belongs")
		return w.Error("error.wrong")
	}
	if home == c.instances.name {
		return nil
	}
	if bot := c.instances.botOf(ctx, home); bot != "" {
		return w.Error("instance.elsewhere", "bot", words.Markdown(format.MarkdownMentionWithName(bot.String(), bot)))
	}
	return w.Error("instance.nowhere", "contact", c.contact(w))
}

// errElsewhere: the person, or the identifier, is another instance's.
var errElsewhere = errors.New("connector: the user belongs to another instance")

// claim writes down, before an account is made, that its user belongs here and that the identifier is theirs. Errors: errElsewhere, errTaken.
func (c *Connector) claim(ctx context.Context, user id.UserID, gatekeeper, identifier string) error {
	in := c.instances
	if in == nil {
		return nil
	}
	if home, err := in.home(ctx, user); err != nil {
		return err
	} else if home != in.name {
		return errElsewhere
	}
	if home, err := in.shared.Claim(ctx, user.String(), in.name); err != nil {
		return err
	} else if home != in.name {
		return errElsewhere
	}
	ours, err := in.shared.ClaimIdentifier(ctx, gatekeeper, identifier, user.String())
	if err != nil {
		return err
	} else if !ours {
		return errTaken
	}
	return nil
}

// unclaim gives a user up who has no account any more. What fails is done at the next start.
func (c *Connector) unclaim(ctx context.Context, mxid string) {
	if c.instances == nil {
		return
	}
	left, err := c.db.Accounts().ByMXID(ctx, mxid)
	if err == nil && len(left) == 0 {
		err = c.instances.shared.ReleaseUser(ctx, c.instances.name, mxid)
	}
	if err != nil {
		c.log.Warn().Err(err).Msg("Could not give up a user who has no account any more; the next start does")
	}
}

// issuerKeys is where the keys are that tokens are signed with.
func (c *Connector) issuerKeys() issuerStore {
	if c.instances != nil {
		return c.instances.shared.IssuerKeys()
	}
	return c.db.IssuerKeys()
}

// issuerStore is issuer.KeyStore.
type issuerStore interface {
	Load(ctx context.Context) (document []byte, version int, err error)
	Save(ctx context.Context, document []byte, oldVersion int) (saved bool, err error)
}
