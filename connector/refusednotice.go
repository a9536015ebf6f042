package connector

import (
	"context"
	"encoding/json"
	"strings"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/interop"
	"postern/connector/matrixdurable"
	"postern/connector/words"
)

// refused turns what Matrix refuses for good into a dead letter that the person is told of: in the room, or in the management room if
// there is none. All other errors go back as they are, and the message is handed over again.
func (c *client) refused(ctx context.Context, in *interop.Inbound, room id.RoomID, err error) error {
	if !matrixdurable.Permanent(err) {
		return err
	}
	reason := matrixdurable.Refusal(err)
	c.log.Warn().Str("chat", in.Chat).Stringer("room_id", room).Str("reason", reason).Err(err).Msg("Matrix refuses a message for good")
	identity := "dead-letter " + in.Chat + " " + string(in.Kind) + " " + in.MessageID
	why := reason
	if room == "" {
		var noRoom error
		if room, noRoom = c.connector.managementRoom(ctx, c.login.UserMXID); noRoom != nil {
			return noRoom
		} else if room == "" {
			return &interop.Rejected{Reason: reason, Err: err} // nobody can be told; the operator sees it
		}
		why = "no-room"
	}
	notice, noticeErr := matrixdurable.ReplyNotice(identity, room, "", c.login.UserMXID, deadLetterWords(c.words(), why))
	if noticeErr == nil {
		noticeErr = c.connector.stack.Notices.Add(ctx, notice)
	}
	if noticeErr != nil {
		return noticeErr // not dead before the person is told
	}
	return &interop.Rejected{Reason: reason, Err: err}
}

// deadLetterWords says to a person that a message is not shown, why, and what can be done.
func deadLetterWords(w words.Words, why string) string {
	key := "chat.dead-letter." + strings.ReplaceAll(why, "_", "-")
	if !w.Has(key) {
		key = "chat.dead-letter.refused"
	}
	return w.Text("chat.dead-letter", "why", w.Text(key))
}

// managementRoom is where the bridge tells a person what concerns no chat; "" if there is none to be had.
func (c *Connector) managementRoom(ctx context.Context, who id.UserID) (id.RoomID, error) {
	user, err := c.bridge.GetExistingUserByMXID(ctx, who)
	if err != nil || user == nil {
		return "", err
	}
	room, err := user.GetManagementRoom(ctx)
	if matrixdurable.Permanent(err) {
		return "", nil
	}
	return room, err
}

// elsewhere puts a notice whose room does not take it into the management room of whom it is for; nil if it is for nobody.
func (c *Connector) elsewhere(ctx context.Context, n matrixdurable.Notice) (*matrixdurable.Notice, error) {
	var content event.MessageEventContent
	if err := json.Unmarshal(n.Content, &content); err != nil || content.Mentions == nil || len(content.Mentions.UserIDs) == 0 {
		return nil, nil
	}
	who := content.Mentions.UserIDs[0]
	room, err := c.managementRoom(ctx, who)
	if err != nil || room == "" || room == n.Room {
		return nil, err
	}
	text := c.wordsFor(who).Text("chat.elsewhere", "text", content.Body, "room", n.Room)
	other, err := matrixdurable.ReplyNotice("elsewhere "+n.ID, room, "", who, text)
	return &other, err
}

// sayLate says before a message that it is not in its place. What keeps the words from the room keeps the message from nothing.
func (c *client) sayLate(ctx context.Context, portal *bridgev2.Portal, h *handing) error {
	text := c.words().Text("chat.late", "time", h.Timestamp.UTC().Format("2006-01-02 15:04"))
	content := &event.MessageEventContent{MsgType: event.MsgNotice, Mentions: &event.Mentions{}, Body: text}
	err := c.say(ctx, portal.MXID, content, matrixdurable.Identity("late", string(c.login.ID), string(incomingID(h.Chat, h.MessageID))), h.uncertain)
	if matrixdurable.Permanent(err) {
		return nil
	}
	return err
}
