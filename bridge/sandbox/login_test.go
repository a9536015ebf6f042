package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waWa6"
	"google.golang.org/protobuf/proto"

	"postern/connector/binxml"
	"postern/connector/noise"
	"postern/connector/stanza"
)

func claim(name string, value any) tokenEdit {
	return func(_, body map[string]any) {
		if value == nil {
			delete(body, name)
			return
		}
		body[name] = value
	}
}

func header(name string, value any) tokenEdit {
	return func(head, _ map[string]any) {
		if value == nil {
			delete(head, name)
			return
		}
		head[name] = value
	}
}

// times moves all three times of a token by d.
func times(d time.Duration) tokenEdit {
	return func(_, body map[string]any) {
		for _, name := range []string{"iat", "nbf", "exp"} {
			body[name] = body[name].(int64) + int64(d/time.Second)
		}
	}
}

// tokenCases is every way a token can be wrong, with the enlistment's and the login's word for it.
var tokenCases = []struct {
	name   string
	edit   tokenEdit
	reason string // "" is accepted
	code   int
}{
	{"a token as agreed", func(_, _ map[string]any) {}, "", 0},
	{"an audience list that holds ours", claim("aud", []string{"OTHER", "WHATSAPP"}), "", 0},
	{"clocks 100 s ahead", times(100 * time.Second), "", 0},
	{"expired 100 s ago", times(-3700 * time.Second), "", 0},
	{"an issuer nobody agreed on", claim("iss", "http://127.0.0.1:1"), "bad_integrator", 414},
	{"an issuer with a slash at its end", func(_, b map[string]any) { b["iss"] = b["iss"].(string) + "/" }, "bad_integrator", 414},
	{"no issuer", claim("iss", nil), "bad_integrator", 414},
	{"another algorithm in the header", header("alg", "RS384"), "bad_token", 414},
	{"algorithm none", header("alg", "none"), "bad_token", 414},
	{"algorithm HS256", header("alg", "HS256"), "bad_token", 414},
	{"type at+jwt", header("typ", "at+jwt"), "bad_token", 414},
	{"no type", header("typ", nil), "bad_token", 414},
	{"no key id", header("kid", nil), "bad_token", 414},
	{"an unknown key id", header("kid", "other"), "bad_token", 414},
	{"a critical header nobody knows", header("crit", []string{"x"}), "bad_token", 414},
	{"another audience", claim("aud", "MESSENGER"), "bad_token", 414},
	{"an audience that is no string", claim("aud", 7), "bad_token", 414},
	{"no audience", claim("aud", nil), "bad_token", 414},
	{"a lifetime over an hour", func(_, b map[string]any) { b["exp"] = b["iat"].(int64) + 3601 }, "bad_token", 414},
	{"issued 200 s in the future", times(200 * time.Second), "bad_token", 414},
	{"not valid before 200 s from now", func(_, b map[string]any) { b["nbf"] = b["iat"].(int64) + 200 }, "bad_token", 414},
	{"a time that is no number", claim("exp", "tomorrow"), "bad_token", 414},
	{"a time beyond all bounds", claim("exp", 1e300), "bad_token", 414},
	{"no expiry", claim("exp", nil), "bad_token", 414},
	{"no time of issue", claim("iat", nil), "bad_token", 414},
	{"an empty subject", claim("sub", ""), "bad_token", 414},
	{"no subject", claim("sub", nil), "bad_token", 414},
	{"a subject of 101 characters", claim("sub", strings.Repeat("ü", 101)), "bad_token", 414},
	{"expired 130 s ago", times(-3730 * time.Second), "bad_token", 413},
}

