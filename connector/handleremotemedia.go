package connector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/networkid"
	"maunium.net/go/mautrix/event"

	"postern/connector/convert"
	"postern/connector/killpoint"
	"postern/connector/matrixdurable"
	"postern/database"
)

// How long what is known of an attachment is kept.
const (
	// keepMissing is how long one that could not be fetched can be asked for: the media host keeps nothing longer.
	keepMissing = 45 * 24 * time.Hour
	// keepShown is how long the caption of one can be changed.
	keepShown = 48 * time.Hour
)

// kept is what the database has of an attachment, in the sealed payload of its row.
type kept struct {
	// Message is the payload that it came in, while the file is not in Matrix.
	Message []byte `json:"message,omitempty"`
	// Edit is the caption's later form, a captionWords.
	Edit json.RawMessage `json:"edit,omitempty"`
	// Shown is the content of its event, once that has the file.
	Shown *event.MessageEventContent `json:"shown,omitempty"`
}

// captionWords is a caption alone.
type captionWords struct {
	Body      string       `json:"body"`
	Format    event.Format `json:"format,omitempty"`
	Formatted string       `json:"formatted,omitempty"`
}

// readKept reads a row's payload.
func readKept(row *database.IncomingMedia) (*kept, error) {
	var k kept
	if err := json.Unmarshal(row.Payload, &k); err != nil {
		return nil, fmt.Errorf("connector: kept attachment: %w", err)
	}
	if row.State == database.IncomingMediaShown && k.Shown == nil {
		return nil, errors.New("connector: kept attachment: without its content")
	}
	return &k, nil
}

// errNotMedia: the payload that was kept has no attachment, which an earlier version of the program may have seen otherwise.
var errNotMedia = errors.New("connector: kept attachment: not one")

// media reads the attachment of a payload that was kept, with its caption as it is now.
func (k *kept) media(c *client) (*convert.IncomingMedia, error) {
	var message waE2E.Message
	if err := proto.Unmarshal(k.Message, &message); err != nil {
		return nil, fmt.Errorf("connector: kept attachment: %w", err)
	}
	in := convert.Read(&message, c.readOptions())
	if in.Media == nil {
		return nil, errNotMedia
	}
	if k.Edit != nil {
		var words captionWords
		if err := json.Unmarshal(k.Edit, &words); err != nil {
			return nil, fmt.Errorf("connector: kept attachment: %w", err)
		}
		setCaption(in.Media.Content, words)
	}
	return in.Media, nil
}

// caption is the caption that an edit gives.
func caption(edit *convert.IncomingEdit) captionWords {
	var content *event.MessageEventContent
	switch {
	case edit.Media != nil:
		content = edit.Media.Content
	case len(edit.Parts) > 0:
		content = edit.Parts[0].Content
	default:
		return captionWords{}
	}
	if edit.Media != nil && content.Body == content.FileName {
		return captionWords{} // a file without a caption
	}
	return captionWords{content.Body, content.Format, content.FormattedBody}
}

// setCaption gives a file's content another caption; an empty one leaves its name.
func setCaption(content *event.MessageEventContent, words captionWords) {
	content.Format, content.FormattedBody = words.Format, words.Formatted
	if content.Body = words.Body; content.Body == "" {
		content.Body = content.FileName
	}
}

// recaption makes an edit's caption that of a file's content.
func recaption(content *event.MessageEventContent, edit *convert.IncomingEdit) {
	setCaption(content, caption(edit))
}

// clone copies a content so far that the framework's changes for an edit do not reach the original.
func clone(content *event.MessageEventContent) *event.MessageEventContent {
	c := *content
	return &c
}

// deliverMedia shows a message with an attachment: with it if that comes in time, otherwise with words that stand in its place until it does.
// What is sent is on disk before, so that after a crash the same is sent again.
func (c *client) deliverMedia(ctx context.Context, portal *bridgev2.Portal, h *handing, what *content) error {
	row, err := c.connector.db.IncomingMedia().Get(ctx, h.Chat, h.MessageID)
	if errors.Is(err, database.ErrSealBroken) {
		// What it was is in the message: it is fetched anew, or is in its place already.
		c.log.Error().Str("chat", h.Chat).Msg("What was kept of an attachment cannot be read from disk")
		row, err = nil, nil
	}
	if err != nil {
		return err
	}
	d, err := c.newDelivery(ctx, portal, h, what)
	if err != nil {
		return err
	}
	missing, err := matrixdurable.Missing(ctx, c.login, portal.PortalKey, d.message, []networkid.PartID{""})
	if err != nil {
		return err
	}
	var arrival *arrival
	if row == nil && len(missing) > 0 {
		if h.asked {
			row, err = c.unloaded(d, what.Media)
		} else {
			row, arrival, err = c.await(ctx, d, what)
		}
		if err != nil {
			return err
		} else if err = c.connector.db.IncomingMedia().Put(ctx, row); err != nil {
			return err
		}
	}
	killpoint.Hit(killpoint.InFileNoted)
	first, err := c.mediaPart(row, what.Media)
	if err != nil {
		return err
	}
	if err = c.send(ctx, d, append([]*convert.Part{first}, what.Parts...)...); err != nil {
		return err
	}
	switch {
	case row == nil:
	case row.State != database.IncomingMediaWanted:
		c.arrivals.forget(arrival)
	case arrival != nil:
		c.arrivals.later(arrival, row)
	default:
		c.arrivals.resume(row)
	}
	return nil
}

