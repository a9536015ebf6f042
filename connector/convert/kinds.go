package convert

import (
	"strconv"
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

// later ends the sentence about something that has no form in Matrix.
const later = ", which this bridge cannot show."

// say gives the sentence that stands in a room for the payload.
func (p payload) say() string {
	switch {
	case p.sentence != "":
		return p.sentence
	case p.noun == "":
		return "Sent a message of a kind that this bridge does not know."
	}
	return "Sent " + p.noun + later
}

// viewOnce gives the sentence that stands in a room for a payload that is to be seen only once.
func (p payload) viewOnce() string {
	noun := "message"
	if isFile(p.noun) {
		_, noun, _ = strings.Cut(p.noun, " ")
	}
	return "Sent a view-once " + noun + ", which this bridge is set up not to show."
}

const (
	anotherKind = "Sent a message in a form that this bridge cannot read."
	editedTo    = "Edited an earlier message. It now reads:"

	stickerName   = "Sticker"
	drawnSticker  = "Sent an animated sticker of a kind that this bridge cannot show."
	pollHint      = "This is a poll. You cannot vote in it from here."
	placeless     = "Sent a location without a position."
	livePlace     = "Shares a live location. Only where it began can be shown here."
	liveSign      = "📍 Live location"
	deletedWhich  = "Deleted an earlier message, but did not say which."
	deletedTheirs = "Tried to delete a message of the other side. It stays here."
	tookBack      = "Took back a reaction, but did not say which."
	anAlbum       = "Sent an album."
	anAlbumOf     = "Sent an album: {what}."
	and           = "{one} and {other}"
	oneImage      = "1 image"
	manyImages    = "{n} images"
	oneVideo      = "1 video"
	manyVideos    = "{n} videos"
)

// payloads has every field of waE2E.Message that is neither text nor a
// wrapper, by name.
var payloads = map[protoreflect.Name]payload{
	"imageMessage":         {noun: "an image"},
	"videoMessage":         {noun: "a video"},
	"ptvMessage":           {noun: "a video note"},
	"audioMessage":         {noun: "an audio file"},
	"documentMessage":      {noun: "a file"},
	"stickerMessage":       {noun: "a sticker"},
	"stickerPackMessage":   {noun: "a pack of stickers"},
	"albumMessage":         {noun: "an album"}, // the sentence is in describe
	"contactMessage":       {noun: "a contact card without a name"},
	"contactsArrayMessage": {noun: "contact cards without names"},
	"locationMessage":      {noun: "a location"},
	"liveLocationMessage":  {noun: "a live location"},

	"reactionMessage":             {}, // in describe
	"encReactionMessage":          {sentence: "Reacted to a message" + later},
	"pollCreationMessage":         {noun: "a poll without a question"},
	"pollCreationMessageV2":       {noun: "a poll without a question"},
	"pollCreationMessageV3":       {noun: "a poll without a question"},
	"pollCreationMessageV5":       {noun: "a poll without a question"},
	"pollCreationMessageV6":       {noun: "a poll without a question"},
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

	"protocolMessage": {}, // in describe

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

// describe finds the words for a payload that is not text.
func describe(u unwrapped, options Options) payload {
	name := u.field.Name()
	p := payloads[name] // nothing for a field not in it or an empty wrapper: an unknown kind
	switch name {
	case "conversation", "extendedTextMessage":
		p.noun = "a message"
	case "reactionMessage":
		p.sentence = "Reacted to a message" + later
		if strings.TrimSpace(u.msg.GetReactionMessage().GetText()) == "" {
			p.sentence = tookBack
		}
	case "protocolMessage":
		return protocol(u.msg.GetProtocolMessage())
	case "audioMessage":
		if u.msg.GetAudioMessage().GetPTT() {
			p.noun = "a voice message"
		}
	case "videoMessage":
		if u.msg.GetVideoMessage().GetGifPlayback() {
			p.noun = "a GIF"
		}
	case "albumMessage":
		p.sentence = album(u.msg.GetAlbumMessage(), options)
	}
	return p
}

// album says what will follow, each in a message of its own.
func album(m *waE2E.AlbumMessage, options Options) string {
	var words []string
	for _, of := range []struct {
		count     uint32
		one, many string
	}{{m.GetExpectedImageCount(), oneImage, manyImages}, {m.GetExpectedVideoCount(), oneVideo, manyVideos}} {
		switch {
		case of.count == 1:
			words = append(words, options.say(of.one))
		case of.count > 1:
			words = append(words, strings.Replace(options.say(of.many), "{n}", strconv.FormatUint(uint64(of.count), 10), 1))
		}
	}
	switch len(words) {
	case 0:
		return options.say(anAlbum)
	case 2:
		words[0] = strings.NewReplacer("{one}", words[0], "{other}", words[1]).Replace(options.say(and))
	}
	return strings.Replace(options.say(anAlbumOf), "{what}", words[0], 1)
}

// protocol says what a protocol message means, as far as it is no deletion, edit or setting that can be followed.
func protocol(p *waE2E.ProtocolMessage) payload {
	switch p.GetType() {
	case waE2E.ProtocolMessage_REVOKE:
		return payload{sentence: "Deleted an earlier message" + later}
	case waE2E.ProtocolMessage_MESSAGE_EDIT:
		return payload{sentence: "Edited an earlier message" + later}
	case waE2E.ProtocolMessage_EPHEMERAL_SETTING:
		return payload{sentence: "Changed the setting for disappearing messages" + later}
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
