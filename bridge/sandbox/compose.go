package sandbox

import (
	"crypto/rand"
	"math"
	"strings"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
)

const maxTextSent = 1 << 19 // bytes of any text a phone sends

// draft makes the message a call describes, as the phone of an ordinary WhatsApp user would send it
// (PROTOCOL.md 6.5). at is its media, if it has any.
func (in *messageCall) draft(s *Server, p *phone, a *account, at *attached) (draft, error) {
	if in.Kind == "raw" {
		if len(in.Message) == 0 || len(in.Message) > maxTextSent {
			return draft{}, refusal(400, "message is a protobuf in base64, at most %d bytes", maxTextSent)
		}
		return draft{typ: "text", content: in.Message}, nil
	}
	d, msg, err := in.content(s, p, a, at)
	if err != nil {
		return d, err
	}
	if in.ReplyTo != "" {
		quote, err := p.quote(a, in.ReplyTo)
		if err != nil {
			return d, err
		}
		if err := asReply(msg, quote); err != nil {
			return d, err
		}
	}
	if at != nil {
		msg = in.wrapped(msg)
	}
	if msg, err = wrapIn(msg, in.Wrap); err != nil {
		return d, err
	}
	d.content, err = marshal(msg)
	return d, err
}

// content is the message without what makes it a reply, and the form of its stanza.
func (in *messageCall) content(s *Server, p *phone, a *account, at *attached) (d draft, msg *waE2E.Message, err error) {
	d = draft{typ: "text"}
	if at != nil {
		return draft{typ: "media", media: at.mediaType}, in.mediaMessage(s, at), nil
	}
	switch in.Kind {
	case "", "text":
		msg, err = in.text()
	case "reaction":
		d.typ, d.hide = "reaction", true
		msg, err = in.reaction(s, p, a)
	case "edit":
		d.edit, d.hide = "1", true
		msg, err = in.edit(s, p, a)
	case "revoke":
		d.edit, d.hide = "7", true
		msg, err = in.revoke(p, a)
	case "location":
		d.typ, d.media = "media", "location"
		msg, err = in.location()
	case "contact":
		d.typ, d.media = "media", "vcard"
		msg, err = in.contact()
	case "poll":
		d.typ = "poll"
		msg, err = in.poll()
	case "timer":
		msg, err = in.timer(s)
	default:
		err = refusal(400, "there is no message of kind %q", in.Kind)
	}
	return d, msg, err
}

func (in *messageCall) text() (*waE2E.Message, error) {
	if in.Text == "" || len(in.Text) > maxTextSent {
		return nil, refusal(400, "text is missing or too long")
	}
	return &waE2E.Message{Conversation: proto.String(in.Text)}, nil
}

// between finds a message of the chat, whoever wrote it.
func (p *phone) between(a *account, id string) (msg *waE2E.Message, byPartner bool) {
	if msg := p.plain(a, id, true); msg != nil && p.heard[heardKey{a.Address, id}].Plain != nil {
		return msg, true
	}
	return p.plain(a, id, false), false
}

// key names a message from the phone's point of view.
func (p *phone) key(a *account, id string, mine bool) *waCommon.MessageKey {
	return &waCommon.MessageKey{RemoteJID: proto.String(a.Address), FromMe: proto.Bool(mine), ID: proto.String(id)}
}

func (in *messageCall) reaction(s *Server, p *phone, a *account) (*waE2E.Message, error) {
	target, byPartner := p.between(a, in.Target)
	if target == nil {
		return nil, refusal(404, "the phone shows no message %q in this chat", in.Target)
	}
	if len(in.Emoji) > 100 {
		return nil, refusal(400, "emoji is too long")
	}
	return &waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{
		Key: p.key(a, in.Target, !byPartner), Text: proto.String(in.Emoji), SenderTimestampMS: proto.Int64(s.now().UnixMilli()),
	}}, nil
}

// own finds a message the phone has sent to a; one can change only one's own.
func (p *phone) own(a *account, id string) error {
	if m := p.sent[id]; m == nil || m.Account != a.Address {
		return refusal(404, "the phone has sent no message %q in this chat", id)
	}
	return nil
}

func (in *messageCall) edit(s *Server, p *phone, a *account) (*waE2E.Message, error) {
	if err := p.own(a, in.Target); err != nil {
		return nil, err
	}
	if in.Text == "" || len(in.Text) > maxTextSent {
		return nil, refusal(400, "text is missing or too long")
	}
	return &waE2E.Message{EditedMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
		Type:          waE2E.ProtocolMessage_MESSAGE_EDIT.Enum(),
		Key:           p.key(a, in.Target, true),
		EditedMessage: &waE2E.Message{Conversation: proto.String(in.Text)},
		TimestampMS:   proto.Int64(s.now().UnixMilli()),
	}}}}, nil
}

func (in *messageCall) revoke(p *phone, a *account) (*waE2E.Message, error) {
	if err := p.own(a, in.Target); err != nil {
		return nil, err
	}
	return &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_REVOKE.Enum(), Key: p.key(a, in.Target, true),
	}}, nil
}

func (in *messageCall) location() (*waE2E.Message, error) {
	if math.Abs(in.Latitude) > 90 || math.Abs(in.Longitude) > 180 || len(in.Name) > maxName {
		return nil, refusal(400, "latitude is -90 to 90, longitude -180 to 180, and the name not too long")
	}
	m := &waE2E.LocationMessage{DegreesLatitude: proto.Float64(in.Latitude), DegreesLongitude: proto.Float64(in.Longitude)}
	if in.Name != "" {
		m.Name = proto.String(in.Name)
	}
	return &waE2E.Message{LocationMessage: m}, nil
}

func (in *messageCall) contact() (*waE2E.Message, error) {
	if in.Name == "" || len(in.Name) > maxName || !strings.HasPrefix(in.VCard, "BEGIN:VCARD") || len(in.VCard) > maxTextSent {
		return nil, refusal(400, "a contact has a name and a vcard")
	}
	return &waE2E.Message{ContactMessage: &waE2E.ContactMessage{DisplayName: proto.String(in.Name), Vcard: proto.String(in.VCard)}}, nil
}

func (in *messageCall) poll() (*waE2E.Message, error) {
	if in.Question == "" || len(in.Question) > maxTextSent || len(in.Options) < 2 || len(in.Options) > 12 {
		return nil, refusal(400, "a poll has a question and two to twelve options")
	}
	poll := &waE2E.PollCreationMessage{Name: proto.String(in.Question), SelectableOptionsCount: proto.Uint32(0)}
	for _, option := range in.Options {
		if option == "" || len(option) > maxName {
			return nil, refusal(400, "an option of a poll is empty or too long")
		}
		poll.Options = append(poll.Options, &waE2E.PollCreationMessage_Option{OptionName: proto.String(option)})
	}
	secret := make([]byte, 32)
	rand.Read(secret) // never fails
	return &waE2E.Message{PollCreationMessageV3: poll, MessageContextInfo: &waE2E.MessageContextInfo{MessageSecret: secret}}, nil
}

func (in *messageCall) timer(s *Server) (*waE2E.Message, error) {
	switch in.Seconds {
	case 0, 86400, 604800, 7776000:
	default:
		return nil, refusal(400, "a timer is 0, 86400, 604800 or 7776000 seconds")
	}
	return &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
		Type:                      waE2E.ProtocolMessage_EPHEMERAL_SETTING.Enum(),
		EphemeralExpiration:       proto.Uint32(in.Seconds),
		EphemeralSettingTimestamp: proto.Int64(unix(s.now())),
	}}, nil
}
