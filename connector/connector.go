package connector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	up "go.mau.fi/util/configupgrade"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/commands"
	frameworkdb "maunium.net/go/mautrix/bridgev2/database"
	"maunium.net/go/mautrix/bridgev2/matrix"
	"maunium.net/go/mautrix/bridgev2/networkid"
	"maunium.net/go/mautrix/id"

	"postern/connector/admin"
	"postern/connector/convert"
	"postern/connector/email"
	"postern/connector/interop"
	"postern/connector/issuer"
	"postern/connector/killpoint"
	"postern/connector/matrixdurable"
	"postern/connector/mediastore"
	"postern/connector/metrics"
	"postern/connector/profile"
	"postern/connector/push"
	"postern/connector/transcode"
	"postern/database"
)

// Connector is the bridgev2 network connector for all gatekeepers. The program makes one with New, decodes the network section into
// GetConfig's data, gives it to bridgev2.NewBridge, and then calls, around the framework's own start and stop: Attach
// after the initialisation, Listen before the start, Run after it, StopTaking before the stop, Shutdown last.
type Connector struct {
	// Config is filled before Init.
	Config Config

	bridge *bridgev2.Bridge
	matrix *matrix.Connector
	log    zerolog.Logger
	db     *database.DB
	// opened is db, for whoever may ask before it is there.
	opened atomic.Pointer[database.DB]
	// ready are the checks of readiness; taking: between Run and StopTaking.
	ready  readiness
	health healthWatch
	taking atomic.Bool
	// rows are the framework's tables in our own transactions.
	rows  *frameworkdb.Database
	stack *matrixdurable.Stack
	// uploads brings attachments into the homeserver, fetch gets them from there.
	uploads     *matrixdurable.Uploads
	uploadPause time.Duration
	fetch       *fetcher
	// fellBack: it was said that some attachments go as documents.
	fellBack sync.Once
	issuer   *issuer.Issuer
	// version and built say which program this is.
	version, built string
	// commands are all that people may type, as help lists them.
	commands []*command
	// languages knows in which language people are spoken to.
	languages *languages
	// region decides who may join and stay, nil for everybody. mail sends codes.
	region regionGate
	mail   email.Config
	// brakes keep users from doing too much, suspended knows whom the operator has suspended.
	brakes    *brakes
	suspended *suspensions
	// maintenance keeps all streams closed while the operator wants that.
	maintenance *maintenance
	// news tells the operator what concerns them.
	news *operatorNews
	// admin does what the operator orders.
	admin admin.Service
	// sharedSecret: the operator has configured the framework's secret for provisioning.
	sharedSecret bool
	// instances are the other instances of the bridge, nil if there are none; passing asks them.
	instances *instances
	passing   *passing
	// logLevels is the level of the log, nil where nobody can set it.
	logLevels LogLevels
	// media keeps what our users send until the gatekeeper has fetched it; spool is the folder for temporary files, empty at
	// the start; ffmpeg is the program that the configuration names, "" for none.
	media  *mediastore.Store
	spool  string
	ffmpeg string
	// mediaHosts are where the gatekeepers keep attachments.
	mediaHosts mediaHosts
	// transcode looks into files and changes their form.
	transcode *transcode.Tool

	// pacer holds connections back, addresses finds those of the users' clients, nil if nobody is told.
	pacer     *interop.Pacer
	addresses *addresses
	// pushes takes what the gatekeepers wake users with.
	pushes *push.Handler
	public *http.Server
	// metrics are nil if nobody wants them, figures is their own listener.
	metrics *metrics.Metrics
	figures *http.Server
	ctx     context.Context // ends at Shutdown
	began   time.Time       // when this process began
	wall    func() time.Time
	clock   *clock
	cancel  context.CancelFunc
	work    sync.WaitGroup

	// connected are the clients between Connect and Disconnect.
	connected connected

	// strays makes it be looked for ghosts in rooms that are not theirs.
	strays chan struct{}
	// reportsClosed wakes who tells reporters that their reports were seen to.
	reportsClosed chan struct{}
	// departures notices who is gone.
	departures *departures
	// leavings deletes the accounts of those who leave.
	leavings *leavings
	// ignoring is what the logins' ignores share.
	ignoring *ignoring
	// These do what logins have to do now and then.
	chores, names, visits, closings *crew
	// exporting is held while somebody's export is made: one at a time.
	exporting sync.Mutex

	// enlisting is held while an account is made or enlisted, so that one
	// identifier never belongs to two.
	enlisting sync.Mutex
}

