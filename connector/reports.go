package connector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/killpoint"
	"postern/connector/matrixdurable"
	"postern/database"
)

const (
	// reportKept is how long a report waits for the operator, reportClosed how long it is kept after it was seen to.
	reportKept   = 180 * 24 * time.Hour
	reportClosed = 30 * 24 * time.Hour
	// maxReason is the longest reason, in characters, maxQuoted the longest text of a message that goes along, in bytes.
	maxReason = 2000
	maxQuoted = 16 << 10
)

// reportSubject says who is reported, as it is sealed.
type reportSubject struct {
	Name    string `json:"name"`
	Phone   string `json:"phone,omitempty"`
	Address string `json:"address"`
}

// reportQuote is a message that the reporter has pointed at, as it is sealed.
type reportQuote struct {
	Event   id.EventID `json:"event"`
	Message string     `json:"message"` // the gatekeeper's id of it
	Sent    time.Time  `json:"sent"`
	Kind    string     `json:"kind,omitempty"` // Matrix's msgtype
	Text    string     `json:"text,omitempty"`
	// Cut: the text is longer. Missing: it could not be had any more.
	Cut     bool `json:"cut,omitempty"`
	Missing bool `json:"missing,omitempty"`
}

// errNotTheirs: what a report points at is no message of the reported person in this chat.
var errNotTheirs = errors.New("connector: report: not a message of the other side")

// cited is the message behind an event in a chat's room. Its text is asked for at the homeserver, once: the report is worth more than it.
func (c *client) cited(ctx context.Context, who counterpart, evt id.EventID) (*reportQuote, error) {
	row, err := c.connector.bridge.DB.Message.GetPartByMXID(ctx, evt)
	if err != nil {
		return nil, fmt.Errorf("connector: report: %w", err)
	} else if row == nil || row.Room != portalKey(string(c.login.ID), who.chat) {
		return nil, errNotTheirs
	}
	stanza, theirs := incomingStanza(who.chat, row.ID)
	if !theirs {
		return nil, errNotTheirs
	}
	quote := &reportQuote{Event: evt, Message: stanza, Sent: row.Timestamp.UTC(), Missing: true}
	found, err := c.connector.bridge.Bot.GetEvent(ctx, who.room, evt)
	if err != nil {
		c.log.Warn().Err(err).Str("chat", who.chat).Msg("The text of a reported message cannot be had")
		return quote, nil
	}
	content, ok := found.Content.Parsed.(*event.MessageEventContent)
	if !ok || content.Body == "" {
		return quote, nil
	}
	quote.Kind, quote.Missing = string(content.MsgType), false
	quote.Text, quote.Cut = cutText(content.Body, maxQuoted)
	return quote, nil
}

// cutText is the beginning of a text that has at most so many bytes, and says whether there is more.
func cutText(text string, most int) (string, bool) {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= most {
		return text, false
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most], true
}

// report stores that the person of this login reports somebody. command is the event that says so: the same one is stored once.
func (c *client) report(ctx context.Context, who counterpart, command id.EventID, reason string, quote *reportQuote) (reportID string, err error) {
	contact, err := c.connector.db.Contacts().Get(ctx, who.contact)
	if err != nil {
		return "", fmt.Errorf("connector: report: %w", err)
	} else if contact == nil {
		return "", errors.New("connector: report: no such contact")
	}
	now := c.connector.clock.now()
	row := &database.Report{
		ID: c.connector.db.Reports().ID(string(c.login.ID), command.String()), AccountID: string(c.login.ID), ChatID: who.chat,
		Gatekeeper: c.profile.Name, About: contact.JID, At: now.UnixMilli(),
	}
	row.Subject, err = json.Marshal(reportSubject{who.name, contact.Phone, contact.JID})
	if err == nil && quote != nil {
		row.Quoted, err = json.Marshal(quote)
	}
	if err != nil {
		return "", fmt.Errorf("connector: report: %w", err)
	}
	if reason != "" {
		row.Reason = []byte(reason)
	}
	err = c.connector.db.Do(ctx, func(ctx context.Context) error {
		err := c.connector.db.Reports().Add(ctx, row, now.Add(-24*time.Hour).UnixMilli(), c.connector.Config.Reports.PerDay)
		if err != nil {
			return err
		}
		return c.connector.news.add(ctx, newsReport, row.ID, "", "")
	})
	if err != nil {
		return "", err
	}
	killpoint.Hit(killpoint.Reported)
	c.connector.news.wake()
	c.log.Warn().Str("chat", who.chat).Str("id", row.ID).Msg("A user has reported somebody; postern reports shows it")
	return row.ID, nil
}

// pruneReports forgets reports that are too old, until the connector ends.
func (c *Connector) pruneReports() {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		if err := c.tellClosed(c.ctx); err != nil && c.ctx.Err() == nil {
			c.log.Err(err).Msg("Could not tell somebody that their report was closed; it is tried again")
		}
		n, err := c.pruneOldReports(c.ctx)
		switch {
		case err != nil && c.ctx.Err() == nil:
			c.log.Err(err).Msg("Could not forget old reports")
		case n > 0:
			c.log.Info().Int64("count", n).Msg("Old reports are forgotten")
		}
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
		case <-c.reportsClosed:
		}
	}
}

// pruneOldReports forgets reports that are too old now, and says how many.
func (c *Connector) pruneOldReports(ctx context.Context) (int64, error) {
	now := c.clock.now()
	return c.db.Reports().Prune(ctx, now.Add(-reportClosed).UnixMilli(), now.Add(-reportKept).UnixMilli())
}

// tellClosed tells those who have reported somebody, once each, that it was seen to, also by a command while no bridge ran.
func (c *Connector) tellClosed(ctx context.Context) error {
	list, err := c.db.Reports().Untold(ctx, 100)
	for _, r := range list {
		err = errors.Join(err, c.tellOfClosed(ctx, r))
	}
	return err
}

func (c *Connector) tellOfClosed(ctx context.Context, r *database.Report) error {
	who := id.UserID(r.MXID)
	room, err := c.managementRoom(ctx, who)
	if err != nil {
		return fmt.Errorf("connector: report: %w", err)
	}
	w := c.wordsFor(who)
	err = c.db.Do(ctx, func(ctx context.Context) error {
		if room != "" { // else nobody can be told
			notice, err := matrixdurable.ReplyNotice("report closed "+r.ID, room, "", who,
				w.Text("report.closed", "id", r.ID, "date", momentWords(w, r.At), "contact", c.contact(w)))
			if err == nil {
				err = c.stack.Notices.Add(ctx, notice)
			}
			if err != nil {
				return err
			}
		}
		return c.db.Reports().SetTold(ctx, r.ID)
	})
	if err == nil {
		c.stack.Notices.Wake()
	}
	return err
}
