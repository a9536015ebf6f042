package stanza_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"postern/connector/binxml"
	"postern/connector/jid"
	"postern/connector/stanza"
)

// wire sends an element through the codec, as it would arrive.
func wire(t testing.TB, n *binxml.Node) *binxml.Node {
	t.Helper()
	frame, err := binxml.Codec{}.Append(nil, n)
	if err != nil {
		t.Fatalf("Append: %v", err)
	}
	back, err := binxml.Codec{}.Decode(frame)
	if err != nil {
		t.Fatalf("Decode: %v", err)
	}
	return back
}

func TestEveryStanzaIsTheElementItShouldBeAndComesBack(t *testing.T) {
	kinds := map[stanza.Kind]bool{}
	for _, tc := range stanzas {
		t.Run(tc.name, func(t *testing.T) {
			if got := show(tc.stanza.Node()); got != tc.is {
				t.Errorf("is   %s\nwant %s", got, tc.is)
			}
			back, err := stanza.Parse(wire(t, tc.stanza.Node()))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(back, tc.stanza) {
				t.Errorf("came back as %+v", back)
			}
			if back.Kind() != stanza.KindUnknown && back.Kind().String() != back.Node().Tag {
				t.Errorf("kind %v of a %s", back.Kind(), back.Node().Tag)
			}
			kinds[back.Kind()] = true
		})
	}
	for k := stanza.KindUnknown; k <= stanza.KindStreamEnd; k++ {
		if !kinds[k] {
			t.Errorf("no %v in the table", k)
		}
	}
}

// asText turns every JID-typed attribute into its text form (PROTOCOL.md 4.9).
func asText(n *binxml.Node) {
	for i := range n.Attrs {
		if a := &n.Attrs[i]; !a.JID.IsZero() {
			*a = binxml.S(a.Key, a.JID.String())
		}
	}
	for i := range n.Children {
		asText(&n.Children[i])
	}
}

func TestAddressesInTextFormAreReadToo(t *testing.T) {
	for _, tc := range stanzas {
		switch s := tc.stanza.(type) {
		case *stanza.Unknown:
			continue
		case *stanza.IQ:
			s.Node() // addresses in raw children stay as they came
		}
		n := wire(t, tc.stanza.Node())
		asText(n)
		back, err := stanza.Parse(wire(t, n))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if o, ok := back.(*stanza.Notification); ok {
			want := tc.stanza.(*stanza.Notification)
			reach, is := want.Reachability()
			if got, ok := o.Reachability(); got != reach || ok != is || !reflect.DeepEqual(o.BlockChanges(), want.BlockChanges()) {
				t.Errorf("%s: content is not the same", tc.name)
			}
			o.Children = want.Children
		}
		if !reflect.DeepEqual(back, tc.stanza) {
			t.Errorf("%s: came back as %+v", tc.name, back)
		}
	}
}

// change makes a copy of an element with one attribute or part of its content changed; path is "enc/type" for an
// attribute of a child, value nil to remove it.
func change(n *binxml.Node, path string, value *string) *binxml.Node {
	out := *n
	tag, rest, deeper := strings.Cut(path, "/")
	if deeper {
		out.Children = append([]binxml.Node(nil), n.Children...)
		for i := range out.Children {
			if out.Children[i].Tag == tag {
				out.Children[i] = *change(&out.Children[i], rest, value)
			}
		}
		return &out
	}
	if tag == "*" { // the content
		out.Data, out.Children = nil, nil
		if value != nil {
			out.Data = []byte(*value)
		}
		return &out
	}
	out.Attrs = nil
	for _, a := range n.Attrs {
		if a.Key != tag {
			out.Attrs = append(out.Attrs, a)
		} else if value != nil {
			out.Attrs = append(out.Attrs, binxml.S(tag, *value))
		}
	}
	return &out
}

func text(s string) *string { return &s }

