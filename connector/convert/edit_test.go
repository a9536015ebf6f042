package convert

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"maunium.net/go/mautrix/event"
)

func TestAnEditIsANewMessageThatSaysSo(t *testing.T) {
	for _, tc := range []struct{ name, source, want string }{
		{"text", `{"msgtype":"m.text","body":"* new","m.new_content":{"msgtype":"m.text","body":"new"},"m.relates_to":{"rel_type":"m.replace","event_id":"$a"}}`, "✏️ Edited: new"},
		{"the new content alone", `{"msgtype":"m.text","body":"new"}`, "✏️ Edited: new"},
		{"formatted", `{"msgtype":"m.text","body":"x","m.new_content":{"msgtype":"m.text","body":"new","format":"org.matrix.custom.html","formatted_body":"<b>new</b>"}}`, "✏️ Edited: *new*"},
		{"several lines", `{"msgtype":"m.text","body":"a\nb"}`, "✏️ Edited:\na\nb"},
		{"a quote", `{"msgtype":"m.text","body":"> a"}`, "✏️ Edited:\n> a"},
		{"a list", `{"msgtype":"m.text","body":"- a"}`, "✏️ Edited:\n- a"},
		{"a fence", `{"msgtype":"m.text","body":"x","format":"org.matrix.custom.html","formatted_body":"<pre>a</pre>"}`, "✏️ Edited:\n```a```"},
		{"an emote", `{"msgtype":"m.emote","body":"waves"}`, "✏️ Edited: _waves_"},
		{"a caption", `{"msgtype":"m.image","body":"x","m.new_content":{"msgtype":"m.image","filename":"a.png","body":"see","url":"mxc://x.org/abc"}}`, "✏️ Edited: see"},
		{"a place", `{"msgtype":"m.location","body":"Home","geo_uri":"geo:1,2"}`, "✏️ Edited:\n📍 Home\n1.000000, 2.000000\nhttps://www.openstreetmap.org/?mlat=1.000000&mlon=2.000000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var content event.MessageEventContent
			if err := json.Unmarshal([]byte(tc.source), &content); err != nil {
				t.Fatal(err)
			}
			out, err := EditText(&content, Limits{})
			if err != nil || len(out) != 1 || out[0].GetConversation() != tc.want {
				t.Fatalf("got %v %v, want %q", out, err, tc.want)
			}
			quoted := WithQuotedText(out, Quote{Text: "old", Author: "Me"})
			if got := quoted[0].GetConversation(); got != "> Me: old\n"+tc.want {
				t.Errorf("with the old text: %q", got)
			}
		})
	}
}

func TestAnEditWithoutWordsIsRefused(t *testing.T) {
	for name, content := range map[string]*event.MessageEventContent{
		"nil": nil, "empty": {MsgType: event.MsgText}, "a caption that goes": {MsgType: event.MsgImage, Body: "a.png", URL: someFile},
		"unknown": {MsgType: "x", Body: "y"}, "no place": {MsgType: event.MsgLocation, Body: "x"},
	} {
		var refused *Unsupported
		if out, err := EditText(content, Limits{}); !errors.As(err, &refused) || refused.Kind != KindEdit {
			t.Errorf("%s: %v %v", name, out, err)
		}
	}
}

func TestALongEditComesInParts(t *testing.T) {
	text := strings.TrimSpace(strings.Repeat("word ", 200))
	out, err := EditText(&event.MessageEventContent{MsgType: event.MsgText, Body: text}, Limits{MaxTextUnits: 300})
	if err != nil || len(out) < 3 {
		t.Fatalf("%d parts, %v", len(out), err)
	}
	all := ""
	for i, m := range out {
		if n := units(m.GetConversation()); n > 300 {
			t.Errorf("part %d: %d units", i, n)
		}
		all += m.GetConversation()
	}
	if all != editMark+" "+text {
		t.Error("the parts are not the text")
	}
}

func TestPlacesArriveAsText(t *testing.T) {
	const link = "\nhttps://www.openstreetmap.org/?mlat=51.500800&mlon=-0.124700"
	for _, tc := range []struct{ name, body, uri, want string }{
		{"named", "Big Ben", "geo:51.5008,-0.1247", "📍 Big Ben\n51.500800, -0.124700" + link},
		{"not named", "Location was shared at geo:51.5008,-0.1247", "geo:51.5008,-0.1247;u=35", "📍 51.500800, -0.124700" + link},
		{"with a height", "x", "GEO:51.5008,-0.1247,12.5;crs=WGS84;u=5", "📍 x\n51.500800, -0.124700" + link},
		{"on the moon", "x", "geo:51.5008,-0.1247;crs=moon-2011", ""},
		{"beyond the pole", "x", "geo:91,0", ""},
		{"not a number", "x", "geo:NaN,0", ""},
		{"infinite", "x", "geo:0,Inf", ""},
		{"half", "x", "geo:1", ""},
		{"four numbers", "x", "geo:1,2,3,4", ""},
		{"an address", "x", "https://x.org", ""},
		{"endless", "x", "geo:1," + strings.Repeat("0", 1000), ""},
	} {
		out, err := ToInterop(&event.MessageEventContent{MsgType: event.MsgLocation, Body: tc.body, GeoURI: tc.uri}, Limits{})
		var refused *Unsupported
		switch {
		case tc.want == "" && (!errors.As(err, &refused) || refused.Kind != KindLocation):
			t.Errorf("%s: %v %v", tc.name, out, err)
		case tc.want != "" && (err != nil || len(out) != 1 || out[0].GetConversation() != tc.want):
			t.Errorf("%s: %v %v", tc.name, out, err)
		}
	}
}

