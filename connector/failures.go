package connector

import (
	"context"
	"math"
	"strconv"

	"maunium.net/go/mautrix/id"

	"postern/connector/convert"
	"postern/connector/interop"
	"postern/connector/profile"
	"postern/connector/words"
)

// failureWords says to a person why an event failed.
//
//nolint:gocyclo // one case for each reason
func failureWords(w words.Words, reason interop.Reason, gatekeeper string) string {
	switch reason {
	case interop.ReasonBlocked:
		return w.Text("failure.blocked")
	case interop.ReasonGone:
		return w.Text("failure.gone", "gatekeeper", gatekeeper)
	case interop.ReasonMayNotStart:
		return w.Text("failure.may-not-start", "gatekeeper", gatekeeper)
	case interop.ReasonChatCap:
		return w.Text("failure.chat-cap", "gatekeeper", gatekeeper)
	case interop.ReasonUnreadable:
		return w.Text("failure.unreadable")
	case interop.ReasonRateLimited:
		return w.Text("failure.rate-limited", "gatekeeper", gatekeeper)
	case interop.ReasonServer:
		return w.Text("failure.server", "gatekeeper", gatekeeper)
	case interop.ReasonNoAnswer:
		return w.Text("failure.no-answer", "gatekeeper", gatekeeper)
	case interop.ReasonNoKeys:
		return w.Text("failure.no-keys", "gatekeeper", gatekeeper)
	case interop.ReasonHeld:
		return w.Text("failure.held")
	case interop.ReasonDamaged:
		return w.Text("failure.damaged")
	case interop.ReasonAccount:
		return w.Text("failure.logged-out")
	case interop.ReasonMediaGone:
		return w.Text("failure.media-gone")
	case interop.ReasonMediaOther:
		return w.Text("failure.media-other")
	case interop.ReasonTooLarge:
		return w.Text("failure.too-large")
	case interop.ReasonQuota:
		return w.Text("failure.quota")
	case interop.ReasonMedia:
		return w.Text("failure.media", "gatekeeper", gatekeeper)
	case interop.ReasonBadStanza, interop.ReasonInternal:
	}
	return w.Text("failure.internal")
}

// noun names what an attachment is, with its article.
func noun(w words.Words, role convert.Role) string {
	if key := "noun." + string(role); w.Has(key) {
		return w.Text(key)
	}
	return w.Text("noun.document")
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
		return failureWords(c.words(), s.Reason, c.profile.DisplayName)
	}
	row, err := c.connector.bridge.DB.Message.GetPartByMXID(ctx, id.EventID(s.EventID))
	if err != nil || row == nil {
		return failureWords(c.words(), s.Reason, c.profile.DisplayName)
	}
	metadata, ok := row.Metadata.(*MessageMetadata)
	if !ok || metadata.Role == "" {
		return failureWords(c.words(), s.Reason, c.profile.DisplayName)
	}
	return c.words().Text("failure.too-large-for", "size", sizeWords(c.attachmentLimit(metadata.Role)), "noun", noun(c.words(), metadata.Role))
}

// attachmentLimit is the most bytes of an attachment that this login may send in that role.
func (c *client) attachmentLimit(role convert.Role) int64 {
	return attachmentLimit(role, c.profile.Media, c.maxUpload())
}

// maxUpload is the operator's bound, 0 for none.
func (c *client) maxUpload() int64 { return c.connector.Config.Media.maxUpload }

// tooLargeWords say how large an attachment of that role may be.
func (c *client) tooLargeWords(role convert.Role) string {
	return c.words().Text("refused.too-large", "noun", noun(c.words(), role), "size", sizeWords(c.attachmentLimit(role)))
}

// tooLarge refuses an attachment whose event says that it is over the limit.
func (c *client) tooLarge(role convert.Role) error {
	return refusal(errOverLimit, c.tooLargeWords(role))
}
