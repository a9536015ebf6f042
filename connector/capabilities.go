package connector

import (
	"context"
	"strconv"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/event"

	"postern/connector/convert"
	"postern/connector/profile"
)

// capabilitiesID names the version of what roomFeatures makes; clients and the framework compare it. What is configured stands behind it.
const capabilitiesID = "eu.postern.capabilities.2026_13"

// formatting is what becomes of the formats of a text.
var formatting = event.FormattingFeatureMap{
	event.FmtBold:               event.CapLevelFullySupported,
	event.FmtItalic:             event.CapLevelFullySupported,
	event.FmtStrikethrough:      event.CapLevelFullySupported,
	event.FmtInlineCode:         event.CapLevelFullySupported,
	event.FmtCodeBlock:          event.CapLevelFullySupported,
	event.FmtBlockquote:         event.CapLevelFullySupported,
	event.FmtUnorderedList:      event.CapLevelFullySupported,
	event.FmtOrderedList:        event.CapLevelFullySupported,
	event.FmtInlineLink:         event.CapLevelPartialSupport,
	event.FmtUserLink:           event.CapLevelPartialSupport,
	event.FmtRoomLink:           event.CapLevelPartialSupport,
	event.FmtEventLink:          event.CapLevelPartialSupport,
	event.FmtHeaders:            event.CapLevelPartialSupport,
	event.FmtUnderline:          event.CapLevelDropped,
	event.FmtSyntaxHighlighting: event.CapLevelDropped,
	event.FmtAtRoomMention:      event.CapLevelDropped,
}

// roomFeatures is what a chat can do with a gatekeeper, in an installation that takes attachments of at most maxUpload bytes (0: no bound
// of its own). Everything that is not named is refused by the framework, and the person is told (see refuse).
func roomFeatures(p *profile.Profile, maxUpload int64) *event.RoomFeatures {
	if !carries(p) {
		return noFeatures
	}
	f := &event.RoomFeatures{
		ID:         capabilitiesID + "+" + strconv.FormatInt(maxUpload, 10),
		Formatting: formatting,
		// Text on the other side: a place and a link, a question and its options.
		LocationMessage: event.CapLevelPartialSupport,
		Poll:            event.CapLevelPartialSupport,
		PollEnd:         event.CapLevelRejected,
		Thread:          event.CapLevelDropped,
		Reply:           event.CapLevelDropped,
		// A new message that quotes the old one and says so.
		Edit: event.CapLevelPartialSupport,
		// What was deleted stays on the phone. Not a level that hides the button: the homeserver deletes it all the same.
		Delete:              event.CapLevelRejected,
		Reaction:            event.CapLevelRejected,
		ReadReceipts:        p.Features.ReadReceipts,
		TypingNotifications: p.Features.Typing,
		// Here alone: the phone keeps its own.
		DeleteChat: true,
		MessageRequest: &event.MessageRequestFeatures{
			AcceptWithMessage: event.CapLevelFullySupported, AcceptWithButton: event.CapLevelFullySupported,
		},
	}
	if p.Features.Replies {
		f.Reply = event.CapLevelFullySupported
	}
	if p.Features.Reactions {
		f.Reaction, f.ReactionCount = event.CapLevelFullySupported, 1
	}
	if p.Features.Edits {
		f.Edit = event.CapLevelFullySupported
	}
	if p.Features.Deletions {
		f.Delete = event.CapLevelFullySupported
	}
	if p.Features.Media {
		f.File = fileFeatures(p, maxUpload)
	}
	return f
}

// fileFeatures says of each kind of attachment what becomes of its types: they go as they are, or are converted, or go as a document.
func fileFeatures(p *profile.Profile, maxUpload int64) event.FileFeatureMap {
	const full, partial = event.CapLevelFullySupported, event.CapLevelPartialSupport
	of := func(role convert.Role, caption event.CapabilitySupportLevel, rest event.CapabilitySupportLevel, types ...string) *event.FileFeatures {
		f := &event.FileFeatures{
			MimeTypes: map[string]event.CapabilitySupportLevel{"*/*": rest},
			Caption:   caption, MaxCaptionLength: p.Message.MaxTextUnits, MaxSize: attachmentLimit(role, p.Media, maxUpload),
		}
		for _, t := range types {
			f.MimeTypes[t] = full
		}
		return f
	}
	return event.FileFeatureMap{
		event.MsgImage: of(convert.RoleImage, full, partial, p.Media.ImageTypes...),
		event.MsgVideo: of(convert.RoleVideo, full, partial, p.Media.VideoTypes...),
		// With words an audio file goes as a document, since an audio message has no place for them.
		event.MsgAudio:      of(convert.RoleAudio, partial, partial, p.Media.AudioTypes...),
		event.CapMsgVoice:   of(convert.RoleVoice, partial, partial, p.Media.VoiceType, "audio/ogg"),
		event.CapMsgGIF:     of(convert.RoleGIF, full, partial, p.Media.VideoTypes...),
		event.MsgFile:       of(convert.RoleDocument, full, full),
		event.CapMsgSticker: of(convert.RoleSticker, event.CapLevelDropped, partial),
	}
}

// noFeatures is what a chat can do whose messages this bridge cannot carry.
var noFeatures = &event.RoomFeatures{
	ID:              "eu.postern.capabilities.2026_11_none",
	LocationMessage: event.CapLevelRejected,
	Poll:            event.CapLevelRejected,
	Thread:          event.CapLevelRejected,
	Reply:           event.CapLevelRejected,
	Edit:            event.CapLevelRejected,
	Delete:          event.CapLevelRejected,
	Reaction:        event.CapLevelRejected,
}

// GetCapabilities implements bridgev2.NetworkAPI.
func (c *client) GetCapabilities(context.Context, *bridgev2.Portal) *event.RoomFeatures {
	return roomFeatures(c.profile, c.maxUpload())
}

// GetCapabilities implements bridgev2.NetworkConnector.
func (c *Connector) GetCapabilities() *bridgev2.NetworkGeneralCapabilities {
	return &bridgev2.NetworkGeneralCapabilities{
		DisappearingMessages: true, // the framework's loop for them runs only then
		Provisioning: bridgev2.ProvisioningCapabilities{
			ResolveIdentifier: bridgev2.ResolveIdentifierCapabilities{CreateDM: true, LookupPhone: true},
		},
	}
}