func TestAMalformedStanzaIsATypedErrorThatNamesTheField(t *testing.T) {
	long := strings.Repeat("A", 300)
	for _, tc := range []struct {
		stanza string // name in the table
		path   string
		value  *string
		field  string
	}{
		{"our first message", "id", nil, "id"},
		{"our first message", "id", text(""), "id"},
		{"our first message", "id", text("a b"), "id"},
		{"our first message", "id", text("a\x00b"), "id"},
		{"our first message", "id", text("ä"), "id"},
		{"our first message", "id", &long, "id"},
		{"our first message", "to", nil, "from"},
		{"our first message", "to", text("nobody"), "to"},
		{"our first message", "to", text("1-05@interop"), "to"},
		{"our first message", "type", &long, "type"},
		{"our first message", "*", nil, "enc"},
		{"our first message", "enc/type", nil, "enc/type"},
		{"our first message", "enc/type", text("skmsg"), "enc/type"},
		{"our first message", "enc/v", nil, "enc/v"},
		{"our first message", "enc/v", text("-2"), "enc/v"},
		{"our first message", "enc/v", text("two"), "enc/v"},
		{"our first message", "enc/*", nil, "enc"},
		{"our first message", "enc/*", text(""), "enc"},
		{"our answer to a retry receipt", "enc/count", text("99999999999"), "enc/count"},
		{"their queued message with what we tolerate", "from", text(""), "from"},
		{"their queued message with what we tolerate", "t", text("soon"), "t"},
		{"their queued message with what we tolerate", "t", text("-1"), "t"},
		{"their queued message with what we tolerate", "t", text("18446744073709551615"), "t"},
		{"their queued message with what we tolerate", "offline", text("1.5"), "offline"},
		{"their queued message with what we tolerate", "sts", text("a b"), "sts"},
		{"delivery receipt", "id", nil, "id"},
		{"delivery receipt", "to", nil, "from"},
		{"aggregated read receipt", "list/item/id", nil, "list/item/id"},
		{"aggregated read receipt", "list/item/id", text("\n"), "list/item/id"},
		{"retry receipt without keys", "*", nil, "retry"},
		{"retry receipt without keys", "retry/count", nil, "retry/count"},
		{"retry receipt without keys", "retry/count", text("0"), "retry/count"},
		{"retry receipt without keys", "retry/id", nil, "retry/id"},
		{"retry receipt without keys", "registration/*", text("abc"), "registration"},
		{"retry receipt with keys and a reason", "keys/*", nil, "keys/type"},
		{"retry receipt with keys and a reason", "keys/type/*", text("\x06"), "keys/type"},
		{"retry receipt with keys and a reason", "keys/identity/*", text("short"), "keys/identity"},
		{"retry receipt with keys and a reason", "keys/identity/*", text("\x05" + strings.Repeat("i", 32)), "keys/identity"},
		{"retry receipt with keys and a reason", "keys/key/*", nil, "keys/key/id"},
		{"retry receipt with keys and a reason", "keys/key/id/*", text("\x00\x00\x00\x01"), "keys/key/id"},
		{"retry receipt with keys and a reason", "keys/key/value/*", nil, "keys/key/value"},
		{"retry receipt with keys and a reason", "keys/skey/signature/*", text("short"), "keys/skey/signature"},
		{"ack of our message", "class", nil, "class"},
		{"ack of our message", "id", nil, "id"},
		{"ack of our message", "from", text("@"), "from"},
		{"a phone's nack, passed on", "error", text("none"), "error"},
		{"iq get", "type", nil, "type"},
		{"iq get", "type", text("got"), "type"},
		{"iq get", "type", text("error"), "error"},
		{"iq get", "id", nil, "id"},
		{"iq error", "error/code", nil, "error/code"},
		{"iq error", "error/code", text("1000"), "error/code"},
		{"iq error", "*", nil, "error"},
		{"notification of few prekeys", "id", nil, "id"},
		{"notification of few prekeys", "from", nil, "from"},
		{"notification of few prekeys", "count/value", nil, "count/value"},
		{"notification of few prekeys", "count/value", text("-1"), "count/value"},
		{"notification of reachability", "reachability/jid", nil, "reachability/jid"},
		{"notification of reachability", "reachability/state", text("maybe"), "reachability/state"},
		{"notification of a blocked user", "blocklist/item/action", text("like"), "blocklist/item/action"},
		{"notification of a blocked user", "blocklist/item/jid", nil, "blocklist/item/jid"},
		{"typing", "to", nil, "from"},
		{"typing", "*", nil, ""},
		{"recording", "composing/media", &long, "composing/media"},
		{"announcement of the queue", "offline_preview/message", text("x"), "offline_preview/message"},
		{"end of the queue", "offline/count", text("x"), "offline/count"},
		{"success", "lid", text("me"), "lid"},
		{"success", "t", text("now"), "t"},
		{"failure by ban", "reason", nil, "reason"},
		{"failure by ban", "expire", text("never"), "expire"},
		{"stream error with a code", "code", text("x"), "code"},
		{"stream error of an owed ack", "ack/id", nil, "ack/id"},
	} {
		t.Run(tc.stanza+" "+tc.path, func(t *testing.T) {
			n := change(find(t, tc.stanza).Node(), tc.path, tc.value)
			s, err := stanza.Parse(wire(t, n))
			var e *stanza.ParseError
			if !errors.As(err, &e) || !errors.Is(err, stanza.ErrMalformed) {
				t.Fatalf("Parse = %v, %v", s, err)
			}
			if s != nil {
				t.Error("a stanza came with the error")
			}
			if e.Field != tc.field || e.Kind.String() != n.Tag {
				t.Errorf("field %q of a %v, want %q of a %s", e.Field, e.Kind, tc.field, n.Tag)
			}
			for _, secret := range []string{partner.User, phone.User, long, "nobody", "3EB0A1"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error text %q has content in it", err)
				}
			}
		})
	}
}

