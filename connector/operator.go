package connector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/status"

	"postern/connector/admin"
	"postern/connector/interop"
	"postern/database"
)

// reasonOperator is why an account is deleted that whoever runs the bridge has had deleted (database.Leaving.Reason).
const reasonOperator = "operator"

// connDisconnected is the state of an account whose stream the operator has closed, until they or the next start of the bridge open it. It is not
// on disk, unlike a suspension: it is for looking after one account, and a bridge that starts has everybody connected.
const connDisconnected interop.ConnKind = admin.StateDisconnected

// enlistPatience bounds how long a new enlistment may take that somebody waits for.
const enlistPatience = 20 * time.Second

// orders has a function for each of admin.Actions.
var orders = map[string]func(s *adminService, ctx context.Context, o *admin.Order) (*admin.Answer, error){
	"users": (*adminService).listUsers, "user": (*adminService).listUsers,
	"disconnect": (*adminService).disconnect, "reconnect": (*adminService).reconnect, "re-enlist": (*adminService).reenlist,
	"delete": (*adminService).deleteUser,
	"media":  (*adminService).mediaUse, "media-purge": (*adminService).purgeMedia,
	"maintenance": (*adminService).maintain,
	"rotate-key":  (*adminService).rotateKey, "log-level": (*adminService).logLevel,
}

// Do implements admin.Service. What the orders change is changed one order at a time.
func (s *adminService) Do(ctx context.Context, o admin.Order) (*admin.Answer, error) {
	action, do := admin.ActionNamed(o.Action), orders[o.Action]
	switch {
	case action == nil || do == nil:
		return nil, &admin.WrongOrder{Kind: admin.WrongAction, Word: o.Action}
	case !s.ready():
		return nil, admin.ErrNotReady
	case s.c == nil && !action.Offline:
		return nil, admin.ErrNeedsBridge
	}
	return do(s, ctx, &o)
}

// listUsers lists logins: all, or those that the order names.
func (s *adminService) listUsers(ctx context.Context, o *admin.Order) (*admin.Answer, error) {
	who, limit := "", o.Limit
	if o.Action == "user" {
		who = o.Who()
	}
	if limit == 0 {
		limit = admin.MaxPage
	}
	rows, err := s.db.Accounts().Overview(ctx, who, o.Offset, limit+1)
	if err != nil {
		return nil, err
	}
	answer := &admin.Answer{Users: []admin.User{}, More: len(rows) > limit}
	for _, row := range rows[:min(limit, len(rows))] {
		answer.Users = append(answer.Users, s.userOf(&row))
	}
	return answer, nil
}

// userOf puts together what the tables and what the running account say.
func (s *adminService) userOf(row *database.Overview) admin.User {
	moment := func(ms int64) time.Time {
		if ms == 0 {
			return time.Time{}
		}
		return time.UnixMilli(ms).UTC()
	}
	u := admin.User{
		Account: row.ID, User: row.MXID, Gatekeeper: row.Gatekeeper, State: admin.StateNoBridge, Connected: moment(row.Summary.LastConnected),
		Received: moment(row.Summary.LastIn), Sent: moment(row.Summary.LastOut), ToMatrix: row.Summary.WaitingIn, ToGatekeeper: row.Summary.WaitingOut,
		Withheld: row.Withheld, Letters: row.Letters, Consented: moment(row.ConsentAt), Consent: row.ConsentVersion, Enlisted: moment(row.EnlistedAt),
		Reenlisted: moment(row.ReenlistedAt), MediaBytes: row.MediaBytes,
	}
	if s.c != nil {
		s.c.lookAtLogin(&u)
	}
	if last := u.Connected; !last.IsZero() {
		u.Expires = last.Add(forgetsAfter)
	}
	switch {
	case row.Leaving:
		u.State = admin.StateLeaving
	case row.Suspended:
		u.State = admin.StateSuspended
	}
	return u
}

// lookAtLogin fills in what only the running bridge knows.
func (c *Connector) lookAtLogin(u *admin.User) {
	u.State = admin.StateUnusable
	login := c.bridge.GetCachedUserLoginByID(loginID(u.Account))
	if login == nil {
		return
	}
	switch cl := login.Client.(type) {
	case *client:
		state, report := cl.now(), cl.account.Report()
		if u.State = string(state.Kind); u.State == "" {
			u.State = admin.StateNew
		}
		u.Code = state.Code
		if !state.Until.IsZero() {
			u.Until = state.Until.UTC()
		}
		if report.Live {
			u.Since = report.Since.UTC()
		}
		if report.LastLive.After(u.Connected) {
			u.Connected = report.LastLive.UTC()
		}
		if report.PreKeys >= 0 {
			u.PreKeys = &report.PreKeys
		}
	case *brokenClient:
		if cl.off {
			u.State = admin.StateSwitchedOff
		}
	}
}

// eachAccount does something for each account that an order names.
func (s *adminService) eachAccount(ctx context.Context, o *admin.Order, do func(ctx context.Context, row *database.Overview) (admin.Outcome, error)) (*admin.Answer, error) {
	s.ordering.Lock()
	defer s.ordering.Unlock()
	rows, err := s.db.Accounts().Overview(ctx, o.Who(), 0, admin.MaxPage)
	if err != nil {
		return nil, err
	}
	answer := &admin.Answer{Results: []admin.Result{}}
	for _, row := range rows {
		outcome, err := do(ctx, &row)
		if err != nil && len(answer.Results) == 0 {
			return nil, err
		} else if err != nil {
			s.log.Err(err).Str("action", o.Action).Str("account", row.ID).Msg("Could not do what the operator has ordered")
			outcome = admin.Failed
		}
		answer.Results = append(answer.Results, admin.Result{ID: row.ID, Outcome: outcome})
		s.log.Info().Str("action", o.Action).Str("account", row.ID).Str("state", string(outcome)).Msg("The operator has given an order")
	}
	return answer, nil
}

