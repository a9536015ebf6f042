package sandbox

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/profile"
)

func TestControlCallsRefuseInWords(t *testing.T) {
	l := newLab(t)
	l.newPartner(matilda).enlist()
	type body = map[string]any
	user := "/v1/users/" + ada
	for _, c := range []struct {
		name, method, path string
		body               any
		status             int
		word               string
	}{
		{"an unknown call", "GET", "/v1/nothing", nil, 404, "no such call"},
		{"no JSON", "POST", "/v1/users", "{", 400, "not the JSON"},
		{"two JSON values", "POST", "/v1/users", `{"phone": "` + ada + `"} {}`, 400, "more than one"},
		{"a misspelt field", "POST", "/v1/users", body{"phone": ada, "optedin": true}, 400, "optedin"},
		{"a phone that is no number", "POST", "/v1/users", body{"phone": "Ada"}, 400, "E.164"},
		{"a phone with a zero in front", "POST", "/v1/users", body{"phone": "0151000000"}, 400, "E.164"},
		{"opted_in that is a word", "POST", "/v1/users", body{"phone": ada, "opted_in": "yes"}, 400, "opted_in"},
		{"a name beyond all measure", "POST", "/v1/users", body{"phone": ada, "name": strings.Repeat("a", 2000)}, 400, "name"},
		{"integrator 0", "POST", "/v1/integrators", body{"id": 0, "identifier_type": "email", "public_base": "http://a"}, 400, "1 to 999"},
		{"an unknown identifier type", "POST", "/v1/integrators", body{"id": 2, "identifier_type": "iris", "public_base": "http://a"}, 400, "identifier_type"},
		{"a public base with a slash", "POST", "/v1/integrators", body{"id": 2, "identifier_type": "pn", "public_base": "http://a/"}, 400, "public_base"},
		{"a public base that is no URL", "POST", "/v1/integrators", body{"id": 2, "identifier_type": "pn", "public_base": "a"}, 400, "public_base"},
		{"a media base with a slash", "POST", "/v1/integrators", body{"id": 2, "identifier_type": "pn", "public_base": "http://a", "media_base": "x/"}, 400, "media_base"},
		{"two partners at one base", "POST", "/v1/integrators", body{"id": 2, "identifier_type": "pn", "public_base": l.public.server.URL}, 409, "integrator 1"},
		{"another identifier type with accounts", "POST", "/v1/integrators", body{"id": 1, "identifier_type": "pn", "public_base": l.public.server.URL}, 409, "identifier type"},
		{"a message from nobody", "POST", "/v1/users/+4999/messages", body{"to": matilda, "text": "x"}, 404, "WhatsApp user"},
		{"a message from no number", "POST", "/v1/users/ada/messages", body{"to": matilda, "text": "x"}, 400, "E.164"},
		{"a message to nobody", "POST", user + "/messages", body{"text": "x"}, 400, "to is missing"},
		{"a message to somebody not enlisted", "POST", user + "/messages", body{"to": "x@y.example", "text": "x"}, 404, "enlisted"},
		{"a message to another integrator", "POST", user + "/messages", body{"to": matilda, "integrator": 9, "text": "x"}, 404, "integrator 9"},
		{"an empty text", "POST", user + "/messages", body{"to": matilda}, 400, "text"},
		{"a clock years ahead", "POST", "/v1/clock", body{"ahead_seconds": 400 * 86400}, 400, "366 days"},
		{"a kind nobody knows", "POST", user + "/messages", body{"to": matilda, "kind": "smell"}, 400, "smell"},
		{"an image of nothing", "POST", user + "/messages", body{"to": matilda, "kind": "image", "mimetype": "image/png"}, 400, "data"},
		{"an image that is no base64", "POST", user + "/messages", body{"to": matilda, "kind": "image", "data": "?"}, 400, "not the JSON"},
		{"an image to nobody", "POST", user + "/messages", body{"to": "x@y.example", "kind": "image", "data": "aGk="}, 404, "enlisted"},
		{"a voice message with a caption", "POST", user + "/messages", body{"to": matilda, "kind": "voice", "data": "aGk=", "caption": "x"}, 400, "caption"},
		{"a document to be seen once", "POST", user + "/messages", body{"to": matilda, "kind": "document", "data": "aGk=", "view_once": true}, 400, "view_once"},
		{"a thumbnail too large", "POST", user + "/messages", body{"to": matilda, "kind": "image", "data": "aGk=", "thumbnail": make([]byte, 16<<10+1)}, 400, "thumbnail"},
		{"a waveform of words", "POST", user + "/messages", body{"to": matilda, "kind": "voice", "data": "aGk=", "waveform": []string{"loud"}}, 400, "waveform"},
		{"a waveform beyond bytes", "POST", user + "/messages", body{"to": matilda, "kind": "voice", "data": "aGk=", "waveform": []int{256}}, 400, "waveform"},
		{"an image in reply to nothing", "POST", user + "/messages", body{"to": matilda, "kind": "image", "data": "aGk=", "reply_to": "Y"}, 404, "no message"},
		{"a reply to nothing", "POST", user + "/messages", body{"to": matilda, "text": "x", "reply_to": "Y"}, 404, "no message"},
		{"a reaction to nothing", "POST", user + "/messages", body{"to": matilda, "kind": "reaction", "target": "Y", "emoji": "x"}, 404, "no message"},
		{"an edit of nothing", "POST", user + "/messages", body{"to": matilda, "kind": "edit", "target": "Y", "text": "x"}, 404, "no message"},
		{"a revoke of nothing", "POST", user + "/messages", body{"to": matilda, "kind": "revoke", "target": "Y"}, 404, "no message"},
		{"a place beyond the poles", "POST", user + "/messages", body{"to": matilda, "kind": "location", "latitude": 91}, 400, "latitude"},
		{"a contact without a card", "POST", user + "/messages", body{"to": matilda, "kind": "contact", "name": "x"}, 400, "vcard"},
		{"a poll of one option", "POST", user + "/messages", body{"to": matilda, "kind": "poll", "question": "x", "options": []string{"a"}}, 400, "options"},
		{"a poll with an empty option", "POST", user + "/messages", body{"to": matilda, "kind": "poll", "question": "x", "options": []string{"a", ""}}, 400, "option"},
		{"an odd timer", "POST", user + "/messages", body{"to": matilda, "kind": "timer", "seconds": 5}, 400, "timer"},
		{"nothing raw", "POST", user + "/messages", body{"to": matilda, "kind": "raw"}, 400, "protobuf"},
		{"read of nothing", "POST", user + "/read", body{"to": matilda, "ids": []string{}}, 400, "ids"},
		{"read of what is not there", "POST", user + "/read", body{"to": matilda, "ids": []string{"X"}}, 404, "no message"},
		{"read of another type", "POST", user + "/read", body{"to": matilda, "ids": []string{"X"}, "type": "seen"}, 400, "read or played"},
		{"typing of another state", "POST", user + "/typing", body{"to": matilda, "state": "thinking"}, 400, "composing or paused"},
		{"typing of other media", "POST", user + "/typing", body{"to": matilda, "state": "composing", "media": "video"}, 400, "audio"},
		{"an answer of another kind", "POST", user + "/answer", body{"to": matilda, "answer": "perhaps"}, 400, "accepted or declined"},
		{"an answer to nothing", "POST", user + "/answer", body{"to": matilda, "answer": "accepted"}, 409, "not asked"},
		{"blocking somebody not enlisted", "POST", user + "/block", body{"to": "x", "block": true}, 404, "enlisted"},
		{"opting in to another integrator", "POST", user + "/opt", body{"integrator": 7, "opted_in": true}, 404, "integrator 7"},
		{"reinstalling nobody's phone", "POST", "/v1/users/+4999/reinstall", body{}, 404, "WhatsApp user"},
		{"a name for nobody", "POST", "/v1/users/+4999/profile", body{"name": "x"}, 404, "WhatsApp user"},
		{"events after a word", "GET", user + "/events?after=yesterday", nil, 400, "after"},
		{"a wait that is no time", "GET", user + "/events?wait=long", nil, 400, "wait"},
		{"a wait without end", "GET", user + "/events?wait=11m", nil, 400, "ten minutes"},
		{"events of nobody", "GET", "/v1/users/+4999/events", nil, 404, "WhatsApp user"},
		{"media of no message", "GET", user + "/media/X", nil, 404, "media"},
		{"media of nobody's", "GET", "/v1/users/+4999/media/X", nil, 404, "WhatsApp user"},
		{"media of a partner who is not there", "GET", user + "/media/X?to=x@y.example", nil, 404, "enlisted"},
		{"un-enlisting nobody", "POST", "/v1/partners/unenlist", body{"to": "x"}, 404, "enlisted"},
		{"skipping none", "POST", user + "/skip", body{"to": matilda, "count": 0}, 400, "50000"},
		{"skipping for nobody", "POST", user + "/skip", body{"to": "x", "count": 1}, 404, "enlisted"},
		{"losing what is not there", "POST", user + "/lose", body{"to": matilda}, 409, "session"},
		{"keeping less than nothing", "POST", "/v1/partners/prekeys", body{"to": matilda, "keep": -1}, 400, "negative"},
		{"an unknown fault", "POST", "/v1/faults", body{"kind": "explode"}, 400, "explode"},
		{"a fault without its code", "POST", "/v1/faults", body{"kind": "ack_error"}, 400, "code"},
		{"a fault without its reason", "POST", "/v1/faults", body{"kind": "enlist_fail"}, 400, "reason"},
		{"a fault without its delay", "POST", "/v1/faults", body{"kind": "delay"}, 400, "delay_ms"},
		{"a fault with a code beyond bounds", "POST", "/v1/faults", body{"kind": "failure", "code": 1000}, 400, "999"},
		{"a nack of a receipt", "POST", "/v1/faults", body{"kind": "nack", "code": 491, "match": "receipt"}, 400, "nacked"},
		{"slow media without a delay", "POST", "/v1/faults", body{"kind": "media_slow"}, 400, "delay_ms"},
		{"a fault of another integrator", "POST", "/v1/faults", body{"kind": "drop", "integrator": 5}, 404, "integrator 5"},
		{"a cut without a stream", "POST", "/v1/faults", body{"kind": "cut"}, 409, "stream"},
		{"deleting no fault", "DELETE", "/v1/faults/77", nil, 404, "77"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var answer struct{ Error string }
			if status := l.do(c.method, c.path, c.body, &answer); status != c.status || !strings.Contains(answer.Error, c.word) {
				t.Errorf("%d %q, want %d and %q", status, answer.Error, c.status, c.word)
			}
		})
	}
	for name, make := range map[string]func(){
		"blocked":  func() { l.post(user+"/block", body{"to": matilda, "block": true}, nil) },
		"enlisted": func() { l.post("/v1/partners/unenlist", body{"to": matilda}, nil) },
	} {
		make()
		var answer struct{ Error string }
		if status := l.do("POST", user+"/messages", body{"to": matilda, "text": "x"}, &answer); status != 409 || !strings.Contains(answer.Error, name) && name == "enlisted" {
			t.Errorf("%s: %d %q", name, status, answer.Error)
		}
	}
	var faults struct{ Faults []fault }
	if l.do("GET", "/v1/faults", nil, &faults); len(faults.Faults) != 0 {
		t.Errorf("refused faults are in the list: %+v", faults.Faults)
	}
}

