package stanza_test

import (
	"bytes"
	"encoding/hex"
	"strings"

	"postern/connector/binxml"
	"postern/connector/jid"
	"postern/connector/stanza"
)

var (
	partner = jid.JID{User: "10853634039893", Integrator: 1, Server: jid.Interop}
	phone   = jid.JID{User: "203847561029384", Server: jid.LID}
)

func number(n int) *int { return &n }

func key32(fill byte) (k [32]byte) {
	copy(k[:], bytes.Repeat([]byte{fill}, 32))
	return k
}

func signature(fill byte) (s [64]byte) {
	copy(s[:], bytes.Repeat([]byte{fill}, 64))
	return s
}

// fill is the notation of key32 and signature.
func fill(b byte, size int) string { return hex.EncodeToString(bytes.Repeat([]byte{b}, size)) }

// show prints an element: tag, key=text, key=<address>, content as hex in [], children in ().
func show(n *binxml.Node) string {
	var b strings.Builder
	b.WriteString(n.Tag)
	for _, a := range n.Attrs {
		b.WriteString(" " + a.Key + "=")
		if a.JID.IsZero() {
			b.WriteString(a.Value)
		} else {
			b.WriteString("<" + a.JID.String() + ">")
		}
	}
	if n.Data != nil {
		b.WriteString(" [" + hex.EncodeToString(n.Data) + "]")
	}
	for i := range n.Children {
		b.WriteString(" (" + show(&n.Children[i]) + ")")
	}
	return b.String()
}

