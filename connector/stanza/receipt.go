package stanza

import (
	"slices"

	"postern/connector/binxml"
	"postern/connector/jid"
)

// The types of a receipt we give a meaning to (PROTOCOL.md 6.6, 6.8).
const (
	ReceiptDelivered = "" // delivered, the type is absent
	ReceiptRead      = "read"
	ReceiptPlayed    = "played"
	ReceiptRetry     = "retry"
)

// Receipt says what became of one or several messages (PROTOCOL.md 6.6), or asks for one again (6.8).
type Receipt struct {
	// ID is the first message id; the acknowledgement repeats it.
	ID       string
	To, From jid.JID
	// Type is one of the constants above or what the sender wrote.
	Type string
	// T is the time in Unix seconds, 0 if absent.
	T int64
	// IDs are all message ids, ID first, each once. When building, empty means ID alone.
	IDs []string
	// STS repeats that of the message (PROTOCOL.md 6.2).
	STS string
	// Offline is the place in the queue on delivery after a login, nil on a live receipt.
	Offline *int
	// Retry is not nil exactly if Type is ReceiptRetry.
	Retry *Retry
}

// Retry asks for a message again because it could not be read (PROTOCOL.md 6.8).
type Retry struct {
	// Count is the number of this request for the message, from 1.
	Count int
	// ID is the message's id, T its time in Unix seconds.
	ID string
	T  int64
	// Version is 1.
	Version int
	// Error is the reason, 0 for unknown.
	Error int
	// RegistrationID is the asker's, 0 if absent.
	RegistrationID uint32
	// Keys is the asker's bundle, nil if absent; its registration id is RegistrationID.
	Keys *Bundle
}

// Kind is KindReceipt.
func (p *Receipt) Kind() Kind { return KindReceipt }

// Node builds the element. A retry's Keys must be valid, see Bundle.Validate.
func (p *Receipt) Node() *binxml.Node {
	b := build("receipt", 8).jid("to", p.To).jid("from", p.From).str("id", p.ID).str("type", p.Type).num("t", p.T).
		str("sts", p.STS).ptr("offline", p.Offline)
	var items []binxml.Node
	for _, id := range p.IDs {
		if id != p.ID {
			items = append(items, *build("item", 1).str("id", id).n)
		}
	}
	if len(items) > 0 {
		b = b.add(binxml.Node{Tag: "list", Children: items})
	}
	if p.Retry != nil {
		b = b.add(p.Retry.nodes()...)
	}
	return b.n
}

func (y *Retry) nodes() []binxml.Node {
	retry := build("retry", 5).num("count", int64(y.Count)).str("id", y.ID).num("t", y.T).num("v", int64(y.Version)).
		num("error", int64(y.Error)).n
	nodes := []binxml.Node{*retry, bytesNode("registration", y.RegistrationID, 4)}
	if y.Keys != nil {
		nodes = append(nodes, binxml.Node{Tag: "keys", Children: y.Keys.keyNodes()})
	}
	return nodes
}

func parseReceipt(r *reader) *Receipt {
	p := &Receipt{ID: r.id("id"), Type: r.word("type"), T: r.t(), STS: r.word("sts"), Offline: r.optionalInt("offline")}
	p.From, p.To = r.parties()
	p.IDs = []string{p.ID}
	if list := r.n.Child("list"); list != nil {
		p.IDs = make([]string, 1, 1+len(list.Children))
		p.IDs[0] = p.ID
		r.each(list, "item", func(r *reader) { p.IDs = append(p.IDs, r.id("id")) })
		p.IDs = unique(p.IDs)
	}
	if p.Type == ReceiptRetry {
		p.Retry = parseRetry(r)
	}
	return p
}

// unique drops repetitions and keeps the order.
func unique(ids []string) []string {
	seen := make(map[string]struct{}, len(ids))
	return slices.DeleteFunc(ids, func(id string) bool {
		_, again := seen[id]
		seen[id] = struct{}{}
		return again
	})
}

func parseRetry(r *reader) *Retry {
	y := &Retry{}
	retry := r.n.Child("retry")
	if retry == nil {
		r.fail("retry", absent)
		return y
	}
	r.sub(retry, func(r *reader) {
		y.Count, y.ID, y.T, y.Version, y.Error = r.int("count"), r.id("id"), r.t(), r.int("v"), r.int("error")
		if y.Count == 0 {
			r.fail("count", absent)
		}
	})
	keys := r.n.Child("keys")
	if r.n.Child("registration") != nil || keys != nil {
		y.RegistrationID = r.uintOf("registration", 4)
	}
	if keys != nil {
		y.Keys = &Bundle{}
		r.sub(keys, y.Keys.parseKeys)
		y.Keys.RegistrationID = y.RegistrationID
	}
	return y
}