func TestControlCallsFromWebPagesAreRefused(t *testing.T) {
	l := newLab(t)
	req, err := http.NewRequest("GET", l.url+"/v1/users", nil)
	must(t, err)
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != 403 {
		t.Errorf("%d", resp.StatusCode)
	}
}

func TestUsersAndIntegratorsAreListedAsTheyAre(t *testing.T) {
	l := newLab(t)
	var u shownUser
	l.post("/v1/users", map[string]any{"phone": bob[1:], "name": "Bob", "opted_in": []int{1, 2}}, &u)
	if u.Phone != bob || u.Name != "Bob" || !strings.HasSuffix(u.JID, "@lid") {
		t.Fatalf("%+v", u)
	}
	jid := u.JID
	l.post("/v1/users", map[string]any{"phone": bob, "name": "Robert"}, &u)
	if u.JID != jid || u.Name != "Robert" || len(u.OptedIn.([]any)) != 2 {
		t.Fatalf("changed: %+v", u)
	}
	l.post("/v1/users/"+bob+"/opt", map[string]any{"integrator": 1, "opted_in": false}, &u)
	if list, ok := u.OptedIn.([]any); !ok || len(list) != 1 || list[0] != float64(2) {
		t.Fatalf("opted out of 1: %+v", u)
	}
	l.post("/v1/users/"+bob+"/profile", map[string]any{"name": "Bobby"}, &u)
	var users struct{ Users []shownUser }
	l.do("GET", "/v1/users", nil, &users)
	if len(users.Users) != 2 || users.Users[0].Phone != ada || users.Users[0].OptedIn != true || users.Users[1].Name != "Bobby" {
		t.Fatalf("%+v", users)
	}
	l.post("/v1/integrators", map[string]any{"id": 12, "name": "Other", "identifier_type": "pn", "public_base": "https://other.example"}, nil)
	var list struct{ Integrators []Integrator }
	l.do("GET", "/v1/integrators", nil, &list)
	if len(list.Integrators) != 2 || list.Integrators[1].ID != 12 || list.Integrators[1].MediaBase != "https://other.example/media" {
		t.Fatalf("%+v", list)
	}
	var answer struct{ Error string }
	if status := l.do("POST", "/v1/users/"+ada+"/messages", map[string]any{"to": matilda, "text": "x"}, &answer); status != 400 || !strings.Contains(answer.Error, "several") {
		t.Fatalf("without naming one of two integrators: %d %s", status, answer.Error)
	}
}

