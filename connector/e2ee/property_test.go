package e2ee_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"postern/connector/e2ee"
)

// How many damaged messages the state property is tried with.
const (
	ordinaryMutations = 10_000
	allMutations      = 1_000_000
)

// How many late messages are read beside a newer session.
const (
	ordinaryLate = 1_000
	allLate      = 10_000
)

// target is a store in some state, messages it could read next, and such as it has read.
type target struct {
	before   map[string][]byte
	messages []e2ee.Sealed
	spent    []e2ee.Sealed
}

// any is one of t's messages.
func (t target) any(random *rand.Rand) e2ee.Sealed {
	if i := random.IntN(len(t.messages) + len(t.spent)); i < len(t.messages) {
		return t.messages[i]
	}
	return t.spent[random.IntN(len(t.spent))]
}

// targets puts ours into several states and gathers readable messages of each kind for each: first messages with and
// without one-time prekey, messages in a known chain, late ones, ones that begin a step, ones for archived sessions.
func targets(t testing.TB, ours *ourUser) []target {
	t.Helper()
	var list []target
	for _, oneTime := range []bool{true, false} {
		peer := newStock(t)
		mustStart(t, peer, 2, ours.bundle(oneTime))
		first, second := mustEncrypt(t, peer, 2, "first"), mustEncrypt(t, peer, 2, "")
		list = append(list, target{ours.mem.Snapshot(), []e2ee.Sealed{first, second}, nil})
		mustRead(t, ours, 1, second, "")
		// Most messages are in a chain that is known, where a refusal costs no key agreement: the campaign is a large one.
		late := []e2ee.Sealed{first}
		for range 12 {
			late = append(late, mustEncrypt(t, peer, 2, "third"))
		}
		mustRead(t, peer, 2, mustEncrypt(t, ours, 1, "answer"), "answer")
		late = append(late, mustEncrypt(t, peer, 2, "a step"), mustEncrypt(t, peer, 2, "after it"))
		list = append(list, target{ours.mem.Snapshot(), late, []e2ee.Sealed{second}})
		mustStart(t, ours, 1, peer.bundle(true))
		list = append(list, target{ours.mem.Snapshot(), late, []e2ee.Sealed{second}})
		mustRead(t, peer, 2, mustEncrypt(t, ours, 1, "anew"), "anew")
		late = append(late, mustEncrypt(t, peer, 2, "in the newest"))
		list = append(list, target{ours.mem.Snapshot(), late, []e2ee.Sealed{second}})
	}
	return list
}

// damage changes a message in one of several ways; the result may by chance mean the same.
func damage(random *rand.Rand, m e2ee.Sealed) e2ee.Sealed {
	b := slices.Clone(m.Body)
	for range 1 + random.IntN(2) {
		if len(b) == 0 {
			break
		}
		at := random.IntN(len(b))
		switch random.IntN(9) {
		case 0, 1, 2, 3:
			b[at] ^= 1 << random.IntN(8)
		case 4:
			b[at] = byte(random.Uint32())
		case 5:
			b = b[:at]
		case 6:
			b = slices.Insert(b, at, byte(random.Uint32()))
		case 7:
			b = slices.Delete(b, at, min(len(b), at+1+random.IntN(8)))
		case 8:
			from := random.IntN(len(b))
			copy(b[at:], slices.Clone(b[from:]))
		}
	}
	typ := m.Type
	if random.IntN(40) == 0 {
		typ = map[string]string{e2ee.TypeMessage: e2ee.TypePreKey, e2ee.TypePreKey: e2ee.TypeMessage}[typ]
	}
	return e2ee.Sealed{Type: typ, Body: b}
}

