// Package killpoint names the places between the commit points I1 to I7 and O1 to O9 (docs/RELIABILITY.md) at which a test
// ends the process as SIGKILL does. In the product Hit is empty and costs nothing; built with the tag killpoints it reads
// its orders from the file that the environment variable POSTERN_KILL names.
//
// Layer: below everything in connector. It may import the standard library only. It implements no section of
// docs/PROTOCOL.md.
package killpoint

// The points, inbound. A message that comes from the gatekeeper passes them in this order.
const (
	// InRead: a message was read and decoded, and nothing was done with it.
	InRead = "I1.read"
	// InOpened: it was decrypted on a copy in memory; nothing was written.
	InOpened = "I2.opened"
	// InRefused: it could not be decrypted; nothing was written, and nobody was asked to send it again.
	InRefused = "I2.refused"
	// InStoring: everything was written and not committed.
	InStoring = "I3.storing"
	// InStored: the commit is on disk, and the ack was not sent.
	InStored = "I3.stored"
	// InAcked: the ack was handed to the socket.
	InAcked = "I4.acked"
	// InSending: the request that sends the event to the homeserver is about to be made.
	InSending = "I5.sending"
	// InAnswered: the homeserver has answered it, and nobody here has noted that.
	InAnswered = "I5.answered"
	// InDelivered: the framework has stored the event's id; our row still waits.
	InDelivered = "I6.delivered"
	// InFinished: our row is done, the plaintext erased; the receipt is due.
	InFinished = "I6.finished"
	// InReceipt: the receipt was handed to the socket.
	InReceipt = "I7.receipt"
)

// The points, outbound. An event that comes from the homeserver passes them in this order.
const (
	// OutTaken: a transaction was read, and nothing of it is stored.
	OutTaken = "O1.taken"
	// OutJournalling: its events were written and not committed.
	OutJournalling = "O2.journalling"
	// OutJournalled: its events are on disk, and it was not answered.
	OutJournalled = "O2.journalled"
	// OutAnswered: the answer was written.
	OutAnswered = "O3.answered"
	// OutHanded: the event is about to be handed to the framework.
	OutHanded = "O4.handed"
	// OutQueueing: its rows were written to the out-queue and not committed.
	OutQueueing = "O4.queueing"
	// OutQueued: they are on disk.
	OutQueued = "O4.queued"
	// OutSealing: ratchet and stanza were written and not committed.
	OutSealing = "O5.sealing"
	// OutSealed: they are on disk, and nothing was sent.
	OutSealed = "O5.sealed"
	// OutWritten: the stanza was handed to the socket.
	OutWritten = "O6.written"
	// OutAck: the server's ack was read.
	OutAck = "O7.ack"
	// OutSent: "sent" is on disk, and Matrix does not know.
	OutSent = "O8.sent"
	// OutTold: Matrix was told of a state, and that is not on disk.
	OutTold = "O8.told"
	// OutReceipt: a receipt for an event of ours was read.
	OutReceipt = "O9.receipt"
)

// All lists the points, inbound before outbound.
var All = []string{
	InRead, InOpened, InRefused, InStoring, InStored, InAcked, InSending, InAnswered, InDelivered, InFinished, InReceipt,
	OutTaken, OutJournalling, OutJournalled, OutAnswered, OutHanded, OutQueueing, OutQueued, OutSealing, OutSealed, OutWritten, OutAck, OutSent,
	OutTold, OutReceipt,
}