func TestEventsCanBeWaitedForAndCountFromOne(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.session(to)
	var out struct{ Events []eventBody }
	if l.do("GET", "/v1/users/"+ada+"/events", nil, &out); len(out.Events) != 0 {
		t.Fatalf("%+v", out)
	}
	l.do("GET", "/v1/users/"+ada+"/events?wait=1ms", nil, &out)
	if out.Events == nil || len(out.Events) != 0 {
		t.Fatal("an empty list is not null")
	}
	came := make(chan []eventBody)
	go func() {
		resp, err := http.Get(l.url + "/v1/users/" + ada + "/events?wait=60s")
		if err != nil {
			came <- nil
			return
		}
		defer resp.Body.Close()
		var out struct{ Events []eventBody }
		json.NewDecoder(resp.Body).Decode(&out)
		came <- out.Events
	}()
	p.send(p.seal(to, "one"))
	if got := <-came; len(got) != 1 || got[0].Seq != 1 || got[0].T == 0 {
		t.Fatalf("%+v", got)
	}
	p.send(p.seal(to, "two"))
	l.event(ada, 1, "two", func(e eventBody) bool { return e.Text == "two" && e.Seq == 2 })
}

// TestEveryKindOfMessageArrivesAsAPhoneSendsIt looks at what the partner decrypts.
func TestEveryKindOfMessageArrivesAsAPhoneSendsIt(t *testing.T) {
	l := newLab(t)
	p, to := l.connected()
	p.session(to)
	mine := p.seal(to, "mine")
	p.send(mine)
	l.event(ada, 0, "message", kindIs("message"))
	hers := l.say(ada, matilda, "hers")
	p.open(p.want("message", tagIs("message")))
	raw, err := proto.Marshal(&waE2E.Message{StickerMessage: &waE2E.StickerMessage{Mimetype: proto.String("image/webp")}})
	must(t, err)
	type body = map[string]any
	for _, c := range []struct {
		body                     body
		typ, media, edit, hidden string
		ok                       func(m *waE2E.Message) bool
	}{
		{body{"text": "plain"}, "text", "", "", "", func(m *waE2E.Message) bool { return m.GetConversation() == "plain" }},
		{body{"kind": "text", "text": "re", "reply_to": mine.ID}, "text", "", "", "", func(m *waE2E.Message) bool {
			c := m.GetExtendedTextMessage().GetContextInfo()
			return m.GetExtendedTextMessage().GetText() == "re" && c.GetStanzaID() == mine.ID && c.GetParticipant() == p.jid.String() &&
				c.GetQuotedMessage().GetConversation() == "mine"
		}},
		{body{"text": "re", "reply_to": hers}, "text", "", "", "", func(m *waE2E.Message) bool {
			c := m.GetExtendedTextMessage().GetContextInfo()
			return c.GetStanzaID() == hers && c.GetParticipant() == to.String() && c.GetQuotedMessage().GetConversation() == "hers"
		}},
		{body{"kind": "reaction", "target": mine.ID, "emoji": "👍"}, "reaction", "", "", "hide", func(m *waE2E.Message) bool {
			r := m.GetReactionMessage()
			return r.GetText() == "👍" && r.GetKey().GetID() == mine.ID && !r.GetKey().GetFromMe() && r.GetKey().FromMe != nil
		}},
		{body{"kind": "reaction", "target": hers, "emoji": ""}, "reaction", "", "", "hide", func(m *waE2E.Message) bool {
			return m.GetReactionMessage().GetText() == "" && m.GetReactionMessage().GetKey().GetFromMe()
		}},
		{body{"kind": "edit", "target": hers, "text": "better"}, "text", "", "1", "hide", func(m *waE2E.Message) bool {
			e := m.GetEditedMessage().GetMessage().GetProtocolMessage()
			return e.GetType() == waE2E.ProtocolMessage_MESSAGE_EDIT && e.GetKey().GetID() == hers && e.GetKey().GetFromMe() &&
				e.GetEditedMessage().GetConversation() == "better"
		}},
		{body{"kind": "revoke", "target": hers}, "text", "", "7", "hide", func(m *waE2E.Message) bool {
			r := m.GetProtocolMessage()
			return r.Type != nil && r.GetType() == waE2E.ProtocolMessage_REVOKE && r.GetKey().GetID() == hers
		}},
		{body{"kind": "location", "latitude": 52.5, "longitude": -13.4, "name": "here"}, "media", "location", "", "", func(m *waE2E.Message) bool {
			return m.GetLocationMessage().GetDegreesLatitude() == 52.5 && m.GetLocationMessage().GetDegreesLongitude() == -13.4 && m.GetLocationMessage().GetName() == "here"
		}},
		{body{"kind": "contact", "name": "Eve", "vcard": "BEGIN:VCARD\nEND:VCARD"}, "media", "vcard", "", "", func(m *waE2E.Message) bool {
			return m.GetContactMessage().GetDisplayName() == "Eve" && strings.HasPrefix(m.GetContactMessage().GetVcard(), "BEGIN:VCARD")
		}},
		{body{"kind": "poll", "question": "tea?", "options": []string{"yes", "no"}}, "poll", "", "", "", func(m *waE2E.Message) bool {
			return m.GetPollCreationMessageV3().GetName() == "tea?" && len(m.GetPollCreationMessageV3().GetOptions()) == 2 && len(m.GetMessageContextInfo().GetMessageSecret()) == 32
		}},
		{body{"kind": "timer", "seconds": 86400}, "text", "", "", "", func(m *waE2E.Message) bool {
			return m.GetProtocolMessage().GetType() == waE2E.ProtocolMessage_EPHEMERAL_SETTING && m.GetProtocolMessage().GetEphemeralExpiration() == 86400
		}},
		{body{"kind": "raw", "message": base64.StdEncoding.EncodeToString(raw)}, "text", "", "", "", func(m *waE2E.Message) bool { return m.GetStickerMessage().GetMimetype() == "image/webp" }},
	} {
		c.body["to"] = matilda
		l.post("/v1/users/"+ada+"/messages", c.body, nil)
		n := p.want("message", tagIs("message"))
		enc := n.Child("enc")
		if n.Attr("type") != c.typ || enc.Attr("mediatype") != c.media || n.Attr("edit") != c.edit || enc.Attr("decrypt-fail") != c.hidden {
			t.Errorf("%v: stanza %+v", c.body, n.Attrs)
		}
		if m := p.open(n); !c.ok(m) {
			t.Errorf("%v: %v", c.body, m)
		}
	}
	l.noComplaints()
}

