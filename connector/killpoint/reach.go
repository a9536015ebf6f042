package killpoint

// The points of beginning a chat.
const (
	// LookupCounted: the brake has counted a question for a number, and nobody was asked.
	LookupCounted = "S1.lookup"
	// ReachWished: that somebody is to be asked is on disk, and counted, and they were not.
	ReachWished = "S2.wished"
	// ReachTaken: the gatekeeper has taken the question, and nobody here has noted that.
	ReachTaken = "S3.taken"
)

// Beginning lists these points, to which no message comes.
var Beginning = []string{LookupCounted, ReachWished, ReachTaken}
