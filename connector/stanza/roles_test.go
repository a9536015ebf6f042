package stanza_test

import (
	"errors"
	"reflect"
	"runtime"
	"strconv"
	"testing"
	"time"

	"postern/connector/binxml"
	"postern/connector/jid"
	"postern/connector/stanza"
)

// allocated is how many bytes f allocates, the least of a few runs because other goroutines allocate too.
func allocated(f func()) uint64 {
	least := ^uint64(0)
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}

func TestEveryStanzaIsAcknowledgedAsTheProfileSays(t *testing.T) {
	want := map[string]string{
		"our first message":                          "ack class=message id=3EB0A1 from=<203847561029384@lid>",
		"their queued message with what we tolerate": "ack class=message id=A5 to=<203847561029384@lid>",
		"delivery receipt":                           "ack class=receipt id=A5 from=<203847561029384@lid>",
		"aggregated read receipt":                    "ack class=receipt id=A5 to=<203847561029384@lid> type=read",
		"retry receipt without keys":                 "ack class=receipt id=A5 from=<203847561029384@lid> type=retry",
		"notification of few prekeys":                "ack class=notification id=n1 to=<s.whatsapp.net> type=encrypt",
		"notification of a changed identity":         "ack class=notification id=n1 to=<203847561029384@lid> type=encrypt",
		"notification of a type without meaning":     "ack class=notification id=n1 to=<s.whatsapp.net> type=psa",
	}
	acked := map[stanza.Kind]bool{stanza.KindMessage: true, stanza.KindReceipt: true, stanza.KindNotification: true}
	for _, tc := range stanzas {
		ack, ok := stanza.AckFor(tc.stanza, 0)
		if ok != acked[tc.stanza.Kind()] {
			t.Errorf("%s: acknowledged: %v", tc.name, ok)
		}
		if is, listed := want[tc.name]; listed && (ack == nil || show(ack.Node()) != is) {
			t.Errorf("%s: %+v, want %s", tc.name, ack, is)
		}
		key, owed := stanza.Expects(tc.stanza)
		if ok && (!owed || !key.AnsweredBy(stanza.Answers(ack)[0])) {
			t.Errorf("%s: its ack does not answer it", tc.name)
		}
	}
	nack, ok := stanza.AckFor(find(t, "their queued message with what we tolerate"), stanza.NackUnreadable)
	if !ok || show(nack.Node()) != "ack class=message id=A5 to=<203847561029384@lid> error=491" {
		t.Errorf("nack = %+v", nack)
	}
	if ack, _ := stanza.AckFor(find(t, "aggregated read receipt"), 500); ack.Error != 0 {
		t.Error("a receipt is nacked")
	}
	if _, ok := stanza.AckFor(&stanza.Message{ID: "A"}, 0); ok {
		t.Error("a message from nobody to nobody is acknowledged")
	}
}