// stanzas lists every stanza with its element, in both roles where they differ.
var stanzas = []struct {
	name   string
	stanza stanza.Stanza
	is     string
}{
	{"our first message", &stanza.Message{ID: "3EB0A1", To: phone, Type: "text", DisplayName: "Ada",
		Enc: stanza.Enc{V: 2, Type: "pkmsg", Data: []byte{0x33, 1}}},
		"message to=<203847561029384@lid> id=3EB0A1 type=text display_name=Ada (enc v=2 type=pkmsg [3301])"},
	{"our voice message", &stanza.Message{ID: "3EB0A1", To: phone, Type: "media", DisplayName: "Ada",
		Enc: stanza.Enc{V: 2, Type: "msg", MediaType: "ptt", Data: []byte{0x33}}},
		"message to=<203847561029384@lid> id=3EB0A1 type=media display_name=Ada (enc v=2 type=msg mediatype=ptt [33])"},
	{"our answer to a retry receipt", &stanza.Message{ID: "3EB0A1", To: phone, Type: "text", T: 1795478400,
		DisplayName: "Ada", DeviceFanout: "false", Enc: stanza.Enc{V: 2, Type: "pkmsg", Count: 2, Data: []byte{0x33}}},
		"message to=<203847561029384@lid> id=3EB0A1 type=text t=1795478400 display_name=Ada device_fanout=false" +
			" (enc v=2 type=pkmsg count=2 [33])"},
	{"their queued message with what we tolerate", &stanza.Message{ID: "A5", From: phone, Type: "text", T: 1795478400,
		Notify: "Grace 👋", STS: "1795478400123456", Offline: number(0), Edit: "1",
		Enc: stanza.Enc{V: 2, Type: "msg", Data: []byte{0x34}, DecryptFail: "hide"}},
		"message from=<203847561029384@lid> id=A5 type=text t=1795478400 notify=Grace 👋 sts=1795478400123456 offline=0" +
			" edit=1 (enc v=2 type=msg decrypt-fail=hide [34])"},
	{"delivery receipt", &stanza.Receipt{ID: "A5", To: phone, IDs: []string{"A5"}, STS: "1795478400123456"},
		"receipt to=<203847561029384@lid> id=A5 sts=1795478400123456"},
	{"aggregated read receipt", &stanza.Receipt{ID: "A5", From: phone, Type: "read", T: 1795478400, Offline: number(3),
		IDs: []string{"A5", "B6", "C7"}},
		"receipt from=<203847561029384@lid> id=A5 type=read t=1795478400 offline=3 (list (item id=B6) (item id=C7))"},
	{"retry receipt without keys", &stanza.Receipt{ID: "A5", To: phone, Type: "retry", IDs: []string{"A5"},
		Retry: &stanza.Retry{Count: 1, ID: "A5", T: 1795478400, Version: 1, RegistrationID: 0x01020304}},
		"receipt to=<203847561029384@lid> id=A5 type=retry (retry count=1 id=A5 t=1795478400 v=1)" +
			" (registration [01020304])"},
	{"retry receipt with keys and a reason", &stanza.Receipt{ID: "A5", To: phone, Type: "retry", IDs: []string{"A5"},
		Retry: &stanza.Retry{Count: 2, ID: "A5", T: 1795478400, Version: 1, Error: 7, RegistrationID: 5,
			Keys: &stanza.Bundle{RegistrationID: 5, Type: 5, Identity: key32(0xaa),
				PreKey: &stanza.PreKey{ID: 0xfffffe, Key: key32(0xbb)},
				Signed: stanza.SignedPreKey{ID: 1, Key: key32(0xcc), Signature: signature(0xdd)}}}},
		"receipt to=<203847561029384@lid> id=A5 type=retry (retry count=2 id=A5 t=1795478400 v=1 error=7)" +
			" (registration [00000005]) (keys (type [05]) (identity [" + fill(0xaa, 32) + "]) (key (id [fffffe])" +
			" (value [" + fill(0xbb, 32) + "])) (skey (id [000001]) (value [" + fill(0xcc, 32) + "]) (signature [" +
			fill(0xdd, 64) + "])))"},
	{"ack of our message", &stanza.Ack{Class: "message", ID: "A5", From: phone, T: 1795478400},
		"ack class=message id=A5 from=<203847561029384@lid> t=1795478400"},
	{"a phone's nack, passed on", &stanza.Ack{Class: "message", ID: "A5", From: phone, T: 1795478400, Error: 491},
		"ack class=message id=A5 from=<203847561029384@lid> t=1795478400 error=491"},
	{"ack of a read receipt", &stanza.Ack{Class: "receipt", ID: "A5", To: phone, Type: "read"},
		"ack class=receipt id=A5 to=<203847561029384@lid> type=read"},
	{"iq get", &stanza.IQ{Type: "get", ID: "1", XMLNS: "w:p", To: jid.ServerJID},
		"iq to=<s.whatsapp.net> xmlns=w:p type=get id=1"},
	{"iq result with content", &stanza.IQ{Type: "result", ID: "1", From: jid.ServerJID, To: partner,
		Children: []binxml.Node{{Tag: "count", Attrs: []binxml.Attr{binxml.S("value", "7")}}}},
		"iq to=<1-10853634039893@interop> from=<s.whatsapp.net> type=result id=1 (count value=7)"},
	{"iq error", &stanza.IQ{Type: "error", ID: "1", From: jid.ServerJID, Err: &stanza.IQError{Code: 406, Text: "not-acceptable"}},
		"iq from=<s.whatsapp.net> type=error id=1 (error code=406 text=not-acceptable)"},
	{"notification of few prekeys", withID(stanza.NewPreKeyCount(9), "n1"),
		"notification from=<s.whatsapp.net> id=n1 type=encrypt t=1795478400 (count value=9)"},
	{"notification of a changed identity", withID(stanza.NewIdentityChange(phone), "n1"),
		"notification from=<203847561029384@lid> id=n1 type=encrypt t=1795478400 (identity)"},
	{"notification of reachability", withID(stanza.NewReachability(stanza.Reach{JID: phone, State: "accepted"}), "n1"),
		"notification from=<s.whatsapp.net> id=n1 type=w:interop t=1795478400 (reachability jid=<203847561029384@lid> state=accepted)"},
	{"notification of a blocked user", withID(stanza.NewBlockChanges(stanza.BlockChange{JID: phone, Block: true},
		stanza.BlockChange{JID: partner}), "n1"),
		"notification from=<s.whatsapp.net> id=n1 type=account_sync t=1795478400 (blocklist" +
			" (item action=block jid=<203847561029384@lid>) (item action=unblock jid=<1-10853634039893@interop>))"},
	{"notification of a type without meaning", &stanza.Notification{ID: "n1", From: jid.ServerJID, Type: "psa",
		Offline: number(2), Children: []binxml.Node{{Tag: "x"}}},
		"notification from=<s.whatsapp.net> id=n1 type=psa offline=2 (x)"},
	{"typing", &stanza.ChatState{To: phone, State: "composing"}, "chatstate to=<203847561029384@lid> (composing)"},
	{"recording", &stanza.ChatState{From: phone, State: "composing", Media: "audio"},
		"chatstate from=<203847561029384@lid> (composing media=audio)"},
	{"no longer typing", &stanza.ChatState{From: phone, State: "paused"}, "chatstate from=<203847561029384@lid> (paused)"},
	{"announcement of the queue", &stanza.IB{From: jid.ServerJID, Preview: &stanza.OfflinePreview{Count: 3, Message: 2, Receipt: 1}},
		"ib from=<s.whatsapp.net> (offline_preview count=3 message=2 receipt=1 notification=0)"},
	{"end of the queue", &stanza.IB{Offline: number(0)}, "ib (offline count=0)"},
	{"other information", &stanza.IB{Other: []binxml.Node{{Tag: "dirty", Attrs: []binxml.Attr{binxml.S("type", "x")}}}}, "ib (dirty type=x)"},
	{"success", &stanza.Success{T: 1795478400, LID: partner}, "success t=1795478400 lid=<1-10853634039893@interop>"},
	{"failure by ban", &stanza.Failure{Reason: 402, Message: "banned", Expire: 3600}, "failure reason=402 message=banned expire=3600"},
	{"stream error with a code", &stanza.StreamError{Code: 515}, "stream:error code=515"},
	{"stream error of conflict", &stanza.StreamError{Conflict: "replaced"}, "stream:error (conflict type=replaced)"},
	{"stream error of syntax", &stanza.StreamError{NotWellFormed: true}, "stream:error (xml-not-well-formed)"},
	{"stream error of an owed ack", &stanza.StreamError{Ack: &stanza.OwedAck{Class: "receipt", ID: "A5", Type: "read"}},
		"stream:error (ack class=receipt id=A5 type=read)"},
	{"stream error of something else", &stanza.StreamError{Code: 516, Other: "gone"}, "stream:error code=516 (gone)"},
	{"end of the stream", &stanza.StreamEnd{}, "xmlstreamend"},
	{"unknown", &stanza.Unknown{Element: &binxml.Node{Tag: "call", Attrs: []binxml.Attr{binxml.S("id", "A5")}}}, "call id=A5"},
}

