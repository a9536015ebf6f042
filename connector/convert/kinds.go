package convert

import (
	"fmt"
	"strings"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// payload is what one field of waE2E.Message means to a person.
type payload struct {
	// noun names what was sent, with its article: "an image".
	noun string
	// sentence says it in full where "Sent …" would not be right.
	sentence string
	// silent is set for what is not meant for people.
	silent Reason
	// caption gives the words that came with it, or nil.
	caption func(*waE2E.Message) string
}

// later ends the sentence about something that could be shown but is not yet.
const later = ", which this bridge cannot show yet."

// say gives the sentence that stands in a room for the payload.
func (p payload) say(viewOnce bool) string {
	switch {
	case p.sentence != "":
		return p.sentence
	case p.noun == "":
		return "Sent a message of a kind that this bridge does not know."
	case viewOnce:
		_, noun, _ := strings.Cut(p.noun, " ")
		return "Sent a view-once " + noun + later
	}
	return "Sent " + p.noun + later
}

const (
	anotherKind = "Sent a message in a form that this bridge cannot read."
	editedTo    = "Edited an earlier message. It now reads:"
)

// payloads has every field of waE2E.Message that is neither text nor a
// wrapper, by name.
var payloads = map[protoreflect.Name]payload{
	"imageMessage": {noun: "an image", caption: func(m *waE2E.Message) string { return m.GetImageMessage().GetCaption() }},
	"videoMessage": {noun: "a video", caption: func(m *waE2E.Message) string { return m.GetVideoMessage().GetCaption() }},
	"ptvMessage":   {noun: "a video note", caption: func(m *waE2E.Message) string { return m.GetPtvMessage().GetCaption() }},
	"audioMessage": {noun: "an audio file"},
	"documentMessage": {noun: "a file", caption: func(m *waE2E.Message) string {
		d := m.GetDocumentMessage()
		name := d.GetFileName()
		if name == "" {
			name = d.GetTitle()
		}
		return lineOf(name, d.GetCaption())
	}},
	"stickerMessage":     {noun: "a sticker"},
	"stickerPackMessage": {noun: "a pack of stickers"},
	"albumMessage":       {noun: "an album"},
	"contactMessage": {noun: "a contact card", caption: func(m *waE2E.Message) string {
		return m.GetContactMessage().GetDisplayName()
	}},
	"contactsArrayMessage": {noun: "several contact cards", caption: func(m *waE2E.Message) string {
		var names []string
		for _, c := range m.GetContactsArrayMessage().GetContacts() {
			names = append(names, c.GetDisplayName())
		}
		return lineOf(names...)
	}},
	"locationMessage": {noun: "a location", caption: func(m *waE2E.Message) string {
		l := m.GetLocationMessage()
		return lineOf(l.GetName(), l.GetAddress(), place(l.GetDegreesLatitude(), l.GetDegreesLongitude()), l.GetComment())
	}},
	"liveLocationMessage": {noun: "a live location", caption: func(m *waE2E.Message) string {
		l := m.GetLiveLocationMessage()
		return lineOf(place(l.GetDegreesLatitude(), l.GetDegreesLongitude()), l.GetCaption())
	}},

	"reactionMessage":             {}, // in reaction
	"encReactionMessage":          {sentence: "Reacted to a message" + later},
	"pollCreationMessage":         {noun: "a poll", caption: func(m *waE2E.Message) string { return poll(m.GetPollCreationMessage()) }},
	"pollCreationMessageV2":       {noun: "a poll", caption: func(m *waE2E.Message) string { return poll(m.GetPollCreationMessageV2()) }},
	"pollCreationMessageV3":       {noun: "a poll", caption: func(m *waE2E.Message) string { return poll(m.GetPollCreationMessageV3()) }},
	"pollCreationMessageV5":       {noun: "a poll", caption: func(m *waE2E.Message) string { return poll(m.GetPollCreationMessageV5()) }},
	"pollCreationMessageV6":       {noun: "a poll", caption: func(m *waE2E.Message) string { return poll(m.GetPollCreationMessageV6()) }},
	"pollUpdateMessage":           {sentence: "Voted in a poll" + later},
	"pollAddOptionMessage":        {sentence: "Added an option to a poll" + later},
	"pollResultSnapshotMessage":   {noun: "the result of a poll"},
	"pollResultSnapshotMessageV3": {noun: "the result of a poll"},

	"pinInChatMessage":  {sentence: "Pinned or unpinned a message" + later},
	"keepInChatMessage": {sentence: "Changed whether a message is kept in the chat" + later},
	"eventMessage": {noun: "an invitation to an event", caption: func(m *waE2E.Message) string {
		return lineOf(m.GetEventMessage().GetName(), m.GetEventMessage().GetDescription())
	}},
	"eventInviteMessage":       {noun: "an invitation to an event"},
	"encEventResponseMessage":  {sentence: "Answered an invitation to an event" + later},
	"encCommentMessage":        {noun: "a comment"},
	"placeholderMessage":       {sentence: "Sent a message that can only be read on a phone with WhatsApp's own app."},
	"secretEncryptedMessage":   {sentence: "Changed an earlier message" + later},
	"conditionalRevealMessage": {noun: "a scheduled message"},

	"call":                         {sentence: "Called. Calls are not possible in this chat."},
	"callLogMesssage":              {sentence: "Called. Calls are not possible in this chat."},
	"bcallMessage":                 {sentence: "Called. Calls are not possible in this chat."},
	"scheduledCallCreationMessage": {sentence: "Scheduled a call. Calls are not possible in this chat."},
	"scheduledCallEditMessage":     {sentence: "Changed a scheduled call. Calls are not possible in this chat."},

	"chat":                              {noun: "a link to a chat"},
	"groupInviteMessage":                {noun: "an invitation to a group"},
	"newsletterAdminInviteMessage":      {noun: "an invitation to a channel"},
	"newsletterFollowerInviteMessageV2": {noun: "an invitation to a channel"},
	"requestPhoneNumberMessage":         {sentence: "Asked for a phone number, which this bridge cannot answer."},

	"statusNotificationMessage":       {noun: "news about a status"},
	"statusQuestionAnswerMessage":     {noun: "an answer to a status"},
	"statusQuotedMessage":             {noun: "an answer to a status"},
	"statusStickerInteractionMessage": {noun: "a sticker for a status"},
	"questionResponseMessage":         {noun: "an answer to a question"},
	"richResponseMessage":             {noun: "an answer of a chat bot"},

	"sendPaymentMessage":           {noun: "a payment"},
	"requestPaymentMessage":        {noun: "a request for a payment"},
	"declinePaymentRequestMessage": {sentence: "Declined a request for a payment" + later},
	"cancelPaymentRequestMessage":  {sentence: "Cancelled a request for a payment" + later},
	"paymentInviteMessage":         {noun: "an invitation to payments"},
	"paymentReminderMessage":       {noun: "a reminder of a payment"},
	"splitPaymentMessage":          {noun: "a shared payment"},
	"splitPaymentUpdateMessage":    {noun: "news about a shared payment"},
	"invoiceMessage":               {noun: "an invoice"},
	"orderMessage":                 {noun: "an order"},
	"productMessage":               {noun: "a product"},

	"highlyStructuredMessage": {noun: "a business message"},
	"templateMessage":         {noun: "a business message"},
	"interactiveMessage":      {noun: "a business message"},
	"buttonsMessage": {noun: "a message with buttons", caption: func(m *waE2E.Message) string {
		return m.GetButtonsMessage().GetContentText()
	}},
	"listMessage": {noun: "a list to choose from", caption: func(m *waE2E.Message) string {
		return lineOf(m.GetListMessage().GetTitle(), m.GetListMessage().GetDescription())
	}},
	"buttonsResponseMessage": {noun: "a choice", caption: func(m *waE2E.Message) string {
		return m.GetButtonsResponseMessage().GetSelectedDisplayText()
	}},
	"templateButtonReplyMessage": {noun: "a choice", caption: func(m *waE2E.Message) string {
		return m.GetTemplateButtonReplyMessage().GetSelectedDisplayText()
	}},
	"listResponseMessage": {noun: "a choice", caption: func(m *waE2E.Message) string {
		return m.GetListResponseMessage().GetTitle()
	}},
	"interactiveResponseMessage": {noun: "a choice"},

	"protocolMessage": {}, // in protocol

	"senderKeyDistributionMessage":               {silent: KeyMaterial},
	"fastRatchetKeySenderKeyDistributionMessage": {silent: KeyMaterial},
	"groupRootKeyShare":                          {silent: KeyMaterial},
	"rootSecretDistributeMessage":                {silent: KeyMaterial},
	"messageContextInfo":                         {silent: Housekeeping},
	"stickerSyncRmrMessage":                      {silent: Housekeeping},
	"messageHistoryBundle":                       {silent: Housekeeping},
	"messageHistoryNotice":                       {silent: Housekeeping},
}

// lineOf puts the words that are there under each other.
func lineOf(words ...string) string {
	var b strings.Builder
	for _, w := range words {
		if strings.TrimSpace(w) == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(w)
	}
	return b.String()
}

// place writes degrees of latitude and longitude.
func place(latitude, longitude float64) string {
	if !(latitude >= -90 && latitude <= 90 && longitude >= -180 && longitude <= 180) {
		return ""
	}
	return fmt.Sprintf("%.6f, %.6f", latitude, longitude)
}

// poll writes the question and the options of a poll.
func poll(p *waE2E.PollCreationMessage) string {
	var b strings.Builder
	b.WriteString(p.GetName())
	for _, o := range p.GetOptions() {
		b.WriteString("\n- ")
		b.WriteString(o.GetOptionName())
	}
	return b.String()
}

// reaction says how somebody reacted.
func reaction(r *waE2E.ReactionMessage) payload {
	const longest = 64 // bytes; an emoji has fewer
	switch text := clean(strings.TrimSpace(r.GetText())); {
	case text == "":
		return payload{sentence: "Took back a reaction" + later}
	case len(text) > longest:
		return payload{sentence: "Reacted to a message" + later}
	default:
		return payload{sentence: "Reacted with " + text + " to a message" + later}
	}
}

// protocol says what a protocol message means. An edit is not among them: its
// text is shown.
func protocol(p *waE2E.ProtocolMessage) payload {
	switch p.GetType() {
	case waE2E.ProtocolMessage_REVOKE:
		return payload{sentence: "Deleted an earlier message" + later}
	case waE2E.ProtocolMessage_MESSAGE_EDIT:
		return payload{sentence: "Edited an earlier message" + later}
	case waE2E.ProtocolMessage_EPHEMERAL_SETTING:
		if p.GetEphemeralExpiration() == 0 {
			return payload{sentence: "Turned disappearing messages off. This bridge does not follow that setting yet."}
		}
		return payload{sentence: "Turned disappearing messages on. This bridge does not follow that setting yet: messages stay here."}
	case waE2E.ProtocolMessage_SHARE_PHONE_NUMBER:
		return payload{sentence: "Shared a phone number" + later}
	case waE2E.ProtocolMessage_LIMIT_SHARING:
		return payload{sentence: "Changed who may share messages of this chat. This bridge does not follow that setting."}
	case waE2E.ProtocolMessage_CHAT_THEME_SETTING:
		return payload{sentence: "Changed the look of the chat" + later}
	case waE2E.ProtocolMessage_REMINDER_MESSAGE:
		return payload{noun: "a reminder"}
	case waE2E.ProtocolMessage_STATUS_MENTION_MESSAGE:
		return payload{sentence: "Mentioned somebody in a status" + later}
	case waE2E.ProtocolMessage_MESSAGE_UNSCHEDULE:
		return payload{sentence: "Took back a scheduled message."}
	case waE2E.ProtocolMessage_APP_STATE_SYNC_KEY_SHARE,
		waE2E.ProtocolMessage_APP_STATE_SYNC_KEY_REQUEST:
		return payload{silent: KeyMaterial}
	case waE2E.ProtocolMessage_EPHEMERAL_SYNC_RESPONSE,
		waE2E.ProtocolMessage_HISTORY_SYNC_NOTIFICATION,
		waE2E.ProtocolMessage_MSG_FANOUT_BACKFILL_REQUEST,
		waE2E.ProtocolMessage_INITIAL_SECURITY_NOTIFICATION_SETTING_SYNC,
		waE2E.ProtocolMessage_APP_STATE_FATAL_EXCEPTION_NOTIFICATION,
		waE2E.ProtocolMessage_PEER_DATA_OPERATION_REQUEST_MESSAGE,
		waE2E.ProtocolMessage_PEER_DATA_OPERATION_REQUEST_RESPONSE_MESSAGE,
		waE2E.ProtocolMessage_REQUEST_WELCOME_MESSAGE,
		waE2E.ProtocolMessage_BOT_FEEDBACK_MESSAGE,
		waE2E.ProtocolMessage_BOT_MEMU_ONBOARDING_MESSAGE,
		waE2E.ProtocolMessage_MEDIA_NOTIFY_MESSAGE,
		waE2E.ProtocolMessage_CLOUD_API_THREAD_CONTROL_NOTIFICATION,
		waE2E.ProtocolMessage_LID_MIGRATION_MAPPING_SYNC,
		waE2E.ProtocolMessage_STOP_GENERATION_MESSAGE,
		waE2E.ProtocolMessage_AI_PSI_METADATA,
		waE2E.ProtocolMessage_AI_QUERY_FANOUT,
		waE2E.ProtocolMessage_AI_MEDIA_COLLECTION_MESSAGE,
		waE2E.ProtocolMessage_AI_METADATA_OPERATION,
		waE2E.ProtocolMessage_GROUP_MEMBER_LABEL_CHANGE,
		waE2E.ProtocolMessage_MARK_AS_VERIFIED_ACTION,
		waE2E.ProtocolMessage_COEX_STATE_SYNC:
		return payload{silent: Housekeeping}
	}
	return payload{}
}