func TestTokensAreCheckedTheSameAtEnlistmentAndLogin(t *testing.T) {
	l := newLab(t)
	p := l.newPartner(matilda).enlist()
	for _, c := range tokenCases {
		t.Run(c.name, func(t *testing.T) {
			form := p.form()
			form.Set("token", p.token(c.edit))
			a, status := l.postForm(form)
			if status != 200 || a.Reason != c.reason || (c.reason == "") != (a.Status == "ok") {
				t.Errorf("enlistment: %d %+v, want reason %q", status, a, c.reason)
			}
			first := p.loginAnswer(t, func(cp *waWa6.ClientPayload) { cp.InteropData.Token = []byte(p.token(c.edit)) })
			if c.code == 0 && first.Tag != "success" || c.code != 0 && (first.Tag != "failure" || first.Attr("reason") != itoa(uint64(c.code))) {
				t.Errorf("login: %s %s, want %d", first.Tag, first.Attr("reason"), c.code)
			}
		})
	}
	t.Run("a signature by somebody else", func(t *testing.T) {
		forged := p.token()
		other := p.token(claim("jti", "x"))
		forged = forged[:strings.LastIndex(forged, ".")] + other[strings.LastIndex(other, "."):]
		form := p.form()
		form.Set("token", forged)
		if a, _ := l.postForm(form); a.Reason != "bad_token" {
			t.Errorf("enlistment: %+v", a)
		}
		if first := p.loginAnswer(t, func(cp *waWa6.ClientPayload) { cp.InteropData.Token = []byte(forged) }); first.Attr("reason") != "414" {
			t.Errorf("login: %s %s", first.Tag, first.Attr("reason"))
		}
	})
	for name, bad := range map[string]string{"empty": " ", "no token": "abc", "too long": strings.Repeat("a", 20000), "not base64": "!.!.!", "not JSON": "YQ.YQ.YQ"} {
		t.Run("a token that is "+name, func(t *testing.T) {
			form := p.form()
			form.Set("token", bad)
			if a, _ := l.postForm(form); a.Reason != "bad_token" {
				t.Errorf("enlistment: %+v", a)
			}
		})
	}
}

// loginAnswer logs in with a changed payload and gives back the first stanza.
func (p *scripted) loginAnswer(t *testing.T, edit func(*waWa6.ClientPayload)) *binxml.Node {
	t.Helper()
	p.t = t
	p.dial(false, edit)
	defer p.hangUp()
	return p.next("an answer to the login")
}

func TestKeySetIsFetchedAgainForANewKeyAndAnUnreachableOneIsTemporary(t *testing.T) {
	l := newLab(t)
	l.public.mu.Lock()
	l.public.down = true
	l.public.mu.Unlock()
	p := l.newPartner(matilda)
	if a, _ := l.postForm(p.form()); a.Reason != "temporarily_unavailable" {
		t.Fatalf("enlistment while the key set is away: %+v", a)
	}
	l.public.mu.Lock()
	l.public.down = false
	l.public.mu.Unlock()
	p.enlist()
	l.public.mu.Lock()
	before := l.public.gets
	l.public.mu.Unlock()
	p.login()
	l.public.mu.Lock()
	if l.public.gets != before {
		t.Error("fetched again for a known key")
	}
	l.public.kid = "k2"
	l.public.mu.Unlock()
	p.login()
	l.public.mu.Lock()
	if l.public.gets != before+1 {
		t.Errorf("%d fetches for the new key", l.public.gets-before)
	}
	l.public.down, l.public.kid = true, "k3"
	l.public.mu.Unlock()
	if n := p.loginAnswer(t, nil); n.Attr("reason") != "503" {
		t.Errorf("login while the key set is away: %s %s", n.Tag, n.Attr("reason"))
	}
	l.noComplaints()
}