// campaign refuses wanted damaged messages and returns how many were refused for each reason, and how many were read. It
// runs beside others, so it reports with Errorf alone.
func campaign(t *testing.T, random *rand.Rand, ours *ourUser, list []target, wanted int) (reasons map[int]int, read int) {
	t.Helper()
	reasons = map[int]int{}
	for refused := 0; refused < wanted; {
		place := list[random.IntN(len(list))]
		if place.spent == nil && random.IntN(4) != 0 {
			continue // a first message costs a whole session setup: fewer of these, so that there can be more
		}
		m := damage(random, place.any(random))
		ours.mem.Restore(place.before)
		text, err := ours.decrypt(1, m)
		if err == nil {
			// The damage was in what no MAC covers (the head of a prekey message) or changed nothing.
			if !slices.Contains([]string{"first", "", "third", "a step", "after it", "in the newest"}, text) {
				t.Errorf("a damaged message was read as another text: %x", m.Body)
				return reasons, read
			}
			read++
			continue
		}
		refused++
		reasons[e2ee.RetryReason(err)]++
		if !unchanged(ours.mem, place.before) {
			t.Errorf("%v: the store has changed; message %s %x", err, m.Type, m.Body)
			return reasons, read
		}
	}
	for i, place := range list {
		for _, m := range place.messages {
			ours.mem.Restore(place.before)
			if _, err := ours.decrypt(1, m); err != nil {
				t.Errorf("state %d: an undamaged %s cannot be read: %v", i, m.Type, err)
			}
		}
	}
	return reasons, read
}

func TestARefusedMessageLeavesTheStoreByteForByteAsItWas(t *testing.T) {
	wanted, seed := ordinaryMutations, uint64(1)
	if all() {
		wanted, seed = allMutations, rand.Uint64()
	}
	t.Logf("seed %d", seed)
	workers := runtime.GOMAXPROCS(0)
	reasons, read := make([]map[int]int, workers), make([]int, workers)
	var wait sync.WaitGroup
	for w := range workers {
		ours := newOurs(t)
		list := targets(t, ours)
		wait.Go(func() {
			reasons[w], read[w] = campaign(t, rand.New(rand.NewPCG(seed, uint64(w))), ours, list, wanted/workers+1)
		})
	}
	wait.Wait()
	sum, refused, stillRead := map[int]int{}, 0, 0
	for w := range workers {
		for reason, n := range reasons[w] {
			sum[reason] += n
			refused += n
		}
		stillRead += read[w]
	}
	t.Logf("%d refused, %d read all the same, by reason %v", refused, stillRead, sum)
	if refused < wanted {
		t.Errorf("only %d damaged messages were refused, want %d", refused, wanted)
	}
	// A campaign whose damage is all of one kind would say little.
	for _, reason := range []int{2, 3, 4, 7, 9} {
		if sum[reason] == 0 {
			t.Errorf("nothing was refused for reason %d", reason)
		}
	}
}

// lateRace has an older session with messages under way in five of its chains when a newer one begins; then each late
// message is read, and after each one of the newer session. It returns how many late messages there were.
func lateRace(t *testing.T, random *rand.Rand, a, b user) int {
	t.Helper()
	acquaint(t, a, b)
	var late []e2ee.Sealed
	for chain := range 5 {
		for range 3 {
			late = append(late, mustEncrypt(t, a, 2, "late"))
		}
		// The last chain stays unknown to b, so the first of its messages to arrive begins a ratchet step.
		if chain < 4 {
			mustRead(t, b, 1, mustEncrypt(t, a, 2, "ping"), "ping")
			mustRead(t, a, 2, mustEncrypt(t, b, 1, "pong"), "pong")
		}
	}
	mustStart(t, b, 1, a.bundle(true))
	mustRead(t, a, 2, mustEncrypt(t, b, 1, "anew"), "anew")
	random.Shuffle(len(late), func(i, j int) { late[i], late[j] = late[j], late[i] })
	for _, m := range late {
		next := mustEncrypt(t, a, 2, "in the newer session")
		mustRead(t, b, 1, m, "late")
		mustRead(t, b, 1, next, "in the newer session")
	}
	return len(late)
}

