package interop_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"postern/connector/interop"
)

// TestAnAttachmentThatIsLostIsNotReferredTo: what was prepared has got lost before it was encrypted. The event fails, or waits while nobody can
// tell, and the chat goes on.
func TestAnAttachmentThatIsLostIsNotReferredTo(t *testing.T) {
	for name, c := range map[string]struct {
		answers []error
		always  bool
		sent    bool
		reason  interop.Reason
	}{
		"lost":                    {answers: []error{&interop.Unsendable{Reason: interop.ReasonMedia}}, reason: interop.ReasonMedia},
		"a store that was away":   {answers: []error{errors.New("away"), errors.New("away")}, sent: true},
		"a store that stays away": {answers: []error{errors.New("away")}, reason: interop.ReasonMedia, always: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				p := b.g.phone("1")
				chat := b.chatWith(p)
				b.prepares(func(_ context.Context, in *interop.Preparing) (*interop.Prepared, error) { return madeOf(t, in), nil })
				asked := 0
				b.m.mu.Lock()
				b.m.attached = func([]byte) error {
					asked++
					if c.always {
						return c.answers[0]
					}
					if asked > len(c.answers) {
						return nil
					}
					return c.answers[asked-1]
				}
				b.m.mu.Unlock()
				b.recipe(chat, "$1", "a picture")
				if !c.always {
					b.send(chat, "$2", "behind")
				}
				time.Sleep(2 * time.Minute)
				settle()
				if c.always { // what is written meanwhile waits no longer than a minute either
					b.send(chat, "$2", "behind")
					settle()
				}
				if c.sent {
					b.wantPhone(p, "made of a picture", "behind")
					b.wantLast("$1", interop.OutDelivered)
				} else {
					b.wantPhone(p, "behind")
					b.wantFailed("$1", c.reason, 0)
				}
				b.wantLast("$2", interop.OutDelivered)
			})
		})
	}
}
