package sandbox

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.mau.fi/whatsmeow/proto/waWa6"
	"google.golang.org/protobuf/proto"

	"postern/connector/binxml"
	"postern/connector/noise"
)

// serveStream carries one connection from handshake to end.
func (s *Server) serveStream(c *carrier) {
	ctx, cancel := context.WithTimeout(s.ctx, handshakeTime)
	conn, peer, err := noise.Server(ctx, c, noise.ServerConfig{
		Static: s.keys.static, Chain: s.keys.chain, Mode: s.prof.Noise.Mode, Intro: s.prof.Noise.Intro,
	})
	if err != nil {
		cancel()
		return
	}
	st, refusal := s.login(ctx, c, conn, peer)
	cancel()
	if st == nil {
		if frame, err := s.codec.Append(nil, refusal); err == nil {
			if conn.WriteFrame(frame) == nil {
				c.Close()
			}
		}
		return
	}
	// Reading has a deadline of its own for every frame; writing sets its own too.
	_ = c.conn.SetDeadline(time.Time{}) // it fails on a closed connection alone, which readLoop sees too
	s.run("stream writer", st.writeLoop)
	st.readLoop()
	st.finish()
}

// login checks what the partner has shown, in the order of PROTOCOL.md 4.4. It returns the stream, attached to
// its account, or the failure to answer with.
func (s *Server) login(ctx context.Context, c *carrier, conn *noise.Conn, peer *noise.Peer) (*stream, *binxml.Node) {
	payload := &waWa6.ClientPayload{}
	if err := proto.Unmarshal(peer.Payload, payload); err != nil {
		return nil, failureNode(400, 0)
	}
	s.witness.login(payload)
	data := payload.GetInteropData()
	if payload.GetProduct() != s.prof.Login.Product || payload.Product == nil || data == nil || data.AccountID == nil || payload.GetDevice() != 0 {
		return nil, failureNode(400, 0)
	}
	cl, err := s.verifier.verify(ctx, string(data.GetToken()), s.integratorByBase)
	switch {
	case errors.Is(err, errTokenExpired):
		return nil, failureNode(413, 0)
	case errors.Is(err, errTokenTemporary):
		return nil, failureNode(503, 0)
	case err != nil:
		return nil, failureNode(414, 0)
	}
	st := newStream(s, c, conn, nil)
	st.readReceipts = data.GetEnableReadReceipts()
	var refusal *binxml.Node
	n := s.state.update(func(ch change) {
		a := ch.accountByNumber(cl.integrator.ID, data.GetAccountID())
		if a != nil {
			ch.sweepAccount(s, a)
		}
		if refusal = s.loginRefusal(ch, a, cl, peer, payload); refusal != nil {
			return
		}
		ch.noteToken(s, a, cl)
		for _, odd := range s.payloadOddities(payload) {
			ch.complain(s, a, "4.3", odd)
		}
		st.account = a
		ch.begin(st, node("success", attrs{binxml.I("t", unix(s.now())), binxml.J("lid", a.jid)}))
	})
	if s.settled(n) != nil {
		return nil, failureNode(500, 0)
	}
	if refusal != nil {
		return nil, refusal
	}
	return st, nil
}

// loginRefusal makes the checks that need the account.
func (s *Server) loginRefusal(c change, a *account, cl *claims, peer *noise.Peer, payload *waWa6.ClientPayload) *binxml.Node {
	if a == nil || !a.Enlisted || a.Deleted {
		return failureNode(401, 0)
	}
	if normalise(cl.integrator.IdentifierType, cl.identifier) != a.Identifier {
		return failureNode(414, 0)
	}
	if string(a.AuthKey) != string(peer.Static[:]) {
		return failureNode(401, 0)
	}
	if ft := c.takeFault("failure", a.Integrator, a.Identifier, ""); ft != nil {
		return failureNode(ft.Code, ft.Expire)
	}
	v := payload.GetUserAgent().GetAppVersion()
	version := [3]uint32{v.GetPrimary(), v.GetSecondary(), v.GetTertiary()}
	if slices.Compare(version[:], s.prof.Login.InteropVersion[:]) < 0 {
		return failureNode(405, 0)
	}
	return nil
}

// payloadOddities lists how a login payload differs from PROTOCOL.md 4.3 where that does no harm.
func (s *Server) payloadOddities(p *waWa6.ClientPayload) []string {
	var odd []string
	say := func(wrong bool, text string) {
		if wrong {
			odd = append(odd, text)
		}
	}
	say(p.Device == nil, "a login payload without device")
	say(p.Passive == nil || p.GetPassive(), "a login payload in which passive is not false")
	say(!p.GetPull(), "a login payload in which pull is not true")
	say(p.GetConnectType() != waWa6.ClientPayload_WIFI_UNKNOWN || p.ConnectType == nil, "a login payload with another connect type than WIFI_UNKNOWN")
	switch p.GetConnectReason() {
	case waWa6.ClientPayload_USER_ACTIVATED, waWa6.ClientPayload_PUSH, waWa6.ClientPayload_ERROR_RECONNECT:
	default:
		odd = append(odd, "a login payload with a connect reason that partners do not use")
	}
	say(p.InteropData.EnableReadReceipts == nil, "a login payload that does not say whether read receipts are on")
	allowed := &waWa6.ClientPayload{
		Passive: p.Passive, Pull: p.Pull, ConnectType: p.ConnectType, ConnectReason: p.ConnectReason,
		Device: p.Device, Product: p.Product, InteropData: p.InteropData,
		UserAgent: &waWa6.ClientPayload_UserAgent{AppVersion: p.GetUserAgent().GetAppVersion()},
	}
	say(!proto.Equal(allowed, p), "a login payload with more fields than partners send")
	return odd
}

// readLoop takes the partner's frames until the stream ends.
func (st *stream) readLoop() {
	s := st.s
	for {
		if st.carrier.conn.SetReadDeadline(time.Now().Add(idleTime)) != nil {
			return
		}
		frame, err := st.conn.ReadFrame()
		if err != nil {
			return
		}
		n, err := s.codec.Decode(frame)
		if err != nil {
			st.refuse()
			return
		}
		s.witness.element(n)
		if !st.take(n) {
			return
		}
	}
}

// refuse ends the stream over bytes that cannot be read (PROTOCOL.md 4.9) and waits until the partner has been
// told.
func (st *stream) refuse() {
	st.s.state.update(func(c change) {
		c.complain(st.s, st.account, "4.9", "a frame that cannot be decoded")
		if st.account.stream == st {
			c.endStream(st.account, malformedError())
		}
	})
	for { // the writer closes the carrier after the last stanza
		if _, err := st.conn.ReadFrame(); err != nil {
			return
		}
	}
}

// take handles one stanza; false ends the stream. A panic over hostile input costs this stream and nothing else.
func (st *stream) take(n *binxml.Node) (ok bool) {
	defer st.s.contain("stanza")
	st.s.state.update(func(c change) {
		if st.account.stream == st {
			c.stanza(st, n)
		}
	})
	return true
}