var (
	_ bridgev2.NetworkConnector            = (*Connector)(nil)
	_ bridgev2.ConfigValidatingNetwork     = (*Connector)(nil)
	_ bridgev2.IdentifierValidatingNetwork = (*Connector)(nil)
)

// New makes a Connector.
func New() *Connector { return &Connector{} }

// Init implements bridgev2.NetworkConnector.
func (c *Connector) Init(bridge *bridgev2.Bridge) {
	c.bridge = bridge
	c.log = bridge.Log.With().Str("component", "connector").Logger()
	c.began, c.wall, c.uploadPause = time.Now(), time.Now, uploadPause
	c.leavings, c.ignoring, c.strays, c.reportsClosed = newLeavings(c), newIgnoring(), make(chan struct{}, 1), make(chan struct{}, 1)
	c.chores, c.names = &crew{size: choreHands, log: c.log}, &crew{size: nameHands, log: c.log}
	c.visits, c.closings = &crew{size: visitHands, log: c.log}, &crew{size: closingHands, log: c.log}
	c.ctx, c.cancel = context.WithCancel(c.log.WithContext(context.Background()))
}

// AttachConfig says what Attach works with.
type AttachConfig struct {
	// Matrix is the framework's Matrix connector, initialised and not started.
	Matrix *matrix.Connector
	// DatabaseDialect and DatabaseURI are those of the framework's database.
	DatabaseDialect, DatabaseURI string
	// Key seals columns.
	Key [database.KeySize]byte
	// EpochFile tells an old copy of the database; see database.Config.
	EpochFile string
	// Dir is what relative paths of the configuration are relative to.
	Dir string
	// Version and Commit are the program's, Built is when it was built.
	Version, Commit, Built string
	// LogLevels, if not nil, lets the operator change the level of the log.
	LogLevels LogLevels
	Log       zerolog.Logger
}

// AliasPrefix begins the local parts of the aliases that rooms are made under. The registration has to reserve them.
func AliasPrefix(appserviceID string) string { return appserviceID + "_room_" }

// Attach opens the database, takes its lease, opens the media store, and puts the durable pieces around the bridge. It comes after bridgev2.NewBridge
// and before the framework's start.
func (c *Connector) Attach(ctx context.Context, cfg AttachConfig) error {
	c.matrix, c.version, c.built, c.logLevels = cfg.Matrix, cfg.Version, cfg.Built, cfg.LogLevels
	c.log = cfg.Log.With().Str("component", "connector").Logger()
	if err := c.openMetrics(cfg); err != nil {
		return err
	}
	db, err := database.Open(ctx, database.Config{
		Dialect: cfg.DatabaseDialect, URI: cfg.DatabaseURI, MasterKey: cfg.Key, Holder: "postern",
		EpochFile: cfg.EpochFile, Meter: c.databaseMeter(), Instance: &c.Config.Instances.Name,
		Log:       cfg.Log.With().Str("component", "database").Logger(),
		Upgrading: func() { killpoint.Hit(killpoint.Upgrading) },
	})
	if err != nil {
		return err
	}
	c.db, c.passing = db, newPassing()
	if err = c.openInstances(ctx, cfg); err != nil {
		return errors.Join(err, db.Close())
	}
	if err = c.remember(ctx); err != nil {
		return errors.Join(err, db.Close())
	}
	if c.news, err = loadOperatorNews(ctx, c); err != nil {
		return errors.Join(err, db.Close())
	}
	c.opened.Store(db)
	db.WhenRowsAreOld(func(account string) { go c.tellOldRows(account) })
	db.WatchHealth(c.databaseChanged)
	c.addOwnChecks()
	if err := c.prepareJoining(cfg.Dir); err != nil {
		return errors.Join(err, db.Close())
	}
	c.departures = newDepartures(c, c.Config.Departed.AdminToken, cfg.Matrix.AS.HTTPClient.Transport)
	c.rows = frameworkdb.New(c.bridge.ID, c.GetDBMetaTypes(), db.Raw())
	c.issuer, err = issuer.New(ctx, issuer.Config{Base: c.Config.Public.Base, Store: c.issuerKeys()})
	if err != nil {
		return errors.Join(err, db.Close())
	}
	c.pacer = interop.NewPacer(c.Config.ConnectsPerSecond)
	if a := c.Config.ClientAddress; a.Policy != addressOff {
		c.addresses = newAddresses(cfg.Matrix.Config.Homeserver.Address, a.AdminToken, a.Policy == addressRequire)
	}
	if c.pushes, err = c.newPushes(); err != nil {
		return errors.Join(err, db.Close())
	}
	if err := c.openMedia(ctx, cfg.Dir, cfg.Log.With().Str("component", "mediastore").Logger()); err != nil {
		return errors.Join(err, db.Close())
	}
	if c.transcode, err = transcode.Find(c.ffmpeg); err != nil {
		c.log.Warn().Err(err).Msg("Videos and sound are passed on as they are, and many forms of files go as documents: ffmpeg is not there")
	}
	if processor, ok := c.bridge.Commands.(*commands.Processor); ok {
		c.addCommands(processor)
	}
	c.serveProvisioning(cfg)
	if err := c.serveAdmin(cfg); err != nil {
		return errors.Join(err, db.Close())
	}
	if bot, ok := c.bridge.Bot.(*matrix.ASIntent); ok {
		c.bridge.Bot = &speakingBot{bot, c.wordsFor, c.tellOnce}
	}
	c.watchHomeserver()
	c.uploads = matrixdurable.NewUploads(cfg.Matrix)
	c.fetch = newFetcher(func() *mautrix.Client { return cfg.Matrix.Bot.Client }, cfg.Matrix.AS.HTTPClient.Transport)
	c.stack, err = matrixdurable.NewStack(matrixdurable.StackConfig{
		Matrix: cfg.Matrix, Journal: c.journal(), Notices: notices{db.Notices()},
		AliasPrefix: AliasPrefix(cfg.Matrix.Config.AppService.ID), Refuse: c.refuse, Language: c.wordsFor, Carry: carryOther, Member: c.member, Known: c.knownCommand,
		Alive: c.connected.alive, Well: c.connected.wellAgain, Elsewhere: c.elsewhere, Age: c.clock.now, Health: c.ready.handler(), Moved: c.instances != nil,
		Log: cfg.Log.With().Str("component", "matrix").Logger(),
	})
	if err != nil {
		return errors.Join(err, db.Close())
	}
	return nil
}

