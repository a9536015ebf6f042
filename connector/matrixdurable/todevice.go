package matrixdurable

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/bridgev2/matrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// olmMachine is what the framework's encryption offers through its client's syncer.
type olmMachine interface {
	HandleToDeviceEvent(ctx context.Context, evt *event.Event)
	GetOrFetchDeviceByKey(ctx context.Context, userID id.UserID, key id.IdentityKey) (*id.Device, error)
	HandleDeviceLists(ctx context.Context, lists *mautrix.DeviceLists, since string)
	HandleOTKCounts(ctx context.Context, count *mautrix.OTKCount)
	MarkOlmHashSavePoint(ctx context.Context)
}

// durableCrypto is the framework's encryption with another way for room keys to come in. A homeserver does not repeat
// the to-device messages of a transaction that failed, and drops those that come while the bridge is away, so they are
// fetched by /sync as the bot's device. The framework's own sync loop notes its token before it
// has stored the keys; here the token follows the keys.
type durableCrypto struct {
	matrix.Crypto
	connector *matrix.Connector
	journal   Journal
	log       zerolog.Logger
	ctx       context.Context
	cancel    context.CancelFunc
	ended     chan struct{}
}

// ErrNoMachine means that the framework's encryption has changed its inside. A test of the pinned version sees it first.
var ErrNoMachine = errors.New("matrixdurable: encryption does not offer its machine")

// WrapCrypto makes room keys durable in an initialised and not yet started
// bridge. Nothing happens if encryption is off.
func WrapCrypto(c *matrix.Connector, journal Journal, log zerolog.Logger) {
	if c.Crypto == nil {
		return
	}
	d := &durableCrypto{Crypto: c.Crypto, connector: c, journal: journal, log: log, ended: make(chan struct{})}
	d.ctx, d.cancel = context.WithCancel(log.WithContext(context.Background()))
	c.Crypto = d
}

// Start implements matrix.Crypto; the framework calls it in a goroutine of its own.
func (d *durableCrypto) Start() {
	defer close(d.ended)
	client := d.Crypto.Client()
	machine, ok := client.Syncer.(olmMachine)
	if !ok {
		d.log.Err(ErrNoMachine).Msg("Falling back to the framework's own way for room keys")
		d.Crypto.Start()
		return
	}
	pause := time.Duration(0)
	for d.ctx.Err() == nil {
		if err := d.round(client, machine); err != nil {
			if d.ctx.Err() != nil {
				return
			}
			pause = min(max(pause*2, 100*time.Millisecond), 5*time.Second)
			d.log.Warn().Err(err).Msg("Could not fetch room keys")
			select {
			case <-d.ctx.Done():
			case <-time.After(pause):
			}
			continue
		}
		pause = 0
	}
}

// Stop implements matrix.Crypto.
func (d *durableCrypto) Stop() {
	d.cancel()
	d.Crypto.Stop()
	select {
	case <-d.ended:
	case <-time.After(3 * time.Second): // a round that takes longer is made good for by its token
	}
}

// keysOnly keeps rooms out of the answer.
const keysOnly = `{"presence":{"not_types":["*"]},"account_data":{"not_types":["*"]},"room":{"rooms":[]}}`

// round does one long poll and stores what it brings.
func (d *durableCrypto) round(client *mautrix.Client, machine olmMachine) error {
	name := "to_device/" + client.DeviceID.String()
	since, err := d.journal.Token(d.ctx, name)
	if err != nil {
		return fmt.Errorf("matrixdurable: fetch room keys: %w", err)
	}
	timeout := 30_000
	if since == "" {
		timeout = 0
	}
	resp, err := client.FullSyncRequest(d.ctx, mautrix.ReqSync{
		Timeout: timeout, Since: since, FilterID: keysOnly, SetPresence: event.PresenceOffline,
	})
	if err != nil {
		return fmt.Errorf("matrixdurable: fetch room keys: %w", err)
	}
	if !resp.DeviceLists.IsZero() {
		machine.HandleDeviceLists(d.ctx, &resp.DeviceLists, since)
	}
	for _, evt := range resp.ToDevice.Events {
		if err := d.one(machine, evt); err != nil {
			return err
		}
	}
	machine.HandleOTKCounts(d.ctx, &resp.DeviceOTKCount)
	machine.MarkOlmHashSavePoint(d.ctx)
	if resp.NextBatch == since {
		return nil
	}
	if err = d.journal.SetToken(d.ctx, name, resp.NextBatch); err != nil {
		return fmt.Errorf("matrixdurable: fetch room keys: %w", err)
	}
	return nil
}

// one handles one to-device message. What it changes is one transaction: the Olm session must not step on without the room key that the
// message has brought, because the message does not open a second time.
func (d *durableCrypto) one(machine olmMachine, evt *event.Event) (err error) {
	defer func() {
		if p := recover(); p != nil {
			d.log.Error().Str("panic", fmt.Sprintf("%T", p)).Bytes(zerolog.ErrorStackFieldName, debug.Stack()).
				Msg("Panic while handling a to-device message")
			err = nil
		}
	}()
	evt.Type.Class = event.ToDeviceEventType
	evt.Mautrix.EventSource = event.SourceToDevice
	if e := evt.Content.ParseRaw(evt.Type); e != nil {
		d.log.Debug().Str("event_type", evt.Type.Type).Msg("Left out a to-device message that cannot be read")
		return nil
	}
	content, ok := evt.Content.Parsed.(*event.EncryptedEventContent)
	if !ok {
		machine.HandleToDeviceEvent(d.ctx, evt)
		return nil
	}
	// The sender's device is looked up now, so that the transaction does not wait for the network.
	if _, e := machine.GetOrFetchDeviceByKey(d.ctx, evt.Sender, content.SenderKey); e != nil {
		d.log.Warn().Err(e).Msg("Could not look up the sender of a to-device message")
	}
	err = d.connector.Bridge.DB.DoTxn(d.ctx, nil, func(ctx context.Context) error {
		machine.HandleToDeviceEvent(ctx, evt)
		return nil
	})
	if err != nil {
		return fmt.Errorf("matrixdurable: store room key: %w", err)
	}
	return nil
}
