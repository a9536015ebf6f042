package matrixdurable

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/bridgev2/matrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/words"
)

// StackConfig says what a Stack needs.
type StackConfig struct {
	// Matrix is the framework's Matrix connector, initialised and not started, with NoServer set.
	Matrix *matrix.Connector
	// Journal and Notices are the database.
	Journal Journal
	Notices NoticeStore
	// AliasPrefix begins the local parts of room aliases; see Transport.
	AliasPrefix string
	// Refuse, Language, Carry, Member and Known may be nil; see FrameworkConfig.
	Refuse   Refuse
	Language func(user id.UserID) words.Words
	Carry    func(evt *event.Event)
	Member   func(ctx context.Context, evt *event.Event) (taken bool, err error)
	Known    func(name string) bool
	// Alive may be nil; see ListenerConfig.
	Alive func(user string)
	// Well may be nil; see CatchUpConfig.
	Well func()
	// Health may be nil; see ListenerConfig.
	Health http.Handler
	// Age is the time by which what is kept grows too old; nil means time.Now.
	Age func() time.Time
	// Moved is as in Transport.
	Moved bool
	// Elsewhere may be nil; see Notices.
	Elsewhere func(ctx context.Context, n Notice) (*Notice, error)
	Log       zerolog.Logger
}

// Stack is all pieces of this package put around one bridge.
type Stack struct {
	Notices *Notices

	cfg        StackConfig
	framework  *Framework
	dispatcher *Dispatcher
	catchUp    *CatchUp
	listener   *Listener
	ctx        context.Context
	cancel     context.CancelFunc
	work       sync.WaitGroup
}

// errBuffer is returned when the configuration would hide what becomes of remote events.
var errBuffer = errors.New("matrixdurable: bridge.portal_event_buffer has to be 0, and bridge.async_events and appservice.async_transactions off")

// NewStack puts the pieces around a bridge after its initialisation and before its start.
func NewStack(cfg StackConfig) (*Stack, error) {
	if cfg.Age == nil {
		cfg.Age = time.Now
	}
	m := cfg.Matrix
	if m.Bridge.Config.PortalEventBuffer != 0 || m.Bridge.Config.AsyncEvents || m.Config.AppService.AsyncTransactions {
		return nil, errBuffer
	}
	m.Config.AppService.NoServer = true
	s := &Stack{cfg: cfg}
	s.ctx, s.cancel = context.WithCancel(cfg.Log.WithContext(context.Background()))
	m.AS.HTTPClient.Transport = &Transport{
		Base: m.AS.HTTPClient.Transport, AliasPrefix: cfg.AliasPrefix, ServerName: m.Config.Homeserver.Domain,
		OnTrouble: func() { s.catchUp.Soon() }, Moved: cfg.Moved, Log: cfg.Log,
	}
	s.Notices = NewNotices(cfg.Notices, func(ctx context.Context, room id.RoomID, content *event.Content) error {
		var err error
		if status, ok := content.Parsed.(*event.BeeperMessageStatusEventContent); ok {
			_, err = m.Bot.SendMessageEvent(ctx, room, event.BeeperMessageStatus, status)
		} else {
			_, err = m.Bridge.Bot.SendMessage(ctx, room, event.EventMessage, content, nil)
		}
		return err
	}, cfg.Log)
	s.Notices.Elsewhere = cfg.Elsewhere
	s.framework = NewFramework(FrameworkConfig{Matrix: m, Journal: cfg.Journal, Notices: s.Notices, Refuse: cfg.Refuse, Language: cfg.Language, Carry: cfg.Carry, Member: cfg.Member, Known: cfg.Known, Log: cfg.Log})
	s.dispatcher = NewDispatcher(DispatcherConfig{
		Journal: cfg.Journal, Handler: s.framework, Log: cfg.Log,
		Check: func(ctx context.Context) { s.catchUp.Check(ctx) },
	})
	s.framework.SetComplete(s.dispatcher.Complete)
	order := new(sync.Mutex)
	s.catchUp = NewCatchUp(CatchUpConfig{
		Journal: cfg.Journal, Dispatcher: s.dispatcher, Ask: s.ask, Own: s.framework.Own, Order: order, Well: cfg.Well,
		Passed: s.framework.tellPassed, Log: cfg.Log,
	})
	WrapCrypto(m, cfg.Journal, cfg.Log)
	s.listener = NewListener(ListenerConfig{
		Token: m.Config.AppService.HSToken, Journal: cfg.Journal, Sink: s.dispatcher, Own: s.framework.Own, Alive: cfg.Alive,
		Order: order, Fallback: m.AS.Router, Health: cfg.Health, Log: cfg.Log,
	})
	return s, nil
}

// ReceiptsAgain is Framework.ReceiptsAgain.
func (s *Stack) ReceiptsAgain(room id.RoomID) { s.framework.ReceiptsAgain(room) }

// TellLater is Framework.TellLater.
func (s *Stack) TellLater(evt id.EventID) { s.framework.TellLater(evt) }

// ask does a request of CatchUp as the bot.
func (s *Stack) ask(ctx context.Context, path string, query url.Values, into any) error {
	client := s.cfg.Matrix.Bot.Client
	query.Set("user_id", client.UserID.String())
	target := client.HomeserverURL.JoinPath(path)
	target.RawQuery = query.Encode()
	_, err := client.MakeFullRequest(ctx, mautrix.FullRequest{
		Method: http.MethodGet, URL: target.String(), ResponseJSON: into, MaxAttempts: 1,
	})
	return err
}

// Listen opens the private listener, which journals from then on. It comes before the
// framework's start, because that makes the homeserver call us. failed is called if the listener
// ends by itself.
func (s *Stack) Listen(ctx context.Context, failed func(error)) (net.Addr, error) {
	if err := s.dispatcher.Load(ctx); err != nil {
		return nil, err
	}
	host := s.cfg.Matrix.Config.AppService.Hostname
	socket, err := Listen(host, s.cfg.Matrix.Config.AppService.Port)
	if err != nil {
		return nil, fmt.Errorf("matrixdurable: listen: %w", err)
	}
	s.work.Go(func() {
		if err := s.listener.Serve(socket); err != nil {
			failed(err)
		}
	})
	return socket.Addr(), nil
}

// Run hands events on from now; it comes after the framework's start.
func (s *Stack) Run() {
	s.work.Go(func() { s.Notices.Run(s.ctx) })
	s.work.Go(s.purge)
	// What the homeserver has forgotten is put in its place before anything is handled.
	s.dispatcher.Hold()
	s.dispatcher.Start()
	s.work.Go(func() {
		first, cancel := context.WithTimeout(s.ctx, s.dispatcher.cfg.CheckPatience)
		s.catchUp.Check(first)
		cancel()
		s.dispatcher.Release()
		s.catchUp.Run(s.ctx)
	})
}

// Stop stops taking and handing on. It comes before the framework's stop.
func (s *Stack) Stop(ctx context.Context) error {
	err := s.listener.Shutdown(ctx)
	err = errors.Join(err, s.dispatcher.Stop(ctx))
	s.cancel()
	s.work.Wait()
	return err
}

// purge forgets what no repetition can bring back any more.
func (s *Stack) purge() {
	tick := time.NewTicker(6 * time.Hour)
	defer tick.Stop()
	for {
		if err := s.cfg.Journal.Purge(s.ctx, s.cfg.Age().Add(-KeepFinished)); err != nil && s.ctx.Err() == nil {
			s.cfg.Log.Err(err).Msg("Could not purge the journal")
		}
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
	}
}