// remember reads what holds for people and for the whole bridge since an earlier process.
func (c *Connector) remember(ctx context.Context) (err error) {
	if c.languages, err = loadLanguages(ctx, c.db.People(), c.Config.Language); err != nil {
		return err
	}
	if c.clock, err = newClock(ctx, c.db, c.wall); err != nil {
		return err
	}
	c.brakes = newBrakes(c)
	if c.suspended, err = loadSuspensions(ctx, c); err != nil {
		return err
	}
	c.maintenance, err = loadMaintenance(ctx, c)
	return err
}

// Listen opens both listeners: the private one for the homeserver, which journals from then on, and the public
// one for the gatekeeper. failed is called if one of them ends by itself, or the database fails for good; the
// program has to end then.
func (c *Connector) Listen(ctx context.Context, failed func(error)) error {
	socket, err := net.Listen("tcp", c.Config.Public.Address)
	if err != nil {
		return fmt.Errorf("connector: public listener: %w", err)
	}
	if _, err := c.stack.Listen(ctx, failed); err != nil {
		return errors.Join(err, socket.Close())
	}
	if err := c.serveMetrics(failed); err != nil {
		return errors.Join(err, socket.Close())
	}
	c.public = c.publicServer()
	c.work.Go(func() {
		if err := c.public.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
			failed(fmt.Errorf("connector: public listener: %w", err))
		}
	})
	c.work.Go(func() {
		if err := c.issuer.Run(c.ctx); err != nil && c.ctx.Err() == nil {
			failed(fmt.Errorf("connector: issuer: %w", err))
		}
	})
	c.work.Go(c.pruneIncomingMedia)
	c.work.Go(c.pruneReports)
	c.work.Go(c.keepAudit)
	c.work.Go(func() { _ = c.media.Run(c.ctx) }) // ends with ctx, and logs what fails
	c.work.Go(func() {
		select {
		case <-c.db.Failed():
			failed(c.db.Err())
		case <-c.ctx.Done():
		}
	})
	return nil
}

// silentLog takes what net/http says of connections, which names their addresses.
var silentLog = log.New(io.Discard, "", 0)

// publicServer is the public listener's server. The limits are for the small answers; attachments have their own.
func (c *Connector) publicServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: c.publicHandler(), ErrorLog: silentLog, Protocols: protocols, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
	}
}

// mediaPath is where attachments are, below the public base (PROTOCOL.md 7.2).
const mediaPath = "/media"

