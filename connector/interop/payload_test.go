package interop

import (
	"errors"
	"testing"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/profile"
)

func TestAPayloadOfAnotherFormIsNotReadAsOurs(t *testing.T) {
	// Bytes that happen to parse: a transport message begins with the same field as a text.
	plain, err := proto.Marshal(&waE2E.Message{Conversation: proto.String("looks like text")})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range profile.All() {
		plaintext := plain
		if p.Message.Padded {
			plaintext = pad(plain)
		}
		out, err := (&Account{prof: p}).unwrap(p.Message.EncVersion, plaintext)
		if ours := p.Message.Payload == profile.PayloadE2E; ours != (err == nil) || !ours && (!errors.Is(err, errContent) || out != nil) {
			t.Errorf("%s: %d bytes and %v", p.Name, len(out), err)
		}
	}
}
