package stanza

import (
	"strconv"

	"postern/connector/binxml"
	"postern/connector/jid"
)

// ChatState says that somebody is typing, or has stopped (PROTOCOL.md 6.7). Nobody acknowledges it.
type ChatState struct {
	To, From jid.JID
	// State is Composing or Paused.
	State string
	// Media is "audio" while a voice message is recorded.
	Media string
}

// The states of a ChatState.
const (
	Composing = "composing"
	Paused    = "paused"
)

// Kind is KindChatState.
func (c *ChatState) Kind() Kind { return KindChatState }

// Node builds the element.
func (c *ChatState) Node() *binxml.Node {
	return build("chatstate", 2).jid("to", c.To).jid("from", c.From).add(*build(c.State, 1).str("media", c.Media).n).n
}

func parseChatState(r *reader) *ChatState {
	c := &ChatState{}
	c.From, c.To = r.parties()
	for _, state := range []string{Composing, Paused} {
		if child := r.n.Child(state); child != nil && c.State == "" {
			c.State = state
			r.sub(child, func(r *reader) { c.Media = r.word("media") })
		}
	}
	if c.State == "" {
		r.fail("", "no known state")
	}
	return c
}

// IB is information about the stream itself (PROTOCOL.md 4.10). Nobody acknowledges it.
type IB struct {
	// From is the server, or absent.
	From jid.JID
	// Preview announces what is queued, before it comes.
	Preview *OfflinePreview
	// Offline is the number of queued stanzas that have come: the queue is empty now, new stanzas follow.
	Offline *int
	// Other is the other content, left alone.
	Other []binxml.Node
}

// OfflinePreview counts what is queued: everything, and by kind.
type OfflinePreview struct {
	Count, Message, Receipt, Notification int
}

// Kind is KindIB.
func (i *IB) Kind() Kind { return KindIB }

// Node builds the element.
func (i *IB) Node() *binxml.Node {
	b := build("ib", 1).jid("from", i.From)
	if p := i.Preview; p != nil {
		b = b.add(binxml.Node{Tag: "offline_preview", Attrs: []binxml.Attr{
			binxml.I("count", p.Count), binxml.I("message", p.Message), binxml.I("receipt", p.Receipt),
			binxml.I("notification", p.Notification)}})
	}
	if i.Offline != nil {
		b = b.add(binxml.Node{Tag: "offline", Attrs: []binxml.Attr{binxml.S("count", strconv.Itoa(*i.Offline))}})
	}
	return b.add(i.Other...).n
}

func parseIB(r *reader) *IB {
	i := &IB{From: r.optionalJID("from")}
	for k := range r.n.Children {
		child := &r.n.Children[k]
		switch {
		case child.Tag == "offline_preview" && i.Preview == nil:
			i.Preview = &OfflinePreview{}
			r.sub(child, func(r *reader) {
				i.Preview.Count, i.Preview.Message = r.int("count"), r.int("message")
				i.Preview.Receipt, i.Preview.Notification = r.int("receipt"), r.int("notification")
			})
		case child.Tag == "offline" && i.Offline == nil:
			r.sub(child, func(r *reader) {
				count := r.int("count")
				i.Offline = &count
			})
		default:
			i.Other = append(i.Other, *child)
		}
	}
	return i
}
