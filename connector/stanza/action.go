package stanza

import "time"

// Action is what to do about a failure. The tables below are the only place where codes get their meaning.
type Action uint8

// The actions (PROTOCOL.md 4.4, 4.5).
const (
	// ActionReconnect: theirs or unknown; reconnect with backoff. The zero value, and the right answer to no answer.
	ActionReconnect Action = iota
	// ActionReconnectNow: reconnect at once, without backoff.
	ActionReconnectNow
	// ActionReconnectAfter: reconnect, but not before Remedy.Wait.
	ActionReconnectAfter
	// ActionAnswerFirst: reconnect and acknowledge the stanza of StreamError.Ack before anything else.
	ActionAnswerFirst
	// ActionReenlist: not enlisted any more; enlist again once if the consent stands, and stop at a second one in a day.
	ActionReenlist
	// ActionNewToken: make one new token and try again, then as ActionRefused.
	ActionNewToken
	// ActionWait: banned; wait for Remedy.Wait.
	ActionWait
	// ActionRefused: stop; only a person can change it.
	ActionRefused
	// ActionReplaced: stop; another connection has taken over.
	ActionReplaced
)

var actionNames = [...]string{"reconnect", "reconnect now", "reconnect after", "answer first", "reenlist", "new token",
	"wait", "refused", "replaced"}

// String is the action's name, for logs.
func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return "unknown"
}

// Remedy is an action with what belongs to it.
type Remedy struct {
	Action Action
	// Wait is the shortest time to wait, for ActionReconnectAfter and ActionWait.
	Wait time.Duration
	// TellUser and TellOperator say who must be told at once (PROTOCOL.md 4.4). What becomes final later, after a
	// second 401 or token, is for whoever counts to tell.
	TellUser, TellOperator bool
}

const (
	rateLimitWait = 5 * time.Minute
	maxBan        = 365 * 24 * time.Hour
	unsaidBan     = time.Hour
)

// codes gives a remedy to each code: the one listed, else that of its hundred, else rest.
type codes struct {
	exact    map[int]Remedy
	hundreds map[int]Remedy
	rest     Remedy
}

func (c codes) find(code int) Remedy {
	if m, ok := c.exact[code]; ok {
		return m
	}
	if m, ok := c.hundreds[code/100]; ok {
		return m
	}
	return c.rest
}

var (
	reenlist = Remedy{Action: ActionReenlist}
	replaced = Remedy{Action: ActionReplaced, TellUser: true}

	// failureTable is the table of PROTOCOL.md 4.4.
	failureTable = codes{
		exact: map[int]Remedy{
			401: reenlist,
			402: {Action: ActionWait, Wait: unsaidBan, TellUser: true},
			403: {Action: ActionRefused, TellUser: true, TellOperator: true},
			405: {Action: ActionRefused, TellOperator: true},
			406: {Action: ActionRefused, TellUser: true, TellOperator: true},
			413: {Action: ActionNewToken},
			414: {Action: ActionNewToken},
		},
		hundreds: map[int]Remedy{4: {Action: ActionRefused, TellOperator: true}},
	}

	// streamErrorTable, conflictTable and the two remedies are PROTOCOL.md 4.5; 409 is the code some servers send in
	// place of the conflict.
	streamErrorTable = codes{
		exact: map[int]Remedy{
			401: reenlist,
			409: replaced,
			429: {Action: ActionReconnectAfter, Wait: rateLimitWait},
			515: {Action: ActionReconnectNow},
		},
	}
	conflictTable = map[string]Remedy{
		ConflictReplaced:      replaced,
		ConflictDeviceRemoved: reenlist,
	}
	owedAckRemedy       = Remedy{Action: ActionAnswerFirst}
	notWellFormedRemedy = Remedy{Action: ActionReconnect, TellOperator: true}
)

// The error codes of acks we send or give a meaning to (PROTOCOL.md 6.1, 6.2).
const (
	NackParse       = 487 // the stanza is malformed
	NackUnreadable  = 491 // the content is not something the receiver reads
	NackOldCounter  = 496 // the ciphertext's counter has been used
	NackServerError = 500 // unhandled
	NackNoChat      = 463 // the sender may not start this chat
	NackChatCap     = 475 // cap on new chats
	NackInvalid     = 479 // the server found the stanza invalid
)

// Outcome is what an ack says about a message of ours.
type Outcome uint8

// The outcomes (PROTOCOL.md 6.1).
const (
	// OutcomeAccepted: the server has it.
	OutcomeAccepted Outcome = iota
	// OutcomeTransient: send the same bytes again later.
	OutcomeTransient
	// OutcomeBlocked: the recipient has blocked us or opted out.
	OutcomeBlocked
	// OutcomeGone: the recipient does not exist any more.
	OutcomeGone
	// OutcomeNotAllowed: we may not start this chat yet; do not repeat.
	OutcomeNotAllowed
	// OutcomeChatCap: too many new chats; do not repeat.
	OutcomeChatCap
	// OutcomeInvalid: the stanza was bad, a fault of ours.
	OutcomeInvalid
	// OutcomeUnreadable: the recipient's phone could not read it.
	OutcomeUnreadable
)

var outcomeNames = [...]string{"accepted", "transient", "blocked", "gone", "not allowed", "chat cap", "invalid",
	"unreadable"}

// String is the outcome's name, for logs.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return "unknown"
}

// Final says that sending the same message again is useless.
func (o Outcome) Final() bool { return o > OutcomeTransient }

// outcomeTable is the list in PROTOCOL.md 6.1, completed by the nacks a phone gives: those from 487 to 499 are all about
// content it could not read. A code not listed is OutcomeTransient if it is 5xx and else OutcomeInvalid.
var outcomeTable = map[int]Outcome{
	0:              OutcomeAccepted,
	403:            OutcomeBlocked,
	404:            OutcomeGone,
	429:            OutcomeTransient,
	NackNoChat:     OutcomeNotAllowed,
	NackChatCap:    OutcomeChatCap,
	NackInvalid:    OutcomeInvalid,
	NackParse:      OutcomeUnreadable,
	488:            OutcomeUnreadable,
	489:            OutcomeUnreadable,
	490:            OutcomeUnreadable,
	NackUnreadable: OutcomeUnreadable,
	493:            OutcomeUnreadable,
	495:            OutcomeUnreadable,
	NackOldCounter: OutcomeUnreadable,
	499:            OutcomeUnreadable,
}

// Outcome is what the ack says about the message it is for.
func (a *Ack) Outcome() Outcome {
	if o, ok := outcomeTable[a.Error]; ok {
		return o
	}
	if a.Error >= 500 {
		return OutcomeTransient
	}
	return OutcomeInvalid
}