func TestLoginIsCheckedInTheOrderOfTheProfile(t *testing.T) {
	type edit = func(*waWa6.ClientPayload)
	cases := []struct {
		name string
		code string
		edit edit
	}{
		{"another product", "400", func(cp *waWa6.ClientPayload) { cp.Product = waWa6.ClientPayload_WHATSAPP.Enum() }},
		{"no product", "400", func(cp *waWa6.ClientPayload) { cp.Product = nil }},
		{"no interop data, and a bad version", "400", func(cp *waWa6.ClientPayload) { cp.InteropData, cp.UserAgent = nil, nil }},
		{"no account number", "400", func(cp *waWa6.ClientPayload) { cp.InteropData.AccountID = nil }},
		{"another device", "400", func(cp *waWa6.ClientPayload) { cp.Device = proto.Uint32(1) }},
		{"no token, and an unknown account", "414", func(cp *waWa6.ClientPayload) {
			cp.InteropData.Token, cp.InteropData.AccountID = nil, proto.Uint64(5)
		}},
		{"an unknown account", "401", func(cp *waWa6.ClientPayload) { cp.InteropData.AccountID = proto.Uint64(5) }},
		{"an account number of no account's form", "401", func(cp *waWa6.ClientPayload) { cp.InteropData.AccountID = proto.Uint64(1 << 63) }},
		{"an old version", "405", func(cp *waWa6.ClientPayload) { cp.UserAgent.AppVersion.Tertiary = proto.Uint32(2) }},
		{"no version", "405", func(cp *waWa6.ClientPayload) { cp.UserAgent = nil }},
		{"a newer version", "", func(cp *waWa6.ClientPayload) { cp.UserAgent.AppVersion.Secondary = proto.Uint32(1) }},
	}
	l := newLab(t)
	p := l.newPartner(matilda).enlist()
	other := l.newPartner("other@example.org").enlist()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			n := p.loginAnswer(t, c.edit)
			if c.code == "" && n.Tag == "success" {
				return
			}
			if n.Tag != "failure" || n.Attr("reason") != c.code {
				t.Fatalf("%s %s, want %s", n.Tag, n.Attr("reason"), c.code)
			}
		})
	}
	t.Run("somebody else's account, before the key is looked at", func(t *testing.T) {
		number, _ := other.jid.Account()
		if n := p.loginAnswer(t, func(cp *waWa6.ClientPayload) { cp.InteropData.AccountID = &number }); n.Attr("reason") != "414" {
			t.Fatalf("%s %s", n.Tag, n.Attr("reason"))
		}
	})
	t.Run("another Noise key", func(t *testing.T) {
		mine := p.static
		defer func() { p.static = mine }()
		p.static = other.static
		if n := p.loginAnswer(t, nil); n.Attr("reason") != "401" {
			t.Fatalf("%s %s", n.Tag, n.Attr("reason"))
		}
	})
	for _, code := range []int{402, 403, 406, 409, 415, 418, 500, 501, 503} {
		l.post("/v1/faults", map[string]any{"kind": "failure", "identifier": matilda, "code": code, "expire": 77}, nil)
		n := p.loginAnswer(t, nil)
		if n.Tag != "failure" || n.Attr("reason") != itoa(uint64(code)) || (code == 402) != (n.Attr("expire") == "77") {
			t.Errorf("failure %d: %s %s %s", code, n.Tag, n.Attr("reason"), n.Attr("expire"))
		}
		parsed, err := stanza.Parse(n)
		if err != nil || parsed.Kind() != stanza.KindFailure {
			t.Errorf("failure %d cannot be parsed: %v", code, err)
		}
	}
	if n := p.loginAnswer(t, nil); n.Tag != "success" {
		t.Error("faults are not used up")
	}
	if n := p.loginAnswer(t, func(cp *waWa6.ClientPayload) { cp.Username, cp.Passive = proto.Uint64(1), proto.Bool(true) }); n.Tag != "success" {
		t.Error("a harmless oddity is refused")
	}
	l.complained("more fields than partners send")
	l.complained("passive is not false")
}

func TestEnlistmentSaysWhatIsWrongWithTheForm(t *testing.T) {
	l := newLab(t)
	p := l.newPartner("  Matilda@Example.ORG ")
	b64 := base64.RawURLEncoding.EncodeToString
	good := p.form()
	for field := range good {
		form := clone(good)
		form.Del(field)
		if a, _ := l.postForm(form); a.Reason != "missing_param" {
			t.Errorf("without %s: %+v", field, a)
		}
		form = clone(good)
		form.Add(field, form.Get(field))
		if a, _ := l.postForm(form); a.Reason != "bad_param" {
			t.Errorf("with two of %s: %+v", field, a)
		}
	}
	for name, edit := range map[string]func(url.Values){
		"key type 6":              func(f url.Values) { f.Set("e_keytype", b64([]byte{6})) },
		"a short authkey":         func(f url.Values) { f.Set("authkey", b64(make([]byte, 31))) },
		"an authkey with padding": func(f url.Values) { f.Set("authkey", f.Get("authkey")+"=") },
		"ordinary base64":         func(f url.Values) { f.Set("authkey", "++++"+f.Get("authkey")[4:]) },
		"a long key id":           func(f url.Values) { f.Set("e_skey_id", b64(make([]byte, 4))) },
		"a wrong signature":       func(f url.Values) { f.Set("e_skey_sig", b64(make([]byte, 64))) },
		"another identity":        func(f url.Values) { f.Set("e_ident", f.Get("e_skey_val")) },
	} {
		form := clone(good)
		edit(form)
		if a, _ := l.postForm(form); a.Reason != "bad_param" {
			t.Errorf("%s: %+v", name, a)
		}
	}
	form := clone(good)
	form.Set("unknown", "ignored")
	a, _ := l.postForm(form)
	if a.Status != "ok" || a.Identifier != matilda || !strings.HasPrefix(a.Login, "1-") || !strings.HasSuffix(a.Login, "@interop") {
		t.Fatalf("a good form: %+v", a)
	}
	l.complained("not normalised")
	if again, _ := l.postForm(p.form()); again.Login != a.Login {
		t.Errorf("enlisting again gave %+v", again)
	}
	resp, err := http.Get(l.info.EnlistURL)
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", resp.StatusCode)
	}
	resp, err = http.Post(l.info.EnlistURL, "application/x-www-form-urlencoded", strings.NewReader("x="+strings.Repeat("a", maxEnlistBody)))
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a long body: %d", resp.StatusCode)
	}
}

