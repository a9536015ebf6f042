package faults_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
	"postern/connector/killpoint"
)

// What the homeserver refuses for good, and what the disk does not give back: seen, tried again and dropped by the operator's command.

// deadLetter is what the command's list says of one.
type deadLetter struct {
	ID, Direction, Reason string
	Retryable             bool
}

// operator runs the operator's command beside the bridge and checks its exit status.
func (r *rig) operator(want int, args ...string) (said string) {
	r.t.Helper()
	return r.operatorWith(r.Bridge.ConfigPath(), want, args...)
}

func (r *rig) operatorWith(config string, want int, args ...string) (said string) {
	r.t.Helper()
	code, said, complaint := r.runOperator(config, args...)
	if code != want {
		r.t.Fatalf("postern dead-letters %s: exit status %d, want %d\n%s%s", strings.Join(args, " "), code, want, said, complaint)
	}
	return said
}

// runOperator runs the command; nothing personal may be in what it says.
func (r *rig) runOperator(config string, args ...string) (code int, said, complaint string) {
	r.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(r.ctx, armed, append(append([]string{"dead-letters"}, args...), "-c", config)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		r.ok(err)
	}
	for _, secret := range []string{"kanarienvogel", "@", "+49"} {
		if strings.Contains(stdout.String()+stderr.String(), secret) {
			r.t.Errorf("the command says %s:\n%s%s", secret, &stdout, &stderr)
		}
	}
	return code, stdout.String(), stderr.String()
}

// letters are the dead letters that there are besides those in known.
func (r *rig) letters(known []deadLetter) (list []deadLetter) {
	r.t.Helper()
	var said struct {
		DeadLetters []deadLetter `json:"dead_letters"`
	}
	r.ok(json.Unmarshal([]byte(r.operator(0, "list", "--json")), &said))
	return slices.DeleteFunc(said.DeadLetters, func(l deadLetter) bool { return slices.Contains(known, l) })
}

// newLetters waits until there are n more.
func (r *rig) newLetters(known []deadLetter, n int) (list []deadLetter) {
	r.t.Helper()
	r.until("dead letters in the list", func() bool {
		list = r.letters(known)
		return len(list) == n
	})
	return list
}

// refuse makes the homeserver refuse for good what ghosts write into the chat's room, until the function is called.
func (c *chat) refuse() (end func()) {
	return c.r.hs.AddFault(homeserver.Fault{
		Method: "PUT", Path: "/rooms/" + c.room + "/send/m.room.message/", Status: http.StatusForbidden, Kind: "application/json",
		Body:  `{"errcode":"M_FORBIDDEN","error":"not in this room"}`,
		Users: func(id string) bool { return id != c.r.alice.UserID && id != c.r.Bot },
	})
}

// says lets the phone write a text that is not in the ledger yet.
func (c *chat) says() said {
	c.r.t.Helper()
	text := c.phoneText()
	return said{text, must(c.r.Gatekeeper.Say(c.r.ctx, c.ben.Phone, c.r.identifier, text))(c.r.t)}
}

// botSays waits for words of the bridge's bot in a room.
func (r *rig) botSays(room, words string) {
	r.t.Helper()
	must(r.hs.Expect(r.ctx, room, "the bot to say "+words, func(e *homeserver.Event) bool {
		return e.Sender == r.Bot && strings.Contains(e.Body(), words)
	}))(r.t)
}

// markedLate checks that each of the messages has the word that it is late right before it, once.
func (c *chat) markedLate(late ...said) {
	c.r.t.Helper()
	words, before := 0, ""
	for _, e := range c.r.hs.Events(c.room, "m.room.message") {
		if strings.Contains(e.Body(), "comes late") {
			words++
		}
		isLate := slices.ContainsFunc(late, func(s said) bool { return s.text == e.Body() })
		if isLate && !strings.Contains(before, "comes late") {
			c.r.t.Errorf("before %q stands %q, and not that it is late", e.Body(), before)
		}
		before = e.Body()
	}
	if words != len(late) {
		c.r.t.Errorf("%d messages are said to be late, want %d", words, len(late))
	}
}

