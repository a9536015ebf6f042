package killpoint

// Reported is hit when what somebody has reported is on disk, and they were not told so.
const Reported = "R1.reported"

// Reporting lists the points of a report, to which no message comes.
var Reporting = []string{Reported}
