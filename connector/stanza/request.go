package stanza

import (
	"errors"

	"postern/connector/binxml"
	"postern/connector/jid"
)

// Request is a typed iq of type get or set: one of CountRequest, Upload, KeyRequest, Rotate, UsersRequest,
// ReachRequest, DeleteRequest, KeepAlive, ServerPing, PassiveRequest, BlocklistRequest and BlockRequest.
type Request interface {
	// IQ makes the iq, without an id, addressed to the gatekeeper (ServerPing: from it). It fails if the request
	// cannot be put on the wire: ErrKey, ErrCount or the errors of an invalid address.
	IQ() (*IQ, error)
}

// ErrRequest is what ParseRequest returns for an iq that is no request it knows; the answer to it is code 501
// (PROTOCOL.md 4.11).
var ErrRequest = errors.New("parse iq: unknown request")

// ErrCount is the error of a request about none or too many.
var ErrCount = errors.New("build iq: none or too many entries")

// Numbers of entries in one request.
const (
	// MaxUsers is the greatest number of entries in a UsersRequest (PROTOCOL.md 5.2), and of users in a KeyRequest of ours.
	MaxUsers = 256
	// MaxUpload is the greatest number of one-time prekeys in an Upload; a larger one is refused.
	MaxUpload = 4096
)

// CountRequest asks how many of our one-time prekeys the server has left (PROTOCOL.md 5.1); CountAnswer answers.
type CountRequest struct{}

// Upload gives the server new prekeys (PROTOCOL.md 5.1). The answer is empty; 406 if Identity is not the enlisted one.
type Upload struct {
	RegistrationID uint32
	Identity       [32]byte
	PreKeys        []PreKey
	Signed         SignedPreKey
}

// KeyRequest asks for the bundles of users (PROTOCOL.md 5.1); KeyAnswer answers.
type KeyRequest struct {
	Users []jid.JID
	// IdentityChanged asks because an identity has changed.
	IdentityChanged bool
}

// Rotate replaces the signed prekey alone (PROTOCOL.md 5.1). The answer is empty.
type Rotate struct {
	Signed SignedPreKey
}

// UsersRequest asks for the addresses of phone numbers in E.164, with the plus (PROTOCOL.md 5.2); UsersAnswer answers.
type UsersRequest struct {
	ExternalIDs []string
}

// ReachRequest asks a WhatsApp user whether we may write: the ping of PROTOCOL.md 5.3. The answer is empty; a
// notification with Reachability follows.
type ReachRequest struct {
	JID jid.JID
	// DisplayName is the name the user is shown.
	DisplayName string
}

// DeleteRequest deletes our account (PROTOCOL.md 8.1). The answer is empty, and the stream ends.
type DeleteRequest struct{}

// KeepAlive shows that the stream is alive (PROTOCOL.md 4.6). The answer is empty.
type KeepAlive struct{}

// ServerPing is the gatekeeper's own question whether we are alive (PROTOCOL.md 4.11). The answer is empty.
type ServerPing struct{}

// PassiveRequest is sent by ordinary clients after a login, never by us; the server answers it with an empty result
// (PROTOCOL.md 4.10).
type PassiveRequest struct {
	Active bool
}

// BlocklistRequest asks for our blocklist (PROTOCOL.md 6.10); BlocklistAnswer answers.
type BlocklistRequest struct{}

// BlockRequest blocks or unblocks a user (PROTOCOL.md 6.10); BlocklistAnswer answers.
type BlockRequest struct {
	BlockChange
}

func request(typ, xmlns string, children ...binxml.Node) *IQ {
	return &IQ{Type: typ, XMLNS: xmlns, To: jid.ServerJID, Children: children}
}

// IQ makes the iq.
func (CountRequest) IQ() (*IQ, error) {
	return request(IQGet, NSEncrypt, binxml.Node{Tag: "count"}), nil
}

