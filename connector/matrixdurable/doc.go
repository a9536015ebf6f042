// Package matrixdurable makes bridgev2 durable from outside. It belongs to the connector's layer and stands
// between the homeserver and the framework: what the homeserver hands over is on disk before it is
// acknowledged, and what the bridge sends arrives once however often it is repeated.
//
// It may import mautrix, zerolog and go.mau.fi/util, and of this project only killpoint; the
// database is behind the interface Journal. It implements no section of docs/PROTOCOL.md; it keeps the
// first three promises on the Matrix side, as docs/ARCHITECTURE.md says under "Making bridgev2
// durable from outside".
//
// The pieces: Listener takes transactions and answers after Journal.Accept has committed. Dispatcher hands events to the
// framework, one worker for each room, and marks them finished. CatchUp asks
// the homeserver what it has not pushed. ToDevice fetches room keys. Transport gives requests fixed transaction
// ids, looks into the room before it repeats one whose outcome is unknown, and makes room creation
// repeatable. Deliver hands a remote message to the framework and finds out what became of it; React, Edit and Remove do so
// for what happens to a message later. Uploads brings files into the homeserver as streams.
package matrixdurable
