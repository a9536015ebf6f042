package profile

import (
	"time"

	"go.mau.fi/whatsmeow/proto/waWa6"

	"postern/connector/binxml"
	"postern/connector/jid"
	"postern/connector/noise"
)

// metaRootKey ends the certificate chain of the servers that ordinary WhatsApp
// clients connect to.
var metaRootKey = [noise.KeySize]byte{
	0x14, 0x23, 0x75, 0x57, 0x4d, 0x0a, 0x58, 0x71, 0x66, 0xaa, 0xe7, 0x1e, 0xbe, 0x51, 0x64, 0x37,
	0xc4, 0xa2, 0x8b, 0x73, 0xe3, 0x69, 0x5c, 0x6c, 0xe1, 0xf7, 0xf9, 0x54, 0x5d, 0xa8, 0xee, 0x6b,
}

// WhatsApp returns the profile of WhatsApp.
func WhatsApp() *Profile {
	return &Profile{
		Name:        "whatsapp", // assumed: ours to choose
		Prefix:      "wa",       // assumed: ours to choose
		DisplayName: "WhatsApp", // paper: the service's name
		Endpoints: Endpoints{
			ChatTCP: "tcp://g.whatsapp.net:443",              // observed: ordinary clients; that partners use it is assumed
			ChatWS:  "",                                      // assumed: partners connect by TCP
			Enlist:  "https://v.whatsapp.net/3p/interop_reg", // paper
			Media:   "https://mmg.whatsapp.net",              // observed: ordinary clients
			JWKS:    "https://whatsapp.com/.well-known/jwks", // paper
		},
		Paths: Paths{
			ChatWS: "/ws/chat",          // observed: ordinary clients
			Enlist: "/3p/interop_reg",   // paper
			JWKS:   "/.well-known/jwks", // paper
		},
		Noise: Noise{
			RootKey: metaRootKey,        // observed: ordinary clients; that interop shares it is assumed
			Mode:    noise.ModeWhatsApp, // observed: ordinary clients; that interop shares it is assumed
			Intro:   noise.DefaultIntro, // observed: ordinary clients
		},
		Login: Login{
			Product:        waWa6.ClientPayload_INTEROP, // observed: the field; its use is assumed
			InteropVersion: [3]uint32{1, 0, 3},          // assumed: paper has a version, not where it goes
		},
		Token: Token{
			Audience:        "WHATSAPP", // assumed: the mirror of the push token's issuer
			IdentifierClaim: "sub",      // assumed
			Lifetime:        time.Hour,  // assumed: the mirror of the push token's
			MaxBytes:        4096,       // paper
		},
		Push: Push{
			Issuer: "WHATSAPP", // paper
		},
		ServerJID:     jid.ServerJID,                   // observed: ordinary clients
		PartnerServer: jid.Interop,                     // observed
		UserServers:   []jid.Server{jid.LID, jid.User}, // assumed: paper says an internal identifier
		ReadDialect:   binxml.Dialect245WithServer,     // observed
		WriteDialect:  binxml.Dialect245WithServer,     // observed
		Message: Message{
			Payload:      PayloadE2E,   // observed
			EncVersion:   2,            // observed
			Padded:       true,         // observed
			MaxTextUnits: 65536,        // observed
			Reply:        ReplyContext, // assumed
			MaxRetries:   5,            // observed: ordinary clients
			MaxResends:   10,           // observed: ordinary clients
			Unanswered:   true,         // assumed: who has opted in can be written to
		},
		Safety: safety(), // assumed: as ordinary chats
		PreKeys: PreKeys{
			Initial:     200, // assumed
			RefillBelow: 100, // assumed
			RefillTo:    200, // assumed
		},
		Timing: timing(),
		Features: Features{
			Media:        true,  // paper
			Reactions:    true,  // paper
			Replies:      true,  // paper
			Typing:       true,  // paper
			ReadReceipts: true,  // paper
			Edits:        false, // observed: phones do not accept them from partners
			Deletions:    false, // observed: phones do not accept them from partners
			Groups:       false, // paper: a later stage
			Calls:        false, // paper: a later stage
		},
		Media:            media(),
		MediaPathProduct: "whatsapp", // paper
	}
}

// safety are the parameters of safety numbers, the same for both gatekeepers until papers say otherwise.
func safety() Safety {
	return Safety{
		Version:    1,    // assumed: libsignal's form that carries hashes of the keys
		Iterations: 5200, // paper: of ordinary chats, in WhatsApp's encryption overview; that interop shares it is assumed
	}
}

// timing are the clocks, the same for both gatekeepers until papers say otherwise.
func timing() Timing {
	return Timing{
		Handshake:          20 * time.Second,    // observed: ordinary clients
		Login:              20 * time.Second,    // assumed
		KeepAlive:          25 * time.Second,    // observed: ordinary clients use 20 to 30
		Answer:             10 * time.Second,    // observed: ordinary clients
		BackoffMin:         time.Second,         // assumed
		BackoffMax:         5 * time.Minute,     // assumed
		GoodStream:         time.Minute,         // assumed
		BackoffLost:        8 * time.Second,     // assumed
		RateLimited:        5 * time.Minute,     // assumed
		Reenlist:           24 * time.Hour,      // assumed
		TypingRepeat:       10 * time.Second,    // assumed
		TypingExpire:       25 * time.Second,    // observed: ordinary clients
		SignedPreKeyRotate: 7 * 24 * time.Hour,  // assumed: X3DH asks for about weekly
		SignedPreKeyKeep:   30 * 24 * time.Hour, // assumed: as long as the gatekeeper queues
	}
}

// media are the bounds of attachments, the same for both gatekeepers until papers say otherwise.
func media() Media {
	return Media{
		ImageTypes:      []string{"image/jpeg", "image/png"},                           // observed
		VideoTypes:      []string{"video/mp4", "video/3gpp"},                           // observed
		AudioTypes:      []string{"audio/aac", "audio/mp4", "audio/amr", "audio/mpeg"}, // observed
		VoiceType:       "audio/ogg; codecs=opus",                                      // observed
		MaxImage:        64 << 20,                                                      // assumed
		MaxVideo:        2000 << 20,                                                    // observed: ordinary clients
		MaxAudio:        2000 << 20,                                                    // observed: ordinary clients
		MaxDocument:     2000 << 20,                                                    // observed: ordinary clients
		MaxThumbnail:    16 << 10,                                                      // assumed
		WaveformSamples: 64,                                                            // observed
		Keep:            45 * 24 * time.Hour,                                           // assumed: the gatekeeper queues for 30 days
	}
}
