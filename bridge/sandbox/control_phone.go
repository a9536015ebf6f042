package sandbox

import (
	"encoding/json"
	"slices"
	"unicode/utf8"

	"postern/connector/binxml"
)

// sendMessage is POST /v1/users/{phone}/messages.
func (c *call) sendMessage() (any, error) {
	var in messageCall
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if c.s.prof.Message.EncVersion != 2 {
		return nil, refusal(501, "the content of %s messages is not part of this sandbox", c.s.prof.DisplayName)
	}
	if in.Texts != nil {
		return c.sendTexts(&in)
	}
	at, err := c.attach(&in)
	if err != nil {
		return nil, err
	}
	var id string
	err = c.change(func(ch change) error {
		u, a, err := c.sender(ch, &in)
		if err != nil {
			return err
		}
		d, err := in.draft(c.s, u.phone, a, at)
		if err != nil {
			return err
		}
		if id, err = u.phone.send(ch, c.s, a, d); err == nil && at != nil {
			ch.keepFile(c.s, &mediaFile{
				Name: at.name, Phone: u.Phone, Account: a.Address, ID: id, Path: at.directPath, Size: at.d.EncLength,
			})
		}
		return err
	})
	if err != nil {
		if at != nil {
			c.s.depot.remove(at.name)
		}
		return nil, err
	}
	return map[string]string{"id": id}, nil
}

// maxTexts is how many texts one call sends.
const maxTexts = 1000

