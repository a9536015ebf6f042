package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"postern/bridge/parts"
)

// login takes the user through the bridge's login, unless an earlier run did.
func (s *story) login(ctx context.Context) error {
	if s.kept.Identifier != "" {
		return s.carryOn(ctx)
	}
	start := time.Now()
	login, err := s.world.LogIn(ctx, s.alice)
	if err != nil {
		return err
	}
	for _, line := range strings.Split(strings.TrimSpace(login.Consent), "\n") {
		s.t.line("    | %s", line)
	}
	s.management, s.kept.Rooms["management"], s.kept.Identifier = login.Room, login.Room, login.Identifier
	s.t.held(fmt.Sprintf("agreed, enlisted and connected; WhatsApp users find alice as %q (%d ms)", login.Identifier, time.Since(start).Milliseconds()))
	return nil
}

// carryOn waits until the login of an earlier run is connected again.
func (s *story) carryOn(ctx context.Context) error {
	s.management = s.kept.Rooms["management"]
	start := time.Now()
	identifier, err := s.world.IdentifierOf(ctx)
	if err != nil {
		return err
	}
	if identifier != s.kept.Identifier {
		return fmt.Errorf("the gatekeeper knows the user as %q, an earlier run as %q", identifier, s.kept.Identifier)
	}
	s.t.held(fmt.Sprintf("still logged in from an earlier run, as %q (connected after %d ms)", identifier, time.Since(start).Milliseconds()))
	return nil
}

// say sends a command to the bot and prints it.
func (s *story) say(ctx context.Context, room, text string) error {
	s.t.line("    alice types: %s", text)
	_, err := s.alice.SendText(ctx, room, text)
	return err
}

// startChat opens the chat with Ben, or takes the room of an earlier run.
func (s *story) startChat(ctx context.Context) error {
	ben := phones[0]
	if room := s.kept.Rooms[ben.Name]; room != "" {
		s.t.held("the room of an earlier run is still there")
		return nil
	}
	start := time.Now()
	if err := s.say(ctx, s.management, "start-chat "+ben.Phone); err != nil {
		return err
	}
	// Only a message tells a name, so until then the room has the number's.
	room, name, err := s.enter(ctx, ben)
	if err != nil {
		return err
	}
	s.kept.Rooms[ben.Name] = room
	s.t.held(fmt.Sprintf("a room named %q opens (%d ms)", name, time.Since(start).Milliseconds()))
	space, err := s.alice.ExpectInvite(ctx, "the space for third-party chats", func(i parts.Invite) bool { return i.Space })
	if err != nil {
		return err
	}
	if err := s.alice.Join(ctx, space.Room); err != nil {
		return err
	}
	_, err = s.alice.Expect(ctx, "the room to be in the space", func(e *parts.Event) bool {
		return e.RoomID == space.Room && e.Type == "m.space.child" && e.StateKey != nil && *e.StateKey == room
	})
	if err != nil {
		return err
	}
	s.t.held(fmt.Sprintf("it is in the space %q", space.Name))
	return nil
}

// enter joins the room of a WhatsApp user, which has their name or, until that is
// known, their number, and checks the notice that it begins with.
func (s *story) enter(ctx context.Context, p phoneInfo) (room, name string, err error) {
	invite, err := s.alice.ExpectInvite(ctx, "the chat with "+p.Name, func(i parts.Invite) bool {
		return i.Shows(p.Name, p.Phone)
	})
	if err != nil {
		return "", "", err
	}
	if err := s.alice.Join(ctx, invite.Room); err != nil {
		return "", "", err
	}
	notice, err := s.alice.Expect(ctx, "the notice on encryption", func(e *parts.Event) bool {
		return e.RoomID == invite.Room && e.Type == "m.room.message"
	})
	if err != nil {
		return "", "", err
	}
	if m := notice.Message(); m.MsgType != "m.notice" || !strings.Contains(m.Body, "encrypted") {
		return "", "", fmt.Errorf("the room with %s does not begin with the notice on encryption but with %q", p.Name, m.Body)
	}
	for _, line := range strings.Split(strings.TrimSpace(notice.Message().Body), "\n") {
		s.t.line("    | %s", line)
	}
	var state struct{ Name string }
	if err := s.alice.RoomState(ctx, invite.Room, "m.room.name", "", &state); err != nil {
		return "", "", fmt.Errorf("reading the room's name: %w", err)
	}
	if state.Name != p.Name && state.Name != p.Phone {
		return "", "", fmt.Errorf("the room with %s is named %q", p.Name, state.Name)
	}
	return invite.Room, state.Name, nil
}

// toWhatsApp sends a text and waits until the phone has it and the room shows
// that.
func (s *story) toWhatsApp(ctx context.Context) error {
	ben, room := phones[0], s.kept.Rooms[phones[0].Name]
	text := "Hello from Matrix! (" + s.run + ")"
	start := time.Now()
	event, err := s.alice.SendText(ctx, room, text)
	if err != nil {
		return err
	}
	_, err = s.world.Gatekeeper.Expect(ctx, ben.Phone, "the text on Ben's phone", func(e *parts.PhoneEvent) bool {
		return e.Kind == "message" && e.Text == text
	})
	if err != nil {
		return err
	}
	s.t.said("alice", ben.Name, "Matrix → WhatsApp", text, time.Since(start))
	_, err = s.alice.Expect(ctx, "the delivery to be shown", func(e *parts.Event) bool { return isDelivered(e, room, event) })
	if err != nil {
		return err
	}
	s.t.held(fmt.Sprintf("the room shows it as delivered (%d ms)", time.Since(start).Milliseconds()))
	return nil
}