func withID(n *stanza.Notification, id string) *stanza.Notification {
	n.ID, n.T = id, 1795478400
	return n
}

// requests lists every typed request with the element its iq makes, id and address left out.
var requests = []struct {
	name    string
	request stanza.Request
	is      string
}{
	{"prekey count", stanza.CountRequest{}, "xmlns=encrypt type=get (count)"},
	{"upload", &stanza.Upload{RegistrationID: 0xfffffffe, Identity: key32(1), Signed: stanza.SignedPreKey{ID: 3, Key: key32(2),
		Signature: signature(3)}, PreKeys: []stanza.PreKey{{ID: 0, Key: key32(4)}, {ID: stanza.MaxKeyID, Key: key32(5)}}},
		"xmlns=encrypt type=set (registration [fffffffe]) (type [05]) (identity [" + fill(1, 32) + "]) (list (key (id [000000])" +
			" (value [" + fill(4, 32) + "])) (key (id [ffffff]) (value [" + fill(5, 32) + "]))) (skey (id [000003]) (value [" +
			fill(2, 32) + "]) (signature [" + fill(3, 64) + "]))"},
	{"upload of a signed prekey with no others", &stanza.Upload{Identity: key32(1), PreKeys: []stanza.PreKey{},
		Signed: stanza.SignedPreKey{ID: 3, Key: key32(2), Signature: signature(3)}},
		"xmlns=encrypt type=set (registration [00000000]) (type [05]) (identity [" + fill(1, 32) + "]) (list) (skey (id [000003])" +
			" (value [" + fill(2, 32) + "]) (signature [" + fill(3, 64) + "]))"},
	{"bundles", &stanza.KeyRequest{Users: []jid.JID{phone, partner}},
		"xmlns=encrypt type=get (key (user jid=<203847561029384@lid>) (user jid=<1-10853634039893@interop>))"},
	{"bundle after a changed identity", &stanza.KeyRequest{Users: []jid.JID{phone}, IdentityChanged: true},
		"xmlns=encrypt type=get (key (user jid=<203847561029384@lid> reason=identity))"},
	{"rotation", &stanza.Rotate{Signed: stanza.SignedPreKey{ID: 4, Key: key32(2), Signature: signature(3)}},
		"xmlns=encrypt type=set (rotate (skey (id [000004]) (value [" + fill(2, 32) + "]) (signature [" + fill(3, 64) + "])))"},
	{"users", &stanza.UsersRequest{ExternalIDs: []string{"+4915112345678", "+33612345678"}},
		"xmlns=w:interop type=get (users (user external_id=+4915112345678) (user external_id=+33612345678))"},
	{"reachability", &stanza.ReachRequest{JID: phone, DisplayName: "Ada"},
		"xmlns=w:interop type=set (ping (user jid=<203847561029384@lid> display_name=Ada))"},
	{"deletion", stanza.DeleteRequest{}, "xmlns=w:interop type=set (delete_account)"},
	{"keep-alive", stanza.KeepAlive{}, "xmlns=w:p type=get"},
	{"ping by the server", stanza.ServerPing{}, "xmlns=urn:xmpp:ping type=get"},
	{"active", stanza.PassiveRequest{Active: true}, "xmlns=passive type=set (active)"},
	{"passive", stanza.PassiveRequest{}, "xmlns=passive type=set (passive)"},
	{"blocklist", stanza.BlocklistRequest{}, "xmlns=blocklist type=get"},
	{"block", stanza.BlockRequest{BlockChange: stanza.BlockChange{JID: phone, Block: true}},
		"xmlns=blocklist type=set (item action=block jid=<203847561029384@lid>)"},
	{"unblock", stanza.BlockRequest{BlockChange: stanza.BlockChange{JID: phone}},
		"xmlns=blocklist type=set (item action=unblock jid=<203847561029384@lid>)"},
}
