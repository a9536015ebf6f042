package matrixdurable

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/matrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/killpoint"
	"postern/connector/words"
)

// ErrTryAgain is returned (wrapped or not) by a network connector that could not take a Matrix
// event over because something of ours is unavailable for now. The event is handled again later
// and nobody is told.
var ErrTryAgain = errors.New("matrixdurable: not taken over, try again")

// Framework hands journalled events to bridgev2 and learns what became of them. It implements
// Handler.
type Framework struct {
	matrix  *matrix.Connector
	bridge  *bridgev2.Bridge
	journal Journal
	notices *Notices
	refuse  Refuse
	speak   func(user id.UserID) words.Words
	carry   func(evt *event.Event)
	member  func(ctx context.Context, evt *event.Event) (taken bool, err error)
	known   func(name string) bool
	log     zerolog.Logger
	// complete ends a command's entry.
	complete func(seq int64)

	mu       sync.Mutex
	again    map[string]bool      // what is being handled (handling) -> to be handled again
	later    map[id.EventID]bool  // events being handled whose success the connector tells
	commands map[id.EventID]int64 // running commands -> journal place
	hopeless map[id.SessionID]time.Time
}

var _ Handler = (*Framework)(nil)

// FrameworkConfig says what a Framework needs.
type FrameworkConfig struct {
	// Matrix is the framework's own Matrix connector, initialised.
	Matrix  *matrix.Connector
	Journal Journal
	Notices *Notices
	// Refuse may be nil.
	Refuse Refuse
	// Language gives the words for a Matrix user; nil for English.
	Language func(user id.UserID) words.Words
	// Carry, if not nil, may turn an event that came into a chat, of a kind that the framework passes over, into one that it hands
	// to the network connector.
	Carry func(evt *event.Event)
	// Member, if not nil, sees each membership event, before the framework and whoever sent it. taken keeps it from the framework; an error has it
	// handled again later.
	Member func(ctx context.Context, evt *event.Event) (taken bool, err error)
	// Known, if not nil, says whether there is a command of that name, in lower case: what else is typed, and answers no question, is handed to the
	// command UnknownCommand.
	Known func(name string) bool
	Log   zerolog.Logger
}

// Refuse puts into words, for the person who sent it, why an event was not bridged. cause is the framework's error, or nil for
// an event of a kind that the framework passes over in silence. "" leaves it at the framework's words, or at silence.
type Refuse func(evt *bridgev2.MessageStatusEventInfo, cause error) string

// NewFramework makes a Framework and puts it between the parts of an initialised and not yet started bridge: its command
// processor and its message status go through us from then on.
func NewFramework(cfg FrameworkConfig) *Framework {
	f := &Framework{
		matrix: cfg.Matrix, bridge: cfg.Matrix.Bridge, journal: cfg.Journal, notices: cfg.Notices, refuse: cfg.Refuse, carry: cfg.Carry, member: cfg.Member, known: cfg.Known, log: cfg.Log,
		again: map[string]bool{}, later: map[id.EventID]bool{}, commands: map[id.EventID]int64{}, hopeless: map[id.SessionID]time.Time{},
	}
	// Handlers run in the dispatcher's own goroutine, which knows by that when they have ended.
	f.matrix.EventProcessor.ExecSyncWarnTime = 0
	f.matrix.EventProcessor.ExecSyncTimeout = 0
	if f.speak = cfg.Language; f.speak == nil {
		f.speak = func(id.UserID) words.Words { return words.For(words.Default) }
	}
	if f.refuse == nil {
		f.refuse = func(*bridgev2.MessageStatusEventInfo, error) string { return "" }
	}
	f.wrapCommands()
	f.bridge.Matrix = &statusConnector{Connector: f.matrix, framework: f}
	return f
}

// SetComplete names the function that ends a command's entry: Dispatcher.Complete.
func (f *Framework) SetComplete(complete func(seq int64)) { f.complete = complete }

// Own says whether a user is the bot or a ghost.
func (f *Framework) Own(user string) bool {
	return id.UserID(user) == f.matrix.Bot.UserID || f.bridge.IsGhostMXID(id.UserID(user))
}