func TestOtherEventsArriveAsText(t *testing.T) {
	const hint = "_This is a poll on Matrix. Votes from here are not counted: please answer in words._"
	const poll = "📊 *When?*\n1. now\n2. later\n" + hint
	for _, tc := range []struct{ name, eventType, source, want string }{
		{"a poll", "m.poll.start", `{"m.poll":{"kind":"m.disclosed","max_selections":1,"question":{"m.text":[{"body":"When?"}]},
			"answers":[{"m.id":"1","m.text":[{"mimetype":"text/html","body":"<b>x</b>"},{"body":"now"}]},{"m.id":"2","m.text":[{"body":"later"}]}]}}`, poll},
		{"a poll of MSC3381", "org.matrix.msc3381.poll.start", `{"org.matrix.msc3381.poll.start":{"kind":"org.matrix.msc3381.poll.disclosed","max_selections":1,
			"question":{"org.matrix.msc1767.text":"When?","body":"When?","msgtype":"m.text"},"answers":[{"id":"1","org.matrix.msc1767.text":"now"},{"id":"2","org.matrix.msc1767.text":"later"}]}}`, poll},
		{"a poll of its second form", "org.matrix.msc3381.v2.poll.start", `{"org.matrix.msc3381.v2.poll":{"question":{"org.matrix.msc1767.message":[{"body":"When?"}]},
			"answers":[{"body":"now"},{"body":""},{"body":"later"}]}}`, poll},
		{"a poll with several choices", "m.poll.start", `{"m.poll":{"max_selections":3,"question":{"body":"Q\nR"},"answers":[]}}`,
			"📊 *Q R*\n_This is a poll on Matrix with several choices. Votes from here are not counted: please answer in words._"},
		{"a poll without a question", "m.poll.start", `{"m.poll":{"answers":[{"body":"a"}]}}`, ""},
		{"a poll of another shape", "m.poll.start", `{"m.poll":{"question":[1]}}`, ""},
		{"no JSON", "m.poll.start", `{`, ""},
		{"a vote", "m.poll.response", `{"m.selections":["1"]}`, ""},
		{"the end of a poll", "m.poll.end", `{}`, ""},
		{"a beacon", "m.beacon", `{"m.location":{"uri":"geo:1,2","description":"on the way"}}`,
			"📍 on the way\n1.000000, 2.000000\nhttps://www.openstreetmap.org/?mlat=1.000000&mlon=2.000000"},
		{"a beacon of MSC3672", "org.matrix.msc3672.beacon", `{"org.matrix.msc3488.location":{"uri":"geo:1,2"}}`,
			"📍 1.000000, 2.000000\nhttps://www.openstreetmap.org/?mlat=1.000000&mlon=2.000000"},
		{"a beacon without a place", "m.beacon", `{}`, ""},
		{"a live location", "org.matrix.msc3672.beacon_info", `{"description":"Anna's way","live":true,"timeout":60000}`,
			"📍 I am sharing my live location on Matrix. It does not move along here.\nAnna's way"},
		{"the end of a live location", "m.beacon_info", `{"live":false}`, "📍 I no longer share my live location."},
		{"neither", "m.beacon_info", `{}`, ""},
		{"a call", "m.call.invite", `{}`, ""},
		{"something else", "org.example.x", `{"body":"x"}`, ""},
	} {
		out, err := EventToInterop(tc.eventType, json.RawMessage(tc.source), Limits{})
		var refused *Unsupported
		switch {
		case tc.want == "" && (!errors.As(err, &refused) || Refused(err) == ""):
			t.Errorf("%s: %v %v", tc.name, out, err)
		case tc.want != "" && (err != nil || len(out) != 1 || out[0].GetConversation() != tc.want):
			t.Errorf("%s: got %v %v\nwant %q", tc.name, out, err, tc.want)
		}
	}
}

func TestAPollIsBounded(t *testing.T) {
	var answers []string
	for range 1000 {
		answers = append(answers, `{"body":"`+strings.Repeat("a", 100)+`"}`)
	}
	source := `{"m.poll":{"question":{"body":"` + strings.Repeat("q ", 9000) + `"},"answers":[` + strings.Join(answers, ",") + `]}}`
	out, err := EventToInterop("m.poll.start", json.RawMessage(source), Limits{MaxTextUnits: 1000})
	if err != nil || len(out) < 10 || len(out) > 60 {
		t.Fatalf("%d parts, %v", len(out), err)
	}
	last := out[len(out)-1].GetConversation()
	if strings.Contains(last, "101. ") || !strings.Contains(last, "100. ") || !strings.Contains(last, "\n…\n") {
		t.Errorf("the end is %q", last)
	}
	if _, err := EventToInterop("m.poll.start", json.RawMessage(`{"m.poll":{"question":{"body":"Q"}},"x":"`+strings.Repeat("x", maxOtherEvent)+`"}`), Limits{}); err == nil {
		t.Error("an event that cannot be was read")
	}
	var messages []*waE2E.Message
	if messages, err = EventToInterop("m.poll.start", nil, Limits{}); err == nil || messages != nil {
		t.Error("nothing was read")
	}
}
