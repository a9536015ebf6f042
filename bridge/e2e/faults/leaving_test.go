package faults_test

import (
	"archive/zip"
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
	"postern/connector/killpoint"
)

// Leaving, with the whole program: what is begun is done, whatever is killed or away.

// resident is somebody with a chat in which something was said and sent.
type resident struct {
	*newcomer
	ben     parts.Phone
	chat    string
	account string
	ids     []string // local ids of the account, its chats and its contacts
	blobs   map[string]int64
}

// resident lets a newcomer log in, and chat with somebody whom nobody else knows.
func (r *rig) resident() *resident {
	r.t.Helper()
	d := &resident{newcomer: r.newcomer(), blobs: r.blobs()}
	d.logIn()
	r.until("the account to be connected", d.connected)
	number := fmt.Sprintf("+4915233%06d", 100_000+(time.Now().UnixNano()/1000)%800_000)
	d.ben = must(r.Gatekeeper.AddUser(r.ctx, parts.Phone{Phone: number, Name: "Gustav", OptedIn: true}))(r.t)
	must(d.SendText(r.ctx, d.room, "start-chat "+number))(r.t)
	invite := must(d.ExpectInvite(r.ctx, "the chat", func(i parts.Invite) bool { return !i.Space && i.Shows(d.ben.Name, number) }))(r.t)
	r.ok(d.Join(r.ctx, invite.Room))
	d.chat = invite.Room
	must(r.Gatekeeper.Say(r.ctx, d.ben.Phone, d.name, "kanarienvogel in"))(r.t)
	must(r.hs.Expect(r.ctx, d.chat, "the phone's text", func(e *homeserver.Event) bool { return e.Body() == "kanarienvogel in" }))(r.t)
	f := must(newFile(false))(r.t)
	uri := must(d.Upload(r.ctx, f.data, "application/x-test", "file"))(r.t)
	must(d.Send(r.ctx, d.chat, "m.room.message", "file", map[string]any{
		"msgtype": "m.file", "body": "kanarienvogel out", "filename": "a file", "url": uri, "info": map[string]any{"mimetype": "application/x-test", "size": len(f.data)},
	}))(r.t)
	must(r.Gatekeeper.Expect(r.ctx, d.ben.Phone, "the file", func(e *parts.PhoneEvent) bool { return e.Kind == "message" && e.Media != nil }))(r.t)
	db := r.openDatabase()
	defer db.Close()
	r.ok(db.QueryRowContext(r.ctx, "SELECT id FROM postern_account WHERE mxid='"+d.UserID+"'").Scan(&d.account))
	d.ids = []string{d.account}
	rows := must(db.QueryContext(r.ctx, "SELECT id, contact_id FROM postern_chat WHERE account_id='"+d.account+"'"))(r.t)
	defer rows.Close()
	for rows.Next() {
		var chat, contact string
		r.ok(rows.Scan(&chat, &contact))
		d.ids = append(d.ids, chat, contact)
	}
	r.ok(rows.Err())
	if len(d.ids) != 3 || len(r.blobs()) <= len(d.blobs) {
		r.t.Fatalf("the account has the ids %v and %d files", d.ids, len(r.blobs())-len(d.blobs))
	}
	return d
}