// IQ makes the iq, with at most MaxUpload prekeys.
func (u *Upload) IQ() (*IQ, error) {
	if len(u.PreKeys) > MaxUpload {
		return nil, ErrCount
	}
	bundle := Bundle{Signed: u.Signed}
	list := binxml.Node{Tag: "list", Children: make([]binxml.Node, len(u.PreKeys))}
	for i := range u.PreKeys {
		bundle.PreKey = &u.PreKeys[i]
		if err := bundle.Validate(); err != nil {
			return nil, err
		}
		list.Children[i] = u.PreKeys[i].node()
	}
	if err := bundle.Validate(); err != nil {
		return nil, err
	}
	return request(IQSet, NSEncrypt, bytesNode("registration", u.RegistrationID, 4),
		binxml.Node{Tag: "type", Data: []byte{KeyType}}, binxml.Node{Tag: "identity", Data: u.Identity[:]},
		list, u.Signed.node()), nil
}

// IQ makes the iq, for one to MaxUsers users.
func (k *KeyRequest) IQ() (*IQ, error) {
	if len(k.Users) == 0 || len(k.Users) > MaxUsers {
		return nil, ErrCount
	}
	key := build("key", 0)
	for _, j := range k.Users {
		if err := j.Validate(); err != nil {
			return nil, err
		}
		user := build("user", 2).jid("jid", j)
		if k.IdentityChanged {
			user = user.str("reason", "identity")
		}
		key = key.add(*user.n)
	}
	return request(IQGet, NSEncrypt, *key.n), nil
}

// IQ makes the iq.
func (o *Rotate) IQ() (*IQ, error) {
	if o.Signed.ID > MaxKeyID {
		return nil, ErrKey
	}
	return request(IQSet, NSEncrypt, binxml.Node{Tag: "rotate", Children: []binxml.Node{o.Signed.node()}}), nil
}

// IQ makes the iq, for one to MaxUsers numbers.
func (u *UsersRequest) IQ() (*IQ, error) {
	if len(u.ExternalIDs) == 0 || len(u.ExternalIDs) > MaxUsers {
		return nil, ErrCount
	}
	users := build("users", 0)
	for _, id := range u.ExternalIDs {
		users = users.add(*build("user", 1).str("external_id", id).n)
	}
	return request(IQGet, NSInterop, *users.n), nil
}

// IQ makes the iq.
func (p *ReachRequest) IQ() (*IQ, error) {
	if err := p.JID.Validate(); err != nil {
		return nil, err
	}
	user := build("user", 2).jid("jid", p.JID).str("display_name", p.DisplayName).n
	return request(IQSet, NSInterop, binxml.Node{Tag: "ping", Children: []binxml.Node{*user}}), nil
}

// IQ makes the iq.
func (DeleteRequest) IQ() (*IQ, error) {
	return request(IQSet, NSInterop, binxml.Node{Tag: "delete_account"}), nil
}

// IQ makes the iq.
func (KeepAlive) IQ() (*IQ, error) { return request(IQGet, NSKeepAlive), nil }

// IQ makes the iq, from the gatekeeper.
func (ServerPing) IQ() (*IQ, error) {
	return &IQ{Type: IQGet, XMLNS: NSPing, From: jid.ServerJID}, nil
}

// IQ makes the iq.
func (p PassiveRequest) IQ() (*IQ, error) {
	tag := "passive"
	if p.Active {
		tag = "active"
	}
	return request(IQSet, NSPassive, binxml.Node{Tag: tag}), nil
}

// IQ makes the iq.
func (BlocklistRequest) IQ() (*IQ, error) { return request(IQGet, NSBlocklist), nil }

// IQ makes the iq.
func (b BlockRequest) IQ() (*IQ, error) {
	if err := b.JID.Validate(); err != nil {
		return nil, err
	}
	return request(IQSet, NSBlocklist, b.node()), nil
}

