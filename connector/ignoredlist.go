package connector

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"maunium.net/go/mautrix/id"
)

// maxIgnoredList is the largest list of ignored users that is read, in bytes. Homeservers take less than that.
const maxIgnoredList = 1 << 20

// errIgnoredList: the account data is not what the specification of Matrix says. It is left alone.
var errIgnoredList = errors.New("connector: ignored users: not a list of them")

// ignoredList is a Matrix user's m.ignored_user_list. It belongs to the user and their clients: whatever is not changed is written back byte
// for byte.
type ignoredList struct {
	top []member
	// at is where top has the users, -1 for nowhere.
	at    int
	users []member
}

// member is one of a JSON object: its name, and name and value as they were written.
type member struct {
	name       string
	key, value []byte
}

// parseIgnoredList reads account data; none at all is an empty list. Errors: errIgnoredList.
func parseIgnoredList(raw []byte) (*ignoredList, error) {
	l := &ignoredList{at: -1}
	if raw == nil {
		return l, nil
	}
	if len(raw) > maxIgnoredList {
		return nil, fmt.Errorf("%w: too large", errIgnoredList)
	}
	var err error
	if l.top, err = members(raw); err != nil {
		return nil, err
	}
	for i, m := range l.top {
		if m.name != "ignored_users" {
			continue
		}
		if l.at >= 0 {
			return nil, fmt.Errorf("%w: two of them", errIgnoredList)
		}
		l.at = i
		if string(m.value) == "null" {
			continue
		}
		if l.users, err = members(m.value); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// members takes a JSON object apart.
func members(raw []byte) ([]member, error) {
	var list []member
	dec := json.NewDecoder(bytes.NewReader(raw))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return nil, errIgnoredList
	}
	for dec.More() {
		before := dec.InputOffset()
		token, err := dec.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, errIgnoredList
		}
		m := member{name: name, key: bytes.TrimLeft(raw[before:dec.InputOffset()], ", \t\r\n")}
		var value json.RawMessage
		if dec.Decode(&value) != nil {
			return nil, errIgnoredList
		}
		m.value = value
		list = append(list, m)
	}
	if _, err := dec.Token(); err != nil {
		return nil, errIgnoredList
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errIgnoredList
	}
	return list, nil
}

// has says whether the user is ignored.
func (l *ignoredList) has(user id.UserID) bool {
	for _, m := range l.users {
		if m.name == user.String() {
			return true
		}
	}
	return false
}

// set makes the user ignored, or not, and says whether that changes anything.
func (l *ignoredList) set(user id.UserID, ignored bool) (changed bool) {
	if l.has(user) == ignored {
		return false
	}
	if ignored {
		key, err := json.Marshal(user)
		if err != nil {
			return false // a string can always be written
		}
		l.users = append(l.users, member{user.String(), key, []byte("{}")})
		return true
	}
	var kept []member
	for _, m := range l.users {
		if m.name != user.String() {
			kept = append(kept, m)
		}
	}
	l.users = kept
	return true
}

// differsIn says whether two lists differ in these users at most.
func (l *ignoredList) differsIn(other *ignoredList, users map[string]bool) bool {
	const here, there = 1, 2
	in := make(map[string]int, len(l.users))
	for _, m := range l.users {
		in[m.name] |= here
	}
	for _, m := range other.users {
		in[m.name] |= there
	}
	for name, where := range in {
		if where != here|there && !users[name] {
			return false
		}
	}
	return true
}

// bytes writes the list.
func (l *ignoredList) bytes() []byte {
	top, users := append([]member(nil), l.top...), object(l.users)
	if l.at < 0 {
		top = append(top, member{"ignored_users", []byte(`"ignored_users"`), users})
	} else {
		top[l.at].value = users
	}
	return object(top)
}

func object(list []member) []byte {
	var out bytes.Buffer
	out.WriteByte('{')
	for i, m := range list {
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(m.key)
		out.WriteByte(':')
		out.Write(m.value)
	}
	out.WriteByte('}')
	return out.Bytes()
}
