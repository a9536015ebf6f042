package e2e_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"maunium.net/go/mautrix/crypto/attachment"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/bridge/parts"
)

// upload puts a file where a client would, encrypted if the chat's rooms are, and returns the fields of an event that point to it.
func (s *scene) upload(data []byte, mimetype string) map[string]any {
	s.t.Helper()
	if _, encrypts := s.alice.(*cryptUser); !encrypts {
		return map[string]any{"url": must(s.person.Upload(s.ctx, data, mimetype, "file"))(s.t)}
	}
	file := attachment.NewEncryptedFile()
	sealed := bytes.Clone(data)
	file.EncryptInPlace(sealed)
	uri := must(s.person.Upload(s.ctx, sealed, "application/octet-stream", ""))(s.t)
	return map[string]any{"file": &event.EncryptedFileInfo{EncryptedFile: *file, URL: id.ContentURIString(uri)}}
}

// send sends an event of any kind, encrypted if the room is.
func (s *scene) send(room string, kind event.Type, content map[string]any) string {
	s.t.Helper()
	u, encrypts := s.alice.(*cryptUser)
	if !encrypts {
		return must(s.person.Send(s.ctx, room, kind.Type, rand.Text(), content))(s.t)
	}
	return must(u.client.SendMessageEvent(s.ctx, id.RoomID(room), kind, content))(s.t).EventID.String()
}

// with puts more fields into an event's content.
func with(content, more map[string]any) map[string]any {
	for k, v := range more {
		content[k] = v
	}
	return content
}

