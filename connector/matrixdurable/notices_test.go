package matrixdurable

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

type memNotices struct {
	mu   sync.Mutex
	list []Notice
	sent map[string]bool
}

func (m *memNotices) AddNotice(_ context.Context, n Notice) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sent[n.ID] || slices.ContainsFunc(m.list, func(x Notice) bool { return x.ID == n.ID }) {
		return nil
	}
	m.list = append(m.list, n)
	return nil
}

func (m *memNotices) Notices(_ context.Context, limit int) ([]Notice, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.list[:min(limit, len(m.list))]), nil
}

func (m *memNotices) TriedNotice(_ context.Context, noticeID string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.list {
		if m.list[i].ID == noticeID {
			m.list[i].Tried = true
		}
	}
	return nil
}

func (m *memNotices) SentNotice(_ context.Context, noticeID string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = slices.DeleteFunc(m.list, func(n Notice) bool { return n.ID == noticeID })
	if m.sent == nil {
		m.sent = map[string]bool{}
	}
	m.sent[noticeID] = true
	return nil
}

func refusal(code string, status int) error {
	return mautrix.HTTPError{RespError: &mautrix.RespError{ErrCode: code}, Response: &http.Response{StatusCode: status}}
}

func TestANoticeIsSentUntilMatrixHasItAndThenNeverAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type attempt struct {
			room      id.RoomID
			identity  string
			uncertain bool
			reply     id.EventID
		}
		var attempts []attempt
		store := &memNotices{}
		n := NewNotices(store, func(ctx context.Context, room id.RoomID, content *event.Content) error {
			s := SendingFrom(ctx)
			msg := content.AsMessage()
			attempts = append(attempts, attempt{room, s.Parts[0], s.Uncertain, msg.RelatesTo.GetReplyTo()})
			switch {
			case room == "!gone":
				return refusal("M_FORBIDDEN", 403)
			case len(attempts) < 4:
				return errors.New("homeserver away")
			}
			return nil
		}, nopLog)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { n.Run(ctx); close(done) }()
		for range 2 {
			if err := n.Reply(ctx, "kind", "!a", "$1", "@u:hs", "text"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(attempts) != 4 || attempts[0].uncertain || !attempts[3].uncertain || attempts[0].reply != "$1" {
			t.Errorf("attempts: %+v", attempts)
		}
		if attempts[0].identity != attempts[3].identity {
			t.Error("a repetition has another identity")
		}
		if err := n.Reply(ctx, "kind", "!a", "$1", "", "again"); err != nil {
			t.Fatal(err)
		}
		if err := n.Reply(ctx, "kind", "!gone", "$2", "", "text"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(attempts) != 5 || len(store.list) != 0 {
			t.Errorf("%d attempts, left %v", len(attempts), store.list)
		}
		cancel()
		<-done
	})
}

func TestOnlyRefusalsThatStayArePermanent(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"no error":                {nil, false},
		"a broken connection":     {errors.New("reset"), false},
		"forbidden":               {refusal("M_FORBIDDEN", 403), true},
		"too large":               {refusal("M_TOO_LARGE", 413), true},
		"too large by a proxy":    {refusal("M_UNKNOWN", 413), true},
		"rate limited":            {refusal("M_LIMIT_EXCEEDED", 429), false},
		"an error of theirs":      {refusal("M_UNKNOWN", 500), false},
		"a wrong token":           {refusal("M_UNKNOWN_TOKEN", 401), false},
		"an answer not of Matrix": {mautrix.HTTPError{Response: &http.Response{StatusCode: 502}}, false},
		"forbidden, wrapped":      {errors.Join(errors.New("x"), refusal("M_FORBIDDEN", 403)), true},
	} {
		if got := Permanent(c.err); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
