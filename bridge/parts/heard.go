package parts

import (
	"encoding/hex"
	"encoding/json"
	"maps"
	"strings"
	"sync"
)

// Heard is what a part was told by, or told, the tests about people: what was said, names, numbers, addresses, passwords and keys, by
// what it is. It is kept to be looked for in the bridge's log.
type Heard struct {
	mu    sync.Mutex
	texts map[string]string // the text to what it is
	keys  map[string]string // the bytes to what they are
}

// private are the fields of requests and answers that say something about people, by what they say.
var private = map[string]string{
	"body": "a text", "formatted_body": "a text", "text": "a text", "texts": "a text", "caption": "a caption", "question": "a question", "options": "a choice",
	"quoted": "a quoted text", "vcard": "a contact card", "filename": "a file's name", "file_name": "a file's name", "name": "a name",
	"displayname": "a name", "display_name": "a name", "username": "a user's name", "user": "a user's name", "identifier": "an identifier", "identifiers": "an identifier",
	"phone": "a phone number", "jid": "an address", "from": "an address", "password": "a password", "access_token": "an access token",
	"direct_path": "the path of a file", "number": "a safety number", "media_key": "a file's key", "sha256": "a file's hash", "enc_sha256": "an encrypted file's hash",
}

// binary are those of them that are bytes in hex.
var binary = map[string]bool{"media_key": true, "sha256": true, "enc_sha256": true}

// What is remembered, and read for it: enough for every story, and no burden to the tests that send a hundred thousand messages.
const (
	mostHeard = 1000
	longest   = 1 << 20
)

// hear remembers what is private in a request or an answer. A nil *Heard hears nothing.
func (h *Heard) hear(raw []byte) {
	if h == nil || len(raw) > longest || h.full() {
		return
	}
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return // not what this is about
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.texts == nil {
		h.texts, h.keys = map[string]string{}, map[string]string{}
	}
	h.walk("", v)
}

func (h *Heard) full() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.texts)+len(h.keys) >= mostHeard
}

// walk looks at a value below a field.
func (h *Heard) walk(field string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			h.walk(name, value)
		}
	case []any:
		for _, value := range v {
			h.walk(field, value)
		}
	case string:
		what, is := private[field]
		if !is {
			return
		}
		if binary[field] {
			if raw, err := hex.DecodeString(v); err == nil {
				h.keys[string(raw)] = what
			}
			return
		}
		h.texts[v] = what
		switch field {
		case "body": // of what is typed behind a command, too
			_, behind, _ := strings.Cut(v, " ")
			h.texts[behind] = what
			_, behind, _ = strings.Cut(behind, " ")
			h.texts[behind] = what
		case "phone":
			h.texts[strings.TrimPrefix(v, "+")] = what
		case "jid", "from":
			user, _, _ := strings.Cut(v, "@")
			h.texts[user] = what
			if _, number, ok := strings.Cut(user, "-"); ok {
				h.texts[number] = what
			}
		}
	}
}

// Texts are the texts with what each is.
func (h *Heard) Texts() map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.texts)
}

// Keys are the secrets of bytes, each as a string, with what each is.
func (h *Heard) Keys() map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.keys)
}
