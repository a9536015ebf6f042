package connector

import (
	"context"
	"time"

	"maunium.net/go/mautrix/id"

	"postern/connector/admin"
	"postern/database"
)

// Suspend implements admin.Service. Where no bridge runs the order is on disk for the next one, which tells the user.
func (s *adminService) Suspend(ctx context.Context, user, reason string) (admin.Outcome, error) {
	if !s.ready() {
		return "", admin.ErrNotReady
	}
	if s.suspended != nil {
		return s.suspended.begin(ctx, id.UserID(user), reason)
	}
	return putSuspension(ctx, s.db, user, reason)
}

// putSuspension suspends a user on disk.
func putSuspension(ctx context.Context, db *database.DB, user, reason string) (outcome admin.Outcome, err error) {
	err = db.Do(ctx, func(ctx context.Context) error {
		known, err := db.Suspensions().Concerns(ctx, user)
		if err != nil {
			return err
		}
		fresh, err := db.Suspensions().Put(ctx, user, reason)
		if outcome = changedOr(fresh); fresh && !known {
			outcome = admin.NoLogin
		}
		return err
	})
	return outcome, err
}

// Unsuspend implements admin.Service. Where no bridge runs the next one tells the user.
func (s *adminService) Unsuspend(ctx context.Context, user string) (admin.Outcome, error) {
	if !s.ready() {
		return "", admin.ErrNotReady
	}
	var was bool
	var err error
	if s.suspended != nil {
		was, err = s.suspended.end(ctx, id.UserID(user))
	} else {
		was, err = s.db.Suspensions().End(ctx, user)
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