// publicHandler serves what the gatekeeper asks for, also below the path that the public base may have. A path that is not written
// plainly is not there: nobody is led to where another reading of it would point.
func (c *Connector) publicHandler() http.Handler {
	keys, media, pushes := c.issuer.Handler(), http.StripPrefix(mediaPath, c.anywhere(c.countServed(c.media.Handler()))), c.pushes
	inside := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, mediaPath+"/"):
			media.ServeHTTP(w, r)
		case path.Clean(r.URL.Path) != r.URL.Path:
			http.NotFound(w, r)
		case r.URL.Path == push.Path:
			pushes.ServeHTTP(w, r)
		default:
			keys.ServeHTTP(w, r)
		}
	})
	base, err := url.Parse(c.Config.Public.Base)
	if err != nil || base.Path == "" {
		return inside
	}
	below := http.StripPrefix(base.Path, inside)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, base.Path+"/") {
			below.ServeHTTP(w, r)
			return
		}
		inside.ServeHTTP(w, r)
	})
}

// Run hands events on from now; it comes after the framework's start.
func (c *Connector) Run() {
	c.stack.Run()
	c.taking.Store(true)
	c.work.Go(func() { c.leavings.run(c.ctx) })
	c.work.Go(c.watchRegions)
	c.work.Go(c.watchHealth)
	c.work.Go(c.watchForSleep)
	if c.metrics != nil {
		c.work.Go(c.countFigures)
	}
	c.work.Go(c.brakes.tidy)
	c.work.Go(func() { c.departures.run(c.ctx) })
	if c.instances != nil {
		c.work.Go(func() { c.instances.run(c.ctx) })
	}
	c.work.Go(c.watchStrays)
	c.work.Go(func() { c.news.run(c.ctx) })
}

// prepareJoining reads the secrets that joining needs.
func (c *Connector) prepareJoining(dir string) (err error) {
	smtp := c.Config.Identifier.SMTP
	if smtp.PasswordFile != "" {
		if smtp.Password, err = secretFile("network.identifier.smtp.password_file", dir, smtp.PasswordFile); err != nil {
			return err
		}
	}
	c.mail = email.Config{Address: smtp.Address, TLS: email.TLS(smtp.TLS), Username: smtp.Username, Password: smtp.Password, From: smtp.From}
	departed := &c.Config.Departed
	if departed.AdminTokenFile != "" {
		if departed.AdminToken, err = secretFile("network.departed.admin_token_file", dir, departed.AdminTokenFile); err != nil {
			return err
		}
	}
	c.region, err = newRegionGate(&c.Config.Region, dir)
	return err
}

// StopTaking stops taking events from the homeserver and waits, until ctx ends, for those that are being handled.
func (c *Connector) StopTaking(ctx context.Context) error {
	c.taking.Store(false)
	return c.stack.Stop(ctx)
}

// shutdownPatience bounds how long running requests of the gatekeeper are waited for.
const shutdownPatience = 3 * time.Second

// Shutdown ends everything else and closes the database. The framework has disconnected all clients before.
func (c *Connector) Shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownPatience)
	defer cancel()
	var err error
	if c.public != nil {
		if err = c.public.Shutdown(ctx); errors.Is(err, context.DeadlineExceeded) {
			err = c.public.Close() // a long download is cut, and resumed after the start
		}
	}
	if c.figures != nil {
		err = errors.Join(err, c.figures.Close())
	}
	c.cancel()
	c.work.Wait()
	if c.instances != nil {
		err = errors.Join(err, c.instances.shared.Close())
	}
	if c.db != nil {
		err = errors.Join(err, c.db.Close())
	}
	return err
}

// Start implements bridgev2.NetworkConnector.
func (c *Connector) Start(context.Context) error {
	if c.stack == nil {
		return errors.New("connector: start: not attached")
	}
	return nil
}

// GetName implements bridgev2.NetworkConnector. The name is neutral: one bridge serves all gatekeepers.
func (c *Connector) GetName() bridgev2.BridgeName {
	return bridgev2.BridgeName{
		DisplayName:          "Third-party chats",
		NetworkURL:           "https://digital-markets-act.ec.europa.eu",
		NetworkID:            "postern",
		BeeperBridgeType:     "postern",
		DefaultPort:          29340,
		DefaultCommandPrefix: "!postern",
	}
}

// LoginMetadata is what the framework's row of a login carries.
type LoginMetadata struct {
	// Gatekeeper is the profile's name.
	Gatekeeper string `json:"gatekeeper"`
	// NoReadReceipts: the person wants no read receipts, in either direction.
	NoReadReceipts bool `json:"no_read_receipts,omitempty"`
	// Requests is what becomes of people who write for the first time (RequestsConfig.Policy); "" for the installation's choice.
	Requests string `json:"requests,omitempty"`
	// GoneSince is since when the Matrix user seems to be gone, Unix milliseconds; 0 for not.
	GoneSince int64 `json:"gone_since,omitempty"`
	// CalledBack is when somebody who seems to be gone was invited to come back, Unix milliseconds; 0 for not yet.
	CalledBack int64 `json:"called_back,omitempty"`
}

