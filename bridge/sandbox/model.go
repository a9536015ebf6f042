package sandbox

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern/connector/jid"
)

// The persistent values, one type for each kind of key. Their fields are exported for encoding/json only.

// blob is bytes that JSON writes as base64.
type blob []byte

// meta is what belongs to the sandbox as a whole.
type meta struct {
	RootPrivate  blob // Noise: root of the certificate authority
	IntPrivate   blob // Noise: intermediate of the certificate authority
	NoisePrivate blob // Noise: the server's static key
	PushKey      blob // PKCS #1, the RSA key that signs push tokens; nil until it is needed
	PushKeyID    string
	ChatTCP      string // listener addresses, so that a restart finds them again
	ChatWS       string
	HTTP         string
}

func (*meta) storeKey() string { return "meta/" }

// counters are the numbers given out last. They change often, so they are apart from meta.
type counters struct {
	Fault uint64
	Order uint64 // of stanzas and prekeys
}

func (*counters) storeKey() string { return "counters/" }

// order gives out the next number for something that has an order.
func (c change) order() uint64 {
	c.counters.Order++
	c.put(c.counters)
	return c.counters.Order
}

// Integrator is one partner: what the two sides have agreed on. PublicBase is the iss of its tokens.
type Integrator struct {
	ID             uint16 `json:"id"`
	Name           string `json:"name"`
	IdentifierType string `json:"identifier_type"`
	PublicBase     string `json:"public_base"`
	MediaBase      string `json:"media_base"`
}

func (i *Integrator) storeKey() string { return fmt.Sprintf("integrator/%03d", i.ID) }

// optIn says which integrators a WhatsApp user lets in: all of them, or those listed.
type optIn struct {
	All bool
	IDs []uint16
}

func (o optIn) has(id uint16) bool { return o.All || slices.Contains(o.IDs, id) }

// user is one WhatsApp user and the phone in that person's hand.
type user struct {
	Phone      string // digits
	Name       string
	Address    string // text JID
	OptIn      optIn
	Device     blob // long-term Signal keys, as e2ee marshals them
	SignedID   uint32
	SignedKey  blob // serialised signed prekey pair
	NextPreKey uint32
	Events     uint64 // number of the last event

	jid      jid.JID
	phone    *phone
	contacts map[*account]*contact
	events   []*event
	news     chan struct{} // closed and replaced when an event is added
}

func (u *user) storeKey() string { return "user/" + u.Phone }

// account is one partner user.
type account struct {
	Address      string // text JID
	Integrator   uint16
	Identifier   string // normalised
	Enlisted     bool
	Deleted      bool
	AuthKey      blob // Noise static public key
	Identity     blob
	Registration uint32
	SignedID     uint32
	SignedKey    blob
	SignedSig    blob
	ReadReceipts bool  // as the last login said
	LastSeen     int64 // Unix seconds
	LowTold      bool  // the low notification has gone out since the last upload
	UsedJTI      map[string]int64

	jid     jid.JID
	prekeys map[uint32]*accountPreKey
	fresh   []uint32 // ids of prekeys not handed out, in the order of their arrival
	queue   []*queued
	seen    map[string]*seen
	places  map[string]blob // digests of the ciphertexts by their places in a ratchet
	blocked map[*user]bool  // blocklist of the partner user
	stream  *stream
	logins  int64 // since the start
	pushAt  time.Time
}

func (a *account) storeKey() string { return "account/" + a.Address }

// accountPreKey is a one-time prekey a partner user has uploaded. It stays, marked, after it was handed out,
// so that the same upload sent again does not bring it back.
type accountPreKey struct {
	Account string
	ID      uint32
	Key     blob
	Order   uint64
	Used    bool
}

func (k *accountPreKey) storeKey() string { return fmt.Sprintf("apk/%s/%06x", k.Account, k.ID) }

// contact is what there is between a WhatsApp user and a partner user.
type contact struct {
	Phone        string
	Account      string
	State        reach
	Blocked      bool // by the WhatsApp user
	BlockedBack  bool // by the partner user
	Told         reach
	InTouch      bool // keys, a ping or a message have passed, so changes are told
	SessionKnown bool // the phone has had a session with this account
}

