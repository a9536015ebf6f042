package connector

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"maunium.net/go/mautrix/bridgev2/bridgeconfig"
	"maunium.net/go/mautrix/id"

	"postern/connector/admin"
	"postern/connector/provisioning"
	"postern/database"
)

const (
	// maxTokens is how many tokens there may be, also those that are no good any more and are still listed, for tokenListed.
	maxTokens   = 4000
	tokenListed = 30 * 24 * time.Hour
)

// PrepareProvisioning gives the framework a secret of its own, unless the operator has configured one: whoever brings a token comes in by
// it. It comes before the framework's objects are made, which look at the secret then.
func (c *Connector) PrepareProvisioning(cfg *bridgeconfig.ProvisioningConfig) {
	c.sharedSecret = len(cfg.SharedSecret) >= 16 // what is shorter the framework takes for none
	if c.sharedSecret {
		return
	}
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // it never fails
	cfg.SharedSecret = base64.RawURLEncoding.EncodeToString(secret[:])
	cfg.AllowMatrixAuth = false
}

// serveProvisioning puts the gate in front of the framework's interface.
func (c *Connector) serveProvisioning(cfg AttachConfig) {
	router := cfg.Matrix.AS.Router
	// The framework puts its own handler there when it starts, for a shorter path than the gate's.
	framework := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: provisioning.Base}}
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler, _ := router.Handler(framework)
		handler.ServeHTTP(w, r)
	})
	log := cfg.Log.With().Str("component", "provisioning").Logger()
	gate := provisioning.NewGate(provisioning.Config{
		Keeper: &tokenKeeper{c, &auditLog{c.db, log}}, Next: next, Secret: cfg.Matrix.Config.Provisioning.SharedSecret, Shared: c.sharedSecret,
		PerMinute: c.Config.Provisioning.PerMinute, Log: log,
	})
	router.Handle(provisioning.Prefix, gate)
}

// tokenKeeper is what the gate needs.
type tokenKeeper struct {
	c     *Connector
	audit *auditLog
}

var _ provisioning.Keeper = (*tokenKeeper)(nil)

// Token implements provisioning.Keeper, like all methods here.
func (k *tokenKeeper) Token(ctx context.Context, id string) (*provisioning.Token, error) {
	t, err := k.c.db.Tokens().Get(ctx, id)
	if err != nil || t == nil {
		return nil, err
	}
	return &provisioning.Token{
		ID: t.ID, User: t.MXID, Scopes: t.Scopes, Hash: t.Hash, Expires: time.UnixMilli(t.Expires), Revoked: t.Revoked != 0,
	}, nil
}

// Ready says whether commands are taken too.
func (k *tokenKeeper) Ready() bool { return k.c.taking.Load() }

// Suspended asks what is known in memory.
func (k *tokenKeeper) Suspended(user string) bool { return k.c.suspended.has(id.UserID(user)) }

// Begin notes down what begins.
func (k *tokenKeeper) Begin(ctx context.Context, actor, action, subject string) (func(string), error) {
	end, err := k.audit.begin(ctx, actor, action, subject)
	if err != nil {
		return nil, err
	}
	return func(outcome string) { end(outcome) }, nil
}

// Refused notes down what was refused. Nothing was done, so nothing depends on it.
func (k *tokenKeeper) Refused(ctx context.Context, actor, action string) {
	err := k.c.db.Audit().Append(ctx, &database.AuditEntry{At: time.Now().UnixMilli(), Actor: actor, Action: action, Outcome: string(admin.Refused)})
	if err != nil {
		k.audit.log.Err(err).Str("action", action).Msg("Could not note down what was refused")
	}
}

