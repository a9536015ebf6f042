package admin

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Action is one of the things that whoever runs the bridge may have done, under the same name by `postern admin` and by the bot's command
// admin. Actions is the one table of them: both faces read their words with ParseOrder, and the connector has a function for each.
type Action struct {
	Name string
	// Args shows what may follow: <needed>, [optional].
	Args string
	// Who: the first word names whom it is about, a Matrix ID or an account's local id; they need not be there for an action that has
	// WhoOptional.
	Who, WhoOptional bool
	// Most is how many words there may be, -1 for any number.
	Most int
	// Yes: it has to be confirmed with --yes. Force: it takes --force.
	Yes, Force bool
	// Offline: it can be done without a running bridge.
	Offline bool
	// Own: it is a command of its own as well, with words and requests of its own, and is the same with "admin" before it.
	Own bool
}

// Actions are all actions, in the order of help.
var Actions = []Action{
	{Name: "users", Args: "[after]", Most: 1, Offline: true},
	{Name: "user", Args: "<who>", Who: true, Most: 1, Offline: true},
	{Name: "disconnect", Args: "<who>", Who: true, Most: 1},
	{Name: "reconnect", Args: "<who>", Who: true, Most: 1},
	{Name: "re-enlist", Args: "<who>", Who: true, Most: 1},
	{Name: "delete", Args: "<who> --yes", Who: true, Most: 1, Yes: true, Offline: true},
	{Name: "media", Args: "[who]", Who: true, WhoOptional: true, Most: 1, Offline: true},
	{Name: "media-purge", Args: "[who] [age] [--force]", Most: 2, Force: true},
	{Name: "move", Args: "<Matrix ID> --to <file>", Most: -1, Own: true, Offline: true},
	{Name: "rotate-key"},
	{Name: "maintenance", Args: "[on | off] [reason]", Most: -1, Offline: true},
	{Name: "log-level", Args: "[component] [level]", Most: 2},
	{Name: "suspend", Args: "<Matrix ID> [reason]", Most: -1, Own: true, Offline: true},
	{Name: "unsuspend", Args: "<Matrix ID>", Most: -1, Own: true, Offline: true},
	{Name: "suspended", Most: -1, Own: true, Offline: true},
	{Name: "dead-letters", Args: "list | retry <id>... | drop <id>...", Most: -1, Own: true, Offline: true},
	{Name: "reports", Args: "list | close <id>...", Most: -1, Own: true, Offline: true},
}

// ActionNamed finds an action, nil if there is none.
func ActionNamed(name string) *Action {
	at := slices.IndexFunc(Actions, func(a Action) bool { return a.Name == name })
	if at < 0 {
		return nil
	}
	return &Actions[at]
}

// Order is an action with what it is given.
type Order struct {
	Action string   `json:"action"`
	Words  []string `json:"words,omitempty"`
	Yes    bool     `json:"yes,omitempty"`
	Force  bool     `json:"force,omitempty"`
	// Offset and Limit are for lists: after the first Offset, at most Limit (1 to MaxPage; 0 is MaxPage).
	Offset int `json:"offset,omitempty"`
	Limit  int `json:"limit,omitempty"`
}

// Who is the first word.
func (o *Order) Who() string {
	if len(o.Words) == 0 {
		return ""
	}
	return o.Words[0]
}

// What is wrong with an order.
const (
	WrongNoAction    = "no-action"
	WrongAction      = "action"      // there is no such action
	WrongFlag        = "flag"        // the action does not take it
	WrongMissing     = "missing"     // something is missing
	WrongMore        = "more"        // there is too much
	WrongWho         = "who"         // neither a Matrix ID nor an account's id
	WrongNumber      = "number"      // not a number
	WrongText        = "text"        // too long, or with characters that nobody sees
	WrongLevel       = "level"       // not a level of the log
	WrongComponent   = "component"   // not a component of the log
	WrongSwitch      = "switch"      // neither on nor off
	WrongUnconfirmed = "unconfirmed" // --yes is missing
)

// WrongOrder says what is wrong with an order, in one of the words above.
type WrongOrder struct {
	Kind string
	// Action is the action, as far as it is known; Word is what it is about.
	Action, Word string
}

func (e *WrongOrder) Error() string { return "admin: order: " + e.Kind }

