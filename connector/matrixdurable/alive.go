package matrixdurable

import (
	"encoding/json"
	"maps"
	"slices"
)

// ephemeral is what is read of a presence, typing or receipt event for signs of life.
type ephemeral struct {
	Type    string `json:"type"`
	Sender  string `json:"sender"`
	Content struct {
		Presence string   `json:"presence"`
		Typing   []string `json:"user_ids"`
	} `json:"content"`
}

// receipts is the content of a receipt event: by event, kind of receipt, and user.
type receipts struct {
	Content map[string]map[string]map[string]json.RawMessage `json:"content"`
}

// alive are the users of whom a transaction shows signs of life: they have sent something, are online, type, or have read something.
// own tells our own users. What cannot be read shows nothing.
func (t *transaction) alive(own func(user string) bool) []string {
	seen := map[string]bool{}
	var users []string
	add := func(user string) {
		if user != "" && !seen[user] {
			seen[user] = true
			if !own(user) {
				users = append(users, user)
			}
		}
	}
	for _, raw := range t.Events {
		var h head
		if json.Unmarshal(raw, &h) == nil && h.Room != "" {
			add(h.Sender)
		}
	}
	list := t.Ephemeral
	if list == nil {
		list = t.UnstableEphemeral
	}
	for _, raw := range list {
		for _, user := range shownBy(raw) {
			add(user)
		}
	}
	return users
}

// shownBy are the users of whom an ephemeral event shows signs of life.
func shownBy(raw json.RawMessage) (users []string) {
	var e ephemeral
	if json.Unmarshal(raw, &e) != nil {
		return nil
	}
	switch e.Type {
	case "m.presence":
		if e.Content.Presence == "online" {
			users = append(users, e.Sender)
		}
	case "m.typing":
		users = e.Content.Typing
	case "m.receipt":
		var r receipts
		if json.Unmarshal(raw, &r) != nil {
			return nil
		}
		for _, kinds := range r.Content {
			for _, readers := range kinds {
				users = slices.AppendSeq(users, maps.Keys(readers))
			}
		}
	}
	return users
}
