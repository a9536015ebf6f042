package matrixdurable

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// createBody is the part of a createRoom request that is looked at.
type createBody struct {
	// LocalID is made by the framework from the portal's key, or the login's for its space.
	LocalID string   `json:"com.beeper.local_room_id"`
	Invite  []string `json:"invite"`
	Direct  bool     `json:"is_direct"`
	Topic   string   `json:"topic"`
	State   []struct {
		Type     string `json:"type"`
		StateKey string `json:"state_key"`
	} `json:"initial_state"`
}

// bridgeInfo is in the initial state of every room of the framework but management rooms; the homeserver stores it after the room's own
// events, so that a room which has it is whole. The topic, which those have, comes later still.
const bridgeInfo, topic = "m.bridge", "m.room.topic"

// local is what a room is known by before it is made, "" for nothing. The framework gives management rooms none: whose it is says
// which it is.
func (c *createBody) local() string {
	if c.LocalID == "" && c.management() {
		return "management " + c.Invite[0]
	}
	return c.LocalID
}

// management says whether a management room is to be made.
func (c *createBody) management() bool {
	return c.LocalID == "" && c.Direct && c.Topic != "" && len(c.Invite) == 1
}

// last is the type and key of a state event that a room has only if it is whole.
func (c *createBody) last() (kind, key string) {
	if c.management() {
		return topic, ""
	}
	for _, s := range c.State {
		if s.Type == bridgeInfo {
			key = s.StateKey
		}
	}
	return bridgeInfo, key
}

// createRoom creates a room under an alias that follows from its local id. If the alias is taken, an earlier attempt has
// made the room: it is the answer, unless it is only half made or the bridge has left
// it, in which case the alias is taken from it.
func (t *Transport) createRoom(req *http.Request) (*http.Response, error) {
	body, err := readBody(req)
	if err != nil {
		return nil, err
	}
	var create createBody
	if err := json.Unmarshal(body, &create); err != nil || create.local() == "" {
		return t.base().RoundTrip(withBody(req, body))
	}
	local := t.AliasPrefix + strings.ToLower(Identity("room", create.local()))
	aliased, err := withAlias(body, local)
	if err != nil {
		return nil, err
	}
	for attempt := 0; ; attempt++ {
		resp, err := t.base().RoundTrip(withBody(req, aliased))
		if err != nil || resp.StatusCode != http.StatusBadRequest || attempt > 0 {
			return resp, err
		}
		if !isCode(resp, "M_ROOM_IN_USE") {
			return resp, nil
		}
		_ = resp.Body.Close()
		room, err := t.existing(req, local, &create)
		if err != nil {
			return nil, fmt.Errorf("matrixdurable: create room: %w", err)
		}
		if room != "" {
			t.Log.Info().Str("room_id", room).Msg("Room was made by an earlier attempt")
			return answer(req, map[string]string{"room_id": room})
		}
	}
}

// withAlias adds the alias to a createRoom body. An empty canonical alias in the initial state keeps the
// homeserver from showing it to people.
func withAlias(body []byte, local string) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, err
	}
	var state []json.RawMessage
	if raw := fields["initial_state"]; raw != nil {
		if err := json.Unmarshal(raw, &state); err != nil {
			return nil, err
		}
	}
	state = append(state, json.RawMessage(`{"type":"m.room.canonical_alias","state_key":"","content":{}}`))
	var err error
	if fields["initial_state"], err = json.Marshal(state); err != nil {
		return nil, err
	}
	if fields["room_alias_name"], err = json.Marshal(local); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// existing returns the room behind the alias if it is whole and the sender is in it. Otherwise it
// removes the alias and returns "".
func (t *Transport) existing(req *http.Request, local string, create *createBody) (string, error) {
	aliasPath := strings.TrimSuffix(req.URL.EscapedPath(), "/createRoom") + "/directory/room/" +
		url.PathEscape("#"+local+":"+t.ServerName)
	user := url.Values{}
	if sender := req.URL.Query().Get("user_id"); sender != "" {
		user.Set("user_id", sender)
	}
	var found struct {
		Room string `json:"room_id"`
	}
	status, err := t.get(req, aliasPath, user, &found)
	if status == http.StatusNotFound {
		return "", nil
	} else if err != nil {
		return "", err
	}
	roomPath := strings.TrimSuffix(req.URL.EscapedPath(), "/createRoom") + "/rooms/" + url.PathEscape(found.Room)
	kind, key := create.last()
	status, err = t.get(req, roomPath+"/state/"+kind+"/"+url.PathEscape(key), user, nil)
	left := false
	// The state of a room that was left is still given to whoever was in it.
	if sender := user.Get("user_id"); err == nil && sender != "" {
		left, err = t.left(req, roomPath, user, sender)
	}
	if err == nil && !left && create.management() {
		left, err = t.left(req, roomPath, user, create.Invite[0])
	}
	switch {
	case left || status == http.StatusForbidden || status == http.StatusNotFound:
		status, err = t.call(req, http.MethodDelete, aliasPath, user, nil, nil)
		if err != nil && status != http.StatusNotFound {
			return "", err
		}
		return "", nil
	case err != nil:
		return "", err
	}
	return found.Room, t.invite(req, roomPath, user, create.Invite)
}

// left says whether somebody has left a room: who does not want a management room any more is not invited to that one again.
func (t *Transport) left(req *http.Request, roomPath string, user url.Values, who string) (bool, error) {
	var member struct {
		Membership string `json:"membership"`
	}
	status, err := t.get(req, roomPath+"/state/m.room.member/"+url.PathEscape(who), user, &member)
	if status == http.StatusNotFound {
		return false, nil // not invited yet
	}
	return member.Membership == "leave" || member.Membership == "ban", err
}

// invite repeats the invitations of the request, which the homeserver sends last.
func (t *Transport) invite(req *http.Request, roomPath string, user url.Values, people []string) error {
	for _, who := range people {
		body, err := json.Marshal(map[string]string{"user_id": who})
		if err != nil {
			return err
		}
		// 403 is the answer for someone who is there already.
		status, err := t.call(req, http.MethodPost, roomPath+"/invite", user, body, nil)
		if err != nil && status != http.StatusForbidden {
			return err
		}
	}
	return nil
}

// isCode says whether a response is the Matrix error with that code. The body
// can be read again afterwards.
func isCode(resp *http.Response, code string) bool {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(raw))
	var e struct {
		Code string `json:"errcode"`
	}
	return err == nil && json.Unmarshal(raw, &e) == nil && e.Code == code
}
