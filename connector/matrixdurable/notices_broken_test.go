package matrixdurable

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// brokenNotices cannot read one of its notices, and says so each time.
type brokenNotices struct {
	memNotices
	asked int
}

func (b *brokenNotices) Notices(ctx context.Context, limit int) ([]Notice, error) {
	b.asked++
	list, err := b.memNotices.Notices(ctx, limit)
	return list, errors.Join(err, errors.New("one cannot be read"))
}

func TestANoticeThatCannotBeReadKeepsNoOtherBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rooms []id.RoomID
		store := &brokenNotices{}
		n := NewNotices(store, func(_ context.Context, room id.RoomID, _ *event.Content) error {
			rooms = append(rooms, room)
			return nil
		}, nopLog)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { n.Run(ctx); close(done) }()
		for _, room := range []id.RoomID{"!a", "!b"} {
			if err := n.Reply(ctx, "kind", room, "$1", "", "text"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if !slices.Equal(rooms, []id.RoomID{"!a", "!b"}) {
			t.Errorf("sent to %v", rooms)
		}
		if store.asked < 3 || store.asked > int(time.Hour/time.Second) {
			t.Errorf("the broken one was looked for %d times in an hour", store.asked)
		}
		cancel()
		<-done
	})
}
