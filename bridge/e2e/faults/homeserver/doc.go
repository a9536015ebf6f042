// Package homeserver is a Matrix homeserver for tests: small enough to start in a millisecond, complete enough for the real
// bridge to run on, and able to be slow, wrong, forgetful or gone when a test says so. Everything is in the memory of the
// test's process, and every request is on a list that a checker reads.
//
// Layer: test support below bridge/e2e. It imports nothing of this module, and no product package imports it. It knows the
// client API as far as the bridge and a plain client use it, and the appservice API as Synapse speaks it: one transaction
// at a time, repeated until it is answered. It implements no section of docs/PROTOCOL.md.
//
// What it is not: rooms have no power levels, no history visibility and no federation, and nothing is encrypted. What
// depends on these is tested on real homeservers in bridge/e2e.
package homeserver
