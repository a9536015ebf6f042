package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"postern/bridge/parts"
)

// story is what the demo shows, step by step.
type story struct {
	world *parts.World
	t     *transcript
	dir   string
	kept  *kept

	alice      *parts.Person
	management string // the room with the bridge bot
	run        string // makes this run's texts unlike those of earlier ones

	mine, theirs exchanged // what replies leaves to react to and to read
	ghost        string    // Ben in the room
}

// The WhatsApp users: Ben is written to, Carla writes first. The numbers lie
// in a range that is set aside for films and books.
var phones = []phoneInfo{{Phone: "+4915228817386", Name: "Ben"}, {Phone: "+4915228895456", Name: "Carla"}}

// tell runs all steps; the first that does not hold ends it.
func (s *story) tell(ctx context.Context) error {
	s.run = strings.ToLower(rand.Text()[:4])
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"two WhatsApp users who have opted in, and a Matrix user", s.people},
		{"the Matrix user logs in to the bridge", s.login},
		{"the Matrix user starts a chat with a phone number", s.startChat},
		{"a text goes to WhatsApp and its delivery is shown", s.toWhatsApp},
		{"an answer comes back", s.answer},
		{"an image, a voice message, a video and a file go to WhatsApp", s.filesToWhatsApp},
		{"and the same from WhatsApp", s.filesFromWhatsApp},
		{"each answers a text of the other", s.replies},
		{"each reacts to it, and takes that back", s.reactions},
		{"each sees the other type and read", s.presence},
		{"a WhatsApp user writes first", s.firstContact},
		{"the gatekeeper has nothing to complain about", s.complaints},
	}
	for i, step := range steps {
		s.t.line("%d. %s", i+1, step.name)
		bounded, cancel := context.WithTimeout(ctx, stepBound)
		err := step.do(bounded)
		cancel()
		if err != nil {
			return fmt.Errorf("step %d (%s): %w", i+1, step.name, err)
		}
		if err := s.writeDemoJSON(); err != nil {
			return err
		}
	}
	return nil
}

// close ends the Matrix user's client.
func (s *story) close() {
	if s.alice != nil {
		s.alice.Close()
	}
}

// people makes everybody who takes part.
func (s *story) people(ctx context.Context) error {
	for _, p := range phones {
		if _, err := s.world.Gatekeeper.AddUser(ctx, parts.Phone{Phone: p.Phone, Name: p.Name, OptedIn: true}); err != nil {
			return err
		}
		s.kept.Phones[p.Name] = p
		s.t.held(fmt.Sprintf("WhatsApp user %s, %s", p.Name, p.Phone))
	}
	login := s.kept.Users["alice"]
	if login.Password == "" {
		login.Password = strings.ToLower(rand.Text()[:12])
	}
	alice, err := parts.NewPerson(ctx, s.world.Homeserver, "alice", login.Password)
	if err != nil {
		return err
	}
	s.alice = alice
	s.kept.Users["alice"] = matrixLogin{UserID: alice.UserID, Password: alice.Password, AccessToken: alice.Token, DeviceID: alice.DeviceID}
	s.t.held("Matrix user " + alice.UserID)
	return nil
}