// usable is the client of an account that may have a stream, or why it may not.
func (s *adminService) usable(row *database.Overview) (*client, admin.Outcome) {
	switch cl, ok := s.c.running(row.ID); {
	case row.Leaving:
		return nil, admin.Leaving
	case !ok:
		return nil, admin.Unusable
	case row.Suspended:
		return nil, admin.Suspended
	case s.c.maintenance.of() != nil:
		return nil, admin.InMaintenance
	default:
		return cl, ""
	}
}

// disconnect closes streams until they are opened again, or the bridge starts. Nothing is lost: what others write waits at the gatekeeper, what
// the user writes waits here, and they can see why.
func (s *adminService) disconnect(ctx context.Context, o *admin.Order) (*admin.Answer, error) {
	return s.eachAccount(ctx, o, func(_ context.Context, row *database.Overview) (admin.Outcome, error) {
		cl, why := s.usable(row)
		if cl == nil {
			return why, nil
		}
		if !cl.park(connDisconnected, stateDisconnected) {
			return admin.Already, nil
		}
		return admin.Done, nil
	})
}

// park closes the stream and says why there is none. False if there was none.
func (c *client) park(kind interop.ConnKind, say status.BridgeStateErrorCode) bool {
	if !c.disconnect() {
		return false
	}
	c.connection.mu.Lock()
	c.connection.state = interop.ConnState{Kind: kind}
	c.connection.mu.Unlock()
	c.connector.sayState(c.login, status.BridgeState{StateEvent: status.StateTransientDisconnect, Error: say})
	return true
}

// reconnect closes streams and opens them anew, also for accounts that had stopped because only a person can help.
func (s *adminService) reconnect(ctx context.Context, o *admin.Order) (*admin.Answer, error) {
	return s.eachAccount(ctx, o, func(_ context.Context, row *database.Overview) (admin.Outcome, error) {
		cl, why := s.usable(row)
		if cl == nil {
			return why, nil
		}
		cl.Disconnect()
		cl.Connect(cl.login.Log.WithContext(s.c.ctx))
		return admin.Done, nil
	})
}

// reenlist makes accounts known to their gatekeepers anew, with the same keys and the consent that stands, as a login would.
func (s *adminService) reenlist(ctx context.Context, o *admin.Order) (*admin.Answer, error) {
	return s.eachAccount(ctx, o, func(ctx context.Context, row *database.Overview) (admin.Outcome, error) {
		cl, why := s.usable(row)
		if cl == nil {
			return why, nil
		}
		ctx, cancel := context.WithTimeout(ctx, enlistPatience)
		defer cancel()
		err := s.c.enlistAnew(ctx, cl)
		var refused *interop.EnlistError
		switch {
		case errors.As(err, &refused) && refused.Permanent, errors.Is(err, errTaken):
			return admin.Refused, nil
		case errors.As(err, &refused), errors.Is(err, context.DeadlineExceeded):
			return admin.Away, nil
		case errors.Is(err, errLeaves):
			return admin.Leaving, nil
		case err != nil:
			return "", err
		}
		return admin.Done, nil
	})
}

// errLeaves: the account is being deleted.
var errLeaves = errors.New("connector: enlist: the account is being deleted")

// enlistAnew enlists an account again. Its stream is closed meanwhile, since the new enlistment would take its place, and is opened again
// whatever comes of it.
func (c *Connector) enlistAnew(ctx context.Context, cl *client) error {
	c.enlisting.Lock()
	defer c.enlisting.Unlock()
	account := string(cl.login.ID)
	if leaving, err := c.db.Leavings().Get(ctx, account); err != nil || leaving != nil {
		return errors.Join(err, errLeaves)
	}
	cl.Disconnect()
	defer func() { c.resume(account) }() // by then it may be another client
	row := *cl.current()
	if err := c.enlist(ctx, cl.profile, &row); err != nil {
		return err
	}
	// The address may be another one, so the client is made anew, as after a login.
	login := cl.login
	meta, ok := login.Metadata.(*LoginMetadata)
	if !ok {
		return fmt.Errorf("connector: enlist: metadata of another kind")
	}
	_, err := login.User.NewLogin(ctx, newLoginRow(&row, meta), nil)
	if err != nil {
		return fmt.Errorf("connector: enlist: store the login: %w", err)
	}
	return nil
}

// deleteUser has accounts deleted, as their user's own wish would: on disk first, and then whatever happens, at the gatekeeper and here.
func (s *adminService) deleteUser(ctx context.Context, o *admin.Order) (*admin.Answer, error) {
	return s.eachAccount(ctx, o, func(ctx context.Context, row *database.Overview) (admin.Outcome, error) {
		if row.Leaving {
			return admin.Leaving, nil
		}
		var login *bridgev2.UserLogin
		if s.c != nil {
			login = s.c.bridge.GetCachedUserLoginByID(loginID(row.ID))
		}
		if login == nil {
			err := s.db.Leavings().Begin(ctx, row.ID, "", reasonOperator)
			if err == nil && s.c != nil {
				s.c.leavings.wake()
			}
			return admin.Begun, err
		}
		if err := s.c.leave(ctx, login, reasonOperator); err != nil {
			return "", err
		}
		login.Logout(login.Log.WithContext(s.c.ctx))
		s.c.leavings.wake()
		return admin.Begun, nil
	})
}