func TestALateMessageOfAnArchivedSessionHarmsNoNewerOneAThousandTimes(t *testing.T) {
	wanted, seed := ordinaryLate, uint64(4)
	if all() {
		wanted, seed = allLate, rand.Uint64()
	}
	random, late := rand.New(rand.NewPCG(seed, 4)), 0
	for run := 0; late < wanted; run++ {
		sender := user(newOurs(t))
		if run%8 == 0 {
			sender = newStock(t)
		}
		late += lateRace(t, random, sender, newOurs(t))
	}
	t.Logf("seed %d: %d late messages", seed, late)
}

// network is two users of ours and the messages between them.
type network struct {
	t      *testing.T
	random *rand.Rand
	users  [2]*ourUser // user 0 knows user 1 as peer 2, user 1 knows user 0 as peer 1
	flying []flight
	done   []flight // read, recent ones last
	read   int
}

type flight struct {
	from int
	text string
	m    e2ee.Sealed
	age  int
}

func (n *network) peer(of int) int { return 2 - of }

func (n *network) send(from int) {
	n.t.Helper()
	text := fmt.Sprint("number ", n.random.Uint64())
	for i := range n.flying {
		n.flying[i].age++
	}
	m := mustEncrypt(n.t, n.users[from], n.peer(from), text)
	n.flying = append(n.flying, flight{from: from, text: text, m: m})
}

func (n *network) deliver(i int) {
	n.t.Helper()
	f := n.flying[i]
	n.flying = slices.Delete(n.flying, i, i+1)
	mustRead(n.t, n.users[1-f.from], n.peer(1-f.from), f.m, f.text)
	n.done = append(n.done, f)
	n.read++
}

// step does one random thing: send, deliver in any order, deliver again, or begin a new session as a retry does.
func (n *network) step() {
	n.t.Helper()
	switch choice := n.random.IntN(20); {
	case choice < 9:
		n.send(n.random.IntN(2))
	case choice < 17:
		if len(n.flying) > 0 {
			n.deliver(n.random.IntN(len(n.flying)))
		}
	case choice < 19:
		if len(n.done) > 0 {
			f := n.done[len(n.done)-1]
			if _, err := n.users[1-f.from].decrypt(n.peer(1-f.from), f.m); err == nil {
				n.t.Fatal("a message was read twice")
			}
		}
	default:
		who := n.random.IntN(2)
		mustStart(n.t, n.users[who], n.peer(who), n.users[1-who].bundle(n.random.IntN(2) == 0))
	}
	for len(n.flying) > 0 && n.flying[0].age >= 8 {
		n.deliver(0)
	}
}

func TestWhenBothSpeakAndBeginSessionsAtOnceEverythingIsRead(t *testing.T) {
	runs, steps := 25, 60
	if all() {
		runs = 4000
	}
	read := 0
	for run := range runs {
		n := &network{t: t, random: rand.New(rand.NewPCG(uint64(run), 3)), users: [2]*ourUser{newOurs(t), newOurs(t)}}
		// Both begin at once.
		for who := range 2 {
			mustStart(t, n.users[who], n.peer(who), n.users[1-who].bundle(true))
			n.send(who)
		}
		for range steps {
			n.step()
		}
		for len(n.flying) > 0 {
			n.deliver(n.random.IntN(len(n.flying)))
		}
		// However it went, the two now understand each other in one session after a few turns.
		for range 3 {
			for who := range 2 {
				n.send(who)
				n.deliver(0)
			}
		}
		a, errA := n.users[0].party.Signal.Session(t.Context(), peerJID(2))
		b, errB := n.users[1].party.Signal.Session(t.Context(), peerJID(1))
		if errA != nil || errB != nil || a.BaseKey != b.BaseKey || a.Unacknowledged || b.Unacknowledged {
			t.Fatalf("run %d: the two do not settle on one session", run)
		}
		read += n.read
	}
	t.Logf("%d messages in %d runs", read, runs)
	if read < runs*10 {
		t.Errorf("only %d messages in %d runs", read, runs)
	}
}