// ParseRequest reads an iq of type get or set. It returns ErrRequest for one it does not know, to be answered with
// 501, and a *ParseError for a malformed one, to be answered with 400.
func ParseRequest(q *IQ) (Request, error) {
	r := &reader{n: &binxml.Node{Tag: "iq", Children: q.Children}, kind: KindIQ}
	var out Request
	switch q.Type + " " + q.XMLNS {
	case IQGet + " " + NSEncrypt:
		out = parseEncryptGet(r)
	case IQSet + " " + NSEncrypt:
		out = parseEncryptSet(r)
	case IQGet + " " + NSInterop:
		out = parseUsersRequest(r)
	case IQSet + " " + NSInterop:
		out = parseInteropSet(r)
	case IQGet + " " + NSKeepAlive:
		out = KeepAlive{}
	case IQGet + " " + NSPing:
		out = ServerPing{}
	case IQSet + " " + NSPassive:
		out = PassiveRequest{Active: q.child("active") != nil}
	case IQGet + " " + NSBlocklist:
		out = BlocklistRequest{}
	case IQSet + " " + NSBlocklist:
		out = parseBlockRequest(r)
	}
	switch {
	case r.err != nil:
		return nil, r.err
	case out == nil:
		return nil, ErrRequest
	}
	return out, nil
}

func parseEncryptGet(r *reader) Request {
	if r.n.Child("count") != nil {
		return CountRequest{}
	}
	key := r.n.Child("key")
	if key == nil {
		return nil
	}
	out := &KeyRequest{}
	r.each(key, "user", func(r *reader) {
		out.Users = append(out.Users, r.jid("jid"))
		out.IdentityChanged = out.IdentityChanged || r.word("reason") == "identity"
	})
	if len(out.Users) == 0 {
		r.fail("key/user", absent)
	}
	return out
}

func parseEncryptSet(r *reader) Request {
	if rotate := r.n.Child("rotate"); rotate != nil {
		out := &Rotate{}
		r.sub(rotate, func(r *reader) {
			skey := r.n.Child("skey")
			if skey == nil {
				r.fail("skey", absent)
				return
			}
			r.sub(skey, out.Signed.parse)
		})
		return out
	}
	list := r.n.Child("list")
	if list == nil {
		return nil
	}
	out := &Upload{RegistrationID: r.uintOf("registration", 4)}
	parseKeyType(r)
	r.bytesOf("identity", out.Identity[:])
	skey := r.n.Child("skey")
	if skey == nil {
		r.fail("skey", absent)
		return out
	}
	r.sub(skey, out.Signed.parse)
	out.PreKeys = make([]PreKey, 0, len(list.Children))
	r.each(list, "key", func(r *reader) {
		var p PreKey
		p.parse(r)
		out.PreKeys = append(out.PreKeys, p)
	})
	return out
}

func parseUsersRequest(r *reader) Request {
	users := r.n.Child("users")
	if users == nil {
		return nil
	}
	out := &UsersRequest{}
	r.each(users, "user", func(r *reader) { out.ExternalIDs = append(out.ExternalIDs, r.id("external_id")) })
	if len(out.ExternalIDs) == 0 || len(out.ExternalIDs) > MaxUsers {
		r.fail("users/user", "none or too many")
	}
	return out
}

func parseInteropSet(r *reader) Request {
	if r.n.Child("delete_account") != nil {
		return DeleteRequest{}
	}
	ping := r.n.Child("ping")
	if ping == nil {
		return nil
	}
	out := &ReachRequest{}
	r.sub(ping, func(r *reader) {
		user := r.n.Child("user")
		if user == nil {
			r.fail("user", absent)
			return
		}
		r.sub(user, func(r *reader) { out.JID, out.DisplayName = r.jid("jid"), r.name("display_name") })
	})
	return out
}

func parseBlockRequest(r *reader) Request {
	item := r.n.Child("item")
	if item == nil {
		return nil
	}
	out := BlockRequest{}
	r.sub(item, func(r *reader) { out.BlockChange = blockChange(r) })
	return out
}