func find(t testing.TB, name string) stanza.Stanza {
	t.Helper()
	for _, tc := range stanzas {
		if tc.name == name {
			return tc.stanza
		}
	}
	t.Fatalf("no %q in the table", name)
	return nil
}

func TestAMessageWithSeveralCiphertextsIsMalformed(t *testing.T) {
	n := find(t, "our first message").Node()
	n.Children = append(n.Children, n.Children[0])
	if _, err := stanza.Parse(n); !errors.Is(err, stanza.ErrMalformed) {
		t.Errorf("Parse: %v", err)
	}
	n.Children = []binxml.Node{{Tag: "meta"}, n.Children[0], {Tag: "reporting"}}
	if _, err := stanza.Parse(n); err != nil {
		t.Errorf("other children beside one ciphertext: %v", err)
	}
}

func TestNothingIsParsedFromNothing(t *testing.T) {
	if s, err := stanza.Parse(nil); s != nil || !errors.Is(err, stanza.ErrMalformed) {
		t.Errorf("Parse(nil) = %v, %v", s, err)
	}
	for _, tc := range stanzas {
		s, err := stanza.Parse(&binxml.Node{Tag: tc.stanza.Node().Tag})
		if (s == nil) == (err == nil) {
			t.Errorf("%s without anything: %v, %v", tc.stanza.Node().Tag, s, err)
		}
	}
}

func TestReceiptsTakeTheUnionOfTheirIDs(t *testing.T) {
	item := func(id string) binxml.Node { return binxml.Node{Tag: "item", Attrs: []binxml.Attr{binxml.S("id", id)}} }
	n := (&stanza.Receipt{ID: "A", From: phone, Type: "read"}).Node()
	n.Children = []binxml.Node{{Tag: "list", Children: []binxml.Node{item("B"), item("A"), {Tag: "other"}, item("C"), item("B")}}}
	s, err := stanza.Parse(n)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.(*stanza.Receipt).IDs; !reflect.DeepEqual(got, []string{"A", "B", "C"}) {
		t.Errorf("IDs = %q", got)
	}
}

func TestADisplayNameNeverHarms(t *testing.T) {
	for name, want := range map[string]string{
		"Ada":                          "Ada",
		"Ada\x00 \x1b[31mLovelace\n":   "Ada [31mLovelace",
		"a\xffb":                       "a\uFFFDb",
		"\u0085x\x7f":                  "x",
		"漢字 😀":                         "漢字 😀",
		strings.Repeat("x", 513):       strings.Repeat("x", 512),
		strings.Repeat("é", 300):       strings.Repeat("é", 256),
		"x" + strings.Repeat("漢", 200): "x" + strings.Repeat("漢", 170),
		strings.Repeat("\xff ", 512):   strings.Repeat("\uFFFD ", 128),
	} {
		n := change(find(t, "their queued message with what we tolerate").Node(), "notify", &name)
		s, err := stanza.Parse(wire(t, n))
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		got := s.(*stanza.Message).Notify
		if got != want {
			t.Errorf("%.40q became %.40q", name, got)
		}
		if !utf8.ValidString(got) || len(got) > stanza.MaxName {
			t.Errorf("%q is not a harmless name", got)
		}
	}
}

