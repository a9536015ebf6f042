package killpoint

// The points of writing a person's list of ignored users.
const (
	// IgnoreNoted: that the list is being changed is on disk, and it is as before.
	IgnoreNoted = "G1.noted"
	// IgnoreWritten: the homeserver has the new list, and nobody here has noted that.
	IgnoreWritten = "G2.written"
)

// Ignoring lists these points, to which no message comes.
var Ignoring = []string{IgnoreNoted, IgnoreWritten}