// somePicture is a PNG that no other story has.
func somePicture(t *testing.T) []byte {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, 640, 360))
	var seed [1]byte
	must(rand.Read(seed[:]))(t)
	for y := range 360 {
		for x := range 640 {
			img.SetNRGBA(x, y, color.NRGBA{R: byte(x) + seed[0], G: byte(y), B: byte(x * y), A: 255})
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// made lets ffmpeg make a file for a test.
func made(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	ffmpeg, err := exec.LookPath("ffmpeg")
	if err != nil && os.Getenv("CI") != "true" {
		t.Skipf("SKIPPED: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if out, err := exec.CommandContext(t.Context(), ffmpeg, append(append([]string{"-v", "error", "-y"}, args...), path)...).CombinedOutput(); err != nil {
		t.Fatalf("making %s: %v\n%s", name, err, out)
	}
	return must(os.ReadFile(path))(t)
}

// onPhoneAs waits for an attachment of a kind on the phone, and checks that the phone could fetch and decrypt it.
func (s *scene) onPhoneAs(p parts.Phone, kind string) (*parts.PhoneEvent, []byte) {
	s.t.Helper()
	e := s.phoneSees(p, kind+" on the phone", func(e *parts.PhoneEvent) bool {
		return e.Kind == "message" && e.Media != nil && e.Media.Kind == kind
	})
	if e.Media.Error != "" {
		s.t.Fatalf("%s: %s", kind, e.Media.Error)
	}
	var got bytes.Buffer
	must(s.Gatekeeper.Media(s.ctx, p.Phone, e.ID, &got))(s.t)
	return e, got.Bytes()
}

// same says whether the phone has the file that was sent.
func (s *scene) same(kind string, e *parts.PhoneEvent, got, want []byte) {
	s.t.Helper()
	sum := sha256.Sum256(want)
	if !bytes.Equal(got, want) || e.Media.SHA256 != hex.EncodeToString(sum[:]) {
		s.t.Errorf("%s: the phone has %d bytes with hash %s, sent were %d with %x", kind, len(got), e.Media.SHA256, len(want), sum)
	}
}

// opensslReads fetches what is stored from the public listener, as the gatekeeper's proxy does, and decrypts it with openssl alone.
func (s *scene) opensslReads(e *parts.PhoneEvent, info string) {
	s.t.Helper()
	reference := path.Base(e.Media.DirectPath)
	req := must(http.NewRequestWithContext(s.ctx, http.MethodGet, s.Bridge.PublicBase+"/media/"+reference, nil))(s.t)
	resp := must(http.DefaultClient.Do(req))(s.t)
	defer resp.Body.Close()
	stored := must(io.ReadAll(resp.Body))(s.t)
	if sum := sha256.Sum256(stored); resp.StatusCode != http.StatusOK || hex.EncodeToString(sum[:]) != e.Media.EncSHA256 {
		s.t.Fatalf("the store answers %d with %d bytes, hash %x; the phone was told %s", resp.StatusCode, len(stored), sum, e.Media.EncSHA256)
	}
	file := filepath.Join(s.t.TempDir(), "stored")
	s.ok(os.WriteFile(file, stored, 0o600))
	said, err := exec.CommandContext(s.ctx, "sh", "../../connector/media/testdata/decrypt.sh", file, e.Media.Key, info).CombinedOutput()
	if err != nil || strings.TrimSpace(string(said)) != e.Media.SHA256 {
		s.t.Errorf("openssl says %q, %v; the phone has %s", said, err, e.Media.SHA256)
	}
}

func TestAttachmentsArriveOnThePhoneByteForByte(t *testing.T) {
	for name, setting := range map[string]setting{
		"Synapse":                    {},
		"Synapse, an encrypted room": {encrypted: true},
		"Dendrite":                   {homeserver: "dendrite"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, setting)
			ben := s.phone("Ben", true)
			room := s.startChat(ben)

			picture := somePicture(t)
			s.send(room, event.EventMessage, with(s.upload(picture, "image/png"), map[string]any{
				"msgtype": "m.image", "body": "*look* at this", "filename": "view.png", "info": map[string]any{"mimetype": "image/png", "size": len(picture)},
			}))
			e, got := s.onPhoneAs(ben, "image")
			s.same("image", e, got, picture)
			s.opensslReads(e, "WhatsApp Image Keys")
			if e.Text != "*look* at this" || e.Media.Width != 640 || e.Media.Height != 360 || e.Media.Thumbnail == 0 || e.Media.Mimetype != "image/png" {
				t.Errorf("the image is %+v with %q", e.Media, e.Text)
			}

			voice := made(t, "voice.ogg", "-f", "lavfi", "-i", "sine=frequency=440:duration=3", "-c:a", "libopus", "-ac", "1", "-map_metadata", "-1", "-fflags", "+bitexact")
			s.send(room, event.EventMessage, with(s.upload(voice, "audio/ogg"), map[string]any{
				"msgtype": "m.audio", "body": "Voice message", "info": map[string]any{"mimetype": "audio/ogg", "size": len(voice)},
				"org.matrix.msc3245.voice": map[string]any{},
			}))
			e, got = s.onPhoneAs(ben, "voice")
			s.same("voice message", e, got, voice)
			if e.Media.Seconds != 3 || len(e.Media.Waveform) != 64 {
				t.Errorf("the voice message is %+v", e.Media)
			}

			video := made(t, "video.mp4", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=10:duration=2", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-map_metadata", "-1", "-fflags", "+bitexact")
			s.send(room, event.EventMessage, with(s.upload(video, "video/mp4"), map[string]any{
				"msgtype": "m.video", "body": "film.mp4", "info": map[string]any{"mimetype": "video/mp4", "size": len(video)},
			}))
			e, got = s.onPhoneAs(ben, "video")
			if e.Media.Seconds != 2 || e.Media.Width != 320 || e.Media.Height != 240 || e.Media.Thumbnail == 0 || len(got) != len(video) {
				t.Errorf("the video of %d bytes is %+v", len(video), e.Media)
			}

			file := make([]byte, 700_001)
			must(rand.Read(file))(t)
			s.send(room, event.EventMessage, with(s.upload(file, "application/pdf"), map[string]any{
				"msgtype": "m.file", "body": "the contract", "filename": "contract.pdf", "info": map[string]any{"mimetype": "application/pdf", "size": len(file)},
			}))
			e, got = s.onPhoneAs(ben, "document")
			s.same("file", e, got, file)
			if e.Media.FileName != "contract.pdf" || e.Text != "the contract" || e.Media.Mimetype != "application/pdf" {
				t.Errorf("the file is %+v with %q", e.Media, e.Text)
			}
			s.toPhone(room, ben, "and words after it")
			s.noFilesLeft()
		})
	}
}

// noFilesLeft checks that the bridge has removed its temporary files.
func (s *scene) noFilesLeft() {
	s.t.Helper()
	var found []string
	err := filepath.WalkDir(filepath.Dir(s.Bridge.LogPath()), func(path string, entry os.DirEntry, err error) error {
		if err == nil && (strings.HasPrefix(entry.Name(), "outgoing-") || strings.HasPrefix(entry.Name(), "thumbnail-")) {
			found = append(found, path)
		}
		return err
	})
	if err != nil || len(found) > 0 {
		s.t.Errorf("left behind: %v (%v)", found, err)
	}
}

func TestWhatAPhoneCannotShowIsMadeShowable(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)

	apple := made(t, "voice.m4a", "-f", "lavfi", "-i", "sine=frequency=440:duration=2", "-c:a", "aac")
	s.send(room, event.EventMessage, with(s.upload(apple, "audio/mp4"), map[string]any{
		"msgtype": "m.audio", "body": "Voice message", "info": map[string]any{"mimetype": "audio/mp4"}, "org.matrix.msc3245.voice": map[string]any{},
	}))
	e, got := s.onPhoneAs(ben, "voice")
	if e.Media.Mimetype != "audio/ogg; codecs=opus" || !bytes.HasPrefix(got, []byte("OggS")) || e.Media.Seconds != 2 || len(e.Media.Waveform) != 64 {
		t.Errorf("the voice message is %+v", e.Media)
	}

	sticker := made(t, "sticker.webp", "-f", "lavfi", "-i", "color=c=red@0.5:s=256x256:d=1,format=yuva420p", "-frames:v", "1")
	s.send(room, event.EventSticker, with(s.upload(sticker, "image/webp"), map[string]any{
		"body": "a red square", "info": map[string]any{"mimetype": "image/webp", "w": 256, "h": 256},
	}))
	e, _ = s.onPhoneAs(ben, "image")
	if (e.Media.Mimetype != "image/png" && e.Media.Mimetype != "image/jpeg") || e.Media.Width != 256 {
		t.Errorf("the sticker is %+v", e.Media)
	}

	moving := made(t, "moving.gif", "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=5:duration=1")
	s.send(room, event.EventMessage, with(s.upload(moving, "image/gif"), map[string]any{
		"msgtype": "m.image", "body": "moving.gif", "info": map[string]any{"mimetype": "image/gif"},
	}))
	if e, _ = s.onPhoneAs(ben, "gif"); e.Media.Mimetype != "video/mp4" || e.Media.Thumbnail == 0 {
		t.Errorf("the GIF is %+v", e.Media)
	}
	if state, err := json.Marshal(s.phoneTexts(ben, "Voice message")); err != nil || string(state) != "null" {
		t.Errorf("the phone shows what only names the file: %s", state)
	}
	s.noFilesLeft()
}

