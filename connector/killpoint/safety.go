package killpoint

// SafetySettled is hit when that a safety number is confirmed, or not any more, is on disk, and nothing that has waited for it is sent.
const SafetySettled = "V1.settled"

// Safety lists the points of comparing safety numbers, to which no message comes.
var Safety = []string{SafetySettled}
