package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"postern/bridge/parts"
)

// killRun is one run of the campaign: so many messages each way, the bridge
// killed at random times meanwhile.
type killRun struct {
	name     string
	setting  setting
	messages int
	// killHomeserver also kills the homeserver, once, in the middle.
	killHomeserver bool
}

// killRuns are three short runs, or with POSTERN_ALL=1 ten of 200 messages.
func killRuns() []killRun {
	count, runs := 30, 3
	if os.Getenv("POSTERN_ALL") != "" {
		count, runs = 200, 10
	}
	var out []killRun
	for i := range runs {
		r := killRun{name: fmt.Sprintf("run %d", i+1), messages: count}
		switch i {
		case 1:
			r.name, r.killHomeserver = r.name+", the homeserver is killed too", true
		case 2:
			r.name, r.setting.encrypted = r.name+", an encrypted room", true
		case 3:
			r.name, r.setting.postgres = r.name+", Postgres", true
		}
		out = append(out, r)
	}
	return out
}

// TestNothingIsLostDoubledOrMovedUnderKills reads the room through /messages
// and the phone through the control API, and compares what each end sent with
// what the other has. POSTERN_SEED replays a failure's kill times.
func TestNothingIsLostDoubledOrMovedUnderKills(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("POSTERN_SEED"); s != "" {
		seed = must(strconv.ParseUint(s, 10, 64))(t)
	}
	for i, run := range killRuns() {
		t.Run(run.name, func(t *testing.T) {
			t.Logf("seed %d (POSTERN_SEED=%d)", seed, seed)
			run.play(t, rand.New(rand.NewPCG(seed, uint64(i))))
		})
	}
}

func (r killRun) play(t *testing.T, random *rand.Rand) {
	s := open(t, r.setting)
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	s.toPhone(room, ben, "before the kills")
	s.toMatrix(room, ben, "also before the kills")

	var senders sync.WaitGroup
	senders.Go(func() { r.fromMatrix(s, room) })
	senders.Go(func() { r.fromPhone(s, ben) })
	sent := make(chan struct{})
	go func() { senders.Wait(); close(sent) }()
	kills := r.killUntil(s, random, sent)

	// What was sent last has arrived, so whatever is to arrive is here.
	last := r.messages - 1
	s.onPhone(ben, matrixText(last))
	s.inRoom(room, phoneText(last))
	s.toPhone(room, ben, "after the kills")
	s.toMatrix(room, ben, "also after the kills")
	r.compare(s, room, ben)
	t.Logf("%d messages each way, the bridge killed %d times", r.messages, kills)
}

func matrixText(i int) string { return fmt.Sprintf("matrix-text %d", i) }
func phoneText(i int) string  { return fmt.Sprintf("phone-text %d", i) }

// fromMatrix sends everything, each again under its transaction id until
// the homeserver has taken it.
func (r killRun) fromMatrix(s *scene, room string) {
	for i := range r.messages {
		for {
			if _, err := s.alice.SendTextAs(s.ctx, room, fmt.Sprintf("kill-%d", i), matrixText(i)); err == nil {
				break
			}
			if s.ctx.Err() != nil {
				return
			}
		}
	}
}

// fromPhone makes the phone write everything.
func (r killRun) fromPhone(s *scene, p parts.Phone) {
	for i := range r.messages {
		if _, err := s.Gatekeeper.Say(s.ctx, p.Phone, s.identifier, phoneText(i)); err != nil {
			s.t.Errorf("the phone's text %d: %v", i, err)
			return
		}
	}
}

// killUntil kills and restarts the bridge at random moments until everything
// is sent and at least five kills are done, and returns how many there were.
func (r killRun) killUntil(s *scene, random *rand.Rand, sent <-chan struct{}) int {
	const least = 5
	homeserver := r.killHomeserver
	for kills := 1; ; kills++ {
		timer := time.NewTimer(time.Duration(20+random.IntN(1200)) * time.Millisecond)
		select {
		case <-timer.C:
		case <-s.ctx.Done():
			s.t.Fatal("the messages were not sent in time")
		}
		s.Bridge.Kill()
		if homeserver && kills == 3 {
			s.Homeserver.Kill()
			s.ok(s.Homeserver.Restart(s.ctx))
		}
		s.ok(s.Bridge.Start(s.ctx))
		select {
		case <-sent:
			if kills >= least {
				return kills
			}
		default:
		}
	}
}

// compare is the checker: bodies, their number, their order, and the ids.
func (r killRun) compare(s *scene, room string, p parts.Phone) {
	var wantMatrix, wantPhone []string
	for i := range r.messages {
		wantMatrix, wantPhone = append(wantMatrix, matrixText(i)), append(wantPhone, phoneText(i))
	}
	inRoom, fromPhone := s.texts(room, "-text ")
	check(s.t, "Alice's texts in the room", inRoom, wantMatrix)
	check(s.t, "Alice's texts on the phone", s.phoneTexts(p, "-text "), wantMatrix)
	check(s.t, "the phone's texts in the room", fromPhone, wantPhone)
	ids := map[string]bool{}
	for _, e := range must(s.Gatekeeper.Events(context.WithoutCancel(s.ctx), p.Phone, 0, 0))(s.t) {
		if e.Kind == "message" && ids[e.ID] {
			s.t.Errorf("the phone shows message %s twice", e.ID)
		}
		ids[e.ID] = true
	}
}

// check says what is lost, doubled and moved.
func check(t *testing.T, what string, got, want []string) {
	t.Helper()
	count := map[string]int{}
	for _, text := range got {
		count[text]++
	}
	for _, text := range want {
		if n := count[text]; n != 1 {
			t.Errorf("%s: %q is there %d times", what, text, n)
		}
	}
	if !slices.Equal(got, want) && len(got) == len(want) {
		t.Errorf("%s are not in order: %q", what, got)
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d, want %d", what, len(got), len(want))
	}
}
