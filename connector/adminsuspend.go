package connector

import (
	"context"
	"time"

	"maunium.net/go/mautrix/id"

	"postern/connector/admin"
)

// Suspend implements admin.Service. Where no bridge runs the order is on disk for the next one, which tells the user.
func (s *adminService) Suspend(ctx context.Context, user, reason string) (admin.Outcome, error) {
	if !s.ready() {
		return "", admin.ErrNotReady
	}
	var fresh bool
	var err error
	if s.suspended != nil {
		fresh, err = s.suspended.begin(ctx, id.UserID(user), reason)
	} else {
		fresh, err = s.db.Suspensions().Put(ctx, user, reason)
	}
	return changedOr(fresh), err
}

// Unsuspend implements admin.Service.
func (s *adminService) Unsuspend(ctx context.Context, user string) (admin.Outcome, error) {
	if !s.ready() {
		return "", admin.ErrNotReady
	}
	var was bool
	var err error
	if s.suspended != nil {
		was, err = s.suspended.end(ctx, id.UserID(user))
	} else {
		was, err = s.db.Suspensions().Delete(ctx, user)
	}
	return changedOr(was), err
}

func changedOr(changed bool) admin.Outcome {
	if changed {
		return admin.Done
	}
	return admin.Already
}

// Suspended implements admin.Service.
func (s *adminService) Suspended(ctx context.Context, offset, limit int) ([]admin.Suspension, error) {
	rows, err := s.db.Suspensions().All(ctx)
	rows = rows[min(offset, len(rows)):]
	rows = rows[:min(limit, admin.MaxPage, len(rows))]
	list := make([]admin.Suspension, len(rows))
	for i, one := range rows {
		list[i] = admin.Suspension{User: one.MXID, Reason: one.Reason, At: time.UnixMilli(one.At).UTC()}
	}
	return list, err
}
