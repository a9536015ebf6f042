// Package faults_test kills the real bridge, cuts it off and lies to it, and then compares what each end has sent with what
// the other one saw. The bridge is a process of its own, built with the tag killpoints; its gatekeeper is the sandbox, and its
// homeserver the scripted one of the package homeserver, in the memory of this process.
//
// Each row of the fault matrix in docs/RELIABILITY.md is a test whose name carries the row's id, on SQLite and on Postgres.
// The campaign kills at random points and times. Environment:
//
//	POSTERN_ARMED         the program to test, built with -tags goolm,killpoints (default: built from this tree)
//	POSTERN_SEED          replays a campaign's choices
//	POSTERN_FAULTS        messages of the campaign, in each direction (default 40; ./build.sh faults sets it)
//	POSTERN_KIND          "files": all rounds of the campaign have attachments in them
//	POSTERN_FAULTS_LOG    file that every kill of the campaign is added to; carried on if it is there
//	POSTERN_BOUND         how long one test may take (default 3m)
//	POSTERN_KEEP          folder in which the worlds are left behind
package faults_test
