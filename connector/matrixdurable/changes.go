package matrixdurable

import (
	"context"
	"errors"
	"fmt"
	"time"

	"maunium.net/go/mautrix/bridgev2"
	frameworkdb "maunium.net/go/mautrix/bridgev2/database"
	"maunium.net/go/mautrix/bridgev2/networkid"
	"maunium.net/go/mautrix/bridgev2/simplevent"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// ErrNoTarget says that Matrix does not have the message that a reaction, an edit or a removal is about, or has it from somebody
// else. Nothing was sent.
var ErrNoTarget = errors.New("matrixdurable: deliver: no such message")

// Change is what reactions, edits and removals have in common: something that happens to a message. After a crash
// the same change is handed over again, and the framework's tables say what of it is done.
type Change struct {
	// Portal is the chat and Sender who does it.
	Portal networkid.PortalKey
	Sender bridgev2.EventSender
	// Target is the message that it happens to.
	Target networkid.MessageID
	// Timestamp is when it happened.
	Timestamp time.Time
	// Identity stands for this change and no other (see Identity).
	Identity string
	// Uncertain and Settled are those of Sending.
	Uncertain bool
	Settled   func(ctx context.Context, event id.EventID) bool
}

// meta is the change as an event of the framework, whose requests are sent as parts.
func (c *Change) meta(kind bridgev2.RemoteEventType, parts ...string) simplevent.EventMeta {
	sending := &Sending{Parts: parts, Uncertain: c.Uncertain, Settled: c.Settled}
	return simplevent.EventMeta{
		Type: kind, PortalKey: c.Portal, Sender: c.Sender, Timestamp: c.Timestamp,
		MutateContextFunc: func(ctx context.Context) context.Context { return WithSending(ctx, sending) },
	}
}

// outcome is the error for a change that the framework has handled and its tables do not show.
func outcome(result bridgev2.EventHandlingResult) error {
	switch {
	case result.Error != nil && !errors.Is(result.Error, bridgev2.ErrHandlerBackgrounded):
		return fmt.Errorf("matrixdurable: deliver: %w", result.Error)
	case result.Error == nil && result.Success && result.Ignored:
		return ErrIgnored
	}
	return ErrUnknown
}

// React makes a person's one reaction to a message be emoji, "" for none. It returns nil if and only if Matrix shows that;
// the framework's reaction table is asked, not its answer. An earlier reaction is taken back in a step of its own,
// because the framework would forget it even if the homeserver refuses to redact it.
//
// Errors: ErrNoTarget, and those of Deliver.
func React(ctx context.Context, login *bridgev2.UserLogin, c Change, emoji string) error {
	db := login.Bridge.DB
	target, err := db.Message.GetFirstPartByID(ctx, c.Portal.Receiver, c.Target)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	} else if target == nil {
		return ErrNoTarget
	}
	have, err := reactionOf(ctx, login, c, target)
	if err != nil {
		return err
	} else if have == emoji {
		return nil
	}
	if have != "" {
		result := login.QueueRemoteEvent(&simplevent.Reaction{
			EventMeta: c.meta(bridgev2.RemoteEventReactionRemove, c.Identity), TargetMessage: c.Target,
		})
		if left, err := reactionOf(ctx, login, c, target); err != nil {
			return err
		} else if left != "" {
			return outcome(result)
		}
	}
	if emoji == "" {
		return nil
	}
	result := login.QueueRemoteEvent(&simplevent.Reaction{
		EventMeta: c.meta(bridgev2.RemoteEventReaction, c.Identity), TargetMessage: c.Target, Emoji: emoji,
	})
	if now, err := reactionOf(ctx, login, c, target); err != nil {
		return err
	} else if now == emoji || codeOf(result.Error) == "M_DUPLICATE_ANNOTATION" {
		return nil
	}
	return outcome(result)
}

// reactionOf is the sender's reaction to a message according to the framework's table, "" for none.
func reactionOf(ctx context.Context, login *bridgev2.UserLogin, c Change, target *frameworkdb.Message) (string, error) {
	row, err := login.Bridge.DB.Reaction.GetByID(ctx, c.Portal.Receiver, target.ID, target.PartID, c.Sender.Sender, "")
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnknown, err)
	} else if row == nil {
		return "", nil
	}
	return row.Emoji, nil
}

