package matrixdurable

import "encoding/json"

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
		var e ephemeral
		if json.Unmarshal(raw, &e) != nil {
			continue
		}
		switch e.Type {
		case "m.presence":
			if e.Content.Presence == "online" {
				add(e.Sender)
			}
		case "m.typing":
			for _, user := range e.Content.Typing {
				add(user)
			}
		case "m.receipt":
			var r receipts
			if json.Unmarshal(raw, &r) != nil {
				continue
			}
			for _, kinds := range r.Content {
				for _, readers := range kinds {
					for user := range readers {
						add(user)
					}
				}
			}
		}
	}
	return users
}