// Handle implements Handler.
func (f *Framework) Handle(ctx context.Context, e Entry) Outcome {
	killpoint.Hit(killpoint.OutHanded)
	evt := f.parse(e)
	if evt == nil {
		return Done
	} else if evt.Content.Parsed == nil && handled[evt.Type] {
		return f.tell(ctx, "unreadable", evt, f.speak(evt.Sender).Text("notice.unreadable"))
	}
	ctx = f.log.With().Stringer("event_id", evt.ID).Str("event_type", evt.Type.Type).Logger().WithContext(ctx)
	if evt.Type.IsState() {
		mautrix.UpdateStateStore(ctx, f.matrix.AS.StateStore, evt)
	}
	if f.member != nil && evt.Type == event.StateMember {
		if taken, err := f.member(ctx, evt); err != nil {
			f.log.Warn().Err(err).Stringer("event_id", evt.ID).Msg("Could not deal with somebody who came into a room, or went")
			return Again
		} else if taken {
			return Done
		}
	}
	if evt.Type == event.EventEncrypted {
		decrypted, outcome := f.decrypt(ctx, evt)
		if decrypted == nil {
			return outcome
		}
		evt = decrypted
	}
	return f.dispatch(ctx, e.Seq, evt)
}

// parse makes the framework's event, as its own transaction handler would; nil
// if it cannot be read at all.
func (f *Framework) parse(e Entry) *event.Event {
	evt := &event.Event{}
	if err := json.Unmarshal(e.Body, evt); err != nil {
		f.log.Warn().Int64("seq", e.Seq).Msg("Left out an event that cannot be read")
		return nil
	}
	evt.RoomID = id.RoomID(e.Room)
	evt.Mautrix.ReceivedAt = time.Now()
	switch {
	case e.Kind == KindEphemeral:
		evt.Mautrix.EventSource = event.SourceEphemeral
		evt.Type.Class = event.EphemeralEventType
	case evt.StateKey != nil:
		evt.Mautrix.EventSource = event.SourceTimeline | event.SourceJoin
		evt.Type.Class = event.StateEventType
	default:
		evt.Mautrix.EventSource = event.SourceTimeline
		evt.Type.Class = event.MessageEventType
	}
	if err := evt.Content.ParseRaw(evt.Type); err != nil && !errors.Is(err, event.ErrUnsupportedContentType) {
		f.log.Warn().Stringer("event_id", evt.ID).Str("event_type", evt.Type.Type).Msg("Event has content of an unexpected form")
		if evt.Content.Parsed == nil && !handled[evt.Type] {
			return nil
		}
	}
	return evt
}

// dispatch gives an event to the framework's handlers and waits for them.
func (f *Framework) dispatch(ctx context.Context, seq int64, evt *event.Event) Outcome {
	command, err := f.isCommand(ctx, evt)
	if err != nil {
		f.log.Err(err).Stringer("event_id", evt.ID).Msg("Could not tell whether an event is a command")
		return Again
	}
	if command {
		// From here on it counts as given to its handler: running it twice could enlist somebody twice.
		if err := f.journal.Hand(ctx, seq); err != nil {
			f.log.Err(err).Stringer("event_id", evt.ID).Msg("Could not mark a command as handed over")
			return Again
		}
		f.mu.Lock()
		f.commands[evt.ID] = seq
		f.mu.Unlock()
		f.matrix.EventProcessor.Dispatch(ctx, evt)
		return Handed
	}
	if err = f.carried(ctx, evt); err != nil {
		f.log.Err(err).Stringer("event_id", evt.ID).Msg("Could not tell whether an event came into a chat")
		return Again
	}
	key := handling(evt)
	f.mu.Lock()
	f.again[key] = false
	f.mu.Unlock()
	// What the framework sends while it handles the event (a welcome, say) is repeated with the event.
	f.matrix.EventProcessor.Dispatch(ctx, evt)
	f.mu.Lock()
	again := f.again[key]
	delete(f.again, key)
	delete(f.later, evt.ID)
	f.mu.Unlock()
	if again || f.bridge.IsStopping() {
		return Again
	}
	return f.passedOver(ctx, evt)
}

// carried gives an event in a chat to Carry.
func (f *Framework) carried(ctx context.Context, evt *event.Event) error {
	if f.carry == nil || evt.Type.Class != event.MessageEventType || evt.Type == event.EventMessage || f.Own(evt.Sender.String()) {
		return nil
	}
	portal, err := f.bridge.GetPortalByMXID(ctx, evt.RoomID)
	if err == nil && portal != nil {
		f.carry(evt)
	}
	return err
}

