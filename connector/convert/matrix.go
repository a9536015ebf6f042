package convert

import (
	"strings"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/reflect/protoreflect"
	"maunium.net/go/mautrix/event"
)

// unwrapped is a payload without its wrappers.
type unwrapped struct {
	msg      *waE2E.Message
	field    protoreflect.FieldDescriptor // the field that counts, nil: none
	viewOnce bool
	edit     *waE2E.ProtocolMessage // the edit that it is the new form of
	tooDeep  bool
}

var futureProof = (&waE2E.FutureProofMessage{}).ProtoReflect().Descriptor().FullName()

// inner returns the message in a wrapper. ok says that the field is one; its
// message may still be missing.
func inner(msg *waE2E.Message, field protoreflect.FieldDescriptor) (m *waE2E.Message, ok bool) {
	switch field.Name() {
	case "deviceSentMessage":
		return msg.GetDeviceSentMessage().GetMessage(), true
	case "commentMessage":
		return msg.GetCommentMessage().GetMessage(), true
	}
	if field.Message() == nil || field.Message().FullName() != futureProof {
		return nil, false
	}
	wrapper, _ := msg.ProtoReflect().Get(field).Message().Interface().(*waE2E.FutureProofMessage)
	return wrapper.GetMessage(), true
}

// chosen picks the field of a message that counts: text before wrappers,
// wrappers before everything else that is visible, and what is silent last.
// WhatsApp sets only one of the visible ones.
func chosen(msg *waE2E.Message) protoreflect.FieldDescriptor {
	reflection := msg.ProtoReflect()
	fields := reflection.Descriptor().Fields()
	if msg.Conversation != nil {
		return fields.ByName("conversation") // nothing comes before it
	}
	const none = 4
	best, found := none, protoreflect.FieldDescriptor(nil)
	for i := range fields.Len() {
		field := fields.Get(i)
		if !reflection.Has(field) {
			continue
		}
		rank := 2
		switch name := field.Name(); {
		case name == "conversation" || name == "extendedTextMessage":
			rank = 0
		case payloads[name].silent != Shown:
			rank = 3
		default:
			if _, ok := inner(msg, field); ok {
				rank = 1
			}
		}
		if rank < best {
			best, found = rank, field
		}
	}
	return found
}

// unwrap takes off the wrappers around a payload, MaxWrappers at most.
func unwrap(msg *waE2E.Message) unwrapped {
	u := unwrapped{msg: msg}
	for range MaxWrappers + 1 {
		u.field = chosen(u.msg)
		if u.field == nil {
			return u
		}
		name := u.field.Name()
		next, wrapper := inner(u.msg, u.field)
		if name == "protocolMessage" && u.msg.GetProtocolMessage().GetType() == waE2E.ProtocolMessage_MESSAGE_EDIT {
			next, wrapper = u.msg.GetProtocolMessage().GetEditedMessage(), true
			if u.edit == nil {
				u.edit = u.msg.GetProtocolMessage()
			}
		}
		if !wrapper || next == nil {
			u.viewOnce = u.viewOnce || markedViewOnce(u.msg, u.field)
			return u
		}
		if strings.HasPrefix(string(name), "viewOnce") {
			u.viewOnce = true
		}
		u.msg = next
	}
	u.tooDeep = true
	return u
}

const (
	// contentOverhead is the JSON around body and formatted_body, and room for
	// what the connector adds to a content.
	contentOverhead = 512
	// maxGrowth is how many times longer than its words the HTML of a text that
	// needs splitting may be. Beyond that the words go plain, so that marks at
	// every letter cannot turn one message into a flood.
	maxGrowth = 4
)

// markedViewOnce says whether a payload is to be seen once without being in a wrapper that says so.
func markedViewOnce(msg *waE2E.Message, field protoreflect.FieldDescriptor) bool {
	if field.Message() == nil {
		return false
	}
	mark := field.Message().Fields().ByName("viewOnce")
	return mark != nil && mark.Kind() == protoreflect.BoolKind && msg.ProtoReflect().Get(field).Message().Get(mark).Bool()
}

// contextOf gives what came with a payload: every rich kind has a place for it.
func contextOf(u unwrapped) *waE2E.ContextInfo {
	if u.field == nil || u.field.Message() == nil {
		return nil
	}
	place := u.field.Message().Fields().ByName("contextInfo")
	if place == nil {
		return nil
	}
	context, _ := u.msg.ProtoReflect().Get(u.field).Message().Get(place).Message().Interface().(*waE2E.ContextInfo)
	return context
}

// matrixText turns a text into message contents that fit the budget in bytes
// of JSON. Together their bodies are the text, except for parts without a
// visible character.
func matrixText(text string, budget int) []*event.MessageEventContent {
	room := budget - contentOverhead
	var d *document
	if len(text) <= MaxMarkedBytes {
		d = parseDocument(text)
		if !d.formatted {
			d = nil
		}
	}
	var out []*event.MessageEventContent
	for from := 0; from < len(text); {
		size, rendered := nextPart(text, d, from, room)
		if body := text[from : from+size]; strings.TrimSpace(body) != "" {
			content := &event.MessageEventContent{
				MsgType: event.MsgText,
				Body:    body,
				// Nothing that arrives mentions anybody; without this field
				// clients would look for names in the body.
				Mentions: &event.Mentions{},
			}
			if rendered != "" {
				content.Format, content.FormattedBody = event.FormatHTML, rendered
			}
			out = append(out, content)
		}
		from += size
	}
	return out
}

// nextPart finds how much of the text from an offset on fits into room bytes
// of JSON, and the HTML for it, which is empty if there is nothing to format.
func nextPart(text string, d *document, from, room int) (size int, rendered string) {
	size = cut(text[from:], room, runeJSON)
	if d == nil {
		return size, ""
	}
	plain := size
	for {
		rendered, formatted := d.html(from, from+size)
		if !formatted {
			return size, ""
		}
		body, total := jsonBytes(text[from:from+size]), 0
		total = body + jsonBytes(rendered)
		if total <= room {
			return size, rendered
		}
		if total > (1+maxGrowth)*body {
			return plain, ""
		}
		// Try again with as much as should fit at this rate, and a little less.
		limit := min(body*room/total, body-1) * 15 / 16
		if limit < 1 {
			return plain, ""
		}
		next := cut(text[from:from+size], limit, runeJSON)
		if next >= size {
			return plain, ""
		}
		size = next
	}
}
