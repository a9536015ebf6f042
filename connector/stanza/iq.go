package stanza

import (
	"strconv"

	"postern/connector/binxml"
	"postern/connector/jid"
)

// The types of an iq.
const (
	IQGet    = "get"
	IQSet    = "set"
	IQResult = "result"
	IQFailed = "error"
)

// The namespaces of the iqs of PROTOCOL.md 4.6, 4.10, 4.11, 5, 6.10 and 8.1.
const (
	NSEncrypt   = "encrypt"
	NSInterop   = "w:interop"
	NSKeepAlive = "w:p"
	NSPing      = "urn:xmpp:ping"
	NSPassive   = "passive"
	NSBlocklist = "blocklist"
)

// IQ is a question or an order and its answer. Typed questions are in request.go and are made into one by their IQ
// method; typed answers are in answer.go.
type IQ struct {
	// Type is one of the constants above.
	Type string
	// ID is the asker's choice, repeated by the answer.
	ID string
	// XMLNS is the namespace; answers usually have none.
	XMLNS    string
	To, From jid.JID
	Children []binxml.Node
	// Err is not nil exactly if Type is IQFailed.
	Err *IQError
}

// IQError is why an iq, or one part of it, was refused. It is an error; its text has the code alone.
type IQError struct {
	// Code is as in HTTP, 1 to 999.
	Code int
	// Text is the protocol's word for the code, as it came; not for logs.
	Text string
}

var iqErrorTexts = map[int]string{400: "bad-request", 401: "not-authorized", 403: "forbidden", 404: "item-not-found",
	405: "not-allowed", 406: "not-acceptable", 410: "gone", 419: "resource-limit", 423: "locked",
	429: "rate-overlimit", 500: "internal-server-error", 501: "feature-not-implemented", 503: "service-unavailable",
	530: "invalid-response"}

// NewIQError makes one with the usual text of its code.
func NewIQError(code int) *IQError { return &IQError{Code: code, Text: iqErrorTexts[code]} }

// Error implements error.
func (e *IQError) Error() string { return "iq refused: code " + strconv.Itoa(e.Code) }

// Transient says whether asking again later makes sense: 429 and 5xx but 501.
func (e *IQError) Transient() bool { return e.Code == 429 || e.Code >= 500 && e.Code != 501 }

func (e *IQError) node() binxml.Node {
	return *build("error", 2).num("code", int64(e.Code)).str("text", e.Text).n
}

// parseIQError reads an error element's attributes; an absent code is a failure of the whole.
func parseIQError(r *reader) *IQError {
	e := &IQError{Code: r.int("code"), Text: r.word("text")}
	if e.Code == 0 {
		r.fail("code", absent)
	} else if e.Code > 999 {
		r.fail("code", unusable)
	}
	return e
}

// Kind is KindIQ.
func (q *IQ) Kind() Kind { return KindIQ }

// Node builds the element; with Err set its children are the error alone.
func (q *IQ) Node() *binxml.Node {
	b := build("iq", 5).jid("to", q.To).jid("from", q.From).str("xmlns", q.XMLNS).str("type", q.Type).str("id", q.ID)
	if q.Err != nil {
		return b.add(q.Err.node()).n
	}
	b.n.Children = q.Children
	return b.n
}

// Result is the successful answer to q, with the children given.
func (q *IQ) Result(children ...binxml.Node) *IQ {
	return &IQ{Type: IQResult, ID: q.ID, To: q.From, From: q.To, Children: children}
}

// Fail is the answer to q that refuses it with a code of NewIQError.
func (q *IQ) Fail(code int) *IQ {
	return &IQ{Type: IQFailed, ID: q.ID, To: q.From, From: q.To, Err: NewIQError(code)}
}

func (q *IQ) child(tag string) *binxml.Node {
	return (&binxml.Node{Children: q.Children}).Child(tag)
}

func parseIQ(r *reader) *IQ {
	q := &IQ{Type: r.n.Attr("type"), ID: r.id("id"), XMLNS: r.word("xmlns"), To: r.optionalJID("to"),
		From: r.optionalJID("from"), Children: r.n.Children}
	switch q.Type {
	case IQGet, IQSet, IQResult:
	case IQFailed:
		child := r.n.Child("error")
		if child == nil {
			r.fail("error", absent)
			break
		}
		r.sub(child, func(r *reader) { q.Err = parseIQError(r) })
		q.Children = nil
	default:
		r.fail("type", "unknown")
	}
	return q
}
