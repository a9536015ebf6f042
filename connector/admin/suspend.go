package admin

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Suspensions is what can be asked about users whom the operator suspends. Matrix IDs and reasons pass here, and stand in no log line.
type Suspensions interface {
	// Suspend closes a user's streams and sends nothing for them until Unsuspend: Done; NoLogin if they have none, so that nobody is told;
	// or Already, and then the reason is replaced.
	Suspend(ctx context.Context, user, reason string) (Outcome, error)
	// Unsuspend ends that: Done, or Already if they were not suspended.
	Unsuspend(ctx context.Context, user string) (Outcome, error)
	// Suspended lists who is suspended, the first first; after the first offset, at most limit (1 to MaxPage).
	Suspended(ctx context.Context, offset, limit int) ([]Suspension, error)
}

// Done and NoLogin are the outcomes of a change; Already is the other one.
const (
	Done    Outcome = "done"
	NoLogin Outcome = "no_login"
)

// Suspension is one user.
type Suspension struct {
	// User is the Matrix ID.
	User string `json:"user_id"`
	// Reason is what the operator said to it, "" for nothing.
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// MaxReason is the longest reason, in characters; maxUser the longest Matrix ID, in bytes.
const (
	MaxReason = 300
	maxUser   = 255
)

// ValidUser says whether something may be a Matrix ID: @, a name, a colon, a server, and nothing that is not to be seen.
func ValidUser(user string) bool {
	name, server, ok := strings.Cut(strings.TrimPrefix(user, "@"), ":")
	return ok && name != "" && server != "" && len(user) <= maxUser && user[0] == '@' && shown(user) && !strings.ContainsRune(user, ' ')
}

// ValidReason says whether something may be a reason: at most MaxReason characters of one line.
func ValidReason(reason string) bool {
	return utf8.RuneCountInString(reason) <= MaxReason && shown(reason)
}

// shown says whether text has only characters that people see: it goes to terminals and rooms.
func shown(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// The bodies.
type (
	suspending struct {
		User   string `json:"user_id"`
		Reason string `json:"reason,omitempty"`
	}
	suspendedDone struct {
		Outcome Outcome `json:"outcome"`
	}
	suspendedList struct {
		Suspended []Suspension `json:"suspended"`
	}
)

// serveSuspensions adds the requests about suspensions.
func (h *Handler) serveSuspensions() {
	h.mux.HandleFunc("GET "+Prefix+"suspended", h.listSuspended)
	h.mux.HandleFunc("POST "+Prefix+"suspended/add", func(w http.ResponseWriter, r *http.Request) {
		h.suspend(w, r, "suspend", func(s suspending) (Outcome, error) { return h.service.Suspend(r.Context(), s.User, s.Reason) })
	})
	h.mux.HandleFunc("POST "+Prefix+"suspended/remove", func(w http.ResponseWriter, r *http.Request) {
		h.suspend(w, r, "unsuspend", func(s suspending) (Outcome, error) { return h.service.Unsuspend(r.Context(), s.User) })
	})
}

func (h *Handler) listSuspended(w http.ResponseWriter, r *http.Request) {
	offset, limit, err := page(r.URL.Query())
	if err != nil {
		h.done(w, "list suspended", http.StatusBadRequest, 0, failure{"offset or limit is not what it has to be"})
		return
	}
	list, err := h.service.Suspended(r.Context(), offset, limit)
	if err != nil {
		h.failed(w, "list suspended", err)
		return
	}
	h.done(w, "list suspended", http.StatusOK, len(list), suspendedList{append([]Suspension{}, list...)})
}

// suspend serves the requests that name a user.
func (h *Handler) suspend(w http.ResponseWriter, r *http.Request, action string, do func(s suspending) (Outcome, error)) {
	var asked suspending
	good := func() bool { return ValidUser(asked.User) && ValidReason(asked.Reason) }
	shape := "{\"user_id\": \"@…:…\", \"reason\": \"…\"}, the reason of at most " + strconv.Itoa(MaxReason) + " characters"
	if !h.read(w, r, action, &asked, good, shape) {
		return
	}
	outcome, err := do(asked)
	if err != nil {
		h.failed(w, action, err)
		return
	}
	h.log.Info().Str("action", action).Str("state", string(outcome)).Msg("Admin request")
	h.done(w, action, http.StatusOK, 1, suspendedDone{outcome})
}

// Suspend implements Service.
func (c *Client) Suspend(ctx context.Context, user, reason string) (Outcome, error) {
	return c.suspend(ctx, "suspended/add", suspending{user, reason})
}

// Unsuspend implements Service.
func (c *Client) Unsuspend(ctx context.Context, user string) (Outcome, error) {
	return c.suspend(ctx, "suspended/remove", suspending{User: user})
}

func (c *Client) suspend(ctx context.Context, path string, body suspending) (Outcome, error) {
	var into suspendedDone
	err := c.do(ctx, http.MethodPost, path, body, &into)
	if err == nil && into.Outcome != Done && into.Outcome != Already && into.Outcome != NoLogin {
		err = ErrNotBridge
	}
	return into.Outcome, err
}

// Suspended implements Service.
func (c *Client) Suspended(ctx context.Context, offset, limit int) ([]Suspension, error) {
	query := url.Values{"offset": {strconv.Itoa(offset)}, "limit": {strconv.Itoa(limit)}}
	var into suspendedList
	if err := c.do(ctx, http.MethodGet, "suspended?"+query.Encode(), nil, &into); err != nil {
		return nil, err
	}
	for _, one := range into.Suspended {
		if !ValidUser(one.User) || !ValidReason(one.Reason) {
			return nil, ErrNotBridge
		}
	}
	return into.Suspended, nil
}