// EditMarker is metadata of the framework's message rows that remembers the last change made to the row's event.
type EditMarker interface {
	// EditMark is the identity that SetEditMark has noted, "" for none.
	EditMark() string
	SetEditMark(identity string)
}

func markOf(row *frameworkdb.Message) string {
	if m, ok := row.Metadata.(EditMarker); ok {
		return m.EditMark()
	}
	return ""
}

// ErrNoMarker: the network connector's message metadata is not an EditMarker.
var errNoMarker = errors.New("matrixdurable: edit: message metadata without a mark")

// Edit makes parts the content of a message. Parts have the ids under which the framework knows them, the first that of the
// message's first part, and metadata that is an EditMarker. It returns nil if and only if Matrix has all of it: each part's
// row then bears the change's mark. Parts that are not named stay as they are (keep), or are redacted first.
//
// Errors: ErrNoTarget, also if the message is somebody else's, and those of Deliver.
func Edit(ctx context.Context, login *bridgev2.UserLogin, c Change, parts []*bridgev2.ConvertedMessagePart, keep bool) error {
	rows, err := rowsOf(ctx, login, c)
	if err != nil {
		return err
	}
	intent, former, err := author(ctx, login, c, rows)
	if err != nil {
		return err
	} else if former {
		return ErrFormer
	}
	if edited(rows, parts, c.Identity, keep) {
		return nil
	}
	wanted := make(map[networkid.PartID]bool, len(parts))
	sent := make([]string, 0, len(parts))
	for _, p := range parts {
		wanted[p.ID] = true
		marker, ok := p.DBMetadata.(EditMarker)
		if !ok {
			return errNoMarker
		}
		marker.SetEditMark(c.Identity)
	}
	for _, row := range rows {
		if wanted[row.PartID] || keep {
			continue
		}
		if err := redactRow(ctx, login, c, intent, row); err != nil {
			return err
		} else if err = login.Bridge.DB.Message.Delete(ctx, row.RowID); err != nil {
			return fmt.Errorf("%w: %w", ErrUnknown, err)
		}
	}
	for _, p := range inOrder(rows, parts) {
		sent = append(sent, Identity(c.Identity, string(p.ID)))
	}
	result := login.QueueRemoteEvent(&simplevent.Message[[]*bridgev2.ConvertedMessagePart]{
		EventMeta: c.meta(bridgev2.RemoteEventEdit, sent...), Data: parts, TargetMessage: c.Target, ID: c.Target,
		ConvertEditFunc: func(_ context.Context, _ *bridgev2.Portal, _ bridgev2.MatrixAPI, existing []*frameworkdb.Message, parts []*bridgev2.ConvertedMessagePart) (*bridgev2.ConvertedEdit, error) {
			return convertedEdit(existing, parts, c.Identity), nil
		},
	})
	if rows, err = rowsOf(ctx, login, c); err != nil {
		return err
	} else if edited(rows, parts, c.Identity, keep) {
		return nil
	}
	return outcome(result)
}

// edited says whether each part has a row with that mark.
func edited(rows []*frameworkdb.Message, parts []*bridgev2.ConvertedMessagePart, identity string, keep bool) bool {
	marks := make(map[networkid.PartID]string, len(rows))
	for _, row := range rows {
		marks[row.PartID] = markOf(row)
	}
	for _, p := range parts {
		if marks[p.ID] != identity {
			return false
		}
	}
	return keep || len(rows) == len(parts)
}

// inOrder are the parts as the framework sends them: those that change first, then those that are new.
func inOrder(rows []*frameworkdb.Message, parts []*bridgev2.ConvertedMessagePart) []*bridgev2.ConvertedMessagePart {
	have := make(map[networkid.PartID]bool, len(rows))
	for _, row := range rows {
		have[row.PartID] = true
	}
	var changed, added []*bridgev2.ConvertedMessagePart
	for _, p := range parts {
		if have[p.ID] {
			changed = append(changed, p)
		} else {
			added = append(added, p)
		}
	}
	return append(changed, added...)
}

