package matrixdurable

import (
	"context"
	"errors"
	"time"

	"maunium.net/go/mautrix/bridgev2/matrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// How long a message waits for its room key: at first silently, then after asking the sender's device
// for it.
const (
	keyPatience      = 5 * time.Second
	askedKeyPatience = 20 * time.Second
	// hopelessFor is how long messages under a key that did not come are not waited for again.
	hopelessFor = 10 * time.Minute
)

// decrypt returns the event inside an encrypted one, or nil and the outcome. The framework's own handler waits in
// a goroutine, so that later messages overtake and nobody knows when it has ended; here the room waits, once for each key.
func (f *Framework) decrypt(ctx context.Context, evt *event.Event) (*event.Event, Outcome) {
	if f.Own(evt.Sender.String()) || !f.matrix.Config.Bridge.Permissions.Get(evt.Sender).SendEvents {
		return nil, Done
	}
	content, ok := evt.Content.Parsed.(*event.EncryptedEventContent)
	if !ok {
		return nil, Done
	}
	crypto := f.matrix.Crypto
	if crypto == nil {
		return nil, f.undecryptable(ctx, evt, "undecryptable.no-encryption")
	}
	decrypted, err := crypto.Decrypt(ctx, evt)
	if errors.Is(err, matrix.NoSessionFound) && !f.isHopeless(content.SessionID) {
		if f.awaitKey(ctx, evt, content) {
			decrypted, err = crypto.Decrypt(ctx, evt)
		} else if ctx.Err() != nil {
			return nil, Again
		}
	}
	switch {
	case err == nil:
	case errors.Is(err, matrix.NoSessionFound):
		f.setHopeless(content.SessionID)
		return nil, f.undecryptable(ctx, evt, "undecryptable.no-key")
	case errors.Is(err, matrix.UnknownMessageIndex):
		return nil, f.undecryptable(ctx, evt, "undecryptable.later-key")
	case errors.Is(err, matrix.DuplicateMessageIndex):
		return nil, f.undecryptable(ctx, evt, "undecryptable.used-key")
	case ctx.Err() != nil:
		return nil, Again
	default:
		return nil, f.undecryptable(ctx, evt, "undecryptable.failed")
	}
	if decrypted.Mautrix.TrustState < f.matrix.Config.Encryption.VerificationLevels.Send {
		return nil, f.undecryptable(ctx, evt, "undecryptable.unverified")
	}
	return decrypted, Done
}

// awaitKey waits for an event's room key, and asks the sender's device for it
// if it does not come by itself.
func (f *Framework) awaitKey(ctx context.Context, evt *event.Event, content *event.EncryptedEventContent) bool {
	crypto := f.matrix.Crypto
	if crypto.WaitForSession(ctx, evt.RoomID, content.SenderKey, content.SessionID, keyPatience) {
		return true
	}
	if ctx.Err() != nil {
		return false
	}
	//nolint:staticcheck // deprecated as a proof of who sent; here it only says whom to ask
	crypto.RequestSession(ctx, evt.RoomID, content.SenderKey, content.SessionID, evt.Sender, content.DeviceID)
	return crypto.WaitForSession(ctx, evt.RoomID, content.SenderKey, content.SessionID, askedKeyPatience)
}

// undecryptable tells the sender that an event was not sent on. reason is the key of the words.
func (f *Framework) undecryptable(ctx context.Context, evt *event.Event, reason string) Outcome {
	f.log.Warn().Stringer("event_id", evt.ID).Str("reason", reason).Msg("Encrypted event not bridged")
	err := f.notices.Reply(ctx, "undecryptable", evt.RoomID, evt.ID, evt.Sender, f.speak(evt.Sender).Text(reason))
	if err != nil {
		f.log.Err(err).Stringer("event_id", evt.ID).Msg("Could not store a notice")
		return Again
	}
	return Done
}

func (f *Framework) isHopeless(session id.SessionID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	since, known := f.hopeless[session]
	return known && time.Since(since) < hopelessFor
}

func (f *Framework) setHopeless(session id.SessionID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.hopeless) > 1000 {
		clear(f.hopeless) // costs some waiting, nothing else
	}
	f.hopeless[session] = time.Now()
}
