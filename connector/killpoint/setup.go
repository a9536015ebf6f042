package killpoint

// The points of a login, in this order, of the keys that follow it, and of the schema.
const (
	// LoginAgreed: a person has agreed, and nothing is kept of it.
	LoginAgreed = "L1.agreed"
	// LoginKeyed: the account's keys are on disk, and the gatekeeper was not asked.
	LoginKeyed = "L2.keyed"
	// LoginEnlisted: the gatekeeper has answered, and nobody here has noted that.
	LoginEnlisted = "L3.enlisted"
	// LoginStored: its answer is on disk, and the framework knows of no login.
	LoginStored = "L4.stored"
	// LoginNoted: the framework has stored the login, and it is not connected.
	LoginNoted = "L5.noted"
	// KeysMade: one-time prekeys are on disk.
	KeysMade = "L6.keys-made"
	// KeysMarked: it is on disk that the gatekeeper may have them, and it does not.
	KeysMarked = "L6.keys-marked"
	// KeysUploaded: the gatekeeper has them, and nobody here has noted that.
	KeysUploaded = "L6.keys-uploaded"
	// Upgrading: a step of the database's schema was made and not committed.
	Upgrading = "S1.upgrading"
)

// Setup lists these points. They are no part of All: most of them are passed once.
var Setup = []string{LoginAgreed, LoginKeyed, LoginEnlisted, LoginStored, LoginNoted, KeysMade, KeysMarked, KeysUploaded, Upgrading}
