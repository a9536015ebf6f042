package connector

import (
	"archive/zip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"maunium.net/go/mautrix/bridgev2/commands"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/matrixdurable"
	"postern/connector/words"
)

// exportCommand gives a person all that the bridge holds about them.
func exportCommand(help words.Words) *commands.FullHandler {
	return &commands.FullHandler{
		Func: export, Name: "export",
		Help: commands.HelpMeta{
			Section: commands.HelpSectionGeneral, Description: help.Text("help.export"), Args: help.Text("help.export.args"),
		},
	}
}

func export(ce *commands.Event) {
	c, ok := ce.Bridge.Network.(*Connector)
	if !ok {
		return
	}
	room, err := ce.User.GetManagementRoom(ce.Ctx)
	encrypted := false
	if err == nil {
		encrypted, err = c.uploads.Encrypted(ce.Ctx, room)
	}
	confirmed := len(ce.Args) == 1 && ce.Args[0] == "confirm"
	switch {
	case err != nil:
		ce.Log.Err(err).Msg("Could not look where to put an export")
		reply(ce, "error.bridge")
		return
	case len(ce.Args) > 0 && !confirmed:
		reply(ce, "export.usage")
		return
	case !encrypted && !confirmed:
		reply(ce, "export.not-encrypted")
		return
	case !c.exporting.TryLock():
		reply(ce, "export.busy")
		return
	}
	defer c.exporting.Unlock()
	switch err := c.sendExport(ce.Ctx, ce.User.MXID, room); {
	case errors.Is(err, matrixdurable.ErrTooLargeForMatrix):
		reply(ce, "export.too-large")
	case err != nil:
		ce.Log.Err(err).Msg("Could not export what is known of somebody")
		reply(ce, "error.bridge")
	}
}

// sendExport puts the archive into a room.
func (c *Connector) sendExport(ctx context.Context, user id.UserID, room id.RoomID) error {
	file, err := c.newSpooled()
	if err != nil {
		return err
	}
	defer file.remove()
	if err := c.writeExport(ctx, file, user, time.Now()); err != nil {
		return err
	}
	size, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return spoolError(err)
	}
	const mimetype = "application/zip"
	name := "postern-export-" + time.Now().UTC().Format("2006-01-02") + ".zip"
	uploaded, err := c.upload(ctx, room, c.matrix.Bot.UserID, file, size, mimetype, name, false)
	if err != nil {
		return err
	}
	content := &event.MessageEventContent{
		MsgType: event.MsgFile, Body: c.wordsFor(user).Text("export.done"), FileName: name, URL: uploaded.URL, File: uploaded.File,
		Info: &event.FileInfo{MimeType: mimetype, Size: int(size)}, Mentions: &event.Mentions{},
	}
	_, err = c.bridge.Bot.SendMessage(ctx, room, event.EventMessage, &event.Content{Parsed: content}, nil)
	return err
}

// exportAbout is about.json of an archive.
type exportAbout struct {
	Made    time.Time         `json:"made"`
	User    id.UserID         `json:"user"`
	Omitted map[string]string `json:"omitted"`
}

// writeExport writes the archive: about.json, and a file of JSON rows, one a line, for each table with something about the person in it.
func (c *Connector) writeExport(ctx context.Context, to io.Writer, user id.UserID, now time.Time) error {
	e := &exporter{archive: zip.NewWriter(to)}
	omitted := c.db.Exports().Omitted()
	for table, why := range frameworkOmitted {
		omitted[table] = why
	}
	w, err := e.archive.Create("about.json")
	if err == nil {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(exportAbout{Made: now.UTC(), User: user, Omitted: omitted})
	}
	if err == nil {
		err = c.db.Exports().Tables(ctx, user.String(), e.row)
	}
	if err == nil {
		err = c.exportFramework(ctx, user, e)
	}
	if err == nil {
		err = e.archive.Close()
	}
	if err != nil {
		return fmt.Errorf("connector: export: %w", err)
	}
	return nil
}

// exporter writes rows, which come table by table.
type exporter struct {
	archive *zip.Writer
	table   string
	rows    *json.Encoder
}

