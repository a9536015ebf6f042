package gatekeeper

import (
	"fmt"
	"strings"

	"postern/connector/stanza"
)

// event is what can happen to a stream. Each is found out in one place and then
// looked up in transitions, which says what follows.
type event uint8

const (
	evBegin event = iota
	evLinked
	evUnreachable
	evLoggedIn
	evDrained
	evLost
	evPanicked
	evFault
	evRestart
	evRestartAgain
	evRateLimited
	evAckOwed
	evBanned
	evUnenlisted
	evTokenRefused
	evTokenRefusedAgain
	evRefused
	evReplaced
	evElapsed
	evWoken
	evCancelled

	events = int(evCancelled) + 1
)

// eventTexts are for docs/STREAM.md and logs.
var eventTexts = [events]struct{ name, meaning string }{
	evBegin:             {"begin", "Run is called"},
	evLinked:            {"linked", "the handshake is complete, the login payload sent"},
	evUnreachable:       {"unreachable", "no token, no connection, or no good handshake"},
	evLoggedIn:          {"logged in", "`success`"},
	evDrained:           {"drained", "`ib` / `offline`: the queue has arrived"},
	evLost:              {"lost", "the connection ended, a frame was malformed, or something went unanswered"},
	evPanicked:          {"panicked", "the handler or the reading of a frame panicked"},
	evFault:             {"fault", "a failure of theirs: 5xx, unknown codes, `xml-not-well-formed`; 413 or 414 after login"},
	evRestart:           {"restart", "`stream:error` 515"},
	evRestartAgain:      {"restart again", "515 once more before the stream was good for a minute"},
	evRateLimited:       {"rate limited", "429"},
	evAckOwed:           {"ack owed", "`stream:error` / `ack`"},
	evBanned:            {"banned", "402"},
	evUnenlisted:        {"un-enlisted", "401, or `conflict type=device_removed`"},
	evTokenRefused:      {"token refused", "413 or 414 in answer to a login"},
	evTokenRefusedAgain: {"token refused again", "413 or 414 for the token made after the first"},
	evRefused:           {"refused", "400, 403, 405, 406 and every other 4xx"},
	evReplaced:          {"replaced", "`conflict type=replaced`"},
	evElapsed:           {"elapsed", "the wait is over"},
	evWoken:             {"woken", "Wake or Again, while waiting for backoff"},
	evCancelled:         {"cancelled", "the context of Run ended"},
}

// String returns the event's name.
func (e event) String() string { return eventTexts[e].name }

// action is what is done on the way into the next state. Every action but awaitLogin
// and serve first gives up the connection, if there is one.
type action uint8

const (
	actNone action = iota
	actConnect
	actAwaitLogin
	actServe
	actBackoff
	actWaitLimit
	actWaitBan
	actStop

	actions = int(actStop) + 1
)

var actionTexts = [actions]string{
	actNone:       "",
	actConnect:    "make a token, dial, shake hands, send the login payload",
	actAwaitLogin: "wait for `success` or `failure`",
	actServe:      "read, hand on, answer, keep alive",
	actBackoff:    "wait: 1 s doubling to 5 min, full jitter",
	actWaitLimit:  "wait: 5 min and the backoff",
	actWaitBan:    "wait: as long as `expire` says, and the backoff",
	actStop:       "return from Run",
}

// String returns what is done.
func (a action) String() string { return actionTexts[a] }

// transition is one cell of the table. The zero value means that the event cannot
// happen in that state.
type transition struct {
	next Phase
	do   action
}

// transitions is the state table of a stream (PROTOCOL.md 4.4 to 4.6, 4.10). walk
// follows it and nothing else decides; StateTable prints it.
var transitions = buildTransitions()

func buildTransitions() [phases][events]transition {
	var t [phases][events]transition
	var (
		connect = transition{Connecting, actConnect}
		backoff = transition{Waiting, actBackoff}
		stop    = transition{Stopped, actStop}
	)
	t[Idle][evBegin] = connect
	t[Idle][evCancelled] = stop

	t[Connecting][evLinked] = transition{LoggingIn, actAwaitLogin}
	t[Connecting][evUnreachable] = backoff

	t[LoggingIn][evLoggedIn] = transition{Draining, actServe}
	t[LoggingIn][evTokenRefused] = connect
	t[LoggingIn][evTokenRefusedAgain] = stop
	t[Draining][evDrained] = transition{Live, actServe}

	for _, from := range []Phase{LoggingIn, Draining, Live} {
		t[from][evLost] = backoff
		t[from][evFault] = backoff
		t[from][evRestart] = connect
		t[from][evRestartAgain] = backoff
		t[from][evRateLimited] = transition{Waiting, actWaitLimit}
		t[from][evAckOwed] = backoff
		t[from][evBanned] = transition{Waiting, actWaitBan}
		t[from][evUnenlisted] = stop
		t[from][evRefused] = stop
		t[from][evReplaced] = stop
	}
	for _, from := range []Phase{Connecting, LoggingIn, Draining, Live} {
		t[from][evPanicked] = backoff
		t[from][evCancelled] = stop
	}
	t[Waiting][evElapsed] = connect
	t[Waiting][evWoken] = connect
	t[Waiting][evCancelled] = stop
	return t
}

// remedyEvents turn the action class of a failure or stream:error into an event.
// Those marked "again" depend on what happened before; see Stream.classify.
var remedyEvents = map[stanza.Action]event{
	stanza.ActionReconnect:      evFault,
	stanza.ActionReconnectNow:   evRestart,
	stanza.ActionReconnectAfter: evRateLimited,
	stanza.ActionAnswerFirst:    evAckOwed,
	stanza.ActionReenlist:       evUnenlisted,
	stanza.ActionNewToken:       evTokenRefused,
	stanza.ActionWait:           evBanned,
	stanza.ActionRefused:        evRefused,
	stanza.ActionReplaced:       evReplaced,
}

// StateTable prints the table of states and events as Markdown. docs/STREAM.md holds
// a copy, which a test compares with it.
func StateTable() string {
	var b strings.Builder
	b.WriteString("| state | event | next state | what is done |\n|---|---|---|---|\n")
	for from := range phases {
		for ev := range events {
			t := transitions[from][ev]
			if t.do == actNone {
				continue
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", Phase(from), event(ev), t.next, t.do)
		}
	}
	b.WriteString("\n| event | when |\n|---|---|\n")
	for _, e := range eventTexts {
		fmt.Fprintf(&b, "| %s | %s |\n", e.name, e.meaning)
	}
	return b.String()
}
