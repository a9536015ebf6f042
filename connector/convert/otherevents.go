package convert

import (
	"encoding/json"
	"strconv"
	"strings"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
)

const (
	maxOtherEvent   = 128 << 10 // bytes; no Matrix event is longer
	maxPollOptions  = 100
	maxPollQuestion = 4096 // units, of the question and of each option
)

// EventToInterop converts a Matrix event that is no m.room.message into text: the start of a poll (stable and MSC3381), and where
// somebody is or begins to show where they are (m.beacon, m.beacon_info, MSC3489 and MSC3672). content is the event's content as JSON.
// Every other type gives *Unsupported, and so does content that cannot be read; Explain puts it into words.
func EventToInterop(eventType string, content json.RawMessage, limits Limits) ([]*waE2E.Message, error) {
	var lines []line
	kind := UnsupportedEvent(eventType)
	switch eventType {
	case "m.poll.start", "org.matrix.msc3381.poll.start", "org.matrix.msc3381.v2.poll.start":
		lines = readPoll(content)
	case "m.beacon", "org.matrix.msc3672.beacon":
		lines = readBeacon(content)
		kind = &Unsupported{Kind: KindLocation}
	case "m.beacon_info", "org.matrix.msc3672.beacon_info":
		lines = readBeaconInfo(content)
		kind = &Unsupported{Kind: KindLocation}
	}
	if len(lines) == 0 {
		return nil, kind
	}
	return textMessages(joinLines(lines, limits.units()))
}

// decode reads JSON from outside; false for what is too long or has another shape.
func decode(content json.RawMessage, into any) bool {
	return len(content) <= maxOtherEvent && json.Unmarshal(content, into) == nil
}

// extensible is text in the forms that MSC1767 had over time.
type extensible struct {
	Stable   []extensibleText `json:"m.text"`
	Text     string           `json:"org.matrix.msc1767.text"`
	Messages []extensibleText `json:"org.matrix.msc1767.message"`
	Body     string           `json:"body"`
}

type extensibleText struct {
	Body     string `json:"body"`
	Mimetype string `json:"mimetype"`
}

// words gives the plain text on one line.
func (e *extensible) words() string {
	for _, texts := range [][]extensibleText{e.Stable, e.Messages} {
		for _, t := range texts {
			if words := oneLine(t.Body, maxPollQuestion); words != "" && (t.Mimetype == "" || t.Mimetype == "text/plain") {
				return words
			}
		}
	}
	if words := oneLine(e.Text, maxPollQuestion); words != "" {
		return words
	}
	return oneLine(e.Body, maxPollQuestion)
}

type pollStart struct {
	Question extensible   `json:"question"`
	Answers  []extensible `json:"answers"`
	Most     float64      `json:"max_selections"`
}

// readPoll writes the question and the numbered options of a poll; nil if it has no question.
func readPoll(content json.RawMessage) []line {
	var read struct {
		Stable   *pollStart `json:"m.poll"`
		Unstable *pollStart `json:"org.matrix.msc3381.poll.start"`
		Second   *pollStart `json:"org.matrix.msc3381.v2.poll"`
	}
	if !decode(content, &read) {
		return nil
	}
	for _, poll := range []*pollStart{read.Stable, read.Second, read.Unstable} {
		if poll != nil && poll.Question.words() != "" {
			return poll.lines()
		}
	}
	return nil
}

func (p *pollStart) lines() []line {
	out := []line{{prefix: "📊 ", runs: []run{{p.Question.words(), bold}}}}
	for i := range p.Answers {
		if i == maxPollOptions {
			out = append(out, line{runs: []run{{"…", 0}}})
			break
		}
		if words := p.Answers[i].words(); words != "" {
			out = append(out, line{prefix: strconv.Itoa(len(out)) + ". ", runs: []run{{words, 0}}})
		}
	}
	hint := "This is a poll on Matrix. Votes from here are not counted: please answer in words."
	if p.Most > 1 {
		hint = "This is a poll on Matrix with several choices. Votes from here are not counted: please answer in words."
	}
	return append(out, line{runs: []run{{hint, italic}}})
}

type sharedLocation struct {
	URI         string `json:"uri"`
	Description string `json:"description"`
}

// readBeacon writes where somebody is.
func readBeacon(content json.RawMessage) []line {
	var read struct {
		Stable   sharedLocation `json:"m.location"`
		Unstable sharedLocation `json:"org.matrix.msc3488.location"`
	}
	if !decode(content, &read) {
		return nil
	}
	at := read.Stable
	if at.URI == "" {
		at = read.Unstable
	}
	p, ok := parseGeo(at.URI)
	if !ok {
		return nil
	}
	return plainLines(p.words(oneLine(at.Description, maxPollQuestion)))
}

// readBeaconInfo says that somebody shows or no longer shows where they are.
func readBeaconInfo(content json.RawMessage) []line {
	var read struct {
		Description string `json:"description"`
		Live        *bool  `json:"live"`
	}
	if !decode(content, &read) || read.Live == nil {
		return nil
	}
	words := "📍 I am sharing my live location on Matrix. It does not move along here."
	if !*read.Live {
		words = "📍 I no longer share my live location."
	}
	if description := oneLine(read.Description, maxPollQuestion); description != "" {
		words += "\n" + description
	}
	return plainLines(words)
}

func plainLines(text string) []line {
	var lines []line
	for words := range strings.SplitSeq(text, "\n") {
		lines = append(lines, line{runs: []run{{words, 0}}})
	}
	return lines
}

// textMessages makes payloads of texts; those without a visible character are left out.
func textMessages(parts []string) ([]*waE2E.Message, error) {
	messages := make([]*waE2E.Message, 0, len(parts))
	for _, part := range parts {
		// A part of nothing but spaces would be an empty bubble.
		if strings.TrimSpace(part) == "" {
			continue
		}
		messages = append(messages, &waE2E.Message{Conversation: proto.String(part)})
	}
	if len(messages) == 0 {
		return nil, ErrEmptyText
	}
	return messages, nil
}
