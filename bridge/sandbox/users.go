package sandbox

import (
	"cmp"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"postern/connector/jid"
)

// keptEvents bounds the events of one phone; the oldest go.
const keptEvents = 100_000

// eventBody is an event as the control API shows it. Which fields are set depends on Kind.
type eventBody struct {
	Seq         uint64         `json:"seq"`
	T           int64          `json:"t"`
	Kind        string         `json:"kind"`
	From        string         `json:"from"`
	Integrator  uint16         `json:"integrator"`
	ID          string         `json:"id,omitempty"`
	IDs         []string       `json:"ids,omitempty"`
	Type        string         `json:"type,omitempty"`
	Text        string         `json:"text,omitempty"`
	ReplyTo     string         `json:"reply_to,omitempty"`
	Quoted      string         `json:"quoted,omitempty"`
	Media       *eventMedia    `json:"media,omitempty"`
	Retried     bool           `json:"retried,omitempty"`
	Reaction    *eventReaction `json:"reaction,omitempty"`
	DisplayName string         `json:"display_name,omitempty"`
	State       string         `json:"state,omitempty"`
	Reason      string         `json:"reason,omitempty"`
	Code        int            `json:"code,omitempty"`
}

// eventMedia describes the media of a message. In a typing event it is only a word.
type eventMedia struct {
	Kind       string `json:"kind"`
	Mimetype   string `json:"mimetype"`
	Bytes      uint64 `json:"bytes"`
	SHA256     string `json:"sha256"`
	FileName   string `json:"file_name,omitempty"`
	Seconds    uint32 `json:"seconds,omitempty"`
	Width      uint32 `json:"width,omitempty"`
	Height     uint32 `json:"height,omitempty"`
	Waveform   []int  `json:"waveform,omitempty"`
	Thumbnail  int    `json:"thumbnail,omitempty"` // bytes
	DirectPath string `json:"direct_path,omitempty"`
	Key        string `json:"media_key,omitempty"`  // hex
	EncSHA256  string `json:"enc_sha256,omitempty"` // hex
	Error      string `json:"error,omitempty"`

	Typing string `json:"-"` // the word; the rest is empty then
}

// MarshalJSON writes the word, or the description.
func (m *eventMedia) MarshalJSON() ([]byte, error) {
	if m.Typing != "" {
		return json.Marshal(m.Typing)
	}
	type plain eventMedia
	return json.Marshal((*plain)(m))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *eventMedia) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &m.Typing)
	}
	type plain eventMedia
	return json.Unmarshal(b, (*plain)(m))
}

// eventReaction says what was reacted to; from_me is as the reactor wrote it.
type eventReaction struct {
	Target string `json:"target"`
	FromMe bool   `json:"from_me"`
	Emoji  string `json:"emoji"`
}

// add appends an event and wakes who waits for one.
func (u *user) add(c change, s *Server, b eventBody) {
	u.Events++
	b.Seq, b.T = u.Events, unix(s.now())
	e := &event{Phone: u.Phone, Body: b}
	u.events = append(u.events, e)
	c.put(u)
	c.put(e)
	if len(u.events) > keptEvents {
		c.drop(u.events[0])
		u.events[0] = nil
		u.events = u.events[1:]
	}
	close(u.news)
	u.news = make(chan struct{})
}

// newUser makes a WhatsApp user with an address nobody has.
func (c change) newUser(s *Server, digits, name string) (*user, error) {
	j := jid.JID{User: digits, Server: s.cfg.PhoneServer}
	if s.cfg.PhoneServer == jid.LID {
		for {
			j.User = itoa(100_000_000_000_000 + rand.Uint64N(800_000_000_000_000))
			if c.usersByJID[j] == nil {
				break
			}
		}
	}
	u := &user{Phone: digits, Name: name, Address: j.String()}
	if err := u.install(); err != nil {
		return nil, err
	}
	if err := c.placeUser(u); err != nil {
		return nil, err
	}
	c.put(u)
	return u, nil
}

func (s *state) usersInOrder() []*user {
	return slices.SortedFunc(maps.Values(s.users), func(x, y *user) int { return strings.Compare(x.Phone, y.Phone) })
}

func (s *state) accountsInOrder() []*account {
	return slices.SortedFunc(maps.Values(s.accounts), func(x, y *account) int { return strings.Compare(x.Address, y.Address) })
}

func (s *state) integratorsInOrder() []*Integrator {
	return slices.SortedFunc(maps.Values(s.integrators), func(x, y *Integrator) int { return cmp.Compare(x.ID, y.ID) })
}

// finishLoading puts into order what the keys of the journal do not.
func (s *state) finishLoading() {
	for _, a := range s.accounts {
		a.sortPreKeys()
	}
	s.fetches.sort()
}
