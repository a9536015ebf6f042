package admin_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"postern/connector/admin"
)

// reportService has one report.
type reportService struct {
	fakeService
	report admin.ReportDetails
	all    bool
}

func (s *reportService) Reports(_ context.Context, all bool, offset, limit int) ([]admin.Report, error) {
	s.all = all
	if offset > 0 || limit != 7 {
		return nil, s.err
	}
	return []admin.Report{s.report.Report}, s.err
}

func (s *reportService) Report(_ context.Context, id string) (*admin.ReportDetails, error) {
	if id != s.report.ID {
		return nil, s.err
	}
	return &s.report, s.err
}

func (s *reportService) CloseReports(_ context.Context, ids []string) ([]admin.Result, error) {
	return s.results("close", ids)
}

func newReportService() *reportService {
	return &reportService{report: admin.ReportDetails{
		Report: admin.Report{
			ID: "rep", Account: "acc", Chat: "chat", Gatekeeper: "whatsapp", At: time.UnixMilli(1_700_000_000_123).UTC(), HasReason: true, HasMessage: true, Same: 3,
		},
		Reporter: "@alice:test", Name: "Eve", Phone: "+49152", Address: "1@lid", Reason: "rude words",
		Message: &admin.ReportedMessage{Event: "$e", ID: "M", Sent: time.UnixMilli(5).UTC(), Text: "buy this"},
	}}
}

func TestTheClientSaysWhatTheServiceSaysOfReportsAndTheLogDoesNot(t *testing.T) {
	var log bytes.Buffer
	service := newReportService()
	service.outcome = admin.Closed
	client := serve(t, admin.NewHandler(service, "secret", zerolog.New(&log)))("secret")
	list, err := client.Reports(t.Context(), true, 0, 7)
	if err != nil || !slices.Equal(list, []admin.Report{service.report.Report}) || !service.all {
		t.Errorf("list: %+v (%v)", list, err)
	}
	if _, err = client.Reports(t.Context(), false, 0, 7); err != nil || service.all {
		t.Errorf("the open ones: %v", err)
	}
	got, err := client.Report(t.Context(), "rep")
	if err != nil || got.Report != service.report.Report || *got.Message != *service.report.Message || got.Reason != "rude words" || got.Reporter != "@alice:test" || got.Phone != "+49152" {
		t.Errorf("show: %+v (%v)", got, err)
	}
	for _, id := range []string{"nobody", "NoID/../x", ""} {
		if got, err = client.Report(t.Context(), id); got != nil || err != nil {
			t.Errorf("%q: %+v (%v)", id, got, err)
		}
	}
	results, err := client.CloseReports(t.Context(), []string{"rep"})
	if err != nil || len(results) != 1 || results[0].Outcome != admin.Closed {
		t.Errorf("close: %+v (%v)", results, err)
	}
	service.err = errors.New("rude words")
	if _, err = client.Report(t.Context(), "rep"); !errors.Is(err, admin.ErrRefused) {
		t.Errorf("a fault: %v", err)
	}
	service.err = nil
	for _, part := range []string{"rude words\"}", "Eve", "+49152", "@alice", "buy this", "1@lid"} {
		if strings.Contains(strings.ReplaceAll(log.String(), `"error":"rude words"`, ""), part) {
			t.Errorf("%q is in the log:\n%s", part, log.String())
		}
	}
	if !strings.Contains(log.String(), `"action":"show report"`) {
		t.Errorf("that it was shown is not in the log:\n%s", log.String())
	}
	for _, damaged := range []func(r *admin.ReportDetails){
		func(r *admin.ReportDetails) { r.ID = "Rep" }, func(r *admin.ReportDetails) { r.Account = "a\x1b[2J" }, func(r *admin.ReportDetails) { r.Gatekeeper = "" },
	} {
		service.report = newReportService().report
		damaged(&service.report)
		if list, err = client.Reports(t.Context(), true, 0, 7); !errors.Is(err, admin.ErrNotBridge) {
			t.Errorf("what no bridge says: %+v (%v)", list, err)
		}
	}
}

func TestRequestsAboutReportsThatMakeNoSenseAreRefused(t *testing.T) {
	h := admin.NewHandler(newReportService(), "secret", zerolog.Nop())
	for target, want := range map[string]int{
		"reports?all=maybe": http.StatusBadRequest, "reports?limit=0": http.StatusBadRequest, "reports?offset=-1": http.StatusBadRequest,
		"reports/No-ID": http.StatusBadRequest, "reports/a/b": http.StatusNotFound, "reports": http.StatusOK, "reports/nobody": http.StatusOK,
	} {
		r := httptest.NewRequest(http.MethodGet, admin.Prefix+target, nil)
		r.Header.Set("Authorization", "Bearer secret")
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != want {
			t.Errorf("%s: %d, want %d", target, w.Code, want)
		}
	}
}

func TestWhatStrangersWriteDoesNothingToATerminal(t *testing.T) {
	for text, want := range map[string]string{
		"plain, ä, 👍":            "plain, ä, 👍",
		"\x1b[2Jgone\x07\x7f":    " [2Jgone  ",
		"a\nb\r\u0085\u2028c":    "a b   c",
		"\u202eevil\u2066\u200f": "evil",
		"\xff":                   "\uFFFD",
	} {
		if got := admin.Plain(text, false); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := admin.Plain("a\nb\tc", true); got != "a\nb c" {
		t.Errorf("lines: %q", got)
	}
}