// sendTexts sends several texts at once, one after the other and all or none.
func (c *call) sendTexts(in *messageCall) (any, error) {
	if in.Kind != "" && in.Kind != "text" || in.Text != "" || len(in.Texts) == 0 || len(in.Texts) > maxTexts {
		return nil, refusal(400, "texts is a list of 1 to %d texts, in place of text", maxTexts)
	}
	ids := make([]string, 0, len(in.Texts))
	err := c.change(func(ch change) error {
		u, a, err := c.sender(ch, in)
		if err != nil {
			return err
		}
		drafts := make([]draft, len(in.Texts))
		for i, text := range in.Texts {
			in.Text = text
			if drafts[i], err = in.draft(c.s, u.phone, a, nil); err != nil {
				return err
			}
		}
		for _, d := range drafts {
			id, err := u.phone.send(ch, c.s, a, d)
			if err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return map[string][]string{"ids": ids}, nil
}

// sender finds who sends a message to whom, and says in words why it cannot be sent.
func (c *call) sender(ch change, in *messageCall) (*user, *account, error) {
	u, a, err := c.both(ch, partner{To: in.To, Integrator: in.Integrator})
	if err == nil {
		err = ch.able(u, a)
	}
	return u, a, err
}

// attach makes the media of a message ready; nil if it has none.
func (c *call) attach(in *messageCall) (*attached, error) {
	if _, ok := sendables[in.Kind]; !ok {
		return nil, nil
	}
	if err := c.change(func(ch change) error { _, _, err := c.sender(ch, in); return err }); err != nil {
		return nil, err
	}
	if err := in.checkAttachment(c.s); err != nil {
		return nil, err
	}
	return in.attach(c.s)
}

// read is POST /v1/users/{phone}/read: the person has seen messages of a partner user.
func (c *call) read() (any, error) {
	var in struct {
		To         string   `json:"to"`
		Integrator uint16   `json:"integrator"`
		IDs        []string `json:"ids"`
		Type       string   `json:"type"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if in.Type == "" {
		in.Type = "read"
	}
	if in.Type != "read" && in.Type != "played" {
		return nil, refusal(400, "type is read or played")
	}
	if len(in.IDs) == 0 || len(in.IDs) > maxReceiptIDs {
		return nil, refusal(400, "ids is a list of 1 to %d message ids", maxReceiptIDs)
	}
	return nil, c.change(func(ch change) error {
		u, a, err := c.both(ch, partner{To: in.To, Integrator: in.Integrator})
		if err != nil {
			return err
		}
		if err := ch.able(u, a); err != nil {
			return err
		}
		for _, id := range in.IDs {
			if h := u.phone.heard[heardKey{a.Address, id}]; h == nil || h.Plain == nil || u.phone.waits(a, id) {
				return refusal(404, "the phone shows no message %q of this partner user", id)
			}
		}
		u.phone.sendReceipt(ch, c.s, a, in.Type, in.IDs)
		return nil
	})
}

// typing is POST /v1/users/{phone}/typing. It is not queued (PROTOCOL.md 4.10).
func (c *call) typing() (any, error) {
	var in struct {
		To         string `json:"to"`
		Integrator uint16 `json:"integrator"`
		State      string `json:"state"`
		Media      string `json:"media"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if in.State != "composing" && in.State != "paused" {
		return nil, refusal(400, "state is composing or paused")
	}
	if in.Media != "" && (in.Media != "audio" || in.State != "composing") {
		return nil, refusal(400, "media is audio, and only with composing")
	}
	return nil, c.change(func(ch change) error {
		u, a, err := c.both(ch, partner{To: in.To, Integrator: in.Integrator})
		if err != nil {
			return err
		}
		if err := ch.able(u, a); err != nil {
			return err
		}
		if a.stream == nil || a.stream.draining || a.blocked[u] {
			return nil
		}
		state := node(in.State, nil)
		if in.Media != "" {
			state.Attrs = append(state.Attrs, binxml.S("media", in.Media))
		}
		ch.send(a, node("chatstate", attrs{binxml.J("from", u.jid)}, state))
		return nil
	})
}

// block is POST /v1/users/{phone}/block.
func (c *call) block() (any, error) {
	var in struct {
		To         string `json:"to"`
		Integrator uint16 `json:"integrator"`
		Block      bool   `json:"block"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	return nil, c.change(func(ch change) error {
		u, a, err := c.both(ch, partner{To: in.To, Integrator: in.Integrator})
		if err != nil {
			return err
		}
		ct := ch.contact(u, a)
		ct.Blocked = in.Block
		ch.put(ct)
		ch.retell(c.s, u)
		return nil
	})
}

// opt is POST /v1/users/{phone}/opt: the person lets an integrator in, or out.
func (c *call) opt() (any, error) {
	var in struct {
		Integrator uint16 `json:"integrator"`
		OptedIn    bool   `json:"opted_in"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	var out shownUser
	err := c.change(func(ch change) error {
		u, err := c.user(ch)
		if err != nil {
			return err
		}
		i, err := ch.integrator(in.Integrator)
		if err != nil {
			return err
		}
		if u.OptIn.All && !in.OptedIn {
			u.OptIn.All, u.OptIn.IDs = false, nil
			for _, other := range ch.integratorsInOrder() {
				u.OptIn.IDs = append(u.OptIn.IDs, other.ID)
			}
		}
		u.OptIn.IDs = slices.DeleteFunc(u.OptIn.IDs, func(id uint16) bool { return id == i.ID })
		if in.OptedIn && !u.OptIn.All {
			u.OptIn.IDs = append(u.OptIn.IDs, i.ID)
		}
		ch.put(u)
		ch.retell(c.s, u)
		out = u.shown()
		return nil
	})
	return out, err
}

// answer is POST /v1/users/{phone}/answer: the person answers a ping (PROTOCOL.md 5.3).
func (c *call) answer() (any, error) {
	var in struct {
		To         string `json:"to"`
		Integrator uint16 `json:"integrator"`
		Answer     reach  `json:"answer"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if in.Answer != reachAccepted && in.Answer != reachDeclined {
		return nil, refusal(400, "answer is accepted or declined")
	}
	return nil, c.change(func(ch change) error {
		u, a, err := c.both(ch, partner{To: in.To, Integrator: in.Integrator})
		if err != nil {
			return err
		}
		if err := ch.able(u, a); err != nil {
			return err
		}
		ct := u.contacts[a]
		if ct == nil || ct.State == reachNone {
			return refusal(409, "this partner user has not asked")
		}
		ct.State = in.Answer
		ch.put(ct)
		ch.tell(c.s, u, a, ct, in.Answer)
		return nil
	})
}

// reinstall is POST /v1/users/{phone}/reinstall: a new phone with the same number.
func (c *call) reinstall() (any, error) {
	var in struct {
		Silent bool `json:"silent"`
	}
	if len(c.body) > 0 {
		if err := c.decode(&in); err != nil {
			return nil, err
		}
	}
	return nil, c.change(func(ch change) error {
		u, err := c.user(ch)
		if err != nil {
			return err
		}
		if err := u.phone.reinstall(ch); err != nil {
			return err
		}
		if in.Silent {
			return nil
		}
		for _, a := range ch.accountsInOrder() {
			if ct := u.contacts[a]; ct != nil && ct.InTouch && a.Enlisted && ch.reachable(u, a) == 0 {
				ch.enqueue(c.s, a, node("notification", attrs{
					binxml.S("id", newID("", 8)), binxml.J("from", u.jid), binxml.S("type", "encrypt"), binxml.I("t", unix(c.s.now())),
				}, node("identity", nil)))
			}
		}
		return nil
	})
}

// setProfile is POST /v1/users/{phone}/profile.
func (c *call) setProfile() (any, error) {
	var in struct {
		Name string `json:"name"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if len(in.Name) > maxName || !utf8.ValidString(in.Name) {
		return nil, refusal(400, "the name is too long")
	}
	var out shownUser
	err := c.change(func(ch change) error {
		u, err := c.user(ch)
		if err != nil {
			return err
		}
		u.Name = in.Name
		ch.put(u)
		out = u.shown()
		return nil
	})
	return out, err
}

// shownPartner is a partner user as GET /v1/partners shows one.
type shownPartner struct {
	Identifier    string `json:"identifier"`
	Integrator    uint16 `json:"integrator"`
	JID           string `json:"jid"`
	Enlisted      bool   `json:"enlisted"`
	Connected     bool   `json:"connected"`
	Carrier       string `json:"carrier"`
	ClientAddress string `json:"client_address"`
	Queued        int    `json:"queued"`
	Prekeys       int    `json:"prekeys"`
	LastSeen      int64  `json:"last_seen"`
	Logins        int64  `json:"logins"`
}

func (c *call) partners() (any, error) {
	list := []shownPartner{}
	c.s.state.view(func() {
		for _, a := range c.s.state.accountsInOrder() {
			if a.Deleted {
				continue
			}
			p := shownPartner{
				Identifier: a.Identifier, Integrator: a.Integrator, JID: a.Address, Enlisted: a.Enlisted,
				Queued: len(a.queue), Prekeys: len(a.fresh), LastSeen: a.LastSeen, Logins: a.logins,
			}
			if a.stream != nil {
				p.Connected, p.Carrier, p.ClientAddress = true, a.stream.carrier.kind, a.stream.carrier.address
				p.LastSeen = unix(c.s.now())
			}
			list = append(list, p)
		}
	})
	return map[string]any{"partners": list}, nil
}

// unenlist is POST /v1/partners/unenlist: as if the partner user had stayed away for 30 days (PROTOCOL.md 8.3).
func (c *call) unenlist() (any, error) {
	var in partner
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	return nil, c.change(func(ch change) error {
		a, err := ch.account(in)
		if err != nil {
			return err
		}
		a.Enlisted = false
		ch.put(a)
		ch.endStream(a, streamError(401))
		return nil
	})
}

// prekeys is POST /v1/partners/prekeys.
func (c *call) prekeys() (any, error) {
	var in struct {
		partner
		Keep int `json:"keep"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if in.Keep < 0 {
		return nil, refusal(400, "keep is not negative")
	}
	return nil, c.change(func(ch change) error {
		a, err := ch.account(in.partner)
		if err != nil {
			return err
		}
		for len(a.fresh) > in.Keep {
			last := a.fresh[len(a.fresh)-1]
			a.fresh = a.fresh[:len(a.fresh)-1]
			a.prekeys[last].Used = true
			ch.put(a.prekeys[last])
		}
		ch.lowOnPreKeys(c.s, a)
		return nil
	})
}

func (c *call) addFault() (any, error) {
	f := &fault{}
	if err := c.decode(f); err != nil {
		return nil, err
	}
	f.ID = ""
	err := c.change(func(ch change) error {
		if f.Integrator != 0 && ch.integrators[f.Integrator] == nil {
			return refusal(404, "there is no integrator %d", f.Integrator)
		}
		return ch.addFault(c.s, f)
	})
	if err != nil {
		return nil, err
	}
	return map[string]string{"id": f.ID}, nil
}

func (c *call) faults() (any, error) {
	return map[string]any{"faults": copies(c.s.state, &c.s.state.faults)}, nil
}

func (c *call) deleteFaults() (any, error) {
	return nil, c.change(func(ch change) error { return ch.deleteFaults(c.r.PathValue("id")) })
}

func (c *call) complaints() (any, error) {
	return map[string]any{"complaints": copies(c.s.state, &c.s.state.complaints)}, nil
}

func (c *call) pushes() (any, error) {
	return map[string]any{"pushes": copies(c.s.state, &c.s.state.pushes)}, nil
}

// copies is one list of the state as it is now.
func copies[T any](s *state, of *[]*T) []T {
	list := []T{}
	s.view(func() {
		for _, v := range *of {
			list = append(list, *v)
		}
	})
	return list
}

// messageCall is the body of a message call; which fields count depends on Kind.
type messageCall struct {
	To         string   `json:"to"`
	Integrator uint16   `json:"integrator"`
	Kind       string   `json:"kind"`
	Text       string   `json:"text"`
	Texts      []string `json:"texts"`
	ReplyTo    string   `json:"reply_to"`
	Target     string   `json:"target"`
	Emoji      string   `json:"emoji"`
	Latitude   float64  `json:"latitude"`
	Longitude  float64  `json:"longitude"`
	Name       string   `json:"name"`
	VCard      string   `json:"vcard"`
	Question   string   `json:"question"`
	Options    []string `json:"options"`
	Seconds    uint32   `json:"seconds"`
	Message    []byte   `json:"message"`
	Wrap       []string `json:"wrap"`

	// of the media kinds
	Data      []byte          `json:"data"`
	Upload    string          `json:"upload"`
	Mimetype  string          `json:"mimetype"`
	FileName  string          `json:"file_name"`
	Caption   string          `json:"caption"`
	Width     uint32          `json:"width"`
	Height    uint32          `json:"height"`
	Waveform  json.RawMessage `json:"waveform"`
	Thumbnail []byte          `json:"thumbnail"`
	Animated  bool            `json:"animated"`
	ViewOnce  bool            `json:"view_once"`
}