func TestADeadLetterIsListedAndShownOnceWhenItIsRetried(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		known := r.letters(nil)
		mend := c.refuse()
		first := c.says()
		list := r.newLetters(known, 1)
		r.botSays(c.room, "could not be put into its room")
		if l := list[0]; l.Direction != "in" || l.Reason != "forbidden" || !l.Retryable {
			t.Errorf("the dead letter is %+v", l)
		}
		other := c.says()
		list = r.newLetters(known, 2)
		mend()
		c.fromPhone(1)
		c.settled()
		// Somebody else's key opens nothing.
		elsewhere := filepath.Join(t.TempDir(), "config.yaml")
		r.ok(os.WriteFile(elsewhere, must(os.ReadFile(r.Bridge.ConfigPath()))(t), 0o600))
		r.operatorWith(elsewhere, 10, "list")
		r.ok(os.WriteFile(filepath.Join(filepath.Dir(elsewhere), "postern.key"), []byte("postern-key-1:"+strings.Repeat("A", 43)+"=\n"), 0o600))
		r.operatorWith(elsewhere, 1, "drop", list[0].ID)
		// The first is tried again, twice as far as the operator knows; the second is dropped.
		r.operator(0, "retry", list[0].ID)
		must(r.hs.Expect(r.ctx, c.room, "the message", func(e *homeserver.Event) bool { return e.Body() == first.text }))(t)
		r.until("the letter to be gone", func() bool { return len(r.letters(known)) == 1 })
		r.until("the letter to be no letter any more", func() bool { // while it is on its way, once more is as good as once
			code, _, _ := r.runOperator(r.Bridge.ConfigPath(), "retry", list[0].ID)
			return code == 1
		})
		r.operator(0, "drop", list[1].ID)
		r.operator(1, "retry", list[1].ID, list[0].ID)
		c.wrotePhone(first.text, first.id)
		c.fromPhone(1)
		c.fromMatrix(1)
		c.check()
		c.markedLate(first)
		if len(r.letters(known)) > 0 {
			t.Error("there are dead letters left")
		}
		for _, e := range r.phoneEvents(c.ben) {
			if e.Kind == "receipt" && slices.Contains(e.IDs, other.id) {
				t.Error("the phone has a receipt for what nobody has seen")
			}
		}
	})
}

// TestADeadLetterThatIsRetriedOutlivesKills: the command works without a bridge, and with one that is killed before it has delivered, or
// when the homeserver has the word before the message, or the message itself, and nothing is noted.
func TestADeadLetterThatIsRetriedOutlivesKills(t *testing.T) {
	for name, kill := range map[string]func(r *rig, letter string){
		"before it is delivered": func(r *rig, letter string) {
			r.hs.Down()
			r.operator(0, "retry", letter)
			r.Bridge.Kill()
			r.hs.ForgetTransactions()
			r.ok(r.hs.Up())
		},
		"when the word is there": func(r *rig, letter string) { r.diesRetrying(letter, 1) },
		"when it is there":       func(r *rig, letter string) { r.diesRetrying(letter, 2) },
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(r *rig) {
				c := r.newChat()
				known := r.letters(nil)
				mend := c.refuse()
				one := c.says()
				letter := r.newLetters(known, 1)[0].ID
				mend()
				c.fromPhone(1)
				c.settled()
				kill(r, letter)
				r.run()
				c.wrotePhone(one.text, one.id)
				must(r.hs.Expect(r.ctx, c.room, "the message", func(e *homeserver.Event) bool { return e.Body() == one.text }))(t)
				c.fromPhone(1)
				c.fromMatrix(1)
				c.check()
				c.markedLate(one)
				r.until("the letter to be gone", func() bool { return len(r.letters(known)) == 0 })
			})
		})
	}
}

