package killpoint

// The points of what could not be read and is sent again (docs/PROTOCOL.md 6.8), and of new keys.
const (
	// InWaiting: that a message could not be read is on disk, with the keys for its sender, and nobody was asked to send it again.
	InWaiting = "R1.waiting"
	// OutAsked: that somebody has asked for a message again is on disk, and it was not answered.
	OutAsked = "R2.asked"
	// OutResealing: ratchet and answer were written and not committed.
	OutResealing = "R3.resealing"
	// OutResealed: they are on disk, and nothing was sent.
	OutResealed = "R3.resealed"
	// KeysEnded: the session with somebody who has new keys was ended, on disk, and there is no new one.
	KeysEnded = "R4.ended"
	// KeysBegun: a session that begins with somebody's bundle is on disk, with the notice if the keys are new.
	KeysBegun = "R4.begun"
)

// Repairs lists these points. They are no part of All: the seeds of older campaigns choose from that.
var Repairs = []string{InWaiting, OutAsked, OutResealing, OutResealed, KeysEnded, KeysBegun}