// ParseOrder reads what somebody has typed behind "admin". Errors: *WrongOrder.
func ParseOrder(typed []string) (Order, error) {
	var o Order
	for _, word := range typed {
		// The keyboards of phones make one dash of two.
		flag, is := strings.CutPrefix(strings.Replace(word, "\u2014", "--", 1), "--")
		switch {
		case is && flag == "yes":
			o.Yes = true
		case is && flag == "force":
			o.Force = true
		case is:
			return o, &WrongOrder{WrongFlag, o.Action, word}
		case o.Action == "":
			o.Action = strings.ToLower(word)
		default:
			o.Words = append(o.Words, word)
		}
	}
	return o, o.check()
}

// check looks at everything but what only the bridge knows.
//
//nolint:gocyclo // one case for each rule
func (o *Order) check() error {
	wrong := func(kind, word string) error { return &WrongOrder{kind, o.Action, word} }
	if o.Action == "" {
		return wrong(WrongNoAction, "")
	}
	a := ActionNamed(o.Action)
	switch {
	case a == nil || a.Own:
		return &WrongOrder{WrongAction, "", o.Action}
	case o.Yes && !a.Yes:
		return wrong(WrongFlag, "--yes")
	case o.Force && !a.Force:
		return wrong(WrongFlag, "--force")
	case a.Who && !a.WhoOptional && len(o.Words) == 0:
		return wrong(WrongMissing, "")
	case a.Most >= 0 && len(o.Words) > a.Most:
		return wrong(WrongMore, o.Words[a.Most])
	case a.Who && len(o.Words) > 0 && !ValidUser(o.Words[0]) && !ValidID(o.Words[0]):
		return wrong(WrongWho, o.Words[0])
	case !ValidReason(strings.Join(o.Words, " ")):
		return wrong(WrongText, "")
	case o.Offset < 0 || o.Limit < 0 || o.Limit > MaxPage:
		return wrong(WrongNumber, "")
	case a.Yes && !o.Yes:
		return wrong(WrongUnconfirmed, "")
	}
	return o.checkWords()
}

// checkWords looks at the words of actions that take others than names.
func (o *Order) checkWords() error {
	switch o.Action {
	case "log-level":
		if kind, word := o.checkLevel(); kind != "" {
			return &WrongOrder{kind, o.Action, word}
		}
	case "maintenance":
		if len(o.Words) > 0 && o.Words[0] != "on" && (o.Words[0] != "off" || len(o.Words) > 1) {
			return &WrongOrder{WrongSwitch, o.Action, o.Words[0]}
		}
	case "media-purge":
		if kind, word := o.checkPurge(); kind != "" {
			return &WrongOrder{kind, o.Action, word}
		}
	}
	if o.Action == "users" && len(o.Words) == 1 {
		n, err := strconv.Atoi(o.Words[0])
		if err != nil || n < 0 || n > 1<<30 {
			return &WrongOrder{WrongNumber, o.Action, o.Words[0]}
		}
		o.Offset = n
	}
	return nil
}

// Operator is what can be ordered of a bridge.
type Operator interface {
	// Do does what is ordered. What cannot be done is an outcome of the answer and no error. Errors: *WrongOrder, ErrNotReady,
	// ErrNeedsBridge, or that of the database.
	Do(ctx context.Context, order Order) (*Answer, error)
}

// Answer is what comes of an order; of its parts those are there that the action has. Parts are only ever added to it.
type Answer struct {
	// Results has one for each account that it was about, and is empty if there was none.
	Results []Result `json:"results,omitzero"`
	// Users are logins, in the order in which they were made. More: there are others behind them, or behind those of Media.
	Users []User `json:"users,omitzero"`
	More  bool   `json:"more,omitempty"`
	// Outcome is that of an order about the bridge as a whole.
	Outcome Outcome `json:"outcome,omitempty"`
	// Keys are the published keys of the token issuer; NotBefore is when the next one may sign, for TooEarly.
	Keys      []Key     `json:"keys,omitzero"`
	NotBefore time.Time `json:"not_before,omitzero"`
	// Log are the levels of the log.
	Log *LogLevels `json:"log,omitempty"`
	// Media is what is in the media store, Purged what was deleted from it.
	Media  *Media      `json:"media,omitempty"`
	Purged *MediaCount `json:"purged,omitempty"`
	// Maintenance says whether there is.
	Maintenance *Maintenance `json:"maintenance,omitempty"`
}

