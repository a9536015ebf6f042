package interop

import (
	"context"
	"errors"
	"fmt"

	"postern/connector/stanza"
)

// RequestError says why the gatekeeper refused a question.
type RequestError struct {
	// Op is what was asked: lookup, ping or delete.
	Op string
	// Code is as in HTTP (PROTOCOL.md 5.2, 5.3).
	Code int
	// Transient says that asking again later makes sense.
	Transient bool
}

// Error names operation and code.
func (e *RequestError) Error() string { return fmt.Sprintf("%s: refused (code %d)", e.Op, e.Code) }

// ErrOffline says that there is no stream to ask on, or that it broke before the
// answer came.
var ErrOffline = errors.New("request: no stream")

// asked turns the error of a request into one of this package.
func asked(op string, err error) error {
	var iq *stanza.IQError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &iq):
		return &RequestError{Op: op, Code: iq.Code, Transient: iq.Transient()}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, stanza.ErrCount):
		return err
	case errors.Is(err, stanza.ErrMalformed):
		return fmt.Errorf("%s: %w", op, err)
	}
	return fmt.Errorf("%s: %w", op, ErrOffline)
}

// Lookup asks who has these phone numbers (E.164 with the plus, 1 to 256 of them;
// PROTOCOL.md 5.2). The results are in the order of the question; a person who is
// found has a local id from then on. Errors: *RequestError, ErrOffline,
// stanza.ErrCount, the store's, or the context's.
func (a *Account) Lookup(ctx context.Context, phones []string) ([]LookupResult, error) {
	answer, err := a.question(ctx, &stanza.UsersRequest{ExternalIDs: phones})
	if err != nil {
		return nil, asked("lookup", err)
	}
	users, err := stanza.ParseUsers(answer)
	if err != nil {
		return nil, asked("lookup", err)
	}
	found := make(map[string]*stanza.UserResult, len(users))
	for i := range users {
		found[users[i].ExternalID] = &users[i]
	}
	results := make([]LookupResult, len(phones))
	for i, phone := range phones {
		results[i].Phone = phone
		user := found[phone]
		switch {
		case user == nil:
			results[i].Err = &RequestError{Op: "lookup", Code: 404}
		case user.Err != nil:
			results[i].Err = asked("lookup", user.Err)
		default:
			results[i].Normalized = user.Normalized
			if results[i].Peer, err = a.people.at(ctx, user.JID); err != nil {
				return nil, err
			}
		}
	}
	return results, nil
}

// Ping asks the person of a chat whether we may write, showing the display name
// (PROTOCOL.md 5.3). The outcome comes later, as KindReachability. Errors:
// *RequestError (403: opted out, switched off or blocked; 404; 429), ErrOffline,
// ErrNoChat, the store's, or the context's.
func (a *Account) Ping(ctx context.Context, chat, displayName string) error {
	peer, err := a.people.in(ctx, chat)
	if err != nil {
		return err
	}
	answer, err := a.question(ctx, &stanza.ReachRequest{JID: peer.JID, DisplayName: displayName})
	if err == nil {
		err = stanza.ParseEmpty(answer)
	}
	return asked("ping", err)
}

// Delete deletes the account at the gatekeeper (PROTOCOL.md 8.1). Run then returns a
// *StopError of ConnDeleted. What is on disk here is the caller's to delete. Errors:
// *RequestError, ErrOffline, or the context's; after them the account goes on.
func (a *Account) Delete(ctx context.Context) error {
	answer, err := a.question(ctx, stanza.DeleteRequest{})
	if err == nil {
		err = stanza.ParseEmpty(answer)
	}
	if err != nil {
		return asked("delete", err)
	}
	a.deleted.Store(true)
	a.link.hangUp()
	return nil
}