func TestAMalformedStanzaCanBeAcknowledgedSoThatItDoesNotComeAgain(t *testing.T) {
	for _, tc := range []struct {
		stanza, path string
		value        *string
		want         string // "" for no ack
	}{
		{"their queued message with what we tolerate", "enc/type", nil, "ack class=message id=A5 to=<203847561029384@lid> error=487"},
		{"our first message", "enc/type", nil, "ack class=message id=3EB0A1 from=<203847561029384@lid> error=487"},
		{"aggregated read receipt", "list/item/id", nil, "ack class=receipt id=A5 to=<203847561029384@lid> type=read"},
		{"aggregated read receipt", "type", text("a b"), "ack class=receipt id=A5 to=<203847561029384@lid>"},
		{"notification of reachability", "reachability/state", nil, "ack class=notification id=n1 to=<s.whatsapp.net> type=w:interop"},
		{"their queued message with what we tolerate", "id", nil, ""},
		{"their queued message with what we tolerate", "from", nil, ""},
		{"their queued message with what we tolerate", "from", text("x"), ""},
		{"typing", "*", nil, ""},
		{"ack of our message", "class", nil, ""},
		{"iq get", "type", nil, ""},
		{"failure by ban", "reason", nil, ""},
	} {
		_, err := stanza.Parse(wire(t, change(find(t, tc.stanza).Node(), tc.path, tc.value)))
		var e *stanza.ParseError
		if !errors.As(err, &e) {
			t.Fatalf("%s %s: %v", tc.stanza, tc.path, err)
		}
		ack, ok := e.Ack(stanza.NackParse)
		if ok != (tc.want != "") || ok && show(ack.Node()) != tc.want {
			t.Errorf("%s without %s: %v, %+v", tc.stanza, tc.path, ok, ack)
		}
	}
	_, err := stanza.Parse(change(find(t, "iq get").Node(), "type", text("got")))
	var e *stanza.ParseError
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	if q, ok := e.Answer(400); !ok || show(q.Node()) != "iq from=<s.whatsapp.net> type=error id=1 (error code=400 text=bad-request)" {
		t.Errorf("Answer = %v, %v", q, ok)
	}
	_, err = stanza.Parse(change(find(t, "iq error").Node(), "*", nil))
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	if _, ok := e.Answer(400); ok {
		t.Error("a malformed answer is answered")
	}
	if _, ok := (&stanza.ParseError{}).Ack(0); ok {
		t.Error("an error without a stanza is acknowledged")
	}
}

// Every byte of every stanza's frame is tampered with: whatever still decodes is a stanza or a typed error.
func TestATamperedStanzaIsAStanzaOrATypedError(t *testing.T) {
	parsed, refused := 0, 0
	for _, tc := range stanzas {
		frame, err := binxml.Codec{}.Append(nil, tc.stanza.Node())
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(frame); i++ {
			for delta := 1; delta < 256; delta += 17 {
				tampered := bytes.Clone(frame)
				tampered[i] += byte(delta)
				if n, err := (binxml.Codec{}).Decode(tampered); err == nil {
					if check(t, n) {
						parsed++
					} else {
						refused++
					}
				}
			}
		}
	}
	if parsed < 1000 || refused < 1000 {
		t.Errorf("%d parsed, %d refused", parsed, refused)
	}
}

// check parses an element as both roles would and uses all of the result; what it builds must read the same again.
func check(t testing.TB, n *binxml.Node) bool {
	t.Helper()
	s, err := stanza.Parse(n)
	if err != nil {
		var e *stanza.ParseError
		if !errors.As(err, &e) || s != nil {
			t.Errorf("%s: %v, %v", show(n), s, err)
			return false
		}
		e.Ack(stanza.NackParse)
		e.Answer(400)
		return false
	}
	built := s.Node()
	again, err := stanza.Parse(wire(t, built))
	if err != nil || show(again.Node()) != show(built) {
		t.Errorf("%s builds %s, which reads as %v, %v", show(n), show(built), again, err)
		return true
	}
	if ack, ok := stanza.AckFor(s, 0); ok {
		if key, owed := stanza.Expects(s); !owed || !key.AnsweredBy(stanza.Answers(ack)[0]) {
			t.Errorf("%s is not answered by %s", show(n), show(ack.Node()))
		}
	}
	use(s)
	return true
}

func use(s stanza.Stanza) {
	stanza.Answers(s)
	switch s := s.(type) {
	case *stanza.IQ:
		_, _ = stanza.ParseRequest(s)
		_, _ = stanza.ParseCount(s)
		_, _ = stanza.ParseKeys(s)
		_, _ = stanza.ParseUsers(s)
		_, _ = stanza.ParseBlocklist(s)
		_ = stanza.ParseEmpty(s)
	case *stanza.Notification:
		s.PreKeyCount()
		s.IdentityChanged()
		s.Reachability()
		s.BlockChanges()
	case *stanza.Failure:
		s.Remedy()
	case *stanza.StreamError:
		s.Remedy()
	case *stanza.Ack:
		_ = s.Outcome().String()
	}
}

