package convert

import (
	"strings"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"maunium.net/go/mautrix/event"
)

// quoteOf says what a quoted message is about, as Summary does for Matrix; "" if it says nothing.
//
//nolint:gocyclo // one case for each kind
func quoteOf(msg *waE2E.Message, options Options) string {
	if msg == nil {
		return ""
	}
	u := unwrap(msg)
	if u.tooDeep || u.field == nil {
		return ""
	}
	m := u.msg
	var words string
	switch u.field.Name() {
	case "conversation":
		words = m.GetConversation()
	case "extendedTextMessage":
		words = m.GetExtendedTextMessage().GetText()
	case "imageMessage":
		words = signIn(options, RoleImage, "", m.GetImageMessage().GetCaption())
	case "videoMessage":
		role := RoleVideo
		if m.GetVideoMessage().GetGifPlayback() {
			role = RoleGIF
		}
		words = signIn(options, role, "", m.GetVideoMessage().GetCaption())
	case "ptvMessage":
		words = signIn(options, RoleNote, "", "")
	case "audioMessage":
		role := RoleAudio
		if m.GetAudioMessage().GetPTT() {
			role = RoleVoice
		}
		words = signIn(options, role, "", "")
	case "documentMessage":
		words = signIn(options, RoleDocument, fileName(m.GetDocumentMessage().GetFileName()), m.GetDocumentMessage().GetCaption())
	case "stickerMessage":
		words = signIn(options, RoleSticker, "", stickerWords(m.GetStickerMessage()))
	case "locationMessage":
		words = strings.TrimSpace("📍 " + oneLine(m.GetLocationMessage().GetName(), maxCardWords))
	case "liveLocationMessage":
		words = options.say(liveSign)
	case "contactMessage":
		words = strings.TrimSpace("👤 " + oneLine(m.GetContactMessage().GetDisplayName(), maxCardWords))
	default:
		if p := describe(u, options); p.silent == Shown && p.noun != "" {
			_, noun, _ := strings.Cut(p.noun, " ")
			words = options.say("[" + noun + "]")
			if p.caption != nil {
				words = lineOf(words, p.caption(m))
			}
		}
	}
	return strings.TrimSpace(shorten(clean(words), maxQuotedCopy))
}

// ShowQuote shows what the message answers as a quote in the message itself, for a target that is not known in Matrix: as a blockquote
// before the text or in the caption, and in a part of its own where there is no such place or no room. author is the name of the
// target's author, "" to leave it out. Without a ReplyTo that has a Quote nothing changes. options are those that were given to Read.
func (in *Incoming) ShowQuote(author string, options Options) {
	if in.ReplyTo == nil || in.ReplyTo.Quote == "" {
		return
	}
	contents := matrixText(quoteLines(author, in.ReplyTo.Quote), options.budget())
	if len(contents) == 0 {
		return
	}
	quote := contents[0]
	if in.Media != nil {
		captioned := in.Media.Role != RoleVoice && in.Media.Role != RoleAudio && in.Media.Role != RoleSticker
		if !captioned || !prepend(in.Media.Content, quote, options.budget()-mediaOverhead) {
			in.Parts = append(parts(contents[:1]), in.Parts...)
		}
		return
	}
	if len(in.Parts) == 0 {
		return
	}
	if first := in.Parts[0]; first.Inline != nil || first.Content.MsgType != event.MsgText || !prepend(first.Content, quote, options.budget()) {
		in.Parts = append(parts(contents[:1]), in.Parts...)
	}
}

// prepend puts a quote before the words of a content, if both fit.
func prepend(content, quote *event.MessageEventContent, budget int) bool {
	words, rendered := content.Body, content.FormattedBody
	if content.FileName != "" && words == content.FileName {
		words = "" // a file without a caption
	}
	if rendered == "" {
		rendered = strings.ReplaceAll(htmlEscaper.Replace(words), "\n", "<br>")
	}
	body, rendered := quote.Body, quote.FormattedBody+rendered
	if words != "" {
		body += "\n\n" + words
	}
	if quote.FormattedBody == "" || jsonBytes(body)+jsonBytes(rendered) > budget-contentOverhead {
		return false
	}
	content.Body, content.Format, content.FormattedBody = body, event.FormatHTML, rendered
	return true
}