func TestTheMessengerProfileEnlistsAndLogsInAndRefusesContentInWords(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Profile = profile.Messenger() })
	if l.info.Profile != "messenger" || !strings.HasSuffix(l.info.EnlistURL, profile.Messenger().Paths.Enlist) {
		t.Fatalf("%+v", l.info)
	}
	p, to := l.connected()
	p.session(to)
	var answer struct{ Error string }
	if status := l.do("POST", "/v1/users/"+ada+"/messages", map[string]any{"to": matilda, "text": "x"}, &answer); status != 501 || !strings.Contains(answer.Error, "Messenger") {
		t.Fatalf("%d %s", status, answer.Error)
	}
	m := p.seal(to, "in WhatsApp's form")
	p.send(m)
	if a := p.want("ack", isAck("message", m.ID)); a.Attr("error") != "479" {
		t.Fatalf("%+v", a)
	}
	m = p.seal(to, "in Messenger's form")
	m.Enc.V = 3
	p.send(m)
	if a := p.want("ack", isAck("message", m.ID)); a.Has("error") {
		t.Fatalf("%+v", a)
	}
	if a := p.want("nack", isAck("message", m.ID)); a.Attr("error") != "491" {
		t.Fatalf("%+v", a)
	}
	form := p.form()
	form.Set("token", l.public.token(matilda, "WHATSAPP"))
	if a, _ := l.postForm(form); a.Reason != "bad_token" {
		t.Fatalf("a token for WhatsApp: %+v", a)
	}
}
