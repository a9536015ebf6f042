package stanza

import (
	"errors"

	"postern/connector/binxml"
	"postern/connector/jid"
)

// result reads an iq as an answer: an iq of type error gives its *IQError, one that is no answer at all a *ParseError.
func result(q *IQ) (*reader, error) {
	switch {
	case q.Err != nil:
		return nil, q.Err
	case q.Type != IQResult:
		return nil, &ParseError{Kind: KindIQ, Field: "type", Reason: "not an answer"}
	}
	return &reader{n: &binxml.Node{Tag: "iq", Children: q.Children}, kind: KindIQ}, nil
}

func (r *reader) done() error {
	if r.err != nil {
		return r.err
	}
	return nil
}

// ParseEmpty reads the answer to a request that has no content to give: nil, or the *IQError or *ParseError.
func ParseEmpty(q *IQ) error {
	_, err := result(q)
	return err
}

func countNode(value int) binxml.Node {
	return binxml.Node{Tag: "count", Attrs: []binxml.Attr{binxml.I("value", value)}}
}

// CountAnswer answers a CountRequest with the number of one-time prekeys left (PROTOCOL.md 5.1).
func CountAnswer(q *IQ, left int) *IQ { return q.Result(countNode(left)) }

// ParseCount reads a CountAnswer. Errors are the *IQError or a *ParseError.
func ParseCount(q *IQ) (int, error) {
	r, err := result(q)
	if err != nil {
		return 0, err
	}
	count := 0
	if child := r.n.Child("count"); child != nil {
		r.sub(child, func(r *reader) { count = countValue(r) })
	} else {
		r.fail("count", absent)
	}
	return count, r.done()
}

// KeyResult is the answer for one user of a KeyRequest: either a bundle or an error.
type KeyResult struct {
	JID jid.JID
	// Bundle is nil if Err is not.
	Bundle *Bundle
	// Err is an *IQError, or on reading a *ParseError if this user's keys are malformed.
	Err error
}

// KeyAnswer answers a KeyRequest (PROTOCOL.md 5.1). It fails with ErrKey if a bundle is not valid, and an Err that is
// not an *IQError becomes code 500.
func KeyAnswer(q *IQ, results []KeyResult) (*IQ, error) {
	list := build("list", 0)
	for i := range results {
		res := &results[i]
		user := build("user", 1).jid("jid", res.JID)
		switch {
		case res.Err != nil:
			var refusal *IQError
			if !errors.As(res.Err, &refusal) {
				refusal = NewIQError(500)
			}
			user = user.add(refusal.node())
		case res.Bundle == nil:
			user = user.add(NewIQError(404).node())
		default:
			if err := res.Bundle.Validate(); err != nil {
				return nil, err
			}
			user = user.add(res.Bundle.userNodes()...)
		}
		list = list.add(*user.n)
	}
	return q.Result(*list.n), nil
}

// ParseKeys reads a KeyAnswer. What is wrong with one user is in that user's result and harms no other; errors for the
// whole are the *IQError or a *ParseError. The caller checks the signatures, and that the users are those asked for.
func ParseKeys(q *IQ) ([]KeyResult, error) {
	r, err := result(q)
	if err != nil {
		return nil, err
	}
	list := r.n.Child("list")
	if list == nil {
		r.fail("list", absent)
		return nil, r.done()
	}
	var out []KeyResult
	r.each(list, "user", func(r *reader) {
		res := KeyResult{JID: r.jid("jid")}
		own := &reader{n: r.n, kind: KindIQ} // keeps the errors of this user apart
		if refusal := r.n.Child("error"); refusal != nil {
			own.sub(refusal, func(r *reader) { res.Err = parseIQError(r) })
		} else {
			res.Bundle = &Bundle{}
			res.Bundle.parseUser(own)
		}
		if own.err != nil {
			res.Bundle, res.Err = nil, own.err
		}
		out = append(out, res)
	})
	if err = r.done(); err != nil {
		return nil, err
	}
	return out, nil
}

// UserResult is the answer for one phone number of a UsersRequest (PROTOCOL.md 5.2).
type UserResult struct {
	// ExternalID is the number as it was asked, Normalized its digits.
	ExternalID, Normalized string
	// JID is the user's address, zero if Err is not nil.
	JID jid.JID
	// Err is 404 if not on WhatsApp or not in the region, 403 if not opted in, 429.
	Err *IQError
}

// UsersAnswer answers a UsersRequest, in the order of the request.
func UsersAnswer(q *IQ, results []UserResult) *IQ {
	users := build("users", 0)
	for i := range results {
		res := &results[i]
		user := build("user", 3).str("external_id", res.ExternalID)
		if res.Err != nil {
			user = user.add(*build("error", 1).num("code", int64(res.Err.Code)).n)
		} else {
			user = user.str("normalized_external_id", res.Normalized).jid("jid", res.JID)
		}
		users = users.add(*user.n)
	}
	return q.Result(*users.n)
}

// ParseUsers reads a UsersAnswer. Errors are the *IQError or a *ParseError.
func ParseUsers(q *IQ) ([]UserResult, error) {
	r, err := result(q)
	if err != nil {
		return nil, err
	}
	users := r.n.Child("users")
	if users == nil {
		r.fail("users", absent)
		return nil, r.done()
	}
	var out []UserResult
	r.each(users, "user", func(r *reader) {
		res := UserResult{ExternalID: r.id("external_id"), Normalized: r.word("normalized_external_id")}
		if refusal := r.n.Child("error"); refusal != nil {
			r.sub(refusal, func(r *reader) { res.Err = parseIQError(r) })
		} else {
			res.JID = r.jid("jid")
		}
		out = append(out, res)
	})
	if err = r.done(); err != nil {
		return nil, err
	}
	return out, nil
}

// BlocklistAnswer answers a BlocklistRequest or BlockRequest with the whole list (PROTOCOL.md 6.10).
func BlocklistAnswer(q *IQ, blocked []jid.JID) *IQ {
	list := build("list", 0)
	for _, j := range blocked {
		list = list.add(*build("item", 1).jid("jid", j).n)
	}
	return q.Result(*list.n)
}

// ParseBlocklist reads a BlocklistAnswer. Errors are the *IQError or a *ParseError.
func ParseBlocklist(q *IQ) ([]jid.JID, error) {
	r, err := result(q)
	if err != nil {
		return nil, err
	}
	list := r.n.Child("list")
	if list == nil {
		r.fail("list", absent)
		return nil, r.done()
	}
	var out []jid.JID
	r.each(list, "item", func(r *reader) { out = append(out, r.jid("jid")) })
	if err = r.done(); err != nil {
		return nil, err
	}
	return out, nil
}
