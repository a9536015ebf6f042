package connector

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/bridgev2"
	frameworkdb "maunium.net/go/mautrix/bridgev2/database"
	"maunium.net/go/mautrix/bridgev2/networkid"
	"maunium.net/go/mautrix/bridgev2/status"
	"maunium.net/go/mautrix/event"

	"postern/connector/convert"
	"postern/connector/interop"
	"postern/connector/profile"
	"postern/connector/words"
)

func TestIDsAreOpaqueAndNeverMeetEachOther(t *testing.T) {
	wa, msgr := profile.WhatsApp(), profile.Messenger()
	if wa.Prefix == msgr.Prefix {
		t.Fatal("two gatekeepers with one prefix")
	}
	if got, ok := contactOf(wa, ghostID(wa, "abc")); !ok || got != "abc" {
		t.Errorf("contact of a ghost: %q %v", got, ok)
	}
	for name, id := range map[string]networkid.UserID{
		"the other gatekeeper's": ghostID(msgr, "abc"), "the login's own": selfID(wa, "abc"), "nobody's": networkid.UserID(wa.Prefix + "-"), "empty": "",
	} {
		if got, ok := contactOf(wa, id); ok {
			t.Errorf("%s ghost is taken for contact %q", name, got)
		}
	}
	if incomingID("chat", "X") == outgoingID("chat", "X") || incomingID("chat", "X") == incomingID("other", "X") {
		t.Error("messages of two chats or directions have one id")
	}
	c := New()
	if !c.ValidateUserID(ghostID(msgr, "abc")) || c.ValidateUserID("someone") {
		t.Error("shape of ghost ids")
	}
}

func TestOnlyTheWordItselfIsAnAgreement(t *testing.T) {
	for answer, want := range map[string]bool{
		"agree": true, " agree\n": true, "agree without read receipts": true, "agree without": false, "Agree": true, "yes": false, "": false, "einverstanden": true, "einverstanden ohne Lesebestätigungen": true, "Einverstanden": true, "I agree": false, "agree not": false,
	} {
		if _, err := validAnswer(words.For("de"), answer); (err == nil) != want {
			t.Errorf("%q: %v", answer, err)
		}
	}
}

func TestTheExplanationSaysWhatAPersonHasToKnow(t *testing.T) {
	text := New().consentText(words.For("en"), profile.WhatsApp(), "alice")
	for _, part := range []string{"encrypted", "not end-to-end", "Whoever runs the bridge could read", "WhatsApp and its owner learn", "**alice**", "What does not work", "logout"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in it", part)
		}
	}
	if strings.Contains(text, "{") {
		t.Error("a placeholder was left")
	}
	notice := boundary(words.For("en"), profile.WhatsApp())
	if !strings.Contains(notice, "encrypted") || !strings.Contains(notice, "not end-to-end") || !strings.Contains(notice, "WhatsApp learns") {
		t.Errorf("notice is %q", notice)
	}
}

func TestAServiceWhoseMessagesCannotBeCarriedSaysSoEverywhere(t *testing.T) {
	for _, p := range profile.All() {
		warned := p.Message.Payload != profile.PayloadE2E
		for what, text := range map[string]string{"the explanation": New().consentText(words.For("en"), p, "alice"), "the notice": boundary(words.For("en"), p)} {
			if strings.Contains(text, "cannot read or write "+p.DisplayName+"'s messages") != warned {
				t.Errorf("%s for %s: %q", what, p.Name, text)
			}
		}
		c := &client{profile: p, connector: New(), log: new(zerolog.Nop())}
		if empty := len(c.GetCapabilities(t.Context(), nil).Formatting) == 0; empty != warned {
			t.Errorf("%s: formatting is offered: %v", p.Name, !empty)
		}
		if !warned {
			continue
		}
		_, err := c.HandleMatrixMessage(t.Context(), &bridgev2.MatrixMessage{})
		var said bridgev2.MessageStatus
		if !errors.As(err, &said) || !strings.Contains(said.Message, p.DisplayName) || !said.SendNotice {
			t.Errorf("%s: a message is answered with %v", p.Name, err)
		}
	}
}