func TestAnAnswerIsMatchedByClassIDAndType(t *testing.T) {
	delivery, _ := stanza.Expects(&stanza.Receipt{ID: "A5", To: phone})
	read, _ := stanza.Expects(&stanza.Receipt{ID: "A5", To: phone, Type: "read"})
	message, _ := stanza.Expects(&stanza.Message{ID: "A5", To: phone})
	identity, _ := stanza.Expects(withID(stanza.NewIdentityChange(phone), "A5"))
	reach, _ := stanza.Expects(withID(stanza.NewReachability(stanza.Reach{JID: phone}), "A5"))
	question, _ := stanza.Expects(&stanza.IQ{Type: "get", ID: "A5"})
	owed := map[string]stanza.Key{"delivery": delivery, "read": read, "message": message, "identity": identity, "reach": reach, "iq": question}
	for _, tc := range []struct {
		answer stanza.Stanza
		to     []string
	}{
		{&stanza.Ack{Class: "receipt", ID: "A5"}, []string{"delivery"}},
		{&stanza.Ack{Class: "receipt", ID: "A5", Type: "read"}, []string{"read"}},
		{&stanza.Ack{Class: "message", ID: "A5"}, []string{"message"}},
		{&stanza.Ack{Class: "message", ID: "A5", Type: "text", Error: 491}, []string{"message"}},
		{&stanza.Ack{Class: "message", ID: "B6"}, nil},
		{&stanza.Ack{Class: "notification", ID: "A5", Type: "encrypt"}, []string{"identity"}},
		{&stanza.Ack{Class: "notification", ID: "A5"}, []string{"identity"}},
		{&stanza.Ack{Class: "notification", ID: "A5", Type: "w:interop"}, []string{"reach"}},
		{&stanza.IQ{Type: "result", ID: "A5"}, []string{"iq"}},
		{&stanza.IQ{Type: "error", ID: "A5"}, []string{"iq"}},
		{&stanza.IQ{Type: "get", ID: "A5"}, nil},
		{&stanza.Receipt{ID: "B6", IDs: []string{"B6", "A5"}}, []string{"message"}},
		{&stanza.Receipt{ID: "A5", IDs: []string{"A5"}, Type: "retry"}, nil},
		{&stanza.ChatState{}, nil},
	} {
		settled := map[string]bool{}
		for name, key := range owed {
			for _, got := range stanza.Answers(tc.answer) {
				if key.AnsweredBy(got) {
					settled[name] = true
				}
			}
		}
		want := map[string]bool{}
		for _, name := range tc.to {
			want[name] = true
		}
		if !reflect.DeepEqual(settled, want) {
			t.Errorf("%s answers %v, want %v", show(tc.answer.Node()), settled, want)
		}
	}
	for _, s := range []stanza.Stanza{&stanza.IB{}, &stanza.ChatState{}, &stanza.Ack{Class: "message", ID: "A"}, &stanza.IQ{Type: "result", ID: "A"}} {
		if _, owed := stanza.Expects(s); owed {
			t.Errorf("a %v expects an answer", s.Kind())
		}
	}
}

func TestEachFailureHasTheActionOfTheTable(t *testing.T) {
	for _, tc := range []struct {
		codes  []int
		action stanza.Action
		user   bool
		op     bool
	}{
		{[]int{401}, stanza.ActionReenlist, false, false},
		{[]int{402}, stanza.ActionWait, true, false},
		{[]int{403, 406}, stanza.ActionRefused, true, true},
		{[]int{405}, stanza.ActionRefused, false, true},
		{[]int{413, 414}, stanza.ActionNewToken, false, false},
		{[]int{400, 409, 415, 418, 404, 499, 451}, stanza.ActionRefused, false, true},
		{[]int{500, 501, 503, 599, 1, 200, 302, 600, 100000}, stanza.ActionReconnect, false, false},
	} {
		for _, code := range tc.codes {
			got := (&stanza.Failure{Reason: code}).Remedy()
			if got.Action != tc.action || got.TellUser != tc.user || got.TellOperator != tc.op {
				t.Errorf("failure %d: %v %+v", code, got.Action, got)
			}
		}
	}
	for expire, wait := range map[int64]time.Duration{1: time.Second, 3600: time.Hour, 0: time.Hour, 1 << 40: 365 * 24 * time.Hour} {
		if got := (&stanza.Failure{Reason: 402, Expire: expire}).Remedy().Wait; got != wait {
			t.Errorf("a ban of %d s is %v", expire, got)
		}
	}
	if got := (&stanza.Failure{Reason: 503, Expire: 100}).Remedy().Wait; got != 0 {
		t.Errorf("503 waits %v", got)
	}
}

