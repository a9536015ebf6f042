package sandbox

import (
	"postern/connector/binxml"
	"postern/connector/jid"
)

type attrs = []binxml.Attr

// node builds an element.
func node(tag string, a attrs, children ...*binxml.Node) *binxml.Node {
	n := &binxml.Node{Tag: tag, Attrs: a}
	for _, c := range children {
		n.Children = append(n.Children, *c)
	}
	return n
}

// leaf builds an element with bytes in it.
func leaf(tag string, a attrs, data []byte) *binxml.Node {
	return &binxml.Node{Tag: tag, Attrs: a, Data: data}
}

// ackOf builds the acknowledgement of a stanza of a partner (PROTOCOL.md 4.11, 6.1).
func ackOf(n *binxml.Node, from jid.JID, extra ...binxml.Attr) *binxml.Node {
	a := attrs{binxml.S("class", n.Tag), binxml.S("id", n.Attr("id")), binxml.J("from", from)}
	if n.Tag != "message" && n.Has("type") {
		a = append(a, binxml.S("type", n.Attr("type")))
	}
	return node("ack", append(a, extra...))
}

// iqResult builds the answer to an iq.
func (s *Server) iqResult(n *binxml.Node, children ...*binxml.Node) *binxml.Node {
	return node("iq", attrs{
		binxml.S("type", "result"), binxml.S("id", n.Attr("id")), binxml.J("from", s.prof.ServerJID),
	}, children...)
}

// iqError builds the refusal of an iq.
func (s *Server) iqError(n *binxml.Node, code int) *binxml.Node {
	return node("iq", attrs{
		binxml.S("type", "error"), binxml.S("id", n.Attr("id")), binxml.J("from", s.prof.ServerJID),
	}, errorNode(code))
}

var errorTexts = map[int]string{
	400: "bad-request", 401: "not-authorized", 403: "forbidden", 404: "item-not-found", 405: "not-allowed",
	406: "not-acceptable", 429: "rate-overlimit", 500: "internal-server-error", 501: "feature-not-implemented",
	503: "service-unavailable",
}

func errorNode(code int) *binxml.Node {
	text := errorTexts[code]
	if text == "" {
		text = "error"
	}
	return node("error", attrs{binxml.I("code", code), binxml.S("text", text)})
}

func replacedError() *binxml.Node {
	return node("stream:error", nil, node("conflict", attrs{binxml.S("type", "replaced")}))
}

func streamError(code int) *binxml.Node {
	return node("stream:error", attrs{binxml.I("code", code)})
}

func malformedError() *binxml.Node {
	return node("stream:error", nil, node("xml-not-well-formed", nil))
}

func failureNode(code int, expire int64) *binxml.Node {
	a := attrs{binxml.I("reason", code)}
	if text := failureTexts[code]; text != "" {
		a = append(a, binxml.S("message", text))
	}
	if code == 402 {
		a = append(a, binxml.I("expire", expire))
	}
	return node("failure", a)
}

var failureTexts = map[int]string{
	400: "bad-request", 401: "not-enlisted", 402: "temporarily-banned", 403: "blocked", 405: "client-too-old",
	406: "banned", 413: "token-expired", 414: "token-invalid", 500: "internal-server-error", 503: "service-unavailable",
}
