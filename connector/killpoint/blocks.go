package killpoint

// The points of blocking somebody.
const (
	// BlockWished: that somebody is to be blocked, or not any more, is on disk, and nobody was told.
	BlockWished = "B1.wished"
	// BlockTold: the gatekeeper has done it, and nobody here has noted that.
	BlockTold = "B2.told"
)

// Blocking lists these points, to which no message comes.
var Blocking = []string{BlockWished, BlockTold}