func TestAnAttachmentThatCannotBeSentIsExplainedAndTheChatGoesOn(t *testing.T) {
	t.Parallel()
	s := open(t, setting{config: map[string]any{"network.media.max_upload": "1 MiB"}})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	notice := func(about, words string) {
		s.t.Helper()
		must(s.alice.Expect(s.ctx, "a notice with "+words, func(e *parts.Event) bool {
			return e.RoomID == room && e.Sender == s.Bot && relatesTo(e, about) && strings.Contains(e.Message().Body, words)
		}))(t)
	}
	told := s.send(room, event.EventMessage, map[string]any{
		"msgtype": "m.file", "body": "a.bin", "url": "mxc://postern.localhost/none", "info": map[string]any{"size": 2 << 20},
	})
	notice(told, "1 MiB")
	large := make([]byte, 1<<20+1)
	silent := s.send(room, event.EventMessage, with(s.upload(large, "application/x-x"), map[string]any{"msgtype": "m.file", "body": "b.bin"}))
	notice(silent, "1 MiB")
	gone := s.send(room, event.EventMessage, map[string]any{"msgtype": "m.file", "body": "c.bin", "url": "mxc://postern.localhost/none"})
	notice(gone, "homeserver does not have")
	s.toPhone(room, ben, "and the chat goes on")
}
