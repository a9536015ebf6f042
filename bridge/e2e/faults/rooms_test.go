package faults_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
)

// TestF17KilledWhileARoomIsMadeThereIsOne: somebody new writes, and the bridge dies with one request or another on its way to the
// homeserver, which has carried it out or not, and remembers it or not. There is one room in the end, with everything in it.
func TestF17KilledWhileARoomIsMadeThereIsOne(t *testing.T) {
	steps := []struct{ method, path string }{
		{"POST", "/register"}, {"PUT", "/displayname"}, {"POST", "/createRoom"}, {"POST", "/join"}, {"PUT", "/state/"}, {"PUT", "/send/m.room.message/"},
	}
	for _, step := range steps {
		for _, carriedOut := range []bool{true, false} {
			name := fmt.Sprintf("%s, carried out: %t", step.path, carriedOut)
			t.Run(name, func(t *testing.T) {
				each(t, func(r *rig) { r.killedMaking(step.method, step.path, carriedOut) })
			})
		}
	}
}

func (r *rig) killedMaking(method, path string, carriedOut bool) {
	r.t.Helper()
	n := numbers.Add(1)
	c := &chat{r: r, mark: fmt.Sprintf("kanarienvogel-%d-%d", time.Now().UnixNano()%1_000_000, n), ledger: &ledger{}}
	number := fmt.Sprintf("+4915230%06d", 100_000+time.Now().UnixMilli()%400_000+n)
	c.ben = must(r.Gatekeeper.AddUser(r.ctx, parts.Phone{Phone: number, Name: "Carla " + number[8:], OptedIn: true}))(r.t)
	hit := make(chan struct{}, 1)
	fault := homeserver.Fault{
		Method: method, Path: path, Count: 1, Cut: true, Between: func() { hit <- struct{}{}; r.Bridge.Kill() }, Users: func(id string) bool { return id != r.alice.UserID },
	}
	if !carriedOut {
		fault.Status = 500
	}
	remove := r.hs.AddFault(fault)
	c.fromPhone(2)
	// A step that this room has no need of is passed by; then there is nothing to kill, and the room stands.
	invited := make(chan error, 1)
	find := func() (parts.Invite, error) {
		return r.alice.ExpectInvite(r.ctx, "the chat", func(i parts.Invite) bool { return !i.Space && i.Shows(c.ben.Name, number) })
	}
	died := false
	go func() { _, err := find(); invited <- err }()
	select {
	case <-r.Bridge.Done():
		died = true
		r.hs.ForgetTransactions()
	case err := <-invited:
		r.ok(err)
	}
	remove()
	select {
	case <-hit: // perhaps in this moment
		<-r.Bridge.Done()
		died = true
	default:
	}
	if !died && path == "/createRoom" {
		r.t.Error("the bridge was not killed")
	}
	select {
	case <-r.Bridge.Done(): // also where it was killed right after the invitation
		r.ok(r.Bridge.Start(r.ctx))
	default:
	}
	invite := must(find())(r.t)
	r.ok(r.alice.Join(r.ctx, invite.Room))
	c.room = invite.Room
	c.fromMatrix(1)
	c.fromPhone(1)
	c.check()
	rooms := r.roomsOf(c.room)
	shown := 0
	for _, invite := range r.alice.Invites() {
		if invite.Shows(c.ben.Name, number) && invite.Name != "" {
			shown++
		}
	}
	if len(rooms) != 1 || shown != 0 {
		r.t.Errorf("there are %d rooms of the chat, and %d more invitations to it are open", len(rooms), shown)
	}
}

// roomsOf are the rooms of the chat that room is of, as each of them says from its beginning.
func (r *rig) roomsOf(room string) []string {
	r.t.Helper()
	channel := func(e *homeserver.Event) string {
		var content struct{ Channel struct{ ID string } }
		r.ok(json.Unmarshal(e.Content, &content))
		return content.Channel.ID
	}
	own := r.hs.Events(room, "m.bridge")
	if len(own) == 0 {
		r.t.Fatal("the room does not say what it is a room of")
	}
	return r.hs.Rooms("m.bridge", func(e *homeserver.Event) bool { return channel(e) == channel(&own[0]) })
}
