package oracle

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"postern/connector/e2ee"

	"google.golang.org/protobuf/encoding/protowire"
)

// How many messages must have been read across the two libraries, all versions together, for the comparison to count.
const (
	ordinaryMessages = 500
	allMessages      = 10_000
)

// all says whether the long campaign was asked for.
func all() bool { return os.Getenv("POSTERN_ALL") == "1" }

// talk lets the two sides send n messages in a random order: deliveries overtake each other, stay behind for up to four
// of each side's turns, and come twice.
func (p *pairOf) talk(random *rand.Rand, n int) {
	p.t.Helper()
	var flying, read []*message
	deliver := func(i int) {
		m := flying[i]
		flying = append(flying[:i], flying[i+1:]...)
		p.deliver(m)
		read = append(read, m)
	}
	for sent := 0; sent < n; {
		switch choice := random.IntN(10); {
		case choice < 5:
			text := make([]byte, random.IntN(300))
			for i := range text {
				text[i] = byte(random.Uint32())
			}
			for _, m := range flying {
				m.age++
			}
			flying = append(flying, p.send(random.IntN(2) == 0, text))
			sent++
		case choice < 9 && len(flying) > 0:
			deliver(random.IntN(len(flying)))
		case len(read) > 0:
			// A duplicate of a message from long ago is refused as well, but under another name; take a recent one.
			p.refuse(read[len(read)-1])
		}
		// A chain is forgotten when five newer ones are there; nothing stays on its way for so long.
		for len(flying) > 0 && flying[0].age >= 8 {
			deliver(0)
		}
	}
	for len(flying) > 0 {
		deliver(random.IntN(len(flying)))
	}
}

// flows are the ways a conversation begins. Each leaves two sides that know each other.
var flows = []struct {
	name  string
	begin func(p *pairOf)
}{
	{"we begin with a one-time prekey", func(p *pairOf) {
		p.startUs(true)
		p.deliver(p.send(true, []byte("hello")))
	}},
	{"we begin without a one-time prekey", func(p *pairOf) {
		p.startUs(false)
		p.deliver(p.send(true, []byte("hello")))
	}},
	{"they begin with a one-time prekey", func(p *pairOf) {
		p.startThem(true)
		p.deliver(p.send(false, []byte("hello")))
	}},
	{"they begin without a one-time prekey", func(p *pairOf) {
		p.startThem(false)
		p.deliver(p.send(false, []byte("hello")))
	}},
	{"several messages before the first answer arrive out of order and twice", func(p *pairOf) {
		for _, byUs := range []bool{true, false} {
			if byUs {
				p.startUs(true)
			} else {
				p.startThem(true)
			}
			var messages []*message
			for i := range 5 {
				messages = append(messages, p.send(byUs, fmt.Append(nil, "number ", i)))
			}
			for _, i := range []int{3, 0, 4, 1} {
				p.deliver(messages[i])
				p.refuse(messages[i])
			}
			p.deliver(p.send(!byUs, []byte("answer")))
			p.deliver(p.send(byUs, []byte("next")))
			p.deliver(messages[2])
			p.refuse(messages[2])
		}
	}},
	{"both begin at once", func(p *pairOf) {
		p.startUs(true)
		p.startThem(true)
		ours, theirs := p.send(true, []byte("from us")), p.send(false, []byte("from them"))
		more, also := p.send(true, []byte("more from us")), p.send(false, []byte("more from them"))
		p.deliver(ours)
		p.deliver(theirs)
		crossed, crossing := p.send(true, []byte("answer from us")), p.send(false, []byte("answer from them"))
		p.deliver(crossing)
		p.deliver(crossed)
		p.deliver(more)
		p.deliver(also)
	}},
	{"a message of the old session comes after the first of the new one", func(p *pairOf) {
		for _, byUs := range []bool{true, false} {
			if byUs {
				p.startUs(true)
			} else {
				p.startThem(false)
			}
			p.deliver(p.send(byUs, []byte("first")))
			p.deliver(p.send(!byUs, []byte("answer")))
			late := []*message{p.send(!byUs, []byte("late")), p.send(byUs, []byte("late too"))}
			// The side that could not read asks again: the other begins anew.
			if byUs {
				p.startThem(true)
			} else {
				p.startUs(true)
			}
			p.deliver(p.send(!byUs, []byte("in the new session")))
			fresh := p.send(byUs, []byte("answer in the new session"))
			p.deliver(late[0])
			p.deliver(late[1])
			p.deliver(fresh)
			p.deliver(p.send(!byUs, []byte("and on")))
			p.deliver(p.send(byUs, []byte("and on")))
		}
	}},
}

func TestMessagesAreReadBothWaysWithTheOfficialLibrary(t *testing.T) {
	wanted := ordinaryMessages
	if all() {
		wanted = allMessages
	}
	each := wanted/(len(versions)*len(flows)) + 1
	read := 0
	for _, v := range versions {
		theirs := startOfficial(t, v.version)
		for number, flow := range flows {
			t.Run(v.version+" "+flow.name, func(t *testing.T) {
				p := newPair(t, theirs.under(t), v.firstByte, number)
				flow.begin(p)
				seed := uint64(number)
				if all() {
					seed = rand.Uint64()
				}
				t.Logf("seed %d", seed)
				p.talk(rand.New(rand.NewPCG(seed, 6)), each)
				read += p.read
			})
		}
	}
	t.Logf("%d messages read across the libraries", read)
	if read < wanted {
		t.Errorf("only %d messages were read across the libraries, want at least %d", read, wanted)
	}
}

// previousCounter reads the length of the chain before out of a message.
func previousCounter(t *testing.T, sealed e2ee.Sealed) uint64 {
	t.Helper()
	if sealed.Type != e2ee.TypeMessage {
		t.Fatalf("a %s, want a msg", sealed.Type)
	}
	for b := sealed.Body[1 : len(sealed.Body)-8]; len(b) > 0; {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatal("not a protobuf message")
		}
		b = b[n:]
		if number == 3 && kind == protowire.VarintType {
			value, _ := protowire.ConsumeVarint(b)
			return value
		}
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			t.Fatal("not a protobuf message")
		}
		b = b[n:]
	}
	t.Fatal("no previous counter in the message")
	return 0
}

func TestTheChainLengthOnTheWireIsTheOfficialLibrarysAndIsReadByIt(t *testing.T) {
	for _, v := range versions {
		t.Run(v.version, func(t *testing.T) {
			ours := newPair(t, startOfficial(t, v.version), v.firstByte, 1)
			// Their side of a mirrored conversation shows what the official library writes in our place.
			mirror := newPair(t, ours.theirs, v.firstByte, 2)
			ours.startThem(true)
			mirror.startUs(true)
			for turn := range 6 {
				ours.deliver(ours.send(false, []byte("ping")))
				mirror.deliver(mirror.send(true, []byte("ping")))
				for range turn {
					// From the first answer on each chain is one longer than the one before.
					ours.deliver(ours.send(true, []byte("more")))
					mirror.deliver(mirror.send(false, []byte("more")))
				}
				answer, official := ours.send(true, []byte("pong")), mirror.send(false, []byte("pong"))
				if got, want := previousCounter(t, answer.sealed), previousCounter(t, official.sealed); got != want {
					t.Errorf("turn %d: we write %d, the official library %d", turn, got, want)
				}
				ours.deliver(answer)
				mirror.deliver(official)
			}
		})
	}
}