func TestEachStreamErrorHasTheActionOfTheTable(t *testing.T) {
	for _, tc := range []struct {
		e      stanza.StreamError
		action stanza.Action
		wait   time.Duration
	}{
		{stanza.StreamError{Code: 503}, stanza.ActionReconnect, 0},
		{stanza.StreamError{}, stanza.ActionReconnect, 0},
		{stanza.StreamError{Code: 516, Other: "x"}, stanza.ActionReconnect, 0},
		{stanza.StreamError{Code: 418}, stanza.ActionReconnect, 0},
		{stanza.StreamError{Code: 515}, stanza.ActionReconnectNow, 0},
		{stanza.StreamError{Code: 429}, stanza.ActionReconnectAfter, 5 * time.Minute},
		{stanza.StreamError{Code: 401}, stanza.ActionReenlist, 0},
		{stanza.StreamError{Code: 409}, stanza.ActionReplaced, 0},
		{stanza.StreamError{Conflict: "replaced"}, stanza.ActionReplaced, 0},
		{stanza.StreamError{Code: 401, Conflict: "replaced"}, stanza.ActionReplaced, 0},
		{stanza.StreamError{Code: 401, Conflict: "device_removed"}, stanza.ActionReenlist, 0},
		{stanza.StreamError{Conflict: "something new"}, stanza.ActionReconnect, 0},
		{stanza.StreamError{NotWellFormed: true}, stanza.ActionReconnect, 0},
		{stanza.StreamError{Ack: &stanza.OwedAck{ID: "A"}}, stanza.ActionAnswerFirst, 0},
	} {
		if m := tc.e.Remedy(); m.Action != tc.action || m.Wait != tc.wait || tc.e.Action() != tc.action {
			t.Errorf("%s: %v after %v, want %v", show(tc.e.Node()), m.Action, m.Wait, tc.action)
		}
	}
	names := map[string]bool{}
	for a := stanza.ActionReconnect; a <= stanza.ActionReplaced; a++ {
		names[a.String()] = true
	}
	if len(names) != int(stanza.ActionReplaced)+1 || names["unknown"] || stanza.Action(200).String() != "unknown" {
		t.Errorf("names of actions: %v", names)
	}
}

func TestEachAckHasTheOutcomeOfTheTable(t *testing.T) {
	for code, want := range map[int]stanza.Outcome{
		0: stanza.OutcomeAccepted, 403: stanza.OutcomeBlocked, 404: stanza.OutcomeGone, 463: stanza.OutcomeNotAllowed,
		475: stanza.OutcomeChatCap, 479: stanza.OutcomeInvalid, 400: stanza.OutcomeInvalid, 405: stanza.OutcomeInvalid,
		429: stanza.OutcomeTransient, 500: stanza.OutcomeTransient, 503: stanza.OutcomeTransient, 599: stanza.OutcomeTransient,
		487: stanza.OutcomeUnreadable, 491: stanza.OutcomeUnreadable, 496: stanza.OutcomeUnreadable, 499: stanza.OutcomeUnreadable,
	} {
		got := (&stanza.Ack{Class: "message", Error: code}).Outcome()
		if got != want {
			t.Errorf("error %d is %v, want %v", code, got, want)
		}
		if got.Final() != (want != stanza.OutcomeAccepted && want != stanza.OutcomeTransient) {
			t.Errorf("error %d: final %v", code, got.Final())
		}
	}
	if stanza.OutcomeUnreadable.String() != "unreadable" || stanza.Outcome(99).String() != "unknown" {
		t.Error("names of outcomes are wrong")
	}
}

func TestEveryRequestIsTheIQItShouldBeAndComesBack(t *testing.T) {
	for _, tc := range requests {
		t.Run(tc.name, func(t *testing.T) {
			q, err := tc.request.IQ()
			if err != nil {
				t.Fatal(err)
			}
			q.ID = "7"
			party := "to"
			if (q.From != jid.JID{}) {
				party = "from"
			}
			head, rest := tc.is, ""
			for i, c := range tc.is {
				if c == '(' {
					head, rest = tc.is[:i-1], tc.is[i-1:]
					break
				}
			}
			if got, want := show(q.Node()), "iq "+party+"=<s.whatsapp.net> "+head+" id=7"+rest; got != want {
				t.Errorf("is   %s\nwant %s", got, want)
			}
			s, err := stanza.Parse(wire(t, q.Node()))
			if err != nil {
				t.Fatal(err)
			}
			back, err := stanza.ParseRequest(s.(*stanza.IQ))
			if err != nil || !reflect.DeepEqual(back, tc.request) {
				t.Errorf("came back as %+v, %v", back, err)
			}
		})
	}
}