func clone(f url.Values) url.Values {
	out := url.Values{}
	for k, v := range f {
		out[k] = append([]string(nil), v...)
	}
	return out
}

func TestIdentifiersAreNormalisedByTheirType(t *testing.T) {
	for _, c := range []struct{ typ, in, want string }{
		{"email", " A@B.example ", "a@b.example"},
		{"pn", "+49 151-1", "491511"},
		{"username", "Ada.L", "ada.l"},
	} {
		if got := normalise(c.typ, c.in); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.typ, c.in, got, c.want)
		}
	}
}

func TestASecondLoginReplacesTheFirst(t *testing.T) {
	l := newLab(t)
	p := l.newPartner(matilda).enlist()
	p.login()
	first, in := p.raw, p.in
	p.raw = nil
	defer first.Close()
	p.login()
	p.in, in = in, p.in
	got := p.ended()
	last := got[len(got)-1]
	s, err := stanza.Parse(last)
	must(t, err)
	if e, ok := s.(*stanza.StreamError); !ok || e.Conflict != stanza.ConflictReplaced {
		t.Fatalf("last stanza of the first stream: %s", last.Tag)
	}
	p.in = in
	if a := p.ask(stanza.KeepAlive{}); a.Type != "result" {
		t.Fatalf("keep-alive on the second stream: %+v", a)
	}
	l.noComplaints()
}

func TestEnlistingAgainEndsTheStreamAndTellsPhonesOfTheNewIdentity(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.session(to)
	m := p.seal(to, "one")
	p.send(m)
	l.event(ada, 0, "message", kindIs("message"))

	was := p.jid
	p.newIdentity()
	p.nextKey = 1
	p.enlist()
	if p.jid != was {
		t.Error("another login")
	}
	got := p.ended()
	if last := got[len(got)-1]; last.Tag != "stream:error" {
		t.Fatalf("last stanza: %s", last.Tag)
	}
	l.event(ada, 0, "identity", kindIs("identity"))
	if n := l.partner(matilda).Prekeys; n != 0 {
		t.Errorf("%d one-time prekeys of the old identity", n)
	}
	id := l.say(ada, matilda, "to the new you")
	p.login()
	n := p.messageAfterLogin(id)
	if text := p.open(n).GetConversation(); text != "to the new you" {
		t.Fatalf("text %q", text)
	}
	l.noComplaints()
}

// messageAfterLogin finds a message in what was drained, by logging in again until the queue is seen: the
// queue keeps what is not answered.
func (p *scripted) messageAfterLogin(id string) *binxml.Node {
	p.t.Helper()
	for _, n := range p.login() {
		if n.Tag == "message" && n.Attr("id") == id {
			return n
		}
	}
	p.t.Fatalf("message not in the queue")
	return nil
}

func TestUnenlistedPartnersAreTurnedAwayUntilTheyEnlistAgain(t *testing.T) {
	l := newLab(t)
	p := l.newPartner(matilda).enlist()
	p.login()
	l.post("/v1/partners/unenlist", map[string]any{"to": matilda}, nil)
	got := p.ended()
	if last := got[len(got)-1]; last.Tag != "stream:error" || last.Attr("code") != "401" {
		t.Fatalf("the stream ended with %s %s", last.Tag, last.Attr("code"))
	}
	if n := p.loginAnswer(t, nil); n.Attr("reason") != "401" {
		t.Fatalf("login: %s %s", n.Tag, n.Attr("reason"))
	}
	p.enlist()
	p.login()
	l.noComplaints()
}

