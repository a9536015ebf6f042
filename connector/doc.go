// Package connector is the bridge itself: it fulfils the bridgev2 framework's interfaces for both gatekeepers, puts
// the Matrix side (matrixdurable) and the accounts (interop) together over one database, and says to people what they read.
//
// Layer: above everything else under connector and above database; below bridge. It imports all of
// these and the framework, and nothing of bridge. It implements PROTOCOL.md 1.5 (identifiers), 2 (which
// token for whom), 3 (log-in) and what the sections on messages, reachability and deletion leave to the
// side of the person.
package connector
