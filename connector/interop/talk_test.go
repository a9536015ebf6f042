package interop_test

import (
	"slices"
	"testing"

	"postern/connector/interop"
	"postern/connector/interop/interoptest"
)

func TestTextGoesBothWaysAndIsAcknowledgedBothWays(t *testing.T) {
	g := newGate(t)
	p := g.enlist(t, interoptest.NewMemStore())
	p.run(t)
	p.live(t)
	chat := p.chat(t, ada)
	ids := p.send(t, chat, "$event1", "hello Ada")
	ev := g.saw(ada, "the text", isText("hello Ada"))
	if ev["id"] != ids[0] || ev["display_name"] != "Matilda" {
		t.Errorf("the phone has id %v from %v, want %v from Matilda", ev["id"], ev["display_name"], ids[0])
	}
	p.m.wait(t, "delivered", func() bool { return slices.Contains(p.m.states("$event1"), interop.OutDelivered) })
	id := g.says(ada, "hello Matilda")
	p.m.wait(t, "the answer", func() bool { return len(p.m.in) == 1 })
	in := p.m.in[0]
	if in.Chat != chat || in.MessageID != id || in.Message.GetConversation() != "hello Matilda" {
		t.Errorf("got %v %v, want %v %v", in.Chat, in.MessageID, chat, id)
	}
	g.saw(ada, "our delivery receipt", isKind("receipt"))
	g.post("/v1/users/"+ada+"/read", map[string]any{"to": user, "ids": ids})
	p.m.wait(t, "read", func() bool { return slices.Contains(p.m.states("$event1"), interop.OutRead) })
	g.blameless()
}
