package convert

import (
	"strings"

	"maunium.net/go/mautrix/event"
)

// Bounds of the words of a place, in bytes of JSON.
const (
	maxPlaceName    = 1 << 10
	maxPlaceAddress = 2 << 10
	maxPlaceURL     = 512
)

// fit cuts a text to so many bytes of JSON.
func fit(text string, limit int) string {
	text = clean(text)
	return text[:cut(text, limit, runeJSON)]
}

func (r *reader) location() Incoming {
	m := r.msg.GetLocationMessage()
	name, address := strings.TrimSpace(fit(m.GetName(), maxPlaceName)), strings.TrimSpace(fit(m.GetAddress(), maxPlaceAddress))
	if name == address {
		address = ""
	}
	url := m.GetURL()
	if !printable(url, maxPlaceURL) || !strings.HasPrefix(url, "https://") && !strings.HasPrefix(url, "http://") {
		url = ""
	}
	p, ok := newPosition(m.GetDegreesLatitude(), m.GetDegreesLongitude(), float64(m.GetAccuracyInMeters()))
	if !ok || m.DegreesLatitude == nil || m.DegreesLongitude == nil {
		return r.noticeOf(placeless, lineOf(name, address, url, m.GetComment()))
	}
	part := p.part(name, lineOf(name, address, url))
	return Incoming{Parts: append([]*Part{part}, texts(r.withNames(m.GetComment()), r.options)...)}
}

// liveLocation shows where somebody began to share where they are: what follows travels on other ways.
func (r *reader) liveLocation() Incoming {
	m := r.msg.GetLiveLocationMessage()
	in := r.noticeOf(livePlace, "")
	p, ok := newPosition(m.GetDegreesLatitude(), m.GetDegreesLongitude(), float64(m.GetAccuracyInMeters()))
	if ok && m.DegreesLatitude != nil && m.DegreesLongitude != nil {
		in.Parts = append(in.Parts, p.part("", ""))
	}
	in.Parts = append(in.Parts, texts(r.withNames(m.GetCaption()), r.options)...)
	return in
}

// part writes an m.location with the fields of MSC3488, for clients that draw maps, and a link for the others.
func (p position) part(name, words string) *Part {
	location := map[string]any{"uri": p.geo()}
	if name != "" {
		location["description"] = name
	}
	return &Part{
		Type: event.EventMessage,
		Content: &event.MessageEventContent{
			MsgType: event.MsgLocation, Body: p.words(words), GeoURI: p.geo(), Mentions: &event.Mentions{},
		},
		Extra: map[string]any{
			"org.matrix.msc3488.location": location,
			"org.matrix.msc3488.asset":    map[string]any{"type": "m.pin"},
		},
	}
}
