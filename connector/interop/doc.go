// Package interop keeps one enlisted account: what Matrix wants sent, what the
// gatekeeper's users sent, receipts, retries and keys, so that nothing is lost
// and nothing happens twice, whatever is killed and whenever.
//
// Layer: above gatekeeper and e2ee, below connector. It may import gatekeeper,
// profile, e2ee, stanza, jid, media, killpoint and the WhatsApp protobufs. It must not
// import anything of Matrix, database or connector: those reach it through
// Store and Upcalls, which it declares.
//
// It implements PROTOCOL.md 3.1, 3.2 (enlistment), 4.11 (answers after durable
// handling), 5 (prekeys, look-ups, reachability), 6.1 to 6.4, 6.6 to 6.9 (messages,
// padding, fall-backs of replies, receipts, typing, retries, identity changes), 6.14
// (safety numbers) and 8.1 (deletion).
//
// # Commit points
//
// Inbound: a stanza is decrypted on a copy; then one transaction stores the
// ratchet, the identity, the used prekey's deletion and the sealed plaintext
// under its dedupe key; then it is acked. A deliverer per chat hands it to
// Upcalls.Deliver; one more transaction erases the plaintext and makes the
// delivery receipt due; then the receipt goes out, and again after each login
// until the gatekeeper has acked it. What is about something that Matrix does not
// have is set aside, plaintext and all, until that has come or ten minutes are over.
// That a message was read is stored before MarkRead returns, and its receipt sent in
// the same way.
//
// Outbound: Send stores the plaintext, or a recipe for it, and its place in the
// order. A worker per chat has the recipe's message made; one transaction stores it
// with what belongs to it, and erases the recipe. The worker encrypts; one
// transaction stores the ratchet and the finished stanza; only then the socket. The
// same bytes go out after each reconnect until an ack removes them.
//
// The goroutine that reads the stream and those that hold Signal state never
// call Upcalls.
package interop
