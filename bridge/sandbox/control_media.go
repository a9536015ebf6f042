package sandbox

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
)

// serveReceived is GET /v1/users/{phone}/media/{id}: the decrypted bytes of a message, or with ?thumbnail=1 the
// small JPEG in it. The file is streamed.
func (s *Server) serveReceived(w http.ResponseWriter, r *http.Request) {
	if fromWebPage(r) {
		writeJSON(w, http.StatusForbidden, map[string]string{"error": "the control API is not for web pages"})
		return
	}
	c := &call{s: s, r: r}
	file, thumbnail, err := c.received()
	w.Header().Set("X-Content-Type-Options", "nosniff")
	var no *refused
	if err == nil && thumbnail != nil {
		w.Header().Set("Content-Type", "image/jpeg")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(thumbnail))
		return
	}
	if err == nil {
		f, oerr := s.depot.open(file)
		if oerr == nil {
			defer f.Close()
			w.Header().Set("Content-Type", "application/octet-stream")
			http.ServeContent(w, r, "", time.Time{}, f)
			return
		}
		err = refusal(404, "the file has been dropped")
	}
	if errors.As(err, &no) {
		writeJSON(w, no.status, map[string]string{"error": no.sentence})
		return
	}
	writeJSON(w, http.StatusInternalServerError, map[string]string{"error": "the sandbox failed"})
}

// received finds the file of a message, or its thumbnail if that is asked for. to and integrator may say which partner
// user's message it is; without them the first with that id is taken.
func (c *call) received() (file string, thumbnail []byte, err error) {
	id, q := c.r.PathValue("id"), c.r.URL.Query()
	c.s.state.view(func() {
		ch := change{c.s.state}
		var u *user
		if u, err = c.user(ch); err != nil {
			return
		}
		var of *account
		if of, err = c.askedPartner(ch, q.Get("to"), q.Get("integrator")); err != nil {
			return
		}
		for _, a := range ch.accountsInOrder() {
			h := u.phone.heard[heardKey{a.Address, id}]
			if h == nil || of != nil && of != a {
				continue
			}
			if q.Get("thumbnail") != "" {
				if thumbnail = h.thumbnail(); thumbnail != nil {
					return
				}
				continue
			}
			if f := u.phone.got[heardKey{a.Address, id}]; f != nil {
				file = f.Name
				return
			}
		}
		err = refusal(404, "the phone has no media of message %q", id)
	})
	return file, thumbnail, err
}

// askedPartner is the partner user of a query; nil if it names none.
func (c *call) askedPartner(ch change, to, integrator string) (*account, error) {
	if to == "" {
		return nil, nil
	}
	p := partner{To: to}
	if integrator != "" {
		n, err := strconv.ParseUint(integrator, 10, 16)
		if err != nil {
			return nil, refusal(400, "an integrator id is 1 to 999")
		}
		p.Integrator = uint16(n)
	}
	return ch.account(p)
}

// thumbnail is the small JPEG in a message; nil if it has none.
func (h *heardMessage) thumbnail() []byte {
	msg := &waE2E.Message{}
	if proto.Unmarshal(h.Plain, msg) != nil {
		return nil
	}
	if at := attachmentOf(msg); at != nil {
		return at.thumbnail
	}
	return nil
}