// traces are the tables that have a row with one of the account's local ids in it, those of notices that are still to be sent apart.
func (d *resident) traces() (found []string) {
	r := d.r
	r.t.Helper()
	db := r.openDatabase()
	defer db.Close()
	tables := "SELECT name FROM sqlite_master WHERE type='table'"
	if r.database == postgres {
		tables = "SELECT table_name FROM information_schema.tables WHERE table_schema=current_schema()"
	}
	for _, table := range d.column(db, tables) {
		if strings.HasPrefix(table, "mx_") {
			continue // who was in the rooms, as the homeserver says, also when the ghosts have left them
		}
		rows := must(db.QueryContext(r.ctx, `SELECT * FROM "`+table+`"`))(r.t)
		columns := must(rows.Columns())(r.t)
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(sql.RawBytes)
		}
		for rows.Next() {
			r.ok(rows.Scan(values...))
			for i, v := range values {
				for _, id := range d.ids {
					if strings.Contains(string(*v.(*sql.RawBytes)), id) {
						found = append(found, table+"."+columns[i])
					}
				}
			}
		}
		r.ok(rows.Err())
		rows.Close()
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func (d *resident) column(db *sql.DB, query string) (list []string) {
	d.r.t.Helper()
	rows := must(db.QueryContext(d.r.ctx, query))(d.r.t)
	defer rows.Close()
	for rows.Next() {
		var s string
		d.r.ok(rows.Scan(&s))
		list = append(list, s)
	}
	d.r.ok(rows.Err())
	return list
}

// checkGone fails unless nothing is left of the account anywhere, and the person has read so once.
func (d *resident) checkGone() {
	r := d.r
	r.t.Helper()
	r.until("the bot to say that the account is deleted", func() bool { return len(d.said("you have left whatsapp")) > 0 })
	if list := d.partners(); len(list) > 0 {
		r.t.Errorf("the gatekeeper still has %v", list)
	}
	must(r.Gatekeeper.Expect(r.ctx, d.ben.Phone, "that the account is deleted", func(e *parts.PhoneEvent) bool { return e.Kind == "deleted" }))(r.t)
	if found := d.traces(); len(found) > 0 {
		r.t.Errorf("there are traces of the account in %v", found)
	}
	if left := r.blobs(); !maps.Equal(left, d.blobs) {
		r.t.Errorf("there are %d files, and there were %d before", len(left), len(d.blobs))
	}
	for query, want := range map[string]int{
		"SELECT COUNT(*) FROM postern_leaving":                               0,
		"SELECT COUNT(*) FROM user_login WHERE user_mxid='" + d.UserID + "'": 0,
		"SELECT COUNT(*) FROM portal WHERE mxid='" + d.chat + "'":            0,
	} {
		if got := r.count(query); got != want {
			r.t.Errorf("%s: %d, want %d", query, got, want)
		}
	}
	r.until("nothing to be kept of what was said in the chat's room", func() bool {
		return r.count("SELECT COUNT(*) FROM postern_as_event WHERE body IS NOT NULL AND room_id='"+d.chat+"'") == 0
	})
	told := d.said("you have left whatsapp")
	if len(told) != 1 {
		r.t.Fatalf("the person was told %d times", len(told))
	}
	body := told[0].Message().Body
	for _, part := range []string{"encryption sessions: 1;", "chats: 1;", "records of messages: 2 (", "attachments: 1 ("} {
		if !strings.Contains(body, part) {
			r.t.Errorf("%q is not in %q", part, body)
		}
	}
	for _, part := range []string{d.name, d.ben.Phone, "@"} {
		if strings.Contains(body, part) {
			r.t.Errorf("%q is in %q", part, body)
		}
	}
	r.until("the chat's room to be told", func() bool { return len(r.hs.Messages(d.chat, "You have logged out")) > 0 })
	if n := len(r.hs.Messages(d.chat, "You have logged out")); n != 1 {
		r.t.Errorf("the chat's room was told %d times", n)
	}
	r.checkComplaints()
	r.checkLog()
}

// TestLeavingIsDoneWhereverItIsKilled: the wish is on disk before anything is done, and each step before the next. In the ordinary run each point
// has one of the two databases.
func TestLeavingIsDoneWhereverItIsKilled(t *testing.T) {
	for i, point := range killpoint.Leaving {
		for j, database := range []string{sqlite, postgres} {
			if (i+j)%2 == 1 && !all() {
				continue
			}
			t.Run(point+" on "+database, func(t *testing.T) {
				r := use(t, database)
				d := r.resident()
				r.arm(point, 1)
				must(d.SendText(r.ctx, d.room, "logout"))(t)
				r.dead(point)
				r.run()
				d.checkGone()
				d.logIn() // and they can come back
				d.checkOne()
			})
		}
	}
}

// TestLeavingGoesOnUntilTheGatekeeperCanBeReached: what needs no gatekeeper is gone at once. Who logs in again meanwhile is asked to wait.
func TestLeavingGoesOnUntilTheGatekeeperCanBeReached(t *testing.T) {
	each(t, func(r *rig) {
		d := r.resident()
		fault := must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "failure", Identifier: d.name, Code: 503, Count: -1}))(r.t)
		must(d.SendText(r.ctx, d.room, "logout"))(r.t)
		r.until("the bot to answer", func() bool { return len(d.said("you are logged out")) > 0 })
		r.until("everything to be gone but the keys", func() bool {
			return maps.Equal(r.blobs(), d.blobs) && slices.Equal(d.traces(), []string{
				"postern_account.id", "postern_consent.account_id", "postern_leaving.account_id", "postern_signal_counter.account_id",
				"postern_signal_head.account_id",
			})
		})
		r.Bridge.Kill()
		r.run()
		must(d.SendText(r.ctx, d.room, "login whatsapp"))(r.t)
		r.until("the bot to refuse", func() bool { return len(d.said("is still being deleted")) > 0 })
		if len(d.said("you have left")) > 0 || len(d.partners()) != 1 {
			r.t.Errorf("the account is gone too early: %v", d.partners())
		}
		r.ok(r.Gatekeeper.RemoveFault(r.ctx, fault))
		d.checkGone()
	})
}