// keepAudit forgets what is too old, or too much, until the connector ends.
func (c *Connector) keepAudit() {
	tick := time.NewTicker(auditTidied)
	defer tick.Stop()
	for {
		c.tidyAudit()
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// tidyAudit forgets what is too old, or too much, now.
func (c *Connector) tidyAudit() {
	now := c.clock.now()
	before := now.AddDate(0, 0, -c.Config.Audit.Days).UnixMilli()
	err := errors.Join(c.db.Audit().Prune(c.ctx, before, int64(c.Config.Audit.Entries)), c.db.Tokens().Prune(c.ctx, now.Add(-tokenListed).UnixMilli()))
	if err != nil && c.ctx.Err() == nil {
		c.log.Err(err).Msg("Could not forget old tokens, or old entries of the audit log")
	}
}

// AddToken implements admin.Tokens, like all methods below.
func (s *adminService) AddToken(ctx context.Context, user string, scopes []string, days int) (*admin.NewToken, error) {
	id, token, hash := provisioning.New()
	return s.addToken(ctx, id, token, hash, user, scopes, days)
}

// addToken stores a token.
func (s *adminService) addToken(ctx context.Context, id, token string, hash [sha256.Size]byte, user string, scopes []string, days int) (*admin.NewToken, error) {
	if !s.ready() {
		return nil, admin.ErrNotReady
	}
	for i, scope := range scopes {
		if !slices.Contains(provisioning.Scopes, scope) || slices.Contains(scopes[:i], scope) {
			return nil, admin.ErrScope
		}
	}
	now := time.Now()
	row := &database.Token{ID: id, MXID: user, Scopes: scopes, Hash: hash, At: now.UnixMilli(), Expires: now.AddDate(0, 0, days).UnixMilli()}
	err := s.db.Tokens().Add(ctx, row, maxTokens)
	if errors.Is(err, database.ErrTooManyTokens) {
		return nil, admin.ErrTokens
	} else if err != nil {
		return nil, err
	}
	return &admin.NewToken{Token: tokenOf(row), Secret: token}, nil
}

// tokenOf is what may be seen of a token.
func tokenOf(t *database.Token) admin.Token {
	one := admin.Token{
		ID: t.ID, User: t.MXID, Scopes: t.Scopes, State: admin.TokenGood, At: time.UnixMilli(t.At).UTC(), Expires: time.UnixMilli(t.Expires).UTC(),
	}
	switch {
	case t.Revoked != 0:
		one.State = admin.TokenRevoked
	case !one.Expires.After(time.Now()):
		one.State = admin.TokenExpired
	}
	return one
}

// Tokens lists tokens.
func (s *adminService) Tokens(ctx context.Context, offset, limit int) ([]admin.Token, error) {
	rows, err := s.db.Tokens().List(ctx, offset, min(limit, admin.MaxPage))
	list := make([]admin.Token, len(rows))
	for i, t := range rows {
		list[i] = tokenOf(t)
	}
	return list, err
}

// RevokeTokens ends tokens.
func (s *adminService) RevokeTokens(ctx context.Context, ids []string) ([]admin.Result, error) {
	return s.each(ctx, ids, func(ctx context.Context, id string) (admin.Outcome, error) {
		revoked, there, err := s.db.Tokens().Revoke(ctx, id, time.Now().UnixMilli())
		switch {
		case err != nil:
			return "", err
		case !there:
			return admin.Unknown, nil
		}
		return changedOr(revoked), nil
	})
}

// Audit reads the log.
func (s *adminService) Audit(ctx context.Context, since time.Time, after int64, limit int) ([]admin.AuditEntry, error) {
	from := int64(0)
	if !since.IsZero() {
		from = since.UnixMilli()
	}
	rows, err := s.db.Audit().List(ctx, from, after, min(limit, admin.MaxPage))
	list := make([]admin.AuditEntry, len(rows))
	for i, e := range rows {
		list[i] = admin.AuditEntry{Seq: e.Seq, At: time.UnixMilli(e.At).UTC(), Actor: e.Actor, Action: e.Action, Subject: e.Subject, Outcome: e.Outcome}
	}
	return list, err
}
