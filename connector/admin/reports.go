package admin

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Reports is what can be asked of a bridge about what its users have reported.
type Reports interface {
	// Reports lists reports, the oldest first: those that are open, or all; after the first offset, at most limit (1 to MaxPage).
	Reports(ctx context.Context, all bool, offset, limit int) ([]Report, error)
	// Report returns all that a report says, nil if there is none of this id.
	Report(ctx context.Context, id string) (*ReportDetails, error)
	// CloseReports notes that reports were seen to. There is a result for each id, in order.
	CloseReports(ctx context.Context, ids []string) ([]Result, error)
}

// Outcomes for reports.
const (
	Closed  Outcome = "closed"
	Already Outcome = "already" // it was closed before
)

// Report is what somebody has reported, without what it says.
type Report struct {
	ID string `json:"id"`
	// Account and Chat are opaque local ids of the reporter, "" if they have left.
	Account    string `json:"account"`
	Chat       string `json:"chat"`
	Gatekeeper string `json:"gatekeeper"`
	// At is when it was said, Closed when it was seen to, zero for not yet.
	At     time.Time `json:"at"`
	Closed time.Time `json:"closed,omitzero"`
	// HasReason: the reporter has said why. HasMessage: they have pointed at a message.
	HasReason  bool `json:"has_reason"`
	HasMessage bool `json:"has_message"`
	// Same is how many reports about the same person there are, with this one.
	Same int `json:"same"`
}

// ReportDetails is all that a report says. It is made for whoever runs the bridge, and is the one thing here that names people.
type ReportDetails struct {
	Report
	// Reporter is their Matrix ID, "" if they have left.
	Reporter string `json:"reporter"`
	// Name, Phone and Address are the reported person's, as far as they are known.
	Name    string `json:"name"`
	Phone   string `json:"phone,omitempty"`
	Address string `json:"address"`
	// Reason is in the reporter's words.
	Reason  string           `json:"reason,omitempty"`
	Message *ReportedMessage `json:"message,omitempty"`
	// Damaged: some of it cannot be read from disk.
	Damaged bool `json:"damaged,omitempty"`
}

// ReportedMessage is the message that a reporter has pointed at.
type ReportedMessage struct {
	// Event is Matrix's id, ID the gatekeeper's.
	Event string    `json:"event"`
	ID    string    `json:"id"`
	Sent  time.Time `json:"sent"`
	// Kind is Matrix's type of message.
	Kind string `json:"kind,omitempty"`
	Text string `json:"text,omitempty"`
	// Cut: the text is longer. Missing: it could not be had when it was reported.
	Cut     bool `json:"cut,omitempty"`
	Missing bool `json:"missing,omitempty"`
}

// valid says whether a report is one that a bridge has written, in as far as it is no text.
func (r *Report) valid() bool {
	return ValidID(r.ID) && (r.Account == "" || ValidID(r.Account)) && (r.Chat == "" || ValidID(r.Chat)) && ValidID(r.Gatekeeper)
}

type reportsListed struct {
	Reports []Report `json:"reports"`
}

// handleReports serves the requests about reports.
func (h *Handler) handleReports() {
	h.mux.HandleFunc("GET "+Prefix+"reports", h.listReports)
	h.mux.HandleFunc("GET "+Prefix+"reports/{id}", h.showReport)
	h.mux.HandleFunc("POST "+Prefix+"reports/close", func(w http.ResponseWriter, r *http.Request) {
		h.change(w, r, "close reports", h.service.CloseReports)
	})
}

func (h *Handler) listReports(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	offset, limit, err := page(query)
	all := query.Get("all")
	if err != nil || all != "" && all != "true" {
		h.done(w, "list reports", http.StatusBadRequest, 0, failure{"all, offset or limit is not what it has to be"})
		return
	}
	list, err := h.service.Reports(r.Context(), all != "", offset, limit)
	if err != nil {
		h.failed(w, "list reports", err)
		return
	}
	if list == nil {
		list = []Report{}
	}
	h.done(w, "list reports", http.StatusOK, len(list), reportsListed{list})
}

func (h *Handler) showReport(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !ValidID(id) {
		h.done(w, "show report", http.StatusBadRequest, 0, failure{"that is not an id"})
		return
	}
	report, err := h.service.Report(r.Context(), id)
	if err != nil {
		h.failed(w, "show report", err)
		return
	}
	h.log.Info().Str("action", "show report").Str("id", id).Msg("Admin request")
	h.done(w, "show report", http.StatusOK, 1, reportShown{report})
}

type reportShown struct {
	Report *ReportDetails `json:"report"` // null for none
}

// Reports implements Service.
func (c *Client) Reports(ctx context.Context, all bool, offset, limit int) ([]Report, error) {
	query := url.Values{"offset": {strconv.Itoa(offset)}, "limit": {strconv.Itoa(limit)}}
	if all {
		query.Set("all", "true")
	}
	var into reportsListed
	if err := c.do(ctx, http.MethodGet, "reports?"+query.Encode(), nil, &into); err != nil {
		return nil, err
	}
	for i := range into.Reports {
		if !into.Reports[i].valid() {
			return nil, ErrNotBridge
		}
	}
	return into.Reports, nil
}

// Report implements Service.
func (c *Client) Report(ctx context.Context, id string) (*ReportDetails, error) {
	if !ValidID(id) {
		return nil, nil
	}
	var into reportShown
	if err := c.do(ctx, http.MethodGet, "reports/"+id, nil, &into); err != nil || into.Report == nil {
		return nil, err
	}
	if !into.Report.valid() || into.Report.ID != id {
		return nil, ErrNotBridge
	}
	return into.Report, nil
}

// CloseReports implements Service.
func (c *Client) CloseReports(ctx context.Context, ids []string) ([]Result, error) {
	return c.change(ctx, "reports/close", ids)
}

// Plain makes what a stranger has written fit for a terminal: no control characters, none that turn the direction of writing, and no
// lines but where lines says so.
func Plain(text string, lines bool) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' && lines:
			return r
		case r < ' ', r >= 0x7f && r < 0xa0, r == 0x2028, r == 0x2029:
			return ' '
		case r == 0x061c, r >= 0x200e && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}