// await fetches a message's attachment and says what is known of it when it has come, or when the chat has waited long enough.
func (c *client) await(ctx context.Context, d *delivery, what *content) (*database.IncomingMedia, *arrival, error) {
	row, err := c.mediaRow(d, what.Media)
	if err != nil {
		return nil, nil, err
	}
	began := time.Now()
	arrival := c.arrivals.start(row, what.Media, d.portal.MXID, d.ghost(c))
	if err = arrival.await(ctx); err != nil {
		return nil, nil, err
	}
	c.chats.get(d.Chat).hasWaited(began, time.Now(), c.arrivals.quick)
	content, fetchErr, came := arrival.result()
	switch {
	case !came:
	case errors.Is(fetchErr, context.Canceled):
		c.arrivals.forget(arrival)
		return nil, nil, fetchErr // we are ending
	case fetchErr != nil:
		c.missed(row, fetchErr)
	default:
		row.State, row.Expires = database.IncomingMediaShown, time.Now().Add(d.keep(keepShown)).UnixMilli()
		if row.Payload, err = json.Marshal(kept{Shown: content}); err != nil {
			return nil, nil, fmt.Errorf("connector: attachment: %w", err)
		}
	}
	return row, arrival, nil
}

// mediaPart is what stands in the room for an attachment. Without a row it is known to be there, and only its place counts.
func (c *client) mediaPart(row *database.IncomingMedia, m *convert.IncomingMedia) (*convert.Part, error) {
	if row == nil {
		return &convert.Part{Type: m.Type, Content: m.Content}, nil
	} else if row.State != database.IncomingMediaShown {
		return &convert.Part{Type: event.EventMessage, Content: c.placeholder(m, row)}, nil
	}
	k, err := readKept(row)
	if err != nil {
		return nil, err
	}
	return &convert.Part{Type: m.Type, Content: k.Shown}, nil
}

// keep is how long something of a message is kept, which is not longer than the message.
func (d *delivery) keep(longest time.Duration) time.Duration {
	if d.expires.Timer > 0 {
		return min(longest, d.expires.Timer)
	}
	return longest
}

// mediaRow is the database's row of an attachment that is to be fetched.
func (c *client) mediaRow(d *delivery, m *convert.IncomingMedia) (*database.IncomingMedia, error) {
	k := kept{Message: d.Raw}
	var err error
	if d.quoted && m.Content.Body != m.Content.FileName {
		// The quote has been put before the caption.
		k.Edit, err = json.Marshal(captionWords{m.Content.Body, m.Content.Format, m.Content.FormattedBody})
	}
	payload, err2 := json.Marshal(k)
	if err = errors.Join(err, err2); err != nil {
		return nil, fmt.Errorf("connector: attachment: %w", err)
	}
	return &database.IncomingMedia{
		ChatID: d.Chat, MessageID: d.MessageID, AccountID: string(c.login.ID), State: database.IncomingMediaWanted, Payload: payload,
		Timestamp: d.Timestamp.UnixMilli(), Expires: time.Now().Add(d.keep(keepMissing)).UnixMilli(),
	}, nil
}

// unloaded is the row of an attachment that is not loaded before the person has accepted its sender.
func (c *client) unloaded(d *delivery, m *convert.IncomingMedia) (*database.IncomingMedia, error) {
	row, err := c.mediaRow(d, m)
	if err != nil {
		return nil, err
	}
	row.State, row.Reason = database.IncomingMediaMissing, string(faultAsked)
	return row, nil
}

// missed notes why an attachment is not there.
func (c *client) missed(row *database.IncomingMedia, cause error) {
	row.State, row.Reason = database.IncomingMediaMissing, string(mediaFault(cause))
	row.Tries++
	c.log.Warn().Str("chat", row.ChatID).Str("reason", row.Reason).Int("tries", row.Tries).Err(cause).Msg("Could not fetch an attachment")
}

// placeholder stands in the room for an attachment that is not there: what it is, why, what can be done, and its words.
func (c *client) placeholder(m *convert.IncomingMedia, row *database.IncomingMedia) *event.MessageEventContent {
	w := c.words()
	noun := noun(w, m.Role)
	if m.Role == convert.RoleDocument && m.Name != "" {
		noun += " (" + m.Name + ")"
	}
	var text string
	switch {
	case row.State == database.IncomingMediaWanted:
		text = w.Text("attachment.fetching", "noun", noun)
	case row.Reason == string(faultAsked) && m.Media.Length >= 0:
		text = w.Text("attachment.asked", "noun", noun, "size", fileSize(m.Media.Length))
	case row.Reason == string(faultAsked):
		text = w.Text("attachment.asked-size", "noun", noun)
	default:
		text = w.Text("attachment.missing", "noun", noun, "why", fault(row.Reason).words(w, c.profile.DisplayName))
		if row.Tries > 1 {
			text += " " + w.Text("attachment.tries", "n", row.Tries)
		}
		text += " " + w.Text("attachment.retry", "command", c.connector.bridge.Config.CommandPrefix+" "+retryMediaName)
	}
	content := &event.MessageEventContent{MsgType: event.MsgNotice, Body: text, Mentions: &event.Mentions{}}
	said := m.Content
	if body := said.Body; body != "" && body != said.FileName && m.Role != convert.RoleSticker {
		content.Body += "\n\n" + body
		if said.FormattedBody != "" {
			content.Format = event.FormatHTML
			content.FormattedBody = strings.ReplaceAll(event.TextToHTML(text), "`", "") + "<br><br>" + said.FormattedBody
		}
	}
	return content
}
