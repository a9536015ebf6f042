package connector

import (
	"context"
	"slices"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/bridgev2/commands"

	"postern/connector/admin"
	"postern/connector/provisioning"
	"postern/database"
)

// auditPatience bounds how long it may take to note down how something ended: whoever has asked may be gone.
const auditPatience = 5 * time.Second

// auditLog notes down what operators and the provisioning interface do: that it begins, before it is done, and how it ended.
type auditLog struct {
	db  *database.DB
	log zerolog.Logger
}

// begin notes down that an actor is about to do something to subjects, "" for one that has no local id. end takes the outcome of each, in order;
// what is missing failed. If begin fails nothing may be done.
func (a *auditLog) begin(ctx context.Context, actor, action string, subjects ...string) (end func(outcomes ...string), err error) {
	if len(subjects) == 0 {
		subjects = []string{""}
	}
	begun := make([]*database.AuditEntry, len(subjects))
	for i, subject := range subjects {
		begun[i] = &database.AuditEntry{At: time.Now().UnixMilli(), Actor: actor, Action: action, Subject: subject, Outcome: database.AuditAsked}
	}
	if err = a.db.Audit().Append(ctx, begun...); err != nil {
		return nil, err
	}
	return func(outcomes ...string) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditPatience)
		defer cancel()
		ended := make([]*database.AuditEntry, len(begun))
		for i, b := range begun {
			e := *b
			e.Began, e.At, e.Outcome = b.Seq, time.Now().UnixMilli(), string(admin.Failed)
			if i < len(outcomes) && outcomes[i] != "" {
				e.Outcome = outcomes[i]
			}
			ended[i] = &e
		}
		if err := a.db.Audit().Append(ctx, ended...); err != nil {
			a.log.Err(err).Str("action", action).Msg("Could not note down how something ended; the audit log says that it began")
		}
	}, nil
}

// auditedService is an admin.Service that notes down what it changes.
type auditedService struct {
	*adminService
	audit *auditLog
}

var _ admin.Service = (*auditedService)(nil)

// audited puts the audit log around a service.
func audited(s *adminService) *auditedService {
	return &auditedService{s, &auditLog{s.db, s.log}}
}

// each notes down what becomes of each id.
func (s *auditedService) each(ctx context.Context, action string, ids []string, do func(context.Context, []string) ([]admin.Result, error)) ([]admin.Result, error) {
	end, err := s.audit.begin(ctx, admin.Actor(ctx), action, ids...)
	if err != nil {
		return nil, err
	}
	results, err := do(ctx, ids)
	outcomes := make([]string, len(results))
	for i, r := range results {
		outcomes[i] = string(r.Outcome)
	}
	end(outcomes...)
	return results, err
}

// RetryDeadLetters implements admin.Service, like all methods of this file.
func (s *auditedService) RetryDeadLetters(ctx context.Context, ids []string) ([]admin.Result, error) {
	return s.each(ctx, "retry-dead-letter", ids, s.adminService.RetryDeadLetters)
}

func (s *auditedService) DropDeadLetters(ctx context.Context, ids []string) ([]admin.Result, error) {
	return s.each(ctx, "drop-dead-letter", ids, s.adminService.DropDeadLetters)
}

func (s *auditedService) CloseReports(ctx context.Context, ids []string) ([]admin.Result, error) {
	return s.each(ctx, "close-report", ids, s.adminService.CloseReports)
}

func (s *auditedService) RevokeTokens(ctx context.Context, ids []string) ([]admin.Result, error) {
	return s.each(ctx, "revoke-token", ids, s.adminService.RevokeTokens)
}

// Report shows what somebody has reported, which names people: that it was read is noted down too.
func (s *auditedService) Report(ctx context.Context, id string) (*admin.ReportDetails, error) {
	end, err := s.audit.begin(ctx, admin.Actor(ctx), "read-report", id)
	if err != nil {
		return nil, err
	}
	r, err := s.adminService.Report(ctx, id)
	switch {
	case err != nil:
		end()
	case r == nil:
		end(string(admin.Unknown))
	default:
		end(string(admin.Done))
	}
	return r, err
}

