package killpoint

// The points of replacing an account's prekeys after an old copy of the database.
const (
	// KeysRenewing: a new signed prekey is stored, and the gatekeeper has nothing new.
	KeysRenewing = "K1.renewing"
	// KeysRenewed: the gatekeeper has the new prekeys, and nobody here has noted that.
	KeysRenewed = "K2.renewed"
)

// Renewal lists these points, to which no message comes.
var Renewal = []string{KeysRenewing, KeysRenewed}