func TestNotificationsAreReadByTheMethodOfTheirTypeAlone(t *testing.T) {
	for name, o := range map[string]*stanza.Notification{
		"count": stanza.NewPreKeyCount(9), "identity": stanza.NewIdentityChange(phone),
		"reachability": stanza.NewReachability(stanza.Reach{JID: phone, State: stanza.ReachOff}),
		"blocklist":    stanza.NewBlockChanges(stanza.BlockChange{JID: phone, Block: true}),
		"another type": {Type: "psa", Children: []binxml.Node{{Tag: "count"}, {Tag: "identity"}, {Tag: "reachability"}, {Tag: "blocklist"}}},
	} {
		left, isCount := o.PreKeyCount()
		reach, isReach := o.Reachability()
		blocks := o.BlockChanges()
		if isCount != (name == "count") || isCount && left != 9 {
			t.Errorf("%s: PreKeyCount = %d, %v", name, left, isCount)
		}
		if o.IdentityChanged() != (name == "identity") {
			t.Errorf("%s: IdentityChanged is wrong", name)
		}
		if isReach != (name == "reachability") || isReach && reach != (stanza.Reach{JID: phone, State: "off"}) {
			t.Errorf("%s: Reachability = %v, %v", name, reach, isReach)
		}
		if (len(blocks) == 1) != (name == "blocklist") {
			t.Errorf("%s: BlockChanges = %v", name, blocks)
		}
	}
}

// FuzzParse checks that whatever a frame decodes to is parsed or refused with a typed error, and that what is built
// from it reads the same.
//
// decoder: stanza.go:Parse,ParseError.Ack,ParseError.Answer,answer.ack ack.go:parseAck,AckFor,Expects,Answers,Key.AnsweredBy
// decoder: answers.go:result,reader.done,ParseEmpty,ParseCount,ParseKeys,ParseUsers,ParseBlocklist
// decoder: bundle.go:Bundle.Validate,Bundle.parseUser,Bundle.parseKeys,parseKeyType,PreKey.parse,SignedPreKey.parse
// decoder: ib.go:parseChatState,parseIB iq.go:parseIQError,IQ.child,parseIQ message.go:parseMessage,Enc.parse
// decoder: notification.go:parseNotification,Notification.content,Notification.PreKeyCount,Notification.IdentityChanged
// decoder: notification.go:Notification.Reachability,Notification.BlockChanges,countValue,reachability,blockChanges,blockChange
// decoder: reader.go:reader.fail,reader.id,isID,isWord,printable,reader.word,reader.name,cleanName,reader.jid,reader.optionalJID
// decoder: reader.go:reader.parties,reader.number,reader.t,reader.int,reader.optionalInt,reader.sub,reader.each,reader.bytesOf,reader.uintOf
// decoder: receipt.go:parseReceipt,unique,parseRetry stream.go:parseSuccess,parseFailure,parseStreamError
// decoder: request.go:ParseRequest,parseEncryptGet,parseEncryptSet,parseUsersRequest,parseInteropSet,parseBlockRequest
func FuzzParse(f *testing.F) {
	m := maker{rand.New(rand.NewPCG(7, 8))}
	q := &stanza.IQ{Type: "get", ID: "7", To: jid.ServerJID}
	keys, err := stanza.KeyAnswer(q, []stanza.KeyResult{{JID: phone, Bundle: m.bundle()}, {JID: partner, Err: stanza.NewIQError(404)}})
	if err != nil {
		f.Fatal(err)
	}
	whole := []*binxml.Node{keys.Node(), stanza.CountAnswer(q, 3).Node(), stanza.BlocklistAnswer(q, []jid.JID{phone}).Node(),
		stanza.UsersAnswer(q, []stanza.UserResult{{ExternalID: "+49", Normalized: "49", JID: phone}, {ExternalID: "+33", Err: stanza.NewIQError(403)}}).Node()}
	for _, tc := range stanzas {
		whole = append(whole, tc.stanza.Node())
	}
	for _, tc := range requests {
		r, err := tc.request.IQ()
		if err != nil {
			f.Fatal(err)
		}
		r.ID = "1"
		whole = append(whole, r.Node())
	}
	for _, n := range whole {
		add := func() {
			frame, err := binxml.Codec{}.Append(nil, n)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(frame)
		}
		add()
		without(n, add)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		n, err := binxml.Codec{}.Decode(frame)
		if err != nil {
			return
		}
		var s stanza.Stanza
		spent := allocated(func() { s, err = stanza.Parse(n) })
		if bound := uint64(64<<10 + 64*len(frame)); spent > bound && frame[0]&2 == 0 {
			t.Errorf("%d bytes allocated for a frame of %d: %v, %v", spent, len(frame), s, err)
		}
		check(t, n)
	})
}