func (e *exporter) row(table string, row map[string]any) error {
	if table != e.table {
		w, err := e.archive.Create(table + ".jsonl")
		if err != nil {
			return err
		}
		e.table, e.rows = table, json.NewEncoder(w)
	}
	for column, value := range row {
		if raw, ok := value.([]byte); ok {
			row[column] = readable(table, column, raw)
		}
	}
	return e.rows.Encode(row)
}

// readable makes of bytes what a person can read: the fields of a message or document without its keys, a text, or else base64.
func readable(table, column string, raw []byte) any {
	if table == "postern_in" && column == "payload" || table == "postern_out" && (column == "plaintext" || column == "fallback") {
		var message waE2E.Message
		if proto.Unmarshal(raw, &message) == nil {
			if document, err := protojson.Marshal(&message); err == nil {
				raw = document
			}
		}
	}
	var document map[string]any
	if json.Unmarshal(raw, &document) == nil {
		withoutKeys(document)
		return document
	}
	if utf8.Valid(raw) {
		return string(raw)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// withoutKeys takes the keys of attachments and secrets of messages out of a document.
func withoutKeys(document map[string]any) {
	for name, value := range document {
		switch strings.ToLower(name) {
		case "mediakey", "messagesecret", "k": // the last is that of a file on Matrix
			delete(document, name)
			continue
		}
		switch value := value.(type) {
		case map[string]any:
			withoutKeys(value)
		case []any:
			for _, element := range value {
				if inner, ok := element.(map[string]any); ok {
					withoutKeys(inner)
				}
			}
		}
	}
}

// frameworkOmitted are the framework's tables that have something to do with people and are not in an export.
var frameworkOmitted = map[string]string{
	"user.access_token": "a key: whoever has it can speak in your name",
	"ghost":             "names and pictures of your contacts as Matrix shows them; postern_contact has the names",
	"mx_*":              "what the bridge knows of rooms and their members from your homeserver",
	"crypto_*":          "keys for encrypted Matrix rooms",
}

// exportFramework writes what is about a person in the framework's tables.
func (c *Connector) exportFramework(ctx context.Context, user id.UserID, e *exporter) error {
	const logins = "(SELECT id FROM user_login WHERE bridge_id=$1 AND user_mxid=$2)"
	for _, t := range []struct {
		name    string
		columns []string
		where   string
	}{
		{`"user"`, []string{"mxid", "management_room"}, "bridge_id=$1 AND mxid=$2"},
		{"user_login", []string{"id", "user_mxid", "remote_name", "remote_profile", "space_room", "metadata"}, "bridge_id=$1 AND user_mxid=$2"},
		{"portal", []string{"id", "receiver", "mxid", "other_user_id", "name", "topic"}, "bridge_id=$1 AND receiver IN " + logins},
		{
			"message", []string{"id", "part_id", "mxid", "room_id", "sender_id", "sender_mxid", "timestamp", "edit_count", "reply_to_id", "metadata"},
			"bridge_id=$1 AND room_receiver IN " + logins,
		},
		{"reaction", []string{"message_id", "sender_id", "mxid", "room_id", "timestamp", "emoji"}, "bridge_id=$1 AND room_receiver IN " + logins},
	} {
		rows, err := c.db.Raw().Query(ctx, "SELECT "+strings.Join(t.columns, ", ")+" FROM "+t.name+" WHERE "+t.where, string(c.bridge.ID), user.String())
		if err != nil {
			return err
		}
		err = e.all(rows, strings.Trim(t.name, `"`), t.columns)
		if err = errors.Join(err, rows.Close()); err != nil {
			return err
		}
	}
	return nil
}

// scanner is what a query gives.
type scanner interface {
	Next() bool
	Scan(to ...any) error
	Err() error
}

func (e *exporter) all(rows scanner, table string, columns []string) error {
	for rows.Next() {
		values, to := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			to[i] = &values[i]
		}
		if err := rows.Scan(to...); err != nil {
			return err
		}
		row := make(map[string]any, len(columns))
		for i, column := range columns {
			row[column] = values[i]
		}
		if err := e.row(table, row); err != nil {
			return err
		}
	}
	return rows.Err()
}
