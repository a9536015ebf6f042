package interop

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"postern/connector/e2ee"
	"postern/connector/jid"
	"postern/connector/profile"
)

// endless has as many rows of each chat as anybody reads.
type endless struct {
	Store
	waiting map[string]int
}

func (s *endless) InboundBacklog(context.Context) (map[string]int, error) { return s.waiting, nil }

func (s *endless) PendingInbound(_ context.Context, chat string, after int64, limit int) (rows []*InRow, err error) {
	for i := range limit {
		rows = append(rows, waitingRow(chat, after+int64(i)+1))
	}
	return rows, nil
}

func waitingRow(chat string, seq int64) *InRow {
	return &InRow{
		Seq: seq, Chat: chat, ID: fmt.Sprintf("AC%030d", seq), Hash: make([]byte, 32), Kind: KindMessage, Payload: make([]byte, 40),
		STS: fmt.Sprintf("%016d", seq), Notify: "somebody",
	}
}

// inMemory is how many rows there are, and what the heap has grown by.
func (m *mail) inMemory(before uint64) (rows int, grown int64) {
	for _, c := range m.chats {
		rows += len(c.log.rows)
	}
	return rows, int64(heapNow()) - int64(before)
}

func heapNow() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestShortMessagesOfManyChatsThatWaitForMatrixCostABoundedAmountOfMemory: they take their room for being there, not for what they say.
func TestShortMessagesOfManyChatsThatWaitForMatrixCostABoundedAmountOfMemory(t *testing.T) {
	const chats, each, most = 3000, 40, 16 << 20
	peers := make([]Peer, chats)
	for i := range peers {
		peers[i] = Peer{Chat: fmt.Sprint("chat", i), JID: jid.JID{User: fmt.Sprint(100_000 + i), Server: jid.LID}}
	}
	t.Run("as they come", func(t *testing.T) {
		a := New(Config{Profile: profile.WhatsApp(), Device: &e2ee.Device{}})
		before := heapNow()
		for range each {
			for _, p := range peers {
				seq := a.mail.place(p)
				a.mail.settle(p.Chat, seq, waitingRow(p.Chat, seq))
			}
		}
		if rows, grown := a.mail.inMemory(before); grown > most {
			t.Errorf("%d of %d messages are in memory and take %d KiB", rows, chats*each, grown>>10)
		}
		if a.mail.total != chats*each {
			t.Errorf("%d are counted, want %d", a.mail.total, chats*each)
		}
		runtime.KeepAlive(a)
	})
	t.Run("as they are read", func(t *testing.T) {
		store := &endless{waiting: map[string]int{}}
		a := New(Config{Profile: profile.WhatsApp(), Device: &e2ee.Device{}, Store: store})
		for _, p := range peers {
			put(&a.mail.chats, p.Chat, &mailChat{key: p.Chat, count: each, log: backlog[*InRow]{spilled: true}})
		}
		before := heapNow()
		for _, p := range peers {
			if row, err := a.mail.next(t.Context(), p.Chat); err != nil || row == nil || row.Seq != 1 {
				t.Fatalf("the first of a chat is %v, %v", row, err)
			}
		}
		if rows, grown := a.mail.inMemory(before); grown > most {
			t.Errorf("%d messages are in memory and take %d KiB", rows, grown>>10)
		}
		// However little room there is, a chat goes on.
		for seq := int64(1); seq <= 5; seq++ {
			row, err := a.mail.next(t.Context(), peers[chats-1].Chat)
			if err != nil || row == nil || row.Seq != seq {
				t.Fatalf("message %d is %v, %v", seq, row, err)
			}
			a.mail.done(row.Chat, row)
		}
	})
}
