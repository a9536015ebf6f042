package connector

import (
	"context"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/event"
)

// capabilitiesID names the version of roomCapabilities; clients and the framework compare it.
const capabilitiesID = "eu.postern.capabilities.2026_11_text"

// roomCapabilities is what a chat can do: text with formatting. Everything that is not named is refused by the framework, and
// the person is told (see refuse).
var roomCapabilities = &event.RoomFeatures{
	ID: capabilitiesID,
	Formatting: event.FormattingFeatureMap{
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
	},
	LocationMessage: event.CapLevelRejected,
	Poll:            event.CapLevelRejected,
	Thread:          event.CapLevelDropped,
	Reply:           event.CapLevelDropped,
	Edit:            event.CapLevelRejected,
	Delete:          event.CapLevelRejected,
	Reaction:        event.CapLevelRejected,
}

// noCapabilities is what a chat can do whose messages this bridge cannot carry.
var noCapabilities = &event.RoomFeatures{
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
	if !carries(c.profile) {
		return noCapabilities
	}
	return roomCapabilities
}

// GetCapabilities implements bridgev2.NetworkConnector.
func (c *Connector) GetCapabilities() *bridgev2.NetworkGeneralCapabilities {
	return &bridgev2.NetworkGeneralCapabilities{
		Provisioning: bridgev2.ProvisioningCapabilities{
			ResolveIdentifier: bridgev2.ResolveIdentifierCapabilities{CreateDM: true, LookupPhone: true},
		},
	}
}