// Outcomes of orders, beside Done, Already, Unknown and Failed.
const (
	Suspended Outcome = "suspended" // not done: the user is suspended
	Leaving   Outcome = "leaving"   // the account is being deleted
	Unusable  Outcome = "unusable"  // not done: the account cannot be used
	Refused   Outcome = "refused"   // not done: the gatekeeper has refused
	Away      Outcome = "away"      // not done: the gatekeeper did not answer
	Begun     Outcome = "begun"     // it is on disk that it is done, and will be
	// InMaintenance: not done, since no stream is opened in maintenance.
	InMaintenance Outcome = "maintenance"
	TooEarly      Outcome = "too_early" // not done: the next key has not been published for long enough
)

// Good says whether an outcome is what was asked for.
func (o Outcome) Good() bool { return o == Done || o == Already || o == Begun }

// Undone is how much of what was ordered was not done.
func (a *Answer) Undone() (n int) {
	for _, r := range a.Results {
		if !r.Outcome.Good() {
			n++
		}
	}
	if a.Results != nil && len(a.Results) == 0 {
		n++ // there was nobody of that name
	}
	if a.Outcome != "" && !a.Outcome.Good() {
		n++
	}
	return n
}

// States of a login that has no stream at all; where it has one the state is interop.ConnKind's.
const (
	StateNoBridge     = "no_bridge"    // no bridge runs
	StateLeaving      = "leaving"      // it is being deleted
	StateSuspended    = "suspended"    // the operator has stopped its user
	StateMaintenance  = "maintenance"  // the operator has closed all streams
	StateDisconnected = "disconnected" // the operator has closed its stream
	StateUnusable     = "unusable"     // its keys cannot be read, or it was never enlisted
	StateSwitchedOff  = "switched_off" // its gatekeeper is
	StateNew          = "new"          // nothing is known of its stream yet
)

// User is one login of a Matrix user. Times are zero, and left out, where there is none.
type User struct {
	// Account is the opaque local id, User the Matrix ID.
	Account    string `json:"account"`
	User       string `json:"user_id"`
	Gatekeeper string `json:"gatekeeper"`
	// State is that of the stream: live, waiting, banned and so on, or one of the states above; Code is the gatekeeper's, if it gave one.
	State string `json:"state"`
	Code  int    `json:"code,omitempty"`
	// Since is when the stream became live, Connected when it was live last, Until when it is tried next.
	Since     time.Time `json:"since,omitzero"`
	Connected time.Time `json:"last_connected,omitzero"`
	Until     time.Time `json:"next_try,omitzero"`
	// Received and Sent are when the last messages came and went, as far as they are remembered.
	Received time.Time `json:"last_received,omitzero"`
	Sent     time.Time `json:"last_sent,omitzero"`
	// ToMatrix and ToGatekeeper wait to be handed on, Withheld for the user's decision; Letters are dead letters.
	ToMatrix     int `json:"waiting_to_matrix"`
	ToGatekeeper int `json:"waiting_to_gatekeeper"`
	Withheld     int `json:"withheld"`
	Letters      int `json:"dead_letters"`
	// PreKeys is how many one-time prekeys the gatekeeper has left, absent if that is not known.
	PreKeys *int `json:"prekeys,omitempty"`
	// Consented is when they agreed, to the text of Consent; Enlisted and Reenlisted are when the gatekeeper took them.
	Consented  time.Time `json:"consented,omitzero"`
	Consent    int       `json:"consent_version"`
	Enlisted   time.Time `json:"enlisted,omitzero"`
	Reenlisted time.Time `json:"reenlisted,omitzero"`
	// Expires is when the gatekeeper forgets them, if they do not connect before.
	Expires time.Time `json:"expires,omitzero"`
	// MediaBytes is what they have in the media store.
	MediaBytes int64 `json:"media_bytes"`
}

// valid says whether it is one that a bridge has written: it goes to a terminal.
func (u *User) valid() bool {
	return ValidID(u.Account) && ValidUser(u.User) && ValidID(u.Gatekeeper) && validWord(u.State)
}

// validWord says whether something is a word of ours, of small letters, digits, hyphens and underscores.
func validWord(word string) bool { return ValidID(strings.ReplaceAll(word, "_", "-")) }

// valid says whether an answer is one that a bridge has written.
func (a *Answer) valid() bool {
	for _, r := range a.Results {
		if !ValidID(r.ID) || !validWord(string(r.Outcome)) {
			return false
		}
	}
	return a.validParts() && !slices.ContainsFunc(a.Users, func(u User) bool { return !u.valid() })
}