func TestRequestsThatCannotBeOnTheWireAreNotMade(t *testing.T) {
	many := make([]string, 257)
	for i := range many {
		many[i] = "+" + strconv.Itoa(100000+i)
	}
	nobody := jid.JID{User: "x", Server: jid.LID}
	for name, tc := range map[string]struct {
		request stanza.Request
		want    error
	}{
		"no users":               {&stanza.UsersRequest{}, stanza.ErrCount},
		"257 users":              {&stanza.UsersRequest{ExternalIDs: many}, stanza.ErrCount},
		"no bundles":             {&stanza.KeyRequest{}, stanza.ErrCount},
		"257 bundles":            {&stanza.KeyRequest{Users: make([]jid.JID, 257)}, stanza.ErrCount},
		"bundle of nobody":       {&stanza.KeyRequest{Users: []jid.JID{nobody}}, jid.ErrInvalid},
		"ping of nobody":         {&stanza.ReachRequest{JID: nobody}, jid.ErrInvalid},
		"block of nobody":        {stanza.BlockRequest{BlockChange: stanza.BlockChange{JID: nobody}}, jid.ErrInvalid},
		"key id of four bytes":   {&stanza.Upload{PreKeys: []stanza.PreKey{{ID: 1 << 24}}}, stanza.ErrKey},
		"signed id of four":      {&stanza.Upload{Signed: stanza.SignedPreKey{ID: 1 << 24}}, stanza.ErrKey},
		"rotation to four bytes": {&stanza.Rotate{Signed: stanza.SignedPreKey{ID: 1 << 24}}, stanza.ErrKey},
		"4097 prekeys":           {&stanza.Upload{PreKeys: make([]stanza.PreKey, 4097)}, stanza.ErrCount},
	} {
		if q, err := tc.request.IQ(); !errors.Is(err, tc.want) || q != nil {
			t.Errorf("%s: %v, %v", name, q, err)
		}
	}
	if err := (&stanza.Bundle{Type: 6}).Validate(); !errors.Is(err, stanza.ErrKey) {
		t.Errorf("a bundle of another type: %v", err)
	}
	q := &stanza.IQ{Type: "get", ID: "1"}
	if _, err := stanza.KeyAnswer(q, []stanza.KeyResult{{JID: phone, Bundle: &stanza.Bundle{PreKey: &stanza.PreKey{ID: 1 << 24}}}}); !errors.Is(err, stanza.ErrKey) {
		t.Errorf("an answer with a key id of four bytes: %v", err)
	}
}