func TestPhoneNumbersAndTitlesAreTakenApart(t *testing.T) {
	for _, c := range []struct{ in, phone, title string }{
		{"+4915123456789", "+4915123456789", ""},
		{"+49 (151) 234-567.89", "+4915123456789", ""},
		{" +49 151 23456789  Ben Müller ", "+4915123456789", "Ben Müller"},
		{"+4915123456789 Ben 2", "+4915123456789", "Ben 2"},
		{"4915123456789", "", ""},
		{"015123456789", "", ""},
		{"+0151234567", "", ""},
		{"+491", "", ""},
		{"+1234567890123456", "", ""},
		{"Ben", "", ""},
		{"", "", ""},
	} {
		phone, title, err := parseStart(words.For("en"), c.in)
		if phone != c.phone || title != c.title || (err == nil) != (c.phone != "") {
			t.Errorf("%q: %q %q %v", c.in, phone, title, err)
		}
	}
}

func TestNamesFromOutsideAreFitToShow(t *testing.T) {
	for in, want := range map[string]string{
		"Ben":                          "Ben",
		"  Ben \n\t Müller ":           "Ben Müller",
		"\u202eneB\u202c":              "neB",
		"👩\u200d🚀":                     "👩\u200d🚀",
		"a\x00b":                       "a b",
		"\xff\xfe":                     "",
		strings.Repeat("ä", maxName+1): strings.Repeat("ä", maxName-1) + "…",
		"\u200b\u200e":                 "",
	} {
		if got := cleanName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// boundedAllocation fails if f allocates more than bound bytes. Other goroutines are counted too, so a figure that is too
// high is measured again.
func boundedAllocation(t *testing.T, bound int, f func()) {
	t.Helper()
	var used uint64
	for range 5 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		if used = after.TotalAlloc - before.TotalAlloc; used <= uint64(bound) {
			return
		}
	}
	t.Errorf("%d bytes allocated, the bound is %d", used, bound)
}

// FuzzNamesFromOutside cleans any name: the result is valid text on one line, without marks that turn it round, not longer
// than allowed, and clean; what is allocated is bounded by 64 KiB and 64 bytes for each byte.
//
// decoder: chats.go:cleanName
func FuzzNamesFromOutside(f *testing.F) {
	f.Add("Ben")
	f.Add("\xff\u202e\n")
	f.Add(strings.Repeat("ä", maxName+1))
	f.Fuzz(func(t *testing.T, name string) {
		var got string
		boundedAllocation(t, 64<<10+64*len(name), func() { got = cleanName(name) })
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > maxName || strings.ContainsAny(got, "\n\r\x00\u202e") || got != cleanName(got) {
			t.Errorf("%q became %q", name, got)
		}
	})
}

// FuzzWhatFollowsStartChat reads any words as a phone number and a title. An accepted number is a plus and 6 to 15 digits;
// what is allocated is bounded by 64 KiB and 64 bytes for each byte.
//
// decoder: startchat.go:parseStart config.go:digits
func FuzzWhatFollowsStartChat(f *testing.F) {
	f.Add("+49 151 2345678 Ben")
	f.Add("4915112345678")
	f.Add("+491")
	f.Add("+0151234567")
	english := words.For("en")
	f.Fuzz(func(t *testing.T, in string) {
		var phone string
		var err error
		boundedAllocation(t, 64<<10+64*len(in), func() { phone, _, err = parseStart(english, in) })
		if err == nil && (len(phone) < 7 || len(phone) > 16 || phone[0] != '+' || digits(phone) != phone[1:]) {
			t.Errorf("%q gives number %q", in, phone)
		}
	})
}

func TestEveryReasonForAFailureHasWords(t *testing.T) {
	general := failureWords(words.For("en"), interop.ReasonInternal, "WhatsApp")
	for _, reason := range []interop.Reason{
		interop.ReasonBlocked, interop.ReasonGone, interop.ReasonMayNotStart, interop.ReasonChatCap, interop.ReasonUnreadable,
		interop.ReasonRateLimited, interop.ReasonServer, interop.ReasonNoAnswer, interop.ReasonNoKeys, interop.ReasonAccount,
		interop.ReasonMedia, interop.ReasonMediaGone, interop.ReasonMediaOther, interop.ReasonTooLarge, interop.ReasonQuota,
	} {
		if words := failureWords(words.For("en"), reason, "WhatsApp"); words == "" || words == general {
			t.Errorf("%s: %q", reason, words)
		}
	}
	for _, reason := range []interop.Reason{interop.ReasonBadStanza, "new one"} {
		if failureWords(words.For("en"), reason, "WhatsApp") != general {
			t.Errorf("%s has no words", reason)
		}
	}
}

func TestEveryKindThatIsRefusedAndEveryAttachmentHasWordsOfItsOwn(t *testing.T) {
	for _, language := range words.Languages() {
		w, seen := words.For(language), map[string]bool{}
		for _, kind := range convert.Kinds {
			text := unsupported(w, kind)
			if len(text) < 20 || !strings.HasSuffix(text, ".") || seen[text] {
				t.Errorf("%s, %s: %q", language, kind, text)
			}
			seen[text] = true
		}
		for _, role := range []convert.Role{
			convert.RoleImage, convert.RoleVideo, convert.RoleNote, convert.RoleGIF, convert.RoleVoice, convert.RoleAudio, convert.RoleDocument,
			convert.RoleSticker,
		} {
			text := noun(w, role)
			if text == "" || seen[text] {
				t.Errorf("%s, %s: %q", language, role, text)
			}
			seen[text] = true
		}
		if noun(w, "other") != noun(w, convert.RoleDocument) {
			t.Errorf("%s: what an unknown role is", language)
		}
	}
}

func TestAnEnlistmentThatFailsIsExplained(t *testing.T) {
	l := &loginProcess{connector: New(), agreed: &agreement{profile: profile.WhatsApp()}, words: words.For("en")}
	for reason, part := range map[string]string{
		interop.EnlistBlocked: "blocked", interop.EnlistNotAllowed: "region", interop.EnlistBadIntegrator: "whoever runs it",
		interop.EnlistUnavailable: "try again later", interop.EnlistNoAnswer: "try again later", interop.EnlistUnknown: "refused",
	} {
		err := l.enlistmentWords(fmt.Errorf("x: %w", &interop.EnlistError{Reason: reason}))
		if !strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), "WhatsApp") {
			t.Errorf("%s: %v", reason, err)
		}
	}
	if err := l.enlistmentWords(errors.New("disk /secret/path full")); strings.Contains(err.Error(), "secret") {
		t.Errorf("a person reads %v", err)
	}
}

