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

func TestReadReceiptsAndTypingGoToAPhoneAndComeFromIt(t *testing.T) {
	g := newGate(t)
	p := g.enlist(t, interoptest.NewMemStore())
	p.run(t)
	p.live(t)
	chat := p.chat(t, ada)
	var ids []string
	for _, text := range []string{"one", "two"} {
		ids = append(ids, g.says(ada, text))
	}
	p.m.wait(t, "both texts", func() bool { return len(p.m.in) == 2 })
	g.saw(ada, "our delivery receipt", isKind("receipt"))
	if err := p.a.MarkRead(t.Context(), chat, ids[1]); err != nil {
		t.Fatal(err)
	}
	read := map[any]bool{}
	g.saw(ada, "that both are read", func(ev map[string]any) bool {
		if ev["kind"] == "receipt" && ev["type"] == "read" {
			for _, id := range ev["ids"].([]any) {
				read[id] = true
			}
		}
		return read[ids[0]] && read[ids[1]]
	})
	p.a.Typing(chat, true, false)
	g.saw(ada, "our typing", func(ev map[string]any) bool { return ev["kind"] == "typing" && ev["state"] == "composing" })
	p.a.Typing(chat, false, false)
	g.saw(ada, "its end", func(ev map[string]any) bool { return ev["kind"] == "typing" && ev["state"] == "paused" })
	g.post("/v1/users/"+ada+"/typing", map[string]any{"to": user, "state": "composing"})
	p.m.wait(t, "their typing", func() bool { return len(p.m.typing) > 0 && p.m.typing[len(p.m.typing)-1].Composing })
	g.says(ada, "three")
	p.m.wait(t, "its end", func() bool { return !p.m.typing[len(p.m.typing)-1].Composing })
	g.blameless()
}
