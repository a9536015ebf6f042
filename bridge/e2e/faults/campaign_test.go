package faults_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"postern/connector/killpoint"
)

const (
	// roundChats and roundTexts are the size of a round: so many chats, and so many texts each way in each of them.
	roundChats, roundTexts = 4, 25
	// leastKills is how often the bridge is killed in a round at least.
	leastKills = 4
)

// TestTheCampaignOfRandomKills plays rounds on both databases in turn until POSTERN_FAULTS messages have gone each way, over all. In
// a round both sides of some chats write, and the bridge is killed at points and times that follow from the round's seed.
func TestTheCampaignOfRandomKills(t *testing.T) {
	goal := roundChats * roundTexts
	if n := os.Getenv("POSTERN_FAULTS"); n != "" {
		goal = must(strconv.Atoi(n))(t)
	}
	seed := uint64(time.Now().UnixNano()) >> 16
	if s := os.Getenv("POSTERN_SEED"); s != "" {
		seed = must(strconv.ParseUint(s, 10, 64))(t)
	}
	path := os.Getenv("POSTERN_FAULTS_LOG")
	first, done := 0, map[string]int{}
	if path != "" {
		lines := must(readKillLog(path))(t)
		sum := must(recount(lines))(t)
		done = sum.fromMatrix
		for _, l := range lines {
			first = max(first, l.Round)
		}
	}
	databases := []string{sqlite, postgres}
	for round := first + 1; done[sqlite]+done[postgres] < goal || done[sqlite] == 0 || done[postgres] == 0; round++ {
		database := databases[round%2]
		c := &campaign{database: database, round: round, seed: seed + uint64(round), path: path, kind: kindOf(round)}
		if !t.Run(database+" round "+strconv.Itoa(round), c.play) {
			return
		}
		done[database] += roundChats * roundTexts
	}
}

// withFiles is the kind of rounds in which every fourth message has an attachment, and the bridge dies at their points too. What a seed of
// another round stands for does not change by that.
const withFiles = "files"

// kindOf is what a round is like: of four, two are withFiles, one on each database. POSTERN_KIND makes all of them so.
func kindOf(round int) string {
	if kind := os.Getenv("POSTERN_KIND"); kind != "" {
		return kind
	}
	if round%4 == 3 || round%4 == 0 {
		return withFiles
	}
	return ""
}

// TestTheCampaignOfRandomKillsWithAttachments plays one round with attachments on each database, with a seed of its own.
func TestTheCampaignOfRandomKillsWithAttachments(t *testing.T) {
	seed := uint64(time.Now().UnixNano()) >> 16
	for i, database := range []string{sqlite, postgres} {
		c := &campaign{database: database, round: i + 1, seed: seed + uint64(i), kind: withFiles}
		t.Run(database, c.play)
	}
}

// points are where the bridge can die in a round.
func (c *campaign) points() []string {
	if c.kind == withFiles {
		return slices.Concat(killpoint.All, killpoint.Files)
	}
	return killpoint.All
}

// campaign is one round of it.
type campaign struct {
	database string
	round    int
	seed     uint64
	path     string
	kind     string // withFiles, or nothing

	r      *rig
	random *rand.Rand
	kills  int
}

func (c *campaign) play(t *testing.T) {
	replay := fmt.Sprintf("POSTERN_SEED=%d", c.seed-1)
	if c.kind != "" {
		replay += " POSTERN_KIND=" + c.kind
	}
	t.Logf("seed %d (%s replays it as round 1)", c.seed, replay)
	c.r = use(t, c.database)
	c.random = rand.New(rand.NewPCG(c.seed, 0))
	r := c.r
	var chats []*chat
	for range roundChats {
		chats = append(chats, r.newChat())
	}
	load := r.load
	if c.kind == withFiles {
		load = r.loadFiles
	}
	done := load(chats, roundTexts)
	for c.kills < leastKills || !closed(done) {
		if r.ctx.Err() != nil {
			t.Fatal("the messages were not written in time")
		}
		c.kill(done)
	}
	for _, chat := range chats {
		chat.fromMatrix(1)
		chat.fromPhone(1)
		chat.check()
	}
	if t.Failed() {
		return
	}
	c.log(&killLine{End: true, Kills: c.kills, FromMatrix: roundChats * roundTexts, FromPhone: roundChats * roundTexts})
	// The log is read; of a long campaign's it would be much.
	r.ok(os.Truncate(r.Bridge.LogPath(), 0))
	r.log.at = 0
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// kill ends the bridge once, at a point or after a while, sometimes again while it starts, and starts it.
func (c *campaign) kill(done <-chan struct{}) {
	r := c.r
	r.t.Helper()
	if c.random.IntN(10) < 6 {
		c.atPoint(done)
	} else {
		after := time.Duration(5+c.random.IntN(300)) * time.Millisecond
		pause(after, r.ctx.Done())
		r.Bridge.Kill()
		c.note(&killLine{Kill: "time", AtMS: after.Milliseconds()})
	}
	if !closed(r.Bridge.Done()) {
		return // the point was not reached
	}
	for c.random.IntN(4) == 0 {
		r.ok(r.Bridge.Launch())
		after := time.Duration(c.random.IntN(250)) * time.Millisecond
		pause(after, r.ctx.Done())
		r.Bridge.Kill()
		c.note(&killLine{Kill: "start", AtMS: after.Milliseconds()})
	}
	r.ok(r.Bridge.Start(r.ctx))
}

// atPoint kills at a point, if it is reached in time.
func (c *campaign) atPoint(done <-chan struct{}) {
	r := c.r
	points := c.points()
	point, nth := points[c.random.IntN(len(points))], 1+c.random.IntN(5)
	r.arm(point, nth)
	ctx, cancel := context.WithTimeout(r.ctx, 400*time.Millisecond)
	defer cancel()
	select {
	case <-r.Bridge.Done():
	case <-ctx.Done():
	}
	if r.disarm() {
		return
	}
	<-r.Bridge.Done() // it has read its orders
	c.note(&killLine{Kill: "point", Where: point, Nth: nth})
}

// note counts a kill, and while the bridge is dead makes the homeserver forget something now and then.
func (c *campaign) note(l *killLine) {
	switch c.random.IntN(8) {
	case 0:
		l.Also = "transaction ids forgotten"
		c.r.hs.ForgetTransactions()
	case 1:
		l.Also = "pushes forgotten"
		c.r.hs.LosePushes()
	}
	c.kills++
	c.log(l)
}

// log adds a line to the campaign's log, on disk before it returns.
func (c *campaign) log(l *killLine) {
	if c.path == "" {
		return
	}
	r := c.r
	r.t.Helper()
	l.T, l.Database, l.Round, l.Seed, l.Kind = time.Now().UnixMilli(), c.database, c.round, c.seed, c.kind
	raw, err := json.Marshal(l)
	r.ok(err)
	f, err := os.OpenFile(c.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	r.ok(err)
	defer f.Close()
	_, err = f.Write(append(raw, '\n'))
	r.ok(err)
	r.ok(f.Sync())
}
