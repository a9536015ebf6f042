package sandbox

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"go.mau.fi/whatsmeow/proto/waWa6"

	"postern/connector/binxml"
)

// witness writes down what a gatekeeper gets to see of partners: what they enlist with, log in with and send, opened as far as it
// can be opened without the phones' keys. nil writes nothing.
type witness struct {
	mu  sync.Mutex
	out io.Writer
}

// line writes one line. A disk that is full costs the record.
func (r *witness) line(what, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = fmt.Fprintf(r.out, "%s %s\n", what, text)
}

// element writes a stanza.
func (r *witness) element(n *binxml.Node) {
	if r == nil {
		return
	}
	var b strings.Builder
	writeElement(&b, n, 0)
	r.line("stanza", b.String())
}

// maxRecorded bounds how deep elements are written.
const maxRecorded = 32

func writeElement(b *strings.Builder, n *binxml.Node, depth int) {
	fmt.Fprintf(b, "<%s", n.Tag)
	for _, a := range n.Attrs {
		if a.Value != "" {
			fmt.Fprintf(b, " %s=%q", a.Key, a.Value)
		} else {
			fmt.Fprintf(b, " %s=%q", a.Key, a.JID.String())
		}
	}
	if text := string(n.Data); utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl) {
		fmt.Fprintf(b, ">%s", text)
	} else {
		fmt.Fprintf(b, ">%s", base64.StdEncoding.EncodeToString(n.Data))
	}
	for i := range n.Children {
		if depth < maxRecorded {
			writeElement(b, &n.Children[i], depth+1)
		}
	}
	fmt.Fprintf(b, "</%s>", n.Tag)
}

// login writes what a partner logs in with, and the claims of its token.
func (r *witness) login(payload *waWa6.ClientPayload) {
	if r == nil {
		return
	}
	r.line("login", payload.String())
	r.token(string(payload.GetInteropData().GetToken()))
}

// token writes what a token says, if it is one.
func (r *witness) token(token string) {
	for part := range strings.SplitSeq(token, ".") {
		if raw, err := base64.RawURLEncoding.DecodeString(part); err == nil && len(raw) > 0 && raw[0] == '{' {
			r.line("token", string(raw))
		}
	}
}

// request writes a request over HTTP whose form has been parsed.
func (r *witness) request(q *http.Request) {
	if r == nil {
		return
	}
	r.line("request", fmt.Sprintf("%s %s %v", q.Method, q.URL, q.Header))
	for key, values := range q.PostForm {
		for _, v := range values {
			r.line("field", fmt.Sprintf("%s=%s", key, v))
			r.token(v)
		}
	}
}
