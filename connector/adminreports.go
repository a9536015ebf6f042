package connector

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"postern/connector/admin"
	"postern/database"
)

// Reports implements admin.Reports, like all methods of this file.
func (s *adminService) Reports(ctx context.Context, all bool, offset, limit int) ([]admin.Report, error) {
	rows, err := s.db.Reports().List(ctx, all, offset, min(limit, admin.MaxPage))
	list := make([]admin.Report, len(rows))
	for i, r := range rows {
		list[i] = reportHead(r)
	}
	return list, err
}

func reportHead(r *database.Report) admin.Report {
	head := admin.Report{
		ID: r.ID, Account: r.AccountID, Chat: r.ChatID, Gatekeeper: r.Gatekeeper, At: time.UnixMilli(r.At).UTC(),
		HasReason: r.HasReason, HasMessage: r.HasQuoted, Same: r.Same,
	}
	if r.Closed != 0 {
		head.Closed = time.UnixMilli(r.Closed).UTC()
	}
	return head
}

func (s *adminService) Report(ctx context.Context, id string) (*admin.ReportDetails, error) {
	r, err := s.db.Reports().Get(ctx, id)
	broken := errors.Is(err, database.ErrSealBroken)
	if r == nil || err != nil && !broken {
		return nil, err
	}
	details := &admin.ReportDetails{Report: reportHead(r), Reporter: r.MXID, Reason: string(r.Reason), Damaged: broken}
	var subject reportSubject
	if r.Subject != nil && json.Unmarshal(r.Subject, &subject) != nil {
		details.Damaged = true
	}
	details.Name, details.Phone, details.Address = subject.Name, subject.Phone, subject.Address
	if r.Quoted == nil {
		return details, nil
	}
	var quote reportQuote
	if json.Unmarshal(r.Quoted, &quote) != nil {
		details.Damaged = true
		return details, nil
	}
	details.Message = &admin.ReportedMessage{
		Event: quote.Event.String(), ID: quote.Message, Sent: quote.Sent, Kind: quote.Kind, Text: quote.Text, Cut: quote.Cut, Missing: quote.Missing,
	}
	return details, nil
}

func (s *adminService) CloseReports(ctx context.Context, ids []string) ([]admin.Result, error) {
	return s.each(ctx, ids, func(ctx context.Context, id string) (admin.Outcome, error) {
		closed, there, err := s.db.Reports().Close(ctx, id, time.Now().UnixMilli())
		switch {
		case err != nil:
			return "", err
		case closed:
			if s.c != nil { // else the next bridge tells the reporter
				wake(s.c.reportsClosed)
			}
			return admin.Closed, nil
		case there:
			return admin.Already, nil
		}
		return admin.Unknown, nil
	})
}
