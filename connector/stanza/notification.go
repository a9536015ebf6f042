package stanza

import (
	"postern/connector/binxml"
	"postern/connector/jid"
)

// The types of a notification with a meaning here; all others are acknowledged and left alone (PROTOCOL.md 4.11).
const (
	TypeEncrypt     = "encrypt"      // prekey count, or a changed identity (PROTOCOL.md 5.1, 6.9)
	TypeInterop     = "w:interop"    // reachability (PROTOCOL.md 5.3)
	TypeAccountSync = "account_sync" // blocklist (PROTOCOL.md 6.10)
)

// Notification tells of something that has happened. Its content is in Children; the methods read it.
type Notification struct {
	ID       string
	From, To jid.JID
	Type     string
	// T is the time in Unix seconds, 0 if absent.
	T int64
	// Offline is the place in the queue on delivery after a login, nil on a live one.
	Offline  *int
	Children []binxml.Node
}

// Kind is KindNotification.
func (o *Notification) Kind() Kind { return KindNotification }

// Node builds the element.
func (o *Notification) Node() *binxml.Node {
	n := build("notification", 6).jid("to", o.To).jid("from", o.From).str("id", o.ID).str("type", o.Type).num("t", o.T).
		ptr("offline", o.Offline).n
	n.Children = o.Children
	return n
}

func parseNotification(r *reader) *Notification {
	o := &Notification{ID: r.id("id"), Type: r.word("type"), T: r.t(), Offline: r.optionalInt("offline"),
		Children: r.n.Children}
	o.From, o.To = r.parties()
	if r.err != nil {
		return o
	}
	// The known contents are read here once, so that a malformed one is found by Parse and the methods cannot fail.
	switch o.Type {
	case TypeEncrypt:
		if child := r.n.Child("count"); child != nil {
			r.sub(child, func(r *reader) { countValue(r) })
		}
	case TypeInterop:
		if child := r.n.Child("reachability"); child != nil {
			r.sub(child, func(r *reader) { reachability(r) })
		}
	case TypeAccountSync:
		r.sub(r.n.Child("blocklist"), func(r *reader) { blockChanges(r) })
	}
	return o
}

func (o *Notification) content(typ, tag string) *reader {
	child := (&binxml.Node{Children: o.Children}).Child(tag)
	if o.Type != typ || child == nil {
		return nil
	}
	return &reader{n: child, kind: KindNotification}
}

// PreKeyCount is the number of one-time prekeys the server has left; false if this is no such notification
// (PROTOCOL.md 5.1).
func (o *Notification) PreKeyCount() (int, bool) {
	r := o.content(TypeEncrypt, "count")
	if r == nil {
		return 0, false
	}
	value := countValue(r)
	return value, r.err == nil
}

// IdentityChanged says that the identity key of From is another now (PROTOCOL.md 6.9).
func (o *Notification) IdentityChanged() bool { return o.content(TypeEncrypt, "identity") != nil }

// Reach is the outcome of a ping, or a later change (PROTOCOL.md 5.3).
type Reach struct {
	// JID is the WhatsApp user.
	JID jid.JID
	// State is ReachAccepted, ReachDeclined or ReachOff.
	State string
}

// The states of a Reach.
const (
	ReachAccepted = "accepted"
	ReachDeclined = "declined"
	ReachOff      = "off"
)

// Reachability is the change of a WhatsApp user's reachability; false if this is no such notification.
func (o *Notification) Reachability() (Reach, bool) {
	r := o.content(TypeInterop, "reachability")
	if r == nil {
		return Reach{}, false
	}
	reach := reachability(r)
	return reach, r.err == nil
}

// BlockChange is one change to the blocklist (PROTOCOL.md 6.10).
type BlockChange struct {
	JID jid.JID
	// Block is true for blocked and false for unblocked.
	Block bool
}

// BlockChanges are the changes to our blocklist, none if this is no such notification.
func (o *Notification) BlockChanges() []BlockChange {
	r := o.content(TypeAccountSync, "blocklist")
	if r == nil {
		return nil
	}
	changes := blockChanges(r)
	if r.err != nil {
		return nil
	}
	return changes
}

func countValue(r *reader) int {
	n, ok := r.number("value", maxInt32)
	if !ok {
		r.fail("value", absent)
	}
	return int(n)
}

func reachability(r *reader) Reach {
	v := Reach{JID: r.jid("jid"), State: r.word("state")}
	switch v.State {
	case ReachAccepted, ReachDeclined, ReachOff:
	default:
		r.fail("state", "unknown")
	}
	return v
}

func blockChanges(r *reader) (changes []BlockChange) {
	for _, item := range r.n.ChildrenNamed("item") {
		r.sub(item, func(r *reader) { changes = append(changes, blockChange(r)) })
	}
	return changes
}

func blockChange(r *reader) BlockChange {
	c := BlockChange{JID: r.jid("jid")}
	switch r.word("action") {
	case "block":
		c.Block = true
	case "unblock":
	default:
		r.fail("action", "unknown")
	}
	return c
}

func (c BlockChange) node() binxml.Node {
	action := "unblock"
	if c.Block {
		action = "block"
	}
	return *build("item", 2).str("action", action).jid("jid", c.JID).n
}

// NewPreKeyCount tells a partner how many one-time prekeys are left. The caller sets ID, To and T of this and the
// following.
func NewPreKeyCount(left int) *Notification {
	return &Notification{Type: TypeEncrypt, From: jid.ServerJID, Children: []binxml.Node{countNode(left)}}
}

// NewIdentityChange tells that the identity key of a user is another now.
func NewIdentityChange(of jid.JID) *Notification {
	return &Notification{Type: TypeEncrypt, From: of, Children: []binxml.Node{{Tag: "identity"}}}
}

// NewReachability tells of a change of a WhatsApp user's reachability.
func NewReachability(reach Reach) *Notification {
	return &Notification{Type: TypeInterop, From: jid.ServerJID, Children: []binxml.Node{
		*build("reachability", 2).jid("jid", reach.JID).str("state", reach.State).n}}
}

// NewBlockChanges tells of changes to the blocklist.
func NewBlockChanges(changes ...BlockChange) *Notification {
	list := build("blocklist", 0)
	for _, c := range changes {
		list = list.add(c.node())
	}
	return &Notification{Type: TypeAccountSync, From: jid.ServerJID, Children: []binxml.Node{*list.n}}
}
