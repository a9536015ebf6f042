package connector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/bridgev2/networkid"

	"postern/connector/admin"
	"postern/connector/interop"
	"postern/database"
)

// serveAdmin answers the operator's requests on the private listener.
func (c *Connector) serveAdmin(cfg AttachConfig) error {
	secret, err := admin.Secret(cfg.Key[:])
	if err != nil {
		return fmt.Errorf("connector: admin: %w", err)
	}
	log := cfg.Log.With().Str("component", "admin").Logger()
	c.admin = audited(&adminService{c: c, suspended: c.suspended, db: c.db, accounts: c.runningAccount, ready: c.taking.Load, log: log})
	cfg.Matrix.AS.Router.Handle(admin.Prefix, admin.NewHandler(c.admin, secret, log))
	return nil
}

// runningAccount is the account of a login that the framework has loaded, nil for none.
func (c *Connector) runningAccount(id string) *interop.Account {
	login := c.bridge.GetCachedUserLoginByID(networkid.UserLoginID(id))
	if login == nil {
		return nil
	}
	client, ok := login.Client.(*client)
	if !ok {
		return nil // it cannot be used, so nobody works on its queue
	}
	return client.account
}

// OpenAdmin is the admin service of a bridge that does not run. It opens the database, which has to be there, under the lease; the
// closer gives both back. Errors: database.Open's.
func OpenAdmin(ctx context.Context, dialect, uri string, key [database.KeySize]byte, log zerolog.Logger) (admin.Service, io.Closer, error) {
	db, err := database.Open(ctx, database.Config{
		Dialect: dialect, URI: uri, MasterKey: key, Holder: "a postern command", Existing: true, Log: log,
	})
	if err != nil {
		return nil, nil, err
	}
	none := func(string) *interop.Account { return nil }
	return audited(&adminService{db: db, accounts: none, ready: func() bool { return true }, log: log}), db, nil
}

// adminService does what operators ask for.
type adminService struct {
	db  *database.DB
	log zerolog.Logger
	// c is nil where no bridge runs.
	c *Connector
	// ordering is held over each order that changes something.
	ordering sync.Mutex
	// accounts finds the account that works on a queue in this process, nil for none.
	accounts func(id string) *interop.Account
	ready    func() bool
	// suspended is nil where no bridge runs.
	suspended *suspensions
}

var _ admin.Service = (*adminService)(nil)

// DeadLetters implements admin.Service.
func (s *adminService) DeadLetters(ctx context.Context, account string, offset, limit int) ([]admin.DeadLetter, error) {
	rows, err := s.db.Letters(ctx, account, offset, min(limit, admin.MaxPage))
	list := make([]admin.DeadLetter, len(rows))
	for i, l := range rows {
		list[i] = admin.DeadLetter{
			ID: l.ID, Account: l.AccountID, Chat: l.ChatID, Direction: admin.Incoming, Kind: l.Kind, Reason: l.Reason, Code: l.Code,
			At: time.UnixMilli(l.At).UTC(), Tries: l.Tries, Parts: l.Parts, Bytes: l.Size,
			Retryable: !l.Outgoing && l.Reason != interop.LetterDamaged,
		}
		if l.Outgoing {
			list[i].Direction = admin.Outgoing
		}
		if l.Kind == "" {
			list[i].Kind = "attachment" // it never came to be a message
		}
	}
	return list, err
}

// RetryDeadLetters implements admin.Service.
func (s *adminService) RetryDeadLetters(ctx context.Context, ids []string) ([]admin.Result, error) {
	return s.each(ctx, ids, s.retry)
}

// DropDeadLetters implements admin.Service.
func (s *adminService) DropDeadLetters(ctx context.Context, ids []string) ([]admin.Result, error) {
	return s.each(ctx, ids, s.drop)
}

func (s *adminService) each(ctx context.Context, ids []string, do func(ctx context.Context, id string) (admin.Outcome, error)) ([]admin.Result, error) {
	results := make([]admin.Result, len(ids))
	var failed error
	for i, id := range ids {
		results[i] = admin.Result{ID: id, Outcome: admin.Untried}
		if failed == nil && !s.ready() {
			if failed = admin.ErrNotReady; i == 0 {
				return nil, failed
			}
		}
		if failed != nil {
			continue
		}
		if results[i].Outcome, failed = do(ctx, id); failed != nil {
			results[i].Outcome = admin.Failed
		}
	}
	return results, failed
}

func (s *adminService) retry(ctx context.Context, id string) (admin.Outcome, error) {
	account, outgoing, _, err := s.db.LetterOwner(ctx, id)
	switch {
	case err != nil:
		return "", err
	case account == "":
		return admin.Unknown, nil
	case outgoing:
		return admin.Final, nil
	}
	if running := s.accounts(account); running != nil {
		err = running.RetryLetter(ctx, id)
	} else {
		err = interop.RetryStoredLetter(ctx, NewAccountStore(s.db, account, ""), id)
	}
	switch {
	case errors.Is(err, interop.ErrNoLetter):
		return admin.Unknown, nil
	case errors.Is(err, interop.ErrLetterWaiting):
		return admin.Waiting, nil
	case errors.Is(err, interop.ErrLetterDamaged):
		return admin.Damaged, nil
	}
	return admin.Retried, err
}

func (s *adminService) drop(ctx context.Context, id string) (admin.Outcome, error) {
	account, _, dead, err := s.db.LetterOwner(ctx, id)
	switch {
	case err != nil:
		return "", err
	case account == "":
		return admin.Unknown, nil
	case !dead:
		return admin.Waiting, nil
	}
	dropped, err := s.db.Queue(account).DropLetter(ctx, id)
	if err == nil && !dropped {
		return admin.Unknown, nil // somebody was faster
	}
	return admin.Dropped, err
}