func TestUnknownAndMalformedRequestsAreToldApart(t *testing.T) {
	node := func(tag string, children ...binxml.Node) binxml.Node {
		return binxml.Node{Tag: tag, Children: children}
	}
	for name, tc := range map[string]struct {
		q         stanza.IQ
		malformed bool
	}{
		"a result":                      {stanza.IQ{Type: "result"}, false},
		"unknown namespace":             {stanza.IQ{Type: "get", XMLNS: "usync"}, false},
		"no namespace":                  {stanza.IQ{Type: "get"}, false},
		"encrypt get of something else": {stanza.IQ{Type: "get", XMLNS: "encrypt", Children: []binxml.Node{node("digest")}}, false},
		"encrypt set of something else": {stanza.IQ{Type: "set", XMLNS: "encrypt"}, false},
		"interop get of something else": {stanza.IQ{Type: "get", XMLNS: "w:interop", Children: []binxml.Node{node("integrator")}}, false},
		"interop set of something else": {stanza.IQ{Type: "set", XMLNS: "w:interop"}, false},
		"blocklist set of nothing":      {stanza.IQ{Type: "set", XMLNS: "blocklist"}, false},
		"key of nobody":                 {stanza.IQ{Type: "get", XMLNS: "encrypt", Children: []binxml.Node{node("key")}}, true},
		"key without jid":               {stanza.IQ{Type: "get", XMLNS: "encrypt", Children: []binxml.Node{node("key", node("user"))}}, true},
		"users of nobody":               {stanza.IQ{Type: "get", XMLNS: "w:interop", Children: []binxml.Node{node("users")}}, true},
		"user without a number":         {stanza.IQ{Type: "get", XMLNS: "w:interop", Children: []binxml.Node{node("users", node("user"))}}, true},
		"ping of nobody":                {stanza.IQ{Type: "set", XMLNS: "w:interop", Children: []binxml.Node{node("ping")}}, true},
		"ping without jid":              {stanza.IQ{Type: "set", XMLNS: "w:interop", Children: []binxml.Node{node("ping", node("user"))}}, true},
		"upload without keys":           {stanza.IQ{Type: "set", XMLNS: "encrypt", Children: []binxml.Node{node("list")}}, true},
		"rotate to nothing":             {stanza.IQ{Type: "set", XMLNS: "encrypt", Children: []binxml.Node{node("rotate")}}, true},
		"block of nobody":               {stanza.IQ{Type: "set", XMLNS: "blocklist", Children: []binxml.Node{node("item")}}, true},
	} {
		r, err := stanza.ParseRequest(&tc.q)
		if r != nil || errors.Is(err, stanza.ErrMalformed) != tc.malformed || errors.Is(err, stanza.ErrRequest) == tc.malformed {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	users := make([]binxml.Node, 257)
	for i := range users {
		users[i] = binxml.Node{Tag: "user", Attrs: []binxml.Attr{binxml.S("external_id", "+1")}}
	}
	q := &stanza.IQ{Type: "get", XMLNS: "w:interop", Children: []binxml.Node{{Tag: "users", Children: users}}}
	if _, err := stanza.ParseRequest(q); !errors.Is(err, stanza.ErrMalformed) {
		t.Errorf("257 users: %v", err)
	}
	q.Children[0].Children = users[:256]
	if r, err := stanza.ParseRequest(q); err != nil || len(r.(*stanza.UsersRequest).ExternalIDs) != 256 {
		t.Errorf("256 users: %v", err)
	}
}

// answered sends an answer over the wire.
func answered(t *testing.T, q *stanza.IQ) *stanza.IQ {
	t.Helper()
	s, err := stanza.Parse(wire(t, q.Node()))
	if err != nil {
		t.Fatal(err)
	}
	return s.(*stanza.IQ)
}

func TestAnswersComeBack(t *testing.T) {
	q := &stanza.IQ{Type: "get", ID: "7", To: jid.ServerJID}
	if left, err := stanza.ParseCount(answered(t, stanza.CountAnswer(q, 42))); left != 42 || err != nil {
		t.Errorf("ParseCount = %d, %v", left, err)
	}
	if err := stanza.ParseEmpty(answered(t, q.Result())); err != nil {
		t.Errorf("ParseEmpty: %v", err)
	}
	blocked := []jid.JID{phone, partner}
	if got, err := stanza.ParseBlocklist(answered(t, stanza.BlocklistAnswer(q, blocked))); err != nil || !reflect.DeepEqual(got, blocked) {
		t.Errorf("ParseBlocklist = %v, %v", got, err)
	}
	users := []stanza.UserResult{{ExternalID: "+4915112345678", Normalized: "4915112345678", JID: phone},
		{ExternalID: "+33612345678", Err: &stanza.IQError{Code: 404}}}
	a := stanza.UsersAnswer(q, users)
	if want := "iq from=<s.whatsapp.net> type=result id=7 (users (user external_id=+4915112345678" +
		" normalized_external_id=4915112345678 jid=<203847561029384@lid>) (user external_id=+33612345678 (error code=404)))"; show(a.Node()) != want {
		t.Errorf("is   %s\nwant %s", show(a.Node()), want)
	}
	if got, err := stanza.ParseUsers(answered(t, a)); err != nil || !reflect.DeepEqual(got, users) {
		t.Errorf("ParseUsers = %v, %v", got, err)
	}
}

func TestBundlesComeBackAndOneBadUserHarmsNoOther(t *testing.T) {
	q := &stanza.IQ{Type: "get", ID: "7", To: jid.ServerJID}
	bundle := stanza.Bundle{RegistrationID: 9, Type: 5, Identity: key32(1), PreKey: &stanza.PreKey{ID: 2, Key: key32(3)},
		Signed: stanza.SignedPreKey{ID: 4, Key: key32(5), Signature: signature(6)}}
	without := bundle
	without.PreKey = nil
	second := jid.JID{User: "22", Server: jid.LID}
	third := jid.JID{User: "33", Server: jid.LID}
	a, err := stanza.KeyAnswer(q, []stanza.KeyResult{{JID: phone, Bundle: &bundle}, {JID: second, Err: stanza.NewIQError(403)},
		{JID: third, Bundle: &without}, {JID: partner}, {JID: partner.Bare(), Err: errors.New("inner")}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := stanza.ParseKeys(answered(t, a))
	want := []stanza.KeyResult{{JID: phone, Bundle: &bundle}, {JID: second, Err: stanza.NewIQError(403)},
		{JID: third, Bundle: &without}, {JID: partner, Err: stanza.NewIQError(404)}, {JID: partner, Err: stanza.NewIQError(500)}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("ParseKeys = %+v, %v", got, err)
	}
	identity := a.Children[0].Children[0].Children[2]
	if identity.Tag != "identity" {
		t.Fatalf("third part of a bundle is %s", identity.Tag)
	}
	a.Children[0].Children[0].Children[2].Data = []byte("short")
	got, err = stanza.ParseKeys(answered(t, a))
	if err != nil || len(got) != 5 {
		t.Fatalf("ParseKeys = %v, %v", got, err)
	}
	if !errors.Is(got[0].Err, stanza.ErrMalformed) || got[0].Bundle != nil || got[0].JID != phone {
		t.Errorf("the malformed bundle is %+v", got[0])
	}
	if !reflect.DeepEqual(got[1:], want[1:]) {
		t.Error("another user's bundle was harmed")
	}
}

func TestARefusalOrRubbishIsNotReadAsAnAnswer(t *testing.T) {
	q := &stanza.IQ{Type: "get", ID: "7", To: jid.ServerJID}
	parsers := map[string]func(*stanza.IQ) error{
		"count":     func(q *stanza.IQ) error { _, err := stanza.ParseCount(q); return err },
		"keys":      func(q *stanza.IQ) error { _, err := stanza.ParseKeys(q); return err },
		"users":     func(q *stanza.IQ) error { _, err := stanza.ParseUsers(q); return err },
		"blocklist": func(q *stanza.IQ) error { _, err := stanza.ParseBlocklist(q); return err },
		"empty":     stanza.ParseEmpty,
	}
	for name, parse := range parsers {
		var refusal *stanza.IQError
		if err := parse(answered(t, q.Fail(429))); !errors.As(err, &refusal) || refusal.Code != 429 || !refusal.Transient() ||
			refusal.Text != "rate-overlimit" {
			t.Errorf("%s refused: %v", name, err)
		}
		if err := parse(q); !errors.Is(err, stanza.ErrMalformed) {
			t.Errorf("%s from a question: %v", name, err)
		}
		if err := parse(q.Result()); (err == nil) != (name == "empty") {
			t.Errorf("%s from nothing: %v", name, err)
		}
		for _, tag := range []string{"list", "users", "count"} {
			for _, inner := range []string{"user", "item"} {
				rubbish := q.Result(binxml.Node{Tag: tag, Children: []binxml.Node{{Tag: inner}}})
				if err := parse(rubbish); name == tag && !errors.Is(err, stanza.ErrMalformed) && inner == "user" {
					t.Errorf("%s from %s of %s: %v", name, tag, inner, err)
				}
			}
		}
	}
	for code, transient := range map[int]bool{400: false, 403: false, 404: false, 406: false, 429: true, 500: true, 501: false, 503: true} {
		if stanza.NewIQError(code).Transient() != transient {
			t.Errorf("iq error %d: transient is not %v", code, transient)
		}
	}
	if msg := (&stanza.IQError{Code: 404, Text: "secret"}).Error(); msg != "iq refused: code 404" {
		t.Errorf("text of an iq error: %q", msg)
	}
}
