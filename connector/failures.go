package connector

import (
	"context"
	"math"
	"strconv"

	"maunium.net/go/mautrix/id"

	"postern/connector/convert"
	"postern/connector/interop"
	"postern/connector/profile"
)

// failureWords says to a person why an event failed.
func failureWords(reason interop.Reason, gatekeeper string) string {
	switch reason {
	case interop.ReasonBlocked:
		return "the other person has blocked you, or has switched off third-party chats."
	case interop.ReasonGone:
		return "the other person is not on " + gatekeeper + " any more."
	case interop.ReasonMayNotStart:
		return gatekeeper + " does not let you start this chat. The other person has to write first, or to accept."
	case interop.ReasonChatCap:
		return gatekeeper + " does not let you start more new chats for now."
	case interop.ReasonUnreadable:
		return "the other person's phone could not read it."
	case interop.ReasonRateLimited:
		return gatekeeper + " asked for fewer messages, for too long."
	case interop.ReasonServer:
		return gatekeeper + " had a fault of its own, for too long."
	case interop.ReasonNoAnswer:
		return gatekeeper + " did not answer in time. It may still have arrived."
	case interop.ReasonNoKeys:
		return gatekeeper + " has no keys of the other person to encrypt it with."
	case interop.ReasonAccount:
		return "you have logged out."
	case interop.ReasonMedia, interop.ReasonMediaGone, interop.ReasonMediaOther, interop.ReasonTooLarge, interop.ReasonQuota:
		return attachmentWords(reason, gatekeeper)
	case interop.ReasonBadStanza, interop.ReasonInternal:
	}
	return "the bridge made a mistake with it. Please tell whoever runs the bridge."
}

// attachmentWords says why an attachment failed.
func attachmentWords(reason interop.Reason, gatekeeper string) string {
	switch reason {
	case interop.ReasonMediaGone:
		return "your homeserver does not have the attachment, or does not give it to the bridge."
	case interop.ReasonMediaOther:
		return "the file on your homeserver is not what the message describes. Please send it anew."
	case interop.ReasonTooLarge:
		return "the attachment is larger than may be sent."
	case interop.ReasonQuota:
		return "your share of the bridge's store for attachments is used up. It becomes free again as older ones expire."
	default:
		return "the bridge could not get the attachment from your homeserver, or could not store it for " + gatekeeper + " to fetch. Please send it again."
	}
}

// sizeWords writes a number of bytes for people.
func sizeWords(bytes int64) string {
	const mib = 1 << 20
	return strconv.FormatFloat(math.Round(float64(bytes)/mib*100)/100, 'f', -1, 64) + " MiB"
}

// attachmentLimit is the most bytes of plaintext of an attachment of that role: the gatekeeper's bound or the operator's, whichever is
// smaller. operator is 0 for no bound.
func attachmentLimit(role convert.Role, m profile.Media, operator int64) int64 {
	limit := m.MaxDocument
	switch role {
	case convert.RoleImage, convert.RoleSticker:
		limit = m.MaxImage
	case convert.RoleVideo, convert.RoleGIF, convert.RoleNote:
		limit = m.MaxVideo
	case convert.RoleAudio, convert.RoleVoice:
		limit = m.MaxAudio
	case convert.RoleDocument:
	}
	if operator > 0 {
		limit = min(limit, operator)
	}
	return limit
}

// failed says to a person why an event of theirs failed, with the limit if it was too large.
func (c *client) failed(ctx context.Context, s interop.OutStatus) string {
	if s.Reason != interop.ReasonTooLarge {
		return failureWords(s.Reason, c.profile.DisplayName)
	}
	row, err := c.connector.bridge.DB.Message.GetPartByMXID(ctx, id.EventID(s.EventID))
	if err != nil || row == nil {
		return failureWords(s.Reason, c.profile.DisplayName)
	}
	metadata, ok := row.Metadata.(*MessageMetadata)
	if !ok || metadata.Role == "" {
		return failureWords(s.Reason, c.profile.DisplayName)
	}
	return "the attachment is larger than the " + sizeWords(c.attachmentLimit(metadata.Role)) + " that may be sent as " + metadata.Role.Noun() + "."
}

// attachmentLimit is the most bytes of an attachment that this login may send in that role.
func (c *client) attachmentLimit(role convert.Role) int64 {
	return attachmentLimit(role, c.profile.Media, c.maxUpload())
}

// maxUpload is the operator's bound, 0 for none.
func (c *client) maxUpload() int64 { return c.connector.Config.Media.maxUpload }

// tooLarge refuses an attachment whose event says that it is over the limit.
func (c *client) tooLarge(role convert.Role) error {
	return refusal(errOverLimit, role.Noun()+" may have at most "+sizeWords(c.attachmentLimit(role))+" to be sent to this chat")
}
