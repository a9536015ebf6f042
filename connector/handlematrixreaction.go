package connector

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"
	"maunium.net/go/mautrix/bridgev2"
	frameworkdb "maunium.net/go/mautrix/bridgev2/database"
	"maunium.net/go/mautrix/bridgev2/networkid"
	"maunium.net/go/mautrix/event"

	"postern/connector/convert"
	"postern/connector/interop"
	"postern/connector/matrixdurable"
)

// Errors behind what is refused in this file.
var (
	errNoReactions   = errors.New("connector: react: the gatekeeper has no reactions")
	errUnknownTarget = errors.New("connector: react: not a message of this chat")
)

// PreHandleMatrixReaction implements bridgev2.ReactionHandlingNetworkAPI. The framework is not told that a person has one reaction to a
// message: it would forget the earlier one before it has left the room. HandleMatrixReaction sees to that.
func (c *client) PreHandleMatrixReaction(_ context.Context, msg *bridgev2.MatrixReaction) (bridgev2.MatrixReactionPreResponse, error) {
	none := bridgev2.MatrixReactionPreResponse{}
	if !carries(c.profile) {
		return none, c.noContent()
	}
	if !c.profile.Features.Reactions {
		return none, refusal(errNoReactions, unsupported(c.words(), convert.KindReaction))
	}
	if stanza, _ := c.stanzaOf(msg.Portal, msg.TargetMessage); stanza == "" {
		return none, refusal(errUnknownTarget, c.words().Text("refused.reaction-elsewhere"))
	}
	emoji, err := convert.EmojiToInterop(msg.Content.RelatesTo.Key)
	if err != nil {
		return none, refusal(err, c.explain(err))
	}
	// Equal but for variation selectors is the same reaction, and has the same row.
	return bridgev2.MatrixReactionPreResponse{
		SenderID: selfID(c.profile, string(c.login.ID)), EmojiID: networkid.EmojiID(emoji), Emoji: emoji,
	}, nil
}

// HandleMatrixReaction implements bridgev2.ReactionHandlingNetworkAPI: the reaction is queued like a message. The other side shows one
// for each person, the newest, so earlier ones leave the room; that needs no notice to the phone.
func (c *client) HandleMatrixReaction(ctx context.Context, msg *bridgev2.MatrixReaction) (*frameworkdb.Reaction, error) {
	c.tellLater(msg.Event.ID)
	if err := c.queueReaction(ctx, msg.Portal, msg.Event, msg.TargetMessage, msg.PreHandleResp.Emoji); err != nil {
		return nil, err
	}
	reactions := c.connector.bridge.DB.Reaction
	old, err := reactions.GetAllToMessageBySender(ctx, msg.Portal.Receiver, msg.TargetMessage.ID, msg.PreHandleResp.SenderID)
	if err != nil {
		return nil, c.again(err)
	}
	for _, r := range old {
		if r.MXID == msg.Event.ID {
			continue
		}
		redact := matrixdurable.Marked(ctx, matrixdurable.Identity("reaction replaced", r.MXID.String()), false)
		_, err = c.connector.bridge.Bot.SendMessage(redact, msg.Portal.MXID, event.EventRedaction,
			&event.Content{Parsed: &event.RedactionEventContent{Redacts: r.MXID}}, nil)
		if err != nil && !matrixdurable.Permanent(err) {
			return nil, c.again(err)
		}
		if err = reactions.Delete(ctx, r); err != nil {
			return nil, c.again(err)
		}
	}
	return &frameworkdb.Reaction{Emoji: msg.PreHandleResp.Emoji}, nil
}

// HandleMatrixReactionRemove implements bridgev2.ReactionHandlingNetworkAPI.
func (c *client) HandleMatrixReactionRemove(ctx context.Context, msg *bridgev2.MatrixReactionRemove) error {
	r := msg.TargetReaction
	if r.SenderID != selfID(c.profile, string(c.login.ID)) || r.Room != msg.Portal.PortalKey {
		return refusal(errNotOurs, c.words().Text("refused.reaction-theirs", "gatekeeper", c.profile.DisplayName))
	}
	target, err := c.connector.bridge.DB.Message.GetPartByID(ctx, msg.Portal.Receiver, r.MessageID, r.MessagePartID)
	if err != nil {
		return c.again(err)
	} else if stanza, _ := c.stanzaOf(msg.Portal, target); stanza == "" {
		return nil // nothing is left that it was about
	}
	c.tellLater(msg.Event.ID)
	return c.queueReaction(ctx, msg.Portal, msg.Event, target, "")
}

// queueReaction queues a reaction to a message under an event's id; an empty one takes back what there is.
func (c *client) queueReaction(ctx context.Context, portal *bridgev2.Portal, evt *event.Event, target *frameworkMessage, emoji string) error {
	peer, err := c.address(ctx, string(portal.ID))
	if errors.Is(err, interop.ErrNoChat) {
		return refusal(err, c.words().Text("refused.no-chat"))
	} else if err != nil {
		return c.again(err)
	}
	stanza, own := c.stanzaOf(portal, target)
	plaintext, err := proto.Marshal(convert.Reaction(peer, stanza, own, emoji, time.UnixMilli(evt.Timestamp)))
	if err != nil {
		return refusal(err, c.explain(err))
	}
	return c.take(ctx, interop.Outgoing{
		EventID: evt.ID.String(), RoomID: evt.RoomID.String(), Chat: string(portal.ID), Parts: [][]byte{plaintext}, Type: "reaction",
	}, nil)
}
