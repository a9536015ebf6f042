package killpoint

// The points of leaving, in this order.
const (
	// LeaveWished: that somebody wants to leave is on disk, and nothing was done.
	LeaveWished = "D1.wished"
	// LeaveEmptying: what needs no gatekeeper was deleted, and that is not committed.
	LeaveEmptying = "D2.emptying"
	// LeaveEmptied: it is committed, and the files are there.
	LeaveEmptied = "D2.emptied"
	// LeaveFiles: the files are gone, and the gatekeeper was not asked.
	LeaveFiles = "D3.files"
	// LeaveAnswered: the gatekeeper has deleted the account, and nobody here has noted that.
	LeaveAnswered = "D4.answered"
	// LeaveNoted: that is on disk; the keys are there.
	LeaveNoted = "D4.noted"
	// LeaveEnding: the last of it was deleted, with the notice to the person, and that is not committed.
	LeaveEnding = "D5.ending"
	// LeaveEnded: it is committed.
	LeaveEnded = "D5.ended"
)

// Leaving lists these points. They are no part of All: an account passes them once.
var Leaving = []string{LeaveWished, LeaveEmptying, LeaveEmptied, LeaveFiles, LeaveAnswered, LeaveNoted, LeaveEnding, LeaveEnded}
