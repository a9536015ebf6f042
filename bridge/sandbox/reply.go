package sandbox

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"go.mau.fi/whatsmeow/proto/waE2E"
)

// maxWrappers is how deep a call may wrap a message; partners take off 8 (PROTOCOL.md 6.5).
const maxWrappers = 32

// quote is the context of a reply to message id of the chat with a: whose it was, and a copy of it without its own
// context and without what ordinary phones wrap messages in (PROTOCOL.md 6.4).
func (p *phone) quote(a *account, id string) (*waE2E.ContextInfo, error) {
	target, byPartner := p.between(a, id)
	if target == nil {
		return nil, refusal(404, "the phone shows no message %q in this chat", id)
	}
	author := p.user.Address
	if byPartner {
		author = a.Address
	}
	return &waE2E.ContextInfo{StanzaID: &id, Participant: &author, QuotedMessage: quotable(target)}, nil
}

// quotable is a copy of m that can be quoted.
func quotable(m *waE2E.Message) *waE2E.Message {
	for range 8 {
		inner := unwrap(m)
		if inner == nil {
			break
		}
		m = inner
	}
	out := proto.Clone(m).(*waE2E.Message)
	out.MessageContextInfo = nil
	out.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Kind() != protoreflect.MessageKind || f.IsList() || f.IsMap() {
			return true
		}
		if of := f.Message().Fields().ByName("contextInfo"); of != nil {
			v.Message().Clear(of)
		}
		return true
	})
	if proto.Size(out) == 0 {
		out.Conversation = proto.String("") // the content is not kept any more
	}
	return out
}

// unwrap is the message in one of the wrappers phones of ours use; nil if m is none.
func unwrap(m *waE2E.Message) *waE2E.Message {
	for _, w := range []*waE2E.FutureProofMessage{
		m.GetDocumentWithCaptionMessage(), m.GetViewOnceMessageV2(), m.GetViewOnceMessageV2Extension(), m.GetEphemeralMessage(),
	} {
		if w.GetMessage() != nil {
			return w.GetMessage()
		}
	}
	return nil
}

// asReply gives a message the context of a reply. Text becomes the richer kind that has one.
func asReply(m *waE2E.Message, quote *waE2E.ContextInfo) error {
	if m.Conversation != nil {
		m.ExtendedTextMessage, m.Conversation = &waE2E.ExtendedTextMessage{Text: m.Conversation}, nil
	}
	done := false
	m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Kind() != protoreflect.MessageKind || f.IsList() || f.IsMap() || f.Name() == "messageContextInfo" {
			return true
		}
		if of := f.Message().Fields().ByName("contextInfo"); of != nil {
			v.Message().Set(of, protoreflect.ValueOfMessage(quote.ProtoReflect()))
			done = true
		}
		return true
	})
	if !done {
		return refusal(400, "a message of this kind cannot be a reply")
	}
	return nil
}

// wrapIn puts a message into wrappers, named by their fields of waE2E.Message, the first innermost.
func wrapIn(m *waE2E.Message, names []string) (*waE2E.Message, error) {
	if len(names) > maxWrappers {
		return nil, refusal(400, "a message is in at most %d wrappers", maxWrappers)
	}
	around := (&waE2E.FutureProofMessage{}).ProtoReflect().Descriptor()
	for _, name := range names {
		f := m.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(name))
		if f == nil || f.Message() != around || f.IsList() {
			return nil, refusal(400, "there is no wrapper %q", name)
		}
		out := &waE2E.Message{}
		out.ProtoReflect().Set(f, protoreflect.ValueOfMessage((&waE2E.FutureProofMessage{Message: m}).ProtoReflect()))
		m = out
	}
	return m, nil
}