// MessageMetadata is what the framework's row of an outgoing message carries.
type MessageMetadata struct {
	// StanzaIDs are the ids of all parts, in order.
	StanzaIDs []string `json:"stanza_ids,omitempty"`
	// EditOf is the event that this one edits: on the other side an edit is a message of its own, in Matrix it is not.
	EditOf id.EventID `json:"edit_of,omitempty"`
	// Role is what an attachment was meant as.
	Role convert.Role `json:"role,omitempty"`
	// Said is a keyed hash of the words that were sent for it last, edits among them; empty if that is not known, or did not arrive.
	Said string `json:"said,omitempty"`
	// Position: this is where somebody began to share their live location, and all their later positions.
	Position bool `json:"position,omitempty"`
	// Removed: the event was redacted, and the other side still has it.
	Removed bool `json:"removed,omitempty"`
	// Edited is the identity of the last change to an incoming message, see matrixdurable.EditMarker.
	Edited string `json:"edited,omitempty"`
	// OutOfOrder: an incoming message that was shown later than those that came after it.
	OutOfOrder bool `json:"out_of_order,omitempty"`
}

var _ matrixdurable.EditMarker = (*MessageMetadata)(nil)

// EditMark implements matrixdurable.EditMarker.
func (m *MessageMetadata) EditMark() string { return m.Edited }

// SetEditMark implements matrixdurable.EditMarker.
func (m *MessageMetadata) SetEditMark(identity string) { m.Edited = identity }

// GetDBMetaTypes implements bridgev2.NetworkConnector.
func (c *Connector) GetDBMetaTypes() frameworkdb.MetaTypes {
	return frameworkdb.MetaTypes{
		UserLogin: func() any { return &LoginMetadata{} },
		Message:   func() any { return &MessageMetadata{} },
	}
}

// GetConfig implements bridgev2.NetworkConnector.
func (c *Connector) GetConfig() (example string, data any, upgrader up.Upgrader) {
	return exampleConfig, &c.Config, up.SimpleUpgrader(upgradeConfig)
}

// ValidateConfig implements bridgev2.ConfigValidatingNetwork.
func (c *Connector) ValidateConfig() error { return c.Config.prepare() }

// GetBridgeInfoVersion implements bridgev2.NetworkConnector.
func (c *Connector) GetBridgeInfoVersion() (info, capabilities int) { return 1, 2 }

// ValidateUserID implements bridgev2.IdentifierValidatingNetwork.
func (c *Connector) ValidateUserID(id networkid.UserID) bool {
	for _, p := range profile.All() {
		if _, ok := contactOf(p, id); ok {
			return true
		}
	}
	return false
}

// LoadUserLogin implements bridgev2.NetworkConnector. It runs under the framework's global lock and
// reads one row. An account that cannot be used keeps nobody else out.
func (c *Connector) LoadUserLogin(ctx context.Context, login *bridgev2.UserLogin) error {
	account, err := c.db.Accounts().Get(ctx, string(login.ID))
	if err != nil {
		c.log.Err(err).Str("account", string(login.ID)).Msg("Could not load an account")
	}
	if err != nil || account == nil || account.EnlistedAt == 0 {
		login.Client = &brokenClient{connector: c, login: login}
		return nil
	}
	if c.instances.stranger(login.UserMXID) {
		login.Client = &brokenClient{connector: c, login: login, elsewhere: true}
		return nil
	}
	if leaving, err := c.db.Leavings().Get(ctx, account.ID); err != nil || leaving != nil {
		if err != nil {
			c.log.Err(err).Str("account", account.ID).Msg("Could not load an account")
		}
		login.Client = &brokenClient{connector: c, login: login, leaving: leaving != nil}
		return nil
	}
	agreed := c.Config.byName(account.Gatekeeper)
	if agreed == nil {
		c.log.Warn().Str("account", account.ID).Str("gatekeeper", account.Gatekeeper).Msg("Account of a gatekeeper that is switched off")
		login.Client = &brokenClient{connector: c, login: login, off: true}
		return nil
	}
	client, err := c.newClient(login, account, agreed.profile)
	if err != nil {
		c.log.Err(err).Str("account", account.ID).Msg("Could not use the keys of an account")
		login.Client = &brokenClient{connector: c, login: login}
		return nil
	}
	login.Client = client
	return nil
}