// diesRetrying has a letter retried while no bridge runs, and kills the next one after the homeserver's nth answer.
func (r *rig) diesRetrying(letter string, nth int) {
	r.t.Helper()
	r.Bridge.Kill()
	r.operator(0, "retry", letter)
	r.operator(0, "retry", letter) // it waits already
	r.arm(killpoint.InAnswered, nth)
	r.ok(r.Bridge.Launch())
	r.dead(killpoint.InAnswered)
	r.hs.ForgetTransactions()
}

// damage changes one bit of a sealed column while no bridge runs.
func (r *rig) damage(table, column, key, id string) {
	r.t.Helper()
	db := r.openDatabase()
	defer db.Close()
	var value []byte
	r.ok(db.QueryRowContext(r.ctx, "SELECT "+column+" FROM "+table+" WHERE "+key+"=$1", id).Scan(&value))
	value[len(value)/2] ^= 4
	must(db.ExecContext(r.ctx, "UPDATE "+table+" SET "+column+"=$1 WHERE "+key+"=$2", value, id))(r.t)
}

// TestF44ADamagedQueueRowIsSeenAndTheChatGoesOn: one bit of a message on its way in, and one of a message on its way out.
func TestF44ADamagedQueueRowIsSeenAndTheChatGoesOn(t *testing.T) {
	each(t, func(r *rig) {
		c, beside := r.newChat(), r.newChat()
		known := r.letters(nil)
		r.ok(r.hs.Pushed(r.ctx))
		r.arm(killpoint.OutQueued, 1)
		text := c.matrixText()
		event := must(r.alice.Send(r.ctx, c.room, "m.room.message", text, parts.Message{MsgType: "m.text", Body: text}))(t)
		r.dead(killpoint.OutQueued)
		r.damage("postern_out", "plaintext", "event_id", event)
		r.run()
		r.botSays(c.room, "damaged on the bridge's disk")
		c.lost = append(c.lost, text)
		c.fromMatrix(1)
		c.settled()

		r.hs.Down()
		c.fromPhone(1)
		lost := c.says()
		c.fromPhone(1)
		beside.fromPhone(1)
		r.drained()
		r.Bridge.Kill()
		r.damage("postern_in", "payload", "item_id", lost.id)
		r.ok(r.hs.Up())
		r.run()
		r.botSays(c.room, "Please ask for it again")
		c.fromPhone(1)
		c.fromMatrix(1)
		beside.fromMatrix(1)
		c.check()
		beside.check()
		list := r.newLetters(known, 2)
		for i, want := range []string{"out", "in"} {
			if l := list[i]; l.Direction != want || l.Reason != "damaged" || l.Retryable {
				t.Errorf("dead letter %d is %+v", i, l)
			}
			r.operator(1, "retry", list[i].ID)
			r.operator(0, "drop", list[i].ID)
		}
	})
}

// TestAMessageWhoseRoomIsGoneIsToldInTheManagementRoom: nobody of the bridge may write into the room any more.
func TestAMessageWhoseRoomIsGoneIsToldInTheManagementRoom(t *testing.T) {
	each(t, func(r *rig) {
		c := r.newChat()
		known := r.letters(nil)
		remove := r.hs.AddFault(homeserver.Fault{
			Method: "PUT", Path: "/rooms/" + c.room + "/send/m.room.message/", Status: http.StatusForbidden, Kind: "application/json",
			Body: `{"errcode":"M_FORBIDDEN","error":"not in this room"}`, Users: func(id string) bool { return id != r.alice.UserID },
		})
		one := c.says()
		letter := r.newLetters(known, 1)[0].ID
		r.botSays(r.management, c.room)
		remove()
		r.operator(0, "retry", letter)
		c.wrotePhone(one.text, one.id)
		c.fromMatrix(1)
		c.check()
	})
}
