package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"strings"
	"time"

	"postern/bridge/parts"
)

// Two seconds of tones, and one second of a test picture.
var (
	//go:embed assets/voice.ogg
	voice []byte
	//go:embed assets/video.mp4
	video []byte
)

// file is one attachment of the demo, as each side names it.
type file struct {
	what     string // for people
	data     []byte
	mimetype string
	name     string
	kind     string // at the gatekeeper
	msgtype  string // in Matrix
	info     map[string]any
	more     map[string]any // more fields of the Matrix event
}

// files are one attachment of each kind; the image and the document are this
// run's own.
func (s *story) files() ([]file, error) {
	picture, err := s.picture()
	if err != nil {
		return nil, err
	}
	document := []byte("A file of the demo's run " + s.run + ".\n" + strings.Repeat(rand.Text()+"\n", 4000))
	return []file{
		{
			what: "an image", data: picture, mimetype: "image/jpeg", name: "colours.jpg", kind: "image", msgtype: "m.image",
			info: map[string]any{"w": 320, "h": 240},
		},
		{
			what: "a voice message", data: voice, mimetype: "audio/ogg", name: "voice.ogg", kind: "voice", msgtype: "m.audio",
			info: map[string]any{"duration": 2000}, more: map[string]any{"org.matrix.msc3245.voice": map[string]any{}},
		},
		{
			what: "a video", data: video, mimetype: "video/mp4", name: "test.mp4", kind: "video", msgtype: "m.video",
			info: map[string]any{"w": 96, "h": 64, "duration": 1000},
		},
		{what: "a file", data: document, mimetype: "text/plain", name: "demo-" + s.run + ".txt", kind: "document", msgtype: "m.file"},
	}, nil
}

// picture draws an image that no other run has.
func (s *story) picture() ([]byte, error) {
	img := image.NewRGBA(image.Rect(0, 0, 320, 240))
	for x := range 320 {
		for y := range 240 {
			img.Set(x, y, color.RGBA{uint8(x) ^ s.run[0], uint8(y) ^ s.run[1], s.run[2] ^ s.run[3], 255})
		}
	}
	var b bytes.Buffer
	err := jpeg.Encode(&b, img, nil)
	return b.Bytes(), err
}

func sum(data []byte) string {
	hash := sha256.Sum256(data)
	return hex.EncodeToString(hash[:])
}

// compared says that a file is the same at both ends, or that it is not.
func (s *story) compared(from, to, way string, f *file, there string, took time.Duration) error {
	here := sum(f.data)
	if here != there {
		return fmt.Errorf("%s has SHA-256 %s at %s and %s at %s", f.what, here, from, there, to)
	}
	s.t.line("✓ %s → %s  [%s]  %s, %d bytes, SHA-256 %s… at both ends  (%d ms)", from, to, way, f.what, len(f.data), here[:16], took.Milliseconds())
	return nil
}

// filesToWhatsApp sends one attachment of each kind and reads back what the phone
// has fetched and decrypted.
func (s *story) filesToWhatsApp(ctx context.Context) error {
	files, err := s.files()
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := s.fileToWhatsApp(ctx, &f); err != nil {
			return fmt.Errorf("%s: %w", f.what, err)
		}
	}
	return nil
}

func (s *story) fileToWhatsApp(ctx context.Context, f *file) error {
	ben, room := phones[0], s.kept.Rooms[phones[0].Name]
	after, err := s.lastOnPhone(ctx, ben)
	if err != nil {
		return err
	}
	start := time.Now()
	uri, err := s.alice.Upload(ctx, f.data, f.mimetype, f.name)
	if err != nil {
		return err
	}
	info := map[string]any{"mimetype": f.mimetype, "size": len(f.data)}
	for k, v := range f.info {
		info[k] = v
	}
	content := map[string]any{"msgtype": f.msgtype, "body": f.name, "filename": f.name, "url": uri, "info": info}
	for k, v := range f.more {
		content[k] = v
	}
	if _, err := s.alice.Send(ctx, room, "m.room.message", rand.Text(), content); err != nil {
		return err
	}
	got, err := s.world.Gatekeeper.Expect(ctx, ben.Phone, f.what+" on Ben's phone", func(e *parts.PhoneEvent) bool {
		return e.Seq > after && e.Kind == "message" && e.Media != nil && e.Media.Kind == f.kind
	})
	if err != nil {
		return err
	}
	if got.Media.Error != "" {
		return fmt.Errorf("the phone could not fetch it: %s", got.Media.Error)
	}
	var there bytes.Buffer
	if _, err := s.world.Gatekeeper.Media(ctx, ben.Phone, got.ID, &there); err != nil {
		return err
	}
	return s.compared("alice", ben.Name, "Matrix → WhatsApp", f, sum(there.Bytes()), time.Since(start))
}

// filesFromWhatsApp makes the phone send one attachment of each kind and reads back
// what the homeserver has.
func (s *story) filesFromWhatsApp(ctx context.Context) error {
	files, err := s.files()
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := s.fileFromWhatsApp(ctx, &f); err != nil {
			return fmt.Errorf("%s: %w", f.what, err)
		}
	}
	return nil
}

func (s *story) fileFromWhatsApp(ctx context.Context, f *file) error {
	ben, room := phones[0], s.kept.Rooms[phones[0].Name]
	known := map[string]bool{}
	for _, e := range s.alice.Seen(func(e *parts.Event) bool { return e.RoomID == room }) {
		known[e.ID] = true
	}
	start := time.Now()
	content := parts.Content{To: s.kept.Identifier, Kind: f.kind, Data: f.data, Mimetype: f.mimetype}
	switch f.kind {
	case "voice":
		content.Mimetype, content.Seconds = "audio/ogg; codecs=opus", 2
	case "document":
		content.FileName = f.name
	}
	if _, err := s.world.Gatekeeper.Send(ctx, ben.Phone, content); err != nil {
		return err
	}
	got, err := s.alice.Expect(ctx, f.what+" in the room", func(e *parts.Event) bool {
		return e.RoomID == room && !known[e.ID] && e.Message().MsgType == f.msgtype
	})
	if err != nil {
		return err
	}
	if got.Sender == s.world.Bot || got.Sender == s.alice.UserID {
		return fmt.Errorf("it came from %s and not from the WhatsApp user's ghost", got.Sender)
	}
	var where struct {
		URL string `json:"url"`
	}
	if err := json.Unmarshal(got.Content, &where); err != nil {
		return err
	}
	there, err := s.alice.Download(ctx, where.URL)
	if err != nil {
		return err
	}
	return s.compared(ben.Name, "alice", "WhatsApp → Matrix", f, sum(there), time.Since(start))
}

// lastOnPhone is the sequence number of a phone's newest event.
func (s *story) lastOnPhone(ctx context.Context, p phoneInfo) (last int64, err error) {
	for {
		events, err := s.world.Gatekeeper.Events(ctx, p.Phone, last, 0)
		if err != nil || len(events) == 0 {
			return last, err
		}
		last = events[len(events)-1].Seq
	}
}
