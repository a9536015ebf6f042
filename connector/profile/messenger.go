package profile

import (
	"time"

	"go.mau.fi/whatsmeow/proto/waWa6"

	"postern/connector/binxml"
	"postern/connector/jid"
	"postern/connector/noise"
)

// Messenger returns the profile of Messenger. Its reference offer exists, but no
// partner is live and next to nothing of the wire is public, so nearly all of this
// is assumed: what WhatsApp does, under names of its own. The enlistment, media and
// key set hosts are not known and must be configured.
func Messenger() *Profile {
	return &Profile{
		Name:        "messenger", // assumed: ours to choose
		Prefix:      "msgr",      // assumed: ours to choose
		DisplayName: "Messenger", // paper: the service's name
		Endpoints: Endpoints{
			ChatTCP: "",                                         // assumed: not known
			ChatWS:  "wss://web-chat-e2ee.facebook.com/ws/chat", // observed: ordinary clients; that partners use it is assumed
			Enlist:  "",                                         // assumed: not known
			Media:   "",                                         // assumed: not known
			JWKS:    "",                                         // assumed: not known
		},
		Paths: Paths{
			ChatWS: "/ws/chat",             // observed: ordinary clients
			Enlist: "/3p/interop_reg_msgr", // assumed
			JWKS:   "/.well-known/jwks",    // assumed
		},
		Noise: Noise{
			RootKey: metaRootKey,        // observed: ordinary clients; that interop shares it is assumed
			Mode:    noise.ModeWhatsApp, // observed: ordinary clients; that interop shares it is assumed
			Intro:   noise.DefaultIntro, // observed: ordinary clients
		},
		Login: Login{
			Product:        waWa6.ClientPayload_INTEROP_MSGR, // observed: the field; its use is assumed
			InteropVersion: [3]uint32{1, 0, 3},               // assumed
		},
		Token: Token{
			Audience:        "MESSENGER", // assumed
			IdentifierClaim: "sub",       // assumed
			Lifetime:        time.Hour,   // assumed
			MaxBytes:        4096,        // assumed
		},
		Push: Push{
			Issuer: "MESSENGER", // assumed
		},
		ServerJID:     jid.ServerJID,                        // observed: ordinary clients
		PartnerServer: jid.Interop,                          // assumed
		UserServers:   []jid.Server{jid.LID, jid.Messenger}, // assumed: ordinary clients use msgr
		ReadDialect:   binxml.Dialect245WithServer,          // assumed
		WriteDialect:  binxml.Dialect245WithServer,          // assumed
		Message: Message{
			Payload:      PayloadTransport, // observed: ordinary clients; that partners use it is assumed
			EncVersion:   3,                // observed: ordinary clients
			Padded:       false,            // observed: ordinary clients
			MaxTextUnits: 65536,            // assumed
			Reply:        ReplyContext,     // assumed
			MaxRetries:   5,                // observed: ordinary clients
			MaxResends:   10,               // observed: ordinary clients
			Unanswered:   true,             // assumed: who has opted in can be written to
		},
		Safety: safety(), // assumed: as ordinary chats
		PreKeys: PreKeys{
			Initial:     200, // assumed
			RefillBelow: 100, // assumed
			RefillTo:    200, // assumed
		},
		Timing: timing(), // assumed
		Features: Features{
			Media:        true,  // paper
			Reactions:    true,  // paper
			Replies:      true,  // paper
			Typing:       true,  // paper
			ReadReceipts: true,  // paper
			Edits:        false, // assumed
			Deletions:    false, // assumed
			Groups:       false, // paper: a later stage
			Calls:        false, // paper: a later stage
		},
		Media:            media(),
		MediaPathProduct: "messenger", // assumed
	}
}