// convertedEdit puts parts in place of a message's rows.
func convertedEdit(rows []*frameworkdb.Message, parts []*bridgev2.ConvertedMessagePart, identity string) *bridgev2.ConvertedEdit {
	byPart := make(map[networkid.PartID]*frameworkdb.Message, len(rows))
	for _, row := range rows {
		byPart[row.PartID] = row
	}
	edit := &bridgev2.ConvertedEdit{}
	for _, p := range parts {
		row := byPart[p.ID]
		if row == nil {
			if edit.AddedParts == nil {
				edit.AddedParts = &bridgev2.ConvertedMessage{}
			}
			edit.AddedParts.Parts = append(edit.AddedParts.Parts, p)
			continue
		}
		row.EditCount++
		if m, ok := row.Metadata.(EditMarker); ok {
			m.SetEditMark(identity) // stored by the framework once the part is sent
		}
		edit.ModifiedParts = append(edit.ModifiedParts, &bridgev2.ConvertedEditPart{
			Part: row, Type: p.Type, Content: p.Content, Extra: p.Extra,
		})
	}
	return edit
}

// Remove redacts a message and then forgets it. Nil means that the homeserver has redacted every part. The framework's own
// way forgets the message even if the homeserver was not reached.
//
// Errors: ErrNoTarget, also for a message that was removed before, and those of Deliver.
func Remove(ctx context.Context, login *bridgev2.UserLogin, c Change) error {
	rows, err := rowsOf(ctx, login, c)
	if err != nil {
		return err
	}
	intent, former, err := author(ctx, login, c, rows)
	if err != nil {
		return err
	} else if former {
		intent = login.Bridge.Bot
	}
	for _, row := range rows {
		if err := redactRow(ctx, login, c, intent, row); err != nil {
			return err
		}
	}
	if err := login.Bridge.DB.Message.DeleteAllParts(ctx, c.Portal.Receiver, c.Target); err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return nil
}

// rowsOf are the framework's rows of the target, ErrNoTarget if there are none.
func rowsOf(ctx context.Context, login *bridgev2.UserLogin, c Change) ([]*frameworkdb.Message, error) {
	rows, err := login.Bridge.DB.Message.GetAllPartsByID(ctx, c.Portal.Receiver, c.Target)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	} else if len(rows) == 0 {
		return nil, ErrNoTarget
	}
	return rows, nil
}

// ErrFormer says that the message was sent by the ghost that the sender had before the chat came from another instance. Nobody else can edit it.
var ErrFormer = errors.New("matrixdurable: edit: the event is of a former ghost's")

// author is the sender's way into Matrix, ErrNoTarget if the rows' events are not that sender's. former: they are of the ghost that the sender had
// at another instance of the bridge.
func author(ctx context.Context, login *bridgev2.UserLogin, c Change, rows []*frameworkdb.Message) (intent bridgev2.MatrixAPI, former bool, err error) {
	portal, err := login.Bridge.GetExistingPortalByKey(ctx, c.Portal)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrUnknown, err)
	} else if portal == nil || portal.MXID == "" {
		return nil, false, ErrNoTarget
	}
	intent, ok := portal.GetIntentFor(ctx, c.Sender, login, bridgev2.RemoteEventMessageRemove)
	if !ok {
		return nil, false, fmt.Errorf("%w: %w", ErrUnknown, bridgev2.ErrFailedToGetIntent)
	}
	for _, row := range rows {
		switch {
		case row.SenderMXID == intent.GetMXID():
		case row.SenderID == c.Sender.Sender && !c.Sender.IsFromMe && row.SenderMXID != login.UserMXID && !login.Bridge.IsGhostMXID(row.SenderMXID):
			former = true
		default:
			return nil, false, ErrNoTarget
		}
	}
	return intent, former, nil
}

// redactRow redacts the event of one part. A repetition redacts it once more at worst, which nobody sees.
func redactRow(ctx context.Context, login *bridgev2.UserLogin, c Change, intent bridgev2.MatrixAPI, row *frameworkdb.Message) error {
	if row.HasFakeMXID() {
		return nil
	}
	portal, err := login.Bridge.GetExistingPortalByKey(ctx, c.Portal)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	} else if portal == nil || portal.MXID == "" {
		return ErrNoTarget
	}
	ctx = WithSending(ctx, &Sending{Parts: []string{Identity(c.Identity, "remove", string(row.PartID))}})
	_, err = intent.SendMessage(ctx, portal.MXID, event.EventRedaction, &event.Content{
		Parsed: &event.RedactionEventContent{Redacts: row.MXID},
	}, &bridgev2.MatrixSendExtra{Timestamp: c.Timestamp, MessageMeta: row})
	if err != nil {
		return fmt.Errorf("matrixdurable: redact: %w", err)
	}
	return nil
}