func (c *contact) storeKey() string { return "contact/" + c.Phone + "/" + c.Account }

// reach is the state of a ping, and what the partner was told last.
type reach string

const (
	reachNone     reach = ""
	reachAsked    reach = "asked"
	reachAccepted reach = "accepted"
	reachDeclined reach = "declined"
	reachOff      reach = "off"
)

// queued is a stanza the server keeps for a partner user until it is answered.
type queued struct {
	Account string
	Seq     uint64
	Tag     string // message, receipt, notification, ack
	ID      string
	Type    string
	From    string
	Stanza  blob // encoded in the default dialect
	At      int64

	sent bool // has been written, on this stream or one before
	gone bool
}

func (q *queued) storeKey() string { return "queue/" + q.Account + "/" + seqKey(q.Seq) }

// seen is a message id of a partner user that was taken.
type seen struct {
	Account string
	ID      string
	To      string
	Digest  blob // SHA-256 of the ciphertext
	At      int64
	// Encryptions are all that came under the id, the first ones if they are many.
	Encryptions []encryption
}

func (s *seen) storeKey() string {
	return "seen/" + s.Account + "/" + base64.RawURLEncoding.EncodeToString([]byte(s.ID))
}

// signalRow is one value of a phone's Signal store.
type signalRow struct {
	Phone string
	Kind  string // session, identity, prekey
	Name  string // address or number
	Value blob
}

func (r *signalRow) storeKey() string { return "signal/" + r.Phone + "/" + r.Kind + "/" + r.Name }

// sentMessage is a message a phone has sent, kept so that it can be encrypted again.
type sentMessage struct {
	Phone   string
	ID      string
	Account string
	Type    string
	Media   string // mediatype of enc
	Edit    string
	Hide    bool   // decrypt-fail=hide
	STS     string // sts of the stanza
	Plain   blob   // unpadded waE2E.Message; empty once forgotten
	At      int64
	Answers int
}

func (m *sentMessage) storeKey() string { return "sent/" + m.Phone + "/" + m.ID }

// heardMessage is a message of a partner user that reached a phone, readable or not.
type heardMessage struct {
	Phone   string
	ID      string
	Account string
	Plain   blob // unpadded waE2E.Message; empty while unreadable
	At      int64
	Retries int
	Done    bool
}

func (m *heardMessage) storeKey() string {
	return "heard/" + m.Phone + "/" + m.Account + "/" + base64.RawURLEncoding.EncodeToString([]byte(m.ID))
}

// event is something that happened on a phone, as GET /v1/users/{phone}/events shows it.
type event struct {
	Phone string    `json:"phone"`
	Body  eventBody `json:"body"`
}

func (e *event) storeKey() string { return "event/" + e.Phone + "/" + seqKey(e.Body.Seq) }

// complaint is something a partner did that the profile does not allow and that was let pass.
type complaint struct {
	Seq        uint64 `json:"seq"`
	T          int64  `json:"t"`
	Identifier string `json:"identifier,omitempty"`
	Integrator uint16 `json:"integrator,omitempty"`
	Section    string `json:"section"`
	Text       string `json:"text"`
	Count      int    `json:"count"`
}

func (c *complaint) storeKey() string { return "complaint/" + seqKey(c.Seq) }

// pushed is one push and what came of it; status is the HTTP status, 0 if there was no answer.
type pushed struct {
	Seq        uint64 `json:"seq"`
	T          int64  `json:"t"`
	Identifier string `json:"identifier"`
	Integrator uint16 `json:"integrator"`
	Status     int    `json:"status"`
}

func (p *pushed) storeKey() string { return "push/" + seqKey(p.Seq) }

// errState says that values in the journal do not belong together.
func errState(what, name string) error { return fmt.Errorf("%s of unknown %s", what, name) }