// about notes down what is done to a user, by the local ids of their accounts.
func (s *auditedService) about(ctx context.Context, action, who string, do func() (admin.Outcome, error)) (outcome admin.Outcome, err error) {
	subjects, err := s.subjects(ctx, who)
	if err != nil {
		return "", err
	}
	end, err := s.audit.begin(ctx, admin.Actor(ctx), action, subjects...)
	if err != nil {
		return "", err
	}
	outcome, err = do()
	outcomes := make([]string, len(subjects))
	for i := range outcomes {
		if err == nil {
			outcomes[i] = string(outcome)
		}
	}
	end(outcomes...)
	return outcome, err
}

// subjects are the local ids of whoever an order names, one "" if there are none.
func (s *auditedService) subjects(ctx context.Context, who string) ([]string, error) {
	if who == "" {
		return []string{""}, nil
	}
	rows, err := s.db.Accounts().Overview(ctx, who, 0, admin.MaxPage)
	if err != nil || len(rows) == 0 {
		return []string{""}, err
	}
	ids := make([]string, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
	}
	return ids, nil
}

func (s *auditedService) Suspend(ctx context.Context, user, reason string) (admin.Outcome, error) {
	return s.about(ctx, "suspend", user, func() (admin.Outcome, error) { return s.adminService.Suspend(ctx, user, reason) })
}

func (s *auditedService) Unsuspend(ctx context.Context, user string) (admin.Outcome, error) {
	return s.about(ctx, "unsuspend", user, func() (admin.Outcome, error) { return s.adminService.Unsuspend(ctx, user) })
}

func (s *auditedService) AddToken(ctx context.Context, user string, scopes []string, days int) (made *admin.NewToken, err error) {
	id, token, hash := provisioning.New()
	end, err := s.audit.begin(ctx, admin.Actor(ctx), "add-token", id)
	if err != nil {
		return nil, err
	}
	if made, err = s.addToken(ctx, id, token, hash, user, scopes, days); err != nil {
		end()
		return nil, err
	}
	end(string(admin.Done))
	return made, nil
}

// readsOnly says whether an order changes nothing. Any other order is noted down.
func readsOnly(o *admin.Order) bool {
	switch o.Action {
	case "users", "user", "media":
		return true
	case "maintenance", "log-level":
		return len(o.Words) == 0
	}
	return false
}

func (s *auditedService) Do(ctx context.Context, o admin.Order) (*admin.Answer, error) {
	action := admin.ActionNamed(o.Action)
	if action == nil || readsOnly(&o) || !s.ready() {
		return s.adminService.Do(ctx, o)
	}
	who := ""
	if action.Who {
		who = o.Who()
	}
	subjects, err := s.subjects(ctx, who)
	if err != nil {
		return nil, err
	}
	end, err := s.audit.begin(ctx, admin.Actor(ctx), o.Action, subjects...)
	if err != nil {
		return nil, err
	}
	answer, err := s.adminService.Do(ctx, o)
	end(outcomesOf(subjects, answer, err)...)
	return answer, err
}

// notedBelow are commands for administrators that are noted down by the service, with their outcome, or that change nothing.
var notedBelow = []string{"admin", "suspend", "unsuspend", "suspended"}

// noted says to the audit log who gives a command, and notes down all that nobody else does. False if that fails, and nothing may be done.
func (h *command) noted(ce *commands.Event) bool {
	actor := "admin " + ce.User.MXID.String()
	ce.Ctx = admin.WithActor(ce.Ctx, actor)
	c, ok := ce.Bridge.Network.(*Connector)
	if !ok || slices.Contains(notedBelow, h.Name) {
		return true
	}
	err := c.db.Audit().Append(ce.Ctx, &database.AuditEntry{At: time.Now().UnixMilli(), Actor: actor, Action: h.Name, Outcome: database.AuditAsked})
	if err != nil {
		ce.Log.Err(err).Msg("Could not note down a command of an administrator's, so it is not done")
	}
	return err == nil
}

// outcomesOf finds what became of each subject: what has no result of its own was done if there was no error and nothing else was not done.
func outcomesOf(subjects []string, answer *admin.Answer, err error) []string {
	outcomes := make([]string, len(subjects))
	if err != nil || answer == nil {
		return outcomes
	}
	for i, subject := range subjects {
		outcomes[i] = string(admin.Done)
		if answer.Undone() > 0 {
			if outcomes[i] = string(admin.Unknown); answer.Outcome != "" {
				outcomes[i] = string(answer.Outcome)
			}
		}
		for _, r := range answer.Results {
			if r.ID == subject {
				outcomes[i] = string(r.Outcome)
			}
		}
	}
	return outcomes
}