func TestALookUpThatFindsNobodyIsExplained(t *testing.T) {
	c := &client{profile: profile.WhatsApp(), connector: New(), log: new(zerolog.Nop()), login: &bridgev2.UserLogin{UserLogin: &frameworkdb.UserLogin{}}}
	for name, x := range map[string]struct {
		err  error
		part string
	}{
		"not there":    {&interop.RequestError{Op: "lookup", Code: 404}, "not on WhatsApp"},
		"not opted in": {&interop.RequestError{Op: "lookup", Code: 403}, "not opted in"},
		"too many":     {&interop.RequestError{Op: "lookup", Code: 429}, "later"},
		"no stream":    {fmt.Errorf("lookup: %w", interop.ErrOffline), "cannot be reached"},
		"other":        {errors.New("x"), "properly"},
	} {
		if got := c.lookupWords(x.err, "+49"); !strings.Contains(got.Error(), x.part) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestWhatCannotBeSentIsRefusedInWords(t *testing.T) {
	info := func(kind event.Type, msgtype event.MessageType) *bridgev2.MessageStatusEventInfo {
		return &bridgev2.MessageStatusEventInfo{EventType: kind, MessageType: msgtype}
	}
	for name, c := range map[string]struct {
		evt   *bridgev2.MessageStatusEventInfo
		cause error
		part  string
	}{
		"an image":                          {info(event.EventMessage, event.MsgImage), bridgev2.ErrUnsupportedMessageType, "Images"},
		"a gallery":                         {info(event.EventMessage, event.MsgBeeperGallery), bridgev2.ErrUnsupportedMessageType, "one by one"},
		"an edit":                           {info(event.EventMessage, event.MsgText), bridgev2.ErrEditsNotSupportedInPortal, "edited"},
		"an edit, as its status says it":    {info(event.EventMessage, event.MsgText), bridgev2.WrapErrorInStatus(bridgev2.ErrEditsNotSupported).InternalError, "edited"},
		"a room of an ended login":          {info(event.EventMessage, event.MsgText), fmt.Errorf("%w (inside)", bridgev2.ErrNotLoggedIn), "login that has ended"},
		"a reaction":                        {info(event.EventReaction, ""), bridgev2.ErrReactionsNotSupported, "Reactions"},
		"a redaction":                       {info(event.EventRedaction, ""), bridgev2.ErrRedactionsNotSupported, "deleted"},
		"a sticker":                         {info(event.EventSticker, ""), bridgev2.ErrUnsupportedMessageType, "Stickers"},
		"a call":                            {info(event.CallInvite, ""), nil, "Calls"},
		"a vote":                            {info(pollResponse, ""), nil, "Votes"},
		"the end of a poll":                 {info(pollEnd, ""), nil, "end of a poll"},
		"what was explained already":        {info(event.EventMessage, event.MsgImage), refusal(errOverLimit, "x"), ""},
		"a file that is too large":          {info(event.EventMessage, event.MsgImage), fmt.Errorf("%w: inside", bridgev2.ErrMediaTooLarge), ""},
		"an edit of what was not sent":      {info(event.EventMessage, event.MsgText), fmt.Errorf("edit %w", bridgev2.ErrTargetMessageNotFound), "new message"},
		"a reaction to what was not sent":   {info(event.EventReaction, ""), fmt.Errorf("reaction %w", bridgev2.ErrTargetMessageNotFound), "reacted to"},
		"an event of somebody's own making": {info(event.Type{Type: "org.example.x", Class: event.MessageEventType}, ""), nil, ""},
		"what a call does next":             {info(event.CallCandidates, ""), nil, ""},
	} {
		got := New().refuse(c.evt, c.cause)
		if (c.part == "") != (got == "") || !strings.Contains(got, c.part) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestNewsAreSaidAndOnlySomeOpenARoom(t *testing.T) {
	for name, c := range map[string]struct {
		in    interop.Inbound
		part  string
		opens bool
	}{
		"undecryptable":   {interop.Inbound{Kind: interop.KindUndecryptable}, "could not be decrypted", true},
		"unknown form":    {interop.Inbound{Kind: interop.KindUndecryptable, Reason: interop.ReasonNoContent}, "cannot read", true},
		"identity change": {interop.Inbound{Kind: interop.KindIdentityChange}, "key has changed", false},
		"a verified contact's identity": {
			interop.Inbound{Kind: interop.KindIdentityChange, Reason: interop.ReasonKeyHeld}, "key has changed, and you had confirmed", false,
		},
		"the verified identity": {interop.Inbound{Kind: interop.KindIdentityChange, Reason: interop.ReasonKeyBack}, "again the one", false},
		"accepted":              {interop.Inbound{Kind: interop.KindReachability, Reason: "accepted"}, "accepted", false},
		"declined":              {interop.Inbound{Kind: interop.KindReachability, Reason: "declined"}, "declined", false},
		"switched off":          {interop.Inbound{Kind: interop.KindReachability, Reason: "off"}, "switched off", false},
		"unknown state":         {interop.Inbound{Kind: interop.KindReachability, Reason: "other"}, "", false},
		"unknown kind":          {interop.Inbound{Kind: "other"}, "", false},
	} {
		text, opens := newsWords(words.For("en"), &c.in, "WhatsApp", "!postern")
		if opens != c.opens || (c.part == "") != (text == "") || !strings.Contains(text, c.part) {
			t.Errorf("%s: %q %v", name, text, opens)
		}
	}
}

func TestEveryStateOfTheStreamIsToldInWords(t *testing.T) {
	for kind, want := range map[interop.ConnKind]status.BridgeStateEvent{
		interop.ConnConnecting: status.StateConnecting, interop.ConnLive: status.StateConnected,
		interop.ConnWaiting: status.StateTransientDisconnect, interop.ConnBanned: status.StateTransientDisconnect,
		interop.ConnBackPressure: status.StateTransientDisconnect, interop.ConnStorage: status.StateTransientDisconnect,
		interop.ConnFault: status.StateUnknownError, interop.ConnClock: status.StateUnknownError, interop.ConnReplaced: status.StateBadCredentials,
		interop.ConnNotEnlisted: status.StateBadCredentials, interop.ConnRefused: status.StateBadCredentials,
		interop.ConnDeleted: status.StateLoggedOut, interop.ConnIdle: status.StateConnected, interop.ConnNoAddress: status.StateTransientDisconnect,
	} {
		got, tell := bridgeState(interop.ConnState{Kind: kind, Code: 401})
		if !tell || got.StateEvent != want || got.Reason != "code 401" {
			t.Errorf("%s: %+v %v", kind, got, tell)
		}
		if got.Error != "" && !words.For("en").Has("state."+strings.TrimPrefix(string(got.Error), "postern-")) {
			t.Errorf("%s: no words for %s", kind, got.Error)
		}
		if (want == status.StateBadCredentials || want == status.StateUnknownError) && got.Error == "" {
			t.Errorf("%s: nothing to read", kind)
		}
	}
	if _, tell := bridgeState(interop.ConnState{Kind: interop.ConnEnded}); tell {
		t.Error("the end of a run is told as a state")
	}
}

func TestPartsOfAMessageHaveIDsOfTheirOwn(t *testing.T) {
	seen := map[networkid.PartID]bool{}
	for i := range 20 {
		id := partID(i)
		if seen[id] || (i == 0) != (id == "") {
			t.Errorf("part %d has id %q", i, id)
		}
		seen[id] = true
	}
}

func TestTheNameThatGoesWithMessagesIsTheBestThatIsKnown(t *testing.T) {
	c := New()
	c.Config = *exampleWith(t, nil)
	if err := c.Config.prepare(); err != nil {
		t.Fatal(err)
	}
	if got := c.displayname("@alice:example.org", ""); got != "alice" {
		t.Errorf("nothing known: %q", got)
	}
	if got := c.displayname("@alice:example.org", "Alice A."); got != "Alice A." {
		t.Errorf("known: %q", got)
	}
	if got, err := c.identifierFor(t.Context(), "@Alice.B:example.org"); err != nil || got != "alice.b" {
		t.Errorf("identifier: %q %v", got, err)
	}
	if _, err := c.identifierFor(t.Context(), "not a user"); err == nil {
		t.Error("no user, but an identifier")
	}
}

func TestTheNamesInTheAnswerToStartChatAreNoMarkup(t *testing.T) {
	const hostile = "[x](https://example.org)"
	whom, where := startedLinks(hostile, "Ben", "@wa-1:example.org", "!r:example.org")
	if strings.Contains(string(whom), hostile) || !strings.Contains(string(where), "[Ben](") {
		t.Errorf("%q: %q", whom, where)
	}
}