// loaders in the order of dependence; load walks them.
var loaders = []loader{
	load("meta", func(s *state, m *meta) error { s.meta = m; return nil }),
	load("counters", func(s *state, n *counters) error { s.counters = n; return nil }),
	load("integrator", func(s *state, i *Integrator) error { s.integrators[i.ID] = i; return nil }),
	load("user", (*state).placeUser),
	load("account", (*state).placeAccount),
	load("apk", func(s *state, k *accountPreKey) error {
		a, err := s.accountByText("prekey", k.Account)
		if err == nil {
			a.prekeys[k.ID] = k
		}
		return err
	}),
	load("contact", func(s *state, ct *contact) error {
		a, err := s.accountByText("contact", ct.Account)
		if err != nil {
			return err
		}
		u := s.users[ct.Phone]
		if u == nil {
			return errState("contact", "user")
		}
		u.contacts[a] = ct
		if ct.BlockedBack {
			a.blocked[u] = true
		}
		return nil
	}),
	load("queue", func(s *state, q *queued) error {
		a, err := s.accountByText("stanza", q.Account)
		if err == nil {
			q.sent = true // nobody knows any more, so its answer is believed
			a.queue = append(a.queue, q)
		}
		return err
	}),
	load("seen", func(s *state, m *seen) error {
		a, err := s.accountByText("message id", m.Account)
		if err == nil {
			a.seen[m.ID] = m
			for _, e := range m.Encryptions {
				a.places[string(e.Place)] = e.Digest
			}
		}
		return err
	}),
	load("signal", func(s *state, r *signalRow) error {
		u := s.users[r.Phone]
		if u == nil {
			return errState("Signal row", "user")
		}
		u.phone.rows[r.Kind+"/"+r.Name] = r
		return nil
	}),
	load("sent", func(s *state, m *sentMessage) error {
		u := s.users[m.Phone]
		if u == nil {
			return errState("sent message", "user")
		}
		u.phone.sent[m.ID] = m
		return nil
	}),
	load("heard", func(s *state, m *heardMessage) error {
		u := s.users[m.Phone]
		if u == nil {
			return errState("received message", "user")
		}
		u.phone.heard[heardKey{m.Account, m.ID}] = m
		return nil
	}),
	load("waiting", (*state).placeWaiting),
	load("file", func(s *state, f *mediaFile) error {
		u := s.users[f.Phone]
		if u == nil {
			return errState("media file", "user")
		}
		s.placeFile(u, f)
		return nil
	}),
	load("event", func(s *state, e *event) error {
		u := s.users[e.Phone]
		if u == nil {
			return errState("event", "user")
		}
		u.events = append(u.events, e)
		return nil
	}),
	load("fault", func(s *state, f *fault) error { s.faults = append(s.faults, f); return nil }),
	load("complaint", func(s *state, c *complaint) error { s.complaints = append(s.complaints, c); return nil }),
	load("push", func(s *state, p *pushed) error { s.pushes = append(s.pushes, p); return nil }),
}

func (s *state) accountByText(what, text string) (*account, error) {
	j, err := jid.Parse(text)
	if err != nil {
		return nil, err
	}
	a := s.accounts[j]
	if a == nil {
		return nil, errState(what, "account")
	}
	return a, nil
}

func (s *state) placeUser(u *user) error {
	j, err := jid.Parse(u.Address)
	if err != nil {
		return err
	}
	u.jid = j
	u.contacts = map[*account]*contact{}
	u.news = make(chan struct{})
	if u.phone, err = newPhone(s, u); err != nil {
		return err
	}
	s.users[u.Phone] = u
	s.usersByJID[j] = u
	return nil
}

func (s *state) placeAccount(a *account) error {
	j, err := jid.Parse(a.Address)
	if err != nil {
		return err
	}
	a.jid = j
	a.prekeys = map[uint32]*accountPreKey{}
	a.seen, a.places = map[string]*seen{}, map[string]blob{}
	a.blocked = map[*user]bool{}
	s.accounts[j] = a
	if !a.Deleted {
		s.identified[identity{a.Integrator, a.Identifier}] = a
	}
	return nil
}

// identity is what a person at a partner is found by: integrator and normalised identifier.
type identity struct {
	integrator uint16
	identifier string
}

// normalise gives the form of a user-visible identifier that is stored and compared (PROTOCOL.md 1.5).
func normalise(identifierType, s string) string {
	switch identifierType {
	case "email":
		return strings.ToLower(strings.TrimSpace(s))
	case "pn":
		return digitsOf(s)
	default:
		return strings.ToLower(s)
	}
}

func digitsOf(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, s)
}