// isDelivered reports whether e tells that event was delivered.
func isDelivered(e *parts.Event, room, event string) bool {
	if e.RoomID != room || e.Type != "com.beeper.message_send_status" {
		return false
	}
	var content struct {
		RelatesTo struct {
			EventID string `json:"event_id"`
		} `json:"m.relates_to"`
		Status      string   `json:"status"`
		DeliveredTo []string `json:"delivered_to_users"`
	}
	return json.Unmarshal(e.Content, &content) == nil &&
		content.RelatesTo.EventID == event && content.Status == "SUCCESS" && len(content.DeliveredTo) > 0
}

// answer makes Ben write back.
func (s *story) answer(ctx context.Context) error {
	ben := phones[0]
	if err := s.fromWhatsApp(ctx, ben, "Hi Alice, *good* to hear from you! ("+s.run+")"); err != nil {
		return err
	}
	_, err := s.alice.Expect(ctx, "the room to have Ben's name", func(e *parts.Event) bool {
		var content struct{ Name string }
		return e.RoomID == s.kept.Rooms[ben.Name] && e.Type == "m.room.name" && json.Unmarshal(e.Content, &content) == nil && content.Name == ben.Name
	})
	if err != nil {
		return err
	}
	s.t.held(fmt.Sprintf("the room is now named %q, as Ben's messages say", ben.Name))
	return nil
}

// fromWhatsApp makes a phone write and waits until the room shows it from the
// ghost.
func (s *story) fromWhatsApp(ctx context.Context, p phoneInfo, text string) error {
	start := time.Now()
	if _, err := s.world.Gatekeeper.Say(ctx, p.Phone, s.kept.Identifier, text); err != nil {
		return err
	}
	got, err := s.alice.Expect(ctx, "the text from "+p.Name, func(e *parts.Event) bool {
		return e.RoomID == s.kept.Rooms[p.Name] && e.Message().Body == text
	})
	if err != nil {
		return err
	}
	if got.Sender == s.world.Bot || got.Sender == s.alice.UserID {
		return fmt.Errorf("the text came from %s and not from the WhatsApp user's ghost", got.Sender)
	}
	s.t.said(p.Name, "alice", "WhatsApp → Matrix", text, time.Since(start))
	return nil
}

// firstContact lets Carla write to alice, who has never written to her.
func (s *story) firstContact(ctx context.Context) error {
	carla := phones[1]
	if s.kept.Rooms[carla.Name] != "" {
		return s.fromWhatsApp(ctx, carla, "Me again. ("+s.run+")")
	}
	text := "Hello, is this Alice? (" + s.run + ")"
	start := time.Now()
	if _, err := s.world.Gatekeeper.Say(ctx, carla.Phone, s.kept.Identifier, text); err != nil {
		return err
	}
	room, _, err := s.enter(ctx, carla)
	if err != nil {
		return err
	}
	s.kept.Rooms[carla.Name] = room
	_, err = s.alice.Expect(ctx, "the text from "+carla.Name, func(e *parts.Event) bool { return e.RoomID == room && e.Message().Body == text })
	if err != nil {
		return err
	}
	s.t.said(carla.Name, "alice", "WhatsApp → Matrix, new room and invitation", text, time.Since(start))
	return s.acceptRequest(ctx, carla, room)
}

// acceptRequest shows that somebody who writes first learns nothing before alice accepts, and then that it has arrived.
func (s *story) acceptRequest(ctx context.Context, p phoneInfo, room string) error {
	isReceipt := func(e *parts.PhoneEvent) bool { return e.Kind == "receipt" && e.Type == "delivery" }
	events, err := s.world.Gatekeeper.Events(ctx, p.Phone, 0, 0)
	if err != nil {
		return err
	}
	for i := range events {
		if isReceipt(&events[i]) {
			return fmt.Errorf("%s's phone was told that the text has arrived, before alice has accepted", p.Name)
		}
	}
	s.t.held("it is a request: " + p.Name + "'s phone is told nothing yet")
	start := time.Now()
	if _, err = s.alice.SendText(ctx, room, "!postern accept"); err != nil {
		return err
	}
	if _, err = s.world.Gatekeeper.Expect(ctx, p.Phone, "the receipt of "+p.Name+"'s text", isReceipt); err != nil {
		return err
	}
	s.t.held(fmt.Sprintf("alice accepts, and %s's phone shows that the text was delivered (%d ms)", p.Name, time.Since(start).Milliseconds()))
	return nil
}

// complaints checks that the bridge kept to the protocol.
func (s *story) complaints(ctx context.Context) error {
	complaints, err := s.world.Gatekeeper.Complaints(ctx)
	if err != nil {
		return err
	}
	if len(complaints) > 0 {
		return fmt.Errorf("the gatekeeper complains: %s", complaints)
	}
	s.t.held("no complaints")
	return nil
}