// TestWhatWaitsWhenSomebodyLeavesIsNotLeftWaiting: it fails, in words and for clients that look for it, before it is forgotten.
func TestWhatWaitsWhenSomebodyLeavesIsNotLeftWaiting(t *testing.T) {
	each(t, func(r *rig) {
		d := r.resident()
		fault := must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "failure", Identifier: d.name, Code: 503, Count: -1}))(r.t)
		r.Bridge.Kill()
		r.run()
		late := must(d.SendText(r.ctx, d.chat, "too late"))(r.t)
		r.until("the text to wait", func() bool {
			return r.count("SELECT COUNT(*) FROM postern_out WHERE state=0 AND event_id='"+late+"'") > 0
		})
		must(d.SendText(r.ctx, d.room, "logout"))(r.t)
		r.until("the room to say that it failed", func() bool {
			return len(r.hs.Messages(d.chat, "was not delivered: you have logged out")) > 0
		})
		must(r.hs.Expect(r.ctx, d.chat, "the status of the text", func(e *homeserver.Event) bool {
			var c struct {
				Status    string
				RelatesTo struct {
					EventID string `json:"event_id"`
				} `json:"m.relates_to"`
			}
			return e.Type == "com.beeper.message_send_status" && json.Unmarshal(e.Content, &c) == nil && c.Status == "FAIL_PERMANENT" && c.RelatesTo.EventID == late
		}))(r.t)
		r.ok(r.Gatekeeper.RemoveFault(r.ctx, fault))
		r.until("the account to be gone", func() bool { return len(d.partners()) == 0 && len(d.traces()) == 0 })
		if n := len(r.hs.Messages(d.chat, "was not delivered")); n != 1 {
			r.t.Errorf("the room was told %d times", n)
		}
		r.checkComplaints()
		r.checkLog()
	})
}

// TestLeavingDoesNotNeedTheHomeserver: the account is gone while the homeserver takes nothing, and the person reads it later.
func TestLeavingDoesNotNeedTheHomeserver(t *testing.T) {
	each(t, func(r *rig) {
		d := r.resident()
		remove := r.hs.AddFault(homeserver.Fault{
			Path: "/rooms/", Users: func(id string) bool { return id != d.UserID }, Status: http.StatusBadGateway,
		})
		defer remove()
		must(d.SendText(r.ctx, d.room, "logout"))(r.t)
		r.until("the account to be gone", func() bool {
			return len(d.partners()) == 0 && len(d.traces()) == 0 && maps.Equal(r.blobs(), d.blobs)
		})
		r.Bridge.Kill()
		remove()
		r.run()
		d.checkGone()
	})
}

// TestLeavingWithEverything: before somebody goes they get all that the bridge has about them, and nothing of anybody else. Their chat with the
// bridge is not encrypted, so they are told that first.
func TestLeavingWithEverything(t *testing.T) {
	each(t, func(r *rig) {
		r.newChat() // of somebody else's
		d := r.resident()
		must(d.SendText(r.ctx, d.room, "export"))(r.t)
		r.until("the bot to say that the chat is not encrypted", func() bool { return len(d.said("is not encrypted")) > 0 })
		must(d.SendText(r.ctx, d.room, "export confirm"))(r.t)
		sent := must(d.Expect(r.ctx, "the file", func(e *parts.Event) bool {
			return e.RoomID == d.room && e.Sender == r.Bot && e.Message().MsgType == "m.file"
		}))(r.t)
		var content struct{ URL string }
		r.ok(json.Unmarshal(sent.Content, &content))
		raw := must(d.Download(r.ctx, content.URL))(r.t)
		archive := must(zip.NewReader(bytes.NewReader(raw), int64(len(raw))))(r.t)
		files := map[string]string{}
		for _, f := range archive.File {
			opened := must(f.Open())(r.t)
			files[f.Name] = string(must(io.ReadAll(opened))(r.t))
			r.ok(opened.Close())
		}
		for name, part := range map[string]string{
			"about.json": "postern_signal_session", "postern_account.jsonl": `"` + d.name + `"`, "postern_consent.jsonl": "could read",
			"postern_contact.jsonl": d.ben.Phone, "postern_chat.jsonl": d.ids[1], "postern_in.jsonl": `"message"`, "postern_out.jsonl": "kanarienvogel out",
			"postern_media.jsonl": d.account, "portal.jsonl": d.chat, "message.jsonl": "in/" + d.ids[1], "user_login.jsonl": d.account,
		} {
			if !strings.Contains(files[name], part) {
				r.t.Errorf("%q is not in %s: %q", part, name, files[name])
			}
		}
		for name, text := range files {
			if strings.Contains(text, r.identifier+`"`) || strings.Contains(text, `"mediaKey"`) {
				r.t.Errorf("%s has something of somebody else's, or a key: %s", name, text)
			}
		}
		r.tidy()
		must(d.SendText(r.ctx, d.room, "logout"))(r.t)
		d.checkGone()
	})
}