// handled are the kinds of room events that the framework answers for itself.
var handled = map[event.Type]bool{
	event.EventMessage: true, event.EventSticker: true, event.EventReaction: true, event.EventRedaction: true,
	event.EventUnstablePollStart: true, event.EventUnstablePollResponse: true, event.EventEncrypted: true,
}

// passedOver tells the sender of an event that the framework passes over in silence, if there is something to
// tell.
func (f *Framework) passedOver(ctx context.Context, evt *event.Event) Outcome {
	if evt.Type.Class != event.MessageEventType || handled[evt.Type] || f.Own(evt.Sender.String()) {
		return Done
	}
	words := f.refuse(bridgev2.StatusEventInfoFromEvent(evt), nil)
	if words == "" {
		return Done
	}
	return f.tell(ctx, "refused", evt, words)
}

// tell stores a notice for the sender of an event, if its room is a chat.
func (f *Framework) tell(ctx context.Context, kind string, evt *event.Event, words string) Outcome {
	portal, err := f.bridge.GetPortalByMXID(ctx, evt.RoomID)
	if err == nil && portal != nil && !f.Own(evt.Sender.String()) {
		err = f.notices.Reply(ctx, kind, evt.RoomID, evt.ID, evt.Sender, "⚠️ "+words)
	}
	if err != nil {
		f.log.Err(err).Stringer("event_id", evt.ID).Msg("Could not store a notice")
		return Again
	}
	return Done
}

// handling names an event that is being handled: by its id, or by its room if it is receipts or typing, of which a room has one at a
// time each.
func handling(evt *event.Event) string {
	if evt.ID != "" {
		return evt.ID.String()
	}
	return evt.Type.Type + " " + evt.RoomID.String()
}

// tryAgain asks for an event that is being handled to be handled again.
func (f *Framework) tryAgain(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, running := f.again[key]; running {
		f.again[key] = true
	}
}

// ReceiptsAgain asks for the read receipts that are being handled in a room to be handled again: the framework only logs the error
// of a connector that could not take one over.
func (f *Framework) ReceiptsAgain(room id.RoomID) {
	f.tryAgain(handling(&event.Event{Type: event.EphemeralEventReceipt, RoomID: room}))
}

// TellLater says that the success of an event which is being handled is told by the connector. The framework tells the success of
// edits, reactions and redactions when their handlers return, when nothing has been sent yet.
func (f *Framework) TellLater(evt id.EventID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, running := f.again[evt.String()]; running {
		f.later[evt] = true
	}
}

func (f *Framework) toldLater(evt id.EventID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.later[evt]
}

// isCommand says whether the framework will take an event for a command, by its own rule.
func (f *Framework) isCommand(ctx context.Context, evt *event.Event) (bool, error) {
	if evt.Type != event.EventMessage || f.Own(evt.Sender.String()) {
		return false, nil
	}
	sender, err := f.bridge.GetUserByMXID(ctx, evt.Sender)
	if err != nil || sender == nil {
		return false, err
	}
	if !sender.Permissions.SendEvents || !sender.Permissions.Commands {
		return false, nil
	}
	if !evt.Mautrix.WasEncrypted && f.matrix.Config.Encryption.Require {
		return false, nil // refused before it gets that far
	}
	body := evt.Content.AsMessage().Body
	return strings.HasPrefix(body, f.bridge.Config.CommandPrefix) || evt.RoomID == sender.ManagementRoom, nil
}

// GiveUp implements Handler: the person is told that their message was not sent on.
func (f *Framework) GiveUp(ctx context.Context, e Entry) Outcome {
	evt := f.parse(e)
	if evt == nil || evt.ID == "" {
		return Done
	}
	return f.tell(ctx, "fault", evt, f.speak(evt.Sender).Text("notice.fault"))
}

// Cut implements Handler: the person is asked to repeat a command that a restart has cut off, since
// nobody knows how far it came.
func (f *Framework) Cut(ctx context.Context, e Entry) Outcome {
	evt := f.parse(e)
	if evt == nil {
		return Done
	}
	err := f.notices.Reply(ctx, "cut", evt.RoomID, evt.ID, evt.Sender, f.speak(evt.Sender).Text("notice.cut"))
	if err != nil {
		f.log.Err(err).Stringer("event_id", evt.ID).Msg("Could not store a notice")
		return Again
	}
	return Done
}