func TestWhoStaysAwayForThirtyDaysIsUnenlistedAndTheQueueForgets(t *testing.T) {
	clock := newClock()
	l := newLab(t, func(c *Config) { c.Now = clock.now })
	p := l.newPartner(matilda).enlist()
	l.say(ada, matilda, "soon too old")
	clock.add(29 * 24 * time.Hour)
	edit := func(cp *waWa6.ClientPayload) { cp.InteropData.Token = []byte(p.token(times(clock.since()))) }
	p.dial(false, edit)
	if got := p.drain(); len(got) != 2 {
		t.Fatalf("after 29 days %d stanzas", len(got))
	}
	p.hangUp()
	l.until("the stream's end", func() bool { return !l.partner(matilda).Connected })
	clock.add(2 * 24 * time.Hour)
	p.dial(false, edit)
	if got := p.drain(); len(got) != 0 {
		t.Fatalf("after 31 days %d stanzas", len(got))
	}
	p.hangUp()
	l.until("the stream's end", func() bool { return !l.partner(matilda).Connected })
	clock.add(31 * 24 * time.Hour)
	if n := p.loginAnswer(t, edit); n.Attr("reason") != "401" {
		t.Fatalf("after a month: %s %s", n.Tag, n.Attr("reason"))
	}
}

func TestOtherDialectsAndTheStrictTranscriptWork(t *testing.T) {
	bare, domain := binxml.Dialect245Bare, binxml.Dialect244DomainByte
	for name, edit := range map[string]func(*Config){
		"245-bare both ways":       func(c *Config) { c.Reads, c.Writes = &bare, &bare },
		"244-domain-byte to us":    func(c *Config) { c.Writes = &domain },
		"244-domain-byte from us":  func(c *Config) { c.Reads = &domain },
		"strict Noise":             func(c *Config) { c.Strict = true },
		"phones at s.whatsapp.net": func(c *Config) { c.PhoneServer = "s.whatsapp.net" },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, edit)
			p, to := l.connected()
			if name == "phones at s.whatsapp.net" && to.String() != ada[1:]+"@s.whatsapp.net" {
				t.Errorf("address %s", to)
			}
			p.session(to)
			m := p.seal(to, "hi")
			p.send(m)
			p.want("delivery receipt", isReceipt(m.ID, ""))
			l.say(ada, matilda, "hi yourself")
			p.open(p.want("message", tagIs("message")))
			l.noComplaints()
		})
	}
}

func TestTheOtherTranscriptIsRefused(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Strict = true })
	p := l.newPartner(matilda).enlist()
	conn, err := net.Dial("tcp", strings.TrimPrefix(l.info.ChatTCP, "tcp://"))
	must(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err = noise.Client(ctx, conn, noise.ClientConfig{Static: p.static, RootKey: p.prof.Noise.RootKey, Mode: noise.ModeWhatsApp, Payload: p.payload(nil)})
	if err == nil {
		t.Fatal("the handshake succeeded")
	}
}

func TestClientAddressOfAProxyIsReported(t *testing.T) {
	v4 := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"), 192, 0, 2, 9, 127, 0, 0, 1, 0x12, 0x34, 0x01, 0xbb)
	v6 := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24"), append(append([]byte{0x20, 1, 0xd, 0xb8, 15: 1}, make([]byte, 16)...), 1, 2, 3, 4)...)
	local := []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
	l := newLab(t)
	p := l.newPartner(matilda).enlist()
	for want, head := range map[string][]byte{"192.0.2.9": v4, "2001:db8::1": v6, "": local} {
		p.hangUp()
		conn, err := net.Dial("tcp", strings.TrimPrefix(l.info.ChatTCP, "tcp://"))
		must(t, err)
		p.raw = conn
		_, err = conn.Write(head)
		must(t, err)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		p.handshake(ctx, nil)
		cancel()
		p.drain()
		if got := l.partner(matilda).ClientAddress; got != want {
			t.Errorf("client address %q, want %q", got, want)
		}
	}
	p.hangUp()
	for name, head := range map[string][]byte{"version 1": []byte("\r\n\r\n\x00\r\nQUIT\n\x11\x11\x00\x0c"), "endless": []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff"), "no proxy": []byte("\r\rno")} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(l.info.ChatTCP, "tcp://"))
		must(t, err)
		conn.Write(append(head, make([]byte, 64)...))
		conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("%s: not closed: %v", name, err)
		}
		conn.Close()
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

func TestBytesThatAreNoStanzaEndTheStreamInWords(t *testing.T) {
	l := newLab(t)
	p := l.newPartner(matilda).enlist()
	p.login()
	junk := make([]byte, 40)
	rand.Read(junk)
	junk[0] = 0
	junk[1] = 0xff
	must(t, p.conn.WriteFrame(junk))
	got := p.ended()
	s, err := stanza.Parse(got[len(got)-1])
	must(t, err)
	if e, ok := s.(*stanza.StreamError); !ok || !e.NotWellFormed {
		t.Fatalf("ended with %s", got[len(got)-1].Tag)
	}
	l.complained("cannot be decoded")
	p.login()
}
