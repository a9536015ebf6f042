// Package sandbox is a gatekeeper with WhatsApp users in it: what a partner bridge is tested against. It
// enlists partner users, verifies their tokens through the partner's published keys, accepts their streams,
// queues for them, and runs a simulated phone with Signal sessions of its own for every WhatsApp user. It can
// misbehave on request, and it writes down what a partner does that the profile does not allow.
//
// Layer: beside the connector, never inside it. It shares the codecs with the bridge (jid, binxml, noise,
// profile), e2ee and media for the phones, and nothing else: it must not import interop, gatekeeper, the connector
// root or database, and a test reads the import graph. Stanzas it reads and writes by itself, element by
// element, so that a mistake in the bridge's typed stanzas is not made twice and thereby hidden.
//
// It implements PROTOCOL.md section 9 and the gatekeeper's half of sections 1 to 8. The control API is in
// docs/SANDBOX.md.
//
// How it keeps promise 1: all state changes inside state.update, one numbered change at a time; the journal
// writes changes in order and syncs them; a frame that rests on change n leaves only when n is on disk. Media
// lies in files beside the journal (depot), which names a file only when all of it is on disk; media on its way
// from a partner is fetched again after a restart (waiting). It is never held in memory, but for the body of the
// control call that brings it.
package sandbox
